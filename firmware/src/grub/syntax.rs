//! Text to tree. The grammar is GRUB's (its manual, "Shell-like scripting"): words of quoted and unquoted pieces, variables,
//! `if`, `while`, `until`, `for`, `function`, and blocks after `menuentry` and `submenu`.

use alloc::{rc::Rc, string::String, vec::Vec};

use crate::{Error, Result};

const DEPTH: u32 = 40;
pub const TEXT_BYTES: usize = 1 << 20;
const WORD_BYTES: usize = 64 << 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// `quoted` text makes a word even where it is empty.
    Text { text: String, quoted: bool },
    /// Unquoted variables are split at blanks.
    Variable { name: String, quoted: bool },
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Word(pub Vec<Piece>);

impl Word {
    /// The text of a word that is one unquoted piece: what may be a keyword.
    fn bare(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Piece::Text { text, quoted: false }] => Some(text),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    Simple(Vec<Word>),
    If {
        arms: Vec<(Vec<Node>, Vec<Node>)>,
        otherwise: Vec<Node>,
    },
    Loop {
        until: bool,
        condition: Vec<Node>,
        body: Vec<Node>,
    },
    For {
        name: String,
        words: Vec<Word>,
        body: Vec<Node>,
    },
    Function {
        name: String,
        body: Rc<Vec<Node>>,
    },
    /// `menuentry` and `submenu`.
    Menu {
        submenu: bool,
        words: Vec<Word>,
        body: Rc<Vec<Node>>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(Word),
    /// A newline or a semicolon.
    End,
    Open,
    Close,
    Finish,
}

struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
}

fn is_meta(byte: u8) -> bool {
    matches!(byte, b'{' | b'}' | b'|' | b'&' | b';' | b'<' | b'>' | b' ' | b'\t' | b'\n' | b'\r')
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn token(&mut self) -> Result<Token> {
        loop {
            match self.peek(0) {
                None => return Ok(Token::Finish),
                Some(b' ' | b'\t' | b'\r') => self.at += 1,
                Some(b'\\') if self.peek(1) == Some(b'\n') => self.at += 2,
                Some(b'\\') if self.peek(1) == Some(b'\r') && self.peek(2) == Some(b'\n') => self.at += 3,
                Some(b'#') => {
                    while !matches!(self.peek(0), None | Some(b'\n')) {
                        self.at += 1;
                    }
                }
                Some(b'\n' | b';') => {
                    self.at += 1;
                    return Ok(Token::End);
                }
                Some(b'{') => {
                    self.at += 1;
                    return Ok(Token::Open);
                }
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Token::Close);
                }
                Some(b'|' | b'&' | b'<' | b'>') => return Err(Error::Unsupported("a pipe or redirection in grub.cfg")),
                Some(_) => return self.word().map(Token::Word),
            }
        }
    }

    fn word(&mut self) -> Result<Word> {
        let mut pieces = Vec::new();
        let mut plain: Vec<u8> = Vec::new();
        let start = self.at;
        let flush = |plain: &mut Vec<u8>, pieces: &mut Vec<Piece>| {
            if !plain.is_empty() {
                pieces.push(Piece::Text { text: lossy(plain), quoted: false });
                plain.clear();
            }
        };
        while let Some(byte) = self.peek(0) {
            if self.at - start > WORD_BYTES {
                return Err(Error::Limit("length of a word in grub.cfg"));
            }
            match byte {
                _ if is_meta(byte) => break,
                b'\'' => {
                    flush(&mut plain, &mut pieces);
                    self.at += 1;
                    let from = self.at;
                    while self.peek(0).ok_or(Error::Corrupt("an open quote in grub.cfg"))? != b'\'' {
                        self.at += 1;
                    }
                    pieces.push(Piece::Text { text: lossy(&self.text[from..self.at]), quoted: true });
                    self.at += 1;
                }
                b'"' => {
                    flush(&mut plain, &mut pieces);
                    self.at += 1;
                    self.double_quoted(&mut pieces)?;
                }
                // $"..." is text to translate.
                b'$' if self.peek(1) == Some(b'"') => self.at += 1,
                b'$' => match self.variable()? {
                    Some(name) => {
                        flush(&mut plain, &mut pieces);
                        pieces.push(Piece::Variable { name, quoted: false });
                    }
                    None => {
                        plain.push(b'$');
                        self.at += 1;
                    }
                },
                b'\\' => match self.peek(1) {
                    None => return Err(Error::Corrupt("a backslash at the end of grub.cfg")),
                    Some(b'\n') => self.at += 2,
                    Some(escaped) => {
                        // Quoted, so that an escaped keyword is none and an escaped nothing is something.
                        flush(&mut plain, &mut pieces);
                        let width = utf8_width(escaped).min(self.text.len() - self.at - 1);
                        let text = lossy(&self.text[self.at + 1..self.at + 1 + width]);
                        pieces.push(Piece::Text { text, quoted: true });
                        self.at += 1 + width;
                    }
                },
                _ => {
                    plain.push(byte);
                    self.at += 1;
                }
            }
        }
        flush(&mut plain, &mut pieces);
        Ok(Word(pieces))
    }

    fn double_quoted(&mut self, pieces: &mut Vec<Piece>) -> Result<()> {
        let mut text: Vec<u8> = Vec::new();
        let mut any = false;
        loop {
            match self.peek(0).ok_or(Error::Corrupt("an open quote in grub.cfg"))? {
                b'"' => {
                    self.at += 1;
                    break;
                }
                b'\\' => match self.peek(1) {
                    Some(b'\n') => self.at += 2,
                    Some(next @ (b'$' | b'"' | b'\\')) => {
                        text.push(next);
                        self.at += 2;
                    }
                    _ => {
                        text.push(b'\\');
                        self.at += 1;
                    }
                },
                b'$' => match self.variable()? {
                    Some(name) => {
                        if !text.is_empty() {
                            pieces.push(Piece::Text { text: lossy(&text), quoted: true });
                            text.clear();
                        }
                        pieces.push(Piece::Variable { name, quoted: true });
                        any = true;
                    }
                    None => {
                        text.push(b'$');
                        self.at += 1;
                    }
                },
                byte => {
                    text.push(byte);
                    self.at += 1;
                }
            }
        }
        if !text.is_empty() || !any {
            pieces.push(Piece::Text { text: lossy(&text), quoted: true });
        }
        Ok(())
    }

    /// At a `$`: the name and the position behind it, or None where it is only a dollar.
    fn variable(&mut self) -> Result<Option<String>> {
        let braced = self.peek(1) == Some(b'{');
        let from = self.at + 1 + usize::from(braced);
        let mut end = from;
        match self.text.get(from) {
            Some(b'?' | b'#' | b'*' | b'@') => end += 1,
            Some(first) if first.is_ascii_digit() => {
                while self.text.get(end).is_some_and(u8::is_ascii_digit) {
                    end += 1;
                }
            }
            _ => {
                while self.text.get(end).is_some_and(|&byte| is_name(byte)) {
                    end += 1;
                }
            }
        }
        if end == from {
            return Ok(None);
        }
        if braced && self.text.get(end) != Some(&b'}') {
            return Err(Error::Corrupt("a variable in grub.cfg"));
        }
        let name = lossy(&self.text[from..end]);
        self.at = end + usize::from(braced);
        Ok(Some(name))
    }
}

fn utf8_width(first: u8) -> usize {
    match first {
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xff => 4,
        _ => 1,
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    ahead: Option<Token>,
    depth: u32,
}

/// The commands of a file, or the reason why it is none.
pub fn parse(text: &str) -> Result<Vec<Node>> {
    if text.len() > TEXT_BYTES {
        return Err(Error::Limit("size of grub.cfg"));
    }
    let mut parser = Parser { lexer: Lexer { text: text.as_bytes(), at: 0 }, ahead: None, depth: 0 };
    let nodes = parser.list(&[])?;
    match parser.next()? {
        Token::Finish => Ok(nodes),
        _ => Err(Error::Corrupt("grub.cfg: something closes that was not open")),
    }
}

const KEYWORDS: [&str; 7] = ["then", "elif", "else", "fi", "do", "done", "}"];

impl Parser<'_> {
    fn next(&mut self) -> Result<Token> {
        match self.ahead.take() {
            Some(token) => Ok(token),
            None => self.lexer.token(),
        }
    }

    fn peek(&mut self) -> Result<&Token> {
        if self.ahead.is_none() {
            self.ahead = Some(self.lexer.token()?);
        }
        self.ahead.as_ref().ok_or(Error::Corrupt("grub.cfg"))
    }

    /// Commands up to one of `until`, a closing brace or the end; that is left to the caller.
    fn list(&mut self, until: &[&str]) -> Result<Vec<Node>> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(Error::Limit("nesting in grub.cfg"));
        }
        let mut nodes = Vec::new();
        loop {
            match self.peek()? {
                Token::End => {
                    self.next()?;
                }
                Token::Finish | Token::Close => break,
                Token::Open => return Err(Error::Corrupt("grub.cfg: a block without a command")),
                Token::Word(word) => {
                    if let Some(bare) = word.bare() {
                        if until.contains(&bare) {
                            break;
                        }
                        if KEYWORDS.contains(&bare) {
                            return Err(Error::Corrupt("grub.cfg: a keyword out of place"));
                        }
                    }
                    let node = self.statement()?;
                    nodes.push(node);
                }
            }
        }
        self.depth -= 1;
        Ok(nodes)
    }

    fn keyword(&mut self, expected: &'static str) -> Result<()> {
        match self.next()? {
            Token::Word(word) if word.bare() == Some(expected) => Ok(()),
            _ => Err(Error::Corrupt("grub.cfg: an unfinished if, while, until or for")),
        }
    }

    fn one_of(&mut self, expected: &[&'static str]) -> Result<&'static str> {
        if let Token::Word(word) = self.next()?
            && let Some(bare) = word.bare()
            && let Some(found) = expected.iter().find(|keyword| **keyword == bare)
        {
            return Ok(found);
        }
        Err(Error::Corrupt("grub.cfg: an unfinished if"))
    }

    fn skip_ends(&mut self) -> Result<()> {
        while matches!(self.peek()?, Token::End) {
            self.next()?;
        }
        Ok(())
    }

    fn block(&mut self) -> Result<Vec<Node>> {
        let body = self.list(&[])?;
        match self.next()? {
            Token::Close => Ok(body),
            _ => Err(Error::Corrupt("grub.cfg: an open block")),
        }
    }

    fn statement(&mut self) -> Result<Node> {
        let Token::Word(first) = self.next()? else { return Err(Error::Corrupt("grub.cfg")) };
        match first.bare() {
            Some("if") => {
                let mut arms = Vec::new();
                let mut otherwise = Vec::new();
                loop {
                    let condition = self.list(&["then"])?;
                    self.keyword("then")?;
                    let body = self.list(&["elif", "else", "fi"])?;
                    arms.push((condition, body));
                    match self.one_of(&["elif", "else", "fi"])? {
                        "elif" => continue,
                        "else" => {
                            otherwise = self.list(&["fi"])?;
                            self.keyword("fi")?;
                        }
                        _ => {}
                    }
                    break;
                }
                Ok(Node::If { arms, otherwise })
            }
            Some(keyword @ ("while" | "until")) => {
                let until = keyword == "until";
                let condition = self.list(&["do"])?;
                self.keyword("do")?;
                let body = self.list(&["done"])?;
                self.keyword("done")?;
                Ok(Node::Loop { until, condition, body })
            }
            Some("for") => {
                let name = match self.next()? {
                    Token::Word(word) => word.bare().map(String::from).ok_or(Error::Corrupt("grub.cfg: for"))?,
                    _ => return Err(Error::Corrupt("grub.cfg: for")),
                };
                self.keyword("in")?;
                let mut words = Vec::new();
                while let Token::Word(_) = self.peek()? {
                    if let Token::Word(word) = self.next()? {
                        words.push(word);
                    }
                }
                self.skip_ends()?;
                self.keyword("do")?;
                let body = self.list(&["done"])?;
                self.keyword("done")?;
                Ok(Node::For { name, words, body })
            }
            Some("function") => {
                let name = match self.next()? {
                    Token::Word(word) => word.bare().map(String::from).ok_or(Error::Corrupt("grub.cfg: function"))?,
                    _ => return Err(Error::Corrupt("grub.cfg: function")),
                };
                self.skip_ends()?;
                match self.next()? {
                    Token::Open => Ok(Node::Function { name, body: Rc::new(self.block()?) }),
                    _ => Err(Error::Corrupt("grub.cfg: function")),
                }
            }
            _ => {
                let menu = match first.bare() {
                    Some("menuentry") => Some(false),
                    Some("submenu") => Some(true),
                    _ => None,
                };
                let mut words = alloc::vec![first];
                loop {
                    match self.peek()? {
                        Token::Word(_) => {
                            if let Token::Word(word) = self.next()? {
                                words.push(word);
                            }
                        }
                        Token::Open => {
                            self.next()?;
                            let submenu = menu.ok_or(Error::Unsupported("a block after a command of grub.cfg"))?;
                            let body = Rc::new(self.block()?);
                            return Ok(Node::Menu { submenu, words: words.split_off(1), body });
                        }
                        Token::End | Token::Close | Token::Finish => break,
                    }
                }
                if menu.is_some() {
                    return Err(Error::Corrupt("grub.cfg: a menu entry without a block"));
                }
                Ok(Node::Simple(words))
            }
        }
    }
}

//! From bytes of a keyboard or a serial line to keys. Linux's console and the terminals of the VT100's family differ in a few.
//!
//! What is no key is dropped: a line may carry noise, or the output of a boot loader that comes back as an echo.

/// A key as the pages know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Char(char),
    Enter,
    Esc,
    Backspace,
    Tab,
    BackTab,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    /// Ctrl-C.
    Quit,
    /// Draw everything anew.
    Repaint,
    /// Where the terminal says its cursor is: column and row, from 1.
    CursorAt(u16, u16),
}

/// A sequence that goes on longer is none.
const LONGEST: usize = 32;

/// Takes bytes as they come, in whatever pieces.
#[derive(Debug, Default)]
pub struct Keys {
    held: Vec<u8>,
}

impl Keys {
    /// The keys that are complete now.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Key> {
        let mut keys = Vec::new();
        for byte in bytes {
            self.held.push(*byte);
            match read(&self.held) {
                Read::Key(key) => {
                    keys.push(key);
                    self.held.clear();
                }
                Read::Nothing => self.held.clear(),
                Read::More if self.held.len() > LONGEST => self.held.clear(),
                Read::More => (),
                Read::EscThen(rest) => {
                    keys.push(Key::Esc);
                    self.held.clear();
                    keys.extend(self.push(&[rest]));
                }
            }
        }
        keys
    }

    /// Nothing came for a while: an escape alone is the key.
    pub fn pause(&mut self) -> Option<Key> {
        let was_esc = self.held == [0x1b];
        self.held.clear();
        was_esc.then_some(Key::Esc)
    }

    /// Whether the bytes so far may be the beginning of a key.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.held.is_empty()
    }
}

enum Read {
    Key(Key),
    More,
    Nothing,
    /// The escape key, and another after it.
    EscThen(u8),
}

fn read(held: &[u8]) -> Read {
    match held {
        [b'\r' | b'\n'] => Read::Key(Key::Enter),
        [b'\t'] => Read::Key(Key::Tab),
        [0x7f | 0x08] => Read::Key(Key::Backspace),
        [0x0c] => Read::Key(Key::Repaint),
        [0x03] => Read::Key(Key::Quit),
        [0x1b] => Read::More,
        [byte @ 0x20..=0x7e] => Read::Key(Key::Char(char::from(*byte))),
        [0x00..=0x1f] => Read::Nothing,
        [0x1b, b'[' | b'O'] => Read::More,
        [0x1b, 0x1b] => Read::EscThen(0x1b),
        [0x1b, byte] => Read::EscThen(*byte),
        // Linux's console: F1 to F5.
        [0x1b, b'[', b'['] => Read::More,
        [0x1b, b'[', b'[', _] => Read::Nothing,
        [0x1b, b'O', last] => named(*last),
        [0x1b, b'[', middle @ .., last @ 0x40..=0x7e] => sequence(middle, *last),
        [0x1b, b'[', rest @ ..] if rest.iter().all(|byte| (0x20..=0x3f).contains(byte)) => Read::More,
        [first, ..] if *first >= 0x80 => utf8(held),
        _ => Read::Nothing,
    }
}

fn named(last: u8) -> Read {
    Read::Key(match last {
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'C' => Key::Right,
        b'D' => Key::Left,
        b'H' => Key::Home,
        b'F' => Key::End,
        b'Z' => Key::BackTab,
        _ => return Read::Nothing,
    })
}

fn sequence(middle: &[u8], last: u8) -> Read {
    let text = std::str::from_utf8(middle).unwrap_or_default();
    match (text, last) {
        ("1" | "7", b'~') => Read::Key(Key::Home),
        ("4" | "8", b'~') => Read::Key(Key::End),
        ("5", b'~') => Read::Key(Key::PageUp),
        ("6", b'~') => Read::Key(Key::PageDown),
        ("3", b'~') => Read::Key(Key::Backspace),
        (text, b'R') => {
            let place = text.split_once(';').and_then(|(row, column)| Some((column.parse().ok()?, row.parse().ok()?)));
            place.map_or(Read::Nothing, |(column, row)| Read::Key(Key::CursorAt(column, row)))
        }
        ("", last) => named(last),
        _ => Read::Nothing,
    }
}

fn utf8(held: &[u8]) -> Read {
    match std::str::from_utf8(held) {
        Ok(text) => match text.chars().next() {
            Some(c) if !c.is_control() => Read::Key(Key::Char(c)),
            _ => Read::Nothing,
        },
        Err(error) if error.error_len().is_none() && held.len() < 4 => Read::More,
        Err(_) => Read::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_console_and_of_terminals_are_known_in_whatever_pieces_they_come() {
        for (bytes, keys) in [
            (&b"aZ9"[..], vec![Key::Char('a'), Key::Char('Z'), Key::Char('9')]),
            (
                b"\r\n\t\x7f\x08\x0c",
                vec![Key::Enter, Key::Enter, Key::Tab, Key::Backspace, Key::Backspace, Key::Repaint],
            ),
            (b"\x1b[A\x1b[B\x1bOC\x1bOD", vec![Key::Up, Key::Down, Key::Right, Key::Left]),
            (
                b"\x1b[5~\x1b[6~\x1b[1~\x1b[4~\x1b[H\x1b[Z",
                vec![Key::PageUp, Key::PageDown, Key::Home, Key::End, Key::Home, Key::BackTab],
            ),
            (b"\x1b[24;80R", vec![Key::CursorAt(80, 24)]),
            (b"\x1b[[Ax", vec![Key::Char('x')]),
            (b"\x1b[15~\x1bOPx", vec![Key::Char('x')]),
            ("ü".as_bytes(), vec![Key::Char('ü')]),
            (b"\x1b\x1b[A", vec![Key::Esc, Key::Up]),
            (b"\x1bx", vec![Key::Esc, Key::Char('x')]),
            (b"\x00\x01\xff\xc3(", vec![]),
            (b"\x1b[99999;99999R", vec![]),
        ] {
            assert_eq!(Keys::default().push(bytes), keys, "{bytes:?}");
            let mut piecewise = Keys::default();
            let found: Vec<Key> = bytes.iter().flat_map(|byte| piecewise.push(&[*byte])).collect();
            assert_eq!(found, keys, "{bytes:?}");
        }
    }

    #[test]
    fn an_escape_alone_is_a_key_after_a_pause_and_endless_sequences_are_dropped() {
        let mut keys = Keys::default();
        assert!(keys.push(b"\x1b").is_empty() && keys.waits());
        assert_eq!(keys.pause(), Some(Key::Esc));
        assert!(keys.push(b"\x1b[").is_empty());
        assert!(keys.push(&[b'1'; 100_000]).len() <= 100_000);
        assert!(keys.held.len() <= LONGEST);
        assert_eq!(keys.pause(), None);
    }
}

//! `test` and `[`.

use alloc::string::String;
use core::cmp::Ordering;

/// What the file tests ask.
pub trait Files {
    fn is_file(&mut self, path: &str) -> bool;
    fn is_directory(&mut self, path: &str) -> bool;
    /// Exists and is not empty.
    fn has_bytes(&mut self, path: &str) -> bool;
}

const DEPTH: u32 = 32;

struct Condition<'a, F> {
    words: &'a [String],
    at: usize,
    depth: u32,
    files: &'a mut F,
}

/// Lenient as GRUB's own: what makes no sense is false.
pub fn evaluate<F: Files>(words: &[String], files: &mut F) -> bool {
    let mut condition = Condition { words, at: 0, depth: 0, files };
    let result = condition.or();
    result && condition.at >= words.len()
}

fn number(text: &str) -> i64 {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let value = match digits.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16),
        None => {
            let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            digits[..end].parse()
        }
    };
    let value = value.unwrap_or(0);
    if negative { -value } else { value }
}

/// `-pgt` and `-plt` compare the numbers that follow a common non-digit prefix.
fn prefixed(a: &str, b: &str) -> Ordering {
    let common = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y && !x.is_ascii_digit()).count();
    number(a.get(common..).unwrap_or("")).cmp(&number(b.get(common..).unwrap_or("")))
}

impl<F: Files> Condition<'_, F> {
    fn peek(&self, ahead: usize) -> Option<&str> {
        self.words.get(self.at + ahead).map(String::as_str)
    }

    fn or(&mut self) -> bool {
        let mut value = self.and();
        while self.peek(0) == Some("-o") {
            self.at += 1;
            let other = self.and();
            value |= other;
        }
        value
    }

    fn and(&mut self) -> bool {
        let mut value = self.not();
        while self.peek(0) == Some("-a") {
            self.at += 1;
            let other = self.not();
            value &= other;
        }
        value
    }

    fn not(&mut self) -> bool {
        let mut negated = false;
        while self.peek(0) == Some("!") && self.peek(1).is_some() {
            negated = !negated;
            self.at += 1;
        }
        self.primary() != negated
    }

    fn binary(&mut self) -> Option<bool> {
        let (a, operator, b) = (self.peek(0)?, self.peek(1)?, self.peek(2)?);
        let value = match operator {
            "=" | "==" => a == b,
            "!=" => a != b,
            "<" => a < b,
            "<=" => a <= b,
            ">" => a > b,
            ">=" => a >= b,
            "-eq" => number(a) == number(b),
            "-ne" => number(a) != number(b),
            "-lt" => number(a) < number(b),
            "-le" => number(a) <= number(b),
            "-gt" => number(a) > number(b),
            "-ge" => number(a) >= number(b),
            "-pgt" => prefixed(a, b) == Ordering::Greater,
            "-plt" => prefixed(a, b) == Ordering::Less,
            // Ages of files: nobody's boot depends on them.
            _ if operator.starts_with("-nt") || operator.starts_with("-ot") => false,
            _ => return None,
        };
        self.at += 3;
        Some(value)
    }

    fn primary(&mut self) -> bool {
        if let Some(value) = self.binary() {
            return value;
        }
        if self.peek(0) == Some("(") {
            self.depth += 1;
            if self.depth > DEPTH {
                self.at = self.words.len() + 1;
                return false;
            }
            self.at += 1;
            let value = self.or();
            self.depth -= 1;
            if self.peek(0) != Some(")") {
                self.at = self.words.len() + 1;
                return false;
            }
            self.at += 1;
            return value;
        }
        let (Some(first), second) = (self.peek(0).map(String::from), self.peek(1).map(String::from)) else {
            return false;
        };
        if let Some(operand) = second {
            let value = match first.as_str() {
                "-z" => Some(operand.is_empty()),
                "-n" => Some(!operand.is_empty()),
                "-d" => Some(self.files.is_directory(&operand)),
                "-f" => Some(self.files.is_file(&operand)),
                "-e" => Some(self.files.is_file(&operand) || self.files.is_directory(&operand)),
                "-s" => Some(self.files.has_bytes(&operand)),
                _ => None,
            };
            if let Some(value) = value {
                self.at += 2;
                return value;
            }
        }
        self.at += 1;
        !first.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{borrow::ToOwned, vec::Vec};

    struct Some1;
    impl Files for Some1 {
        fn is_file(&mut self, path: &str) -> bool {
            path == "/file" || path == "/empty"
        }
        fn is_directory(&mut self, path: &str) -> bool {
            path == "/dir"
        }
        fn has_bytes(&mut self, path: &str) -> bool {
            path == "/file"
        }
    }

    #[test]
    fn conditions_are_as_in_grub() {
        for (text, expected) in [
            ("", false),
            ("x", true),
            ("-n", true),
            ("-z ''", true),
            ("-n ''", false),
            ("a = a", true),
            ("a != a", false),
            ("! a = b", true),
            ("10 -gt 9", true),
            ("0x10 -eq 16", true),
            ("-3 -lt 2", true),
            ("vmlinuz-10 -pgt vmlinuz-9", true),
            ("-f /file -a -d /dir", true),
            ("-f /file -a ! -d /dir", false),
            ("-e /dir", true),
            ("-s /empty", false),
            ("-s /file", true),
            ("a = b -o c = c", true),
            ("( a = b -o c = c ) -a d = d", true),
            ("( a = b", false),
            ("-z '' -a -f /file", true),
            ("'' -o ''", false),
            ("= = =", true),
        ] {
            let words: Vec<String> =
                text.split_whitespace().map(|w| if w == "''" { String::new() } else { w.to_owned() }).collect();
            assert_eq!(evaluate(&words, &mut Some1), expected, "[ {text} ]");
        }
    }

    #[test]
    fn deep_parentheses_end() {
        let words: Vec<String> = core::iter::repeat_n("(".to_owned(), 100_000).collect();
        assert!(!evaluate(&words, &mut Some1));
    }
}

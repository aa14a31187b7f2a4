//! Text of others, made harmless for a terminal.

/// One line that moves no cursor, rings no bell and hides nothing: what others wrote (names, addresses' owners, log lines) goes
/// through here before it is shown. Tabs and line ends become spaces, other control characters a question mark.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars()
        .filter_map(|c| match c {
            '\t' | '\n' | '\r' => Some(' '),
            c if c.is_control() => Some('?'),
            // They change the order in which the rest is read, or are there without being seen.
            '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}' => None,
            c => Some(c),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(plain("a\x1b[2Jb\x07\u{9b}31m\r\n\tc"), "a?[2Jb??31m   c");
        assert_eq!(plain("\u{202e}gpj.exe\u{200b}\x7f"), "gpj.exe?");
        assert_eq!(plain("Grüße, 世界"), "Grüße, 世界");
    }
}

//! The state word in large letters: five dots high, drawn as three rows of half blocks.

const GLYPHS: [(char, [&str; 5]); 14] = [
    ('A', [" ## ", "#  #", "####", "#  #", "#  #"]),
    ('C', [" ###", "#   ", "#   ", "#   ", " ###"]),
    ('D', ["### ", "#  #", "#  #", "#  #", "### "]),
    ('E', ["####", "#   ", "### ", "#   ", "####"]),
    ('F', ["####", "#   ", "### ", "#   ", "#   "]),
    ('G', [" ###", "#   ", "# ##", "#  #", " ###"]),
    ('I', ["#", "#", "#", "#", "#"]),
    ('L', ["#   ", "#   ", "#   ", "#   ", "####"]),
    ('M', ["#   #", "## ##", "# # #", "#   #", "#   #"]),
    ('N', ["#  #", "## #", "# ##", "#  #", "#  #"]),
    ('O', [" ## ", "#  #", "#  #", "#  #", " ## "]),
    ('P', ["### ", "#  #", "### ", "#   ", "#   "]),
    ('R', ["### ", "#  #", "### ", "# # ", "#  #"]),
    ('S', [" ###", "#   ", " ## ", "   #", "### "]),
];
const MORE: [(char, [&str; 5]); 3] = [
    ('T', ["#####", "  #  ", "  #  ", "  #  ", "  #  "]),
    ('U', ["#  #", "#  #", "#  #", "#  #", " ## "]),
    ('Y', ["#   #", " # # ", "  #  ", "  #  ", "  #  "]),
];

/// Three rows. What has no glyph is left out.
#[must_use]
pub fn rows(word: &str) -> [String; 3] {
    let mut dots = [const { String::new() }; 6];
    for letter in word.chars() {
        let Some((_, glyph)) = GLYPHS.iter().chain(&MORE).find(|(known, _)| *known == letter) else { continue };
        for (row, line) in dots.iter_mut().zip(glyph) {
            row.push_str(line);
            row.push(' ');
        }
    }
    let pair = |upper: &str, lower: &str| {
        let mut lower = lower.chars().chain(std::iter::repeat(' '));
        upper
            .chars()
            .map(|up| match (up == '#', lower.next() == Some('#')) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            })
            .collect::<String>()
    };
    [pair(&dots[0], &dots[1]), pair(&dots[2], &dots[3]), pair(&dots[4], &dots[5])]
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_state_word_has_all_its_letters_and_room_beside_the_code() {
        use super::super::model::Word;
        for word in
            [Word::Starting, Word::Ready, Word::Degraded, Word::Failed, Word::Updating, Word::Stopped, Word::Unclaimed]
        {
            let known = |letter| super::GLYPHS.iter().chain(&super::MORE).any(|(known, _)| *known == letter);
            assert!(word.text().chars().all(known), "{word:?}");
            let rows = super::rows(word.text());
            assert!(rows.iter().all(|row| row.chars().count() <= 50), "{rows:?}");
        }
    }
}

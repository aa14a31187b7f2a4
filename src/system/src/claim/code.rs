//! The code: 80 random bits in letters and digits that are not taken for each other (Crockford's base 32), in four groups.

use std::fmt::Write;

use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};

const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const BYTES: usize = 10;
const LENGTH: usize = 16;

/// A new one. `None` without random numbers.
pub fn new() -> Option<String> {
    let mut bytes = [0; BYTES];
    SystemRandom::new().fill(&mut bytes).ok()?;
    let bits = bytes.iter().fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
    let mut code = String::with_capacity(LENGTH + 3);
    for place in 0..LENGTH {
        if place > 0 && place % 4 == 0 {
            code.push('-');
        }
        let letter = bits >> (5 * (LENGTH - 1 - place)) & 31;
        code.push(char::from(LETTERS[usize::try_from(letter).unwrap_or(0)]));
    }
    Some(code)
}

/// As it is compared: without what people put between letters, in one case, with the letters that look like others as those.
fn plain(text: &str) -> String {
    let letters = text.chars().filter(|c| !c.is_whitespace() && !['-', '_', '.'].contains(c));
    letters
        // What is longer is wrong, however it goes on.
        .take(LENGTH + 1)
        .map(|letter| match letter.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        })
        .collect()
}

/// What is kept of a code. It has too many bits to be guessed, so a plain hash does.
pub fn hash(code: &str) -> String {
    let digest = digest(&SHA256, plain(code).as_bytes());
    digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Whether `said` is the code with this hash, in a time that says nothing about it.
pub fn is_of(said: &str, wanted: &str) -> bool {
    let got = hash(said);
    got.len() == wanted.len() && got.bytes().zip(wanted.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_four_groups_of_four_and_never_the_same() {
        let codes: std::collections::BTreeSet<String> = (0..1000).map(|_| new().unwrap()).collect();
        assert_eq!(codes.len(), 1000);
        for code in &codes {
            let groups: Vec<&str> = code.split('-').collect();
            assert!(groups.len() == 4 && groups.iter().all(|group| group.len() == 4), "{code}");
            assert!(code.bytes().all(|byte| byte == b'-' || LETTERS.contains(&byte)), "{code}");
        }
        // Every letter comes up at every place.
        for place in (0..19).filter(|place| place % 5 != 4) {
            let seen: std::collections::BTreeSet<u8> = codes.iter().map(|code| code.as_bytes()[place]).collect();
            assert!(seen.len() > 25, "{place}: {}", seen.len());
        }
    }

    #[test]
    fn a_code_is_heard_as_people_write_it() {
        let wanted = hash("01AB-CDEF-GHJK-MN10");
        for said in ["01AB-CDEF-GHJK-MN10", "01abcdefghjkmn10", " OIab cdef\tghjk_mnLo\n", "01AB.CDEF-GHJK-MN10"] {
            assert!(is_of(said, &wanted), "{said}");
        }
        for said in ["", "01AB-CDEF-GHJK-MN1", "01AB-CDEF-GHJK-MN100", "01AB-CDEF-GHJK-MN11", &"0".repeat(1 << 20)] {
            assert!(!is_of(said, &wanted));
        }
    }
}

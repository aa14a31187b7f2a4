//! How version strings are ordered: as RPM does (GRUB's `blscfg`), and as the UAPI group's version format says
//! (systemd-boot).

use core::cmp::Ordering;

fn number(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn letters(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    text.split_at(end)
}

/// Digits of any length: without leading zeroes, the longer is the greater.
fn numbers(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// `rpmvercmp`, with tilde and caret.
pub fn rpm(mut a: &str, mut b: &str) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    loop {
        let skip = |c: char| !c.is_ascii_alphanumeric() && c != '~' && c != '^';
        a = a.trim_start_matches(skip);
        b = b.trim_start_matches(skip);
        match (a.strip_prefix('~'), b.strip_prefix('~')) {
            (Some(x), Some(y)) => {
                (a, b) = (x, y);
                continue;
            }
            (Some(_), None) => return Ordering::Less,
            (None, Some(_)) => return Ordering::Greater,
            (None, None) => {}
        }
        match (a.strip_prefix('^'), b.strip_prefix('^')) {
            (Some(x), Some(y)) => {
                (a, b) = (x, y);
                continue;
            }
            (Some(_), None) => return if b.is_empty() { Ordering::Greater } else { Ordering::Less },
            (None, Some(_)) => return if a.is_empty() { Ordering::Less } else { Ordering::Greater },
            (None, None) => {}
        }
        if a.is_empty() || b.is_empty() {
            return a.len().cmp(&b.len());
        }
        let order = if a.starts_with(|c: char| c.is_ascii_digit()) {
            let ((x, rest_a), (y, rest_b)) = (number(a), number(b));
            (a, b) = (rest_a, rest_b);
            // A number is newer than letters.
            if y.is_empty() { Ordering::Greater } else { numbers(x, y) }
        } else {
            let ((x, rest_a), (y, rest_b)) = (letters(a), letters(b));
            (a, b) = (rest_a, rest_b);
            if y.is_empty() { Ordering::Less } else { x.cmp(y) }
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// name-version-release, each compared in turn, as `blscfg` splits file names.
pub fn rpm_package(a: &str, b: &str) -> Ordering {
    fn split(text: &str) -> (&str, &str, &str) {
        let (rest, release) = text.rsplit_once('-').unwrap_or((text, ""));
        let (name, version) = rest.rsplit_once('-').unwrap_or(("", rest));
        (name, version, release)
    }
    let ((na, va, ra), (nb, vb, rb)) = (split(a), split(b));
    rpm(na, nb).then_with(|| rpm(va, vb)).then_with(|| rpm(ra, rb))
}

/// The UAPI version format: `~` before the end, the end before `-`, then `^`, `.`, numbers after letters.
pub fn uapi(mut a: &str, mut b: &str) -> Ordering {
    loop {
        let skip = |c: char| !c.is_ascii_alphanumeric() && !matches!(c, '~' | '-' | '^' | '.');
        a = a.trim_start_matches(skip);
        b = b.trim_start_matches(skip);
        if a.starts_with('~') || b.starts_with('~') {
            match (a.strip_prefix('~'), b.strip_prefix('~')) {
                (Some(x), Some(y)) => {
                    (a, b) = (x, y);
                    continue;
                }
                (Some(_), None) => return Ordering::Less,
                _ => return Ordering::Greater,
            }
        }
        if a.is_empty() || b.is_empty() {
            return a.len().cmp(&b.len());
        }
        let mut both = false;
        for mark in ['-', '^', '.'] {
            match (a.strip_prefix(mark), b.strip_prefix(mark)) {
                (Some(x), Some(y)) => {
                    (a, b) = (x, y);
                    both = true;
                    break;
                }
                (Some(_), None) => return Ordering::Less,
                (None, Some(_)) => return Ordering::Greater,
                (None, None) => {}
            }
        }
        if both {
            continue;
        }
        let digits = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        let order = if digits(a) || digits(b) {
            let ((x, rest_a), (y, rest_b)) = (number(a), number(b));
            (a, b) = (rest_a, rest_b);
            x.is_empty().cmp(&y.is_empty()).reverse().then_with(|| numbers(x, y))
        } else {
            let ((x, rest_a), (y, rest_b)) = (letters(a), letters(b));
            (a, b) = (rest_a, rest_b);
            x.cmp(y)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Ordering::{Equal, Greater, Less};

    #[test]
    fn rpm_orders_kernels_as_rpm_does() {
        for (a, b, order) in [
            ("1.0", "1.0", Equal),
            ("1.10", "1.9", Greater),
            ("5.14.0", "5.14.0.el9", Less),
            ("1.0~rc1", "1.0", Less),
            ("1.0^git", "1.0", Greater),
            ("1.0^git", "1.0.1", Less),
            ("2a", "2.1", Less),
            ("010", "10", Equal),
            ("6.5.6-300.fc39.x86_64", "6.5.12-300.fc39.x86_64", Less),
        ] {
            assert_eq!(rpm(a, b), order, "{a} {b}");
            assert_eq!(rpm(b, a), order.reverse(), "{b} {a}");
        }
        assert_eq!(rpm_package("abc-6.5.6-300.fc39.x86_64", "abc-0-rescue"), Greater);
    }

    #[test]
    fn uapi_orders_the_examples_of_its_specification() {
        let ascending = [
            "122.1~rc1",
            "122.1~rc2",
            "122.1",
            "123~rc1-1",
            "123",
            "123-a",
            "123-a.1",
            "123-1",
            "123-1.1",
            "123^post1",
            "123.a-1",
            "123.1-1",
            "123a-1",
            "124-1",
        ];
        for pair in ascending.windows(2) {
            assert_eq!(uapi(pair[0], pair[1]), Less, "{} {}", pair[0], pair[1]);
            assert_eq!(uapi(pair[1], pair[0]), Greater, "{} {}", pair[1], pair[0]);
        }
    }
}

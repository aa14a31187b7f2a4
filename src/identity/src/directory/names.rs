//! Names: of entries (RFC 4514), in filters (RFC 4515), and of users as this cloud shows them.

use ring::digest::{SHA256, digest};

use super::options::Kind;

/// As upstream derives them, so a directory's users keep their ids when they come from there: SHA-256 over domain, kind
/// (`user`, `group`) and the value of the id attribute, in hexadecimal digits.
pub(crate) fn public_id(domain_id: &str, kind: &str, local_id: &str) -> String {
    let digest = digest(&SHA256, [domain_id, kind, local_id].concat().as_bytes());
    digest.as_ref().iter().fold(String::with_capacity(64), |text, byte| text + &format!("{byte:02x}"))
}

/// `(attribute=value)`, whatever the value holds.
pub(super) fn equals(attribute: &str, value: &str) -> String {
    format!("({attribute}={})", escape(value))
}

/// RFC 4515, section 3. What is no printable ASCII is escaped too: so no rule of any server's parser matters.
fn escape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'*' | b'(' | b')' | b'\\' | 0..=0x1f | 0x7f.. => text.push_str(&format!("\\{byte:02x}")),
            _ => text.push(char::from(byte)),
        }
    }
    text
}

impl Kind {
    /// Entries of this kind, of which `extra` holds too.
    pub(super) fn filter(&self, extra: &str) -> String {
        format!("(&{}{}{extra})", self.class_filter, self.own_filter)
    }
}

/// A distinguished name in a form that can be compared: attribute types and values in lower case, spaces that do not count
/// left out, every escape resolved. `None` for what is no distinguished name. Values compare without regard to case, as those
/// of all naming attributes in use do.
pub(super) fn comparable(dn: &str) -> Option<String> {
    let mut out = String::with_capacity(dn.len());
    let mut rest = dn.trim();
    if rest.is_empty() {
        return None;
    }
    loop {
        let (kind, after) = rest.split_once('=')?;
        let kind = kind.trim();
        if kind.is_empty() || !kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte)) {
            return None;
        }
        let (value, end, after) = value(after)?;
        out.push_str(&kind.to_lowercase());
        out.push('\u{1}');
        out.push_str(&value);
        match end {
            None => return Some(out),
            Some(separator) => out.push(if separator == '+' { '\u{2}' } else { '\u{3}' }),
        }
        rest = after;
    }
}

/// The value of the attribute that names the entry, if that is `attribute`.
pub(super) fn named_by(dn: &str, attribute: &str) -> Option<String> {
    let whole = comparable(dn)?;
    let first = whole.split('\u{3}').next()?;
    first.split('\u{2}').find_map(|part| {
        let (kind, value) = part.split_once('\u{1}')?;
        kind.eq_ignore_ascii_case(attribute).then(|| value.to_owned())
    })
}

/// A value, what ended it, and what follows that.
fn value(text: &str) -> Option<(String, Option<char>, &str)> {
    let mut bytes: Vec<u8> = Vec::new();
    let mut chars = text.char_indices();
    // Spaces at the end do not count, escaped ones do.
    let mut keep = 0;
    let mut quoted = false;
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => {
                let (_, next) = chars.next()?;
                if let Some(high) = next.to_digit(16) {
                    let low = chars.next()?.1.to_digit(16)?;
                    bytes.push(u8::try_from(high * 16 + low).ok()?);
                } else if next.is_ascii() {
                    bytes.push(u8::try_from(u32::from(next)).ok()?);
                } else {
                    return None;
                }
                keep = bytes.len();
            }
            '"' => quoted = !quoted,
            ',' | ';' | '+' if !quoted => {
                bytes.truncate(keep);
                return Some((plain(&bytes)?, Some(char), &text[at + 1..]));
            }
            ' ' if !quoted => {
                if !bytes.is_empty() {
                    bytes.push(b' ');
                }
            }
            _ => {
                let mut buffer = [0; 4];
                bytes.extend_from_slice(char.encode_utf8(&mut buffer).as_bytes());
                keep = bytes.len();
            }
        }
    }
    if quoted {
        return None;
    }
    bytes.truncate(keep);
    Some((plain(&bytes)?, None, ""))
}

/// Lower case, runs of spaces as one.
fn plain(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut out = String::with_capacity(text.len());
    for char in text.chars().flat_map(char::to_lowercase) {
        // Those are the separators of `comparable`.
        if char < '\u{4}' {
            return None;
        }
        if !(char == ' ' && out.ends_with(' ')) {
            out.push(char);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_ids_are_those_of_upstream() {
        // echo -n defaultuseralice | sha256sum
        assert_eq!(
            public_id("default", "user", "alice"),
            "c43e4dd25aba357630477a0f49fde7da8567b753ddd430c9555ad09aa2a76e9e"
        );
        assert_ne!(public_id("default", "user", "alice"), public_id("default", "group", "alice"));
        assert_eq!(public_id("d", "user", "a").len(), 64);
    }

    #[test]
    fn no_value_leaves_its_place_in_a_filter() {
        for (value, want) in [
            ("alice", "(uid=alice)"),
            ("*", "(uid=\\2a)"),
            ("a)(uid=*", "(uid=a\\29\\28uid=\\2a)"),
            ("a\\", "(uid=a\\5c)"),
            ("a\0b", "(uid=a\\00b)"),
            ("é", "(uid=\\c3\\a9)"),
            ("", "(uid=)"),
            (")(|(objectClass=*", "(uid=\\29\\28|\\28objectClass=\\2a)"),
        ] {
            assert_eq!(equals("uid", value), want);
            let all = format!("(&(objectClass=x){want})");
            assert!(ldap3::parse_filter(&all).is_ok(), "{all}");
        }
    }

    #[test]
    fn names_of_one_entry_compare_equal_however_they_are_written() {
        let same = |a: &str, b: &str| comparable(a).is_some() && comparable(a) == comparable(b);
        assert!(same("uid=alice,ou=People,dc=corp", "UID=Alice, OU=people , DC=CORP"));
        assert!(same("cn=a\\2cb,dc=x", "cn=a\\,b,dc=x"));
        assert!(same("cn=\\c3\\a9,dc=x", "cn=é,dc=x"));
        assert!(same("cn=\"a,b\",dc=x", "cn=a\\,b,dc=x"));
        assert!(same("cn=a  b,dc=x", "cn=a b;dc=x"));
        assert!(!same("cn=a,dc=x", "cn=a,dc=y"));
        assert!(!same("cn=a\\,dc=x", "cn=a,dc=x"));
        assert!(!same("cn=a+dc=x", "cn=a,dc=x"));
        assert!(!same("cn=a\\20,dc=x", "cn=a,dc=x"));
        for wrong in ["", "x", "=x", "cn=a,", "cn=a,x", "cn=a\\", "cn=a\\f", "cn=\"a", "c n=a", "cn=\\01", "cn=\\ff"] {
            assert_eq!(comparable(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_first_part_of_a_name_tells_what_the_entry_is_called_by() {
        assert_eq!(named_by("CN=Alice+uid=al,ou=x", "cn").as_deref(), Some("alice"));
        assert_eq!(named_by("cn=Alice+uid=al,ou=x", "UID").as_deref(), Some("al"));
        assert_eq!(named_by("cn=Alice,ou=x", "ou"), None);
    }
}

//! Time-based one-time passwords (RFC 6238): HMAC-SHA-1, six digits, steps of 30 seconds.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use ring::hmac;

const STEP_S: i64 = 30;
/// Also good: the step before the present one, for clocks that are behind and people who are slow.
const STEPS_BEFORE: i64 = 1;
const PRUNE_AT: usize = 1024;

/// The last step of each credential that let somebody in: a passcode is good once (RFC 6238, section 5.2).
#[derive(Debug, Default)]
pub(crate) struct Spent(Mutex<HashMap<String, i64>>);

impl Spent {
    /// Whether this step may still let somebody in; it may not again.
    pub(crate) fn spend(&self, credential_id: &str, step: i64) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= PRUNE_AT {
            all.retain(|_, spent| *spent >= step - STEPS_BEFORE - 1);
        }
        match all.get(credential_id) {
            Some(spent) if *spent >= step => false,
            _ => {
                all.insert(credential_id.to_owned(), step);
                true
            }
        }
    }
}

/// The step in which `passcode` is right for this secret (base32, RFC 4648 section 6) at this second, if there is one.
pub(crate) fn step_of(secret: &str, passcode: &str, now_s: i64) -> Option<i64> {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &base32(secret)?);
    let now = now_s.div_euclid(STEP_S);
    (now - STEPS_BEFORE..=now).rev().find(|step| {
        let right = code(&key, *step);
        // In constant time, although it is good for a minute only.
        let difference = right.bytes().zip(passcode.bytes()).fold(0, |difference, (a, b)| difference | (a ^ b));
        difference == 0 && right.len() == passcode.len()
    })
}

/// RFC 4226, section 5.3.
fn code(key: &hmac::Key, step: i64) -> String {
    let tag = hmac::sign(key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag.last().copied().unwrap_or(0) & 0xf);
    let word = tag.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes);
    format!("{:06}", (word & 0x7fff_ffff) % 1_000_000)
}

fn base32(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut count, mut out) = (0_u32, 0, Vec::new());
    for byte in text.trim_end_matches('=').bytes().filter(|byte| *byte != b' ') {
        let value = match byte.to_ascii_uppercase() {
            letter @ b'A'..=b'Z' => letter - b'A',
            digit @ b'2'..=b'7' => digit - b'2' + 26,
            _ => return None,
        };
        bits = bits << 5 | u32::from(value);
        count += 5;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    (!out.is_empty()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_rfc() {
        // RFC 6238, appendix B: the secret is the text 12345678901234567890; the last six of its eight digits.
        let secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        for (now_s, code) in [(59, "287082"), (1_111_111_109, "081804"), (1_234_567_890, "005924")] {
            assert_eq!(step_of(secret, code, now_s), Some(now_s / 30), "{now_s}");
            assert_eq!(step_of(secret, code, now_s + 30), Some(now_s / 30), "a step later");
            assert_eq!(step_of(secret, code, now_s + 60), None, "two steps later");
            assert_eq!(step_of(secret, code, now_s - 30), None, "a step too early");
        }
        for wrong in ["", "0", "1!", "=", "é"] {
            assert_eq!(step_of(wrong, "287082", 59), None, "{wrong}");
        }
    }

    #[test]
    fn a_step_is_spent_once_and_takes_those_before_along() {
        let spent = Spent::default();
        assert!(spent.spend("a", 7) && !spent.spend("a", 7) && !spent.spend("a", 6));
        assert!(spent.spend("b", 7) && spent.spend("a", 8));
    }
}

//! Accounts whose passwords are being guessed.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use time::OffsetDateTime;

/// Counts are dropped when they are old, once there are this many.
const PRUNE_AT: usize = 1024;

/// Wrong passwords in a row, by user. Kept in memory: a restart forgives, and who has no token cannot make this service
/// write to its database. Only users that exist are counted, so it cannot grow beyond them.
#[derive(Debug)]
pub(crate) struct Lockout {
    /// 0: never.
    attempts: u32,
    duration: Duration,
    failures: Mutex<HashMap<String, Failures>>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: OffsetDateTime,
}

impl Lockout {
    pub(crate) fn new(attempts: u32, duration: Duration) -> Self {
        Self { attempts, duration, failures: Mutex::default() }
    }

    pub(crate) fn locked(&self, user_id: &str, now: OffsetDateTime) -> bool {
        self.attempts > 0
            && self
                .lock()
                .get(user_id)
                .is_some_and(|failures| failures.count >= self.attempts && failures.last + self.duration > now)
    }

    pub(crate) fn failed(&self, user_id: &str, now: OffsetDateTime) {
        if self.attempts == 0 {
            return;
        }
        let mut all = self.lock();
        if all.len() >= PRUNE_AT {
            all.retain(|_, failures| failures.last + self.duration > now);
        }
        let failures = all.entry(user_id.to_owned()).or_insert(Failures { count: 0, last: now });
        // A lock that ran out begins anew.
        if failures.count >= self.attempts && failures.last + self.duration <= now {
            failures.count = 0;
        }
        failures.count += 1;
        failures.last = now;
        if failures.count == self.attempts {
            tracing::warn!(user_id, attempts = self.attempts, "an account is locked: too many wrong passwords");
        }
    }

    /// The right password, or an administrator, ends the count.
    pub(crate) fn forgive(&self, user_id: &str) {
        if self.attempts > 0 {
            self.lock().remove(user_id);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Failures>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_holds_for_its_time_and_then_begins_anew() {
        let lockout = Lockout::new(2, Duration::from_secs(10));
        let at = |second| OffsetDateTime::UNIX_EPOCH + Duration::from_secs(second);
        lockout.failed("a", at(0));
        assert!(!lockout.locked("a", at(0)));
        lockout.failed("a", at(1));
        assert!(lockout.locked("a", at(10)) && !lockout.locked("b", at(10)));
        assert!(!lockout.locked("a", at(11)));
        lockout.failed("a", at(12));
        assert!(!lockout.locked("a", at(12)));
        lockout.failed("a", at(13));
        assert!(lockout.locked("a", at(13)));
        lockout.forgive("a");
        assert!(!lockout.locked("a", at(13)));
    }

    #[test]
    fn without_a_number_nothing_is_ever_locked() {
        let lockout = Lockout::new(0, Duration::from_secs(10));
        for _ in 0..1000 {
            lockout.failed("a", OffsetDateTime::UNIX_EPOCH);
        }
        assert!(!lockout.locked("a", OffsetDateTime::UNIX_EPOCH));
    }
}

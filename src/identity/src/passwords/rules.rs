//! What a password must be like and how long it is good for. Upstream's name for all of it is "security compliance".

use std::time::Duration;

use db::clock;
use fancy_regex::Regex;
use rest::{Error, Result};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{PASSWORD_MAX_BYTES, lockout::Lockout};
use crate::errors::invalid;

const DAY: Duration = Duration::from_secs(86_400);

/// What the operator demands. The default demands nothing.
#[derive(Clone, Debug, Default)]
pub struct PasswordRules {
    /// Wrong passwords in a row before an account is locked; 0: never.
    pub lockout_failure_attempts: u32,
    pub lockout_duration_s: u64,
    /// 0: passwords do not expire.
    pub expires_days: u32,
    /// How many of a user's last passwords, the present one among them, the next one must differ from; 0: none.
    pub unique_last_count: u32,
    /// How long a password that a user chose must be kept; 0: not at all.
    pub minimum_age_days: u32,
    /// What the beginning of a password must match.
    pub regex: Option<String>,
    /// For people: what `regex` wants.
    pub regex_description: String,
    /// Whether a password that an administrator set only serves to choose another one.
    pub change_upon_first_use: bool,
    /// After how many days without a login an account is disabled; 0: never.
    pub inactive_days: u32,
}

/// A password as it is stored.
#[derive(Debug)]
pub(crate) struct NewPassword {
    pub hash: String,
    pub created_at: String,
    pub expires_at: Option<String>,
    pub self_service: bool,
}

#[derive(Debug)]
pub(crate) struct Rules {
    rules: PasswordRules,
    pattern: Option<Regex>,
    pub lockout: Lockout,
}

impl Rules {
    pub(crate) fn new(rules: PasswordRules) -> crate::Result<Self> {
        // From the beginning, as upstream matches.
        let pattern = rules.regex.as_ref().map(|pattern| Regex::new(&format!("^(?:{pattern})"))).transpose();
        let pattern = pattern.map_err(|error| crate::Error::Pattern(error.to_string()))?;
        let lockout = Lockout::new(rules.lockout_failure_attempts, Duration::from_secs(rules.lockout_duration_s));
        Ok(Self { rules, pattern, lockout })
    }

    /// 400 for a password that may not be one.
    pub(crate) fn check(&self, password: &str) -> Result<()> {
        if password.len() > PASSWORD_MAX_BYTES {
            return Err(invalid("password", format_args!("it is longer than {PASSWORD_MAX_BYTES} bytes")));
        }
        let Some(pattern) = &self.pattern else { return Ok(()) };
        // A password on which the pattern gives up is refused too.
        if pattern.is_match(password).unwrap_or(false) {
            return Ok(());
        }
        let wanted = if self.rules.regex_description.is_empty() {
            "ask your administrator what a password must be like"
        } else {
            &self.rules.regex_description
        };
        Err(Error::bad_request(format!(
            "Password validation error: The password does not match the requirements: {wanted}."
        )))
    }

    /// 400 while the present password, if the user chose it, is too young to be changed again.
    pub(crate) fn check_age(&self, created_at: Option<&str>, self_service: bool, now: OffsetDateTime) -> Result<()> {
        let days = self.rules.minimum_age_days;
        let created = created_at.filter(|_| self_service).and_then(clock::parse);
        match created.map(|created| created + DAY * days) {
            Some(free) if free > now => Err(Error::bad_request(format!(
                "Password validation error: Cannot change password before minimum age {days} days is met. Contact your \
                 administrator to reset your password."
            ))),
            _ => Ok(()),
        }
    }

    /// How many of a user's last passwords are compared with a new one.
    pub(crate) fn unique_last_count(&self) -> u32 {
        self.rules.unique_last_count
    }

    pub(crate) fn reused(&self) -> Error {
        Error::bad_request(format!(
            "Password validation error: The new password cannot be identical to a previous password. The total number \
             which includes the new password must be unique is {}.",
            self.rules.unique_last_count
        ))
    }

    pub(crate) fn new_password(
        &self,
        hash: String,
        now: OffsetDateTime,
        self_service: bool,
        options: &Map<String, Value>,
    ) -> NewPassword {
        let set = |option: &str| options.get(option) == Some(&Value::Bool(true));
        let first_use =
            self.rules.change_upon_first_use && !self_service && !set("ignore_change_password_upon_first_use");
        let expires = if first_use {
            Some(now)
        } else {
            (self.rules.expires_days > 0 && !set("ignore_password_expiry")).then(|| now + DAY * self.rules.expires_days)
        };
        NewPassword { hash, created_at: clock::text(now), expires_at: expires.map(clock::text), self_service }
    }

    /// Whether an account was left alone for too long.
    pub(crate) fn inactive(
        &self,
        last_active_on: Option<&str>,
        options: &Map<String, Value>,
        now: OffsetDateTime,
    ) -> bool {
        if self.rules.inactive_days == 0 || options.get("ignore_user_inactivity") == Some(&Value::Bool(true)) {
            return false;
        }
        let last = last_active_on.and_then(|day| clock::parse(&format!("{day}T00:00:00.000000Z")));
        last.is_some_and(|last| last + DAY * self.rules.inactive_days <= now)
    }

    /// Today, for the account, if anybody wants to know.
    pub(crate) fn active_on(&self, now: OffsetDateTime) -> Option<String> {
        (self.rules.inactive_days > 0).then(|| now.date().to_string())
    }
}

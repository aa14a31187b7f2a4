//! Time as rows hold it, and the clock that everyone is handed.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use time::{
    OffsetDateTime, PrimitiveDateTime, UtcOffset, format_description::well_known::Rfc3339, macros::format_description,
};

/// Tells the time. Tests move theirs; nobody else reads the system's.
#[derive(Clone, Default)]
pub struct Clock {
    /// Seconds added to the system's clock.
    shift: Arc<AtomicI64>,
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({:+} s)", self.shift.load(Ordering::Relaxed))
    }
}

impl Clock {
    #[must_use]
    pub fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc() + time::Duration::seconds(self.shift.load(Ordering::Relaxed))
    }

    /// Now, as rows hold it.
    #[must_use]
    pub fn now_text(&self) -> String {
        text(self.now())
    }

    /// Moves this clock and all its clones, for tests.
    pub fn advance(&self, by: time::Duration) {
        self.shift.fetch_add(by.whole_seconds(), Ordering::Relaxed);
    }
}

/// `2026-01-02T03:04:05.000000Z`: sorts as text, and is what Identity shows.
#[must_use]
pub fn text(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
    at.to_offset(UtcOffset::UTC).format(format).unwrap_or_default()
}

/// `2026-01-02T03:04:05Z`: what Compute, Network and Images show. Takes a row's text.
#[must_use]
pub fn seconds(text: &str) -> String {
    match text.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => text.to_owned(),
    }
}

/// `2026-01-02T03:04:05.000000`: what a few of Compute's resources show. Takes a row's text.
#[must_use]
pub fn naive(text: &str) -> String {
    text.trim_end_matches('Z').to_owned()
}

/// A time as clients send it: RFC 3339, or without an offset (then UTC), or a date alone.
#[must_use]
pub fn parse(text: &str) -> Option<OffsetDateTime> {
    let text = text.trim().replacen(' ', "T", 1);
    if let Ok(at) = OffsetDateTime::parse(&text, &Rfc3339) {
        return Some(at.to_offset(UtcOffset::UTC));
    }
    let naive = text.trim_end_matches('Z');
    let long = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond]");
    let whole = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
    let minute = format_description!("[year]-[month]-[day]T[hour]:[minute]");
    for format in [long, whole, minute] {
        if let Ok(at) = PrimitiveDateTime::parse(naive, format) {
            return Some(at.assume_utc());
        }
    }
    let day = time::Date::parse(naive, format_description!("[year]-[month]-[day]")).ok()?;
    Some(day.midnight().assume_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_clients_write_them() {
        let want = parse("2026-01-02T03:04:05Z").unwrap();
        for same in [
            "2026-01-02T03:04:05+00:00",
            "2026-01-02T04:04:05+01:00",
            "2026-01-02 03:04:05",
            "2026-01-02T03:04:05.000000",
        ] {
            assert_eq!(parse(same), Some(want), "{same}");
        }
        assert_eq!(text(want), "2026-01-02T03:04:05.000000Z");
        assert_eq!(seconds(&text(want)), "2026-01-02T03:04:05Z");
        assert_eq!(parse("yesterday"), None);
        assert_eq!(parse("2026-13-02"), None);
    }
}

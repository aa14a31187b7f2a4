//! A server's share of a span of time.

use time::OffsetDateTime;

/// A server as usage reports need it.
#[derive(Clone, Debug)]
pub(super) struct Used {
    pub id: String,
    pub project_id: String,
    pub name: String,
    pub flavor: String,
    pub vcpus: i64,
    pub ram_mib: i64,
    pub disk_gib: i64,
    pub vm_state: String,
    pub launched_at: OffsetDateTime,
    /// `None`: it is there.
    pub terminated_at: Option<OffsetDateTime>,
}

/// The span asked for, as far as it has been: hours that are to come were used by nobody.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub start: OffsetDateTime,
    pub end: OffsetDateTime,
    pub now: OffsetDateTime,
}

impl Used {
    /// Hours of the span in which the server was there.
    pub fn hours(&self, span: Span) -> f64 {
        let from = self.launched_at.max(span.start);
        let to = self.terminated_at.unwrap_or(span.now).min(span.end).min(span.now);
        (to - from).as_seconds_f64().max(0.0) / 3600.0
    }

    /// Whole seconds from its start to its end, or until now.
    pub fn uptime_s(&self, now: OffsetDateTime) -> i64 {
        (self.terminated_at.unwrap_or(now) - self.launched_at).whole_seconds().max(0)
    }
}

/// Products of a server's size and its hours.
#[expect(clippy::cast_precision_loss, reason = "sizes are far below what a float holds exactly")]
pub(super) fn times(size: i64, hours: f64) -> f64 {
    size as f64 * hours
}

#[cfg(test)]
mod tests {
    use time::{Duration, macros::datetime};

    use super::*;

    #[test]
    fn only_hours_within_the_span_and_until_now_count() {
        let now = datetime!(2026-01-10 00:00 UTC);
        let span = Span { start: datetime!(2026-01-01 00:00 UTC), end: datetime!(2026-02-01 00:00 UTC), now };
        let mut used = Used {
            id: String::new(),
            project_id: String::new(),
            name: String::new(),
            flavor: String::new(),
            vcpus: 2,
            ram_mib: 1,
            disk_gib: 1,
            vm_state: "active".into(),
            launched_at: datetime!(2025-12-31 00:00 UTC),
            terminated_at: None,
        };
        assert!((used.hours(span) - 9.0 * 24.0).abs() < 1e-9, "from the start of the span until now");
        assert_eq!(used.uptime_s(now), 10 * 86_400);
        used.terminated_at = Some(span.start + Duration::hours(5));
        assert!((used.hours(span) - 5.0).abs() < 1e-9);
        used.terminated_at = Some(span.start - Duration::hours(5));
        assert!(used.hours(span).abs() < 1e-9, "it had ended before");
        assert!((times(2, 1.5) - 3.0).abs() < 1e-9);
    }
}

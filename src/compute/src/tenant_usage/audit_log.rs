//! How far the hosts are with the usage audits of a month. This cloud sends no such notifications, so no host ever ran
//! one: that is what the log says. Usage itself is in the reports.

use axum::extract::{Path, State};
use rest::{Ctx, Error, Reply, Result, target};
use serde_json::{Value, json};
use time::{Date, Month, OffsetDateTime, macros::format_description};

use super::policy;
use crate::App;

/// The last whole month before a time: from its first day to the first day of the next.
fn period(before: OffsetDateTime) -> Option<(Date, Date)> {
    let end = before.date().replace_day(1).ok()?;
    let (year, month) = match end.month() {
        Month::January => (end.year().checked_sub(1)?, Month::December),
        other => (end.year(), other.previous()),
    };
    Some((Date::from_calendar_date(year, month, 1).ok()?, end))
}

fn log(app: &App, before: OffsetDateTime) -> Result<Value> {
    let format = format_description!("[year]-[month]-[day] 00:00:00");
    let (beginning, ending) =
        period(before).ok_or_else(|| Error::bad_request("Invalid timestamp: no month is before it."))?;
    let text = |day: Date| day.format(format).map_err(Error::internal);
    Ok(json!({
        "hosts_not_run": [app.options.host_name],
        "log": {},
        "num_hosts": 1,
        "num_hosts_done": 0,
        "num_hosts_not_run": 1,
        "num_hosts_running": 0,
        "overall_status": "0 of 1 hosts done. 0 errors.",
        "period_beginning": text(beginning)?,
        "period_ending": text(ending)?,
        "total_errors": 0,
        "total_instances": 0,
    }))
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx) -> Result<Reply> {
    ctx.allow(policy::AUDIT_LIST, &target(&[]))?;
    Ok(Reply::ok(&json!({"instance_usage_audit_logs": log(&app, app.clock.now())?})))
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(before): Path<String>) -> Result<Reply> {
    ctx.allow(policy::AUDIT_SHOW, &target(&[]))?;
    let at =
        db::clock::parse(&before).ok_or_else(|| Error::bad_request(format!("Invalid timestamp for date {before}")))?;
    Ok(Reply::ok(&json!({"instance_usage_audit_log": log(&app, at)?})))
}

#[cfg(test)]
mod tests {
    use time::macros::{date, datetime};

    use super::*;

    #[test]
    fn the_period_is_the_last_whole_month() {
        assert_eq!(period(datetime!(2026-03-15 10:00 UTC)), Some((date!(2026 - 02 - 01), date!(2026 - 03 - 01))));
        assert_eq!(period(datetime!(2026-01-01 00:00 UTC)), Some((date!(2025 - 12 - 01), date!(2026 - 01 - 01))));
    }
}

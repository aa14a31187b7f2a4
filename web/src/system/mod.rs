//! The machine and the program: health, certificates, the audit trail, capacity, defaults. For administrators; the APIs
//! decide.

mod audit;
mod capacity;
mod certificates;
pub(crate) mod health;
mod quotas;

use axum::{
    Router,
    routing::{get, post},
};
use serde::{Deserialize, de::DeserializeOwned};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{Dashboard, api::Service, failure::Result, visit::Visit, words::Words};

pub(crate) fn routes() -> Router<Dashboard> {
    Router::new()
        .route("/system", get(health::show))
        .route("/system/services", post(health::service))
        .route("/system/support-bundle", get(health::bundle))
        .route("/certificates", get(certificates::show))
        .route("/certificates/rotate", post(certificates::rotate))
        .route("/certificates/intermediate", post(certificates::bring))
        .route("/certificates/reset", post(certificates::reset))
        .route("/audit", get(audit::show))
        .route("/resource-providers", get(capacity::placement))
        .route("/hypervisors", get(capacity::hypervisors))
        .route("/quota-defaults", get(quotas::show).post(quotas::save))
}

/// `links` of a list of ours.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Links {
    #[serde(default)]
    pub next: Option<String>,
}

/// How long until `at`, or since, in its largest unit.
pub(super) fn from_now(words: Words, at: &str, now: OffsetDateTime) -> String {
    let Ok(at) = OffsetDateTime::parse(at, &Rfc3339) else { return at.to_owned() };
    let left = at - now;
    let seconds = left.whole_seconds().abs();
    let text = match seconds {
        0..=119 => words.fill("{} seconds", &[&seconds]),
        120..=7199 => words.fill("{} minutes", &[&(seconds / 60)]),
        7200..=172_799 => words.fill("{} hours", &[&(seconds / 3600)]),
        172_800..=63_071_999 => words.fill("{} days", &[&(seconds / 86_400)]),
        _ => words.fill("{} years", &[&(seconds / 31_536_000)]),
    };
    if left.is_negative() { words.fill("{} ago", &[&text]) } else { words.fill("in {}", &[&text]) }
}

/// Seconds in their two largest units.
pub(super) fn span(words: Words, seconds: i64) -> String {
    match seconds {
        0..=3599 => words.fill("{} minutes", &[&(seconds / 60)]),
        3600..=86_399 => words.fill("{} hours, {} minutes", &[&(seconds / 3600), &(seconds % 3600 / 60)]),
        _ => words.fill("{} days, {} hours", &[&(seconds / 86_400), &(seconds % 86_400 / 3600)]),
    }
}

/// Names by id, as far as the user may see them: ids say little.
pub(super) async fn names(visit: &Visit, kind: &str) -> std::collections::HashMap<String, String> {
    #[derive(Deserialize)]
    struct Named {
        id: String,
        name: String,
    }
    let found: Result<serde_json::Map<String, serde_json::Value>> =
        visit.api.get(Service::Identity, &format!("/{kind}")).await;
    let list = found.ok().and_then(|mut found| found.remove(kind));
    let list: Vec<Named> = list.and_then(|list| serde_json::from_value(list).ok()).unwrap_or_default();
    list.into_iter().map(|named| (named.id, named.name)).collect()
}

/// What need not be seen, and what need not be there.
pub(super) async fn maybe<T: DeserializeOwned + Default>(visit: &Visit, service: Service, path: &str) -> Result<T> {
    Ok(visit.api.find(service, path).await?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn a_time_is_said_from_now_in_its_largest_unit() {
        let words = Words::of(&http::HeaderMap::new());
        let now = datetime!(2026-11-22 12:00 UTC);
        for (at, said) in [
            ("2026-11-22T12:00:30Z", "in 30 seconds"),
            ("2026-11-22T13:30:00.000000Z", "in 90 minutes"),
            ("2026-11-23T00:00:00Z", "in 12 hours"),
            ("2036-11-22T12:00:00Z", "in 10 years"),
            ("2026-11-12T12:00:00Z", "10 days ago"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(from_now(words, at, now), said);
        }
        assert_eq!(span(words, 90_061), "1 days, 1 hours");
    }
}

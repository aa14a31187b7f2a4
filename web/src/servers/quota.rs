//! How much of the quota is used, what a launch would add, and why it would not fit.

use serde::Deserialize;

use crate::{
    api::{Api, Service},
    failure::Result,
    show,
    words::{Words, t},
};

#[derive(Deserialize)]
struct Limits {
    limits: Inner,
}

#[derive(Deserialize)]
struct Inner {
    absolute: Absolute,
}

/// `GET /limits`, as far as it is shown. -1 is no limit.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Absolute {
    pub max_total_instances: i64,
    pub total_instances_used: i64,
    pub max_total_cores: i64,
    pub total_cores_used: i64,
    #[serde(rename = "maxTotalRAMSize")]
    pub max_total_ram: i64,
    #[serde(rename = "totalRAMUsed")]
    pub total_ram_used: i64,
}

/// What is in force for the project of the session.
///
/// # Errors
/// What Compute says.
pub async fn limits(api: &Api) -> Result<Absolute> {
    Ok(api.get::<Limits>(Service::Compute, "/limits").await?.limits.absolute)
}

/// One quota: used, what is added, and the limit.
#[derive(Clone, Debug)]
pub struct Gauge {
    pub label: String,
    pub used: String,
    pub adds: String,
    pub after: String,
    pub limit: String,
    /// 0 to 100, without and with what is added; nothing where there is no limit.
    pub percent: Option<i64>,
    pub percent_after: Option<i64>,
    pub over: bool,
}

/// A size of server, as far as quotas count it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Size {
    pub vcpus: i64,
    pub ram_mib: i64,
}

fn percent(used: i64, limit: i64) -> Option<i64> {
    (limit >= 0).then(|| if limit == 0 { 100 } else { (used.saturating_mul(100) / limit).clamp(0, 100) })
}

/// Every quota of servers with `count` more of a size.
#[must_use]
pub fn gauges(words: Words, limits: &Absolute, size: Size, count: i64) -> Vec<Gauge> {
    let plain = |number: i64| number.to_string();
    let gauge = |label: &str, used: i64, limit: i64, each: i64, text: &dyn Fn(i64) -> String| {
        let adds = each.saturating_mul(count);
        let after = used.saturating_add(adds);
        Gauge {
            label: label.to_owned(),
            used: text(used),
            adds: text(adds),
            after: text(after),
            limit: if limit < 0 { words.t("no limit").to_owned() } else { text(limit) },
            percent: percent(used, limit),
            percent_after: percent(after, limit),
            over: limit >= 0 && after > limit && adds > 0,
        }
    };
    vec![
        gauge(words.t("Servers"), limits.total_instances_used, limits.max_total_instances, 1, &plain),
        gauge(words.t("VCPUs"), limits.total_cores_used, limits.max_total_cores, size.vcpus, &plain),
        gauge(words.t("Memory"), limits.total_ram_used, limits.max_total_ram, size.ram_mib, &show::mib),
    ]
}

/// What is short, each in a sentence.
#[must_use]
pub fn shortages(words: Words, gauges: &[Gauge]) -> Vec<String> {
    let over = gauges.iter().filter(|gauge| gauge.over);
    let sentence = |gauge: &Gauge| {
        words.fill(
            t("The quota does not allow it: {}: {} of {} are used, and this takes {} more."),
            &[&gauge.label, &gauge.used, &gauge.limit, &gauge.adds],
        )
    };
    over.map(sentence).collect()
}

/// How many more servers of a size fit; `None` where nothing limits them.
#[must_use]
pub fn fitting(limits: &Absolute, size: Size) -> Option<i64> {
    let of = |limit: i64, used: i64, each: i64| (limit >= 0 && each > 0).then(|| (limit - used).max(0) / each);
    [
        of(limits.max_total_instances, limits.total_instances_used, 1),
        of(limits.max_total_cores, limits.total_cores_used, size.vcpus),
        of(limits.max_total_ram, limits.total_ram_used, size.ram_mib),
    ]
    .into_iter()
    .flatten()
    .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Words {
        Words::named("en").unwrap()
    }

    #[test]
    fn what_is_short_is_named_with_its_numbers() {
        let limits = Absolute {
            max_total_instances: 10,
            max_total_cores: 4,
            total_cores_used: 3,
            max_total_ram: -1,
            ..Absolute::default()
        };
        let size = Size { vcpus: 2, ram_mib: 1 << 20 };
        let short = shortages(words(), &gauges(words(), &limits, size, 1));
        assert_eq!(short, ["The quota does not allow it: VCPUs: 3 of 4 are used, and this takes 2 more."]);
        assert_eq!(fitting(&limits, size), Some(0));
        assert_eq!(fitting(&limits, Size { vcpus: 1, ram_mib: 1 }), Some(1));
        let none = Absolute { max_total_instances: -1, max_total_cores: -1, max_total_ram: -1, ..Absolute::default() };
        assert_eq!(fitting(&none, size), None);
        assert!(shortages(words(), &gauges(words(), &none, size, i64::MAX)).is_empty());
    }
}

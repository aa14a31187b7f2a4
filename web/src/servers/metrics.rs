//! `/servers/{id}/metrics`: what a running server uses, as Compute's diagnostics tell it.

use askama::Template;
use axum::{extract::Path, response::Response};
use serde::Deserialize;

use super::detail::Head;
use crate::{
    api::{Service, encoded},
    failure::{Failure, Result},
    frame::Frame,
    show,
    visit::Visit,
};

/// Diagnostics, in the words of Compute's API since 2.48.
#[derive(Clone, Debug, Default, Deserialize)]
struct Diagnostics {
    state: Option<String>,
    hypervisor: Option<String>,
    uptime: Option<i64>,
    num_cpus: Option<i64>,
    #[serde(default)]
    memory_details: MemoryDetails,
    #[serde(default)]
    cpu_details: Vec<CpuDetails>,
    #[serde(default)]
    nic_details: Vec<NicDetails>,
    #[serde(default)]
    disk_details: Vec<DiskDetails>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct MemoryDetails {
    /// MiB.
    maximum: Option<i64>,
    used: Option<i64>,
}

#[derive(Clone, Debug, Deserialize)]
struct CpuDetails {
    /// Nanoseconds.
    time: Option<i64>,
}

#[derive(Clone, Debug, Deserialize)]
struct NicDetails {
    mac_address: Option<String>,
    rx_octets: Option<i64>,
    tx_octets: Option<i64>,
}

#[derive(Clone, Debug, Deserialize)]
struct DiskDetails {
    read_bytes: Option<i64>,
    write_bytes: Option<i64>,
    read_requests: Option<i64>,
    write_requests: Option<i64>,
    errors_count: Option<i64>,
}

impl MemoryDetails {
    /// 0 to 100.
    fn percent(&self) -> Option<i64> {
        let (used, most) = self.used.zip(self.maximum)?;
        (most > 0).then(|| (used.saturating_mul(100) / most).clamp(0, 100))
    }
}

/// What is shown of it, as text.
struct View {
    memory: String,
    memory_most: String,
    memory_percent: Option<i64>,
    cpu_time: String,
    cpus: String,
    uptime: String,
    state: String,
    /// Bytes read, reads, bytes written, writes, errors.
    disks: Vec<[String; 5]>,
    /// MAC, received, sent.
    nics: Vec<[String; 3]>,
}

impl View {
    fn of(found: Diagnostics) -> Self {
        let none = || "–".to_owned();
        let times: Vec<i64> = found.cpu_details.iter().filter_map(|cpu| cpu.time).collect();
        let sum: i64 = times.iter().sum();
        let state = [found.state, found.hypervisor].into_iter().flatten().collect::<Vec<_>>();
        let disk = |disk: &DiskDetails| {
            [
                bytes(disk.read_bytes),
                number(disk.read_requests),
                bytes(disk.write_bytes),
                number(disk.write_requests),
                number(disk.errors_count),
            ]
        };
        let nic = |nic: NicDetails| [nic.mac_address.unwrap_or_else(none), bytes(nic.rx_octets), bytes(nic.tx_octets)];
        Self {
            memory: found.memory_details.used.map_or_else(none, show::mib),
            memory_most: found.memory_details.maximum.map_or_else(none, show::mib),
            memory_percent: found.memory_details.percent(),
            cpu_time: if times.is_empty() { none() } else { span(sum / 1_000_000_000) },
            cpus: number(found.num_cpus),
            uptime: found.uptime.map_or_else(none, span),
            state: state.join(" · "),
            disks: found.disk_details.iter().map(disk).collect(),
            nics: found.nic_details.into_iter().map(nic).collect(),
        }
    }
}

fn bytes(number: Option<i64>) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    number.map_or_else(|| "–".to_owned(), |number| show::bytes(number as f64))
}

fn number(number: Option<i64>) -> String {
    number.map_or_else(|| "–".to_owned(), |number| number.to_string())
}

/// `90061` is `1 d 1 h 1 min 1 s`.
fn span(seconds: i64) -> String {
    let parts = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut rest = seconds;
    let mut text = Vec::new();
    for (size, unit) in parts {
        if rest >= size {
            text.push(format!("{} {unit}", rest / size));
            rest %= size;
        }
    }
    if text.is_empty() { "0 s".to_owned() } else { text.join(" ") }
}

#[derive(Template)]
#[template(path = "servers/metrics.html")]
struct Page {
    frame: Frame,
    head: Head,
    found: Option<View>,
    refused: Option<Failure>,
}

/// `GET /servers/{id}/metrics`.
pub(super) async fn page(visit: Visit, Path(id): Path<String>) -> Result<Response> {
    let head = Head::of(&visit, &id, "/metrics").await?;
    let path = format!("/servers/{}/diagnostics", encoded(&id));
    let (found, refused) = match visit.api.get::<Diagnostics>(Service::Compute, &path).await {
        Ok(found) => (Some(View::of(found)), None),
        Err(failure) if failure.is_users() => (None, Some(failure)),
        Err(failure) => return Err(failure),
    };
    visit.page(&Page { frame: head.frame(&visit), head, found, refused })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_the_units_that_people_use() {
        assert_eq!(span(90_061), "1 d 1 h 1 min 1 s");
        assert_eq!(span(0), "0 s");
    }
}

//! Finds out what the screen shows: from the program's own socket, systemd, the kernel, and files of the appliance.
//!
//! Nothing here waits without a deadline, and nothing is read without a bound.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::{Config, NetworkSettings};
use serde_json::Value;

use super::model::{Facts, Health, NicFacts, Part, Service, Update};
use crate::network::{self, Changes, Nic, NicId, Places, System, is_link_local};
use crate::{first_boot, plain, run};

/// The program's unit.
pub const UNIT: &str = "solostack.service";
const REPORT_BYTES: u64 = 256 << 10;
/// The first look through a large database takes its time.
const REPORT_WITHIN: Duration = Duration::from_secs(20);
/// How long a NIC with a link may be without an address before it is said that nobody answers.
const DHCP_WITHIN: Duration = Duration::from_secs(15);
/// A clock need not be right at once.
const CLOCK_WITHIN_MIN: u64 = 3;
/// How much of any text of others is kept.
const TEXT_MAX: usize = 600;

/// What is remembered from look to look.
#[derive(Debug, Default)]
pub struct Finder {
    with_link_since: BTreeMap<String, Instant>,
    fingerprint: Option<String>,
    authority: Option<String>,
}

/// One look at everything.
impl Finder {
    pub fn look(&mut self, places: &Places, system: &dyn System, socket: &Path) -> (Facts, Arc<Config>) {
        let changes = Changes::new(places, system);
        let is_appliance = places.mark().exists();
        let late = if is_appliance { changes.tick().err() } else { None };
        let status = changes.status();
        let settings = network::section(&status.in_force).unwrap_or_default();
        let mut facts = Facts {
            version: version(places),
            uptime_min: uptime_min(),
            is_live: places.run().join("live").exists(),
            claim: first_line(&places.run().join("claim")),
            update: update(&places.state().join("update.json")),
            network_note: late.or(status.note).map(|text| short(&text)),
            network_waits_s: status.waits_s.filter(|_| is_appliance),
            ..Facts::default()
        };
        match report(socket) {
            Ok(report) => self.take(&report, &mut facts),
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
                facts.service = Service::Failed("the program does not answer; it is restarted if that goes on".into());
            }
            Err(_) => facts.service = service_of_systemd(),
        }
        if is_appliance {
            facts.parts.extend(of_this_machine(places, facts.claim.is_some()));
            facts.health = facts.parts.iter().map(|part| part.health).fold(facts.health, Ord::max);
        }
        let text = std::fs::read_to_string(places.config()).unwrap_or_default();
        let config = config::resolve(&text, &[]).unwrap_or_default();
        let nics = changes.nics();
        facts.urls = urls(self.authority.as_deref(), config.public_host.is_some(), &nics);
        facts.nics = nics.into_iter().map(|nic| self.dhcp(nic, &settings)).collect();
        facts.fingerprint.clone_from(&self.fingerprint);
        let timesync = places.at("/run/systemd/timesync");
        facts.clock_is_synchronised =
            (timesync.is_dir() && facts.uptime_min >= CLOCK_WITHIN_MIN).then(|| timesync.join("synchronized").exists());
        (facts, Arc::new(Config { network_settings: settings, ..config }))
    }

    fn take(&mut self, report: &Value, facts: &mut Facts) {
        let text = |value: &Value| value.as_str().map(short);
        facts.service = Service::Running;
        self.authority = text(&report["authority"]).or(self.authority.take());
        self.fingerprint = text(&report["ca_fingerprint"]).or(self.fingerprint.take());
        let health = |value: &Value| match value.as_str() {
            Some("ok") => Health::Ok,
            Some("degraded") => Health::Degraded,
            _ => Health::Failed,
        };
        facts.health = health(&report["health"]["state"]);
        for part in report["health"]["parts"].as_array().into_iter().flatten().take(64) {
            let (name, reason) = (text(&part["name"]).unwrap_or_default(), text(&part["reason"]).unwrap_or_default());
            if name == "hypervisor" {
                facts.hypervisor = Some(reason.clone());
            }
            let health = health(&part["state"]);
            if health != Health::Ok {
                facts.parts.push(Part { name, health, reason, advice: text(&part["advice"]) });
            }
        }
        facts.parts.sort_by_key(|part| std::cmp::Reverse(part.health));
    }

    fn dhcp(&mut self, nic: Nic, settings: &NetworkSettings) -> NicFacts {
        let v4 =
            |local: bool| nic.addresses.iter().any(|net| net.addr().is_ipv4() && is_link_local(net.addr()) == local);
        if !nic.has_link || nic.bond.is_some() || !asks_for_ipv4(&nic, settings) || v4(false) {
            self.with_link_since.remove(&nic.name);
            return NicFacts { nic, has_no_dhcp: false };
        }
        let since = *self.with_link_since.entry(nic.name.clone()).or_insert_with(Instant::now);
        // systemd-networkd takes a link-local address when nobody has answered.
        let has_no_dhcp = v4(true) || since.elapsed() >= DHCP_WITHIN;
        NicFacts { nic, has_no_dhcp }
    }
}

/// What the cloud has no part in, and does not know.
fn of_this_machine(places: &Places, is_unclaimed: bool) -> Vec<Part> {
    let part = |name: &str, reason: String, advice: &str| Part {
        name: name.into(),
        health: Health::Degraded,
        reason,
        advice: Some(advice.into()),
    };
    let mut parts = Vec::new();
    if let Some(reason) = first_line(&places.run().join("no-state")) {
        let reason = format!("all that is made is gone at the next restart: {reason}");
        parts.push(part("state partition", reason, "mend that before you use this cloud, and restart"));
    }
    // Once somebody has taken the cloud over it is of no use to anybody.
    let refused = first_boot::recorded(&places.state()).filter(|record| is_unclaimed && record.state == "refused");
    if let Some(record) = refused {
        let reason = format!("{} was not applied: {}", record.source, record.reason.unwrap_or_default());
        parts.push(part("first boot", short(&reason), "mend it and restart, or take this cloud over by its code"));
    }
    parts
}

fn asks_for_ipv4(nic: &Nic, settings: &NetworkSettings) -> bool {
    let is_it = |id: &str| match NicId::parse(id) {
        Ok(NicId::Mac(mac)) => mac == nic.mac,
        Ok(NicId::Name(name)) => name == nic.name,
        Err(_) => false,
    };
    let bond = settings.bonds.get(&nic.name).map(|bond| &bond.link);
    let vlan = settings.vlans.get(&nic.name).map(|vlan| &vlan.link);
    let interface = settings.interfaces.iter().find(|(id, _)| is_it(id)).map(|(_, link)| link);
    interface.or(bond).or(vlan).is_none_or(network::asks_for_ipv4)
}

fn short(text: &str) -> String {
    plain(text).chars().take(TEXT_MAX).collect()
}

fn first_line(path: &Path) -> Option<String> {
    let text = network::read_bounded(path, 4096).ok().flatten()?;
    let line = short(text.lines().next().unwrap_or_default().trim());
    (!line.is_empty()).then_some(line)
}

fn version(places: &Places) -> String {
    const OWN: &str = env!("CARGO_PKG_VERSION");
    match first_line(&places.mark()) {
        Some(image) if image != OWN => format!("{OWN}, image {image}"),
        _ => OWN.to_owned(),
    }
}

fn uptime_min() -> u64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split('.').next().and_then(|seconds| seconds.parse::<u64>().ok()).unwrap_or(0) / 60
}

fn update(path: &Path) -> Option<Update> {
    let text = network::read_bounded(path, 64 << 10).ok().flatten()?;
    let value: Value = serde_json::from_str(&text).ok()?;
    let text = |key: &str| value[key].as_str().map(short).unwrap_or_default();
    Some(Update {
        state: text("state"),
        version: text("version"),
        from: text("from"),
        reason: text("reason"),
        at: text("at"),
    })
}

/// What the program says of itself.
fn report(socket: &Path) -> std::io::Result<Value> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(REPORT_WITHIN))?;
    let mut bytes = Vec::new();
    stream.take(REPORT_BYTES).read_to_end(&mut bytes)?;
    serde_json::from_slice(&bytes).map_err(std::io::Error::from)
}

fn service_of_systemd() -> Service {
    let arguments = ["show", UNIT, "--property=ActiveState,SubState,Result"];
    let Ok(done) = run::run("systemctl", &arguments, Duration::from_secs(5)) else { return Service::Starting };
    let value = |key: &str| {
        done.out.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default().to_owned()
    };
    match (value("ActiveState").as_str(), value("SubState").as_str()) {
        ("failed", _) | (_, "auto-restart") => {
            let result = plain(&value("Result"));
            Service::Failed(format!("the cloud ended ({result}) and is started again; press L for the log"))
        }
        ("inactive" | "deactivating", _) => Service::Stopped,
        _ => Service::Starting,
    }
}

/// Where a browser finds the dashboard, the best first. An authority that nobody chose is where the program thought to be when it
/// started: before a DHCP server answered, that is an IPv6 address or none.
fn urls(authority: Option<&str>, is_chosen: bool, nics: &[Nic]) -> Vec<String> {
    let (host, port) = split(authority.unwrap_or_default());
    let url = |host: &str| format!("https://{host}{port}/");
    let shown = |address: IpAddr| match address {
        IpAddr::V4(address) => url(&address.to_string()),
        IpAddr::V6(address) => url(&format!("[{address}]")),
    };
    let mut urls = Vec::new();
    let bare = host.trim_matches(['[', ']']);
    let is_ours = |address: IpAddr| nics.iter().any(|nic| nic.routable().any(|own| own == address));
    match bare.parse::<IpAddr>() {
        // A name that the operator chose.
        Err(_) if !bare.is_empty() && bare != "localhost" => urls.push(url(bare)),
        Ok(address) if is_ours(address) && (is_chosen || address.is_ipv4()) => urls.push(shown(address)),
        _ => (),
    }
    let mut addresses: Vec<IpAddr> = nics.iter().flat_map(Nic::routable).collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    if addresses.is_empty() {
        addresses = nics.iter().flat_map(|nic| nic.addresses.iter()).map(|net| net.addr()).collect();
        addresses.retain(IpAddr::is_ipv4);
    }
    let has_address = !addresses.is_empty();
    urls.extend(addresses.into_iter().map(shown));
    if has_address {
        urls.push(url("solostack.local"));
    }
    let mut seen = std::collections::BTreeSet::new();
    urls.retain(|url| seen.insert(url.clone()));
    if urls.len() > 3 {
        urls.truncate(2);
        urls.push(url("solostack.local"));
    }
    urls
}

/// Host, and port with its colon if it is not the usual.
fn split(authority: &str) -> (&str, String) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') && port.parse::<u16>().is_ok() && !host.is_empty() => {
            (host, if port == "443" { String::new() } else { format!(":{port}") })
        }
        _ => (authority, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nic(addresses: &[&str]) -> Nic {
        Nic {
            name: "eno1".into(),
            has_link: true,
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            ..Nic::default()
        }
    }

    #[test]
    fn the_address_for_a_browser_is_one_that_works() {
        for (authority, addresses, wanted) in [
            (
                Some("cloud.example"),
                &["192.0.2.10/24"][..],
                &["https://cloud.example/", "https://192.0.2.10/", "https://solostack.local/"][..],
            ),
            (
                Some("192.0.2.10:8443"),
                &["192.0.2.10/24"],
                &["https://192.0.2.10:8443/", "https://solostack.local:8443/"],
            ),
            // What was there at the start is not there any more.
            (
                Some("127.0.0.1"),
                &["192.0.2.10/24", "2001:db8::1/64"],
                &["https://192.0.2.10/", "https://[2001:db8::1]/", "https://solostack.local/"],
            ),
            (None, &["169.254.7.9/16", "fe80::1/64"], &["https://169.254.7.9/", "https://solostack.local/"]),
            (Some("[2001:db8::1]"), &["2001:db8::1/64"], &["https://[2001:db8::1]/", "https://solostack.local/"]),
            (None, &[], &[]),
            // It came before the other.
            (
                Some("[2001:db8::1]"),
                &["192.0.2.10/24", "2001:db8::1/64"],
                &["https://192.0.2.10/", "https://[2001:db8::1]/", "https://solostack.local/"],
            ),
        ] {
            assert_eq!(urls(authority, false, &[nic(addresses)]), wanted, "{authority:?}");
        }
        let both = [nic(&["192.0.2.10/24", "2001:db8::1/64"])];
        assert_eq!(urls(Some("[2001:db8::1]"), true, &both)[0], "https://[2001:db8::1]/");
    }

    #[test]
    fn a_nic_that_nobody_answers_says_so_and_one_with_a_fixed_address_does_not() {
        let mut finder = Finder::default();
        let settings = NetworkSettings::default();
        assert!(finder.dhcp(nic(&["169.254.7.9/16"]), &settings).has_no_dhcp);
        assert!(!finder.dhcp(nic(&["192.0.2.10/24"]), &settings).has_no_dhcp);
        assert!(!finder.dhcp(nic(&[]), &settings).has_no_dhcp, "it has only begun to ask");
        let fixed = config::resolve("[network_settings.interface.eno1]\ndhcp = \"no\"", &[]).unwrap().network_settings;
        assert!(!finder.dhcp(nic(&["169.254.7.9/16"]), &fixed).has_no_dhcp);
    }

    #[test]
    fn what_this_machine_lacks_is_said_whatever_the_cloud_says() {
        let root = tempfile::tempdir().unwrap();
        let places = Places::under(root.path());
        assert_eq!(of_this_machine(&places, true), []);
        std::fs::create_dir_all(places.run()).unwrap();
        std::fs::create_dir_all(places.state()).unwrap();
        std::fs::write(places.run().join("no-state"), "no room on vda\u{1b}[2J\n").unwrap();
        let record =
            r#"{"state":"refused","source":"the NoCloud seed","sha256":"","at":"","reason":"region: no\nmore"}"#;
        std::fs::write(places.state().join("first-boot.json"), record).unwrap();
        let said: Vec<_> = of_this_machine(&places, true).into_iter().map(|part| part.reason).collect();
        assert_eq!(said.len(), 2);
        assert!(said[0].ends_with("gone at the next restart: no room on vda?[2J"), "{}", said[0]);
        assert!(said[1].starts_with("the NoCloud seed was not applied: region: no"), "{}", said[1]);
        assert_eq!(of_this_machine(&places, false).len(), 1, "somebody has taken it over");
        std::fs::write(places.state().join("first-boot.json"), record.replace("refused", "applied")).unwrap();
        assert_eq!(of_this_machine(&places, true).len(), 1);
    }

    #[test]
    fn a_report_is_taken_without_what_a_terminal_obeys() {
        let report = serde_json::json!({"authority": "x\u{1b}[2J", "ca_fingerprint": "AA:BB", "health": {"state": "degraded",
            "parts": [{"name": "hypervisor", "state": "degraded", "reason": "tcg: no\u{7} KVM", "advice": null},
                {"name": "disk", "state": "failed", "reason": "full", "advice": "delete"}, {"name": "x", "state": "ok"}]}});
        let (mut finder, mut facts) = (Finder::default(), Facts::default());
        finder.take(&report, &mut facts);
        assert_eq!(facts.hypervisor.as_deref(), Some("tcg: no? KVM"));
        let names: Vec<_> = facts.parts.iter().map(|part| part.name.as_str()).collect();
        assert_eq!((names, finder.authority.as_deref()), (vec!["disk", "hypervisor"], Some("x?[2J")));
        finder.take(&serde_json::json!([1]), &mut facts);
        assert_eq!(facts.health, Health::Failed, "nonsense is not well");
    }
}

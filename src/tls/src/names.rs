//! The names and addresses that a server certificate speaks for.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustls::pki_types::{DnsName, ServerName};

/// More than any machine has; keeps the certificate inside one TLS record.
const MOST: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a DNS name nor an IP address")]
pub struct InvalidName(pub String);

/// One name in a certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum San {
    Dns(String),
    Ip(IpAddr),
}

impl San {
    /// Accepts `host`, `host.`, `*.zone`, `192.0.2.1`, `2001:db8::1` and `[2001:db8::1]`.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName(text.chars().take(300).collect());
        let bare = text.trim();
        let bare = bare.strip_prefix('[').and_then(|b| b.strip_suffix(']')).unwrap_or(bare);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Ok(Self::Ip(ip));
        }
        let name = bare.strip_suffix('.').unwrap_or(bare).to_ascii_lowercase();
        let checked = name.strip_prefix("*.").unwrap_or(&name);
        // A last label of digits only is a mistyped address, and clients read it as one.
        if checked.rsplit('.').next().is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit())) {
            return Err(invalid());
        }
        DnsName::try_from(checked).map_err(|_| invalid())?;
        Ok(Self::Dns(name))
    }

    pub(crate) fn server_name(&self) -> Option<ServerName<'static>> {
        match self {
            // A wildcard is tried by a name below it.
            Self::Dns(name) => ServerName::try_from(name.replacen('*', "any", 1)).ok(),
            Self::Ip(ip) => Some(ServerName::IpAddress((*ip).into())),
        }
    }
}

impl std::fmt::Display for San {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

/// What clients call this machine. Normalised: lower case, sorted, without repetition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    host: San,
    others: BTreeSet<San>,
}

impl Names {
    /// `host` is the name or address in the URLs we hand out; a brought intermediate must be allowed to vouch for it.
    pub fn new(
        host: &str,
        dns: impl IntoIterator<Item = impl AsRef<str>>,
        ips: impl IntoIterator<Item = IpAddr>,
    ) -> Result<Self, InvalidName> {
        let mut others = BTreeSet::new();
        for name in dns {
            others.insert(San::parse(name.as_ref())?);
        }
        others.extend(ips.into_iter().map(San::Ip));
        Ok(Self::of(San::parse(host)?, others))
    }

    fn of(host: San, mut others: BTreeSet<San>) -> Self {
        others.remove(&host);
        while others.len() >= MOST {
            others.pop_last();
        }
        Self { host, others }
    }

    /// Only this machine itself: what there is before anybody said more.
    pub fn local() -> Self {
        let loopback = [San::Ip(Ipv4Addr::LOCALHOST.into()), San::Ip(Ipv6Addr::LOCALHOST.into())];
        Self::of(San::Dns("localhost".into()), loopback.into())
    }

    /// Everything this machine is known by now: the host name (and its full form where `/etc/hosts` has one), the
    /// addresses of its interfaces, and the loopback names. `host` leads when given.
    pub fn of_this_machine(host: Option<&str>) -> Result<Self, InvalidName> {
        let mut others = BTreeSet::from([Self::local().host]);
        others.extend(Self::local().others);
        let hostname = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        let own = hostname.as_deref().and_then(|name| San::parse(name).ok());
        if let Some(San::Dns(name)) = &own {
            let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
            others.extend(aliases(&hosts, name));
        }
        others.extend(own.clone());
        if let Ok(interfaces) = nix::ifaddrs::getifaddrs() {
            for address in interfaces.filter_map(|interface| interface.address) {
                let ip = if let Some(v4) = address.as_sockaddr_in() {
                    IpAddr::V4(v4.ip())
                } else if let Some(v6) = address.as_sockaddr_in6() {
                    IpAddr::V6(v6.ip())
                } else {
                    continue;
                };
                if is_reachable(ip) {
                    others.insert(San::Ip(ip));
                }
            }
        }
        let host = match host {
            Some(host) => San::parse(host)?,
            None => own.unwrap_or_else(|| Self::local().host),
        };
        Ok(Self::of(host, others))
    }

    /// The name or address in the URLs we hand out.
    pub fn host(&self) -> String {
        self.host.to_string()
    }

    /// Every name and address as text, `host` first.
    pub fn to_strings(&self) -> Vec<String> {
        self.all().map(ToString::to_string).collect()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &San> {
        std::iter::once(&self.host).chain(&self.others)
    }

    pub(crate) fn host_san(&self) -> &San {
        &self.host
    }

    /// One per line, `host` first.
    pub(crate) fn to_file(&self) -> String {
        self.to_strings().join("\n") + "\n"
    }

    pub(crate) fn from_file(text: &str) -> Option<Self> {
        let mut lines = text.lines().filter(|line| !line.trim().is_empty()).map(San::parse);
        let host = lines.next()?.ok()?;
        Some(Self::of(host, lines.filter_map(Result::ok).collect()))
    }
}

/// Link-local and loopback addresses mean something else on every machine, so a certificate must not vouch for them.
fn is_reachable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !(ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || ip.is_multicast()),
        IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified() || ip.is_multicast()),
    }
}

/// The other names on the lines of an `/etc/hosts` that carry `name`.
fn aliases(hosts: &str, name: &str) -> Vec<San> {
    let mut found = Vec::new();
    for line in hosts.lines() {
        let words: Vec<_> = line.split('#').next().unwrap_or_default().split_whitespace().skip(1).collect();
        if words.iter().any(|word| word.eq_ignore_ascii_case(name)) {
            found.extend(words.into_iter().filter_map(|word| San::parse(word).ok()));
        }
    }
    found.truncate(20);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_and_said_once() {
        let names = Names::new(
            "Cloud.Example.",
            ["cloud.example", "B.example", "*.apps.example"],
            ["192.0.2.1".parse().unwrap(), "192.0.2.1".parse().unwrap()],
        )
        .unwrap();
        assert_eq!(names.to_strings(), ["cloud.example", "*.apps.example", "b.example", "192.0.2.1"]);
        assert_eq!(Names::from_file(&names.to_file()), Some(names));
    }

    #[test]
    fn an_address_may_be_the_host_and_may_stand_in_brackets() {
        let names = Names::new("[2001:DB8::1]", ["localhost"], []).unwrap();
        assert_eq!(names.host(), "2001:db8::1");
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_text() {
        for bad in ["", "a b", "-", "exa mple.org", "http://x", "x/y", "1.2.3", "300.1.1.1", "a..b", "*", "*.", "a.*.b"]
        {
            assert_eq!(Names::new(bad, ["localhost"], []).unwrap_err(), InvalidName(bad.into()), "{bad}");
        }
    }

    #[test]
    fn the_full_name_of_the_machine_comes_from_the_hosts_file() {
        let hosts = "127.0.0.1 localhost\n127.0.1.1 box.lab.example box # main\n# 1.2.3.4 other box\n";
        assert_eq!(aliases(hosts, "BOX"), [San::Dns("box.lab.example".into()), San::Dns("box".into())]);
    }

    #[test]
    fn this_machine_is_called_localhost_too() {
        let names = Names::of_this_machine(Some("cloud.example")).unwrap().to_strings();
        assert_eq!(names[0], "cloud.example");
        for local in ["localhost", "127.0.0.1", "::1"] {
            assert!(names.iter().any(|n| n == local), "{names:?}");
        }
    }
}

//! The machine around the cloud: where its log goes, who reads its numbers, how it comes to its administrator, its name.

use std::path::PathBuf;

use super::{
    Config,
    file::Values,
    keys::{Key, Kind, check_host, check_path},
};

pub(crate) const SYSLOG_ADDRESS: Key = Key {
    name: "log.syslog.address",
    kind: Kind::Text { default: None, check: check_host_and_port },
    doc: "A syslog server that takes the log too (RFC 5424, octet counting), as in logs.example:6514. What it does not \
          take in time is kept for a while and then lost; /metrics counts that.",
};

pub(crate) const SYSLOG_TRANSPORT: Key = Key {
    name: "log.syslog.transport",
    kind: Kind::Choice { default: "tls", of: &["tls", "tcp"] },
    doc: "tls (RFC 5425) shows the log to nobody on the way; tcp does.",
};

pub(crate) const SYSLOG_CA_FILE: Key = Key {
    name: "log.syslog.ca_file",
    kind: Kind::Text { default: None, check: check_path },
    doc: "PEM file with the authorities that vouch for the server, instead of the system's.",
};

pub(crate) const SYSLOG_FACILITY: Key = Key {
    name: "log.syslog.facility",
    kind: Kind::Choice {
        default: "daemon",
        of: &["user", "daemon", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"],
    },
    doc: "What the messages say they are of.",
};

pub(crate) const METRICS_TOKEN: Key = Key {
    name: "metrics.token_sha256",
    kind: Kind::Text { default: None, check: check_sha256 },
    doc: "Who shows the token with this SHA-256 (Authorization: Bearer TOKEN) reads everything at /metrics, single \
          servers too. Make both by: t=$(openssl rand -hex 32); echo $t; printf %s $t | sha256sum. Without it only \
          programs on this machine read there, and only sums.",
};

pub(crate) const CLAIM_MODE: Key = Key {
    name: "claim.mode",
    kind: Kind::Choice { default: "auto", of: &["auto", "on", "off"] },
    doc: "How a new cloud comes to its administrator. on: whoever enters the code of the console at /claim chooses the \
          password; off: a password is made up and stands in admin-openrc; auto is on in the appliance and off \
          elsewhere. Used at the first start only.",
};

pub(crate) const CLAIM_FILE: Key = Key {
    name: "claim.file",
    kind: Kind::Text { default: Some("/run/solostack/claim"), check: check_path },
    doc: "Where the code stands until somebody has claimed the cloud, mode 0600.",
};

pub(crate) const HOSTNAME: Key = Key {
    name: "machine.hostname",
    kind: Kind::Text { default: None, check: check_hostname },
    doc: "What the appliance is called. On other machines the operating system says it.",
};

pub(crate) const TIMEZONE: Key = Key {
    name: "machine.timezone",
    kind: Kind::Text { default: None, check: check_timezone },
    doc: "Of the appliance's console and logs, as in Europe/Berlin. The APIs speak UTC.",
};

/// How a new cloud comes to its administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub mode: Claiming,
    /// Where the code stands for the console.
    pub file: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claiming {
    /// By a code in the appliance, by `admin-openrc` elsewhere.
    Auto,
    On,
    Off,
}

/// What the appliance is called, and where it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    pub hostname: Option<String>,
    /// As in `Europe/Berlin`.
    pub timezone: Option<String>,
}

/// A server that takes the log too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syslog {
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
    pub tls: bool,
    /// PEM; `None`: the system's authorities.
    pub ca_file: Option<PathBuf>,
    /// RFC 5424's number.
    pub facility: u8,
}

/// Who may read `/metrics`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metrics {
    /// SHA-256 of the token that may see everything; `None`: nobody may.
    pub token_sha256: Option<[u8; 32]>,
}

pub(crate) fn syslog(values: &Values) -> Option<Syslog> {
    let address = values.text("log.syslog.address")?;
    let (host, port) = host_and_port(&address)?;
    let facility = values.text("log.syslog.facility");
    Some(Syslog {
        host: host.to_owned(),
        port,
        tls: values.text("log.syslog.transport").as_deref() == Some("tls"),
        ca_file: values.text("log.syslog.ca_file").map(PathBuf::from),
        facility: FACILITIES
            .iter()
            .find(|(name, _)| Some(*name) == facility.as_deref())
            .map_or(3, |(_, number)| *number),
    })
}

/// 64 hexadecimal digits.
fn sha256(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

pub(crate) fn metrics(values: &Values) -> Metrics {
    Metrics { token_sha256: values.text("metrics.token_sha256").and_then(|text| sha256(&text)) }
}

pub(crate) fn claim(values: &Values) -> Claim {
    Claim {
        mode: match values.text("claim.mode").as_deref() {
            Some("on") => Claiming::On,
            Some("off") => Claiming::Off,
            _ => Claiming::Auto,
        },
        file: values.text("claim.file").unwrap_or_default().into(),
    }
}

pub(crate) fn named(values: &Values) -> Machine {
    Machine { hostname: values.text("machine.hostname"), timezone: values.text("machine.timezone") }
}

/// What no key alone can get wrong.
pub(crate) fn problems(config: &Config, values: &Values) -> Vec<(&'static str, String)> {
    let mut problems = Vec::new();
    let (address, transport, ca_file) = (SYSLOG_ADDRESS.name, SYSLOG_TRANSPORT.name, SYSLOG_CA_FILE.name);
    // What only repeats a default asks for nothing.
    let asked = |key: &&Key| values.line(key.name).is_some() && values.get(key.name) != key.kind.default();
    if values.line(address).is_none()
        && let Some(key) = [&SYSLOG_TRANSPORT, &SYSLOG_CA_FILE, &SYSLOG_FACILITY].into_iter().find(asked)
    {
        problems.push((key.name, format!("{} is there, but {address} is missing", key.name)));
    }
    if config.syslog.as_ref().is_some_and(|syslog| !syslog.tls && syslog.ca_file.is_some()) {
        problems.push((ca_file, format!("{ca_file} is for tls alone, and {transport} is tcp")));
    }
    problems
}

/// RFC 5424's numbers.
pub(crate) const FACILITIES: [(&str, u8); 10] = [
    ("user", 1),
    ("daemon", 3),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// The host without brackets.
pub(crate) fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').filter(|inside| inside.parse::<std::net::Ipv6Addr>().is_ok())?,
        None if host.contains(':') => return None,
        None => host,
    };
    check_host(host).ok().map(|()| (host, port))
}

fn check_host_and_port(text: &str) -> Result<(), &'static str> {
    host_and_port(text).map(|_| ()).ok_or("is not a host and a port such as logs.example:6514 or [2001:db8::1]:6514")
}

fn check_hostname(text: &str) -> Result<(), &'static str> {
    let fits = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    // The kernel keeps 64 bytes.
    if text.len() <= 64 && text.split('.').all(fits) { Ok(()) } else { Err("is no host name of at most 64 characters") }
}

fn check_timezone(text: &str) -> Result<(), &'static str> {
    let fits = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-+".contains(&byte))
    };
    if text.len() <= 64 && text.split('/').all(fits) { Ok(()) } else { Err("is no time zone such as Europe/Berlin") }
}

fn check_sha256(text: &str) -> Result<(), &'static str> {
    match text.len() {
        64 if text.bytes().all(|byte| byte.is_ascii_hexdigit()) => Ok(()),
        _ => Err("is not a SHA-256 of 64 hexadecimal digits"),
    }
}

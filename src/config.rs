//! The configuration: one table of keys, one TOML file, flags above it.
//!
//! [`KEYS`] is the truth. The checker, the defaults, the documented sample and [`Config`] all come from it, so a key that
//! is not in it does not exist, and a key in it is documented, typed and bounded. Precedence: flag, file, default.
//! Nothing is guessed: an unknown key, a wrong type, a value out of range is refused, all of them at once, each with its
//! line and, for an unknown key, the nearest known one.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Read when it exists and no other file is named.
pub const DEFAULT_FILE: &str = "/etc/solostack/solostack.toml";

/// The ports that OpenStack tools know, in the order of [`SERVICE_PORTS`]: identity, compute, image, network, placement,
/// volume, console, metadata.
pub const SERVICE_PORTS: [u16; 8] = [5000, 8774, 9292, 9696, 8778, 8776, 6080, 8775];

const MOST_FILE_BYTES: u64 = 1 << 20;

/// One key of the file.
pub struct Key {
    /// As it stands in the file, with its section: `network.external_subnet`.
    pub name: &'static str,
    pub kind: Kind,
    /// For the sample: what it does, its unit, what else it may be.
    pub doc: &'static str,
}

/// What a key may hold, and what it holds when nobody says.
pub enum Kind {
    Bool(bool),
    Int { default: i64, min: i64, max: i64 },
    Float { default: f64, min: f64, max: f64 },
    Choice { default: &'static str, of: &'static [&'static str] },
    Text { default: Option<&'static str>, check: Check },
    List { default: &'static [&'static str], check: Check, most: usize },
}

/// Says what is wrong with a text, as the end of a sentence that begins with it.
pub type Check = fn(&str) -> Result<(), &'static str>;

const fn quota(name: &'static str, default: i64, doc: &'static str) -> Key {
    Key { name, kind: Kind::Int { default, min: -1, max: i32::MAX as i64 }, doc }
}

const fn port(name: &'static str, default: i64, doc: &'static str) -> Key {
    Key { name, kind: Kind::Int { default, min: 0, max: 65535 }, doc }
}

const fn ratio(name: &'static str, default: f64, doc: &'static str) -> Key {
    Key { name, kind: Kind::Float { default, min: 0.1, max: 100.0 }, doc }
}

pub const KEYS: &[Key] = &[
    Key {
        name: "state_dir",
        kind: Kind::Text { default: Some("/var/lib/solostack"), check: check_path },
        doc: "Everything that must outlive the program: database, keys, images, disks. One `serve` at a time.",
    },
    Key {
        name: "listen",
        kind: Kind::Text { default: Some("0.0.0.0"), check: check_ip },
        doc: "The address to listen on. 0.0.0.0 is every IPv4 address, :: every IPv6 and IPv4 address.",
    },
    port(
        "https_port",
        443,
        "The port of every API and of the dashboard, TLS. 0 takes any free port; the `ready` line says which.",
    ),
    port("http_port", 80, "The port that redirects to HTTPS and hands out the CA at /ca.crt, plain HTTP. 0 is off."),
    Key {
        name: "service_ports",
        kind: Kind::Bool(true),
        doc: "Whether to answer also on the ports that OpenStack tools know, TLS: 5000 8774 9292 9696 8778 8776 6080 8775.",
    },
    Key {
        name: "public_host",
        kind: Kind::Text { default: None, check: check_host },
        doc: "The name or address by which clients reach this machine: it stands in the catalog and in the certificate. \
              Without it the machine's own address is used.",
    },
    Key {
        name: "region",
        kind: Kind::Text { default: Some("RegionOne"), check: check_region },
        doc: "The region in the catalog.",
    },
    Key {
        name: "driver",
        kind: Kind::Choice { default: "auto", of: &["auto", "kvm", "tcg", "fake"] },
        doc: "How servers run: kvm in hardware, tcg emulated by QEMU, fake not at all (for tests of other software). \
              auto tries kvm and falls back to tcg; `solostack doctor` says why.",
    },
    Key {
        name: "self_provider",
        kind: Kind::Bool(true),
        doc: "Whether this machine registers itself in Placement. Off, Placement starts empty and no server can be placed.",
    },
    Key {
        name: "resume_guests_on_host_boot",
        kind: Kind::Bool(true),
        doc: "Whether servers that ran when the machine went down are started when it comes up again.",
    },
    Key {
        name: "log.format",
        kind: Kind::Choice { default: "text", of: &["text", "json"] },
        doc: "One line or one JSON object per event.",
    },
    Key {
        name: "log.level",
        kind: Kind::Choice { default: "info", of: &["error", "warn", "info", "debug", "trace"] },
        doc: "The least serious event that is logged.",
    },
    Key {
        name: "identity.token_lifetime_s",
        kind: Kind::Int { default: 3600, min: 60, max: 30 * 86400 },
        doc: "How long a token is good for, in seconds.",
    },
    Key {
        name: "network.external_subnet",
        kind: Kind::Text { default: Some("172.24.4.0/24"), check: check_subnet },
        doc: "The subnet of the `public` network, which exists after the first start: floating IPs come from it. The first \
              address is the host's, the host masquerades the others. Used at the first start only.",
    },
    Key {
        name: "network.private_subnet",
        kind: Kind::Text { default: Some("10.0.0.0/24"), check: check_subnet },
        doc: "The subnet of the `private` network, which exists after the first start. Used at the first start only.",
    },
    Key {
        name: "network.dns_servers",
        kind: Kind::List { default: &[], check: check_ip, most: 5 },
        doc: "Where DHCP servers forward DNS queries of guests. Empty takes the host's own resolvers.",
    },
    Key {
        name: "scheduling.cpu_allocation_ratio",
        kind: Kind::Float { default: 4.0, min: 0.1, max: 100.0 },
        doc: "Virtual processors sold per real one.",
    },
    ratio("scheduling.ram_allocation_ratio", 1.0, "Guest memory sold per memory there is."),
    ratio("scheduling.disk_allocation_ratio", 1.0, "Guest disk sold per disk there is."),
    Key {
        name: "scheduling.reserved_memory_mib",
        kind: Kind::Int { default: 512, min: 0, max: 1 << 30 },
        doc: "Memory that is never given to guests, in MiB.",
    },
    Key {
        name: "scheduling.reserved_disk_gib",
        kind: Kind::Int { default: 1, min: 0, max: 1 << 30 },
        doc: "Disk that is never given to guests, in GiB.",
    },
    Key {
        name: "limits.image_bytes",
        kind: Kind::Int { default: 1 << 40, min: 1 << 20, max: 1 << 50 },
        doc: "The largest image that may be uploaded, in bytes.",
    },
    quota(
        "quota.instances",
        10,
        "Servers in a project. This and every quota: the default of a project, -1 is unlimited.",
    ),
    quota("quota.cores", 20, "Virtual processors in a project."),
    quota("quota.ram_mib", 51200, "Memory in a project, in MiB."),
    quota("quota.key_pairs", 100, "Key pairs of a user."),
    quota("quota.metadata_items", 128, "Metadata items of a server."),
    quota("quota.server_groups", 10, "Server groups in a project."),
    quota("quota.server_group_members", 10, "Servers in a server group."),
    quota("quota.networks", 100, "Networks in a project."),
    quota("quota.subnets", 100, "Subnets in a project."),
    quota("quota.ports", 500, "Ports in a project."),
    quota("quota.routers", 10, "Routers in a project."),
    quota("quota.floating_ips", 50, "Floating IPs in a project."),
    quota("quota.security_groups", 10, "Security groups in a project."),
    quota("quota.security_group_rules", 100, "Security group rules in a project."),
];

fn check_path(text: &str) -> Result<(), &'static str> {
    match text {
        _ if text.contains('\0') => Err("holds a NUL character"),
        _ if !text.starts_with('/') => Err("is not an absolute path"),
        _ if text.len() > 1024 => Err("is longer than 1024 characters"),
        _ if Path::new(text).components().count() < 2 => Err("is the root directory"),
        _ => Ok(()),
    }
}

fn check_ip(text: &str) -> Result<(), &'static str> {
    text.parse::<IpAddr>().map(|_| ()).map_err(|_| "is not an IP address")
}

fn check_host(text: &str) -> Result<(), &'static str> {
    let refused = "is neither a host name nor an IP address (no scheme, no port, no path)";
    if text.contains('*') || text.trim() != text {
        return Err(refused);
    }
    tls::Names::new(text, [""; 0], []).map(|_| ()).map_err(|_| refused)
}

fn check_region(text: &str) -> Result<(), &'static str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    match text.len() {
        1..=255 if text.chars().all(fits) => Ok(()),
        _ => Err("is not 1 to 255 letters, digits, dots, hyphens and underscores"),
    }
}

fn check_subnet(text: &str) -> Result<(), &'static str> {
    let subnet: Ipv4Net = text.parse().map_err(|_| "is not an IPv4 subnet such as 192.0.2.0/24")?;
    let first = subnet.network();
    match subnet.prefix_len() {
        _ if subnet.addr() != first => Err("has bits set behind its prefix length"),
        8..=29 if first.is_loopback() || first.is_multicast() || first.is_link_local() || first.octets()[0] == 0 => {
            Err("is no subnet for hosts")
        }
        8..=29 => Ok(()),
        _ => Err("does not have a prefix length from 8 to 29"),
    }
}

/// Everything that can be configured, checked and complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Absolute.
    pub state_dir: PathBuf,
    pub listen: IpAddr,
    /// 0: any free port.
    pub https_port: u16,
    /// `None`: no plain HTTP at all.
    pub http_port: Option<u16>,
    /// Listen on [`SERVICE_PORTS`] too.
    pub service_ports: bool,
    /// A DNS name or an IP address, without brackets.
    pub public_host: Option<String>,
    pub region: String,
    pub driver: Driver,
    /// Register this machine in Placement.
    pub self_provider: bool,
    pub resume_guests_on_host_boot: bool,
    pub log: Log,
    pub identity: Identity,
    pub network: Network,
    pub scheduling: Scheduling,
    pub limits: Limits,
    pub quota: Quota,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    Auto,
    Kvm,
    Tcg,
    Fake,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub token_lifetime_s: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Of `public`. The host has its first address.
    pub external_subnet: Ipv4Net,
    /// Of `private`.
    pub private_subnet: Ipv4Net,
    /// Empty: the host's resolvers.
    pub dns_servers: Vec<IpAddr>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Scheduling {
    pub cpu_allocation_ratio: f64,
    pub ram_allocation_ratio: f64,
    pub disk_allocation_ratio: f64,
    pub reserved_memory_mib: u64,
    pub reserved_disk_gib: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    pub image_bytes: u64,
}

/// Defaults of a project; -1 is unlimited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    pub instances: i64,
    pub cores: i64,
    pub ram_mib: i64,
    pub key_pairs: i64,
    pub metadata_items: i64,
    pub server_groups: i64,
    pub server_group_members: i64,
    pub networks: i64,
    pub subnets: i64,
    pub ports: i64,
    pub routers: i64,
    pub floating_ips: i64,
    pub security_groups: i64,
    pub security_group_rules: i64,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// 1 is the first line. `None` for a flag, or for the file as a whole.
    pub line: Option<usize>,
    pub text: String,
}

/// Everything that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    pub file: Option<PathBuf>,
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            match (&self.file, problem.line) {
                (Some(file), Some(line)) => write!(f, "{}:{line}: {}", file.display(), problem.text)?,
                (Some(file), None) => write!(f, "{}: {}", file.display(), problem.text)?,
                (None, _) => write!(f, "{}", problem.text)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// A value as the file or a flag gives it.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<String>),
}

/// What a flag says about a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    /// A name of [`KEYS`].
    pub key: &'static str,
    /// As the user typed it, for messages.
    pub flag: &'static str,
    pub value: Value,
}

/// Reads `file`, or [`DEFAULT_FILE`] if that exists, and puts the flags above it.
pub fn load(file: Option<&Path>, overrides: &[Override]) -> Result<Config, ConfigError> {
    let default = Path::new(DEFAULT_FILE);
    let file = file.or_else(|| default.exists().then_some(default));
    let whole =
        |text: String| ConfigError { file: file.map(Path::to_owned), problems: vec![Problem { line: None, text }] };
    let text = match file {
        None => String::new(),
        Some(path) => {
            let metadata = std::fs::metadata(path).map_err(|error| whole(format!("cannot be read: {error}")))?;
            if !metadata.is_file() {
                return Err(whole("is not a file".into()));
            }
            if metadata.len() > MOST_FILE_BYTES {
                return Err(whole("is larger than 1 MiB".into()));
            }
            std::fs::read_to_string(path).map_err(|error| whole(format!("cannot be read: {error}")))?
        }
    };
    resolve(&text, overrides).map_err(|problems| ConfigError { file: file.map(Path::to_owned), problems })
}

/// The configuration that `text` and `overrides` make together.
pub fn resolve(text: &str, overrides: &[Override]) -> Result<Config, Vec<Problem>> {
    let mut values = Values::default();
    let mut problems = Vec::new();
    match DeTable::parse(text) {
        Ok(table) => read_table(text, "", table.get_ref(), &mut values, &mut problems),
        Err(error) => problems.push(Problem {
            line: error.span().map(|span| line_of(text, &span)),
            text: format!("not TOML: {}", error.message().trim()),
        }),
    }
    for Override { key, flag, value } in overrides {
        let Some(known) = KEYS.iter().find(|known| known.name == *key) else { continue };
        match known.kind.accept(value.clone()) {
            Ok(value) => values.0.insert(known.name, (value, None)),
            Err(reason) => {
                problems.push(Problem { line: None, text: format!("{flag}: {reason}") });
                None
            }
        };
    }
    let config = Config::from(&values);
    if problems.is_empty() {
        config.check_together(&values, &mut problems);
    }
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

fn line_of(text: &str, span: &Range<usize>) -> usize {
    text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1
}

/// Checked values, by key, each with the line that gave it.
#[derive(Default)]
struct Values(BTreeMap<&'static str, (Value, Option<usize>)>);

fn read_table(text: &str, prefix: &str, table: &DeTable<'_>, values: &mut Values, problems: &mut Vec<Problem>) {
    for (key, value) in table {
        let name = format!("{prefix}{}", key.get_ref());
        let line = Some(line_of(text, &key.span()));
        let known = KEYS.iter().find(|known| known.name == name);
        let is_section =
            KEYS.iter().any(|known| known.name.strip_prefix(&name).is_some_and(|rest| rest.starts_with('.')));
        match (known, value.get_ref()) {
            (Some(known), value) => match plain(value).and_then(|value| known.kind.accept(value)) {
                Ok(value) => {
                    values.0.insert(known.name, (value, line));
                }
                Err(reason) => problems.push(Problem { line, text: format!("{name}: {reason}") }),
            },
            (None, DeValue::Table(inner)) if is_section || !inner.is_empty() => {
                read_table(text, &format!("{name}."), inner, values, problems);
            }
            (None, value) if is_section => {
                let found = describe(value);
                problems.push(Problem { line, text: format!("{name}: expected a section [{name}], found {found}") });
            }
            (None, _) => {
                let text = format!("unknown key {name}; the nearest known key is {}", nearest(&name));
                problems.push(Problem { line, text });
            }
        }
    }
}

/// The known key that looks most like `name`, which may also be right but in the wrong section.
fn nearest(name: &str) -> &'static str {
    let name = &name.to_ascii_lowercase();
    let last = |name: &'_ str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let likeness = |known: &str| {
        let whole = strsim::normalized_damerau_levenshtein(name, known).max(strsim::jaro_winkler(name, known) - 0.1);
        // Half for the bare key: `subnet` is like `private_subnet`, but `network.subnets` in full is nearer to itself.
        let bare = strsim::normalized_damerau_levenshtein(&last(name), &last(known));
        whole.max(bare * 0.95)
    };
    KEYS.iter()
        .map(|key| (likeness(key.name), key.name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or("state_dir", |(_, name)| name)
}

fn plain(value: &DeValue<'_>) -> Result<Value, String> {
    Ok(match value {
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Integer(value) => {
            let digits = value.as_str().replace('_', "");
            Value::Int(i64::from_str_radix(&digits, value.radix()).map_err(|_| format!("{digits} is out of range"))?)
        }
        DeValue::Float(value) => {
            let digits = value.as_str().replace('_', "");
            Value::Float(digits.parse().map_err(|_| format!("{digits} is not a number"))?)
        }
        DeValue::String(value) => Value::Text(value.to_string()),
        DeValue::Array(items) => {
            let text = |item: &Spanned<DeValue<'_>>| match item.get_ref() {
                DeValue::String(text) => Ok(text.to_string()),
                other => Err(format!("expected a list of texts in quotes, found {} in it", describe(other))),
            };
            Value::List(items.iter().map(text).collect::<Result<_, _>>()?)
        }
        other => return Err(format!("found {}", describe(other))),
    })
}

fn describe(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::Boolean(_) => "true or false",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::String(_) => "a text",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
        DeValue::Datetime(_) => "a date",
    }
}

/// A text of the user in a message: short, and on one line.
fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(100).collect::<String>())
}

impl Kind {
    /// The value if it is of this kind and within bounds; otherwise what is expected.
    fn accept(&self, value: Value) -> Result<Value, String> {
        match (self, value) {
            (Self::Bool(_), value @ Value::Bool(_)) => Ok(value),
            (Self::Int { min, max, .. }, Value::Int(value)) => {
                if (*min..=*max).contains(&value) {
                    Ok(Value::Int(value))
                } else {
                    Err(format!("{value} is not between {min} and {max}"))
                }
            }
            (Self::Float { .. }, Value::Int(value)) => self.accept(Value::Float(value as f64)),
            (Self::Float { min, max, .. }, Value::Float(value)) => {
                if (*min..=*max).contains(&value) {
                    Ok(Value::Float(value))
                } else {
                    Err(format!("{value} is not between {min} and {max}"))
                }
            }
            (Self::Choice { of, .. }, Value::Text(value)) => {
                if of.contains(&value.as_str()) {
                    Ok(Value::Text(value))
                } else {
                    Err(format!("{} is not one of {}", quoted(&value), of.join(", ")))
                }
            }
            (Self::Text { check, .. }, Value::Text(value)) => match check(&value) {
                Ok(()) => Ok(Value::Text(value)),
                Err(reason) => Err(format!("{} {reason}", quoted(&value))),
            },
            (Self::List { check, most, .. }, Value::List(values)) => {
                if values.len() > *most {
                    return Err(format!("holds {} entries, at most {most} are allowed", values.len()));
                }
                for value in &values {
                    check(value).map_err(|reason| format!("{} {reason}", quoted(value)))?;
                }
                Ok(Value::List(values))
            }
            (kind, value) => {
                let found = match value {
                    Value::Bool(_) => "true or false".into(),
                    Value::Int(value) => format!("the number {value}"),
                    Value::Float(value) => format!("the number {value}"),
                    Value::Text(value) => format!("the text {}", quoted(&value)),
                    Value::List(_) => "a list".into(),
                };
                Err(format!("expected {}, found {found}", kind.expected()))
            }
        }
    }

    fn expected(&self) -> String {
        match self {
            Self::Bool(_) => "true or false (without quotes)".into(),
            Self::Int { min, max, .. } => format!("a whole number from {min} to {max} (without quotes)"),
            Self::Float { min, max, .. } => format!("a number from {min} to {max} (without quotes)"),
            Self::Choice { of, .. } => format!("one of \"{}\"", of.join("\", \"")),
            Self::Text { .. } => "a text in quotes".into(),
            Self::List { .. } => "a list of texts, as in [\"192.0.2.53\"]".into(),
        }
    }

    fn default(&self) -> Option<Value> {
        Some(match self {
            Self::Bool(default) => Value::Bool(*default),
            Self::Int { default, .. } => Value::Int(*default),
            Self::Float { default, .. } => Value::Float(*default),
            Self::Choice { default, .. } => Value::Text((*default).into()),
            Self::Text { default, .. } => Value::Text((*default)?.into()),
            Self::List { default, .. } => Value::List(default.iter().map(ToString::to_string).collect()),
        })
    }
}

impl Values {
    fn get(&self, name: &str) -> Option<Value> {
        match self.0.get(name) {
            Some((value, _)) => Some(value.clone()),
            None => KEYS.iter().find(|key| key.name == name)?.kind.default(),
        }
    }

    fn line(&self, name: &str) -> Option<usize> {
        self.0.get(name).and_then(|(_, line)| *line)
    }

    // The kind of each key is checked before, and a test reads every key: the fallbacks are never used.

    fn bool(&self, name: &str) -> bool {
        matches!(self.get(name), Some(Value::Bool(true)))
    }

    fn int(&self, name: &str) -> i64 {
        if let Some(Value::Int(value)) = self.get(name) { value } else { 0 }
    }

    fn unsigned(&self, name: &str) -> u64 {
        u64::try_from(self.int(name)).unwrap_or(0)
    }

    fn port(&self, name: &str) -> u16 {
        u16::try_from(self.int(name)).unwrap_or(0)
    }

    fn float(&self, name: &str) -> f64 {
        if let Some(Value::Float(value)) = self.get(name) { value } else { 1.0 }
    }

    fn text(&self, name: &str) -> Option<String> {
        if let Some(Value::Text(value)) = self.get(name) { Some(value) } else { None }
    }

    fn parsed<T: std::str::FromStr>(&self, name: &str, fallback: T) -> T {
        self.text(name).and_then(|text| text.parse().ok()).unwrap_or(fallback)
    }
}

impl From<&Values> for Config {
    fn from(values: &Values) -> Self {
        let nowhere = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self {
            state_dir: values.text("state_dir").unwrap_or_default().into(),
            listen: values.parsed("listen", nowhere),
            https_port: values.port("https_port"),
            http_port: Some(values.port("http_port")).filter(|port| *port != 0),
            service_ports: values.bool("service_ports"),
            public_host: values.text("public_host").map(|host| host.trim_matches(['[', ']']).to_owned()),
            region: values.text("region").unwrap_or_default(),
            driver: match values.text("driver").as_deref() {
                Some("kvm") => Driver::Kvm,
                Some("tcg") => Driver::Tcg,
                Some("fake") => Driver::Fake,
                _ => Driver::Auto,
            },
            self_provider: values.bool("self_provider"),
            resume_guests_on_host_boot: values.bool("resume_guests_on_host_boot"),
            log: Log {
                format: match values.text("log.format").as_deref() {
                    Some("json") => LogFormat::Json,
                    _ => LogFormat::Text,
                },
                level: match values.text("log.level").as_deref() {
                    Some("error") => "error",
                    Some("warn") => "warn",
                    Some("debug") => "debug",
                    Some("trace") => "trace",
                    _ => "info",
                },
            },
            identity: Identity { token_lifetime_s: values.unsigned("identity.token_lifetime_s") },
            network: Network {
                external_subnet: values.parsed("network.external_subnet", Ipv4Net::default()),
                private_subnet: values.parsed("network.private_subnet", Ipv4Net::default()),
                dns_servers: match values.get("network.dns_servers") {
                    Some(Value::List(servers)) => servers.iter().filter_map(|text| text.parse().ok()).collect(),
                    _ => Vec::new(),
                },
            },
            scheduling: Scheduling {
                cpu_allocation_ratio: values.float("scheduling.cpu_allocation_ratio"),
                ram_allocation_ratio: values.float("scheduling.ram_allocation_ratio"),
                disk_allocation_ratio: values.float("scheduling.disk_allocation_ratio"),
                reserved_memory_mib: values.unsigned("scheduling.reserved_memory_mib"),
                reserved_disk_gib: values.unsigned("scheduling.reserved_disk_gib"),
            },
            limits: Limits { image_bytes: values.unsigned("limits.image_bytes") },
            quota: Quota {
                instances: values.int("quota.instances"),
                cores: values.int("quota.cores"),
                ram_mib: values.int("quota.ram_mib"),
                key_pairs: values.int("quota.key_pairs"),
                metadata_items: values.int("quota.metadata_items"),
                server_groups: values.int("quota.server_groups"),
                server_group_members: values.int("quota.server_group_members"),
                networks: values.int("quota.networks"),
                subnets: values.int("quota.subnets"),
                ports: values.int("quota.ports"),
                routers: values.int("quota.routers"),
                floating_ips: values.int("quota.floating_ips"),
                security_groups: values.int("quota.security_groups"),
                security_group_rules: values.int("quota.security_group_rules"),
            },
        }
    }
}

impl Default for Config {
    /// What an empty file means.
    fn default() -> Self {
        Self::from(&Values::default())
    }
}

impl Config {
    /// What no key alone can get wrong.
    fn check_together(&self, values: &Values, problems: &mut Vec<Problem>) {
        let mut refuse = |key: &str, text: String| problems.push(Problem { line: values.line(key), text });
        if self.http_port == Some(self.https_port) {
            refuse("http_port", format!("http_port and https_port are both {}", self.https_port));
        }
        if self.service_ports {
            for (key, port) in [("https_port", Some(self.https_port)), ("http_port", self.http_port)] {
                if let Some(port) = port.filter(|port| SERVICE_PORTS.contains(port)) {
                    refuse(key, format!("{key} is {port}, which service_ports takes; set service_ports to false"));
                }
            }
        }
        let Network { external_subnet, private_subnet, .. } = &self.network;
        if external_subnet.contains(private_subnet) || private_subnet.contains(external_subnet) {
            let text = format!(
                "network.private_subnet {private_subnet} and network.external_subnet {external_subnet} overlap"
            );
            refuse("network.private_subnet", text);
        }
    }

    /// Every port that is listened on, with the key that asks for it.
    pub fn ports(&self) -> Vec<(u16, &'static str)> {
        let mut ports = vec![(self.https_port, "https_port")];
        ports.extend(self.http_port.map(|port| (port, "http_port")));
        if self.service_ports {
            ports.extend(SERVICE_PORTS.map(|port| (port, "service_ports")));
        }
        ports.retain(|(port, _)| *port != 0);
        ports
    }
}

/// A file with every key, its meaning and its default, all of them commented out.
pub fn sample() -> String {
    let mut text = String::from(
        "# Solostack reads this file from /etc/solostack/solostack.toml, or from where `--config` says. Nothing in it is\n\
         # needed. Check it with `solostack config check FILE`. Flags win over the file.\n",
    );
    let mut section = "";
    for key in KEYS {
        let (own_section, bare) = key.name.rsplit_once('.').unwrap_or(("", key.name));
        if own_section != section {
            section = own_section;
            text.push_str(&format!("\n[{section}]\n"));
        }
        text.push('\n');
        for line in wrap(key.doc, 116) {
            text.push_str(&format!("# {line}\n"));
        }
        let value = match key.kind.default() {
            None => "\"\"".into(),
            Some(Value::Bool(value)) => value.to_string(),
            Some(Value::Int(value)) => value.to_string(),
            Some(Value::Float(value)) => format!("{value:?}"),
            Some(Value::Text(value)) => format!("{value:?}"),
            Some(Value::List(values)) => format!("{values:?}"),
        };
        let values = match &key.kind {
            Kind::Choice { of, .. } => format!("    # {}", of.join(", ")),
            _ => String::new(),
        };
        text.push_str(&format!("#{bare} = {value}{values}\n"));
    }
    text
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let count = lines.len();
        let line = &mut lines[count - 1];
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let problems = resolve(text, &[]).expect_err(text);
        problems.into_iter().map(|p| format!("{}: {}", p.line.map_or("-".into(), |l| l.to_string()), p.text)).collect()
    }

    #[test]
    fn an_empty_file_is_every_default_and_every_default_is_allowed() {
        assert_eq!(resolve("", &[]).unwrap(), Config::default());
        for key in KEYS {
            if let Some(default) = key.kind.default() {
                assert_eq!(key.kind.accept(default.clone()), Ok(default), "{}", key.name);
            }
        }
        let config = Config::default();
        assert_eq!(config.state_dir, Path::new("/var/lib/solostack"));
        assert_eq!((config.https_port, config.http_port, config.service_ports), (443, Some(80), true));
        assert_eq!(config.network.external_subnet.to_string(), "172.24.4.0/24");
        assert_eq!(config.scheduling.cpu_allocation_ratio, 4.0);
        assert_eq!(config.quota.ram_mib, 51200);
    }

    #[test]
    fn every_key_changes_the_configuration() {
        for key in KEYS {
            let other = match &key.kind {
                Kind::Bool(default) => (!default).to_string(),
                Kind::Int { default, min, max } => if default == max { min } else { max }.to_string(),
                Kind::Float { max, .. } => format!("{max:?}"),
                Kind::Choice { default, of } => format!("{:?}", of.iter().find(|v| *v != default).unwrap()),
                Kind::Text { .. } => {
                    let candidates = ["/elsewhere", "192.0.2.0/24", "192.0.2.1"];
                    let fits = candidates.iter().find(|v| key.kind.accept(Value::Text(v.to_string())).is_ok());
                    format!("{:?}", fits.unwrap())
                }
                Kind::List { .. } => "[\"192.0.2.1\"]".into(),
            };
            let config =
                resolve(&format!("{} = {other}", key.name), &[]).unwrap_or_else(|e| panic!("{}: {e:?}", key.name));
            assert_ne!(config, Config::default(), "{} is read", key.name);
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_nearest_known_one() {
        for (text, problem) in [
            ("https-port = 1", "1: unknown key https-port; the nearest known key is https_port"),
            ("\n# x\nHTTPS_port = 1", "3: unknown key HTTPS_port; the nearest known key is https_port"),
            (
                "[network]\nexternal_subnt = 1",
                "2: unknown key network.external_subnt; the nearest known key is network.external_subnet",
            ),
            (
                "[netwrok]\ndns_servers = []",
                "2: unknown key netwrok.dns_servers; the nearest known key is network.dns_servers",
            ),
            ("[network]\nregion = \"x\"", "2: unknown key network.region; the nearest known key is region"),
            ("loglevel = \"info\"", "1: unknown key loglevel; the nearest known key is log.level"),
            ("state = \"/x\"", "1: unknown key state; the nearest known key is state_dir"),
            ("[quota]\nram = 3", "2: unknown key quota.ram; the nearest known key is quota.ram_mib"),
            ("[quotas]", "1: unknown key quotas; the nearest known key is quota."),
        ] {
            let found = problems(text);
            assert!(found.len() == 1 && found[0].starts_with(problem), "{found:?}");
        }
    }

    #[test]
    fn wrong_types_and_values_out_of_range_are_refused_with_what_is_expected() {
        for (text, problem) in [
            (
                "https_port = \"443\"",
                "https_port: expected a whole number from 0 to 65535 (without quotes), found the text \"443\"",
            ),
            ("https_port = 65536", "https_port: 65536 is not between 0 and 65535"),
            ("https_port = -1", "https_port: -1 is not between 0 and 65535"),
            ("https_port = 99999999999999999999", "https_port: 99999999999999999999 is out of range"),
            ("https_port = 1.5", "https_port: expected a whole number"),
            ("service_ports = \"on\"", "service_ports: expected true or false (without quotes), found the text \"on\""),
            ("driver = \"vmware\"", "driver: \"vmware\" is not one of auto, kvm, tcg, fake"),
            ("driver = true", "driver: expected one of \"auto\", \"kvm\", \"tcg\", \"fake\", found true or false"),
            ("listen = \"localhost\"", "listen: \"localhost\" is not an IP address"),
            ("state_dir = \"here\"", "state_dir: \"here\" is not an absolute path"),
            ("state_dir = \"/\"", "state_dir: \"/\" is the root directory"),
            ("public_host = \"https://x\"", "public_host: \"https://x\" is neither"),
            ("public_host = \"*.x.org\"", "public_host: \"*.x.org\" is neither"),
            ("public_host = \"\"", "public_host: \"\" is neither"),
            ("region = \"a b\"", "region: \"a b\" is not 1 to 255"),
            ("network.external_subnet = \"10.0.0.1/24\"", "network.external_subnet: \"10.0.0.1/24\" has bits set"),
            ("network.external_subnet = \"10.0.0.0/30\"", "network.external_subnet: \"10.0.0.0/30\" does not have"),
            (
                "network.external_subnet = \"224.0.0.0/24\"",
                "network.external_subnet: \"224.0.0.0/24\" is no subnet for hosts",
            ),
            ("network.dns_servers = \"1.1.1.1\"", "network.dns_servers: expected a list"),
            (
                "network.dns_servers = [1]",
                "network.dns_servers: expected a list of texts in quotes, found a whole number in it",
            ),
            ("network.dns_servers = [\"x\"]", "network.dns_servers: \"x\" is not an IP address"),
            (
                "network.dns_servers = [\"::1\",\"::1\",\"::1\",\"::1\",\"::1\",\"::1\"]",
                "network.dns_servers: holds 6 entries",
            ),
            ("scheduling.cpu_allocation_ratio = 0", "scheduling.cpu_allocation_ratio: 0 is not between 0.1 and 100"),
            ("scheduling.cpu_allocation_ratio = nan", "scheduling.cpu_allocation_ratio: NaN is not between"),
            ("quota.cores = -2", "quota.cores: -2 is not between -1 and 2147483647"),
            ("network = 3", "network: expected a section [network], found a whole number"),
            ("[https_port]", "https_port: found a section"),
            ("log = 2020-01-01", "log: expected a section [log], found a date"),
            ("a = ", "not TOML: "),
            ("driver = \"kvm\"\ndriver = \"tcg\"", "not TOML: duplicate key"),
        ] {
            let found = problems(text);
            assert!(found.len() == 1 && found[0].contains(problem), "{text}: {found:?}");
        }
        let config = resolve("scheduling.cpu_allocation_ratio = 8\nlimits.image_bytes = 0x1_000_000", &[]).unwrap();
        assert_eq!((config.scheduling.cpu_allocation_ratio, config.limits.image_bytes), (8.0, 0x100_0000));
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let found = problems("htps_port = 1\ndriver = 3\n\n[log]\nlevel = \"loud\"\n");
        assert_eq!(found.iter().map(|text| &text[..2]).collect::<Vec<_>>(), ["1:", "2:", "5:"]);
    }

    #[test]
    fn keys_that_contradict_each_other_are_refused() {
        for (text, problem) in [
            ("https_port = 80", "http_port and https_port are both 80"),
            ("https_port = 5000", "https_port is 5000, which service_ports takes"),
            ("[network]\nprivate_subnet = \"172.24.0.0/16\"", "2: network.private_subnet 172.24.0.0/16 and"),
        ] {
            let found = problems(text);
            assert!(found.len() == 1 && found[0].contains(problem), "{found:?}");
        }
        resolve("https_port = 5000\nservice_ports = false", &[]).unwrap();
        resolve("https_port = 0\nhttp_port = 0", &[]).unwrap();
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let flag = |value| [Override { key: "https_port", flag: "--https-port", value: Value::Int(value) }];
        assert_eq!(resolve("https_port = 8443", &[]).unwrap().https_port, 8443);
        assert_eq!(resolve("https_port = 8443", &flag(9443)).unwrap().https_port, 9443);
        let refused = resolve("", &flag(70000)).unwrap_err();
        assert_eq!(refused[0].text, "--https-port: 70000 is not between 0 and 65535");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        for (path, text) in [("/nowhere/x.toml", "/nowhere/x.toml: cannot be read: "), ("/", "/: is not a file")] {
            let error = load(Some(Path::new(path)), &[]).unwrap_err().to_string();
            assert!(error.starts_with(text), "{error}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"driver = \"\xff\"").unwrap();
        assert!(load(Some(file.path()), &[]).unwrap_err().to_string().contains("cannot be read"));
        std::fs::write(file.path(), "x = 1").unwrap();
        let error = load(Some(file.path()), &[]).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("{}:1: unknown key x; the nearest known key is {}", file.path().display(), nearest("x"))
        );
    }

    #[test]
    fn the_sample_documents_every_key_and_means_the_defaults() {
        let sample = sample();
        assert_eq!(resolve(&sample, &[]).unwrap(), Config::default());
        // Uncommented, it is still the defaults; only a key without a default has none to show.
        let live: Vec<_> = sample
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
            .filter(|line| !line.starts_with("public_host"))
            .collect();
        assert_eq!(resolve(&live.join("\n"), &[]).unwrap(), Config::default());
        let shown = live.iter().filter(|line| !line.starts_with(['#', '[']) && line.contains(" = ")).count();
        assert_eq!(shown, KEYS.len() - 1);
        assert!(sample.lines().all(|line| line.len() <= 120));
    }

    #[test]
    fn the_sample_in_the_documentation_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/solostack.toml");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/docs")).unwrap();
            std::fs::write(path, sample()).unwrap();
        }
        let stored = std::fs::read_to_string(path).unwrap_or_default();
        assert!(stored == sample(), "docs/solostack.toml is old; run this test with UPDATE_GOLDEN=1");
    }

    #[test]
    fn hostile_text_never_breaks_the_reader() {
        for text in [
            "\u{feff}",
            "\0",
            "a.b.c.d.e = 1",
            "[[network]]\n",
            "[a]\n[a]",
            "'' = 1",
            "\"\\u0000\" = 1",
            "= 1",
            "[",
            "🦀 = 1",
        ] {
            let _ = resolve(text, &[]);
        }
        let deep = format!("a = {}1{}", "[".repeat(5000), "]".repeat(5000));
        assert!(resolve(&deep, &[]).is_err());
        let deep = format!("a = {}1{}", "{a=".repeat(5000), "}".repeat(5000));
        assert!(resolve(&deep, &[]).is_err());
        let dotted = format!("{}a = 1", "a.".repeat(20_000));
        assert!(resolve(&dotted, &[]).is_err());
    }
}

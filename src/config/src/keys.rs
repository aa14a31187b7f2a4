//! Every key that there is: its kind, bounds, default and meaning.

use std::net::IpAddr;
use std::path::Path;

use ipnet::Ipv4Net;

use super::machine::{
    CLAIM_FILE, CLAIM_MODE, HOSTNAME, METRICS_TOKEN, SYSLOG_ADDRESS, SYSLOG_CA_FILE, SYSLOG_FACILITY, SYSLOG_TRANSPORT,
    TIMEZONE,
};
use super::network_settings::{self, DNS_SERVERS, NTP_SERVERS, SEARCH_DOMAINS};

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

const fn days(name: &'static str, doc: &'static str) -> Key {
    Key { name, kind: Kind::Int { default: 0, min: 0, max: 36500 }, doc }
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
        kind: Kind::Text { default: Some("::"), check: check_ip },
        doc: "The address to listen on. :: is every IPv6 and IPv4 address, 0.0.0.0 every IPv4 address.",
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
        name: "resize_confirm_window_s",
        kind: Kind::Int { default: 0, min: 0, max: 365 * 86400 },
        doc: "After how many seconds a resize that waits is confirmed by itself. 0: never.",
    },
    Key {
        name: "resume_guests_on_host_boot",
        kind: Kind::Bool(true),
        doc: "Whether servers that ran when the machine went down are started when it comes up again.",
    },
    Key {
        name: "shelved_offload_time",
        kind: Kind::Int { default: 0, min: -1, max: i32::MAX as i64 },
        doc: "Seconds until a shelved server gives its share of the machine back; 0: at once, -1: when an administrator asks.",
    },
    Key {
        name: "config_drive_format",
        kind: Kind::Choice { default: "iso9660", of: &["iso9660", "vfat"] },
        doc: "The file system of config drives that are made from now on. Guests read either; some know iso9660 alone.",
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
    SYSLOG_ADDRESS,
    SYSLOG_TRANSPORT,
    SYSLOG_CA_FILE,
    SYSLOG_FACILITY,
    METRICS_TOKEN,
    CLAIM_MODE,
    CLAIM_FILE,
    HOSTNAME,
    TIMEZONE,
    Key {
        name: "identity.token_lifetime_s",
        kind: Kind::Int { default: 3600, min: 60, max: 30 * 86400 },
        doc: "How long a token is good for, in seconds.",
    },
    Key {
        name: "identity.receipt_lifetime_s",
        kind: Kind::Int { default: 300, min: 10, max: 86400 },
        doc: "How long who has to log in by several factors may take between the first and the last of them, in seconds.",
    },
    Key {
        name: "identity.directory_cache_s",
        kind: Kind::Int { default: 60, min: 0, max: 86400 },
        doc: "For how long what was seen of users and groups in a domain's LDAP directory is believed, in seconds: who is \
              disabled there is refused here at the latest after that.",
    },
    Key {
        name: "identity.lockout_failure_attempts",
        kind: Kind::Int { default: 10, min: 0, max: 1_000_000 },
        doc: "Wrong passwords in a row before an account is locked for a while. 0 is never. Who guesses learns nothing of \
              it; an administrator unlocks by `openstack user set --enable`.",
    },
    Key {
        name: "identity.lockout_duration_s",
        kind: Kind::Int { default: 300, min: 1, max: 30 * 86400 },
        doc: "How long an account stays locked, in seconds after the last wrong password.",
    },
    Key {
        name: "identity.password_regex",
        kind: Kind::Text { default: None, check: check_pattern },
        doc: "What the beginning of a new password must match, a regular expression with lookaround, as in \
              ^(?=.*[0-9])(?=.*[a-z]).{8,}$",
    },
    Key {
        name: "identity.password_regex_description",
        kind: Kind::Text { default: None, check: check_sentence },
        doc: "What `password_regex` wants, for the people who are refused.",
    },
    days("identity.password_expires_days", "How long a password is good for, in days. 0 is forever."),
    days("identity.minimum_password_age_days", "How long who chose a password must keep it, in days."),
    Key {
        name: "identity.unique_last_password_count",
        kind: Kind::Int { default: 0, min: 0, max: 24 },
        doc: "How many of a user's last passwords, the present one among them, the next one must differ from. Not for \
              administrators who set it.",
    },
    Key {
        name: "identity.change_password_upon_first_use",
        kind: Kind::Bool(false),
        doc: "Whether a password that an administrator set only serves to choose another one.",
    },
    days(
        "identity.disable_user_account_days_inactive",
        "After how many days without a login an account is disabled. 0 is never. An administrator enables it again.",
    ),
    Key {
        name: "identity.trusted_dashboards",
        kind: Kind::List { default: &[], check: check_origin, most: 20 },
        doc: "Where a browser's sign-in through an identity provider may bring its token to: full URLs, as in \
              [\"https://dashboard.example/auth/websso/\"].",
    },
    port(
        "client_certificates.port",
        0,
        "A port of all APIs that asks clients for a certificate, TLS, by which people log in without a password; see \
         `openstack identity provider` and `mapping`. 0 is off.",
    ),
    Key {
        name: "client_certificates.ca_file",
        kind: Kind::Text { default: None, check: check_path },
        doc: "The authorities of those certificates, a PEM file, read when the program starts.",
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
        name: "images.require_format_match",
        kind: Kind::Bool(true),
        doc: "Whether image data must be what the image's disk format says. Off, other data is kept too, but no server is \
              ever started from it.",
    },
    Key {
        name: "images.web_download",
        kind: Kind::Bool(true),
        doc: "Whether users may have image data fetched from a URL (import method web-download).",
    },
    Key {
        name: "images.web_download_allowed_hosts",
        kind: Kind::List { default: &[], check: check_host_pattern, most: 100 },
        doc: "The hosts that may be fetched from; \".example.org\" is that name and everything below it. Empty is every host.",
    },
    Key {
        name: "images.web_download_denied_hosts",
        kind: Kind::List { default: &[], check: check_host_pattern, most: 100 },
        doc: "Hosts that may not be fetched from, in the same form.",
    },
    Key {
        name: "images.web_download_ports",
        kind: Kind::List { default: &["80", "443"], check: check_port, most: 100 },
        doc: "The ports that may be fetched from. Empty is every port.",
    },
    Key {
        name: "images.web_download_allowed_networks",
        kind: Kind::List { default: &[], check: check_network, most: 100 },
        doc: "Networks that may be fetched from though they are not part of the public Internet, as in [\"10.1.0.0/16\"]. \
              Whatever a name or a redirect leads to, other private, local and special addresses are never connected to.",
    },
    Key {
        name: "images.web_download_denied_networks",
        kind: Kind::List { default: &[], check: check_network, most: 100 },
        doc: "Networks that may not be fetched from, public or allowed above.",
    },
    Key {
        name: "images.web_download_ca_file",
        kind: Kind::Text { default: None, check: check_path },
        doc: "PEM file with the authorities that vouch for https servers, instead of the system's.",
    },
    Key {
        name: "images.web_download_max_seconds",
        kind: Kind::Int { default: 3600, min: 10, max: 86_400 },
        doc: "The longest that one try to fetch image data may take.",
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
        name: "audit.keep_events",
        kind: Kind::Int { default: 100_000, min: 1000, max: 100_000_000 },
        doc: "How many calls that may have changed something, and authentications, `solostack audit` remembers. A hundred \
              thousand take about 30 MB.",
    },
    Key {
        name: "audit.keep_days",
        kind: Kind::Int { default: 90, min: 1, max: 36500 },
        doc: "For how long it remembers them.",
    },
    Key {
        name: "deleted_servers.keep_days",
        kind: Kind::Int { default: 90, min: 0, max: 36500 },
        doc: "For how long what a deleted server was is known: to lists of deleted servers, to usage reports, and as the \
              log of what was done to it. 0 forgets it within minutes.",
    },
    Key {
        name: "deleted_servers.keep_count",
        kind: Kind::Int { default: 100_000, min: 0, max: 10_000_000 },
        doc: "How many of them are known at most; the oldest go first. A hundred thousand take about 250 MB.",
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
    DNS_SERVERS,
    SEARCH_DOMAINS,
    NTP_SERVERS,
];

/// Keys of sections that stand in the file any number of times, each with an id of its own: `[identity.oidc.acme]`.
pub struct Group {
    /// Before the id: `identity.oidc`.
    pub name: &'static str,
    /// What the id is.
    pub doc: &'static str,
    /// Without the section.
    pub keys: &'static [Key],
    /// Those that must be there.
    pub required: &'static [&'static str],
}

const OIDC: Group = Group {
    name: "identity.oidc",
    doc: "An OpenID Connect issuer whose tokens let people in. ID is the id of an identity provider that was made with \
          `openstack identity provider create`; the issuer must be among its remote ids.",
    keys: &[
        Key {
            name: "issuer",
            kind: Kind::Text { default: None, check: check_issuer },
            doc: "The issuer's URL, exactly as its tokens have it in `iss`. https, or http on this machine.",
        },
        Key {
            name: "client_id",
            kind: Kind::Text { default: None, check: check_word },
            doc: "By what name the issuer knows this cloud.",
        },
        Key {
            name: "client_secret",
            kind: Kind::Text { default: None, check: check_word },
            doc: "The secret of that client, where it has one.",
        },
        Key {
            name: "client_secret_file",
            kind: Kind::Text { default: None, check: check_path },
            doc: "Or a file that holds it.",
        },
        Key {
            name: "audience",
            kind: Kind::List { default: &[], check: check_word, most: 20 },
            doc: "A token must be for one of these (`aud`). Empty is the client_id.",
        },
        Key {
            name: "introspection",
            kind: Kind::Choice { default: "off", of: &["off", "opaque", "all"] },
            doc: "Which tokens the issuer is asked about (RFC 7662): none, those that are no JWT, or all of them.",
        },
        Key {
            name: "algorithms",
            kind: Kind::List { default: &[], check: check_algorithm, most: 9 },
            doc: "By which algorithms tokens may be signed. Empty is RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 EdDSA.",
        },
        Key {
            name: "ca_file",
            kind: Kind::Text { default: None, check: check_path },
            doc: "PEM file with the authorities that vouch for the issuer's server, instead of the system's.",
        },
        Key {
            name: "scopes",
            kind: Kind::List { default: &[], check: check_word, most: 20 },
            doc: "What a browser's sign-in asks for. Empty is openid, profile and email.",
        },
    ],
    required: &["issuer"],
};

pub const GROUPS: &[Group] = &[OIDC, network_settings::INTERFACE, network_settings::BOND, network_settings::VLAN];

fn check_issuer(text: &str) -> Result<(), &'static str> {
    let refused = "is not an https URL without query (http only for this machine)";
    let rest = match text.split_once("://") {
        Some(("https", rest)) => rest,
        Some(("http", rest)) => {
            let host = rest.split('/').next().unwrap_or_default();
            let host = match host.rsplit_once(':') {
                Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
                _ => host,
            };
            let here = |ip: IpAddr| ip.is_loopback();
            if host != "localhost" && !host.trim_matches(['[', ']']).parse().is_ok_and(here) {
                return Err(refused);
            }
            rest
        }
        _ => return Err(refused),
    };
    let bad = |c: char| c.is_whitespace() || c.is_control() || "?#@\"\\<>".contains(c);
    if rest.is_empty() || rest.starts_with('/') || text.len() > 255 || rest.contains(bad) {
        Err(refused)
    } else {
        Ok(())
    }
}

pub(crate) fn check_word(text: &str) -> Result<(), &'static str> {
    match text.len() {
        1..=1024 if !text.chars().any(char::is_control) => Ok(()),
        _ => Err("is not a text of 1 to 1024 characters without control characters"),
    }
}

fn check_origin(text: &str) -> Result<(), &'static str> {
    let web = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let bad = |c: char| c.is_whitespace() || c.is_control() || "?#@;,\"'\\<>".contains(c);
    match web {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') && !rest.contains(bad) && text.len() <= 1024 => Ok(()),
        _ => Err("is not an http or https URL without query"),
    }
}

fn check_algorithm(text: &str) -> Result<(), &'static str> {
    const KNOWN: [&str; 9] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];
    if KNOWN.contains(&text) { Ok(()) } else { Err("is not an algorithm with a public key that is known here") }
}

fn check_pattern(text: &str) -> Result<(), &'static str> {
    fancy_regex::Regex::new(text).map(|_| ()).map_err(|_| "is not a regular expression")
}

fn check_sentence(text: &str) -> Result<(), &'static str> {
    if text.chars().any(char::is_control) { Err("holds control characters") } else { Ok(()) }
}

pub(crate) fn check_path(text: &str) -> Result<(), &'static str> {
    match text {
        _ if text.contains('\0') => Err("holds a NUL character"),
        _ if !text.starts_with('/') => Err("is not an absolute path"),
        _ if text.len() > 1024 => Err("is longer than 1024 characters"),
        _ if Path::new(text).components().count() < 2 => Err("is the root directory"),
        _ => Ok(()),
    }
}

pub(crate) fn check_ip(text: &str) -> Result<(), &'static str> {
    text.parse::<IpAddr>().map(|_| ()).map_err(|_| "is not an IP address")
}

fn check_port(text: &str) -> Result<(), &'static str> {
    text.parse::<u16>().ok().filter(|port| *port > 0).map(|_| ()).ok_or("is not a port from 1 to 65535")
}

fn check_network(text: &str) -> Result<(), &'static str> {
    let network: ipnet::IpNet = text.parse().map_err(|_| "is not a network such as 192.0.2.0/24 or 2001:db8::/32")?;
    if network.trunc() == network { Ok(()) } else { Err("has bits set beyond its prefix") }
}

fn check_host_pattern(text: &str) -> Result<(), &'static str> {
    check_host(text.strip_prefix('.').unwrap_or(text))
}

pub(crate) fn check_host(text: &str) -> Result<(), &'static str> {
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

/// A value as the file or a flag gives it.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<String>),
}

pub(crate) fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(100).collect::<String>())
}

impl Kind {
    /// The value if it is of this kind and within bounds; otherwise what is expected.
    pub(crate) fn accept(&self, value: Value) -> Result<Value, String> {
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

    pub(crate) fn default(&self) -> Option<Value> {
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

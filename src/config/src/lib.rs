//! The configuration: one table of keys, one TOML file, flags above it.
//!
//! [`KEYS`] is the truth. The checker, the defaults, the documented sample and [`Config`] all come from it, so a key that
//! is not in it does not exist, and a key in it is documented, typed and bounded. Precedence: flag, file, default.
//! Nothing is guessed: an unknown key, a wrong type, a value out of range is refused, all of them at once, each with its
//! line and, for an unknown key, the nearest known one.

mod file;
mod keys;
mod machine;
mod network_settings;
mod sample;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net};
use toml::de::DeTable;

use self::file::{Member, Values, line_of, read_table};
pub use self::keys::{GROUPS, Group, KEYS, Key, Kind, Value};
pub use self::machine::{Claim, Claiming, Machine, Metrics, Syslog};
pub use self::network_settings::{BOND_MODES, Bond, Dhcp, HASHES, Link, NetworkSettings, Vlan};
pub use self::sample::sample;

/// Read when it exists and no other file is named.
pub const DEFAULT_FILE: &str = "/etc/solostack/solostack.toml";

/// The ports that OpenStack tools know, in the order of [`SERVICE_PORTS`]: identity, compute, image, network, placement,
/// volume, console, metadata.
pub const SERVICE_PORTS: [u16; 8] = [5000, 8774, 9292, 9696, 8778, 8776, 6080, 8775];

const MOST_FILE_BYTES: u64 = 1 << 20;
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
    pub client_certificates: ClientCertificates,
    /// A DNS name or an IP address, without brackets.
    pub public_host: Option<String>,
    pub region: String,
    pub driver: Driver,
    /// Register this machine in Placement.
    pub self_provider: bool,
    /// 0: never.
    pub resize_confirm_window_s: u64,
    pub resume_guests_on_host_boot: bool,
    /// Seconds until a shelved server is offloaded; `None`: when an administrator asks.
    pub shelved_offload_after_s: Option<u64>,
    pub config_drive_format: ConfigDriveFormat,
    pub log: Log,
    /// `None`: nowhere.
    pub syslog: Option<Syslog>,
    pub metrics: Metrics,
    pub claim: Claim,
    pub machine: Machine,
    pub identity: Identity,
    pub network: Network,
    pub images: Images,
    pub scheduling: Scheduling,
    pub audit: Audit,
    pub deleted_servers: DeletedServers,
    pub limits: Limits,
    pub quota: Quota,
    /// The appliance's own NICs.
    pub network_settings: NetworkSettings,
}

/// The port that asks clients for certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientCertificates {
    pub port: Option<u16>,
    /// Their authorities, PEM. Without it there is nothing to verify against.
    pub ca_file: Option<PathBuf>,
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

/// The file system of config drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigDriveFormat {
    Iso9660,
    Vfat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub token_lifetime_s: u64,
    pub receipt_lifetime_s: u64,
    pub directory_cache_s: u64,
    /// 0: never.
    pub lockout_failure_attempts: u32,
    pub lockout_duration_s: u64,
    pub password_regex: Option<String>,
    pub password_regex_description: Option<String>,
    /// 0: never.
    pub password_expires_days: u32,
    pub minimum_password_age_days: u32,
    pub unique_last_password_count: u32,
    pub change_password_upon_first_use: bool,
    /// 0: never.
    pub disable_user_account_days_inactive: u32,
    /// Full URLs.
    pub trusted_dashboards: Vec<String>,
    /// By the id of the identity provider.
    pub oidc: BTreeMap<String, Oidc>,
}

/// `[identity.oidc.<id>]`: an OpenID Connect issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oidc {
    pub issuer: String,
    pub client_id: Option<String>,
    pub client_secret: Option<Secret>,
    pub client_secret_file: Option<PathBuf>,
    /// Empty: the client id.
    pub audience: Vec<String>,
    pub introspection: Introspection,
    /// Empty: all that are known.
    pub algorithms: Vec<String>,
    pub ca_file: Option<PathBuf>,
    /// Empty: openid, profile, email.
    pub scopes: Vec<String>,
}

/// A text that never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Which tokens the issuer is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Introspection {
    Off,
    /// Those that are no JWT.
    Opaque,
    All,
}

/// The Image service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    pub require_format_match: bool,
    pub web_download: bool,
    /// Empty: every host.
    pub web_download_allowed_hosts: Vec<String>,
    pub web_download_denied_hosts: Vec<String>,
    /// Empty: every port.
    pub web_download_ports: Vec<u16>,
    pub web_download_allowed_networks: Vec<IpNet>,
    pub web_download_denied_networks: Vec<IpNet>,
    /// Without it the system's authorities.
    pub web_download_ca_file: Option<PathBuf>,
    pub web_download_max_seconds: u64,
}

/// What the keys' checks have let through.
fn parsed<T: std::str::FromStr>(texts: &[String]) -> Vec<T> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
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
pub struct Audit {
    pub keep_events: u64,
    pub keep_days: u32,
}

/// What is remembered of servers that are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedServers {
    pub keep_days: u32,
    pub keep_count: u32,
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
    resolve_into(Values::default(), text, overrides)
}

/// The configuration in a text that has one section more, which is somebody else's.
pub fn resolve_beside(text: &str, section: &'static str) -> Result<Config, Vec<Problem>> {
    resolve_into(Values(BTreeMap::new(), BTreeMap::new(), Some(section)), text, &[])
}

fn resolve_into(mut values: Values, text: &str, overrides: &[Override]) -> Result<Config, Vec<Problem>> {
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

impl From<&Values> for Config {
    fn from(values: &Values) -> Self {
        let nowhere = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self {
            state_dir: values.text("state_dir").unwrap_or_default().into(),
            listen: values.parsed("listen", nowhere),
            https_port: values.port("https_port"),
            http_port: Some(values.port("http_port")).filter(|port| *port != 0),
            service_ports: values.bool("service_ports"),
            client_certificates: ClientCertificates {
                port: Some(values.port("client_certificates.port")).filter(|port| *port != 0),
                ca_file: values.text("client_certificates.ca_file").map(PathBuf::from),
            },
            public_host: values.text("public_host").map(|host| host.trim_matches(['[', ']']).to_owned()),
            region: values.text("region").unwrap_or_default(),
            driver: match values.text("driver").as_deref() {
                Some("kvm") => Driver::Kvm,
                Some("tcg") => Driver::Tcg,
                Some("fake") => Driver::Fake,
                _ => Driver::Auto,
            },
            self_provider: values.bool("self_provider"),
            resize_confirm_window_s: values.unsigned("resize_confirm_window_s"),
            resume_guests_on_host_boot: values.bool("resume_guests_on_host_boot"),
            shelved_offload_after_s: u64::try_from(values.int("shelved_offload_time")).ok(),
            config_drive_format: match values.text("config_drive_format").as_deref() {
                Some("vfat") => ConfigDriveFormat::Vfat,
                _ => ConfigDriveFormat::Iso9660,
            },
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
            syslog: machine::syslog(values),
            metrics: machine::metrics(values),
            claim: machine::claim(values),
            machine: machine::named(values),
            identity: Identity {
                token_lifetime_s: values.unsigned("identity.token_lifetime_s"),
                receipt_lifetime_s: values.unsigned("identity.receipt_lifetime_s"),
                directory_cache_s: values.unsigned("identity.directory_cache_s"),
                lockout_failure_attempts: values.small("identity.lockout_failure_attempts"),
                lockout_duration_s: values.unsigned("identity.lockout_duration_s"),
                password_regex: values.text("identity.password_regex").filter(|text| !text.is_empty()),
                password_regex_description: values
                    .text("identity.password_regex_description")
                    .filter(|text| !text.is_empty()),
                password_expires_days: values.small("identity.password_expires_days"),
                minimum_password_age_days: values.small("identity.minimum_password_age_days"),
                unique_last_password_count: values.small("identity.unique_last_password_count"),
                change_password_upon_first_use: values.bool("identity.change_password_upon_first_use"),
                disable_user_account_days_inactive: values.small("identity.disable_user_account_days_inactive"),
                trusted_dashboards: values.list("identity.trusted_dashboards"),
                oidc: values
                    .1
                    .iter()
                    .filter(|((group, _), _)| *group == "identity.oidc")
                    .map(|((_, id), member)| (id.clone(), Oidc::from(member)))
                    .collect(),
            },
            network: Network {
                external_subnet: values.parsed("network.external_subnet", Ipv4Net::default()),
                private_subnet: values.parsed("network.private_subnet", Ipv4Net::default()),
                dns_servers: values.list("network.dns_servers").iter().filter_map(|text| text.parse().ok()).collect(),
            },
            images: Images {
                require_format_match: values.bool("images.require_format_match"),
                web_download: values.bool("images.web_download"),
                web_download_allowed_hosts: values.list("images.web_download_allowed_hosts"),
                web_download_denied_hosts: values.list("images.web_download_denied_hosts"),
                web_download_ports: parsed(&values.list("images.web_download_ports")),
                web_download_allowed_networks: parsed(&values.list("images.web_download_allowed_networks")),
                web_download_denied_networks: parsed(&values.list("images.web_download_denied_networks")),
                web_download_ca_file: values.text("images.web_download_ca_file").map(PathBuf::from),
                web_download_max_seconds: values.unsigned("images.web_download_max_seconds"),
            },
            scheduling: Scheduling {
                cpu_allocation_ratio: values.float("scheduling.cpu_allocation_ratio"),
                ram_allocation_ratio: values.float("scheduling.ram_allocation_ratio"),
                disk_allocation_ratio: values.float("scheduling.disk_allocation_ratio"),
                reserved_memory_mib: values.unsigned("scheduling.reserved_memory_mib"),
                reserved_disk_gib: values.unsigned("scheduling.reserved_disk_gib"),
            },
            audit: Audit {
                keep_events: values.unsigned("audit.keep_events"),
                keep_days: values.small("audit.keep_days"),
            },
            deleted_servers: DeletedServers {
                keep_days: values.small("deleted_servers.keep_days"),
                keep_count: values.small("deleted_servers.keep_count"),
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
            network_settings: network_settings::read(values),
        }
    }
}

impl From<&Member> for Oidc {
    fn from(member: &Member) -> Self {
        Self {
            issuer: member.text("issuer").unwrap_or_default(),
            client_id: member.text("client_id"),
            client_secret: member.text("client_secret").map(Secret),
            client_secret_file: member.text("client_secret_file").map(PathBuf::from),
            audience: member.list("audience"),
            introspection: match member.text("introspection").as_deref() {
                Some("opaque") => Introspection::Opaque,
                Some("all") => Introspection::All,
                _ => Introspection::Off,
            },
            algorithms: member.list("algorithms"),
            ca_file: member.text("ca_file").map(PathBuf::from),
            scopes: member.list("scopes"),
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
    /// Where to listen: on a host without IPv6, `::` is every IPv4 address.
    #[must_use]
    pub fn listen_address(&self) -> IpAddr {
        let everywhere = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);
        if self.listen == everywhere && !Path::new("/proc/net/if_inet6").exists() {
            return IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
        }
        self.listen
    }

    /// What no key alone can get wrong.
    fn check_together(&self, values: &Values, problems: &mut Vec<Problem>) {
        let mut refuse = |key: &str, text: String| problems.push(Problem { line: values.line(key), text });
        if self.http_port == Some(self.https_port) {
            refuse("http_port", format!("http_port and https_port are both {}", self.https_port));
        }
        let client_port = self.client_certificates.port;
        if client_port.is_some_and(|port| port == self.https_port || Some(port) == self.http_port) {
            let text = "client_certificates.port is that of https_port or http_port".to_owned();
            refuse("client_certificates.port", text);
        }
        if self.service_ports {
            for (key, port) in [
                ("https_port", Some(self.https_port)),
                ("http_port", self.http_port),
                ("client_certificates.port", client_port),
            ] {
                if let Some(port) = port.filter(|port| SERVICE_PORTS.contains(port)) {
                    refuse(key, format!("{key} is {port}, which service_ports takes; set service_ports to false"));
                }
            }
        }
        for (id, oidc) in &self.identity.oidc {
            let line = values.1.get(&("identity.oidc", id.clone())).and_then(Member::line);
            let mut refuse = |why: &str| problems.push(Problem { line, text: format!("identity.oidc.{id}: {why}") });
            let secret = oidc.client_secret.is_some() || oidc.client_secret_file.is_some();
            if oidc.client_id.is_none() && oidc.audience.is_empty() {
                refuse("neither client_id nor audience says whom its tokens are for");
            }
            if oidc.client_secret.is_some() && oidc.client_secret_file.is_some() {
                refuse("client_secret and client_secret_file are both there");
            }
            if oidc.introspection != Introspection::Off && (oidc.client_id.is_none() || !secret) {
                refuse("introspection needs client_id and client_secret (or client_secret_file)");
            }
        }
        let mut refuse = |key: &str, text: String| problems.push(Problem { line: values.line(key), text });
        for (key, text) in machine::problems(self, values) {
            refuse(key, text);
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
        ports.extend(self.client_certificates.port.map(|port| (port, "client_certificates.port")));
        if self.service_ports {
            ports.extend(SERVICE_PORTS.map(|port| (port, "service_ports")));
        }
        ports.retain(|(port, _)| *port != 0);
        ports
    }
}

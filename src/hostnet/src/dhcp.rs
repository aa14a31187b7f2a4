//! DHCP and DNS of a network, and router advertisements of a router: one dnsmasq each, inside the namespace.
//!
//! dnsmasq detaches itself, so it outlives this process and is found again by its command line. What it was last told is
//! noted in `state` after it was told, never before: after a crash in between it is told once more.
//!
//! Users' words never reach its files: names are checked letter by letter, options are written as numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use nix::sys::signal::Signal;
use uuid::Uuid;

use crate::netlink::{Netlink, Route};
use crate::{
    AddressMode, DhcpChange, DhcpOption, DhcpSpec, DhcpSubnet, Error, Id, Inner, METADATA_ADDRESS, OptionValue, Result,
    RouterSpec, command, namespace, network, process,
};

/// Codes that make the protocol itself: not a user's to set.
const PROTOCOL_OPTIONS: [u16; 14] = [0, 1, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 61, 255];

/// Options that dnsmasq takes as text only (`dnsmasq --help dhcp` and its option table); all others as bytes.
const TEXT_OPTIONS: [u16; 12] = [12, 14, 15, 17, 18, 40, 47, 64, 66, 67, 100, 101];
const TEXT_OPTIONS6: [u16; 2] = [56, 59];

/// The contents of a server's files; the configuration lacks what depends on the instance.
#[derive(Default)]
pub(crate) struct Files {
    config: String,
    hosts: String,
    options: String,
    names: String,
    /// Whose each address is.
    owners: Owners,
}

/// MAC addresses by the address that they may lease.
type Owners = BTreeMap<IpAddr, String>;

pub(crate) fn compile(spec: &DhcpSpec) -> Result<Files> {
    if !is_domain(&spec.domain) {
        return Err(Error::Invalid("a DNS domain with characters that do not belong there".to_owned()));
    }
    network::check_mtu(spec.mtu)?;
    let mut files = Files::default();
    let config = &mut files.config;
    let domain = &spec.domain;
    let lease = spec.lease_seconds.max(120);
    let _ = write!(
        config,
        "interface={}\ndhcp-authoritative\ndhcp-ignore=tag:!known\nleasefile-ro\ndhcp-lease-max=65536\n\
         domain={domain}\nlocal=/{domain}/\ndomain-needed\ncache-size=150\n",
        network::BRIDGE
    );
    for (number, subnet) in spec.subnets.iter().enumerate() {
        check_subnet(subnet)?;
        let tag = format!("subnet{number}");
        let address = subnet.cidr.network();
        // It binds at its start only, so another address is another configuration.
        let _ = writeln!(config, "# at {}", subnet.server);
        match subnet.cidr {
            IpNet::V4(v4) => {
                let _ = writeln!(config, "dhcp-range=set:{tag},{address},static,{},{lease}", v4.netmask());
                options4(&mut files.options, &tag, subnet, spec.mtu);
            }
            // dnsmasq makes nothing smaller than a /64, and SLAAC needs no server.
            IpNet::V6(v6) if subnet.mode != Some(AddressMode::Slaac) && v6.prefix_len() >= 64 => {
                let _ = writeln!(config, "dhcp-range=set:{tag},{address},static,{},{lease}", v6.prefix_len());
                let dns = if subnet.dns.is_empty() { vec![subnet.server] } else { subnet.dns.clone() };
                let dns: Vec<String> = dns.iter().filter(|ip| ip.is_ipv6()).map(|ip| format!("[{ip}]")).collect();
                if !dns.is_empty() {
                    let _ = writeln!(files.options, "tag:{tag},option6:dns-server,{}", dns.join(","));
                }
                let _ = writeln!(files.options, "tag:{tag},option6:domain-search,{domain}");
            }
            IpNet::V6(_) => {}
        }
    }
    for server in &spec.upstream_dns {
        let _ = writeln!(config, "server={server}");
    }
    hosts(spec, &mut files);
    Ok(files)
}

fn check_subnet(subnet: &DhcpSubnet) -> Result<()> {
    let same_family = |ip: &IpAddr| ip.is_ipv4() == subnet.cidr.addr().is_ipv4();
    if !subnet.cidr.contains(&subnet.server) {
        return Err(Error::Invalid(format!("the DHCP server {} is outside its subnet {}", subnet.server, subnet.cidr)));
    }
    if subnet.gateway.iter().any(|ip| !same_family(ip)) {
        return Err(Error::Invalid(format!("the gateway of {} is of another family", subnet.cidr)));
    }
    Ok(())
}

fn options4(out: &mut String, tag: &str, subnet: &DhcpSubnet, mtu: u32) {
    match subnet.gateway {
        Some(gateway) => {
            let _ = writeln!(out, "tag:{tag},option:router,{gateway}");
        }
        // Without a value it is not sent; left out, dnsmasq would name itself.
        None => {
            let _ = writeln!(out, "tag:{tag},option:router");
        }
    }
    let dns: Vec<String> = subnet.dns.iter().filter(|ip| ip.is_ipv4()).map(ToString::to_string).collect();
    let dns = if dns.is_empty() { subnet.server.to_string() } else { dns.join(",") };
    let _ = writeln!(out, "tag:{tag},option:dns-server,{dns}");
    let _ = writeln!(out, "tag:{tag},option:mtu,{mtu}");
    // Clients that understand classless routes ignore the router option (RFC 3442), so the default route is repeated.
    let mut routes = vec![format!("{METADATA_ADDRESS}/32,{}", subnet.server)];
    for route in &subnet.routes {
        if route.destination.addr().is_ipv4() && route.next_hop.is_ipv4() {
            routes.push(format!("{},{}", route.destination.trunc(), route.next_hop));
        }
    }
    if let Some(gateway) = subnet.gateway {
        routes.push(format!("0.0.0.0/0,{gateway}"));
    }
    // An option holds 255 bytes, a route takes at most 9.
    routes.truncate(28);
    let routes = routes.join(",");
    let _ = writeln!(out, "tag:{tag},option:classless-static-route,{routes}");
    let _ = writeln!(out, "tag:{tag},249,{routes}");
}

fn hosts(spec: &DhcpSpec, files: &mut Files) {
    let served = |ip: &IpAddr| spec.subnets.iter().any(|subnet| subnet.cidr.contains(ip));
    let mut taken = BTreeSet::new();
    let mut hosts: Vec<_> = spec.hosts.iter().collect();
    hosts.sort_by_key(|host| host.port_id);
    for host in hosts {
        let tag = format!("port{}", host.port_id.short());
        // Two lines for one address would make dnsmasq refuse to start; the second port is left without a lease.
        let addresses: Vec<IpAddr> =
            host.addresses.iter().copied().filter(|ip| served(ip) && taken.insert(*ip)).collect();
        let name =
            if is_label(&host.hostname) { format!(",{}", host.hostname.to_ascii_lowercase()) } else { String::new() };
        let v6: String = addresses.iter().filter(|ip| ip.is_ipv6()).map(|ip| format!(",[{ip}]")).collect();
        let v4: Vec<String> = addresses.iter().filter(|ip| ip.is_ipv4()).map(|ip| format!(",{ip}")).collect();
        files.owners.extend(addresses.iter().map(|ip| (*ip, host.mac.to_string())));
        // A client gets one IPv4 lease: the first address, in whichever subnet it is. The others it must configure itself.
        let v4 = v4.first().map(String::as_str).unwrap_or_default();
        if !v4.is_empty() || !v6.is_empty() {
            let _ = writeln!(files.hosts, "{}{v4}{v6}{name}", host.mac);
        }
        if let Some(name) = name.strip_prefix(',') {
            for ip in &addresses {
                let _ = writeln!(files.names, "{ip} {name}.{} {name}", spec.domain);
            }
        }
        let mut tagged = false;
        for option in &host.options {
            match option_line(&tag, option) {
                Some(line) => {
                    files.options.push_str(&line);
                    // Not `set:` in the file of hosts: dnsmasq 2.90 dies of that when it reads the file again after it has
                    // served such a host.
                    if !std::mem::replace(&mut tagged, true) {
                        let _ = writeln!(files.config, "dhcp-mac=set:{tag},{}", host.mac);
                    }
                }
                None => tracing::warn!(port_id = %host.port_id, code = option.code, "dhcp option left out"),
            }
        }
    }
}

/// None when the option cannot be sent: a code of the protocol itself, no value, too long, or of another family.
fn option_line(tag: &str, option: &DhcpOption) -> Option<String> {
    let code = match option.ip_version {
        6 if option.code > 0 => format!("option6:{}", option.code),
        4 if option.code < 255 && !PROTOCOL_OPTIONS.contains(&option.code) => option.code.to_string(),
        _ => return None,
    };
    let is_text = match option.ip_version {
        4 => TEXT_OPTIONS.contains(&option.code),
        _ => TEXT_OPTIONS6.contains(&option.code),
    };
    let value = match &option.value {
        OptionValue::Addresses(addresses) => {
            if addresses.iter().any(|ip| ip.is_ipv6() != (option.ip_version == 6)) || addresses.len() > 15 {
                return None;
            }
            let texts: Vec<String> =
                addresses.iter().map(|ip| if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() }).collect();
            texts.join(",")
        }
        OptionValue::Text(text) if is_text => quoted(text.as_bytes())?,
        OptionValue::Bytes(value) if is_text => quoted(value)?,
        _ if is_text => return None,
        OptionValue::Text(text) => bytes(text.as_bytes())?,
        OptionValue::Bytes(value) => bytes(value)?,
        OptionValue::U8(value) => bytes(&[*value])?,
        OptionValue::U16(value) => bytes(&value.to_be_bytes())?,
        OptionValue::U32(value) => bytes(&value.to_be_bytes())?,
    };
    (!value.is_empty()).then(|| format!("tag:{tag},{code},{value}\n"))
}

/// The one form of text that dnsmasq takes for options that it knows as text: in quotes, where only quote and backslash
/// mean something. Anything but printable ASCII is left out; so nothing can end the line or the quotes.
fn quoted(value: &[u8]) -> Option<String> {
    if value.is_empty() || value.len() > 255 || !value.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return None;
    }
    let mut text = String::from("\"");
    for byte in value {
        if matches!(byte, b'"' | b'\\') {
            text.push('\\');
        }
        text.push(char::from(*byte));
    }
    text.push('"');
    Some(text)
}

/// As dnsmasq reads raw bytes: hexadecimal pairs with colons, or a number if there is but one.
fn bytes(value: &[u8]) -> Option<String> {
    match value {
        [] => None,
        [one] => Some(one.to_string()),
        _ if value.len() > 255 => None,
        _ => Some(value.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")),
    }
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(inner)
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
}

fn is_domain(text: &str) -> bool {
    text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(is_label)
}

pub(crate) fn apply(host: &Inner, spec: &DhcpSpec, files: Files) -> Result<DhcpChange> {
    let name = namespace::network(spec.network_id);
    if spec.subnets.is_empty() && namespace::find(&name)?.is_none() {
        return stop(host, spec.network_id);
    }
    namespace::enter(namespace::get(&name)?)?;
    let mut netlink = Netlink::open()?;
    let bridge = netlink.get(network::BRIDGE)?.index;
    let mut addresses = vec![network::metadata_net()];
    for subnet in &spec.subnets {
        addresses.extend(IpNet::new(subnet.server, subnet.cidr.prefix_len()).ok());
    }
    netlink.set_addresses(bridge, &addresses)?;
    let mut routes: Vec<Route> = Vec::new();
    for subnet in spec.subnets.iter().filter(|_| !spec.upstream_dns.is_empty()) {
        let Some(gateway) = subnet.gateway.filter(|gateway| subnet.cidr.contains(gateway)) else { continue };
        let any = IpNet::new(if gateway.is_ipv4() { IpAddr::from([0u8; 4]) } else { IpAddr::from([0u8; 16]) }, 0);
        let Ok(destination) = any else { continue };
        if routes.iter().all(|route| route.destination != destination) {
            routes.push(Route { destination, gateway: Some(gateway), link: bridge, metric: 0, is_static: true });
        }
    }
    netlink.set_routes(&routes, |route| route.gateway.is_some())?;
    if spec.subnets.is_empty() {
        return stop(host, spec.network_id);
    }
    run(host, spec.network_id, files)
}

pub(crate) fn remove(host: &Inner, network_id: Id) -> Result<()> {
    stop(host, network_id).map(drop)
}

/// Router advertisements: no addresses, no names, only what a router says of itself and its prefixes.
pub(crate) fn advertise(host: &Inner, spec: &RouterSpec, interface_name: fn(Id) -> String) -> Result<()> {
    let mut config = "port=0\nenable-ra\nleasefile-ro\ndhcp-ignore=tag:!known\n".to_owned();
    let mut any = false;
    for interface in &spec.interfaces {
        let name = interface_name(interface.port_id);
        for (number, advertised) in interface.advertise.iter().enumerate() {
            if number == 0 {
                let _ = writeln!(config, "interface={name}\nra-param={name},mtu:{},60,1800", interface.mtu);
            }
            any = true;
            let prefix = advertised.prefix;
            let tag = format!("ra{}{number}", interface.port_id.short());
            let mode = match advertised.mode {
                AddressMode::Slaac => "ra-only",
                AddressMode::DhcpStateless => "ra-stateless",
                AddressMode::DhcpStateful => "static",
            };
            let _ = writeln!(config, "dhcp-range=set:{tag},{},{mode},{},86400", prefix.network(), prefix.prefix_len());
            let dns: Vec<String> = advertised.dns.iter().map(|ip| format!("[{ip}]")).collect();
            if !dns.is_empty() {
                let _ = writeln!(config, "dhcp-option=tag:{tag},option6:dns-server,{}", dns.join(","));
            }
        }
    }
    if any { run(host, spec.id, Files { config, ..Files::default() }).map(drop) } else { stop(host, spec.id).map(drop) }
}

/// The name servers that this host asks, as far as a guest could ask them too: none on a loopback address, and behind a
/// local stub those that the stub asks.
pub fn host_resolvers() -> Vec<IpAddr> {
    for file in ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"] {
        let found = resolvers(&fs::read_to_string(file).unwrap_or_default());
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

fn resolvers(text: &str) -> Vec<IpAddr> {
    let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = servers.filter_map(|rest| rest.split_whitespace().next()?.parse::<IpAddr>().ok());
    addresses.filter(|ip| !ip.is_loopback() && !ip.is_unspecified()).collect()
}

struct Paths {
    directory: PathBuf,
    config: PathBuf,
    hosts: PathBuf,
    options: PathBuf,
    names: PathBuf,
    pid: PathBuf,
    state: PathBuf,
    owners: PathBuf,
}

fn paths(host: &Inner, id: Id) -> Paths {
    let directory = host.files.join(id.to_string());
    let file = |name: &str| directory.join(name);
    Paths {
        config: file("dnsmasq.conf"),
        hosts: file("hosts"),
        options: file("options"),
        names: file("names"),
        pid: file("pid"),
        state: file("state"),
        owners: file("owners"),
        directory,
    }
}

/// Brings the server of a network or router, in the calling thread's namespace, to these files.
fn run(host: &Inner, id: Id, files: Files) -> Result<DhcpChange> {
    let paths = paths(host, id);
    let config = format!(
        // The first line is changed when a server that runs must be started anew although all it is told is the same.
        "# 3\nuser={}\npid-file={}\nno-hosts\nno-resolv\nno-poll\nexcept-interface=lo\nbind-interfaces\nquiet-dhcp\n\
         quiet-dhcp6\nquiet-ra\ndhcp-hostsfile={}\ndhcp-optsfile={}\naddn-hosts={}\n{}",
        host.dnsmasq_user,
        paths.pid.display(),
        paths.hosts.display(),
        paths.options.display(),
        paths.names.display(),
        files.config
    );
    let digest = |parts: &[&str]| Uuid::new_v5(&Uuid::NAMESPACE_OID, parts.join("\0").as_bytes()).to_string();
    let config_digest = digest(&[&config]);
    let state = format!("{config_digest} {}", digest(&[&files.hosts, &files.options, &files.names]));
    let told = fs::read_to_string(&paths.state).unwrap_or_default();
    let running = process::find(&paths.config, &paths.pid);
    let running = match running {
        // Left over in a namespace that is gone.
        Some(process) if !process.is_in_this_namespace() => {
            process.stop()?;
            None
        }
        other => other,
    };
    if running.is_some() && told == state {
        return Ok(DhcpChange::Unchanged);
    }
    make_directory(&host.files)?;
    make_directory(&paths.directory)?;
    write(&paths.hosts, &files.hosts)?;
    write(&paths.options, &files.options)?;
    write(&paths.names, &files.names)?;
    write(&paths.config, &config)?;
    let mut owners = read_owners(&paths.owners);
    let passed_on = files.owners.iter().any(|(ip, mac)| owners.get(ip).is_some_and(|before| before != mac));
    let change = match running {
        Some(process) if told.starts_with(&config_digest) && !passed_on => {
            owners.extend(files.owners);
            write_owners(&paths.owners, &owners)?;
            process.signal(Signal::SIGHUP)?;
            DhcpChange::Reloaded
        }
        other => {
            let change = if other.is_some() { DhcpChange::Restarted } else { DhcpChange::Started };
            if let Some(process) = other {
                process.stop()?;
            }
            write_owners(&paths.owners, &files.owners)?;
            start(&paths.config)?;
            change
        }
    };
    write(&paths.state, &state)?;
    Ok(change)
}

/// Everybody whom a server was told an address is for, since its start. It may have leased it to him, and keeps it for him
/// until the lease ends, also when the address is another's by then: only a new server, which knows no leases, gives it to that one.
fn read_owners(path: &Path) -> Owners {
    let text = fs::read_to_string(path).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.filter_map(|(ip, mac)| Some((ip.parse().ok()?, mac.to_owned()))).collect()
}

fn write_owners(path: &Path, owners: &Owners) -> Result<()> {
    write(path, &owners.iter().map(|(ip, mac)| format!("{ip} {mac}\n")).collect::<String>())
}

/// A server that was killed loses its command line, by which it is found, a moment before its sockets.
fn start(config: &Path) -> Result<()> {
    let argument = process::argument(config);
    let mut attempts = 40;
    loop {
        match command::run("dnsmasq", &[&argument], None) {
            Err(Error::Command { stderr, .. }) if attempts > 0 && stderr.contains("Address already in use") => {
                attempts -= 1;
                std::thread::park_timeout(Duration::from_millis(25));
            }
            other => return other.map(drop),
        }
    }
}

/// Ends the server and removes its files.
pub(crate) fn stop(host: &Inner, id: Id) -> Result<DhcpChange> {
    let paths = paths(host, id);
    if !paths.directory.exists() {
        return Ok(DhcpChange::Unchanged);
    }
    if let Some(process) = process::find(&paths.config, &paths.pid) {
        process.stop()?;
    }
    match fs::remove_dir_all(&paths.directory) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(Error::io(format!("removing {}", paths.directory.display()), e))
        }
        _ => Ok(DhcpChange::Stopped),
    }
}

/// A directory that dnsmasq's own user can read, whatever the umask.
pub(crate) fn make_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
        .map_err(|e| Error::io(format!("making {}", path.display()), e))
}

/// Whole or not at all, readable by dnsmasq's own user.
fn write(path: &Path, text: &str) -> Result<()> {
    let failed = |e| Error::io(format!("writing {}", path.display()), e);
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let new = path.with_extension("new");
    let mut file = fs::File::create(&new).map_err(failed)?;
    file.set_permissions(fs::Permissions::from_mode(0o644)).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    fs::rename(&new, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(code: u16, value: OptionValue) -> DhcpOption {
        DhcpOption { ip_version: 4, code, value }
    }

    #[test]
    fn no_text_can_end_its_line_or_its_quotes() {
        for hostile in ["a\nb", "a\0b", "a\rb", "a\"b\\", "\\", "\"", "a,b#c", "ü", ""] {
            for code in 1..=254 {
                let Some(line) = option_line("t", &option(code, OptionValue::Text(hostile.to_owned()))) else {
                    continue;
                };
                assert_eq!(line.matches('\n').count(), 1, "{line:?}");
                assert!(
                    line.ends_with('\n') && line.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)),
                    "{line:?}"
                );
                let value = line.trim_end().splitn(3, ',').nth(2).unwrap();
                if let Some(inner) = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')) {
                    let mut escaped = false;
                    for c in inner.chars() {
                        assert!(escaped || c != '"', "{line:?}");
                        escaped = !escaped && c == '\\';
                    }
                    assert!(!escaped, "{line:?}");
                } else {
                    assert!(value.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'), "{line:?}");
                }
            }
        }
    }

    #[test]
    fn options_of_the_protocol_itself_cannot_be_set() {
        for code in PROTOCOL_OPTIONS {
            assert_eq!(option_line("t", &option(code, OptionValue::U8(1))), None, "{code}");
        }
    }

    #[test]
    fn names_are_checked_letter_by_letter() {
        for good in ["a", "web-1", "0", "openstacklocal", "a.b.c", "a."] {
            assert!(is_domain(good), "{good}");
        }
        for bad in ["", ".", "-a", "a-", "a..b", "a b", "a\nb", "a/b", "ü", "a_b", &"x".repeat(64)] {
            assert!(!is_domain(bad), "{bad}");
        }
    }

    #[test]
    fn resolvers_on_loopback_are_of_no_use_to_guests() {
        let text = "# nameserver 9.9.9.9\nnameserver 127.0.0.53\nnameserver ::1\n nameserver\t192.0.2.53 \nsearch x\n";
        assert_eq!(resolvers(text), ["192.0.2.53".parse::<IpAddr>().unwrap()]);
    }
}

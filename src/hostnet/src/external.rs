//! An external network in `nat` mode: a veth between its namespace and the host's, the host's address on it, and rules
//! that let its traffic out with the host's own address.
//!
//! The host has no bridge of ours: intra-cloud traffic never meets the host's firewall. What others have on the host is
//! respected: our tables are our own; where another firewall drops forwarded packets by policy, rules for our interface
//! are inserted there, marked with a comment, and removed with the network.

use std::fmt::Write;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;

use ipnet::IpNet;
use serde_json::Value;

use crate::netfilter::Netfilter;
use crate::netlink::{Netlink, VethEnd};
use crate::worker::on_own_thread;
use crate::{Error, ExternalSpec, Id, Inner, Result, command, namespace, netfilter, network};

fn host_name(id: Id) -> String {
    format!("ext-{}", id.short())
}

fn peer_name(id: Id) -> String {
    format!("vx-{}", id.short())
}

fn table_prefix(host: &Inner) -> String {
    format!("solostack_{}_", host.tag)
}

fn table_name(host: &Inner, id: Id) -> String {
    format!("{}{}", table_prefix(host), id.short().replace('-', "_"))
}

pub(crate) fn check(spec: &ExternalSpec) -> Result<()> {
    network::check_mtu(spec.mtu)?;
    for net in &spec.host_addresses {
        if net.prefix_len() == net.max_prefix_len() || net.prefix_len() == 0 {
            return Err(Error::Invalid(format!("the host address {net} has no subnet around it")));
        }
    }
    Ok(())
}

pub(crate) fn apply(host: &Inner, spec: &ExternalSpec) -> Result<()> {
    let there = namespace::get(&namespace::network(spec.id))?;
    let (name, peer) = (host_name(spec.id), peer_name(spec.id));
    let table = table_name(host, spec.id);
    let mut netlink = Netlink::open()?;
    // Only the host's own subnets are in the way: two networks with one address range need two routes of one name.
    if let Some(clash) = clash(&mut netlink, &name, &spec.host_addresses)? {
        return Err(Error::Invalid(format!("the host already reaches {clash} in another way")));
    }
    netfilter::apply(host, &table, &rules(&table, &name, &spec.host_addresses))?;

    let alias = namespace::alias(&host.tag);
    let mut link = netlink.find(&name)?;
    if link.as_ref().is_some_and(|link| link.alias.as_deref() != Some(&alias)) {
        return Err(Error::Invalid(format!("the interface {name} belongs to another instance")));
    }
    for _ in 0..2 {
        if link.is_none() {
            let end = |name, kind| VethEnd { name, mac: network::own_mac(kind, spec.id), mtu: spec.mtu, alias: &alias };
            netlink.add_veth(&end(&name, 0xea), there.as_fd(), &end(&peer, 0xee))?;
        }
        let connected = on_own_thread("connecting an external network", || {
            namespace::enter(&there)?;
            let mut netlink = Netlink::open()?;
            let bridge = netlink.get(network::BRIDGE)?;
            let Some(end) = netlink.find(&peer)? else { return Ok(false) };
            netlink.adjust(&end, None, spec.mtu, Some(bridge.index))?;
            Ok(true)
        })?;
        if connected {
            break;
        }
        // Left over from a namespace that is gone but kept alive by a socket.
        if let Some(old) = link.take() {
            netlink.remove(old.index)?;
        }
    }
    let link = netlink.get(&name)?;
    namespace::sysctl(&format!("ipv4/conf/{name}/rp_filter"), "0")?;
    let has_v6 = spec.host_addresses.iter().any(|net| net.addr().is_ipv6());
    let disable_v6 = format!("ipv6/conf/{name}/disable_ipv6");
    if Path::new("/proc/sys/net").join(&disable_v6).exists() {
        namespace::sysctl(&disable_v6, if has_v6 { "0" } else { "1" })?;
    }
    netlink.adjust(&link, None, spec.mtu, None)?;
    netlink.set_addresses(link.index, &spec.host_addresses)?;
    // Never switched off again: others on this host may have come to rely on it.
    namespace::sysctl("ipv4/ip_forward", "1")?;
    if has_v6 {
        forward_v6()?;
    }
    pass_other_firewalls(&table, &name)
}

/// An address range of ours that the host uses elsewhere.
fn clash(netlink: &mut Netlink, name: &str, wanted: &[IpNet]) -> Result<Option<IpNet>> {
    let own = netlink.find(name)?.map(|link| link.index);
    for route in netlink.routes()? {
        if Some(route.link) == own || route.destination.prefix_len() == 0 {
            continue;
        }
        let overlaps = |net: &&IpNet| net.contains(&route.destination) || route.destination.trunc() == net.trunc();
        if let Some(net) = wanted.iter().find(overlaps) {
            return Ok(Some(net.trunc()));
        }
    }
    Ok(None)
}

/// A forwarding host ignores router advertisements by default; where it lives by them it must go on doing so.
fn forward_v6() -> Result<()> {
    let directory = Path::new("/proc/sys/net/ipv6/conf");
    let Ok(entries) = std::fs::read_dir(directory) else { return Ok(()) };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = directory.join(&name).join("accept_ra");
        if name != "all" && std::fs::read_to_string(&path).is_ok_and(|value| value.trim() == "1") {
            namespace::sysctl(&format!("ipv6/conf/{name}/accept_ra"), "2")?;
        }
    }
    namespace::sysctl("ipv6/conf/all/forwarding", "1")
}

fn rules(table: &str, link: &str, addresses: &[IpNet]) -> String {
    let mut translate = String::new();
    let mut sources = String::new();
    for net in addresses {
        let family = if matches!(net.addr(), IpAddr::V4(_)) { "ip" } else { "ip6" };
        let net = net.trunc();
        let _ =
            writeln!(translate, "    {family} saddr {net} {family} daddr != {net} oifname != \"{link}\" masquerade");
        let _ = writeln!(sources, "    iifname \"{link}\" {family} saddr {net} accept");
    }
    // A packet with a foreign source must not be let out untranslated, nor reach the host.
    format!(
        "table inet {table} {{}}
delete table inet {table}
table inet {table} {{
  chain sources {{
    type filter hook prerouting priority -150; policy accept;
    iifname != \"{link}\" accept
{sources}    ip6 saddr fe80::/10 accept
    ip6 saddr :: accept
    drop
  }}
  chain forward {{
    type filter hook forward priority 0; policy accept;
    iifname \"{link}\" accept
    oifname \"{link}\" accept
  }}
  chain postrouting {{
    type nat hook postrouting priority 100; policy accept;
{translate}  }}
}}
"
    )
}

/// `accept` in our table does not undo a `drop` in another. Docker, ufw and plain iptables drop by the policy of the
/// chain FORWARD; a rule there lets ours pass.
fn pass_other_firewalls(table: &str, link: &str) -> Result<()> {
    for (family, name) in Netfilter::open()?.tables()? {
        if name != "filter" || !matches!(family, "ip" | "ip6") {
            continue;
        }
        let Ok(rules) = foreign_rules(family) else { continue };
        for direction in ["iifname", "oifname"] {
            let comment = format!("{table} {direction}");
            if rules.iter().any(|(found, _)| *found == comment) {
                continue;
            }
            let rule = format!(
                "insert rule {family} filter FORWARD {direction} \"{link}\" counter accept comment \"{comment}\"\n"
            );
            command::run("nft", &["-f", "-"], Some(&rule))?;
        }
    }
    Ok(())
}

/// Comments and handles of the rules in FORWARD.
fn foreign_rules(family: &str) -> Result<Vec<(String, u64)>> {
    let text = command::run("nft", &["-j", "-a", "list", "chain", family, "filter", "FORWARD"], None)?;
    let parsed: Value =
        serde_json::from_str(&text).map_err(|e| Error::io("reading nft's answer", std::io::Error::other(e)))?;
    let rules = parsed["nftables"].as_array().into_iter().flatten().filter_map(|item| {
        let rule = item.get("rule")?;
        Some((rule.get("comment")?.as_str()?.to_owned(), rule.get("handle")?.as_u64()?))
    });
    Ok(rules.collect())
}

fn leave_other_firewalls(prefix: &str) -> Result<()> {
    for (family, name) in Netfilter::open()?.tables()? {
        if name != "filter" || !matches!(family, "ip" | "ip6") {
            continue;
        }
        let Ok(rules) = foreign_rules(family) else { continue };
        for (_, handle) in rules.iter().filter(|(comment, _)| comment.starts_with(prefix)) {
            let rule = format!("delete rule {family} filter FORWARD handle {handle}\n");
            command::run("nft", &["-f", "-"], Some(&rule))?;
        }
    }
    Ok(())
}

pub(crate) fn remove(host: &Inner, id: Id) -> Result<()> {
    let alias = namespace::alias(&host.tag);
    let mut netlink = Netlink::open()?;
    if let Some(link) = netlink.find(&host_name(id))? {
        if link.alias.as_deref() != Some(&alias) {
            return Ok(());
        }
        netlink.remove(link.index)?;
    }
    let table = table_name(host, id);
    remove_tables(host, |name| name == table)?;
    leave_other_firewalls(&table)
}

fn remove_tables(host: &Inner, which: impl Fn(&str) -> bool) -> Result<()> {
    for (family, name) in Netfilter::open()?.tables()? {
        if name.starts_with(&table_prefix(host)) && which(&name) {
            command::run("nft", &["delete", "table", family, &name], None)?;
            netfilter::forget(host, &name);
        }
    }
    Ok(())
}

/// All that this instance has in the host's namespace.
pub(crate) fn remove_all(host: &Inner) -> Result<()> {
    let mut netlink = Netlink::open()?;
    for link in links(host, &mut netlink)? {
        netlink.remove(link.0)?;
    }
    remove_tables(host, |_| true)?;
    leave_other_firewalls(&table_prefix(host))
}

/// Index and name of our interfaces in the host's namespace.
pub(crate) fn links(host: &Inner, netlink: &mut Netlink) -> Result<Vec<(u32, String)>> {
    let alias = namespace::alias(&host.tag);
    let links = netlink.links()?.into_iter();
    Ok(links
        .filter(|link| link.kind == "veth" && link.alias.as_deref() == Some(&alias))
        .map(|link| (link.index, link.name))
        .collect())
}

/// Our tables in the host's namespace, as `family name`.
pub(crate) fn tables(host: &Inner) -> Result<Vec<String>> {
    let prefix = table_prefix(host);
    let tables = Netfilter::open()?.tables()?.into_iter();
    Ok(tables.filter(|(_, name)| name.starts_with(&prefix)).map(|(family, name)| format!("{family} {name}")).collect())
}

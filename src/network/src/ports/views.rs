//! What a port looks like to clients.

use std::{
    collections::HashMap,
    fmt::{self, Display, Formatter},
};

use db::{Tx, params};
use hostnet::Mac;
use rest::{Ctx, Result};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::{
    options::DhcpOpt,
    policy,
    store::{AddressPair, Listed, Port},
};
use crate::{
    networks,
    policy::{Owner, Sights},
};

/// A port, written straight from its row into the answer: a list has a thousand of them.
#[derive(Debug, Serialize)]
pub(crate) struct View<'a> {
    id: &'a str,
    name: &'a str,
    network_id: &'a str,
    tenant_id: &'a str,
    project_id: &'a str,
    mac_address: Shown<Mac>,
    admin_state_up: bool,
    status: &'static str,
    device_id: &'a str,
    device_owner: &'a str,
    fixed_ips: Each<'a, fn(&'a str, Naming<'a>) -> Option<Address<'a>>>,
    allowed_address_pairs: &'a [AddressPair],
    extra_dhcp_opts: &'a [DhcpOpt],
    security_groups: Each<'a, fn(&'a str, Naming<'a>) -> Option<&'a str>>,
    description: &'a str,
    #[serde(rename = "binding:vnic_type")]
    vnic_type: &'a str,
    #[serde(rename = "binding:profile", skip_serializing_if = "Option::is_none")]
    profile: Option<&'a Map<String, Value>>,
    #[serde(rename = "binding:host_id", skip_serializing_if = "Option::is_none")]
    host_id: Option<&'a str>,
    #[serde(rename = "binding:vif_type", skip_serializing_if = "Option::is_none")]
    vif_type: Option<&'static str>,
    #[serde(rename = "binding:vif_details", skip_serializing_if = "Option::is_none")]
    vif_details: Option<VifDetails>,
    port_security_enabled: bool,
    dns_name: &'a str,
    dns_assignment: Each<'a, fn(&'a str, Naming<'a>) -> Option<Assignment<'a>>>,
    tags: Each<'a, fn(&'a str, Naming<'a>) -> Option<&'a str>>,
    created_at: Shown<Seconds<'a>>,
    updated_at: Shown<Seconds<'a>>,
    revision_number: i64,
}

#[derive(Debug, Serialize)]
struct Address<'a> {
    subnet_id: &'a str,
    ip_address: &'a str,
}

#[derive(Debug, Serialize)]
struct Assignment<'a> {
    ip_address: &'a str,
    hostname: Shown<HostName<'a>>,
    fqdn: Shown<FullName<'a>>,
}

#[derive(Debug, Serialize)]
struct VifDetails {
    port_filter: bool,
}

/// Something that is written as its text, without being put together before.
#[derive(Debug)]
struct Shown<T>(T);

impl<T: Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A time as [`db::clock::seconds`] has it.
#[derive(Debug)]
struct Seconds<'a>(&'a str);

impl Display for Seconds<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0.split_once('.') {
            Some((whole, _)) => f.write_str(whole).and_then(|()| f.write_str("Z")),
            None => f.write_str(self.0),
        }
    }
}

/// What a port's addresses are called after.
#[derive(Clone, Copy, Debug, Default)]
struct Naming<'a> {
    dns_name: &'a str,
    domain: &'a str,
}

/// A host's name as [`super::hostname`] makes it, of the address's text.
#[derive(Clone, Copy, Debug)]
struct HostName<'a>(Naming<'a>, &'a str);

impl Display for HostName<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !self.0.dns_name.is_empty() {
            return f.write_str(self.0.dns_name);
        }
        f.write_str("host")?;
        self.1.split([':', '.']).try_for_each(|part| f.write_str("-").and_then(|()| f.write_str(part)))
    }
}

#[derive(Debug)]
struct FullName<'a>(HostName<'a>);

impl Display for FullName<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)?;
        f.write_str(".")?;
        f.write_str(self.0.0.domain)?;
        f.write_str(".")
    }
}

/// The lines of a text, sorted, each as what it stands for.
struct Each<'a, F> {
    lines: &'a str,
    naming: Naming<'a>,
    of: F,
}

impl<F> fmt::Debug for Each<'_, F> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.lines, f)
    }
}

impl<'a, T: Serialize> Serialize for Each<'a, fn(&'a str, Naming<'a>) -> Option<T>> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        if self.lines.contains('\n') {
            let mut lines: Vec<&str> = self.lines.split('\n').collect();
            lines.sort_unstable();
            return serializer.collect_seq(lines.into_iter().filter_map(|line| (self.of)(line, self.naming)));
        }
        let line = Some(self.lines).filter(|line| !line.is_empty());
        serializer.collect_seq(line.and_then(|line| (self.of)(line, self.naming)))
    }
}

fn itself<'a>(line: &'a str, _: Naming<'a>) -> Option<&'a str> {
    Some(line)
}

fn address<'a>(line: &'a str, _: Naming<'a>) -> Option<Address<'a>> {
    let (_, rest) = line.split_once(' ')?;
    let (subnet_id, ip_address) = rest.split_once(' ')?;
    Some(Address { subnet_id, ip_address })
}

fn assignment<'a>(line: &'a str, naming: Naming<'a>) -> Option<Assignment<'a>> {
    let ip_address = address(line, naming)?.ip_address;
    let hostname = HostName(naming, ip_address);
    Some(Assignment { ip_address, hostname: Shown(hostname), fqdn: Shown(FullName(hostname)) })
}

#[derive(Clone, Copy, Debug)]
struct Sight {
    is_visible: bool,
    profile: bool,
    host: bool,
    vif_type: bool,
    vif_details: bool,
}

/// The network's side of a port's owner.
#[derive(Clone, Debug)]
struct Around {
    project_id: String,
    shared: bool,
    external: bool,
    domain: String,
}

pub(crate) fn owner(port_project: &str, network: &networks::store::Network) -> Owner {
    Owner {
        project_id: port_project.to_owned(),
        network_project_id: Some(network.project_id.clone()),
        shared: network.shared,
        external: network.external,
    }
}

pub(crate) fn owner_of(tx: &Tx<'_>, port: &Port) -> Result<Owner> {
    Ok(owner(&port.project_id, &networks::store::get(tx, &port.network_id)?))
}

/// The networks around some ports, which their views speak of.
pub(crate) struct Surroundings(HashMap<String, Around>);

impl Surroundings {
    pub(crate) fn of<'a>(tx: &Tx<'_>, ports: impl Iterator<Item = &'a Port>) -> Result<Self> {
        let mut ids: Vec<&str> = ports.map(|port| port.network_id.as_str()).collect();
        ids.dedup();
        ids.sort_unstable();
        ids.dedup();
        let rows = tx.list(
            "SELECT id, project_id, shared, external, dns_domain FROM network_network
             WHERE id IN (SELECT value FROM json_each(?1))",
            params![crate::query::id_list(ids)],
            |row| {
                let around =
                    Around { project_id: row.get(1)?, shared: row.get(2)?, external: row.get(3)?, domain: row.get(4)? };
                Ok((row.get::<_, String>(0)?, around))
            },
        )?;
        Ok(Self(rows.into_iter().collect()))
    }

    /// Views of those ports that the caller may see.
    pub(crate) fn views<'a>(&'a self, ctx: &Ctx, ports: &'a [Listed], domain: &'a str) -> Result<Vec<View<'a>>> {
        let mut sights = Sights::new();
        let mut views = Vec::with_capacity(ports.len());
        let mut last: Option<(&Port, &Around, Sight)> = None;
        for Listed { port, parts } in ports {
            // Neighbours in a list mostly share project and network: what was found for the last one holds.
            let known =
                last.filter(|(other, ..)| other.project_id == port.project_id && other.network_id == port.network_id);
            let (around, sight) = match known {
                Some((_, around, sight)) => (around, sight),
                None => {
                    let Some(around) = self.0.get(&port.network_id) else { continue };
                    let owner = Owner {
                        project_id: port.project_id.clone(),
                        network_project_id: Some(around.project_id.clone()),
                        shared: around.shared,
                        external: around.external,
                    };
                    (around, sights.of(owner, |target| sight(ctx, target))?)
                }
            };
            last = Some((port, around, sight));
            if !sight.is_visible {
                continue;
            }
            let is_bound = !port.host_id.is_empty();
            let domain = if around.domain.is_empty() { domain } else { around.domain.trim_end_matches('.') };
            let naming = Naming { dns_name: &port.dns_name, domain };
            let fixed_ips = parts.fixed_ips.as_deref().unwrap_or_default();
            views.push(View {
                id: &port.id,
                name: &port.name,
                network_id: &port.network_id,
                tenant_id: &port.project_id,
                project_id: &port.project_id,
                mac_address: Shown(port.mac),
                admin_state_up: port.admin_state_up,
                status: port.status(),
                device_id: &port.device_id,
                device_owner: &port.device_owner,
                fixed_ips: Each { lines: fixed_ips, naming, of: address },
                dns_assignment: Each { lines: fixed_ips, naming, of: assignment },
                allowed_address_pairs: &port.pairs,
                extra_dhcp_opts: &port.dhcp_opts,
                security_groups: Each { lines: parts.groups.as_deref().unwrap_or_default(), naming, of: itself },
                description: &port.description,
                vnic_type: &port.vnic_type,
                profile: sight.profile.then_some(&port.profile),
                host_id: sight.host.then_some(port.host_id.as_str()),
                vif_type: sight.vif_type.then_some(if is_bound { "tap" } else { "unbound" }),
                vif_details: sight.vif_details.then_some(VifDetails { port_filter: is_bound }),
                port_security_enabled: port.port_security_enabled,
                dns_name: &port.dns_name,
                tags: Each { lines: parts.tags.as_deref().unwrap_or_default(), naming, of: itself },
                created_at: Shown(Seconds(&port.created_at)),
                updated_at: Shown(Seconds(&port.updated_at)),
                revision_number: port.revision,
            });
        }
        Ok(views)
    }
}

fn sight(ctx: &Ctx, target: &::policy::Target) -> Result<Sight> {
    Ok(Sight {
        is_visible: ctx.may(policy::GET_ONE, target)?,
        profile: ctx.may(policy::GET_PROFILE, target)?,
        host: ctx.may(policy::GET_HOST, target)?,
        vif_type: ctx.may(policy::GET_VIF_TYPE, target)?,
        vif_details: ctx.may(policy::GET_VIF_DETAILS, target)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_shown_in_their_order_and_none_as_an_empty_list() {
        let json = |lines, of: fn(&'static str, Naming<'static>) -> Option<Assignment<'static>>| {
            let naming = Naming { dns_name: "", domain: "cloud" };
            serde_json::to_string(&Each { lines, naming, of }).unwrap()
        };
        assert_eq!(json("", assignment), "[]");
        let both = json("1010 s2 fd00::1\n1009 s1 10.0.0.1", assignment);
        assert_eq!(
            both,
            r#"[{"ip_address":"10.0.0.1","hostname":"host-10-0-0-1","fqdn":"host-10-0-0-1.cloud."},"#.to_owned()
                + r#"{"ip_address":"fd00::1","hostname":"host-fd00--1","fqdn":"host-fd00--1.cloud."}]"#
        );
        let of: fn(&'static str, Naming<'static>) -> Option<&'static str> = itself;
        let tags = Each { lines: "b c\na\"\n2 z", naming: Naming::default(), of };
        assert_eq!(serde_json::to_string(&tags).unwrap(), r#"["2 z","a\"","b c"]"#);
    }
}

//! What Compute's own older API passes on to Network: networks, floating IPs and security groups of a project, without
//! Network's policy: Compute has asked its own. Errors are in Network's words; Compute gives them its statuses.

use std::net::IpAddr;

use db::{Tx, params};
use ipnet::IpNet;
use rest::{Error, Result};
use serde_json::Value;

use super::Requester;
use crate::{
    App,
    attributes::Attributes,
    errors::{self, conflict},
    floatingips, networks,
    networks::store::Network,
    ports,
    query::id_list,
    quotas, security_groups,
    security_groups::store::{Group, GroupRule},
    subnets,
};

/// A network that the requester sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkView {
    pub id: String,
    pub name: String,
    pub project_id: String,
    pub mtu: u32,
    pub shared: bool,
    pub external: bool,
    /// Its subnets, oldest first: range, gateway, resolvers, and whether there is DHCP.
    pub subnets: Vec<(IpNet, Option<IpAddr>, Vec<IpAddr>, bool)>,
}

fn is_visible(requester: Requester<'_>, network: &Network) -> bool {
    requester.is_admin || network.shared || network.external || network.project_id == requester.project_id
}

fn view(tx: &Tx<'_>, network: Network) -> Result<NetworkView> {
    let subnets = subnets::store::of_network(tx, &network.id)?;
    Ok(NetworkView {
        id: network.id,
        name: network.name,
        project_id: network.project_id,
        mtu: network.mtu,
        shared: network.shared,
        external: network.external,
        subnets: subnets.into_iter().map(|one| (one.cidr, one.gateway, one.dns, one.enable_dhcp)).collect(),
    })
}

/// All networks that the requester sees.
///
/// # Errors
/// The database's own.
pub fn visible_networks(tx: &Tx<'_>, requester: Requester<'_>) -> Result<Vec<NetworkView>> {
    let all = networks::store::all(tx)?;
    all.into_iter().filter(|network| is_visible(requester, network)).map(|network| view(tx, network)).collect()
}

/// One of them.
///
/// # Errors
/// 404 for one that is not there, or not seen.
pub fn visible_network(tx: &Tx<'_>, requester: Requester<'_>, id: &str) -> Result<NetworkView> {
    let network = networks::store::find(tx, id)?.filter(|network| is_visible(requester, network));
    view(tx, network.ok_or_else(|| errors::network_not_found(id))?)
}

/// A floating IP and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FloatingIpView {
    pub id: String,
    pub address: String,
    /// The external network's name.
    pub pool: String,
    /// The device that has the port it leads to: a server's id.
    pub server_id: Option<String>,
    pub fixed_address: Option<String>,
}

fn floating_view(tx: &Tx<'_>, floating: floatingips::store::FloatingIp) -> Result<FloatingIpView> {
    let pool = networks::store::find(tx, &floating.network_id)?.map(|network| network.name);
    let port = match &floating.fixed_port_id {
        Some(id) => ports::store::find(tx, id)?,
        None => None,
    };
    Ok(FloatingIpView {
        id: floating.id,
        address: floating.address,
        pool: pool.unwrap_or_default(),
        server_id: port.map(|port| port.device_id).filter(|id| !id.is_empty()),
        fixed_address: floating.fixed_address,
    })
}

/// A project's floating IPs.
///
/// # Errors
/// The database's own.
pub fn floating_ips(tx: &Tx<'_>, project_id: &str) -> Result<Vec<FloatingIpView>> {
    let all = floatingips::store::of_project(tx, project_id)?;
    all.into_iter().map(|floating| floating_view(tx, floating)).collect()
}

fn own_floating_ip(tx: &Tx<'_>, project_id: &str, id: &str) -> Result<floatingips::store::FloatingIp> {
    let floating = floatingips::store::get(tx, id)?;
    if floating.project_id == project_id { Ok(floating) } else { Err(errors::floating_ip_not_found(id)) }
}

/// One of them.
///
/// # Errors
/// 404 when the project does not have it.
pub fn floating_ip(tx: &Tx<'_>, project_id: &str, id: &str) -> Result<FloatingIpView> {
    floating_view(tx, own_floating_ip(tx, project_id, id)?)
}

/// Networks that floating IPs come from.
///
/// # Errors
/// The database's own.
pub fn floating_ip_pools(tx: &Tx<'_>) -> Result<Vec<String>> {
    Ok(networks::store::all(tx)?.into_iter().filter(|network| network.external).map(|network| network.name).collect())
}

/// Gives the project a floating IP of a pool (name or id); of the default one where none is named.
///
/// # Errors
/// 404 when there is no such pool, 409 when it is exhausted, 403 for the quota.
pub fn create_floating_ip(tx: &Tx<'_>, app: &App, project_id: &str, pool: Option<&str>) -> Result<FloatingIpView> {
    let mut pools: Vec<Network> = networks::store::all(tx)?.into_iter().filter(|network| network.external).collect();
    pools.sort_by_key(|network| !network.is_default);
    let fits = |network: &Network| pool.is_none_or(|pool| network.name == pool || network.id == pool);
    let network = pools
        .into_iter()
        .find(fits)
        .ok_or_else(|| errors::not_found_text("FloatingIpPoolNotFound", "Floating IP pool not found.".to_owned()))?;
    floating_view(tx, floatingips::handlers::allocate(tx, app, &network, project_id)?)
}

/// Takes a floating IP back.
///
/// # Errors
/// 404 when the project does not have it.
pub fn delete_floating_ip(tx: &Tx<'_>, project_id: &str, id: &str) -> Result<()> {
    floatingips::store::delete(tx, &own_floating_ip(tx, project_id, id)?)
}

/// A security group with what it lets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    pub id: String,
    pub project_id: String,
    pub name: String,
    pub description: String,
    pub rules: Vec<GroupRuleView>,
}

/// A rule for what may come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRuleView {
    pub id: String,
    pub group_id: String,
    /// `IPv4` or `IPv6`
    pub ethertype: String,
    pub protocol: Option<String>,
    /// First and last port, or ICMP type and code.
    pub ports: (Option<u16>, Option<u16>),
    pub remote_ip_prefix: Option<String>,
    /// Name and project of the group whose members may come in.
    pub remote_group: Option<(String, String)>,
}

fn rule_view(tx: &Tx<'_>, rule: GroupRule) -> Result<GroupRuleView> {
    let remote = match &rule.remote_group_id {
        Some(id) => security_groups::store::find(tx, id)?,
        None => None,
    };
    Ok(GroupRuleView {
        id: rule.id,
        group_id: rule.group_id,
        ethertype: rule.ethertype,
        protocol: rule.protocol,
        ports: (rule.port_min, rule.port_max),
        remote_ip_prefix: rule.remote_ip_prefix,
        remote_group: remote.map(|group| (group.name, group.project_id)),
    })
}

fn group_views(tx: &Tx<'_>, groups: Vec<Group>) -> Result<Vec<GroupView>> {
    let mut rules = security_groups::store::rules_of(tx, &id_list(groups.iter().map(|group| group.id.as_str())))?;
    let mut views = Vec::with_capacity(groups.len());
    for group in groups {
        let rules = rules.remove(&group.id).unwrap_or_default();
        let incoming = rules.into_iter().filter(|rule| rule.direction == "ingress");
        views.push(GroupView {
            rules: incoming.map(|rule| rule_view(tx, rule)).collect::<Result<_>>()?,
            id: group.id,
            project_id: group.project_id,
            name: group.name,
            description: group.description,
        });
    }
    Ok(views)
}

fn own_group(tx: &Tx<'_>, requester: Requester<'_>, id: &str) -> Result<Group> {
    let group = security_groups::store::find(tx, id)?;
    let own = group.filter(|group| requester.is_admin || group.project_id == requester.project_id);
    own.ok_or_else(|| errors::group_not_found(id))
}

fn one_group(tx: &Tx<'_>, group: Group) -> Result<GroupView> {
    let views = group_views(tx, vec![group])?;
    views.into_iter().next().ok_or_else(|| Error::internal("a security group that was just read is not there"))
}

/// A project's groups, its default one among them; with `everywhere` those of all projects.
///
/// # Errors
/// The database's own.
pub fn list_security_groups(tx: &Tx<'_>, app: &App, project_id: &str, everywhere: bool) -> Result<Vec<GroupView>> {
    security_groups::store::ensure_default(tx, app, project_id)?;
    group_views(tx, security_groups::store::all(tx, (!everywhere).then_some(project_id))?)
}

/// Groups by id; those that are not there are left out.
///
/// # Errors
/// The database's own.
pub fn security_groups_by_id<'a>(tx: &Tx<'_>, ids: impl IntoIterator<Item = &'a str>) -> Result<Vec<GroupView>> {
    let mut groups = Vec::new();
    for id in ids {
        groups.extend(security_groups::store::find(tx, id)?);
    }
    group_views(tx, groups)
}

/// One group that the requester sees.
///
/// # Errors
/// 404
pub fn security_group(tx: &Tx<'_>, requester: Requester<'_>, id: &str) -> Result<GroupView> {
    one_group(tx, own_group(tx, requester, id)?)
}

/// # Errors
/// 403 for the quota, 409 for another `default`.
pub fn create_security_group(
    tx: &Tx<'_>,
    app: &App,
    project_id: &str,
    name: &str,
    description: &str,
) -> Result<GroupView> {
    if name.eq_ignore_ascii_case("default") {
        return Err(conflict("SecurityGroupDefaultAlreadyExists", "Default security group already exists."));
    }
    security_groups::store::ensure_default(tx, app, project_id)?;
    security_groups::store::check_quota(tx, app, project_id, 1, 2)?;
    one_group(tx, security_groups::store::insert(tx, app, project_id, name, description, true, false)?)
}

/// # Errors
/// 404; 409 for the default group's name.
pub fn update_security_group(
    tx: &Tx<'_>,
    app: &App,
    requester: Requester<'_>,
    id: &str,
    name: &str,
    description: &str,
) -> Result<GroupView> {
    let mut group = own_group(tx, requester, id)?;
    if group.is_default != name.eq_ignore_ascii_case("default") {
        return Err(conflict("SecurityGroupCannotUpdateDefault", "Updating default security group not allowed."));
    }
    (group.name, group.description) = (name.to_owned(), description.to_owned());
    security_groups::store::update(tx, &mut group, &app.now())?;
    one_group(tx, group)
}

/// # Errors
/// 404; 409 for the default group, and for one that ports have.
pub fn delete_security_group(tx: &Tx<'_>, requester: Requester<'_>, id: &str) -> Result<()> {
    let group = own_group(tx, requester, id)?;
    if group.is_default {
        return Err(conflict("SecurityGroupCannotRemoveDefault", "Unable to delete system group 'default'."));
    }
    if tx.exists("SELECT 1 FROM network_port_security_group WHERE security_group_id = ?1", params![id])? {
        return Err(conflict("SecurityGroupInUse", format!("Security Group {id} in use.")));
    }
    security_groups::store::delete(tx, id)
}

/// Adds a rule; `terms` as Network's own API has them, without group and project.
///
/// # Errors
/// 404 for either group, 400 for terms that make no sense, 409 for a rule that is there, 403 for the quota.
pub fn create_security_group_rule(
    tx: &Tx<'_>,
    app: &App,
    requester: Requester<'_>,
    group_id: &str,
    terms: Value,
) -> Result<GroupRuleView> {
    let mut attributes = Attributes::bare(terms)?;
    let terms = security_groups::model::read(&mut attributes)?;
    attributes.finish()?;
    let mut group = own_group(tx, requester, group_id)?;
    if let Some(remote) = &terms.remote_group_id {
        let ids = std::slice::from_ref(remote);
        security_groups::store::check_usable(tx, ids, &group.project_id, requester.is_admin)?;
    }
    quotas::check(tx, app, &group.project_id, "security_group_rule", 1)?;
    let id = security_groups::store::insert_rule(tx, app, &group, "", &terms)?;
    security_groups::store::update(tx, &mut group, &app.now())?;
    rule_view(tx, security_groups::store::get_rule(tx, &id)?)
}

/// # Errors
/// 404
pub fn delete_security_group_rule(tx: &Tx<'_>, app: &App, requester: Requester<'_>, id: &str) -> Result<()> {
    let rule = security_groups::store::get_rule(tx, id)?;
    let mut group = own_group(tx, requester, &rule.group_id).map_err(|_| errors::rule_not_found(id))?;
    tx.execute("DELETE FROM network_security_group_rule WHERE id = ?1", params![id])?;
    security_groups::store::update(tx, &mut group, &app.now())
}

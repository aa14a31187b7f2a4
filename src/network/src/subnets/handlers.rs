use axum::extract::{Path, State};
use db::{Tx, Value, params};
use ipnet::IpNet;
use rest::{Ctx, Params, RawJson, Reply, Result};

use super::{
    model, policy,
    store::{self, Subnet},
    views,
};
use crate::{
    App,
    attributes::{Attributes, Bulk},
    errors::{self, invalid, invalid_input},
    ip,
    networks::{self, store::Network},
    policy::{Owner, guard, is_admin},
    ports,
    query::{self, Query},
    quotas, subnetpools, tags,
};

const READ_ONLY: &[&str] = &["id", "created_at", "updated_at", "revision_number", "shared", "router:external"];

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    let mut query = Query::new(params);
    let mut page = store::LIST.page(&mut query.params)?;
    query.tags(&mut page);
    if !is_admin(&ctx)? {
        let mine = Value::Text(ctx.creds()?.project_id().unwrap_or_default().to_owned());
        page.and("(r.project_id = ? OR n.project_id = ? OR n.shared)", [mine.clone(), mine]);
    }
    app.db
        .read(move |tx| {
            let listing = page.fetch(tx, store::map)?;
            let views = views::render(tx, &ctx, &listing.rows)?;
            Ok(query.listing(&ctx, "subnets", &listing, |row| &row.id, &views))
        })
        .await
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>, params: Params) -> Result<Reply> {
    let query = Query::new(params);
    app.db
        .read(move |tx| {
            let subnet = store::get(tx, &id)?;
            let target = views::owner(tx, &subnet)?.target();
            ctx.allow_or(policy::GET_ONE, &target, || errors::subnet_not_found(&id))?;
            let views = views::render(tx, &ctx, std::slice::from_ref(&subnet))?;
            let view = views.first().ok_or_else(|| errors::subnet_not_found(&id))?;
            Ok(query.one("subnet", view))
        })
        .await
}

pub(crate) async fn create(State(app): State<App>, ctx: Ctx, RawJson(body): RawJson) -> Result<Reply> {
    let bulk = Bulk::read(body, "subnet", "subnets")?;
    app.db
        .clone()
        .write(move |tx| {
            let mut subnets = Vec::with_capacity(bulk.items.len());
            for item in bulk.items {
                subnets.push(create_one(tx, &app, &ctx, item)?);
            }
            let views = views::render(tx, &ctx, &subnets)?;
            Ok(query::created(bulk.is_list, "subnet", "subnets", &views))
        })
        .await
}

fn create_one(tx: &Tx<'_>, app: &App, ctx: &Ctx, mut attributes: Attributes) -> Result<Subnet> {
    attributes.read_only(READ_ONLY, false)?;
    let project_id = attributes.project(ctx)?;
    let network_id = Attributes::required(attributes.uuid("network_id")?, "network_id")?;
    let network = networks::store::get(tx, &network_id)?;
    ctx.allow_or(networks::policy::GET_ONE, &networks::views::owner(&network).target(), || {
        errors::network_not_found(&network_id)
    })?;
    let target = Owner {
        network_project_id: Some(network.project_id.clone()),
        shared: network.shared,
        external: network.external,
        ..Owner::of(&project_id)
    }
    .target();
    ctx.allow(policy::CREATE, &target)?;

    let version = attributes.integer("ip_version", 4..=6)?;
    if version == Some(5) {
        return Err(invalid("ip_version", "'5' is not in [4, 6]"));
    }
    let enable_dhcp = attributes.flag("enable_dhcp")?.unwrap_or(true);
    if attributes.text_or_null("segment_id", 64)?.flatten().is_some() {
        return Err(invalid_input("this cloud has no network segments"));
    }
    let (cidr, pool_id) = range(tx, app, ctx, &mut attributes, version, &project_id)?;
    let ip_version = if cidr.addr().is_ipv4() { 4 } else { 6 };
    match version {
        Some(version) if version != i64::from(ip_version) => {
            return Err(invalid_input(format!("ip_version {version} and cidr '{cidr}' do not match")));
        }
        None if pool_id.is_none() => {
            Attributes::required(version, "ip_version")?;
        }
        _ => {}
    }
    let gateway = match attributes.address_or_null("gateway_ip")? {
        None => Some(model::default_gateway(cidr)),
        Some(given) => given,
    };
    let pools = attributes.pools("allocation_pools")?.filter(|pools| !pools.is_empty());
    let service_types = service_types(&mut attributes)?.unwrap_or_default();
    if !service_types.is_empty() {
        ctx.allow(policy::CREATE_SERVICE_TYPES, &target)?;
    }
    let tags = tags::read(&mut attributes)?;
    let subnet = Subnet {
        id: rest::new_uuid(),
        network_id,
        project_id,
        name: attributes.label("name")?.unwrap_or_default(),
        description: attributes.label("description")?.unwrap_or_default(),
        ip_version,
        cidr,
        gateway,
        enable_dhcp,
        ra_mode: attributes.one_of_or_null("ipv6_ra_mode", model::MODES)?.map(str::to_owned),
        address_mode: attributes.one_of_or_null("ipv6_address_mode", model::MODES)?.map(str::to_owned),
        pools: pools.unwrap_or_else(|| ip::default_pools(cidr, gateway)),
        dns: attributes.addresses("dns_nameservers", model::DNS_MAX)?.unwrap_or_default(),
        routes: attributes.routes("host_routes", model::ROUTES_MAX)?.unwrap_or_default(),
        service_types,
        pool_id,
        revision: 1,
        created_at: app.now(),
        updated_at: app.now(),
    };
    attributes.finish()?;
    insert(tx, app, &network, &subnet)?;
    if let Some(tags) = tags {
        tags::set(tx, &subnet.id, &tags)?;
    }
    Ok(subnet)
}

/// The range asked for, or one out of a pool.
fn range(
    tx: &Tx<'_>,
    app: &App,
    ctx: &Ctx,
    attributes: &mut Attributes,
    version: Option<i64>,
    project_id: &str,
) -> Result<(IpNet, Option<String>)> {
    let cidr = match attributes.text_or_null("cidr", 64)?.flatten() {
        Some(text) => Some(ip::parse_cidr("cidr", &text)?),
        None => None,
    };
    let prefixlen = attributes.integer_or_null("prefixlen", 0..=128)?.flatten();
    let pool = attributes.uuid_or_null("subnetpool_id")?.flatten();
    let use_default = attributes.flag("use_default_subnetpool")?.unwrap_or(false);
    let pool = match (pool, use_default) {
        (Some(pool), false) => Some(pool),
        (Some(_), true) => {
            return Err(invalid_input("subnetpool_id and use_default_subnetpool cannot both be specified"));
        }
        (None, true) => Some(subnetpools::default_of(tx, version)?),
        (None, false) => None,
    };
    match (pool, cidr, prefixlen) {
        (None, Some(cidr), None) => Ok((cidr, None)),
        (None, _, Some(_)) => Err(invalid_input("prefixlen is only for subnets from a subnet pool")),
        (None, None, None) => Err(invalid_input("a subnetpool must be specified in the absence of a cidr")),
        (Some(_), Some(_), Some(_)) => Err(invalid_input("cidr and prefixlen must not be supplied together")),
        (Some(pool), cidr, prefixlen) => {
            let cidr = subnetpools::allocate(tx, app, ctx, &pool, cidr, prefixlen, project_id)?;
            Ok((cidr, Some(pool)))
        }
    }
}

fn service_types(attributes: &mut Attributes) -> Result<Option<Vec<String>>> {
    let Some(list) = attributes.list("service_types", 32)? else { return Ok(None) };
    let mut types = Vec::with_capacity(list.len());
    for value in list {
        match value.as_str() {
            Some(text) if text.len() <= 255 && (text.starts_with("network:") || text.starts_with("compute:")) => {
                types.push(text.to_owned());
            }
            _ => {
                return Err(invalid("service_types", format!("{value} does not begin with 'network:' or 'compute:'")));
            }
        }
    }
    Ok(Some(types))
}

/// Checks and stores a subnet, and what follows for the ports that are on the network already.
pub(crate) fn insert(tx: &Tx<'_>, app: &App, network: &Network, subnet: &Subnet) -> Result<()> {
    model::check_cidr(subnet.cidr, subnet.enable_dhcp)?;
    model::check_modes(subnet.cidr, subnet.enable_dhcp, subnet.ra_mode.as_deref(), subnet.address_mode.as_deref())?;
    check_parts(subnet)?;
    model::check_overlap(subnet.cidr, &network.id, &store::of_network(tx, &network.id)?)?;
    quotas::check(tx, app, &subnet.project_id, "subnet", 1)?;
    store::insert(tx, subnet)?;
    if subnet.is_automatic() {
        ports::addresses::add_automatic(tx, subnet)?;
    }
    ports::dhcp::ensure(tx, app, &network.id)
}

fn check_parts(subnet: &Subnet) -> Result<()> {
    if let Some(gateway) = subnet.gateway {
        model::check_gateway(subnet.cidr, gateway)?;
    }
    model::check_pools(subnet.cidr, subnet.gateway, &subnet.pools)?;
    model::check_families("host_routes", subnet.cidr, subnet.routes.iter().map(|route| route.nexthop))
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    let attributes = Attributes::update(body, "subnet")?;
    app.db
        .clone()
        .write(move |tx| {
            let subnet = update_one(tx, &app, &ctx, &id, attributes)?;
            let views = views::render(tx, &ctx, std::slice::from_ref(&subnet))?;
            let view = views.first().ok_or_else(|| errors::subnet_not_found(&id))?;
            Ok(query::updated("subnet", view))
        })
        .await
}

fn update_one(tx: &Tx<'_>, app: &App, ctx: &Ctx, id: &str, mut attributes: Attributes) -> Result<Subnet> {
    let mut subnet = store::get(tx, id)?;
    let target = views::owner(tx, &subnet)?.target();
    guard(ctx, policy::UPDATE, policy::GET_ONE, &target, || errors::subnet_not_found(id))?;
    attributes.read_only(READ_ONLY, true)?;
    attributes.read_only(
        &[
            "network_id",
            "ip_version",
            "cidr",
            "project_id",
            "tenant_id",
            "subnetpool_id",
            "ipv6_ra_mode",
            "ipv6_address_mode",
            "prefixlen",
            "segment_id",
        ],
        true,
    )?;
    if let Some(name) = attributes.label("name")? {
        subnet.name = name;
    }
    if let Some(description) = attributes.label("description")? {
        subnet.description = description;
    }
    if let Some(gateway) = attributes.address_or_null("gateway_ip")?
        && gateway != subnet.gateway
    {
        if let Some(old) = subnet.gateway {
            refuse_gateway_in_use(tx, &subnet, &old.to_string())?;
        }
        subnet.gateway = gateway;
    }
    if let Some(enable) = attributes.flag("enable_dhcp")? {
        if !enable && (subnet.ra_mode.is_some() || subnet.address_mode.is_some()) {
            return Err(invalid_input("Cannot disable enable_dhcp with ipv6 attributes set"));
        }
        subnet.enable_dhcp = enable;
    }
    if let Some(pools) = attributes.pools("allocation_pools")? {
        subnet.pools = pools;
    }
    if let Some(dns) = attributes.addresses("dns_nameservers", model::DNS_MAX)? {
        subnet.dns = dns;
    }
    if let Some(routes) = attributes.routes("host_routes", model::ROUTES_MAX)? {
        subnet.routes = routes;
    }
    if let Some(types) = service_types(&mut attributes)? {
        ctx.allow(policy::UPDATE_SERVICE_TYPES, &target)?;
        subnet.service_types = types;
    }
    attributes.finish()?;
    model::check_cidr(subnet.cidr, subnet.enable_dhcp)?;
    check_parts(&subnet)?;
    store::update(tx, &mut subnet, &app.now())?;
    ports::dhcp::ensure(tx, app, &subnet.network_id)?;
    Ok(subnet)
}

fn refuse_gateway_in_use(tx: &Tx<'_>, subnet: &Subnet, gateway: &str) -> Result<()> {
    let port = tx.find(
        "SELECT p.id FROM network_fixed_ip f JOIN network_port p ON p.id = f.port_id
         WHERE f.subnet_id = ?1 AND f.address = ?2 AND p.device_owner = 'network:router_interface'",
        params![subnet.id, gateway],
        |row| row.get::<_, String>(0),
    )?;
    match port {
        Some(port) => Err(errors::conflict(
            "GatewayIpInUse",
            format!("Current gateway ip {gateway} already in use by port {port}. Unable to update."),
        )),
        None => Ok(()),
    }
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    app.db
        .clone()
        .write(move |tx| {
            let subnet = store::get(tx, &id)?;
            let target = views::owner(tx, &subnet)?.target();
            guard(&ctx, policy::DELETE, policy::GET_ONE, &target, || errors::subnet_not_found(&id))?;
            delete_one(tx, &app, &subnet)?;
            Ok(Reply::no_content())
        })
        .await
}

/// Removes a subnet that no port depends on. Addresses of the DHCP port go with it, and those that guests made
/// themselves, as nobody handed them out.
pub(crate) fn delete_one(tx: &Tx<'_>, app: &App, subnet: &Subnet) -> Result<()> {
    tx.execute(
        "DELETE FROM network_fixed_ip WHERE subnet_id = ?1 AND port_id IN (
             SELECT id FROM network_port WHERE network_id = ?2 AND (device_owner = 'network:dhcp'
                OR (?3 AND device_owner NOT LIKE 'network:router%')))",
        params![subnet.id, subnet.network_id, subnet.is_automatic()],
    )?;
    if tx.exists("SELECT 1 FROM network_fixed_ip WHERE subnet_id = ?1", params![subnet.id])? {
        return Err(errors::conflict(
            "SubnetInUse",
            format!(
                "Unable to complete operation on subnet {}: One or more ports have an IP allocation from this subnet.",
                subnet.id
            ),
        ));
    }
    store::delete(tx, &subnet.id)?;
    ports::dhcp::ensure(tx, app, &subnet.network_id)
}

use axum::extract::{Path, State};
use db::{Tx, Value as Bound, params};
use rest::{Ctx, Params, RawJson, Reply, Result, Rule};
use serde_json::Value;

use super::{
    interfaces, policy as rules,
    store::{self, Router},
    views,
};
use crate::{
    App,
    attributes::{Attributes, Bulk},
    errors::{self, bad, conflict, invalid_input},
    ip::HostRoute,
    networks,
    policy::{Owner, guard, is_admin},
    ports::{
        self, ROUTER_GATEWAY,
        addresses::{self, Ask},
        handlers::Draft,
        store::FixedIp,
    },
    query::{self, Query},
    quotas, subnets, tags,
};

const READ_ONLY: &[&str] = &["id", "status", "created_at", "updated_at", "revision_number", "availability_zones"];
const ROUTES_MAX: usize = 30;

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    let mut query = Query::new(params);
    let mut page = store::LIST.page(&mut query.params)?;
    query.tags(&mut page);
    if !is_admin(&ctx)? {
        let mine = ctx.creds()?.project_id().unwrap_or_default().to_owned();
        page.and("r.project_id = ?", [Bound::Text(mine)]);
    }
    app.db
        .read(move |tx| {
            let listing = page.fetch(tx, store::map)?;
            let views = views::render(tx, &ctx, &listing.rows, app.options.zone)?;
            Ok(query.listing(&ctx, "routers", &listing, |row| &row.id, &views))
        })
        .await
}

fn one<'v>(views: &'v [views::View], id: &str) -> Result<&'v views::View> {
    views.first().ok_or_else(|| errors::router_not_found(id))
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>, params: Params) -> Result<Reply> {
    let query = Query::new(params);
    app.db
        .read(move |tx| {
            let router = store::get(tx, &id)?;
            ctx.allow_or(rules::GET_ONE, &Owner::of(&router.project_id).target(), || errors::router_not_found(&id))?;
            let views = views::render(tx, &ctx, std::slice::from_ref(&router), app.options.zone)?;
            Ok(query.one("router", one(&views, &id)?))
        })
        .await
}

pub(crate) async fn create(State(app): State<App>, ctx: Ctx, RawJson(body): RawJson) -> Result<Reply> {
    let bulk = Bulk::read(body, "router", "routers")?;
    app.db
        .clone()
        .write(move |tx| {
            let mut routers = Vec::with_capacity(bulk.items.len());
            for item in bulk.items {
                routers.push(create_one(tx, &app, &ctx, item)?);
            }
            let views = views::render(tx, &ctx, &routers, app.options.zone)?;
            Ok(query::created(bulk.is_list, "router", "routers", &views))
        })
        .await
}

/// A router without interfaces and gateway.
pub(crate) fn blank(app: &App, project_id: &str, name: &str) -> Router {
    let now = app.now();
    Router {
        id: rest::new_uuid(),
        project_id: project_id.to_owned(),
        name: name.to_owned(),
        description: String::new(),
        admin_state_up: true,
        gateway_port_id: None,
        enable_snat: true,
        routes: Vec::new(),
        problem: None,
        revision: 1,
        created_at: now.clone(),
        updated_at: now,
    }
}

fn create_one(tx: &Tx<'_>, app: &App, ctx: &Ctx, mut attributes: Attributes) -> Result<Router> {
    attributes.read_only(READ_ONLY, false)?;
    attributes.read_only(&["routes"], false)?;
    let project_id = attributes.project(ctx)?;
    let target = Owner::of(&project_id).target();
    ctx.allow(rules::CREATE, &target)?;
    for (name, rule) in [("distributed", rules::CREATE_DISTRIBUTED), ("ha", rules::CREATE_HA)] {
        if attributes.has(name) {
            ctx.allow(rule, &target)?;
            if attributes.flag(name)? == Some(true) {
                return Err(invalid_input(format!("a cloud on one machine has no routers with '{name}'")));
            }
        }
    }
    networks::handlers::zone_hints(&mut attributes, app.options.zone)?;
    let mut router = blank(app, &project_id, "");
    router.name = attributes.label("name")?.unwrap_or_default();
    router.description = attributes.label("description")?.unwrap_or_default();
    router.admin_state_up = attributes.flag("admin_state_up")?.unwrap_or(true);
    let gateway = read_gateway(&mut attributes)?.flatten();
    let tags = tags::read(&mut attributes)?;
    attributes.finish()?;
    quotas::check(tx, app, &project_id, "router", 1)?;
    store::insert(tx, &router)?;
    if let Some(gateway) = gateway {
        ctx.allow(rules::CREATE_GATEWAY, &target)?;
        ask_for_gateway(ctx, &target, &gateway, [rules::CREATE_SNAT, rules::CREATE_GATEWAY_IPS])?;
        check_external(tx, ctx, &gateway.network_id)?;
        set_gateway(tx, app, &mut router, gateway)?;
        router.revision = 0;
        let created_at = router.created_at.clone();
        store::update(tx, &mut router, &created_at)?;
    }
    if let Some(tags) = tags {
        tags::set(tx, &router.id, &tags)?;
    }
    Ok(router)
}

/// `external_gateway_info` as a request has it.
#[derive(Debug)]
pub(crate) struct GatewayAsk {
    pub network_id: String,
    pub enable_snat: Option<bool>,
    pub asks: Option<Vec<Ask>>,
}

fn read_gateway(attributes: &mut Attributes) -> Result<Option<Option<GatewayAsk>>> {
    const NAME: &str = "external_gateway_info";
    match attributes.take(NAME) {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(None)),
        // An empty dictionary takes the gateway away, as null does.
        Some(Value::Object(map)) if map.is_empty() => Ok(Some(None)),
        Some(value) => {
            let mut info = Attributes::nested(NAME, value)?;
            let network_id = Attributes::required(info.uuid("network_id")?, "network_id")?;
            let enable_snat = info.flag("enable_snat")?;
            let asks = match info.list("external_fixed_ips", 16)? {
                Some(list) if !list.is_empty() => Some(addresses::read(list)?),
                _ => None,
            };
            info.take("qos_policy_id").map_or(Ok(()), |value| {
                if value.is_null() { Ok(()) } else { Err(invalid_input("this cloud has no QoS policies")) }
            })?;
            info.finish()?;
            Ok(Some(Some(GatewayAsk { network_id, enable_snat, asks })))
        }
    }
}

fn ask_for_gateway(ctx: &Ctx, target: &policy::Target, gateway: &GatewayAsk, [snat, ips]: [Rule; 2]) -> Result<()> {
    if gateway.enable_snat.is_some() {
        ctx.allow(snat, target)?;
    }
    if gateway.asks.is_some() {
        ctx.allow(ips, target)?;
    }
    Ok(())
}

/// The network must be one that the caller sees, and one that leads outside.
fn check_external(tx: &Tx<'_>, ctx: &Ctx, network_id: &str) -> Result<()> {
    let network = networks::store::get(tx, network_id)?;
    ctx.allow_or(networks::policy::GET_ONE, &networks::views::owner(&network).target(), || {
        errors::network_not_found(network_id)
    })?;
    if !network.external {
        let text = format!("Bad router request: Network {network_id} is not an external network.");
        return Err(bad("BadRequest", text));
    }
    Ok(())
}

/// Gives the router the gateway asked for. The router's row is not written here.
pub(crate) fn set_gateway(tx: &Tx<'_>, app: &App, router: &mut Router, ask: GatewayAsk) -> Result<()> {
    let network = networks::store::get(tx, &ask.network_id)?;
    let old = match &router.gateway_port_id {
        Some(id) => Some(ports::store::get(tx, id)?),
        None => None,
    };
    if let Some(enable) = ask.enable_snat {
        router.enable_snat = enable;
    } else {
        router.enable_snat = true;
    }
    match old {
        Some(mut port) if port.network_id == ask.network_id => {
            if let Some(asks) = &ask.asks {
                let current = ports::store::fixed_ips(tx, &port.id)?;
                let owner = addresses::For {
                    network_id: &port.network_id,
                    mac: port.mac,
                    device_owner: ROUTER_GATEWAY,
                    current: &current,
                };
                let fixed = addresses::assign(tx, owner, Some(asks))?;
                check_gateway_overlap(tx, router, &fixed)?;
                ports::store::set_fixed_ips(tx, &port, &fixed)?;
                ports::store::update(tx, &mut port, &app.now())?;
            }
            return Ok(());
        }
        Some(_) => clear_gateway(tx, app, router)?,
        None => {}
    }
    if !tx.exists("SELECT 1 FROM network_subnet WHERE network_id = ?1", params![ask.network_id])? {
        let text = format!("Bad router request: No subnets are on the external network {}.", ask.network_id);
        return Err(bad("BadRequest", text));
    }
    let mut draft = Draft::new("", ROUTER_GATEWAY, &router.id);
    draft.asks = ask.asks;
    draft.host_id.clone_from(&app.options.host_name);
    let port = ports::handlers::make(tx, app, &network, draft)?;
    check_gateway_overlap(tx, router, &ports::store::fixed_ips(tx, &port.id)?)?;
    router.gateway_port_id = Some(port.id);
    Ok(())
}

fn check_gateway_overlap(tx: &Tx<'_>, router: &Router, fixed: &[FixedIp]) -> Result<()> {
    let outside = subnets::store::by_ids(tx, fixed.iter().map(|fixed| fixed.subnet_id.as_str()))?;
    for (_, inside) in interfaces::connected(tx, &router.id)? {
        for subnet in outside.values() {
            interfaces::refuse_overlap(&inside, subnet)?;
        }
    }
    Ok(())
}

/// Takes the gateway away, if nothing needs it. The port goes after the router's row has let go of it.
fn clear_gateway(tx: &Tx<'_>, app: &App, router: &mut Router) -> Result<()> {
    let Some(port_id) = router.gateway_port_id.clone() else { return Ok(()) };
    if tx.exists("SELECT 1 FROM network_floating_ip WHERE router_id = ?1", params![router.id])? {
        let port = ports::store::get(tx, &port_id)?;
        return Err(conflict(
            "RouterExternalGatewayInUseByFloatingIp",
            format!(
                "Gateway cannot be updated for router {}, since a gateway to external network {} is required by one or more floating IPs.",
                router.id, port.network_id
            ),
        ));
    }
    router.gateway_port_id = None;
    store::update(tx, router, &app.now())?;
    ports::store::delete(tx, &port_id)
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    let attributes = Attributes::update(body, "router")?;
    app.db
        .clone()
        .write(move |tx| {
            let router = update_one(tx, &app, &ctx, &id, attributes)?;
            let views = views::render(tx, &ctx, std::slice::from_ref(&router), app.options.zone)?;
            Ok(query::updated("router", one(&views, &id)?))
        })
        .await
}

fn update_one(tx: &Tx<'_>, app: &App, ctx: &Ctx, id: &str, mut attributes: Attributes) -> Result<Router> {
    let mut router = store::get(tx, id)?;
    let target = Owner::of(&router.project_id).target();
    guard(ctx, rules::UPDATE, rules::GET_ONE, &target, || errors::router_not_found(id))?;
    attributes.read_only(READ_ONLY, true)?;
    attributes.read_only(&["project_id", "tenant_id", "availability_zone_hints"], true)?;
    for name in ["distributed", "ha"] {
        if attributes.flag(name)? == Some(true) {
            return Err(invalid_input(format!("a cloud on one machine has no routers with '{name}'")));
        }
    }
    if let Some(name) = attributes.label("name")? {
        router.name = name;
    }
    if let Some(description) = attributes.label("description")? {
        router.description = description;
    }
    if let Some(up) = attributes.flag("admin_state_up")? {
        router.admin_state_up = up;
    }
    let gateway = read_gateway(&mut attributes)?;
    let routes = attributes.routes("routes", ROUTES_MAX)?;
    attributes.finish()?;
    match gateway {
        None => {}
        Some(None) => {
            ctx.allow(rules::UPDATE_GATEWAY, &target)?;
            clear_gateway(tx, app, &mut router)?;
        }
        Some(Some(gateway)) => {
            ctx.allow(rules::UPDATE_GATEWAY, &target)?;
            ask_for_gateway(ctx, &target, &gateway, [rules::UPDATE_SNAT, rules::UPDATE_GATEWAY_IPS])?;
            check_external(tx, ctx, &gateway.network_id)?;
            set_gateway(tx, app, &mut router, gateway)?;
        }
    }
    if let Some(routes) = routes {
        check_routes(tx, &router, &routes)?;
        router.routes = routes;
    }
    store::update(tx, &mut router, &app.now())?;
    Ok(router)
}

/// A next hop is on a subnet that the router is connected to, and is not the router itself.
fn check_routes(tx: &Tx<'_>, router: &Router, routes: &[HostRoute]) -> Result<()> {
    let mut connected = interfaces::connected(tx, &router.id)?;
    if let Some(port) = &router.gateway_port_id {
        connected.extend(interfaces::subnets_of_port(tx, port)?);
    }
    for route in routes {
        let reason = if !connected.iter().any(|(_, subnet)| subnet.cidr.contains(&route.nexthop)) {
            "the nexthop is not connected with router"
        } else if connected.iter().any(|(fixed, _)| fixed.address == route.nexthop) {
            "the nexthop is used by router"
        } else {
            continue;
        };
        return Err(bad(
            "InvalidRoutes",
            format!("Invalid format for routes: {} via {}, {reason}", route.destination, route.nexthop),
        ));
    }
    Ok(())
}

pub(crate) async fn add_routes(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    change_routes(app, ctx, id, body, rules::ADD_ROUTES, |old, given| {
        let mut routes = old.to_vec();
        routes.extend(given.into_iter().filter(|route| !old.contains(route)));
        routes
    })
    .await
}

pub(crate) async fn remove_routes(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    change_routes(app, ctx, id, body, rules::REMOVE_ROUTES, |old, given| {
        old.iter().filter(|route| !given.contains(route)).copied().collect()
    })
    .await
}

async fn change_routes(
    app: App,
    ctx: Ctx,
    id: String,
    body: Value,
    rule: Rule,
    change: impl FnOnce(&[HostRoute], Vec<HostRoute>) -> Vec<HostRoute> + Send + 'static,
) -> Result<Reply> {
    let mut attributes = Attributes::update(body, "router")?;
    let given = Attributes::required(attributes.routes("routes", ROUTES_MAX)?, "routes")?;
    attributes.finish()?;
    app.db
        .clone()
        .write(move |tx| {
            let mut router = store::get(tx, &id)?;
            guard(&ctx, rule, rules::GET_ONE, &Owner::of(&router.project_id).target(), || {
                errors::router_not_found(&id)
            })?;
            router.routes = change(&router.routes, given);
            if router.routes.len() > ROUTES_MAX {
                return Err(bad(
                    "RoutesExhausted",
                    format!(
                        "Unable to complete operation for {id}. The number of routes exceeds the maximum {ROUTES_MAX}."
                    ),
                ));
            }
            check_routes(tx, &router, &router.routes)?;
            store::update(tx, &mut router, &app.now())?;
            let views = views::render(tx, &ctx, std::slice::from_ref(&router), app.options.zone)?;
            Ok(query::updated("router", one(&views, &id)?))
        })
        .await
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    app.db
        .clone()
        .write(move |tx| {
            let router = store::get(tx, &id)?;
            guard(&ctx, rules::DELETE, rules::GET_ONE, &Owner::of(&router.project_id).target(), || {
                errors::router_not_found(&id)
            })?;
            delete_one(tx, &app, router)?;
            Ok(Reply::no_content())
        })
        .await
}

pub(crate) fn delete_one(tx: &Tx<'_>, app: &App, mut router: Router) -> Result<()> {
    let id = router.id.clone();
    if !interfaces::ports_of(tx, &id)?.is_empty() {
        return Err(conflict("RouterInUse", format!("Router {id} still has ports")));
    }
    if tx.exists("SELECT 1 FROM network_floating_ip WHERE router_id = ?1", params![id])? {
        return Err(conflict("RouterInUse", format!("Router {id} still has floating IPs")));
    }
    clear_gateway(tx, app, &mut router)?;
    store::delete(tx, &id)
}

/// A router's interface whose addresses change: it stays on subnets that do not overlap.
pub(crate) fn check_interface_addresses(tx: &Tx<'_>, port: &ports::store::Port, fixed: &[FixedIp]) -> Result<()> {
    let own = subnets::store::by_ids(tx, fixed.iter().map(|fixed| fixed.subnet_id.as_str()))?;
    for other in interfaces::ports_of(tx, &port.device_id)? {
        if other.id == port.id {
            continue;
        }
        for (_, subnet) in interfaces::subnets_of_port(tx, &other.id)? {
            for mine in own.values() {
                interfaces::refuse_overlap(mine, &subnet)?;
            }
        }
    }
    Ok(())
}

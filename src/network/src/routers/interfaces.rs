//! `add_router_interface` and `remove_router_interface`.

use axum::extract::{Path, State};
use db::{Tx, params};
use rest::{Ctx, RawJson, Reply, Result};
use serde_json::{Value, json};

use super::{
    policy as rules,
    store::{self, Router},
};
use crate::{
    App,
    attributes::Attributes,
    errors::{self, bad, conflict},
    networks,
    policy::{Owner, guard, is_admin},
    ports::{
        self, ROUTER_INTERFACE,
        addresses::Ask,
        handlers::Draft,
        store::{FixedIp, Port},
    },
    subnets::{self, store::Subnet},
};

/// The router's interfaces, its gateway not among them.
pub(crate) fn ports_of(tx: &Tx<'_>, router_id: &str) -> Result<Vec<Port>> {
    ports::store::of_device(tx, router_id, ROUTER_INTERFACE)
}

pub(crate) fn subnets_of_port(tx: &Tx<'_>, port_id: &str) -> Result<Vec<(FixedIp, Subnet)>> {
    let fixed = ports::store::fixed_ips(tx, port_id)?;
    let subnets = subnets::store::by_ids(tx, fixed.iter().map(|fixed| fixed.subnet_id.as_str()))?;
    Ok(fixed
        .into_iter()
        .filter_map(|fixed| subnets.get(&fixed.subnet_id).cloned().map(|subnet| (fixed, subnet)))
        .collect())
}

/// The subnets that the router has an interface in, with its addresses there.
pub(crate) fn connected(tx: &Tx<'_>, router_id: &str) -> Result<Vec<(FixedIp, Subnet)>> {
    let mut all = Vec::new();
    for port in ports_of(tx, router_id)? {
        all.extend(subnets_of_port(tx, &port.id)?);
    }
    Ok(all)
}

pub(crate) fn refuse_overlap(one: &Subnet, other: &Subnet) -> Result<()> {
    if one.id != other.id && (one.cidr.contains(&other.cidr) || other.cidr.contains(&one.cidr)) {
        return Err(bad(
            "BadRequest",
            format!(
                "Bad router request: Cidr {} of subnet {} overlaps with cidr {} of subnet {}.",
                one.cidr, one.id, other.cidr, other.id
            ),
        ));
    }
    Ok(())
}

struct InterfaceAsk {
    subnet_id: Option<String>,
    port_id: Option<String>,
}

fn read(body: Value) -> Result<InterfaceAsk> {
    let mut attributes = Attributes::bare(body)?;
    let ask = InterfaceAsk {
        subnet_id: attributes.uuid_or_null("subnet_id")?.flatten(),
        port_id: attributes.uuid_or_null("port_id")?.flatten(),
    };
    // Clients send these along; they change nothing.
    attributes.take("advertise_extra_routes");
    attributes.finish()?;
    if ask.subnet_id.is_none() && ask.port_id.is_none() {
        return Err(bad("BadRequest", "Bad router request: Either subnet_id or port_id must be specified."));
    }
    Ok(ask)
}

fn reply(router: &Router, port: &Port, subnets: &[String]) -> Reply {
    Reply::ok(&json!({
        "id": router.id,
        "tenant_id": router.project_id,
        "project_id": router.project_id,
        "port_id": port.id,
        "network_id": port.network_id,
        "subnet_id": subnets.first(),
        "subnet_ids": subnets,
    }))
}

pub(crate) async fn add(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    let ask = read(body)?;
    app.db
        .clone()
        .write(move |tx| {
            let mut router = store::get(tx, &id)?;
            let target = Owner::of(&router.project_id).target();
            guard(&ctx, rules::ADD_INTERFACE, rules::GET_ONE, &target, || errors::router_not_found(&id))?;
            let (port, subnets) = match (ask.subnet_id, ask.port_id) {
                (Some(_), Some(_)) => {
                    return Err(bad("BadRequest", "Bad router request: Cannot specify both subnet-id and port-id."));
                }
                (Some(subnet), None) => {
                    let subnet = visible_subnet(tx, &ctx, &subnet)?;
                    let port = add_subnet(tx, &app, &router, &subnet)?;
                    (port, vec![subnet.id])
                }
                (None, Some(port)) => add_port(tx, &app, &ctx, &router, &port)?,
                (None, None) => return Err(bad("BadRequest", "Either subnet_id or port_id must be specified.")),
            };
            store::update(tx, &mut router, &app.now())?;
            Ok(reply(&router, &port, &subnets))
        })
        .await
}

/// A subnet that the caller may take the gateway address of: its own, one on its own network, or any as administrator.
fn visible_subnet(tx: &Tx<'_>, ctx: &Ctx, id: &str) -> Result<Subnet> {
    let subnet = subnets::store::get(tx, id)?;
    let owner = subnets::views::owner(tx, &subnet)?;
    ctx.allow_or(subnets::policy::GET_ONE, &owner.target(), || errors::subnet_not_found(id))?;
    let mine = ctx.creds()?.project_id();
    let is_mine = mine == Some(subnet.project_id.as_str()) || mine == owner.network_project_id.as_deref();
    if !is_mine && !is_admin(ctx)? {
        return Err(rest::Error::forbidden(format!(
            "The gateway address of subnet {id} is not yours to take: create a port there and add the router by it."
        ))
        .with_code("PolicyNotAuthorized"));
    }
    Ok(subnet)
}

/// Connects the router to a subnet with the subnet's gateway address.
pub(crate) fn add_subnet(tx: &Tx<'_>, app: &App, router: &Router, subnet: &Subnet) -> Result<Port> {
    let Some(gateway) = subnet.gateway else {
        return Err(bad("BadRequest", "Bad router request: Subnet for router interface must have a gateway IP."));
    };
    let network = networks::store::get(tx, &subnet.network_id)?;
    refuse_external(&network)?;
    check_new(tx, router, subnet)?;
    let mut draft = Draft::new(&router.project_id, ROUTER_INTERFACE, &router.id);
    draft.asks = Some(vec![Ask { subnet_id: Some(subnet.id.clone()), address: Some(gateway) }]);
    draft.host_id.clone_from(&app.options.host_name);
    ports::handlers::make(tx, app, &network, draft)
}

fn refuse_external(network: &networks::store::Network) -> Result<()> {
    if network.external {
        return Err(bad(
            "BadRequest",
            format!("Bad router request: Network {} is external: it can be a router's gateway only.", network.id),
        ));
    }
    Ok(())
}

fn check_new(tx: &Tx<'_>, router: &Router, subnet: &Subnet) -> Result<()> {
    for (_, other) in connected(tx, &router.id)? {
        if other.id == subnet.id {
            let text = format!("Bad router request: Router already has a port on subnet {}.", subnet.id);
            return Err(bad("BadRequest", text));
        }
        refuse_overlap(subnet, &other)?;
    }
    if let Some(gateway) = &router.gateway_port_id {
        for (_, outside) in subnets_of_port(tx, gateway)? {
            refuse_overlap(subnet, &outside)?;
        }
    }
    Ok(())
}

fn add_port(tx: &Tx<'_>, app: &App, ctx: &Ctx, router: &Router, id: &str) -> Result<(Port, Vec<String>)> {
    let mut port = ports::store::get(tx, id)?;
    let target = ports::views::owner_of(tx, &port)?.target();
    ctx.allow_or(ports::policy::GET_ONE, &target, || errors::port_not_found(id))?;
    if !is_admin(ctx)? && port.project_id != router.project_id {
        return Err(errors::port_not_found(id));
    }
    if !port.device_id.is_empty() {
        return Err(conflict(
            "PortInUse",
            format!(
                "Unable to complete operation on port {id} for network {}. Port already has an attached device {}.",
                port.network_id, port.device_id
            ),
        ));
    }
    refuse_external(&networks::store::get(tx, &port.network_id)?)?;
    let subnets = subnets_of_port(tx, id)?;
    if subnets.is_empty() {
        return Err(bad("BadRequest", "Bad router request: Router port must have at least one fixed IP."));
    }
    if subnets.iter().filter(|(_, subnet)| subnet.ip_version == 4).count() > 1 {
        return Err(bad("BadRequest", "Bad router request: Cannot have multiple IPv4 subnets on router port."));
    }
    for (_, subnet) in &subnets {
        check_new(tx, router, subnet)?;
    }
    port.device_id.clone_from(&router.id);
    ROUTER_INTERFACE.clone_into(&mut port.device_owner);
    port.host_id.clone_from(&app.options.host_name);
    port.port_security_enabled = false;
    port.pairs.clear();
    ports::store::set_groups(tx, id, &[])?;
    ports::store::update(tx, &mut port, &app.now())?;
    Ok((port, subnets.into_iter().map(|(_, subnet)| subnet.id).collect()))
}

pub(crate) async fn remove(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    let ask = read(body)?;
    app.db
        .clone()
        .write(move |tx| {
            let mut router = store::get(tx, &id)?;
            let target = Owner::of(&router.project_id).target();
            guard(&ctx, rules::REMOVE_INTERFACE, rules::GET_ONE, &target, || errors::router_not_found(&id))?;
            let (port, subnets) = find(tx, &router, ask.port_id.as_deref(), ask.subnet_id.as_deref())?;
            remove_port(tx, &router, &port)?;
            store::update(tx, &mut router, &app.now())?;
            Ok(reply(&router, &port, &subnets))
        })
        .await
}

fn find(tx: &Tx<'_>, router: &Router, port_id: Option<&str>, subnet_id: Option<&str>) -> Result<(Port, Vec<String>)> {
    for port in ports_of(tx, &router.id)? {
        if port_id.is_some_and(|id| id != port.id) {
            continue;
        }
        let subnets: Vec<String> =
            ports::store::fixed_ips(tx, &port.id)?.into_iter().map(|fixed| fixed.subnet_id).collect();
        match subnet_id {
            Some(id) if !subnets.iter().any(|subnet| subnet == id) => {
                if port_id.is_some() {
                    return Err(conflict(
                        "SubnetMismatchForPort",
                        format!("Subnet on port {} does not match the requested subnet {id}.", port.id),
                    ));
                }
            }
            _ => return Ok((port, subnets)),
        }
    }
    Err(match (port_id, subnet_id) {
        (Some(port), _) => errors::not_found_text(
            "RouterInterfaceNotFound",
            format!("Router {} does not have an interface with id {port}", router.id),
        ),
        (None, subnet) => errors::not_found_text(
            "RouterInterfaceNotFoundForSubnet",
            format!("Router {} has no interface on subnet {}", router.id, subnet.unwrap_or_default()),
        ),
    })
}

/// Disconnects an interface that no floating IP and no route needs.
pub(crate) fn remove_port(tx: &Tx<'_>, router: &Router, port: &Port) -> Result<()> {
    for (_, subnet) in subnets_of_port(tx, &port.id)? {
        let is_needed = tx.exists(
            "SELECT 1 FROM network_floating_ip f
             JOIN network_fixed_ip a ON a.port_id = f.fixed_port_id AND a.address = f.fixed_ip_address
             WHERE f.router_id = ?1 AND a.subnet_id = ?2",
            params![router.id, subnet.id],
        )?;
        if is_needed {
            return Err(conflict(
                "RouterInterfaceInUseByFloatingIP",
                format!(
                    "Router interface for subnet {} on router {} cannot be deleted, as it is required by one or more floating IPs.",
                    subnet.id, router.id
                ),
            ));
        }
        if router.routes.iter().any(|route| subnet.cidr.contains(&route.nexthop)) {
            return Err(conflict(
                "RouterInterfaceInUseByRoute",
                format!(
                    "Router interface for subnet {} on router {} cannot be deleted, as it is required by one or more routes.",
                    subnet.id, router.id
                ),
            ));
        }
    }
    ports::store::delete(tx, &port.id)
}

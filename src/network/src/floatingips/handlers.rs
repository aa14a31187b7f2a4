use std::{collections::HashMap, net::IpAddr};

use axum::extract::{Path, State};
use db::{Tx, Value as Bound, clock::seconds, params};
use rest::{Ctx, Params, RawJson, Reply, Result};
use serde::Serialize;

use super::{
    policy as rules,
    store::{self, FloatingIp},
};
use crate::{
    App,
    attributes::{Attributes, Bulk},
    errors::{self, bad, conflict, invalid_input},
    networks,
    policy::{Owner, Sights, guard, is_admin},
    ports::{
        self, FLOATING_IP,
        addresses::Ask,
        handlers::Draft,
        store::{FixedIp, Port},
    },
    query::{self, Query, id_list},
    quotas, subnets, tags,
};

const READ_ONLY: &[&str] =
    &["id", "status", "router_id", "created_at", "updated_at", "revision_number", "port_details"];

#[derive(Debug, Serialize)]
struct PortDetails {
    name: String,
    network_id: String,
    mac_address: String,
    admin_state_up: bool,
    status: &'static str,
    device_id: String,
    device_owner: String,
}

#[derive(Debug, Serialize)]
struct View {
    id: String,
    tenant_id: String,
    project_id: String,
    floating_ip_address: String,
    floating_network_id: String,
    router_id: Option<String>,
    port_id: Option<String>,
    fixed_ip_address: Option<String>,
    status: &'static str,
    description: String,
    dns_name: String,
    dns_domain: String,
    port_details: Option<PortDetails>,
    tags: Vec<String>,
    created_at: String,
    updated_at: String,
    revision_number: i64,
}

fn render(tx: &Tx<'_>, ctx: &Ctx, floating_ips: &[FloatingIp]) -> Result<Vec<View>> {
    let mut tags = tags::of(tx, &id_list(floating_ips.iter().map(|floating| floating.id.as_str())))?;
    let mut details = HashMap::new();
    for floating in floating_ips {
        if let Some(id) = &floating.fixed_port_id
            && let Some(port) = ports::store::find(tx, id)?
        {
            details.insert(
                floating.id.clone(),
                PortDetails {
                    status: port.status(),
                    name: port.name,
                    network_id: port.network_id,
                    mac_address: port.mac.to_string(),
                    admin_state_up: port.admin_state_up,
                    device_id: port.device_id,
                    device_owner: port.device_owner,
                },
            );
        }
    }
    let mut sights = Sights::new();
    let mut views = Vec::with_capacity(floating_ips.len());
    for floating in floating_ips {
        if !sights.of(Owner::of(&floating.project_id), |target| ctx.may(rules::GET_ONE, target))? {
            continue;
        }
        views.push(View {
            id: floating.id.clone(),
            tenant_id: floating.project_id.clone(),
            project_id: floating.project_id.clone(),
            floating_ip_address: floating.address.clone(),
            floating_network_id: floating.network_id.clone(),
            router_id: floating.router_id.clone(),
            port_id: floating.fixed_port_id.clone(),
            fixed_ip_address: floating.fixed_address.clone(),
            status: if floating.active { "ACTIVE" } else { "DOWN" },
            description: floating.description.clone(),
            dns_name: floating.dns_name.clone(),
            dns_domain: floating.dns_domain.clone(),
            port_details: details.remove(&floating.id),
            tags: tags.remove(&floating.id).unwrap_or_default(),
            created_at: seconds(&floating.created_at),
            updated_at: seconds(&floating.updated_at),
            revision_number: floating.revision,
        });
    }
    Ok(views)
}

fn one<'v>(views: &'v [View], id: &str) -> Result<&'v View> {
    views.first().ok_or_else(|| errors::floating_ip_not_found(id))
}

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
            let views = render(tx, &ctx, &listing.rows)?;
            Ok(query.listing(&ctx, "floatingips", &listing, |row| &row.id, &views))
        })
        .await
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>, params: Params) -> Result<Reply> {
    let query = Query::new(params);
    app.db
        .read(move |tx| {
            let floating = store::get(tx, &id)?;
            ctx.allow_or(rules::GET_ONE, &Owner::of(&floating.project_id).target(), || {
                errors::floating_ip_not_found(&id)
            })?;
            let views = render(tx, &ctx, std::slice::from_ref(&floating))?;
            Ok(query.one("floatingip", one(&views, &id)?))
        })
        .await
}

pub(crate) async fn create(State(app): State<App>, ctx: Ctx, RawJson(body): RawJson) -> Result<Reply> {
    let bulk = Bulk::read(body, "floatingip", "floatingips")?;
    app.db
        .clone()
        .write(move |tx| {
            let mut floating_ips = Vec::with_capacity(bulk.items.len());
            for item in bulk.items {
                floating_ips.push(create_one(tx, &app, &ctx, item)?);
            }
            let views = render(tx, &ctx, &floating_ips)?;
            Ok(query::created(bulk.is_list, "floatingip", "floatingips", &views))
        })
        .await
}

fn create_one(tx: &Tx<'_>, app: &App, ctx: &Ctx, mut attributes: Attributes) -> Result<FloatingIp> {
    attributes.read_only(READ_ONLY, false)?;
    let project_id = attributes.project(ctx)?;
    let target = Owner::of(&project_id).target();
    ctx.allow(rules::CREATE, &target)?;
    let network_id = Attributes::required(attributes.uuid("floating_network_id")?, "floating_network_id")?;
    let network = networks::store::get(tx, &network_id)?;
    ctx.allow_or(networks::policy::GET_ONE, &networks::views::owner(&network).target(), || {
        errors::network_not_found(&network_id)
    })?;
    let address = attributes.address_or_null("floating_ip_address")?.flatten();
    if address.is_some() {
        ctx.allow(rules::CREATE_ADDRESS, &target)?;
    }
    let subnet_id = attributes.uuid_or_null("subnet_id")?.flatten();
    let association = read_association(&mut attributes)?;
    let description = attributes.label("description")?.unwrap_or_default();
    let dns_name = attributes.text("dns_name", 63)?.unwrap_or_default();
    let dns_domain = networks::handlers::dns_domain(&mut attributes)?.unwrap_or_default();
    if attributes.uuid_or_null("qos_policy_id")?.flatten().is_some() {
        return Err(invalid_input("this cloud has no QoS policies"));
    }
    let tags = tags::read(&mut attributes)?;
    attributes.finish()?;
    if !network.external {
        let text = format!("Bad floatingip request: Network {network_id} is not a valid external network.");
        return Err(bad("BadRequest", text));
    }
    let mut floating =
        FloatingIp { description, dns_name, dns_domain, ..taken(tx, app, &network, &project_id, subnet_id, address)? };
    if let Some(association) = association {
        associate(tx, ctx, &mut floating, association)?;
    }
    store::insert(tx, &floating)?;
    if let Some(tags) = tags {
        tags::set(tx, &floating.id, &tags)?;
    }
    Ok(floating)
}

/// A floating IP of the network for a project, without anything that a request may say of it.
pub(crate) fn allocate(
    tx: &Tx<'_>,
    app: &App,
    network: &networks::store::Network,
    project_id: &str,
) -> Result<FloatingIp> {
    let floating = taken(tx, app, network, project_id, None, None)?;
    store::insert(tx, &floating)?;
    Ok(floating)
}

/// A floating IP that holds its address, and has no row yet.
fn taken(
    tx: &Tx<'_>,
    app: &App,
    network: &networks::store::Network,
    project_id: &str,
    subnet_id: Option<String>,
    address: Option<IpAddr>,
) -> Result<FloatingIp> {
    quotas::check(tx, app, project_id, "floatingip", 1)?;
    let id = rest::new_uuid();
    let port = hold_address(tx, app, network, &id, subnet_id, address)?;
    let held = ports::store::fixed_ips(tx, &port.id)?;
    let Some(held) = held.iter().find(|fixed| fixed.address.is_ipv4()) else {
        return Err(errors::conflict(
            "ExternalIpAddressExhausted",
            "Unable to find any IPv4 address on the external network.",
        ));
    };
    let now = app.now();
    Ok(FloatingIp {
        id,
        project_id: project_id.to_owned(),
        description: String::new(),
        network_id: network.id.clone(),
        address: held.address.to_string(),
        port_id: port.id,
        fixed_port_id: None,
        fixed_address: None,
        router_id: None,
        active: false,
        dns_name: String::new(),
        dns_domain: String::new(),
        revision: 1,
        created_at: now.clone(),
        updated_at: now,
    })
}

/// The port that holds the floating address on the external network.
fn hold_address(
    tx: &Tx<'_>,
    app: &App,
    network: &networks::store::Network,
    id: &str,
    subnet_id: Option<String>,
    address: Option<IpAddr>,
) -> Result<Port> {
    let mut draft = Draft::new("", FLOATING_IP, id);
    draft.asks = match (subnet_id, address) {
        (None, None) => {
            let first = subnets::store::of_network(tx, &network.id)?.into_iter().find(|subnet| subnet.ip_version == 4);
            if first.is_none() {
                let text = format!("Bad floatingip request: Network {} does not contain any IPv4 subnet.", network.id);
                return Err(bad("BadRequest", text));
            }
            None
        }
        (subnet_id, address) => Some(vec![Ask { subnet_id, address }]),
    };
    ports::handlers::make(tx, app, network, draft)
}

/// Where a floating IP shall lead. `port_id` None: nowhere.
struct Association {
    port_id: Option<String>,
    fixed_address: Option<IpAddr>,
}

fn read_association(attributes: &mut Attributes) -> Result<Option<Association>> {
    let port_id = attributes.uuid_or_null("port_id")?;
    let fixed_address = attributes.address_or_null("fixed_ip_address")?.flatten();
    match port_id {
        None if fixed_address.is_some() => {
            Err(bad("BadRequest", "Bad floatingip request: fixed_ip_address cannot be specified without a port_id."))
        }
        None => Ok(None),
        Some(None) if fixed_address.is_some() => {
            Err(bad("BadRequest", "Bad floatingip request: fixed_ip_address cannot be specified without a port_id."))
        }
        Some(port_id) => Ok(Some(Association { port_id, fixed_address })),
    }
}

/// Lets the floating IP lead to a port, through the router that connects the port's subnet with the outside.
fn associate(tx: &Tx<'_>, ctx: &Ctx, floating: &mut FloatingIp, ask: Association) -> Result<()> {
    floating.active = false;
    let Some(port_id) = ask.port_id else {
        (floating.fixed_port_id, floating.fixed_address, floating.router_id) = (None, None, None);
        return Ok(());
    };
    let port = ports::store::get(tx, &port_id)?;
    let target = ports::views::owner_of(tx, &port)?.target();
    ctx.allow_or(ports::policy::GET_ONE, &target, || errors::port_not_found(&port_id))?;
    if !is_admin(ctx)? && port.project_id != floating.project_id {
        return Err(bad(
            "BadRequest",
            format!(
                "Bad floatingip request: Port {port_id} is associated with a different tenant than Floating IP {} and therefore cannot be bound.",
                floating.id
            ),
        ));
    }
    lead(tx, floating, &port, ask.fixed_address)
}

/// Lets the floating IP lead to an address of the port. Whoever asks may do so.
pub(crate) fn lead(tx: &Tx<'_>, floating: &mut FloatingIp, port: &Port, asked: Option<IpAddr>) -> Result<()> {
    let port_id = &port.id;
    let fixed = inside_address(tx, port, asked)?;
    let taken = tx.find(
        "SELECT floating_ip_address FROM network_floating_ip WHERE fixed_port_id = ?1 AND fixed_ip_address = ?2
            AND floating_network_id = ?3 AND id <> ?4",
        params![port_id, fixed.address.to_string(), floating.network_id, floating.id],
        |row| row.get::<_, String>(0),
    )?;
    if taken.is_some() {
        return Err(conflict(
            "FloatingIPPortAlreadyAssociated",
            format!(
                "Cannot associate floating IP {} ({}) with port {port_id} using fixed IP {}, as that fixed IP already has a floating IP on external network {}.",
                floating.address, floating.id, fixed.address, floating.network_id
            ),
        ));
    }
    floating.router_id = Some(router_between(tx, &floating.network_id, &fixed, port_id)?);
    floating.fixed_port_id = Some(port_id.clone());
    floating.fixed_address = Some(fixed.address.to_string());
    Ok(())
}

fn inside_address(tx: &Tx<'_>, port: &Port, asked: Option<IpAddr>) -> Result<FixedIp> {
    let refused = |text: String| bad("BadRequest", format!("Bad floatingip request: {text}"));
    let fixed: Vec<FixedIp> =
        ports::store::fixed_ips(tx, &port.id)?.into_iter().filter(|fixed| fixed.address.is_ipv4()).collect();
    match asked {
        Some(address) => fixed
            .into_iter()
            .find(|fixed| fixed.address == address)
            .ok_or_else(|| refused(format!("Port {} does not have fixed ip {address}.", port.id))),
        None => match fixed.as_slice() {
            [only] => Ok(only.clone()),
            [] => Err(refused(format!("Cannot add floating IP to port {} that has no fixed IPv4 addresses.", port.id))),
            _ => Err(refused(format!(
                "Port {} has multiple fixed IPv4 addresses.  Must provide a specific IPv4 address when assigning a floating IP.",
                port.id
            ))),
        },
    }
}

/// The router with an interface on the inside subnet and a gateway on the outside network; the one that is the subnet's
/// own gateway first.
fn router_between(tx: &Tx<'_>, outside: &str, fixed: &FixedIp, port_id: &str) -> Result<String> {
    let found = tx.find(
        "SELECT r.id FROM network_router r
         JOIN network_port g ON g.id = r.gateway_port_id AND g.network_id = ?1
         JOIN network_port i ON i.device_id = r.id AND i.device_owner = 'network:router_interface'
         JOIN network_fixed_ip a ON a.port_id = i.id AND a.subnet_id = ?2
         JOIN network_subnet s ON s.id = a.subnet_id
         ORDER BY ifnull(s.gateway_ip, '') <> a.address, r.created_at LIMIT 1",
        params![outside, fixed.subnet_id],
        |row| row.get::<_, String>(0),
    )?;
    found.ok_or_else(|| {
        errors::not_found_text(
            "ExternalGatewayForFloatingIPNotFound",
            format!(
                "External network {outside} is not reachable from subnet {}.  Therefore, cannot associate Port {port_id} with a Floating IP.",
                fixed.subnet_id
            ),
        )
    })
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    let mut attributes = Attributes::update(body, "floatingip")?;
    let now = app.now();
    app.db
        .write(move |tx| {
            let mut floating = store::get(tx, &id)?;
            let target = Owner::of(&floating.project_id).target();
            guard(&ctx, rules::UPDATE, rules::GET_ONE, &target, || errors::floating_ip_not_found(&id))?;
            attributes.read_only(READ_ONLY, true)?;
            attributes.read_only(
                &[
                    "project_id",
                    "tenant_id",
                    "floating_network_id",
                    "floating_ip_address",
                    "subnet_id",
                    "dns_name",
                    "dns_domain",
                ],
                true,
            )?;
            if let Some(description) = attributes.label("description")? {
                floating.description = description;
            }
            // The port may stay unsaid when only the address on it changes.
            if attributes.has("fixed_ip_address")
                && !attributes.has("port_id")
                && let Some(port) = &floating.fixed_port_id
            {
                attributes.put("port_id", port);
            }
            let association = read_association(&mut attributes)?;
            attributes.finish()?;
            if let Some(association) = association {
                associate(tx, &ctx, &mut floating, association)?;
            }
            store::update(tx, &mut floating, &now)?;
            let views = render(tx, &ctx, std::slice::from_ref(&floating))?;
            Ok(query::updated("floatingip", one(&views, &id)?))
        })
        .await
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    app.db
        .write(move |tx| {
            let floating = store::get(tx, &id)?;
            let target = Owner::of(&floating.project_id).target();
            guard(&ctx, rules::DELETE, rules::GET_ONE, &target, || errors::floating_ip_not_found(&id))?;
            store::delete(tx, &floating)?;
            Ok(Reply::no_content())
        })
        .await
}

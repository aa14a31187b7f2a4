use axum::extract::{Path, State};
use db::{Tx, Value, params};
use rest::{Ctx, Params, RawJson, Reply, Result};

use super::{
    policy,
    store::{self, Network},
    views,
};
use crate::{
    App,
    attributes::{Attributes, Bulk},
    errors,
    policy::{Owner, guard, is_admin},
    ports,
    query::{self, Query},
    quotas, tags,
};

const READ_ONLY: &[&str] = &[
    "id",
    "status",
    "subnets",
    "created_at",
    "updated_at",
    "revision_number",
    "availability_zones",
    "l2_adjacency",
    "ipv4_address_scope",
    "ipv6_address_scope",
];
/// What a guest's IPv4 (RFC 791) or IPv6 (RFC 8200) needs at least; the highest is what the host's links carry.
const MTU_MIN_BYTES: i64 = 68;
pub(crate) const MTU_DEFAULT_BYTES: u32 = 1500;
const MTU_MAX_BYTES: i64 = 65_535;

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    let mut query = Query::new(params);
    let mut page = store::LIST.page(&mut query.params)?;
    query.tags(&mut page);
    if !is_admin(&ctx)? {
        let mine = ctx.creds()?.project_id().unwrap_or_default().to_owned();
        page.and("(r.project_id = ? OR r.shared OR r.external)", [Value::Text(mine)]);
    }
    app.db
        .read(move |tx| {
            let listing = page.fetch(tx, store::map)?;
            let views = views::render(tx, &ctx, &listing.rows, app.options.zone)?;
            Ok(query.listing(&ctx, "networks", &listing, |row| &row.id, &views))
        })
        .await
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>, params: Params) -> Result<Reply> {
    let query = Query::new(params);
    app.db
        .read(move |tx| {
            let network = store::get(tx, &id)?;
            let target = views::owner(&network).target();
            ctx.allow_or(policy::GET_ONE, &target, || errors::network_not_found(&id))?;
            let views = views::render(tx, &ctx, std::slice::from_ref(&network), app.options.zone)?;
            let view = views.first().ok_or_else(|| errors::network_not_found(&id))?;
            Ok(query.one("network", view))
        })
        .await
}

pub(crate) async fn create(State(app): State<App>, ctx: Ctx, RawJson(body): RawJson) -> Result<Reply> {
    let bulk = Bulk::read(body, "network", "networks")?;
    app.db
        .clone()
        .write(move |tx| {
            let mut networks = Vec::with_capacity(bulk.items.len());
            for item in bulk.items {
                networks.push(create_one(tx, &app, &ctx, item)?);
            }
            let views = views::render(tx, &ctx, &networks, app.options.zone)?;
            Ok(query::created(bulk.is_list, "network", "networks", &views))
        })
        .await
}

fn create_one(tx: &Tx<'_>, app: &App, ctx: &Ctx, mut attributes: Attributes) -> Result<Network> {
    attributes.read_only(READ_ONLY, false)?;
    let project_id = attributes.project(ctx)?;
    let shared = attributes.flag("shared")?.unwrap_or(false);
    let external = attributes.flag("router:external")?.unwrap_or(false);
    let target =
        Owner { network_project_id: Some(project_id.clone()), shared, external, ..Owner::of(&project_id) }.target();
    ctx.allow(policy::CREATE, &target)?;
    if shared {
        ctx.allow(policy::CREATE_SHARED, &target)?;
    }
    if external {
        ctx.allow(policy::CREATE_EXTERNAL, &target)?;
    }
    let is_default = attributes.flag("is_default")?.unwrap_or(false);
    if is_default {
        ctx.allow(policy::CREATE_DEFAULT, &target)?;
    }
    let port_security_enabled = attributes.flag("port_security_enabled")?;
    if port_security_enabled == Some(false) {
        ctx.allow(policy::CREATE_PORT_SECURITY, &target)?;
    }
    let (provider_type, provider_physical) = provider(ctx, &mut attributes, &target, external)?;
    zone_hints(&mut attributes, app.options.zone)?;
    let tags = tags::read(&mut attributes)?;
    let now = app.now();
    let network = Network {
        id: rest::new_uuid(),
        name: attributes.label("name")?.unwrap_or_default(),
        description: attributes.label("description")?.unwrap_or_default(),
        admin_state_up: attributes.flag("admin_state_up")?.unwrap_or(true),
        mtu: mtu(&mut attributes)?.unwrap_or(MTU_DEFAULT_BYTES),
        dns_domain: dns_domain(&mut attributes)?.unwrap_or_default(),
        project_id,
        shared,
        external,
        is_default: is_default && external,
        port_security_enabled: port_security_enabled.unwrap_or(true),
        provider_type,
        provider_physical,
        problem: None,
        revision: 1,
        created_at: now.clone(),
        updated_at: now,
    };
    attributes.finish()?;
    quotas::check(tx, app, &network.project_id, "network", 1)?;
    only_default(tx, &network)?;
    store::insert(tx, &network)?;
    if let Some(tags) = tags {
        tags::set(tx, &network.id, &tags)?;
    }
    Ok(network)
}

/// Type and physical network. Everything lives on this one machine, so there is nothing to encapsulate: `local` for
/// projects, and `flat` for the network that leaves it.
fn provider(
    ctx: &Ctx,
    attributes: &mut Attributes,
    target: &::policy::Target,
    external: bool,
) -> Result<(String, Option<String>)> {
    let kind = attributes.text_or_null("provider:network_type", 32)?.flatten();
    let physical = attributes.text_or_null("provider:physical_network", 64)?.flatten();
    let segment = attributes.integer_or_null("provider:segmentation_id", 0..=i64::from(u32::MAX))?.flatten();
    if kind.is_some() {
        ctx.allow(policy::CREATE_TYPE, target)?;
    }
    if physical.is_some() {
        ctx.allow(policy::CREATE_PHYSICAL, target)?;
    }
    if segment.is_some() {
        ctx.allow(policy::CREATE_SEGMENT, target)?;
        return Err(errors::invalid_input("networks of this cloud have no provider:segmentation_id"));
    }
    let kind = kind.unwrap_or_else(|| if physical.is_some() { "flat".to_owned() } else { "local".to_owned() });
    match (kind.as_str(), &physical) {
        ("local", None) => {}
        ("local", Some(_)) => {
            return Err(errors::invalid_input("provider:physical_network specified for a network of type local"));
        }
        ("flat", None) => return Err(errors::invalid_input("physical_network required for flat provider network")),
        ("flat", Some(name)) if name.is_empty() || !external => {
            return Err(errors::invalid_input("a flat network is one that leaves this machine: it must be external"));
        }
        ("flat", Some(_)) => {}
        _ => {
            return Err(errors::invalid_input(format!(
                "network_type value '{kind}' not supported: this cloud has 'local' and 'flat'"
            )));
        }
    }
    Ok((kind, physical))
}

/// There is one zone; hints that name another can never be met.
pub(crate) fn zone_hints(attributes: &mut Attributes, zone: &str) -> Result<()> {
    let hints = attributes.list("availability_zone_hints", 16)?.unwrap_or_default();
    match hints.iter().find(|hint| hint.as_str() != Some(zone)) {
        Some(other) => Err(errors::not_found_text(
            "AvailabilityZoneNotFound",
            format!("AvailabilityZone {} could not be found.", other.as_str().unwrap_or("?")),
        )),
        None => Ok(()),
    }
}

fn mtu(attributes: &mut Attributes) -> Result<Option<u32>> {
    // 0 asks for the default.
    match attributes.integer("mtu", 0..=MTU_MAX_BYTES)? {
        None => Ok(None),
        Some(0) => Ok(Some(MTU_DEFAULT_BYTES)),
        Some(mtu) if mtu < MTU_MIN_BYTES => {
            Err(errors::invalid("mtu", format!("'{mtu}' is too small, an IPv4 packet may need {MTU_MIN_BYTES}")))
        }
        Some(mtu) => Ok(u32::try_from(mtu).ok()),
    }
}

pub(crate) fn dns_domain(attributes: &mut Attributes) -> Result<Option<String>> {
    let Some(domain) = attributes.text("dns_domain", 255)? else { return Ok(None) };
    let plain = domain.trim_end_matches('.');
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !domain.is_empty() && !plain.split('.').all(is_label) {
        return Err(errors::invalid("dns_domain", format!("'{domain}' is not a valid DNS domain")));
    }
    Ok(Some(domain))
}

/// At most one network is the default external one.
fn only_default(tx: &Tx<'_>, network: &Network) -> Result<()> {
    if !network.is_default {
        return Ok(());
    }
    let other = tx.find(
        "SELECT id FROM network_network WHERE external AND is_default AND id <> ?1",
        params![network.id],
        |row| row.get::<_, String>(0),
    )?;
    match other {
        Some(other) => Err(errors::conflict(
            "DefaultExternalNetworkExists",
            format!("A default external network already exists: {other}."),
        )),
        None => Ok(()),
    }
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    let attributes = Attributes::update(body, "network")?;
    app.db
        .clone()
        .write(move |tx| {
            let network = update_one(tx, &app, &ctx, &id, attributes)?;
            let views = views::render(tx, &ctx, std::slice::from_ref(&network), app.options.zone)?;
            let view = views.first().ok_or_else(|| errors::network_not_found(&id))?;
            Ok(query::updated("network", view))
        })
        .await
}

fn update_one(tx: &Tx<'_>, app: &App, ctx: &Ctx, id: &str, mut attributes: Attributes) -> Result<Network> {
    let mut network = store::get(tx, id)?;
    let target = views::owner(&network).target();
    guard(ctx, policy::UPDATE, policy::GET_ONE, &target, || errors::network_not_found(id))?;
    attributes.read_only(READ_ONLY, true)?;
    attributes.read_only(
        &[
            "project_id",
            "tenant_id",
            "provider:network_type",
            "provider:physical_network",
            "provider:segmentation_id",
            "availability_zone_hints",
        ],
        true,
    )?;
    if let Some(name) = attributes.label("name")? {
        network.name = name;
    }
    if let Some(description) = attributes.label("description")? {
        network.description = description;
    }
    if let Some(up) = attributes.flag("admin_state_up")? {
        network.admin_state_up = up;
    }
    if let Some(mtu) = mtu(&mut attributes)? {
        network.mtu = mtu;
    }
    if let Some(domain) = dns_domain(&mut attributes)? {
        network.dns_domain = domain;
    }
    if let Some(enabled) = attributes.flag("port_security_enabled")? {
        ctx.allow(policy::UPDATE_PORT_SECURITY, &target)?;
        network.port_security_enabled = enabled;
    }
    if let Some(shared) = attributes.flag("shared")? {
        ctx.allow(policy::UPDATE_SHARED, &target)?;
        if network.shared && !shared {
            refuse_to_unshare(tx, &network)?;
        }
        network.shared = shared;
    }
    if let Some(external) = attributes.flag("router:external")? {
        ctx.allow(policy::UPDATE_EXTERNAL, &target)?;
        if network.external && !external {
            refuse_to_make_internal(tx, &network)?;
        }
        if !network.external && external && ports::store::has_router_interface(tx, id)? {
            let text = format!("Network {id} has router interfaces, an external network cannot.");
            return Err(errors::conflict("NetworkInUse", text));
        }
        network.external = external;
    }
    if let Some(is_default) = attributes.flag("is_default")? {
        ctx.allow(policy::UPDATE_DEFAULT, &target)?;
        network.is_default = is_default && network.external;
    }
    network.is_default &= network.external;
    attributes.finish()?;
    only_default(tx, &network)?;
    store::update(tx, &mut network, &app.now())?;
    Ok(network)
}

/// A network on which other projects have ports stays shared.
fn refuse_to_unshare(tx: &Tx<'_>, network: &Network) -> Result<()> {
    let is_used = tx.exists(
        "SELECT 1 FROM network_port WHERE network_id = ?1 AND project_id NOT IN (?2, '')
            AND device_owner NOT LIKE 'network:%'",
        params![network.id, network.project_id],
    )?;
    if is_used {
        return Err(errors::conflict(
            "InvalidSharedSetting",
            format!(
                "Unable to reconfigure sharing settings for network {}. Multiple tenants are using it.",
                network.id
            ),
        ));
    }
    Ok(())
}

fn refuse_to_make_internal(tx: &Tx<'_>, network: &Network) -> Result<()> {
    let is_used = tx.exists(
        "SELECT 1 FROM network_port WHERE network_id = ?1 AND device_owner IN ('network:router_gateway', 'network:floatingip')",
        params![network.id],
    )?;
    if is_used {
        return Err(errors::conflict(
            "ExternalNetworkInUse",
            format!(
                "External network {} cannot be updated to be made non-external, since it has existing gateway ports.",
                network.id
            ),
        ));
    }
    Ok(())
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    app.db
        .write(move |tx| {
            let network = store::get(tx, &id)?;
            let target = views::owner(&network).target();
            guard(&ctx, policy::DELETE, policy::GET_ONE, &target, || errors::network_not_found(&id))?;
            delete_one(tx, &id)?;
            Ok(Reply::no_content())
        })
        .await
}

/// Removes a network on which nothing is left but what serves it.
pub(crate) fn delete_one(tx: &Tx<'_>, id: &str) -> Result<()> {
    let is_used =
        tx.exists("SELECT 1 FROM network_port WHERE network_id = ?1 AND device_owner <> 'network:dhcp'", params![id])?;
    if is_used {
        return Err(errors::conflict(
            "NetworkInUse",
            format!(
                "Unable to complete operation on network {id}. There are one or more ports still in use on the network."
            ),
        ));
    }
    for port in ports::store::ids_of_network(tx, id)? {
        ports::store::delete(tx, &port)?;
    }
    store::delete(tx, id)
}

use axum::extract::{Path, State};
use db::{Tx, Value as Bound, params};
use hostnet::Mac;
use policy::Target;
use rest::{Ctx, Page, Params, RawJson, Reply, Result, Rule};
use serde_json::{Map, Value, json};

use super::{
    DHCP, FLOATING_IP, ROUTER_GATEWAY, ROUTER_INTERFACE, addresses,
    addresses::Ask,
    dhcp, is_service,
    options::{self, DhcpOpt},
    policy as rules,
    store::{self, AddressPair, FixedIp, Port},
    views,
};
use crate::{
    App,
    attributes::{Attributes, Bulk, read_mac},
    errors::{self, bad, conflict, invalid, invalid_input},
    ip,
    networks::{self, store::Network},
    policy::{guard, is_admin},
    query::{self, Query},
    quotas, security_groups, tags,
};

const READ_ONLY: &[&str] = &[
    "id",
    "status",
    "created_at",
    "updated_at",
    "revision_number",
    "binding:vif_type",
    "binding:vif_details",
    "dns_assignment",
    "resource_request",
    "ip_allocation",
];
const PAIRS_MAX: usize = 10;
const VNIC_TYPES: &[&str] = &[
    "normal",
    "direct",
    "direct-physical",
    "macvtap",
    "baremetal",
    "virtio-forwarder",
    "smart-nic",
    "vdpa",
    "accelerator-direct",
    "accelerator-direct-physical",
    "remote-managed",
];

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    let mut query = Query::new(params);
    let mut page = store::LIST.page(&mut query.params)?;
    query.tags(&mut page);
    special_filters(&mut query, &mut page)?;
    if !is_admin(&ctx)? {
        let mine = Bound::Text(ctx.creds()?.project_id().unwrap_or_default().to_owned());
        page.and("(r.project_id = ? OR n.project_id = ?)", [mine.clone(), mine]);
    }
    app.db
        .read(move |tx| {
            let listing = page.fetch(tx, store::map_listed)?;
            let around = views::Surroundings::of(tx, listing.rows.iter().map(|row| &row.port))?;
            let views = around.views(&ctx, &listing.rows, &app.options.dns_domain)?;
            Ok(query.listing(&ctx, "ports", &listing, |row| &row.port.id, &views))
        })
        .await
}

/// `fixed_ips=ip_address=..`, `fixed_ips=subnet_id=..`, `fixed_ips=ip_address_substr=..`, and security groups.
fn special_filters(query: &mut Query, page: &mut Page) -> Result<()> {
    const ADDRESS: &str = "EXISTS (SELECT 1 FROM network_fixed_ip f WHERE f.port_id = r.id
        AND f.address IN (SELECT value FROM json_each(?)))";
    const SUBNET: &str = "EXISTS (SELECT 1 FROM network_fixed_ip f WHERE f.port_id = r.id
        AND f.subnet_id IN (SELECT value FROM json_each(?)))";
    const PART: &str = "EXISTS (SELECT 1 FROM network_fixed_ip f WHERE f.port_id = r.id AND instr(f.address, ?) > 0)";
    let (mut addresses, mut subnets) = (Vec::new(), Vec::new());
    for text in query.params.take_all("fixed_ips").iter().flat_map(|text| text.split(',')) {
        match text.split_once('=') {
            Some(("ip_address", value)) => addresses.push(value.to_owned()),
            Some(("subnet_id", value)) => subnets.push(value.to_owned()),
            Some(("ip_address_substr", value)) => {
                page.and(PART, [Bound::Text(value.to_owned())]);
            }
            _ => return Err(invalid("fixed_ips", "a filter is 'ip_address=', 'ip_address_substr=' or 'subnet_id='")),
        }
    }
    if !addresses.is_empty() {
        page.and(ADDRESS, [Bound::Text(json!(addresses).to_string())]);
    }
    if !subnets.is_empty() {
        page.and(SUBNET, [Bound::Text(json!(subnets).to_string())]);
    }
    let mut groups = query.params.take_all("security_groups");
    groups.extend(query.params.take_all("security_group_ids"));
    if !groups.is_empty() {
        const IN_GROUP: &str = "EXISTS (SELECT 1 FROM network_port_security_group s WHERE s.port_id = r.id
            AND s.security_group_id IN (SELECT value FROM json_each(?)))";
        page.and(IN_GROUP, [Bound::Text(json!(groups).to_string())]);
    }
    Ok(())
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>, params: Params) -> Result<Reply> {
    let query = Query::new(params);
    app.db
        .read(move |tx| {
            let row = store::listed(tx, &id)?;
            let target = views::owner_of(tx, &row.port)?.target();
            ctx.allow_or(rules::GET_ONE, &target, || errors::port_not_found(&id))?;
            let around = views::Surroundings::of(tx, std::iter::once(&row.port))?;
            let views = around.views(&ctx, std::slice::from_ref(&row), &app.options.dns_domain)?;
            let view = views.first().ok_or_else(|| errors::port_not_found(&id))?;
            Ok(query.one("port", view))
        })
        .await
}

pub(crate) async fn create(State(app): State<App>, ctx: Ctx, RawJson(body): RawJson) -> Result<Reply> {
    let bulk = Bulk::read(body, "port", "ports")?;
    app.db
        .clone()
        .write(move |tx| {
            let mut rows = Vec::with_capacity(bulk.items.len());
            for item in bulk.items {
                let port = create_one(tx, &app, &ctx, item)?;
                rows.push(store::listed(tx, &port.id)?);
            }
            let around = views::Surroundings::of(tx, rows.iter().map(|row| &row.port))?;
            let views = around.views(&ctx, &rows, &app.options.dns_domain)?;
            Ok(query::created(bulk.is_list, "port", "ports", &views))
        })
        .await
}

/// A port before it has its addresses: from a request, from Compute, or from a router.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub project_id: String,
    pub name: String,
    pub description: String,
    pub mac: Option<Mac>,
    pub admin_state_up: bool,
    pub device_id: String,
    pub device_owner: String,
    pub asks: Option<Vec<Ask>>,
    /// None: the project's default group (for ports that are not the network's own).
    pub groups: Option<Vec<String>>,
    pub port_security_enabled: Option<bool>,
    pub pairs: Vec<AddressPair>,
    pub dhcp_opts: Vec<DhcpOpt>,
    pub dns_name: String,
    pub vnic_type: String,
    pub host_id: String,
    pub profile: Map<String, Value>,
    pub made_for: Option<String>,
}

impl Draft {
    pub(crate) fn new(project_id: &str, device_owner: &str, device_id: &str) -> Self {
        Self {
            project_id: project_id.to_owned(),
            name: String::new(),
            description: String::new(),
            mac: None,
            admin_state_up: true,
            device_id: device_id.to_owned(),
            device_owner: device_owner.to_owned(),
            asks: None,
            groups: None,
            port_security_enabled: None,
            pairs: Vec::new(),
            dhcp_opts: Vec::new(),
            dns_name: String::new(),
            vnic_type: "normal".to_owned(),
            host_id: String::new(),
            profile: Map::new(),
            made_for: None,
        }
    }
}

/// Makes a port of a draft: MAC, addresses, groups, and whatever its network needs with it. The caller has asked policy.
pub(crate) fn make(tx: &Tx<'_>, app: &App, network: &Network, draft: Draft) -> Result<Port> {
    let is_service = is_service(&draft.device_owner);
    if !draft.project_id.is_empty() && !is_service {
        quotas::check(tx, app, &draft.project_id, "port", 1)?;
    }
    let mac = match draft.mac {
        Some(mac) => mac,
        None => dhcp::free_mac(tx, &network.id)?,
    };
    let port_security_enabled = draft.port_security_enabled.unwrap_or(network.port_security_enabled && !is_service);
    let owner = addresses::For { network_id: &network.id, mac, device_owner: &draft.device_owner, current: &[] };
    let fixed_ips = addresses::assign(tx, owner, draft.asks.as_deref())?;
    let groups = match draft.groups {
        Some(groups) => groups,
        None if is_service || !port_security_enabled || draft.project_id.is_empty() => Vec::new(),
        None => vec![security_groups::store::ensure_default(tx, app, &draft.project_id)?],
    };
    let now = app.now();
    let port = Port {
        id: rest::new_uuid(),
        network_id: network.id.clone(),
        project_id: draft.project_id,
        name: draft.name,
        description: draft.description,
        mac,
        admin_state_up: draft.admin_state_up,
        device_id: draft.device_id,
        device_owner: draft.device_owner,
        port_security_enabled,
        pairs: draft.pairs,
        dhcp_opts: draft.dhcp_opts,
        dns_name: draft.dns_name,
        vnic_type: draft.vnic_type,
        host_id: draft.host_id,
        profile: draft.profile,
        made_for: draft.made_for,
        plugged: false,
        problem: None,
        revision: 1,
        created_at: now.clone(),
        updated_at: now,
    };
    check_security(&port, &groups)?;
    store::insert(tx, &port)?;
    store::set_fixed_ips(tx, &port, &fixed_ips)?;
    store::set_groups(tx, &port.id, &groups)?;
    if !matches!(port.device_owner.as_str(), DHCP | FLOATING_IP | ROUTER_GATEWAY) {
        dhcp::ensure(tx, app, &network.id)?;
    }
    Ok(port)
}

fn check_security(port: &Port, groups: &[String]) -> Result<()> {
    if !port.port_security_enabled && !groups.is_empty() {
        return Err(bad(
            "PortSecurityAndIPRequiredForSecurityGroups",
            "Port security must be enabled and port must have an IP address in order to use security groups.",
        ));
    }
    if !port.port_security_enabled && !port.pairs.is_empty() {
        return Err(conflict(
            "AddressPairAndPortSecurityRequired",
            "Port Security must be enabled in order to have allowed address pairs on a port.",
        ));
    }
    Ok(())
}

fn create_one(tx: &Tx<'_>, app: &App, ctx: &Ctx, mut attributes: Attributes) -> Result<Port> {
    attributes.read_only(READ_ONLY, false)?;
    let project_id = attributes.project(ctx)?;
    let network_id = Attributes::required(attributes.uuid("network_id")?, "network_id")?;
    let network = networks::store::get(tx, &network_id)?;
    ctx.allow_or(networks::policy::GET_ONE, &networks::views::owner(&network).target(), || {
        errors::network_not_found(&network_id)
    })?;
    let device_owner = attributes.label("device_owner")?.unwrap_or_default();
    let mut target = views::owner(&project_id, &network).target();
    target.insert("device_owner".to_owned(), Value::from(device_owner.as_str()));
    ctx.allow(rules::CREATE, &target)?;
    let admin = is_admin(ctx)?;
    let is_mine = ctx.creds()?.project_id() == Some(&network.project_id);
    if network.external && !network.shared && !admin && !is_mine {
        return Err(rest::Error::forbidden(format!(
            "Network {network_id} is external: projects use it through a router, a floating IP, or an administrator's port."
        ))
        .with_code("PolicyNotAuthorized"));
    }
    let asked = |rule: Rule| ctx.allow(rule, &target);
    if !device_owner.is_empty() {
        asked(rules::CREATE_DEVICE_OWNER)?;
    }
    let mut draft = Draft::new(&project_id, &device_owner, "");
    draft.device_id = attributes.label("device_id")?.unwrap_or_default();
    check_device(tx, ctx, &draft.device_owner, &draft.device_id)?;
    draft.name = attributes.label("name")?.unwrap_or_default();
    draft.description = attributes.label("description")?.unwrap_or_default();
    draft.admin_state_up = attributes.flag("admin_state_up")?.unwrap_or(true);
    if let Some(mac) = attributes.take("mac_address").filter(|mac| !mac.is_null()) {
        draft.mac = Some(read_mac("mac_address", &mac)?);
        asked(rules::CREATE_MAC)?;
    }
    if let Some(list) = attributes.list("fixed_ips", 64)? {
        let asks = addresses::read(list)?;
        ask_for_addresses(ctx, &target, &asks, [rules::CREATE_FIXED_IPS, rules::CREATE_ADDRESS, rules::CREATE_SUBNET])?;
        draft.asks = Some(asks);
    }
    draft.port_security_enabled = attributes.flag("port_security_enabled")?;
    if draft.port_security_enabled.is_some_and(|enabled| enabled != network.port_security_enabled) {
        asked(rules::CREATE_SECURITY)?;
    }
    if let Some(groups) = attributes.uuids("security_groups", 64)? {
        security_groups::store::check_usable(tx, &groups, &project_id, admin)?;
        draft.groups = Some(groups);
    }
    if let Some(pairs) = read_pairs(&mut attributes, draft.mac)? {
        if !pairs.is_empty() {
            asked(rules::CREATE_PAIRS)?;
        }
        draft.pairs = pairs;
    }
    if let Some(options) = options::read(&mut attributes)? {
        draft.dhcp_opts = options.into_iter().filter(|(_, removal)| !removal).map(|(option, _)| option).collect();
    }
    draft.dns_name = dns_name(&mut attributes)?.unwrap_or_default();
    binding(ctx, &mut attributes, &target, &mut draft, [rules::CREATE_HOST, rules::CREATE_PROFILE])?;
    let tags = tags::read(&mut attributes)?;
    attributes.finish()?;
    let mut port = make(tx, app, &network, draft)?;
    if port.pairs.iter().any(|pair| pair.mac_address.is_empty()) {
        fill_pairs(&mut port);
        store::update(tx, &mut port, &app.now())?;
    }
    if let Some(tags) = tags {
        tags::set(tx, &port.id, &tags)?;
    }
    Ok(port)
}

/// A pair without a MAC means the port's own.
fn fill_pairs(port: &mut Port) {
    let mac = port.mac.to_string();
    for pair in port.pairs.iter_mut().filter(|pair| pair.mac_address.is_empty()) {
        pair.mac_address.clone_from(&mac);
    }
}

fn ask_for_addresses(ctx: &Ctx, target: &Target, asks: &[Ask], [any, address, subnet]: [Rule; 3]) -> Result<()> {
    if asks.is_empty() {
        return Ok(());
    }
    ctx.allow(any, target)?;
    if asks.iter().any(|ask| ask.address.is_some()) {
        ctx.allow(address, target)?;
    }
    if asks.iter().any(|ask| ask.subnet_id.is_some()) {
        ctx.allow(subnet, target)?;
    }
    Ok(())
}

/// A port that claims to be a router's would be connected to that router: only the router's own calls make such ports,
/// or an administrator (CVE-2014-0056 upstream).
fn check_device(tx: &Tx<'_>, ctx: &Ctx, device_owner: &str, device_id: &str) -> Result<()> {
    if !matches!(device_owner, ROUTER_INTERFACE | ROUTER_GATEWAY | FLOATING_IP) || device_id.is_empty() {
        return Ok(());
    }
    let is_router = tx.exists("SELECT 1 FROM network_router WHERE id = ?1", params![device_id])?;
    if is_router || !is_admin(ctx)? {
        return Err(conflict(
            "DeviceIDNotOwnedByTenant",
            format!(
                "The following device_id {device_id} is not owned by your tenant or matches another tenants router."
            ),
        ));
    }
    Ok(())
}

fn read_pairs(attributes: &mut Attributes, mac: Option<Mac>) -> Result<Option<Vec<AddressPair>>> {
    const NAME: &str = "allowed_address_pairs";
    let Some(list) = attributes.list(NAME, 1000)? else { return Ok(None) };
    if list.len() > PAIRS_MAX {
        return Err(bad(
            "AllowedAddressPairExhausted",
            format!("The number of allowed address pair exceeds the maximum {PAIRS_MAX}."),
        ));
    }
    let mut pairs: Vec<AddressPair> = Vec::with_capacity(list.len());
    for value in list {
        let mut item = Attributes::nested(NAME, value)?;
        let mac_address = match item.take("mac_address").filter(|mac| !mac.is_null()) {
            Some(value) => read_mac("mac_address", &value)?.to_string(),
            None => mac.map(|mac| mac.to_string()).unwrap_or_default(),
        };
        let text = Attributes::required(item.text("ip_address", 64)?, "ip_address")?;
        item.finish()?;
        if ip::parse_prefix(&text).is_none() {
            return Err(invalid("ip_address", format!("'{text}' is not a valid IP address or subnet")));
        }
        let pair = AddressPair { mac_address, ip_address: text };
        if pairs.contains(&pair) {
            return Err(bad(
                "DuplicateAddressPairInRequest",
                format!(
                    "Request contains duplicate address pair: mac_address {} ip_address {}.",
                    pair.mac_address, pair.ip_address
                ),
            ));
        }
        pairs.push(pair);
    }
    Ok(Some(pairs))
}

fn dns_name(attributes: &mut Attributes) -> Result<Option<String>> {
    let Some(name) = attributes.text("dns_name", 63)? else { return Ok(None) };
    if !name.is_empty() && !is_label(&name) {
        return Err(invalid("dns_name", format!("'{name}' is not a valid DNS label")));
    }
    Ok(Some(name.to_ascii_lowercase()))
}

/// One label of a DNS name (RFC 1123).
pub(crate) fn is_label(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn binding(
    ctx: &Ctx,
    attributes: &mut Attributes,
    target: &Target,
    draft: &mut Draft,
    [host, profile]: [Rule; 2],
) -> Result<()> {
    if let Some(kind) = attributes.one_of_or_null("binding:vnic_type", VNIC_TYPES)? {
        draft.vnic_type = kind.to_owned();
    }
    if let Some(id) = attributes.text_or_null("binding:host_id", 255)? {
        let id = id.unwrap_or_default();
        if id != draft.host_id {
            ctx.allow(host, target)?;
        }
        draft.host_id = id;
    }
    match attributes.take("binding:profile") {
        None => {}
        Some(Value::Null) => draft.profile = Map::new(),
        Some(Value::Object(map)) => {
            if map != draft.profile {
                ctx.allow(profile, target)?;
            }
            if Value::Object(map.clone()).to_string().len() > 4095 {
                return Err(invalid("binding:profile", "it is longer than 4095 characters"));
            }
            draft.profile = map;
        }
        Some(_) => return Err(invalid("binding:profile", "it is not a dictionary")),
    }
    Ok(())
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    let attributes = Attributes::update(body, "port")?;
    app.db
        .clone()
        .write(move |tx| {
            update_one(tx, &app, &ctx, &id, attributes)?;
            let row = store::listed(tx, &id)?;
            let around = views::Surroundings::of(tx, std::iter::once(&row.port))?;
            let views = around.views(&ctx, std::slice::from_ref(&row), &app.options.dns_domain)?;
            let view = views.first().ok_or_else(|| errors::port_not_found(&id))?;
            Ok(query::updated("port", view))
        })
        .await
}

fn update_one(tx: &Tx<'_>, app: &App, ctx: &Ctx, id: &str, mut attributes: Attributes) -> Result<()> {
    let mut port = store::get(tx, id)?;
    let network = networks::store::get(tx, &port.network_id)?;
    let mut target = views::owner(&port.project_id, &network).target();
    let device_owner = attributes.label("device_owner")?;
    let judged = device_owner.as_deref().unwrap_or(&port.device_owner);
    target.insert("device_owner".to_owned(), Value::from(judged));
    guard(ctx, rules::UPDATE, rules::GET_ONE, &target, || errors::port_not_found(id))?;
    attributes.read_only(READ_ONLY, true)?;
    attributes.read_only(&["network_id", "project_id", "tenant_id"], true)?;
    let admin = is_admin(ctx)?;

    if let Some(name) = attributes.label("name")? {
        port.name = name;
    }
    if let Some(description) = attributes.label("description")? {
        port.description = description;
    }
    if let Some(up) = attributes.flag("admin_state_up")? {
        port.admin_state_up = up;
    }
    let device_id = attributes.label("device_id")?;
    update_device(tx, ctx, &target, &mut port, device_id, device_owner)?;
    if let Some(name) = dns_name(&mut attributes)? {
        port.dns_name = name;
    }
    let current = store::fixed_ips(tx, id)?;
    let mut fixed_ips = current.clone();
    if let Some(mac) = attributes.take("mac_address").filter(|mac| !mac.is_null()) {
        let mac = read_mac("mac_address", &mac)?;
        if mac != port.mac {
            ctx.allow(rules::UPDATE_MAC, &target)?;
            if !port.host_id.is_empty() {
                let text = format!("Unable to complete operation on port {id}, port is already bound.");
                return Err(conflict("PortBound", text));
            }
            fixed_ips = addresses::remade(tx, &port, mac, fixed_ips)?;
            port.mac = mac;
        }
    }
    if let Some(list) = attributes.list("fixed_ips", 64)? {
        let asks = addresses::read(list)?;
        ask_for_addresses(ctx, &target, &asks, [rules::UPDATE_FIXED_IPS, rules::UPDATE_ADDRESS, rules::UPDATE_SUBNET])?;
        if asks.is_empty() {
            ctx.allow(rules::UPDATE_FIXED_IPS, &target)?;
        }
        let owner = addresses::For {
            network_id: &port.network_id,
            mac: port.mac,
            device_owner: &port.device_owner,
            current: &current,
        };
        fixed_ips = addresses::assign(tx, owner, Some(&asks))?;
        refuse_to_lose_floating(tx, &port, &fixed_ips)?;
        if port.device_owner == ROUTER_INTERFACE {
            crate::routers::handlers::check_interface_addresses(tx, &port, &fixed_ips)?;
        }
    }
    let mut groups = attributes.uuids("security_groups", 64)?;
    if let Some(groups) = &groups {
        security_groups::store::check_usable(tx, groups, &port.project_id, admin)?;
    }
    if let Some(pairs) = read_pairs(&mut attributes, Some(port.mac))? {
        if pairs != port.pairs {
            ctx.allow(rules::UPDATE_PAIRS, &target)?;
        }
        port.pairs = pairs;
    }
    if let Some(enabled) = attributes.flag("port_security_enabled")? {
        if enabled != port.port_security_enabled {
            ctx.allow(rules::UPDATE_SECURITY, &target)?;
        }
        if !enabled && groups.is_none() && !store::groups(tx, id)?.is_empty() {
            return Err(conflict(
                "PortSecurityPortHasSecurityGroup",
                "Port has security group associated. Cannot disable port security or IP address until security group is removed.",
            ));
        }
        port.port_security_enabled = enabled;
    }
    if let Some(options) = options::read(&mut attributes)? {
        for (option, is_removal) in options {
            port.dhcp_opts.retain(|old| old.opt_name != option.opt_name || old.ip_version != option.ip_version);
            if !is_removal {
                port.dhcp_opts.push(option);
            }
        }
    }
    let mut draft = Draft::new("", "", "");
    (draft.vnic_type, draft.host_id, draft.profile) = (port.vnic_type, port.host_id, port.profile);
    binding(ctx, &mut attributes, &target, &mut draft, [rules::UPDATE_HOST, rules::UPDATE_PROFILE])?;
    (port.vnic_type, port.host_id, port.profile) = (draft.vnic_type, draft.host_id, draft.profile);
    let tags = tags::read(&mut attributes)?;
    attributes.finish()?;
    check_security(&port, groups.as_deref().unwrap_or_default())?;
    store::update(tx, &mut port, &app.now())?;
    if fixed_ips != current {
        store::set_fixed_ips(tx, &port, &fixed_ips)?;
    }
    if let Some(groups) = groups.take() {
        store::set_groups(tx, id, &groups)?;
    }
    if let Some(tags) = tags {
        tags::set(tx, id, &tags)?;
    }
    Ok(())
}

fn update_device(
    tx: &Tx<'_>,
    ctx: &Ctx,
    target: &Target,
    port: &mut Port,
    device_id: Option<String>,
    device_owner: Option<String>,
) -> Result<()> {
    let id_changes = device_id.as_ref().is_some_and(|id| *id != port.device_id);
    let owner_changes = device_owner.as_ref().is_some_and(|owner| *owner != port.device_owner);
    if !id_changes && !owner_changes {
        return Ok(());
    }
    if matches!(port.device_owner.as_str(), ROUTER_INTERFACE | ROUTER_GATEWAY | FLOATING_IP)
        && !port.device_id.is_empty()
    {
        return Err(service_port_in_use(port));
    }
    if owner_changes {
        ctx.allow(rules::UPDATE_DEVICE_OWNER, target)?;
    }
    if let Some(id) = device_id {
        port.device_id = id;
    }
    if let Some(owner) = device_owner {
        port.device_owner = owner;
    }
    check_device(tx, ctx, &port.device_owner, &port.device_id)?;
    // Whoever takes the port from its server takes its tap away too.
    if port.device_id.is_empty() {
        port.host_id = String::new();
        port.plugged = false;
    }
    Ok(())
}

fn refuse_to_lose_floating(tx: &Tx<'_>, port: &Port, kept: &[FixedIp]) -> Result<()> {
    let led_to = tx.list(
        "SELECT id, fixed_ip_address FROM network_floating_ip WHERE fixed_port_id = ?1",
        params![port.id],
        |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?)),
    )?;
    for (id, address) in led_to {
        if address.is_some_and(|address| !kept.iter().any(|fixed| fixed.address.to_string() == address)) {
            return Err(invalid_input(format!("floating IP {id} leads to an address that the port would lose")));
        }
    }
    Ok(())
}

fn service_port_in_use(port: &Port) -> rest::Error {
    conflict(
        "ServicePortInUse",
        format!(
            "Port {} cannot be deleted directly via the port API: has device owner {}.",
            port.id, port.device_owner
        ),
    )
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    app.db
        .write(move |tx| {
            let port = store::get(tx, &id)?;
            let target = views::owner_of(tx, &port)?.target();
            guard(&ctx, rules::DELETE, rules::GET_ONE, &target, || errors::port_not_found(&id))?;
            if matches!(port.device_owner.as_str(), ROUTER_INTERFACE | ROUTER_GATEWAY | FLOATING_IP)
                && is_still_used(tx, &port)?
            {
                return Err(service_port_in_use(&port));
            }
            store::delete(tx, &id)?;
            Ok(Reply::no_content())
        })
        .await
}

/// Whether the router or floating IP that a port serves is still there.
fn is_still_used(tx: &Tx<'_>, port: &Port) -> Result<bool> {
    Ok(tx.exists(
        "SELECT 1 FROM network_router WHERE id = ?1 UNION ALL SELECT 1 FROM network_floating_ip WHERE floating_port_id = ?2",
        params![port.device_id, port.id],
    )?)
}

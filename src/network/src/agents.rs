//! `/v2.0/agents` and `/v2.0/availability_zones`. There is one process; it reports itself once for each task that Neutron
//! has an agent for, alive as long as it answers.

use axum::extract::{Path, State};
use policy::Target;
use rest::{Ctx, Params, Reply, Result, Rule, rule};
use serde_json::{Value, json};

use crate::{App, errors, networks, policy::ADMIN, query::Query, routers};

pub(crate) const GET: Rule = rule("get_agent", ADMIN, "See agents", &[("GET", "/agents"), ("GET", "/agents/{id}")]);
pub(crate) const GET_DHCP: Rule =
    rule("get_dhcp-agents", ADMIN, "See a network's DHCP agents", &[("GET", "/networks/{id}/dhcp-agents")]);
pub(crate) const GET_L3: Rule =
    rule("get_l3-agents", ADMIN, "See a router's agents", &[("GET", "/routers/{id}/l3-agents")]);
pub(crate) const GET_DHCP_NETWORKS: Rule =
    rule("get_dhcp-networks", ADMIN, "See an agent's networks", &[("GET", "/agents/{id}/dhcp-networks")]);
pub(crate) const GET_L3_ROUTERS: Rule =
    rule("get_l3-routers", ADMIN, "See an agent's routers", &[("GET", "/agents/{id}/l3-routers")]);
pub(crate) const GET_ZONES: Rule =
    rule("get_availability_zone", "", "See availability zones", &[("GET", "/availability_zones")]);

const DHCP: &str = "DHCP agent";
const L3: &str = "L3 agent";

/// Type, binary, whether it belongs to a zone.
const AGENTS: &[(&str, &str, bool)] = &[
    (DHCP, "neutron-dhcp-agent", true),
    (L3, "neutron-l3-agent", true),
    ("Metadata agent", "neutron-metadata-agent", false),
    ("Linux bridge agent", "neutron-linuxbridge-agent", false),
];

/// The same id at every start: made of the host's name and the agent's.
fn id_of(app: &App, binary: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, format!("{binary}@{}", app.options.host_name).as_bytes());
    let hex: String = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

fn view(app: &App, (kind, binary, zoned): &(&str, &str, bool)) -> Value {
    let now = db::clock::naive(&db::clock::seconds(&app.now())).replace('T', " ");
    json!({
        "id": id_of(app, binary),
        "agent_type": kind,
        "binary": binary,
        "topic": "N/A",
        "host": app.options.host_name,
        "availability_zone": zoned.then_some(app.options.zone),
        "admin_state_up": true,
        "alive": true,
        "configurations": {},
        "description": null,
        "resources_synced": null,
        "created_at": now,
        "started_at": now,
        "heartbeat_timestamp": now,
    })
}

/// Whether a view has all the values asked for.
fn matches(view: &Value, params: &Params) -> bool {
    params.pairs().iter().all(|(name, wanted)| match view.get(name) {
        Some(Value::String(text)) => text == wanted,
        Some(Value::Bool(flag)) => rest::parse_bool(wanted) == Some(*flag),
        _ => true,
    })
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    ctx.allow(GET, &Target::new())?;
    let query = Query::new(params);
    let agents: Vec<Value> =
        AGENTS.iter().map(|agent| view(&app, agent)).filter(|view| matches(view, &query.params)).collect();
    Ok(query.all("agents", &agents))
}

fn find(app: &App, id: &str) -> Result<&'static (&'static str, &'static str, bool)> {
    AGENTS
        .iter()
        .find(|(_, binary, _)| id_of(app, binary) == id)
        .ok_or_else(|| errors::not_found("Agent", "AgentNotFound", id))
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>, params: Params) -> Result<Reply> {
    ctx.allow(GET, &Target::new())?;
    Ok(Query::new(params).one("agent", &view(&app, find(&app, &id)?)))
}

fn only(app: &App, kind: &str) -> Vec<Value> {
    AGENTS.iter().filter(|(known, _, _)| *known == kind).map(|agent| view(app, agent)).collect()
}

pub(crate) async fn of_network(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(GET_DHCP, &Target::new())?;
    let is_served = app
        .db
        .read(move |tx| {
            networks::store::get(tx, &id)?;
            Ok::<_, rest::Error>(tx.exists(
                "SELECT 1 FROM network_port WHERE network_id = ?1 AND device_owner = 'network:dhcp'",
                db::params![id],
            )?)
        })
        .await?;
    Ok(Reply::ok(&json!({"agents": if is_served { only(&app, DHCP) } else { Vec::new() }})))
}

pub(crate) async fn of_router(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(GET_L3, &Target::new())?;
    app.db.read(move |tx| routers::store::get(tx, &id)).await?;
    Ok(Reply::ok(&json!({"agents": only(&app, L3)})))
}

pub(crate) async fn dhcp_networks(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(GET_DHCP_NETWORKS, &Target::new())?;
    let is_dhcp = find(&app, &id)?.0 == DHCP;
    let networks = app
        .db
        .clone()
        .read(move |tx| {
            let ids: Vec<String> = if is_dhcp {
                tx.list(
                    "SELECT DISTINCT network_id FROM network_port WHERE device_owner = 'network:dhcp'",
                    [],
                    |row| row.get(0),
                )?
            } else {
                Vec::new()
            };
            let mut rows: Vec<_> = networks::store::by_ids(tx, ids)?.into_values().collect();
            rows.sort_by(|a, b| a.id.cmp(&b.id));
            let views = networks::views::render(tx, &ctx, &rows, app.options.zone)?;
            serde_json::to_value(views).map_err(rest::Error::internal)
        })
        .await?;
    Ok(Reply::ok(&json!({ "networks": networks })))
}

pub(crate) async fn l3_routers(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(GET_L3_ROUTERS, &Target::new())?;
    let is_l3 = find(&app, &id)?.0 == L3;
    let routers = app
        .db
        .clone()
        .read(move |tx| {
            let rows = if is_l3 { routers::store::all(tx)? } else { Vec::new() };
            let views = routers::views::render(tx, &ctx, &rows, app.options.zone)?;
            serde_json::to_value(views).map_err(rest::Error::internal)
        })
        .await?;
    Ok(Reply::ok(&json!({ "routers": routers })))
}

pub(crate) async fn zones(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    ctx.allow(GET_ZONES, &Target::new())?;
    let query = Query::new(params);
    let zones: Vec<Value> = ["network", "router"]
        .iter()
        .map(|resource| json!({"name": app.options.zone, "resource": resource, "state": "available"}))
        .filter(|view| matches(view, &query.params))
        .collect();
    Ok(query.all("availability_zones", &zones))
}

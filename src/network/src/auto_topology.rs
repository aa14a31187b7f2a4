//! `/v2.0/auto-allocated-topology`: a network with a way out for a project that has none and asks for "any". Compute uses
//! it for servers created with `networks: auto`.

use axum::extract::{Path, State};
use db::{Tx, params};
use ipnet::{IpNet, Ipv4Net};
use rest::{Ctx, Params, Reply, Result, Rule, rule};
use serde_json::json;

use crate::{App, bootstrap, errors, networks, policy::Owner, ports, quotas, routers, subnetpools, subnets};

pub(crate) const GET: Rule = rule(
    "get_auto_allocated_topology",
    crate::policy::READER,
    "Get (and make) a project's network",
    &[("GET", "/auto-allocated-topology/{project_id}")],
);
pub(crate) const DELETE: Rule = rule(
    "delete_auto_allocated_topology",
    crate::policy::MEMBER,
    "Delete the network that a project was given",
    &[("DELETE", "/auto-allocated-topology/{project_id}")],
);

/// Each project's range is another one, so that they may be routed to each other later.
const RANGE: Ipv4Net = Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 0, 0, 0), 8);
const LENGTH: u8 = 26;

fn failure(text: &str) -> rest::Error {
    errors::conflict("AutoAllocationFailure", format!("Deployment error: {text}"))
}

fn default_outside(tx: &Tx<'_>) -> Result<String> {
    tx.find("SELECT id FROM network_network WHERE external AND is_default", [], |row| row.get(0))?
        .ok_or_else(|| failure("No default router:external network."))
}

/// Whether the project has a network already or could be given one.
pub(crate) fn check(tx: &Tx<'_>, project: &str) -> Result<()> {
    if find(tx, project)?.is_none() {
        default_outside(tx)?;
    }
    Ok(())
}

fn find(tx: &Tx<'_>, project: &str) -> Result<Option<(String, String)>> {
    Ok(tx.find(
        "SELECT network_id, router_id FROM network_auto_topology WHERE project_id = ?1",
        params![project],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?)
}

/// The project's own network; made when it has none.
pub(crate) fn ensure(tx: &Tx<'_>, app: &App, project: &str) -> Result<String> {
    if let Some((network, _)) = find(tx, project)? {
        return Ok(network);
    }
    let outside = default_outside(tx)?;
    quotas::check(tx, app, project, "network", 1)?;
    quotas::check(tx, app, project, "router", 1)?;
    let taken: Vec<IpNet> = subnets::store::all(tx)?.into_iter().map(|subnet| subnet.cidr).collect();
    let cidr = subnetpools::first_free(IpNet::V4(RANGE), LENGTH, &taken).ok_or_else(|| failure("No range is left."))?;
    let network = bootstrap::network(app, project, "auto_allocated_network");
    networks::store::insert(tx, &network)?;
    let inside = bootstrap::subnet(app, &network, "auto_allocated_subnet_v4", cidr);
    subnets::handlers::insert(tx, app, &network, &inside)?;
    let mut router = routers::handlers::blank(app, project, "auto_allocated_router");
    routers::store::insert(tx, &router)?;
    bootstrap::connect(tx, app, &mut router, &outside, &inside)?;
    tx.execute(
        "INSERT INTO network_auto_topology (project_id, network_id, router_id) VALUES (?1, ?2, ?3)",
        params![project, network.id, router.id],
    )?;
    Ok(network.id)
}

pub(crate) async fn show(
    State(app): State<App>,
    ctx: Ctx,
    Path(project): Path<String>,
    params: Params,
) -> Result<Reply> {
    ctx.allow_or(GET, &Owner::of(&project).target(), || {
        errors::not_found("Auto-allocated topology", "AutoAllocatedTopologyNotFound", &project)
    })?;
    if params.get("fields") == Some("dry-run") {
        let asked = project.clone();
        app.db.read(move |tx| check(tx, &asked)).await?;
        return Ok(Reply::ok(&json!({"auto_allocated_topology": {"id": "dry-run=pass", "tenant_id": project}})));
    }
    let owner = project.clone();
    let network = app.db.clone().write(move |tx| ensure(tx, &app, &owner)).await?;
    Ok(Reply::ok(&json!({
        "auto_allocated_topology": {"id": network, "tenant_id": project, "project_id": project}
    })))
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(project): Path<String>) -> Result<Reply> {
    ctx.allow(DELETE, &Owner::of(&project).target())?;
    app.db
        .clone()
        .write(move |tx| {
            let Some((network, router)) = find(tx, &project)? else {
                return Err(errors::not_found("Auto-allocated topology", "AutoAllocatedTopologyNotFound", &project));
            };
            let router = routers::store::get(tx, &router)?;
            tx.execute("DELETE FROM network_auto_topology WHERE project_id = ?1", params![project])?;
            for port in routers::interfaces::ports_of(tx, &router.id)? {
                routers::interfaces::remove_port(tx, &router, &port)?;
            }
            routers::handlers::delete_one(tx, &app, router)?;
            let is_used = ports::store::of_network(tx, &network)?.iter().any(|port| port.device_owner != ports::DHCP);
            if is_used {
                let text = format!("Unable to complete operation on network {network}. There are one or more ports still in use on the network.");
                return Err(errors::conflict("NetworkInUse", text));
            }
            networks::handlers::delete_one(tx, &network)?;
            Ok(Reply::no_content())
        })
        .await
}

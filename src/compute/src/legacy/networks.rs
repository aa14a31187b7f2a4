//! `os-networks` and `os-tenant-networks`, until 2.35.

use axum::extract::{Path, State};
use network::peer::NetworkView;
use rest::{Ctx, Error, Kind, Reply, Result, target};
use serde_json::{Value, json};

use super::{asker, policy};
use crate::{App, network_info};

/// A network of nova-network's days: what there is no more is null.
fn view(network: &NetworkView, admin: bool) -> Value {
    let v4 = network.subnets.iter().find(|(cidr, ..)| cidr.addr().is_ipv4());
    let v6 = network.subnets.iter().find(|(cidr, ..)| cidr.addr().is_ipv6());
    let dns = |index: usize| v4.and_then(|(_, _, dns, _)| dns.get(index)).map(ToString::to_string);
    let mut view = json!({
        "id": network.id,
        "label": network.name,
        "project_id": network.project_id,
        "cidr": v4.map(|(cidr, ..)| cidr.to_string()),
        "netmask": v4.map(|(cidr, ..)| cidr.netmask().to_string()),
        "broadcast": v4.map(|(cidr, ..)| cidr.broadcast().to_string()),
        "gateway": v4.and_then(|(_, gateway, ..)| gateway.map(|gateway| gateway.to_string())),
        "dns1": dns(0),
        "dns2": dns(1),
        "cidr_v6": v6.map(|(cidr, ..)| cidr.to_string()),
        "netmask_v6": v6.map(|(cidr, ..)| cidr.prefix_len()),
        "gateway_v6": v6.and_then(|(_, gateway, ..)| gateway.map(|gateway| gateway.to_string())),
        "mtu": network.mtu,
        "enable_dhcp": v4.map(|(.., dhcp)| dhcp),
    });
    for nothing in ["dhcp_start", "dhcp_server", "updated_at", "created_at", "deleted_at", "deleted", "share_address"] {
        view[nothing] = Value::Null;
    }
    if admin {
        for nothing in [
            "bridge",
            "bridge_interface",
            "vlan",
            "injected",
            "multi_host",
            "host",
            "priority",
            "rxtx_base",
            "vpn_public_address",
            "vpn_public_port",
            "vpn_private_address",
        ] {
            view[nothing] = Value::Null;
        }
    }
    view
}

fn short(network: &NetworkView) -> Value {
    let cidr = network.subnets.first().map(|(cidr, ..)| cidr.to_string());
    json!({"id": network.id, "label": network.name, "cidr": cidr})
}

async fn list(app: &App, ctx: &Ctx) -> Result<Vec<NetworkView>> {
    let (project_id, admin) = asker(ctx)?;
    app.db.read(move |tx| network_info::networks(tx, &project_id, admin)).await
}

async fn one(app: &App, ctx: &Ctx, id: &str) -> Result<NetworkView> {
    let (project_id, admin) = asker(ctx)?;
    let wanted = id.to_owned();
    app.db.read(move |tx| network_info::network(tx, &project_id, admin, &wanted)).await.map_err(|error| {
        if error.kind() == Kind::NotFound { Error::new(Kind::NotFound, "Network not found") } else { error }
    })
}

fn allow(ctx: &Ctx, rule: rest::Rule) -> Result<()> {
    ctx.allow(rule, &target(&[("project_id", ctx.creds()?.project_id().unwrap_or_default())]))
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx) -> Result<Reply> {
    allow(&ctx, policy::NETWORKS)?;
    let (_, admin) = asker(&ctx)?;
    let networks: Vec<Value> = list(&app, &ctx).await?.iter().map(|network| view(network, admin)).collect();
    Ok(Reply::ok(&json!({"networks": networks})))
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    allow(&ctx, policy::NETWORKS_SHOW)?;
    let (_, admin) = asker(&ctx)?;
    Ok(Reply::ok(&json!({"network": view(&one(&app, &ctx, &id).await?, admin)})))
}

pub(crate) async fn tenant_index(State(app): State<App>, ctx: Ctx) -> Result<Reply> {
    allow(&ctx, policy::TENANT_NETWORKS)?;
    let networks: Vec<Value> = list(&app, &ctx).await?.iter().map(short).collect();
    Ok(Reply::ok(&json!({"networks": networks})))
}

pub(crate) async fn tenant_show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    allow(&ctx, policy::TENANT_NETWORKS_SHOW)?;
    Ok(Reply::ok(&json!({"network": short(&one(&app, &ctx, &id).await?)})))
}

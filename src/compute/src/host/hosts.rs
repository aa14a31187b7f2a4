//! Requests about hosts, as they were before 2.43: hypervisors and services say the same since. Compute API reference,
//! "Hosts (os-hosts) (DEPRECATED)".

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use rest::{Body, Ctx, Error, Kind, Params, Reply, Result, target};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{hypervisors, policy, store, zones::services_and_zone};
use crate::{App, servers};

/// `compute` of `nova-compute`.
fn short(binary: &str) -> &str {
    binary.strip_prefix("nova-").unwrap_or(binary)
}

fn check(app: &App, name: &str) -> Result<()> {
    if name == app.options.host_name {
        return Ok(());
    }
    Err(Error::new(Kind::NotFound, format!("Compute host {name} could not be found.")))
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, mut params: Params) -> Result<Reply> {
    ctx.allow(policy::HOSTS, &target(&[]))?;
    let wanted = (params.take("zone").filter(|zone| !zone.is_empty()), params.take("service"));
    let (rows, zone) = services_and_zone(&app).await?;
    let hosts: Vec<Value> = rows
        .iter()
        .map(|row| (short(&row.binary), if row.zone == "internal" { "internal" } else { zone.as_str() }))
        .filter(|(_, zone)| wanted.0.as_ref().is_none_or(|wanted| wanted == zone))
        .filter(|(service, _)| wanted.1.as_ref().is_none_or(|wanted| wanted == service))
        .map(|(service, zone)| json!({"host_name": app.options.host_name, "service": service, "zone": zone}))
        .collect();
    Ok(Reply::ok(&json!({"hosts": hosts})))
}

/// All there is, what is taken of it, what servers were promised, and the same by project.
pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(name): Path<String>) -> Result<Reply> {
    ctx.allow(policy::HOSTS_SHOW, &target(&[]))?;
    check(&app, &name)?;
    let host = hypervisors::host(&app).await?;
    let resource = |project: &str, cpu: i64, memory_mb: i64, disk_gb: i64| {
        json!({"resource": {
            "host": name, "project": project, "cpu": cpu, "memory_mb": memory_mb, "disk_gb": disk_gb,
        }})
    };
    let ((cpus, cpus_used), (ram, ram_used), (disk, disk_used)) =
        (host.of("VCPU"), host.of("MEMORY_MB"), host.of("DISK_GB"));
    let mut promised: BTreeMap<String, (i64, i64, i64)> = BTreeMap::new();
    for server in app.db.read(servers::store::list_all).await.map_err(Error::from)? {
        let sum = promised.entry(server.project_id.clone()).or_default();
        sum.0 += server.flavor.vcpus;
        sum.1 += server.flavor.ram_mib;
        sum.2 += server.flavor.disk_total_gib(server.root_gib);
    }
    let all = promised.values().fold((0, 0, 0), |all, one| (all.0 + one.0, all.1 + one.1, all.2 + one.2));
    let mut resources = vec![
        resource("(total)", cpus, ram, disk),
        resource("(used_now)", cpus_used, ram_used, disk_used),
        resource("(used_max)", all.0, all.1, all.2),
    ];
    resources.extend(promised.iter().map(|(project, sum)| resource(project, sum.0, sum.1, sum.2)));
    Ok(Reply::ok(&json!({"host": resources})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HostChange {
    status: Option<String>,
    maintenance_mode: Option<String>,
}

fn enable(field: &str, word: &str) -> Result<bool> {
    match word.to_ascii_lowercase().as_str() {
        "enable" => Ok(true),
        "disable" => Ok(false),
        _ => Err(Error::bad_request(format!("Invalid input for field/attribute {field}: enable or disable."))),
    }
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path(name): Path<String>,
    Body(change): Body<HostChange>,
) -> Result<Reply> {
    ctx.allow(policy::HOSTS_UPDATE, &target(&[]))?;
    let status = change.status.map(|word| enable("status", &word)).transpose()?;
    let maintenance = change.maintenance_mode.map(|word| enable("maintenance_mode", &word)).transpose()?;
    if status.is_none() && maintenance.is_none() {
        return Err(Error::bad_request("Invalid input: status or maintenance_mode is needed."));
    }
    check(&app, &name)?;
    if maintenance.is_some() {
        return Err(Error::not_implemented("Virt driver does not implement host maintenance mode."));
    }
    if let Some(enabled) = status {
        app.db
            .write(move |tx| {
                for mut row in store::list(tx)?.into_iter().filter(|row| row.binary == "nova-compute") {
                    row.disabled = !enabled;
                    row.disabled_reason = None;
                    store::update(tx, &row)?;
                }
                Ok::<_, Error>(())
            })
            .await?;
    }
    let status = if status == Some(false) { "disabled" } else { "enabled" };
    Ok(Reply::ok(&json!({"host": name, "status": status})))
}

/// Whoever asks would cut off their own way back: the machine's power is not Compute's.
fn power(app: &App, name: &str, action: &str) -> Result<Reply> {
    check(app, name)?;
    Err(Error::not_implemented(format!("This cloud does not {action} its host through the API.")))
}

pub(crate) async fn startup(State(app): State<App>, ctx: Ctx, Path(name): Path<String>) -> Result<Reply> {
    ctx.allow(policy::HOSTS_START, &target(&[]))?;
    power(&app, &name, "start")
}

pub(crate) async fn shutdown(State(app): State<App>, ctx: Ctx, Path(name): Path<String>) -> Result<Reply> {
    ctx.allow(policy::HOSTS_SHUTDOWN, &target(&[]))?;
    power(&app, &name, "shut down")
}

pub(crate) async fn reboot(State(app): State<App>, ctx: Ctx, Path(name): Path<String>) -> Result<Reply> {
    ctx.allow(policy::HOSTS_REBOOT, &target(&[]))?;
    power(&app, &name, "reboot")
}

//! `migrate`, `os-migrateLive`, `evacuate`, as the only host answers them: what is asked is checked as upstream does, and
//! there is nowhere to go. Compute API reference, "Servers - run an administrative action".

use rest::{Ctx, Error, Kind, Reply, Result};
use serde::Deserialize;
use serde_json::Value;

use super::{
    handlers::{refuse_locked, require, visible_to_few},
    model::VmState,
    policy,
    request::{self, bad},
};
use crate::{App, flavors::handlers::unexpected, host};

fn nowhere(app: &App) -> Error {
    Error::bad_request(format!(
        "No valid host was found. There are not enough hosts available: {} is the only one.",
        app.options.host_name
    ))
}

pub(super) fn no_such_host(host: &str) -> Error {
    Error::bad_request(format!("Compute host {host} could not be found."))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Migrate {
    host: Option<String>,
}

pub(crate) async fn migrate(app: &App, ctx: &Ctx, id: &str, argument: Value) -> Result<Reply> {
    let wanted = match argument {
        Value::Null => Migrate { host: None },
        // Upstream's schema of before takes anything, and looks at nothing.
        _ if !ctx.since(2, 56) => Migrate { host: None },
        fields => request::fields("migrate", fields)?,
    };
    let rule = if wanted.host.is_some() { policy::MIGRATE_HOST } else { policy::MIGRATE };
    let server = visible_to_few(app, ctx, id, rule).await?;
    refuse_locked(ctx, &server)?;
    require(&server, "migrate", &[VmState::Active, VmState::Stopped])?;
    match wanted.host {
        Some(host) if host == app.options.host_name => {
            Err(Error::bad_request(format!("Cannot migrate to the host where the server exists: {host}.")))
        }
        Some(host) => Err(no_such_host(&host)),
        None => Err(nowhere(app)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MigrateLive {
    /// Null: the scheduler's choice.
    host: Value,
    block_migration: Value,
    disk_over_commit: Option<Value>,
    force: Option<Value>,
}

pub(crate) async fn migrate_live(app: &App, ctx: &Ctx, id: &str, argument: Value) -> Result<Reply> {
    const ACTION: &str = "os-migrateLive";
    let wanted: MigrateLive = request::fields(ACTION, argument)?;
    let host = match wanted.host {
        Value::Null => None,
        Value::String(host) if (1..=255).contains(&host.chars().count()) => Some(host),
        _ => return Err(bad("host", "it must be null or a host's name")),
    };
    match (&wanted.disk_over_commit, ctx.since(2, 25)) {
        (None, false) => return Err(Error::bad_request("'disk_over_commit' is a required property")),
        (Some(_), true) => return Err(unexpected("disk_over_commit")),
        (Some(value), false) => flag("disk_over_commit", value).map(|_| ())?,
        (None, true) => {}
    }
    if !(ctx.since(2, 25) && wanted.block_migration == "auto") {
        flag("block_migration", &wanted.block_migration)?;
    }
    check_force(ctx, wanted.force.as_ref(), host.as_deref(), (2, 30))?;
    let rule = if host.is_some() { policy::MIGRATE_LIVE_HOST } else { policy::MIGRATE_LIVE };
    let server = visible_to_few(app, ctx, id, rule).await?;
    refuse_locked(ctx, &server)?;
    require(&server, ACTION, &[VmState::Active, VmState::Paused])?;
    match host {
        Some(host) if host == app.options.host_name => {
            Err(Error::bad_request(format!("Unable to migrate instance ({id}) to current host ({host}).")))
        }
        Some(host) => Err(no_such_host(&host)),
        None => Err(nowhere(app)),
    }
}

fn flag(field: &str, value: &Value) -> Result<bool> {
    let truth = match value {
        Value::Bool(truth) => Some(*truth),
        Value::String(text) => rest::parse_bool(text),
        _ => None,
    };
    truth.ok_or_else(|| bad(field, "it must be a boolean"))
}

/// `force` came with one version, and went with 2.68.
fn check_force(ctx: &Ctx, force: Option<&Value>, host: Option<&str>, since: (u16, u16)) -> Result<()> {
    let Some(force) = force else { return Ok(()) };
    if !ctx.since(since.0, since.1) || ctx.since(2, 68) {
        return Err(unexpected("force"));
    }
    if flag("force", force)? && host.is_none() {
        return Err(Error::bad_request("Can't force to a non-provided destination"));
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Evacuate {
    host: Option<String>,
    #[serde(rename = "adminPass")]
    admin_pass: Option<String>,
    #[serde(rename = "onSharedStorage")]
    on_shared_storage: Option<Value>,
    force: Option<Value>,
}

pub(crate) async fn evacuate(app: &App, ctx: &Ctx, id: &str, argument: Value) -> Result<Reply> {
    let wanted: Evacuate = request::fields("evacuate", argument)?;
    match (&wanted.on_shared_storage, ctx.since(2, 14)) {
        (None, false) => return Err(Error::bad_request("'onSharedStorage' is a required property")),
        (Some(_), true) => return Err(unexpected("onSharedStorage")),
        (Some(value), false) => {
            if flag("onSharedStorage", value)? && wanted.admin_pass.is_some() {
                return Err(Error::bad_request("admin password can't be changed on existing disk"));
            }
        }
        (None, true) => {}
    }
    check_force(ctx, wanted.force.as_ref(), wanted.host.as_deref(), (2, 29))?;
    request::admin_pass(wanted.admin_pass)?;
    let server = visible_to_few(app, ctx, id, policy::EVACUATE).await?;
    match wanted.host {
        Some(host) if host == app.options.host_name => {
            return Err(Error::bad_request("The target host can't be the same one."));
        }
        Some(host) => return Err(Error::new(Kind::NotFound, format!("Compute host {host} not found."))),
        None => {}
    }
    require(&server, "evacuate", &[VmState::Active, VmState::Stopped, VmState::Error])?;
    let down = app.db.read(host::store::forced_down).await?;
    if !down {
        return Err(Error::bad_request(format!("Compute service of {} is still in use.", app.options.host_name)));
    }
    Err(nowhere(app))
}

//! Requests about services. One process does the work of all; users still look for Nova's names.

use axum::extract::{Path, State};
use rest::{Body, Ctx, Error, Kind, Params, Reply, Result, is_uuid, target};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    policy,
    store::{self, ServiceRow},
    zones::services_and_zone,
};
use crate::{App, aggregates, flavors::handlers::unexpected};

fn view(app: &App, ctx: &Ctx, row: &ServiceRow, zone: &str) -> Value {
    let mut view = json!({
        "id": row.id,
        "binary": row.binary,
        "host": app.options.host_name,
        "zone": if row.zone == "internal" { "internal" } else { zone },
        "status": if row.disabled { "disabled" } else { "enabled" },
        // One process: whoever reads this was answered by it.
        "state": if row.forced_down { "down" } else { "up" },
        "updated_at": db::clock::naive(&app.clock.now_text()),
        "disabled_reason": row.disabled_reason,
    });
    if ctx.since(2, 11) {
        view["forced_down"] = json!(row.forced_down);
    }
    if ctx.since(2, 53) {
        view["id"] = json!(row.uuid);
    }
    view
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, mut params: Params) -> Result<Reply> {
    ctx.allow(policy::SERVICES, &target(&[]))?;
    let (binary, host) = (params.take("binary"), params.take("host"));
    if ctx.since(2, 75) {
        params.finish()?;
    }
    let (rows, zone) = services_and_zone(&app).await?;
    let services: Vec<Value> = rows
        .iter()
        .filter(|row| binary.as_ref().is_none_or(|binary| *binary == row.binary))
        .filter(|_| host.as_ref().is_none_or(|host| *host == app.options.host_name))
        .map(|row| view(&app, &ctx, row, &zone))
        .collect();
    Ok(Reply::ok(&json!({"services": services})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceChange {
    host: Option<String>,
    binary: Option<String>,
    status: Option<String>,
    disabled_reason: Option<String>,
    forced_down: Option<bool>,
}

/// Before 2.53 the last segment is a verb and the body names the service; since then it is the service's id.
pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    Body(change): Body<ServiceChange>,
) -> Result<Reply> {
    ctx.allow(policy::SERVICES_UPDATE, &target(&[]))?;
    let asked = if ctx.since(2, 53) { by_id(&id, &change)? } else { by_verb(&ctx, &id, &change)? };
    let reason = &asked.reason;
    if reason.as_ref().is_some_and(|reason| reason.trim() != reason || !(1..=255).contains(&reason.chars().count())) {
        return Err(Error::bad_request("Disabled reason contains invalid characters or is too long"));
    }
    let by_verb = asked.verb;
    let (host, options) = (app.options.host_name.clone(), app.options.clone());
    let (row, zone) = app
        .db
        .write(move |tx| {
            let mut row = store::list(tx)?
                .into_iter()
                .find(|row| match &change.binary {
                    Some(binary) => *binary == row.binary,
                    None => row.uuid == id,
                })
                .filter(|_| change.host.as_ref().is_none_or(|named| *named == host))
                .ok_or_else(|| match (&change.host, &change.binary) {
                    (Some(host), Some(binary)) => {
                        Error::new(Kind::NotFound, format!("Could not find binary {binary} on host {host}."))
                    }
                    _ => Error::new(Kind::NotFound, format!("Service {id} could not be found.")),
                })?;
            if !by_verb && row.binary != "nova-compute" {
                return Err(Error::bad_request(format!(
                    "Updating a {} service is not supported. Only nova-compute services can be updated.",
                    row.binary
                )));
            }
            if let Some(disabled) = asked.disabled {
                row.disabled = disabled;
                row.disabled_reason = if disabled { asked.reason } else { None };
            }
            if let Some(forced_down) = asked.forced_down {
                row.forced_down = forced_down;
            }
            store::update(tx, &row)?;
            Ok::<_, Error>((row, aggregates::store::zone(tx, &options)?))
        })
        .await?;
    let view = view(&app, &ctx, &row, &zone);
    if !by_verb {
        return Ok(Reply::ok(&json!({"service": view})));
    }
    let mut short = json!({"host": view["host"], "binary": view["binary"]});
    let keys: &[&str] = match (asked.disabled.is_some(), row.disabled_reason.is_some()) {
        (true, true) => &["status", "disabled_reason"],
        (true, false) => &["status"],
        (false, _) => &["forced_down"],
    };
    for key in keys {
        short[*key] = view[*key].clone();
    }
    Ok(Reply::ok(&json!({"service": short})))
}

/// What a request wants of a service.
struct Asked {
    verb: bool,
    disabled: Option<bool>,
    reason: Option<String>,
    forced_down: Option<bool>,
}

fn by_id(id: &str, change: &ServiceChange) -> Result<Asked> {
    if change.host.is_some() || change.binary.is_some() {
        return Err(unexpected(if change.host.is_some() { "host" } else { "binary" }));
    }
    if !is_uuid(id) {
        return Err(Error::bad_request(format!("Invalid uuid {id}")));
    }
    let disabled = match change.status.as_deref() {
        None => None,
        Some("enabled") => Some(false),
        Some("disabled") => Some(true),
        Some(_) => return Err(Error::bad_request("Invalid input for field/attribute status: enabled or disabled.")),
    };
    if disabled != Some(true) && change.disabled_reason.is_some() {
        return Err(Error::bad_request("Specifying 'disabled_reason' when status is 'enabled' is invalid."));
    }
    if disabled.is_none() && change.forced_down.is_none() {
        return Err(Error::bad_request(
            "No updates were requested. Fields 'status' or 'forced_down' should be specified.",
        ));
    }
    Ok(Asked { verb: false, disabled, reason: change.disabled_reason.clone(), forced_down: change.forced_down })
}

fn by_verb(ctx: &Ctx, verb: &str, change: &ServiceChange) -> Result<Asked> {
    let needed = |present: bool, field: &str| {
        if present {
            Ok(())
        } else {
            Err(Error::bad_request(format!("Invalid input: '{field}' is a required property.")))
        }
    };
    let unwanted = |present: bool, field: &str| if present { Err(unexpected(field)) } else { Ok(()) };
    let known =
        matches!(verb, "enable" | "disable" | "disable-log-reason") || (verb == "force-down" && ctx.since(2, 11));
    if !known {
        return Err(Error::new(Kind::NotFound, "Unknown action"));
    }
    needed(change.host.is_some(), "host")?;
    needed(change.binary.is_some(), "binary")?;
    unwanted(change.status.is_some(), "status")?;
    match verb {
        "disable-log-reason" => needed(change.disabled_reason.is_some(), "disabled_reason")?,
        _ => unwanted(change.disabled_reason.is_some(), "disabled_reason")?,
    }
    match verb {
        "force-down" => needed(change.forced_down.is_some(), "forced_down")?,
        _ => unwanted(change.forced_down.is_some(), "forced_down")?,
    }
    let disabled = match verb {
        "enable" => Some(false),
        "force-down" => None,
        _ => Some(true),
    };
    Ok(Asked { verb: true, disabled, reason: change.disabled_reason.clone(), forced_down: change.forced_down })
}

/// The services are this very process: one that ran on after it was deleted would be a lie.
pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(policy::SERVICES_DELETE, &target(&[]))?;
    let by_uuid = ctx.since(2, 53);
    if by_uuid && !is_uuid(&id) || !by_uuid && id.parse::<i64>().is_err() {
        return Err(Error::bad_request(format!("Invalid service id {id}")));
    }
    let rows = app.db.read(store::list).await?;
    let row = rows.iter().find(|row| if by_uuid { row.uuid == id } else { row.id.to_string() == id });
    match row {
        None => Err(Error::new(Kind::NotFound, format!("Service {id} not found."))),
        Some(row) => Err(Error::conflict(format!(
            "Unable to delete {}: it is part of this machine, the only host, and runs. Disable it instead.",
            row.binary
        ))),
    }
}

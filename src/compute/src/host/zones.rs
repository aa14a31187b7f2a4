//! Requests about availability zones. There is one: the host's, which an aggregate may name.

use axum::extract::State;
use rest::{Ctx, Error, Reply, Result, target};
use serde_json::{Value, json};

use super::{
    policy,
    store::{self, ServiceRow},
};
use crate::{App, aggregates};

/// The host's services, and the zone that the host is in.
pub(crate) async fn services_and_zone(app: &App) -> Result<(Vec<ServiceRow>, String)> {
    let options = app.options.clone();
    app.db.read(move |tx| Ok::<_, Error>((store::list(tx)?, aggregates::store::zone(tx, &options)?))).await
}

pub(crate) async fn zones(State(app): State<App>, ctx: Ctx) -> Result<Reply> {
    ctx.allow(policy::ZONES, &target(&[]))?;
    let (rows, name) = services_and_zone(&app).await?;
    Ok(Reply::ok(&json!({"availabilityZoneInfo": [zone(&app, &rows, &name, false)]})))
}

pub(crate) async fn zones_detail(State(app): State<App>, ctx: Ctx) -> Result<Reply> {
    ctx.allow(policy::ZONES_DETAIL, &target(&[]))?;
    let (rows, name) = services_and_zone(&app).await?;
    let internal = json!({
        "zoneName": "internal",
        "zoneState": {"available": true},
        "hosts": {&app.options.host_name: hosts(&app, &rows, "internal")},
    });
    Ok(Reply::ok(&json!({"availabilityZoneInfo": [internal, zone(&app, &rows, &name, true)]})))
}

fn zone(app: &App, rows: &[ServiceRow], name: &str, detail: bool) -> Value {
    let available = rows.iter().any(|row| row.binary == "nova-compute" && !row.disabled && !row.forced_down);
    json!({
        "zoneName": name,
        "zoneState": {"available": available},
        "hosts": if detail { json!({&app.options.host_name: hosts(app, rows, "nova")}) } else { Value::Null },
    })
}

fn hosts(app: &App, rows: &[ServiceRow], zone: &str) -> Value {
    let now = db::clock::naive(&app.clock.now_text());
    rows.iter()
        .filter(|row| row.zone == zone)
        .map(|row| {
            let state = json!({"available": !row.forced_down, "active": !row.disabled, "updated_at": now});
            (row.binary.clone(), state)
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

//! `os-floating-ips` and `os-floating-ip-pools`, until 2.35.

use axum::extract::{Path, State};
use http::StatusCode;
use network::peer::FloatingIpView;
use rest::{Ctx, Error, Kind, RawJson, Reply, Result, target};
use serde_json::{Value, json};

use super::{asker, policy};
use crate::{App, network_info};

fn allow(ctx: &Ctx, rule: rest::Rule) -> Result<()> {
    ctx.allow(rule, &target(&[("project_id", ctx.creds()?.project_id().unwrap_or_default())]))
}

fn view(floating: &FloatingIpView) -> Value {
    json!({
        "id": floating.id,
        "ip": floating.address,
        "pool": floating.pool,
        "instance_id": floating.server_id,
        "fixed_ip": floating.fixed_address,
    })
}

pub(crate) async fn pools(State(app): State<App>, ctx: Ctx) -> Result<Reply> {
    allow(&ctx, policy::POOLS)?;
    let pools = app.db.read(network_info::floating_ip_pools).await?;
    let pools: Vec<Value> = pools.iter().map(|name| json!({"name": name})).collect();
    Ok(Reply::ok(&json!({"floating_ip_pools": pools})))
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx) -> Result<Reply> {
    allow(&ctx, policy::FLOATING_IPS)?;
    let (project_id, _) = asker(&ctx)?;
    let all = app.db.read(move |tx| network_info::floating_ips(tx, &project_id)).await?;
    Ok(Reply::ok(&json!({"floating_ips": all.iter().map(view).collect::<Vec<_>>()})))
}

fn missing(id: &str) -> impl Fn(Error) -> Error + use<> {
    let text = format!("Floating IP not found for ID {id}");
    move |error| if error.kind() == Kind::NotFound { Error::new(Kind::NotFound, text.clone()) } else { error }
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    allow(&ctx, policy::FLOATING_IPS_SHOW)?;
    let (project_id, _) = asker(&ctx)?;
    let missing = missing(&id);
    let one = app.db.read(move |tx| network_info::floating_ip(tx, &project_id, &id)).await.map_err(missing)?;
    Ok(Reply::ok(&json!({"floating_ip": view(&one)})))
}

pub(crate) async fn create(State(app): State<App>, ctx: Ctx, RawJson(body): RawJson) -> Result<Reply> {
    allow(&ctx, policy::FLOATING_IPS_CREATE)?;
    let (project_id, _) = asker(&ctx)?;
    let pool = match body.get("pool") {
        None | Some(Value::Null) => None,
        Some(Value::String(pool)) => Some(pool.clone()),
        Some(_) => return Err(Error::bad_request("Invalid input for field/attribute pool: expected a name.")),
    };
    let maker = app.clone();
    let made = app.db.write(move |tx| network_info::create_floating_ip(tx, &maker, &project_id, pool.as_deref())).await;
    let made = made.map_err(|error| match error.kind() {
        // Upstream's: no address left is something that was not found.
        Kind::Conflict => Error::new(Kind::NotFound, format!("No more floating IPs available: {}", error.public())),
        _ => error,
    })?;
    Ok(Reply::ok(&json!({"floating_ip": view(&made)})))
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    allow(&ctx, policy::FLOATING_IPS_DELETE)?;
    let (project_id, _) = asker(&ctx)?;
    let missing = missing(&id);
    app.db.write(move |tx| network_info::delete_floating_ip(tx, &project_id, &id)).await.map_err(missing)?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

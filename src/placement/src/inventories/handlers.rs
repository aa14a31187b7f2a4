use axum::extract::{Path, State};
use db::Tx;
use http::{HeaderValue, StatusCode, header};
use rest::{Ctx, Error, Kind, Reply, Result};
use serde_json::Value;

use super::{
    model::{self, Inventory},
    policy, store, views,
};
use crate::{
    App, error,
    reply::{Changed, Fresh},
    request::{Unread, WantsJson},
    resource_classes,
    resource_providers::store as providers,
    schema,
    traits::handlers::whole,
};

pub async fn index(State(app): State<App>, ctx: Ctx, _: WantsJson, Path(uuid): Path<String>) -> Result<Reply> {
    ctx.allow(policy::LIST, &rest::target(&[]))?;
    let (provider, list) = app.db.read_blocking(|tx| {
        let provider = providers::get(tx, &uuid)?;
        let list = store::list(tx, provider.id)?;
        Ok::<_, Error>((provider, list))
    })?;
    let changed = Changed::at(&provider.updated_at);
    Ok(Reply::ok(&views::index(&list, provider.generation)).fresh(&ctx, &changed))
}

pub async fn show(
    State(app): State<App>,
    ctx: Ctx,
    _: WantsJson,
    Path((uuid, class)): Path<(String, String)>,
) -> Result<Reply> {
    ctx.allow(policy::SHOW, &rest::target(&[]))?;
    let (provider, stocked) = app.db.read_blocking(|tx| {
        let provider = providers::get(tx, &uuid)?;
        let stocked = store::find(tx, provider.id, &class)?.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("No inventory of class {class} for {}", provider.uuid))
        })?;
        Ok::<_, Error>((provider, stocked))
    })?;
    let changed = Changed::at(&provider.updated_at);
    Ok(Reply::ok(&views::show(&stocked.inventory, provider.generation)).fresh(&ctx, &changed))
}

fn check_reserved(ctx: &Ctx, doing: &str, uuid: &str, class: &str, inventory: &Inventory) -> Result<()> {
    match inventory.reserved_problem(ctx.since(1, 26)) {
        None => Ok(()),
        Some(why) => Err(Error::bad_request(format!(
            "Unable to {doing} inventory for resource provider {uuid}: Invalid inventory for '{class}' on resource \
             provider '{uuid}'. {why}"
        ))),
    }
}

fn check_generation(provider: &providers::Provider, given: &Value) -> Result<()> {
    let given = whole(given);
    if provider.generation == given { Ok(()) } else { Err(error::generation_conflict(provider.generation, given)) }
}

pub async fn create(
    State(app): State<App>,
    ctx: Ctx,
    _: WantsJson,
    Path(uuid): Path<String>,
    body: Unread,
) -> Result<Reply> {
    ctx.allow(policy::CREATE, &rest::target(&[]))?;
    app.db.read_blocking(|tx| providers::get(tx, &uuid))?;
    let body = body.json().await?;
    schema::check_body(&model::CREATE, &body)?;
    let class = body["resource_class"].as_str().unwrap_or_default().to_owned();
    let inventory = Inventory::from_body(&body);
    let now = app.clock.now_text();
    let location_class = class.clone();
    let context = ctx.clone();
    let (provider, generation) = app
        .db
        .write(move |tx| {
            let provider = providers::get(tx, &uuid)?;
            if let Some(given) = body.get("resource_provider_generation") {
                check_generation(&provider, given)?;
            }
            check_reserved(&context, "create", &provider.uuid, &class, &inventory)?;
            let known = resource_classes::store::find(tx, &class)?.ok_or_else(|| error::no_class(&class))?;
            if store::find(tx, provider.id, &class)?.is_some() {
                return Err(Error::conflict(format!(
                    "Update conflict: resource provider {} already has an inventory of {class}",
                    provider.uuid
                ))
                .with_code(error::CONCURRENT_UPDATE));
            }
            store::put(tx, provider.id, known.id, &inventory)?;
            let generation = providers::touch(tx, provider.id, &now)?;
            Ok::<_, Error>((provider, generation))
        })
        .await?;
    let location = ctx.url(&format!("/resource_providers/{}/inventories/{location_class}", provider.uuid));
    Ok(Reply::json(StatusCode::CREATED, &views::show(&inventory, generation))
        .with_header(header::LOCATION, &location)
        .fresh(&ctx, &Changed::now(&app.clock)))
}

pub async fn update(
    State(app): State<App>,
    ctx: Ctx,
    _: WantsJson,
    Path((uuid, class)): Path<(String, String)>,
    body: Unread,
) -> Result<Reply> {
    ctx.allow(policy::UPDATE, &rest::target(&[]))?;
    app.db.read_blocking(|tx| providers::get(tx, &uuid))?;
    let body = body.json().await?;
    schema::check_body(&model::UPDATE, &body)?;
    let inventory = Inventory::from_body(&body);
    let now = app.clock.now_text();
    let context = ctx.clone();
    let generation = app
        .db
        .write(move |tx| {
            let provider = providers::get(tx, &uuid)?;
            check_generation(&provider, &body["resource_provider_generation"])?;
            check_reserved(&context, "update", &provider.uuid, &class, &inventory)?;
            let stocked = store::find(tx, provider.id, &class)?.ok_or_else(|| {
                Error::bad_request(format!(
                    "No inventory record with resource class for resource provider {}: {class}",
                    provider.uuid
                ))
            })?;
            store::put(tx, provider.id, stocked.class_id, &inventory)?;
            providers::touch(tx, provider.id, &now)
        })
        .await?;
    Ok(Reply::ok(&views::show(&inventory, generation)).fresh(&ctx, &Changed::now(&app.clock)))
}

/// The inventories of a body that fits [`model::REPLACE`], by name.
pub fn wanted(body: &Value) -> Vec<(String, Inventory)> {
    let map = body["inventories"].as_object();
    map.into_iter().flatten().map(|(class, item)| (class.clone(), Inventory::from_body(item))).collect()
}

/// Names to ids; refuses unknown classes and too much reserved.
pub fn resolve(tx: &Tx<'_>, ctx: &Ctx, uuid: &str, wanted: &[(String, Inventory)]) -> Result<Vec<(i64, Inventory)>> {
    let mut resolved = Vec::with_capacity(wanted.len());
    for (class, inventory) in wanted {
        check_reserved(ctx, "update", uuid, class, inventory)?;
        let known = resource_classes::store::find(tx, class)?.ok_or_else(|| {
            Error::bad_request(format!(
                "Unknown resource class in inventory for resource provider {uuid}: No such resource class {class}."
            ))
        })?;
        resolved.push((known.id, *inventory));
    }
    Ok(resolved)
}

pub async fn replace(
    State(app): State<App>,
    ctx: Ctx,
    _: WantsJson,
    Path(uuid): Path<String>,
    body: Unread,
) -> Result<Reply> {
    ctx.allow(policy::UPDATE, &rest::target(&[]))?;
    app.db.read_blocking(|tx| providers::get(tx, &uuid))?;
    let body = body.json().await?;
    schema::check_body(&model::REPLACE, &body)?;
    let now = app.clock.now_text();
    let context = ctx.clone();
    let (list, generation) = app
        .db
        .write(move |tx| {
            let provider = providers::get(tx, &uuid)?;
            check_generation(&provider, &body["resource_provider_generation"])?;
            let wanted = resolve(tx, &context, &provider.uuid, &wanted(&body))?;
            store::replace(tx, provider.id, &provider.uuid, &wanted)?;
            let generation = providers::touch(tx, provider.id, &now)?;
            Ok::<_, Error>((store::list(tx, provider.id)?, generation))
        })
        .await?;
    Ok(Reply::ok(&views::index(&list, generation)).fresh(&ctx, &Changed::now(&app.clock)))
}

pub async fn delete_all(State(app): State<App>, ctx: Ctx, Path(uuid): Path<String>) -> Result<Reply> {
    ctx.allow(policy::DELETE, &rest::target(&[]))?;
    if !ctx.since(1, 5) {
        return Err(Error::new(Kind::MethodNotAllowed, "The method DELETE is not allowed for this resource.")
            .with_header(header::ALLOW, HeaderValue::from_static("GET, POST, PUT")));
    }
    let now = app.clock.now_text();
    app.db
        .write(move |tx| {
            let provider = providers::get(tx, &uuid)?;
            store::replace(tx, provider.id, &provider.uuid, &[])?;
            providers::touch(tx, provider.id, &now)?;
            Ok::<_, Error>(())
        })
        .await?;
    Ok(Reply::no_content())
}

pub async fn delete(State(app): State<App>, ctx: Ctx, Path((uuid, class)): Path<(String, String)>) -> Result<Reply> {
    ctx.allow(policy::DELETE, &rest::target(&[]))?;
    let now = app.clock.now_text();
    app.db
        .write(move |tx| {
            let provider = providers::get(tx, &uuid)?;
            let stocked = store::find(tx, provider.id, &class)?
                .ok_or_else(|| Error::new(Kind::NotFound, format!("No inventory of class {class} found for delete")))?;
            store::remove(tx, provider.id, &provider.uuid, &[stocked])?;
            providers::touch(tx, provider.id, &now)?;
            Ok::<_, Error>(())
        })
        .await?;
    Ok(Reply::no_content())
}

//! Requests about host aggregates.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{Path, State};
use db::Tx;
use http::StatusCode;
use rest::{Body, Ctx, Error, Kind, RawJson, Reply, Result, is_uuid, nullable, target};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Aggregate,
    model::{ZONE, check_metadata, check_zone},
    policy, store, views,
};
use crate::{App, Options, flavors::model::check_name, servers::request};

fn number(id: &str) -> Result<i64> {
    id.parse().map_err(|_| Error::new(Kind::NotFound, format!("Aggregate {id} could not be found.")))
}

fn answer(ctx: &Ctx, app: &App, aggregate: &Aggregate) -> Reply {
    Reply::ok(&json!({"aggregate": views::show(ctx, &app.options, aggregate)}))
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx) -> Result<Reply> {
    ctx.allow(policy::INDEX, &target(&[]))?;
    let aggregates: Vec<Value> =
        app.db.read(store::list).await?.iter().map(|one| views::show(&ctx, &app.options, one)).collect();
    Ok(Reply::ok(&json!({"aggregates": aggregates})))
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(policy::SHOW, &target(&[]))?;
    let id = number(&id)?;
    let aggregate = app.db.read(move |tx| store::get(tx, id)).await?;
    Ok(answer(&ctx, &app, &aggregate))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateRequest {
    aggregate: NewAggregate,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewAggregate {
    name: String,
    availability_zone: Option<String>,
}

pub(crate) async fn create(
    State(app): State<App>,
    ctx: Ctx,
    Body(CreateRequest { aggregate: new }): Body<CreateRequest>,
) -> Result<Reply> {
    ctx.allow(policy::CREATE, &target(&[]))?;
    let name = check_name("name", &new.name)?;
    new.availability_zone.as_deref().map(check_zone).transpose()?;
    let now = app.clock.now_text();
    let aggregate = app
        .db
        .write(move |tx| {
            let id = store::insert(tx, &rest::new_uuid(), &name, &now)?;
            if let Some(zone) = new.availability_zone {
                store::change_metadata(tx, id, &BTreeMap::from([(ZONE.to_owned(), Some(zone))]))?;
            }
            store::get(tx, id)
        })
        .await?;
    Ok(Reply::ok(&json!({"aggregate": views::created(&ctx, &aggregate)})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateRequest {
    aggregate: Change,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    name: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    availability_zone: Option<Option<String>>,
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    Body(UpdateRequest { aggregate: change }): Body<UpdateRequest>,
) -> Result<Reply> {
    ctx.allow(policy::UPDATE, &target(&[]))?;
    let id = number(&id)?;
    if change.name.is_none() && change.availability_zone.is_none() {
        return Err(Error::bad_request("Invalid input: name or availability_zone is needed."));
    }
    let name = change.name.map(|name| check_name("name", &name)).transpose()?;
    change.availability_zone.iter().flatten().try_for_each(|zone| check_zone(zone))?;
    let zone = change.availability_zone.map(|zone| BTreeMap::from([(ZONE.to_owned(), zone)]));
    let (now, options) = (app.clock.now_text(), app.options.clone());
    let aggregate = app
        .db
        .write(move |tx| {
            let aggregate = store::get(tx, id)?;
            if let Some(name) = name {
                store::rename(tx, id, &name)?;
            }
            if let Some(zone) = zone {
                metadata(tx, &options, &aggregate, &zone)?;
            }
            store::touch(tx, id, &now)?;
            store::get(tx, id)
        })
        .await?;
    Ok(answer(&ctx, &app, &aggregate))
}

/// Changes metadata, if servers and other aggregates let the host have the zone that comes of it.
fn metadata(
    tx: &Tx<'_>,
    options: &Options,
    aggregate: &Aggregate,
    changes: &BTreeMap<String, Option<String>>,
) -> Result<()> {
    let before = store::zone(tx, options)?;
    store::change_metadata(tx, aggregate.id, changes)?;
    if aggregate.has_host && changes.contains_key(ZONE) {
        check_move(tx, options, &before, aggregate.id, "update_aggregate")?;
    }
    Ok(())
}

/// The zone that the host has now, against the one it had. A host is in one zone; and a server that asked for a zone was
/// promised that it is there. (Upstream refuses for any server; those that asked for none follow the host.)
fn check_move(tx: &Tx<'_>, options: &Options, before: &str, id: i64, action: &str) -> Result<()> {
    let refused = |reason: String| {
        Error::bad_request(format!("Cannot perform action '{action}' on aggregate {id}. Reason: {reason}."))
    };
    let aggregates = store::list(tx)?;
    let zones: BTreeSet<&str> = aggregates.iter().filter(|one| one.has_host).filter_map(Aggregate::zone).collect();
    if zones.len() > 1 {
        let own = aggregates.iter().find(|one| one.id == id).and_then(Aggregate::zone);
        let others: Vec<&str> = zones.into_iter().filter(|zone| Some(*zone) != own).collect();
        return Err(refused(format!("One or more hosts already in availability zone(s) {others:?}")));
    }
    if store::zone(tx, options)? != before {
        let promised = store::promised(tx, before)?;
        if promised > 0 {
            return Err(refused(format!(
                "One or more hosts contain instances in this zone: {promised} asked for {before}"
            )));
        }
    }
    Ok(())
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(policy::DELETE, &target(&[]))?;
    let id = number(&id)?;
    app.db
        .write(move |tx| {
            if store::get(tx, id)?.has_host {
                return Err(Error::bad_request(format!(
                    "Cannot perform action 'delete' on aggregate {id}. Reason: Host aggregate is not empty."
                )));
            }
            store::delete(tx, id)
        })
        .await?;
    Ok(Reply::empty(StatusCode::OK))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HostArgument {
    host: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MetadataArgument {
    metadata: BTreeMap<String, Option<String>>,
}

pub(crate) async fn action(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    let one = body.as_object().filter(|body| body.len() == 1).and_then(|body| body.iter().next());
    let Some((name, value)) = one.map(|(name, value)| (name.clone(), value.clone())) else {
        ctx.allow(policy::SHOW, &target(&[]))?;
        return Err(Error::bad_request("Malformed request body: it must name one action."));
    };
    match name.as_str() {
        "add_host" => change_host(&app, &ctx, &id, value, true).await,
        "remove_host" => change_host(&app, &ctx, &id, value, false).await,
        "set_metadata" => set_metadata(&app, &ctx, &id, value).await,
        unknown => {
            ctx.allow(policy::SHOW, &target(&[]))?;
            Err(Error::bad_request(format!("There is no such action: {unknown}")))
        }
    }
}

async fn change_host(app: &App, ctx: &Ctx, id: &str, value: Value, add: bool) -> Result<Reply> {
    let (rule, name) = if add { (policy::ADD_HOST, "add_host") } else { (policy::REMOVE_HOST, "remove_host") };
    ctx.allow(rule, &target(&[]))?;
    let HostArgument { host } = request::fields(name, value)?;
    let id = number(id)?;
    let (now, options) = (app.clock.now_text(), app.options.clone());
    let aggregate = app
        .db
        .write(move |tx| {
            let mut aggregate = store::get(tx, id)?;
            if host != options.host_name {
                return Err(Error::new(Kind::NotFound, format!("Compute host {host} could not be found.")));
            }
            if add && aggregate.has_host {
                return Err(Error::conflict(format!("Aggregate {id} already has host {host}.")));
            }
            if !add && !aggregate.has_host {
                return Err(Error::new(Kind::NotFound, format!("Aggregate {id} has no host {host}.")));
            }
            let before = store::zone(tx, &options)?;
            store::set_has_host(tx, id, add)?;
            let action = if add { "add_host_to_aggregate" } else { "remove_host_from_aggregate" };
            check_move(tx, &options, &before, id, action).map_err(|error| match error.kind() {
                Kind::BadRequest => Error::conflict(error.public().to_owned()),
                _ => error,
            })?;
            store::touch(tx, id, &now)?;
            aggregate.has_host = add;
            store::mirror(tx, &aggregate, &now)?;
            store::get(tx, id)
        })
        .await?;
    Ok(answer(ctx, app, &aggregate))
}

async fn set_metadata(app: &App, ctx: &Ctx, id: &str, value: Value) -> Result<Reply> {
    ctx.allow(policy::SET_METADATA, &target(&[]))?;
    let MetadataArgument { metadata: changes } = request::fields("set_metadata", value)?;
    check_metadata(&changes)?;
    let id = number(id)?;
    let (now, options) = (app.clock.now_text(), app.options.clone());
    let aggregate = app
        .db
        .write(move |tx| {
            let aggregate = store::get(tx, id)?;
            metadata(tx, &options, &aggregate, &changes)?;
            store::touch(tx, id, &now)?;
            store::get(tx, id)
        })
        .await?;
    Ok(answer(ctx, app, &aggregate))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CacheRequest {
    cache: Vec<CachedImage>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CachedImage {
    id: String,
}

/// Images that one request may name: each is a conversion that may take minutes.
const IMAGES_MAX: usize = 100;

/// 2.81: has images converted before a server needs them. Best effort, as upstream's: what fails is logged, and done again
/// when a server is made.
pub(crate) async fn images(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    Body(CacheRequest { cache }): Body<CacheRequest>,
) -> Result<Reply> {
    ctx.allow(policy::IMAGES, &target(&[]))?;
    if !ctx.since(2, 81) {
        return Err(Error::no_such_route());
    }
    let id = number(&id)?;
    if cache.is_empty() || cache.len() > IMAGES_MAX {
        return Err(Error::bad_request(format!("Invalid input for field/attribute cache: 1 to {IMAGES_MAX} images.")));
    }
    let ids: BTreeSet<String> = cache.into_iter().map(|image| image.id).collect();
    if let Some(bad) = ids.iter().find(|id| !is_uuid(id)) {
        return Err(Error::bad_request(format!("Invalid input for field/attribute id: {bad:?} is no UUID.")));
    }
    for image in &ids {
        crate::image_info::bootable(&app, ctx.creds()?, image).await?;
    }
    let aggregate = app.db.read(move |tx| store::get(tx, id)).await?;
    if aggregate.has_host {
        let images = app.images.clone();
        tokio::spawn(async move {
            for image in ids {
                if let Err(error) = images::peer::raw_cached(&images, &image).await {
                    tracing::warn!(image.id = %image, %error, "an image could not be made ready ahead of its servers");
                }
            }
        });
    }
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

use axum::extract::{Path, State};
use db::Tx;
use http::{StatusCode, header};
use rest::{Ctx, Error, Kind, Params, Reply, Result};
use serde_json::Value;

use super::{
    policy,
    store::{self, Provider},
    views,
};
use crate::{
    App, error,
    query::{self, query_object},
    reply::{Changed, Fresh},
    request::{Unread, WantsJson},
    schema::{self, Schema},
};

const NAME: Schema = Schema::Text { nullable: false, min: 1, max: 200, form: schema::Form::Free };
const CREATE: Schema = schema::object(&["name"], &[("name", &NAME), ("uuid", &schema::UUID)]);
const CREATE_1_14: Schema = schema::object(
    &["name"],
    &[("name", &NAME), ("uuid", &schema::UUID), ("parent_provider_uuid", &schema::UUID_OR_NULL)],
);
const UPDATE: Schema = schema::object(&["name"], &[("name", &NAME)]);
const UPDATE_1_14: Schema =
    schema::object(&["name"], &[("name", &NAME), ("parent_provider_uuid", &schema::UUID_OR_NULL)]);

/// The query of a list by the microversion that brought each parameter.
const QUERY: Schema = schema::object(&[], &[("name", &schema::TEXT), ("uuid", &schema::UUID)]);
const QUERY_1_3: Schema =
    schema::object(&[], &[("name", &schema::TEXT), ("uuid", &schema::UUID), ("member_of", &schema::TEXT)]);
const QUERY_1_4: Schema = schema::object(
    &[],
    &[("name", &schema::TEXT), ("uuid", &schema::UUID), ("member_of", &schema::TEXT), ("resources", &schema::TEXT)],
);
const QUERY_1_14: Schema = schema::object(
    &[],
    &[
        ("name", &schema::TEXT),
        ("uuid", &schema::UUID),
        ("member_of", &schema::TEXT),
        ("resources", &schema::TEXT),
        ("in_tree", &schema::UUID),
    ],
);
const QUERY_1_18: Schema = schema::object(
    &[],
    &[
        ("name", &schema::TEXT),
        ("uuid", &schema::UUID),
        ("member_of", &schema::TEXT),
        ("resources", &schema::TEXT),
        ("in_tree", &schema::UUID),
        ("required", &schema::TEXT),
    ],
);

pub async fn index(State(app): State<App>, ctx: Ctx, _: WantsJson, params: Params) -> Result<Reply> {
    ctx.allow(policy::LIST, &rest::target(&[]))?;
    let schema = match () {
        () if ctx.since(1, 18) => &QUERY_1_18,
        () if ctx.since(1, 14) => &QUERY_1_14,
        () if ctx.since(1, 4) => &QUERY_1_4,
        () if ctx.since(1, 3) => &QUERY_1_3,
        () => &QUERY,
    };
    schema::check_query(schema, &query_object(&params))?;
    let mut filter = store::Filter {
        name: params.get("name").map(str::to_owned),
        uuid: params.get("uuid").map(|uuid| query::uuid("uuid", uuid)).transpose()?,
        in_tree: params.get("in_tree").map(|uuid| query::uuid("in_tree", uuid)).transpose()?,
        aggregates: query::aggregates(&ctx, &query::all(&params, "member_of"))?,
        ..store::Filter::default()
    };
    let amounts = params.get("resources").map(query::amounts).transpose()?.unwrap_or_default();
    let traits = query::traits(&ctx, "required", &query::all(&params, "required"))?;
    let providers = app
        .db
        .read(move |tx| {
            filter.resources = query::class_ids(tx, &amounts)?;
            filter.traits = query::trait_ids(tx, &traits)?;
            store::list(tx, &filter)
        })
        .await?;
    let changed = Changed::latest(&app.clock, providers.iter().map(|provider| provider.updated_at.as_str()));
    Ok(Reply::ok(&views::index(&ctx, &providers)).fresh(&ctx, &changed))
}

pub async fn show(State(app): State<App>, ctx: Ctx, _: WantsJson, Path(uuid): Path<String>) -> Result<Reply> {
    ctx.allow(policy::SHOW, &rest::target(&[]))?;
    let provider = app.db.read_blocking(|tx| store::get(tx, &uuid))?;
    Ok(Reply::ok(&views::show(&ctx, &provider)).fresh(&ctx, &Changed::at(&provider.updated_at)))
}

pub async fn create(State(app): State<App>, ctx: Ctx, _: WantsJson, body: Unread) -> Result<Reply> {
    ctx.allow(policy::CREATE, &rest::target(&[]))?;
    let body = body.json().await?;
    schema::check_body(if ctx.since(1, 14) { &CREATE_1_14 } else { &CREATE }, &body)?;
    let name = body["name"].as_str().unwrap_or_default().to_owned();
    let uuid = body["uuid"].as_str().and_then(schema::normal_uuid).unwrap_or_else(rest::new_uuid);
    let parent = body["parent_provider_uuid"].as_str().and_then(schema::normal_uuid);
    let now = app.clock.now_text();
    let provider = app.db.write(move |tx| insert(tx, &uuid, &name, parent.as_deref(), &now)).await?;
    let location = ctx.url(&format!("/resource_providers/{}", provider.uuid));
    let reply = if ctx.since(1, 20) {
        Reply::ok(&views::show(&ctx, &provider)).fresh(&ctx, &Changed::at(&provider.updated_at))
    } else {
        Reply::empty(StatusCode::CREATED)
    };
    Ok(reply.with_header(header::LOCATION, &location))
}

fn insert(tx: &Tx<'_>, uuid: &str, name: &str, parent: Option<&str>, now: &str) -> Result<Provider> {
    let refuse =
        |why: &str| Error::bad_request(format!("Unable to create resource provider \"{name}\", {uuid}: {why}"));
    if parent == Some(uuid) {
        return Err(refuse("parent provider UUID cannot be same as UUID. A root provider has no parent."));
    }
    if store::find(tx, uuid)?.is_some() {
        return Err(taken("uuid", uuid));
    }
    if store::name_taken(tx, name, None)? {
        return Err(taken("name", name));
    }
    let parent = match parent {
        Some(parent) => Some(store::find(tx, parent)?.ok_or_else(|| refuse("parent provider UUID does not exist."))?),
        None => None,
    };
    store::insert(tx, uuid, name, parent.as_ref(), now)
}

fn taken(what: &str, value: &str) -> Error {
    Error::conflict(format!("Conflicting resource provider {what}: {value} already exists."))
        .with_code(error::DUPLICATE_NAME)
}

pub async fn update(
    State(app): State<App>,
    ctx: Ctx,
    _: WantsJson,
    Path(uuid): Path<String>,
    body: Unread,
) -> Result<Reply> {
    ctx.allow(policy::UPDATE, &rest::target(&[]))?;
    let body = body.json().await?;
    schema::check_body(if ctx.since(1, 14) { &UPDATE_1_14 } else { &UPDATE }, &body)?;
    let name = body["name"].as_str().unwrap_or_default().to_owned();
    let parent = body.get("parent_provider_uuid").cloned();
    let free_parents = ctx.since(1, 37);
    let now = app.clock.now_text();
    let provider = app
        .db
        .write(move |tx| {
            let provider = store::get(tx, &uuid)?;
            if store::name_taken(tx, &name, Some(provider.id))? {
                return Err(taken("name", &name));
            }
            store::rename(tx, provider.id, &name, &now)?;
            if let Some(parent) = parent {
                move_below(tx, &provider, &parent, free_parents, &now)?;
            }
            store::get(tx, &uuid)
        })
        .await?;
    Ok(Reply::ok(&views::show(&ctx, &provider)).fresh(&ctx, &Changed::at(&provider.updated_at)))
}

/// `parent` is null or a UUID. Before 1.37 a provider could get a parent once and keep it.
fn move_below(tx: &Tx<'_>, provider: &Provider, parent: &Value, free: bool, now: &str) -> Result<()> {
    let refuse = |why: &str| Error::bad_request(format!("Unable to save resource provider {}: {why}", provider.uuid));
    let Some(parent) = parent.as_str() else {
        if provider.parent_id.is_none() {
            return Ok(());
        }
        if !free {
            return Err(refuse("un-parenting a provider is not currently allowed."));
        }
        return store::set_parent(tx, provider.id, None, now);
    };
    let parent = store::find(tx, parent)?.ok_or_else(|| refuse("parent provider UUID does not exist."))?;
    if provider.parent_id == Some(parent.id) {
        return Ok(());
    }
    if provider.parent_id.is_some() && !free {
        return Err(refuse("re-parenting a provider is not currently allowed."));
    }
    if store::subtree(tx, provider.id)?.contains(&parent.id) {
        return Err(refuse("creating loop in the provider tree is not allowed."));
    }
    store::set_parent(tx, provider.id, Some(&parent), now)
}

pub async fn delete(State(app): State<App>, ctx: Ctx, Path(uuid): Path<String>) -> Result<Reply> {
    ctx.allow(policy::DELETE, &rest::target(&[]))?;
    app.db
        .write(move |tx| {
            let provider = store::find(tx, &uuid)?.ok_or_else(|| {
                Error::new(Kind::NotFound, format!("No resource provider with uuid {uuid} found for delete"))
            })?;
            if store::has_children(tx, provider.id)? {
                return Err(Error::conflict(format!(
                    "Unable to delete parent resource provider {}: It has child resource providers.",
                    provider.uuid
                ))
                .with_code(error::CANNOT_DELETE_PARENT));
            }
            if store::has_allocations(tx, provider.id)? {
                return Err(Error::conflict(format!(
                    "Unable to delete resource provider {}: Resource provider has allocations.",
                    provider.uuid
                ))
                .with_code(error::PROVIDER_IN_USE));
            }
            store::delete(tx, provider.id)
        })
        .await?;
    Ok(Reply::no_content())
}

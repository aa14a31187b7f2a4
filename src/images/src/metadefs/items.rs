//! Objects and properties of a namespace. They differ in their schema, their rules and how they are shown, not in what
//! can be done with them.

use axum::extract::{Path, State};
use rest::{Ctx, Error, Kind as ErrorKind, Params, RawJson, Reply, Result, Rule};
use serde_json::{Value, json};

use super::model::{self, Item, Kind};
use super::namespaces::{check_deletable, readable, target, writable};
use super::{policy, schemas, store, views};
use crate::app::Images;
use crate::image::handlers::viewer;

fn show_item(kind: Kind, namespace: &str, item: &Item) -> Value {
    match kind {
        Kind::Object => views::object(namespace, item),
        Kind::Property => views::property(item),
        Kind::Tag => views::tag(item),
        Kind::Association => views::association(item),
    }
}

pub fn not_found(kind: Kind, namespace: &str, name: &str) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("The metadata definition {} with name={name} was not found in namespace={namespace}.", kind.as_str()),
    )
}

async fn index(app: Images, ctx: Ctx, name: String, kind: Kind, rule: Rule, each: Rule) -> Result<Vec<Item>> {
    let viewer = viewer(&ctx)?;
    app.db()
        .read(move |tx| {
            let space = readable(tx, &ctx, &viewer, &name, rule)?;
            if !ctx.may(each, &target(&space))? {
                return Ok(Vec::new());
            }
            Ok::<_, Error>(store::list_items(tx, &space.id, kind)?)
        })
        .await
}

async fn show(app: Images, ctx: Ctx, names: (String, String), kind: Kind, rule: Rule) -> Result<Reply> {
    let viewer = viewer(&ctx)?;
    let view = app
        .db()
        .read(move |tx| {
            let space = readable(tx, &ctx, &viewer, &names.0, rule)?;
            let item = store::find_item(tx, &space.id, kind, &names.1)?;
            let item = item.ok_or_else(|| not_found(kind, &names.0, &names.1))?;
            Ok::<_, Error>(show_item(kind, &space.namespace, &item))
        })
        .await?;
    Ok(Reply::ok(&view))
}

async fn create(app: Images, ctx: Ctx, name: String, body: Value, kind: Kind, rule: Rule) -> Result<Reply> {
    let (viewer, now) = (viewer(&ctx)?, app.now());
    let view = app
        .db()
        .write(move |tx| {
            let space = writable(tx, &ctx, &viewer, &name, rule)?;
            let item = model::item(model::checked(&schema(kind), body)?, &now)?;
            store::insert_item(tx, &space, kind, &item)?;
            Ok::<_, Error>(show_item(kind, &space.namespace, &item))
        })
        .await?;
    Ok(Reply::created(&view))
}

pub async fn update(
    app: Images,
    ctx: Ctx,
    names: (String, String),
    body: Value,
    kind: Kind,
    rule: Rule,
) -> Result<Reply> {
    let (viewer, now) = (viewer(&ctx)?, app.now());
    let view = app
        .db()
        .write(move |tx| {
            let space = writable(tx, &ctx, &viewer, &names.0, rule)?;
            let found = store::find_item(tx, &space.id, kind, &names.1)?;
            let found = found.ok_or_else(|| not_found(kind, &names.0, &names.1))?;
            let mut item = model::item(model::checked(&schema(kind), body)?, &now)?;
            item.created_at = found.created_at;
            store::update_item(tx, &space, kind, &names.1, &item)?;
            Ok::<_, Error>(show_item(kind, &space.namespace, &item))
        })
        .await?;
    Ok(Reply::ok(&view))
}

pub async fn delete(app: Images, ctx: Ctx, names: (String, String), kind: Kind, rule: Rule) -> Result<Reply> {
    let viewer = viewer(&ctx)?;
    app.db()
        .write(move |tx| {
            let space = writable(tx, &ctx, &viewer, &names.0, rule)?;
            if store::find_item(tx, &space.id, kind, &names.1)?.is_none() {
                return Err(not_found(kind, &names.0, &names.1));
            }
            check_deletable(&space, "what it holds")?;
            store::delete_item(tx, &space.id, kind, &names.1)?;
            Ok(())
        })
        .await?;
    Ok(Reply::no_content())
}

fn schema(kind: Kind) -> Value {
    match kind {
        Kind::Object => schemas::object(),
        Kind::Property => schemas::property(),
        Kind::Tag => schemas::tag(),
        Kind::Association => schemas::resource_type(),
    }
}

type Names = Path<(String, String)>;

pub async fn objects(State(app): State<Images>, ctx: Ctx, Path(name): Path<String>) -> Result<Reply> {
    let items = index(app, ctx, name.clone(), Kind::Object, policy::OBJECT_INDEX, policy::OBJECT_SHOW).await?;
    let objects: Vec<Value> = items.iter().map(|item| views::object(&name, item)).collect();
    let link = format!("/v2/metadefs/namespaces/{name}/objects");
    Ok(Reply::ok(&json!({"objects": objects, "first": link, "schema": "/v2/schemas/metadefs/objects"})))
}

pub async fn show_object(State(app): State<Images>, ctx: Ctx, Path(names): Names) -> Result<Reply> {
    show(app, ctx, names, Kind::Object, policy::OBJECT_SHOW).await
}

pub async fn create_object(
    State(app): State<Images>,
    ctx: Ctx,
    Path(name): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    create(app, ctx, name, body, Kind::Object, policy::OBJECT_CREATE).await
}

pub async fn update_object(
    State(app): State<Images>,
    ctx: Ctx,
    Path(names): Names,
    RawJson(body): RawJson,
) -> Result<Reply> {
    update(app, ctx, names, body, Kind::Object, policy::OBJECT_UPDATE).await
}

pub async fn delete_object(State(app): State<Images>, ctx: Ctx, Path(names): Names) -> Result<Reply> {
    delete(app, ctx, names, Kind::Object, policy::OBJECT_DELETE).await
}

pub async fn properties(State(app): State<Images>, ctx: Ctx, Path(name): Path<String>) -> Result<Reply> {
    let items = index(app, ctx, name, Kind::Property, policy::PROPERTY_INDEX, policy::PROPERTY_SHOW).await?;
    Ok(Reply::ok(&json!({"properties": views::by_name(&items)})))
}

/// With `?resource_type=` the name is given as it is on that type, with the association's prefix.
pub async fn show_property(State(app): State<Images>, ctx: Ctx, Path(names): Names, params: Params) -> Result<Reply> {
    let Some(resource_type) = params.get("resource_type").map(str::to_owned) else {
        return show(app, ctx, names, Kind::Property, policy::PROPERTY_SHOW).await;
    };
    let viewer = viewer(&ctx)?;
    let view = app
        .db()
        .read(move |tx| {
            let space = readable(tx, &ctx, &viewer, &names.0, policy::PROPERTY_SHOW)?;
            ctx.allow(policy::TYPE_SHOW, &target(&space))?;
            let association = store::find_item(tx, &space.id, Kind::Association, &resource_type)?;
            let association = association.ok_or_else(|| not_found(Kind::Association, &names.0, &resource_type))?;
            let prefix = association.body.get("prefix").and_then(Value::as_str).unwrap_or_default();
            let Some(bare) = names.1.strip_prefix(prefix).filter(|_| !prefix.is_empty()) else {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    format!(
                        "Property {} does not start with the prefix {prefix:?} of the association with {resource_type}.",
                        names.1
                    ),
                ));
            };
            let item = store::find_item(tx, &space.id, Kind::Property, bare)?;
            item.ok_or_else(|| not_found(Kind::Property, &names.0, bare)).map(|item| views::property(&item))
        })
        .await?;
    Ok(Reply::ok(&view))
}

pub async fn create_property(
    State(app): State<Images>,
    ctx: Ctx,
    Path(name): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    create(app, ctx, name, body, Kind::Property, policy::PROPERTY_CREATE).await
}

pub async fn update_property(
    State(app): State<Images>,
    ctx: Ctx,
    Path(names): Names,
    RawJson(body): RawJson,
) -> Result<Reply> {
    update(app, ctx, names, body, Kind::Property, policy::PROPERTY_UPDATE).await
}

pub async fn delete_property(State(app): State<Images>, ctx: Ctx, Path(names): Names) -> Result<Reply> {
    delete(app, ctx, names, Kind::Property, policy::PROPERTY_DELETE).await
}

//! Namespaces: index, show, create, update, delete.

use ::policy::Target;
use axum::extract::{Path, State};
use db::{Tx, Value as Sql};
use rest::{Ctx, Error, Listing, Params, RawJson, Reply, Result};
use serde_json::{Map, Value};

use super::model::{self, Item, Kind, Namespace};
use super::{policy, schemas, store, views};
use crate::app::Images;
use crate::image::handlers::viewer;
use crate::image::store::Viewer;

/// What rules may ask of a namespace.
pub fn target(namespace: &Namespace) -> Target {
    rest::target(&[
        ("project_id", namespace.owner.as_deref().unwrap_or_default()),
        ("visibility", namespace.visibility()),
    ])
}

/// Of calls that are about no namespace yet: the caller's project.
pub fn own_target(viewer: &Viewer) -> Target {
    rest::target(&[("project_id", viewer.project_id.as_deref().unwrap_or_default())])
}

/// The namespace if the caller may read `what` of it.
pub fn readable(tx: &Tx<'_>, ctx: &Ctx, viewer: &Viewer, name: &str, what: rest::Rule) -> Result<Namespace> {
    let found = store::get_visible(tx, viewer, name)?;
    ctx.allow_or(policy::NAMESPACE_SHOW, &target(&found), || store::not_found(name))?;
    ctx.allow(what, &target(&found))?;
    Ok(found)
}

/// The namespace if the caller may change `what` of it.
pub fn writable(tx: &Tx<'_>, ctx: &Ctx, viewer: &Viewer, name: &str, what: rest::Rule) -> Result<Namespace> {
    let found = store::get_visible(tx, viewer, name)?;
    ctx.allow(what, &target(&found))?;
    Ok(found)
}

/// What a protected namespace holds stays too.
pub fn check_deletable(namespace: &Namespace, what: &str) -> Result<()> {
    if namespace.protected {
        let name = &namespace.namespace;
        return Err(Error::forbidden(format!(
            "Metadata definition namespace {name} is protected: {what} cannot be deleted."
        )));
    }
    Ok(())
}

pub async fn index(State(app): State<Images>, ctx: Ctx, params: Params) -> Result<Reply> {
    let viewer = viewer(&ctx)?;
    ctx.allow(policy::NAMESPACE_INDEX, &own_target(&viewer))?;
    ctx.allow(policy::TYPE_INDEX, &own_target(&viewer))?;
    let mut rest = params.clone();
    let mut page = store::SPEC.page(&mut rest)?;
    if !viewer.is_admin {
        page.and(
            "(n.visibility = 'public' OR n.owner = ?)",
            [Sql::Text(viewer.project_id.clone().unwrap_or_default())],
        );
    }
    if let Some(visibility) = rest.take("visibility") {
        if !["public", "private"].contains(&visibility.as_str()) {
            return Err(Error::bad_request(format!("Invalid visibility value: {visibility}")));
        }
        page.and("n.visibility = ?", [Sql::Text(visibility)]);
    }
    if let Some(types) = rest.take("resource_types") {
        let types: Vec<&str> = types.split(',').map(str::trim).collect();
        page.and(
            "EXISTS (SELECT 1 FROM images_metadef_item a WHERE a.namespace_id = n.id AND a.kind = 'association' AND a.name IN \
             (SELECT value FROM json_each(?)))",
            [Sql::Text(serde_json::json!(types).to_string())],
        );
    }
    let asked = ctx.clone();
    let listing = app
        .db()
        .read(move |tx| {
            let found = page.fetch(tx, store::read)?;
            let mut rows = Vec::with_capacity(found.rows.len());
            for space in found.rows {
                if !asked.may(policy::NAMESPACE_SHOW, &target(&space))? {
                    continue;
                }
                let associations = store::list_items(tx, &space.id, Kind::Association)?;
                rows.push((space, associations));
            }
            Ok::<_, Error>(Listing { rows, more: found.more, reverse: found.reverse })
        })
        .await?;
    Ok(Reply::ok(&views::index(&listing, &params)))
}

pub async fn show(State(app): State<Images>, ctx: Ctx, Path(name): Path<String>, params: Params) -> Result<Reply> {
    let viewer = viewer(&ctx)?;
    let resource_type = params.get("resource_type").map(str::to_owned);
    let view = app
        .db()
        .read(move |tx| {
            let found = readable(tx, &ctx, &viewer, &name, policy::TYPE_INDEX)?;
            for rule in [policy::OBJECT_INDEX, policy::PROPERTY_INDEX, policy::TAG_INDEX] {
                ctx.allow(rule, &target(&found))?;
            }
            let list = |kind: Kind| store::list_items(tx, &found.id, kind);
            let associations = list(Kind::Association)?;
            let prefix = associations
                .iter()
                .find(|item| Some(&item.name) == resource_type.as_ref())
                .and_then(|item| item.body.get("prefix")?.as_str())
                .unwrap_or_default()
                .to_owned();
            let held = views::Held {
                objects: list(Kind::Object)?,
                properties: list(Kind::Property)?,
                tags: list(Kind::Tag)?,
                associations,
                prefix,
            };
            Ok::<_, Error>(views::whole(&found, &held))
        })
        .await?;
    Ok(Reply::ok(&view))
}

/// The part of a checked body that is the namespace's own. What is left out is as if it were new.
fn fill(space: &mut Namespace, body: &Map<String, Value>) -> Result<()> {
    let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
    space.namespace = model::check_name(&text("namespace").unwrap_or_default())?;
    space.display_name = text("display_name");
    space.description = text("description");
    space.is_public = text("visibility").as_deref() == Some("public");
    space.protected = body.get("protected").and_then(Value::as_bool).unwrap_or(false);
    if let Some(owner) = text("owner").filter(|owner| !owner.is_empty()) {
        space.owner = Some(owner);
    }
    Ok(())
}

/// What a new namespace holds from the start.
fn contents(body: &Map<String, Value>, now: &str) -> Result<Vec<(Kind, Item)>> {
    let mut items = Vec::new();
    for (key, kind) in
        [("resource_type_associations", Kind::Association), ("objects", Kind::Object), ("tags", Kind::Tag)]
    {
        for one in body.get(key).and_then(Value::as_array).into_iter().flatten() {
            items.push((kind, model::item(one.as_object().cloned().unwrap_or_default(), now)?));
        }
    }
    for (name, one) in body.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let mut map = one.as_object().cloned().unwrap_or_default();
        map.insert("name".to_owned(), Value::from(name.as_str()));
        items.push((Kind::Property, model::item(map, now)?));
    }
    Ok(items)
}

pub async fn create(State(app): State<Images>, ctx: Ctx, RawJson(body): RawJson) -> Result<Reply> {
    let (viewer, now) = (viewer(&ctx)?, app.now());
    ctx.allow(policy::NAMESPACE_CREATE, &own_target(&viewer))?;
    let body = model::checked(&schemas::namespace(), body)?;
    for (key, rule) in [
        ("resource_type_associations", policy::TYPE_CREATE),
        ("objects", policy::OBJECT_CREATE),
        ("properties", policy::PROPERTY_CREATE),
        ("tags", policy::TAG_CREATE),
    ] {
        if body.contains_key(key) {
            ctx.allow(rule, &own_target(&viewer))?;
        }
    }
    let mut space = Namespace {
        id: rest::new_uuid(),
        namespace: String::new(),
        display_name: None,
        description: None,
        is_public: false,
        protected: false,
        owner: viewer.project_id.clone(),
        created_at: now.clone(),
        updated_at: now.clone(),
    };
    fill(&mut space, &body)?;
    let items = contents(&body, &now)?;
    let view = app
        .db()
        .write(move |tx| {
            store::insert(tx, &space)?;
            for (kind, item) in &items {
                store::insert_item(tx, &space, *kind, item)?;
            }
            let of = |wanted: Kind| {
                items.iter().filter(|(kind, _)| *kind == wanted).map(|(_, item)| item.clone()).collect::<Vec<_>>()
            };
            let held = views::Held {
                objects: of(Kind::Object),
                properties: of(Kind::Property),
                tags: of(Kind::Tag),
                associations: of(Kind::Association),
                prefix: String::new(),
            };
            Ok::<_, Error>(views::whole(&space, &held))
        })
        .await?;
    let location = ctx.url(view["self"].as_str().unwrap_or_default());
    let reply = Reply::created(&view);
    // A name may hold what a header cannot; the body has the link in any case.
    match location.is_ascii() {
        true => Ok(reply.with_header(http::header::LOCATION, &location)),
        false => Ok(reply),
    }
}

pub async fn update(
    State(app): State<Images>,
    ctx: Ctx,
    Path(name): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    let (viewer, now) = (viewer(&ctx)?, app.now());
    let space = app
        .db()
        .write(move |tx| {
            let mut space = writable(tx, &ctx, &viewer, &name, policy::NAMESPACE_UPDATE)?;
            let body = model::checked(&schemas::namespace(), body)?;
            fill(&mut space, &body)?;
            space.updated_at = now;
            store::update(tx, &space)?;
            Ok::<_, Error>(space)
        })
        .await?;
    Ok(Reply::ok(&Value::Object(views::namespace(&space))))
}

pub async fn delete(State(app): State<Images>, ctx: Ctx, Path(name): Path<String>) -> Result<Reply> {
    let viewer = viewer(&ctx)?;
    app.db()
        .write(move |tx| {
            let space = writable(tx, &ctx, &viewer, &name, policy::NAMESPACE_DELETE)?;
            check_deletable(&space, "it")?;
            Ok::<_, Error>(store::delete(tx, &space.id)?)
        })
        .await?;
    Ok(Reply::no_content())
}

/// `DELETE .../objects`, `.../properties`: everything of a kind goes; the rule is the namespace's, as upstream has it.
async fn empty(app: Images, ctx: Ctx, name: String, kind: Kind, and: Option<rest::Rule>) -> Result<Reply> {
    let viewer = viewer(&ctx)?;
    app.db()
        .write(move |tx| {
            let space = writable(tx, &ctx, &viewer, &name, policy::NAMESPACE_DELETE)?;
            if let Some(rule) = and {
                ctx.allow(rule, &target(&space))?;
            }
            check_deletable(&space, "what it holds")?;
            Ok::<_, Error>(store::delete_items(tx, &space.id, kind)?)
        })
        .await?;
    Ok(Reply::no_content())
}

pub async fn delete_objects(State(app): State<Images>, ctx: Ctx, Path(name): Path<String>) -> Result<Reply> {
    empty(app, ctx, name, Kind::Object, None).await
}

pub async fn delete_properties(State(app): State<Images>, ctx: Ctx, Path(name): Path<String>) -> Result<Reply> {
    empty(app, ctx, name, Kind::Property, None).await
}

pub async fn delete_tags(State(app): State<Images>, ctx: Ctx, Path(name): Path<String>) -> Result<Reply> {
    empty(app, ctx, name, Kind::Tag, Some(policy::TAGS_DELETE)).await
}

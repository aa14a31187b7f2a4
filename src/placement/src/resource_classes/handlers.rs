use axum::extract::{Path, State};
use http::{StatusCode, header};
use rest::{Ctx, Error, Kind, Reply, Result};
use serde_json::{Value, json};

use super::{policy, store, views};
use crate::{
    App,
    reply::{Changed, Fresh},
    request::{Unread, WantsJson},
    schema::{self, Schema},
};

const NAMED: Schema = schema::object(
    &["name"],
    &[("name", &Schema::Text { nullable: false, min: 1, max: 255, form: schema::Form::Pattern(schema::CUSTOM_CLASS) })],
);

fn missing(name: &str) -> Error {
    Error::new(Kind::NotFound, format!("No such resource class: {name}"))
}

pub async fn index(State(app): State<App>, ctx: Ctx, _: WantsJson) -> Result<Reply> {
    ctx.allow(policy::LIST, &rest::target(&[]))?;
    let classes = app.db.read(|tx| Ok::<_, Error>(store::list(tx)?)).await?;
    let changed = Changed::latest(&app.clock, classes.iter().map(|class| class.updated_at.as_str()));
    Ok(Reply::ok(&views::index(&classes)).fresh(&ctx, &changed))
}

pub async fn show(State(app): State<App>, ctx: Ctx, _: WantsJson, Path(name): Path<String>) -> Result<Reply> {
    ctx.allow(policy::SHOW, &rest::target(&[]))?;
    let class = app.db.read_blocking(|tx| store::find(tx, &name)?.ok_or_else(|| missing(&name)))?;
    Ok(Reply::ok(&views::show(&class)).fresh(&ctx, &Changed::at(&class.updated_at)))
}

pub async fn create(State(app): State<App>, ctx: Ctx, body: Unread) -> Result<Reply> {
    ctx.allow(policy::CREATE, &rest::target(&[]))?;
    let body = body.json().await?;
    schema::check_body(&NAMED, &body)?;
    let name = name_of(&body);
    let now = app.clock.now_text();
    let location = ctx.url(&format!("/resource_classes/{name}"));
    app.db
        .write(move |tx| {
            if store::find(tx, &name)?.is_some() {
                return Err(Error::conflict(format!("Conflicting resource class already exists: {name}")));
            }
            Ok::<_, Error>(store::insert(tx, &name, &now)?)
        })
        .await?;
    Ok(Reply::empty(StatusCode::CREATED).with_header(header::LOCATION, &location))
}

/// Since 1.7 the class is created or confirmed, and there is no body; before, the body names what to rename it to.
pub async fn update(State(app): State<App>, ctx: Ctx, Path(name): Path<String>, body: Unread) -> Result<Reply> {
    ctx.allow(policy::UPDATE, &rest::target(&[]))?;
    let now = app.clock.now_text();
    if !ctx.since(1, 7) {
        let body = body.json().await?;
        schema::check_body(&NAMED, &body)?;
        let to = name_of(&body);
        let class = app.db.write(move |tx| rename(tx, &name, &to, &now)).await?;
        return Ok(Reply::ok(&views::show(&class)));
    }
    schema::check_body(&NAMED, &json!({"name": name}))?;
    let location = ctx.url(&format!("/resource_classes/{name}"));
    let created = app
        .db
        .write(move |tx| {
            if store::find(tx, &name)?.is_some() {
                return Ok::<_, Error>(false);
            }
            store::insert(tx, &name, &now)?;
            Ok(true)
        })
        .await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::NO_CONTENT };
    Ok(Reply::empty(status).with_header(header::LOCATION, &location))
}

fn rename(tx: &db::Tx<'_>, from: &str, to: &str, now: &str) -> Result<store::ResourceClass> {
    let class = store::find(tx, from)?.ok_or_else(|| missing(from))?;
    if class.is_standard() {
        return Err(Error::bad_request(format!("Cannot update standard resource class {from}")));
    }
    if from != to && store::find(tx, to)?.is_some() {
        return Err(Error::conflict(format!("Resource class already exists: {to}")));
    }
    store::rename(tx, class.id, to, now)?;
    Ok(store::ResourceClass { name: to.to_owned(), updated_at: now.to_owned(), ..class })
}

pub async fn delete(State(app): State<App>, ctx: Ctx, Path(name): Path<String>) -> Result<Reply> {
    ctx.allow(policy::DELETE, &rest::target(&[]))?;
    app.db
        .write(move |tx| {
            let class = store::find(tx, &name)?.ok_or_else(|| missing(&name))?;
            if class.is_standard() {
                return Err(Error::bad_request(format!(
                    "Error in delete resource class: Cannot delete standard resource class {name}"
                )));
            }
            if store::in_use(tx, class.id)? {
                return Err(Error::conflict(format!(
                    "Error in delete resource class: Class is in use in inventory: {name}"
                )));
            }
            Ok::<_, Error>(store::delete(tx, class.id)?)
        })
        .await?;
    Ok(Reply::no_content())
}

fn name_of(body: &Value) -> String {
    body["name"].as_str().unwrap_or_default().to_owned()
}

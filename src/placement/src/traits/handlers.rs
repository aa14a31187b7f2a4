use axum::extract::{Path, State};
use http::{StatusCode, header};
use rest::{Ctx, Error, Kind, Params, Reply, Result};
use serde_json::{Value, json};

use super::{policy, store};
use crate::{
    App, error,
    query::query_object,
    reply::{Changed, Fresh},
    request::{Unread, WantsJson},
    resource_providers,
    schema::{self, Schema},
};

const QUERY: Schema = schema::object(&[], &[("name", &schema::TEXT), ("associated", &schema::TEXT)]);

const OF_PROVIDER: Schema = schema::object(
    &["traits", "resource_provider_generation"],
    &[("traits", &NAMES), ("resource_provider_generation", &schema::INTEGER)],
);
const NAMES: Schema = Schema::List { items: &NAME, min: 0, unique: true };
const NAME: Schema = Schema::Text { nullable: false, min: 1, max: 255, form: schema::Form::Pattern(schema::CLASS) };

fn missing(name: &str) -> Error {
    Error::new(Kind::NotFound, format!("No such trait(s): {name}."))
}

pub async fn index(State(app): State<App>, ctx: Ctx, _: WantsJson, params: Params) -> Result<Reply> {
    ctx.allow(policy::LIST, &rest::target(&[]))?;
    schema::check_query(&QUERY, &query_object(&params))?;
    let associated = match params.get("associated").map(str::to_ascii_lowercase).as_deref() {
        None => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(other) => {
            return Err(Error::bad_request(format!(
                "The query parameter \"associated\" only accepts \"true\" or \"false\". Got: {other}"
            )));
        }
    };
    let mut traits = app.db.read(move |tx| Ok::<_, Error>(store::list(tx, associated)?)).await?;
    if let Some(filter) = params.get("name") {
        match filter.split_once(':') {
            Some(("startswith", prefix)) => traits.retain(|one| one.name.starts_with(prefix)),
            Some(("in", names)) => {
                let names: Vec<&str> = names.split(',').collect();
                traits.retain(|one| names.contains(&one.name.as_str()));
            }
            _ => {
                return Err(Error::bad_request(format!(
                    "Badly formatted name parameter. Expected name query string parameter in form: \
                     ?name=[in|startswith]:[name1,name2|prefix]. Got: \"{filter}\""
                )));
            }
        }
    }
    let changed = Changed::latest(&app.clock, traits.iter().map(|one| one.updated_at.as_str()));
    let names: Vec<&str> = traits.iter().map(|one| one.name.as_str()).collect();
    Ok(Reply::ok(&json!({"traits": names})).fresh(&ctx, &changed))
}

pub async fn show(State(app): State<App>, ctx: Ctx, Path(name): Path<String>) -> Result<Reply> {
    ctx.allow(policy::SHOW, &rest::target(&[]))?;
    let found = app.db.read_blocking(|tx| store::find(tx, &name)?.ok_or_else(|| missing(&name)))?;
    Ok(Reply::no_content().fresh(&ctx, &Changed::at(&found.updated_at)))
}

pub async fn update(State(app): State<App>, ctx: Ctx, Path(name): Path<String>) -> Result<Reply> {
    ctx.allow(policy::UPDATE, &rest::target(&[]))?;
    if name.len() > 255 || !(schema::CUSTOM_CLASS.fits)(&name) {
        return Err(Error::bad_request(
            "The trait is invalid. A valid trait must be no longer than 255 characters, start with the prefix \
             \"CUSTOM_\" and use following characters: \"A\"-\"Z\", \"0\"-\"9\" and \"_\"",
        ));
    }
    let location = ctx.url(&format!("/traits/{name}"));
    let now = app.clock.now_text();
    let known = app
        .db
        .write(move |tx| {
            let known = store::find(tx, &name)?;
            if known.is_none() {
                store::insert(tx, &name, &now)?;
            }
            Ok::<_, Error>(known)
        })
        .await?;
    let (status, changed) = match known {
        Some(known) => (StatusCode::NO_CONTENT, Changed::at(&known.updated_at)),
        None => (StatusCode::CREATED, Changed::now(&app.clock)),
    };
    Ok(Reply::empty(status).with_header(header::LOCATION, &location).fresh(&ctx, &changed))
}

pub async fn delete(State(app): State<App>, ctx: Ctx, Path(name): Path<String>) -> Result<Reply> {
    ctx.allow(policy::DELETE, &rest::target(&[]))?;
    app.db
        .write(move |tx| {
            let found = store::find(tx, &name)?.ok_or_else(|| missing(&name))?;
            if found.is_standard() {
                return Err(Error::bad_request(format!("Cannot delete standard trait {name}.")));
            }
            if store::in_use(tx, found.id)? {
                return Err(Error::conflict(format!("The trait {name} is in use by a resource provider.")));
            }
            Ok::<_, Error>(store::delete(tx, found.id)?)
        })
        .await?;
    Ok(Reply::no_content())
}

fn provider_view(traits: &[store::Trait], generation: i64) -> Value {
    let names: Vec<&str> = traits.iter().map(|one| one.name.as_str()).collect();
    json!({"traits": names, "resource_provider_generation": generation})
}

pub async fn of_provider(State(app): State<App>, ctx: Ctx, _: WantsJson, Path(uuid): Path<String>) -> Result<Reply> {
    ctx.allow(policy::PROVIDER_LIST, &rest::target(&[]))?;
    let (provider, traits) = app.db.read_blocking(|tx| {
        let provider = resource_providers::store::get(tx, &uuid)?;
        let traits = store::of_provider(tx, provider.id)?;
        Ok::<_, Error>((provider, traits))
    })?;
    let changed = Changed::at(&provider.updated_at);
    Ok(Reply::ok(&provider_view(&traits, provider.generation)).fresh(&ctx, &changed))
}

pub async fn replace_of_provider(
    State(app): State<App>,
    ctx: Ctx,
    _: WantsJson,
    Path(uuid): Path<String>,
    body: Unread,
) -> Result<Reply> {
    ctx.allow(policy::PROVIDER_UPDATE, &rest::target(&[]))?;
    app.db.read_blocking(|tx| resource_providers::store::get(tx, &uuid))?;
    let body = body.json().await?;
    schema::check_body(&OF_PROVIDER, &body)?;
    let names: Vec<String> =
        body["traits"].as_array().into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect();
    let given = whole(&body["resource_provider_generation"]);
    let now = app.clock.now_text();
    let (traits, generation) = app
        .db
        .write(move |tx| {
            let provider = resource_providers::store::get(tx, &uuid)?;
            if provider.generation != given {
                return Err(Error::conflict(
                    "Resource provider's generation already changed. Please update the generation and try again.",
                )
                .with_code(error::CONCURRENT_UPDATE));
            }
            let mut ids = Vec::with_capacity(names.len());
            let mut unknown = Vec::new();
            for name in &names {
                match store::find(tx, name)? {
                    Some(found) => ids.push(found.id),
                    None => unknown.push(name.as_str()),
                }
            }
            if !unknown.is_empty() {
                return Err(Error::bad_request(format!("No such trait {}", unknown.join(", "))));
            }
            store::replace_of_provider(tx, provider.id, &ids)?;
            let generation = resource_providers::store::touch(tx, provider.id, &now)?;
            Ok::<_, Error>((store::of_provider(tx, provider.id)?, generation))
        })
        .await?;
    Ok(Reply::ok(&provider_view(&traits, generation)).fresh(&ctx, &Changed::now(&app.clock)))
}

pub async fn delete_of_provider(State(app): State<App>, ctx: Ctx, Path(uuid): Path<String>) -> Result<Reply> {
    ctx.allow(policy::PROVIDER_DELETE, &rest::target(&[]))?;
    let now = app.clock.now_text();
    app.db
        .write(move |tx| {
            let provider = resource_providers::store::get(tx, &uuid)?;
            store::replace_of_provider(tx, provider.id, &[])?;
            resource_providers::store::touch(tx, provider.id, &now)?;
            Ok::<_, Error>(())
        })
        .await?;
    Ok(Reply::no_content())
}

/// A number that the schema has found to be whole, also when written `1.0`.
pub fn whole(value: &Value) -> i64 {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the cast saturates, and a generation beyond 2^53 is refused as wrong"
    )]
    value.as_i64().unwrap_or_else(|| value.as_f64().map_or(-1, |number| number as i64))
}

use axum::extract::{Path, State};
use rest::{Ctx, Error, Kind, Reply, Result};

use super::{
    model::{self, Request},
    policy, store, views,
};
use crate::{
    App,
    reply::{Changed, Fresh},
    request::{Unread, WantsJson},
    resource_providers::store as providers,
    schema,
};

pub async fn show(State(app): State<App>, ctx: Ctx, _: WantsJson, Path(consumer): Path<String>) -> Result<Reply> {
    ctx.allow(policy::LIST, &rest::target(&[]))?;
    let uuid = schema::normal_uuid(&consumer).unwrap_or(consumer);
    let (consumer, held) = app.db.read_blocking(|tx| {
        let consumer = store::find(tx, &uuid)?;
        let held = match &consumer {
            Some(consumer) => store::of_consumer(tx, consumer.id)?,
            None => Vec::new(),
        };
        Ok::<_, Error>((consumer, held))
    })?;
    let changed = consumer.as_ref().map_or_else(|| Changed::now(&app.clock), |one| Changed::at(&one.updated_at));
    Ok(Reply::ok(&views::of_consumer(&ctx, consumer.as_ref(), &held)).fresh(&ctx, &changed))
}

pub async fn of_provider(State(app): State<App>, ctx: Ctx, _: WantsJson, Path(uuid): Path<String>) -> Result<Reply> {
    ctx.allow(policy::OF_PROVIDER, &rest::target(&[]))?;
    let (provider, given) = app
        .db
        .read(move |tx| {
            let provider = providers::get(tx, &uuid)?;
            let given = store::of_provider(tx, provider.id)?;
            Ok::<_, Error>((provider, given))
        })
        .await?;
    let changed = Changed::latest(&app.clock, given.iter().map(|row| row.updated_at.as_str()));
    Ok(Reply::ok(&views::of_provider(&ctx, &given, provider.generation)).fresh(&ctx, &changed))
}

pub async fn replace(State(app): State<App>, ctx: Ctx, Path(consumer): Path<String>, body: Unread) -> Result<Reply> {
    ctx.allow(policy::UPDATE, &rest::target(&[]))?;
    let body = body.json().await?;
    let consumer = schema::normal_uuid(&consumer)
        .ok_or_else(|| Error::bad_request(format!("Malformed consumer_uuid: {consumer}")))?;
    schema::check_body(model::put_schema(&ctx), &body)?;
    let request = Request::from_body(consumer, &body);
    let now = app.clock.now_text();
    app.db.write(move |tx| store::replace(tx, &[request], &now)).await?;
    Ok(Reply::no_content())
}

pub async fn manage(State(app): State<App>, ctx: Ctx, body: Unread) -> Result<Reply> {
    ctx.allow(policy::MANAGE, &rest::target(&[]))?;
    let body = body.json().await?;
    schema::check_body(model::post_schema(&ctx), &body)?;
    let requests = model::requests(&body)?;
    let now = app.clock.now_text();
    app.db.write(move |tx| store::replace(tx, &requests, &now)).await?;
    Ok(Reply::no_content())
}

pub async fn delete(State(app): State<App>, ctx: Ctx, Path(consumer): Path<String>) -> Result<Reply> {
    ctx.allow(policy::DELETE, &rest::target(&[]))?;
    let uuid = schema::normal_uuid(&consumer).unwrap_or(consumer);
    app.db
        .write(move |tx| {
            if store::delete(tx, &uuid)? {
                return Ok(());
            }
            Err(Error::new(Kind::NotFound, format!("No allocations for consumer '{uuid}'")))
        })
        .await?;
    Ok(Reply::no_content())
}

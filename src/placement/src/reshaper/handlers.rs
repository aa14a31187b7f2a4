use std::collections::BTreeMap;

use axum::extract::State;
use db::Tx;
use rest::{Ctx, Error, Reply, Result};
use serde_json::Value;

use super::policy;
use crate::{
    App,
    allocations::{
        self,
        model::{RESHAPED_1_30, RESHAPED_1_34, RESHAPED_1_38, Request},
    },
    error, inventories,
    inventories::model::Inventory,
    request::Unread,
    resource_providers::store as providers,
    schema::{self, Schema},
    traits::handlers::whole,
};

const INVENTORIES: Schema = schema::keyed(&[(schema::UUID_KEY, &inventories::model::REPLACE)], 0);
const BODY_1_30: Schema =
    schema::object(&["inventories", "allocations"], &[("inventories", &INVENTORIES), ("allocations", &RESHAPED_1_30)]);
const BODY_1_34: Schema =
    schema::object(&["inventories", "allocations"], &[("inventories", &INVENTORIES), ("allocations", &RESHAPED_1_34)]);
const BODY_1_38: Schema =
    schema::object(&["inventories", "allocations"], &[("inventories", &INVENTORIES), ("allocations", &RESHAPED_1_38)]);

pub async fn reshape(State(app): State<App>, ctx: Ctx, body: Unread) -> Result<Reply> {
    ctx.allow(policy::RESHAPE, &rest::target(&[]))?;
    let body = body.json().await?;
    let schema = match () {
        () if ctx.since(1, 38) => &BODY_1_38,
        () if ctx.since(1, 34) => &BODY_1_34,
        () => &BODY_1_30,
    };
    schema::check_body(schema, &body)?;
    let requests = allocations::model::requests(&body["allocations"])?;
    let now = app.clock.now_text();
    let context = ctx.clone();
    app.db.write(move |tx| run(tx, &context, &body["inventories"], &requests, &now)).await?;
    Ok(Reply::no_content())
}

/// First every provider gets what it will have on top of what it has, so that old and new allocations both fit; then the
/// allocations move; then what is no longer wanted goes. Each of the three moves a generation.
fn run(tx: &Tx<'_>, ctx: &Ctx, body: &Value, requests: &[Request], now: &str) -> Result<()> {
    let mut wanted: BTreeMap<i64, (providers::Provider, Vec<(i64, Inventory)>)> = BTreeMap::new();
    for (uuid, one) in body.as_object().into_iter().flatten() {
        let provider = providers::find(tx, uuid)?.ok_or_else(|| {
            Error::bad_request(format!("Resource provider {uuid} in reshaper request does not exist."))
                .with_code(error::PROVIDER_NOT_FOUND)
        })?;
        let given = whole(&one["resource_provider_generation"]);
        if provider.generation != given {
            return Err(error::generation_conflict(provider.generation, given));
        }
        let resolved = inventories::handlers::resolve(tx, ctx, &provider.uuid, &inventories::handlers::wanted(one))?;
        if wanted.contains_key(&provider.id) {
            return Err(Error::bad_request(format!("Resource provider {} is named more than once.", provider.uuid)));
        }
        wanted.insert(provider.id, (provider, resolved));
    }
    for (id, (_, inventories)) in &wanted {
        for (class, inventory) in inventories {
            inventories::store::put(tx, *id, *class, inventory)?;
        }
        providers::touch(tx, *id, now)?;
    }
    allocations::store::replace(tx, requests, now)?;
    for (id, (provider, inventories)) in &wanted {
        inventories::store::replace(tx, *id, &provider.uuid, inventories)?;
        providers::touch(tx, *id, now)?;
    }
    Ok(())
}

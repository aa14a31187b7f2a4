use axum::extract::{Path, State};
use rest::{Ctx, Error, Reply, Result};
use serde_json::{Value, json};

use super::{policy, store};
use crate::{
    App, error,
    reply::{Changed, Fresh},
    request::{Unread, WantsJson},
    resource_providers::store as providers,
    schema::{self, Schema},
    traits::handlers::whole,
};

const LIST: Schema = Schema::List { items: &schema::UUID, min: 0, unique: true };
const LIST_1_19: Schema = schema::object(
    &["resource_provider_generation", "aggregates"],
    &[("resource_provider_generation", &schema::INTEGER), ("aggregates", &LIST)],
);

fn view(ctx: &Ctx, aggregates: &[String], generation: i64) -> Value {
    if ctx.since(1, 19) {
        json!({"aggregates": aggregates, "resource_provider_generation": generation})
    } else {
        json!({"aggregates": aggregates})
    }
}

pub async fn index(State(app): State<App>, ctx: Ctx, _: WantsJson, Path(uuid): Path<String>) -> Result<Reply> {
    ctx.allow(policy::LIST, &rest::target(&[]))?;
    let (provider, aggregates) = app.db.read_blocking(|tx| {
        let provider = providers::get(tx, &uuid)?;
        let aggregates = store::list(tx, provider.id)?;
        Ok::<_, Error>((provider, aggregates))
    })?;
    let changed = Changed::at(&provider.updated_at);
    Ok(Reply::ok(&view(&ctx, &aggregates, provider.generation)).fresh(&ctx, &changed))
}

/// Since 1.19 the body carries the provider's generation, which is checked and moves on; before, it stays.
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
    let guarded = ctx.since(1, 19);
    schema::check_body(if guarded { &LIST_1_19 } else { &LIST }, &body)?;
    let list = if guarded { &body["aggregates"] } else { &body };
    let wanted: Vec<String> =
        list.as_array().into_iter().flatten().filter_map(|uuid| schema::normal_uuid(uuid.as_str()?)).collect();
    let given = guarded.then(|| whole(&body["resource_provider_generation"]));
    let now = app.clock.now_text();
    let (aggregates, generation) = app
        .db
        .write(move |tx| {
            let provider = providers::get(tx, &uuid)?;
            if let Some(given) = given.filter(|given| *given != provider.generation) {
                return Err(error::generation_conflict(provider.generation, given));
            }
            store::replace(tx, provider.id, &wanted)?;
            let generation = if guarded { providers::touch(tx, provider.id, &now)? } else { provider.generation };
            Ok::<_, Error>((store::list(tx, provider.id)?, generation))
        })
        .await?;
    Ok(Reply::ok(&view(&ctx, &aggregates, generation)).fresh(&ctx, &Changed::now(&app.clock)))
}

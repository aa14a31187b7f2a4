use axum::extract::{Path, State};
use rest::{Ctx, Error, Params, Reply, Result};
use serde_json::{Map, Value, json};

use super::{policy, store};
use crate::{
    App,
    allocations::model::{CONSUMER_TYPE_QUERY, UNKNOWN},
    query::query_object,
    reply::{Changed, Fresh},
    request::WantsJson,
    resource_providers::store as providers,
    schema::{self, Schema},
};

const QUERY: Schema =
    schema::object(&["project_id"], &[("project_id", &schema::TEXT_255), ("user_id", &schema::TEXT_255)]);
const QUERY_1_38: Schema = schema::object(
    &["project_id"],
    &[("project_id", &schema::TEXT_255), ("user_id", &schema::TEXT_255), ("consumer_type", &CONSUMER_TYPE_QUERY)],
);

/// Since 1.38 this groups consumers of every type under one key.
const ALL: &str = "all";

pub async fn of_provider(State(app): State<App>, ctx: Ctx, _: WantsJson, Path(uuid): Path<String>) -> Result<Reply> {
    ctx.allow(policy::PROVIDER, &rest::target(&[]))?;
    let (provider, usages) = app.db.read_blocking(|tx| {
        let provider = providers::get(tx, &uuid)?;
        let usages = store::of_provider(tx, provider.id)?;
        Ok::<_, Error>((provider, usages))
    })?;
    let usages: Map<String, Value> = usages.into_iter().map(|(class, used)| (class, Value::from(used))).collect();
    let body = json!({"resource_provider_generation": provider.generation, "usages": usages});
    Ok(Reply::ok(&body).fresh(&ctx, &Changed::now(&app.clock)))
}

pub async fn total(State(app): State<App>, ctx: Ctx, _: WantsJson, params: Params) -> Result<Reply> {
    let typed = ctx.since(1, 38);
    schema::check_query(if typed { &QUERY_1_38 } else { &QUERY }, &query_object(&params))?;
    let project = params.get("project_id").unwrap_or_default().to_owned();
    ctx.allow(policy::TOTAL, &rest::target(&[("project_id", &project)]))?;
    let user = params.get("user_id").map(str::to_owned);
    let (rows, counts) = app
        .db
        .read(move |tx| {
            let rows = store::of_project(tx, &project, user.as_deref())?;
            let counts = store::consumers_of_project(tx, &project, user.as_deref())?;
            Ok::<_, Error>((rows, counts))
        })
        .await?;
    let mut usages: Map<String, Value> = Map::new();
    if typed {
        let wanted = params.get("consumer_type");
        let key = |kind: &Option<String>| match wanted {
            Some(ALL) => Some(ALL.to_owned()),
            Some(wanted) => Some(kind.clone().unwrap_or_else(|| UNKNOWN.to_owned())).filter(|kind| kind == wanted),
            None => Some(kind.clone().unwrap_or_else(|| UNKNOWN.to_owned())),
        };
        for (kind, consumers) in &counts {
            if let Some(key) = key(kind) {
                add(&mut usages, &key, "consumer_count", *consumers);
            }
        }
        for (kind, class, used) in &rows {
            if let Some(key) = key(kind) {
                add(&mut usages, &key, class, *used);
            }
        }
    } else {
        for (_, class, used) in rows {
            let before = usages.get(&class).and_then(Value::as_i64).unwrap_or(0);
            usages.insert(class, Value::from(before + used));
        }
    }
    Ok(Reply::ok(&json!({"usages": usages})).fresh(&ctx, &Changed::now(&app.clock)))
}

fn add(usages: &mut Map<String, Value>, kind: &str, what: &str, amount: i64) {
    let group = usages.entry(kind).or_insert_with(|| Value::Object(Map::new()));
    let before = group[what].as_i64().unwrap_or(0);
    group[what] = Value::from(before + amount);
}

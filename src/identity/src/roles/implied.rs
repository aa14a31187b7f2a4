//! `/v3/roles/<prior>/implies/<implied>` and `/v3/role_inferences`

use axum::extract::{Path, State};
use db::Tx;
use rest::{Ctx, Error, Kind, Reply, Result, Rule, target};
use serde_json::{Value, json};

use super::{
    policy as rules,
    store::{self, Role},
    views,
};
use crate::{
    App, assignments,
    errors::{not_found, refused},
};

fn ends(tx: &Tx<'_>, ctx: &Ctx, rule: Rule, prior_id: &str, implied_id: &str) -> Result<(Role, Role)> {
    ctx.allow(rule, &target(&[]))?;
    let prior = store::find(tx, prior_id)?.ok_or_else(|| not_found("role", prior_id))?;
    let implied = store::find(tx, implied_id)?.ok_or_else(|| not_found("role", implied_id))?;
    Ok((prior, implied))
}

fn not_implied(prior: &Role, implied: &Role) -> Error {
    Error::new(Kind::NotFound, format!("{} does not imply {}.", prior.id, implied.id))
}

fn inference(ctx: &Ctx, prior: &Role, implied: &Role) -> Value {
    json!({
        "role_inference": {"prior_role": views::short(ctx, prior), "implies": views::short(ctx, implied)},
        "links": {"self": ctx.url(ctx.path())},
    })
}

fn all(ctx: &Ctx, prior: &Role, implied: &[Role]) -> Value {
    let implied: Vec<Value> = implied.iter().map(|role| views::short(ctx, role)).collect();
    json!({"prior_role": views::short(ctx, prior), "implies": implied})
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, Path(prior_id): Path<String>) -> Result<Reply> {
    app.db
        .read(move |tx| {
            ctx.allow(rules::LIST_IMPLIED, &target(&[]))?;
            let prior = store::find(tx, &prior_id)?.ok_or_else(|| not_found("role", &prior_id))?;
            let inference = all(&ctx, &prior, &store::implied(tx, &prior_id)?);
            Ok(Reply::ok(&json!({"role_inference": inference, "links": {"self": ctx.url(ctx.path())}})))
        })
        .await
}

pub(crate) async fn show(
    State(app): State<App>,
    ctx: Ctx,
    Path((prior_id, implied_id)): Path<(String, String)>,
) -> Result<Reply> {
    app.db
        .read(move |tx| {
            let (prior, implied) = ends(tx, &ctx, rules::GET_IMPLIED, &prior_id, &implied_id)?;
            if !store::implies(tx, &prior.id, &implied.id)? {
                return Err(not_implied(&prior, &implied));
            }
            Ok(Reply::ok(&inference(&ctx, &prior, &implied)))
        })
        .await
}

pub(crate) async fn check(
    State(app): State<App>,
    ctx: Ctx,
    Path((prior_id, implied_id)): Path<(String, String)>,
) -> Result<Reply> {
    app.db
        .read(move |tx| {
            let (prior, implied) = ends(tx, &ctx, rules::CHECK_IMPLIED, &prior_id, &implied_id)?;
            let implies = store::implies(tx, &prior.id, &implied.id)?;
            if implies { Ok(Reply::no_content()) } else { Err(not_implied(&prior, &implied)) }
        })
        .await
}

pub(crate) async fn create(
    State(app): State<App>,
    ctx: Ctx,
    Path((prior_id, implied_id)): Path<(String, String)>,
) -> Result<Reply> {
    app.db
        .write(move |tx| {
            let (prior, implied) = ends(tx, &ctx, rules::CREATE_IMPLIED, &prior_id, &implied_id)?;
            if implied.name == "admin" && implied.domain_id.is_none() {
                return Err(refused(format_args!("{} cannot be an implied role", implied.id)));
            }
            // A role that acts everywhere must not depend on what one domain makes of its own roles.
            if implied.domain_id.is_some() && prior.domain_id.is_none() {
                return Err(refused("a role of the cloud cannot imply a role of a domain"));
            }
            let back = assignments::store::with_implied(tx, std::slice::from_ref(&implied.id))?;
            if back.contains(&prior.id) {
                return Err(Error::bad_request(format!(
                    "Role {} already implies {}: roles cannot imply each other in a circle.",
                    implied.id, prior.id
                )));
            }
            store::insert_implied(tx, &prior.id, &implied.id)?;
            Ok(Reply::created(&inference(&ctx, &prior, &implied)))
        })
        .await
}

pub(crate) async fn delete(
    State(app): State<App>,
    ctx: Ctx,
    Path((prior_id, implied_id)): Path<(String, String)>,
) -> Result<Reply> {
    app.db
        .write(move |tx| {
            let (prior, implied) = ends(tx, &ctx, rules::DELETE_IMPLIED, &prior_id, &implied_id)?;
            let was = store::delete_implied(tx, &prior.id, &implied.id)?;
            if was { Ok(Reply::no_content()) } else { Err(not_implied(&prior, &implied)) }
        })
        .await
}

pub(crate) async fn inferences(State(app): State<App>, ctx: Ctx) -> Result<Reply> {
    app.db
        .read(move |tx| {
            ctx.allow(rules::LIST_INFERENCES, &target(&[]))?;
            let mut inferences = Vec::new();
            for prior in store::priors(tx)? {
                inferences.push(all(&ctx, &prior, &store::implied(tx, &prior.id)?));
            }
            Ok(Reply::ok(&json!({"role_inferences": inferences, "links": {"self": ctx.url(ctx.path())}})))
        })
        .await
}

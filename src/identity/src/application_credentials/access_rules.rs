//! `/v3/users/<id>/access_rules`

use axum::extract::{Path, State};
use rest::{Ctx, Params, Reply, Result, target};
use serde_json::{Value, json};

use super::{
    policy as rules,
    store::{self, Rule},
};
use crate::{
    App,
    errors::{not_found, refused},
    listing::{self, SelfLink},
};

fn view(ctx: &Ctx, user_id: &str, rule: &Rule) -> Value {
    json!({
        "id": rule.id,
        "service": rule.service,
        "method": rule.method,
        "path": rule.path,
        "links": SelfLink::new(ctx, &format!("/users/{user_id}/access_rules"), &rule.id),
    })
}

pub(crate) async fn index(
    State(app): State<App>,
    ctx: Ctx,
    Path(user_id): Path<String>,
    params: Params,
) -> Result<Reply> {
    ctx.allow(rules::LIST_RULES, &target(&[("target.user.id", &user_id)]))?;
    app.db
        .read(move |tx| {
            let mut found = store::rules_of_user(tx, &user_id)?;
            found.retain(|rule| {
                let fits = |name: &str, value: &str| params.get(name).is_none_or(|wanted| wanted == value);
                fits("service", &rule.service) && fits("method", &rule.method) && fits("path", &rule.path)
            });
            let views: Vec<_> = found.iter().map(|rule| view(&ctx, &user_id, rule)).collect();
            Ok(listing::all(&ctx, &params, "access_rules", &views))
        })
        .await
}

pub(crate) async fn show(
    State(app): State<App>,
    ctx: Ctx,
    Path((user_id, id)): Path<(String, String)>,
) -> Result<Reply> {
    ctx.allow(rules::GET_RULE, &target(&[("target.user.id", &user_id)]))?;
    app.db
        .read(move |tx| {
            let rule = store::find_rule(tx, &user_id, &id)?.ok_or_else(|| not_found("access rule", &id))?;
            Ok(Reply::ok(&json!({"access_rule": view(&ctx, &user_id, &rule)})))
        })
        .await
}

pub(crate) async fn delete(
    State(app): State<App>,
    ctx: Ctx,
    Path((user_id, id)): Path<(String, String)>,
) -> Result<Reply> {
    ctx.allow(rules::DELETE_RULE, &target(&[("target.user.id", &user_id)]))?;
    if ctx.creds()?.delegation.restricted {
        return Err(refused("a restricted application credential cannot delete access rules"));
    }
    app.db
        .write(move |tx| {
            store::find_rule(tx, &user_id, &id)?.ok_or_else(|| not_found("access rule", &id))?;
            store::delete_rule(tx, &id)?;
            Ok(Reply::no_content())
        })
        .await
}

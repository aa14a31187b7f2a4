//! `/v3/projects/<id>/tags`

use axum::extract::{Path, State};
use db::Tx;
use rest::{Ctx, Error, Kind, Params, RawJson, Reply, Result, Rule};
use serde_json::{Value, json};

use super::{
    handlers::{frozen, policy_target},
    policy as rules,
    store::{self, Project},
};
use crate::{
    App,
    errors::not_found,
    fields::{check_tag, immutable, tags},
};

fn find(tx: &Tx<'_>, ctx: &Ctx, rule: Rule, id: &str) -> Result<Project> {
    let found = store::find(tx, id)?;
    ctx.allow(rule, &policy_target(found.as_ref()))?;
    found.ok_or_else(|| not_found("project", id))
}

fn change(
    tx: &Tx<'_>,
    ctx: &Ctx,
    rule: Rule,
    id: &str,
    to: impl FnOnce(&mut Vec<String>) -> Result<()>,
) -> Result<Vec<String>> {
    let mut project = find(tx, ctx, rule, id)?;
    if immutable(&project.options) {
        return Err(frozen(&project));
    }
    to(&mut project.tags)?;
    project.tags.sort_unstable();
    store::set_tags(tx, id, &project.tags)?;
    Ok(project.tags)
}

fn no_tag(tag: &str) -> Error {
    Error::new(Kind::NotFound, format!("Could not find project tag: {tag}."))
}

fn body(ctx: &Ctx, tags: &[String]) -> Value {
    json!({"tags": tags, "links": {"next": null, "previous": null, "self": ctx.url(ctx.path())}})
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, Path(id): Path<String>, _: Params) -> Result<Reply> {
    app.db
        .read(move |tx| {
            let project = find(tx, &ctx, rules::LIST_TAGS, &id)?;
            Ok(Reply::ok(&body(&ctx, &project.tags)))
        })
        .await
}

pub(crate) async fn replace(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(new): RawJson,
) -> Result<Reply> {
    app.db
        .write(move |tx| {
            let all = change(tx, &ctx, rules::UPDATE_TAGS, &id, |all| {
                let items = match new {
                    Value::Object(mut map) => map.remove("tags"),
                    _ => None,
                };
                let Some(Value::Array(items)) = items else {
                    return Err(crate::errors::expecting("tags", "request body"));
                };
                *all = tags(items)?;
                Ok(())
            })?;
            Ok(Reply::ok(&body(&ctx, &all)))
        })
        .await
}

pub(crate) async fn clear(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    app.db
        .write(move |tx| {
            change(tx, &ctx, rules::DELETE_TAGS, &id, |all| {
                all.clear();
                Ok(())
            })?;
            Ok(Reply::no_content())
        })
        .await
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path((id, tag)): Path<(String, String)>) -> Result<Reply> {
    app.db
        .read(move |tx| {
            let project = find(tx, &ctx, rules::GET_TAG, &id)?;
            if project.tags.contains(&tag) { Ok(Reply::no_content()) } else { Err(no_tag(&tag)) }
        })
        .await
}

pub(crate) async fn create(State(app): State<App>, ctx: Ctx, Path((id, tag)): Path<(String, String)>) -> Result<Reply> {
    app.db
        .write(move |tx| {
            let url = ctx.url(ctx.path());
            change(tx, &ctx, rules::CREATE_TAG, &id, |all| {
                check_tag(&tag)?;
                if !all.contains(&tag) {
                    all.push(tag);
                }
                if all.len() > 80 {
                    return Err(crate::errors::invalid("tags", "there are more than 80"));
                }
                Ok(())
            })?;
            Ok(Reply::empty(http::StatusCode::CREATED).with_header(http::header::LOCATION, &url))
        })
        .await
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path((id, tag)): Path<(String, String)>) -> Result<Reply> {
    app.db
        .write(move |tx| {
            change(tx, &ctx, rules::DELETE_TAG, &id, |all| {
                let before = all.len();
                all.retain(|own| *own != tag);
                if all.len() == before { Err(no_tag(&tag)) } else { Ok(()) }
            })?;
            Ok(Reply::no_content())
        })
        .await
}

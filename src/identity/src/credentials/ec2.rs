//! `/v3/users/<id>/credentials/OS-EC2`. The id in these paths is the access key.

use axum::extract::{Path, State};
use rest::{Ctx, Error, Params, RawJson, Reply, Result, target};
use serde_json::{Map, Value, json};

use super::{
    handlers::{ec2_id, new_key, not_delegated, owner},
    policy as rules,
    store::{self, Credential},
};
use crate::{
    App,
    errors::not_found,
    fields::{Fields, ID_MAX},
    listing, projects, users,
};

fn view(app: &App, ctx: &Ctx, c: &Credential) -> Result<Value> {
    let blob: Value = serde_json::from_str(&app.open_blob(&c.blob)?).unwrap_or_default();
    let access = blob["access"].as_str().unwrap_or_default();
    Ok(json!({
        "user_id": c.user_id,
        "tenant_id": c.project_id,
        "access": access,
        "secret": blob["secret"],
        "trust_id": null,
        "links": {"self": format!("{}/v3/users/{}/credentials/OS-EC2/{access}", ctx.base_url(), c.user_id)},
    }))
}

pub(crate) async fn index(
    State(app): State<App>,
    ctx: Ctx,
    Path(user_id): Path<String>,
    params: Params,
) -> Result<Reply> {
    ctx.allow(rules::EC2_LIST, &target(&[("user_id", &user_id)]))?;
    not_delegated(&ctx)?;
    app.db
        .read({
            let app = app.clone();
            move |tx| {
                users::store::find(tx, &user_id)?.ok_or_else(|| not_found("user", &user_id))?;
                let found = store::list_of(tx, &user_id, "ec2")?;
                let views = found.iter().map(|row| view(&app, &ctx, row)).collect::<Result<Vec<_>>>()?;
                Ok(listing::all(&ctx, &params, "credentials", &views))
            }
        })
        .await
}

/// The credential behind an access key, if the caller may do `rule` to it. As upstream, the key alone says which one, and
/// the rule is asked about who owns it, whichever user the path names; keys are random, so that one is absent tells nothing.
fn find(tx: &db::Tx<'_>, ctx: &Ctx, rule: rest::Rule, user_id: &str, access: &str) -> Result<Credential> {
    let found = store::find(tx, &ec2_id(access))?.filter(|found| found.kind == "ec2");
    let Some(found) = found else {
        ctx.decide();
        return Err(not_found("credential", access));
    };
    ctx.allow(rule, &owner(&found.user_id))?;
    not_delegated(ctx)?;
    users::store::find(tx, user_id)?.ok_or_else(|| not_found("user", user_id))?;
    Ok(found)
}

pub(crate) async fn show(
    State(app): State<App>,
    ctx: Ctx,
    Path((user_id, access)): Path<(String, String)>,
) -> Result<Reply> {
    let credential = app.db.read_blocking(|tx| find(tx, &ctx, rules::EC2_GET, &user_id, &access))?;
    Ok(Reply::ok(&json!({"credential": view(&app, &ctx, &credential)?})))
}

pub(crate) async fn create(
    State(app): State<App>,
    ctx: Ctx,
    Path(user_id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    ctx.allow(rules::EC2_CREATE, &owner(&user_id))?;
    not_delegated(&ctx)?;
    let Value::Object(map) = body else {
        return Err(Error::bad_request("The request body must be a JSON object."));
    };
    let project_id = Fields::of(map).required_text("tenant_id", ID_MAX, "request body")?;
    let access = new_key()?;
    let blob = json!({"access": access, "secret": new_key()?}).to_string();
    let credential = Credential {
        id: ec2_id(&access),
        user_id,
        project_id: Some(project_id),
        kind: "ec2".into(),
        blob: app.seal_blob(&blob)?,
        extra: Map::new(),
    };
    let view = view(&app, &ctx, &credential)?;
    app.db
        .write(move |tx| {
            let user_id = &credential.user_id;
            users::store::find(tx, user_id)?.ok_or_else(|| not_found("user", user_id))?;
            let project_id = credential.project_id.as_deref().unwrap_or_default();
            projects::store::find(tx, project_id)?.ok_or_else(|| not_found("project", project_id))?;
            store::insert(tx, &credential)?;
            Ok(Reply::created(&json!({ "credential": view })))
        })
        .await
}

pub(crate) async fn delete(
    State(app): State<App>,
    ctx: Ctx,
    Path((user_id, access)): Path<(String, String)>,
) -> Result<Reply> {
    app.db
        .write(move |tx| {
            let credential = find(tx, &ctx, rules::EC2_DELETE, &user_id, &access)?;
            store::delete(tx, &credential.id)?;
            Ok(Reply::no_content())
        })
        .await
}

//! Requests about key pairs.

use axum::extract::{Path, State};
use db::Value as Sql;
use http::StatusCode;
use rest::{Body, Ctx, Error, Params, Reply, Result, target};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Keypair, model, policy, store, views};
use crate::{App, flavors::handlers::unexpected, limits};

/// Whose key pairs: the caller's own, or (2.10, administrators) another user's.
fn whose(ctx: &Ctx, asked: Option<String>) -> Result<String> {
    match asked {
        Some(user_id) if ctx.since(2, 10) => Ok(user_id),
        _ => Ok(ctx.creds()?.user.id.clone()),
    }
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    let mut rest = params.clone();
    let mut page = store::LIST.page(&mut rest)?;
    let user_id = whose(&ctx, rest.take("user_id"))?;
    crate::versions::finish(&ctx, rest)?;
    ctx.allow(policy::INDEX, &target(&[("user_id", &user_id)]))?;
    page.and("user_id = ?", [Sql::Text(user_id)]);
    let listing = app.db.read(move |tx| page.fetch(tx, store::read)).await?;
    let keypairs: Vec<Value> =
        listing.rows.iter().map(|keypair| json!({"keypair": views::brief(&ctx, keypair)})).collect();
    let mut body = json!({"keypairs": keypairs});
    if ctx.since(2, 35)
        && let Some(next) = listing.next_link(&ctx, &params, |keypair| &keypair.name)
    {
        body["keypairs_links"] = json!([{"rel": "next", "href": next}]);
    }
    Ok(Reply::ok(&body))
}

pub(crate) async fn show(
    State(app): State<App>,
    ctx: Ctx,
    Path(name): Path<String>,
    mut params: Params,
) -> Result<Reply> {
    let user_id = whose(&ctx, params.take("user_id"))?;
    ctx.allow(policy::SHOW, &target(&[("user_id", &user_id)]))?;
    let keypair = app.db.read(move |tx| store::get(tx, &user_id, &name)).await?;
    Ok(Reply::ok(&json!({"keypair": views::show(&ctx, &keypair)})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateRequest {
    keypair: NewKeypair,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKeypair {
    name: String,
    public_key: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    user_id: Option<String>,
}

pub(crate) async fn create(
    State(app): State<App>,
    ctx: Ctx,
    Body(CreateRequest { keypair: new }): Body<CreateRequest>,
) -> Result<Reply> {
    if new.kind.is_some() && !ctx.since(2, 2) {
        return Err(unexpected("type"));
    }
    if new.user_id.is_some() && !ctx.since(2, 10) {
        return Err(unexpected("user_id"));
    }
    if new.public_key.is_none() && ctx.since(2, 92) {
        return Err(Error::bad_request(
            "Invalid input for field/attribute keypair: 'public_key' is a required property",
        ));
    }
    let user_id = whose(&ctx, new.user_id)?;
    ctx.allow(policy::CREATE, &target(&[("user_id", &user_id)]))?;
    let name = check_name(&ctx, &new.name)?;
    let kind = new.kind.unwrap_or_else(|| "ssh".into());
    let (public_key, private_key, fingerprint) = match (kind.as_str(), new.public_key) {
        ("ssh", Some(public_key)) => {
            let fingerprint = model::ssh_fingerprint(&public_key)?;
            (public_key, None, fingerprint)
        }
        ("ssh", None) => {
            let (public_key, private_key) = model::generate(&format!("Generated-by-Solostack {name}"))?;
            let fingerprint = model::ssh_fingerprint(&public_key)?;
            (public_key, Some(private_key), fingerprint)
        }
        ("x509", Some(certificate)) => {
            let fingerprint = model::x509_fingerprint(&certificate)?;
            (certificate, None, fingerprint)
        }
        ("x509", None) => {
            let (certificate, private_key) = model::generate_x509(&user_id, app.clock.now())?;
            let fingerprint = model::x509_fingerprint(&certificate)?;
            (certificate, Some(private_key), fingerprint)
        }
        _ => return Err(Error::bad_request("Invalid input for field/attribute type: neither 'ssh' nor 'x509'.")),
    };
    let keypair = Keypair { id: 0, user_id, name, kind, fingerprint, public_key, created_at: app.clock.now_text() };
    let made = keypair.clone();
    let (defaults, project_id) = (app.options.quotas.clone(), ctx.creds()?.project_id().unwrap_or_default().to_owned());
    app.db
        .write(move |tx| {
            // Counted per user, bounded by the project that the user works in.
            let max = limits::store::of_project(tx, &project_id, &defaults)?.key_pairs;
            if max >= 0 && store::count(tx, &keypair.user_id)? >= max {
                return Err(Error::over_quota("Quota exceeded, too many key pairs."));
            }
            store::insert(tx, &keypair)
        })
        .await?;
    let status = if ctx.since(2, 2) { StatusCode::CREATED } else { StatusCode::OK };
    Ok(Reply::json(status, &json!({"keypair": views::created(&ctx, &made, private_key.as_deref())})))
}

pub(crate) async fn delete(
    State(app): State<App>,
    ctx: Ctx,
    Path(name): Path<String>,
    mut params: Params,
) -> Result<Reply> {
    let user_id = whose(&ctx, params.take("user_id"))?;
    ctx.allow(policy::DELETE, &target(&[("user_id", &user_id)]))?;
    app.db.write(move |tx| store::delete(tx, &user_id, &name)).await?;
    Ok(Reply::empty(if ctx.since(2, 2) { StatusCode::NO_CONTENT } else { StatusCode::ACCEPTED }))
}

fn check_name(ctx: &Ctx, name: &str) -> Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || " -_".contains(c) || (ctx.since(2, 92) && "@.".contains(c));
    if name.trim().is_empty() || name.trim() != name || name.len() > 255 || !name.chars().all(plain) {
        return Err(Error::bad_request(
            "Keypair data is invalid: Keypair name must be string and between 1 and 255 characters long, of letters, \
             digits, spaces, '-' and '_'.",
        ));
    }
    Ok(name.to_owned())
}

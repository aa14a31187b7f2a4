use axum::extract::State;
use rest::{Body, Ctx, Error, Reply, Result};
use serde::Deserialize;
use serde_json::json;

use crate::App;

/// For a machine that anybody on its network can reach: fewer characters can be tried out.
const SHORTEST: usize = 8;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    claim: Said,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    code: String,
    password: String,
}

/// `POST /v1/claim`: `{"claim": {"code", "password"}}`, public, answers `{"user": {"name", "domain"}}`: who may sign in now. 400
/// for a password that may not be one, 403 for a wrong code, 429 after several of them, 404 where there is nothing to claim.
pub async fn claim(State(app): State<App>, ctx: Ctx, body: std::result::Result<Body<Asked>, Error>) -> Result<Reply> {
    app.claims.check_waits()?;
    let Body(Asked { claim: Said { code, password } }) = body?;
    if password.chars().count() < SHORTEST {
        return Err(Error::bad_request(format!("A password here has at least {SHORTEST} characters.")));
    }
    app.claims.take(ctx.arrival().peer.ip(), &code, password).await?;
    let name = app.claims.first_user();
    Ok(Reply::ok(&json!({"user": {"name": name, "domain": "Default"}})))
}

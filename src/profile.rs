//! `GET /.well-known/openstack/api`: the cloud's profile for clients that know nothing but the host, as openstacksdk
//! reads it for `profile: https://<host>` in clouds.yaml.

use axum::{
    Json, Router,
    extract::{Request, State},
    routing::get,
};
use serde_json::{Value, json};

#[derive(Clone, Debug)]
struct Profile {
    region: String,
    /// For clients that name no host.
    authority: String,
}

/// The page, for who asks the host that carries everything. `authority` is `host[:port]`.
pub fn page(region: &str, authority: &str) -> Router {
    let profile = Profile { region: region.to_owned(), authority: authority.to_owned() };
    Router::new().route("/.well-known/openstack/api", get(show)).with_state(profile)
}

async fn show(State(profile): State<Profile>, request: Request) -> Json<Value> {
    let named = request.uri().authority().map(axum::http::uri::Authority::as_str);
    let host = named.or_else(|| request.headers().get("host")?.to_str().ok());
    // What is no authority is not repeated.
    let plain = |text: &&str| !text.is_empty() && text.len() <= 261 && text.bytes().all(is_of_authority);
    let authority = host.filter(plain).unwrap_or(&profile.authority);
    Json(json!({
        "name": authority,
        "profile": {
            "auth": {"auth_url": format!("https://{authority}/identity/v3")},
            "identity_api_version": "3",
            "regions": [profile.region],
        },
    }))
}

fn is_of_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte)
}

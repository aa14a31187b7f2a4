//! One role: which others it implies, and who has it.

use askama::Template;
use axum::{extract::Path, response::Response};
use http::Method;
use serde::Deserialize;

use super::{Reference, Thing, assignments::Card, find_things, get_thing};
use crate::{
    api::{Service, encoded},
    failure::{Failure, Result},
    form::Fields,
    frame::Frame,
    visit::Visit,
};

#[derive(Deserialize)]
struct Inference {
    role_inference: Implied,
}

#[derive(Deserialize)]
struct Implied {
    implies: Vec<Reference>,
}

#[derive(Template)]
#[template(path = "identity/role.html")]
struct Page {
    frame: Frame,
    role: Thing,
    path: String,
    implied: Vec<Reference>,
    /// Those that it could imply as well.
    others: Vec<Thing>,
    holders: Card,
}

/// `GET /roles/{id}`.
pub(super) async fn show(visit: Visit, Path(id): Path<String>) -> Result<Response> {
    let path = format!("/roles/{}", encoded(&id));
    let role = get_thing(&visit, &path, "role").await?;
    let found: Option<Inference> = visit.api.find(Service::Identity, &format!("{path}/implies")).await?;
    let implied = found.map(|found| found.role_inference.implies).unwrap_or_default();
    let others = find_things(&visit, "/roles", "roles").await?;
    let free = |other: &Thing| other.id != role.id && !implied.iter().any(|known| known.id == other.id);
    let others = others.into_iter().filter(free).collect();
    let mut holders = Card::of(&visit, &format!("role.id={}", encoded(&role.id)), None, None, &path).await?;
    holders.roles = vec![role.clone()];
    visit.page(&Page { frame: visit.frame("/roles", role.name.clone()), role, path, implied, others, holders })
}

/// `POST /roles/{id}`: `do` is `imply` or `unimply` another role.
pub(super) async fn act(visit: Visit, Path(id): Path<String>, form: Fields) -> Result<Response> {
    let words = visit.words();
    let path = format!("/roles/{}", encoded(&id));
    let (method, text) = match form.get("do") {
        "imply" => (Method::PUT, words.t("Who has the role has the other as well.")),
        "unimply" => (Method::DELETE, words.t("The role no longer implies the other.")),
        _ => return Err(Failure::bad_request(words.t("Choose what to do."))),
    };
    let implied = format!("{path}/implies/{}", encoded(form.get("role")));
    let result = visit.api.send(method, Service::Identity, &implied, None).await;
    visit.outcome(result, &path, text).await
}

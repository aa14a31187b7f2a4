//! The chain in service, and who signs.

use askama::Template;
use axum::{Form, response::Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::from_now;
use crate::{
    api::Service,
    failure::{Failure, Result},
    frame::Frame,
    visit::Visit,
};

#[derive(Default, Deserialize)]
struct Chain {
    certificates: Vec<Certificate>,
    #[serde(default)]
    brought: bool,
    #[serde(default)]
    left_out: Vec<String>,
    problem: Option<String>,
}

#[derive(Deserialize)]
struct Certificate {
    place: String,
    subject: String,
    issuer: String,
    names: Vec<String>,
    not_before: String,
    not_after: String,
    fingerprint: String,
    origin: String,
    /// In words, filled in here.
    #[serde(default)]
    ends: String,
}

#[derive(Default)]
struct Kept {
    certificate: String,
    root: String,
}

#[derive(Template)]
#[template(path = "system/certificates.html")]
struct Page {
    frame: Frame,
    chain: Chain,
    /// Why there is no chain.
    none: Option<String>,
    kept: Kept,
    authority: String,
}

async fn page(visit: &Visit, kept: Kept) -> Result<Page> {
    let frame = visit.frame("/certificates", visit.words().t("Certificates"));
    let (mut chain, none) = match visit.api.get::<Chain>(Service::System, "/certificates").await {
        Ok(chain) => (chain, None),
        Err(failure) if failure.status == http::StatusCode::CONFLICT => (Chain::default(), Some(failure.message)),
        Err(failure) => return Err(failure),
    };
    let now = visit.now();
    for one in &mut chain.certificates {
        one.ends = from_now(visit.words(), &one.not_after, now);
    }
    Ok(Page { frame, chain, none, kept, authority: visit.api.authority.clone() })
}

/// `GET /certificates`.
pub(super) async fn show(visit: Visit) -> Result<Response> {
    let page = page(&visit, Kept::default()).await?;
    visit.page(&page)
}

/// `POST /certificates/rotate`.
pub(super) async fn rotate(visit: Visit) -> Result<Response> {
    let done = visit.api.post(Service::System, "/certificates/rotate", &Value::Null).await;
    visit.outcome(done, "/certificates", visit.words().t("A new server certificate is in service.")).await
}

/// `POST /certificates/reset`.
pub(super) async fn reset(visit: Visit) -> Result<Response> {
    let done = visit.api.delete(Service::System, "/certificates/intermediate").await;
    visit.outcome(done, "/certificates", visit.words().t("The built-in intermediate signs again.")).await
}

/// No `Debug`: it holds a key.
#[derive(Deserialize)]
pub(super) struct Brought {
    certificate: String,
    key: String,
    #[serde(default)]
    root: String,
}

/// `POST /certificates/intermediate`. The key is not shown again, whatever happens.
pub(super) async fn bring(visit: Visit, Form(form): Form<Brought>) -> Result<Response> {
    let root = Some(form.root.trim()).filter(|root| !root.is_empty());
    let body = json!({"intermediate": {"certificate": form.certificate, "key": form.key, "root": root}});
    match visit.api.put(Service::System, "/certificates/intermediate", &body).await {
        Ok(_) => visit.done("/certificates", visit.words().t("Your intermediate signs from now on.")).await,
        Err(failure) if failure.is_users() && !failure.is_forbidden() => {
            let kept = Kept { certificate: form.certificate, root: form.root };
            let mut page = page(&visit, kept).await?;
            page.frame = page.frame.with_problem(&Failure::clone(&failure));
            visit.again(&failure, &page)
        }
        Err(failure) => Err(failure),
    }
}

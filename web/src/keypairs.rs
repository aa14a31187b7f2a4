//! Key pairs: `/keypairs`. A private key is shown in the answer to the form that made it, and never again.

use askama::Template;
use axum::{Router, body::Body, extract::Path, response::Response, routing::get};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{Request, header};
use serde::Deserialize;
use serde_json::json;

use crate::{
    Dashboard,
    api::{Service, answer, encoded},
    failure::{Failure, Result},
    form::Fields,
    frame::Frame,
    session::Flash,
    visit::Visit,
};

pub(crate) fn routes() -> Router<Dashboard> {
    Router::new()
        .route("/keypairs", get(index))
        .route("/keypairs/new", get(form).post(create))
        .route("/keypairs/delete", axum::routing::post(delete))
        .route("/keypairs/{name}", get(show))
}

#[derive(Clone, Debug, Deserialize)]
struct Keypair {
    name: String,
    fingerprint: String,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    public_key: String,
    /// Only when it was made a moment ago.
    private_key: Option<String>,
    created_at: Option<String>,
}

#[derive(Deserialize)]
struct One {
    keypair: Keypair,
}

#[derive(Deserialize)]
struct Keypairs {
    keypairs: Vec<One>,
    #[serde(default)]
    keypairs_links: Vec<serde_json::Value>,
}

#[derive(Template)]
#[template(path = "keypairs/index.html")]
struct Index {
    frame: Frame,
    keypairs: Vec<Keypair>,
    next: Option<String>,
}

/// `GET /keypairs`.
async fn index(visit: Visit, filters: Fields) -> Result<Response> {
    let mut path = "/os-keypairs?limit=100".to_owned();
    if filters.on("marker") {
        path.push_str(&format!("&marker={}", encoded(filters.get("marker"))));
    }
    let found: Keypairs = visit.api.get(Service::Compute, &path).await?;
    let keypairs: Vec<Keypair> = found.keypairs.into_iter().map(|one| one.keypair).collect();
    let next = keypairs.last().filter(|_| !found.keypairs_links.is_empty());
    let next = next.map(|last| format!("/keypairs?{}", filters.after(&last.name)));
    visit.page(&Index { frame: visit.frame("/keypairs", visit.words().t("Key pairs")).live(), keypairs, next })
}

#[derive(Template)]
#[template(path = "keypairs/new.html")]
struct New {
    frame: Frame,
    fields: Fields,
}

/// `GET /keypairs/new`.
async fn form(visit: Visit) -> Result<Response> {
    let fields = Fields::default().with("type", "ssh");
    visit.page(&New { frame: visit.frame("/keypairs", visit.words().t("New key pair")), fields })
}

#[derive(Template)]
#[template(path = "keypairs/show.html")]
struct Show {
    frame: Frame,
    keypair: Keypair,
}

impl Show {
    /// The private key as the address of a file to keep.
    fn file(&self) -> String {
        let key = self.keypair.private_key.as_deref().unwrap_or_default();
        format!("data:application/x-pem-file;base64,{}", STANDARD.encode(key))
    }
}

/// `POST /keypairs/new`: with `public_key` it is brought, else made.
async fn create(visit: Visit, fields: Fields) -> Result<Response> {
    match make(&visit, &fields).await {
        Ok(keypair) if keypair.private_key.is_some() => {
            visit.page(&Show { frame: visit.frame("/keypairs", keypair.name.clone()), keypair })
        }
        Ok(keypair) => {
            let text = visit.words().fill("The key pair {} is imported.", &[&keypair.name]);
            visit.done("/keypairs", text).await
        }
        Err(failure) if failure.is_users() => {
            let frame = visit.frame("/keypairs", visit.words().t("New key pair")).with_problem(&failure);
            visit.again(&failure, &New { frame, fields })
        }
        Err(failure) => Err(failure),
    }
}

async fn make(visit: &Visit, fields: &Fields) -> Result<Keypair> {
    let mut keypair = json!({"name": fields.get("name"), "type": fields.get("type")});
    if fields.on("public_key") {
        keypair["public_key"] = fields.get("public_key").into();
    }
    let body = serde_json::to_vec(&json!({"keypair": keypair})).map_err(Failure::internal)?;
    // Since 2.92 Compute makes no keys, only keeps them.
    let request = Request::post("/compute/v2.1/os-keypairs")
        .header("openstack-api-version", "compute 2.91")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body))
        .map_err(Failure::internal)?;
    let made = answer(visit.api.raw(request).await?).await?;
    let made: One = serde_json::from_value(made.body).map_err(Failure::internal)?;
    Ok(made.keypair)
}

/// `GET /keypairs/{name}`.
async fn show(visit: Visit, Path(name): Path<String>) -> Result<Response> {
    let found: One = visit.api.get(Service::Compute, &format!("/os-keypairs/{}", encoded(&name))).await?;
    visit.page(&Show { frame: visit.frame("/keypairs", found.keypair.name.clone()), keypair: found.keypair })
}

/// `POST /keypairs/delete`: each `id`, which is a name.
async fn delete(visit: Visit, form: Fields) -> Result<Response> {
    let (mut done, mut refused) = (0, Vec::new());
    for name in form.all("id") {
        match visit.api.delete(Service::Compute, &format!("/os-keypairs/{}", encoded(name))).await {
            Ok(()) => done += 1,
            Err(failure) if failure.is_users() => refused.push(format!("{name}: {}", failure.line())),
            Err(failure) => return Err(failure),
        }
    }
    let text = visit.words().fill("{} done, {} refused", &[&done, &refused.len()]);
    visit.leave("/keypairs", Flash { good: refused.is_empty() && done > 0, text, rows: refused }).await
}

use std::sync::Arc;

use axum::extract::State;
use rest::{Body, Ctx, Error, Params, Reply, Result};

use super::{policy, views};
use crate::{App, Certificates, Refused};

/// They may block on files.
async fn work<T: Send + 'static>(
    certificates: Arc<dyn Certificates>,
    work: impl FnOnce(&dyn Certificates) -> T + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(move || work(&*certificates)).await.map_err(Error::internal)
}

fn of(app: &App) -> Result<Arc<dyn Certificates>> {
    let none = "This cloud was started without TLS: it has no certificates.";
    app.certificates.clone().ok_or_else(|| Error::conflict(none))
}

fn refusal(refused: Refused) -> Error {
    match refused {
        Refused::ByReason(reason) => Error::bad_request(format!("The intermediate is refused: {reason}.")),
        Refused::Failed(error) => Error::internal(error),
    }
}

async fn shown(certificates: Arc<dyn Certificates>) -> Result<Reply> {
    let chain = work(certificates, |certificates| certificates.chain()).await?;
    Ok(Reply::ok(&views::chain(&chain)))
}

/// `GET /v1/certificates`: the chain in service, the leaf first.
pub async fn index(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    ctx.allow(policy::LIST, &rest::target(&[]))?;
    params.finish()?;
    shown(of(&app)?).await
}

/// `POST /v1/certificates/rotate`: answers the chain with the new leaf, which is in service. Connections keep their own.
pub async fn rotate(State(app): State<App>, ctx: Ctx) -> Result<Reply> {
    ctx.allow(policy::ROTATE, &rest::target(&[]))?;
    let certificates = of(&app)?;
    work(Arc::clone(&certificates), |certificates| certificates.rotate()).await?.map_err(refusal)?;
    shown(certificates).await
}

/// `PUT /v1/certificates/intermediate`: checked before anything depends on it.
pub async fn bring(State(app): State<App>, ctx: Ctx, Body(body): Body<views::Bring>) -> Result<Reply> {
    ctx.allow(policy::BRING, &rest::target(&[]))?;
    let certificates = of(&app)?;
    let views::Intermediate { certificate, key, root } = body.intermediate;
    let root = root.filter(|root| !root.trim().is_empty());
    let bring = move |certificates: &dyn Certificates| certificates.bring(&certificate, &key, root.as_deref());
    work(Arc::clone(&certificates), bring).await?.map_err(refusal)?;
    shown(certificates).await
}

/// `DELETE /v1/certificates/intermediate`.
pub async fn reset(State(app): State<App>, ctx: Ctx) -> Result<Reply> {
    ctx.allow(policy::RESET, &rest::target(&[]))?;
    let was_brought = work(of(&app)?, |certificates| certificates.reset()).await?.map_err(refusal)?;
    if !was_brought {
        return Err(Error::conflict("No intermediate was brought: the built-in one signs already."));
    }
    Ok(Reply::no_content())
}

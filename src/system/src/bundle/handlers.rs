use std::{convert::Infallible, io};

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::stream;
use http::header;
use rest::{Ctx, Error, Params, Result};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{policy, tar::Archive};
use crate::{App, audit, health, operations};

/// The newest rows of the trail and of operations that a bundle has.
const ROWS: &str = "1000";
/// Pieces that wait for the client.
const AHEAD: usize = 4;

const README: &str = "What is in this bundle\n\
    \n\
    health.json         how each part was when the bundle was made\n\
    doctor.txt          what the machine offers and lacks\n\
    configuration.txt   the configuration in force, without secrets\n\
    operations.jsonl    durable operations, newest first\n\
    audit.jsonl         calls that may have changed something, newest first\n\
    network.txt         addresses, routes, namespaces and rules of the host\n\
    host.txt            kernel, processor, memory, disks\n\
    \n\
    There is no password, key, token or certificate key in it. Names and addresses are in it: look through it before you\n\
    give it to somebody.\n";

/// `GET /v1/support-bundle`: a `tar.gz`, sent as it is made. One at a time.
pub async fn show(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Response> {
    ctx.allow(policy::SHOW, &rest::target(&[]))?;
    params.finish()?;
    ctx.audit();
    let permit = std::sync::Arc::clone(&app.bundling).try_acquire_owned();
    let permit = permit.map_err(|_| Error::conflict("Another support bundle is being made: try again in a minute."))?;
    let name = format!("solostack-{}", app.clock.now_text().get(..19).unwrap_or_default().replace(':', "-"));
    let disposition = format!("attachment; filename=\"{name}.tar.gz\"");
    let (sender, mut receiver) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        // A client that has gone wants nothing more.
        if let Err(error) = fill(&app, &name, &sender, permit).await {
            tracing::debug!(%error, "a support bundle was not finished");
        }
    });
    // Compression asks once more after the end, which not every stream bears.
    let pieces =
        stream::poll_fn(move |context| receiver.poll_recv(context).map(|piece| piece.map(Ok::<Bytes, Infallible>)));
    let headers = [(header::CONTENT_TYPE, "application/gzip".to_owned()), (header::CONTENT_DISPOSITION, disposition)];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

async fn fill(app: &App, name: &str, sender: &mpsc::Sender<Bytes>, _permit: OwnedSemaphorePermit) -> io::Result<()> {
    let mut archive = Archive::new(name, app.clock.now().unix_timestamp());
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    let health = serde_json::to_vec_pretty(&health::report(app).await).unwrap_or_default();
    for (name, content) in [
        ("README.txt", README.as_bytes().to_vec()),
        ("health.json", health),
        ("operations.jsonl", rows(app, &operations::store::LIST, operations::store::shown)),
        ("audit.jsonl", rows(app, &audit::store::LIST, audit::store::shown)),
    ] {
        archive.add(name, &content)?;
        sender.send(archive.taken()?).await.map_err(gone)?;
    }
    for document in app.machine.documents() {
        let document = document.await;
        archive.add(document.name, &document.content)?;
        sender.send(archive.taken()?).await.map_err(gone)?;
    }
    sender.send(archive.finish()?).await.map_err(gone)
}

/// One row a line.
fn rows(app: &App, spec: &'static rest::ListSpec, shown: fn(&db::Row<'_>) -> db::rusqlite::Result<Value>) -> Vec<u8> {
    let mut params = Params::parse(&format!("limit={ROWS}"));
    let found = spec.page(&mut params).and_then(|page| app.db.read_blocking(|tx| page.fetch(tx, shown)));
    match found {
        Ok(found) => found.rows.iter().map(|row| format!("{row}\n")).collect::<String>().into_bytes(),
        Err(error) => format!("these rows cannot be read: {}\n", error.public()).into_bytes(),
    }
}

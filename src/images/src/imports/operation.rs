//! The durable part of an import: bytes are fetched or have been staged, and become the image's data, or are thrown away with
//! the reason.
//!
//! ```text
//! Download ── whole ──► Publish ── inspected, renamed ──► (done, image active)
//!    └── refused ─────────┴── refused ──► Discard ──► (failed, image queued)
//! ```

use std::fs::File;
use std::time::Duration;

use db::Tx;
use rest::Kind;
use serde::{Deserialize, Serialize};
use tasks::{Failure, Operation, Record, Step, TaskContext};

use super::web::client::Why;
use crate::app::Images;
use crate::file::receive::{self, Bounds};
use crate::files;
use crate::image::model::{Image, Staged, Status};
use crate::image::store;
use crate::image::views::STORE;

/// For looking at, syncing and renaming a file.
const PUBLISH: Duration = Duration::from_secs(600);

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Import {
    Download { upload_id: String, uri: String, max_seconds: u64 },
    Publish { upload_id: String, staged: Staged },
    Discard { upload_id: String, reason: String },
}

/// What the inspector said.
enum Verdict {
    Accepted(Option<u64>),
    Refused(String),
    /// The image was deleted meanwhile.
    Gone,
}

/// What the web gave.
enum Download {
    Whole(Staged),
    Gone,
}

impl Operation for Import {
    const KIND: &'static str = "images.image.import";
    type App = Images;

    fn deadline(&self) -> Duration {
        match self {
            Import::Download { max_seconds, .. } => Duration::from_secs(*max_seconds),
            _ => PUBLISH,
        }
    }

    async fn advance(self, app: &Images, task: &TaskContext) -> Result<Step<Self>, Failure> {
        let id = task.resource().to_owned();
        match self {
            Import::Download { upload_id, uri, .. } => match task.act(download(app, &id, &upload_id, &uri)).await? {
                Download::Gone => Ok(Step::done(|_| Ok(()))),
                Download::Whole(staged) => Ok(Step::next(Import::Publish { upload_id, staged }, |_| Ok(()))),
            },
            Import::Publish { upload_id, staged } => {
                match task.act(publish(app, &id, &upload_id)).await? {
                    Verdict::Gone => Ok(Step::done(|_| Ok(()))),
                    Verdict::Refused(reason) => Ok(Step::next(Import::Discard { upload_id, reason }, |_| Ok(()))),
                    Verdict::Accepted(virtual_size_bytes) => {
                        let (now, app) = (app.now(), app.clone());
                        Ok(Step::done(move |tx: &Tx<'_>| {
                            // Not active means deleted: then the file has no record and must go.
                            if store::activate(tx, &id, &upload_id, &staged, virtual_size_bytes, &now)? {
                                store::mark_import(tx, &id, "", "")?;
                            } else {
                                tx.after_commit(move || app.wake());
                            }
                            Ok(())
                        }))
                    }
                }
            }
            Import::Discard { upload_id, reason } => {
                let (staging, data) = (app.files().staging(&id, &upload_id), app.files().data(&id));
                task.act(async move {
                    files::remove(&staging)?;
                    files::remove(&data)
                })
                .await
                .map_err(|error| Failure::retry("The staged data could not be removed.").caused_by(error))?;
                Ok(given_up(app, id, upload_id, reason))
            }
        }
    }

    fn failed(self, app: &Images, task: &TaskContext, failure: &Failure) -> Step<Self> {
        match self {
            Import::Download { upload_id, .. } | Import::Publish { upload_id, .. } => {
                Step::next(Import::Discard { upload_id, reason: failure.public.clone() }, |_| Ok(()))
            }
            Import::Discard { upload_id, reason } => given_up(app, task.resource().to_owned(), upload_id, reason),
        }
    }

    fn unreadable(app: &Images, resource: &str, _: &str) -> Record {
        let (id, now) = (resource.to_owned(), app.now());
        Box::new(move |tx| {
            if let Some(image) = store::find(tx, &id)?
                && let Some(upload_id) = image.upload_id
            {
                store::revert_upload(tx, &id, &upload_id, &now)?;
                store::mark_import(tx, &id, "", STORE)?;
            }
            Ok(())
        })
    }
}

fn given_up(app: &Images, id: String, upload_id: String, reason: String) -> Step<Import> {
    let (now, app) = (app.now(), app.clone());
    Step::fail(reason, move |tx: &Tx<'_>| {
        store::revert_upload(tx, &id, &upload_id, &now)?;
        store::mark_import(tx, &id, "", STORE)?;
        tx.after_commit(move || app.wake());
        Ok(())
    })
}

/// The image while its import is this one.
async fn importing(app: &Images, id: &str, upload_id: &str) -> Result<Option<Image>, Failure> {
    let wanted = id.to_owned();
    let image =
        app.db().read(move |tx| store::find(tx, &wanted)).await.map_err(|error: db::Error| Failure::from(error))?;
    Ok(image.filter(|image| image.status == Status::Importing && image.upload_id.as_deref() == Some(upload_id)))
}

/// Brings the bytes of a URL into the staging file. What an earlier try left is thrown away first.
async fn download(app: &Images, id: &str, upload_id: &str, uri: &str) -> Result<Download, Failure> {
    let Some(image) = importing(app, id, upload_id).await? else { return Ok(Download::Gone) };
    let Some(web) = app.web() else {
        return Err(Failure::fatal("This cloud does not fetch from the web any more."));
    };
    // Registered first: from here on nobody takes the file for a leftover, and a delete can stop us.
    let guard = app.live().register(id, upload_id);
    let unwritable = |error: std::io::Error| Failure::retry("The data could not be staged.").caused_by(error);
    files::remove(&app.files().staging(id, upload_id)).map_err(unwritable)?;
    let fetched = tokio::select! {
        fetched = web.get(uri) => fetched,
        () = guard.cancel.token.cancelled() => return Ok(Download::Gone),
    };
    let fetched = fetched.map_err(|why| match why {
        Why::Refused(text) => Failure::fatal(text),
        Why::Unreachable(text) => Failure::retry(text),
    })?;
    let (owner, options) = (image.owner.clone(), app.options().clone());
    let max_bytes = app.db().read(move |tx| store::room(tx, &options, &owner)).await;
    let max_bytes = max_bytes.map_err(|error: db::Error| Failure::from(error))?;
    let bounds = Bounds { max_bytes, announced: fetched.length };
    if fetched.length.is_some_and(|length| length > max_bytes) {
        return Err(Failure::fatal(receive::too_large(max_bytes).public().to_owned()));
    }
    let received = receive::receive(app, id, &guard, fetched.body, bounds).await;
    match received {
        Ok(mut received) => {
            received.keep();
            Ok(Download::Whole(received.staged.clone()))
        }
        Err(error) if error.kind() == Kind::Gone => Ok(Download::Gone),
        Err(error) if error.kind() == Kind::TooLarge => Err(Failure::fatal(error.public().to_owned())),
        Err(error) => Err(Failure::retry(error.public().to_owned()).caused_by(error.causes())),
    }
}

/// Inspects the staged file and gives it its final name. Finds its own work done when it runs again.
async fn publish(app: &Images, id: &str, upload_id: &str) -> Result<Verdict, Failure> {
    let Some(image) = importing(app, id, upload_id).await? else { return Ok(Verdict::Gone) };
    let (staging, data, limits) = (app.files().staging(id, upload_id), app.files().data(id), app.limits());
    let must_match = app.options().require_format_match;
    tokio::task::spawn_blocking(move || {
        let broken = |error: std::io::Error| Failure::retry("The staged data could not be read.").caused_by(error);
        let (file, placed) = match File::open(&staging) {
            Ok(file) => (file, false),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (File::open(&data).map_err(broken)?, true),
            Err(error) => return Err(broken(error)),
        };
        let virtual_size_bytes = if image.is_plain() {
            let Ok((format, _)) = image.formats() else {
                return Ok(Verdict::Refused("The image has no disk format.".to_owned()));
            };
            match disks::inspect_file(&file, format, &limits) {
                Ok(inspection) => Some(inspection.virtual_size_bytes),
                Err(disks::Error::Refused(_)) if !must_match => None,
                Err(disks::Error::Refused(refused)) => {
                    return Ok(Verdict::Refused(format!("Image content is not acceptable: {refused}.")));
                }
                Err(error) => return Err(Failure::retry("The staged data could not be read.").caused_by(error)),
            }
        } else {
            None
        };
        if !placed {
            disks::persist(&file, &staging, &data).map_err(broken)?;
        }
        Ok(Verdict::Accepted(virtual_size_bytes))
    })
    .await
    .map_err(|error| Failure::retry("An internal error stopped the import.").caused_by(error))?
}

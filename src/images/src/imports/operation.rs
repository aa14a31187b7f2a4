//! The durable part of an import: staged bytes become the image's data, or are thrown away with the reason.
//!
//! ```text
//! Publish ── refused ──► Discard ──► (failed, image queued)
//!    └── inspected, renamed ──► (done, image active)
//! ```

use std::fs::File;
use std::time::Duration;

use db::Tx;
use serde::{Deserialize, Serialize};
use tasks::{Failure, Operation, Record, Step, TaskContext};

use crate::app::Images;
use crate::files;
use crate::image::model::{Staged, Status};
use crate::image::store;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Import {
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

impl Operation for Import {
    const KIND: &'static str = "images.image.import";
    type App = Images;

    fn deadline(&self) -> Duration {
        Duration::from_secs(600)
    }

    async fn advance(self, app: &Images, task: &TaskContext) -> Result<Step<Self>, Failure> {
        let id = task.resource().to_owned();
        match self {
            Import::Publish { upload_id, staged } => {
                match task.act(publish(app, &id, &upload_id)).await? {
                    Verdict::Gone => Ok(Step::done(|_| Ok(()))),
                    Verdict::Refused(reason) => Ok(Step::next(Import::Discard { upload_id, reason }, |_| Ok(()))),
                    Verdict::Accepted(virtual_size_bytes) => {
                        let (now, app) = (app.now(), app.clone());
                        Ok(Step::done(move |tx: &Tx<'_>| {
                            // Not active means deleted: then the file has no record and must go.
                            if !store::activate(tx, &id, &upload_id, &staged, virtual_size_bytes, &now)? {
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
            Import::Publish { upload_id, .. } => {
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
            }
            Ok(())
        })
    }
}

fn given_up(app: &Images, id: String, upload_id: String, reason: String) -> Step<Import> {
    let (now, app) = (app.now(), app.clone());
    Step::fail(reason, move |tx: &Tx<'_>| {
        store::revert_upload(tx, &id, &upload_id, &now)?;
        tx.after_commit(move || app.wake());
        Ok(())
    })
}

/// Inspects the staged file and gives it its final name. Finds its own work done when it runs again.
async fn publish(app: &Images, id: &str, upload_id: &str) -> Result<Verdict, Failure> {
    let wanted = id.to_owned();
    let Some(image) =
        app.db().read(move |tx| store::find(tx, &wanted)).await.map_err(|error: db::Error| Failure::from(error))?
    else {
        return Ok(Verdict::Gone);
    };
    if image.status != Status::Importing || image.upload_id.as_deref() != Some(upload_id) {
        return Ok(Verdict::Gone);
    }
    let (staging, data, limits) = (app.files().staging(id, upload_id), app.files().data(id), app.limits());
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

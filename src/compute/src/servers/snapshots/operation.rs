//! An image of a server: a copy of its disk at one instant, then the image's bytes from that copy, while the server goes on.
//!
//! ```text
//! Begin ──> Capture ──> Pending ──> Upload ──> (done: the image is active, old backups are gone)
//!               └─────────────────────┴──> Undo ──> (failed: no image, the server as it was)
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tasks::{Failure, Operation, Record, Step, TaskContext};

use super::{copy, image};
use crate::{
    App,
    servers::{run, store},
};

/// Copies of disks and images of them take as long as they are large.
pub(crate) const LONG: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Work {
    pub image_id: String,
    pub rotate: Option<Rotate>,
}

/// Which backups go once there is one more.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Rotate {
    pub owner: String,
    pub backup_type: String,
    /// How many stay.
    pub keep: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Snapshot {
    Begin(Work),
    Capture(Work),
    Pending(Work),
    Upload(Work),
    Undo { image_id: String, why: String },
}

impl Operation for Snapshot {
    const KIND: &'static str = "compute.server.snapshot";
    type App = App;

    fn deadline(&self) -> Duration {
        match self {
            Self::Capture(_) | Self::Upload(_) => LONG,
            _ => Duration::from_secs(120),
        }
    }

    fn event(&self) -> Option<&'static str> {
        match self {
            Self::Upload(Work { rotate: Some(_), .. }) => Some("compute_backup_instance"),
            Self::Upload(_) | Self::Undo { .. } => Some("compute_snapshot_instance"),
            _ => None,
        }
    }

    async fn advance(self, app: &App, task: &TaskContext) -> Result<Step<Self>, Failure> {
        let server = run::server(app, task).await?;
        let (id, now) = (server.id.clone(), app.clock.now_text());
        let next = |state: Self, task_state: &'static str| {
            let (id, now) = (id.clone(), now.clone());
            Ok(Step::next(state, move |tx| store::set_task_state(tx, &id, Some(task_state), &now)))
        };
        match self {
            Self::Begin(work) => next(Self::Capture(work), "image_snapshot"),
            Self::Capture(work) => {
                copy::ensure(app, task, &server, &work.image_id).await?;
                next(Self::Pending(work), "image_pending_upload")
            }
            Self::Pending(work) => next(Self::Upload(work), "image_uploading"),
            Self::Upload(work) => {
                tokio::select! {
                    filled = task.act(image::fill(app, &server, &work.image_id)) => filled?,
                    () = task.superseded() => return Err(Failure::fatal("Another operation overtook the snapshot.")),
                }
                task.act(copy::forget(app, &server, &work.image_id)).await?;
                let app = app.clone();
                Ok(Step::done(move |tx| {
                    if let Some(Rotate { owner, backup_type, keep }) = &work.rotate {
                        let backups = images::peer::backups(tx, owner, &id, backup_type)?;
                        for old in backups.iter().skip(*keep) {
                            images::peer::delete(tx, &app.images, old)?;
                        }
                    }
                    store::set_task_state(tx, &id, None, &now)
                }))
            }
            Self::Undo { image_id, why } => {
                copy::remove(app, task, &server, &image_id).await?;
                Ok(given_up(app, id, image_id, why))
            }
        }
    }

    fn failed(self, app: &App, task: &TaskContext, failure: &Failure) -> Step<Self> {
        let why = failure.public.clone();
        match self {
            Self::Begin(work) | Self::Capture(work) | Self::Pending(work) | Self::Upload(work) => {
                Step::next(Self::Undo { image_id: work.image_id, why }, |_| Ok(()))
            }
            Self::Undo { image_id, why: first } => {
                given_up(app, task.resource().to_owned(), image_id, format!("{first} {why}"))
            }
        }
    }

    fn unreadable(app: &App, resource: &str, _reason: &str) -> Record {
        let (app, id, now) = (app.clone(), resource.to_owned(), app.clock.now_text());
        Box::new(move |tx| {
            images::peer::abandon(tx, &app.images, &id)?;
            store::set_task_state(tx, &id, None, &now)
        })
    }
}

/// No image, and the server as it was. One that its user deleted meanwhile is gone already.
fn given_up(app: &App, id: String, image_id: String, why: String) -> Step<Snapshot> {
    let (app, now) = (app.clone(), app.clock.now_text());
    Step::fail(why, move |tx| {
        images::peer::delete(tx, &app.images, &image_id)?;
        store::set_task_state(tx, &id, None, &now)
    })
}

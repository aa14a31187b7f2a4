//! Shelving: the server becomes an image of itself, and gives its share of the host back.
//!
//! ```text
//! Stop ──> Capture ──> Upload ──┬──> (shelved)
//!   └─────────┴──────────┤      └──> Offload ──> (shelved_offloaded: no process, no disks, no allocation)
//!                        v
//!                      Undo ──> (failed: no image, the server is off)
//! ```
//! Ports stay the server's. The image is deleted when the server is unshelved, or deleted.

use std::time::Duration;

use db::Tx;
use serde::{Deserialize, Serialize};
use tasks::{Failure, Operation, Record, Step, TaskContext};

use super::{
    Server,
    model::{PowerState, VmState},
    run,
    snapshots::{copy, image, operation::LONG},
    store,
};
use crate::{App, allocation};

pub(crate) fn insert_shelf(tx: &Tx<'_>, server_id: &str, image_id: &str, now: &str) -> db::Result<()> {
    tx.execute(
        "INSERT OR REPLACE INTO compute_server_shelf (server_id, image_id, shelved_at) VALUES (?1, ?2, ?3)",
        [server_id, image_id, now],
    )?;
    Ok(())
}

/// The image that a server is shelved as.
pub(crate) fn find_shelf(tx: &Tx<'_>, server_id: &str) -> db::Result<Option<String>> {
    tx.find("SELECT image_id FROM compute_server_shelf WHERE server_id = ?1", [server_id], |row| row.get(0))
}

/// The server is not shelved any more, and its image goes. None there is fine.
pub(crate) fn clear_shelf(tx: &Tx<'_>, app: &App, server_id: &str) -> db::Result<()> {
    if let Some(image_id) = find_shelf(tx, server_id)? {
        images::peer::delete(tx, &app.images, &image_id)?;
    }
    tx.execute("DELETE FROM compute_server_shelf WHERE server_id = ?1", [server_id])?;
    Ok(())
}

/// As [`find_shelf`], for operations: without it nothing goes on.
pub(super) async fn shelved_as(app: &App, server: &Server) -> Result<String, Failure> {
    let id = server.id.clone();
    let found = app.db.read(move |tx| find_shelf(tx, &id)).await?;
    found.ok_or_else(|| Failure::fatal("Nothing says which image the server is shelved as."))
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Shelve {
    Stop,
    Capture,
    Upload,
    Offload,
    Undo { why: String },
}

impl Operation for Shelve {
    const KIND: &'static str = "compute.server.shelve";
    type App = App;

    fn deadline(&self) -> Duration {
        match self {
            Self::Capture | Self::Upload => LONG,
            _ => Duration::from_secs(300),
        }
    }

    fn event(&self) -> Option<&'static str> {
        match self {
            Self::Upload | Self::Undo { .. } => Some("compute_shelve_instance"),
            Self::Offload => Some("compute_shelve_offload_instance"),
            _ => None,
        }
    }

    async fn advance(self, app: &App, task: &TaskContext) -> Result<Step<Self>, Failure> {
        let server = run::server(app, task).await?;
        let (id, now) = (server.id.clone(), app.clock.now_text());
        match self {
            Self::Stop => {
                // The memory of a suspended server is kept until its disk is safe.
                if server.vm_state != VmState::Suspended {
                    let patience = (server.vm_state == VmState::Active).then_some(app.options.shutdown_timeout);
                    tokio::select! {
                        ended = task.act(run::end(app, run::uuid(&server)?, patience)) => ended?,
                        () = task.superseded() => return Err(overtaken()),
                    }
                    task.act(run::unplug(app, &server)).await?;
                }
                Ok(Step::next(Self::Capture, move |tx| {
                    store::set_task_state(tx, &id, Some("shelving_image_pending_upload"), &now)
                }))
            }
            Self::Capture => {
                let image_id = shelved_as(app, &server).await?;
                copy::ensure(app, task, &server, &image_id).await?;
                Ok(Step::next(Self::Upload, move |tx| {
                    store::set_task_state(tx, &id, Some("shelving_image_uploading"), &now)
                }))
            }
            Self::Upload => {
                let image_id = shelved_as(app, &server).await?;
                tokio::select! {
                    filled = task.act(image::fill(app, &server, &image_id)) => filled?,
                    () = task.superseded() => return Err(overtaken()),
                }
                task.act(copy::forget(app, &server, &image_id)).await?;
                if app.options.shelved_offload_after == Some(Duration::ZERO) {
                    return Ok(Step::next(Self::Offload, move |tx| {
                        insert_shelf(tx, &id, &image_id, &now)?;
                        store::set_state(tx, &id, VmState::Shelved, &now)?;
                        store::set_task_state(tx, &id, Some("shelving_offloading"), &now)
                    }));
                }
                Ok(Step::done(move |tx| {
                    insert_shelf(tx, &id, &image_id, &now)?;
                    store::settle(tx, &id, VmState::Shelved, PowerState::Shutdown, &now)
                }))
            }
            Self::Offload => {
                run::remove(app, task, &server).await?;
                Ok(Step::done(move |tx| {
                    allocation::release(tx, &id)?;
                    store::delete_dedicated_cpus(tx, &id)?;
                    store::settle(tx, &id, VmState::ShelvedOffloaded, PowerState::Shutdown, &now)
                }))
            }
            Self::Undo { why } => {
                if let Ok(image_id) = shelved_as(app, &server).await {
                    task.act(copy::forget(app, &server, &image_id)).await?;
                }
                let (state, power) = run::settled(app, run::uuid(&server)?).await?;
                let app = app.clone();
                Ok(Step::fail(why, move |tx| {
                    clear_shelf(tx, &app, &id)?;
                    store::settle(tx, &id, state, power, &now)
                }))
            }
        }
    }

    fn failed(self, app: &App, task: &TaskContext, failure: &Failure) -> Step<Self> {
        let why = failure.public.clone();
        let (id, now) = (task.resource().to_owned(), app.clock.now_text());
        match self {
            Self::Stop | Self::Capture | Self::Upload => Step::next(Self::Undo { why }, |_| Ok(())),
            // It is an image already: it can be offloaded, or unshelved, again.
            Self::Offload => {
                Step::fail(why, move |tx| store::settle(tx, &id, VmState::Shelved, PowerState::Shutdown, &now))
            }
            Self::Undo { why: first } => {
                let (app, why) = (app.clone(), format!("{first} {why}"));
                Step::fail(why.clone(), move |tx| {
                    clear_shelf(tx, &app, &id)?;
                    store::fail(tx, &id, PowerState::NoState, &why, &now)
                })
            }
        }
    }

    fn unreadable(app: &App, resource: &str, reason: &str) -> Record {
        run::unreadable(app, resource, reason)
    }
}

fn overtaken() -> Failure {
    Failure::fatal("Another operation overtook the shelving.")
}

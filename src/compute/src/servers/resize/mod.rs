//! Another size for a server, to be confirmed or taken back.
//!
//! ```text
//!  active, stopped ──resize──> resize_prep, resize_migrating, resize_finish ──> resized (VERIFY_RESIZE)
//!        ^                          │ a step failed                              │          │
//!        │<─── as before it ────────┘                                    confirm │          │ revert
//!        │<──────────────────────────────────────────────────────────────────────┘          │
//!        └<─────────────── resize_reverting: the old disks, the old flavor ─────────────────┘
//! ```
//! What must stay true: until it is confirmed or taken back, the server's disks of before are kept whole, the share of the
//! host that the old flavor takes is the migration's in Placement, and the larger of both sizes counts for the quota.

mod confirm;
mod disks;
pub(crate) mod request;

use std::time::Duration;

use db::Tx;
use serde::{Deserialize, Serialize};
use tasks::{Failure, Operation, Record, Step, TaskContext};

pub(crate) use confirm::reconciler;

use super::{
    Server,
    model::{PowerState, VmState},
    run, store,
};
use crate::{
    App, allocation,
    migrations::{self, Migration, Status},
};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Resize {
    /// The guest shuts down, the taps go.
    Stop { migration: i64 },
    /// Copies of the disks, then larger ones.
    Disks { migration: i64 },
    /// The process with the new size, if it ran before.
    Spawn { migration: i64 },
    /// The old disks and the old flavor: asked for, or (`why`) because a step failed.
    Back { migration: i64, why: Option<String> },
    /// The process with the old size, if it ran before.
    BackSpawn { migration: i64, why: Option<String> },
    /// The copies go, and what was held with them.
    Confirm { migration: i64 },
    /// The host went down under a server that waits to be confirmed: it runs again, and waits on.
    Restart,
}

impl Resize {
    fn migration(&self) -> Option<i64> {
        match self {
            Self::Stop { migration }
            | Self::Disks { migration }
            | Self::Spawn { migration }
            | Self::Back { migration, .. }
            | Self::BackSpawn { migration, .. }
            | Self::Confirm { migration } => Some(*migration),
            Self::Restart => None,
        }
    }
}

impl Operation for Resize {
    const KIND: &'static str = "compute.server.resize";
    type App = App;

    fn deadline(&self) -> Duration {
        match self {
            // Where the file system cannot share blocks, disks are copied.
            Self::Disks { .. } => Duration::from_secs(4 * 3600),
            _ => Duration::from_secs(300),
        }
    }

    fn event(&self) -> Option<&'static str> {
        Some(match self {
            Self::Stop { .. } => "compute_prep_resize",
            Self::Disks { .. } => "compute_resize_instance",
            Self::Spawn { .. } => "compute_finish_resize",
            Self::Back { why: None, .. } => "compute_revert_resize",
            Self::BackSpawn { why: None, .. } => "compute_finish_revert_resize",
            Self::Back { .. } | Self::BackSpawn { .. } => return None,
            Self::Confirm { .. } => "compute_confirm_resize",
            Self::Restart => "compute_power_on",
        })
    }

    async fn advance(self, app: &App, task: &TaskContext) -> Result<Step<Self>, Failure> {
        let server = run::server(app, task).await?;
        let (id, now) = (server.id.clone(), app.clock.now_text());
        let uuid = run::uuid(&server)?;
        let Some(number) = self.migration() else {
            run::ensure_running(app, task, &server).await?;
            return Ok(Step::done(move |tx| store::settle(tx, &id, VmState::Resized, PowerState::Running, &now)));
        };
        let migration = app.db.read(move |tx| migrations::store::find(tx, number)).await?;
        let migration = migration.ok_or_else(|| Failure::fatal("The record of the resize is gone."))?;
        let ran = migration.old_vm_state == VmState::Active;
        match self {
            Self::Stop { .. } => {
                let patience = app.options.shutdown_timeout;
                tokio::select! {
                    ended = task.act(run::end(app, uuid, Some(patience))) => ended?,
                    () = task.superseded() => return Err(Failure::fatal("Another operation overtook the resize.")),
                }
                task.act(run::unplug(app, &server)).await?;
                task.act(disks::discard(app, &server)).await?;
                Ok(Step::next(Self::Disks { migration: number }, move |tx| {
                    store::set_task_state(tx, &id, Some("resize_migrating"), &now)?;
                    migrations::store::set_status(tx, number, Status::Migrating, &now)
                }))
            }
            Self::Disks { .. } => {
                tokio::select! {
                    saved = task.act(disks::save(app, &server)) => saved?,
                    () = task.superseded() => return Err(Failure::fatal("Another operation overtook the resize.")),
                }
                let larger = with_flavor(&server, &migration, true);
                task.act(disks::grow(app, &larger)).await?;
                Ok(Step::next(Self::Spawn { migration: number }, move |tx| {
                    store::set_flavor(tx, &larger, &now)?;
                    store::set_task_state(tx, &id, Some("resize_finish"), &now)?;
                    migrations::store::set_status(tx, number, Status::PostMigrating, &now)
                }))
            }
            Self::Spawn { .. } => {
                if ran {
                    run::ensure_running(app, task, &server).await?;
                }
                let power = if ran { PowerState::Running } else { PowerState::Shutdown };
                Ok(Step::done(move |tx| {
                    store::settle(tx, &id, VmState::Resized, power, &now)?;
                    migrations::store::set_status(tx, number, Status::Finished, &now)
                }))
            }
            Self::Back { why, .. } => {
                task.act(run::end(app, uuid, None)).await?;
                task.act(run::unplug(app, &server)).await?;
                let smaller = with_flavor(&server, &migration, false);
                task.act(disks::put_back(app, &smaller)).await?;
                Ok(Step::next(Self::BackSpawn { migration: number, why }, move |tx| {
                    store::set_flavor(tx, &smaller, &now)?;
                    store::restore_cpus(tx, &id)?;
                    give_back(tx, &migration, &smaller)
                }))
            }
            Self::BackSpawn { why, .. } => {
                if ran {
                    run::ensure_running(app, task, &server).await?;
                }
                let power = if ran { PowerState::Running } else { PowerState::Shutdown };
                let status = if why.is_some() { Status::Error } else { Status::Reverted };
                let record = move |tx: &Tx<'_>| {
                    store::settle(tx, &id, migration.old_vm_state, power, &now)?;
                    migrations::store::set_status(tx, number, status, &now)
                };
                Ok(match why {
                    Some(why) => Step::fail(why, record),
                    None => Step::done(record),
                })
            }
            Self::Confirm { .. } => {
                let (state, power) = run::settled(app, uuid).await?;
                task.act(disks::discard(app, &server)).await?;
                Ok(Step::done(move |tx| {
                    allocation::release(tx, &migration.uuid)?;
                    store::release_held_cpus(tx, &id)?;
                    store::set_flavor(tx, &server, &now)?;
                    store::settle(tx, &id, state, power, &now)?;
                    migrations::store::set_status(tx, number, Status::Confirmed, &now)
                }))
            }
            Self::Restart => Err(Failure::fatal("The record of the resize is gone.")),
        }
    }

    fn failed(self, app: &App, task: &TaskContext, failure: &Failure) -> Step<Self> {
        let (id, now) = (task.resource().to_owned(), app.clock.now_text());
        let why = failure.public.clone();
        match self {
            Self::Stop { migration } | Self::Disks { migration } | Self::Spawn { migration } => {
                Step::next(Self::Back { migration, why: Some(why) }, |_| Ok(()))
            }
            // It waits on, so that it can be confirmed again, or taken back.
            Self::Confirm { migration } => Step::fail(why, move |tx| {
                store::touch(tx, &id, &now)?;
                migrations::store::set_status(tx, migration, Status::Finished, &now)
            }),
            Self::Back { migration, why: first } | Self::BackSpawn { migration, why: first } => {
                let why = first.map_or_else(|| why.clone(), |first| format!("{first} {why}"));
                Step::fail(why.clone(), move |tx| {
                    store::fail(tx, &id, PowerState::NoState, &why, &now)?;
                    close(tx, &id, &now)?;
                    migrations::store::set_status(tx, migration, Status::Error, &now)
                })
            }
            Self::Restart => {
                Step::fail(why, move |tx| store::settle(tx, &id, VmState::Resized, PowerState::Crashed, &now))
            }
        }
    }

    fn unreadable(app: &App, resource: &str, reason: &str) -> Record {
        let (fail, id, now) = (run::unreadable(app, resource, reason), resource.to_owned(), app.clock.now_text());
        Box::new(move |tx| {
            fail(tx)?;
            close(tx, &id, &now)
        })
    }
}

/// The server as it is with the new flavor, or was with the old one.
fn with_flavor(server: &Server, migration: &Migration, new: bool) -> Server {
    let (flavor, root_gib) = if new {
        (&migration.new_flavor, migration.new_root_gib)
    } else {
        (&migration.old_flavor, migration.old_root_gib)
    };
    Server { flavor: flavor.clone(), root_gib, ..server.clone() }
}

/// The server has its old share of the host again, which was held for this.
fn give_back(tx: &Tx<'_>, migration: &Migration, server: &Server) -> db::Result<()> {
    allocation::release(tx, &migration.uuid)?;
    allocation::reclaim(tx, server)
}

/// Nothing of a resize that is not over is held any more: the server is deleted, in error, or was set to another state.
pub(crate) fn close(tx: &Tx<'_>, server_id: &str, now: &str) -> db::Result<()> {
    for migration in migrations::store::open_of(tx, server_id)? {
        allocation::release(tx, &migration.uuid)?;
        let status = if migration.status == Status::Finished.as_str() { Status::Confirmed } else { Status::Error };
        migrations::store::set_status(tx, migration.id, status, now)?;
        if let Some(server) = store::find(tx, server_id)? {
            store::set_flavor(tx, &server, now)?;
            store::release_held_cpus(tx, server_id)?;
            allocation::reclaim(tx, &server)?;
        }
    }
    Ok(())
}

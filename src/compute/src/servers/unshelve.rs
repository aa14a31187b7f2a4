//! Out of the shelf: a share of the host, disks from the image, and the server runs.
//!
//! A server that cannot be unshelved stays shelved, and its action says why; one whose image is gone is in error.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tasks::{Failure, Operation, Record, Step, TaskContext};

use super::{
    Server, cpus, disk,
    model::{PowerState, VmState},
    run,
    shelve::{clear_shelf, find_shelf, shelved_as},
    store,
};
use crate::{App, allocation, flavors::extra_specs, server_groups};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Unshelve {
    /// The share of the host.
    Claim,
    Disk,
    Spawn,
    /// Back to what it was.
    Undo {
        why: String,
    },
}

impl Operation for Unshelve {
    const KIND: &'static str = "compute.server.unshelve";
    type App = App;

    fn deadline(&self) -> Duration {
        match self {
            // A first use converts the image.
            Self::Disk => Duration::from_secs(1800),
            _ => Duration::from_secs(300),
        }
    }

    fn event(&self) -> Option<&'static str> {
        match self {
            Self::Claim => Some("conductor_unshelve_instance"),
            Self::Spawn | Self::Undo { .. } => Some("compute_unshelve_instance"),
            Self::Disk => None,
        }
    }

    async fn advance(self, app: &App, task: &TaskContext) -> Result<Step<Self>, Failure> {
        let server = run::server(app, task).await?;
        let (id, now) = (server.id.clone(), app.clock.now_text());
        match self {
            Self::Claim => {
                task.act(claim(app, &server)).await?;
                Ok(Step::next(Self::Disk, move |tx| store::set_task_state(tx, &id, Some("spawning"), &now)))
            }
            Self::Disk => {
                let image_id = shelved_as(app, &server).await?;
                tokio::select! {
                    made = task.act(disk::ensure_from(app, &server, &image_id, None)) => made?,
                    () = task.superseded() => return Err(Failure::fatal("Another operation overtook the unshelving.")),
                }
                Ok(Step::next(Self::Spawn, |_| Ok(())))
            }
            Self::Spawn => {
                run::ensure_running(app, task, &server).await?;
                let app = app.clone();
                Ok(Step::done(move |tx| {
                    clear_shelf(tx, &app, &id)?;
                    store::settle(tx, &id, VmState::Active, PowerState::Running, &now)
                }))
            }
            Self::Undo { why } => {
                let offloaded = server.vm_state == VmState::ShelvedOffloaded;
                if offloaded {
                    run::remove(app, task, &server).await?;
                } else {
                    task.act(run::end(app, run::uuid(&server)?, None)).await?;
                    task.act(run::unplug(app, &server)).await?;
                }
                let state = server.vm_state;
                Ok(Step::fail(why.clone(), move |tx| {
                    if offloaded {
                        allocation::release(tx, &id)?;
                        store::delete_dedicated_cpus(tx, &id)?;
                    }
                    let lost = match find_shelf(tx, &id)? {
                        Some(image_id) => !images::peer::exists(tx, &image_id)?,
                        None => true,
                    };
                    if lost && offloaded {
                        return store::fail(tx, &id, PowerState::NoState, &why, &now);
                    }
                    store::settle(tx, &id, state, PowerState::Shutdown, &now)
                }))
            }
        }
    }

    fn failed(self, app: &App, task: &TaskContext, failure: &Failure) -> Step<Self> {
        let why = failure.public.clone();
        let (id, now) = (task.resource().to_owned(), app.clock.now_text());
        match self {
            Self::Claim | Self::Disk | Self::Spawn => Step::next(Self::Undo { why }, |_| Ok(())),
            Self::Undo { why: first } => {
                let why = format!("{first} {why}");
                Step::fail(why.clone(), move |tx| store::fail(tx, &id, PowerState::NoState, &why, &now))
            }
        }
    }

    fn unreadable(app: &App, resource: &str, reason: &str) -> Record {
        run::unreadable(app, resource, reason)
    }
}

/// Takes what the server needs of this host. What it has already is no more than it needs.
async fn claim(app: &App, server: &Server) -> Result<(), Failure> {
    let server = server.clone();
    let claimed = app
        .db
        .write(move |tx| {
            if server.vm_state != VmState::ShelvedOffloaded {
                return Ok(Ok(()));
            }
            if let Some(apart) = server_groups::store::keeps_apart(tx, &server.id)? {
                return Ok(Err(apart));
            }
            let tuning = extra_specs::tuning(&server.flavor, &server.image_properties)?;
            if tuning.dedicated && store::dedicated_cpus_of(tx, &server.id)?.is_empty() {
                match cpus::choose(tx, server.flavor.vcpus)? {
                    Ok(cpus) => store::insert_dedicated_cpus(tx, &server.id, &cpus)?,
                    Err(shortage) => return Ok(Err(shortage)),
                }
            }
            allocation::claim(tx, &server)
        })
        .await
        .map_err(|error: rest::Error| {
            Failure::retry("The server's share of this host could not be taken.").caused_by(error.causes())
        })?;
    claimed.map_err(Failure::fatal)
}

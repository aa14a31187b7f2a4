//! A server made anew from an image: the same id, ports and addresses, other disks.
//!
//! What must stay true: until the new image is known to make a disk, the server keeps what it has; from then on it only
//! goes forward, and a failure leaves it in error, to be rebuilt again or deleted.

pub(crate) mod request;

use std::{io::ErrorKind, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tasks::{Failure, Operation, Record, Step, TaskContext};

use super::{
    Server, disk,
    model::{PowerState, VmState},
    run, store,
};
use crate::{App, allocation};

/// What all steps know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// For the config drive.
    admin_pass: Option<String>,
    preserve_ephemeral: bool,
    /// It was stopped, and is so again at the end.
    stopped: bool,
    before: Before,
}

/// What the server was made of, for an image that turns out to be no disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Before {
    image_id: Option<String>,
    image_properties: Map<String, Value>,
    root_gib: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Rebuild {
    /// The image as what a disk is cloned from.
    Image(Order),
    /// The process and the taps go.
    Stop(Order),
    /// Other disks.
    Disk(Order),
    /// The process, unless it was stopped.
    Spawn(Order),
}

impl Operation for Rebuild {
    const KIND: &'static str = "compute.server.rebuild";
    type App = App;

    fn deadline(&self) -> Duration {
        match self {
            // A first use converts the image.
            Self::Image(_) | Self::Disk(_) => Duration::from_secs(1800),
            Self::Stop(_) | Self::Spawn(_) => Duration::from_secs(300),
        }
    }

    fn event(&self) -> Option<&'static str> {
        Some(match self {
            Self::Image(_) => return None,
            Self::Stop(_) => "compute_power_off",
            Self::Disk(_) => "compute_prepare_disk",
            Self::Spawn(_) => "compute_rebuild_instance",
        })
    }

    async fn advance(self, app: &App, task: &TaskContext) -> Result<Step<Self>, Failure> {
        let server = run::server(app, task).await?;
        let (id, now) = (server.id.clone(), app.clock.now_text());
        let uuid = run::uuid(&server)?;
        match self {
            Self::Image(order) => {
                tokio::select! {
                    ready = task.act(disk::ensure_image(app, &server)) => { ready?; }
                    () = task.superseded() => return Err(Failure::fatal("The server was deleted while its image was made ready.")),
                }
                Ok(Step::next(Self::Stop(order), move |tx| {
                    store::set_task_state(tx, &id, Some("rebuild_block_device_mapping"), &now)
                }))
            }
            Self::Stop(order) => {
                // What is kept must be written; what is thrown away need not.
                let patience = order.preserve_ephemeral.then_some(app.options.shutdown_timeout);
                tokio::select! {
                    ended = task.act(run::end(app, uuid, patience)) => ended?,
                    () = task.superseded() => return Err(Failure::fatal("Another operation overtook the rebuild.")),
                }
                task.act(run::unplug(app, &server)).await?;
                Ok(Step::next(Self::Disk(order), |_| Ok(())))
            }
            Self::Disk(order) => {
                task.act(clear(app, &server, order.preserve_ephemeral)).await?;
                tokio::select! {
                    made = task.act(disk::ensure(app, &server, order.admin_pass.as_deref())) => made?,
                    () = task.superseded() => return Err(Failure::fatal("The server was deleted while its disk was made.")),
                }
                Ok(Step::next(Self::Spawn(order), move |tx| {
                    allocation::reclaim(tx, &server)?;
                    store::set_task_state(tx, &id, Some("rebuild_spawning"), &now)
                }))
            }
            Self::Spawn(order) => {
                if order.stopped {
                    return Ok(Step::done(move |tx| {
                        store::set_launched(tx, &id, &now)?;
                        store::settle(tx, &id, VmState::Stopped, PowerState::Shutdown, &now)
                    }));
                }
                run::ensure_running(app, task, &server).await?;
                Ok(Step::done(move |tx| {
                    store::set_launched(tx, &id, &now)?;
                    store::settle(tx, &id, VmState::Active, PowerState::Running, &now)
                }))
            }
        }
    }

    fn failed(self, app: &App, task: &TaskContext, failure: &Failure) -> Step<Self> {
        let (id, now) = (task.resource().to_owned(), app.clock.now_text());
        let why = failure.public.clone();
        match self {
            // Nothing has changed but what the row says of the image.
            Self::Image(Order { before, .. }) => Step::fail(why, move |tx| {
                let Some(mut server) = store::find(tx, &id)? else { return Ok(()) };
                server.image_id = before.image_id;
                server.image_properties = before.image_properties;
                server.root_gib = before.root_gib;
                server.task_state = None;
                server.updated_at = now;
                store::set_rebuilt(tx, &server)?;
                allocation::reclaim(tx, &server)
            }),
            _ => Step::fail(why.clone(), move |tx| store::fail(tx, &id, PowerState::NoState, &why, &now)),
        }
    }

    fn unreadable(app: &App, resource: &str, reason: &str) -> Record {
        run::unreadable(app, resource, reason)
    }
}

/// Has the disks gone that are made anew, while no process runs.
async fn clear(app: &App, server: &Server, keep_ephemeral: bool) -> Result<(), Failure> {
    let directory = disk::directory(app, server);
    disk::blocking("The old disks could not be removed.", move || {
        let names = ["disk", "disk.swap", "disk.config", "disk.eph0"];
        for name in &names[..if keep_ephemeral { names.len() - 1 } else { names.len() }] {
            match std::fs::remove_file(directory.join(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(disks::Error::dest(error)),
                _ => {}
            }
        }
        Ok(())
    })
    .await
}

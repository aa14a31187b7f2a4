//! Rescue and the way back: the server boots from another disk, and has its own disks beside it.
//!
//! ```text
//! Stop ──> Disk ──> Spawn ──> (rescued)                 Leave ──> Restart ──> (active)
//!   └───────┴─────────┴──> Undo ──> (error, with its own disks)
//! ```
//! Which disks a server boots from is a row ([`Rescue`]): whoever starts it while that is there starts the rescue.

use std::time::Duration;

use db::{Tx, params};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tasks::{Failure, Operation, Record, Step, TaskContext};

use super::{
    Server, disk,
    model::{PowerState, VmState},
    run, store,
};
use crate::{App, image_info::BootImage};

/// What a server is rescued with.
#[derive(Clone, Debug)]
pub(crate) struct Rescue {
    pub image_id: String,
    /// Its own disks keep their places, and the rescue disk comes last; else the rescue disk comes first.
    pub stable: bool,
    /// The properties of the rescue image, where it decides what the machine boots with. A stable rescue is the server's own
    /// machine with one disk more.
    pub image_properties: Option<Map<String, Value>>,
}

impl Rescue {
    pub fn new(image: BootImage, stable: bool) -> Self {
        Self { image_id: image.id, stable, image_properties: (!stable).then_some(image.properties) }
    }
}

pub(crate) fn insert(tx: &Tx<'_>, server_id: &str, rescue: &Rescue) -> db::Result<()> {
    let properties = rescue.image_properties.clone().map(|map| Value::Object(map).to_string());
    tx.execute(
        "INSERT OR REPLACE INTO compute_server_rescue (server_id, image_id, stable, image_properties)
         VALUES (?1, ?2, ?3, ?4)",
        params![server_id, rescue.image_id, rescue.stable, properties],
    )?;
    Ok(())
}

fn delete(tx: &Tx<'_>, server_id: &str) -> db::Result<()> {
    tx.execute("DELETE FROM compute_server_rescue WHERE server_id = ?1", [server_id])?;
    Ok(())
}

pub(crate) async fn of_server(app: &App, server: &Server) -> Result<Option<Rescue>, Failure> {
    let id = server.id.clone();
    let read = |row: &db::Row<'_>| {
        let properties: Option<String> = row.get(2)?;
        let image_properties = properties.and_then(|text| serde_json::from_str(&text).ok());
        Ok(Rescue { image_id: row.get(0)?, stable: row.get(1)?, image_properties })
    };
    let sql = "SELECT image_id, stable, image_properties FROM compute_server_rescue WHERE server_id = ?1";
    Ok(app.db.read(move |tx| tx.find(sql, [id], read)).await?)
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Rescuing {
    Stop {
        admin_pass: String,
    },
    Disk {
        admin_pass: String,
    },
    Spawn,
    /// The rescue's disks go; the server stays off, and says why.
    Undo {
        why: String,
    },
    /// Unrescue: out of the rescue.
    Leave,
    Restart,
}

impl Operation for Rescuing {
    const KIND: &'static str = "compute.server.rescue";
    type App = App;

    fn deadline(&self) -> Duration {
        match self {
            // A first use converts the image.
            Self::Disk { .. } => Duration::from_secs(1800),
            _ => Duration::from_secs(300),
        }
    }

    fn event(&self) -> Option<&'static str> {
        match self {
            Self::Spawn | Self::Undo { .. } => Some("compute_rescue_instance"),
            Self::Restart => Some("compute_unrescue_instance"),
            _ => None,
        }
    }

    async fn advance(self, app: &App, task: &TaskContext) -> Result<Step<Self>, Failure> {
        let server = run::server(app, task).await?;
        let (id, now) = (server.id.clone(), app.clock.now_text());
        let uuid = run::uuid(&server)?;
        match self {
            Self::Stop { admin_pass } => {
                let patience = (server.vm_state == VmState::Active).then_some(app.options.shutdown_timeout);
                tokio::select! {
                    ended = task.act(run::end(app, uuid, patience)) => ended?,
                    () = task.superseded() => return Err(Failure::fatal("Another operation overtook the rescue.")),
                }
                task.act(run::unplug(app, &server)).await?;
                Ok(Step::next(Self::Disk { admin_pass }, |_| Ok(())))
            }
            Self::Disk { admin_pass } => {
                let rescue =
                    of_server(app, &server).await?.ok_or_else(|| Failure::fatal("The rescue's row is gone."))?;
                tokio::select! {
                    made = task.act(disk::ensure_rescue(app, &server, &rescue.image_id, &admin_pass)) => made?,
                    () = task.superseded() => return Err(Failure::fatal("Another operation overtook the rescue.")),
                }
                Ok(Step::next(Self::Spawn, |_| Ok(())))
            }
            Self::Spawn => {
                run::ensure_running(app, task, &server).await?;
                Ok(Step::done(move |tx| store::settle(tx, &id, VmState::Rescued, PowerState::Running, &now)))
            }
            Self::Undo { why } => {
                task.act(run::end(app, uuid, None)).await?;
                task.act(run::unplug(app, &server)).await?;
                task.act(disk::remove_rescue(app, &server)).await?;
                Ok(Step::fail(why.clone(), move |tx| {
                    delete(tx, &id)?;
                    store::fail(tx, &id, PowerState::Shutdown, &why, &now)
                }))
            }
            Self::Leave => {
                task.act(run::end(app, uuid, None)).await?;
                task.act(run::unplug(app, &server)).await?;
                task.act(disk::remove_rescue(app, &server)).await?;
                Ok(Step::next(Self::Restart, move |tx| delete(tx, &id)))
            }
            Self::Restart => {
                run::ensure_running(app, task, &server).await?;
                Ok(Step::done(move |tx| store::settle(tx, &id, VmState::Active, PowerState::Running, &now)))
            }
        }
    }

    fn failed(self, app: &App, task: &TaskContext, failure: &Failure) -> Step<Self> {
        let why = failure.public.clone();
        let (id, now) = (task.resource().to_owned(), app.clock.now_text());
        match self {
            Self::Stop { .. } | Self::Disk { .. } | Self::Spawn => Step::next(Self::Undo { why }, |_| Ok(())),
            Self::Undo { why: first } => {
                let why = format!("{first} {why}");
                Step::fail(why.clone(), move |tx| {
                    delete(tx, &id)?;
                    store::fail(tx, &id, PowerState::NoState, &why, &now)
                })
            }
            // Still rescued: it can be tried again.
            Self::Leave => Step::fail(why, move |tx| store::set_task_state(tx, &id, None, &now)),
            Self::Restart => Step::fail(why.clone(), move |tx| store::fail(tx, &id, PowerState::Shutdown, &why, &now)),
        }
    }

    fn unreadable(app: &App, resource: &str, reason: &str) -> Record {
        run::unreadable(app, resource, reason)
    }
}

//! A copy of a server's root disk as it is at one instant, in the server's directory.
//!
//! What must stay true: a guest that ran runs on afterwards, whatever fails or dies meanwhile. Whether it was running is
//! what its row says: a guest that is paused though its row says active was paused here.
//!
//! Where the guest's agent answers, the guest's file systems are frozen while the disk is copied; else the guest is paused,
//! and the copy is what a power cut would have left.

use std::{path::PathBuf, time::Duration};

use tasks::{Failure, TaskContext};
use uuid::Uuid;

use super::image::says;
use crate::{
    App,
    servers::{Server, disk, model::VmState, run},
    vms::{Observed, VmError, VmState as ProcessState},
};

/// How long an agent has that nobody promised, and one that the image's properties do.
const PATIENCE: Duration = Duration::from_secs(1);
const PATIENCE_IF_PROMISED: Duration = Duration::from_secs(10);

/// Where the copy for this image is.
pub(crate) fn path(app: &App, server: &Server, image_id: &str) -> PathBuf {
    disk::directory(app, server).join(format!("snapshot.{image_id}"))
}

/// Has the copy made, and the guest running on. A copy that is there already is left as it is.
pub(crate) async fn ensure(app: &App, task: &TaskContext, server: &Server, image_id: &str) -> Result<(), Failure> {
    let id = run::uuid(server)?;
    if path(app, server, image_id).exists() {
        // Of a process that has died since: what it stopped goes on.
        return task.act(go_on(app, server, id, true)).await;
    }
    let frozen = task.act(hold_still(app, server, id)).await?;
    let copied = tokio::select! {
        copied = task.act(disk::copy_root(app, server, path(app, server, image_id))) => copied,
        // A delete need not wait for a copy that nobody will want.
        () = task.superseded() => return Err(Failure::fatal("Another operation overtook the snapshot.")),
    };
    task.act(go_on(app, server, id, frozen)).await?;
    copied
}

/// Has no copy, and the guest running on.
pub(crate) async fn remove(app: &App, task: &TaskContext, server: &Server, image_id: &str) -> Result<(), Failure> {
    let id = run::uuid(server)?;
    task.act(go_on(app, server, id, true)).await?;
    task.act(forget(app, server, image_id)).await
}

/// Has no copy.
pub(crate) async fn forget(app: &App, server: &Server, image_id: &str) -> Result<(), Failure> {
    disk::remove_file(path(app, server, image_id)).await
}

/// Nothing writes to the disk from here on; true if the guest's agent sees to that.
async fn hold_still(app: &App, server: &Server, id: Uuid) -> Result<bool, Failure> {
    if server.vm_state != VmState::Active || !matches!(app.driver.observe(id).await, Ok(Observed::Running(_))) {
        return Ok(false);
    }
    let promised = says(server, "hw_qemu_guest_agent");
    let mut why = "no guest agent answers".to_owned();
    if promised != Some(false) {
        let patience = if promised == Some(true) { PATIENCE_IF_PROMISED } else { PATIENCE };
        match app.driver.freeze(id, patience).await {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(error) => why = error.to_string(),
        }
    }
    if says(server, "os_require_quiesce") == Some(true) {
        return Err(Failure::fatal(format!(
            "The server's image asks for snapshots of frozen file systems only (os_require_quiesce), and {why}."
        )));
    }
    tracing::info!(server.id = server.id, why, "the guest is paused while its disk is copied");
    match app.driver.pause(id).await {
        Ok(()) | Err(VmError::NotRunning { .. }) => Ok(false),
        Err(error) => Err(run::failure("The server could not be paused while its disk is copied.", error)),
    }
}

async fn go_on(app: &App, server: &Server, id: Uuid, thaw: bool) -> Result<(), Failure> {
    if server.vm_state != VmState::Active {
        return Ok(());
    }
    let Ok(Observed::Running(running)) = app.driver.observe(id).await else { return Ok(()) };
    if running.state == ProcessState::Paused {
        match app.driver.resume(id).await {
            Ok(()) | Err(VmError::NotRunning { .. }) => {}
            Err(error) => return Err(run::failure("The server could not be let run on.", error)),
        }
    }
    if thaw && says(server, "hw_qemu_guest_agent") != Some(false) {
        match app.driver.thaw(id, PATIENCE).await {
            Ok(()) => {}
            // The agent thaws by itself when it ends, and a guest without one was not frozen.
            Err(error) => {
                tracing::warn!(server.id = server.id, %error, "the guest's agent does not thaw its file systems")
            }
        }
    }
    Ok(())
}

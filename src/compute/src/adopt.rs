//! Start-up: which servers run, which died, before operations resume and before the API listens (DESIGN section 8).

use rest::{Error, Result};

use crate::{
    App,
    servers::{
        Server,
        create::unasked,
        model::{PowerState, VmState},
        power::Power,
        resize::Resize,
        store,
    },
    vms::Observed,
};

const GONE: &str = "The server's disks are not on this machine: its directory is gone. Restore them from a backup that holds \
                    disks, or delete the server.";

/// Compares every server's row with its process. Servers with an operation are left to it.
///
/// # Errors
/// When the processes cannot be looked at, or the database fails.
pub async fn adopt(app: &App) -> Result<()> {
    let seen = app.driver.adopt_all().await.map_err(Error::internal)?;
    let boot_id = vmspec::host_boot_id().map_err(Error::internal)?;
    let resume = app.options.resume_after_host_boot;
    let now = app.clock.now_text();
    let mut suspended = Vec::new();
    for (id, observed) in &seen {
        if matches!(observed, Observed::Gone(_)) && app.driver.is_suspended(*id).await.map_err(Error::internal)? {
            suspended.push(id.to_string());
        }
    }
    app.db
        .write(move |tx| {
            for server in store::list_all(tx)? {
                let runs = match server.vm_state {
                    VmState::Resized => server.power_state == PowerState::Running as i64,
                    state => matches!(state, VmState::Active | VmState::Paused),
                };
                let rests = matches!(
                    server.vm_state,
                    VmState::Stopped | VmState::Suspended | VmState::Resized | VmState::Rescued | VmState::Shelved
                );
                if !(runs || rests) || tasks::find(tx, &server.id)?.is_some() {
                    continue;
                }
                let observed = seen.iter().find(|(id, _)| id.to_string() == server.id).map(|(_, observed)| observed);
                if rests && !runs {
                    // A start would find nothing: a backup without disks was restored, or a disk was exchanged.
                    if observed.is_none() {
                        store::fail(tx, &server.id, PowerState::NoState, GONE, &now)?;
                    }
                    continue;
                }
                match observed {
                    Some(Observed::Running(_)) => {}
                    Some(Observed::Unresponsive { reason }) => {
                        let why = format!("The server's process does not answer: {reason}");
                        store::fail(tx, &server.id, PowerState::NoState, &why, &now)?;
                    }
                    Some(Observed::Gone(_)) if suspended.contains(&server.id) => {
                        store::settle(tx, &server.id, VmState::Suspended, PowerState::Shutdown, &now)?;
                    }
                    // One that was paused has lost what it was paused for.
                    Some(Observed::Gone(gone))
                        if server.vm_state != VmState::Paused
                            && gone.boot_id.is_some_and(|then| then != boot_id)
                            && resume =>
                    {
                        restart(tx, &server, &now)?;
                    }
                    Some(Observed::Absent) | None => {
                        store::fail(tx, &server.id, PowerState::NoState, GONE, &now)?;
                    }
                    Some(Observed::Gone(_)) if server.vm_state == VmState::Resized => {
                        store::set_power_state(tx, &server.id, PowerState::Shutdown, &now)?;
                    }
                    Some(Observed::Gone(_)) => {
                        tracing::info!(server.id = server.id, "the server's process is gone, it is shut off");
                        store::settle(tx, &server.id, VmState::Stopped, PowerState::Shutdown, &now)?;
                    }
                }
            }
            Ok(())
        })
        .await
}

/// The host went down under a running server: start it again, as an operation like any other.
fn restart(tx: &db::Tx<'_>, server: &Server, now: &str) -> Result<()> {
    tracing::info!(server.id = server.id, "the host was restarted, the server is started again");
    store::set_task_state(tx, &server.id, Some("powering-on"), now)?;
    let request_id = format!("req-{}", rest::new_uuid());
    let task = unasked(server, "start", &request_id, now);
    match server.vm_state {
        VmState::Resized => tasks::start(tx, &task, &Resize::Restart).map_err(Error::internal)?,
        _ => tasks::start(tx, &task, &Power::Start).map_err(Error::internal)?,
    };
    Ok(())
}

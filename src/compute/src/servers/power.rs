//! Start, stop, reboot, pause, suspend and back: durable, and never waiting for a guest beyond its time.
//!
//! A pause, suspend or resume that fails leaves the server what it was before, or what its process shows that it is.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tasks::{Failure, Operation, Record, Step, TaskContext};

use super::{
    model::{PowerState, VmState},
    run, store,
};
use crate::{
    App,
    vms::{Observed, VmError, VmState as ProcessState},
};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Power {
    Start,
    Stop,
    RebootSoft,
    RebootHard,
    /// Second half of a hard reboot.
    Restart,
    Pause,
    Unpause,
    /// Memory to files, then the taps as for a stop.
    Suspend,
    Resume,
    /// What failed is undone: a guest that was running runs, and the row says what the process shows.
    Back {
        why: String,
        was_paused: bool,
    },
}

impl Operation for Power {
    const KIND: &'static str = "compute.server.power";
    type App = App;

    fn deadline(&self) -> Duration {
        match self {
            // As long as the driver gives the slowest disk for the largest guest.
            Self::Suspend => Duration::from_secs(24 * 3600),
            _ => Duration::from_secs(300),
        }
    }

    fn event(&self) -> Option<&'static str> {
        Some(match self {
            Self::Start => "compute_start_instance",
            Self::Stop => "compute_stop_instance",
            Self::RebootSoft | Self::RebootHard => "compute_reboot_instance",
            Self::Restart => "compute_power_on",
            Self::Pause => "compute_pause_instance",
            Self::Unpause => "compute_unpause_instance",
            Self::Suspend => "compute_suspend_instance",
            Self::Resume => "compute_resume_instance",
            Self::Back { .. } => return None,
        })
    }

    async fn advance(self, app: &App, task: &TaskContext) -> Result<Step<Self>, Failure> {
        let server = run::server(app, task).await?;
        let (id, now) = (server.id.clone(), app.clock.now_text());
        let uuid = run::uuid(&server)?;
        let settle =
            |state: VmState, power: PowerState| Ok(Step::done(move |tx| store::settle(tx, &id, state, power, &now)));
        match self {
            Self::Start | Self::Restart => {
                run::ensure_running(app, task, &server).await?;
                settle(VmState::Active, PowerState::Running)
            }
            Self::Stop => {
                let patience = app.options.shutdown_timeout;
                task.act(run::end(app, uuid, Some(patience))).await?;
                task.act(run::unplug(app, &server)).await?;
                settle(VmState::Stopped, PowerState::Shutdown)
            }
            Self::RebootSoft => {
                if !matches!(app.driver.observe(uuid).await, Ok(Observed::Running(_))) {
                    return Ok(Step::next(Self::RebootHard, |_| Ok(())));
                }
                let patience = app.options.shutdown_timeout;
                let rebooted = tokio::select! {
                    rebooted = task.act(app.driver.reboot_soft(uuid, patience)) => rebooted,
                    // A delete or a hard reboot need not wait for the guest.
                    () = task.superseded() => return Err(Failure::fatal("Another operation overtook the reboot.")),
                };
                match rebooted {
                    Ok(_) => settle(VmState::Active, PowerState::Running),
                    Err(error) => {
                        tracing::warn!(server.id = server.id, %error, "soft reboot failed, a hard one follows");
                        Ok(Step::next(Self::RebootHard, |_| Ok(())))
                    }
                }
            }
            Self::RebootHard => {
                task.act(run::end(app, uuid, None)).await?;
                task.act(run::unplug(app, &server)).await?;
                Ok(Step::next(Self::Restart, |_| Ok(())))
            }
            Self::Pause => {
                task.act(app.driver.pause(uuid)).await.map_err(|error| not_done("paused", error))?;
                settle(VmState::Paused, PowerState::Paused)
            }
            Self::Unpause => {
                task.act(app.driver.resume(uuid)).await.map_err(|error| not_done("unpaused", error))?;
                settle(VmState::Active, PowerState::Running)
            }
            Self::Suspend => {
                tokio::select! {
                    done = task.act(app.driver.suspend(uuid)) => done.map_err(|error| not_done("suspended", error))?,
                    // A delete or a hard reboot need not wait for memory that nobody will want.
                    () = task.superseded() => return Err(Failure::fatal("Another operation overtook the suspend.")),
                }
                task.act(run::unplug(app, &server)).await?;
                settle(VmState::Suspended, PowerState::Shutdown)
            }
            Self::Resume => {
                run::ensure_resumed(app, task, &server).await?;
                task.act(run::discard_suspended(app, uuid)).await?;
                settle(VmState::Active, PowerState::Running)
            }
            Self::Back { why, was_paused } => {
                if let Ok(Observed::Running(running)) = app.driver.observe(uuid).await
                    && running.state == ProcessState::Paused
                    && !was_paused
                {
                    task.act(app.driver.resume(uuid)).await.map_err(|error| not_done("let run again", error))?;
                }
                let (state, power) = run::settled(app, uuid).await?;
                if matches!(state, VmState::Stopped | VmState::Suspended) {
                    task.act(run::unplug(app, &server)).await?;
                }
                let (id, now) = (server.id.clone(), app.clock.now_text());
                Ok(Step::fail(why, move |tx| store::settle(tx, &id, state, power, &now)))
            }
        }
    }

    fn failed(self, app: &App, task: &TaskContext, failure: &Failure) -> Step<Self> {
        let back = |was_paused| Step::next(Self::Back { why: failure.public.clone(), was_paused }, |_| Ok(()));
        let why = match self {
            Self::Pause | Self::Suspend | Self::Resume => return back(false),
            Self::Unpause => return back(true),
            Self::Back { why, .. } => format!("{why} {}", failure.public),
            _ => failure.public.clone(),
        };
        let (id, now) = (task.resource().to_owned(), app.clock.now_text());
        Step::fail(why.clone(), move |tx| store::fail(tx, &id, PowerState::NoState, &why, &now))
    }

    fn unreadable(app: &App, resource: &str, reason: &str) -> Record {
        run::unreadable(app, resource, reason)
    }
}

/// Trying again helps where the process did not answer, not where it refused or is gone.
fn not_done(word: &str, error: VmError) -> Failure {
    match error {
        VmError::Refused { reason, .. } => Failure::fatal(format!("The server was not {word}: {reason}.")),
        VmError::NotRunning { .. } => Failure::fatal(format!("The server was not {word}: its process has ended.")),
        error => Failure::retry(format!("The server was not {word}: {error}")).caused_by(error),
    }
}

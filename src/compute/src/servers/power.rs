//! Start, stop, reboot: durable, and never waiting for a guest beyond its time.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tasks::{Failure, Operation, Record, Step, TaskContext};

use super::{
    model::{PowerState, VmState},
    run, store,
};
use crate::{App, vms::Observed};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Power {
    Start,
    Stop,
    RebootSoft,
    RebootHard,
    /// Second half of a hard reboot.
    Restart,
}

impl Operation for Power {
    const KIND: &'static str = "compute.server.power";
    type App = App;

    fn deadline(&self) -> Duration {
        Duration::from_secs(300)
    }

    fn event(&self) -> Option<&'static str> {
        Some(match self {
            Self::Start => "compute_start_instance",
            Self::Stop => "compute_stop_instance",
            Self::RebootSoft | Self::RebootHard => "compute_reboot_instance",
            Self::Restart => "compute_power_on",
        })
    }

    async fn advance(self, app: &App, task: &TaskContext) -> Result<Step<Self>, Failure> {
        let server = run::server(app, task).await?;
        let (id, now) = (server.id.clone(), app.clock.now_text());
        let uuid = run::uuid(&server)?;
        match self {
            Self::Start | Self::Restart => {
                run::ensure_running(app, task, &server).await?;
                Ok(Step::done(move |tx| store::settle(tx, &id, VmState::Active, PowerState::Running, &now)))
            }
            Self::Stop => {
                let patience = app.options.shutdown_timeout;
                task.act(run::end(app, uuid, Some(patience))).await?;
                task.act(run::unplug(app, &server)).await?;
                Ok(Step::done(move |tx| store::settle(tx, &id, VmState::Stopped, PowerState::Shutdown, &now)))
            }
            Self::RebootSoft => {
                if !matches!(app.driver.observe(uuid).await, Ok(Observed::Running(_))) {
                    return Ok(Step::next(Self::RebootHard, |_| Ok(())));
                }
                let patience = app.options.shutdown_timeout;
                match task.act(app.driver.reboot_soft(uuid, patience)).await {
                    Ok(_) => {
                        Ok(Step::done(move |tx| store::settle(tx, &id, VmState::Active, PowerState::Running, &now)))
                    }
                    Err(error) => {
                        tracing::warn!(server.id = id, %error, "soft reboot failed, a hard one follows");
                        Ok(Step::next(Self::RebootHard, |_| Ok(())))
                    }
                }
            }
            Self::RebootHard => {
                task.act(run::end(app, uuid, None)).await?;
                task.act(run::unplug(app, &server)).await?;
                Ok(Step::next(Self::Restart, |_| Ok(())))
            }
        }
    }

    fn failed(self, app: &App, task: &TaskContext, failure: &Failure) -> Step<Self> {
        let (id, now, why) = (task.resource().to_owned(), app.clock.now_text(), failure.public.clone());
        Step::fail(why.clone(), move |tx| store::fail(tx, &id, PowerState::NoState, &why, &now))
    }

    fn unreadable(app: &App, resource: &str, reason: &str) -> Record {
        run::unreadable(app, resource, reason)
    }
}

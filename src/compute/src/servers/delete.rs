//! Deleting a server: overtakes whatever runs, and only rolls forward.

use serde::{Deserialize, Serialize};
use tasks::{Failure, Operation, Record, Step, TaskContext};

use super::{model::PowerState, resize, run, shelve::clear_shelf, store};
use crate::{App, allocation, gone, network_info};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Delete {
    /// The process, the taps and the directory with the disks.
    Stop,
    /// The rows.
    Forget,
}

impl Operation for Delete {
    const KIND: &'static str = "compute.server.delete";
    const ATTEMPTS: u32 = 8;
    type App = App;

    fn event(&self) -> Option<&'static str> {
        matches!(self, Self::Stop).then_some("compute_terminate_instance")
    }

    async fn advance(self, app: &App, task: &TaskContext) -> Result<Step<Self>, Failure> {
        let id = task.resource().to_owned();
        match self {
            Self::Stop => {
                let server = run::server(app, task).await?;
                run::remove(app, task, &server).await?;
                Ok(Step::next(Self::Forget, |_| Ok(())))
            }
            Self::Forget => {
                let (app, now) = (app.clone(), app.clock.now_text());
                Ok(Step::done(move |tx| {
                    resize::close(tx, &id, &now)?;
                    allocation::release(tx, &id)?;
                    network_info::release(tx, &app, &id)?;
                    gone::store::keep(tx, &id, &now)?;
                    clear_shelf(tx, &app, &id)?;
                    images::peer::abandon(tx, &app.images, &id)?;
                    store::delete(tx, &id)
                }))
            }
        }
    }

    fn failed(self, app: &App, task: &TaskContext, failure: &Failure) -> Step<Self> {
        let (id, now) = (task.resource().to_owned(), app.clock.now_text());
        let why = format!("The server could not be deleted: {}", failure.public);
        Step::fail(why.clone(), move |tx| store::fail(tx, &id, PowerState::NoState, &why, &now))
    }

    fn unreadable(app: &App, resource: &str, reason: &str) -> Record {
        run::unreadable(app, resource, reason)
    }
}

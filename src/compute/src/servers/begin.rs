//! How an action becomes an operation: the server is in a state that allows it, and nothing else is done to it.

use db::Tx;
use rest::{Ctx, Error, Result};
use tasks::Operation;

use super::{Server, create::Asker, handlers::require, model::VmState, store};
use crate::App;

/// A request for an action, as far as every action is the same.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub id: String,
    pub action: &'static str,
    pub asker: Asker,
    pub request_id: String,
    pub now: String,
}

impl Wish {
    pub fn new(app: &App, ctx: &Ctx, server: &Server, action: &'static str) -> Result<Self> {
        Ok(Self {
            id: server.id.clone(),
            action,
            asker: Asker::of(ctx)?,
            request_id: ctx.request_id().to_owned(),
            now: app.clock.now_text(),
        })
    }

    /// The server as it is now, if it may be done.
    pub fn server(&self, tx: &Tx<'_>, states: &[VmState]) -> Result<Server> {
        let server = store::get(tx, &self.id)?;
        require(&server, self.action, states)?;
        Ok(server)
    }

    pub fn start<O: Operation>(&self, tx: &Tx<'_>, task_state: &str, operation: &O) -> Result<()> {
        store::set_task_state(tx, &self.id, Some(task_state), &self.now)?;
        let task = self.asker.task(&self.id, self.action, &self.request_id, &self.now);
        tasks::start(tx, &task, operation).map(|_| ()).map_err(|busy| match busy {
            tasks::Busy::Busy(_) => Error::conflict(format!("Instance {} is busy with another operation.", self.id)),
            tasks::Busy::Db(error) => error.into(),
        })
    }
}

//! How an action becomes an operation: the server is in a state that allows it, and nothing else is done to it.

use db::Tx;
use rest::{Ctx, Result};
use tasks::{NewTask, Operation};

use super::{
    Server,
    create::Asker,
    handlers::{busy, require},
    model::VmState,
    store,
};
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

    /// The operation as the log of the server's actions has it.
    pub fn task(&self) -> NewTask<'_> {
        self.asker.task(&self.id, self.action, &self.request_id, &self.now)
    }

    /// Starts the operation, and the server shows that it is under way.
    pub fn start<O: Operation>(&self, tx: &Tx<'_>, task_state: &str, operation: &O) -> Result<()> {
        self.show(tx, task_state)?;
        self.start_as_is(tx, operation)
    }

    /// Starts an operation that the server does not show, or shows already.
    pub fn start_as_is<O: Operation>(&self, tx: &Tx<'_>, operation: &O) -> Result<()> {
        tasks::start(tx, &self.task(), operation).map(|_| ()).map_err(|error| busy(error, &self.id))
    }

    /// As [`Self::start`], in place of whatever is done to the server.
    pub fn supersede<O: Operation>(&self, tx: &Tx<'_>, task_state: &str, operation: &O) -> Result<()> {
        self.show(tx, task_state)?;
        tasks::supersede(tx, &self.task(), operation)?;
        Ok(())
    }

    fn show(&self, tx: &Tx<'_>, task_state: &str) -> Result<()> {
        Ok(store::set_task_state(tx, &self.id, Some(task_state), &self.now)?)
    }
}

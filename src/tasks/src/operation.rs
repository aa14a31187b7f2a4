//! What an operation is made of.

use std::{error::Error as StdError, fmt, future::Future, time::Duration};

use db::{Db, Tx};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Faults, TaskRow};

/// What one step writes, in the transaction that also moves the state.
pub type Record = Box<dyn FnOnce(&Tx<'_>) -> db::Result<()> + Send>;

/// An operation that survives the process. The value is the state; a resource has at most one.
pub trait Operation: Serialize + DeserializeOwned + Clone + Send + Sync + Sized + 'static {
    /// Never changes once released: rows of an older program carry it. `compute.server.create`
    const KIND: &'static str;
    /// Tries of one step before [`Operation::failed`].
    const ATTEMPTS: u32 = 3;
    /// What the steps need.
    type App: Clone + Send + Sync + 'static;

    /// How long the step of this state may take before it counts as failed.
    fn deadline(&self) -> Duration {
        Duration::from_secs(120)
    }

    /// The event that users see for this step, if any.
    fn event(&self) -> Option<&'static str> {
        None
    }

    /// Looks and acts. Acts go through [`TaskContext::act`].
    fn advance(self, app: &Self::App, task: &TaskContext) -> impl Future<Output = Result<Step<Self>, Failure>> + Send;

    /// What follows when a step is given up: another state that undoes, or the end with the fault recorded.
    fn failed(self, app: &Self::App, task: &TaskContext, failure: &Failure) -> Step<Self>;

    /// What to record for `resource` when this program cannot read the state that another version wrote.
    fn unreadable(app: &Self::App, resource: &str, reason: &str) -> Record;
}

/// What follows a step.
pub enum Step<O> {
    /// Go on at once with another state.
    Next(O, Record),
    /// The operation ended well.
    Done(Record),
    /// The operation ended with a fault, which the record makes visible.
    Fail(String, Record),
    /// Look again later; nothing changed.
    Wait(Duration),
}

impl<O> fmt::Debug for Step<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Next(..) => "Next",
            Self::Done(..) => "Done",
            Self::Fail(..) => "Fail",
            Self::Wait(..) => "Wait",
        })
    }
}

impl<O> Step<O> {
    pub fn next(state: O, record: impl FnOnce(&Tx<'_>) -> db::Result<()> + Send + 'static) -> Self {
        Self::Next(state, Box::new(record))
    }

    pub fn done(record: impl FnOnce(&Tx<'_>) -> db::Result<()> + Send + 'static) -> Self {
        Self::Done(Box::new(record))
    }

    pub fn fail(message: impl Into<String>, record: impl FnOnce(&Tx<'_>) -> db::Result<()> + Send + 'static) -> Self {
        Self::Fail(message.into(), Box::new(record))
    }
}

/// Why a step did not succeed.
#[derive(Debug)]
pub struct Failure {
    /// What the user is told.
    pub public: String,
    /// Whether trying again can help.
    pub retry: bool,
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Failure {
    /// Worth another try.
    #[must_use]
    pub fn retry(public: impl Into<String>) -> Self {
        Self { public: public.into(), retry: true, source: None }
    }

    /// Trying again cannot help.
    #[must_use]
    pub fn fatal(public: impl Into<String>) -> Self {
        Self { public: public.into(), retry: false, source: None }
    }

    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The causes in one line, for a log field.
    #[must_use]
    pub fn causes(&self) -> String {
        let mut text = String::new();
        let mut next = self.source.as_ref().map(|source| source.as_ref() as &dyn StdError);
        while let Some(cause) = next {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}

impl From<db::Error> for Failure {
    fn from(error: db::Error) -> Self {
        let public =
            if error.full() { "The disk that holds the cloud's database is full." } else { "The database failed." };
        Self::retry(public).caused_by(error)
    }
}

/// How a log entry ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Error,
    Superseded,
}

impl Outcome {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Superseded => "superseded",
        }
    }
}

/// The running task, as its steps see it.
#[derive(Clone, Debug)]
pub struct TaskContext {
    pub row: TaskRow,
    pub(crate) db: Db,
    pub(crate) faults: Faults,
}

impl TaskContext {
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.row.resource
    }

    /// Runs an outside effect. A crash just before or just after it must be harmless; the crash tests try both.
    pub async fn act<T>(&self, effect: impl Future<Output = T> + Send) -> T {
        self.faults.point().await;
        let value = effect.await;
        self.faults.point().await;
        value
    }

    /// Returns once another operation took this one's place: to cut long acts short.
    pub async fn superseded(&self) {
        let mut changes = self.db.changes("tasks");
        let (resource, generation) = (self.row.resource.clone(), self.row.generation);
        loop {
            let resource = resource.clone();
            let now = self.db.read(move |tx| crate::find(tx, &resource)).await;
            if now.is_ok_and(|row| row.is_none_or(|row| row.generation != generation)) {
                return;
            }
            changes.changed().await;
        }
    }
}

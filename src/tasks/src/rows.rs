//! The rows of running operations.

use db::{Row, Tx, params, rusqlite};

use crate::{Operation, Outcome};

/// Who asked for what, on which resource.
#[derive(Clone, Copy, Debug)]
pub struct NewTask<'a> {
    pub resource: &'a str,
    /// The word that users see: `create`, `reboot`.
    pub action: &'a str,
    pub request_id: &'a str,
    pub user_id: Option<&'a str>,
    pub project_id: Option<&'a str>,
    /// `clock.now_text()`
    pub now: &'a str,
}

/// A running operation.
#[derive(Clone, Debug)]
pub struct TaskRow {
    pub resource: String,
    pub generation: i64,
    pub kind: String,
    pub action: String,
    pub(crate) state: String,
    pub attempt: u32,
    pub not_before_ms: i64,
    pub request_id: String,
    pub user_id: Option<String>,
    pub project_id: Option<String>,
    pub started_at: String,
}

/// The resource has an operation already, or the database failed.
#[derive(Debug, thiserror::Error)]
pub enum Busy {
    #[error("the resource is busy with {0}")]
    Busy(String),
    #[error(transparent)]
    Db(#[from] db::Error),
}

const COLUMNS: &str = "resource, generation, kind, action, state, attempt, not_before_ms, request_id, user_id, \
                       project_id, started_at";

impl TaskRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            resource: row.get(0)?,
            generation: row.get(1)?,
            kind: row.get(2)?,
            action: row.get(3)?,
            state: row.get(4)?,
            attempt: row.get(5)?,
            not_before_ms: row.get(6)?,
            request_id: row.get(7)?,
            user_id: row.get(8)?,
            project_id: row.get(9)?,
            started_at: row.get(10)?,
        })
    }

    /// The state as this program reads it.
    #[must_use]
    pub fn state<O: Operation>(&self) -> Option<O> {
        (self.kind == O::KIND).then(|| serde_json::from_str(&self.state).ok()).flatten()
    }
}

/// Starts an operation in the transaction that also writes the resource. Answering 202 after the commit is a promise.
///
/// # Errors
/// [`Busy::Busy`] when the resource has one already.
pub fn start<O: Operation>(tx: &Tx<'_>, new: &NewTask<'_>, state: &O) -> Result<i64, Busy> {
    if let Some(running) = find(tx, new.resource)? {
        return Err(Busy::Busy(running.action));
    }
    Ok(insert(tx, new, state)?)
}

/// Starts an operation in place of whatever runs: that one finishes its act and records nothing.
///
/// # Errors
/// The database's.
pub fn supersede<O: Operation>(tx: &Tx<'_>, new: &NewTask<'_>, state: &O) -> db::Result<i64> {
    if let Some(running) = find(tx, new.resource)? {
        tx.execute("DELETE FROM tasks_task WHERE generation = ?1", [running.generation])?;
        crate::log::finish(tx, running.generation, new.now, Outcome::Superseded, None)?;
    }
    insert(tx, new, state)
}

fn insert<O: Operation>(tx: &Tx<'_>, new: &NewTask<'_>, state: &O) -> db::Result<i64> {
    let generation = tx.get(
        "the task sequence",
        "UPDATE tasks_sequence SET value = value + 1 WHERE id = 1 RETURNING value",
        [],
        |row| row.get(0),
    )?;
    tx.execute(
        "INSERT INTO tasks_task (resource, generation, kind, action, state, attempt, not_before_ms, request_id, user_id,
                                 project_id, started_at)
         VALUES (?1, ?2, ?3, ?4, ?5, 0, 0, ?6, ?7, ?8, ?9)",
        params![
            new.resource,
            generation,
            O::KIND,
            new.action,
            encode(state)?,
            new.request_id,
            new.user_id,
            new.project_id,
            new.now
        ],
    )?;
    tx.execute(
        "INSERT INTO tasks_log (generation, resource, kind, action, request_id, user_id, project_id, started_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)",
        params![
            generation,
            new.resource,
            O::KIND,
            new.action,
            new.request_id,
            new.user_id,
            new.project_id,
            new.now
        ],
    )?;
    Ok(generation)
}

pub(crate) fn encode<O: Operation>(state: &O) -> db::Result<String> {
    serde_json::to_string(state)
        .map_err(|error| db::Error::Corrupt(format!("an operation's state is no JSON: {error}")))
}

/// The operation that runs on `resource`, if any.
///
/// # Errors
/// The database's.
pub fn find(tx: &Tx<'_>, resource: &str) -> db::Result<Option<TaskRow>> {
    tx.find(&format!("SELECT {COLUMNS} FROM tasks_task WHERE resource = ?1"), [resource], TaskRow::read)
}

/// The operation on `resource` if its next step is due.
pub(crate) fn find_due(tx: &Tx<'_>, resource: &str, now_ms: i64) -> db::Result<Option<TaskRow>> {
    Ok(find(tx, resource)?.filter(|row| row.not_before_ms <= now_ms))
}

/// Resources whose next step is due, oldest first, and when the next one after them is.
pub(crate) fn due(tx: &Tx<'_>, now_ms: i64) -> db::Result<(Vec<String>, Option<i64>)> {
    let due =
        tx.list("SELECT resource FROM tasks_task WHERE not_before_ms <= ?1 ORDER BY generation", [now_ms], |row| {
            row.get(0)
        })?;
    let next = tx.get(
        "an aggregate",
        "SELECT min(not_before_ms) FROM tasks_task WHERE not_before_ms > ?1",
        [now_ms],
        |row| row.get(0),
    )?;
    Ok((due, next))
}

/// Moves the row on if it is still the one that ran. `false`: it was superseded, so nothing may be recorded.
pub(crate) fn update(
    tx: &Tx<'_>,
    row: &TaskRow,
    state: Option<&str>,
    attempt: u32,
    not_before_ms: i64,
) -> db::Result<bool> {
    let changed = tx.execute(
        "UPDATE tasks_task SET state = ifnull(?2, state), attempt = ?3, not_before_ms = ?4 WHERE generation = ?1",
        params![row.generation, state, attempt, not_before_ms],
    )?;
    Ok(changed == 1)
}

pub(crate) fn remove(tx: &Tx<'_>, row: &TaskRow) -> db::Result<bool> {
    Ok(tx.execute("DELETE FROM tasks_task WHERE generation = ?1", [row.generation])? == 1)
}

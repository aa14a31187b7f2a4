//! What ran on a resource and how it ended: the source of `os-instance-actions`.

use db::{Row, Tx, params, rusqlite};

use crate::{Outcome, TaskRow};

/// One operation, running or ended.
#[derive(Clone, Debug)]
pub struct LogEntry {
    pub generation: i64,
    pub resource: String,
    pub kind: String,
    pub action: String,
    pub request_id: String,
    pub user_id: Option<String>,
    pub project_id: Option<String>,
    pub started_at: String,
    pub updated_at: String,
    /// `None` while it runs; else `success`, `error`, `superseded`.
    pub result: Option<String>,
    pub message: Option<String>,
}

/// One step of an operation.
#[derive(Clone, Debug)]
pub struct LogEvent {
    pub name: String,
    pub started_at: String,
    pub finished_at: String,
    /// `Success` or `Error`.
    pub result: String,
    pub message: Option<String>,
}

const COLUMNS: &str = "generation, resource, kind, action, request_id, user_id, project_id, started_at, updated_at, \
                       result, message";

impl LogEntry {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            generation: row.get(0)?,
            resource: row.get(1)?,
            kind: row.get(2)?,
            action: row.get(3)?,
            request_id: row.get(4)?,
            user_id: row.get(5)?,
            project_id: row.get(6)?,
            started_at: row.get(7)?,
            updated_at: row.get(8)?,
            result: row.get(9)?,
            message: row.get(10)?,
        })
    }
}

/// The operations of `resource`, newest first.
///
/// # Errors
/// The database's.
pub fn list_log(tx: &Tx<'_>, resource: &str) -> db::Result<Vec<LogEntry>> {
    tx.list(
        &format!("SELECT {COLUMNS} FROM tasks_log WHERE resource = ?1 ORDER BY generation DESC"),
        [resource],
        LogEntry::read,
    )
}

/// The operations of a kind ([`crate::Operation::KIND`]) on whatever resource, newest first, at most `limit`.
///
/// # Errors
/// The database's.
pub fn list_log_of_kind(tx: &Tx<'_>, kind: &str, limit: u32) -> db::Result<Vec<LogEntry>> {
    tx.list(
        &format!(
            "SELECT {COLUMNS} FROM tasks_log WHERE kind = ?1 ORDER BY started_at DESC, generation DESC LIMIT {limit}"
        ),
        [kind],
        LogEntry::read,
    )
}

/// The newest operation of `resource` that `request_id` asked for.
///
/// # Errors
/// The database's.
pub fn find_log(tx: &Tx<'_>, resource: &str, request_id: &str) -> db::Result<Option<LogEntry>> {
    tx.find(
        &format!(
            "SELECT {COLUMNS} FROM tasks_log WHERE resource = ?1 AND request_id = ?2 ORDER BY generation DESC LIMIT 1"
        ),
        [resource, request_id],
        LogEntry::read,
    )
}

/// Forgets what ran on resources that are no more. Does nothing to one that an operation runs on.
///
/// # Errors
/// The database's.
pub fn forget_log(tx: &Tx<'_>, resource: &str) -> db::Result<()> {
    tx.execute("DELETE FROM tasks_log WHERE resource = ?1 AND result IS NOT NULL", [resource])?;
    Ok(())
}

/// The steps of an operation, newest first.
///
/// # Errors
/// The database's.
pub fn list_events(tx: &Tx<'_>, generation: i64) -> db::Result<Vec<LogEvent>> {
    tx.list(
        "SELECT name, started_at, finished_at, result, message FROM tasks_event WHERE generation = ?1 ORDER BY id DESC",
        [generation],
        |row| {
            Ok(LogEvent {
                name: row.get(0)?,
                started_at: row.get(1)?,
                finished_at: row.get(2)?,
                result: row.get(3)?,
                message: row.get(4)?,
            })
        },
    )
}

pub(crate) fn event(
    tx: &Tx<'_>,
    row: &TaskRow,
    name: &str,
    started_at: &str,
    finished_at: &str,
    failure: Option<&str>,
) -> db::Result<()> {
    tx.execute(
        "INSERT INTO tasks_event (generation, name, started_at, finished_at, result, message)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            row.generation,
            name,
            started_at,
            finished_at,
            if failure.is_some() { "Error" } else { "Success" },
            failure
        ],
    )?;
    tx.execute("UPDATE tasks_log SET updated_at = ?2 WHERE generation = ?1", params![row.generation, finished_at])?;
    Ok(())
}

pub(crate) fn finish(
    tx: &Tx<'_>,
    generation: i64,
    now: &str,
    outcome: Outcome,
    message: Option<&str>,
) -> db::Result<()> {
    tx.execute(
        "UPDATE tasks_log SET updated_at = ?2, result = ?3, message = ?4 WHERE generation = ?1",
        params![generation, now, outcome.as_str(), message],
    )?;
    Ok(())
}

//! The audit trail: events of the gateway, in the database, the newest of them.
//!
//! Each event is a log line before the client has its answer, and a row a moment after. Rows are written in batches by one
//! task, so that a call that changes something pays for its own commit only. What a full queue cannot take is counted and
//! stands in the log alone.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use db::{Clock, Db, Tx, params};
use rest::{AuditEvent, AuditTrail};
use tokio::sync::mpsc::{Receiver, Sender, channel, error::TrySendError};
use tokio::task::JoinHandle;

use crate::serve::Failure;

/// Events that may wait for the database.
const WAITING_MAX: usize = 4096;
const BATCH_MAX: usize = 256;
const DAY: Duration = Duration::from_secs(86_400);

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    pub events: u64,
    pub days: u32,
}

/// Where the gateway leaves its events.
#[derive(Debug)]
pub struct Trail {
    sender: Mutex<Option<Sender<(String, AuditEvent)>>>,
    clock: Clock,
    lost: AtomicU64,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Trail {
    /// Starts the task that writes.
    #[must_use]
    pub fn start(db: Db, clock: Clock, retention: Retention) -> Self {
        let (sender, receiver) = channel(WAITING_MAX);
        let writer = tokio::spawn(write(db, clock.clone(), retention, receiver));
        Self { sender: Mutex::new(Some(sender)), clock, lost: AtomicU64::new(0), writer: Mutex::new(Some(writer)) }
    }

    /// Writes what waits. Later events are only logged.
    pub async fn close(&self) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let _ = writer.await;
        }
    }
}

impl AuditTrail for Trail {
    fn keep(&self, event: AuditEvent) {
        let at = self.clock.now_text();
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = sender.as_ref() else { return };
        if let Err(TrySendError::Full(_)) = sender.try_send((at, event)) {
            let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
            // At 1, 2, 4, 8 ...: a flood of requests is no flood of complaints.
            if lost.is_power_of_two() {
                tracing::warn!(lost, "the database is behind: audit events stand in the log alone");
            }
        }
    }
}

async fn write(db: Db, clock: Clock, retention: Retention, mut receiver: Receiver<(String, AuditEvent)>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while receiver.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let events = std::mem::take(&mut batch);
        let oldest = db::clock::text(clock.now() - DAY * retention.days);
        let keep = i64::try_from(retention.events).unwrap_or(i64::MAX);
        let written = db.write(move |tx| insert(tx, &events, keep, &oldest)).await;
        if let Err(error) = written {
            tracing::error!(%error, "audit events could not be kept; they stand in the log");
        }
    }
}

fn insert(tx: &Tx<'_>, events: &[(String, AuditEvent)], keep: i64, oldest: &str) -> db::Result<()> {
    for (at, event) in events {
        tx.execute(
            "INSERT INTO audit_event (at, service, request_id, method, path, status, peer, user_id, project_id, domain_id, \
             system, audit_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            params![
                at,
                event.service,
                event.request_id,
                event.method,
                event.path,
                event.status,
                event.peer.to_string(),
                event.user_id,
                event.project_id,
                event.domain_id,
                event.system,
                event.audit_id
            ],
        )?;
    }
    tx.execute("DELETE FROM audit_event WHERE id <= (SELECT max(id) FROM audit_event) - ?", [keep])?;
    tx.execute("DELETE FROM audit_event WHERE at < ?", [oldest])?;
    Ok(())
}

/// What `solostack audit` asks for.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// RFC 3339.
    pub since: Option<String>,
    pub user_id: Option<String>,
    pub last: u32,
}

/// Prints events, oldest first.
///
/// # Errors
/// When the database cannot be read.
pub fn print(db: &Db, asked: &Asked, out: &mut dyn Write) -> Result<(), Failure> {
    let lines: Vec<String> = db.read_blocking(|tx| {
        tx.list(
            "SELECT * FROM (SELECT id, at, service, method, path, status, peer, user_id, project_id, domain_id, system, \
             audit_id, request_id FROM audit_event WHERE at >= ifnull(?1, '') AND (?2 IS NULL OR user_id = ?2) \
             ORDER BY id DESC LIMIT ?3) ORDER BY id",
            params![asked.since, asked.user_id, asked.last],
            line,
        )
    })
    .map_err(|error: db::Error| error)?;
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn line(row: &db::Row<'_>) -> db::rusqlite::Result<String> {
    let text = |index: usize| row.get::<_, Option<String>>(index).map(Option::unwrap_or_default);
    let scope = match (text(8)?, text(9)?, row.get::<_, bool>(10)?) {
        (_, _, true) => "system".to_owned(),
        (project, _, _) if !project.is_empty() => format!("project:{project}"),
        (_, domain, _) if !domain.is_empty() => format!("domain:{domain}"),
        _ => "-".to_owned(),
    };
    let or_none = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    Ok(format!(
        "{} {} {} {} {} {} user:{} {scope} audit:{} {}",
        text(1)?,
        row.get::<_, u16>(5)?,
        text(2)?,
        text(3)?,
        text(4)?,
        text(6)?,
        or_none(text(7)?),
        or_none(text(11)?),
        text(12)?,
    ))
}

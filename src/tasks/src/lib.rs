//! Durable operations and reconcilers: how anything outlives the request that asked for it.
//!
//! An operation is a row whose state is an enum. Each step looks (reads), acts (no transaction open, idempotent), and
//! records (one transaction, guarded by the row's generation). Start-up runs the same loop as normal work: there is no
//! recovery code. What must stay true:
//! - a step that was superseded records nothing;
//! - one lane per resource: no two steps of one resource run at once;
//! - an operation that cannot go on never stops the next one.

mod engine;
mod faults;
mod log;
mod operation;
mod reconciler;
mod rows;

pub use engine::{Engine, EngineBuilder};
pub use faults::Faults;
pub use log::{LogEntry, LogEvent, find_log, forget_log, list_events, list_log, list_log_of_kind};
pub use operation::{Failure, Operation, Outcome, Record, Step, TaskContext};
pub use reconciler::{Reconciler, Round};
pub use rows::{Busy, NewTask, TaskRow, find, start, supersede};

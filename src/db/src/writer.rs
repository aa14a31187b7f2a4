//! The writer thread: takes queued closures, gives each a savepoint, commits them together.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering, mpsc},
    thread,
    time::Instant,
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::{
    Error, Generation, Result, Tx,
    generation::Generations,
    measure::{Activity, Counters},
};

/// Closures that may share one commit. More would make the first wait for the last.
const BATCH_MAX: usize = 128;

type Finish = Box<dyn FnOnce(Result<()>) + Send>;
type Job = Box<dyn FnOnce(&Connection) -> Ran + Send>;

/// What a job left: whether its savepoint is kept, the hooks to run after the commit, and whom to answer.
struct Ran {
    keep: bool,
    hooks: Vec<Box<dyn FnOnce() + Send>>,
    finish: Finish,
}

#[derive(Debug)]
pub(crate) struct Writer {
    jobs: mpsc::Sender<Job>,
    counters: Arc<Counters>,
}

impl Writer {
    pub(crate) fn start(mut connection: Connection, generations: Arc<Generations>) -> Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let dirty = watch_tables(&mut connection)?;
        let counters = Arc::new(Counters::default());
        thread::Builder::new().name("db-writer".into()).spawn({
            let counters = Arc::clone(&counters);
            move || run(&connection, &queue, &generations, &dirty, &counters)
        })?;
        Ok(Self { jobs, counters })
    }

    pub(crate) fn activity(&self) -> Activity {
        self.counters.read()
    }

    pub(crate) async fn write<T, E, F>(&self, f: F) -> std::result::Result<T, E>
    where
        F: FnOnce(&Tx<'_>) -> std::result::Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let tx = Tx::new(connection);
            let result = catch_unwind(AssertUnwindSafe(|| f(&tx))).unwrap_or_else(|_| Err(Error::Panicked.into()));
            let keep = result.is_ok();
            let hooks = tx.into_hooks();
            let finish: Finish = Box::new(move |committed| {
                let result = match (result, committed) {
                    // What the closure refused stays refused for its own reason.
                    (Err(error), _) => Err(error),
                    (Ok(_), Err(error)) => Err(error.into()),
                    (Ok(value), Ok(())) => Ok(value),
                };
                // The caller may have gone away: its rows are committed all the same.
                let _ = answer.send(result);
            });
            Ran { keep, hooks, finish }
        });
        self.counters.waiting.fetch_add(1, Ordering::Relaxed);
        self.jobs.send(job).map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)?
    }
}

fn run(
    connection: &Connection,
    queue: &mpsc::Receiver<Job>,
    generations: &Generations,
    dirty: &Mutex<BTreeSet<String>>,
    counters: &Counters,
) {
    while let Ok(first) = queue.recv() {
        let mut finished = Vec::new();
        let committed = batch(connection, first, queue, &mut finished, counters);
        if let Err(error) = &committed {
            counters.failed.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "database commit failed");
            if !connection.is_autocommit() {
                let _ = connection.execute_batch("ROLLBACK");
            }
        }
        let moved: Vec<Generation> = std::mem::take(&mut *dirty.lock().unwrap_or_else(PoisonError::into_inner))
            .iter()
            .map(|service| generations.of(service))
            .collect();
        if committed.is_ok() {
            moved.iter().for_each(Generation::bump);
        }
        let full = committed.as_ref().is_err_and(Error::full);
        for ran in finished {
            let outcome = match &committed {
                Ok(()) => {
                    ran.hooks.into_iter().for_each(|hook| hook());
                    Ok(())
                }
                Err(_) if full => Err(Error::Full),
                Err(error) => Err(Error::Corrupt(format!("commit failed: {error}"))),
            };
            (ran.finish)(outcome);
        }
    }
}

fn batch(
    connection: &Connection,
    first: Job,
    queue: &mpsc::Receiver<Job>,
    finished: &mut Vec<Ran>,
    counters: &Counters,
) -> Result<()> {
    let taken = || {
        counters.waiting.fetch_sub(1, Ordering::Relaxed);
        counters.writes.fetch_add(1, Ordering::Relaxed);
    };
    taken();
    // Even when BEGIN fails the first job must be answered, so it runs only after and is dropped (Closed) otherwise.
    statement(connection, "BEGIN IMMEDIATE")?;
    let mut next = Some(first);
    while let Some(job) = next.take() {
        statement(connection, "SAVEPOINT job")?;
        let mut ran = job(connection);
        if connection.is_autocommit() {
            // SQLite gave up the whole transaction (disk full, I/O error): nobody's rows are there.
            finished.push(ran);
            return Err(Error::Full);
        }
        if !ran.keep {
            ran.hooks.clear();
            statement(connection, "ROLLBACK TO job")?;
        }
        statement(connection, "RELEASE job")?;
        finished.push(ran);
        if finished.len() < BATCH_MAX {
            next = queue.try_recv().ok();
            if next.is_some() {
                taken();
            }
        }
    }
    let began = Instant::now();
    statement(connection, "COMMIT")?;
    counters.commits.add(began.elapsed());
    Ok(())
}

fn statement(connection: &Connection, sql: &str) -> Result<()> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

/// Remembers which services' tables were touched. `DELETE` without `WHERE` and `WITHOUT ROWID` tables escape SQLite's
/// update hook, so neither is used (see README).
fn watch_tables(connection: &mut Connection) -> Result<Arc<Mutex<BTreeSet<String>>>> {
    let touched: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let dirty = Arc::clone(&touched);
    connection.update_hook(Some(move |_, _: &str, table: &str, _| {
        let service = table.split_once('_').map_or(table, |(service, _)| service);
        let mut dirty = dirty.lock().unwrap_or_else(PoisonError::into_inner);
        if !dirty.contains(service) {
            dirty.insert(service.to_owned());
        }
    }))?;
    Ok(touched)
}

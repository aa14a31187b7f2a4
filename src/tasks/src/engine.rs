//! The loop that runs operations: a lane per resource, a few lanes at once.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use db::{Clock, Db};
use futures::future::BoxFuture;
use tokio::sync::{Notify, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Failure, Faults, Operation, Outcome, Reconciler, Record, Round, Step, TaskContext, TaskRow, log,
    reconciler::Rounds,
    rows::{self, encode},
};

/// Steps of different resources that run at once. Heavy byte work has limits of its own.
const LANES: usize = 16;
/// How long `stop` waits for acts under way. They are idempotent: cutting one is the same as a crash.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// A step's result with the operation's type erased.
enum Ran {
    Next { state: String, record: Record },
    Done { record: Record },
    Fail { message: String, record: Record },
    Wait(Duration),
    Retry(Failure),
}

trait Runner: Send + Sync {
    fn attempts(&self) -> u32;
    /// Runs one step; the event's name comes with it. `give_up` skips the step and asks what follows its failure.
    fn run(&self, task: TaskContext, give_up: Option<Failure>) -> BoxFuture<'static, (Option<&'static str>, Ran)>;
}

struct OperationRunner<O: Operation> {
    app: O::App,
}

impl<O: Operation> Runner for OperationRunner<O> {
    fn attempts(&self) -> u32 {
        O::ATTEMPTS
    }

    fn run(&self, task: TaskContext, give_up: Option<Failure>) -> BoxFuture<'static, (Option<&'static str>, Ran)> {
        let app = self.app.clone();
        Box::pin(async move {
            let Ok(state) = serde_json::from_str::<O>(&task.row.state) else {
                let reason = format!("this version cannot read the state of the running operation {}", O::KIND);
                tracing::error!(resource = task.row.resource, kind = O::KIND, "{reason}");
                let record = O::unreadable(&app, &task.row.resource, &reason);
                return (None, Ran::Fail { message: reason, record });
            };
            let event = state.event();
            if let Some(failure) = give_up {
                return (event, erase(state.failed(&app, &task, &failure)));
            }
            let deadline = state.deadline();
            let result = match tokio::time::timeout(deadline, state.advance(&app, &task)).await {
                Ok(result) => result,
                Err(_) => Err(Failure::retry(format!("The step did not end within {} s.", deadline.as_secs()))),
            };
            (event, result.map_or_else(Ran::Retry, erase))
        })
    }
}

fn erase<O: Operation>(step: Step<O>) -> Ran {
    match step {
        Step::Next(state, record) => match encode(&state) {
            Ok(state) => Ran::Next { state, record },
            Err(error) => Ran::Retry(error.into()),
        },
        Step::Done(record) => Ran::Done { record },
        Step::Fail(message, record) => Ran::Fail { message, record },
        Step::Wait(pause) => Ran::Wait(pause),
    }
}

/// Collects what the engine can run.
pub struct EngineBuilder {
    db: Db,
    clock: Clock,
    faults: Faults,
    runners: HashMap<&'static str, Arc<dyn Runner>>,
    reconcilers: Vec<Reconciler>,
}

impl fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.runners.keys()).finish()
    }
}

impl EngineBuilder {
    #[must_use]
    pub fn new(db: Db, clock: Clock, faults: Faults) -> Self {
        Self { db, clock, faults, runners: HashMap::new(), reconcilers: Vec::new() }
    }

    /// Makes an operation known.
    #[must_use]
    pub fn operation<O: Operation>(mut self, app: O::App) -> Self {
        self.runners.insert(O::KIND, Arc::new(OperationRunner::<O> { app }));
        self
    }

    /// Adds reconcilers.
    #[must_use]
    pub fn reconcilers(mut self, reconcilers: Vec<Reconciler>) -> Self {
        self.reconcilers.extend(reconcilers);
        self
    }

    /// The kinds known, sorted: rows of released kinds must stay readable.
    #[must_use]
    pub fn kinds(&self) -> Vec<&'static str> {
        let mut kinds: Vec<_> = self.runners.keys().copied().collect();
        kinds.sort_unstable();
        kinds
    }

    /// Starts the loop and the reconcilers on the current runtime. Operations of an earlier process go on where they were.
    #[must_use]
    pub fn start(self) -> Engine {
        let inner = Arc::new(Inner {
            db: self.db,
            clock: self.clock,
            faults: self.faults,
            runners: self.runners,
            lanes: Arc::new(Semaphore::new(LANES)),
            busy: Mutex::new(HashSet::new()),
            again: Notify::new(),
            stop: CancellationToken::new(),
            tracker: TaskTracker::new(),
            rounds: Rounds::default(),
        });
        inner.tracker.spawn(Arc::clone(&inner).run());
        for reconciler in self.reconcilers {
            let (stop, faults) = (inner.stop.clone(), inner.faults.clone());
            inner.tracker.spawn(reconciler.run(stop, faults, inner.rounds.clone(), inner.clock.clone()));
        }
        Engine { inner }
    }
}

/// The running engine.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Engine")
    }
}

impl Engine {
    /// How the last round of each reconciler ended, by name.
    #[must_use]
    pub fn rounds(&self) -> Vec<Round> {
        self.inner.rounds.list()
    }

    /// Starts no further step and waits a little for those under way.
    pub async fn stop(&self) {
        self.inner.stop.cancel();
        self.inner.tracker.close();
        if self.inner.faults.dead() {
            return;
        }
        if tokio::time::timeout(STOP_WAIT, self.inner.tracker.wait()).await.is_err() {
            tracing::warn!("steps are cut off; they run again at the next start");
        }
    }
}

struct Inner {
    db: Db,
    clock: Clock,
    faults: Faults,
    runners: HashMap<&'static str, Arc<dyn Runner>>,
    lanes: Arc<Semaphore>,
    /// Resources whose lane runs.
    busy: Mutex<HashSet<String>>,
    /// A lane ended; its resource may have a new operation.
    again: Notify,
    stop: CancellationToken,
    tracker: TaskTracker,
    rounds: Rounds,
}

impl Inner {
    async fn run(self: Arc<Self>) {
        let mut changes = self.db.changes("tasks");
        loop {
            let now_ms = self.now_ms();
            let pause = match self.db.read(move |tx| rows::due(tx, now_ms)).await {
                Ok((due, next)) => {
                    for resource in due {
                        self.open_lane(resource);
                    }
                    let wait_ms = next.map_or(60_000, |next| next.saturating_sub(now_ms).clamp(1, 60_000));
                    Duration::from_millis(wait_ms.unsigned_abs())
                }
                Err(error) => {
                    tracing::error!(%error, "running operations cannot be read");
                    Duration::from_secs(1)
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = changes.changed() => {}
                () = self.again.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn open_lane(self: &Arc<Self>, resource: String) {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if !busy.insert(resource.clone()) {
            return;
        }
        drop(busy);
        let inner = Arc::clone(self);
        self.tracker.spawn(async move {
            if let Ok(_permit) = inner.lanes.acquire().await {
                inner.lane(&resource).await;
            }
            inner.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&resource);
            inner.again.notify_one();
        });
    }

    async fn lane(&self, resource: &str) {
        let mut pauses = 0_u32;
        while !self.stop.is_cancelled() {
            let (name, now_ms) = (resource.to_owned(), self.now_ms());
            match self.db.read(move |tx| rows::find_due(tx, &name, now_ms)).await {
                Ok(Some(row)) => {
                    if let Err(error) = self.step(row).await {
                        tracing::error!(%error, resource, "a step could not be recorded");
                        pauses += 1;
                        tokio::time::sleep(Duration::from_millis(100 << pauses.min(7))).await;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, resource, "the operation cannot be read");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn step(&self, row: TaskRow) -> db::Result<()> {
        let Some(runner) = self.runners.get(row.kind.as_str()) else {
            return self.unknown(row).await;
        };
        let started_at = self.clock.now_text();
        let task = TaskContext { row: row.clone(), db: self.db.clone(), faults: self.faults.clone() };
        let (event, mut ran) = guarded(runner.run(task.clone(), None)).await;
        let mut complaint = None;
        if let Ran::Retry(failure) = ran {
            let attempt = row.attempt + 1;
            let causes = failure.causes();
            if failure.retry && attempt < runner.attempts() {
                tracing::warn!(resource = row.resource, kind = row.kind, attempt, causes, "{}", failure.public);
                let not_before = self.now_ms() + i64::from(500_u32 << attempt.min(6));
                return self
                    .record(row, None, None, move |tx, row| rows::update(tx, row, None, attempt, not_before))
                    .await;
            }
            tracing::warn!(resource = row.resource, kind = row.kind, attempt, causes, "gave up: {}", failure.public);
            complaint = Some(failure.public.clone());
            ran = guarded(runner.run(task, Some(failure))).await.1;
        }
        let event = event.map(|name| (name, started_at));
        let now = self.clock.now_text();
        match ran {
            Ran::Next { state, record } => {
                self.record(row, event, complaint, move |tx, row| {
                    Ok(rows::update(tx, row, Some(&state), 0, 0)? && record(tx).map(|()| true)?)
                })
                .await
            }
            Ran::Done { record } => {
                self.record(row, event, complaint, move |tx, row| {
                    let mine = rows::remove(tx, row)?;
                    if mine {
                        record(tx)?;
                        log::finish(tx, row.generation, &now, Outcome::Success, None)?;
                    }
                    Ok(mine)
                })
                .await
            }
            Ran::Fail { message, record } => {
                self.record(row, event, complaint.or_else(|| Some(message.clone())), move |tx, row| {
                    let mine = rows::remove(tx, row)?;
                    if mine {
                        record(tx)?;
                        log::finish(tx, row.generation, &now, Outcome::Error, Some(&message))?;
                    }
                    Ok(mine)
                })
                .await
            }
            Ran::Wait(pause) => {
                let not_before = self.now_ms() + i64::try_from(pause.as_millis()).unwrap_or(i64::MAX / 2);
                self.record(row, None, None, move |tx, row| rows::update(tx, row, None, row.attempt, not_before)).await
            }
            // `failed` must answer with a step; an operation that cannot even do that is dropped, loudly.
            Ran::Retry(failure) => {
                tracing::error!(
                    resource = row.resource,
                    kind = row.kind,
                    causes = failure.causes(),
                    "lost an operation"
                );
                self.record(row, None, None, rows::remove).await
            }
        }
    }

    /// One transaction: the step's rows and the next state, or nothing at all when the operation was superseded.
    async fn record(
        &self,
        row: TaskRow,
        event: Option<(&'static str, String)>,
        complaint: Option<String>,
        rows: impl FnOnce(&db::Tx<'_>, &TaskRow) -> db::Result<bool> + Send + 'static,
    ) -> db::Result<()> {
        let now = self.clock.now_text();
        self.faults.point().await;
        self.db
            .write(move |tx| {
                if !rows(tx, &row)? {
                    tracing::debug!(resource = row.resource, kind = row.kind, "superseded, nothing recorded");
                    return Ok(());
                }
                if let Some((name, started_at)) = event {
                    log::event(tx, &row, name, &started_at, &now, complaint.as_deref())?;
                }
                Ok::<_, db::Error>(())
            })
            .await?;
        self.faults.point().await;
        Ok(())
    }

    async fn unknown(&self, row: TaskRow) -> db::Result<()> {
        tracing::error!(resource = row.resource, kind = row.kind, "no operation of this kind is known; it waits");
        let later = self.now_ms() + 600_000;
        self.record(row, None, None, move |tx, row| rows::update(tx, row, None, row.attempt, later)).await
    }

    fn now_ms(&self) -> i64 {
        i64::try_from(self.clock.now().unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
    }
}

/// A step that panics has failed; the loop and the other lanes go on.
async fn guarded(step: BoxFuture<'static, (Option<&'static str>, Ran)>) -> (Option<&'static str>, Ran) {
    match tokio::spawn(step).await {
        Ok(ran) => ran,
        Err(error) => (None, Ran::Retry(Failure::retry("An internal error stopped the operation.").caused_by(error))),
    }
}

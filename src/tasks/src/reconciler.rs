//! What merely has to converge: no input, runs on a signal and on a timer, one code path.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use db::{Changes, Clock};
use futures::future::{BoxFuture, select_all};
use tokio_util::sync::CancellationToken;

use crate::Faults;

type Run = Box<dyn Fn() -> BoxFuture<'static, Result<(), Box<dyn std::error::Error + Send + Sync>>> + Send + Sync>;

/// How a reconciler's last round ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    pub name: &'static str,
    pub ended_at: String,
    /// Rounds that failed since the last that did not.
    pub failures: u32,
    /// Why the last one failed.
    pub error: Option<String>,
}

/// The last round of each reconciler.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds(Arc<Mutex<BTreeMap<&'static str, Round>>>);

impl Rounds {
    fn keep(&self, round: Round) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(round.name, round);
    }

    pub(crate) fn list(&self) -> Vec<Round> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// Reads desired rows, looks at the world, applies the difference, skips any resource that has an operation.
pub struct Reconciler {
    name: &'static str,
    every: Duration,
    signals: Vec<Changes>,
    run: Run,
}

impl fmt::Debug for Reconciler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconciler").field("name", &self.name).field("every", &self.every).finish_non_exhaustive()
    }
}

impl Reconciler {
    /// `every` bounds how long a difference can stay; `signals` (`db.changes("network")`) make it short.
    pub fn new<F, R>(name: &'static str, every: Duration, signals: Vec<Changes>, run: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    {
        Self { name, every, signals, run: Box::new(move || Box::pin(run())) }
    }

    pub(crate) async fn run(mut self, stop: CancellationToken, faults: Faults, rounds: Rounds, clock: Clock) {
        let mut failures = 0_u32;
        loop {
            if faults.dead() {
                return;
            }
            // A signal that arrives while the round runs is seen by the next wait: it is only marked as seen there.
            let round = tokio::spawn((self.run)());
            let result = tokio::select! {
                () = stop.cancelled() => return,
                result = round => result,
            };
            let error = match result {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            failures = if error.is_some() { failures + 1 } else { 0 };
            rounds.keep(Round { name: self.name, ended_at: clock.now_text(), failures, error: error.clone() });
            let pause = match error {
                None => self.every,
                Some(error) => {
                    tracing::warn!(reconciler = self.name, failures, error, "round failed");
                    self.every.min(Duration::from_millis(500 << failures.min(7)))
                }
            };
            let signal = async {
                if self.signals.is_empty() {
                    std::future::pending::<()>().await;
                }
                select_all(self.signals.iter_mut().map(|changes| Box::pin(changes.changed()))).await;
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = signal => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

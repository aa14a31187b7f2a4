//! Counters that move with every committed write to a service's tables.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

/// A service's counter. Read it before the data that is cached under it.
#[derive(Clone, Debug)]
pub struct Generation {
    value: Arc<AtomicU64>,
    signal: Arc<watch::Sender<u64>>,
}

impl Generation {
    fn new() -> Self {
        Self { value: Arc::new(AtomicU64::new(1)), signal: Arc::new(watch::channel(1).0) }
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.value.load(Ordering::Acquire)
    }

    /// A receiver that wakes when the counter moves.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes(self.signal.subscribe())
    }

    /// Moves the counter without a write: for tests and for facts outside the database.
    pub fn bump(&self) {
        let value = self.value.fetch_add(1, Ordering::AcqRel) + 1;
        self.signal.send_replace(value);
    }
}

/// Wakes after writes; several writes between two waits wake once.
#[derive(Clone, Debug)]
pub struct Changes(watch::Receiver<u64>);

impl Changes {
    /// Returns after the next write since the last call, or never once the database is closed.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// All counters, by service.
#[derive(Debug, Default)]
pub(crate) struct Generations(Mutex<HashMap<String, Generation>>);

impl Generations {
    pub(crate) fn of(&self, service: &str) -> Generation {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.entry(service.to_owned()).or_insert_with(Generation::new).clone()
    }
}

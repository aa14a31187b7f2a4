//! Places where a process could die. The crash tests count them and die at each one in turn.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Counts the points passed, and stops everything at one of them when told to. The default never stops anything.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    passed: AtomicU64,
    /// 0: never.
    die_at: AtomicU64,
    dead: AtomicBool,
}

impl Faults {
    /// Dies at the `n`th point from the beginning, counted from 1.
    #[must_use]
    pub fn dying_at(n: u64) -> Self {
        let faults = Self::default();
        faults.inner.die_at.store(n, Ordering::SeqCst);
        faults
    }

    /// How many points were passed.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.inner.passed.load(Ordering::SeqCst)
    }

    #[must_use]
    pub fn dead(&self) -> bool {
        self.inner.dead.load(Ordering::SeqCst)
    }

    /// One place to die. A dead process passes no further point: this never returns then.
    pub async fn point(&self) {
        if !self.dead() {
            let n = self.inner.passed.fetch_add(1, Ordering::SeqCst) + 1;
            if n != self.inner.die_at.load(Ordering::SeqCst) {
                return;
            }
            self.inner.dead.store(true, Ordering::SeqCst);
        }
        pending::<()>().await;
    }
}

//! How many requests there were, how they ended, and how long they took: by service and route pattern, never by what
//! stood in a path. Room for all of it is made when the services are mounted, so a request costs a few additions.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use db::measure::{Durations, Histogram};
use http::StatusCode;

/// The statuses that HTTP has.
const FIRST: u16 = 100;
const COUNT: usize = 500;

/// How requests ended.
#[derive(Debug)]
pub(crate) struct Statuses(Box<[AtomicU64]>);

impl Statuses {
    pub(crate) fn new() -> Self {
        Self((0..COUNT).map(|_| AtomicU64::new(0)).collect())
    }

    pub(crate) fn add(&self, status: StatusCode) {
        if let Some(one) = self.0.get(usize::from(status.as_u16().wrapping_sub(FIRST))) {
            one.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Those that there were.
    fn read(&self) -> Vec<(u16, u64)> {
        let counts = (FIRST..).zip(&self.0[..]).map(|(status, count)| (status, count.load(Ordering::Relaxed)));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

/// What is counted of one service.
#[derive(Debug)]
pub(crate) struct ServiceMeter {
    statuses: Statuses,
    /// What no route answered: version documents, paths that do not exist, versions that are not spoken.
    pub(crate) other: Arc<Histogram>,
}

impl ServiceMeter {
    pub(crate) fn new() -> Self {
        Self { statuses: Statuses::new(), other: Arc::default() }
    }

    pub(crate) fn add(&self, route: &Histogram, status: StatusCode, took: Duration) {
        self.statuses.add(status);
        route.add(took);
    }

    pub(crate) fn statuses(&self) -> Vec<(u16, u64)> {
        self.statuses.read()
    }
}

/// The requests of one service since the program started.
#[derive(Clone, Debug)]
pub struct Requests {
    /// The service type; `pages` for what belongs to no service.
    pub service: &'static str,
    /// How many ended with each status.
    pub statuses: Vec<(u16, u64)>,
    /// Method, route pattern, and how long it took until the head of the answer was there. Without method and pattern: what no
    /// route answered. Routes that nobody asked for are not here.
    pub durations: Vec<(&'static str, &'static str, Durations)>,
}

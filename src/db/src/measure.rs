//! Counting without locks: what the writer does, and a histogram that others may use for their own durations.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Upper bounds of the buckets of every duration, in microseconds: from what memory answers to what a person gives up on.
pub const BOUNDS_US: [u64; 12] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000, 30_000_000];

/// Durations by how long they took. Two additions for each.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One for each bound, and one for what took longer than all of them.
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_ns: AtomicU64,
}

/// A histogram at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// How many took no longer than the bound of the same place; the last one counts all of them.
    pub up_to: [u64; BOUNDS_US.len() + 1],
    pub sum_ns: u64,
}

impl Durations {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.up_to[BOUNDS_US.len()]
    }
}

impl Histogram {
    pub fn add(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    #[must_use]
    pub fn read(&self) -> Durations {
        let mut durations = Durations { sum_ns: self.sum_ns.load(Ordering::Relaxed), ..Durations::default() };
        let mut sum = 0;
        for (up_to, bucket) in durations.up_to.iter_mut().zip(&self.buckets) {
            sum += bucket.load(Ordering::Relaxed);
            *up_to = sum;
        }
        durations
    }
}

/// What the writer counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub waiting: AtomicU64,
    pub writes: AtomicU64,
    pub failed: AtomicU64,
    pub commits: Histogram,
}

/// What the writer has done and has before it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Activity {
    /// Writes that wait for their turn.
    pub waiting: u64,
    /// Writes that were taken up.
    pub writes: u64,
    /// Commits that failed, with all the writes that shared them.
    pub failed: u64,
    /// How long commits took to be on the disk.
    pub commits: Durations,
}

impl Counters {
    pub(crate) fn read(&self) -> Activity {
        Activity {
            waiting: self.waiting.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            commits: self.commits.read(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_every_bucket_that_is_long_enough() {
        let histogram = Histogram::default();
        for us in [500, 501, 40_000_000] {
            histogram.add(Duration::from_micros(us));
        }
        let read = histogram.read();
        assert_eq!((read.up_to[0], read.up_to[1], read.up_to[11], read.count()), (1, 2, 2, 3));
        assert_eq!(read.sum_ns, 40_001_001_000);
    }
}

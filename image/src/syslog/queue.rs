//! What waits to be sent: bounded by number and by bytes, so that a server that is away costs a fixed amount of memory.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

const MESSAGES_MAX: usize = 8192;
const BYTES_MAX: usize = 2 << 20;
/// What is written at once.
const BATCH_BYTES: usize = 32 << 10;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    counts: Counts,
}

/// How many messages went which way since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub sent: u64,
    /// The queue was full.
    pub lost: u64,
    pub waiting: u64,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message at the end, or counts it as lost.
    pub(crate) fn put(&self, message: Vec<u8>) {
        let mut state = self.state();
        if state.waiting.len() >= MESSAGES_MAX || state.bytes + message.len() > BYTES_MAX {
            state.counts.lost += 1;
            return;
        }
        state.bytes += message.len();
        state.waiting.push_back(message);
        drop(state);
        self.changed.notify_all();
    }

    /// The oldest messages as one, and how many they are. Waits until there is one.
    pub(crate) fn first(&self) -> (Vec<u8>, usize) {
        let mut state = self.state();
        while state.waiting.is_empty() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let (mut bytes, mut count) = (Vec::new(), 0);
        for message in &state.waiting {
            if count > 0 && bytes.len() + message.len() > BATCH_BYTES {
                break;
            }
            bytes.extend_from_slice(message);
            count += 1;
        }
        (bytes, count)
    }

    /// The oldest so many are sent.
    pub(crate) fn sent(&self, count: usize) {
        let mut state = self.state();
        for _ in 0..count {
            if let Some(message) = state.waiting.pop_front() {
                state.bytes -= message.len();
                state.counts.sent += 1;
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    pub(crate) fn counts(&self) -> Counts {
        let state = self.state();
        Counts { waiting: state.waiting.len() as u64, ..state.counts }
    }

    pub(crate) fn wait_until_empty(&self, patience: Duration) {
        let end = Instant::now() + patience;
        let mut state = self.state();
        while !state.waiting.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_keeps_the_oldest_and_counts_the_rest() {
        let queue = Queue::default();
        for _ in 0..MESSAGES_MAX + 10 {
            queue.put(b"1 x".to_vec());
        }
        assert_eq!(queue.counts(), Counts { sent: 0, lost: 10, waiting: MESSAGES_MAX as u64 });
        let queue = Queue::default();
        for _ in 0..3 {
            queue.put(vec![b'x'; BYTES_MAX / 2]);
        }
        assert_eq!((queue.counts().waiting, queue.counts().lost), (2, 1));
        let (bytes, count) = queue.first();
        assert_eq!((bytes.len(), count), (BYTES_MAX / 2, 1), "what is larger than a batch goes alone");
        queue.sent(count);
        assert_eq!(queue.counts(), Counts { sent: 1, lost: 1, waiting: 1 });
        queue.wait_until_empty(Duration::from_millis(1));
    }
}

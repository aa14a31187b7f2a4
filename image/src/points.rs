//! Places at which a test lets the machine lose its power.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Counts the places that are passed, and in tests dies at one of them.
#[derive(Clone, Debug, Default)]
pub struct Points(Option<Arc<AtomicU32>>);

/// What a test catches: the power was cut here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowerCut;

impl Points {
    /// The power is cut at the place that is passed as the `nth`, 1 the first.
    #[must_use]
    pub fn cut_at(nth: u32) -> Self {
        Self(Some(Arc::new(AtomicU32::new(nth))))
    }

    /// Unwinding skips all that only runs on an error, as a power cut does: so what is undone is undone by code on the
    /// error's way, never by a destructor.
    pub(crate) fn pass(&self) {
        if let Some(left) = &self.0
            && left.fetch_sub(1, Ordering::SeqCst) == 1
        {
            std::panic::panic_any(PowerCut);
        }
    }
}

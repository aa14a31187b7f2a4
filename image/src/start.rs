//! What was left to be done at the next start, done before anything else looks at the state.

use std::path::Path;

use crate::files::{Lock, Result};
use crate::points::Points;
use crate::{reset, swap};

/// What a start did before it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Obeyed {
    pub reset: Option<reset::What>,
    /// A restore that was cut off came to its end.
    pub restored: bool,
}

impl Obeyed {
    /// Whether the configuration may be another one now.
    #[must_use]
    pub fn anything(self) -> bool {
        self.reset.is_some() || self.restored
    }
}

/// Brings to an end what was decided before: a restore, a reset. Cheap when there is nothing.
///
/// # Errors
/// When the state is in use, or something cannot be moved or removed: the next start goes on where this one stopped.
pub fn obey(state: &Path) -> Result<Obeyed> {
    if !state.is_dir() {
        return Ok(Obeyed::default());
    }
    let _lock = Lock::take(state)?;
    obey_locked(state, &Points::default())
}

pub(crate) fn obey_locked(state: &Path, points: &Points) -> Result<Obeyed> {
    let restored = swap::finish(state, points)?;
    let reset = reset::obey(state, points)?;
    Ok(Obeyed { reset, restored })
}

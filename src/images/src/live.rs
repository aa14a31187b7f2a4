//! The transfers and conversions of this process: what the reconciler must not touch, and what a delete must stop.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

#[derive(Clone, Debug, Default)]
pub struct Live {
    by_work: Arc<Mutex<HashMap<String, Entry>>>,
}

#[derive(Debug)]
struct Entry {
    image_id: String,
    cancel: Cancel,
}

/// Ends a transfer (async) or a conversion (blocking).
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    pub token: CancellationToken,
    pub flag: Arc<AtomicBool>,
}

/// While it lives, the work is under way.
#[derive(Debug)]
pub struct Guard {
    live: Live,
    pub work_id: String,
    pub cancel: Cancel,
}

impl Live {
    /// Call before anything of the work can be seen outside.
    pub fn register(&self, image_id: &str, work_id: &str) -> Guard {
        let cancel = Cancel::default();
        let entry = Entry { image_id: image_id.to_owned(), cancel: cancel.clone() };
        self.lock().insert(work_id.to_owned(), entry);
        Guard { live: self.clone(), work_id: work_id.to_owned(), cancel }
    }

    pub fn has_work(&self, work_id: &str) -> bool {
        self.lock().contains_key(work_id)
    }

    pub fn has_image(&self, image_id: &str) -> bool {
        self.lock().values().any(|entry| entry.image_id == image_id)
    }

    /// Stops whatever is done for an image that no longer exists.
    pub fn cancel_image(&self, image_id: &str) {
        for entry in self.lock().values().filter(|entry| entry.image_id == image_id) {
            entry.cancel.token.cancel();
            entry.cancel.flag.store(true, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.by_work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.live.lock().remove(&self.work_id);
    }
}

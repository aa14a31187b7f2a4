//! Uploads under way through the dashboard: how far each is, for whoever may see its image.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::model::Image;
use crate::{
    Dashboard,
    api::{Service, encoded},
    failure::Result,
    visit::Visit,
};

/// How far one is.
#[derive(Debug)]
pub struct Progress {
    received: AtomicU64,
    /// About: the form's other fields are counted, too.
    total: Option<u64>,
}

/// All of them, by image.
#[derive(Clone, Debug, Default)]
pub(crate) struct Uploads(Arc<Mutex<HashMap<String, Arc<Progress>>>>);

/// Takes the upload off the list when it is over, however it ended.
pub(crate) struct Underway {
    uploads: Uploads,
    id: String,
    pub progress: Arc<Progress>,
}

impl Uploads {
    pub(crate) fn begin(&self, id: &str, total: Option<u64>) -> Underway {
        let progress = Arc::new(Progress { received: AtomicU64::new(0), total });
        self.map(|map| map.insert(id.to_owned(), Arc::clone(&progress)));
        Underway { uploads: self.clone(), id: id.to_owned(), progress }
    }

    pub(crate) fn find(&self, id: &str) -> Option<Arc<Progress>> {
        self.map(|map| map.get(id).cloned())
    }

    fn map<T>(&self, act: impl FnOnce(&mut HashMap<String, Arc<Progress>>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.uploads.map(|map| map.remove(&self.id));
    }
}

impl Progress {
    pub(crate) fn add(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn percent(&self) -> Option<u64> {
        let total = self.total.filter(|total| *total > 0)?;
        Some((self.received().saturating_mul(100) / total).min(100))
    }
}

/// `GET /images/{id}/progress`: for the script of the page.
pub(super) async fn show(visit: Visit, State(dashboard): State<Dashboard>, Path(id): Path<String>) -> Result<Response> {
    let image: Image = visit.api.get(Service::Images, &format!("/images/{}", encoded(&id))).await?;
    let progress = dashboard.uploads.find(&image.id);
    let body = json!({
        "status": image.status,
        "received": progress.as_ref().map(|progress| progress.received()),
        "percent": progress.as_ref().and_then(|progress| progress.percent()),
    });
    Ok(Json(body).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_known_while_it_lasts() {
        let uploads = Uploads::default();
        let underway = uploads.begin("a", Some(200));
        underway.progress.add(50);
        assert_eq!(uploads.find("a").and_then(|progress| progress.percent()), Some(25));
        drop(underway);
        assert!(uploads.find("a").is_none());
    }
}

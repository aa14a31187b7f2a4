//! Images: `/images` and below.

mod actions;
mod detail;
mod edit;
mod format;
mod index;
pub(crate) mod model;
mod upload;
pub(crate) mod uploads;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post},
};

use crate::Dashboard;

pub(crate) fn routes() -> Router<Dashboard> {
    Router::new()
        .route("/images", get(index::show))
        .route("/images/actions", post(actions::many))
        // The bytes pass through; the Image service says how many there may be.
        .route("/images/new", get(upload::form).post(upload::create).layer(DefaultBodyLimit::disable()))
        .route("/images/import", get(upload::import_form).post(upload::import))
        .route("/images/{id}", get(detail::show))
        .route("/images/{id}/edit", get(edit::form).post(edit::update))
        .route("/images/{id}/actions", post(actions::one))
        .route("/images/{id}/members", post(actions::members))
        .route("/images/{id}/progress", get(uploads::show))
        .route("/images/{id}/download", get(detail::download))
}

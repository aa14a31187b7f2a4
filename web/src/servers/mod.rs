//! Servers: `/servers` and below.

mod actions;
mod choices;
pub(crate) mod detail;
pub(crate) mod events;
mod forms;
mod index;
mod interfaces;
mod launch;
mod log;
mod metrics;
pub(crate) mod model;
pub(crate) mod quota;
mod verbs;

use axum::{
    Router,
    routing::{get, post},
};

use crate::Dashboard;

pub(crate) fn routes() -> Router<Dashboard> {
    Router::new()
        .route("/servers", get(index::show))
        .route("/servers/actions", post(actions::many))
        .route("/servers/new", get(launch::show).post(launch::launch))
        .route("/servers/new/outlook", post(launch::outlook))
        .route("/servers/{id}", get(detail::show))
        .route("/servers/{id}/interfaces", get(interfaces::show).post(interfaces::change))
        .route("/servers/{id}/events", get(events::show))
        .route("/servers/{id}/log", get(log::show))
        .route("/servers/{id}/log/download", get(log::download))
        .route("/servers/{id}/metrics", get(metrics::page))
        .route("/servers/{id}/edit", get(forms::show_edit).post(forms::save_edit))
        .route("/servers/{id}/do/{verb}", get(forms::show).post(forms::submit))
}

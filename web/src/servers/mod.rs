//! Servers: `/servers` and below.

mod actions;
mod choices;
mod index;
mod launch;
pub(crate) mod model;
pub(crate) mod quota;

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
}

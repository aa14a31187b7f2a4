//! Servers: `/servers` and below.

mod actions;
mod index;
pub(crate) mod model;

use axum::{
    Router,
    routing::{get, post},
};

use crate::Dashboard;

pub(crate) fn routes() -> Router<Dashboard> {
    Router::new().route("/servers", get(index::show)).route("/servers/actions", post(actions::many))
}

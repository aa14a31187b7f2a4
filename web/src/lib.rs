//! The dashboard: pages made on the server, which use the cloud's APIs in process with the token of whoever is signed in.
//! It can do nothing that the APIs cannot.

mod access;
mod aggregates;
mod api;
mod assets;
mod claim;
mod console;
mod echo;
mod failure;
mod flavors;
mod form;
mod frame;
mod identity;
mod images;
mod keypairs;
mod live;
mod network;
mod overview;
mod scope;
mod search;
mod server_groups;
mod servers;
mod session;
mod settings;
mod show;
mod signin;
mod system;
mod visit;
mod words;

use std::sync::Arc;

use axum::{Router, middleware, routing::get};
use db::{Clock, Db};
use rest::Gateway;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::{CompressionLevel, compression::CompressionLayer};

/// The dashboard of one cloud. Clones share everything.
#[derive(Clone, Debug)]
pub struct Dashboard {
    sessions: session::Sessions,
    door: api::Door,
    region: Arc<str>,
    /// How many pages are followed at once.
    followers: Arc<Semaphore>,
    stop: CancellationToken,
    uploads: images::uploads::Uploads,
}

/// Each costs a task and a look at its page after every change.
const FOLLOWERS_MAX: usize = 256;

impl Dashboard {
    /// Sessions are kept in `db`.
    #[must_use]
    pub fn new(db: Db, clock: Clock, region: &str) -> Self {
        Self {
            sessions: session::Sessions { db, clock },
            door: api::Door::default(),
            region: region.into(),
            followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
            stop: CancellationToken::new(),
            uploads: images::uploads::Uploads::default(),
        }
    }

    /// All pages.
    pub fn router(&self) -> Router {
        let pages = Router::new()
            .merge(overview::routes())
            .merge(servers::routes())
            .merge(network::routes())
            .merge(images::routes())
            .merge(keypairs::routes())
            .merge(flavors::routes())
            .merge(aggregates::routes())
            .merge(server_groups::routes())
            .merge(identity::routes())
            .merge(console::routes())
            .merge(scope::routes())
            .merge(access::routes())
            .merge(search::routes())
            .merge(system::routes())
            .merge(settings::routes())
            .merge(signin::routes())
            .merge(claim::routes())
            .merge(live::routes())
            .fallback(async || http::StatusCode::NOT_FOUND)
            .layer(middleware::from_fn_with_state(self.clone(), visit::guard))
            .with_state(self.clone());
        Router::new()
            .route("/static/{version}/{*name}", get(assets::show))
            .fallback_service(pages)
            // Beyond the fastest, time buys little of a page.
            .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
    }

    /// The gateway that answers the dashboard's requests, once there is one. Until then pages say that the cloud is starting.
    pub fn connect(&self, gateway: &Arc<Gateway>) {
        self.door.connect(gateway);
    }

    /// Lets go of the browsers that follow pages: they come again.
    pub fn close(&self) {
        self.stop.cancel();
    }
}

//! The pages of the network: networks and their subnets, ports, routers, floating IPs, security groups, and the picture of
//! it all.

mod addresses;
mod bulk;
mod fields;
mod floating_ips;
mod lists;
mod model;
mod networks;
mod ports;
mod routers;
mod subnets;

use axum::Router;

use crate::Dashboard;

pub(crate) fn routes() -> Router<Dashboard> {
    Router::new()
        .merge(networks::routes())
        .merge(subnets::routes())
        .merge(ports::routes())
        .merge(routers::routes())
        .merge(floating_ips::routes())
}

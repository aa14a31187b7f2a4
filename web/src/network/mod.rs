//! The pages of the network: networks and their subnets, ports, routers, floating IPs, security groups, and the picture of
//! it all.

mod addresses;
mod bulk;
mod floating_ips;
mod groups;
mod lists;
mod model;
mod networks;
mod ports;
mod routers;
mod simulator;
mod subnets;
mod topology;

use axum::Router;

use crate::Dashboard;

pub(crate) fn routes() -> Router<Dashboard> {
    Router::new()
        .merge(networks::routes())
        .merge(subnets::routes())
        .merge(ports::routes())
        .merge(routers::routes())
        .merge(floating_ips::routes())
        .merge(groups::routes())
        .merge(topology::routes())
}

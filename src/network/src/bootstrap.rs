//! The first networks, and the pieces that make a network with a subnet and a router for whoever asks without details.

use db::{Tx, params};
use ipnet::IpNet;
use rest::Result;

use crate::{
    App, ip, networks,
    networks::{handlers::MTU_DEFAULT_BYTES, store::Network},
    routers::{self, handlers::GatewayAsk, store::Router},
    security_groups,
    subnets::{
        self, model,
        store::{SLAAC, Subnet},
    },
};

pub(crate) async fn run(app: &App, admin_project_id: &str) -> Result<()> {
    let (app, project) = (app.clone(), admin_project_id.to_owned());
    app.db
        .clone()
        .write(move |tx| {
            if tx.exists("SELECT 1 FROM network_bootstrap", [])? {
                return Ok(());
            }
            first_networks(tx, &app, &project)?;
            tx.execute("INSERT INTO network_bootstrap (id, done_at) VALUES (1, ?1)", params![app.now()])?;
            Ok(())
        })
        .await
}

fn first_networks(tx: &Tx<'_>, app: &App, project: &str) -> Result<()> {
    let mut public = network(app, project, "public");
    public.external = true;
    public.is_default = true;
    "flat".clone_into(&mut public.provider_type);
    public.provider_physical = Some("public".to_owned());
    networks::store::insert(tx, &public)?;
    let mut outside = subnet(app, &public, "public-subnet", app.options.external_cidr);
    outside.enable_dhcp = false;
    subnets::handlers::insert(tx, app, &public, &outside)?;

    let private = network(app, project, "private");
    networks::store::insert(tx, &private)?;
    let inside = subnet(app, &private, "private-subnet", app.options.private_cidr);
    subnets::handlers::insert(tx, app, &private, &inside)?;

    let mut router = routers::handlers::blank(app, project, "router1");
    routers::store::insert(tx, &router)?;
    connect(tx, app, &mut router, &public.id, &inside)?;
    if let Some(cidr) = app.options.private_cidr_v6 {
        let mut inside = subnet(app, &private, "private-subnet-v6", cidr);
        inside.ra_mode = Some(SLAAC.to_owned());
        inside.address_mode = Some(SLAAC.to_owned());
        subnets::handlers::insert(tx, app, &private, &inside)?;
        routers::interfaces::add_subnet(tx, app, &router, &inside)?;
    }
    security_groups::store::ensure_default(tx, app, project)?;
    Ok(())
}

/// Gives a router its gateway and an interface.
pub(crate) fn connect(tx: &Tx<'_>, app: &App, router: &mut Router, outside: &str, inside: &Subnet) -> Result<()> {
    let gateway = GatewayAsk { network_id: outside.to_owned(), enable_snat: None, asks: None };
    routers::handlers::set_gateway(tx, app, router, gateway)?;
    let now = app.now();
    routers::store::update(tx, router, &now)?;
    routers::interfaces::add_subnet(tx, app, router, inside)?;
    Ok(())
}

/// A network as a member makes one.
pub(crate) fn network(app: &App, project: &str, name: &str) -> Network {
    let now = app.now();
    Network {
        id: rest::new_uuid(),
        project_id: project.to_owned(),
        name: name.to_owned(),
        description: String::new(),
        admin_state_up: true,
        shared: false,
        external: false,
        is_default: false,
        mtu: MTU_DEFAULT_BYTES,
        port_security_enabled: true,
        dns_domain: String::new(),
        provider_type: "local".to_owned(),
        provider_physical: None,
        problem: None,
        revision: 1,
        created_at: now.clone(),
        updated_at: now,
    }
}

/// A subnet with the usual gateway and pool, and DHCP.
pub(crate) fn subnet(app: &App, network: &Network, name: &str, cidr: IpNet) -> Subnet {
    let now = app.now();
    let gateway = Some(model::default_gateway(cidr));
    Subnet {
        id: rest::new_uuid(),
        network_id: network.id.clone(),
        project_id: network.project_id.clone(),
        name: name.to_owned(),
        description: String::new(),
        ip_version: if cidr.addr().is_ipv4() { 4 } else { 6 },
        cidr,
        gateway,
        enable_dhcp: true,
        ra_mode: None,
        address_mode: None,
        pools: ip::default_pools(cidr, gateway),
        dns: Vec::new(),
        routes: Vec::new(),
        service_types: Vec::new(),
        pool_id: None,
        revision: 1,
        created_at: now.clone(),
        updated_at: now,
    }
}

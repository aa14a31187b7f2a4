//! The URL table.

use rest::{Route, delete, get, post, put};

use crate::{
    App, agents, auto_topology, availability, extensions, floatingips, networks, ports, quotas, routers,
    security_groups, subnetpools, subnets, tags,
};

pub(crate) fn table() -> Vec<Route<App>> {
    use floatingips::{handlers as fip, policy as fip_rules};
    use networks::{handlers as net, policy as net_rules};
    use ports::{handlers as port, policy as port_rules};
    use routers::{handlers as router, interfaces, policy as router_rules};
    use security_groups::{handlers as group, policy as group_rules, rules as group_rule};
    use subnetpools::{handlers as pool, policy as pool_rules};
    use subnets::{handlers as subnet, policy as subnet_rules};
    vec![
        get("/v2.0", extensions::resources).public(),
        get("/v2.0/extensions", extensions::index).any_token(),
        get("/v2.0/extensions/{alias}", extensions::show).any_token(),
        get("/v2.0/networks", net::index).rules(net_rules::GETS),
        post("/v2.0/networks", net::create).rules(net_rules::CREATES),
        get("/v2.0/networks/{id}", net::show).rules(net_rules::GETS),
        put("/v2.0/networks/{id}", net::update).rules(net_rules::UPDATES),
        delete("/v2.0/networks/{id}", net::delete).rule(net_rules::DELETE),
        get("/v2.0/subnets", subnet::index).rule(subnet_rules::GET_ONE),
        post("/v2.0/subnets", subnet::create).rules(&[subnet_rules::CREATE, subnet_rules::CREATE_SERVICE_TYPES]),
        get("/v2.0/subnets/{id}", subnet::show).rule(subnet_rules::GET_ONE),
        put("/v2.0/subnets/{id}", subnet::update).rules(&[subnet_rules::UPDATE, subnet_rules::UPDATE_SERVICE_TYPES]),
        delete("/v2.0/subnets/{id}", subnet::delete).rule(subnet_rules::DELETE),
        get("/v2.0/subnetpools", pool::index).rule(pool_rules::GET_ONE),
        post("/v2.0/subnetpools", pool::create).rules(&[
            pool_rules::CREATE,
            pool_rules::CREATE_SHARED,
            pool_rules::CREATE_DEFAULT,
        ]),
        get("/v2.0/subnetpools/{id}", pool::show).rule(pool_rules::GET_ONE),
        put("/v2.0/subnetpools/{id}", pool::update).rules(&[pool_rules::UPDATE, pool_rules::UPDATE_DEFAULT]),
        delete("/v2.0/subnetpools/{id}", pool::delete).rule(pool_rules::DELETE),
        get("/v2.0/ports", port::index).rules(port_rules::GETS),
        post("/v2.0/ports", port::create).rules(port_rules::CREATES),
        get("/v2.0/ports/{id}", port::show).rules(port_rules::GETS),
        put("/v2.0/ports/{id}", port::update).rules(port_rules::UPDATES),
        delete("/v2.0/ports/{id}", port::delete).rule(port_rules::DELETE),
        get("/v2.0/routers", router::index).rule(router_rules::GET_ONE),
        post("/v2.0/routers", router::create).rules(router_rules::CREATES),
        get("/v2.0/routers/{id}", router::show).rule(router_rules::GET_ONE),
        put("/v2.0/routers/{id}", router::update).rules(router_rules::UPDATES),
        delete("/v2.0/routers/{id}", router::delete).rule(router_rules::DELETE),
        put("/v2.0/routers/{id}/add_router_interface", interfaces::add).rule(router_rules::ADD_INTERFACE),
        put("/v2.0/routers/{id}/remove_router_interface", interfaces::remove).rule(router_rules::REMOVE_INTERFACE),
        put("/v2.0/routers/{id}/add_extraroutes", router::add_routes).rule(router_rules::ADD_ROUTES),
        put("/v2.0/routers/{id}/remove_extraroutes", router::remove_routes).rule(router_rules::REMOVE_ROUTES),
        get("/v2.0/routers/{id}/l3-agents", agents::of_router).rule(agents::GET_L3),
        get("/v2.0/networks/{id}/dhcp-agents", agents::of_network).rule(agents::GET_DHCP),
        get("/v2.0/floatingips", fip::index).rule(fip_rules::GET_ONE),
        post("/v2.0/floatingips", fip::create).rules(&[fip_rules::CREATE, fip_rules::CREATE_ADDRESS]),
        get("/v2.0/floatingips/{id}", fip::show).rule(fip_rules::GET_ONE),
        put("/v2.0/floatingips/{id}", fip::update).rule(fip_rules::UPDATE),
        delete("/v2.0/floatingips/{id}", fip::delete).rule(fip_rules::DELETE),
        get("/v2.0/security-groups", group::index).rule(group_rules::GET_ONE),
        post("/v2.0/security-groups", group::create).rule(group_rules::CREATE),
        get("/v2.0/security-groups/{id}", group::show).rule(group_rules::GET_ONE),
        put("/v2.0/security-groups/{id}", group::update).rule(group_rules::UPDATE),
        delete("/v2.0/security-groups/{id}", group::delete).rule(group_rules::DELETE),
        get("/v2.0/security-group-rules", group_rule::index).rule(group_rules::GET_RULE),
        post("/v2.0/security-group-rules", group_rule::create).rule(group_rules::CREATE_RULE),
        get("/v2.0/security-group-rules/{id}", group_rule::show).rule(group_rules::GET_RULE),
        delete("/v2.0/security-group-rules/{id}", group_rule::delete).rule(group_rules::DELETE_RULE),
        get("/v2.0/quotas", quotas::index).rule(quotas::LIST),
        get("/v2.0/quotas/tenant", quotas::tenant).rule(quotas::GET),
        get("/v2.0/quotas/project", quotas::tenant).rule(quotas::GET),
        get("/v2.0/quotas/{project_id}", quotas::show).rule(quotas::GET),
        put("/v2.0/quotas/{project_id}", quotas::update).rule(quotas::UPDATE),
        delete("/v2.0/quotas/{project_id}", quotas::delete).rule(quotas::DELETE),
        get("/v2.0/quotas/{project_id}/default", quotas::defaults).rule(quotas::GET),
        get("/v2.0/quotas/{project_id}/details", quotas::details).rule(quotas::GET),
        // Older clients ask with the extension of the format.
        get("/v2.0/quotas/{project_id}/details.json", quotas::details).rule(quotas::GET),
        get("/v2.0/agents", agents::index).rule(agents::GET),
        get("/v2.0/agents/{id}", agents::show).rule(agents::GET),
        get("/v2.0/agents/{id}/dhcp-networks", agents::dhcp_networks).rule(agents::GET_DHCP_NETWORKS),
        get("/v2.0/agents/{id}/l3-routers", agents::l3_routers).rule(agents::GET_L3_ROUTERS),
        get("/v2.0/availability_zones", agents::zones).rule(agents::GET_ZONES),
        get("/v2.0/service-providers", extensions::providers).rule(extensions::GET_PROVIDERS),
        get("/v2.0/network-ip-availabilities", availability::index).rule(availability::GET),
        get("/v2.0/network-ip-availabilities/{id}", availability::show).rule(availability::GET),
        get("/v2.0/auto-allocated-topology/{project_id}", auto_topology::show).rule(auto_topology::GET),
        delete("/v2.0/auto-allocated-topology/{project_id}", auto_topology::delete).rule(auto_topology::DELETE),
        get("/v2.0/{collection}/{id}/tags", tags::index),
        put("/v2.0/{collection}/{id}/tags", tags::replace),
        delete("/v2.0/{collection}/{id}/tags", tags::clear),
        get("/v2.0/{collection}/{id}/tags/{tag}", tags::show),
        put("/v2.0/{collection}/{id}/tags/{tag}", tags::put),
        delete("/v2.0/{collection}/{id}/tags/{tag}", tags::delete),
    ]
}

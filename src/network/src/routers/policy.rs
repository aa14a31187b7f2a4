use rest::{Rule, rule};

use crate::policy::{ADMIN, MEMBER, READER};

const POST: &[(&str, &str)] = &[("POST", "/routers")];
const PUT: &[(&str, &str)] = &[("PUT", "/routers/{id}")];

pub(crate) const CREATE: Rule = rule("create_router", MEMBER, "Create a router", POST);
pub(crate) const CREATE_DISTRIBUTED: Rule =
    rule("create_router:distributed", ADMIN, "Choose a distributed router", POST);
pub(crate) const CREATE_HA: Rule = rule("create_router:ha", ADMIN, "Choose a highly available router", POST);
pub(crate) const CREATE_GATEWAY: Rule =
    rule("create_router:external_gateway_info", MEMBER, "Create a router with a gateway", POST);
pub(crate) const CREATE_SNAT: Rule =
    rule("create_router:external_gateway_info:enable_snat", ADMIN, "Choose whether it translates addresses", POST);
pub(crate) const CREATE_GATEWAY_IPS: Rule =
    rule("create_router:external_gateway_info:external_fixed_ips", ADMIN, "Choose the gateway's addresses", POST);
pub(crate) const GET_ONE: Rule =
    rule("get_router", READER, "See a router", &[("GET", "/routers"), ("GET", "/routers/{id}")]);
pub(crate) const UPDATE: Rule = rule("update_router", MEMBER, "Change a router", PUT);
pub(crate) const UPDATE_GATEWAY: Rule =
    rule("update_router:external_gateway_info", MEMBER, "Change a router's gateway", PUT);
pub(crate) const UPDATE_SNAT: Rule =
    rule("update_router:external_gateway_info:enable_snat", ADMIN, "Choose whether it translates addresses", PUT);
pub(crate) const UPDATE_GATEWAY_IPS: Rule =
    rule("update_router:external_gateway_info:external_fixed_ips", ADMIN, "Choose the gateway's addresses", PUT);
pub(crate) const DELETE: Rule = rule("delete_router", MEMBER, "Delete a router", &[("DELETE", "/routers/{id}")]);
pub(crate) const ADD_INTERFACE: Rule = rule(
    "add_router_interface",
    MEMBER,
    "Connect a router to a subnet",
    &[("PUT", "/routers/{id}/add_router_interface")],
);
pub(crate) const REMOVE_INTERFACE: Rule = rule(
    "remove_router_interface",
    MEMBER,
    "Disconnect a router from a subnet",
    &[("PUT", "/routers/{id}/remove_router_interface")],
);
pub(crate) const ADD_ROUTES: Rule =
    rule("add_extraroutes", MEMBER, "Add routes to a router", &[("PUT", "/routers/{id}/add_extraroutes")]);
pub(crate) const REMOVE_ROUTES: Rule =
    rule("remove_extraroutes", MEMBER, "Remove routes of a router", &[("PUT", "/routers/{id}/remove_extraroutes")]);

pub(crate) const CREATES: &[Rule] =
    &[CREATE, CREATE_DISTRIBUTED, CREATE_HA, CREATE_GATEWAY, CREATE_SNAT, CREATE_GATEWAY_IPS];
pub(crate) const UPDATES: &[Rule] = &[UPDATE, UPDATE_GATEWAY, UPDATE_SNAT, UPDATE_GATEWAY_IPS];

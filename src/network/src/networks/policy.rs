use rest::{Rule, rule};

use crate::policy::{ADMIN, MEMBER};

const POST: &[(&str, &str)] = &[("POST", "/networks")];
const GET: &[(&str, &str)] = &[("GET", "/networks"), ("GET", "/networks/{id}")];
const PUT: &[(&str, &str)] = &[("PUT", "/networks/{id}")];

pub(crate) const CREATE: Rule = rule("create_network", MEMBER, "Create a network", POST);
pub(crate) const CREATE_SHARED: Rule = rule("create_network:shared", ADMIN, "Create a shared network", POST);
pub(crate) const CREATE_EXTERNAL: Rule =
    rule("create_network:router:external", ADMIN, "Create an external network", POST);
pub(crate) const CREATE_DEFAULT: Rule =
    rule("create_network:is_default", ADMIN, "Create the default external network", POST);
pub(crate) const CREATE_PORT_SECURITY: Rule =
    rule("create_network:port_security_enabled", MEMBER, "Create a network without port security", POST);
pub(crate) const CREATE_TYPE: Rule =
    rule("create_network:provider:network_type", ADMIN, "Choose the network's type", POST);
pub(crate) const CREATE_PHYSICAL: Rule =
    rule("create_network:provider:physical_network", ADMIN, "Choose the physical network", POST);
pub(crate) const CREATE_SEGMENT: Rule =
    rule("create_network:provider:segmentation_id", ADMIN, "Choose the segment", POST);

pub(crate) const GET_ONE: Rule = rule(
    "get_network",
    "rule:admin_only or (role:reader and project_id:%(project_id)s) or rule:shared or rule:external or rule:service_api",
    "See a network",
    GET,
);
pub(crate) const GET_TYPE: Rule = rule("get_network:provider:network_type", ADMIN, "See the network's type", GET);
pub(crate) const GET_PHYSICAL: Rule =
    rule("get_network:provider:physical_network", ADMIN, "See the physical network", GET);
pub(crate) const GET_SEGMENT: Rule = rule("get_network:provider:segmentation_id", ADMIN, "See the segment", GET);

pub(crate) const UPDATE: Rule = rule("update_network", MEMBER, "Change a network", PUT);
pub(crate) const UPDATE_SHARED: Rule = rule("update_network:shared", ADMIN, "Share a network, or stop", PUT);
pub(crate) const UPDATE_EXTERNAL: Rule =
    rule("update_network:router:external", ADMIN, "Make a network external, or not", PUT);
pub(crate) const UPDATE_DEFAULT: Rule =
    rule("update_network:is_default", ADMIN, "Make it the default external network", PUT);
pub(crate) const UPDATE_PORT_SECURITY: Rule =
    rule("update_network:port_security_enabled", MEMBER, "Change the default of port security", PUT);
pub(crate) const DELETE: Rule = rule("delete_network", MEMBER, "Delete a network", &[("DELETE", "/networks/{id}")]);

pub(crate) const CREATES: &[Rule] = &[
    CREATE,
    CREATE_SHARED,
    CREATE_EXTERNAL,
    CREATE_DEFAULT,
    CREATE_PORT_SECURITY,
    CREATE_TYPE,
    CREATE_PHYSICAL,
    CREATE_SEGMENT,
];
pub(crate) const GETS: &[Rule] = &[GET_ONE, GET_TYPE, GET_PHYSICAL, GET_SEGMENT];
pub(crate) const UPDATES: &[Rule] = &[UPDATE, UPDATE_SHARED, UPDATE_EXTERNAL, UPDATE_DEFAULT, UPDATE_PORT_SECURITY];

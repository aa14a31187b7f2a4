use rest::{Rule, rule};

use crate::policy::{ADMIN_OR_SERVICE, NETWORK_MEMBER};

const POST: &[(&str, &str)] = &[("POST", "/ports")];
const GET: &[(&str, &str)] = &[("GET", "/ports"), ("GET", "/ports/{id}")];
const PUT: &[(&str, &str)] = &[("PUT", "/ports/{id}")];
const NETWORK_OR_SERVICE: &str = "rule:admin_only or rule:service_api or (role:member and rule:network_owner)";
const NETWORK_OR_SERVICE_OR_SHARED: &str =
    "rule:admin_only or rule:service_api or (role:member and rule:network_owner) or rule:shared";
const MEMBER_OR_SERVICE: &str = "rule:admin_only or rule:service_api or (role:member and project_id:%(project_id)s)";
const OWNER_OR_NETWORK_OR_SERVICE: &str = "rule:admin_only or rule:service_api or \
     (role:member and project_id:%(project_id)s) or (role:member and rule:network_owner)";
const DEVICE_OWNER: &str =
    "not rule:network_device or rule:admin_only or rule:service_api or (role:member and rule:network_owner)";

pub(crate) const CREATE: Rule = rule("create_port", MEMBER_OR_SERVICE, "Create a port", POST);
pub(crate) const CREATE_DEVICE_OWNER: Rule =
    rule("create_port:device_owner", DEVICE_OWNER, "Create a port that serves the network", POST);
pub(crate) const CREATE_MAC: Rule = rule("create_port:mac_address", NETWORK_OR_SERVICE, "Choose the MAC address", POST);
pub(crate) const CREATE_FIXED_IPS: Rule =
    rule("create_port:fixed_ips", NETWORK_OR_SERVICE_OR_SHARED, "Choose subnets or addresses", POST);
pub(crate) const CREATE_ADDRESS: Rule =
    rule("create_port:fixed_ips:ip_address", NETWORK_OR_SERVICE, "Choose an address", POST);
pub(crate) const CREATE_SUBNET: Rule =
    rule("create_port:fixed_ips:subnet_id", NETWORK_OR_SERVICE_OR_SHARED, "Choose a subnet", POST);
pub(crate) const CREATE_SECURITY: Rule =
    rule("create_port:port_security_enabled", NETWORK_OR_SERVICE, "Turn port security off", POST);
pub(crate) const CREATE_HOST: Rule = rule("create_port:binding:host_id", ADMIN_OR_SERVICE, "Bind to a host", POST);
pub(crate) const CREATE_PROFILE: Rule =
    rule("create_port:binding:profile", ADMIN_OR_SERVICE, "Set the binding profile", POST);
pub(crate) const CREATE_PAIRS: Rule =
    rule("create_port:allowed_address_pairs", NETWORK_MEMBER, "Allow further addresses", POST);

pub(crate) const GET_ONE: Rule = rule(
    "get_port",
    "rule:admin_only or rule:service_api or (role:reader and rule:network_owner) or \
     (role:reader and project_id:%(project_id)s)",
    "See a port",
    GET,
);
pub(crate) const GET_VIF_TYPE: Rule = rule("get_port:binding:vif_type", ADMIN_OR_SERVICE, "See how it is bound", GET);
pub(crate) const GET_VIF_DETAILS: Rule =
    rule("get_port:binding:vif_details", ADMIN_OR_SERVICE, "See how it is bound", GET);
pub(crate) const GET_HOST: Rule = rule("get_port:binding:host_id", ADMIN_OR_SERVICE, "See where it is bound", GET);
pub(crate) const GET_PROFILE: Rule = rule("get_port:binding:profile", ADMIN_OR_SERVICE, "See the binding profile", GET);

pub(crate) const UPDATE: Rule = rule("update_port", MEMBER_OR_SERVICE, "Change a port", PUT);
pub(crate) const UPDATE_DEVICE_OWNER: Rule =
    rule("update_port:device_owner", DEVICE_OWNER, "Make a port serve the network", PUT);
pub(crate) const UPDATE_MAC: Rule = rule("update_port:mac_address", ADMIN_OR_SERVICE, "Change the MAC address", PUT);
pub(crate) const UPDATE_FIXED_IPS: Rule =
    rule("update_port:fixed_ips", NETWORK_OR_SERVICE, "Change the addresses", PUT);
pub(crate) const UPDATE_ADDRESS: Rule =
    rule("update_port:fixed_ips:ip_address", NETWORK_OR_SERVICE, "Choose an address", PUT);
pub(crate) const UPDATE_SUBNET: Rule =
    rule("update_port:fixed_ips:subnet_id", NETWORK_OR_SERVICE_OR_SHARED, "Choose a subnet", PUT);
pub(crate) const UPDATE_SECURITY: Rule =
    rule("update_port:port_security_enabled", NETWORK_OR_SERVICE, "Turn port security on or off", PUT);
pub(crate) const UPDATE_HOST: Rule = rule("update_port:binding:host_id", ADMIN_OR_SERVICE, "Bind to a host", PUT);
pub(crate) const UPDATE_PROFILE: Rule =
    rule("update_port:binding:profile", ADMIN_OR_SERVICE, "Set the binding profile", PUT);
pub(crate) const UPDATE_PAIRS: Rule =
    rule("update_port:allowed_address_pairs", NETWORK_MEMBER, "Allow further addresses", PUT);
pub(crate) const DELETE: Rule =
    rule("delete_port", OWNER_OR_NETWORK_OR_SERVICE, "Delete a port", &[("DELETE", "/ports/{id}")]);

pub(crate) const CREATES: &[Rule] = &[
    CREATE,
    CREATE_DEVICE_OWNER,
    CREATE_MAC,
    CREATE_FIXED_IPS,
    CREATE_ADDRESS,
    CREATE_SUBNET,
    CREATE_SECURITY,
    CREATE_HOST,
    CREATE_PROFILE,
    CREATE_PAIRS,
];
pub(crate) const GETS: &[Rule] = &[GET_ONE, GET_VIF_TYPE, GET_VIF_DETAILS, GET_HOST, GET_PROFILE];
pub(crate) const UPDATES: &[Rule] = &[
    UPDATE,
    UPDATE_DEVICE_OWNER,
    UPDATE_MAC,
    UPDATE_FIXED_IPS,
    UPDATE_ADDRESS,
    UPDATE_SUBNET,
    UPDATE_SECURITY,
    UPDATE_HOST,
    UPDATE_PROFILE,
    UPDATE_PAIRS,
];

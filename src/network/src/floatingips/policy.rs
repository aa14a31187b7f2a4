use rest::{Rule, rule};

use crate::policy::{ADMIN, MEMBER, READER};

pub(crate) const CREATE: Rule = rule("create_floatingip", MEMBER, "Create a floating IP", &[("POST", "/floatingips")]);
pub(crate) const CREATE_ADDRESS: Rule =
    rule("create_floatingip:floating_ip_address", ADMIN, "Choose the address", &[("POST", "/floatingips")]);
pub(crate) const GET_ONE: Rule =
    rule("get_floatingip", READER, "See a floating IP", &[("GET", "/floatingips"), ("GET", "/floatingips/{id}")]);
pub(crate) const UPDATE: Rule =
    rule("update_floatingip", MEMBER, "Change a floating IP", &[("PUT", "/floatingips/{id}")]);
pub(crate) const DELETE: Rule =
    rule("delete_floatingip", MEMBER, "Delete a floating IP", &[("DELETE", "/floatingips/{id}")]);

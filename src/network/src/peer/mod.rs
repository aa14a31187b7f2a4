//! All that Compute may call.
//!
//! Rows first: inside Compute's own transaction, [`create_port`] for each network or port that a server asks for; nothing
//! touches the kernel. Then, from a step of a durable operation, [`plug`] (idempotent; the tap as an open descriptor), and
//! when the server stops or goes, [`unplug`] and in a transaction [`release_ports`]. Leftovers are the reconciler's.
//!
//! ```text
//! server created: create_port -> commit -> plug -> hand the descriptor to the VM process
//! server stopped: unplug        server deleted: unplug, release_ports -> commit        restart: ports_of, plug
//! ```

mod change;
mod create;
mod legacy;
mod plug;
mod read;

use rest::Error;

pub use self::{
    change::{
        add_fixed_ip, add_security_group, associate_floating_ip, bind, disassociate_floating_ip, release_port,
        release_ports, remove_fixed_ip, remove_security_group,
    },
    create::{
        NetworkInfo, PortRequest, Wanted, auto_allocate, available_networks, check_auto_allocate, check_fixed_ip,
        check_security_groups, create_port, host_name,
    },
    legacy::{
        FloatingIpView, GroupRuleView, GroupView, NetworkView, create_floating_ip, create_security_group,
        create_security_group_rule, delete_floating_ip, delete_security_group, delete_security_group_rule, floating_ip,
        floating_ip_pools, floating_ips, list_security_groups, security_group, security_groups_by_id,
        update_security_group, visible_network, visible_networks,
    },
    plug::{OneWay, Plug, PlugError, Traffic, plug, traffic, unplug},
    read::{FixedIp, PortInfo, SubnetInfo, missing, port, ports_of, ports_of_many, servers_with_address},
};
use crate::errors;

/// Who asks, as Compute has authenticated them.
#[derive(Clone, Copy, Debug)]
pub struct Requester<'a> {
    pub project_id: &'a str,
    pub is_admin: bool,
}

/// Nova's refusals: a request that names what is not there is 400, what is taken is 409.
fn bad(code: &'static str, text: String) -> Error {
    errors::bad(code, text)
}

//! Things of the network as its API shows them.

use serde::{Deserialize, de::DeserializeOwned};

use crate::show;

/// What the API has lists of.
pub(super) trait Resource: DeserializeOwned + Send {
    const PATH: &'static str;
    /// The key of a list, and of one.
    const MANY: &'static str;
    const ONE: &'static str;
    const SORT: &'static str = "name";
    fn id(&self) -> &str;
    /// What people call it.
    fn label(&self) -> String;
}

macro_rules! resource {
    ($type:ty, $path:literal, $many:literal, $one:literal) => {
        impl Resource for $type {
            const PATH: &'static str = $path;
            const MANY: &'static str = $many;
            const ONE: &'static str = $one;

            fn id(&self) -> &str {
                &self.id
            }

            fn label(&self) -> String {
                label(&self.name, &self.id)
            }
        }
    };
}

/// The name, or the beginning of the id of what has none.
pub(super) fn label(name: &str, id: &str) -> String {
    if name.trim().is_empty() { format!("({})", show::short(id)) } else { name.to_owned() }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Network {
    pub id: String,
    pub name: String,
    pub description: String,
    pub status: String,
    pub admin_state_up: bool,
    pub shared: bool,
    #[serde(rename = "router:external")]
    pub external: bool,
    pub is_default: Option<bool>,
    pub subnets: Vec<String>,
    pub mtu: i64,
    pub project_id: String,
    pub port_security_enabled: bool,
    pub dns_domain: String,
    #[serde(rename = "provider:network_type")]
    pub provider_type: Option<String>,
    #[serde(rename = "provider:physical_network")]
    pub provider_physical: Option<String>,
    pub tags: Vec<String>,
    pub created_at: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pool {
    pub start: String,
    pub end: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Route {
    pub destination: String,
    pub nexthop: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Subnet {
    pub id: String,
    pub name: String,
    pub description: String,
    pub network_id: String,
    pub project_id: String,
    pub ip_version: u8,
    pub cidr: String,
    pub gateway_ip: Option<String>,
    pub enable_dhcp: bool,
    pub ipv6_address_mode: Option<String>,
    pub ipv6_ra_mode: Option<String>,
    pub allocation_pools: Vec<Pool>,
    pub host_routes: Vec<Route>,
    pub dns_nameservers: Vec<String>,
    pub created_at: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FixedIp {
    pub subnet_id: String,
    pub ip_address: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AddressPair {
    pub ip_address: String,
    pub mac_address: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Port {
    pub id: String,
    pub name: String,
    pub description: String,
    pub network_id: String,
    pub project_id: String,
    pub mac_address: String,
    pub admin_state_up: bool,
    pub status: String,
    pub device_id: String,
    pub device_owner: String,
    pub fixed_ips: Vec<FixedIp>,
    pub allowed_address_pairs: Vec<AddressPair>,
    pub security_groups: Vec<String>,
    pub port_security_enabled: bool,
    #[serde(rename = "binding:vif_type")]
    pub vif_type: Option<String>,
    #[serde(rename = "binding:host_id")]
    pub host_id: Option<String>,
    pub dns_name: String,
    pub created_at: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Gateway {
    pub network_id: String,
    pub external_fixed_ips: Vec<FixedIp>,
    pub enable_snat: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Router {
    pub id: String,
    pub name: String,
    pub description: String,
    pub project_id: String,
    pub admin_state_up: bool,
    pub status: String,
    pub external_gateway_info: Option<Gateway>,
    pub routes: Vec<Route>,
    pub created_at: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FloatingIp {
    pub id: String,
    pub description: String,
    pub project_id: String,
    pub floating_ip_address: String,
    pub floating_network_id: String,
    pub router_id: Option<String>,
    pub port_id: Option<String>,
    pub fixed_ip_address: Option<String>,
    pub status: String,
    pub created_at: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Rule {
    pub id: String,
    pub direction: String,
    pub ethertype: String,
    pub protocol: Option<String>,
    pub port_range_min: Option<i64>,
    pub port_range_max: Option<i64>,
    pub remote_ip_prefix: Option<String>,
    pub remote_group_id: Option<String>,
    pub description: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Group {
    pub id: String,
    pub name: String,
    pub description: String,
    pub project_id: String,
    pub security_group_rules: Vec<Rule>,
    pub created_at: String,
}

resource!(Network, "/networks", "networks", "network");
resource!(Subnet, "/subnets", "subnets", "subnet");
resource!(Port, "/ports", "ports", "port");
resource!(Router, "/routers", "routers", "router");
resource!(Group, "/security-groups", "security_groups", "security_group");

impl Resource for FloatingIp {
    const PATH: &'static str = "/floatingips";
    const MANY: &'static str = "floatingips";
    const ONE: &'static str = "floatingip";
    const SORT: &'static str = "floating_ip_address";

    fn id(&self) -> &str {
        &self.id
    }

    fn label(&self) -> String {
        self.floating_ip_address.clone()
    }
}

/// The colour of a status.
pub(super) fn mood(status: &str) -> &'static str {
    match status {
        "ACTIVE" => "good",
        "ERROR" => "bad",
        "BUILD" => "busy",
        _ => "idle",
    }
}

impl Network {
    pub(super) fn mood(&self) -> &'static str {
        if self.admin_state_up { mood(&self.status) } else { "warn" }
    }
}

impl Subnet {
    /// Name and range.
    pub(super) fn title(&self) -> String {
        if self.name.is_empty() { self.cidr.clone() } else { format!("{} ({})", self.name, self.cidr) }
    }
}

impl Port {
    pub(super) fn mood(&self) -> &'static str {
        if self.status == "DOWN" { "warn" } else { mood(&self.status) }
    }

    /// Of a server, rather than of the network itself.
    pub(super) fn is_of_server(&self) -> bool {
        self.device_owner.starts_with("compute:")
    }

    /// Of the network itself: a router, DHCP, a floating IP.
    pub(super) fn is_service(&self) -> bool {
        self.device_owner.starts_with("network:")
    }

    pub(super) fn addresses(&self) -> Vec<&str> {
        self.fixed_ips.iter().map(|fixed| fixed.ip_address.as_str()).collect()
    }

    /// The name, or the first address, or the beginning of the id.
    pub(super) fn title(&self) -> String {
        match self.fixed_ips.first() {
            Some(fixed) if self.name.is_empty() => fixed.ip_address.clone(),
            _ => self.label(),
        }
    }
}

impl Router {
    pub(super) fn mood(&self) -> &'static str {
        if self.admin_state_up { mood(&self.status) } else { "warn" }
    }

    /// The addresses outside.
    pub(super) fn outside(&self) -> Vec<&str> {
        let gateway = self.external_gateway_info.iter().flat_map(|gateway| &gateway.external_fixed_ips);
        gateway.map(|fixed| fixed.ip_address.as_str()).collect()
    }
}

impl Group {
    /// Every project has one of this name, and it stays.
    pub(super) fn is_default(&self) -> bool {
        self.name == "default"
    }
}

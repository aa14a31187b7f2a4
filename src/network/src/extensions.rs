//! `/v2.0` and `/v2.0/extensions`: what is there. Listed is what works, and nothing else: clients skip what is not listed.

use axum::extract::Path;
use policy::Target;
use rest::{Ctx, Params, Reply, Result, Rule, rule};
use serde_json::{Value, json};

use crate::{errors, query::Query};

pub(crate) const GET_PROVIDERS: Rule =
    rule("get_service_provider", "", "See service providers", &[("GET", "/service-providers")]);

/// Alias, name, description.
const EXTENSIONS: &[(&str, &str, &str)] = &[
    ("agent", "agent", "The agents of this cloud, read-only."),
    ("allowed-address-pairs", "Allowed Address Pairs", "Further addresses that a port may send from."),
    ("auto-allocated-topology", "Auto Allocated Topology Services", "A network and router for who has none."),
    ("availability_zone", "Availability Zone", "The availability zone of this cloud."),
    (
        "belongs-to-default-sg",
        "Security group rules of the default group",
        "Rules say whether their group is the default one.",
    ),
    ("binding", "Port Binding", "Where a port is bound."),
    ("default-subnetpools", "Default Subnetpools", "A subnet pool for who names none."),
    ("dns-integration", "DNS Integration", "Names of ports."),
    ("empty-string-filtering", "Empty String Filtering Extension", "An empty filter matches empty values."),
    ("ext-gw-mode", "Neutron L3 Configurable external gateway mode", "Routers without address translation."),
    ("external-net", "Neutron external network", "Networks that lead outside."),
    ("extra_dhcp_opt", "Neutron Extra DHCP options", "DHCP options of a port."),
    ("extraroute", "Neutron Extra Route", "Static routes of a router."),
    ("extraroute-atomic", "Atomically add/remove extra routes", "Adding and removing routes of a router."),
    ("fip-port-details", "Floating IP Port Details Extension", "The port of a floating IP."),
    ("ip-substring-filtering", "IP address substring filtering", "Finding ports by a part of an address."),
    ("net-mtu", "Network MTU", "The MTU of a network."),
    ("net-mtu-writable", "Network MTU (writable)", "Choosing the MTU of a network."),
    ("network-ip-availability", "Network IP Availability", "How many addresses are in use."),
    ("network_availability_zone", "Network Availability Zone", "The availability zones of a network."),
    ("pagination", "Pagination support", "Lists page by page."),
    ("port-security", "Port Security", "Ports without filtering."),
    ("port-security-groups-filtering", "Port filtering on security groups", "Finding ports by their groups."),
    ("project-id", "project_id field enabled", "Projects are called so."),
    ("provider", "Provider Network", "How a network is made."),
    ("quota-check-limit", "Quota engine limit check", "Limits below what is in use can be refused."),
    ("quota_details", "Quota details management support", "How much of a limit is in use."),
    ("quotas", "Quota management support", "Limits of projects."),
    ("router", "Neutron L3 Router", "Routers and floating IPs."),
    ("router_availability_zone", "Router Availability Zone", "The availability zones of a router."),
    ("security-group", "security-group", "What ports may send and receive."),
    (
        "security-groups-normalized-cidr",
        "Normalized CIDR field for security group rules",
        "Prefixes without host bits.",
    ),
    ("service-type", "Neutron Service Type Management", "Service providers."),
    ("sorting", "Sorting support", "Lists in a chosen order."),
    ("standard-attr-description", "standard-attr-description", "Descriptions."),
    ("standard-attr-revisions", "Resource revision numbers", "Revision numbers."),
    ("standard-attr-tag", "Tag support for resources with standard attribute", "Tags."),
    ("standard-attr-timestamp", "Resource timestamps", "Times of creation and change."),
    ("subnet-service-types", "Subnet service types", "Subnets for certain devices only."),
    ("subnet_allocation", "Subnet Allocation", "Subnets cut from pools."),
    ("tag", "Tag support", "Tags on networks."),
    ("tag-ext", "Tag support for resources: subnet, subnetpool, port, router", "Tags on the others."),
    ("tag-creation", "Tag creation during bulk creation", "Tags given when a resource is made."),
];

const UPDATED: &str = "2026-01-01T00:00:00-00:00";

fn view((alias, name, description): &(&str, &str, &str)) -> Value {
    json!({"alias": alias, "name": name, "description": description, "updated": UPDATED, "links": []})
}

pub(crate) async fn index(_: Ctx, params: Params) -> Result<Reply> {
    let all: Vec<Value> = EXTENSIONS.iter().map(view).collect();
    Ok(Query::new(params).all("extensions", &all))
}

pub(crate) async fn show(_: Ctx, Path(alias): Path<String>, params: Params) -> Result<Reply> {
    match EXTENSIONS.iter().find(|(known, _, _)| *known == alias) {
        Some(extension) => Ok(Query::new(params).one("extension", &view(extension))),
        None => Err(errors::not_found_text("ExtensionNotFound", format!("Extensions not found: {alias}."))),
    }
}

/// Singular and plural of what is served, as the version's own document lists it.
const RESOURCES: &[(&str, &str)] = &[
    ("network", "networks"),
    ("subnet", "subnets"),
    ("subnetpool", "subnetpools"),
    ("port", "ports"),
    ("router", "routers"),
    ("floatingip", "floatingips"),
    ("security_group", "security-groups"),
    ("security_group_rule", "security-group-rules"),
    ("quota", "quotas"),
    ("agent", "agents"),
    ("availability_zone", "availability_zones"),
    ("network_ip_availability", "network-ip-availabilities"),
    ("service_provider", "service-providers"),
    ("extension", "extensions"),
];

pub(crate) async fn resources(ctx: Ctx) -> Reply {
    let resources: Vec<Value> = RESOURCES
        .iter()
        .map(|(name, collection)| {
            let href = ctx.url(&format!("/v2.0/{collection}"));
            json!({"name": name, "collection": collection, "links": [{"rel": "self", "href": href}]})
        })
        .collect();
    Reply::ok(&json!({ "resources": resources }))
}

/// No service of this cloud has providers to choose from.
pub(crate) async fn providers(ctx: Ctx) -> Result<Reply> {
    ctx.allow(GET_PROVIDERS, &Target::new())?;
    Ok(Reply::ok(&json!({"service_providers": []})))
}

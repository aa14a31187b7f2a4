//! Server documents by microversion.

use rest::Ctx;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha224};

use super::Server;
use crate::{Options, network_info::Interface};

/// What the caller may see beyond the server itself.
#[derive(Clone, Copy)]
pub(crate) struct Sight {
    /// `OS-EXT-SRV-ATTR`
    pub extended: bool,
    pub host_status: bool,
    /// Only the server's own fields: what PUT answers before 2.75.
    pub own_fields: bool,
}

pub(crate) fn links(ctx: &Ctx, id: &str) -> Value {
    json!([
        {"rel": "self", "href": ctx.url(&format!("/v2.1/servers/{id}"))},
        {"rel": "bookmark", "href": ctx.url(&format!("/servers/{id}"))},
    ])
}

pub(crate) fn brief(ctx: &Ctx, server: &Server) -> Value {
    json!({"id": server.id, "name": server.name, "links": links(ctx, &server.id)})
}

pub(crate) fn show(
    ctx: &Ctx,
    options: &Options,
    server: &Server,
    interfaces: &[Interface],
    tags: &[String],
    sight: Sight,
) -> Value {
    let mut view = Map::with_capacity(48);
    let mut put = |key: &str, value: Value| {
        view.insert(key.to_owned(), value);
    };
    let status = server.status();
    put("id", json!(server.id));
    put("name", json!(server.name));
    put("status", json!(status));
    put("tenant_id", json!(server.project_id));
    put("user_id", json!(server.user_id));
    put("metadata", json!(server.metadata));
    put("hostId", json!(if on_host(server) { host_id(options, &server.project_id) } else { String::new() }));
    put(
        "image",
        match &server.image_id {
            Some(id) => json!({"id": id, "links": [
                {"rel": "bookmark", "href": ctx.url(&format!("/images/{id}"))}
            ]}),
            None => json!(""),
        },
    );
    put("flavor", flavor(ctx, server));
    put("created", json!(db::clock::seconds(&server.created_at)));
    put("updated", json!(db::clock::seconds(&server.updated_at)));
    put("addresses", addresses(interfaces, !sight.own_fields));
    put("accessIPv4", json!(server.access_ipv4));
    put("accessIPv6", json!(server.access_ipv6));
    put("links", links(ctx, &server.id));
    put("OS-DCF:diskConfig", json!(server.disk_config));
    if matches!(status, "ACTIVE" | "BUILD") {
        put("progress", json!(if status == "ACTIVE" { 100 } else { 0 }));
    }
    if status == "ERROR"
        && let Some(fault) = &server.fault
    {
        put(
            "fault",
            json!({"code": fault.code, "message": fault.message, "created": db::clock::seconds(&fault.created)}),
        );
    }
    if !sight.own_fields {
        let zone = if on_host(server) { options.availability_zone.as_str() } else { "" };
        put("OS-EXT-AZ:availability_zone", json!(server.availability_zone.as_deref().unwrap_or(zone)));
        put("config_drive", json!(if server.config_drive { "True" } else { "" }));
        put("key_name", json!(server.key_name));
        put("OS-SRV-USG:launched_at", json!(server.launched_at.as_deref().map(db::clock::naive)));
        put("OS-SRV-USG:terminated_at", Value::Null);
        let groups = security_groups(interfaces);
        if !groups.is_empty() {
            put("security_groups", json!(groups.iter().map(|name| json!({"name": name})).collect::<Vec<_>>()));
        }
        put("OS-EXT-STS:task_state", json!(server.task_state));
        put("OS-EXT-STS:vm_state", json!(server.vm_state.as_str()));
        put("OS-EXT-STS:power_state", json!(server.power_state));
        put("os-extended-volumes:volumes_attached", json!([]));
        if sight.extended {
            let host = on_host(server).then_some(&options.host_name);
            put("OS-EXT-SRV-ATTR:host", json!(host));
            put("OS-EXT-SRV-ATTR:hypervisor_hostname", json!(host));
            put("OS-EXT-SRV-ATTR:instance_name", json!(server.instance_name()));
            if ctx.since(2, 3) {
                put("OS-EXT-SRV-ATTR:reservation_id", json!(server.reservation_id));
                put("OS-EXT-SRV-ATTR:launch_index", json!(server.launch_index));
                put("OS-EXT-SRV-ATTR:hostname", json!(server.hostname));
                put("OS-EXT-SRV-ATTR:kernel_id", json!(""));
                put("OS-EXT-SRV-ATTR:ramdisk_id", json!(""));
                put("OS-EXT-SRV-ATTR:root_device_name", json!("/dev/vda"));
                put("OS-EXT-SRV-ATTR:user_data", json!(server.user_data));
            }
        }
    }
    if ctx.since(2, 9) {
        put("locked", json!(server.locked()));
    }
    if ctx.since(2, 16) && sight.host_status && !sight.own_fields {
        put("host_status", json!(if on_host(server) { "UP" } else { "" }));
    }
    if ctx.since(2, 19) {
        put("description", json!(server.description));
    }
    if ctx.since(2, 26) {
        put("tags", json!(tags));
    }
    Value::Object(view)
}

/// Whether a host was ever chosen: a server that fitted nowhere has none.
fn on_host(server: &Server) -> bool {
    server.launched_at.is_some() || server.vm_state != super::model::VmState::Error
}

/// Upstream's: a hash that tells servers on the same host from others without naming the host.
fn host_id(options: &Options, project_id: &str) -> String {
    let digest = Sha224::digest(format!("{project_id}{}", options.host_name));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn flavor(ctx: &Ctx, server: &Server) -> Value {
    let flavor = &server.flavor;
    if !ctx.since(2, 47) {
        return json!({"id": flavor.id, "links": [
            {"rel": "bookmark", "href": ctx.url(&format!("/flavors/{}", flavor.id))}
        ]});
    }
    json!({
        "vcpus": flavor.vcpus,
        "ram": flavor.ram_mib,
        "disk": flavor.disk_gib,
        "ephemeral": flavor.ephemeral_gib,
        "swap": flavor.swap_mib,
        "original_name": flavor.name,
        "extra_specs": flavor.extra_specs,
    })
}

pub(crate) fn addresses(interfaces: &[Interface], extended: bool) -> Value {
    let mut networks = Map::new();
    for interface in interfaces {
        let list = networks.entry(interface.network_name.clone()).or_insert_with(|| json!([]));
        if let Value::Array(list) = list {
            list.extend(addresses_of(interface, extended));
        }
    }
    Value::Object(networks)
}

/// `extended`: with type and MAC, as inside a server; the `ips` resource has them not.
pub(crate) fn addresses_of(interface: &Interface, extended: bool) -> Vec<Value> {
    let mut list = Vec::new();
    let mut push = |address: &str, kind: &str| {
        let mut entry = json!({"version": if address.contains(':') { 6 } else { 4 }, "addr": address});
        if extended {
            entry["OS-EXT-IPS:type"] = json!(kind);
            entry["OS-EXT-IPS-MAC:mac_addr"] = json!(interface.mac);
        }
        list.push(entry);
    };
    for fixed in &interface.fixed_ips {
        push(&fixed.address, "fixed");
    }
    for floating in &interface.floating_ips {
        push(floating, "floating");
    }
    list
}

pub(crate) fn security_groups(interfaces: &[Interface]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for interface in interfaces {
        for (_, name) in &interface.security_groups {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
    }
    names
}

/// The answer to POST.
pub(crate) fn created(ctx: &Ctx, server: &Server, admin_pass: &str, groups: &[String]) -> Value {
    json!({"server": {
        "id": server.id,
        "links": links(ctx, &server.id),
        "OS-DCF:diskConfig": server.disk_config,
        "adminPass": admin_pass,
        "security_groups": groups.iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
    }})
}

//! Server documents by microversion.

use std::collections::BTreeMap;

use rest::Ctx;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Value, json};
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

/// `self` and `bookmark` of a server.
pub(crate) struct Links<'a>(&'a Ctx, &'a str);

pub(crate) fn links<'a>(ctx: &'a Ctx, id: &'a str) -> Links<'a> {
    Links(ctx, id)
}

impl Serialize for Links<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(ctx, id) = self;
        [link("self", ctx.url(&format!("/v2.1/servers/{id}"))), link("bookmark", ctx.url(&format!("/servers/{id}")))]
            .serialize(serializer)
    }
}

#[derive(Serialize)]
struct Link {
    rel: &'static str,
    href: String,
}

fn link(rel: &'static str, href: String) -> Link {
    Link { rel, href }
}

/// A thing that the server was made of: its id and where it is.
#[derive(Serialize)]
struct Linked<'a> {
    id: &'a str,
    links: [Link; 1],
}

fn linked<'a>(ctx: &Ctx, kind: &str, id: &'a str) -> Linked<'a> {
    Linked { id, links: [link("bookmark", ctx.url(&format!("/{kind}/{id}")))] }
}

/// An image with what it said of itself when the server was made (2.98).
#[derive(Serialize)]
struct ImageWithProperties<'a> {
    #[serde(flatten)]
    image: Linked<'a>,
    properties: BTreeMap<&'a str, &'a Value>,
}

/// Those whose names Compute's schema has room for.
fn properties(server: &Server) -> BTreeMap<&str, &Value> {
    let plain =
        |key: &str| key.len() <= 255 && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:. ".contains(&byte));
    server.image_properties.iter().filter(|(key, _)| plain(key)).map(|(key, value)| (key.as_str(), value)).collect()
}

#[derive(Serialize)]
pub(crate) struct Brief<'a> {
    id: &'a str,
    name: &'a str,
    links: Links<'a>,
}

pub(crate) fn brief<'a>(ctx: &'a Ctx, server: &'a Server) -> Brief<'a> {
    Brief { id: &server.id, name: &server.name, links: links(ctx, &server.id) }
}

/// A server in full. Written field by field into the answer: a list holds a thousand of them, and a tree of values for
/// each would cost more than all the rest of the request.
pub(crate) struct Show<'a> {
    pub ctx: &'a Ctx,
    pub options: &'a Options,
    /// The zone that the host is in.
    pub zone: &'a str,
    pub server: &'a Server,
    pub interfaces: &'a [Interface],
    pub tags: &'a [String],
    /// The server groups that it is in, where the answer tells (2.71).
    pub server_groups: Option<&'a [String]>,
    pub sight: Sight,
}

impl Serialize for Show<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { ctx, options, server, interfaces, tags, server_groups, sight, .. } = *self;
        let mut view = serializer.serialize_map(None)?;
        let status = server.status();
        view.serialize_entry("id", &server.id)?;
        view.serialize_entry("name", &server.name)?;
        view.serialize_entry("status", status)?;
        view.serialize_entry("tenant_id", &server.project_id)?;
        view.serialize_entry("user_id", &server.user_id)?;
        view.serialize_entry("metadata", &server.metadata)?;
        let host_id = if on_host(server) { host_id(options, &server.project_id) } else { String::new() };
        view.serialize_entry("hostId", &host_id)?;
        match &server.image_id {
            Some(id) if ctx.since(2, 98) => {
                let image = ImageWithProperties { image: linked(ctx, "images", id), properties: properties(server) };
                view.serialize_entry("image", &image)?;
            }
            Some(id) => view.serialize_entry("image", &linked(ctx, "images", id))?,
            None => view.serialize_entry("image", "")?,
        }
        if ctx.since(2, 47) {
            view.serialize_entry("flavor", &embedded_flavor(server))?;
        } else {
            view.serialize_entry("flavor", &linked(ctx, "flavors", &server.flavor.id))?;
        }
        view.serialize_entry("created", &db::clock::seconds(&server.created_at))?;
        view.serialize_entry("updated", &db::clock::seconds(&server.updated_at))?;
        view.serialize_entry("addresses", &Addresses { interfaces, extended: !sight.own_fields })?;
        view.serialize_entry("accessIPv4", &server.access_ipv4)?;
        view.serialize_entry("accessIPv6", &server.access_ipv6)?;
        view.serialize_entry("links", &links(ctx, &server.id))?;
        view.serialize_entry("OS-DCF:diskConfig", &server.disk_config)?;
        match status {
            "ACTIVE" | "VERIFY_RESIZE" => view.serialize_entry("progress", &100)?,
            "BUILD" | "REBUILD" | "RESIZE" | "MIGRATING" => view.serialize_entry("progress", &0)?,
            _ => {}
        }
        if status == "ERROR"
            && let Some(fault) = &server.fault
        {
            let fault =
                json!({"code": fault.code, "message": fault.message, "created": db::clock::seconds(&fault.created)});
            view.serialize_entry("fault", &fault)?;
        }
        if !sight.own_fields {
            self.host_fields(&mut view)?;
        }
        if ctx.since(2, 9) {
            view.serialize_entry("locked", &server.locked())?;
        }
        if ctx.since(2, 16) && sight.host_status && !sight.own_fields {
            view.serialize_entry("host_status", if on_host(server) { "UP" } else { "" })?;
        }
        if ctx.since(2, 19) {
            view.serialize_entry("description", &server.description)?;
        }
        if ctx.since(2, 26) {
            view.serialize_entry("tags", tags)?;
        }
        if ctx.since(2, 63) {
            view.serialize_entry("trusted_image_certificates", &())?;
        }
        if let Some(groups) = server_groups {
            view.serialize_entry("server_groups", groups)?;
        }
        if ctx.since(2, 73) {
            view.serialize_entry("locked_reason", &server.locked_reason)?;
        }
        if ctx.since(2, 96) {
            view.serialize_entry("pinned_availability_zone", &server.availability_zone)?;
        }
        if ctx.since(2, 100) {
            view.serialize_entry("scheduler_hints", &server.scheduler_hints)?;
        }
        view.end()
    }
}

impl Show<'_> {
    /// What an answer to PUT has not before 2.75.
    fn host_fields<M: SerializeMap>(&self, view: &mut M) -> Result<(), M::Error> {
        let Self { ctx, options, server, interfaces, sight, .. } = *self;
        let asked = server.availability_zone.as_deref().unwrap_or_default();
        view.serialize_entry("OS-EXT-AZ:availability_zone", if on_host(server) { self.zone } else { asked })?;
        view.serialize_entry("config_drive", if server.config_drive { "True" } else { "" })?;
        view.serialize_entry("key_name", &server.key_name)?;
        view.serialize_entry("OS-SRV-USG:launched_at", &server.launched_at.as_deref().map(db::clock::naive))?;
        view.serialize_entry("OS-SRV-USG:terminated_at", &server.terminated_at.as_deref().map(db::clock::naive))?;
        let groups = security_groups(interfaces);
        if !groups.is_empty() {
            view.serialize_entry("security_groups", &groups.iter().map(|name| Named { name }).collect::<Vec<_>>())?;
        }
        view.serialize_entry("OS-EXT-STS:task_state", &server.task_state)?;
        view.serialize_entry("OS-EXT-STS:vm_state", server.vm_word())?;
        view.serialize_entry("OS-EXT-STS:power_state", &server.power_state)?;
        view.serialize_entry("os-extended-volumes:volumes_attached", &[(); 0])?;
        if ctx.since(2, 90) {
            view.serialize_entry("OS-EXT-SRV-ATTR:hostname", &server.hostname)?;
        }
        if !sight.extended {
            return Ok(());
        }
        let host = on_host(server).then_some(&options.host_name);
        view.serialize_entry("OS-EXT-SRV-ATTR:host", &host)?;
        view.serialize_entry("OS-EXT-SRV-ATTR:hypervisor_hostname", &host)?;
        view.serialize_entry("OS-EXT-SRV-ATTR:instance_name", &server.instance_name())?;
        if ctx.since(2, 3) {
            view.serialize_entry("OS-EXT-SRV-ATTR:reservation_id", &server.reservation_id)?;
            view.serialize_entry("OS-EXT-SRV-ATTR:launch_index", &server.launch_index)?;
            if !ctx.since(2, 90) {
                view.serialize_entry("OS-EXT-SRV-ATTR:hostname", &server.hostname)?;
            }
            view.serialize_entry("OS-EXT-SRV-ATTR:kernel_id", "")?;
            view.serialize_entry("OS-EXT-SRV-ATTR:ramdisk_id", "")?;
            view.serialize_entry("OS-EXT-SRV-ATTR:root_device_name", "/dev/vda")?;
            view.serialize_entry("OS-EXT-SRV-ATTR:user_data", &server.user_data)?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
}

/// Whether a host was ever chosen: a server that fitted nowhere has none.
fn on_host(server: &Server) -> bool {
    server.terminated_at.is_none()
        && server.vm_state != super::model::VmState::ShelvedOffloaded
        && (server.launched_at.is_some() || server.vm_state != super::model::VmState::Error)
}

/// Upstream's: a hash that tells servers on the same host from others without naming the host.
pub(crate) fn host_id(options: &Options, project_id: &str) -> String {
    let digest = Sha224::digest(format!("{project_id}{}", options.host_name));
    let mut text = String::with_capacity(2 * digest.len());
    for digit in digest.iter().flat_map(|byte| [byte >> 4, byte & 15]) {
        text.extend(char::from_digit(digit.into(), 16));
    }
    text
}

/// The flavor as it was when the server was made (2.47).
#[derive(Serialize)]
struct EmbeddedFlavor<'a, E> {
    vcpus: i64,
    ram: i64,
    disk: i64,
    ephemeral: i64,
    swap: i64,
    original_name: &'a str,
    extra_specs: &'a E,
}

fn embedded_flavor(server: &Server) -> impl Serialize {
    let flavor = &server.flavor;
    EmbeddedFlavor {
        vcpus: flavor.vcpus,
        ram: flavor.ram_mib,
        disk: flavor.disk_gib,
        ephemeral: flavor.ephemeral_gib,
        swap: flavor.swap_mib,
        original_name: &flavor.name,
        extra_specs: &flavor.extra_specs,
    }
}

/// Addresses by the name of their network. `extended`: with type and MAC, as inside a server; the `ips` resource has
/// them not.
pub(crate) struct Addresses<'a> {
    pub interfaces: &'a [Interface],
    pub extended: bool,
}

impl Serialize for Addresses<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut networks: Vec<(&str, Vec<Address<'_>>)> = Vec::new();
        for interface in self.interfaces {
            let name = interface.network_name.as_str();
            let addresses = addresses_of(interface, self.extended);
            match networks.iter_mut().find(|(known, _)| *known == name) {
                Some((_, list)) => list.extend(addresses),
                None => networks.push((name, addresses)),
            }
        }
        serializer.collect_map(networks)
    }
}

#[derive(Serialize)]
pub(crate) struct Address<'a> {
    version: u8,
    addr: &'a str,
    #[serde(rename = "OS-EXT-IPS:type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(rename = "OS-EXT-IPS-MAC:mac_addr", skip_serializing_if = "Option::is_none")]
    mac: Option<&'a str>,
}

pub(crate) fn addresses_of(interface: &Interface, extended: bool) -> Vec<Address<'_>> {
    let address = |addr, kind| Address {
        version: if str::contains(addr, ':') { 6 } else { 4 },
        addr,
        kind: extended.then_some(kind),
        mac: extended.then_some(interface.mac.as_str()),
    };
    let fixed = interface.fixed_ips.iter().map(|fixed| address(fixed.address.as_str(), "fixed"));
    let floating = interface.floating_ips.iter().map(|floating| address(floating.as_str(), "floating"));
    fixed.chain(floating).collect()
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

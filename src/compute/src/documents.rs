//! What a server is told about itself: the same documents over 169.254.169.254 and on the config drive.
//! User guide "Metadata"; EC2 instance metadata, versions up to 2009-04-04.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde_json::{Map, Value, json};

use crate::{
    Options,
    network_info::Interface,
    servers::{Server, personality::InjectedFile, views},
};

/// Versions of the OpenStack tree, oldest first. Their documents differ only by being there.
pub(crate) const VERSIONS: &[&str] = &[
    "2012-08-10",
    "2013-04-04",
    "2013-10-17",
    "2015-10-15",
    "2016-06-30",
    "2016-10-06",
    "2017-02-22",
    "2018-08-27",
    "2020-10-14",
];

/// Versions of the EC2 tree.
pub(crate) const EC2_VERSIONS: &[&str] = &[
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
];

/// The server and what belongs to it, read in one go.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub server: Server,
    pub interfaces: Vec<Interface>,
    /// The zone that the host is in.
    pub zone: String,
    /// Only on the config drive, and only while the server is being made.
    pub admin_pass: Option<String>,
    /// Only on the config drive.
    pub files: Vec<InjectedFile>,
}

impl Subject {
    /// The files of one version of the OpenStack tree.
    pub fn openstack(&self, options: &Options) -> BTreeMap<&'static str, Vec<u8>> {
        let mut files = BTreeMap::new();
        files.insert("meta_data.json", bytes(&self.meta_data()));
        files.insert("network_data.json", bytes(&self.network_data()));
        files.insert("vendor_data.json", bytes(&json!(options.vendor_data)));
        files.insert("vendor_data2.json", bytes(&json!({})));
        if let Some(user_data) = self.user_data() {
            files.insert("user_data", user_data);
        }
        files
    }

    pub fn user_data(&self) -> Option<Vec<u8>> {
        base64::engine::general_purpose::STANDARD.decode(self.server.user_data.as_deref()?).ok()
    }

    fn meta_data(&self) -> Value {
        let server = &self.server;
        let mut view = json!({
            "uuid": server.id,
            "name": server.name,
            "hostname": server.hostname,
            "launch_index": server.launch_index,
            "availability_zone": self.zone,
            "project_id": server.project_id,
            "random_seed": random_seed(),
            "devices": self.devices(),
            "dedicated_cpus": [],
        });
        if !server.metadata.is_empty() {
            view["meta"] = json!(server.metadata);
        }
        if let (Some(name), Some(key)) = (&server.key_name, &server.public_key) {
            let kind = server.key_type.as_deref().unwrap_or("ssh");
            view["public_keys"] = json!({name: key});
            view["keys"] = json!([{"name": name, "type": kind, "data": key}]);
        }
        if let Some(admin_pass) = &self.admin_pass {
            view["admin_pass"] = json!(admin_pass);
        }
        if !self.files.is_empty() {
            let listed = self.files.iter().enumerate().map(|(number, file)| {
                let at = format!("/{}", content_path(number));
                json!({"path": file.path, "content_path": at})
            });
            view["files"] = listed.collect();
        }
        view
    }

    /// Tagged devices (2.32): how a guest finds the interface that was meant.
    fn devices(&self) -> Vec<Value> {
        self.interfaces
            .iter()
            .filter_map(|interface| {
                let tag = interface.tag.as_ref()?;
                Some(json!({"type": "nic", "bus": "none", "mac": interface.mac, "tags": [tag]}))
            })
            .collect()
    }

    fn network_data(&self) -> Value {
        let mut links = Vec::new();
        let mut networks = Vec::new();
        let mut services: Vec<Value> = Vec::new();
        for interface in &self.interfaces {
            let link = format!("tap{}", &interface.port_id[..11]);
            links.push(json!({
                "id": link,
                "vif_id": interface.port_id,
                "type": "bridge",
                "mtu": interface.mtu,
                "ethernet_mac_address": interface.mac,
            }));
            for fixed in &interface.fixed_ips {
                let id = format!("network{}", networks.len());
                let family = if fixed.address.contains(':') { "ipv6" } else { "ipv4" };
                let dns: Vec<Value> =
                    fixed.subnet.dns.iter().map(|address| json!({"type": "dns", "address": address})).collect();
                let mut network = Map::new();
                network.insert("id".into(), json!(id));
                network.insert("link".into(), json!(link));
                network.insert("network_id".into(), json!(interface.network_id));
                if fixed.subnet.dhcp {
                    network.insert("type".into(), json!(format!("{family}_dhcp")));
                } else {
                    network.insert("type".into(), json!(family));
                    network.insert("ip_address".into(), json!(fixed.address));
                    network.insert("netmask".into(), json!(fixed.netmask()));
                    network.insert("routes".into(), json!(fixed.routes()));
                    network.insert("services".into(), json!(dns));
                }
                for service in dns {
                    if !services.contains(&service) {
                        services.push(service);
                    }
                }
                networks.push(Value::Object(network));
            }
        }
        json!({"links": links, "networks": networks, "services": services})
    }

    /// The EC2 tree below a version, by path. A path that ends in `/` is a folder.
    pub fn ec2(&self) -> BTreeMap<String, Vec<u8>> {
        let server = &self.server;
        let fixed =
            self.interfaces.iter().flat_map(|interface| &interface.fixed_ips).find(|ip| !ip.address.contains(':'));
        let floating = self.interfaces.iter().flat_map(|interface| &interface.floating_ips).next();
        let groups = views::security_groups(&self.interfaces);
        let mut tree = BTreeMap::new();
        let mut put = |path: &str, value: &str| {
            tree.insert(format!("meta-data/{path}"), value.as_bytes().to_vec());
        };
        put("ami-id", &ec2_id("ami", server.image_id.as_deref().unwrap_or_default()));
        put("ami-launch-index", &server.launch_index.to_string());
        put("ami-manifest-path", "unknown");
        put("block-device-mapping/ami", "vda");
        put("block-device-mapping/root", "/dev/vda");
        put("hostname", &server.hostname);
        put("instance-action", "none");
        put("instance-id", &ec2_id("i", &server.id));
        put("instance-type", &server.flavor.name);
        put("local-hostname", &server.hostname);
        put("local-ipv4", fixed.map_or("", |ip| &ip.address));
        put("placement/availability-zone", &self.zone);
        put("public-hostname", &server.hostname);
        put("public-ipv4", floating.map_or("", String::as_str));
        put("reservation-id", &server.reservation_id);
        put("security-groups", &groups.join("\n"));
        if let (Some(name), Some(key)) = (&server.key_name, &server.public_key) {
            put("public-keys/0/openssh-key", key.trim());
            tree.insert("meta-data/public-keys/".into(), format!("0={name}").into_bytes());
        }
        if let Some(user_data) = self.user_data() {
            tree.insert("user-data".into(), user_data);
        }
        tree
    }

    /// All files of the config drive, by path.
    pub fn config_drive(&self, options: &Options) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let documents = self.openstack(options);
        for version in VERSIONS.iter().chain(&["latest"]) {
            for (name, content) in &documents {
                files.insert(format!("openstack/{version}/{name}"), content.clone());
            }
        }
        for (number, file) in self.files.iter().enumerate() {
            files.insert(format!("openstack/{}", content_path(number)), file.contents.clone());
        }
        let mut ec2 = Map::new();
        for (path, content) in self.ec2() {
            if let Some(name) = path.strip_prefix("meta-data/").filter(|name| !name.contains('/')) {
                ec2.insert(name.to_owned(), json!(String::from_utf8_lossy(&content)));
            }
        }
        for version in ["2009-04-04", "latest"] {
            files.insert(format!("ec2/{version}/meta-data.json"), bytes(&Value::Object(ec2.clone())));
            if let Some(user_data) = self.user_data() {
                files.insert(format!("ec2/{version}/user-data"), user_data);
            }
        }
        files
    }
}

fn content_path(number: usize) -> String {
    format!("content/{number:04}")
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// An id in EC2's form that stays the same for the same resource.
fn ec2_id(prefix: &str, id: &str) -> String {
    let hex: String = id.chars().filter(char::is_ascii_hexdigit).take(8).collect();
    format!("{prefix}-{hex:0>8}")
}

/// 512 random bytes in base64, new at every reading.
fn random_seed() -> String {
    let mut seed = [0_u8; 512];
    for chunk in seed.chunks_mut(16) {
        chunk.copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    }
    base64::engine::general_purpose::STANDARD.encode(seed)
}

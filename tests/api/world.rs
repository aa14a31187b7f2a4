//! A project that has one of everything, so that every route can be asked about something that is there, and a valid
//! body for every route that takes one. A new route must be entered here: the tests that walk the table say so.

use std::collections::BTreeMap;

use http::Method;
use kit::{
    Persona::{Admin, Member, Reader},
    TestCloud, wait_for,
};
use rest::RouteInfo;
use serde_json::{Value, json};

use crate::servers::text;

/// In every name of what `Member` owns: nobody else may read it anywhere.
pub const MARK: &str = "secret-of-one";
/// In names of what everybody may read.
const SHARED: &str = "of-the-cloud";
/// What Compute answers 410 for.
const RETIRED: &[&str] = &[
    "/os-agents",
    "/os-cells",
    "/os-certificates",
    "/os-cloudpipe",
    "/os-fixed-ips",
    "/os-floating-ip-dns",
    "/os-floating-ips-bulk",
    "/os-fping",
    "/os-security-group-default-rules",
    "/consoles",
    "/os-networks",
    "/os-tenant-networks",
];
/// Names that nothing has.
const ABSENT_UUID: &str = "0abcdef0-0000-4000-8000-000000000000";
const ABSENT_HEX: &str = "0abcdef0000040008000000000000000";

pub struct World {
    pub cloud: TestCloud,
    /// Service and preceding path segment, to what stands there.
    there: BTreeMap<(&'static str, &'static str), String>,
}

/// Which things a path is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// What `Member` has.
    There,
    /// What nobody has.
    Absent,
}

impl World {
    pub async fn new() -> Self {
        let cloud = TestCloud::start().await;
        let mut world = Self { cloud, there: BTreeMap::new() };
        world.network().await;
        world.image().await;
        world.compute().await;
        world.identity().await;
        world.federation().await;
        world.placement().await;
        world
    }

    fn put(&mut self, service: &'static str, before: &'static str, value: impl Into<String>) -> String {
        let value = value.into();
        self.there.insert((service, before), value.clone());
        value
    }

    pub fn there(&self, service: &'static str, before: &'static str) -> &str {
        &self.there[&(service, before)]
    }

    async fn network(&mut self) {
        let project = self.cloud.project(Member).await;
        let (network, subnet) = self.cloud.network(Member, MARK, "192.0.2.0/24").await;
        let networks = self.cloud.as_(Member).get("/network/v2.0/networks?router:external=true").await.expect(200);
        let public = text(&networks["networks"][0]["id"]).to_owned();
        for (path, body) in [
            ("ports", json!({"port": {"network_id": network, "name": MARK}})),
            ("routers", json!({"router": {"name": MARK}})),
            ("floatingips", json!({"floatingip": {"floating_network_id": public, "description": MARK}})),
            ("security-groups", json!({"security_group": {"name": MARK}})),
            ("subnetpools", json!({"subnetpool": {"name": MARK, "prefixes": ["198.51.100.0/24"]}})),
        ] {
            let made = self.cloud.as_(Member).post(&format!("/network/v2.0/{path}"), body).await.expect(201);
            let id = text(&made.as_object().unwrap().values().next().unwrap()["id"]).to_owned();
            self.put("network", path, id);
        }
        let group = self.there("network", "security-groups").to_owned();
        let rule =
            json!({"security_group_rule": {"security_group_id": group, "direction": "ingress", "description": MARK}});
        let rule = self.cloud.as_(Member).post("/network/v2.0/security-group-rules", rule).await.expect(201);
        self.put("network", "security-group-rules", text(&rule["security_group_rule"]["id"]));
        self.cloud
            .as_(Member)
            .put(&format!("/network/v2.0/networks/{network}/tags/{MARK}"), Value::Null)
            .await
            .expect(201);
        self.put("network", "public", public);
        self.put("network", "subnets", subnet);
        self.put("network", "network-ip-availabilities", network.clone());
        self.put("network", "{collection}", network.clone());
        self.put("network", "networks", network);
        self.put("network", "quotas", project.clone());
        self.put("network", "auto-allocated-topology", project);
        self.put("network", "tags", MARK);
        self.put("network", "extensions", "router");
        let agents = self.cloud.as_(Admin).get("/network/v2.0/agents").await.expect(200);
        self.put("network", "agents", text(&agents["agents"][0]["id"]));
    }

    async fn image(&mut self) {
        let image = self.cloud.image_with(Member, json!({"name": MARK, "visibility": "shared", "tags": [MARK]})).await;
        let friend = self.cloud.project(Admin).await;
        let members = format!("/image/v2/images/{image}/members");
        self.cloud.as_(Member).post(&members, json!({"member": friend})).await.expect(200);
        self.put("image", "images", image);
        self.put("image", "members", friend);
        self.put("image", "tags", MARK);
        self.put("image", "schemas", "image");
        let owner = self.cloud.project(Member).await;
        let space = json!({
            "namespace": format!("{MARK}-space"), "owner": owner, "visibility": "private", "tags": [{"name": MARK}],
            "objects": [{"name": format!("{MARK}-object")}],
            "properties": {format!("{MARK}-property"): {"title": "t", "type": "string"}},
            "resource_type_associations": [{"name": "OS::Nova::Server"}],
        });
        self.cloud.as_(Admin).post("/image/v2/metadefs/namespaces", space).await.expect(201);
        for (kind, name) in [("namespaces", "space"), ("objects", "object"), ("properties", "property")] {
            self.put("image", kind, format!("{MARK}-{name}"));
        }
        self.put("image", "resource_types", "OS::Nova::Server");
        self.put("image", "metadefs", "tags");
        let image = self.there("image", "images").to_owned();
        self.put("image", "cache", image);
        self.import().await;
    }

    /// An import that has ended: a task.
    async fn import(&mut self) {
        let member = self.cloud.as_(Member);
        let body = json!({"name": MARK, "disk_format": "raw", "container_format": "bare"});
        let image = text(&member.post("/image/v2/images", body).await.expect(201)["id"]).to_owned();
        let path = format!("/image/v2/images/{image}");
        let kind = [("content-type", "application/octet-stream")];
        member.raw(Method::PUT, &format!("{path}/stage"), &kind, "data").await.expect(204);
        member.post(&format!("{path}/import"), json!({"method": {"name": "glance-direct"}})).await.expect(202);
        let task = wait_for("the import", async || {
            let tasks = self.cloud.as_(Member).get(&format!("{path}/tasks")).await.expect(200);
            if tasks["tasks"][0]["status"] == "success" {
                Ok(tasks["tasks"][0].clone())
            } else {
                Err(tasks.to_string())
            }
        })
        .await;
        self.put("image", "tasks", text(&task["id"]));
    }

    async fn compute(&mut self) {
        let key = json!({"keypair": {"name": MARK}});
        self.cloud.as_(Member).post("/compute/v2.1/os-keypairs", key).await.expect(200);
        self.put("compute", "os-keypairs", MARK);
        let group = json!({"server_group": {"name": MARK, "policies": ["affinity"]}});
        let group = self.cloud.as_(Member).post("/compute/v2.1/os-server-groups", group).await.expect(200);
        self.put("compute", "os-server-groups", text(&group["server_group"]["id"]));
        let flavor = self.cloud.flavor(json!({"name": MARK, "os-flavor-access:is_public": false})).await;
        let project = self.cloud.project(Member).await;
        let admin = self.cloud.as_(Admin);
        let access = json!({"addTenantAccess": {"tenant": project}});
        admin.post(&format!("/compute/v2.1/flavors/{flavor}/action"), access).await.expect(200);
        let specs = json!({"extra_specs": {"hw:secret": "1"}});
        admin.post(&format!("/compute/v2.1/flavors/{flavor}/os-extra_specs"), specs).await.expect(200);
        let service = admin.at("latest").get("/compute/v2.1/os-services?binary=nova-compute").await.expect(200);
        let hypervisors = admin.at("latest").get("/compute/v2.1/os-hypervisors").await.expect(200);
        self.put("compute", "os-services", text(&service["services"][0]["id"]));
        self.put("compute", "os-hypervisors", text(&hypervisors["hypervisors"][0]["id"]));
        let network = self.there("network", "networks").to_owned();
        let wanted = json!({
            "name": MARK, "key_name": MARK, "flavorRef": flavor, "metadata": {MARK: MARK},
            "networks": [{"uuid": network}], "user_data": kit::base64(MARK),
        });
        let server = self.cloud.boot(Member, wanted).await;
        let member = self.cloud.as_(Member).at("2.26");
        member.put(&format!("/compute/v2.1/servers/{server}/tags/{MARK}"), Value::Null).await.expect(201);
        let actions = member.get(&format!("/compute/v2.1/servers/{server}/os-instance-actions")).await.expect(200);
        let ports = member.get(&format!("/compute/v2.1/servers/{server}/os-interface")).await.expect(200);
        let console = json!({"remote_console": {"protocol": "serial", "type": "serial"}});
        let console =
            member.post(&format!("/compute/v2.1/servers/{server}/remote-consoles"), console).await.expect(200);
        let token = text(&console["remote_console"]["url"]).rsplit('=').next().unwrap();
        self.put("compute", "os-console-auth-tokens", token);
        self.put("compute", "os-instance-actions", text(&actions["instanceActions"][0]["request_id"]));
        self.put("compute", "os-interface", text(&ports["interfaceAttachments"][0]["port_id"]));
        // No live migration has this number, nor any.
        self.put("compute", "migrations", "77");
        self.put("compute", "servers", server);
        self.put("compute", "flavors", flavor);
        self.put("compute", "os-extra_specs", "hw:secret");
        self.put("compute", "metadata", MARK);
        self.put("compute", "tags", MARK);
        self.put("compute", "ips", MARK);
        self.put("compute", "os-simple-tenant-usage", project.clone());
        self.put("compute", "os-instance_usage_audit_log", "2026-01-02T03:04:05");
        self.put("compute", "os-quota-sets", project);
        self.put("compute", "os-quota-class-sets", "default");
        self.put("compute", "extensions", "os-keypairs");
        for (compute, service, at) in [
            ("os-networks", "network", "networks"),
            ("os-tenant-networks", "network", "networks"),
            ("os-floating-ips", "network", "floatingips"),
            ("os-security-groups", "network", "security-groups"),
            ("os-security-group-rules", "network", "security-group-rules"),
            ("images", "image", "images"),
        ] {
            let there = self.there(service, at).to_owned();
            self.put("compute", compute, there);
        }
        let aggregate = json!({"aggregate": {"name": SHARED}});
        let aggregate = self.cloud.as_(Admin).post("/compute/v2.1/os-aggregates", aggregate).await.expect(200);
        self.put("compute", "os-aggregates", aggregate["aggregate"]["id"].to_string());
        let host = text(&service["services"][0]["host"]).to_owned();
        self.put("compute", "os-hosts", host);
        for gone in [
            "os-agents",
            "os-cells",
            "os-certificates",
            "os-cloudpipe",
            "os-fixed-ips",
            "os-floating-ip-dns",
            "os-floating-ips-bulk",
            "os-fping",
            "os-security-group-default-rules",
            "entries",
            "consoles",
        ] {
            self.put("compute", gone, "gone");
        }
    }

    async fn identity(&mut self) {
        let (user, project) = (self.cloud.user(Member).await, self.cloud.project(Member).await);
        self.put("identity", "users", user.clone());
        self.put("identity", "projects", project.clone());
        for (path, body) in [
            ("groups", json!({"group": {"name": MARK, "domain_id": "default"}})),
            ("roles", json!({"role": {"name": MARK}})),
            ("domains", json!({"domain": {"name": MARK, "enabled": false}})),
            ("regions", json!({"region": {"id": SHARED}})),
            ("services", json!({"service": {"type": SHARED, "name": SHARED}})),
        ] {
            let made = self.cloud.as_(Admin).post(&format!("/identity/v3/{path}"), body).await.expect(201);
            let id = text(&made.as_object().unwrap().values().next().unwrap()["id"]).to_owned();
            self.put("identity", path, id);
        }
        let endpoint = json!({"endpoint": {
            "service_id": self.there("identity", "services"), "interface": "public", "url": "https://secret.test/"
        }});
        let endpoint = self.cloud.as_(Admin).post("/identity/v3/endpoints", endpoint).await.expect(201);
        self.put("identity", "endpoints", text(&endpoint["endpoint"]["id"]));
        let implied = json!({"role": {"name": format!("implied-{MARK}")}});
        let implied = self.cloud.as_(Admin).post("/identity/v3/roles", implied).await.expect(201);
        self.put("identity", "implies", text(&implied["role"]["id"]));
        let mine = format!("/identity/v3/users/{user}");
        let own = json!({"application_credential": {
            "name": MARK, "access_rules": [{"path": "/v2.1/servers", "method": "GET", "service": "compute"}]
        }});
        let own = self.cloud.as_(Member).post(&format!("{mine}/application_credentials"), own).await.expect(201);
        self.put("identity", "application_credentials", text(&own["application_credential"]["id"]));
        self.put("identity", "access_rules", text(&own["application_credential"]["access_rules"][0]["id"]));
        let stored = json!({"credential": {"type": "other", "blob": MARK, "user_id": user, "project_id": project}});
        let stored = self.cloud.as_(Member).post("/identity/v3/credentials", stored).await.expect(201);
        self.put("identity", "credentials", text(&stored["credential"]["id"]));
        let ec2 =
            self.cloud.as_(Member).post(&format!("{mine}/credentials/OS-EC2"), json!({"tenant_id": project})).await;
        self.put("identity", "OS-EC2", text(&ec2.expect(201)["credential"]["access"]));
        self.put("identity", "tags", MARK);
        let trust = json!({"trust": {
            "trustor_user_id": user, "trustee_user_id": self.cloud.user(Reader).await, "impersonation": false,
            "project_id": project, "roles": [{"name": "reader"}],
        }});
        let trust = self.cloud.as_(Member).post("/identity/v3/OS-TRUST/trusts", trust).await.expect(201);
        self.put("identity", "trusts", text(&trust["trust"]["id"]));
        let service = self.there("identity", "services").to_owned();
        for (path, body) in [
            ("policies", json!({"policy": {"type": "text/plain", "blob": MARK}})),
            ("OS-OAUTH1/consumers", json!({"consumer": {"description": MARK}})),
            (
                "OS-EP-FILTER/endpoint_groups",
                json!({"endpoint_group": {"name": MARK, "filters": {"interface": "admin"}}}),
            ),
            (
                "registered_limits",
                json!({"registered_limits": [{"service_id": service, "resource_name": SHARED, "default_limit": 1}]}),
            ),
            (
                "limits",
                json!({"limits": [{
                    "service_id": service, "project_id": project, "resource_name": SHARED, "resource_limit": 1
                }]}),
            ),
        ] {
            let made = self.cloud.as_(Admin).post(&format!("/identity/v3/{path}"), body).await.expect(201);
            let made = made.as_object().unwrap().values().next().unwrap();
            let id = text(made.get("id").unwrap_or(&made[0]["id"])).to_owned();
            self.put("identity", path.rsplit('/').next().unwrap(), id);
        }
    }

    /// Resources of Identity that are put where the client says.
    async fn federation(&mut self) {
        let there = |kind| self.there("identity", kind).to_owned();
        let (domain, policy, endpoint) = (there("domains"), there("policies"), there("endpoints"));
        let (service, region) = (there("services"), there("regions"));
        let rules = json!([{"local": [{"user": {"name": "{0}"}}], "remote": [{"type": "UserName"}]}]);
        let associated = format!("policies/{policy}/OS-ENDPOINT-POLICY");
        for (path, body, status) in [
            (
                "OS-FEDERATION/identity_providers/acme-people".into(),
                json!({"identity_provider": {"domain_id": domain}}),
                201,
            ),
            ("OS-FEDERATION/mappings/acme-rules".into(), json!({"mapping": {"rules": rules}}), 201),
            (
                "OS-FEDERATION/identity_providers/acme-people/protocols/openid".into(),
                json!({"protocol": {"mapping_id": "acme-rules"}}),
                201,
            ),
            (
                "OS-FEDERATION/service_providers/acme-cloud".into(),
                json!({"service_provider": {"auth_url": "https://secret.test/v3", "sp_url": "https://secret.test/"}}),
                201,
            ),
            (format!("domains/{domain}/config"), json!({"config": {"ldap": {"url": "ldap://secret.test"}}}), 201),
            (format!("{associated}/endpoints/{endpoint}"), Value::Null, 204),
            (format!("{associated}/services/{service}"), Value::Null, 204),
            (format!("{associated}/services/{service}/regions/{region}"), Value::Null, 204),
        ] {
            self.cloud.as_(Admin).put(&format!("/identity/v3/{path}"), body).await.expect(status);
        }
        for (kind, id) in [
            ("identity_providers", "acme-people"),
            ("mappings", "acme-rules"),
            ("protocols", "openid"),
            ("websso", "openid"),
            ("service_providers", "acme-cloud"),
            ("config", "ldap"),
            ("{group}", "url"),
        ] {
            self.put("identity", kind, id);
        }
    }

    async fn placement(&mut self) {
        let admin = self.cloud.as_(Admin).at("latest");
        let providers = admin.get("/placement/resource_providers").await.expect(200);
        let host = text(&providers["resource_providers"][0]["uuid"]).to_owned();
        admin.put("/placement/traits/CUSTOM_SECRET", Value::Null).await.expect(201);
        admin.put("/placement/resource_classes/CUSTOM_SECRET", Value::Null).await.expect(201);
        let server = self.there("compute", "servers").to_owned();
        wait_for("the server's allocation", async || {
            let seen = self.cloud.as_(Admin).get(&format!("/placement/allocations/{server}")).await.expect(200);
            if seen["allocations"].as_object().is_some_and(|map| !map.is_empty()) {
                Ok(())
            } else {
                Err(seen.to_string())
            }
        })
        .await;
        self.put("placement", "resource_providers", host);
        self.put("placement", "traits", "CUSTOM_SECRET");
        self.put("placement", "resource_classes", "CUSTOM_SECRET");
        self.put("placement", "inventories", "VCPU");
        self.put("placement", "allocations", server);
    }

    /// Everything that only `Member`'s project may read: ids and names.
    pub fn marks(&self) -> Vec<String> {
        let private = [
            ("compute", "servers"),
            ("compute", "os-interface"),
            ("network", "networks"),
            ("network", "subnets"),
            ("network", "ports"),
            ("network", "routers"),
            ("network", "floatingips"),
            ("network", "security-groups"),
            ("network", "security-group-rules"),
            ("network", "subnetpools"),
            ("image", "images"),
            ("identity", "users"),
            ("identity", "projects"),
            ("identity", "application_credentials"),
            ("identity", "credentials"),
        ];
        private.iter().map(|key| self.there[key].clone()).chain([MARK.to_owned()]).collect()
    }

    /// The URL for a line of the table.
    pub fn url(&self, service: &'static str, prefix: &str, path: &'static str, about: About) -> String {
        let mut url = prefix.to_owned();
        let mut before = "";
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            url.push('/');
            if segment.starts_with('{') {
                url.push_str(&self.segment(service, path, before, segment, about));
            } else {
                url.push_str(segment);
            }
            before = segment;
        }
        url
    }

    fn segment(&self, service: &str, path: &str, before: &str, segment: &str, about: About) -> String {
        if segment == "{collection}" {
            return "networks".into();
        }
        if service == "identity" && before == "credentials" && segment == "{credential_id}" && path.contains("OS-EC2") {
            return "OS-EC2".into();
        }
        let there = self.there.iter().find(|((of, at), _)| *of == service && *at == before).map(|(_, value)| value);
        let there = there.unwrap_or_else(|| panic!("tests/api/world.rs has nothing for {segment} of {service} {path}"));
        match about {
            About::There => there.clone(),
            About::Absent if rest::is_uuid(there) => ABSENT_UUID.into(),
            About::Absent if there.len() == 32 => ABSENT_HEX.into(),
            About::Absent => "ABSENT".into(),
        }
    }

    /// A valid body for a line of the table; `None` for those that take none.
    pub async fn sample(&self, service: &str, route: &RouteInfo) -> Option<Value> {
        let there = |service, before| self.there(service, before).to_owned();
        let method = route.method.as_str();
        if !matches!(route.method, Method::POST | Method::PUT | Method::PATCH) {
            return None;
        }
        let network = || there("network", "networks");
        Some(match (service, method, route.path) {
            ("compute", "POST", "/v2.1/servers") => json!({"server": {
                "name": "sample", "imageRef": self.cloud.image().await, "flavorRef": "42", "networks": "none",
                "key_name": null, "user_data": "eA==", "metadata": {"a": "b"}, "config_drive": true,
                "security_groups": [{"name": "default"}], "min_count": 1, "max_count": 1, "availability_zone": "nova",
                "adminPass": "x", "accessIPv4": "192.0.2.1", "accessIPv6": "2001:db8::1",
                "OS-DCF:diskConfig": "AUTO", "description": "d", "tags": ["a"],
                "block_device_mapping_v2": [{
                    "source_type": "image", "destination_type": "local", "boot_index": 0, "uuid": self.cloud.image().await
                }],
            }, "os:scheduler_hints": {"same_host": []}}),
            ("compute", "POST", "/v2.1/servers/{id}/migrations/{migration_id}/action") => {
                json!({"force_complete": null})
            }
            ("compute", "PUT", "/v2.1/servers/{id}") => json!({"server": {
                "name": MARK, "accessIPv4": "192.0.2.1", "accessIPv6": "2001:db8::1", "OS-DCF:diskConfig": "AUTO",
                "description": "d",
            }}),
            ("compute", "POST", "/v2.1/servers/{id}/action") => json!({"os-getConsoleOutput": {"length": 1}}),
            ("compute", "POST", "/v2.1/servers/{id}/remote-consoles") => {
                json!({"remote_console": {"protocol": "serial", "type": "serial"}})
            }
            ("compute", "POST", "/v2.1/servers/{id}/os-interface") => json!({"interfaceAttachment": {
                "net_id": network(), "fixed_ips": [{"ip_address": "192.0.2.99"}], "tag": "a",
            }}),
            ("compute", "POST" | "PUT", "/v2.1/servers/{id}/metadata") => json!({"metadata": {MARK: MARK}}),
            ("compute", "PUT", "/v2.1/servers/{id}/metadata/{key}") => json!({"meta": {MARK: MARK}}),
            ("compute", "PUT", "/v2.1/servers/{id}/tags") => json!({"tags": [MARK]}),
            ("compute", "PUT", "/v2.1/servers/{id}/tags/{tag}") => return None,
            ("compute", "POST", "/v2.1/flavors") => json!({"flavor": {
                "name": "sample", "id": "sample", "ram": 1, "vcpus": 1, "disk": 0, "OS-FLV-EXT-DATA:ephemeral": 0,
                "swap": 0, "rxtx_factor": 1.0, "os-flavor-access:is_public": false, "description": "d",
            }}),
            ("compute", "PUT", "/v2.1/flavors/{id}") => json!({"flavor": {"description": "d"}}),
            ("compute", "POST", "/v2.1/flavors/{id}/action") => {
                json!({"addTenantAccess": {"tenant": there("identity", "projects")}})
            }
            ("compute", "POST", "/v2.1/flavors/{id}/os-extra_specs") => json!({"extra_specs": {"hw:secret": "1"}}),
            ("compute", "PUT", "/v2.1/flavors/{id}/os-extra_specs/{key}") => json!({"hw:secret": "1"}),
            ("compute", "POST", "/v2.1/os-keypairs") => json!({"keypair": {"name": "sample", "type": "ssh"}}),
            ("compute", "POST", "/v2.1/os-server-groups") => {
                json!({"server_group": {"name": "sample", "policies": ["anti-affinity"]}})
            }
            ("compute", "PUT", "/v2.1/os-quota-sets/{project_id}") => json!({"quota_set": {
                "instances": 50, "cores": -1, "ram": -1, "key_pairs": 5, "metadata_items": 7, "server_groups": 1,
                "server_group_members": 1, "force": true,
            }}),
            ("compute", "PUT", "/v2.1/os-quota-class-sets/{class}") => {
                json!({"quota_class_set": {"instances": 50, "cores": 100}})
            }
            ("compute", "POST", "/v2.1/os-aggregates") => {
                json!({"aggregate": {"name": "sample", "availability_zone": "sample"}})
            }
            ("compute", "PUT", "/v2.1/os-aggregates/{id}") => json!({"aggregate": {"name": SHARED}}),
            ("compute", "POST", "/v2.1/os-aggregates/{id}/action") => {
                json!({"set_metadata": {"metadata": {"a": "b"}}})
            }
            ("compute", "POST", "/v2.1/os-aggregates/{id}/images") => json!({"cache": [{"id": ABSENT_UUID}]}),
            ("compute", "PUT", "/v2.1/os-hosts/{host_name}") => json!({"status": "enable"}),
            ("compute", "POST", "/v2.1/os-server-external-events") => json!({"events": [{
                "name": "network-changed", "server_uuid": ABSENT_UUID, "status": "completed", "tag": "a",
            }]}),
            ("compute", "POST", "/v2.1/os-floating-ips") => json!({"pool": "public"}),
            ("compute", "POST" | "PUT", "/v2.1/os-security-groups" | "/v2.1/os-security-groups/{id}") => {
                json!({"security_group": {"name": "sample", "description": "d"}})
            }
            ("compute", "POST", "/v2.1/os-security-group-rules") => json!({"security_group_rule": {
                "parent_group_id": there("network", "security-groups"), "ip_protocol": "tcp", "from_port": 80,
                "to_port": 80, "cidr": "192.0.2.0/24", "group_id": null,
            }}),
            ("compute", "POST" | "PUT", "/v2.1/images/{id}/metadata") => json!({"metadata": {"a": "b"}}),
            ("compute", "PUT", "/v2.1/images/{id}/metadata/{key}") => json!({"meta": {"ABSENT": "b"}}),
            ("compute", _, path) if RETIRED.iter().any(|gone| path.contains(gone)) => return None,
            ("compute", "PUT", "/v2.1/os-services/{id}") => {
                json!({"status": "enabled", "forced_down": false})
            }
            ("network", "POST", "/v2.0/networks") => json!({"network": {
                "name": "sample", "description": "d", "admin_state_up": true, "mtu": 1400,
                "port_security_enabled": true, "availability_zone_hints": [],
            }}),
            ("network", "PUT", "/v2.0/networks/{id}") => json!({"network": {
                "name": MARK, "description": "d", "admin_state_up": true, "port_security_enabled": true,
            }}),
            ("network", "POST", "/v2.0/subnets") => json!({"subnet": {
                "network_id": network(), "cidr": "203.0.113.0/24", "ip_version": 4, "name": "sample",
                "description": "d", "gateway_ip": "203.0.113.1", "enable_dhcp": true,
                "allocation_pools": [{"start": "203.0.113.2", "end": "203.0.113.9"}], "dns_nameservers": ["192.0.2.9"],
                "host_routes": [{"destination": "198.51.100.0/24", "nexthop": "203.0.113.1"}],
            }}),
            ("network", "PUT", "/v2.0/subnets/{id}") => json!({"subnet": {
                "name": MARK, "description": "d", "gateway_ip": "192.0.2.1", "enable_dhcp": true,
                "allocation_pools": [{"start": "192.0.2.2", "end": "192.0.2.254"}], "dns_nameservers": ["192.0.2.9"],
                "host_routes": [{"destination": "198.51.100.0/24", "nexthop": "192.0.2.1"}],
            }}),
            ("network", "POST", "/v2.0/subnetpools") => json!({"subnetpool": {
                "name": "sample", "description": "d", "prefixes": ["10.9.0.0/16"], "default_prefixlen": 24,
                "min_prefixlen": 8, "max_prefixlen": 30, "default_quota": 9, "is_default": false, "shared": false,
            }}),
            ("network", "PUT", "/v2.0/subnetpools/{id}") => json!({"subnetpool": {
                "name": MARK, "description": "d", "prefixes": ["198.51.100.0/24"], "default_prefixlen": 26,
            }}),
            ("network", "POST", "/v2.0/ports") => json!({"port": {
                "network_id": network(), "name": "sample", "description": "d", "admin_state_up": true,
                "fixed_ips": [{"subnet_id": there("network", "subnets"), "ip_address": "192.0.2.77"}],
                "security_groups": [there("network", "security-groups")], "device_id": "d", "device_owner": "sample:x",
                "allowed_address_pairs": [{"ip_address": "192.0.2.8", "mac_address": "fa:16:3e:00:00:01"}],
                "extra_dhcp_opts": [{"opt_name": "mtu", "opt_value": "1400", "ip_version": 4}],
                "port_security_enabled": true, "binding:vnic_type": "normal",
            }}),
            ("network", "PUT", "/v2.0/ports/{id}") => json!({"port": {
                "name": MARK, "description": "d", "admin_state_up": true,
                "security_groups": [there("network", "security-groups")],
                "allowed_address_pairs": [{"ip_address": "192.0.2.8", "mac_address": "fa:16:3e:00:00:01"}],
                "extra_dhcp_opts": [{"opt_name": "mtu", "opt_value": "1400", "ip_version": 4}],
            }}),
            ("network", "POST", "/v2.0/routers") => json!({"router": {
                "name": "sample", "description": "d", "admin_state_up": true,
                "external_gateway_info": {"network_id": there("network", "public")},
            }}),
            ("network", "PUT", "/v2.0/routers/{id}") => json!({"router": {
                "name": MARK, "description": "d", "admin_state_up": true, "external_gateway_info": {}, "routes": [],
            }}),
            (
                "network",
                "PUT",
                "/v2.0/routers/{id}/add_router_interface" | "/v2.0/routers/{id}/remove_router_interface",
            ) => json!({"subnet_id": there("network", "subnets")}),
            ("network", "PUT", "/v2.0/routers/{id}/add_extraroutes" | "/v2.0/routers/{id}/remove_extraroutes") => {
                json!({"router": {"routes": [{"destination": "198.51.100.0/24", "nexthop": "192.0.2.1"}]}})
            }
            ("network", "POST", "/v2.0/floatingips") => json!({"floatingip": {
                "floating_network_id": there("network", "public"), "description": "d",
            }}),
            ("network", "PUT", "/v2.0/floatingips/{id}") => {
                json!({"floatingip": {"port_id": null, "description": MARK}})
            }
            ("network", "POST", "/v2.0/security-groups") => {
                json!({"security_group": {"name": "sample", "description": "d", "stateful": true}})
            }
            ("network", "PUT", "/v2.0/security-groups/{id}") => {
                json!({"security_group": {"name": MARK, "description": "d"}})
            }
            ("network", "POST", "/v2.0/security-group-rules") => json!({"security_group_rule": {
                "security_group_id": there("network", "security-groups"), "direction": "ingress", "ethertype": "IPv4",
                "protocol": "tcp", "port_range_min": 22, "port_range_max": 22, "remote_ip_prefix": "192.0.2.0/24",
                "description": "d",
            }}),
            ("network", "PUT", "/v2.0/quotas/{project_id}") => json!({"quota": {"network": 500, "port": 500}}),
            ("network", "PUT", "/v2.0/{collection}/{id}/tags") => json!({"tags": [MARK]}),
            ("network", "PUT", "/v2.0/{collection}/{id}/tags/{tag}") => return None,
            ("image", "POST", "/v2/images") => json!({
                "name": "sample", "disk_format": "raw", "container_format": "bare", "visibility": "private",
                "min_disk": 0, "min_ram": 0, "protected": false, "tags": ["a"], "os_distro": "x", "os_hidden": false,
            }),
            ("image", "PATCH", "/v2/images/{image_id}") => json!([
                {"op": "replace", "path": "/name", "value": MARK}, {"op": "add", "path": "/extra", "value": "x"},
                {"op": "remove", "path": "/extra"},
            ]),
            ("image", "POST", "/v2/images/{image_id}/import") => {
                json!({"method": {"name": "glance-direct"}, "all_stores_must_succeed": true})
            }
            ("image", "POST", "/v2/images/{image_id}/members") => json!({"member": there("identity", "projects")}),
            ("image", "PUT", "/v2/images/{image_id}/members/{member_id}") => json!({"status": "accepted"}),
            ("image", "POST", "/v2/images/{image_id}/locations") => json!({"url": "http://192.0.2.1/x"}),
            ("image", "PUT", "/v2/cache/{image_id}") => return None,
            ("image", "POST", "/v2/tasks") => json!({"type": "import", "input": {
                "import_from": "http://images.invalid/x", "import_from_format": "raw",
                "image_properties": {"name": "sample", "disk_format": "raw", "container_format": "bare"},
            }}),
            ("image", "POST", "/v2/metadefs/namespaces") | ("image", "PUT", "/v2/metadefs/namespaces/{namespace}") => {
                json!({"namespace": "sample", "visibility": "private", "description": "d", "protected": false})
            }
            ("image", "POST", "/v2/metadefs/namespaces/{namespace}/tags") => json!({"tags": [{"name": "sample"}]}),
            ("image", "POST", "/v2/metadefs/namespaces/{namespace}/tags/{tag_name}") => return None,
            ("image", "PUT", "/v2/metadefs/namespaces/{namespace}/tags/{tag_name}") => json!({"name": "sample"}),
            ("image", _, path) if path.starts_with("/v2/metadefs/namespaces/{namespace}/objects") => {
                json!({"name": "sample", "description": "d", "required": ["a"], "properties": {}})
            }
            ("image", _, path) if path.starts_with("/v2/metadefs/namespaces/{namespace}/properties") => {
                json!({"name": "sample", "title": "t", "type": "string", "maxLength": 9})
            }
            ("image", "POST", "/v2/metadefs/namespaces/{namespace}/resource_types") => {
                json!({"name": "OS::Glance::Image", "prefix": "p:", "properties_target": "t"})
            }
            (
                "image",
                _,
                "/v2/images/{image_id}/file"
                | "/v2/images/{image_id}/stage"
                | "/v2/images/{image_id}/tags/{tag}"
                | "/v2/images/{image_id}/actions/deactivate"
                | "/v2/images/{image_id}/actions/reactivate",
            ) => return None,
            ("placement", "POST", "/resource_classes") => json!({"name": "CUSTOM_SAMPLE"}),
            ("placement", "PUT", "/resource_classes/{name}" | "/traits/{name}") => return None,
            ("placement", "POST", "/resource_providers") => {
                json!({"name": "sample", "uuid": "5a3b1c00-0000-4000-8000-000000000001", "parent_provider_uuid": null})
            }
            ("placement", "PUT", "/resource_providers/{uuid}") => {
                json!({"name": "renamed", "parent_provider_uuid": null})
            }
            ("placement", "POST", "/resource_providers/{uuid}/inventories") => inventory(Some("CUSTOM_SECRET")),
            ("placement", "PUT", "/resource_providers/{uuid}/inventories") => {
                json!({"resource_provider_generation": 1, "inventories": {"CUSTOM_SECRET": {"total": 1}}})
            }
            ("placement", "PUT", "/resource_providers/{uuid}/inventories/{resource_class}") => inventory(None),
            ("placement", "PUT", "/resource_providers/{uuid}/aggregates") => {
                json!({"resource_provider_generation": 1, "aggregates": ["5a3b1c00-0000-4000-8000-000000000002"]})
            }
            ("placement", "PUT", "/resource_providers/{uuid}/traits") => {
                json!({"resource_provider_generation": 1, "traits": ["CUSTOM_SECRET"]})
            }
            ("placement", "POST", "/allocations") => {
                json!({"5a3b1c00-0000-4000-8000-000000000003": self.allocation().await})
            }
            ("placement", "PUT", "/allocations/{consumer_uuid}") => self.allocation().await,
            ("placement", "POST", "/reshaper") => json!({
                "inventories": {there("placement", "resource_providers"): {
                    "resource_provider_generation": 1, "inventories": {"CUSTOM_SECRET": {"total": 1}}
                }},
                "allocations": {},
            }),
            ("identity", _, path) => return self.identity_sample(method, path).await,
            (service, method, path) => panic!("tests/api/world.rs has no sample body for {service} {method} {path}"),
        })
    }

    async fn allocation(&self) -> Value {
        json!({
            "allocations": {self.there("placement", "resource_providers"): {"resources": {"VCPU": 1}}},
            "project_id": self.there("identity", "projects"), "user_id": self.there("identity", "users"),
            "consumer_generation": null, "consumer_type": "INSTANCE", "mappings": {"": [self.there("placement", "resource_providers")]},
        })
    }

    async fn identity_sample(&self, method: &str, path: &'static str) -> Option<Value> {
        let there = |before| self.there("identity", before).to_owned();
        Some(match (method, path) {
            ("POST", "/v3/auth/tokens") => json!({"auth": {
                "identity": {"methods": ["password"], "password": {"user": {
                    "name": "nobody at all", "domain": {"id": "default"}, "password": "x"
                }}},
                "scope": {"project": {"name": "one", "domain": {"name": "Default"}}},
            }}),
            ("POST", "/v3/users/{user_id}/password") => {
                json!({"user": {"original_password": "wrong", "password": "new"}})
            }
            ("POST", "/v3/domains") => json!({"domain": {"name": "sample", "description": "d", "enabled": false}}),
            ("PATCH", "/v3/domains/{domain_id}") => json!({"domain": {"name": MARK, "description": "d"}}),
            ("POST", "/v3/projects") => json!({"project": {
                "name": "sample", "description": "d", "enabled": true, "domain_id": "default", "tags": ["a"],
                "options": {}, "parent_id": there("projects"), "is_domain": false,
            }}),
            ("PATCH", "/v3/projects/{project_id}") => json!({"project": {"description": "d", "tags": ["a"]}}),
            ("PUT", "/v3/projects/{project_id}/tags") => json!({"tags": [MARK]}),
            ("PUT", "/v3/projects/{project_id}/tags/{value}") => return None,
            ("POST", "/v3/users") => json!({"user": {
                "name": "sample", "description": "d", "enabled": true, "domain_id": "default", "password": "x",
                "email": "x@y.test", "default_project_id": there("projects"), "options": {"ignore_password_expiry": true},
            }}),
            ("PATCH", "/v3/users/{user_id}") => json!({"user": {"description": "d", "email": "x@y.test"}}),
            ("POST", "/v3/groups") => json!({"group": {"name": "sample", "description": "d", "domain_id": "default"}}),
            ("PATCH", "/v3/groups/{group_id}") => json!({"group": {"name": MARK, "description": "d"}}),
            ("PUT", "/v3/groups/{group_id}/users/{user_id}") => return None,
            ("POST", "/v3/roles") => json!({"role": {"name": "sample", "description": "d", "options": {}}}),
            ("PATCH", "/v3/roles/{role_id}") => json!({"role": {"name": MARK, "description": "d"}}),
            ("PUT", "/v3/roles/{role_id}/implies/{implied_role_id}") => return None,
            ("POST", "/v3/regions") => {
                json!({"region": {"id": "sample", "description": "d", "parent_region_id": SHARED}})
            }
            ("PUT" | "PATCH", "/v3/regions/{region_id}") => json!({"region": {"description": "d"}}),
            ("POST", "/v3/services") => {
                json!({"service": {"type": "sample", "name": "sample", "description": "d", "enabled": true}})
            }
            ("PATCH", "/v3/services/{service_id}") => json!({"service": {"name": SHARED, "description": "d"}}),
            ("POST", "/v3/endpoints") => json!({"endpoint": {
                "service_id": there("services"), "interface": "admin", "url": "https://secret.test/", "enabled": true,
                "region_id": SHARED, "name": "n",
            }}),
            ("PATCH", "/v3/endpoints/{endpoint_id}") => json!({"endpoint": {"url": "https://secret.test/x"}}),
            ("POST", "/v3/users/{user_id}/application_credentials") => json!({"application_credential": {
                "name": "sample", "description": "d", "secret": "x", "expires_at": "2099-01-01T00:00:00.000000Z",
                "roles": [{"name": "reader"}], "unrestricted": false,
                "access_rules": [{"path": "/v2.1/servers", "method": "GET", "service": "compute"}],
            }}),
            ("POST", "/v3/credentials") => json!({"credential": {
                "type": "other", "blob": "x", "user_id": self.cloud.user(Reader).await, "project_id": there("projects"),
            }}),
            ("PATCH", "/v3/credentials/{credential_id}") => json!({"credential": {"blob": MARK}}),
            ("POST", "/v3/users/{user_id}/credentials/OS-EC2") => json!({"tenant_id": there("projects")}),
            ("POST", "/v3/OS-TRUST/trusts") => json!({"trust": {
                "trustor_user_id": there("users"), "trustee_user_id": self.cloud.user(Reader).await,
                "impersonation": false, "project_id": there("projects"), "roles": [{"name": "reader"}],
                "expires_at": "2099-01-01T00:00:00.000000Z", "remaining_uses": 3, "allow_redelegation": false,
                "redelegation_count": 0,
            }}),
            ("POST" | "PATCH", path) if path.contains("/OS-OAUTH1/consumers") => {
                json!({"consumer": {"description": MARK}})
            }
            ("POST" | "PATCH", "/v3/policies" | "/v3/policies/{policy_id}") => {
                json!({"policy": {"type": "text/plain", "blob": "x"}})
            }
            (
                "POST" | "PATCH",
                "/v3/OS-EP-FILTER/endpoint_groups" | "/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}",
            ) => json!({"endpoint_group": {"name": MARK, "description": "d", "filters": {"interface": "admin"}}}),
            ("POST", "/v3/registered_limits") => json!({"registered_limits": [{
                "service_id": there("services"), "resource_name": "sample", "default_limit": 1, "description": "d",
                "region_id": SHARED,
            }]}),
            ("PATCH", "/v3/registered_limits/{registered_limit_id}") => {
                json!({"registered_limit": {"default_limit": 2, "description": "d"}})
            }
            ("POST", "/v3/limits") => json!({"limits": [{
                "service_id": there("services"), "resource_name": SHARED, "resource_limit": 1, "description": "d",
                "project_id": there("projects"),
            }]}),
            ("PATCH", "/v3/limits/{limit_id}") => json!({"limit": {"resource_limit": 2, "description": "d"}}),
            ("PUT", path)
                if ["/roles/{role_id}", "OS-EP-FILTER", "OS-ENDPOINT-POLICY"]
                    .iter()
                    .any(|part| path.contains(part)) =>
            {
                return None;
            }
            (_, path) if path.ends_with("/auth") || path.contains("/websso") => return None,
            (_, path) if path.contains("/protocols/") => {
                json!({"protocol": {"mapping_id": "acme-rules", "remote_id_attribute": "HTTP_OIDC_ISS"}})
            }
            (_, path) if path.contains("/identity_providers/") => json!({"identity_provider": {
                "enabled": true, "description": "d", "authorization_ttl": 5, "remote_ids": ["a"],
            }}),
            (_, path) if path.contains("/mappings/") => json!({"mapping": {"schema_version": "1.0", "rules": [{
                "local": [{"user": {"name": "{0}", "domain": {"id": "default"}}, "group": {"id": "x"}}],
                "remote": [{"type": "UserName"}, {"type": "Groups", "whitelist": ["a"], "regex": true}],
            }]}}),
            (_, path) if path.contains("/service_providers/") => json!({"service_provider": {
                "auth_url": "https://secret.test/v3", "sp_url": "https://secret.test/", "enabled": true,
                "description": "d", "relay_state_prefix": "x",
            }}),
            (_, "/v3/domains/{domain_id}/config/{group}/{option}") => json!({"config": {"url": "ldap://other.test"}}),
            (_, path) if path.contains("/config") => {
                json!({"config": {"ldap": {"url": "ldap://other.test", "use_tls": true}}})
            }
            _ => panic!("tests/api/world.rs has no sample body for identity {method} {path}"),
        })
    }
}

fn inventory(class: Option<&str>) -> Value {
    let mut inventory = json!({
        "resource_provider_generation": 1, "total": 9, "reserved": 0, "min_unit": 1, "max_unit": 9, "step_size": 1,
        "allocation_ratio": 1.0,
    });
    if let Some(class) = class {
        inventory["resource_class"] = json!(class);
    }
    inventory
}

/// The type in which a service takes a route's body.
pub fn content_type(service: &str, route: &RouteInfo) -> &'static str {
    match (service, route.path) {
        ("image", "/v2/images/{image_id}/file" | "/v2/images/{image_id}/stage") => "application/octet-stream",
        ("image", "/v2/images/{image_id}") => "application/openstack-images-v2.1-json-patch",
        _ => "application/json",
    }
}

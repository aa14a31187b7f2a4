//! A project that has one of everything, so that every route can be asked about something that is there, and (`samples`)
//! a valid body for every route that takes one. A new route must be entered here: the tests that walk the table say so.

mod samples;

use std::collections::BTreeMap;

use http::Method;
use kit::{
    Persona::{Admin, Member, Reader},
    TestCloud, wait_for,
};
use serde_json::{Value, json};

pub use samples::content_type;

use crate::servers::text;

/// In every name of what `Member` owns: nobody else may read it anywhere.
pub const MARK: &str = "secret-of-one";
/// In names of what everybody may read.
const SHARED: &str = "of-the-cloud";
/// Names that nothing has.
const ABSENT_UUID: &str = "0abcdef0-0000-4000-8000-000000000000";
const NO_VOLUME: &str = "0abcdef0-0000-4000-8000-000000000001";
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
        // There are no volumes and no shares, so no server has any.
        self.put("compute", "os-volume_attachments", NO_VOLUME);
        self.put("compute", "shares", NO_VOLUME);
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
        let there =
            there.unwrap_or_else(|| panic!("tests/api/world/mod.rs has nothing for {segment} of {service} {path}"));
        match about {
            About::There => there.clone(),
            About::Absent if rest::is_uuid(there) => ABSENT_UUID.into(),
            About::Absent if there.len() == 32 => ABSENT_HEX.into(),
            About::Absent => "ABSENT".into(),
        }
    }
}

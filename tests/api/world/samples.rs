//! A valid body for every route that takes one, and the type that it is sent in.

use http::Method;
use kit::Persona::Reader;
use rest::RouteInfo;
use serde_json::{Value, json};

use super::{ABSENT_UUID, MARK, NO_VOLUME, SHARED, World};

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

impl World {
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
            ("solostack", "PUT", "/v1/certificates/intermediate") => {
                json!({"intermediate": {"certificate": "PEM", "key": "PEM", "root": "PEM"}})
            }
            ("solostack", "POST", "/v1/claim") => {
                json!({"claim": {"code": "0000-0000-0000-0000", "password": "correct horse"}})
            }
            ("solostack", ..) => return None,
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
            ("compute", "POST", "/v2.1/servers/{id}/os-volume_attachments") => json!({"volumeAttachment": {
                "volumeId": NO_VOLUME, "device": "/dev/vdb", "tag": "a", "delete_on_termination": true,
            }}),
            ("compute", "PUT", "/v2.1/servers/{id}/os-volume_attachments/{volume_id}") => json!({"volumeAttachment": {
                "volumeId": NO_VOLUME, "id": "x", "serverId": "x", "delete_on_termination": false,
            }}),
            ("compute", "POST", "/v2.1/servers/{id}/shares") => {
                json!({"share": {"share_id": NO_VOLUME, "tag": "a"}})
            }
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
            (service, method, path) => {
                panic!("tests/api/world/samples.rs has no sample body for {service} {method} {path}")
            }
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
            _ => panic!("tests/api/world/samples.rs has no sample body for identity {method} {path}"),
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

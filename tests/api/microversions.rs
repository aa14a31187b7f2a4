//! What each microversion changes: the exact keys before and after. Compute API reference, "REST API Version History".

use std::collections::BTreeSet;

use kit::{
    Persona::{Admin, Member},
    TestCloud,
};
use serde_json::{Value, json};

use crate::servers::text;

/// What a member's GET /servers/{id} holds at 2.1, for a server that runs: nothing more, nothing less.
const SERVER_2_1: &[&str] = &[
    "OS-DCF:diskConfig",
    "OS-EXT-AZ:availability_zone",
    "OS-EXT-STS:power_state",
    "OS-EXT-STS:task_state",
    "OS-EXT-STS:vm_state",
    "OS-SRV-USG:launched_at",
    "OS-SRV-USG:terminated_at",
    "accessIPv4",
    "accessIPv6",
    "addresses",
    "config_drive",
    "created",
    "flavor",
    "hostId",
    "id",
    "image",
    "key_name",
    "links",
    "metadata",
    "name",
    "os-extended-volumes:volumes_attached",
    "progress",
    "security_groups",
    "status",
    "tenant_id",
    "updated",
    "user_id",
];

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap_or_else(|| panic!("{value} is no object")).keys().cloned().collect()
}

fn set(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|key| (*key).to_owned()).collect()
}

#[tokio::test]
async fn a_server_has_exactly_the_keys_of_its_version() {
    let cloud = TestCloud::start().await;
    cloud.network(Member, "inside", "192.0.2.0/24").await;
    let id = cloud.boot(Member, json!({})).await;
    let path = format!("/compute/v2.1/servers/{id}");
    let mut member = set(SERVER_2_1);
    let mut admin = member.clone();
    admin.extend(set(&[
        "OS-EXT-SRV-ATTR:host",
        "OS-EXT-SRV-ATTR:hypervisor_hostname",
        "OS-EXT-SRV-ATTR:instance_name",
    ]));
    for (version, new, new_for_admins) in [
        ("2.1", &[][..], &[][..]),
        ("2.2", &[], &[]),
        (
            "2.3",
            &["os-extended-volumes:volumes_attached"],
            &[
                "OS-EXT-SRV-ATTR:reservation_id",
                "OS-EXT-SRV-ATTR:launch_index",
                "OS-EXT-SRV-ATTR:hostname",
                "OS-EXT-SRV-ATTR:kernel_id",
                "OS-EXT-SRV-ATTR:ramdisk_id",
                "OS-EXT-SRV-ATTR:root_device_name",
                "OS-EXT-SRV-ATTR:user_data",
            ],
        ),
        ("2.8", &[], &[]),
        ("2.9", &["locked"], &[]),
        ("2.15", &[], &[]),
        ("2.16", &[], &["host_status"]),
        ("2.18", &[], &[]),
        ("2.19", &["description"], &[]),
        ("2.25", &[], &[]),
        ("2.26", &["tags"], &[]),
        ("2.36", &[], &[]),
        ("2.46", &[], &[]),
        ("2.47", &[], &[]),
        ("2.62", &[], &[]),
        ("2.63", &["trusted_image_certificates"], &[]),
        ("2.70", &[], &[]),
        ("2.71", &["server_groups"], &[]),
        ("2.73", &["locked_reason"], &[]),
        ("2.89", &[], &[]),
        ("2.90", &["OS-EXT-SRV-ATTR:hostname"], &[]),
        ("2.95", &[], &[]),
        ("2.96", &["pinned_availability_zone"], &[]),
        ("2.99", &[], &[]),
        ("2.100", &["scheduler_hints"], &[]),
    ] {
        member.extend(set(new));
        admin.extend(set(new));
        admin.extend(set(new_for_admins));
        let seen = cloud.as_(Member).at(version).get(&path).await.expect(200)["server"].take();
        assert_eq!(keys(&seen), member, "for a member at {version}");
        let detail = cloud.as_(Member).at(version).get("/compute/v2.1/servers/detail").await.expect(200);
        let mut listed = member.clone();
        listed.remove("server_groups");
        assert_eq!(keys(&detail["servers"][0]), listed, "in the list at {version}");
        let seen = cloud.as_(Admin).at(version).get(&path).await.expect(200)["server"].take();
        assert_eq!(keys(&seen), admin, "for an administrator at {version}");
    }
}

#[tokio::test]
async fn updating_a_server_answers_the_keys_that_strict_clients_know() {
    let cloud = TestCloud::start().await;
    cloud.network(Member, "inside", "192.0.2.0/24").await;
    let id = cloud.boot(Member, json!({})).await;
    let body = json!({"server": {"name": "new"}});
    let seen = cloud.as_(Member).put(&format!("/compute/v2.1/servers/{id}"), body).await.expect(200)["server"].take();
    let wanted = set(&[
        "OS-DCF:diskConfig",
        "accessIPv4",
        "accessIPv6",
        "addresses",
        "created",
        "flavor",
        "hostId",
        "id",
        "image",
        "links",
        "metadata",
        "name",
        "progress",
        "status",
        "tenant_id",
        "updated",
        "user_id",
    ]);
    assert_eq!(keys(&seen), wanted);
    assert_eq!(keys(&seen["addresses"]["inside"][0]), set(&["addr", "version"]));
}

#[tokio::test]
async fn since_2_75_a_server_is_answered_in_full_also_when_it_is_updated() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    let path = format!("/compute/v2.1/servers/{id}");
    for version in ["2.75", "2.100"] {
        let member = cloud.as_(Member).at(version);
        let updated = member.put(&path, json!({"server": {"description": "d"}})).await.expect(200)["server"].take();
        assert_eq!(keys(&updated), keys(&member.get(&path).await.expect(200)["server"]), "at {version}");
    }
}

#[tokio::test]
async fn what_was_asked_for_is_shown_by_the_versions_that_tell() {
    let cloud = TestCloud::start().await;
    let group = json!({"server_group": {"name": "g", "policies": ["soft-affinity"]}});
    let group = cloud.as_(Member).at("2.15").post("/compute/v2.1/os-server-groups", group).await.expect(200);
    let group = text(&group["server_group"]["id"]).to_owned();
    let zone = json!({"availability_zone": "nova", "hostname": "web-1", "networks": "none"});
    let mut body = cloud.server_body(zone).await;
    body["os:scheduler_hints"] = json!({"group": group, "x": ["y"]});
    let made = cloud.as_(Member).at("2.100").post("/compute/v2.1/servers", body).await.expect(202);
    let path = format!("/compute/v2.1/servers/{}", text(&made["server"]["id"]));
    let seen = cloud.as_(Member).at("2.100").get(&path).await.expect(200)["server"].take();
    assert_eq!(seen["server_groups"], json!([group]));
    assert_eq!(seen["pinned_availability_zone"], "nova");
    assert_eq!(seen["scheduler_hints"], json!({"group": group, "x": ["y"]}));
    assert_eq!(seen["OS-EXT-SRV-ATTR:hostname"], "web-1");
    assert_eq!(keys(&seen["image"]), set(&["id", "links", "properties"]));
    let renamed = cloud.as_(Member).at("2.90").put(&path, json!({"server": {"hostname": "web-2"}})).await.expect(200);
    assert_eq!(renamed["server"]["OS-EXT-SRV-ATTR:hostname"], "web-2");
    for (version, name) in [("2.89", "web-3"), ("2.90", "web.example"), ("2.94", "-web"), ("2.94", "a..b")] {
        let body = json!({"server": {"hostname": name}});
        cloud.as_(Member).at(version).put(&path, body).await.refused(400);
    }
    let dotted = json!({"server": {"hostname": "web.example.org"}});
    cloud.as_(Member).at("2.94").put(&path, dotted).await.expect(200);
}

#[tokio::test]
async fn a_host_can_be_chosen_by_administrators_from_2_74_and_there_is_one() {
    let cloud = TestCloud::start().await;
    let hypervisors = cloud.as_(Admin).get("/compute/v2.1/os-hypervisors").await.expect(200);
    let host = text(&hypervisors["hypervisors"][0]["hypervisor_hostname"]).to_owned();
    let body = async |host: &str| cloud.server_body(json!({"networks": "none", "host": host})).await;
    let servers = "/compute/v2.1/servers";
    cloud.as_(Admin).at("2.73").post(servers, body(&host).await).await.refused(400);
    cloud.as_(Member).at("2.74").post(servers, body(&host).await).await.refused(403);
    let why = cloud.as_(Admin).at("2.74").post(servers, body("elsewhere").await).await.refused(400);
    assert!(why.contains("elsewhere"), "{why}");
    cloud.as_(Admin).at("2.74").post(servers, body(&host).await).await.expect(202);
}

#[tokio::test]
async fn a_lock_has_a_reason_from_2_73_and_lists_tell_the_locked_from_the_others() {
    let cloud = TestCloud::start().await;
    let (locked, open) = (cloud.boot(Member, json!({})).await, cloud.boot(Member, json!({})).await);
    let reason = json!({"lock": {"locked_reason": "being repaired"}});
    let member = cloud.as_(Member);
    member.at("2.72").action(&locked, reason.clone()).await.refused(400);
    member.at("2.73").action(&locked, json!({"lock": {"locked_reason": ""}})).await.refused(400);
    member.at("2.73").action(&locked, reason).await.expect(202);
    let path = format!("/compute/v2.1/servers/{locked}");
    assert_eq!(member.at("2.73").get(&path).await.expect(200)["server"]["locked_reason"], "being repaired");
    for (filter, wanted) in [("true", &locked), ("false", &open)] {
        let list = member.at("2.73").get(&format!("/compute/v2.1/servers?locked={filter}")).await.expect(200);
        let ids: Vec<&str> = list["servers"].as_array().unwrap().iter().map(|one| text(&one["id"])).collect();
        assert_eq!(ids, [wanted], "locked={filter}");
    }
    member.at("2.73").get("/compute/v2.1/servers?locked=maybe").await.refused(400);
    member.action(&locked, json!({"unlock": null})).await.expect(202);
    assert_eq!(member.at("2.73").get(&path).await.expect(200)["server"]["locked_reason"], Value::Null);
}

#[tokio::test]
async fn filters_and_unknown_parameters_mean_what_the_version_says() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    let member = cloud.as_(Member);
    let count = async |version: &str, query: &str| {
        let list = member.at(version).get(&format!("/compute/v2.1/servers?{query}")).await.expect(200);
        list["servers"].as_array().unwrap().len()
    };
    assert_eq!(count("2.65", "changes-before=2020-01-01T00:00:00Z").await, 1, "unknown, and without effect");
    assert_eq!(count("2.66", "changes-before=2020-01-01T00:00:00Z").await, 0);
    let path = "/compute/v2.1/servers?changes-since=2030-01-01T00:00:00Z&changes-before=2020-01-01T00:00:00Z";
    member.at("2.66").get(path).await.refused(400);

    assert_eq!(count("2.82", "vm_state=stopped").await, 1, "not for members, and without effect");
    assert_eq!(count("2.83", "vm_state=stopped").await, 0);
    assert_eq!(count("2.83", "vm_state=active&config_drive=false").await, 1);
    let created = member.get(&format!("/compute/v2.1/servers/{id}")).await.expect(200)["server"]["created"].take();
    assert_eq!(count("2.83", &format!("created_at={}", text(&created))).await, 1);

    for list in ["servers", "servers/detail", "flavors", "os-keypairs", "os-server-groups"] {
        let path = format!("/compute/v2.1/{list}?colour=red");
        member.at("2.74").get(&path).await.expect(200);
        let why = member.at("2.75").get(&path).await.refused(400);
        assert!(why.contains("colour"), "{list}: {why}");
    }
    assert_eq!(count("2.75", "host=x&memory_mb=1").await, 1, "known, and not for members");
}

#[tokio::test]
async fn events_tell_their_host_from_2_62_and_interfaces_their_tags_from_2_70() {
    let cloud = TestCloud::start().await;
    cloud.network(Member, "inside", "192.0.2.0/24").await;
    let id = cloud.boot(Member, json!({})).await;
    let path = format!("/compute/v2.1/servers/{id}");
    let actions = cloud.as_(Member).get(&format!("{path}/os-instance-actions")).await.expect(200);
    let one = format!("{path}/os-instance-actions/{}", text(&actions["instanceActions"][0]["request_id"]));
    let event = async |who, version: &str| {
        keys(&cloud.as_(who).at(version).get(&one).await.expect(200)["instanceAction"]["events"][0])
    };
    let mut wanted = set(&["event", "start_time", "finish_time", "result"]);
    assert_eq!(event(Member, "2.61").await, wanted);
    wanted.extend(set(&["hostId"]));
    assert_eq!(event(Member, "2.84").await, wanted);
    wanted.extend(set(&["traceback", "host"]));
    assert_eq!(event(Admin, "2.62").await, wanted);
    wanted.extend(set(&["details"]));
    assert_eq!(event(Admin, "2.84").await, wanted);
    let shown = cloud.as_(Member).at("2.62").get(&one).await.expect(200);
    let server = cloud.as_(Member).get(&path).await.expect(200);
    assert_eq!(shown["instanceAction"]["events"][0]["hostId"], server["server"]["hostId"]);

    let list = async |version: &str| {
        let list = cloud.as_(Member).at(version).get(&format!("{path}/os-interface")).await.expect(200);
        keys(&list["interfaceAttachments"][0])
    };
    let mut wanted = list("2.69").await;
    wanted.extend(set(&["tag"]));
    assert_eq!(list("2.70").await, wanted);
}

#[tokio::test]
async fn a_topology_is_of_servers_that_have_something_of_the_host_for_themselves() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    let path = format!("/compute/v2.1/servers/{id}/topology");
    cloud.as_(Member).at("2.77").get(&path).await.refused(404);
    let none = cloud.as_(Member).at("2.78").get(&path).await.expect(200);
    assert_eq!(none, json!({"nodes": [], "pagesize_kb": null}));
}

#[tokio::test]
async fn key_pairs_are_only_imported_from_2_92() {
    let cloud = TestCloud::start().await;
    let keys = "/compute/v2.1/os-keypairs";
    let member = cloud.as_(Member);
    member.at("2.92").post(keys, json!({"keypair": {"name": "k", "type": "ssh"}})).await.refused(400);
    let made = member.at("2.91").post(keys, json!({"keypair": {"name": "k", "type": "ssh"}})).await.expect(201);
    let body = json!({"keypair": {"name": "me@home.org", "type": "ssh", "public_key": made["keypair"]["public_key"]}});
    member.at("2.91").post(keys, body.clone()).await.refused(400);
    member.at("2.92").post(keys, body).await.expect(201);
}

#[tokio::test]
async fn the_flavor_is_a_link_until_2_46_and_its_content_from_2_47() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    let path = format!("/compute/v2.1/servers/{id}");
    let seen = cloud.as_(Member).at("2.46").get(&path).await.expect(200);
    assert_eq!(keys(&seen["server"]["flavor"]), set(&["id", "links"]));
    let seen = cloud.as_(Member).at("2.47").get(&path).await.expect(200);
    let flavor = json!({
        "vcpus": 1, "ram": 128, "disk": 1, "ephemeral": 0, "swap": 0, "original_name": "m1.nano", "extra_specs": {}
    });
    assert_eq!(seen["server"]["flavor"], flavor);
}

#[tokio::test]
async fn what_a_version_brought_is_unknown_before_it() {
    let cloud = TestCloud::start().await;
    let base = |changes: Value| cloud.server_body(changes);
    for (field, value, before, since) in [
        ("description", json!("d"), "2.18", "2.19"),
        ("tags", json!(["a"]), "2.51", "2.52"),
        ("networks", json!("none"), "2.36", "2.37"),
        ("networks", json!("auto"), "2.36", "2.37"),
        ("hostname", json!("web"), "2.89", "2.90"),
    ] {
        let mut changes = json!({"networks": []});
        if since != "2.37" {
            changes["networks"] = json!([]);
        }
        changes[field] = value.clone();
        let body = base(changes).await;
        cloud.as_(Member).at(before).post("/compute/v2.1/servers", body.clone()).await.refused(400);
        let reply = cloud.as_(Member).at(since).post("/compute/v2.1/servers", body).await;
        // `auto` finds no network in a project that has none.
        assert!(reply.status == 202 || value == "auto", "{field} at {since}: {reply}");
    }
    // 2.63: certificates are known, and asking for them is refused with the reason.
    let body = base(json!({"networks": "none", "trusted_image_certificates": ["c"]})).await;
    let why = cloud.as_(Member).at("2.62").post("/compute/v2.1/servers", body.clone()).await.refused(400);
    assert!(why.contains("unexpected"), "{why}");
    let why = cloud.as_(Member).at("2.63").post("/compute/v2.1/servers", body).await.refused(400);
    assert!(why.contains("not checked"), "{why}");
    // 2.37: networks must be said; 2.57: files are no longer injected.
    let body = base(json!({})).await;
    cloud.as_(Member).at("2.36").post("/compute/v2.1/servers", body.clone()).await.expect(202);
    cloud.as_(Member).at("2.37").post("/compute/v2.1/servers", body).await.refused(400);
    let body = base(json!({"networks": "none", "personality": []})).await;
    cloud.as_(Member).at("2.56").post("/compute/v2.1/servers", body.clone()).await.expect(202);
    cloud.as_(Member).at("2.57").post("/compute/v2.1/servers", body).await.refused(400);
}

#[tokio::test]
async fn a_status_that_is_none_is_an_empty_list_before_2_38_and_a_mistake_from_then_on() {
    let cloud = TestCloud::start().await;
    let list = cloud.as_(Member).at("2.37").get("/compute/v2.1/servers?status=BORED").await.expect(200);
    assert_eq!(list["servers"], json!([]));
    cloud.as_(Member).at("2.38").get("/compute/v2.1/servers?status=BORED").await.refused(400);
}

#[tokio::test]
async fn ids_of_services_and_hypervisors_are_uuids_from_2_53() {
    let cloud = TestCloud::start().await;
    let admin = cloud.as_(Admin);
    for (path, list) in [("os-services", "services"), ("os-hypervisors", "hypervisors")] {
        let path = format!("/compute/v2.1/{path}");
        assert!(admin.at("2.52").get(&path).await.expect(200)[list][0]["id"].is_i64());
        assert!(rest::is_uuid(text(&admin.at("2.53").get(&path).await.expect(200)[list][0]["id"])));
    }
}

#[tokio::test]
async fn quota_sets_lose_the_network_at_2_36_and_files_at_2_57() {
    let cloud = TestCloud::start().await;
    let path = format!("/compute/v2.1/os-quota-sets/{}", cloud.project(Member).await);
    let mut wanted = set(&[
        "id",
        "instances",
        "cores",
        "ram",
        "metadata_items",
        "key_pairs",
        "server_groups",
        "server_group_members",
    ]);
    let shown = async |version: &str| keys(&cloud.as_(Member).at(version).get(&path).await.expect(200)["quota_set"]);
    assert_eq!(shown("2.57").await, wanted);
    wanted.extend(set(&["injected_files", "injected_file_content_bytes", "injected_file_path_bytes"]));
    assert_eq!(shown("2.36").await, wanted);
    wanted.extend(set(&["fixed_ips", "floating_ips", "security_groups", "security_group_rules"]));
    assert_eq!(shown("2.35").await, wanted);
}

#[tokio::test]
async fn flavors_and_keys_have_exactly_the_keys_of_their_version() {
    let cloud = TestCloud::start().await;
    let mut flavor = set(&[
        "id",
        "name",
        "ram",
        "disk",
        "swap",
        "OS-FLV-EXT-DATA:ephemeral",
        "OS-FLV-DISABLED:disabled",
        "vcpus",
        "os-flavor-access:is_public",
        "rxtx_factor",
        "links",
    ]);
    let shown = async |version: &str| {
        keys(&cloud.as_(Member).at(version).get("/compute/v2.1/flavors/1").await.expect(200)["flavor"])
    };
    assert_eq!(shown("2.54").await, flavor);
    flavor.extend(set(&["description"]));
    assert_eq!(shown("2.60").await, flavor);
    flavor.extend(set(&["extra_specs"]));
    assert_eq!(shown("2.61").await, flavor);

    let key = json!({"keypair": {"name": "k"}});
    cloud.as_(Member).post("/compute/v2.1/os-keypairs", key).await.expect(200);
    let mut key = set(&["name", "public_key", "fingerprint"]);
    let shown = async |version: &str| {
        keys(
            &cloud.as_(Member).at(version).get("/compute/v2.1/os-keypairs").await.expect(200)["keypairs"][0]["keypair"],
        )
    };
    assert_eq!(shown("2.1").await, key);
    key.extend(set(&["type"]));
    assert_eq!(shown("2.2").await, key);
    let one = cloud.as_(Member).at("2.2").get("/compute/v2.1/os-keypairs/k").await.expect(200)["keypair"].take();
    key.extend(set(&["user_id", "id", "created_at", "deleted", "deleted_at", "updated_at"]));
    assert_eq!(keys(&one), key);
}

#[tokio::test]
async fn the_older_header_is_understood_and_the_newer_one_wins() {
    let cloud = TestCloud::start().await;
    let client = cloud.as_(Member);
    let path = "/compute/v2.1/limits";
    let old = [("x-openstack-nova-api-version", "2.57")];
    let reply = client.raw(http::Method::GET, path, &old, "").await;
    assert_eq!(reply.header("x-openstack-nova-api-version"), Some("2.57"));
    assert_eq!(reply.header("openstack-api-version"), Some("compute 2.57"));
    let both = [("x-openstack-nova-api-version", "2.57"), ("openstack-api-version", "compute 2.9")];
    let reply = client.raw(http::Method::GET, path, &both, "").await;
    assert_eq!(reply.header("x-openstack-nova-api-version"), Some("2.9"));
    let reply = client.raw(http::Method::GET, path, &[("openstack-api-version", "volume 3.1")], "").await;
    assert_eq!(reply.header("openstack-api-version"), Some("compute 2.1"));
}

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
        ("2.60", &[], &[]),
    ] {
        member.extend(set(new));
        admin.extend(set(new));
        admin.extend(set(new_for_admins));
        let seen = cloud.as_(Member).at(version).get(&path).await.expect(200)["server"].take();
        assert_eq!(keys(&seen), member, "for a member at {version}");
        let detail = cloud.as_(Member).at(version).get("/compute/v2.1/servers/detail").await.expect(200);
        assert_eq!(keys(&detail["servers"][0]), member, "in the list at {version}");
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
    assert_eq!(shown("2.55").await, flavor);

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

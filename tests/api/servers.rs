//! Servers from create to delete. Compute API reference, "Servers".

use kit::{
    Persona::{Admin, Member, Nobody, Other, Reader},
    TestCloud, base64, wait_for,
};
use serde_json::{Value, json};

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

pub fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap_or_else(|| panic!("{list} is no list")).iter().map(|one| text(&one["name"])).collect()
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|one| text(&one["id"])).collect()
}

fn path(id: &str) -> String {
    format!("/compute/v2.1/servers/{id}")
}

#[tokio::test]
async fn a_server_boots_is_shown_and_leaves_nothing_behind() {
    let cloud = TestCloud::start().await;
    let (network_id, subnet_id) = cloud.network(Member, "inside", "192.0.2.0/24").await;
    let reply = cloud.ask_for_server(Member, json!({"name": "first", "metadata": {"role": "web"}})).await;
    let location = reply.header("location").unwrap().to_owned();
    let made = reply.expect(202);
    let id = text(&made["server"]["id"]).to_owned();
    assert_eq!(location, format!("https://cloud.test{}", path(&id)));
    assert_eq!(text(&made["server"]["adminPass"]).len(), 12);
    assert_eq!(made["server"]["security_groups"], json!([{"name": "default"}]));

    let server = cloud.wait_for_status(Member, &id, "ACTIVE").await;
    assert_eq!(server["name"], "first");
    assert_eq!(server["metadata"], json!({"role": "web"}));
    assert_eq!(server["OS-EXT-STS:vm_state"], "active");
    assert_eq!(server["OS-EXT-STS:power_state"], 1);
    assert_eq!(server["progress"], 100);
    assert_eq!(server["flavor"]["id"], "42");
    assert_eq!(server["image"]["id"], cloud.image().await);
    assert_eq!(server["tenant_id"], cloud.project(Member).await);
    assert_eq!(server["user_id"], cloud.user(Member).await);
    let address = &server["addresses"]["inside"][0];
    assert!(text(&address["addr"]).starts_with("192.0.2."));
    assert_eq!(address["OS-EXT-IPS:type"], "fixed");
    assert_eq!(server["security_groups"], json!([{"name": "default"}]));

    let attached = cloud.as_(Member).get(&format!("{}/os-interface", path(&id))).await.expect(200);
    let attached = &attached["interfaceAttachments"][0];
    assert_eq!(attached["net_id"], network_id);
    assert_eq!(attached["fixed_ips"][0]["subnet_id"], subnet_id);
    assert_eq!(attached["mac_addr"], address["OS-EXT-IPS-MAC:mac_addr"]);
    assert_eq!(cloud.leaks().len(), 7, "a running server is seen by what looks for leaks: {:?}", cloud.leaks());

    cloud.delete_server(Member, &id).await;
    cloud.wait_for_no_leaks().await;
    let left = cloud.as_(Member).get("/network/v2.0/ports").await.expect(200);
    let left: Vec<&Value> = left["ports"].as_array().unwrap().iter().filter(|port| port["device_id"] == *id).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn lists_are_of_the_own_project_by_name_and_newest_first() {
    let cloud = TestCloud::start().await;
    let mut made = Vec::new();
    for name in ["alpha-1", "alpha-2", "beta-1"] {
        made.push(cloud.boot(Member, json!({ "name": name })).await);
    }
    let foreign = cloud.boot(Other, json!({"name": "alpha-9"})).await;
    let member = cloud.as_(Member);

    let list = member.get("/compute/v2.1/servers").await.expect(200);
    assert_eq!(names(&list["servers"]), ["beta-1", "alpha-2", "alpha-1"]);
    assert!(list["servers"][0].as_object().unwrap().keys().eq(["id", "name", "links"]));
    let filtered =
        member.get("/compute/v2.1/servers?name=%5Ealpha&sort_key=display_name&sort_dir=asc").await.expect(200);
    assert_eq!(names(&filtered["servers"]), ["alpha-1", "alpha-2"]);
    let detail = member.get("/compute/v2.1/servers/detail?name=beta").await.expect(200);
    assert_eq!(detail["servers"][0]["status"], "ACTIVE");
    let none = member.get("/compute/v2.1/servers?status=SHUTOFF").await.expect(200);
    assert_eq!(none["servers"], json!([]));
    let by_image = format!("/compute/v2.1/servers?image={}&flavor=42", cloud.image().await);
    assert_eq!(member.get(&by_image).await.expect(200)["servers"].as_array().unwrap().len(), 3);

    // Filters of administrators do nothing for others, and `all_tenants` is theirs alone.
    let by_id = member.get(&format!("/compute/v2.1/servers?uuid={}", made[0])).await.expect(200);
    assert_eq!(by_id["servers"].as_array().unwrap().len(), 3);
    member.get("/compute/v2.1/servers?all_tenants=1").await.refused(403);
    let all = cloud.as_(Admin).get("/compute/v2.1/servers?all_tenants=1&sort_key=display_name&sort_dir=asc").await;
    assert_eq!(names(&all.expect(200)["servers"]), ["alpha-1", "alpha-2", "alpha-9", "beta-1"]);
    let by_project = format!("/compute/v2.1/servers?all_tenants=1&project_id={}", cloud.project(Other).await);
    assert_eq!(ids(&cloud.as_(Admin).get(&by_project).await.expect(200)["servers"]), [foreign.as_str()]);
    assert_eq!(cloud.as_(Admin).get("/compute/v2.1/servers").await.expect(200)["servers"], json!([]));
}

#[tokio::test]
async fn pages_follow_each_other_without_gaps_and_end() {
    let cloud = TestCloud::start().await;
    for index in 0..5 {
        cloud.ask_for_server(Member, json!({"name": format!("server-{index}"), "networks": []})).await.expect(202);
    }
    let mut seen = Vec::new();
    let mut next = Some("/compute/v2.1/servers?limit=2&sort_key=display_name&sort_dir=asc".to_owned());
    let mut pages = 0;
    while let Some(page) = next {
        let list = cloud.as_(Member).get(&page).await.expect(200);
        seen.extend(names(&list["servers"]).into_iter().map(str::to_owned));
        pages += 1;
        next = list["servers_links"][0]["href"].as_str().map(|href| {
            assert_eq!(list["servers_links"][0]["rel"], "next");
            href.strip_prefix("https://cloud.test").unwrap().to_owned()
        });
    }
    assert_eq!((pages, seen.len()), (3, 5));
    assert_eq!(seen, ["server-0", "server-1", "server-2", "server-3", "server-4"]);
    let client = cloud.as_(Member);
    for wrong in ["limit=-1", "limit=many", "marker=no-such-server", "sort_key=secret", "sort_dir=up", "name=%5B"] {
        client.get(&format!("/compute/v2.1/servers?{wrong}")).await.refused(400);
    }
    // A marker of another project is no marker at all.
    let marker = text(&client.get("/compute/v2.1/servers?limit=1").await.expect(200)["servers"][0]["id"]).to_owned();
    cloud.as_(Other).get(&format!("/compute/v2.1/servers?marker={marker}")).await.refused(400);
}

#[tokio::test]
async fn a_server_is_renamed_and_keeps_what_was_not_named() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({"name": "old"})).await;
    let client = cloud.as_(Member);
    let change = json!({"server": {"name": " new ", "accessIPv4": "192.0.2.1", "accessIPv6": "2001:db8::1"}});
    let server = client.put(&path(&id), change).await.expect(200);
    assert_eq!(server["server"]["name"], "new");
    assert_eq!(server["server"]["accessIPv4"], "192.0.2.1");
    let server = client.put(&path(&id), json!({"server": {"OS-DCF:diskConfig": "AUTO"}})).await.expect(200);
    assert_eq!(server["server"]["accessIPv6"], "2001:db8::1");
    assert_eq!(server["server"]["OS-DCF:diskConfig"], "AUTO");
    assert_eq!(cloud.show(Reader, &id).await["name"], "new");

    for wrong in [
        json!({"server": {"name": ""}}),
        json!({"server": {"name": "x".repeat(256)}}),
        json!({"server": {"name": "a\u{0}b"}}),
        json!({"server": {"accessIPv4": "2001:db8::1"}}),
        json!({"server": {"accessIPv6": "192.0.2.1"}}),
        json!({"server": {"OS-DCF:diskConfig": "auto"}}),
        json!({"server": {"status": "ACTIVE"}}),
        json!({"server": {"description": "too new for 2.1"}}),
        json!({}),
    ] {
        client.put(&path(&id), wrong).await.refused(400);
    }
    cloud.as_(Reader).put(&path(&id), json!({"server": {"name": "x"}})).await.refused(403);
    cloud.as_(Other).put(&path(&id), json!({"server": {"name": "x"}})).await.refused(404);
}

#[tokio::test]
async fn a_server_stops_starts_and_reboots() {
    let cloud = TestCloud::start().await;
    cloud.network(Member, "inside", "192.0.2.0/24").await;
    let id = cloud.boot(Member, json!({})).await;
    let client = cloud.as_(Member);
    client.action(&id, json!({"os-start": null})).await.refused(409);

    client.action(&id, json!({"os-stop": null})).await.expect(202);
    let stopped = cloud.wait_for_status(Member, &id, "SHUTOFF").await;
    assert_eq!(stopped["OS-EXT-STS:power_state"], 4);
    assert!(stopped["addresses"]["inside"][0]["addr"].is_string(), "a stopped server keeps its addresses");
    client.action(&id, json!({"os-stop": null})).await.refused(409);
    client.action(&id, json!({"reboot": {"type": "SOFT"}})).await.refused(409);

    client.action(&id, json!({"os-start": null})).await.expect(202);
    cloud.wait_for_status(Member, &id, "ACTIVE").await;
    for kind in ["SOFT", "HARD", "hard"] {
        client.action(&id, json!({"reboot": {"type": kind}})).await.expect(202);
        cloud.wait_for_status(Member, &id, "ACTIVE").await;
    }
    client.action(&id, json!({"os-stop": null})).await.expect(202);
    cloud.wait_for_status(Member, &id, "SHUTOFF").await;
    client.action(&id, json!({"reboot": {"type": "HARD"}})).await.expect(202);
    cloud.wait_for_status(Member, &id, "ACTIVE").await;

    for wrong in [
        json!({"reboot": {"type": "GENTLE"}}),
        json!({"reboot": null}),
        json!({"reboot": {}}),
        json!({"reboot": {"type": "SOFT", "now": true}}),
        json!({"os-stop": null, "os-start": null}),
        json!({"dance": null}),
        json!({}),
        json!([]),
        json!("os-stop"),
    ] {
        client.action(&id, wrong).await.refused(400);
    }
    for action in [json!({"os-stop": null}), json!({"reboot": {"type": "HARD"}}), json!({"os-start": null})] {
        cloud.as_(Reader).action(&id, action.clone()).await.refused(403);
        cloud.as_(Other).action(&id, action).await.refused(404);
    }
    cloud.delete_server(Member, &id).await;
    cloud.wait_for_no_leaks().await;
}

#[tokio::test]
async fn a_guest_that_powers_itself_off_is_shown_as_shut_off() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    cloud.vms().guest_powers_off(id.parse().unwrap()).await.unwrap();
    let server = cloud.wait_for_status(Member, &id, "SHUTOFF").await;
    assert_eq!(server["OS-EXT-STS:vm_state"], "stopped");
    cloud.as_(Member).action(&id, json!({"os-start": null})).await.expect(202);
    cloud.wait_for_status(Member, &id, "ACTIVE").await;
}

#[tokio::test]
async fn the_console_log_is_read_by_lines() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    cloud.vms().guest_prints(id.parse().unwrap(), "one\ntwo\nthree \u{7}\u{fffd}\n").await.unwrap();
    let client = cloud.as_(Member);
    let all = client.action(&id, json!({"os-getConsoleOutput": {}})).await.expect(200);
    assert!(text(&all["output"]).starts_with("fake server"), "{all}");
    for length in [json!(2), json!("2")] {
        let two = client.action(&id, json!({"os-getConsoleOutput": {"length": length}})).await.expect(200);
        assert_eq!(two["output"], "two\nthree \u{fffd}\n", "control characters do not reach clients");
    }
    let all = client.action(&id, json!({"os-getConsoleOutput": {"length": -1}})).await.expect(200);
    assert!(text(&all["output"]).contains("one\n"));
    for wrong in [json!({"length": -2}), json!({"length": 1.5}), json!({"length": []}), json!({"length": "x"})] {
        client.action(&id, json!({"os-getConsoleOutput": wrong})).await.refused(400);
    }
    cloud.as_(Other).action(&id, json!({"os-getConsoleOutput": {}})).await.refused(404);
}

#[tokio::test]
async fn one_request_makes_several_servers() {
    let cloud = TestCloud::start().await;
    let many = json!({"name": "node", "min_count": 2, "max_count": 3, "return_reservation_id": true});
    let made = cloud.ask_for_server(Member, many).await.expect(202);
    assert!(text(&made["reservation_id"]).starts_with("r-"), "{made}");
    let list = cloud.as_(Member).get("/compute/v2.1/servers?sort_key=display_name&sort_dir=asc").await.expect(200);
    assert_eq!(names(&list["servers"]), ["node-1", "node-2", "node-3"]);
    for id in ids(&list["servers"]) {
        cloud.wait_for_status(Member, id, "ACTIVE").await;
    }
    let reservation = format!("/compute/v2.1/servers?all_tenants=1&reservation_id={}", text(&made["reservation_id"]));
    let reserved = cloud.as_(Admin).get(&reservation).await.expect(200);
    assert_eq!(reserved["servers"].as_array().unwrap().len(), 3);
    for wrong in [
        json!({"min_count": 3, "max_count": 2}),
        json!({"min_count": 0}),
        json!({"max_count": "two"}),
        json!({"min_count": 1.5}),
    ] {
        cloud.ask_for_server(Member, wrong).await.refused(400);
    }
}

#[tokio::test]
async fn a_quota_is_kept_and_says_what_is_used() {
    let cloud = TestCloud::configured("quota.instances = 2\nquota.ram_mib = 500\nquota.metadata_items = 1").await;
    let message = cloud.ask_for_server(Member, json!({"min_count": 3})).await.refused(403);
    assert_eq!(message, "Quota exceeded for instances: Requested 3, but already used 0 of 2 instances");
    let flavor = cloud.flavor(json!({"ram": 300})).await;
    cloud.boot(Member, json!({"flavorRef": flavor})).await;
    let message = cloud.ask_for_server(Member, json!({"flavorRef": flavor})).await.refused(403);
    assert_eq!(message, "Quota exceeded for ram: Requested 300, but already used 300 of 500 ram");
    let message = cloud.ask_for_server(Member, json!({"metadata": {"a": "1", "b": "2"}})).await.refused(403);
    assert_eq!(message, "Maximum number of metadata items exceeds 1");
    // Fewer than asked is fine as long as it is the minimum.
    cloud.ask_for_server(Member, json!({"min_count": 1, "max_count": 5})).await.expect(202);
    let list = cloud.as_(Member).get("/compute/v2.1/servers").await.expect(200);
    assert_eq!(list["servers"].as_array().unwrap().len(), 2);
    // Another project has its own.
    cloud.ask_for_server(Other, json!({})).await.expect(202);
}

#[tokio::test]
async fn what_fits_nowhere_is_in_error_and_says_what_is_short_by_how_much() {
    let cloud = TestCloud::configured(
        "quota.instances = -1\nquota.cores = -1\nquota.ram_mib = -1\nscheduling.cpu_allocation_ratio = 1.0",
    )
    .await;
    let host = cloud.as_(Admin).get("/compute/v2.1/os-hypervisors/statistics").await.expect(200);
    let cores = host["hypervisor_statistics"]["vcpus"].as_i64().unwrap();
    let flavor = cloud.flavor(json!({"vcpus": cores + 3})).await;
    let made = cloud.ask_for_server(Member, json!({"flavorRef": flavor})).await.expect(202);
    let id = text(&made["server"]["id"]).to_owned();
    let server = cloud.wait_for_status(Member, &id, "ERROR").await;
    let message = text(&server["fault"]["message"]);
    assert!(message.starts_with("No valid host was found"), "{message}");
    assert!(message.contains("VCPU") && message.contains(&(cores + 3).to_string()), "{message}");
    assert_eq!(server["fault"]["code"], 500);
    assert_eq!(server["hostId"], "");
    cloud.delete_server(Member, &id).await;
    cloud.wait_for_no_leaks().await;
}

#[tokio::test]
async fn a_start_that_fails_is_undone_and_the_fault_names_the_cause() {
    let cloud = TestCloud::start().await;
    cloud.network(Member, "inside", "192.0.2.0/24").await;
    for _ in 0..20 {
        cloud.vms().fail_next_start("the loading dock is on fire");
    }
    let made = cloud.ask_for_server(Member, json!({"config_drive": true})).await.expect(202);
    let id = text(&made["server"]["id"]).to_owned();
    let server = cloud.wait_for_status(Member, &id, "ERROR").await;
    assert!(text(&server["fault"]["message"]).contains("the loading dock is on fire"), "{server}");
    let leaks = cloud.leaks();
    let rows = ["1 server rows", "1 server interfaces"];
    assert!(leaks.iter().all(|leak| rows.contains(&leak.as_str())), "only rows are left: {leaks:?}");
    cloud.delete_server(Member, &id).await;
    cloud.wait_for_no_leaks().await;
}

#[tokio::test]
async fn a_server_is_deleted_while_it_is_made_and_deleting_twice_is_one_delete() {
    let cloud = TestCloud::start().await;
    cloud.network(Member, "inside", "192.0.2.0/24").await;
    let client = cloud.as_(Member);
    for _ in 0..5 {
        let made = cloud.ask_for_server(Member, json!({})).await.expect(202);
        let id = text(&made["server"]["id"]).to_owned();
        client.delete(&path(&id)).await.expect(204);
        let again = client.delete(&path(&id)).await;
        assert!(matches!(again.status.as_u16(), 204 | 404), "{again}");
        cloud.wait_until_gone(Member, &id).await;
        client.delete(&path(&id)).await.refused(404);
    }
    cloud.wait_for_no_leaks().await;
}

#[tokio::test]
async fn a_locked_server_is_changed_by_nobody_below_its_locker() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    let member = cloud.as_(Member);
    cloud.as_(Reader).action(&id, json!({"lock": null})).await.refused(403);
    member.action(&id, json!({"lock": null})).await.expect(202);
    let shown = member.at("2.9").get(&path(&id)).await.expect(200);
    assert_eq!(shown["server"]["locked"], true);
    member.action(&id, json!({"os-stop": null})).await.refused(409);
    member.delete(&path(&id)).await.refused(409);
    member.put(&path(&id), json!({"server": {"name": "x"}})).await.refused(409);
    member.post(&format!("{}/metadata", path(&id)), json!({"metadata": {"a": "b"}})).await.refused(409);
    cloud.as_(Admin).action(&id, json!({"os-stop": null})).await.expect(202);
    cloud.wait_for_status(Member, &id, "SHUTOFF").await;
    member.action(&id, json!({"unlock": null})).await.expect(202);

    cloud.as_(Admin).action(&id, json!({"lock": null})).await.expect(202);
    member.action(&id, json!({"unlock": null})).await.refused(403);
    cloud.as_(Admin).action(&id, json!({"unlock": null})).await.expect(202);
    cloud.delete_server(Member, &id).await;
}

#[tokio::test]
async fn metadata_is_read_added_replaced_and_removed() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({"metadata": {"a": "1"}})).await;
    let client = cloud.as_(Member);
    let all = format!("{}/metadata", path(&id));
    let item = |key: &str| format!("{all}/{key}");
    assert_eq!(client.get(&all).await.expect(200), json!({"metadata": {"a": "1"}}));
    let added = client.post(&all, json!({"metadata": {"b": "2", "a": "3"}})).await.expect(200);
    assert_eq!(added, json!({"metadata": {"a": "3", "b": "2"}}));
    assert_eq!(client.put(&item("b"), json!({"meta": {"b": "4"}})).await.expect(200), json!({"meta": {"b": "4"}}));
    assert_eq!(client.get(&item("b")).await.expect(200), json!({"meta": {"b": "4"}}));
    assert_eq!(client.put(&all, json!({"metadata": {"c": ""}})).await.expect(200), json!({"metadata": {"c": ""}}));
    client.get(&item("b")).await.refused(404);
    client.delete(&item("c")).await.expect(204);
    client.delete(&item("c")).await.refused(404);
    assert_eq!(client.get(&all).await.expect(200), json!({"metadata": {}}));
    for wrong in [
        json!({"metadata": {"": "x"}}),
        json!({"metadata": {"a": 1}}),
        json!({"metadata": {"a": null}}),
        json!({"metadata": {"a": "x".repeat(256)}}),
        json!({"metadata": {"x".repeat(256): "a"}}),
        json!({"metadata": []}),
        json!({"meta": {}}),
    ] {
        client.post(&all, wrong.clone()).await.refused(400);
        client.put(&all, wrong).await.refused(400);
    }
    client.put(&item("a"), json!({"meta": {"b": "x"}})).await.refused(400);
    client.put(&item("a"), json!({"meta": {"a": "x", "b": "x"}})).await.refused(400);
    cloud.as_(Reader).get(&all).await.expect(200);
    cloud.as_(Reader).delete(&item("a")).await.refused(403);
    let many: serde_json::Map<String, Value> = (0..129).map(|n| (format!("key-{n}"), json!("x"))).collect();
    client.put(&all, json!({ "metadata": many })).await.refused(403);
}

#[tokio::test]
async fn tags_are_set_looked_for_and_filter_lists() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    let plain = cloud.boot(Member, json!({})).await;
    let client = cloud.as_(Member).at("2.26");
    let tags = format!("{}/tags", path(&id));
    cloud.as_(Member).get(&tags).await.refused(404);
    let reply = client.put(&format!("{tags}/red"), Value::Null).await;
    assert!(reply.header("location").unwrap().ends_with(&format!("{tags}/red")));
    reply.expect(201);
    client.put(&format!("{tags}/red"), Value::Null).await.expect(204);
    client.get(&format!("{tags}/red")).await.expect(204);
    client.get(&format!("{tags}/blue")).await.refused(404);
    let set = client.put(&tags, json!({"tags": ["blue", "green", "blue"]})).await.expect(200);
    assert_eq!(set, json!({"tags": ["blue", "green"]}));
    assert_eq!(client.get(&path(&id)).await.expect(200)["server"]["tags"], json!(["blue", "green"]));

    for (filter, wanted) in [
        ("tags=blue,green", vec![&id]),
        ("tags=blue,red", vec![]),
        ("tags-any=blue,red", vec![&id]),
        ("not-tags=blue,green", vec![&plain]),
        ("not-tags-any=red,blue", vec![&plain]),
    ] {
        let found = client.get(&format!("/compute/v2.1/servers?{filter}")).await.expect(200);
        assert_eq!(ids(&found["servers"]), wanted, "{filter}");
    }
    for wrong in [json!({"tags": ["a,b"]}), json!({"tags": ["a/b"]}), json!({"tags": [""]}), json!({"tags": "red"})] {
        client.put(&tags, wrong).await.refused(400);
    }
    let too_many: Vec<String> = (0..51).map(|n| format!("tag-{n}")).collect();
    client.put(&tags, json!({ "tags": too_many })).await.refused(400);
    client.delete(&format!("{tags}/blue")).await.expect(204);
    client.delete(&format!("{tags}/blue")).await.refused(404);
    client.delete(&tags).await.expect(204);
    assert_eq!(client.get(&tags).await.expect(200), json!({"tags": []}));
}

#[tokio::test]
async fn a_request_for_a_server_that_makes_no_sense_is_refused_and_makes_nothing() {
    let cloud = TestCloud::start().await;
    let private = cloud.image_with(Other, json!({"visibility": "private"})).await;
    let queued = json!({"name": "empty", "disk_format": "raw", "container_format": "bare"});
    let queued = cloud.as_(Member).post("/image/v2/images", queued).await.expect(201);
    let large = cloud.image_with(Member, json!({"min_ram": 512})).await;
    let secure = cloud.image_with(Member, json!({"os_secure_boot": "required"})).await;
    let hidden = cloud.flavor(json!({"os-flavor-access:is_public": false})).await;
    let absent = "00000000-0000-4000-8000-000000000000";
    for (wrong, word) in [
        (json!({"imageRef": absent}), "mage"),
        (json!({"imageRef": private}), "mage"),
        (json!({"imageRef": queued["id"]}), "mage"),
        (json!({"imageRef": large}), "memory is too small"),
        (json!({"imageRef": secure}), "hw_firmware_type=uefi"),
        (json!({"imageRef": "x"}), "imageRef"),
        (json!({"imageRef": null}), "image"),
        (json!({"flavorRef": "no-such-flavor"}), "Flavor"),
        (json!({"flavorRef": hidden}), "Flavor"),
        (json!({"key_name": "no-such-key"}), "key_name"),
        (json!({"networks": [{"uuid": absent}]}), absent),
        (json!({"networks": [{"uuid": "x"}]}), "uuid"),
        (json!({"networks": [{}]}), "uuid"),
        (json!({"networks": "auto"}), "networks"),
        (json!({"user_data": "no base64!"}), "user_data"),
        (json!({"user_data": base64(&"x".repeat(60_000))}), "user_data"),
        (json!({"availability_zone": "elsewhere"}), "availability zone"),
        (json!({"name": "   "}), "name"),
        (json!({"accessIPv4": "1.2.3"}), "accessIPv4"),
        (json!({"surprise": 1}), "surprise"),
        (json!({"tags": ["new"]}), "tags"),
    ] {
        let message = cloud.ask_for_server(Member, wrong.clone()).await.refused(400);
        assert!(message.contains(word), "{wrong}: {message}");
    }
    cloud.ask_for_server(Reader, json!({})).await.refused(403);
    cloud.ask_for_server(Nobody, json!({})).await.refused(403);
    cloud.wait_for_no_leaks().await;
}

#[tokio::test]
async fn a_state_is_set_by_administrators_and_what_is_no_action_is_a_mistake() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    let message = cloud.as_(Member).action(&id, json!({"dance": null})).await.refused(400);
    assert!(message.contains("dance"), "{message}");
    cloud.as_(Other).action(&id, json!({"migrate": null})).await.refused(404);
    cloud.as_(Member).action(&id, json!({"os-resetState": {"state": "error"}})).await.refused(403);
    cloud.as_(Admin).action(&id, json!({"os-resetState": {"state": "error"}})).await.expect(202);
    assert_eq!(cloud.show(Member, &id).await["status"], "ERROR");
    cloud.as_(Admin).action(&id, json!({"os-resetState": {"state": "active"}})).await.expect(202);
    cloud.as_(Admin).action(&id, json!({"os-resetState": {"state": "bored"}})).await.refused(400);
}

#[tokio::test]
async fn servers_outlive_a_restart_and_a_crash_of_the_program() {
    let mut cloud = TestCloud::start().await;
    cloud.network(Member, "inside", "192.0.2.0/24").await;
    let running = cloud.boot(Member, json!({"name": "running"})).await;
    let stopped = cloud.boot(Member, json!({"name": "stopped"})).await;
    cloud.as_(Member).action(&stopped, json!({"os-stop": null})).await.expect(202);
    cloud.wait_for_status(Member, &stopped, "SHUTOFF").await;
    let before = cloud.show(Member, &running).await;
    cloud.restart().await;
    assert_eq!(cloud.show(Member, &running).await, before);
    assert_eq!(cloud.show(Member, &stopped).await["status"], "SHUTOFF");
    let half = cloud.ask_for_server(Member, json!({"name": "half made"})).await.expect(202);
    cloud.crash().await;
    let half = text(&half["server"]["id"]).to_owned();
    cloud.wait_for_status(Member, &half, "ACTIVE").await;
    cloud.vms().crash(running.parse().unwrap()).await.unwrap();
    cloud.crash().await;
    cloud.wait_for_status(Member, &running, "SHUTOFF").await;
    for id in [running, stopped, half] {
        cloud.delete_server(Member, &id).await;
    }
    cloud.wait_for_no_leaks().await;
}

#[tokio::test]
async fn a_port_that_was_given_to_a_server_outlives_it() {
    let cloud = TestCloud::start().await;
    let (network_id, _) = cloud.network(Member, "inside", "192.0.2.0/24").await;
    let client = cloud.as_(Member);
    let port = json!({"port": {"network_id": network_id, "name": "kept"}});
    let port = client.post("/network/v2.0/ports", port).await.expect(201)["port"].take();
    let port_id = text(&port["id"]).to_owned();
    let id = cloud.boot(Member, json!({"networks": [{"port": port_id}]})).await;
    let shown = client.get(&format!("/network/v2.0/ports/{port_id}")).await.expect(200);
    assert_eq!(shown["port"]["device_id"], id);
    assert!(text(&shown["port"]["device_owner"]).starts_with("compute:"));
    wait_for("the port to be active", async || {
        let port = client.get(&format!("/network/v2.0/ports/{port_id}")).await.expect(200);
        if port["port"]["status"] == "ACTIVE" { Ok(()) } else { Err(port.to_string()) }
    })
    .await;
    // A port is one server's.
    let message = cloud.ask_for_server(Member, json!({"networks": [{"port": port_id}]})).await;
    assert!(matches!(message.status.as_u16(), 400 | 409), "{message}");
    cloud.delete_server(Member, &id).await;
    let shown = client.get(&format!("/network/v2.0/ports/{port_id}")).await.expect(200);
    assert_eq!((&shown["port"]["device_id"], &shown["port"]["device_owner"]), (&json!(""), &json!("")));
    assert_eq!(shown["port"]["fixed_ips"], port["fixed_ips"]);
}

#[tokio::test]
async fn security_groups_are_named_at_create_and_changed_later() {
    let cloud = TestCloud::start().await;
    cloud.network(Member, "inside", "192.0.2.0/24").await;
    let client = cloud.as_(Member);
    let group = json!({"security_group": {"name": "web"}});
    client.post("/network/v2.0/security-groups", group).await.expect(201);
    let id = cloud.boot(Member, json!({"security_groups": [{"name": "web"}]})).await;
    assert_eq!(cloud.show(Member, &id).await["security_groups"], json!([{"name": "web"}]));
    client.action(&id, json!({"addSecurityGroup": {"name": "default"}})).await.expect(202);
    let groups = client.get(&format!("{}/os-security-groups", path(&id))).await.expect(200);
    let mut found = names(&groups["security_groups"]);
    found.sort_unstable();
    assert_eq!(found, ["default", "web"]);
    client.action(&id, json!({"removeSecurityGroup": {"name": "web"}})).await.expect(202);
    assert_eq!(cloud.show(Member, &id).await["security_groups"], json!([{"name": "default"}]));
    client.action(&id, json!({"addSecurityGroup": {"name": "no-such-group"}})).await.refused(404);
    client.action(&id, json!({"addSecurityGroup": {}})).await.refused(400);
    let message = cloud.ask_for_server(Member, json!({"security_groups": [{"name": "no-such-group"}]})).await;
    assert!(message.message().contains("no-such-group"), "{message}");
    message.refused(400);
}

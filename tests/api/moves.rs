//! What is asked of a cloud with more hosts, as the only one answers it; and small administrative actions.

use kit::{
    Persona::{Admin, Member, Other, Reader},
    TestCloud,
};
use serde_json::{Value, json};

use crate::servers::text;

#[tokio::test]
async fn one_host_has_nowhere_to_move_a_server_to() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    let admin = cloud.as_(Admin);
    let host = cloud.as_(Admin).get(&format!("/compute/v2.1/servers/{id}")).await.expect(200);
    let host = text(&host["server"]["OS-EXT-SRV-ATTR:host"]).to_owned();
    for (version, body, word) in [
        ("2.1", json!({"migrate": null}), "No valid host was found"),
        ("2.56", json!({"migrate": {"host": null}}), "No valid host was found"),
        ("2.56", json!({"migrate": {"host": "elsewhere"}}), "Compute host elsewhere could not be found"),
        ("2.56", json!({"migrate": {"host": host}}), "Cannot migrate to the host where the server exists"),
        (
            "2.1",
            json!({"os-migrateLive": {"host": "elsewhere", "block_migration": false, "disk_over_commit": false}}),
            "Compute host elsewhere could not be found",
        ),
        (
            "2.1",
            json!({"os-migrateLive": {"host": null, "block_migration": "true", "disk_over_commit": false}}),
            "No valid host was found",
        ),
        ("2.25", json!({"os-migrateLive": {"host": null, "block_migration": "auto"}}), "No valid host was found"),
        ("2.25", json!({"os-migrateLive": {"host": host, "block_migration": "auto"}}), "to current host"),
        (
            "2.30",
            json!({"os-migrateLive": {"host": null, "block_migration": "auto", "force": true}}),
            "Can't force to a non-provided destination",
        ),
        (
            "2.25",
            json!({"os-migrateLive": {"host": null, "block_migration": "auto", "disk_over_commit": true}}),
            "disk_over_commit",
        ),
        (
            "2.1",
            json!({"os-migrateLive": {"host": null, "block_migration": "auto", "disk_over_commit": true}}),
            "block_migration",
        ),
        ("2.1", json!({"evacuate": {"onSharedStorage": false}}), "is still in use"),
        ("2.1", json!({"evacuate": {}}), "onSharedStorage"),
        ("2.1", json!({"evacuate": {"onSharedStorage": true, "adminPass": "x"}}), "admin password"),
        ("2.14", json!({"evacuate": {"host": host}}), "The target host can't be the same one."),
        ("2.14", json!({"evacuate": {}}), "is still in use"),
    ] {
        let message = admin.at(version).action(&id, body.clone()).await.refused(400);
        assert!(message.contains(word), "{version} {body}: {message}");
    }
    admin.at("2.14").action(&id, json!({"evacuate": {"host": "elsewhere"}})).await.refused(404);
    for body in [json!({"migrate": null}), json!({"evacuate": {"onSharedStorage": false}})] {
        cloud.as_(Member).action(&id, body.clone()).await.refused(403);
        cloud.as_(Other).action(&id, body).await.refused(404);
    }
    admin.action(&id, json!({"suspend": null})).await.expect(202);
    cloud.wait_for_status(Admin, &id, "SUSPENDED").await;
    let live = json!({"os-migrateLive": {"host": null, "block_migration": false, "disk_over_commit": false}});
    let message = admin.action(&id, live).await.refused(409);
    assert_eq!(message, format!("Cannot 'os-migrateLive' instance {id} while it is in vm_state suspended"));
    admin.action(&id, json!({"migrate": null})).await.refused(409);
}

#[tokio::test]
async fn a_server_of_a_host_that_is_forced_down_has_nowhere_to_be_evacuated_to() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    let admin = cloud.as_(Admin).at("2.53");
    let services = admin.get("/compute/v2.1/os-services?binary=nova-compute").await.expect(200);
    let service = format!("/compute/v2.1/os-services/{}", text(&services["services"][0]["id"]));
    admin.put(&service, json!({"forced_down": true})).await.expect(200);
    let message = admin.action(&id, json!({"evacuate": {}})).await.refused(400);
    assert!(message.contains("No valid host was found"), "{message}");
}

#[tokio::test]
async fn small_administrative_actions_answer_as_upstreams() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    cloud.as_(Admin).action(&id, json!({"injectNetworkInfo": null})).await.expect(202);
    cloud.as_(Member).action(&id, json!({"injectNetworkInfo": null})).await.refused(403);
    cloud.as_(Admin).action(&id, json!({"resetNetwork": null})).await.refused(410);
    cloud.as_(Other).action(&id, json!({"resetNetwork": null})).await.refused(404);
    cloud.as_(Member).action(&id, json!({"trigger_crash_dump": null})).await.refused(404);
    let member = cloud.as_(Member).at("2.17");
    let message = member.action(&id, json!({"trigger_crash_dump": null})).await.refused(400);
    assert!(message.contains("not supported"), "{message}");
    let message = member.action(&id, json!({"restore": null})).await.refused(409);
    assert_eq!(message, format!("Cannot 'restore' instance {id} while it is in vm_state active"));
    cloud.as_(Reader).action(&id, json!({"forceDelete": null})).await.refused(403);
    member.action(&id, json!({"forceDelete": null})).await.expect(202);
    cloud.wait_until_gone(Member, &id).await;
    cloud.wait_for_no_leaks().await;
}

#[tokio::test]
async fn floating_ips_come_and_go_by_compute_until_2_43() {
    let cloud = TestCloud::start().await;
    let (_, subnet) = cloud.network(Member, "inside", "192.0.2.0/24").await;
    let member = cloud.as_(Member);
    let public = member.get("/network/v2.0/networks?router:external=true").await.expect(200);
    let public = text(&public["networks"][0]["id"]).to_owned();
    let router = json!({"router": {"name": "out", "external_gateway_info": {"network_id": public}}});
    let router = member.post("/network/v2.0/routers", router).await.expect(201);
    let router = text(&router["router"]["id"]).to_owned();
    let path = format!("/network/v2.0/routers/{router}/add_router_interface");
    member.put(&path, json!({"subnet_id": subnet})).await.expect(200);
    let floating = json!({"floatingip": {"floating_network_id": public}});
    let floating = member.post("/network/v2.0/floatingips", floating).await.expect(201);
    let address = text(&floating["floatingip"]["floating_ip_address"]).to_owned();
    let id = cloud.boot(Member, json!({})).await;
    let lone = cloud.boot(Member, json!({})).await;

    let give = json!({"addFloatingIp": {"address": address}});
    let take = json!({"removeFloatingIp": {"address": address}});
    let message = member.action(&id, take.clone()).await.refused(409);
    assert_eq!(message, format!("Floating IP {address} is not associated with instance {id}."));
    member.action(&id, give.clone()).await.expect(202);
    let shown = cloud.show(Member, &id).await;
    let addresses: Vec<&Value> = shown["addresses"]["inside"].as_array().unwrap().iter().collect();
    assert!(addresses.iter().any(|one| one["addr"] == *address && one["OS-EXT-IPS:type"] == "floating"), "{shown}");
    member.action(&lone, take.clone()).await.refused(409);
    member.action(&id, take).await.expect(202);
    assert_eq!(cloud.show(Member, &id).await["addresses"]["inside"].as_array().unwrap().len(), 1);

    let elsewhere = json!({"addFloatingIp": {"address": address, "fixed_address": "198.51.100.1"}});
    let message = member.action(&id, elsewhere).await.refused(400);
    assert_eq!(message, "Specified fixed address not assigned to instance");
    let absent = json!({"addFloatingIp": {"address": "203.0.113.250"}});
    assert_eq!(member.action(&id, absent).await.refused(404), "floating IP not found");
    member.action(&id, json!({"addFloatingIp": {"address": "x"}})).await.refused(400);
    member.at("2.44").action(&id, give.clone()).await.refused(404);
    cloud.as_(Other).action(&id, give).await.refused(404);
}

//! Placement through the whole program: this machine as a provider, and what servers take of it. Placement API reference.
//! The service's own suite (`src/placement/tests`) and the conformance runner go deeper where one service is enough.

use kit::{
    Persona::{Admin, Anonymous, Manager, Member, Nobody, Other, Reader},
    TestCloud,
};
use serde_json::{Value, json};

const LATEST: &str = "1.39";

async fn get(cloud: &TestCloud, path: &str) -> Value {
    cloud.as_(Admin).at(LATEST).get(&format!("/placement{path}")).await.expect(200)
}

/// The one provider of a new cloud.
async fn host(cloud: &TestCloud) -> Value {
    let list = get(cloud, "/resource_providers").await;
    let list = list["resource_providers"].as_array().unwrap();
    assert_eq!(list.len(), 1, "{list:?}");
    list[0].clone()
}

fn uuid(provider: &Value) -> &str {
    provider["uuid"].as_str().unwrap()
}

async fn used(cloud: &TestCloud) -> Value {
    let host = host(cloud).await;
    get(cloud, &format!("/resource_providers/{}/usages", uuid(&host))).await["usages"].take()
}

#[tokio::test]
async fn this_machine_offers_its_cores_memory_and_disk() {
    let cloud = TestCloud::start().await;
    let host = host(&cloud).await;
    assert_eq!(host["root_provider_uuid"], host["uuid"]);
    assert_eq!(host["parent_provider_uuid"], Value::Null);
    let stock = get(&cloud, &format!("/resource_providers/{}/inventories", uuid(&host))).await;
    for class in ["VCPU", "MEMORY_MB", "DISK_GB"] {
        let inventory = &stock["inventories"][class];
        assert!(inventory["total"].as_i64().unwrap() > 0, "{stock}");
        assert_eq!(inventory["max_unit"], inventory["total"], "one server cannot have more than there is");
    }
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(stock["inventories"]["VCPU"]["total"], cores);
    let traits = get(&cloud, &format!("/resource_providers/{}/traits", uuid(&host))).await;
    assert!(traits["traits"].as_array().unwrap().contains(&json!("COMPUTE_NODE")), "{traits}");
}

#[tokio::test]
async fn a_restart_registers_the_same_machine_and_changes_nothing() {
    let mut cloud = TestCloud::start().await;
    let before = host(&cloud).await;
    cloud.restart().await;
    cloud.forget_logins().await;
    assert_eq!(host(&cloud).await, before);
}

#[tokio::test]
async fn a_server_takes_its_flavor_and_gives_it_back() {
    let cloud = TestCloud::start().await;
    assert_eq!(used(&cloud).await, json!({"VCPU": 0, "MEMORY_MB": 0, "DISK_GB": 0}));
    let flavor = cloud.flavor(json!({"vcpus": 1, "ram": 256, "disk": 2})).await;
    let id = cloud.boot(Member, json!({"flavorRef": flavor})).await;
    let host = host(&cloud).await;
    let held = get(&cloud, &format!("/allocations/{id}")).await;
    assert_eq!(held["allocations"][uuid(&host)]["resources"], json!({"VCPU": 1, "MEMORY_MB": 256, "DISK_GB": 2}));
    assert_eq!(held["project_id"], cloud.project(Member).await);
    assert_eq!(held["user_id"], cloud.user(Member).await);
    assert_eq!(held["consumer_type"], "INSTANCE");
    assert_eq!(used(&cloud).await, json!({"VCPU": 1, "MEMORY_MB": 256, "DISK_GB": 2}));

    cloud.delete_server(Member, &id).await;
    assert_eq!(get(&cloud, &format!("/allocations/{id}")).await, json!({"allocations": {}}));
    assert_eq!(used(&cloud).await, json!({"VCPU": 0, "MEMORY_MB": 0, "DISK_GB": 0}));
}

#[tokio::test]
async fn when_nothing_fits_the_fault_says_what_is_short_by_how_much() {
    let cloud = TestCloud::start().await;
    let host = host(&cloud).await;
    let stock = get(&cloud, &format!("/resource_providers/{}/inventories", uuid(&host))).await;
    let total = stock["inventories"]["MEMORY_MB"]["total"].as_i64().unwrap();
    let flavor = cloud.flavor(json!({"ram": total + 100})).await;
    let reply = cloud.ask_for_server(Member, json!({"flavorRef": flavor})).await.expect(202);
    let id = reply["server"]["id"].as_str().unwrap();
    let server = cloud.wait_for_status(Member, id, "ERROR").await;
    let fault = server["fault"]["message"].as_str().unwrap_or_default();
    assert!(fault.contains(&format!("MEMORY_MB: requested {}", total + 100)), "{fault}");
    assert!(fault.contains("short by 100"), "{fault}");
    assert!(!fault.contains("VCPU"), "what fits is not named: {fault}");
    assert_eq!(used(&cloud).await, json!({"VCPU": 0, "MEMORY_MB": 0, "DISK_GB": 0}));
}

#[tokio::test]
async fn what_others_hold_of_this_machine_is_not_promised_to_servers() {
    let cloud = TestCloud::start().await;
    let host = host(&cloud).await;
    let summary = get(&cloud, "/allocation_candidates?resources=DISK_GB:1").await;
    let room = &summary["provider_summaries"][uuid(&host)]["resources"]["DISK_GB"];
    let (mut free, mut taken) = (room["capacity"].as_i64().unwrap(), 0);
    let stock = get(&cloud, &format!("/resource_providers/{}/inventories/DISK_GB", uuid(&host))).await;
    let most = stock["max_unit"].as_i64().unwrap();
    while free > 0 {
        let amount = free.min(most);
        let body = json!({
            "allocations": {uuid(&host): {"resources": {"DISK_GB": amount}}}, "project_id": "p", "user_id": "u",
            "consumer_generation": null, "consumer_type": "BACKUP",
        });
        let path = format!("/placement/allocations/bbbbbbbb-0000-0000-0000-{taken:012}");
        cloud.as_(Admin).at(LATEST).put(&path, body).await.expect(204);
        free -= amount;
        taken += 1;
    }
    let flavor = cloud.flavor(json!({"disk": 1})).await;
    let reply = cloud.ask_for_server(Member, json!({"flavorRef": flavor})).await.expect(202);
    let server = cloud.wait_for_status(Member, reply["server"]["id"].as_str().unwrap(), "ERROR").await;
    let fault = server["fault"]["message"].as_str().unwrap_or_default();
    assert!(fault.contains("DISK_GB: requested 1, available 0"), "{fault}");
}

#[tokio::test]
async fn a_candidate_names_this_machine() {
    let cloud = TestCloud::start().await;
    let host = host(&cloud).await;
    let found = get(&cloud, "/allocation_candidates?resources=VCPU:1,MEMORY_MB:64&required=COMPUTE_NODE").await;
    assert_eq!(found["allocation_requests"].as_array().unwrap().len(), 1);
    let wanted = json!({"resources": {"VCPU": 1, "MEMORY_MB": 64}});
    assert_eq!(found["allocation_requests"][0]["allocations"][uuid(&host)], wanted);
    let none = get(&cloud, "/allocation_candidates?resources=VCPU:1&required=!COMPUTE_NODE").await;
    assert_eq!(none["allocation_requests"], json!([]));
}

#[tokio::test]
async fn a_project_sees_its_own_usage_and_nothing_else_of_placement() {
    let cloud = TestCloud::start().await;
    cloud.boot(Member, json!({})).await;
    let project = cloud.project(Member).await;
    let usages = format!("/placement/usages?project_id={project}");
    for who in [Reader, Member, Manager, Admin] {
        let seen = cloud.as_(who).at(LATEST).get(&usages).await.expect(200);
        assert_eq!(seen["usages"]["INSTANCE"]["consumer_count"], 1, "{}", who.name());
    }
    cloud.as_(Other).at(LATEST).get(&usages).await.refused(403);
    cloud.as_(Nobody).at(LATEST).get(&usages).await.refused(403);
    for who in [Reader, Member, Manager, Other] {
        for path in ["/resource_providers", "/traits", "/resource_classes", "/allocation_candidates?resources=VCPU:1"] {
            cloud.as_(who).at(LATEST).get(&format!("/placement{path}")).await.refused(403);
        }
    }
    cloud.as_(Anonymous).at(LATEST).get("/placement/resource_providers").await.refused(401);
}

#[tokio::test]
async fn the_version_document_names_the_range_without_a_token() {
    let cloud = TestCloud::start().await;
    let document = cloud.as_(Anonymous).get("/placement/").await.expect(200);
    let version = &document["versions"][0];
    assert_eq!((&version["min_version"], &version["max_version"]), (&json!("1.0"), &json!(LATEST)));
}

#[tokio::test]
async fn a_cloud_without_its_own_provider_starts_with_an_empty_placement_and_says_why_nothing_runs() {
    let mut cloud = TestCloud::configured("self_provider = false").await;
    for _ in 0..2 {
        assert_eq!(get(&cloud, "/resource_providers").await, json!({"resource_providers": []}));
        let hypervisors = cloud.as_(Admin).get("/compute/v2.1/os-hypervisors/detail").await.expect(200);
        assert_eq!(hypervisors["hypervisors"][0]["vcpus"], 0, "{hypervisors}");
        let statistics = cloud.as_(Admin).get("/compute/v2.1/os-hypervisors/statistics").await.expect(200);
        assert_eq!(statistics["hypervisor_statistics"]["memory_mb"], 0, "{statistics}");
        let reply = cloud.ask_for_server(Member, json!({})).await.expect(202);
        let id = reply["server"]["id"].as_str().unwrap().to_owned();
        let server = cloud.wait_for_status(Member, &id, "ERROR").await;
        let fault = server["fault"]["message"].as_str().unwrap_or_default();
        assert!(fault.contains("self provider is off"), "{fault}");
        cloud.delete_server(Member, &id).await;
        cloud.restart().await;
        cloud.forget_logins().await;
    }
}

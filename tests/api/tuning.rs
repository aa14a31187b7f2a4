//! What of the host a flavor's extra specs give to a server. Nova, "Extra Specs".

use kit::{
    Persona::{Admin, Member},
    TestCloud,
};
use serde_json::{Value, json};

use crate::servers::text;

/// A flavor of this size with these extra specs.
async fn flavor(cloud: &TestCloud, size: Value, specs: Value) -> String {
    let id = cloud.flavor(size).await;
    let path = format!("/compute/v2.1/flavors/{id}/os-extra_specs");
    cloud.as_(Admin).post(&path, json!({ "extra_specs": specs })).await.expect(200);
    id
}

/// What the server's machine is told.
fn spec(cloud: &TestCloud, id: &str) -> Value {
    let path = cloud.state().join("servers").join(id).join("spec.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[tokio::test]
async fn a_machine_is_told_what_its_flavor_gives_it() {
    let cloud = TestCloud::start().await;
    let (network, _) = cloud.network(Member, "inside", "192.0.2.0/24").await;
    let specs = json!({
        "hw:mem_page_size": "2MB", "hw:cpu_cores": "2", "hw_rng:allowed": "True",
        "quota:disk_read_bytes_sec": "1048576", "quota:disk_total_iops_sec": 100,
        "quota:vif_inbound_average": "1000", "quota:vif_outbound_average": "2000", "own:word": "kept",
    });
    let flavor = flavor(&cloud, json!({"vcpus": 2, "ram": 256}), specs).await;
    let id = cloud.boot(Member, json!({"flavorRef": flavor, "networks": [{"uuid": network}]})).await;
    let told = spec(&cloud, &id);
    assert_eq!(told["page_size"], "2MiB");
    assert_eq!(told["cpu"]["topology"], json!({"sockets": 1, "cores": 2, "threads": 1}));
    let limits = json!({"read_bytes_per_second": 1_048_576, "total_operations_per_second": 100});
    assert_eq!(told["disks"][0]["limits"], limits);
    let limits = json!({"inbound_bytes_per_second": 1_000_000, "outbound_bytes_per_second": 2_000_000});
    assert_eq!(told["nics"][0]["limits"], limits);

    let plain = cloud.boot(Member, json!({})).await;
    let told = spec(&cloud, &plain);
    for absent in ["/page_size", "/cpu/topology", "/cpu/dedicated", "/disks/0/limits", "/nics/0/limits"] {
        assert!(told.pointer(absent).is_none(), "{absent} of {told}");
    }
}

#[tokio::test]
async fn values_that_mean_nothing_are_refused_where_they_are_set() {
    let cloud = TestCloud::start().await;
    let id = cloud.flavor(json!({})).await;
    let path = format!("/compute/v2.1/flavors/{id}/os-extra_specs");
    for (key, value) in [
        ("hw:mem_page_size", "huge"),
        ("hw:mem_page_size", "3MB"),
        ("hw:cpu_policy", "mine"),
        ("hw:cpu_policy", "mixed"),
        ("hw:cpu_sockets", "0"),
        ("hw:cpu_cores", "two"),
        ("hw:cpu_threads", "-1"),
        ("quota:disk_read_bytes_sec", "fast"),
        ("quota:disk_total_iops_sec", "-1"),
        ("quota:vif_inbound_average", "1.5"),
        ("hw_rng:allowed", "perhaps"),
    ] {
        let message = cloud.as_(Admin).post(&path, json!({"extra_specs": {key: value}})).await.refused(400);
        assert!(message.contains(key) && message.contains(value), "{message}");
        cloud.as_(Admin).put(&format!("{path}/{key}"), json!({key: value})).await.refused(400);
    }
    assert_eq!(cloud.as_(Admin).get(&path).await.expect(200)["extra_specs"], json!({}));
}

#[tokio::test]
async fn what_does_not_fit_together_is_refused_when_the_server_is_asked_for() {
    let cloud = TestCloud::start().await;
    for (specs, word) in [
        (json!({"hw:mem_page_size": "2MB"}), "whole pages"),
        (json!({"quota:disk_total_bytes_sec": "1", "quota:disk_read_bytes_sec": "1"}), "one direction"),
    ] {
        let flavor = flavor(&cloud, json!({"ram": 127}), specs).await;
        let message = cloud.ask_for_server(Member, json!({"flavorRef": flavor})).await.refused(400);
        assert!(message.contains(word), "{message}");
    }
    let image = cloud.image_with(Member, json!({"hw_mem_page_size": "large"})).await;
    let message = cloud.ask_for_server(Member, json!({"imageRef": image})).await.refused(400);
    assert_eq!(message, "Page size large forbidden against 'a flavor without one'");
}

#[tokio::test]
async fn dedicated_cpus_are_one_servers_own_until_it_is_deleted() {
    let cloud = TestCloud::configured("quota.instances = -1\nquota.cores = -1").await;
    let host = std::thread::available_parallelism().unwrap().get();
    let specs = json!({"hw:cpu_policy": "dedicated"});
    // The first CPU of the host is nobody's own.
    let most = flavor(&cloud, json!({"vcpus": host}), specs.clone()).await;
    let made = cloud.ask_for_server(Member, json!({"flavorRef": most})).await.expect(202);
    let id = text(&made["server"]["id"]).to_owned();
    let server = cloud.wait_for_status(Member, &id, "ERROR").await;
    let message = text(&server["fault"]["message"]);
    assert!(message.contains(&format!("{host} dedicated CPUs are wanted")), "{message}");
    cloud.delete_server(Member, &id).await;
    assert!(host > 1, "this test needs two processors");

    let all = flavor(&cloud, json!({"vcpus": host - 1}), specs.clone()).await;
    let id = cloud.boot(Member, json!({"flavorRef": all})).await;
    let told = spec(&cloud, &id);
    let own = told["cpu"]["dedicated"]["vcpus"].as_array().unwrap().clone();
    assert_eq!(own.len(), host - 1);
    let others = &told["cpu"]["dedicated"]["others"];
    assert_eq!(others.as_array().unwrap().len(), 1);
    assert!(own.iter().all(|cpus| cpus != others), "{told}");
    let one = flavor(&cloud, json!({}), specs).await;
    let made = cloud.ask_for_server(Member, json!({"flavorRef": one})).await.expect(202);
    let second = text(&made["server"]["id"]).to_owned();
    cloud.wait_for_status(Member, &second, "ERROR").await;
    for id in [&second, &id] {
        cloud.delete_server(Member, id).await;
    }
    cloud.boot(Member, json!({"flavorRef": one})).await;
}

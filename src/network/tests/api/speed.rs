//! Not a benchmark: that work grows with what is asked for, told by generous bounds in an unoptimised build.

use std::time::Instant;

use serde_json::json;

use crate::kit::Cloud;

#[tokio::test]
async fn a_thousand_ports_are_listed_in_one_go() {
    let options = network::Options { quotas: [("port".to_owned(), -1)].into(), ..network::Options::default() };
    let cloud = Cloud::with(options);
    let (network, _) = cloud.network("alice", "10.0.0.0/16").await;
    for _ in 0..5 {
        let one = json!({"network_id": network["id"]});
        cloud.post("alice", "/ports", json!({"ports": vec![one; 200]})).await.is(201);
    }
    cloud.get("alice", "/ports").await.is(200);
    let mut best = std::time::Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        let body = cloud.get("alice", "/ports").await.is(200);
        best = best.min(start.elapsed());
        assert_eq!(body["ports"].as_array().unwrap().len(), 1001);
    }
    eprintln!("1,001 ports: {best:?}");
    assert!(best.as_millis() < 1500, "{best:?}");
}

#[tokio::test]
async fn an_address_of_a_nearly_full_range_is_found_quickly() {
    let options = network::Options { quotas: [("port".to_owned(), -1)].into(), ..network::Options::default() };
    let cloud = Cloud::with(options);
    let (network, subnet) = cloud.network("alice", "10.0.0.0/16").await;
    let port = cloud.make("alice", "/ports", "port", json!({"network_id": network["id"]})).await;
    let (network_id, subnet_id, port_id) = (
        network["id"].as_str().unwrap().to_owned(),
        subnet["id"].as_str().unwrap().to_owned(),
        port["id"].as_str().unwrap().to_owned(),
    );
    // All but one address: the gap is in the middle. The first is the port's, the last the DHCP server's.
    cloud
        .db
        .write(move |tx| {
            for number in 0x0a00_0003u32..=0x0a00_fffd {
                if number == 0x0a00_8000 {
                    continue;
                }
                tx.execute(
                    "INSERT INTO network_fixed_ip (subnet_id, position, address, port_id, network_id, ordinal)
                     VALUES (?1, ?2, ?3, ?4, ?5, 1)",
                    db::params![
                        subnet_id,
                        u128::from(number).to_be_bytes(),
                        std::net::Ipv4Addr::from(number).to_string(),
                        port_id,
                        network_id
                    ],
                )?;
            }
            Ok::<_, db::Error>(())
        })
        .await
        .unwrap();
    let start = Instant::now();
    let found = cloud.make("alice", "/ports", "port", json!({"network_id": network["id"]})).await;
    assert_eq!(found["fixed_ips"][0]["ip_address"], "10.0.128.0");
    assert!(start.elapsed().as_millis() < 2000, "{:?}", start.elapsed());
    let none = json!({"port": {"network_id": network["id"]}});
    cloud.post("alice", "/ports", none).await.refused(409, "IpAddressGenerationFailure");
}

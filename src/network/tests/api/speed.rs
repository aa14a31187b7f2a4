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
    let body = cloud.get("admin", "/ports").await.is(200);
    assert_eq!(body["ports"].as_array().unwrap().len(), 1001);
    let mut best = std::time::Duration::MAX;
    for _ in 0..20 {
        let start = Instant::now();
        let (status, bytes) = cloud.send_unread("admin", "GET", "/v2.0/ports", "").await;
        best = best.min(start.elapsed());
        assert!(status == 200 && bytes.len() > 500_000);
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

/// A line of this process's `status`: kibibytes.
fn memory_kib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// What a thousand servers of one network and one group cost, one after the other, beside a reconciler at work. Prints.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, in a release build"]
async fn a_thousand_servers_of_one_network_are_connected() {
    const SERVERS: usize = 1000;
    let options = network::Options { quotas: [("port".to_owned(), -1)].into(), ..network::Options::default() };
    let cloud = Cloud::with(options);
    let (network, _) = cloud.network("alice", "10.0.0.0/16").await;
    let app = cloud.app.clone();
    let mut changes = cloud.db.changes("network");
    let rounds = tokio::spawn(async move {
        let mut count = 0;
        loop {
            if tokio::time::timeout(std::time::Duration::from_secs(1), changes.changed()).await.is_err() {
                return count;
            }
            app.reconcile().await.unwrap();
            count += 1;
        }
    });
    eprintln!("before: {} KiB resident", memory_kib("VmRSS"));
    let start = Instant::now();
    let (mut written, mut plugged) = (std::time::Duration::ZERO, std::time::Duration::ZERO);
    let mut last = String::new();
    for number in 0..SERVERS {
        let app = cloud.app.clone();
        let network_id = network["id"].as_str().unwrap().to_owned();
        let step = Instant::now();
        let port = cloud
            .db
            .write(move |tx| {
                let id = format!("00000000-0000-4000-8000-{number:012}");
                let request = network::peer::PortRequest {
                    requester: network::peer::Requester { project_id: "project-a", is_admin: false },
                    server_id: &id,
                    server_name: &format!("server-{number}"),
                    zone: "nova",
                    wanted: &network::peer::Wanted::Network { network_id, fixed_ip: None },
                    security_groups: &[],
                };
                network::peer::create_port(tx, &app, &request)
            })
            .await
            .unwrap();
        written += step.elapsed();
        let step = Instant::now();
        network::peer::plug(&cloud.app, &port.id).await.unwrap();
        plugged += step.elapsed();
        last = port.id;
    }
    eprintln!("{SERVERS} servers: {:?}, of which writing {written:?}, plugging {plugged:?}", start.elapsed());
    eprintln!("rounds: {}", rounds.await.unwrap());
    eprintln!("then: {} KiB resident, {} KiB at most", memory_kib("VmRSS"), memory_kib("VmHWM"));
    let rounds = Instant::now();
    for number in 0..20 {
        // Something that every port's plan shares.
        let name = json!({"network": {"mtu": 1400 + number}});
        cloud.put("admin", &format!("/networks/{}", network["id"].as_str().unwrap()), name).await.is(200);
        cloud.reconcile().await;
    }
    eprintln!("a round that changes the network: {:?}", rounds.elapsed() / 20);
    let rounds = Instant::now();
    for _ in 0..20 {
        cloud.put("alice", &format!("/ports/{last}"), json!({"port": {"name": "x"}})).await.is(200);
        cloud.reconcile().await;
    }
    eprintln!("a write and a round that has nothing to do: {:?}", rounds.elapsed() / 20);
    let plugs = Instant::now();
    for _ in 0..20 {
        network::peer::plug(&cloud.app, &last).await.unwrap();
    }
    eprintln!("a plug of what is plugged: {:?}", plugs.elapsed() / 20);
    eprintln!("at last: {} KiB resident, {} KiB at most", memory_kib("VmRSS"), memory_kib("VmHWM"));
}

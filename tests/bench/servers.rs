//! Servers with the fake driver: one after the other, many at once, and a thousand of them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::Method;
use serde_json::{Value, json};
use tokio::{sync::Barrier, task::JoinSet};

use crate::{
    Budget, DEADLINE, Table, ms, new_image, percentile,
    program::{Connection, Place, Program, wait_for},
    time_get,
};

/// Clients that ask at the same time, each on its own connection.
const BURST: usize = 50;
const BURSTS: usize = 4;

pub async fn measure(table: &mut Table, place: &Place, program: &Program, connection: &mut Connection, count: usize) {
    let image = new_image(connection, "small").await;
    connection.upload(&image, vec![0; 1 << 16].into()).await.unwrap().expect(204);
    let flavor = json!({"flavor": {"name": "bench", "ram": 1, "vcpus": 1, "disk": 1}});
    let flavor = connection.post("/compute/v2.1/flavors", &flavor).await.unwrap().expect(200)["flavor"]["id"].clone();
    // A thousand guests that take nothing have room on any machine.
    let found = connection.get("/placement/resource_providers").await.unwrap().expect(200);
    let provider = found["resource_providers"][0]["uuid"].as_str().unwrap();
    let path = format!("/placement/resource_providers/{provider}/inventories");
    let mut inventories = connection.get(&path).await.unwrap().expect(200);
    for inventory in inventories["inventories"].as_object_mut().unwrap().values_mut() {
        inventory["total"] = json!(10_000_000);
        inventory["max_unit"] = json!(10_000_000);
    }
    let headers = [("content-type", "application/json")];
    connection.send(Method::PUT, &path, &headers, inventories.to_string()).await.unwrap().expect(200);
    // A network with room for all of them.
    let network = json!({"network": {"name": "bench"}});
    let network =
        connection.post("/network/v2.0/networks", &network).await.unwrap().expect(201)["network"]["id"].clone();
    let subnet = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.64.0.0/16"}});
    connection.post("/network/v2.0/subnets", &subnet).await.unwrap().expect(201);

    let body = |name: String, many: usize| {
        let mut server = json!({"name": name, "imageRef": image, "flavorRef": flavor, "networks": [{"uuid": network}]});
        if many > 1 {
            server["min_count"] = json!(many);
        }
        json!({ "server": server })
    };
    let (mut accepted, mut active) = (Vec::new(), Vec::new());
    for number in 0..60 {
        let began = Instant::now();
        let made = connection.post("/compute/v2.1/servers", &body(format!("one-{number}"), 1)).await.unwrap();
        accepted.push(ms(began));
        let made: Value = made.expect(202);
        let path = format!("/compute/v2.1/servers/{}", made["server"]["id"].as_str().unwrap());
        loop {
            let server = connection.get(&path).await.unwrap().expect(200);
            match server["server"]["status"].as_str() {
                Some("BUILD") => {}
                Some("ACTIVE") => break,
                _ => panic!("{server}"),
            }
        }
        active.push(ms(began));
    }
    // The first one converts the image.
    let (accepted, active) = (&accepted[1..], &active[1..]);
    table.row("POST /servers accepted (durable), p50", percentile(accepted, 50), "ms", Budget::AtMost(10.0), None);
    table.row("POST /servers accepted (durable), p99", percentile(accepted, 99), "ms", Budget::None, None);
    let what = "POST /servers to ACTIVE, fake driver, p50";
    table.row(what, percentile(active, 50), "ms", Budget::AtMost(30.0), Some(1189.0));
    table.row("POST /servers to ACTIVE, fake driver, p99", percentile(active, 99), "ms", Budget::None, None);

    let mut made = 60;
    let (mut bursts, mut busy) = (Vec::new(), Vec::new());
    for round in 0..BURSTS {
        let bodies = (0..BURST).map(|number| body(format!("burst-{round}-{number}"), 1)).collect();
        let (waited, processor) = burst(place, program, connection, bodies).await;
        bursts.extend(waited);
        busy.push(processor);
        made += BURST;
        all_active(connection, made).await;
    }
    let what = format!("{BURST} concurrent POST /servers: processor time to the last 202");
    table.row(what, percentile(&busy, 50), "ms", Budget::None, None);
    let what = format!("{BURST} concurrent POST /servers accepted (durable), p50");
    table.row(what, percentile(&bursts, 50), "ms", Budget::None, None);
    let what = format!("{BURST} concurrent POST /servers accepted (durable), p99");
    table.row(what, percentile(&bursts, 99), "ms", Budget::AtMost(100.0), None);

    let (began, first) = (Instant::now(), made);
    while made < count {
        let many = (count - made).min(50);
        connection.post("/compute/v2.1/servers", &body(format!("many-{made}"), many)).await.unwrap().expect(202);
        made += many;
    }
    all_active(connection, made).await;
    let each = ms(began) / (made - first).max(1) as f64;
    table.row(format!("creating {} more servers, each", made - first), each, "ms", Budget::None, None);
    let (took, _) = time_get(connection, "/compute/v2.1/servers/detail?limit=100", 25).await;
    table.row("100 servers with details", took, "ms", Budget::None, Some(440.0));
    let (took, size) = time_get(connection, &format!("/compute/v2.1/servers/detail?limit={made}"), 15).await;
    let what = format!("{made} servers with details ({} KiB)", size >> 10);
    table.row(what, took, "ms", Budget::AtMost(30.0), None);
    let (took, size) = time_get(connection, "/network/v2.0/ports", 15).await;
    table.row(format!("{made} ports ({} KiB)", size >> 10), took, "ms", Budget::AtMost(12.0), None);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let what = format!("resident with {made} servers known");
    table.row(what, program.resident_mib(), "MiB", Budget::AtMost(64.0), None);
}

/// All of them at once. Answers how long each waited for its 202, and the processor time of the program until the last.
async fn burst(place: &Place, program: &Program, connection: &Connection, bodies: Vec<Value>) -> (Vec<f64>, f64) {
    let start = Arc::new(Barrier::new(bodies.len() + 1));
    let mut asking = JoinSet::new();
    for body in bodies {
        let mut own = program.connect(place).await.unwrap();
        own.token = connection.token.clone();
        // A handshake is not what is measured, nor is the first request on a connection.
        own.get("/compute/v2.1/flavors/1").await.unwrap().expect(200);
        let start = Arc::clone(&start);
        asking.spawn(async move {
            start.wait().await;
            let began = Instant::now();
            let reply = own.post("/compute/v2.1/servers", &body).await.unwrap();
            let took = ms(began);
            reply.expect(202);
            took
        });
    }
    let before = processor_ms(program);
    start.wait().await;
    let waited = asking.join_all().await;
    (waited, processor_ms(program) - before)
}

async fn all_active(connection: &mut Connection, made: usize) {
    wait_for("all servers to be ACTIVE", DEADLINE, async || {
        let (active, all) = status_counts(connection).await;
        if active == made && all == made { Ok(()) } else { Err(format!("{active} of {all} are")) }
    })
    .await;
}

async fn status_counts(connection: &mut Connection) -> (usize, usize) {
    let (mut active, mut all, mut marker) = (0, 0, String::new());
    loop {
        let path = format!("/compute/v2.1/servers/detail?limit=1000{marker}");
        let page = connection.get(&path).await.unwrap().expect(200);
        let page = page["servers"].as_array().unwrap();
        all += page.len();
        active += page.iter().filter(|server| server["status"] == "ACTIVE").count();
        let failed = page.iter().find(|server| server["status"] == "ERROR");
        assert!(failed.is_none(), "a server failed: {}", failed.unwrap()["fault"]);
        let Some(last) = page.last() else { return (active, all) };
        marker = format!("&marker={}", last["id"].as_str().unwrap());
    }
}

/// Time that the program's threads have had of processors, in ms: what the machine does besides does not count.
fn processor_ms(program: &Program) -> f64 {
    let threads = std::fs::read_dir(format!("/proc/{}/task", program.pid())).expect("its threads");
    // A thread that has ended meanwhile is not there.
    let of = |path: std::path::PathBuf| std::fs::read_to_string(path.join("schedstat")).ok();
    let ns = |text: String| text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    threads.filter_map(|thread| of(thread.ok()?.path()).and_then(ns)).sum::<f64>() / 1e6
}

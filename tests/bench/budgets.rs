//! Speed and memory of a release build against the budgets of docs/ARCHITECTURE.md: `just bench`.
//!
//! Starts the real program with the fake driver and asks it over TLS, as clients do, from this process. Latencies are
//! medians on one connection that stays open; ratios are taken in the same run, in turns, on the same machine, so they mean
//! something on a busy one too. A missed budget is shown; only a gross one (see [`GROSS`]) makes the run fail, so that noise
//! does not.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement that cannot be taken ends the run")]
#![allow(clippy::print_stdout, reason = "the figures are the result")]

use std::{
    io::{Read, Write},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use http::Method;
use http_body_util::BodyExt;
use hyper::body::Bytes;
use serde_json::{Value, json};

mod bare;
mod identity;
mod program;
mod servers;

use bare::Bare;
use program::{Connection, Place, Program, ROOM, password_request, trusting};

/// A budget missed by this factor is a defect, whatever else the machine is doing.
const GROSS: f64 = 4.0;
const CONNECTIONS: usize = 8;
const ROUND: Duration = Duration::from_secs(3);
const DEADLINE: Duration = Duration::from_secs(600);

#[derive(Clone, Copy)]
enum Budget {
    None,
    AtMost(f64),
    AtLeast(f64),
}

struct Row {
    what: String,
    measured: f64,
    unit: &'static str,
    budget: Budget,
}

#[derive(Default)]
struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// `real` is what the real services took, on 2 cores, in the same unit.
    fn row(&mut self, what: impl Into<String>, measured: f64, unit: &'static str, budget: Budget, real: Option<f64>) {
        let what = what.into();
        let limit = match budget {
            Budget::None => String::new(),
            Budget::AtMost(most) => format!("<= {most}"),
            Budget::AtLeast(least) => format!(">= {least}"),
        };
        let row = Row { what, measured, unit, budget };
        let mark = match (row.excess(), budget) {
            (_, Budget::None) => "",
            (excess, _) if excess <= 1.0 => "kept",
            (excess, _) if excess <= GROSS => "MISSED",
            _ => "GROSSLY MISSED",
        };
        let ratio = real.map_or(String::new(), |real| {
            let (more, word) = if unit == "MB/s" { (measured / real, "of theirs") } else { (real / measured, "less") };
            format!("real services {real}: {more:.1} x {word}")
        });
        println!("{:58} {measured:>10.2} {unit:5} {limit:>8}  {mark:7} {ratio}", row.what);
        self.rows.push(row);
    }

    /// What was missed, and whether that makes the run fail.
    fn verdict(&self) -> ExitCode {
        let missed: Vec<&Row> = self.rows.iter().filter(|row| row.excess() > 1.0).collect();
        for row in &missed {
            println!("missed: {}: {:.2} {}, {:.1} times over", row.what.trim(), row.measured, row.unit, row.excess());
        }
        let gross = missed.iter().any(|row| row.excess() > GROSS);
        if gross { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

impl Row {
    /// How many times over its budget; at most 1 is kept.
    fn excess(&self) -> f64 {
        match self.budget {
            Budget::None => 0.0,
            Budget::AtMost(most) => self.measured / most,
            Budget::AtLeast(least) => least / self.measured,
        }
    }
}

struct Arguments {
    /// Only this part.
    only: Option<String>,
    servers: usize,
    users: usize,
    image_mib: usize,
}

fn arguments() -> Arguments {
    let mut arguments = Arguments { only: None, servers: 1000, users: 1000, image_mib: 256 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number =
            || words.next().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{word} takes a number"));
        match word.as_str() {
            "--servers" => arguments.servers = number(),
            "--users" => arguments.users = number(),
            "--image-mib" => arguments.image_mib = number(),
            // Cargo's own.
            "--bench" => {}
            "identity" | "servers" => arguments.only = Some(word),
            _ => {
                panic!("unknown argument {word}; there are identity, servers, --servers N, --users N and --image-mib N")
            }
        }
    }
    arguments
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[(values.len() * percent / 100).min(values.len() - 1)]
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

/// Median time of a GET that answers 200, and the size of what it answers.
async fn time_get(connection: &mut Connection, path: &str, times: usize) -> (f64, usize) {
    time_get_with(connection, path, &[], times).await
}

async fn time_get_with(
    connection: &mut Connection,
    path: &str,
    headers: &[(&str, &str)],
    times: usize,
) -> (f64, usize) {
    let mut took = Vec::new();
    let mut size = 0;
    for _ in 0..times {
        let began = Instant::now();
        let reply = connection.send(Method::GET, path, headers, Bytes::new()).await.unwrap();
        took.push(ms(began));
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        size = reply.bytes.len();
    }
    (median(took), size)
}

/// A request that is made many times.
#[derive(Clone)]
struct Ask {
    method: Method,
    path: &'static str,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Ask {
    fn get(path: &'static str) -> Self {
        Self { method: Method::GET, path, headers: Vec::new(), body: String::new() }
    }
}

/// Requests per second over a few connections, each asking as soon as it is answered.
async fn rate(authority: &str, tls: &Arc<rustls::ClientConfig>, token: Option<&str>, ask: &Ask) -> f64 {
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let mut connection = Connection::open(authority.parse().unwrap(), Arc::clone(tls)).await.unwrap();
        connection.token = token.map(str::to_owned);
        let ask = ask.clone();
        all.spawn(async move {
            let headers: Vec<(&str, &str)> = ask.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let body = Bytes::from(ask.body);
            let (began, mut answered) = (Instant::now(), 0_u32);
            while began.elapsed() < ROUND {
                let reply = connection.send(ask.method.clone(), ask.path, &headers, body.clone()).await.unwrap();
                assert!(reply.status.is_success(), "{reply:?}");
                answered += 1;
            }
            f64::from(answered) / began.elapsed().as_secs_f64()
        });
    }
    all.join_all().await.into_iter().sum()
}

async fn at_rest(table: &mut Table, place: &Place) -> Program {
    let program = place.start().await;
    table.row("first start to ready", program.took.as_secs_f64(), "s", Budget::None, None);
    program.stop().await;
    let mut starts = Vec::new();
    for _ in 0..5 {
        let program = place.start().await;
        starts.push(program.took.as_secs_f64());
        program.stop().await;
    }
    let what = "restart with a database to ready, median of 5";
    table.row(what, median(starts), "s", Budget::AtMost(0.4), Some(40.0));
    let program = place.start().await;
    let mut connection = program.login(place).await.unwrap();
    for path in
        ["/image/v2/images", "/compute/v2.1/servers/detail", "/network/v2.0/ports", "/placement/resource_providers"]
    {
        connection.get(path).await.unwrap().expect(200);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    table.row("resident at rest", program.resident_mib(), "MiB", Budget::AtMost(43.0), Some(2141.0));
    program
}

async fn requests(table: &mut Table, place: &Place, program: &Program, connection: &mut Connection) {
    let token = connection.token.clone().unwrap();
    let mut issued = Vec::new();
    for _ in 0..15 {
        let began = Instant::now();
        connection.post("/identity/v3/auth/tokens", &password_request(place)).await.unwrap().expect(201);
        issued.push(ms(began));
    }
    table.row("token by password", median(issued), "ms", Budget::None, Some(295.0));
    let subject = [("x-subject-token", token.as_str())];
    let (validated, _) = time_get_with(connection, "/identity/v3/auth/tokens", &subject, 200).await;
    table.row("token validation", validated, "ms", Budget::None, Some(24.0));

    let bytes = connection.get("/compute/v2.1/flavors/1").await.unwrap().bytes;
    let bare = Bare::start(&bytes);
    let tls = trusting(&place.ca());
    let (mut ours, mut bares, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        bares.push(bare.rate().await);
        let one = Ask::get("/compute/v2.1/flavors/1");
        ours.push(rate(&program.authority, &tls, Some(&token), &one).await);
        ratios.push(100.0 * ours[ours.len() - 1] / bares[bares.len() - 1]);
    }
    table.row("bare axum handler, the same bytes over TLS", median(bares), "/s", Budget::None, None);
    table.row("authenticated GET of one flavor", median(ours), "/s", Budget::None, None);
    table.row("  as a share of the bare handler", median(ratios), "%", Budget::AtLeast(50.0), None);
    let path = "/placement/allocation_candidates?resources=VCPU:1,MEMORY_MB:64";
    let version = [("openstack-api-version", "placement 1.29")];
    let (candidates, _) = time_get_with(connection, path, &version, 100).await;
    table.row("allocation candidates", candidates, "ms", Budget::None, Some(55.0));
}

async fn users(table: &mut Table, connection: &mut Connection, count: usize) {
    for number in 0..count {
        let body = json!({"user": {"name": format!("bench-{number}"), "domain_id": "default"}});
        connection.post("/identity/v3/users", &body).await.unwrap().expect(201);
    }
    let (took, size) = time_get(connection, "/identity/v3/users", 25).await;
    table.row(format!("{count} users ({} KiB)", size >> 10), took, "ms", Budget::AtMost(5.0), Some(267.0));
}

async fn new_image(connection: &mut Connection, name: &str) -> String {
    let body = json!({"name": name, "disk_format": "raw", "container_format": "bare"});
    let made = connection.post("/image/v2/images", &body).await.unwrap().expect(201);
    made["id"].as_str().unwrap().to_owned()
}

/// What any upload must do at least: copy, two hashes, fsync.
fn plain_copy(from: &std::path::Path, to: &std::path::Path) -> f64 {
    let began = Instant::now();
    let (mut source, mut target) = (std::fs::File::open(from).unwrap(), std::fs::File::create(to).unwrap());
    let mut hashes = disks::Hasher::new();
    let mut block = vec![0; 1 << 20];
    loop {
        let length = source.read(&mut block).unwrap();
        if length == 0 {
            break;
        }
        hashes.update(&block[..length]);
        target.write_all(&block[..length]).unwrap();
    }
    target.sync_all().unwrap();
    std::hint::black_box(hashes.finish());
    began.elapsed().as_secs_f64()
}

async fn images(table: &mut Table, place: &Place, connection: &mut Connection, mib: usize) {
    let bytes: Vec<u8> = (0..(mib << 20) / 8)
        .scan(1_u64, |x, _| {
            *x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            Some(x.to_le_bytes())
        })
        .flatten()
        .collect();
    let bytes = Bytes::from(bytes);
    let mb = bytes.len() as f64 / 1e6;
    let (source, copy) = (place.state.join("source.raw"), place.state.join("copy.raw"));
    std::fs::write(&source, &bytes).unwrap();
    let (mut copies, mut ups, mut downs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        copies.push(mb / plain_copy(&source, &copy));
        let id = new_image(connection, "bench").await;
        let began = Instant::now();
        connection.upload(&id, bytes.clone()).await.unwrap().expect(204);
        ups.push(mb / began.elapsed().as_secs_f64());
        let began = Instant::now();
        let path = format!("/image/v2/images/{id}/file");
        let mut body = connection.begin(Method::GET, &path, &[], Bytes::new()).await.unwrap().into_body();
        let mut received = 0;
        while let Some(frame) = body.frame().await {
            received += frame.unwrap().data_ref().map_or(0, Bytes::len);
        }
        assert_eq!(received, bytes.len());
        downs.push(mb / began.elapsed().as_secs_f64());
        connection.delete(&format!("/image/v2/images/{id}")).await.unwrap().expect(204);
    }
    for path in [source, copy] {
        std::fs::remove_file(path).unwrap();
    }
    let (copied, up, down) = (median(copies), median(ups), median(downs));
    table.row("plain file copy with MD5 and SHA-512, fsync", copied, "MB/s", Budget::None, None);
    table.row("image upload", up, "MB/s", Budget::None, Some(146.0));
    table.row("  as a share of the plain copy", 100.0 * up / copied, "%", Budget::AtLeast(70.0), None);
    table.row("image download", down, "MB/s", Budget::None, None);
    table.row("  as a share of the plain copy", 100.0 * down / copied, "%", Budget::AtLeast(70.0), None);
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(bare::ARGUMENT) {
        bare::serve();
        return ExitCode::SUCCESS;
    }
    tokio::runtime::Runtime::new().unwrap().block_on(measure())
}

async fn measure() -> ExitCode {
    let arguments = arguments();
    let state = tempfile::Builder::new().prefix("solostack-bench-").tempdir().unwrap();
    let binary = std::env::var_os("SOLOSTACK_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_solostack").into());
    let place = Place { binary: binary.into(), state: state.path().to_owned(), driver: "fake", config: ROOM };
    let mut table = Table::default();
    if let Some(only) = &arguments.only {
        let program = place.start().await;
        if only == "identity" {
            identity::measure(&mut table, &place, &program).await;
        } else {
            let mut connection = program.login(&place).await.unwrap();
            servers::measure(&mut table, &place, &program, &mut connection, arguments.servers).await;
        }
        program.stop().await;
        return table.verdict();
    }
    let program = at_rest(&mut table, &place).await;
    let mut connection = program.login(&place).await.unwrap();
    requests(&mut table, &place, &program, &mut connection).await;
    users(&mut table, &mut connection, arguments.users).await;
    images(&mut table, &place, &mut connection, arguments.image_mib).await;
    servers::measure(&mut table, &place, &program, &mut connection, arguments.servers).await;
    program.stop().await;
    let program = place.start().await;
    let what = format!("restart with {} servers to ready", arguments.servers);
    table.row(what, program.took.as_secs_f64(), "s", Budget::AtMost(0.4), Some(40.0));
    program.kill().await;
    table.verdict()
}

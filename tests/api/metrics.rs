//! `/metrics`: the format, what is counted, and who sees how much.

use std::{collections::BTreeSet, net::SocketAddr};

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use kit::{
    Persona::{Anonymous, Member},
    TestCloud,
};
use rest::Arrival;

const TOKEN: &str = "the token of a scraper";
/// Of the token: `printf %s 'the token of a scraper' | sha256sum`.
const CONFIG: &str = "metrics.token_sha256 = \"@\"";

fn config() -> String {
    let hash = appliance::secret::hash(TOKEN).map(|byte| format!("{byte:02x}")).concat();
    CONFIG.replace('@', &hash)
}

async fn scrape(cloud: &TestCloud, peer: &str, authorization: Option<&str>) -> (StatusCode, String) {
    let mut request = Request::get("/metrics").header("host", "cloud.test");
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    let peer = SocketAddr::new(peer.parse().unwrap(), 40_000);
    let arrival = Arrival { peer, scheme: "https", service: None };
    let response = cloud.inner().handle(arrival, request.body(Body::empty()).unwrap()).await;
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

async fn sums(cloud: &TestCloud) -> String {
    let (status, text) = scrape(cloud, "127.0.0.1", None).await;
    assert_eq!(status, 200, "{text}");
    text
}

/// The value of the series that begins with this text.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.and_then(|rest| rest.trim().parse().ok()).unwrap_or_else(|| panic!("no {series} in {text}"))
}

#[tokio::test]
async fn programs_on_the_machine_read_sums_and_others_nothing() {
    let cloud = TestCloud::configured(&config()).await;
    let server = cloud.boot(Member, serde_json::json!({})).await;
    let project = cloud.project(Member).await;
    for here in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
        let (status, text) = scrape(&cloud, here, None).await;
        assert_eq!(status, 200);
        assert_eq!(value(&text, "solostack_servers{status=\"ACTIVE\"}"), 1.0);
        for of_a_tenant in [server.as_str(), &project, "member", "10.0.0."] {
            assert!(!text.contains(of_a_tenant), "{of_a_tenant} is in {text}");
        }
    }
    for elsewhere in ["192.0.2.7", "2001:db8::7", "::ffff:192.0.2.7", "10.0.0.3"] {
        let (status, text) = scrape(&cloud, elsewhere, None).await;
        assert_eq!(status, 401);
        assert!(!text.contains("solostack_"), "{text}");
    }
}

#[tokio::test]
async fn the_token_shows_single_servers_from_anywhere_and_nothing_like_it_does() {
    let cloud = TestCloud::configured(&config()).await;
    let server = cloud.boot(Member, serde_json::json!({})).await;
    let (status, text) = scrape(&cloud, "192.0.2.7", Some(&format!("Bearer {TOKEN}"))).await;
    assert_eq!(status, 200);
    let project = cloud.project(Member).await;
    let info = format!("solostack_server_info{{server_id=\"{server}\",project_id=\"{project}\"}} 1");
    assert!(text.contains(&info), "{text}");
    let memory = format!("solostack_server_memory_bytes{{server_id=\"{server}\"}}");
    assert!(value(&text, &memory) > 0.0);
    for wrong in ["Bearer", "Bearer ", "Bearer the token of a scrape", "Basic eDp5", TOKEN, "Bearer \u{0}"] {
        if http::HeaderValue::from_str(wrong).is_err() {
            continue;
        }
        // Neither from here: a wrong token is not none.
        for peer in ["127.0.0.1", "192.0.2.7"] {
            assert_eq!(scrape(&cloud, peer, Some(wrong)).await.0, 401, "{wrong:?} from {peer}");
        }
    }
    let plain = TestCloud::start().await;
    let (status, _) = scrape(&plain, "192.0.2.7", Some(&format!("Bearer {TOKEN}"))).await;
    assert_eq!(status, 401, "without a token in the configuration no token is right");
}

#[tokio::test]
async fn requests_count_by_route_pattern_and_status() {
    let cloud = TestCloud::start().await;
    let before = sums(&cloud).await;
    assert!(!before.contains("route=\"/v2.1/servers/{id}\""), "nobody has asked yet");
    for id in ["17", "a-server-that-is-not", "../etc"] {
        let path = format!("/compute/v2.1/servers/{id}");
        cloud.as_(Member).get(&path).await;
    }
    cloud.as_(Anonymous).get("/compute/v2.1/no-such-thing/secret-id").await.refused(404);
    cloud.as_(Anonymous).get("/compute/v2.1/servers").await.refused(401);
    let text = sums(&cloud).await;
    let labels = "{service=\"compute\",method=\"GET\",route=\"/v2.1/servers/{id}\"";
    let count = value(&text, &format!("solostack_request_duration_seconds_count{labels}}}"));
    assert!((2.0..=3.0).contains(&count), "{count}");
    assert_eq!(value(&text, &format!("solostack_request_duration_seconds_bucket{labels},le=\"+Inf\"}}")), count);
    assert!(value(&text, "solostack_requests_total{service=\"compute\",status=\"404\"}") >= 3.0);
    assert_eq!(value(&text, "solostack_requests_total{service=\"compute\",status=\"401\"}"), 1.0);
    for id in ["a-server-that-is-not", "no-such-thing", "secret-id"] {
        assert!(!text.contains(id), "{id} is a label in {text}");
    }
}

#[tokio::test]
async fn what_is_read_has_the_format_and_says_how_everything_is() {
    let cloud = TestCloud::certified().await;
    cloud.boot(Member, serde_json::json!({})).await;
    let text = sums(&cloud).await;
    let (mut families, mut series) = (BTreeSet::new(), BTreeSet::new());
    let mut family = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(families.insert(name), "{name} is there twice");
            family = name;
        } else if !line.starts_with('#') {
            let (name, number) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with(family), "{line} is not of {family}");
            assert!(number.parse::<f64>().is_ok(), "{line}");
            assert!(series.insert(name), "{name} is there twice");
        }
    }
    for (series, least) in [
        ("solostack_build_info{version=\"0.1.0\"}", 1.0),
        ("solostack_ready", 1.0),
        ("process_cpu_seconds_total", 0.001),
        ("process_resident_memory_bytes", 1e6),
        ("process_open_fds", 5.0),
        ("process_max_fds", 100.0),
        ("process_start_time_seconds", 1e9),
        ("solostack_database_writes_total", 10.0),
        ("solostack_database_commit_duration_seconds_count", 10.0),
        ("solostack_database_size_bytes{file=\"database\"}", 4096.0),
        ("solostack_servers{status=\"ACTIVE\"}", 1.0),
        ("solostack_capacity{class=\"MEMORY_MB\"}", 1.0),
        ("solostack_capacity_used{class=\"VCPU\"}", 1.0),
        ("solostack_certificate_expiry_timestamp_seconds{place=\"leaf\"}", 1e9),
        ("solostack_certificate_expiry_timestamp_seconds{place=\"root\"}", 1e9),
        ("solostack_disk_free_bytes", 1.0),
        ("solostack_requests_total{service=\"identity\",status=\"201\"}", 1.0),
    ] {
        assert!(value(&text, series) >= least, "{series} is {}", value(&text, series));
    }
}

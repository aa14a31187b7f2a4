//! Every route that takes a body gets bodies that no honest client sends. None is a failure of the server, none hangs,
//! and every refusal has the service's shape (the kit looks at that).

use http::Method;
use kit::Persona::Admin;
use serde_json::{Value, json};

use crate::{
    routes::{line, table},
    world::{About, World, content_type},
};

/// In place of every value of a valid body, one after the other.
fn poisons() -> Vec<Value> {
    let deep = (0..60).fold(json!(1), |inner, _| json!({ "x": inner }));
    vec![
        Value::Null,
        json!(true),
        json!(-1),
        json!(1.5e300),
        json!(u64::MAX),
        json!(""),
        json!("\u{0}"),
        json!("'; DROP TABLE x; -- %s {0} \u{202e}\u{1f4a5}\u{feff}\n"),
        json!("x".repeat(70_000)),
        json!([]),
        json!({}),
        json!([null, 1, "x", {}]),
        deep,
    ]
}

/// Texts that are no JSON, or no JSON that anyone expects here.
fn texts() -> Vec<Vec<u8>> {
    let mut texts: Vec<Vec<u8>> =
        ["", " ", "{", "nul", "null", "0", "\"x\"", "[]", "[[]]", "{}", "{\"a\": 1}", "{\"a\":1}{", "1e999"]
            .into_iter()
            .map(|text| text.as_bytes().to_vec())
            .collect();
    texts.push(vec![0xff, 0xfe, 0x00]);
    texts.push(b"{\"\xc3\x28\": 1}".to_vec());
    texts.push("[".repeat(50_000).into_bytes());
    texts.push("{\"a\":".repeat(20_000).into_bytes());
    texts
}

/// Paths to all values of a body, itself first.
fn places(value: &Value, at: String, places: &mut Vec<String>) {
    places.push(at.clone());
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                self::places(value, format!("{at}/{key}"), places);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                self::places(value, format!("{at}/{index}"), places);
            }
        }
        _ => {}
    }
}

async fn bodies(service: &'static str) {
    let world = World::new().await;
    let poisons = poisons();
    let mut wrong = Vec::new();
    let mut asked = 0;
    for (info, route) in table(&world.cloud, service) {
        let Some(sample) = world.sample(service, &route).await else { continue };
        let url = world.url(service, info.prefix, route.path, About::There);
        let version = route.until.map_or("latest".to_owned(), |version| version.to_string());
        let client = world.cloud.as_(Admin);
        let client = if info.microversions.is_some() { client.at(&version) } else { client };
        let kind = [("content-type", content_type(service, &route))];
        let mut all = texts();
        let mut at = Vec::new();
        places(&sample, String::new(), &mut at);
        for place in &at {
            for poison in &poisons {
                let mut body = sample.clone();
                *body.pointer_mut(place).unwrap() = poison.clone();
                all.push(body.to_string().into_bytes());
            }
        }
        // A field that nobody knows, in every object.
        for place in &at {
            let mut body = sample.clone();
            if let Some(Value::Object(map)) = body.pointer_mut(place) {
                map.insert("surprise".into(), json!({"x": 1}));
                all.push(body.to_string().into_bytes());
            }
        }
        for body in all {
            asked += 1;
            let text: String = String::from_utf8_lossy(&body).chars().take(300).collect();
            if let Err(problem) = client.try_raw(route.method.clone(), &url, &kind, body).await {
                wrong.push(format!("{problem}\n  to {text}"));
            }
        }
    }
    assert!(asked > 50, "there are routes with bodies");
    assert!(
        wrong.is_empty(),
        "{} of {asked} answers are wrong:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
}

#[tokio::test]
async fn hostile_bodies_to_compute_are_refused_in_its_own_words() {
    bodies("compute").await;
}

#[tokio::test]
async fn hostile_bodies_to_network_are_refused_in_its_own_words() {
    bodies("network").await;
}

#[tokio::test]
async fn hostile_bodies_to_images_are_refused_in_its_own_words() {
    bodies("image").await;
}

#[tokio::test]
async fn hostile_bodies_to_placement_are_refused_in_its_own_words() {
    bodies("placement").await;
}

#[tokio::test]
async fn hostile_bodies_to_identity_are_refused_in_its_own_words() {
    bodies("identity").await;
}

#[tokio::test]
async fn hostile_bodies_to_solostack_are_refused_in_its_own_words() {
    bodies("solostack").await;
}

#[tokio::test]
async fn hostile_arguments_of_every_action_are_refused() {
    let world = World::new().await;
    let id = world.there("compute", "servers");
    let mut arguments = poisons();
    for field in ["type", "length", "state", "name", "host", "adminPass", "networkId", "address"] {
        arguments.extend(poisons().into_iter().map(|poison| json!({ field: poison })));
    }
    let path = format!("/compute/v2.1/servers/{id}/action");
    let kind = [("content-type", "application/json")];
    let mut wrong = Vec::new();
    for action in [
        "os-start",
        "os-stop",
        "pause",
        "unpause",
        "suspend",
        "resume",
        "addFixedIp",
        "removeFixedIp",
        "reboot",
        "os-getConsoleOutput",
        "lock",
        "unlock",
        "os-resetState",
        "addSecurityGroup",
        "removeSecurityGroup",
        "resize",
        "rebuild",
        "createImage",
        "evacuate",
        "",
        "\u{1f4a5}",
    ] {
        for argument in &arguments {
            let body = json!({ action: argument }).to_string();
            if let Err(problem) = world.cloud.as_(Admin).try_raw(Method::POST, &path, &kind, body).await {
                wrong.push(format!("{problem}\n  to {action}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} answers are wrong:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
}

#[tokio::test]
async fn bodies_that_are_too_large_or_of_another_type_are_refused_everywhere() {
    let world = World::new().await;
    for service in ["compute", "network", "image", "placement", "identity"] {
        for (info, route) in table(&world.cloud, service) {
            let Some(sample) = world.sample(service, &route).await else { continue };
            let url = world.url(service, info.prefix, route.path, About::There);
            let version = route.until.map_or("latest".to_owned(), |version| version.to_string());
            let client = world.cloud.as_(Admin);
            let client = if info.microversions.is_some() { client.at(&version) } else { client };
            let kind = [("content-type", content_type(service, &route))];
            let large = vec![b' '; route.body_max_bytes + 1];
            let reply = client.raw(route.method.clone(), &url, &kind, large).await;
            // That one is for services, and they are told so before their body is read.
            let closed = route.path == "/reshaper" && reply.status == 403;
            assert!(reply.status == 413 || closed, "{}: {reply}", line(&route));
            let kind = [("content-type", "application/xml")];
            let reply = client.raw(route.method.clone(), &url, &kind, sample.to_string()).await;
            assert!(matches!(reply.status.as_u16(), 400 | 415) || closed, "{}: {reply}", line(&route));
        }
    }
}

#[tokio::test]
async fn hostile_paths_and_queries_are_no_failures() {
    let world = World::new().await;
    let segments =
        ["%00", "%ff%fe", "..", "%2e%2e%2f", "'%20OR%201=1", "%F0%9F%92%A5", "{id}", &"x".repeat(5000), "-1", "%"];
    let queries = [
        "limit=99999999999999999999",
        "limit=%00",
        "marker=%ff",
        "sort_key=%27",
        "name=(a%2B)%2B%24",
        "fields=%00",
        "%00=%00",
        "&&&===",
        "limit=1&limit=2",
        "name=%5B",
        "changes-since=0000-00-00",
        "status=%F0%9F%92%A5",
        "all_tenants=%00",
        "page_reverse=maybe",
        "ip=((((",
        "tags=,,,",
        "resources=VCPU:-1",
        "required=!!",
        "member_of=in:",
    ];
    let mut wrong = Vec::new();
    for (info, route) in table(&world.cloud, "") {
        let client = world.cloud.as_(Admin);
        let client = if info.microversions.is_some() { client.at("latest") } else { client };
        let mut urls = Vec::new();
        if route.path.contains('{') && route.method != Method::DELETE {
            for segment in segments {
                let path: Vec<&str> =
                    route.path.split('/').map(|part| if part.starts_with('{') { segment } else { part }).collect();
                urls.push(format!("{}{}", info.prefix, path.join("/")));
            }
        }
        if route.method == Method::GET {
            let url = world.url(info.kind, info.prefix, route.path, About::There);
            urls.extend(queries.iter().map(|query| format!("{url}?{query}")));
        }
        for url in urls {
            if http::Uri::try_from(&url).is_err() {
                continue;
            }
            if let Err(problem) = client.try_raw(route.method.clone(), &url, &[], "").await {
                wrong.push(problem);
            }
        }
    }
    assert!(wrong.is_empty(), "{} answers are wrong:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
}

//! The API behind the real gateway, without sockets: tokens here are `role[,role][@project]`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end where its own assumption fails")]

use std::{collections::HashMap, sync::Arc};

use axum::{Router, body::Body, extract::Request};
use db::{Clock, Db};
use futures::future::BoxFuture;
use http::{HeaderMap, StatusCode};
use proptest::{prelude::*, test_runner::TestRunner};
use rest::{
    Arrival, Credentials, Delegation, Error, Gateway, GatewayOptions, NamedRef, RequestLine, RouteInfo, Scope,
    TokenCheck,
};
use serde_json::{Value, json};

const RP: &str = "11111111-1111-1111-1111-111111111111";
const CHILD: &str = "22222222-2222-2222-2222-222222222222";
const CONSUMER: &str = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa";
const NOBODY: &str = "99999999-9999-9999-9999-999999999999";

struct Tokens;

impl TokenCheck for Tokens {
    fn check<'a>(&'a self, token: &'a str, _: RequestLine<'a>) -> BoxFuture<'a, rest::Result<Arc<Credentials>>> {
        let named = |id: &str| NamedRef { id: id.to_owned(), name: id.to_owned() };
        let (roles, project) = token.split_once('@').unwrap_or((token, "p"));
        let now = Clock::default().now();
        let mut credentials = Credentials {
            user: named("u"),
            user_domain: named("default"),
            scope: Scope::Project { project: named(project), domain: named("default") },
            roles: roles.split(',').map(named).collect(),
            methods: Vec::new(),
            audit_ids: Vec::new(),
            delegation: Delegation::default(),
            issued_at: now,
            expires_at: now,
            view: serde_json::Map::new(),
        };
        credentials.view = credentials.policy_view();
        let answer = if token == "bad" { Err(Error::unauthenticated()) } else { Ok(Arc::new(credentials)) };
        Box::pin(std::future::ready(answer))
    }
}

struct Cloud {
    gateway: Gateway,
    routes: Vec<RouteInfo>,
    _folder: tempfile::TempDir,
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn detail(&self) -> &str {
        self.body["errors"][0]["detail"].as_str().unwrap_or_default()
    }

    fn code(&self) -> &str {
        self.body["errors"][0]["code"].as_str().unwrap_or_default()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

struct Call<'a> {
    method: &'a str,
    path: String,
    version: &'a str,
    token: Option<&'a str>,
    body: Option<Value>,
}

impl Cloud {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(&folder.path().join("db")).unwrap();
        let service = placement::service(db, Clock::default());
        let routes = service.routes.clone();
        let options = GatewayOptions {
            default_authority: "cloud".to_owned(),
            pages: Router::new(),
            policy_overrides: HashMap::new(),
        };
        let gateway = Gateway::new(vec![service], Arc::new(Tokens), options).unwrap();
        Self { gateway, routes, _folder: folder }
    }

    async fn send(&self, call: Call<'_>) -> Answer {
        let mut request = Request::builder().method(call.method).uri(&call.path).header("host", "cloud");
        if !call.version.is_empty() {
            request = request.header("openstack-api-version", format!("placement {}", call.version));
        }
        if let Some(token) = call.token {
            request = request.header("x-auth-token", token);
        }
        let body = match call.body {
            Some(body) => {
                let text = body.to_string();
                request =
                    request.header("content-type", "application/json").header("content-length", text.len().to_string());
                Body::from(text)
            }
            None => Body::empty(),
        };
        self.raw(request.body(body).unwrap()).await
    }

    async fn raw(&self, request: Request) -> Answer {
        let arrival = Arrival { peer: ([127, 0, 0, 1], 1).into(), scheme: "https", service: Some("placement") };
        let response = self.gateway.handle(arrival, request).await;
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 24).await.unwrap();
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.at("1.39", "GET", path, None).await
    }

    async fn put(&self, path: &str, body: Value) -> Answer {
        self.at("1.39", "PUT", path, Some(body)).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.at("1.39", "POST", path, Some(body)).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.at("1.39", "DELETE", path, None).await
    }

    async fn at(&self, version: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.send(Call { method, path: path.to_owned(), version, token: Some("admin,service"), body }).await
    }

    async fn provider(&self, uuid: &str, name: &str, inventories: Value) {
        let made = self.post("/resource_providers", json!({"uuid": uuid, "name": name})).await;
        assert_eq!(made.status, 200, "{made:?}");
        let path = format!("/resource_providers/{uuid}/inventories");
        let set = self.put(&path, json!({"resource_provider_generation": 0, "inventories": inventories})).await;
        assert_eq!(set.status, 200, "{set:?}");
    }
}

fn wants(provider: &str, resources: Value, generation: Value) -> Value {
    json!({
        "allocations": {provider: {"resources": resources}}, "project_id": "p", "user_id": "u",
        "consumer_generation": generation, "consumer_type": "INSTANCE",
    })
}

/// The path of a route with something in its places.
fn filled(info: &RouteInfo) -> String {
    let id = if info.path.contains("resource_classes") || info.path.contains("/traits/") { "CUSTOM_X" } else { RP };
    info.path
        .replace("{uuid}", RP)
        .replace("{consumer_uuid}", CONSUMER)
        .replace("{resource_class}", "VCPU")
        .replace("{name}", id)
}

#[tokio::test]
async fn nothing_is_answered_without_a_good_token() {
    let cloud = Cloud::start();
    for info in &cloud.routes {
        for token in [None, Some("bad")] {
            let call = Call { method: info.method.as_str(), path: filled(info), version: "1.39", token, body: None };
            assert_eq!(cloud.send(call).await.status, 401, "{} {}", info.method, info.path);
        }
    }
}

#[tokio::test]
async fn a_project_may_know_its_own_usage_and_nothing_else() {
    let cloud = Cloud::start();
    for info in &cloud.routes {
        for token in ["member@p", "reader@p", "manager@p"] {
            let call = Call {
                method: info.method.as_str(),
                path: filled(info) + "?project_id=other",
                version: "1.39",
                token: Some(token),
                body: None,
            };
            assert_eq!(cloud.send(call).await.status, 403, "{} {} as {token}", info.method, info.path);
        }
    }
    for (token, expected) in [("reader@p", 200), ("reader@q", 403), ("admin@q", 200), ("service@q", 200), ("@p", 403)] {
        let path = "/usages?project_id=p".to_owned();
        let call = Call { method: "GET", path, version: "1.39", token: Some(token), body: None };
        assert_eq!(cloud.send(call).await.status, expected, "{token}");
    }
}

#[tokio::test]
async fn reshaping_is_for_services_alone() {
    let cloud = Cloud::start();
    for (token, expected) in [("admin", 403), ("service", 204)] {
        let body = Some(json!({"inventories": {}, "allocations": {}}));
        let call = Call { method: "POST", path: "/reshaper".to_owned(), version: "1.39", token: Some(token), body };
        assert_eq!(cloud.send(call).await.status, expected, "{token}");
    }
}

#[tokio::test]
async fn a_route_is_there_from_its_microversion_on() {
    let cloud = Cloud::start();
    for (method, path, last_without, status) in [
        ("GET", "/resource_classes", "1.1", 200),
        ("GET", "/traits", "1.5", 200),
        ("GET", "/usages?project_id=p", "1.8", 200),
        ("GET", "/allocation_candidates?resources=VCPU:1", "1.9", 200),
    ] {
        assert_eq!(cloud.at(last_without, method, path, None).await.status, 404, "{path}");
        assert_eq!(cloud.at("latest", method, path, None).await.status, status, "{path}");
    }
    assert_eq!(cloud.at("1.40", "GET", "/traits", None).await.status, 406);
    let answer = cloud.get("/traits").await;
    assert_eq!(answer.header("openstack-api-version"), "placement 1.39");
}

#[tokio::test]
async fn errors_carry_a_code_since_1_23() {
    let cloud = Cloud::start();
    let path = format!("/resource_providers/{NOBODY}");
    let old = cloud.at("1.22", "GET", &path, None).await;
    assert_eq!(old.status, 404);
    assert!(old.body["errors"][0].get("code").is_none());
    assert_eq!(cloud.get(&path).await.code(), "placement.undefined_code");
}

#[tokio::test]
async fn a_provider_with_allocations_or_children_cannot_be_deleted() {
    let cloud = Cloud::start();
    cloud.provider(RP, "host", json!({"VCPU": {"total": 4}})).await;
    let child = json!({"uuid": CHILD, "name": "numa", "parent_provider_uuid": RP});
    assert_eq!(cloud.post("/resource_providers", child).await.body["root_provider_uuid"], RP);
    let path = format!("/resource_providers/{RP}");
    assert_eq!(cloud.delete(&path).await.code(), "placement.resource_provider.cannot_delete_parent");
    assert_eq!(cloud.delete(&format!("/resource_providers/{CHILD}")).await.status, 204);
    let taken = cloud.put(&format!("/allocations/{CONSUMER}"), wants(RP, json!({"VCPU": 1}), Value::Null)).await;
    assert_eq!(taken.status, 204, "{taken:?}");
    assert_eq!(cloud.delete(&path).await.code(), "placement.resource_provider.inuse");
    assert_eq!(cloud.delete(&format!("/allocations/{CONSUMER}")).await.status, 204);
    assert_eq!(cloud.delete(&path).await.status, 204);
}

#[tokio::test]
async fn a_stale_generation_is_refused_everywhere_and_changes_nothing() {
    let cloud = Cloud::start();
    cloud.provider(RP, "host", json!({"VCPU": {"total": 4}})).await;
    let of = |below: &str| format!("/resource_providers/{RP}/{below}");
    for (path, body) in [
        (of("inventories"), json!({"resource_provider_generation": 0, "inventories": {}})),
        (of("inventories/VCPU"), json!({"resource_provider_generation": 0, "total": 8})),
        (of("traits"), json!({"resource_provider_generation": 0, "traits": []})),
        (of("aggregates"), json!({"resource_provider_generation": 0, "aggregates": []})),
    ] {
        let answer = cloud.put(&path, body).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (409, "placement.concurrent_update"), "{path}");
    }
    let list = cloud.get(&of("inventories")).await;
    assert_eq!(
        (&list.body["resource_provider_generation"], &list.body["inventories"]["VCPU"]["total"]),
        (&json!(1), &json!(4))
    );
}

#[tokio::test]
async fn a_consumers_generation_guards_against_a_second_writer() {
    let cloud = Cloud::start();
    cloud.provider(RP, "host", json!({"VCPU": {"total": 4}})).await;
    let path = format!("/allocations/{CONSUMER}");
    assert_eq!(cloud.put(&path, wants(RP, json!({"VCPU": 1}), json!(7))).await.code(), "placement.concurrent_update");
    assert_eq!(cloud.put(&path, wants(RP, json!({"VCPU": 1}), Value::Null)).await.status, 204);
    assert_eq!(cloud.put(&path, wants(RP, json!({"VCPU": 2}), Value::Null)).await.status, 409);
    assert_eq!(cloud.put(&path, wants(RP, json!({"VCPU": 2}), json!(1))).await.status, 204);
    let shown = cloud.get(&path).await.body;
    assert_eq!(shown["consumer_generation"], 2);
    assert_eq!(shown["allocations"][RP]["resources"], json!({"VCPU": 2}));
    let mut nothing = wants(RP, json!({"VCPU": 2}), json!(2));
    nothing["allocations"] = json!({});
    assert_eq!(cloud.put(&path, nothing).await.status, 204);
    assert_eq!(cloud.get(&path).await.body, json!({"allocations": {}}));
}

#[tokio::test]
async fn several_consumers_are_written_together_or_not_at_all() {
    let cloud = Cloud::start();
    cloud.provider(RP, "host", json!({"VCPU": {"total": 4}})).await;
    let two = json!({
        CONSUMER: wants(RP, json!({"VCPU": 3}), Value::Null), NOBODY: wants(RP, json!({"VCPU": 2}), Value::Null),
    });
    let answer = cloud.post("/allocations", two).await;
    assert_eq!(answer.status, 409);
    assert!(answer.detail().contains("would exceed the capacity"), "{answer:?}");
    assert_eq!(cloud.get(&format!("/allocations/{CONSUMER}")).await.body, json!({"allocations": {}}));
    assert_eq!(cloud.get(&format!("/resource_providers/{RP}/usages")).await.body["usages"]["VCPU"], 0);
}

#[tokio::test]
async fn one_consumer_under_two_spellings_is_refused() {
    let cloud = Cloud::start();
    cloud.provider(RP, "host", json!({"VCPU": {"total": 4}})).await;
    let upper = CONSUMER.to_uppercase();
    let body = json!({
        CONSUMER: wants(RP, json!({"VCPU": 1}), Value::Null), upper: wants(RP, json!({"VCPU": 1}), Value::Null),
    });
    assert_eq!(cloud.post("/allocations", body).await.status, 400);
}

#[tokio::test]
async fn what_was_promised_too_often_can_be_handed_back_in_steps() {
    let cloud = Cloud::start();
    cloud.provider(RP, "host", json!({"VCPU": {"total": 8}})).await;
    let path = format!("/allocations/{CONSUMER}");
    assert_eq!(cloud.put(&path, wants(RP, json!({"VCPU": 8}), Value::Null)).await.status, 204);
    let shrunk = json!({"resource_provider_generation": 2, "inventories": {"VCPU": {"total": 2}}});
    assert_eq!(cloud.put(&format!("/resource_providers/{RP}/inventories"), shrunk).await.status, 200);
    assert_eq!(cloud.put(&path, wants(RP, json!({"VCPU": 5}), json!(1))).await.status, 204);
    assert_eq!(cloud.put(&path, wants(RP, json!({"VCPU": 6}), json!(2))).await.status, 409);
}

#[tokio::test]
async fn inventory_in_use_cannot_go() {
    let cloud = Cloud::start();
    cloud.provider(RP, "host", json!({"VCPU": {"total": 8}, "DISK_GB": {"total": 10}})).await;
    cloud.put(&format!("/allocations/{CONSUMER}"), wants(RP, json!({"VCPU": 8}), Value::Null)).await;
    let of = |below: &str| format!("/resource_providers/{RP}/{below}");
    assert_eq!(cloud.delete(&of("inventories/VCPU")).await.code(), "placement.inventory.inuse");
    assert_eq!(cloud.delete(&of("inventories")).await.code(), "placement.inventory.inuse");
    assert_eq!(cloud.delete(&of("inventories/DISK_GB")).await.status, 204);
}

#[tokio::test]
async fn a_candidate_can_be_sent_back_as_it_came() {
    let cloud = Cloud::start();
    let stock = json!({"VCPU": {"total": 8}, "MEMORY_MB": {"total": 4096, "reserved": 512}, "DISK_GB": {"total": 100}});
    cloud.provider(RP, "host", stock).await;
    let path = "/allocation_candidates?resources=VCPU:2,MEMORY_MB:1024,DISK_GB:10";
    let found = cloud.get(path).await.body;
    assert_eq!(found["provider_summaries"][RP]["resources"]["MEMORY_MB"], json!({"capacity": 3584, "used": 0}));
    let mut body = found["allocation_requests"][0].clone();
    assert_eq!(body["mappings"], json!({"": [RP]}));
    for (key, value) in [("project_id", "p"), ("user_id", "u"), ("consumer_type", "INSTANCE")] {
        body[key] = json!(value);
    }
    body["consumer_generation"] = Value::Null;
    assert_eq!(cloud.put(&format!("/allocations/{CONSUMER}"), body).await.status, 204);
    let found = cloud.get(path).await.body;
    assert_eq!(found["provider_summaries"][RP]["resources"]["VCPU"], json!({"capacity": 8, "used": 2}));
    let none = cloud.get("/allocation_candidates?resources=MEMORY_MB:3000").await.body;
    assert_eq!(none, json!({"allocation_requests": [], "provider_summaries": {}}));
}

#[tokio::test]
async fn a_provider_cannot_become_its_own_ancestor() {
    let cloud = Cloud::start();
    cloud.provider(RP, "host", json!({})).await;
    cloud.post("/resource_providers", json!({"uuid": CHILD, "name": "child", "parent_provider_uuid": RP})).await;
    let path = format!("/resource_providers/{RP}");
    for parent in [RP, CHILD] {
        let answer = cloud.put(&path, json!({"name": "host", "parent_provider_uuid": parent})).await;
        assert_eq!(answer.status, 400);
        assert!(answer.detail().contains("creating loop"), "{answer:?}");
    }
}

#[tokio::test]
async fn moving_a_provider_moves_the_root_of_everything_below_it() {
    let cloud = Cloud::start();
    let ids: Vec<String> = (1..=4).map(|n| format!("00000000-0000-0000-0000-{n:012}")).collect();
    for (at, id) in ids.iter().enumerate() {
        let mut body = json!({"uuid": id, "name": format!("p{at}")});
        if at == 1 || at == 2 {
            body["parent_provider_uuid"] = json!(ids[at - 1]);
        }
        assert_eq!(cloud.post("/resource_providers", body).await.status, 200);
    }
    let moved = json!({"name": "p1", "parent_provider_uuid": ids[3]});
    assert_eq!(cloud.put(&format!("/resource_providers/{}", ids[1]), moved).await.status, 200);
    let tree = cloud.get(&format!("/resource_providers?in_tree={}", ids[2])).await.body;
    let mut names: Vec<&str> =
        tree["resource_providers"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["p1", "p2", "p3"]);
}

#[tokio::test]
async fn a_body_needs_a_content_type_and_an_answer_a_client_that_takes_it() {
    let cloud = Cloud::start();
    let request = |headers: &[(&str, &str)], body: &'static str| {
        let mut request = Request::builder()
            .method("POST")
            .uri("/resource_providers")
            .header("host", "cloud")
            .header("x-auth-token", "admin")
            .header("content-length", body.len());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::from(body)).unwrap()
    };
    assert_eq!(cloud.raw(request(&[], "{}")).await.status, 400);
    assert_eq!(cloud.raw(request(&[("content-type", "text/plain")], "{}")).await.status, 415);
    assert_eq!(cloud.raw(request(&[("content-type", "application/json")], "{nonsense")).await.status, 400);
    assert_eq!(
        cloud.raw(request(&[("content-type", "application/json"), ("accept", "text/plain")], "{}")).await.status,
        406
    );
    assert_eq!(
        cloud.raw(request(&[("content-type", "application/json; charset=utf-8")], r#"{"name":"x"}"#)).await.status,
        201
    );
}

#[test]
fn whatever_is_sent_is_never_the_servers_mistake() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cloud = Cloud::start();
    runtime.block_on(cloud.provider(RP, "host", json!({"VCPU": {"total": 4}})));
    let word = || {
        prop::sample::select(vec![
            "VCPU",
            "CUSTOM_X",
            "in:",
            "!in:",
            "!",
            RP,
            CHILD,
            CONSUMER,
            ":",
            ",",
            "1",
            "-1",
            "0",
            "2147483648",
            "é",
            "",
            "999999999999999999999",
            "none",
            "isolate",
            "HW_CPU_X86_AVX",
            "'",
            "\"",
            "%",
            "startswith:",
            "true",
            "all",
        ])
    };
    let text = prop::collection::vec(word(), 0..4).prop_map(|words| words.concat());
    let leaf = prop_oneof![
        text.clone().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|n| json!(n)),
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
    ];
    let key = prop_oneof![
        text.clone(),
        prop::sample::select(vec![
            "name",
            "uuid",
            "parent_provider_uuid",
            "inventories",
            "allocations",
            "resources",
            "total",
            "reserved",
            "resource_provider_generation",
            "traits",
            "aggregates",
            "project_id",
            "user_id",
            "consumer_generation",
            "consumer_type",
            "mappings",
            "resource_class",
            "resource_provider",
            RP,
            CONSUMER,
            "VCPU",
            "max_unit",
            "step_size",
            "allocation_ratio",
        ])
        .prop_map(str::to_owned),
    ];
    let value = leaf.prop_recursive(4, 24, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    });
    let parameter = prop::sample::select(vec![
        "resources",
        "resources1",
        "resources_A",
        "required",
        "required1",
        "required_A",
        "member_of",
        "member_of1",
        "in_tree",
        "in_tree_A",
        "limit",
        "group_policy",
        "root_required",
        "same_subtree",
        "name",
        "uuid",
        "associated",
        "project_id",
        "user_id",
        "consumer_type",
    ]);
    let query = prop::collection::vec((parameter, text), 0..5);
    let route = 0..cloud.routes.len();
    let versions = prop::sample::select(vec!["1.0", "1.12", "1.24", "1.28", "1.36", "1.39"]);
    let check = |(route, version, query, body): (usize, &str, Vec<(&str, String)>, Value)| {
        let info = &cloud.routes[route];
        let query = form(&query);
        let call = Call {
            method: info.method.as_str(),
            path: format!("{}?{query}", filled(info)),
            version,
            token: Some("admin,service"),
            body: Some(body),
        };
        let answer = runtime.block_on(cloud.send(call));
        prop_assert!(!answer.status.is_server_error(), "{} {}?{query}: {answer:?}", info.method, info.path);
        Ok(())
    };
    let config = ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config).run(&(route, versions, query, value), check).unwrap();
}

fn form(pairs: &[(&str, String)]) -> String {
    let escape = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    pairs.iter().map(|(key, value)| format!("{key}={}", escape(value))).collect::<Vec<_>>().join("&")
}

//! A toy service behind the real gateway: what every service can rely on.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::HashMap, sync::Arc};

use axum::{Router, body::Body as AxumBody, extract::Path};
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use rest::{
    ApiVersion, Arrival, Body, Credentials, Ctx, Delegation, DiscoveryStyle, Error, Gateway, GatewayOptions,
    Microversion, NamedRef, Range, Reply, RequestLine, Result, Rule, Scope, Service, ServiceInfo, Style, TokenCheck,
    get, post, rule, target,
};
use serde::Deserialize;
use serde_json::{Value, json};

const SHOW: Rule = rule("toy:show", "project_id:%(project_id)s", "Show a toy", &[("GET", "/v1/toys/{id}")]);
const CREATE: Rule = rule("toy:create", "role:member", "Make a toy", &[("POST", "/v1/toys")]);

const INFO: ServiceInfo = ServiceInfo {
    kind: "toys",
    name: "toy",
    style: Style::Compute,
    prefix: "/toys",
    port: 1,
    catalog_path: "/v1",
    microversions: Some(Range {
        service: "toys",
        legacy_header: Some("x-openstack-nova-api-version"),
        min: Microversion(1, 0),
        max: Microversion(1, 5),
    }),
    discovery: DiscoveryStyle::Compute,
    versions: &[ApiVersion { id: "v1", status: "CURRENT", path: "/v1/", updated: "", microversions: true }],
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Toy {
    wheels: u8,
}

struct OneToken;

impl TokenCheck for OneToken {
    fn check<'a>(&'a self, token: &'a str, _: RequestLine<'a>) -> BoxFuture<'a, Result<Arc<Credentials>>> {
        Box::pin(async move {
            if token != "good" {
                return Err(Error::unauthenticated());
            }
            let named = |id: &str| NamedRef { id: id.into(), name: id.into() };
            let now = db::Clock::default().now();
            let mut creds = Credentials {
                user: named("u"),
                user_domain: named("default"),
                scope: Scope::Project { project: named("p"), domain: named("default") },
                roles: vec![named("reader")],
                methods: vec!["password".into()],
                audit_ids: vec!["a".into()],
                delegation: Delegation::default(),
                issued_at: now,
                expires_at: now,
                view: serde_json::Map::new(),
            };
            creds.view = creds.policy_view();
            Ok(Arc::new(creds))
        })
    }
}

fn gateway() -> Gateway {
    let routes = vec![
        get("/v1/toys/{id}", async |ctx: Ctx, Path(id): Path<String>| -> Result<Reply> {
            ctx.allow(SHOW, &target(&[("project_id", &id)]))?;
            Ok(Reply::ok(&json!({"self": ctx.url(ctx.path()), "version": ctx.version().to_string()})))
        })
        .rule(SHOW),
        post("/v1/toys", async |ctx: Ctx, Body(toy): Body<Toy>| -> Result<Reply> {
            ctx.allow(CREATE, &target(&[]))?;
            Ok(Reply::created(&json!({"wheels": toy.wheels})))
        })
        .rule(CREATE),
        get("/v1/forgotten", async |_: Ctx| Reply::ok(&json!({"secret": true}))),
        get("/v1/open", async |_: Ctx| Reply::ok(&json!({}))).public(),
        get("/v1/new", async |_: Ctx| Reply::ok(&json!({}))).public().since(1, 3),
        get("/v1/old", async |_: Ctx| Reply::ok(&json!({}))).public().until(1, 2),
    ];
    let options =
        GatewayOptions { default_authority: "cloud".into(), pages: Router::new(), policy_overrides: HashMap::new() };
    Gateway::new(vec![Service::new(INFO, (), routes, &[])], Arc::new(OneToken), options).unwrap()
}

async fn send(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (Response<AxumBody>, Value) {
    let mut request = Request::builder().method(method).uri(path).header("host", "cloud.example:8443");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let arrival = Arrival { peer: "127.0.0.1:1".parse().unwrap(), scheme: "https", service: None };
    let response = gateway().handle(arrival, request.body(AxumBody::from(body.to_owned())).unwrap()).await;
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    (Response::from_parts(parts, AxumBody::empty()), json)
}

const GOOD: (&str, &str) = ("x-auth-token", "good");

#[tokio::test]
async fn a_request_meets_its_handler_with_the_address_that_the_client_used() {
    for path in ["/toys/v1/toys/p", "/toys/v1/toys/p/", "//toys//v1/toys/p"] {
        let (response, body) = send("GET", path, &[GOOD], "").await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(body["self"], "https://cloud.example:8443/toys/v1/toys/p");
        assert!(response.headers()["x-openstack-request-id"].to_str().unwrap().starts_with("req-"));
    }
}

#[tokio::test]
async fn a_missing_or_bad_token_is_401_in_identity_s_shape() {
    for headers in [&[][..], &[("x-auth-token", "forged")], &[("x-roles", "admin"), ("x-user-id", "u")]] {
        let (response, body) = send("GET", "/toys/v1/toys/p", headers, "").await;
        assert_eq!(response.status(), 401);
        assert_eq!(body["error"]["code"], 401);
        assert_eq!(response.headers()["www-authenticate"], "Keystone uri=\"https://cloud.example:8443/identity\"");
    }
}

#[tokio::test]
async fn a_refusal_names_the_rule_in_the_service_s_words() {
    let (response, body) = send("GET", "/toys/v1/toys/q", &[GOOD], "").await;
    assert_eq!(response.status(), 403);
    assert_eq!(body["forbidden"]["message"], "Policy doesn't allow toy:show to be performed.");
}

#[tokio::test]
async fn an_answer_without_a_decision_is_a_500_that_tells_nothing() {
    let (response, body) = send("GET", "/toys/v1/forgotten", &[GOOD], "").await;
    assert_eq!(response.status(), 500);
    assert!(!body.to_string().contains("policy") && !body.to_string().contains("secret"));
}

#[tokio::test]
async fn versions_are_echoed_and_what_is_outside_is_406_with_the_range() {
    let (response, body) = send("GET", "/toys/v1/toys/p", &[GOOD, ("openstack-api-version", "toys 1.4")], "").await;
    assert_eq!(body["version"], "1.4");
    assert_eq!(response.headers()["openstack-api-version"], "toys 1.4");
    assert_eq!(response.headers()["x-openstack-nova-api-version"], "1.4");
    let (response, body) = send("GET", "/toys/v1/toys/p", &[GOOD, ("openstack-api-version", "toys 1.9")], "").await;
    assert_eq!(response.status(), 406);
    assert_eq!(body["computeFault"]["max_version"], "1.5");
    for (path, version, status) in [("new", "1.2", 404), ("new", "1.3", 200), ("old", "1.2", 200), ("old", "1.3", 404)]
    {
        let asked = format!("toys {version}");
        let path = format!("/toys/v1/{path}");
        let (response, _) = send("GET", &path, &[("openstack-api-version", asked.as_str())], "").await;
        assert_eq!(response.status(), status, "{path} at {version}");
    }
}

#[tokio::test]
async fn mistakes_in_a_body_are_400_with_the_field() {
    let roomy = format!("{{\"wheels\": 1, \"pad\": \"{}\"}}", "x".repeat(200_000));
    for (body, status, needle) in [
        ("{", 400, "not valid JSON"),
        ("", 400, "not valid JSON"),
        ("{\"wheels\": \"four\"}", 400, "wheels"),
        ("{\"wheels\": 300}", 400, "wheels"),
        ("{\"wheels\": 4, \"wings\": 2}", 400, "wings"),
        ("{\"wheels\": 4} trailing", 400, "not valid JSON"),
        (&roomy, 413, "too large"),
    ] {
        let (response, answer) = send("POST", "/toys/v1/toys", &[GOOD], body).await;
        assert_eq!(response.status(), status, "{}", &body[..body.len().min(40)]);
        assert!(answer.to_string().contains(needle), "{answer}");
    }
    let (response, _) = send("POST", "/toys/v1/toys", &[GOOD, ("content-type", "text/xml")], "<a/>").await;
    assert_eq!(response.status(), 415);
}

#[tokio::test]
async fn unknown_routes_and_methods_speak_the_service_s_language() {
    let (response, body) = send("GET", "/toys/v1/nothing", &[GOOD], "").await;
    assert_eq!((response.status(), body["itemNotFound"]["code"].as_u64()), (StatusCode::NOT_FOUND, Some(404)));
    let (response, body) = send("DELETE", "/toys/v1/open", &[GOOD], "").await;
    assert_eq!((response.status(), body["badMethod"]["code"].as_u64()), (StatusCode::METHOD_NOT_ALLOWED, Some(405)));
    let (response, body) = send("GET", "/toys/v1/toys/%ff", &[GOOD], "").await;
    assert_eq!((response.status(), body["badRequest"]["code"].as_u64()), (StatusCode::BAD_REQUEST, Some(400)));
}

#[tokio::test]
async fn discovery_needs_no_token_and_links_to_the_address_used() {
    let (response, body) = send("GET", "/toys/", &[], "").await;
    assert_eq!(response.status(), 200);
    assert_eq!(body["versions"][0]["links"][0]["href"], "https://cloud.example:8443/toys/v1/");
    let (response, body) = send("GET", "/toys/v1", &[("x-auth-token", "forged")], "").await;
    assert_eq!(response.status(), 200);
    assert_eq!(body["version"]["version"], "1.5");
    assert!(body["version"].get("max_version").is_none(), "strict clients of Compute refuse it");
}

#[tokio::test]
async fn a_hostile_host_header_is_refused_not_echoed() {
    let (response, body) = send("GET", "/toys/", &[("host", "evil\"><script>")], "").await;
    // The valid host comes first; a second one makes no difference to the links.
    assert!(response.status() == 200 && !body.to_string().contains("script"));
}

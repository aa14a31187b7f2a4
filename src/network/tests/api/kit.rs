//! A whole Network service in process: real database, real gateway, fake machine. Tokens are names of people.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use futures::future::BoxFuture;
use http::Request;
use http_body_util::BodyExt;
use network::{App, FakeHost, HostSide, Options};
use rest::{
    Arrival, Credentials, Delegation, Error, Gateway, GatewayOptions, NamedRef, RequestLine, Scope, TokenCheck,
};
use serde_json::{Value, json};

pub struct Cloud {
    pub app: App,
    pub db: db::Db,
    pub host: FakeHost,
    pub gateway: Gateway,
    _dir: tempfile::TempDir,
}

/// Whoever the token names: `admin`, `alice` and `bob` (members of projects of their own), `alice-reader`, `stranger`
/// (no role in alice's project).
struct People;

impl TokenCheck for People {
    fn check<'a>(&'a self, token: &'a str, _: RequestLine<'a>) -> BoxFuture<'a, rest::Result<Arc<Credentials>>> {
        Box::pin(async move {
            let (project, roles): (&str, &[&str]) = match token {
                "admin" => ("project-root", &["admin", "manager", "member", "reader"]),
                "alice" => ("project-a", &["member", "reader"]),
                "bob" => ("project-b", &["member", "reader"]),
                "alice-reader" => ("project-a", &["reader"]),
                "stranger" => ("project-a", &[]),
                _ => return Err(Error::unauthenticated()),
            };
            let named = |id: &str| NamedRef { id: id.into(), name: id.into() };
            let now = db::Clock::default().now();
            let mut creds = Credentials {
                user: named(token),
                user_domain: named("default"),
                scope: Scope::Project { project: named(project), domain: named("default") },
                roles: roles.iter().map(|role| named(role)).collect(),
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

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    #[track_caller]
    pub fn is(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// An error: its status, and Neutron's type.
    #[track_caller]
    pub fn refused(self, status: u16, kind: &str) -> String {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.body["NeutronError"]["type"], kind, "{}", self.body);
        self.body["NeutronError"]["message"].as_str().unwrap().to_owned()
    }
}

impl Cloud {
    pub fn new() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        let fake = FakeHost::new();
        Self { host: fake.clone(), ..Self::on(options, HostSide::Fake(fake)) }
    }

    pub fn on(options: Options, side: HostSide) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db = db::Db::open(&dir.path().join("db")).unwrap();
        let host = FakeHost::new();
        let app = App::new(db.clone(), db::Clock::default(), options, side);
        let options = GatewayOptions {
            default_authority: "cloud".into(),
            pages: Router::new(),
            policy_overrides: HashMap::new(),
        };
        let gateway = Gateway::new(vec![network::service(app.clone())], Arc::new(People), options).unwrap();
        Self { app, db, host, gateway, _dir: dir }
    }

    /// With the networks of a first start.
    pub async fn bootstrapped() -> Self {
        let cloud = Self::new();
        cloud.app.bootstrap("project-root").await.unwrap();
        cloud
    }

    pub async fn send(&self, who: &str, method: &str, path: &str, body: &str) -> Answer {
        let (status, bytes) = self.send_unread(who, method, path, body).await;
        Answer { status, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
    }

    /// The answer as its bytes.
    pub async fn send_unread(&self, who: &str, method: &str, path: &str, body: &str) -> (u16, bytes::Bytes) {
        let mut request =
            Request::builder().method(method).uri(format!("/network{path}")).header("host", "cloud.example");
        if !who.is_empty() {
            request = request.header("x-auth-token", who);
        }
        let arrival = Arrival { peer: "127.0.0.1:1".parse().unwrap(), scheme: "https", service: None };
        let response = self.gateway.handle(arrival, request.body(Body::from(body.to_owned())).unwrap()).await;
        let status = response.status().as_u16();
        (status, response.into_body().collect().await.unwrap().to_bytes())
    }

    pub async fn get(&self, who: &str, path: &str) -> Answer {
        self.send(who, "GET", &format!("/v2.0{path}"), "").await
    }

    pub async fn post(&self, who: &str, path: &str, body: Value) -> Answer {
        self.send(who, "POST", &format!("/v2.0{path}"), &body.to_string()).await
    }

    pub async fn put(&self, who: &str, path: &str, body: Value) -> Answer {
        self.send(who, "PUT", &format!("/v2.0{path}"), &body.to_string()).await
    }

    pub async fn delete(&self, who: &str, path: &str) -> Answer {
        self.send(who, "DELETE", &format!("/v2.0{path}"), "").await
    }

    /// Makes a resource and answers its view.
    #[track_caller]
    pub fn make<'a>(
        &'a self,
        who: &'a str,
        path: &'a str,
        singular: &'a str,
        attributes: Value,
    ) -> impl Future<Output = Value> + 'a {
        let place = std::panic::Location::caller();
        async move {
            let answer = self.post(who, path, json!({ singular: attributes })).await;
            assert_eq!(answer.status, 201, "{place}: {}", answer.body);
            answer.body[singular].clone()
        }
    }

    /// A network with one IPv4 subnet.
    pub async fn network(&self, who: &str, cidr: &str) -> (Value, Value) {
        let network = self.make(who, "/networks", "network", json!({"name": "n"})).await;
        let subnet = self
            .make(who, "/subnets", "subnet", json!({"network_id": network["id"], "ip_version": 4, "cidr": cidr}))
            .await;
        (network, subnet)
    }

    pub async fn list(&self, who: &str, collection: &str, query: &str) -> Vec<Value> {
        let path =
            format!("/{}{query}", collection.replace('_', "-").replace("availability-zones", "availability_zones"));
        let body = self.get(who, &path).await.is(200);
        body[collection].as_array().unwrap_or_else(|| panic!("{body}")).clone()
    }

    pub async fn reconcile(&self) {
        self.app.reconcile().await.unwrap();
    }
}

pub fn id(value: &Value) -> &str {
    value["id"].as_str().unwrap()
}

/// Asks until it is so.
pub async fn wait_for(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !is_so().await {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

//! Identity behind the real gateway, in process, on a database of its own.

use std::{collections::HashMap, path::PathBuf};

use axum::{Router, body::Body};
use db::{Clock, Db};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use identity::{App, Bootstrap, Options, PasswordRules};
use rest::{Arrival, Gateway, GatewayOptions};
use serde_json::{Value, json};

pub const SERVICES: &[(&str, &str, &str)] = &[
    ("identity", "keystone", "/identity"),
    ("image", "glance", "/image"),
    ("compute", "nova", "/compute/v2.1"),
    ("network", "neutron", "/network"),
];
pub const PASSWORD: &str = "the admin's";

pub struct Cloud {
    pub folder: tempfile::TempDir,
    pub app: App,
    pub clock: Clock,
    pub gateway: Gateway,
    pub admin: String,
    pub admin_project: String,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
    pub bytes: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self.body
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.bytes.clone()).unwrap()
    }

    pub fn token(&self) -> String {
        self.headers["x-subject-token"].to_str().unwrap().to_owned()
    }
}

fn start(folder: &std::path::Path, clock: &Clock, options: Options) -> (App, Gateway) {
    let db = Db::open(&folder.join("db")).unwrap();
    let keys_dir = PathBuf::from(folder).join("keys");
    let options = Options { keys_dir, https_port: 8443, ..options };
    let app = App::new(db, clock.clone(), options).unwrap();
    let options =
        GatewayOptions { default_authority: "cloud".into(), pages: Router::new(), policy_overrides: HashMap::new() };
    let gateway = Gateway::new(vec![identity::service(app.clone())], app.tokens(), options).unwrap();
    (app, gateway)
}

impl Cloud {
    pub async fn new() -> Self {
        Self::with_passwords(PasswordRules::default()).await
    }

    pub async fn with_passwords(passwords: PasswordRules) -> Self {
        Self::with_options(Options { passwords, ..Options::default() }).await
    }

    pub async fn with_options(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::default();
        let (app, gateway) = start(folder.path(), &clock, options);
        let wanted = Bootstrap { admin_password: Some(PASSWORD.into()), services: SERVICES };
        let outcome = app.bootstrap(&wanted).await.unwrap();
        let mut cloud =
            Self { folder, app, clock, gateway, admin: String::new(), admin_project: outcome.admin_project_id };
        cloud.admin =
            cloud.login("admin", PASSWORD, json!({"project": {"name": "admin", "domain": {"id": "default"}}})).await;
        cloud
    }

    /// The same state under a new process.
    pub fn restart(&mut self) {
        let (app, gateway) = start(self.folder.path(), &self.clock, Options::default());
        self.app = app;
        self.gateway = gateway;
    }

    pub async fn raw(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("/identity{path}"));
        if headers.iter().all(|(name, _)| *name != "host") {
            request = request.header("host", "cloud:8443");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let arrival = Arrival { peer: "127.0.0.1:1".parse().unwrap(), scheme: "https", service: None };
        let request = request.body(Body::from(body.unwrap_or_default().to_owned())).unwrap();
        let response = self.gateway.handle(arrival, request).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, body, bytes: bytes.to_vec() }
    }

    pub async fn send(&self, method: &str, path: &str, token: &str, body: Value) -> Answer {
        let text = (!body.is_null()).then(|| body.to_string());
        self.raw(method, path, &[("x-auth-token", token)], text.as_deref()).await
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        self.send("GET", path, token, Value::Null).await
    }

    pub async fn auth(&self, user: Value, scope: Value) -> Answer {
        let mut auth = json!({"identity": {"methods": ["password"], "password": {"user": user}}});
        if !scope.is_null() {
            auth["scope"] = scope;
        }
        self.raw("POST", "/v3/auth/tokens", &[], Some(&json!({"auth": auth}).to_string())).await
    }

    #[track_caller]
    pub fn login(&self, name: &str, password: &str, scope: Value) -> impl Future<Output = String> {
        let user = json!({"name": name, "domain": {"name": "Default"}, "password": password});
        async move {
            let answer = self.auth(user, scope).await;
            assert_eq!(answer.status, 201, "{}", answer.body);
            answer.token()
        }
    }

    pub async fn rescope(&self, token: &str, scope: Value) -> Answer {
        let mut auth = json!({"identity": {"methods": ["token"], "token": {"id": token}}});
        if !scope.is_null() {
            auth["scope"] = scope;
        }
        self.raw("POST", "/v3/auth/tokens", &[], Some(&json!({"auth": auth}).to_string())).await
    }

    /// Whether the token opens anything.
    pub async fn good(&self, token: &str) -> bool {
        self.get("/v3/auth/projects", token).await.status == 200
    }

    pub async fn project(&self, name: &str, domain_id: &str) -> String {
        let body = json!({"project": {"name": name, "domain_id": domain_id}});
        id(self.send("POST", "/v3/projects", &self.admin, body).await.expect(201), "project")
    }

    /// A user with `name` as its password.
    pub async fn user(&self, name: &str, domain_id: &str) -> String {
        let body = json!({"user": {"name": name, "domain_id": domain_id, "password": name}});
        id(self.send("POST", "/v3/users", &self.admin, body).await.expect(201), "user")
    }

    pub async fn group(&self, name: &str) -> String {
        let body = json!({"group": {"name": name, "domain_id": "default"}});
        id(self.send("POST", "/v3/groups", &self.admin, body).await.expect(201), "group")
    }

    pub async fn new_role(&self, name: &str, domain_id: Value) -> String {
        let body = json!({"role": {"name": name, "domain_id": domain_id}});
        id(self.send("POST", "/v3/roles", &self.admin, body).await.expect(201), "role")
    }

    pub async fn role(&self, name: &str) -> String {
        let found = self.get(&format!("/v3/roles?name={name}"), &self.admin).await.expect(200);
        found["roles"][0]["id"].as_str().unwrap().to_owned()
    }

    pub async fn domain(&self, name: &str) -> String {
        let body = json!({"domain": {"name": name}});
        id(self.send("POST", "/v3/domains", &self.admin, body).await.expect(201), "domain")
    }

    /// `path` up to `/roles/`, e.g. `projects/P/users/U`.
    pub async fn grant(&self, path: &str, role: &str) {
        let role = self.role(role).await;
        self.send("PUT", &format!("/v3/{path}/roles/{role}"), &self.admin, Value::Null).await.expect(204);
    }

    pub async fn ungrant(&self, path: &str, role: &str) {
        let role = self.role(role).await;
        self.send("DELETE", &format!("/v3/{path}/roles/{role}"), &self.admin, Value::Null).await.expect(204);
    }

    /// A token's role names.
    pub async fn roles_of(&self, token: &str) -> Vec<String> {
        let headers = [("x-auth-token", token), ("x-subject-token", token)];
        let body = self.raw("GET", "/v3/auth/tokens?nocatalog", &headers, None).await.expect(200);
        names(&body["token"]["roles"])
    }
}

pub fn id(body: Value, noun: &str) -> String {
    body[noun]["id"].as_str().unwrap().to_owned()
}

pub fn names(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

pub fn project(id: &str) -> Value {
    json!({"project": {"id": id}})
}

pub fn message(body: &Value) -> &str {
    body["error"]["message"].as_str().unwrap_or_default()
}

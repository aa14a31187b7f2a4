//! A cloud of one service: tokens are names, `admin`, `member`, `reader`, `other`, `other-reader`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use db::{Clock, Db};
use futures::future::BoxFuture;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use images::{Converter, Images, Options};
use rest::{
    Arrival, Credentials, Delegation, Error, Gateway, GatewayOptions, NamedRef, RequestLine, Scope, TokenCheck,
};
use serde_json::Value;
use tasks::{Engine, EngineBuilder, Faults};

pub const PROJECT: &str = "11111111111111111111111111111111";
pub const OTHER: &str = "22222222222222222222222222222222";

struct Names;

impl TokenCheck for Names {
    fn check<'a>(&'a self, token: &'a str, _: RequestLine<'a>) -> BoxFuture<'a, rest::Result<Arc<Credentials>>> {
        let made = credentials(token);
        Box::pin(async move { made.map(Arc::new).ok_or_else(Error::unauthenticated) })
    }
}

fn credentials(token: &str) -> Option<Credentials> {
    let (project, roles): (&str, &[&str]) = match token {
        "admin" => ("00000000000000000000000000000000", &["admin", "manager", "member", "reader"]),
        "member" => (PROJECT, &["member", "reader"]),
        "reader" => (PROJECT, &["reader"]),
        "other" => (OTHER, &["member", "reader"]),
        // An administrator of the system, in no project.
        "system" => ("", &["admin", "manager", "member", "reader"]),
        _ => return None,
    };
    let named = |id: &str| NamedRef { id: id.to_owned(), name: id.to_owned() };
    let now = time::OffsetDateTime::now_utc();
    let mut creds = Credentials {
        user: named(token),
        user_domain: named("default"),
        scope: Scope::Project { project: named(project), domain: named("default") },
        roles: roles.iter().map(|role| named(role)).collect(),
        methods: vec!["password".to_owned()],
        audit_ids: vec!["audit".to_owned()],
        delegation: Delegation::default(),
        issued_at: now,
        expires_at: now + time::Duration::hours(1),
        view: Default::default(),
    };
    if token == "system" {
        creds.scope = Scope::System;
    }
    creds.view = creds.policy_view();
    Some(creds)
}

pub struct Cloud {
    pub app: Images,
    pub db: Db,
    pub address: std::net::SocketAddr,
    gateway: Arc<Gateway>,
    engine: Engine,
    server: tokio::task::JoinHandle<()>,
    pub directory: tempfile::TempDir,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    pub bytes: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The body, after a look at the status.
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        if self.bytes.is_empty() { Value::Null } else { self.json() }
    }

    /// The message of an error with this status.
    pub fn refused(self, status: u16) -> String {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        self.json()["message"].as_str().unwrap().to_owned()
    }
}

impl Cloud {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Options)) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), change).await
    }

    pub async fn start_in(directory: tempfile::TempDir, change: impl FnOnce(&mut Options)) -> Self {
        Self::start_dying(directory, Faults::default(), change).await
    }

    /// A cloud whose operations die where `faults` say.
    pub async fn start_dying(directory: tempfile::TempDir, faults: Faults, change: impl FnOnce(&mut Options)) -> Self {
        let db = Db::open(&directory.path().join("db")).unwrap();
        let mut options = Options::new(directory.path().join("images"), Converter::InProcess);
        options.reserve_bytes = 0;
        change(&mut options);
        let clock = Clock::default();
        let app = Images::open(db.clone(), clock.clone(), options).unwrap();
        let engine = images::operations(EngineBuilder::new(db.clone(), clock, faults), &app).start();
        let options = GatewayOptions {
            default_authority: "cloud".to_owned(),
            pages: Router::new(),
            policy_overrides: Default::default(),
        };
        let gateway = Arc::new(Gateway::new(vec![images::service(&app)], Arc::new(Names), options).unwrap());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&gateway);
        let router = Router::new().fallback(async move |request: Request| {
            let gateway = Arc::clone(&shared);
            gateway.handle(arrival(), request).await
        });
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Cloud { app, db, address, gateway, engine, server, directory }
    }

    /// Stops everything as a crash would; the directory stays.
    pub async fn crash(self) -> tempfile::TempDir {
        self.server.abort();
        self.engine.stop().await;
        self.directory
    }

    pub async fn send(&self, request: Request) -> Answer {
        let response: Response = self.gateway.handle(arrival(), request).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, bytes }
    }

    pub async fn call(&self, who: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("/image{path}")).header("x-auth-token", who);
        let body = match body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        self.send(request.body(body).unwrap()).await
    }

    pub async fn get(&self, who: &str, path: &str) -> Answer {
        self.call(who, Method::GET, path, None).await
    }

    pub async fn post(&self, who: &str, path: &str, body: Value) -> Answer {
        self.call(who, Method::POST, path, Some(body)).await
    }

    pub async fn act(&self, who: &str, path: &str) -> Answer {
        self.call(who, Method::POST, path, None).await
    }

    pub async fn put(&self, who: &str, path: &str, body: Option<Value>) -> Answer {
        self.call(who, Method::PUT, path, body).await
    }

    pub async fn delete(&self, who: &str, path: &str) -> Answer {
        self.call(who, Method::DELETE, path, None).await
    }

    pub async fn patch(&self, who: &str, path: &str, body: Value) -> Answer {
        let request = Request::builder()
            .method(Method::PATCH)
            .uri(format!("/image{path}"))
            .header("x-auth-token", who)
            .header("content-type", "application/openstack-images-v2.1-json-patch")
            .body(Body::from(body.to_string()))
            .unwrap();
        self.send(request).await
    }

    pub async fn upload(&self, who: &str, path: &str, body: impl Into<Body>) -> Answer {
        let request = Request::builder()
            .method(Method::PUT)
            .uri(format!("/image{path}"))
            .header("x-auth-token", who)
            .header("content-type", "application/octet-stream")
            .body(body.into())
            .unwrap();
        self.send(request).await
    }

    /// A queued image of `who`.
    pub async fn create(&self, who: &str, body: Value) -> String {
        let made = self.post(who, "/v2/images", body).await.expect(201);
        made["id"].as_str().unwrap().to_owned()
    }

    pub async fn create_raw(&self, who: &str) -> String {
        self.create(who, serde_json::json!({"name": "x", "disk_format": "raw", "container_format": "bare"})).await
    }

    /// An active raw image of `who`.
    pub async fn create_with_data(&self, who: &str, data: &[u8]) -> String {
        let id = self.create_raw(who).await;
        self.upload(who, &format!("/v2/images/{id}/file"), data.to_vec()).await.expect(204);
        id
    }

    pub async fn show(&self, who: &str, id: &str) -> Value {
        self.get(who, &format!("/v2/images/{id}")).await.expect(200)
    }

    pub fn files(&self, kind: &str) -> Vec<String> {
        names(self.directory.path().join("images").join(kind))
    }

    /// Nothing may be left anywhere but the files of `images`.
    pub async fn wait_for_files(&self, images: &[&str]) {
        let mut wanted: Vec<String> = images.iter().map(|id| (*id).to_owned()).collect();
        wanted.sort();
        wait_for("only these files", || async {
            let (data, staging) = (self.files("data"), self.files("staging"));
            if data == wanted && staging.is_empty() { Ok(()) } else { Err(format!("{data:?} and {staging:?}")) }
        })
        .await;
    }
}

fn arrival() -> Arrival {
    Arrival { peer: ([127, 0, 0, 1], 1).into(), scheme: "https", service: None }
}

fn names(directory: PathBuf) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub async fn wait_for<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let started = Instant::now();
    loop {
        match look().await {
            Ok(value) => return value,
            Err(seen) => assert!(started.elapsed() < Duration::from_secs(20), "waited for {what}, saw {seen}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

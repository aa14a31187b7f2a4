//! Prints what Identity costs with 1,000 users: list, validation, effective assignments. Figures, not a test.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool that prints and may stop")]

use std::{collections::HashMap, time::Instant};

use axum::{Router, body::Body};
use http::Request;
use http_body_util::BodyExt;
use rest::{Arrival, Gateway, GatewayOptions};
use serde_json::json;

struct Cloud {
    gateway: Gateway,
    token: String,
}

impl Cloud {
    async fn send(&self, method: &str, path: &str, body: String) -> (http::response::Parts, usize) {
        let request = Request::builder()
            .method(method)
            .uri(format!("/identity{path}"))
            .header("host", "cloud")
            .header("x-auth-token", &self.token)
            .header("x-subject-token", &self.token)
            .body(Body::from(body))
            .unwrap();
        let arrival = Arrival { peer: "127.0.0.1:1".parse().unwrap(), scheme: "https", service: None };
        let (parts, body) = self.gateway.handle(arrival, request).await.into_parts();
        (parts, body.collect().await.unwrap().to_bytes().len())
    }

    async fn time(&self, what: &str, method: &str, path: &str, body: &str, rounds: u32) {
        let mut fastest = f64::MAX;
        let mut bytes = 0;
        let all = Instant::now();
        for _ in 0..rounds {
            let start = Instant::now();
            let (parts, length) = self.send(method, path, body.to_owned()).await;
            assert!(parts.status.is_success(), "{what}: {}", parts.status);
            bytes = length;
            fastest = fastest.min(start.elapsed().as_secs_f64() * 1e6);
        }
        let mean = all.elapsed().as_secs_f64() * 1e6 / f64::from(rounds);
        println!("{what:<44} mean {mean:>10.1} us  fastest {fastest:>10.1} us  {bytes:>8} bytes");
    }
}

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let db = db::Db::open(&folder.path().join("db")).unwrap();
    let options = identity::Options { keys_dir: folder.path().join("keys"), ..Default::default() };
    let app = identity::App::new(db.clone(), db::Clock::default(), options).unwrap();
    let services = [("identity", "keystone", "/identity"), ("compute", "nova", "/compute/v2.1")];
    let wanted = identity::Bootstrap { admin_password: Some("p".into()), services: &services };
    app.bootstrap(&wanted).await.unwrap();
    db.write(|tx| -> db::Result<()> {
        for number in 0..1000 {
            tx.execute(
                "INSERT INTO identity_user (id, name, domain_id, extra, created_at) VALUES (?1, ?2, 'default', ?3, '')",
                db::params![
                    format!("{number:032x}"),
                    format!("user{number}"),
                    r#"{"email":"someone@example.org","description":"one of many"}"#
                ],
            )?;
        }
        for number in 0..200 {
            // Ten levels deep.
            let parent = if number % 10 == 0 { "default".to_owned() } else { format!("{:032x}", 0xf000 + number - 1) };
            tx.execute(
                "INSERT INTO identity_project (id, name, domain_id, parent_id) VALUES (?1, ?2, 'default', ?3)",
                db::params![format!("{:032x}", 0xf000 + number), format!("project{number}"), parent],
            )?;
        }
        for number in 0..1000 {
            tx.execute(
                "INSERT INTO identity_assignment (role_id, user_id, target, target_id, inherited) \
                 SELECT id, ?1, 'project', ?2, ?3 FROM identity_role WHERE name = 'member'",
                db::params![format!("{number:032x}"), format!("{:032x}", 0xf000 + number % 200), number % 2],
            )?;
        }
        Ok(())
    })
    .await
    .unwrap();
    let pages =
        GatewayOptions { default_authority: "cloud".into(), pages: Router::new(), policy_overrides: HashMap::new() };
    let gateway = Gateway::new(vec![identity::service(app.clone())], app.tokens(), pages).unwrap();
    let mut cloud = Cloud { gateway, token: String::new() };
    let login = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "admin",
        "domain": {"id": "default"}, "password": "p"}}}, "scope": {"project": {"name": "admin",
        "domain": {"id": "default"}}}}})
    .to_string();
    let (parts, _) = cloud.send("POST", "/v3/auth/tokens", login.clone()).await;
    cloud.token = parts.headers["x-subject-token"].to_str().unwrap().to_owned();
    cloud.time("1,000 users", "GET", "/v3/users", "", 50).await;
    cloud.time("one region", "GET", "/v3/regions/RegionOne", "", 2000).await;
    cloud.time("validate a token", "GET", "/v3/auth/tokens", "", 2000).await;
    cloud.time("validate without catalog", "GET", "/v3/auth/tokens?nocatalog", "", 2000).await;
    cloud.time("issue by password", "POST", "/v3/auth/tokens", &login, 20).await;
    cloud.time("1,000 assignments with names", "GET", "/v3/role_assignments?include_names", "", 20).await;
    cloud.time("effective, all, with names", "GET", "/v3/role_assignments?effective&include_names", "", 20).await;
    let one = format!("/v3/role_assignments?effective&user.id={:032x}", 1);
    cloud.time("effective, one user", "GET", &one, "", 50).await;
    let generation = db.generation("identity");
    let start = Instant::now();
    for _ in 0..500 {
        generation.bump();
        cloud.send("GET", "/v3/auth/tokens?nocatalog", String::new()).await;
    }
    println!("validate, nothing cached: mean {:.1} us", start.elapsed().as_secs_f64() * 1e6 / 500.0);
}

//! Who did what: in the database a moment after it was answered.

use kit::{Persona::Admin, Persona::Reader, TestCloud, wait_for};
use rest::{AuditEvent, AuditTrail};
use serde_json::json;
use solostack::audit::{self, Asked, Retention, Trail};

fn lines(db: &db::Db, asked: &Asked) -> Vec<String> {
    let mut out = Vec::new();
    audit::print(db, asked, &mut out).unwrap();
    String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn calls_that_change_something_and_authentications_are_remembered() {
    let mut cloud = TestCloud::start().await;
    let body = json!({"flavor": {"id": "f1", "name": "secret-name", "ram": 64, "vcpus": 1, "disk": 1}});
    cloud.as_(Reader).get("/compute/v2.1/flavors").await.expect(200);
    cloud.as_(Reader).post("/compute/v2.1/flavors", body.clone()).await.expect(403);
    cloud.as_(Admin).post("/compute/v2.1/flavors", body).await.expect(200);
    let auth = json!({"auth": {"identity": {"methods": ["password"], "password": {
        "user": {"name": "admin", "domain": {"id": "default"}, "password": "wrong"}}}}});
    cloud.as_(Admin).post("/identity/v3/auth/tokens", auth).await.expect(401);
    let all = Asked { last: 1000, ..Asked::default() };
    let found = wait_for("the trail", async || {
        let found = lines(&cloud.inner().db, &all);
        let last = found.last().cloned().unwrap_or_default();
        if last.contains(" 401 identity POST /v3/auth/tokens ") { Ok(found) } else { Err(last) }
    })
    .await;
    let of = |call: &str| found.iter().filter(|line| line.contains(call)).cloned().collect::<Vec<_>>();
    let calls = of(" compute POST /v2.1/flavors ");
    assert_eq!(calls.len(), 2, "{found:#?}");
    assert!(calls[0].contains(" 403 ") && calls[1].contains(" 200 "), "{calls:#?}");
    assert!(calls.iter().all(|line| line.contains(" project:") && line.contains(" req-")), "{calls:#?}");
    assert!(of("GET").is_empty() && !found.iter().any(|line| line.contains("secret-name")));
    // Who failed to log in is known where it is somebody.
    let admin = cloud.inner().identity.policy_view("admin", &identity::ScopeName::System).unwrap();
    let admin = admin["user_id"].as_str().unwrap();
    assert!(found.last().unwrap().contains(&format!(" user:{admin} ")), "{found:#?}");
    let own = lines(&cloud.inner().db, &Asked { user_id: Some(admin.into()), last: 1, since: None });
    assert_eq!(own, found[found.len() - 1..]);

    // An orderly stop writes what waits.
    cloud.as_(Admin).delete("/compute/v2.1/flavors/f1").await.expect(202);
    cloud.restart().await;
    assert!(lines(&cloud.inner().db, &all).iter().any(|line| line.contains(" 202 compute DELETE ")));
}

#[tokio::test]
async fn only_the_newest_events_are_kept_and_none_that_is_too_old() {
    let folder = tempfile::tempdir().unwrap();
    let (db, clock) = (db::Db::open(&folder.path().join("db")).unwrap(), db::Clock::default());
    let trail = Trail::start(db.clone(), clock.clone(), Retention { events: 3, days: 10 });
    let keep = |path: &str| {
        trail.keep(AuditEvent {
            service: "compute",
            request_id: "req".into(),
            method: "POST".into(),
            path: path.into(),
            status: 202,
            peer: [127, 0, 0, 1].into(),
            user_id: None,
            project_id: None,
            domain_id: None,
            system: false,
            audit_id: None,
        });
    };
    let paths = || -> String {
        let all = lines(&db, &Asked { last: 10, ..Asked::default() });
        all.iter().map(|line| line.split(' ').nth(4).unwrap().to_owned()).collect()
    };
    let comes_to = async |wanted: &str| {
        wait_for(wanted, async || if paths() == wanted { Ok(()) } else { Err(paths()) }).await;
    };
    for path in ["a", "b", "c", "d"] {
        keep(path);
    }
    comes_to("bcd").await;
    clock.advance(time::Duration::days(11));
    keep("e");
    comes_to("e").await;
    trail.close().await;
    keep("f");
    assert_eq!(paths(), "e");
}

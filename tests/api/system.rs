//! Solostack's own service: what OpenStack has no API for.

use std::{
    collections::BTreeSet,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use kit::{
    Persona::{Admin, Anonymous, Member, Nobody, Other, Reader},
    TestCloud, wait_for,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};

const READS: [&str; 4] = ["health", "operations", "certificates", "audit"];

#[tokio::test]
async fn anybody_may_know_the_region_the_version_and_what_to_trust() {
    let cloud = TestCloud::certified().await;
    let about = cloud.as_(Anonymous).get("/solostack/v1/about").await.expect(200);
    assert_eq!((&about["region"], &about["several_domains"]), (&json!("RegionOne"), &json!(false)));
    assert_eq!(about["ca_fingerprint"].as_str().unwrap().len(), 95, "{about}");
    assert_eq!(about.as_object().unwrap().len(), 5, "nothing else is public: {about}");
    let domain = json!({"domain": {"name": "second"}});
    let domain = cloud.as_(Admin).post("/identity/v3/domains", domain).await.expect(201);
    let about = cloud.as_(Anonymous).get("/solostack/v1/about").await.expect(200);
    assert_eq!(about["several_domains"], true);
    let path = format!("/identity/v3/domains/{}", domain["domain"]["id"].as_str().unwrap());
    cloud.as_(Admin).patch(&path, json!({"domain": {"enabled": false}})).await.expect(200);
    let about = cloud.as_(Anonymous).get("/solostack/v1/about").await.expect(200);
    assert_eq!(about["several_domains"], false, "nobody signs in to a disabled domain");
}

#[tokio::test]
async fn a_cloud_without_tls_says_that_it_has_no_certificates() {
    let cloud = TestCloud::start().await;
    let about = cloud.as_(Anonymous).get("/solostack/v1/about").await.expect(200);
    assert_eq!(about["ca_fingerprint"], Value::Null);
    let said = cloud.as_(Admin).get("/solostack/v1/certificates").await.refused(409);
    assert!(said.contains("without TLS"), "{said}");
    cloud.as_(Admin).post("/solostack/v1/certificates/rotate", Value::Null).await.refused(409);
    cloud.as_(Admin).delete("/solostack/v1/certificates/intermediate").await.refused(409);
}

#[tokio::test]
async fn only_administrators_and_readers_of_the_system_see_the_machine() {
    let cloud = TestCloud::certified().await;
    for what in READS {
        let path = format!("/solostack/v1/{what}");
        cloud.as_(Anonymous).get(&path).await.refused(401);
        for who in [Nobody, Other, Reader, Member] {
            cloud.as_(who).get(&path).await.refused(403);
        }
        cloud.as_(Admin).get(&path).await.expect(200);
    }
    // A reader of the system sees everything, but changes nothing and takes nothing away.
    let roles = cloud.as_(Admin).get("/identity/v3/roles?name=reader").await.expect(200);
    let (role, user) = (roles["roles"][0]["id"].as_str().unwrap(), cloud.user(Nobody).await);
    cloud.as_(Admin).put(&format!("/identity/v3/system/users/{user}/roles/{role}"), Value::Null).await.expect(204);
    let auth = json!({"auth": {
        "identity": {"methods": ["password"], "password": {"user": {"id": user, "password": Nobody.password()}}},
        "scope": {"system": {"all": true}},
    }});
    let reply = cloud.as_(Anonymous).post("/identity/v3/auth/tokens", auth).await;
    let token = reply.header("x-subject-token").unwrap().to_owned();
    let looking = cloud.with_token(&token);
    for what in READS {
        looking.get(&format!("/solostack/v1/{what}")).await.expect(200);
    }
    looking.get("/solostack/v1/support-bundle").await.refused(403);
    looking.post("/solostack/v1/certificates/rotate", Value::Null).await.refused(403);
    let body = json!({"intermediate": {"certificate": "x", "key": "y"}});
    looking.put("/solostack/v1/certificates/intermediate", body).await.refused(403);
    looking.delete("/solostack/v1/certificates/intermediate").await.refused(403);
}

#[tokio::test]
async fn health_names_each_part_with_its_state_and_reason() {
    let cloud = TestCloud::certified().await;
    let health = wait_for("every reconciler's first round", async || {
        let health = cloud.as_(Admin).get("/solostack/v1/health").await.expect(200);
        let part = |name: &str| {
            health["parts"].as_array().unwrap().iter().find(|part| part["name"] == name).cloned().unwrap_or_default()
        };
        let rounds = part("reconcilers")["facts"].as_object().map_or(0, serde_json::Map::len);
        if rounds > 0 { Ok(health) } else { Err(health.to_string()) }
    })
    .await;
    let names: BTreeSet<&str> =
        health["parts"].as_array().unwrap().iter().map(|part| part["name"].as_str().unwrap()).collect();
    for name in [
        "database",
        "operations",
        "certificates",
        "clock",
        "processor",
        "memory",
        "disk",
        "hypervisor",
        "reconcilers",
        "policy files",
    ] {
        assert!(names.contains(name), "{name} is not in {names:?}");
    }
    for part in health["parts"].as_array().unwrap() {
        assert!(!part["reason"].as_str().unwrap().is_empty(), "{part}");
        assert_eq!(part["advice"].is_null(), part["state"] == "ok", "{part}");
    }
    assert!(health["uptime_s"].is_u64() && health["version"].is_string());

    // A broken policy file is no secret.
    std::fs::create_dir(cloud.state().join("policy")).unwrap();
    std::fs::write(cloud.state().join("policy/compute.yaml"), "\"no:such\": [").unwrap();
    let health = cloud.as_(Admin).get("/solostack/v1/health").await;
    let health: Value = serde_json::from_slice(&health.bytes).unwrap();
    let part = health["parts"].as_array().unwrap().iter().find(|part| part["name"] == "policy files").unwrap().clone();
    assert_eq!((&part["state"], &health["state"]), (&json!("degraded"), &json!("degraded")), "{part}");
    cloud.as_(Admin).get("/solostack/v1/health?x=1").await.refused(400);
}

#[tokio::test]
async fn operations_show_what_runs_and_how_it_ended() {
    let cloud = TestCloud::start().await;
    let server = cloud.boot(Member, json!({"name": "a"})).await;
    let admin = cloud.as_(Admin);
    let of = format!("/solostack/v1/operations?resource={server}");
    let seen = wait_for("the operation's end", async || {
        let seen = admin.get(&of).await.expect(200);
        if seen["operations"][0]["result"] == "success" { Ok(seen) } else { Err(seen.to_string()) }
    })
    .await;
    let last = &seen["operations"][0];
    assert_eq!((&last["action"], &last["resource"]), (&json!("create"), &json!(server)), "{last}");
    assert!(last["state"].is_null() && last["started_at"].is_string(), "{last}");
    assert_eq!(admin.get(&format!("{of}&result=error")).await.expect(200)["operations"], json!([]));
    let paged = admin.get("/solostack/v1/operations?limit=1").await.expect(200);
    assert_eq!(paged["operations"].as_array().unwrap().len(), 1);
    for bad in ["limit=x", "limit=-1", "marker=nothing", "sort_key=message", "x=1", "marker=1;DROP TABLE tasks_log"] {
        admin.get(&format!("/solostack/v1/operations?{}", bad.replace(' ', "%20"))).await.refused(400);
    }
}

#[tokio::test]
async fn the_audit_trail_is_filtered_and_read_page_by_page() {
    let cloud = TestCloud::start().await;
    let admin = cloud.as_(Admin);
    for n in 0..5 {
        let flavor = json!({"flavor": {"name": format!("f{n}"), "ram": 64, "vcpus": 1, "disk": 1}});
        admin.post("/compute/v2.1/flavors", flavor.clone()).await.expect(200);
        cloud.as_(Reader).post("/compute/v2.1/flavors", flavor).await.expect(403);
    }
    let flavors = "/solostack/v1/audit?service=compute&method=post&path=/flavors";
    wait_for("the trail", async || {
        let seen = admin.get(flavors).await.expect(200);
        let count = seen["events"].as_array().unwrap().len();
        if count == 10 { Ok(()) } else { Err(count.to_string()) }
    })
    .await;
    let count = async |more: &str| {
        admin.get(&format!("{flavors}&{more}")).await.expect(200)["events"].as_array().unwrap().len()
    };
    let (user, project) = (cloud.user(Reader).await, cloud.project(Reader).await);
    assert_eq!(count("status=403").await, 5);
    assert_eq!(count("status=4xx").await, 5);
    assert_eq!(count("status=5xx").await, 0);
    assert_eq!(count(&format!("user={user}")).await, 5);
    assert_eq!(count(&format!("project={project}")).await, 5);
    assert_eq!(count("since=2020-01-01T00:00:00Z").await, 10);
    assert_eq!(count("until=2020-01-01T00:00:00Z").await, 0);
    assert_eq!(count("address=127.0.0.1").await, 10);
    let (mut at, mut ids) = (format!("{flavors}&limit=3"), Vec::new());
    loop {
        let page = admin.get(&at).await.expect(200);
        ids.extend(page["events"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["links"]["next"].as_str() else { break };
        at = next.strip_prefix("https://cloud.test").unwrap().to_owned();
    }
    let newest_first: Vec<i64> = ids.iter().map(|id| id.parse().unwrap()).collect();
    assert!(newest_first.len() == 10 && newest_first.is_sorted_by(|a, b| a > b), "{newest_first:?}");
    for bad in [
        "status=9xx",
        "status=x",
        "since=yesterday",
        "until=%00",
        "limit=0x10",
        "marker=zzz",
        "sort_key=path",
        "colour=red",
        "status=%27%20OR%201=1",
    ] {
        admin.get(&format!("/solostack/v1/audit?{bad}")).await.refused(400);
    }
    for text in ["path=%27%20OR%201%3D1%20--", "user=%F0%9F%92%A5", "path=%25"] {
        let seen = admin.get(&format!("/solostack/v1/audit?{text}")).await.expect(200);
        assert_eq!(seen["events"], json!([]), "{text}");
    }
}

fn leaf(chain: &Value) -> (String, String) {
    let leaf = &chain["certificates"][0];
    assert_eq!(leaf["place"], "leaf");
    (leaf["fingerprint"].as_str().unwrap().to_owned(), leaf["issuer"].as_str().unwrap().to_owned())
}

fn authority(name: &str, signed_by: Option<(&CertificateParams, &KeyPair)>) -> (CertificateParams, KeyPair, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let pem = match signed_by {
        None => params.self_signed(&key).unwrap().pem(),
        Some((above, above_key)) => params.signed_by(&key, &Issuer::from_params(above, above_key)).unwrap().pem(),
    };
    (params, key, pem)
}

#[tokio::test]
async fn an_intermediate_of_ones_own_is_brought_and_given_back() {
    let cloud = TestCloud::certified().await;
    let admin = cloud.as_(Admin);
    let path = "/solostack/v1/certificates/intermediate";
    let before = admin.get("/solostack/v1/certificates").await.expect(200);
    let places: Vec<_> = before["certificates"].as_array().unwrap().iter().map(|one| one["place"].clone()).collect();
    assert_eq!(places, ["leaf", "intermediate", "root"]);
    assert_eq!(before["brought"], false);

    let after = admin.post("/solostack/v1/certificates/rotate", Value::Null).await.expect(200);
    assert_ne!(leaf(&after).0, leaf(&before).0, "a new leaf");
    assert_eq!(after["certificates"][1], before["certificates"][1], "of the same authority");
    admin.delete(path).await.refused(409);

    let (root, root_key, root_pem) = authority("Acme Root", None);
    let (_, key, pem) = authority("Acme Intermediate", Some((&root, &root_key)));
    let (_, other_key, _) = authority("Other", None);
    let body = |certificate: &str, key: &str, root: Option<&str>| json!({"intermediate": {"certificate": certificate, "key": key, "root": root}});
    for (certificate, key, root, reason) in [
        (pem.as_str(), other_key.serialize_pem(), None, "does not match the certificate"),
        (root_pem.as_str(), root_key.serialize_pem(), None, "is a root"),
        ("nonsense", key.serialize_pem(), None, "holds no certificate"),
        (pem.as_str(), "nonsense".into(), None, "holds no private key"),
        (pem.as_str(), key.serialize_pem(), Some("nonsense"), "holds no certificate"),
    ] {
        let said = admin.put(path, body(certificate, &key, root)).await.refused(400);
        assert!(said.contains(reason), "{said}");
    }
    assert_eq!(leaf(&admin.get("/solostack/v1/certificates").await.expect(200)), leaf(&after), "nothing has changed");

    let brought = admin.put(path, body(&pem, &key.serialize_pem(), Some(&root_pem))).await.expect(200);
    assert_eq!(brought["brought"], true);
    assert_eq!(leaf(&brought).1, "CN=Acme Intermediate");
    assert_eq!(brought["certificates"][2]["origin"], "brought");
    assert!(!brought.to_string().contains("PRIVATE"));
    admin.delete(path).await.expect(204);
    let own = admin.get("/solostack/v1/certificates").await.expect(200);
    assert_eq!(leaf(&own).1, leaf(&before).1);
}

/// Texts of the state directory that nobody else may know: the bodies of keys, passwords, and what unlocks sessions.
fn secrets(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            secrets(&path, found);
            continue;
        }
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let mut private = false;
        for line in text.lines() {
            if line.contains("PRIVATE KEY") {
                private = line.contains("BEGIN");
            } else if private || path.components().any(|part| part.as_os_str() == "keys") {
                found.insert(line.trim().to_owned());
            } else if let Some((_, password)) = line.split_once("PASSWORD=").or_else(|| line.split_once("password: ")) {
                found.insert(password.trim_matches(['\'', '"']).to_owned());
            }
        }
    }
    found.retain(|secret| secret.len() > 8);
}

#[tokio::test]
async fn a_support_bundle_has_everything_but_secrets() {
    let cloud = TestCloud::certified().await;
    cloud.boot(Member, json!({"name": "a", "adminPass": "hunter2-hunter2"})).await;
    let reply = cloud.as_(Admin).get("/solostack/v1/support-bundle").await;
    assert_eq!(reply.status, 200, "{reply}");
    assert!(reply.header("content-disposition").unwrap().starts_with("attachment; filename=\"solostack-2"));
    let folder = tempfile::tempdir().unwrap();
    let mut tar = Command::new("tar");
    let tar = tar.args(["-xzf", "-", "--strip-components=1", "-C"]).arg(folder.path()).stdin(Stdio::piped());
    let mut tar = tar.spawn().unwrap();
    tar.stdin.take().unwrap().write_all(&reply.bytes).unwrap();
    assert!(tar.wait().unwrap().success());
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert!(read("health.json").contains("\"uptime_s\""));
    assert!(read("operations.jsonl").contains("\"create\""));
    assert!(read("audit.jsonl").contains("/v2.1/servers"));
    assert!(read("configuration.txt").contains("RegionOne"));
    assert!(read("doctor.txt").contains("clock"));
    assert!(read("network.txt").contains("$ ip route"));
    assert!(read("README.txt").contains("no password"));
    assert!(read("host.txt").contains("MemTotal"));

    let mut private = BTreeSet::new();
    secrets(cloud.state(), &mut private);
    assert!(private.len() > 8, "keys of tokens, of certificates, and a password: {}", private.len());
    private.insert("hunter2-hunter2".into());
    private.insert(Member.password());
    let mut all = String::new();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        all.push_str(&String::from_utf8_lossy(&std::fs::read(entry.unwrap().path()).unwrap()));
    }
    for secret in private {
        assert!(!all.contains(&secret), "a secret of {} characters is in the bundle", secret.len());
    }
}

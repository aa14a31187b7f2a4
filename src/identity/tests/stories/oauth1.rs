//! OS-OAUTH1.

use serde_json::{Value, json};

use crate::cloud::Cloud;

const CONSUMERS: &str = "/v3/OS-OAUTH1/consumers";

#[tokio::test]
async fn a_consumer_s_secret_is_shown_once_and_never_changes() {
    let cloud = Cloud::new().await;
    let send = async |method: &str, path: &str, body: Value| cloud.send(method, path, &cloud.admin, body).await;
    let body = json!({"consumer": {"description": "An application", "team": "blue"}});
    let made = send("POST", CONSUMERS, body).await.expect(201);
    let id = made["consumer"]["id"].as_str().unwrap();
    let secret = made["consumer"]["secret"].as_str().unwrap();
    assert_eq!(secret.len(), 32);
    assert_ne!(secret, id);
    let path = format!("{CONSUMERS}/{id}");
    let link = format!("https://cloud:8443/identity{path}");
    let mut seen = json!({
        "id": id, "description": "An application", "team": "blue", "links": {"self": link},
    });
    assert_eq!(cloud.get(&path, &cloud.admin).await.expect(200), json!({"consumer": seen}));
    let listed = cloud.get(CONSUMERS, &cloud.admin).await.expect(200);
    assert_eq!(listed["consumers"], json!([seen]));
    assert_eq!(listed["links"]["self"], format!("https://cloud:8443/identity{CONSUMERS}"));

    for bad in [
        json!({"consumer": {"secret": "mine"}}),
        json!({"consumer": {"secret": secret}}),
        json!({"consumer": {"secret": null}}),
        json!({"consumer": {"description": 1}}),
        json!({"consumer": {"description": "x".repeat(65_536)}}),
        json!({"consumer": {"id": "another"}}),
        json!({"consumer": {}}),
        json!({"consumer": []}),
        json!({}),
    ] {
        send("PATCH", &path, bad).await.expect(400);
    }
    assert_eq!(cloud.get(&path, &cloud.admin).await.expect(200), json!({"consumer": seen}));
    let changed = send("PATCH", &path, json!({"consumer": {"id": id, "description": null}})).await.expect(200);
    seen["description"] = Value::Null;
    assert_eq!(changed, json!({"consumer": seen}));

    let file = |name: &str| std::fs::read(cloud.folder.path().join(name)).unwrap_or_default();
    for name in ["db", "db-wal"] {
        let found = file(name).windows(secret.len()).any(|bytes| bytes == secret.as_bytes());
        assert!(!found, "the secret stands in {name}");
    }

    send("DELETE", &path, Value::Null).await.expect(204);
    for (method, body) in [("GET", Value::Null), ("PATCH", json!({"consumer": {"a": "b"}})), ("DELETE", Value::Null)] {
        let gone = send(method, &path, body).await.expect(404);
        assert_eq!(gone["error"]["message"], format!("Could not find consumer: {id}."));
    }
}

#[tokio::test]
async fn a_consumer_needs_no_description_and_is_given_its_secret() {
    let cloud = Cloud::new().await;
    let make = async |body: Value| cloud.send("POST", CONSUMERS, &cloud.admin, body).await;
    let first = make(json!({"consumer": {}})).await.expect(201);
    let second = make(json!({"consumer": {"description": null}})).await.expect(201);
    assert_eq!(first["consumer"]["description"], Value::Null);
    assert_ne!(first["consumer"]["secret"], second["consumer"]["secret"]);
    for bad in [
        json!({"consumer": {"secret": "mine"}}),
        json!({"consumer": {"description": ["a"]}}),
        json!({"consumer": "a"}),
        json!([]),
    ] {
        make(bad).await.expect(400);
    }
    let page = cloud.get(&format!("{CONSUMERS}?limit=1"), &cloud.admin).await.expect(200);
    assert_eq!(page["consumers"].as_array().unwrap().len(), 1);
    assert!(page["links"]["next"].is_string());
}

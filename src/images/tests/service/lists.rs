use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::Cloud;

async fn names(cloud: &Cloud, who: &str, query: &str) -> Vec<String> {
    let body = cloud.get(who, &format!("/v2/images?{query}")).await.expect(200);
    body["images"].as_array().unwrap().iter().map(|image| image["name"].as_str().unwrap().to_owned()).collect()
}

async fn some(cloud: &Cloud) {
    for (name, size) in [("a", 100), ("b", 300), ("c", 200)] {
        let body = json!({"name": name, "disk_format": "raw", "container_format": "bare", "tags": [name, "all"],
                          "kind": format!("k-{name}"), "min_ram": size});
        let id = cloud.create("member", body).await;
        cloud.upload("member", &format!("/v2/images/{id}/file"), vec![1; size]).await.expect(204);
    }
    cloud.create("member", json!({"name": "d, \"quoted\"", "disk_format": "qcow2", "os_hidden": false})).await;
    cloud.create("member", json!({"name": "hidden", "os_hidden": true})).await;
}

#[tokio::test]
async fn every_filter_narrows_the_list() {
    let cloud = Cloud::start().await;
    some(&cloud).await;
    for (query, expected) in [
        ("sort=name:asc", &["a", "b", "c", "d, \"quoted\""][..]),
        ("name=b", &["b"]),
        ("name=in:a,c&sort=name:asc", &["a", "c"]),
        ("name=in:a,%22d%2C%20%5C%22quoted%5C%22%22&sort=name:asc", &["a", "d, \"quoted\""]),
        ("name=zzz", &[]),
        ("status=active&sort=name:desc", &["c", "b", "a"]),
        ("status=in:queued,saving", &["d, \"quoted\""]),
        ("disk_format=qcow2", &["d, \"quoted\""]),
        ("container_format=bare&disk_format=in:raw,vdi&sort=size:asc", &["a", "c", "b"]),
        ("size_min=150&size_max=250", &["c"]),
        ("min_ram=300", &["b"]),
        ("tag=all&tag=b", &["b"]),
        ("kind=k-c", &["c"]),
        ("kind=nothing", &[]),
        ("os_hidden=true", &["hidden"]),
        ("visibility=shared&name=a", &["a"]),
        ("visibility=private", &[]),
        ("visibility=all&name=a", &["a"]),
        ("owner=11111111111111111111111111111111&name=a", &["a"]),
        ("owner=nobody", &[]),
        ("protected=false&name=a", &["a"]),
        ("created_at=gt:2020-01-01T00:00:00Z&name=a", &["a"]),
        ("created_at=lt:2020-01-01T00:00:00Z", &[]),
        ("updated_at=gte:2020-01-01&name=a", &["a"]),
        ("os_hash_algo=sha512&name=a", &["a"]),
    ] {
        assert_eq!(names(&cloud, "member", query).await, expected, "{query}");
    }
    for (query, word) in [
        ("limit=-1", "limit"),
        ("limit=many", "limit"),
        ("marker=nothing", "marker"),
        ("sort_key=owner_secret", "sort"),
        ("sort=name:sideways", "direction"),
        ("sort=name&sort_key=name", "combined"),
        ("visibility=secret", "visibility"),
        ("member_status=maybe", "status"),
        ("status=strange", "status"),
        ("created_at=gt:yesterday", "created_at"),
        ("size_min=big", "size_min"),
        ("protected=maybe", "protected"),
        ("name=in:%22open", "quotes"),
        ("changes-since=2020-01-01", "changes-since"),
    ] {
        let message = cloud.get("member", &format!("/v2/images?{query}")).await.refused(400);
        assert!(message.to_lowercase().contains(word), "{query}: {message}");
    }
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_repetition() {
    let cloud = Cloud::start().await;
    for i in 0..7 {
        cloud.create("member", json!({"name": format!("n{i}")})).await;
        // Creation times differ, so that the usual order is known.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for (query, expected) in [
        ("limit=3", ["n6", "n5", "n4", "n3", "n2", "n1", "n0"]),
        ("limit=2&sort=name:asc", ["n0", "n1", "n2", "n3", "n4", "n5", "n6"]),
        (
            "limit=1&sort_key=status&sort_dir=asc&sort_key=name&sort_dir=desc",
            ["n6", "n5", "n4", "n3", "n2", "n1", "n0"],
        ),
    ] {
        let (mut seen, mut next) = (Vec::new(), format!("/v2/images?{query}"));
        loop {
            let body = cloud.get("member", &next).await.expect(200);
            seen.extend(body["images"].as_array().unwrap().iter().map(|i| i["name"].as_str().unwrap().to_owned()));
            assert!(body["first"].as_str().unwrap().starts_with("/v2/images?"));
            match body.get("next") {
                Some(Value::String(link)) => next = link.clone(),
                _ => break,
            }
        }
        assert_eq!(seen, expected, "{query}");
    }
    let empty = cloud.get("member", "/v2/images?limit=0").await.expect(200);
    assert_eq!((&empty["images"], empty.get("next")), (&json!([]), None));
}

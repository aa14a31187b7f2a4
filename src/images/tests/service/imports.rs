use disks::corpus;
use serde_json::{Value, json};

use tasks::Faults;

use crate::harness::{Cloud, wait_for};

async fn tasks(cloud: &Cloud, id: &str) -> Vec<Value> {
    cloud.get("member", &format!("/v2/images/{id}/tasks")).await.expect(200)["tasks"].as_array().unwrap().clone()
}

async fn wait_for_status(cloud: &Cloud, id: &str, wanted: &str) {
    wait_for(wanted, || async {
        let status = cloud.show("member", id).await["status"].clone();
        if status == wanted { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn staged_bytes_become_the_image_when_imported() {
    let cloud = Cloud::start().await;
    let (bytes, disk) = corpus::qcow2();
    let id = cloud.create("member", json!({"disk_format": "qcow2", "container_format": "bare"})).await;
    let import = format!("/v2/images/{id}/import");
    let direct = json!({"method": {"name": "glance-direct"}, "all_stores": true});
    cloud.post("member", &import, direct.clone()).await.refused(409);
    cloud.upload("member", &format!("/v2/images/{id}/stage"), bytes.clone()).await.expect(204);
    assert_eq!(cloud.show("member", &id).await["status"], "uploading");
    cloud.upload("member", &format!("/v2/images/{id}/stage"), "again").await.refused(409);
    cloud.upload("member", &format!("/v2/images/{id}/file"), "again").await.refused(409);
    cloud.post("member", &import, json!({"method": {"name": "web-download"}})).await.refused(400);
    cloud.post("member", &import, json!({"method": {"name": "glance-direct"}, "stores": ["moon"]})).await.refused(409);
    cloud.post("member", &import, json!({})).await.refused(400);
    cloud.post("reader", &import, direct.clone()).await.refused(403);
    let answer = cloud.post("member", &import, direct.clone()).await;
    let request_id = answer.headers["x-openstack-request-id"].to_str().unwrap().to_owned();
    answer.expect(202);
    wait_for_status(&cloud, &id, "active").await;
    let image = cloud.show("member", &id).await;
    assert_eq!((&image["size"], &image["virtual_size"]), (&json!(bytes.len()), &json!(disk.len())));
    assert!(cloud.get("member", &format!("/v2/images/{id}/file")).await.bytes == bytes);
    cloud.wait_for_files(&[&id]).await;
    let tasks = tasks(&cloud, &id).await;
    assert_eq!(tasks.len(), 1);
    assert_eq!((&tasks[0]["status"], &tasks[0]["request_id"]), (&json!("success"), &json!(request_id)));
    assert_eq!(tasks[0]["input"]["import_req"]["method"]["name"], "glance-direct");
    cloud.post("member", &import, direct).await.refused(409);
}

#[tokio::test]
async fn hostile_staged_bytes_are_thrown_away_with_the_reason() {
    let cloud = Cloud::start().await;
    for attack in corpus::hostile().into_iter().step_by(11) {
        let body = json!({"disk_format": attack.format.name(), "container_format": "bare"});
        let id = cloud.create("member", body).await;
        cloud.upload("member", &format!("/v2/images/{id}/stage"), attack.bytes).await.expect(204);
        let body = json!({"method": {"name": "glance-direct"}});
        cloud.post("member", &format!("/v2/images/{id}/import"), body).await.expect(202);
        wait_for_status(&cloud, &id, "queued").await;
        let tasks = tasks(&cloud, &id).await;
        assert_eq!(tasks[0]["status"], "failure", "{}", attack.name);
        assert!(
            tasks[0]["message"].as_str().unwrap().contains(attack.reason),
            "{}: {}",
            attack.name,
            tasks[0]["message"]
        );
    }
    cloud.wait_for_files(&[]).await;
}

#[tokio::test]
async fn an_image_deleted_while_it_waits_for_its_import_leaves_nothing() {
    let cloud = Cloud::start().await;
    let id = cloud.create_raw("member").await;
    cloud.upload("member", &format!("/v2/images/{id}/stage"), "staged").await.expect(204);
    cloud.delete("member", &format!("/v2/images/{id}")).await.expect(204);
    cloud.wait_for_files(&[]).await;
}

#[tokio::test]
async fn an_import_that_dies_at_any_point_ends_as_if_it_had_not() {
    let hostile = corpus::hostile().remove(0);
    for (bytes, wanted) in [(corpus::qcow2().0, "active"), (hostile.bytes, "queued")] {
        let mut points = 0;
        for n in 1.. {
            let faults = Faults::dying_at(n);
            let cloud = Cloud::start_dying(tempfile::tempdir().unwrap(), faults.clone(), |_| {}).await;
            let id = cloud.create("member", json!({"disk_format": "qcow2", "container_format": "bare"})).await;
            cloud.upload("member", &format!("/v2/images/{id}/stage"), bytes.clone()).await.expect(204);
            let body = json!({"method": {"name": "glance-direct"}});
            cloud.post("member", &format!("/v2/images/{id}/import"), body).await.expect(202);
            wait_for("the end or the death of the import", || async {
                let status = cloud.show("member", &id).await["status"].clone();
                if faults.dead() || status == wanted { Ok(()) } else { Err(status.to_string()) }
            })
            .await;
            let died = faults.dead();
            let cloud = Cloud::start_in(cloud.crash().await, |_| {}).await;
            wait_for_status(&cloud, &id, wanted).await;
            let files: &[&str] = if wanted == "active" { &[&id] } else { &[] };
            cloud.wait_for_files(files).await;
            wait_for("the task to end", || async {
                let status = tasks(&cloud, &id).await[0]["status"].clone();
                if status != "processing" { Ok(()) } else { Err(status.to_string()) }
            })
            .await;
            if !died {
                break;
            }
            points = n;
        }
        assert!(points >= 4, "only {points} points");
    }
}

//! Volumes and shares of servers, in a cloud that has none.

use kit::Persona::{Member, Other};
use serde_json::json;

const SOME: &str = "5a3b1c00-0000-4000-8000-00000000000a";

#[tokio::test]
async fn a_server_has_no_volumes_and_whoever_attaches_one_learns_why() {
    let cloud = kit::TestCloud::start().await;
    let server = cloud.boot(Member, json!({})).await;
    let path = format!("/compute/v2.1/servers/{server}/os-volume_attachments");
    let member = cloud.as_(Member);
    assert_eq!(member.get(&path).await.expect(200), json!({"volumeAttachments": []}));
    member.get(&format!("{path}?limit=-1")).await.expect(400);
    let wanted = json!({"volumeAttachment": {"volumeId": SOME}});
    let why = member.post(&path, wanted.clone()).await.refused(404);
    assert_eq!(why, format!("Volume {SOME} could not be found: this cloud has no volumes."));
    let one = format!("{path}/{SOME}");
    for answer in [member.get(&one).await, member.put(&one, wanted.clone()).await, member.delete(&one).await] {
        let why = answer.refused(404);
        assert_eq!(why, format!("Instance {server} is not attached to volume {SOME}: this cloud has no volumes."));
    }
    for wrong in [
        json!({"volumeAttachment": {"volumeId": "x"}}),
        json!({"volumeAttachment": {}}),
        json!({"volumeAttachment": {"volumeId": SOME, "tag": "a"}}),
        json!({"volumeAttachment": [SOME]}),
    ] {
        member.post(&path, wrong).await.expect(400);
    }
    let why = cloud.as_(Other).post(&path, wanted).await.refused(404);
    assert!(why.contains("Instance"), "what is another project's is not there: {why}");
}

#[tokio::test]
async fn a_server_has_no_shares_and_whoever_attaches_one_learns_why() {
    let cloud = kit::TestCloud::start().await;
    let server = cloud.boot(Member, json!({})).await;
    let path = format!("/compute/v2.1/servers/{server}/shares");
    let member = cloud.as_(Member).at("2.97");
    assert_eq!(member.get(&path).await.expect(200), json!({"shares": []}));
    let why = member.post(&path, json!({"share": {"share_id": SOME}})).await.refused(404);
    assert_eq!(why, format!("Share {SOME} could not be found: this cloud has no file shares."));
    member.post(&path, json!({"share": {"share_id": "x"}})).await.expect(400);
    member.get(&format!("{path}/{SOME}")).await.expect(404);
    member.delete(&format!("{path}/{SOME}")).await.expect(404);
    cloud.as_(Member).at("2.96").get(&path).await.expect(404);
}

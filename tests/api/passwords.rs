//! The password of a guest's administrator: set through its agent, and what the guest has posted.

use kit::{
    Persona::{Member, Other, Reader},
    TestCloud,
};
use serde_json::json;

fn path(id: &str) -> String {
    format!("/compute/v2.1/servers/{id}/os-server-password")
}

#[tokio::test]
async fn a_guest_with_an_agent_gets_another_password() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    let body = json!({"changePassword": {"adminPass": "new password"}});
    cloud.as_(Member).action(&id, body.clone()).await.expect(202);
    cloud.wait_for_status(Member, &id, "ACTIVE").await;
    let actions = format!("/compute/v2.1/servers/{id}/os-instance-actions");
    let actions = cloud.as_(Member).get(&actions).await.expect(200);
    assert_eq!(actions["instanceActions"][0]["action"], "changePassword");

    cloud.vms().refuse_extras(Some("no guest agent answers in it")).unwrap();
    let message = cloud.as_(Member).action(&id, body.clone()).await.refused(409);
    assert_eq!(message, format!("Failed to set admin password on {id} because no guest agent answers in it."));
    assert_eq!(cloud.wait_for_status(Member, &id, "ACTIVE").await.get("fault"), None);
    cloud.vms().refuse_extras(None).unwrap();

    cloud.as_(Member).action(&id, json!({"changePassword": {}})).await.refused(400);
    cloud.as_(Member).action(&id, json!({"changePassword": {"adminPass": 1}})).await.refused(400);
    cloud.as_(Reader).action(&id, body.clone()).await.refused(403);
    cloud.as_(Other).action(&id, body.clone()).await.refused(404);
    cloud.as_(Member).action(&id, json!({"os-stop": null})).await.expect(202);
    cloud.wait_for_status(Member, &id, "SHUTOFF").await;
    let message = cloud.as_(Member).action(&id, body).await.refused(409);
    assert_eq!(message, format!("Cannot 'changePassword' instance {id} while it is in vm_state stopped"));
}

#[tokio::test]
async fn a_guest_that_has_just_been_started_is_waited_for() {
    let cloud = TestCloud::start().await;
    let body = json!({"changePassword": {"adminPass": "new password"}});
    let id = cloud.boot(Member, json!({})).await;
    let vms = cloud.vms();
    vms.agent_comes_late(id.parse().unwrap(), 1).unwrap();
    cloud.as_(Member).action(&id, body.clone()).await.expect(202);
    cloud.wait_for_status(Member, &id, "ACTIVE").await;

    // One that has been up for long is not, unless it was restarted meanwhile.
    cloud.clock.advance(time::Duration::minutes(10));
    vms.agent_comes_late(id.parse().unwrap(), 1).unwrap();
    let message = cloud.as_(Member).action(&id, body.clone()).await.refused(409);
    assert_eq!(message, format!("Failed to set admin password on {id} because no guest agent answers in it."));
    cloud.as_(Member).action(&id, json!({"reboot": {"type": "SOFT"}})).await.expect(202);
    cloud.wait_for_status(Member, &id, "ACTIVE").await;
    vms.agent_comes_late(id.parse().unwrap(), 1).unwrap();
    cloud.as_(Member).action(&id, body).await.expect(202);
}

#[tokio::test]
async fn a_guest_without_an_agent_as_its_image_says_is_not_asked() {
    let cloud = TestCloud::start().await;
    let image = cloud.image_with(Member, json!({"hw_qemu_guest_agent": "no"})).await;
    let id = cloud.boot(Member, json!({"imageRef": image})).await;
    let body = json!({"changePassword": {"adminPass": "new password"}});
    let message = cloud.as_(Member).action(&id, body).await.refused(409);
    assert!(message.contains("hw_qemu_guest_agent"), "{message}");
    let actions = format!("/compute/v2.1/servers/{id}/os-instance-actions");
    let actions = cloud.as_(Member).get(&actions).await.expect(200);
    assert_eq!(actions["instanceActions"][0]["action"], "create");
}

#[tokio::test]
async fn what_no_guest_has_posted_is_empty() {
    let cloud = TestCloud::start().await;
    let id = cloud.boot(Member, json!({})).await;
    assert_eq!(cloud.as_(Reader).get(&path(&id)).await.expect(200), json!({"password": ""}));
    cloud.as_(Other).get(&path(&id)).await.refused(404);
    cloud.as_(Reader).delete(&path(&id)).await.refused(403);
    cloud.as_(Member).delete(&path(&id)).await.expect(204);
}

//! The program dies at every point at which an operation could be cut in two, one after the other, and starts again: what
//! was accepted is done, what was deleted is gone, and nothing is left.

use kit::{Persona::Member, TestCloud, wait_for};
use serde_json::json;
use tasks::Faults;

use crate::servers::text;

#[tokio::test]
async fn a_create_and_a_delete_survive_death_at_every_point() {
    let mut cloud = TestCloud::start().await;
    cloud.network(Member, "inside", "192.0.2.0/24").await;
    cloud.image().await;
    let mut deaths = 0;
    for point in 1.. {
        cloud.crash_at(Faults::dying_at(point)).await;
        let faults = cloud.faults();
        let made = cloud.ask_for_server(Member, json!({"config_drive": true})).await.expect(202);
        let id = text(&made["server"]["id"]).to_owned();
        let path = format!("/compute/v2.1/servers/{id}");
        // A dead process answers still here, but does nothing more: a kill would have cut it off.
        wait_for("the server to run or the process to die", async || {
            let status = cloud.show(Member, &id).await["status"].clone();
            if faults.dead() || status == "ACTIVE" { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
        if faults.dead() {
            cloud.crash().await;
            cloud.wait_for_status(Member, &id, "ACTIVE").await;
        }
        let died_creating = faults.dead();
        cloud.as_(Member).delete(&path).await.expect(204);
        wait_for("the server to be gone or the process to die", async || {
            let reply = cloud.as_(Member).get(&path).await;
            if cloud.faults().dead() || reply.status == 404 { Ok(()) } else { Err(reply.to_string()) }
        })
        .await;
        let died = died_creating || cloud.faults().dead();
        if !died_creating && died {
            cloud.crash().await;
            cloud.wait_until_gone(Member, &id).await;
        }
        cloud.wait_for_no_leaks().await;
        if !died {
            break;
        }
        deaths += 1;
    }
    assert!(deaths >= 12, "only {deaths} points were passed");
}

//! Interfaces that come and go. Compute API reference, "Port interfaces".

use kit::{
    Persona::{Admin, Member, Other, Reader},
    Reply, TestCloud, wait_for,
};
use serde_json::{Value, json};

use crate::servers::text;

struct Place {
    cloud: TestCloud,
    network: String,
}

impl Place {
    /// A cloud whose project `one` has one network.
    async fn new() -> Self {
        let cloud = TestCloud::start().await;
        let (network, _) = cloud.network(Member, "inside", "192.0.2.0/24").await;
        Self { cloud, network }
    }

    async fn boot(&self) -> String {
        self.cloud.boot(Member, json!({})).await
    }

    async fn stopped(&self) -> String {
        let id = self.boot().await;
        self.stop(&id).await;
        id
    }

    async fn stop(&self, id: &str) {
        self.cloud.as_(Member).action(id, json!({"os-stop": null})).await.expect(202);
        self.cloud.wait_for_status(Member, id, "SHUTOFF").await;
    }

    async fn start(&self, id: &str) {
        self.cloud.as_(Member).action(id, json!({"os-start": null})).await.expect(202);
        self.cloud.wait_for_status(Member, id, "ACTIVE").await;
    }

    /// A port of the user's own, on a network that is not the project's only one by its own fault.
    async fn port(&self) -> String {
        let port = json!({"port": {"network_id": self.network}});
        let made = self.cloud.as_(Member).post("/network/v2.0/ports", port).await.expect(201);
        text(&made["port"]["id"]).to_owned()
    }

    async fn ask(&self, id: &str, what: Value) -> Reply {
        let body = json!({ "interfaceAttachment": what });
        self.cloud.as_(Member).post(&path(id), body).await
    }

    /// Attaches and answers the attachment.
    async fn attach(&self, id: &str, what: Value) -> Value {
        self.ask(id, what).await.expect(200)["interfaceAttachment"].take()
    }

    async fn detach(&self, id: &str, port: &str) -> Reply {
        self.cloud.as_(Member).delete(&format!("{}/{port}", path(id))).await
    }

    async fn detached(&self, id: &str, port: &str) {
        self.detach(id, port).await.expect(202);
        wait_for("the interface to be gone", async || {
            let ports = self.ports(id).await;
            if ports.iter().any(|one| one == port) { Err(format!("{ports:?}")) } else { Ok(()) }
        })
        .await;
    }

    async fn ports(&self, id: &str) -> Vec<String> {
        let list = self.cloud.as_(Reader).get(&path(id)).await.expect(200);
        list["interfaceAttachments"].as_array().unwrap().iter().map(|one| text(&one["port_id"]).to_owned()).collect()
    }

    /// What the machine has: slots with ports.
    async fn plugged(&self, id: &str) -> Vec<(u8, String)> {
        let devices = self.cloud.vms().devices(id.parse().unwrap()).await.unwrap();
        let mut nics: Vec<(u8, String)> = devices.nics.iter().map(|nic| (nic.slot, nic.port_id.to_string())).collect();
        nics.sort();
        nics
    }

    fn taps(&self) -> usize {
        self.cloud.host().state().taps.len()
    }

    /// The user's own port, as Network shows it.
    async fn show_port(&self, port: &str) -> Reply {
        self.cloud.as_(Member).get(&format!("/network/v2.0/ports/{port}")).await
    }

    async fn last_action(&self, id: &str) -> Value {
        let path = format!("/compute/v2.1/servers/{id}/os-instance-actions");
        let list = self.cloud.as_(Admin).get(&path).await.expect(200);
        let path = format!("{path}/{}", text(&list["instanceActions"][0]["request_id"]));
        self.cloud.as_(Admin).get(&path).await.expect(200)["instanceAction"].take()
    }
}

fn path(id: &str) -> String {
    format!("/compute/v2.1/servers/{id}/os-interface")
}

#[tokio::test]
async fn an_interface_is_there_when_it_is_answered() {
    let place = Place::new().await;
    let id = place.boot().await;
    let own = place.port().await;
    let any = place.attach(&id, json!({})).await;
    let by_network = place.attach(&id, json!({"net_id": place.network})).await;
    let wanted = json!({"net_id": place.network, "fixed_ips": [{"ip_address": "192.0.2.77"}]});
    let by_address = place.attach(&id, wanted).await;
    let by_port = place.attach(&id, json!({"port_id": own})).await;
    assert_eq!(by_address["fixed_ips"][0]["ip_address"], "192.0.2.77");
    assert_eq!(by_port["port_id"], *own);
    for attached in [&any, &by_network, &by_address, &by_port] {
        let keys: Vec<&String> = attached.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["port_state", "fixed_ips", "port_id", "net_id", "mac_addr"]);
        assert_eq!((&attached["port_state"], &attached["net_id"]), (&json!("ACTIVE"), &json!(place.network)));
        let one = format!("{}/{}", path(&id), text(&attached["port_id"]));
        assert_eq!(place.cloud.as_(Reader).get(&one).await.expect(200)["interfaceAttachment"], *attached);
    }
    let plugged = place.plugged(&id).await;
    let slots: Vec<u8> = plugged.iter().map(|(slot, _)| *slot).collect();
    assert_eq!(slots, [0, 1, 2, 3, 4]);
    assert_eq!(plugged[4].1, own);
    assert_eq!(place.ports(&id).await, plugged.into_iter().map(|(_, port)| port).collect::<Vec<_>>());
    assert_eq!(place.taps(), 5);
    let server = place.cloud.show(Member, &id).await;
    let addresses = server["addresses"]["inside"].as_array().unwrap();
    assert_eq!(addresses.len(), 5);
    assert!(addresses.iter().any(|address| address["addr"] == "192.0.2.77"), "{server}");
    let action = place.last_action(&id).await;
    assert_eq!((&action["action"], &action["message"]), (&json!("attach_interface"), &Value::Null));
    assert_eq!(action["events"][0]["event"], "compute_attach_interface");
    place.cloud.delete_server(Member, &id).await;
    place.cloud.wait_for_no_leaks().await;
    assert_eq!(place.show_port(&own).await.expect(200)["port"]["device_id"], "", "the user's own port stays");
}

#[tokio::test]
async fn a_detached_port_is_deleted_if_it_was_made_and_free_if_it_was_given() {
    let place = Place::new().await;
    let (first, second) = (place.boot().await, place.boot().await);
    let made = text(&place.attach(&first, json!({})).await["port_id"]).to_owned();
    let own = place.port().await;
    place.attach(&first, json!({"port_id": own})).await;
    place.detached(&first, &made).await;
    place.show_port(&made).await.refused(404);
    let action = place.last_action(&first).await;
    assert_eq!(action["events"][0]["event"], "compute_detach_interface");
    // One port, from server to server.
    for id in [&first, &second] {
        if id == &second {
            place.attach(id, json!({"port_id": own})).await;
        }
        place.detached(id, &own).await;
        let port = place.show_port(&own).await.expect(200)["port"].take();
        assert_eq!(
            (&port["device_id"], &port["device_owner"], &port["status"]),
            (&json!(""), &json!(""), &json!("DOWN"))
        );
        assert_eq!(place.plugged(id).await.len(), 1);
    }
    assert_eq!(place.taps(), 2);
    place.detach(&first, &own).await.refused(404);
    // The one that a server was made with can go, too.
    let born = place.ports(&first).await.remove(0);
    place.detached(&first, &born).await;
    assert_eq!(place.cloud.show(Member, &first).await["addresses"], json!({}));
    place.show_port(&born).await.refused(404);
}

#[tokio::test]
async fn places_in_the_machine_stay_whatever_comes_and_goes() {
    let place = Place::new().await;
    let id = place.boot().await;
    for _ in 0..3 {
        place.attach(&id, json!({})).await;
    }
    let before = place.plugged(&id).await;
    place.detached(&id, &before[1].1).await;
    let kept = vec![before[0].clone(), before[2].clone(), before[3].clone()];
    assert_eq!(place.plugged(&id).await, kept);
    place.cloud.as_(Member).action(&id, json!({"reboot": {"type": "HARD"}})).await.expect(202);
    place.cloud.wait_for_status(Member, &id, "ACTIVE").await;
    assert_eq!(place.plugged(&id).await, kept, "also of the next machine");
    for action in ["suspend", "resume"] {
        place.cloud.as_(Member).action(&id, json!({ action: null })).await.expect(202);
        let status = if action == "suspend" { "SUSPENDED" } else { "ACTIVE" };
        place.cloud.wait_for_status(Member, &id, status).await;
    }
    assert_eq!(place.plugged(&id).await, kept, "and of one that goes on");
    let new = text(&place.attach(&id, json!({})).await["port_id"]).to_owned();
    assert_eq!(place.plugged(&id).await[1], (1, new), "what is free is taken again");
}

#[tokio::test]
async fn a_stopped_server_is_changed_and_starts_so() {
    let place = Place::new().await;
    let id = place.stopped().await;
    let born = place.ports(&id).await.remove(0);
    let attached = place.attach(&id, json!({})).await;
    assert_eq!(attached["port_state"], "DOWN");
    assert_eq!(place.taps(), 0, "nothing is connected yet");
    place.detached(&id, &born).await;
    place.start(&id).await;
    assert_eq!(place.plugged(&id).await, [(1, text(&attached["port_id"]).to_owned())]);
    assert_eq!(place.taps(), 1);
}

#[tokio::test]
async fn a_hypervisor_that_cannot_plug_says_so_and_keeps_nothing() {
    let place = Place::new().await;
    let id = place.boot().await;
    let (born, own) = (place.ports(&id).await.remove(0), place.port().await);
    place.cloud.vms().refuse_extras(Some("this machine takes no cards while it runs")).unwrap();
    for what in [json!({}), json!({"port_id": own})] {
        let message = place.ask(&id, what).await.refused(400);
        assert_eq!(
            message,
            format!(
                "Attaching interfaces is not supported for instance {id}: this machine takes no cards while it runs."
            )
        );
    }
    let action = place.last_action(&id).await;
    assert_eq!((&action["action"], &action["message"]), (&json!("attach_interface"), &json!("Error")));
    assert_eq!(place.show_port(&own).await.expect(200)["port"]["device_id"], "");
    place.detach(&id, &born).await.refused(400);
    assert_eq!(place.ports(&id).await, std::slice::from_ref(&born));
    assert_eq!((place.plugged(&id).await.len(), place.taps()), (1, 1));
    // A stopped one can always be changed.
    place.stop(&id).await;
    place.attach(&id, json!({"port_id": own})).await;
    place.detached(&id, &born).await;
    place.start(&id).await;
    assert_eq!(place.plugged(&id).await, [(1, own)]);
}

#[tokio::test]
async fn a_guest_that_does_not_let_go_keeps_its_interface() {
    let place = Place::new().await;
    let id = place.boot().await;
    let uuid = id.parse().unwrap();
    let port = text(&place.attach(&id, json!({})).await["port_id"]).to_owned();
    place.cloud.vms().guest_keeps_devices(uuid, true);
    place.detach(&id, &port).await;
    wait_for("the detach to fail", async || {
        let action = place.last_action(&id).await;
        if action["message"] == "Error" { Ok(()) } else { Err(action.to_string()) }
    })
    .await;
    assert_eq!(place.ports(&id).await.len(), 2);
    assert_eq!((place.plugged(&id).await.len(), place.taps()), (2, 2));
    assert_eq!(place.cloud.show(Member, &id).await["status"], "ACTIVE");
    place.cloud.vms().guest_keeps_devices(uuid, false);
    place.detached(&id, &port).await;
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_in_upstreams_words() {
    let place = Place::new().await;
    let (id, other) = (place.boot().await, place.boot().await);
    let (own, taken) = (place.port().await, place.ports(&other).await.remove(0));
    let mine = place.ports(&id).await.remove(0);
    let network = &place.network;
    let nothing = "0abcdef0-0000-4000-8000-000000000000";
    let foreign = {
        let (network, _) = place.cloud.network(Other, "outside", "198.51.100.0/24").await;
        let port = json!({"port": {"network_id": network}});
        let port = place.cloud.as_(Other).post("/network/v2.0/ports", port).await.expect(201);
        [network, text(&port["port"]["id"]).to_owned()]
    };
    for (what, status, message) in [
        (json!({"net_id": network, "port_id": own}), 400, "Must not input both network_id and port_id"),
        (json!({"fixed_ips": [{"ip_address": "192.0.2.9"}]}), 400, "Must input network_id when request IP address"),
        (json!({"port_id": own, "fixed_ips": [{"ip_address": "192.0.2.9"}]}), 400, "Must input network_id"),
        (json!({"net_id": network, "fixed_ips": []}), 400, "fixed_ips"),
        (json!({"net_id": network, "fixed_ips": [{"ip_address": "192.0.2.300"}]}), 400, "ip_address"),
        (json!({"net_id": network, "fixed_ips": [{"ip_address": "198.51.100.9"}]}), 400, "not a valid ip address"),
        (json!({"net_id": "inside"}), 400, "net_id"),
        (json!({"port_id": 7}), 400, ""),
        (json!({"surprise": 1}), 400, ""),
        (json!({"tag": "too-new"}), 400, "tag"),
        (json!({"net_id": nothing}), 404, "could not be found"),
        (json!({"port_id": nothing}), 404, "could not be found"),
        (json!({"net_id": foreign[0]}), 404, "could not be found"),
        (json!({"port_id": foreign[1]}), 404, "could not be found"),
        (json!({"port_id": taken}), 409, "is still in use"),
        (json!({"port_id": mine}), 409, "is still in use"),
    ] {
        let said = place.ask(&id, what.clone()).await.refused(status);
        assert!(said.contains(message), "{what}: {said}");
    }
    let used = place.cloud.as_(Reader).get(&path(&other)).await.expect(200);
    let used = used["interfaceAttachments"][0]["fixed_ips"][0]["ip_address"].clone();
    place.ask(&id, json!({"net_id": network, "fixed_ips": [{"ip_address": used}]})).await.refused(409);
    assert_eq!(place.ports(&id).await, std::slice::from_ref(&mine), "nothing came of all that");

    for (who, status) in [(Reader, 403), (Other, 404)] {
        let client = place.cloud.as_(who);
        client.post(&path(&id), json!({"interfaceAttachment": {}})).await.refused(status);
        client.delete(&format!("{}/{mine}", path(&id))).await.refused(status);
    }
    place.detach(&id, &taken).await.refused(404);
    place.detach(&id, nothing).await.refused(404);
    place.cloud.network(Member, "second", "203.0.113.0/24").await;
    let message = place.ask(&id, json!({})).await.refused(400);
    assert_eq!(message, "Multiple possible networks found, use a Network ID to be more specific.");
}

#[tokio::test]
async fn states_and_locks_are_kept() {
    let place = Place::new().await;
    let id = place.boot().await;
    let port = place.ports(&id).await.remove(0);
    let client = place.cloud.as_(Member);
    client.action(&id, json!({"lock": null})).await.expect(202);
    for reply in [place.ask(&id, json!({})).await, place.detach(&id, &port).await] {
        assert_eq!(reply.refused(409), format!("Instance {id} is locked"));
    }
    client.action(&id, json!({"unlock": null})).await.expect(202);
    client.action(&id, json!({"suspend": null})).await.expect(202);
    place.cloud.wait_for_status(Member, &id, "SUSPENDED").await;
    for (reply, action) in
        [(place.ask(&id, json!({})).await, "attach_interface"), (place.detach(&id, &port).await, "detach_interface")]
    {
        let message = reply.refused(409);
        assert_eq!(message, format!("Cannot '{action}' instance {id} while it is in vm_state suspended"));
    }
    client.action(&id, json!({"resume": null})).await.expect(202);
    place.cloud.wait_for_status(Member, &id, "ACTIVE").await;
    client.action(&id, json!({"pause": null})).await.expect(202);
    place.cloud.wait_for_status(Member, &id, "PAUSED").await;
    place.attach(&id, json!({})).await;
    assert_eq!(place.plugged(&id).await.len(), 2, "a paused server takes one");
}

#[tokio::test]
async fn a_server_has_eight_interfaces_at_most_and_ports_have_a_quota() {
    let place = Place::new().await;
    let id = place.boot().await;
    for _ in 0..7 {
        place.attach(&id, json!({})).await;
    }
    let message = place.ask(&id, json!({})).await.refused(400);
    assert!(message.contains("8 interfaces at most"), "{message}");
    let project = place.cloud.project(Member).await;
    let quota = json!({"quota": {"port": 1}});
    place.cloud.as_(Admin).put(&format!("/network/v2.0/quotas/{project}"), quota).await.expect(200);
    let port = place.ports(&id).await.pop().unwrap();
    place.detached(&id, &port).await;
    place.ask(&id, json!({})).await.refused(403);
}

#[tokio::test]
async fn a_tag_is_taken_since_2_49_and_told_to_the_guest() {
    let place = Place::new().await;
    let id = place.boot().await;
    let member = place.cloud.as_(Member);
    let body = json!({"interfaceAttachment": {"tag": "uplink"}});
    member.at("2.48").post(&path(&id), body.clone()).await.refused(400);
    let member = place.cloud.as_(Member).at("2.49");
    let attached = member.post(&path(&id), body).await.expect(200);
    assert!(attached["interfaceAttachment"].get("tag").is_none(), "shown since 2.70 only");
    let wrong = json!({"interfaceAttachment": {"tag": "a,b"}});
    member.post(&path(&id), wrong).await.refused(400);
}

#[tokio::test]
async fn interfaces_outlive_the_program() {
    let mut place = Place::new().await;
    let id = place.boot().await;
    let port = text(&place.attach(&id, json!({})).await["port_id"]).to_owned();
    let before = place.plugged(&id).await;
    place.cloud.restart().await;
    assert_eq!(place.plugged(&id).await, before);
    assert_eq!(place.ports(&id).await.len(), 2);
    place.detached(&id, &port).await;
    place.cloud.delete_server(Member, &id).await;
    place.cloud.wait_for_no_leaks().await;
}

#[tokio::test]
async fn a_port_that_is_deleted_through_network_leaves_the_running_machine() {
    let place = Place::new().await;
    let id = place.boot().await;
    let uuid = id.parse().unwrap();
    let gone = async |place: &Place, port: &str| {
        place.cloud.as_(Member).delete(&format!("/network/v2.0/ports/{port}")).await.expect(204);
        assert_eq!(place.ports(&id).await.len(), 1);
    };
    let attached = async || text(&place.attach(&id, json!({})).await["port_id"]).to_owned();
    let in_place_1 = async |expected: Option<&str>| {
        wait_for("the machine to have just that", async || {
            let plugged = place.plugged(&id).await;
            let second = plugged.iter().find(|(slot, _)| *slot == 1).map(|(_, port)| port.as_str());
            if second == expected { Ok(()) } else { Err(format!("{plugged:?}")) }
        })
        .await;
    };
    gone(&place, &attached().await).await;
    in_place_1(None).await;
    let action = place.last_action(&id).await;
    assert_eq!((text(&action["action"]), &action["user_id"]), ("detach_interface", &Value::Null));
    wait_for("its tap to be gone", async || if place.taps() == 1 { Ok(()) } else { Err(place.taps().to_string()) })
        .await;

    // A guest that keeps it is asked once, and starts without.
    let port = attached().await;
    in_place_1(Some(&port)).await;
    place.cloud.vms().guest_keeps_devices(uuid, true);
    gone(&place, &port).await;
    wait_for("the detach to fail", async || {
        let action = place.last_action(&id).await;
        if action["message"] == "Error" { Ok(()) } else { Err(action.to_string()) }
    })
    .await;
    in_place_1(Some(&port)).await;
    place.cloud.vms().guest_keeps_devices(uuid, false);
    place.cloud.as_(Member).action(&id, json!({"reboot": {"type": "HARD"}})).await.expect(202);
    place.cloud.wait_for_status(Member, &id, "ACTIVE").await;
    in_place_1(None).await;
    let port = attached().await;
    in_place_1(Some(&port)).await;

    // One that is off has no part in it.
    place.stop(&id).await;
    gone(&place, &port).await;
    place.start(&id).await;
    in_place_1(None).await;
    place.cloud.delete_server(Member, &id).await;
    place.cloud.wait_for_no_leaks().await;
}

#[tokio::test]
async fn an_address_is_added_and_removed_until_2_43() {
    let place = Place::new().await;
    let id = place.boot().await;
    let client = place.cloud.as_(Member);
    let addresses = async || {
        let server = place.cloud.show(Member, &id).await;
        let list = server["addresses"]["inside"].as_array().unwrap().clone();
        list.iter().map(|one| text(&one["addr"]).to_owned()).collect::<Vec<_>>()
    };
    let first = addresses().await;
    let add = json!({"addFixedIp": {"networkId": place.network}});
    client.action(&id, add.clone()).await.expect(202);
    let both = addresses().await;
    assert_eq!(both.len(), 2);
    client.action(&id, json!({"removeFixedIp": {"address": first[0]}})).await.expect(202);
    assert_eq!(addresses().await, both[1..]);
    for wrong in [
        json!({"addFixedIp": {"networkId": "0abcdef0-0000-4000-8000-000000000000"}}),
        json!({"addFixedIp": null}),
        json!({"removeFixedIp": {"address": first[0]}}),
        json!({"removeFixedIp": {"address": "here"}}),
    ] {
        client.action(&id, wrong).await.refused(400);
    }
    place.cloud.as_(Reader).action(&id, add.clone()).await.refused(403);
    place.cloud.as_(Other).action(&id, add.clone()).await.refused(404);
    place.cloud.as_(Member).at("2.44").action(&id, add).await.refused(404);
}

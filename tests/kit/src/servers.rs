//! Steps that many stories begin with: an image, a network, a server.

use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::{Method, Persona, Reply, TestCloud, personas::text, wait_for};

/// `m1.nano`: 1 VCPU, 128 MiB, 1 GiB.
const SMALLEST_FLAVOR: &str = "42";

impl TestCloud {
    /// A public image that boots (the guests here are not particular).
    pub async fn image(&self) -> String {
        let made =
            self.image.get_or_init(|| async { self.image_with(Persona::Admin, json!({"visibility": "public"})).await });
        made.await.clone()
    }

    /// An active image with these properties.
    pub async fn image_with(&self, who: Persona, changes: Value) -> String {
        let mut body = json!({"name": "guest", "disk_format": "raw", "container_format": "bare"});
        merge(&mut body, changes);
        let id = text(&self.as_(who).post("/image/v2/images", body).await.expect(201)["id"]);
        let mut disk = vec![0_u8; 64 << 10];
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        let headers = [("content-type", "application/octet-stream")];
        let path = format!("/image/v2/images/{id}/file");
        self.as_(who).raw(Method::PUT, &path, &headers, disk).await.expect(204);
        id
    }

    /// The body of a request for a server; `changes` override or, where null, remove.
    pub async fn server_body(&self, changes: Value) -> Value {
        let mut server = json!({"name": "a server", "imageRef": self.image().await, "flavorRef": SMALLEST_FLAVOR});
        merge(&mut server, changes);
        json!({ "server": server })
    }

    /// Asks for a server.
    pub async fn ask_for_server(&self, who: Persona, changes: Value) -> Reply {
        let body = self.server_body(changes).await;
        self.as_(who).post("/compute/v2.1/servers", body).await
    }

    /// A server that runs. Answers its id.
    pub async fn boot(&self, who: Persona, changes: Value) -> String {
        let id = text(&self.ask_for_server(who, changes).await.expect(202)["server"]["id"]);
        self.wait_for_status(who, &id, "ACTIVE").await;
        id
    }

    /// Waits until the server has this status and nothing is being done to it; answers its document at 2.1.
    pub async fn wait_for_status(&self, who: Persona, id: &str, status: &str) -> Value {
        wait_for(&format!("server {id} to be {status}"), async || {
            let server = self.show(who, id).await;
            let failed = server["status"] == "ERROR" && status != "ERROR" && server["OS-EXT-STS:task_state"].is_null();
            assert!(!failed, "server {id} was to be {status} and failed: {}", server["fault"]);
            let settled = server["status"] == status && server["OS-EXT-STS:task_state"].is_null();
            if settled { Ok(server) } else { Err(server.to_string()) }
        })
        .await
    }

    /// Waits until the server is gone.
    pub async fn wait_until_gone(&self, who: Persona, id: &str) {
        wait_for(&format!("server {id} to be gone"), async || {
            let reply = self.as_(who).get(&format!("/compute/v2.1/servers/{id}")).await;
            if reply.status == 404 { Ok(()) } else { Err(reply.to_string()) }
        })
        .await;
    }

    /// The server's document at 2.1.
    pub async fn show(&self, who: Persona, id: &str) -> Value {
        self.as_(who).get(&format!("/compute/v2.1/servers/{id}")).await.expect(200)["server"].take()
    }

    /// Deletes the server and waits until it is gone.
    pub async fn delete_server(&self, who: Persona, id: &str) {
        self.as_(who).delete(&format!("/compute/v2.1/servers/{id}")).await.expect(204);
        self.wait_until_gone(who, id).await;
    }

    /// A network with a subnet. Answers both ids.
    pub async fn network(&self, who: Persona, name: &str, cidr: &str) -> (String, String) {
        let client = self.as_(who);
        let network = client.post("/network/v2.0/networks", json!({"network": {"name": name}})).await.expect(201);
        let network_id = text(&network["network"]["id"]);
        let subnet = json!({"subnet": {"network_id": network_id, "cidr": cidr, "ip_version": 4, "name": name}});
        let subnet = client.post("/network/v2.0/subnets", subnet).await.expect(201);
        (network_id, text(&subnet["subnet"]["id"]))
    }

    /// A private flavor of this size. Answers its id.
    pub async fn flavor(&self, changes: Value) -> String {
        let name = format!("flavor-{}", uuid::Uuid::new_v4().simple());
        let mut flavor = json!({"name": name, "vcpus": 1, "ram": 128, "disk": 1});
        merge(&mut flavor, changes);
        let made = self.as_(Persona::Admin).post("/compute/v2.1/flavors", json!({"flavor": flavor})).await.expect(200);
        text(&made["flavor"]["id"])
    }

    /// Moves the clock.
    pub fn later(&self, by: Duration) {
        self.clock.advance(time::Duration::try_from(by).expect("a span that fits"));
    }
}

/// Text as APIs take user data.
#[must_use]
pub fn base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// `into` with `changes`: they override or, where null, remove.
#[must_use]
pub fn merged(mut into: Value, changes: Value) -> Value {
    merge(&mut into, changes);
    into
}

fn merge(into: &mut Value, changes: Value) {
    let Value::Object(changes) = changes else { panic!("changes are an object") };
    for (key, value) in changes {
        if value.is_null() {
            into.as_object_mut().expect("an object").shift_remove(&key);
        } else {
            into[key] = value;
        }
    }
}

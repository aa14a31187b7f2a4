//! The whole way from the API to packets, on the real kernel: a host of its own (a namespace), guests behind what would
//! be their taps, and the way outside. Needs root, nft and dnsmasq.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test binary uses a part of it")]
#[path = "../api/kit.rs"]
mod kit;
#[path = "../../../hostnet/tests/support/mod.rs"]
mod support;

use std::{
    io::{Read, Write},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use kit::id;
use network::{
    App, Caller, HostSide, Options,
    peer::{self, PortInfo, PortRequest, Requester, Wanted},
};
use serde_json::{Value, json};
use support::{Port, Space, accept, passes};

/// The administrator's networks of a first start, in a host of their own.
struct Scene {
    host: support::Cloud,
    cloud: kit::Cloud,
    private: Value,
}

impl Scene {
    fn new() -> Self {
        let host = support::Cloud::new();
        let side = HostSide::Kernel(host.host.clone());
        let (cloud, private) = host.wait(async {
            let cloud = kit::Cloud::on(Options::default(), side);
            cloud.app.bootstrap("project-root").await.unwrap();
            let private = cloud.list("admin", "networks", "?name=private").await[0].clone();
            (cloud, private)
        });
        let scene = Self { host, cloud, private };
        scene.reconcile();
        scene
    }

    fn reconcile(&self) {
        self.host.wait(self.cloud.reconcile());
    }

    /// A server's port as Compute makes it, and a guest in its place.
    fn server(&self, server_id: &str) -> (PortInfo, Space) {
        let port = self.host.wait(create(&self.cloud, &self.private, server_id));
        self.reconcile();
        let guest = self.host.guest_at(self.network_id(), &at(&port), Some("10.0.0.1"));
        (port, guest)
    }

    fn network_id(&self) -> hostnet::Id {
        id(&self.private).parse().unwrap()
    }

    fn post(&self, path: &str, body: Value) -> Value {
        self.host.wait(self.cloud.post("admin", path, body)).is(201)
    }

    fn default_group(&self) -> Value {
        self.host.wait(self.cloud.list("admin", "security_groups", "?name=default&project_id=project-root"))[0].clone()
    }

    fn floating_ip(&self, port: &PortInfo) -> Value {
        let public = self.host.wait(self.cloud.list("admin", "networks", "?name=public"))[0].clone();
        let body = json!({"floatingip": {"floating_network_id": public["id"], "port_id": port.id}});
        let made = self.post("/floatingips", body)["floatingip"].clone();
        self.reconcile();
        made
    }

    fn open(&self, port: u16) -> Value {
        let rule = json!({"security_group_rule": {
            "security_group_id": self.default_group()["id"], "direction": "ingress", "protocol": "tcp",
            "port_range_min": port, "port_range_max": port, "remote_ip_prefix": "0.0.0.0/0",
        }});
        let made = self.post("/security-group-rules", rule)["security_group_rule"].clone();
        self.reconcile();
        made
    }

    fn release(&self, server_id: &'static str) {
        let app = self.cloud.app.clone();
        self.host.wait(self.cloud.db.write(move |tx| peer::release_ports(tx, &app, server_id))).unwrap();
        self.reconcile();
    }
}

async fn create(cloud: &kit::Cloud, network: &Value, server_id: &str) -> PortInfo {
    let (app, server_id) = (cloud.app.clone(), server_id.to_owned());
    let wanted = Wanted::Network { network_id: id(network).to_owned(), fixed_ip: None };
    cloud
        .db
        .write(move |tx| {
            let requester = Requester { project_id: "project-root", is_admin: true };
            let request = PortRequest {
                requester,
                server_id: &server_id,
                server_name: &server_id,
                zone: "nova",
                wanted: &wanted,
                security_groups: &[],
            };
            peer::create_port(tx, &app, &request)
        })
        .await
        .unwrap()
}

fn at(port: &PortInfo) -> Port {
    let std::net::IpAddr::V4(ip) = port.fixed_ips[0].address else { panic!("not IPv4") };
    Port { id: port.id.parse().unwrap(), mac: port.mac.parse().unwrap(), ip }
}

#[test]
fn a_server_is_reached_by_its_floating_ip_as_far_as_its_groups_let() {
    let scene = Scene::new();
    let (port, guest) = scene.server("s1");
    let floating = scene.floating_ip(&port);
    let address = format!("{}:22", floating["floating_ip_address"].as_str().unwrap());
    let listener = guest.listen(22);
    let host = Space::here();
    assert!(host.connect(&address).is_err(), "closed until opened");

    let rule = scene.open(22);
    let client = host.connect_soon(&address);
    let server = accept(&listener);
    assert!(passes(&client, &server) && passes(&server, &client));
    let path = format!("/floatingips/{}", id(&floating));
    let seen = scene.host.wait(scene.cloud.get("admin", &path)).is(200);
    assert_eq!(seen["floatingip"]["status"], "ACTIVE");

    // A new process finds everything as it was and disturbs nobody.
    scene.host.wait(scene.cloud.app.stop());
    let again = App::new(
        scene.cloud.db.clone(),
        db::Clock::default(),
        Options::default(),
        HostSide::Kernel(scene.host.host.clone()),
    );
    scene.host.wait(again.reconcile()).unwrap();
    assert!(passes(&client, &server) && passes(&server, &client), "a restart costs no connection");

    scene.host.wait(scene.cloud.delete("admin", &format!("/security-group-rules/{}", id(&rule)))).is(204);
    scene.host.wait(again.reconcile()).unwrap();
    assert!(!passes(&client, &server), "a flow ends with its rule");
    assert!(host.connect(&address).is_err());
}

#[test]
fn members_of_the_default_group_talk_and_strangers_do_not() {
    let scene = Scene::new();
    let (_, one) = scene.server("s1");
    let (two_port, two) = scene.server("s2");
    let listener = two.listen(80);
    let address = format!("{}:80", at(&two_port).ip);
    let client = one.connect_soon(&address);
    assert!(passes(&client, &accept(&listener)));

    let group = json!({"security_group": {"name": "lonely"}});
    let group = scene.post("/security-groups", group)["security_group"].clone();
    let change = json!({"port": {"security_groups": [group["id"]]}});
    scene.host.wait(scene.cloud.put("admin", &format!("/ports/{}", two_port.id), change)).is(200);
    scene.reconcile();
    assert!(one.connect(&address).is_err());
}

#[test]
fn a_metadata_caller_is_known_by_its_place_and_not_by_its_words() {
    let scene = Scene::new();
    let (port, guest) = scene.server("s1");
    let callers = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&callers);
    scene.cloud.app.set_metadata_handler(Arc::new(move |caller: Caller, request: http::Request<Bytes>| {
        seen.lock().unwrap().push(caller);
        let path = request.uri().path().to_owned();
        Box::pin(async move { http::Response::new(Bytes::from(format!("you asked for {path}"))) })
    }));
    let ask = move || {
        guest.run(|| {
            let mut stream = std::net::TcpStream::connect("169.254.169.254:80").unwrap();
            stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
            let request = "GET /openstack/latest/meta_data.json HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.0.0.99\r\n\
                X-Instance-ID: other\r\nConnection: close\r\n\r\n";
            stream.write_all(request.as_bytes()).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        })
    };
    let text = scene.host.wait(async { tokio::task::spawn_blocking(ask).await.unwrap() });
    assert!(text.ends_with("you asked for /openstack/latest/meta_data.json"), "{text}");
    let callers = callers.lock().unwrap();
    assert_eq!(callers.len(), 1);
    assert_eq!((callers[0].port_id.as_str(), callers[0].device_id.as_str()), (port.id.as_str(), "s1"));
    assert_eq!(callers[0].project_id, "project-root");
    assert_eq!(callers[0].address, port.fixed_ips[0].address);
}

#[test]
fn a_tap_is_handed_out_taken_back_and_nothing_is_left_at_the_end() {
    let scene = Scene::new();
    let port = scene.host.wait(create(&scene.cloud, &scene.private, "s1"));
    let plug = scene.host.wait(peer::plug(&scene.cloud.app, &port.id)).unwrap();
    let observed = scene.host.wait(scene.host.host.observe()).unwrap();
    let name = hostnet::tap_name(at(&port).id);
    assert_eq!(observed.networks[&scene.network_id()].taps, [name.as_str()]);
    assert_eq!(observed.dnsmasq.len(), 1);
    drop(plug);
    scene.host.wait(peer::plug(&scene.cloud.app, &port.id)).unwrap();
    scene.release("s1");
    let observed = scene.host.wait(scene.host.host.observe()).unwrap();
    assert!(observed.networks[&scene.network_id()].taps.is_empty(), "the tap goes with its port");

    let router = scene.host.wait(scene.cloud.list("admin", "routers", ""))[0].clone();
    let subnet = scene.host.wait(scene.cloud.list("admin", "subnets", "?name=private-subnet"))[0].clone();
    let path = format!("/routers/{}", id(&router));
    let interface = json!({"subnet_id": subnet["id"]});
    scene.host.wait(scene.cloud.put("admin", &format!("{path}/remove_router_interface"), interface)).is(200);
    scene.host.wait(scene.cloud.delete("admin", &path)).is(204);
    for name in ["private", "public"] {
        let network = scene.host.wait(scene.cloud.list("admin", "networks", &format!("?name={name}")))[0].clone();
        scene.host.wait(scene.cloud.delete("admin", &format!("/networks/{}", id(&network)))).is(204);
    }
    scene.reconcile();
    let observed = scene.host.wait(scene.host.host.observe()).unwrap();
    assert!(observed.is_empty(), "{observed:?}");
}

//! `/topology`: a picture of the networks, what connects them, and the servers on them; and the same as a list.
//!
//! From left to right: external networks, routers, networks, servers. A network is a band with its servers; of many
//! servers those in trouble are shown and the others counted, so that a picture of hundreds can be read.

use std::collections::{BTreeMap, HashMap};

use askama::Template;
use axum::{Router as Routes, response::Response, routing::get};

use super::{
    lists::{self, Machine},
    model::{Network, Port, Resource, Router, Subnet, label, mood},
    ports::by_name,
};
use crate::{Dashboard, api::encoded, failure::Result, form::Fields, frame::Frame, visit::Visit, words::Words};

pub(super) fn routes() -> Routes<Dashboard> {
    Routes::new().route("/topology", get(show))
}

/// Bands of one picture; the others are told of and linked.
const BANDS_MAX: usize = 150;
/// Servers of one network that have a box each.
const BOXES_MAX: usize = 12;
const COLUMNS: usize = 4;

const WIDTH: i64 = 1360;
const OUTSIDE_X: i64 = 10;
const ROUTER_X: i64 = 230;
const NETWORK_X: i64 = 450;
const SERVER_X: i64 = 680;
const NODE_WIDTH: i64 = 160;
const NETWORK_WIDTH: i64 = 210;
const NODE_HEIGHT: i64 = 46;
const BOX_WIDTH: i64 = 158;
const BOX_HEIGHT: i64 = 30;
const GAP: i64 = 8;

/// A box with a link.
#[derive(Debug)]
struct Node {
    kind: &'static str,
    mood: &'static str,
    href: String,
    x: i64,
    y: i64,
    width: i64,
    height: i64,
    name: String,
    /// A second line.
    note: String,
}

#[derive(Debug)]
struct Edge {
    path: String,
    class: &'static str,
}

#[derive(Debug)]
struct Band {
    y: i64,
    height: i64,
}

/// The picture, in pixels.
#[derive(Debug)]
struct Picture {
    width: i64,
    height: i64,
    bands: Vec<Band>,
    edges: Vec<Edge>,
    nodes: Vec<Node>,
}

/// A network with what is on it.
struct Place {
    network: Network,
    ranges: Vec<String>,
    servers: Vec<Machine>,
}

/// A router with the networks it connects: the network's id, and whether that interface is up.
struct Joint {
    router: Router,
    networks: Vec<(String, bool)>,
}

/// All that is drawn.
struct Scene {
    outside: Vec<Network>,
    joints: Vec<Joint>,
    places: Vec<Place>,
    /// Networks that had no place.
    more: usize,
}

#[derive(Template)]
#[template(path = "topology/index.html")]
struct Page {
    frame: Frame,
    fields: Fields,
    scene: Scene,
    names: HashMap<String, String>,
    picture: Picture,
}

impl Page {
    fn name(&self, id: &str) -> &str {
        self.names.get(id).map_or("?", String::as_str)
    }
}

/// `GET /topology`.
async fn show(visit: Visit, fields: Fields) -> Result<Response> {
    let scene = scene(&visit, fields.on("all")).await?;
    let words = visit.words();
    let outside = scene.outside.iter().map(|network| (network.id.clone(), network.label()));
    let places = scene.places.iter().map(|place| (place.network.id.clone(), place.network.label()));
    visit.page(&Page {
        frame: visit.frame("/topology", words.t("Topology")).live(),
        names: outside.chain(places).collect(),
        picture: draw(words, &scene),
        fields,
        scene,
    })
}

async fn scene(visit: &Visit, everywhere: bool) -> Result<Scene> {
    let only = lists::only_project(visit, everywhere)?;
    let query = only.as_ref().map(|project| format!("?project_id={}", encoded(project))).unwrap_or_default();
    let networks: Vec<Network> = lists::all(&visit.api, "").await?;
    let subnets: Vec<Subnet> = lists::all(&visit.api, "").await?;
    let routers: Vec<Router> = lists::all(&visit.api, &query).await?;
    let mut ports: Vec<Port> = lists::all(&visit.api, "?device_owner=network:router_interface").await?;
    let servers: Vec<Port> = lists::all(&visit.api, &query).await?;
    ports.extend(servers.into_iter().filter(Port::is_of_server));
    let mut machines = lists::machines(visit).await?;
    lists::set_statuses(visit, &mut machines).await?;
    let (outside, inside): (Vec<Network>, Vec<Network>) = networks.into_iter().partition(|network| network.external);
    let inside = by_name(inside)
        .into_iter()
        .filter(|network| only.as_ref().is_none_or(|project| network.project_id == *project) || network.shared);
    let mut ranges: HashMap<String, Vec<String>> = HashMap::new();
    for subnet in subnets {
        ranges.entry(subnet.network_id).or_default().push(subnet.cidr);
    }
    let mut on: HashMap<String, BTreeMap<String, Machine>> = HashMap::new();
    let mut joined: HashMap<String, Vec<(String, bool)>> = HashMap::new();
    for port in ports {
        if port.is_of_server() {
            let machine = machines
                .get(&port.device_id)
                .cloned()
                .unwrap_or_else(|| Machine { id: port.device_id.clone(), ..Machine::default() });
            on.entry(port.network_id).or_default().insert(port.device_id, machine);
        } else {
            joined.entry(port.device_id).or_default().push((port.network_id, port.status == "ACTIVE"));
        }
    }
    let mut places: Vec<Place> = inside
        .map(|network| Place {
            ranges: ranges.remove(&network.id).unwrap_or_default(),
            servers: on.remove(&network.id).map(|servers| servers.into_values().collect()).unwrap_or_default(),
            network,
        })
        .collect();
    let more = places.len().saturating_sub(BANDS_MAX);
    places.truncate(BANDS_MAX);
    let joints = by_name(routers)
        .into_iter()
        .map(|router| Joint { networks: joined.remove(&router.id).unwrap_or_default(), router })
        .collect();
    Ok(Scene { outside: by_name(outside), joints, places, more })
}

/// The boxes of a network's servers: those in trouble first; when they are many, the others counted.
fn boxes(words: Words, place: &Place) -> Vec<(String, String, &'static str)> {
    let mut servers: Vec<&Machine> = place.servers.iter().collect();
    servers.sort_by_cached_key(|server| (server.status == "ACTIVE", server.name.to_lowercase(), server.id.clone()));
    let shown = if servers.len() > BOXES_MAX { BOXES_MAX - 1 } else { servers.len() };
    let mut boxes: Vec<_> = servers
        .iter()
        .take(shown)
        .map(|server| {
            (format!("/servers/{}", encoded(&server.id)), label(&server.name, &server.id), mood(&server.status))
        })
        .collect();
    if servers.len() > shown {
        let rest = &servers[shown..];
        let text =
            if rest.iter().all(|server| server.status == "ACTIVE") { t("{} more, all active") } else { t("{} more") };
        let href = format!("/ports?network={}&user=server", encoded(&place.network.id));
        boxes.push((href, words.fill(text, &[&rest.len()]), "more"));
    }
    boxes
}

const fn t(text: &'static str) -> &'static str {
    text
}

fn pixels(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX / 4096)
}

fn draw(words: Words, scene: &Scene) -> Picture {
    let mut picture = Picture { width: WIDTH, height: 0, bands: Vec::new(), edges: Vec::new(), nodes: Vec::new() };
    let mut middles: HashMap<&str, i64> = HashMap::new();
    let mut y = GAP;
    for place in &scene.places {
        let boxes = boxes(words, place);
        let rows = pixels(boxes.len().div_ceil(COLUMNS)).max(1);
        let height = (rows * (BOX_HEIGHT + GAP) + GAP).max(NODE_HEIGHT + 2 * GAP);
        picture.bands.push(Band { y, height });
        let middle = y + height / 2;
        middles.insert(&place.network.id, middle);
        picture.nodes.push(Node {
            kind: "network",
            mood: place.network.mood(),
            href: format!("/networks/{}", encoded(&place.network.id)),
            x: NETWORK_X,
            y: middle - NODE_HEIGHT / 2,
            width: NETWORK_WIDTH,
            height: NODE_HEIGHT,
            name: place.network.label(),
            note: place.ranges.join(", "),
        });
        let top = y + (height - rows * (BOX_HEIGHT + GAP) + GAP) / 2;
        for (index, (href, name, mood)) in boxes.into_iter().enumerate() {
            let (row, column) = (pixels(index / COLUMNS), pixels(index % COLUMNS));
            picture.nodes.push(Node {
                kind: "server",
                mood,
                href,
                x: SERVER_X + column * (BOX_WIDTH + GAP),
                y: top + row * (BOX_HEIGHT + GAP),
                width: BOX_WIDTH,
                height: BOX_HEIGHT,
                name,
                note: String::new(),
            });
        }
        y += height + GAP;
    }
    let routers = scene.joints.iter().map(|joint| {
        let connected: Vec<i64> =
            joint.networks.iter().filter_map(|(id, _)| middles.get(id.as_str()).copied()).collect();
        (joint, mean(&connected))
    });
    let routers = spread(routers.collect());
    let mut doors: HashMap<&str, Vec<i64>> = HashMap::new();
    for (joint, middle) in &routers {
        let router = &joint.router;
        for (network, is_up) in &joint.networks {
            let Some(to) = middles.get(network.as_str()) else { continue };
            let class = if *is_up && router.admin_state_up { "" } else { "down" };
            picture.edges.push(edge(ROUTER_X + NODE_WIDTH, *middle, NETWORK_X, *to, class));
        }
        if let Some(gateway) = &router.external_gateway_info {
            doors.entry(&gateway.network_id).or_default().push(*middle);
        }
        picture.nodes.push(Node {
            kind: "router",
            mood: router.mood(),
            href: format!("/routers/{}", encoded(&router.id)),
            x: ROUTER_X,
            y: middle - NODE_HEIGHT / 2,
            width: NODE_WIDTH,
            height: NODE_HEIGHT,
            name: router.label(),
            note: router.outside().join(", "),
        });
        y = y.max(middle + NODE_HEIGHT / 2 + GAP);
    }
    let outside =
        scene.outside.iter().map(|network| (network, mean(doors.get(network.id.as_str()).map_or(&[], Vec::as_slice))));
    for (network, middle) in spread(outside.collect()) {
        for from in doors.get(network.id.as_str()).map_or(&[][..], Vec::as_slice) {
            picture.edges.push(edge(OUTSIDE_X + NODE_WIDTH, middle, ROUTER_X, *from, ""));
        }
        picture.nodes.push(Node {
            kind: "outside",
            mood: network.mood(),
            href: format!("/networks/{}", encoded(&network.id)),
            x: OUTSIDE_X,
            y: middle - NODE_HEIGHT / 2,
            width: NODE_WIDTH,
            height: NODE_HEIGHT,
            name: network.label(),
            note: words.t("external").to_owned(),
        });
        y = y.max(middle + NODE_HEIGHT / 2 + GAP);
    }
    picture.height = y;
    picture
}

fn mean(places: &[i64]) -> Option<i64> {
    if places.is_empty() { None } else { Some(places.iter().sum::<i64>() / pixels(places.len())) }
}

/// Middles that are near the wished ones and do not overlap; what wishes nothing comes last.
fn spread<T>(mut things: Vec<(T, Option<i64>)>) -> Vec<(T, i64)> {
    things.sort_by_key(|(_, wish)| wish.unwrap_or(i64::MAX));
    let mut free = GAP + NODE_HEIGHT / 2;
    let mut placed = Vec::with_capacity(things.len());
    for (thing, wish) in things {
        let middle = wish.unwrap_or(free).max(free);
        free = middle + NODE_HEIGHT + GAP;
        placed.push((thing, middle));
    }
    placed
}

fn edge(from_x: i64, from_y: i64, to_x: i64, to_y: i64, class: &'static str) -> Edge {
    let half = i64::midpoint(from_x, to_x);
    Edge { path: format!("M{from_x} {from_y}C{half} {from_y} {half} {to_y} {to_x} {to_y}"), class }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn scene(networks: usize, servers: usize) -> Scene {
        let place = |number: usize| Place {
            network: Network { id: format!("n{number}"), admin_state_up: true, ..Network::default() },
            ranges: vec!["10.0.0.0/24".into()],
            servers: (0..servers)
                .map(|server| Machine {
                    id: format!("s{server}"),
                    name: format!("server {server}"),
                    status: if server == servers - 1 { "ERROR".into() } else { "ACTIVE".into() },
                })
                .collect(),
        };
        let router = Router { id: "r".into(), admin_state_up: true, ..Router::default() };
        Scene {
            outside: vec![Network { id: "x".into(), external: true, ..Network::default() }],
            joints: vec![Joint { router, networks: (0..networks).map(|n| (format!("n{n}"), n > 0)).collect() }],
            places: (0..networks).map(place).collect(),
            more: 0,
        }
    }

    fn words() -> Words {
        Words::of(&HeaderMap::new())
    }

    #[test]
    fn no_box_covers_another_and_all_are_in_the_picture() {
        for (networks, servers) in [(0, 0), (1, 1), (3, 5), (40, 12), (3, 400)] {
            let picture = draw(words(), &scene(networks, servers));
            for (index, one) in picture.nodes.iter().enumerate() {
                assert!(one.x >= 0 && one.x + one.width <= picture.width, "{one:?}");
                assert!(one.y >= 0 && one.y + one.height <= picture.height, "{one:?} {}", picture.height);
                for other in &picture.nodes[index + 1..] {
                    let apart = one.x + one.width <= other.x
                        || other.x + other.width <= one.x
                        || one.y + one.height <= other.y
                        || other.y + other.height <= one.y;
                    assert!(apart, "{one:?} covers {other:?}");
                }
            }
            assert_eq!(picture.edges.len(), networks);
        }
    }

    #[test]
    fn of_many_servers_those_in_trouble_are_shown_and_the_rest_counted() {
        let scene = scene(1, 400);
        let boxes = boxes(words(), &scene.places[0]);
        assert_eq!(boxes.len(), BOXES_MAX);
        assert_eq!((boxes[0].1.as_str(), boxes[0].2), ("server 399", "bad"));
        assert_eq!(boxes[BOXES_MAX - 1].1, "389 more, all active");
    }

    #[test]
    fn an_interface_that_is_down_is_drawn_so() {
        let picture = draw(words(), &scene(2, 0));
        assert_eq!(picture.edges.iter().map(|edge| edge.class).collect::<Vec<_>>(), ["down", ""]);
    }
}

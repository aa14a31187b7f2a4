//! The route table of all services, asked line by line: who may do what, whose things stay hidden, what does not exist.
//! The golden files are made from the answers.

use std::fmt::Write as _;

use http::Method;
use kit::{
    Persona::{self, Admin, Anonymous, Member, Other, Reader},
    Reply, TestCloud, golden,
};
use rest::{Access, RouteInfo, ServiceInfo};
use serde_json::Value;

use crate::world::{About, World, content_type};

/// Writes that a reader may do: they concern the user alone, not the project.
const WRITES_OF_READERS: &[&str] = &[
    // There is nothing to claim here: 404.
    "POST /v1/claim",
    "POST /v3/auth/tokens",
    "POST /v3/users/{user_id}/password",
    // Who comes from an identity provider has no token yet.
    "POST /v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/auth",
    "POST /v3/auth/OS-FEDERATION/websso/{protocol_id}",
    "POST /v3/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/websso",
    "POST /v3/credentials",
    "POST /v2.1/os-keypairs",
    "DELETE /v2.1/os-keypairs/{name}",
    // What is missing here is the token to revoke, and the id of an image.
    "DELETE /v3/auth/tokens",
    "DELETE /v2/images",
];

/// Reads of what does not exist that still have an answer: settings of a project are there before the project uses them.
const ANSWERS_ABOUT_NOTHING: &[&str] = &[
    "GET /v2.1/os-quota-sets/{project_id}",
    "GET /v2.1/os-quota-sets/{project_id}/defaults",
    "GET /v2.1/os-quota-sets/{project_id}/detail",
    "GET /v2.1/os-quota-class-sets/{class}",
    "GET /v2.1/os-simple-tenant-usage/{project_id}",
    // What stands there is a time.
    "GET /v2.1/os-instance_usage_audit_log/{before}",
    "GET /v2.0/quotas/{project_id}",
    "GET /v2.0/quotas/{project_id}/default",
    "GET /v2.0/quotas/{project_id}/details",
    "GET /v2.0/quotas/{project_id}/details.json",
    "GET /v2.0/auto-allocated-topology/{project_id}",
    "GET /allocations/{consumer_uuid}",
    "GET /v3/domains/config/{group}/default",
    "GET /v3/domains/config/{group}/{option}/default",
    "GET /v3/users/{user_id}/credentials/OS-EC2",
    "GET /v3/users/{user_id}/application_credentials",
    "GET /v3/users/{user_id}/access_rules",
    // Who has no token learns of no identity provider: there or not, the answer is the same refusal.
    "GET /v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/auth",
    "GET /v3/auth/OS-FEDERATION/websso/{protocol_id}",
    "GET /v3/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/websso",
    "GET /v3/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/websso/callback",
    // Upstream gives this to the user and to readers of the system, not to administrators of a project.
    "GET /v3/users/{user_id}/access_rules/{access_rule_id}",
];

/// Foreign and absent may be told apart here, as upstream does: their ids are random and cannot be guessed.
const TOLD_APART: &[&str] = &[
    "GET /v3/roles/{role_id}",
    "GET /v3/domains/{domain_id}",
    "GET /v3/users/{user_id}/credentials/OS-EC2/{credential_id}",
    "GET /v3/OS-TRUST/trusts/{trust_id}",
    "GET /v3/OS-TRUST/trusts/{trust_id}/roles",
    "GET /v3/OS-TRUST/trusts/{trust_id}/roles/{role_id}",
];

pub fn table(cloud: &TestCloud, service: &str) -> Vec<(ServiceInfo, RouteInfo)> {
    let mut table: Vec<(ServiceInfo, RouteInfo)> = cloud
        .inner()
        .gateway
        .routes()
        .filter(|(info, _)| service.is_empty() || info.kind == service)
        .map(|(info, route)| (*info, route.clone()))
        .collect();
    // Reads first: a write that succeeds must not change what is read.
    table.sort_by_key(|(info, route)| {
        (info.kind, route.method != Method::GET && route.method != Method::HEAD, route.path)
    });
    table
}

pub fn line(route: &RouteInfo) -> String {
    format!("{} {}", route.method, route.path)
}

fn writes(route: &RouteInfo) -> bool {
    route.method != Method::GET && route.method != Method::HEAD
}

/// Asks one line of the table as `who`, with a valid body where one is taken, at the newest version that has the line.
async fn ask(
    world: &World,
    who: Persona,
    info: &ServiceInfo,
    route: &RouteInfo,
    about: About,
    body: Option<&Value>,
) -> Reply {
    let version = route.until.map_or("latest".to_owned(), |version| version.to_string());
    let client = world.cloud.as_(who);
    let client = if info.microversions.is_some() { client.at(&version) } else { client };
    let url = world.url(info.kind, info.prefix, route.path, about);
    match body {
        Some(body) => {
            let headers = [("content-type", content_type(info.kind, route))];
            client.raw(route.method.clone(), &url, &headers, body.to_string()).await
        }
        None if content_type(info.kind, route) == "application/octet-stream" && writes(route) => {
            let headers = [("content-type", content_type(info.kind, route))];
            client.raw(route.method.clone(), &url, &headers, "x").await
        }
        None => client.send(route.method.clone(), &url, &Value::Null).await,
    }
}

#[tokio::test]
async fn public_routes_golden() {
    let cloud = TestCloud::start().await;
    let mut text = String::from("# Routes that need no token, or no rule. This list only shrinks.\n");
    for (info, route) in table(&cloud, "") {
        let why = match route.access {
            Access::Public => "no token",
            Access::Token => "any token",
            Access::Ruled if route.rules.is_empty() => "rule chosen by the handler",
            Access::Ruled => continue,
        };
        writeln!(text, "{:9} {:55} {why}", info.kind, line(&route)).unwrap();
    }
    golden("public-routes.txt", &text);
}

#[tokio::test]
async fn no_route_but_a_public_one_answers_without_a_token_or_with_a_wrong_one() {
    let cloud = TestCloud::start().await;
    let forged = "gAAAAABmAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for (info, route) in table(&cloud, "") {
        let version = route.until.map_or("latest".to_owned(), |version| version.to_string());
        let url = format!("{}{}", info.prefix, route.path.replace(['{', '}'], ""));
        let public = route.access == Access::Public;
        for client in [cloud.as_(Anonymous), cloud.with_token(forged), cloud.with_token("")] {
            let client = if info.microversions.is_some() { client.at(&version) } else { client };
            let reply = client.send(route.method.clone(), &url, &Value::Null).await;
            assert!(public || reply.status == 401, "{reply}");
        }
        // Nothing that a client says about itself is believed.
        let lies =
            [("x-roles", "admin"), ("x-user-id", "x"), ("x-project-id", "y"), ("x-identity-status", "Confirmed")];
        let client = cloud.as_(Anonymous);
        let client = if info.microversions.is_some() { client.at(&version) } else { client };
        let reply = client.raw(route.method.clone(), &url, &lies, "").await;
        assert!(public || reply.status == 401, "{reply}");
    }
}

#[tokio::test]
async fn the_tables_are_sound() {
    let cloud = TestCloud::start().await;
    let mut seen = std::collections::BTreeSet::new();
    for (info, route) in table(&cloud, "") {
        let name = format!("{} {}", info.kind, line(&route));
        assert!(seen.insert(name.clone()), "{name} is there twice");
        for rule in &route.rules {
            assert!(!rule.name.is_empty() && !rule.description.is_empty(), "{name} has a rule without a name");
        }
        if let Some(range) = info.microversions {
            let (since, until) = (route.since.unwrap_or(range.min), route.until.unwrap_or(range.max));
            assert!(
                range.min <= since && since <= until && until <= range.max,
                "{name} is there from {since} to {until}"
            );
        } else {
            assert!(route.since.is_none() && route.until.is_none(), "{name} has versions, its service has none");
        }
    }
}

#[tokio::test]
async fn every_microversion_between_the_announced_ends_is_honoured_and_none_beyond() {
    let cloud = TestCloud::start().await;
    for (service, list) in [("compute", "/compute/v2.1/flavors"), ("placement", "/placement/resource_providers")] {
        let document = cloud.as_(Anonymous).get(&format!("/{service}/")).await.expect(200);
        // Oldest first.
        let current = document["versions"].as_array().unwrap().last().unwrap();
        // Compute calls the greatest `version`, Placement `max_version`.
        let greatest = current.get("max_version").unwrap_or(&current["version"]);
        let (least, most) = (number(&current["min_version"]), number(greatest));
        assert_eq!(least.0, most.0);
        for minor in least.1..=most.1 {
            cloud.as_(Admin).at(&format!("{}.{minor}", least.0)).get(list).await.expect(200);
        }
        let reply = cloud.as_(Admin).at("latest").get(list).await;
        assert_eq!(reply.header("openstack-api-version").unwrap(), format!("{service} {}.{}", most.0, most.1));
        for beyond in [format!("{}.{}", most.0, most.1 + 1), format!("{}.0", most.0 + 1), "0.9".to_owned()] {
            let reply = cloud.as_(Admin).at(&beyond).get(list).await;
            assert!(reply.to_string().contains(&format!("{}.{}", most.0, most.1)), "{reply}");
            reply.refused(406);
        }
        for nonsense in ["2", "2.x", "-2.1", "2.01", "two", "2.1.1", "99999999999999999999.1"] {
            cloud.as_(Admin).at(nonsense).get(list).await.refused(400);
        }
    }
}

fn number(text: &Value) -> (u32, u32) {
    let (major, minor) = text.as_str().unwrap().split_once('.').unwrap();
    (major.parse().unwrap(), minor.parse().unwrap())
}

/// Everybody asks every line. Those without power over the project ask about what is there, so that what they get
/// would show; those with power ask about what is not, so that nothing breaks.
async fn access(service: &'static str) {
    let world = World::new().await;
    let mut text = String::from(
        "# Who gets what from every route: those left of | about what is there, right of it about what is not.\n",
    );
    let mut wrong = Vec::new();
    for (info, route) in table(&world.cloud, service) {
        let name = line(&route);
        let body = world.sample(service, &route).await;
        write!(text, "{name:75}").unwrap();
        for who in Persona::ALL {
            if who == Member {
                text.push_str(" |");
            }
            let about = if matches!(who, Member | Persona::Manager | Admin) { About::Absent } else { About::There };
            let reply = ask(&world, who, &info, &route, about, body.as_ref()).await;
            write!(text, " {}={}", who.name(), reply.status.as_u16()).unwrap();
            let mine = WRITES_OF_READERS.contains(&name.as_str());
            // Nothing is written where nothing is any more (410).
            if who == Reader && writes(&route) && !mine && reply.status != 403 && reply.status != 410 {
                wrong.push(format!("a reader writes: {reply}"));
            }
            if who == Anonymous && route.access != Access::Public && reply.status != 401 {
                wrong.push(format!("nobody knows who asks: {reply}"));
            }
        }
        text.push('\n');
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    golden(&format!("access-{service}.txt"), &text);
}

#[tokio::test]
async fn access_to_compute_golden() {
    access("compute").await;
}

#[tokio::test]
async fn access_to_network_golden() {
    access("network").await;
}

#[tokio::test]
async fn access_to_images_golden() {
    access("image").await;
}

#[tokio::test]
async fn access_to_placement_golden() {
    access("placement").await;
}

#[tokio::test]
async fn access_to_identity_golden() {
    access("identity").await;
}

#[tokio::test]
async fn access_to_solostack_golden() {
    access("solostack").await;
}

/// Another project sees no row of this one in any list, and cannot tell what is there from what is not.
async fn tenants(service: &'static str) {
    let world = World::new().await;
    let marks = world.marks();
    let mut wrong = Vec::new();
    for (info, route) in table(&world.cloud, service) {
        if writes(&route) {
            continue;
        }
        let there = ask(&world, Other, &info, &route, About::There, None).await;
        let text = String::from_utf8_lossy(&there.bytes).into_owned();
        if !route.path.contains('{') {
            for mark in &marks {
                if text.contains(mark.as_str()) {
                    wrong.push(format!("{} shows {mark} to another project", line(&route)));
                }
            }
            continue;
        }
        let absent = ask(&world, Other, &info, &route, About::Absent, None).await;
        let shared = there.status.is_success() && !marks.iter().any(|mark| text.contains(mark.as_str()));
        let shared = shared || TOLD_APART.contains(&line(&route).as_str());
        if !shared && there.status != absent.status {
            wrong.push(format!("foreign and absent differ:\n  {there}\n  {absent}"));
        }
        let (there_url, absent_url) = (
            world.url(service, info.prefix, route.path, About::There),
            world.url(service, info.prefix, route.path, About::Absent),
        );
        let told = |reply: &Reply, url: &str| {
            url.split('/').filter(|segment| segment.len() > 5).fold(reply.message(), |text, id| text.replace(id, "?"))
        };
        if !shared && told(&there, &there_url) != told(&absent, &absent_url) {
            wrong.push(format!("foreign and absent are told apart:\n  {there}\n  {absent}"));
        }
        // The administrator is told plainly what does not exist.
        let admin = ask(&world, Admin, &info, &route, About::Absent, None).await;
        // What was removed is gone for every name (410).
        if !matches!(admin.status.as_u16(), 404 | 410) && !ANSWERS_ABOUT_NOTHING.contains(&line(&route).as_str()) {
            wrong.push(format!("not 404: {admin}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn tenants_of_compute_see_nothing_of_each_other() {
    tenants("compute").await;
}

#[tokio::test]
async fn tenants_of_network_see_nothing_of_each_other() {
    tenants("network").await;
}

#[tokio::test]
async fn tenants_of_images_see_nothing_of_each_other() {
    tenants("image").await;
}

#[tokio::test]
async fn tenants_of_placement_see_nothing_of_each_other() {
    tenants("placement").await;
}

#[tokio::test]
async fn tenants_of_identity_see_nothing_of_each_other() {
    tenants("identity").await;
}

#[tokio::test]
async fn tenants_of_solostack_see_nothing_of_each_other() {
    tenants("solostack").await;
}

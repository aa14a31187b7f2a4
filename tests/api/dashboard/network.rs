//! The network's pages: journeys by forms, as anybody goes them.

use http::StatusCode;
use kit::{Browser, Persona, TestCloud};
use serde_json::json;

/// The value behind `before` on the page, up to the next quote.
fn value<'p>(page: &'p str, before: &str) -> &'p str {
    let (_, rest) = page.split_once(before).unwrap_or_else(|| panic!("the page has no {before}: {page}"));
    rest.split(['"', '?', '/']).next().unwrap()
}

/// The last part of the path that the browser is at.
fn id(browser: &Browser<'_>) -> String {
    browser.path.rsplit('/').next().unwrap().to_owned()
}

async fn network(browser: &mut Browser<'_>, name: &str) -> String {
    browser.open("/networks/new").await;
    let range = format!("10.{}.0.0/24", 60 + name.len());
    let fields = [("name", name), ("subnet", "1"), ("cidr", &range), ("dhcp", "1"), ("port_security", "1")];
    browser.submit("/networks/new", &fields).await;
    browser.says("The network is made.");
    id(browser)
}

#[tokio::test]
async fn a_network_is_made_with_its_subnet_changed_and_deleted_by_forms() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Persona::Member).await;
    browser.open("/networks").await;
    browser.says("New network").says("public").says("Quota: 0 of 100 used, 100 left");
    browser.open("/networks/new").await;
    assert!(browser.page.contains("name=\"cidr\" value=\"10."), "a range is proposed: {}", browser.page);
    let fields = [
        ("name", "lab"),
        ("subnet", "1"),
        ("cidr", "10.77.0.0/24"),
        ("dhcp", "1"),
        ("port_security", "1"),
        ("dns", "9.9.9.9 1.1.1.1"),
        ("pools", "10.77.0.50 - 10.77.0.99"),
        ("routes", "192.168.9.0/24 via 10.77.0.7"),
    ];
    browser.submit("/networks/new", &fields).await;
    browser.says("The network is made.").says("lab").says("10.77.0.0/24").says("10.77.0.50 – 10.77.0.99");
    let lab = id(&browser);
    browser.open(&format!("/networks/{lab}/edit")).await;
    let fields = [("name", "lab2"), ("up", "1"), ("port_security", "1"), ("mtu", "1400"), ("description", "for tests")];
    browser.submit(&format!("/networks/{lab}/edit"), &fields).await;
    browser.says("The network is changed.").says("lab2").says("1400").says("for tests");
    browser.open(&format!("/networks/{lab}/subnets/new")).await;
    browser
        .submit(&format!("/networks/{lab}/subnets/new"), &[("cidr", "fd77::/64"), ("name", "six"), ("dhcp", "1")])
        .await;
    browser.says("The subnet is made.").says("fd77::/64");
    let subnet = value(&browser.page, "href=\"/subnets/").to_owned();
    browser.open(&format!("/subnets/{subnet}")).await;
    browser.submit(&format!("/subnets/{subnet}"), &[("name", "renamed"), ("no_gateway", "1")]).await;
    browser.says("The subnet is changed.").says("renamed");
    let fields = [("verb", "delete"), ("id", lab.as_str()), ("back", "/networks"), ("stay", "/networks")];
    browser.submit("/networks/actions", &fields).await;
    browser.says("Delete: lab2 – done");
    browser.open(&format!("/networks/{lab}")).await;
    assert_eq!(browser.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_network_whose_subnet_is_refused_is_not_there_and_the_form_keeps_its_input() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Persona::Member).await;
    browser.open("/networks/new").await;
    let fields = [("name", "half"), ("subnet", "1"), ("cidr", "10.5.0.0/99"), ("description", "kept as typed")];
    browser.submit("/networks/new", &fields).await;
    assert_eq!(browser.status, StatusCode::BAD_REQUEST);
    browser.says("10.5.0.0/99");
    assert!(browser.page.contains("value=\"kept as typed\"") && browser.page.contains("value=\"10.5.0.0/99\""));
    browser
        .submit("/networks/new", &[("name", "half"), ("subnet", "1"), ("cidr", "10.5.0.0/24"), ("pools", "10.5.0.9")])
        .await;
    browser.says("A pool is written as first - last address; this is not: 10.5.0.9");
    browser.open("/networks?name=half").await;
    browser.says("No network is like that.");
}

#[tokio::test]
async fn hostile_names_stay_text_on_every_page_of_the_network() {
    let cloud = TestCloud::start().await;
    let name = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}";
    let member = cloud.as_(Persona::Member);
    let made = member.post("/network/v2.0/networks", json!({"network": {"name": name, "description": name}})).await;
    let network = made.expect(201)["network"]["id"].as_str().unwrap().to_owned();
    let subnet = json!({"subnet": {"name": name, "network_id": network, "ip_version": 4, "cidr": "10.9.0.0/24"}});
    member.post("/network/v2.0/subnets", subnet).await.expect(201);
    let port = json!({"port": {"name": name, "network_id": network, "description": name}});
    let port = member.post("/network/v2.0/ports", port).await.expect(201)["port"]["id"].as_str().unwrap().to_owned();
    let router = member.post("/network/v2.0/routers", json!({"router": {"name": name}})).await;
    let router = router.expect(201)["router"]["id"].as_str().unwrap().to_owned();
    let group = member.post("/network/v2.0/security-groups", json!({"security_group": {"name": name}})).await;
    let group = group.expect(201)["security_group"]["id"].as_str().unwrap().to_owned();
    let mut browser = Browser::signed_in(&cloud, Persona::Member).await;
    for path in [
        "/networks".to_owned(),
        format!("/networks/{network}"),
        format!("/networks/{network}/edit"),
        "/ports".to_owned(),
        format!("/ports/{port}"),
        format!("/ports/{port}/edit"),
        "/ports/new".to_owned(),
        "/routers".to_owned(),
        format!("/routers/{router}"),
        "/routers/new".to_owned(),
        "/floating-ips/new".to_owned(),
        "/security-groups".to_owned(),
        format!("/security-groups/{group}"),
        "/topology".to_owned(),
    ] {
        browser.open(&path).await;
        assert_eq!(browser.status, StatusCode::OK, "{path}");
        assert!(!browser.page.contains("<script>alert") && !browser.page.contains("<img src=x"), "{path}");
        assert!(!browser.page.contains("style=\""), "{path}");
        browser.says("<script>alert(1)</script>");
    }
}

#[tokio::test]
async fn what_is_of_another_project_is_not_there() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Persona::Member).await;
    let network = network(&mut browser, "mine").await;
    browser.open("/routers/new").await;
    browser.submit("/routers/new", &[("name", "r")]).await;
    let router = id(&browser);
    browser.open("/ports/new").await;
    browser.submit("/ports/new", &[("network", &network), ("name", "p"), ("up", "1"), ("port_security", "1")]).await;
    let port = id(&browser);
    let mut other = Browser::signed_in(&cloud, Persona::Other).await;
    for path in [
        format!("/networks/{network}"),
        format!("/networks/{network}/edit"),
        format!("/routers/{router}"),
        format!("/ports/{port}"),
        "/floating-ips/00000000-0000-4000-8000-000000000000".to_owned(),
        "/security-groups/00000000-0000-4000-8000-000000000000".to_owned(),
        "/networks/..%2F..%2Fidentity".to_owned(),
    ] {
        other.open(&path).await;
        assert_eq!(other.status, StatusCode::NOT_FOUND, "{path}: {}", other.text());
    }
    other.open("/networks").await;
    assert!(!other.page.contains(&network));
    let csrf = other.csrf().unwrap();
    let body = format!("_csrf={csrf}&verb=delete&id={network}");
    other.send("/networks/actions", "application/x-www-form-urlencoded", body).await;
    other.says("Delete: 0 done, 1 refused").says("could not be found");
}

#[tokio::test]
async fn a_reader_sees_and_is_told_what_changing_takes() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Persona::Reader).await;
    browser.open("/networks/new").await;
    browser.says("You may look and not change: that takes the role member.");
    browser.submit("/networks/new", &[("name", "x")]).await;
    assert_eq!(browser.status, StatusCode::FORBIDDEN);
    browser.says("The rule create_network refuses this.").says("member");
}

#[tokio::test]
async fn a_port_says_why_it_is_down_and_is_changed_by_its_form() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Persona::Member).await;
    let network = network(&mut browser, "ports").await;
    browser.open(&format!("/ports/new?network={network}")).await;
    let fields = [
        ("network", network.as_str()),
        ("name", "vip"),
        ("up", "1"),
        ("port_security", "1"),
        ("fixed_ips", "10.65.0.20"),
        ("pairs", "10.65.0.200"),
    ];
    browser.submit("/ports/new", &fields).await;
    browser.says("The port is made.").says("10.65.0.20").says("10.65.0.200").says("No server is attached to it.");
    let port = id(&browser);
    browser.open(&format!("/ports/{port}/edit")).await;
    let fields = [("name", "vip2"), ("fixed_ips", "10.65.0.21"), ("was_fixed_ips", "10.65.0.20"), ("no_groups", "1")];
    browser.submit(&format!("/ports/{port}/edit"), &fields).await;
    browser.says("vip2").says("10.65.0.21").says("It is switched off (admin state down).");
    browser.open(&format!("/ports/{port}/edit")).await;
    browser.submit(&format!("/ports/{port}/edit"), &[("name", "x"), ("fixed_ips", "nowhere"), ("up", "1")]).await;
    browser.says("This is neither an address nor a subnet of the network: nowhere");
    browser.open("/ports?name=VIP2").await;
    browser.says("vip2");
    browser
        .submit("/ports/actions", &[("verb", "delete"), ("id", &port), ("id", "nonsense"), ("back", "/ports")])
        .await;
    browser.says("Delete: 1 done, 1 refused").says("nonsense");
}

#[tokio::test]
async fn a_router_leads_outside_and_a_floating_ip_to_a_port() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Persona::Member).await;
    let network = network(&mut browser, "inside").await;
    browser.open("/ports/new").await;
    browser.submit("/ports/new", &[("network", &network), ("name", "web"), ("up", "1"), ("port_security", "1")]).await;
    let port = id(&browser);
    browser.open("/floating-ips/new").await;
    browser.says("web").says("no router leads from there to the external network");
    let outside = value(&browser.page, "<select name=\"network\"><option value=\"").to_owned();
    browser.open("/routers/new").await;
    let subnet = value(&browser.page, "name=\"subnet\" value=\"").to_owned();
    browser.submit("/routers/new", &[("name", "door"), ("gateway", &outside), ("subnet", &subnet)]).await;
    browser.says("The router is made.").says("door").says("public").says("inside");
    let router = id(&browser);
    browser.open("/floating-ips/new").await;
    browser.submit("/floating-ips/new", &[("network", &outside), ("port", &port)]).await;
    browser.says("The floating IP").says("web");
    let (_, rest) = browser.page.split_once("id=\"ip-").unwrap();
    let ip = rest.split('"').next().unwrap().to_owned();
    let change = format!("/routers/{router}/change");
    browser.open(&format!("/routers/{router}")).await;
    browser.submit(&change, &[("what", "clear-gateway")]).await;
    assert_eq!(browser.status, StatusCode::CONFLICT);
    browser.says("is required by one or more floating IPs");
    browser.submit(&change, &[("what", "add-route"), ("route", "192.168.9.0/24 via 172.31.0.1")]).await;
    browser.says("the nexthop is not connected with router");
    browser.submit(&change, &[("what", "add-route"), ("route", "192.168.9.0/24 via 10.66.0.77")]).await;
    browser.says("The router is changed.").says("192.168.9.0/24");
    browser.submit(&change, &[("what", "remove-route"), ("route", "192.168.9.0/24 via 10.66.0.77")]).await;
    browser.says("There is none: the router knows its own networks and its gateway.");
    browser.open(&format!("/floating-ips/{ip}")).await;
    let fields = [("verb", "disassociate"), ("id", ip.as_str()), ("back", "/floating-ips")];
    browser.submit("/floating-ips/actions", &fields).await;
    browser.says("– done").says("nothing");
    let fields = [("verb", "delete"), ("id", ip.as_str()), ("back", "/floating-ips")];
    browser.submit("/floating-ips/actions", &fields).await;
    browser.says("There is no floating IP yet.");
    browser.open(&format!("/routers/{router}")).await;
    let interface = value(&browser.page, "id=\"interface-").to_owned();
    browser.submit(&change, &[("what", "disconnect"), ("port", &interface)]).await;
    browser.says("It connects no network yet.");
    browser.submit(&change, &[("what", "clear-gateway")]).await;
    browser.says("no gateway: nothing leads outside");
    browser.submit("/routers/actions", &[("verb", "delete"), ("id", &router), ("back", "/routers")]).await;
    browser.says("There is no router yet.");
}

#[tokio::test]
async fn a_security_group_is_told_in_words_and_the_simulator_names_the_rule() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Persona::Member).await;
    browser.open("/security-groups").await;
    browser.says("default").says("What no rule allows is denied");
    browser.submit("/security-groups", &[("name", "web"), ("description", "for web servers")]).await;
    browser.says("The group is made.").says("Nothing but answers: no rule lets anything in.");
    browser.says("Anything to anywhere (IPv4) may go out");
    let group = id(&browser);
    let change = format!("/security-groups/{group}/change");
    browser.submit(&change, &[("what", "preset"), ("preset", "ssh"), ("source", "192.0.2.0/24")]).await;
    browser.says("TCP 22 from 192.0.2.0/24 may come in");
    browser.submit(&change, &[("what", "preset"), ("preset", "ping")]).await;
    browser.says("ICMP (ping and errors) from anywhere (IPv4) may come in").says("anywhere (IPv6)");
    browser.submit(&change, &[("what", "preset"), ("preset", "group")]).await;
    browser.says("Anything from members of this group may come in");
    let fields = [("what", "add"), ("direction", "ingress"), ("protocol", "tcp"), ("ports", "8000-8100")];
    browser.submit(&change, &fields).await;
    browser.says("TCP 8000 to 8100 from anywhere (IPv4) may come in");
    browser.submit(&change, &fields).await;
    assert_eq!(browser.status, StatusCode::CONFLICT);
    assert!(browser.page.contains("value=\"8000-8100\""), "the form keeps its input");
    browser.submit(&change, &[("what", "add"), ("protocol", "tcp"), ("ports", "many")]).await;
    browser.says("Ports are a number or a range such as 80-443; this is not: many");

    let simulator = format!("/security-groups/simulator?group={group}&protocol=tcp");
    browser.open(&format!("{simulator}&remote=192.0.2.9&number=22")).await;
    browser.says("Allowed by:").says("TCP 22 from 192.0.2.0/24 may come in");
    browser.open(&format!("{simulator}&remote=198.51.100.1&number=22")).await;
    browser.says("Denied: no rule lets it come in");
    browser.open(&format!("{simulator}&remote=198.51.100.1&number=22&direction=egress")).await;
    browser.says("Anything to anywhere (IPv4) may go out");
    browser.open(&format!("/security-groups/simulator?group={group}&protocol=icmp&remote=2001:db8::1")).await;
    browser.says("Allowed by:").says("anywhere (IPv6)");
    browser.open(&format!("{simulator}&remote=%3Cscript%3E&number=22")).await;
    browser.says("The other end is one address");
    browser.open(&format!("{simulator}&remote=192.0.2.9")).await;
    browser.says("Give the port.");

    browser.open(&format!("/security-groups/{group}")).await;
    let (_, rest) = browser.page.split_once("id=\"rule-").unwrap();
    let rule = rest.split('"').next().unwrap().to_owned();
    browser.submit(&change, &[("what", "remove"), ("rule", &rule)]).await;
    browser.says("The rule is removed.");
    let fields = [("verb", "delete"), ("id", group.as_str()), ("back", "/security-groups")];
    browser.submit("/security-groups/actions", &fields).await;
    browser.says("Delete: web – done");
}

#[tokio::test]
async fn a_port_is_judged_by_all_its_groups_and_their_members() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Persona::Member).await;
    let network = network(&mut browser, "sim").await;
    browser.open("/ports/new").await;
    let fields = [
        ("network", network.as_str()),
        ("name", "one"),
        ("up", "1"),
        ("port_security", "1"),
        ("fixed_ips", "10.63.0.20"),
    ];
    browser.submit("/ports/new", &fields).await;
    let port = id(&browser);
    let simulator = format!("/security-groups/simulator?port={port}&protocol=udp&number=9999");
    // The default group lets its own members in: the port itself is one.
    browser.open(&format!("{simulator}&remote=10.63.0.20")).await;
    browser.says("Allowed by:").says("Anything from members of default may come in");
    browser.open(&format!("{simulator}&remote=10.63.0.21")).await;
    browser.says("Denied: no rule lets it come in");
    browser.open(&format!("/ports/{port}/edit")).await;
    browser
        .submit(
            &format!("/ports/{port}/edit"),
            &[
                ("name", "one"),
                ("up", "1"),
                ("was_port_security", "1"),
                ("fixed_ips", "10.63.0.20"),
                ("was_fixed_ips", "10.63.0.20"),
            ],
        )
        .await;
    browser.says("off: it may send anything");
    browser.open(&format!("{simulator}&remote=10.63.0.21")).await;
    browser.says("Allowed: port security is off");
}

#[tokio::test]
async fn the_topology_shows_networks_routers_and_outside_and_links_them() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Persona::Admin).await;
    browser.open("/topology").await;
    assert_eq!(browser.status, StatusCode::OK);
    browser.says("As a list").says("leads to public").says("connects private").says("private").says("router1");
    assert!(browser.page.contains("<svg class=\"topology\"") && browser.page.contains("<a href=\"/routers/"));
    let mut browser = Browser::signed_in(&cloud, Persona::Member).await;
    browser.open("/topology").await;
    browser.says("There is no network yet.").says("public");
    assert!(!browser.page.contains("router1"), "another project's router is not shown");
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_said_before_and_after() {
    let cloud = TestCloud::start().await;
    let mut browser = Browser::signed_in(&cloud, Persona::Member).await;
    let project = cloud.as_(Persona::Member).get("/network/v2.0/quotas/project").await.expect(200);
    let project = project["tenant"]["project_id"].as_str().unwrap().to_owned();
    let path = format!("/network/v2.0/quotas/{project}");
    cloud.as_(Persona::Admin).put(&path, json!({"quota": {"router": 0}})).await.expect(200);
    browser.open("/routers").await;
    browser.says("Quota: 0 of 0 used, 0 left");
    assert!(browser.page.contains("disabled title=\"The quota is used up.\""), "{}", browser.page);
    browser.open("/routers/new").await;
    browser.submit("/routers/new", &[("name", "one too many")]).await;
    browser.says("Quota exceeded for resources: ['router'].");
    assert!(browser.page.contains("value=\"one too many\""));
}

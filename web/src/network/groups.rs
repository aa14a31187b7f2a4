//! `/security-groups`: rules in plain words, the usual ones by one click, and a simulator that says what gets through.

use std::{collections::HashMap, net::IpAddr};

use askama::Template;
use axum::{
    Router as Routes,
    extract::Path,
    response::Response,
    routing::{get, post},
};
use serde_json::{Value, json};

use super::{
    addresses::range,
    bulk::{self, Act, Verb},
    lists::{self, Left, Rows},
    model::{Group, Port, Resource, Rule},
    ports::by_name,
    simulator::{self, Members, Packet},
};
use crate::{
    Dashboard,
    api::{Service, encoded},
    failure::{Failure, Result},
    form::Fields,
    frame::Frame,
    visit::Visit,
    words::Words,
};

pub(super) fn routes() -> Routes<Dashboard> {
    Routes::new()
        .route("/security-groups", get(index).post(create))
        .route("/security-groups/actions", post(actions))
        .route("/security-groups/simulator", get(simulate))
        .route("/security-groups/{id}", get(one))
        .route("/security-groups/{id}/change", post(change))
}

const fn t(text: &'static str) -> &'static str {
    text
}

const VERBS: &[Verb] = &[Verb {
    name: "delete",
    label: t("Delete"),
    question: t("Delete the marked groups with their rules? Groups that ports use are kept."),
    act: Act::Delete,
}];

/// A rule that is added by one click.
struct Preset {
    name: &'static str,
    label: &'static str,
    protocol: Option<&'static str>,
    ports: Option<(i64, i64)>,
    both: bool,
}

const fn preset(
    name: &'static str,
    label: &'static str,
    protocol: Option<&'static str>,
    ports: Option<(i64, i64)>,
) -> Preset {
    Preset { name, label, protocol, ports, both: true }
}

const PRESETS: &[Preset] = &[
    preset("ssh", t("SSH (TCP 22)"), Some("tcp"), Some((22, 22))),
    preset("http", t("HTTP (TCP 80)"), Some("tcp"), Some((80, 80))),
    preset("https", t("HTTPS (TCP 443)"), Some("tcp"), Some((443, 443))),
    Preset { name: "ping", label: t("Ping (ICMP)"), protocol: Some("icmp"), ports: None, both: true },
    preset("dns", t("DNS (UDP 53)"), Some("udp"), Some((53, 53))),
    preset("rdp", t("Remote desktop (TCP 3389)"), Some("tcp"), Some((3389, 3389))),
    preset("postgres", t("PostgreSQL (TCP 5432)"), Some("tcp"), Some((5432, 5432))),
    preset("mysql", t("MySQL (TCP 3306)"), Some("tcp"), Some((3306, 3306))),
];

struct Row {
    group: Group,
    incoming: usize,
    outgoing: usize,
    blocked: Option<String>,
}

#[derive(Template)]
#[template(path = "security-groups/index.html")]
struct Index {
    frame: Frame,
    fields: Fields,
    rows: Vec<Row>,
    next: Option<String>,
    verbs: &'static [Verb],
    left: Option<Left>,
    blocked: Option<String>,
}

/// `GET /security-groups`.
async fn index(visit: Visit, fields: Fields) -> Result<Response> {
    list(visit, fields, None).await
}

async fn list(visit: Visit, fields: Fields, failure: Option<&Failure>) -> Result<Response> {
    let wanted = fields.get("q");
    let query = lists::only_project_filter(&visit, fields.on("all"))?;
    let keep = |group: &Group| lists::matches(wanted, &[&group.name, &group.id, &group.description]);
    let Rows { rows, next } = lists::page(&visit.api, &query, fields.get("marker"), !wanted.is_empty(), keep).await?;
    let rows = rows.into_iter().map(|group: Group| {
        let incoming = group.security_group_rules.iter().filter(|rule| rule.direction == "ingress").count();
        let outgoing = group.security_group_rules.len() - incoming;
        let mut blocked = bulk::blocked(&visit, &group.project_id)?;
        if group.is_default() {
            let text = visit.words().t("Every project has a default group; it cannot be deleted.").to_owned();
            blocked = blocked.or(Some(text));
        }
        Ok(Row { group, incoming, outgoing, blocked })
    });
    let rows = rows.collect::<Result<Vec<Row>>>()?;
    let [left] = lists::quota(&visit, ["security_group"]).await?;
    let mut frame = visit.frame("/security-groups", visit.words().t("Security groups"));
    frame = match failure {
        Some(failure) => frame.with_problem(failure),
        None => frame.live(),
    };
    let page = Index {
        frame,
        next: next.map(|marker| format!("/security-groups?{}", fields.after(&marker))),
        rows,
        verbs: VERBS,
        left,
        blocked: bulk::only_reads(&visit)?,
        fields,
    };
    match failure {
        None => visit.page(&page),
        Some(failure) => visit.again(failure, &page),
    }
}

/// `POST /security-groups`.
async fn create(visit: Visit, fields: Fields) -> Result<Response> {
    let body = json!({"security_group": {"name": fields.get("name"), "description": fields.get("description")}});
    let result = if fields.on("name") {
        visit.api.post(Service::Network, Group::PATH, &body).await
    } else {
        Err(Failure::bad_request(visit.words().t("Give the group a name.")))
    };
    match result {
        Ok(made) => {
            let id = made["security_group"]["id"].as_str().unwrap_or_default().to_owned();
            let text = visit.words().t("The group is made. Now say what may come in.");
            visit.done(&format!("/security-groups/{}", encoded(&id)), text).await
        }
        Err(failure) if failure.is_users() => list(visit, fields, Some(&failure)).await,
        Err(failure) => Err(failure),
    }
}

/// `POST /security-groups/actions`.
async fn actions(visit: Visit, fields: Fields) -> Result<Response> {
    bulk::many::<Group>(visit, fields, VERBS, "/security-groups").await
}

/// The protocol and its ports, in words.
fn what(words: Words, rule: &Rule) -> String {
    let Some(text) = rule.protocol.as_deref() else { return words.t("Anything").to_owned() };
    let number = simulator::protocol(text);
    let ports = (rule.port_range_min, rule.port_range_max);
    match (number, ports) {
        (Some(0), _) => words.t("Anything").to_owned(),
        (Some(number), (Some(min), Some(max))) if simulator::has_ports(number) => {
            let name = text.to_uppercase();
            if min == max { format!("{name} {min}") } else { words.fill("{} {} to {}", &[&name, &min, &max]) }
        }
        (Some(number), _) if simulator::has_ports(number) => words.fill("{}, every port", &[&text.to_uppercase()]),
        (Some(1 | 58), (Some(8 | 128), _)) => words.t("Ping").to_owned(),
        (Some(1 | 58), (None, _)) => words.t("ICMP (ping and errors)").to_owned(),
        (Some(1 | 58), (Some(kind), None)) => words.fill("ICMP of type {}", &[&kind]),
        (Some(1 | 58), (Some(kind), Some(code))) => words.fill("ICMP of type {}, code {}", &[&kind, &code]),
        (Some(number), _) if text.parse::<u8>().is_ok() => words.fill("Protocol {}", &[&number]),
        _ => text.to_uppercase(),
    }
}

/// The other end, in words.
fn whom(words: Words, rule: &Rule, groups: &HashMap<String, String>, here: &str) -> String {
    let everywhere = |prefix: &str| matches!(prefix, "0.0.0.0/0" | "::/0");
    match (&rule.remote_group_id, rule.remote_ip_prefix.as_deref()) {
        (Some(id), _) if id == here => words.t("members of this group").to_owned(),
        (Some(id), _) => match groups.get(id) {
            Some(name) => words.fill("members of {}", &[name]),
            None => words.fill("members of the group {}", &[id]),
        },
        (None, Some(prefix)) if !everywhere(prefix) => prefix.to_owned(),
        _ => words.fill("anywhere ({})", &[&rule.ethertype]),
    }
}

/// A rule as a sentence: `TCP 22 from anywhere (IPv4) may come in`. `here` is the group on whose page it is said.
fn sentence(words: Words, rule: &Rule, groups: &HashMap<String, String>, here: &str) -> String {
    let (what, whom) = (what(words, rule), whom(words, rule, groups, here));
    let text = if rule.direction == "ingress" { t("{} from {} may come in") } else { t("{} to {} may go out") };
    words.fill(text, &[&what, &whom])
}

/// Names of groups by id.
async fn names(visit: &Visit) -> Result<HashMap<String, String>> {
    let groups: Vec<Group> = lists::all(&visit.api, "?fields=id&fields=name").await?;
    Ok(groups
        .into_iter()
        .map(|group| {
            let label = group.label();
            (group.id, label)
        })
        .collect())
}

struct Said {
    rule: Rule,
    text: String,
}

#[derive(Template)]
#[template(path = "security-groups/show.html")]
struct Show {
    frame: Frame,
    fields: Fields,
    group: Group,
    incoming: Vec<Said>,
    outgoing: Vec<Said>,
    ports: usize,
    presets: &'static [Preset],
    groups: Vec<Group>,
    left: Option<Left>,
    blocked: Option<String>,
    kept: Option<String>,
}

/// `GET /security-groups/{id}`.
async fn one(visit: Visit, Path(id): Path<String>) -> Result<Response> {
    page(visit, &id, Fields::default(), None).await
}

async fn page(visit: Visit, id: &str, fields: Fields, failure: Option<&Failure>) -> Result<Response> {
    let mut group: Group = lists::one(&visit.api, id).await?;
    let words = visit.words();
    let names = names(&visit).await?;
    let mut said: Vec<Said> = std::mem::take(&mut group.security_group_rules)
        .into_iter()
        .map(|rule| Said { text: sentence(words, &rule, &names, &group.id), rule })
        .collect();
    said.sort_by(|one, other| (&one.rule.ethertype, &one.text).cmp(&(&other.rule.ethertype, &other.text)));
    let (incoming, outgoing) = said.into_iter().partition(|said| said.rule.direction == "ingress");
    let users: Vec<Value> = values(&visit, &format!("/ports?fields=id&security_groups={}", encoded(&group.id))).await?;
    let blocked = bulk::blocked(&visit, &group.project_id)?;
    let kept = if group.is_default() {
        Some(words.t("Every project has a default group; it cannot be deleted.").to_owned())
    } else {
        (!users.is_empty()).then(|| words.fill("{} ports use it: take it from them first.", &[&users.len()]))
    };
    let groups: Vec<Group> =
        lists::all(&visit.api, &format!("?project_id={}&fields=id&fields=name", encoded(&group.project_id))).await?;
    let [left] = lists::quota(&visit, ["security_group_rule"]).await?;
    let mut frame = visit.frame("/security-groups", group.label());
    frame = match failure {
        Some(failure) => frame.with_problem(failure),
        None => frame.live(),
    };
    let shown = Show {
        frame,
        fields,
        incoming,
        outgoing,
        ports: users.len(),
        presets: PRESETS,
        groups: by_name(groups),
        left,
        blocked,
        kept,
        group,
    };
    match failure {
        None => visit.page(&shown),
        Some(failure) => visit.again(failure, &shown),
    }
}

async fn values(visit: &Visit, path: &str) -> Result<Vec<Value>> {
    let found: Value = visit.api.get(Service::Network, path).await?;
    Ok(found["ports"].as_array().cloned().unwrap_or_default())
}

/// `POST /security-groups/{id}/change`: the forms of the group's page; `what` says which.
async fn change(visit: Visit, Path(id): Path<String>, fields: Fields) -> Result<Response> {
    match apply(&visit, &id, &fields).await {
        Ok(text) => visit.done(&format!("/security-groups/{}", encoded(&id)), text).await,
        Err(failure) if failure.is_users() => page(visit, &id, fields, Some(&failure)).await,
        Err(failure) => Err(failure),
    }
}

async fn apply(visit: &Visit, id: &str, fields: &Fields) -> Result<&'static str> {
    let words = visit.words();
    let api = &visit.api;
    let rules = match fields.get("what") {
        "edit" => {
            let mut body = json!({"description": fields.get("description")});
            if fields.on("name") {
                body["name"] = fields.get("name").into();
            }
            let path = format!("{}/{}", Group::PATH, encoded(id));
            api.put(Service::Network, &path, &json!({ "security_group": body })).await?;
            return Ok(words.t("The group is changed."));
        }
        "remove" => {
            api.delete(Service::Network, &format!("/security-group-rules/{}", encoded(fields.get("rule")))).await?;
            return Ok(words.t("The rule is removed."));
        }
        "preset" => presets(words, id, fields)?,
        "add" => custom(words, id, fields)?,
        _ => return Err(Failure::bad_request(words.t("Choose what to do."))),
    };
    api.post(Service::Network, "/security-group-rules", &json!({ "security_group_rules": rules })).await?;
    Ok(words.t("The rule is added."))
}

/// A preset from anywhere, or from one range.
fn presets(words: Words, id: &str, fields: &Fields) -> Result<Vec<Value>> {
    let base = |ethertype: &str| json!({"security_group_id": id, "direction": "ingress", "ethertype": ethertype});
    let wanted = fields.get("preset");
    if wanted == "group" {
        let both = ["IPv4", "IPv6"].map(|ethertype| {
            let mut rule = base(ethertype);
            rule["remote_group_id"] = id.into();
            rule
        });
        return Ok(both.into());
    }
    let preset = PRESETS.iter().find(|preset| preset.name == wanted);
    let preset = preset.ok_or_else(|| Failure::bad_request(words.t("Choose what to do.")))?;
    let prefix = fields.get("source");
    let is_v6 = prefix.contains(':');
    let ethertypes: &[&str] = match (prefix.is_empty(), is_v6) {
        (true, _) if preset.both => &["IPv4", "IPv6"],
        (_, true) => &["IPv6"],
        _ => &["IPv4"],
    };
    Ok(ethertypes
        .iter()
        .map(|ethertype| {
            let mut rule = base(ethertype);
            let protocol =
                preset.protocol.map(|name| if name == "icmp" && *ethertype == "IPv6" { "ipv6-icmp" } else { name });
            rule["protocol"] = protocol.into();
            if let Some((min, max)) = preset.ports {
                (rule["port_range_min"], rule["port_range_max"]) = (min.into(), max.into());
            }
            if !prefix.is_empty() {
                rule["remote_ip_prefix"] = prefix.into();
            }
            rule
        })
        .collect())
}

/// Numbers `22`, or `80-443`.
fn ports(words: Words, text: &str) -> Result<Option<(i64, i64)>> {
    if text.is_empty() {
        return Ok(None);
    }
    let (min, max) = text.split_once('-').unwrap_or((text, text));
    match (min.trim().parse(), max.trim().parse()) {
        (Ok(min), Ok(max)) => Ok(Some((min, max))),
        _ => Err(Failure::bad_request(
            words.fill("Ports are a number or a range such as 80-443; this is not: {}", &[&text]),
        )),
    }
}

fn custom(words: Words, id: &str, fields: &Fields) -> Result<Vec<Value>> {
    let remote = fields.get("remote");
    let group = fields.get("remote_group");
    let is_v6 = if remote.is_empty() { fields.get("ethertype") == "IPv6" } else { remote.contains(':') };
    let mut rule = json!({
        "security_group_id": id,
        "direction": if fields.get("direction") == "egress" { "egress" } else { "ingress" },
        "ethertype": if is_v6 { "IPv6" } else { "IPv4" },
        "description": fields.get("description"),
    });
    if !remote.is_empty() && !group.is_empty() {
        return Err(Failure::bad_request(words.t("Give a range or choose a group, not both.")));
    }
    if !remote.is_empty() {
        rule["remote_ip_prefix"] = remote.into();
    }
    if !group.is_empty() {
        rule["remote_group_id"] = group.into();
    }
    let protocol = fields.get("protocol");
    if !protocol.is_empty() {
        rule["protocol"] = protocol.into();
    }
    if let Some((min, max)) = ports(words, fields.get("ports"))? {
        rule["port_range_min"] = min.into();
        let is_icmp = simulator::protocol(protocol).is_some_and(simulator::is_icmp);
        // Of ICMP the number is the type.
        if !is_icmp || fields.get("ports").contains('-') {
            rule["port_range_max"] = max.into();
        }
    }
    Ok(vec![rule])
}

/// What the simulator found.
struct Verdict {
    allowed: bool,
    question: String,
    text: String,
    /// The rules that allow it: group's id, its name, the sentence.
    rules: Vec<(String, String, String)>,
}

#[derive(Template)]
#[template(path = "security-groups/simulator.html")]
struct Simulator {
    frame: Frame,
    fields: Fields,
    groups: Vec<Group>,
    /// Ports of servers, by id and title.
    ports: Vec<(String, String)>,
    verdict: Option<Verdict>,
    problem: Option<String>,
}

/// `GET /security-groups/simulator?group=..|port=..&direction=..&remote=..&protocol=..&number=..`
async fn simulate(visit: Visit, fields: Fields) -> Result<Response> {
    let words = visit.words();
    let mine = visit.session()?.project_id().unwrap_or_default().to_owned();
    let groups: Vec<Group> = lists::all(&visit.api, &format!("?project_id={}", encoded(&mine))).await?;
    let machines = lists::machines(&visit).await?;
    let ports: Vec<Port> = lists::all(&visit.api, &format!("?project_id={}", encoded(&mine))).await?;
    let mut choices: Vec<(String, String)> = ports
        .iter()
        .filter(|port| !port.is_service())
        .map(|port| {
            let server = machines.get(&port.device_id).map(|machine| format!("{}: ", machine.name)).unwrap_or_default();
            (port.id.clone(), format!("{server}{}", port.title()))
        })
        .collect();
    choices.sort_by_cached_key(|(_, title)| title.to_lowercase());
    let (verdict, problem) = match judge(&visit, &fields).await {
        Ok(verdict) => (verdict, None),
        Err(failure) if failure.is_users() => (None, Some(failure.line())),
        Err(failure) => return Err(failure),
    };
    visit.page(&Simulator {
        frame: visit.frame("/security-groups", words.t("What gets through?")),
        fields,
        groups: by_name(groups),
        ports: choices,
        verdict,
        problem,
    })
}

async fn judge(visit: &Visit, fields: &Fields) -> Result<Option<Verdict>> {
    let words = visit.words();
    if !fields.on("remote") {
        return Ok(None);
    }
    let bad = |text: &str| Failure::bad_request(text);
    let remote: IpAddr =
        fields.get("remote").parse().map_err(|_| bad(words.t("The other end is one address, such as 192.0.2.1.")))?;
    let named = fields.get("protocol");
    let protocol = simulator::protocol(named).ok_or_else(|| bad(words.t("The protocol is a name or a number.")))?;
    let protocol = if simulator::is_icmp(protocol) { if remote.is_ipv4() { 1 } else { 58 } } else { protocol };
    let port: Option<u16> = match fields.get("number") {
        "" if simulator::has_ports(protocol) => return Err(bad(words.t("Give the port."))),
        "" if protocol == 1 => Some(8),
        "" if protocol == 58 => Some(128),
        "" => None,
        text => Some(text.parse().map_err(|_| bad(words.t("The port is a number from 1 to 65535.")))?),
    };
    let packet = Packet { is_in: fields.get("direction") != "egress", remote, protocol, port };
    let (groups, secured) = if fields.on("port") {
        let port: Port = lists::one(&visit.api, fields.get("port")).await?;
        let mut groups = Vec::new();
        for id in &port.security_groups {
            groups.extend(lists::find::<Group>(&visit.api, id).await?);
        }
        (groups, port.port_security_enabled)
    } else if fields.on("group") {
        (vec![lists::one::<Group>(&visit.api, fields.get("group")).await?], true)
    } else {
        return Err(bad(words.t("Choose a group or a port.")));
    };
    let names = names(visit).await?;
    let members = members(visit, &groups).await?;
    let mut rules = Vec::new();
    for group in &groups {
        for rule in group.security_group_rules.iter().filter(|rule| simulator::allows(rule, &packet, &members)) {
            rules.push((group.id.clone(), group.label(), sentence(words, rule, &names, "")));
        }
    }
    let what = Rule {
        protocol: Some(protocol.to_string()).filter(|_| named.parse::<u8>().is_ok()).or_else(|| Some(named.to_owned())),
        port_range_min: port.map(i64::from),
        port_range_max: port.map(i64::from).filter(|_| simulator::has_ports(protocol)),
        ..Rule::default()
    };
    let direction = if packet.is_in { t("{} from {}, coming in") } else { t("{} to {}, going out") };
    let question = words.fill(direction, &[&self::what(words, &what), &remote]);
    let (allowed, text) = if !secured {
        (true, words.t("Allowed: port security is off, so nothing is filtered."))
    } else if simulator::always(&packet) {
        (true, words.t("Allowed: addressing (DHCP and neighbours) always works, whatever the rules say."))
    } else if !rules.is_empty() {
        (true, words.t("Allowed by:"))
    } else if packet.is_in {
        (false, words.t("Denied: no rule lets it come in, and what no rule allows is denied."))
    } else {
        (false, words.t("Denied: no rule lets it go out, and what no rule allows is denied."))
    };
    Ok(Some(Verdict { allowed, question, text: text.to_owned(), rules }))
}

/// Addresses of the members of the groups that rules of these name.
async fn members(visit: &Visit, groups: &[Group]) -> Result<Members> {
    let mut members = Members::new();
    for group in groups {
        for id in simulator::named(&group.security_group_rules) {
            if members.contains_key(id) {
                continue;
            }
            let ports: Vec<Port> = lists::all(&visit.api, &format!("?security_groups={}", encoded(id))).await?;
            let nets = ports.iter().flat_map(|port| {
                let pairs = port.allowed_address_pairs.iter().map(|pair| pair.ip_address.as_str());
                port.addresses().into_iter().chain(pairs).filter_map(range).collect::<Vec<_>>()
            });
            members.insert(id.to_owned(), nets.collect());
        }
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[test]
    fn rules_are_said_in_plain_words() {
        let words = Words::of(&HeaderMap::new());
        let names = HashMap::from([("g2".to_owned(), "web".to_owned())]);
        let rule = |protocol: Option<&str>, min: Option<i64>, max: Option<i64>| Rule {
            direction: "ingress".into(),
            ethertype: "IPv4".into(),
            protocol: protocol.map(str::to_owned),
            port_range_min: min,
            port_range_max: max,
            ..Rule::default()
        };
        let say = |rule: &Rule| sentence(words, rule, &names, "g1");
        assert_eq!(say(&rule(Some("tcp"), Some(22), Some(22))), "TCP 22 from anywhere (IPv4) may come in");
        assert_eq!(say(&rule(Some("udp"), Some(1), Some(99))), "UDP 1 to 99 from anywhere (IPv4) may come in");
        assert_eq!(say(&rule(Some("icmp"), None, None)), "ICMP (ping and errors) from anywhere (IPv4) may come in");
        assert_eq!(say(&rule(Some("icmp"), Some(8), None)), "Ping from anywhere (IPv4) may come in");
        assert_eq!(say(&rule(Some("47"), None, None)), "Protocol 47 from anywhere (IPv4) may come in");
        let own = Rule { remote_group_id: Some("g1".into()), ..rule(None, None, None) };
        assert_eq!(say(&own), "Anything from members of this group may come in");
        let web =
            Rule { remote_group_id: Some("g2".into()), direction: "egress".into(), ..rule(Some("tcp"), None, None) };
        assert_eq!(say(&web), "TCP, every port to members of web may go out");
        let near = Rule { remote_ip_prefix: Some("10.0.0.0/8".into()), ..rule(Some("gre"), None, None) };
        assert_eq!(say(&near), "GRE from 10.0.0.0/8 may come in");
    }
}

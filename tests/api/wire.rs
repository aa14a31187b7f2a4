//! Every request that the Identity API reference documents, and its answer held against the reference's example, field by
//! field: what must be there is, of the reference's type, in its wrapper, and nothing else is.
//! `reference/identity.txt` is the reference's examples as names and types; where we differ on purpose is said below, with
//! the reason.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use kit::{
    Persona::{self, Admin, Anonymous, Member, Reader},
    TestCloud,
};
use rest::RouteInfo;
use serde_json::{Value, json};

use crate::{
    routes::table,
    servers::text,
    world::{About, World},
};

const REFERENCE: &str = include_str!("reference/identity.txt");

/// Documented, and not a resource of ours.
const NOT_SERVED: &[(&str, &str)] =
    &[("/v3/policies/{policy_id}/OS-ENDPOINT-POLICY/policy", "upstream's program has no such path either")];

/// Fields of ours that the reference shows nowhere for this kind of thing, and why they are there.
const OURS: &[(&str, &str)] = &[
    ("trust.deleted_at", "upstream's program answers it, null for what exists"),
    ("event.revoked_at", "upstream's program answers it"),
    ("mapping.schema_version", "upstream's program answers it; clients show it"),
    ("protocol.remote_id_attribute", "upstream's program answers it; it can be set"),
    ("links.next", "every collection has the same links"),
    ("links.previous", "every collection has the same links"),
    ("links.self", "every collection has the same links"),
    ("user.description", "made with it: whatever else a user is made with comes back"),
    ("user.email", "made with it: whatever else a user is made with comes back"),
    ("user.options", "the table of parameters has it where users are made; upstream's program always answers it"),
    ("scope.OS-INHERIT:inherited_to", "the reference's text has it, with OS-INHERIT"),
    ("application_credential.user_id", "upstream's program answers it"),
    ("application_credential.system", "upstream's program answers it"),
    ("mapping.rule", "rules are what was put in"),
    ("options.immutable", "a documented option of roles, projects and domains"),
    ("domain.tags", "a domain is a project to upstream, and has what projects have"),
    ("endpoint.name", "made with it: whatever else an endpoint is made with comes back"),
    ("config", "options of a directory: which ones there are is the domain's choice"),
];

/// Fields of the reference's examples that our answers lack.
const THEIRS: &[(&str, &str)] = &[
    ("endpoint.legacy_endpoint_id", "of version 2 of the API"),
    ("endpoint_group.filters.service_id", "a filter has what it was made with"),
    ("group.membership_expires_at", "of members by federation that expire, which we do not have"),
    ("policy.blob.foobar_user", "a policy's content is any text"),
    ("user.federated", "who comes from an identity provider; nobody does here"),
    ("user.options.ignore_lockout_failure_attempts", "an option that the user was not made with"),
    ("user.options.ignore_password_expiry", "an option that the user was not made with"),
    ("config.identity.driver", "the sample sets options of `ldap` only"),
    ("config.ldap.user_tree_dn", "the sample sets other options"),
    ("token.user.email", "no token of upstream's program has it"),
    ("token.user.links", "no token of upstream's program has it"),
    ("token.user.domain.links", "no token of upstream's program has it"),
    ("token.OS-TRUST:trust.links", "no token of upstream's program has it"),
    ("token.OS-TRUST:trust.trustee_user.links", "no token of upstream's program has it"),
    ("token.OS-TRUST:trust.trustor_user.links", "no token of upstream's program has it"),
    ("role_inference.implies.description", "inferences name roles by id, name and link"),
    ("role_inference.prior_role.description", "inferences name roles by id, name and link"),
    ("user.description", "there if the user was made with one"),
];

/// Fields that may be null where the example happens to have a value: what was not set.
const NULLABLE: &[&str] = &[
    "ldap.user",
    "description",
    "password_expires_at",
    "expires_at",
    "parent_region_id",
    "region_id",
    "region",
    "domain_id",
    "default_project_id",
    "project_id",
];

/// Where the example is null and ours need not be.
const SET_HERE: &[&str] = &["authorization_ttl", "remaining_uses"];

/// Answers whose example upstream's program does not give, nor do its clients read it.
const WRONG_EXAMPLES: &[(&str, &str)] = &[
    ("GET /v3/OS-EP-FILTER/endpoint_groups", "its groups are not wrapped a second time"),
    ("GET /v3/OS-EP-FILTER/projects/{project_id}/endpoint_groups", "its groups are not wrapped a second time"),
    (
        "GET /v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}",
        "the example is a project; the program answers the association",
    ),
    ("PUT /v3/projects/{project_id}/tags", "the example is of a list of projects; the program answers the tags"),
    ("GET /v3/domains/config/{group}/default", "the example lacks the wrapper `config`"),
    ("GET /v3/domains/config/{group}/{option}/default", "the example lacks the wrapper `config`"),
    ("GET /v3/domains/{domain_id}/config/{group}", "the example lacks the wrapper `config`"),
    ("GET /v3/domains/{domain_id}/config/{group}/{option}", "the example lacks the wrapper `config`"),
];

/// Statuses that the reference has otherwise.
const OTHER_STATUSES: &[(&str, u16, &str)] = &[
    ("PUT /v3/domains/{domain_id}/users/{user_id}/roles/{role_id}", 204, "as its sisters, and as the program answers"),
    (
        "POST /v3/users/{user_id}/password",
        401,
        "the sample's old password is wrong; tests/stories/passwords.rs has the 204",
    ),
];

#[derive(Debug)]
struct Field {
    place: String,
    optional: bool,
    kinds: BTreeSet<String>,
}

/// One documented answer.
#[derive(Debug)]
struct Documented {
    method: Method,
    path: &'static str,
    statuses: Vec<u16>,
    example: &'static str,
    fields: Vec<Field>,
    /// Names that the table of parameters has.
    also: BTreeSet<&'static str>,
}

impl Documented {
    fn line(&self) -> String {
        format!("{} {} {}", self.method, self.path, self.example).trim_end().to_owned()
    }
}

fn reference() -> Vec<Documented> {
    let mut all: Vec<Documented> = Vec::new();
    for line in REFERENCE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap();
        if !line.starts_with(' ') {
            let path = words.next().unwrap();
            let statuses = words.next().unwrap().split('/').filter_map(|status| status.parse().ok()).collect();
            all.push(Documented {
                method: first.parse().unwrap(),
                path,
                statuses,
                example: words.next().unwrap_or_default(),
                fields: Vec::new(),
                also: BTreeSet::new(),
            });
            continue;
        }
        let last = all.last_mut().unwrap();
        if first == "also" {
            last.also.extend(words);
        } else {
            let kinds = words.next().unwrap().split('|').map(str::to_owned).collect();
            let (place, optional) = first.strip_suffix('?').map_or((first, false), |place| (place, true));
            last.fields.push(Field { place: place.to_owned(), optional, kinds });
        }
    }
    // Where the answer has no example of its own, that of showing the thing serves.
    for at in 0..all.len() {
        if all[at].fields.is_empty() && all[at].statuses.contains(&201) && all[at].method == Method::POST {
            let shown = all.iter().find(|other| {
                other.method == Method::GET
                    && other.path.strip_prefix(all[at].path).is_some_and(|rest| rest.matches('/').count() == 1)
                    && !other.fields.is_empty()
            });
            if let Some(shown) = shown {
                let fields = shown.fields.iter().map(|field| Field {
                    place: field.place.clone(),
                    optional: field.optional,
                    kinds: field.kinds.clone(),
                });
                let (fields, also) = (fields.collect(), shown.also.clone());
                all[at].fields = fields;
                all[at].also = also;
            }
        }
    }
    all
}

/// What stands at each place of a body (`users[].links.self`): the JSON types, and how many values.
#[derive(Default)]
struct Seen {
    kinds: BTreeMap<String, BTreeSet<&'static str>>,
    present: BTreeMap<String, usize>,
}

impl Seen {
    fn of(body: &Value) -> Self {
        let mut seen = Self::default();
        seen.walk(body, String::new());
        seen
    }

    fn walk(&mut self, value: &Value, place: String) {
        *self.present.entry(place.clone()).or_default() += 1;
        let kind = match value {
            Value::Object(map) if !map.is_empty() => {
                for (name, inner) in map {
                    self.walk(inner, if place.is_empty() { name.clone() } else { format!("{place}.{name}") });
                }
                return;
            }
            Value::Array(list) if !list.is_empty() => {
                for inner in list {
                    self.walk(inner, format!("{place}[]"));
                }
                return;
            }
            Value::Object(_) => "object",
            Value::Array(_) => "list",
            Value::String(_) => "text",
            Value::Number(_) => "number",
            Value::Bool(_) => "bool",
            Value::Null => "null",
        };
        self.kinds.entry(place).or_default().insert(kind);
    }

    fn count(&self, place: &str) -> usize {
        self.present.get(place).copied().unwrap_or(0)
    }

    /// Whether some object on the way to the place lacks the next step.
    fn partial(&self, place: &str) -> bool {
        let mut outer = String::new();
        for step in place.split('.') {
            let inner = if outer.is_empty() { step.to_owned() } else { format!("{outer}.{step}") };
            if self.count(inner.trim_end_matches("[]")) < self.count(&outer) {
                return true;
            }
            outer = inner;
        }
        false
    }
}

/// `users[].links.self` by kind of thing: `user.links.self`.
fn singular(place: &str) -> String {
    let one = |step: &str| {
        let name = step.trim_end_matches("[]");
        if name.len() == step.len() {
            return name.to_owned();
        }
        match (name.strip_suffix("ies"), name.strip_suffix('s')) {
            _ if name == "implies" => name.to_owned(),
            (Some(stem), _) => format!("{stem}y"),
            (None, Some(stem)) => stem.to_owned(),
            _ => name.to_owned(),
        }
    };
    place.split('.').map(one).collect::<Vec<_>>().join(".")
}

/// Whether a list has the field: `user.email` is that of any user, and stands for all that is inside it.
fn excused(list: &[(&str, &str)], place: &str) -> bool {
    let place = format!(".{}.", singular(place));
    list.iter().any(|(known, _)| place.contains(&format!(".{known}.")))
}

/// Every field that the reference shows somewhere for a kind of thing: `role.description`.
fn pool(all: &[Documented]) -> BTreeSet<String> {
    let mut pool = BTreeSet::new();
    for operation in all {
        for field in &operation.fields {
            let place = singular(&field.place);
            let steps: Vec<&str> = place.split('.').collect();
            for from in 0..steps.len() - 1 {
                let suffix = steps[from..].join(".");
                // What may be in an object that is empty in the example, nobody says.
                if field.kinds.contains("object") {
                    pool.insert(format!("{suffix}.*"));
                }
                pool.insert(suffix);
            }
        }
    }
    pool
}

/// What differs between an answer and its example.
fn differences(operation: &Documented, pool: &BTreeSet<String>, body: &Value) -> Vec<String> {
    let seen = Seen::of(body);
    let mut found = Vec::new();
    for field in &operation.fields {
        let Field { place, optional, kinds } = field;
        if excused(THEIRS, place) {
            continue;
        }
        let empty_here = seen.kinds.keys().any(|ours| {
            place.starts_with(&format!("{ours}[]")) || (place.starts_with(&format!("{ours}.")) && !ours.is_empty())
        });
        if empty_here {
            if !optional {
                found.push(format!("{place}: nothing there to compare"));
            }
            continue;
        }
        if !optional && (seen.count(place) == 0 || seen.partial(place)) {
            found.push(format!("{place}: missing"));
            continue;
        }
        let loose = kinds.contains("object") || kinds.contains("list");
        let set_here = kinds.contains("null") && SET_HERE.iter().any(|name| place.ends_with(name));
        let nullable = kinds.contains("null") || NULLABLE.iter().any(|name| place.ends_with(name));
        for kind in seen.kinds.get(place).into_iter().flatten() {
            let known = kinds.contains(*kind)
                || (*kind == "null" && nullable)
                || (*kind == "text" && kinds.len() == 1 && kinds.contains("null"));
            if !known && !loose && !set_here {
                found.push(format!("{place}: {kind} and not {}", kinds.iter().cloned().collect::<Vec<_>>().join("|")));
            }
        }
    }
    for place in seen.kinds.keys() {
        let known = operation.fields.iter().any(|field| {
            let inside = |open: &str| place.starts_with(&format!("{}{open}", field.place));
            field.place == *place
                || (field.kinds.contains("object") && inside("."))
                || (field.kinds.contains("list") && inside("[]"))
                // Empty here, filled in the example.
                || field.place.starts_with(&format!("{place}[]"))
                || field.place.starts_with(&format!("{place}."))
        });
        let one = singular(place);
        let steps: Vec<&str> = one.split('.').collect();
        let pooled = (0..steps.len()).any(|from| {
            let inside = (from + 1..steps.len()).any(|to| pool.contains(&format!("{}.*", steps[from..to].join("."))));
            inside || pool.contains(&steps[from..].join("."))
        });
        let also = steps.iter().any(|step| operation.also.contains(step));
        if !known && !pooled && !also && !excused(OURS, place) {
            found.push(format!("{place}: not in the reference"));
        }
    }
    found
}

/// Our route with this method and path, whatever its parameters are called.
fn route(cloud: &TestCloud, operation: &Documented) -> Option<RouteInfo> {
    let method = if operation.method == Method::HEAD { &Method::GET } else { &operation.method };
    let same = |ours: &str| {
        ours.split('/').count() == operation.path.split('/').count()
            && ours
                .split('/')
                .zip(operation.path.split('/'))
                .all(|(a, b)| a == b || (a.starts_with('{') && b.starts_with('{')))
    };
    let mut routes = table(cloud, "identity").into_iter().map(|(_, route)| route);
    routes.find(|route| (route.method == *method || route.method == operation.method) && same(route.path))
}

/// Who may do it: what concerns a user alone is the user's.
fn asked_by(operation: &Documented) -> Persona {
    let own = ["application_credentials", "access_rules", "/v3/OS-TRUST/trusts"];
    // Of all trusts there are only administrators have a list.
    let everybodys = operation.method == Method::GET && operation.path == "/v3/OS-TRUST/trusts";
    if own.iter().any(|part| operation.path.contains(part)) && !everybodys { Member } else { Admin }
}

/// What selects the answer that the example shows.
fn query(operation: &Documented) -> &'static str {
    match operation.example {
        "project-show-parents-response" => "?parents_as_list",
        "project-show-subtree-response" => "?subtree_as_list",
        _ => "",
    }
}

/// What the world has further.
struct Prepared {
    child: String,
    reader: String,
}

/// Asks, and says what differs.
async fn hold(world: &World, prepared: &Prepared, pool: &BTreeSet<String>, operation: &Documented) -> Vec<String> {
    let Some(route) = route(&world.cloud, operation) else {
        let known = NOT_SERVED.iter().any(|(path, _)| *path == operation.path);
        return if known { Vec::new() } else { vec!["not served".into()] };
    };
    if operation.method == Method::DELETE {
        // No body to compare; the crate's own stories have what it does.
        return Vec::new();
    }
    let mut path = world.url("identity", "/identity", operation.path, About::There);
    let mut body = world.sample("identity", &route).await.unwrap_or(Value::Null);
    let there = |kind| world.there("identity", kind);
    match (operation.method.as_str(), operation.path) {
        (_, "/v3/projects/{project_id}") if operation.example.contains("parents") => {
            path = path.replace(there("projects"), &prepared.child);
        }
        (_, "/v3/OS-TRUST/trusts/{trust_id}/roles/{role_id}") => path = path.replace(there("roles"), &prepared.reader),
        ("POST", "/v3/limits") => body["limits"][0]["project_id"] = json!(prepared.child),
        ("PUT", at) if at.contains("/OS-EP-FILTER/") => {
            world.cloud.as_(Admin).delete(&path).await.expect(204);
        }
        // Made under another name: what is there already is refused.
        ("PUT", at) if at.contains("/OS-FEDERATION/") => {
            path.push_str("-too");
            if let Some(ids) = body.pointer_mut("/identity_provider/remote_ids") {
                *ids = json!(["https://others.test"]);
            }
        }
        _ => {}
    }
    path.push_str(query(operation));
    let reply = world.cloud.as_(asked_by(operation)).send(operation.method.clone(), &path, &body).await;
    let status = reply.status.as_u16();
    let line = format!("{} {}", operation.method, operation.path);
    if OTHER_STATUSES.iter().any(|(other, known, _)| *other == line && *known == status) {
        return Vec::new();
    }
    if status >= 400 || !operation.statuses.is_empty() && !operation.statuses.contains(&status) {
        return vec![format!("{status} and not {:?}: {}", operation.statuses, reply.message())];
    }
    if operation.fields.is_empty() || WRONG_EXAMPLES.iter().any(|(wrong, _)| *wrong == line) {
        return Vec::new();
    }
    differences(operation, pool, &reply.json)
}

#[tokio::test]
async fn identity_answers_every_documented_request_as_the_reference_does() {
    let world = World::new().await;
    let prepared = prepare(&world).await;
    let all = reference();
    let pool = pool(&all);
    let mut operations: Vec<&Documented> = all.iter().filter(|operation| operation.path != "/v3/auth/tokens").collect();
    // Reads first: a write must not change what is read.
    operations.sort_by_key(|operation| operation.method != Method::GET && operation.method != Method::HEAD);
    let mut wrong = Vec::new();
    for operation in operations {
        for difference in hold(&world, &prepared, &pool, operation).await {
            wrong.push(format!("{}: {difference}", operation.line()));
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

/// Something in every list: grants of all kinds, a child, a tag, associations, a token that somebody voided.
async fn prepare(world: &World) -> Prepared {
    let admin = world.cloud.as_(Admin);
    let there = |kind| world.there("identity", kind).to_owned();
    let (user, group, role, project, domain) =
        (there("users"), there("groups"), there("roles"), there("projects"), there("domains"));
    let child = json!({"project": {"name": "child", "domain_id": "default", "parent_id": project}});
    let child = admin.post("/identity/v3/projects", child).await.expect(201);
    let child = text(&child["project"]["id"]).to_owned();
    let myself = world.cloud.user(Admin).await;
    let mut grants: Vec<String> =
        ["domains/default".to_owned(), format!("projects/{project}"), format!("projects/{child}")]
            .iter()
            .map(|target| format!("{target}/users/{myself}/roles/{role}"))
            .collect();
    for actor in [format!("users/{user}"), format!("groups/{group}")] {
        for target in [format!("projects/{project}"), format!("domains/{domain}")] {
            grants.push(format!("{target}/{actor}/roles/{role}"));
            grants.push(format!("OS-INHERIT/{target}/{actor}/roles/{role}/inherited_to_projects"));
        }
        grants.push(format!("system/{actor}/roles/{role}"));
    }
    let filters = there("endpoint_groups");
    grants.push(format!("groups/{group}/users/{user}"));
    grants.push(format!("OS-EP-FILTER/endpoint_groups/{filters}/projects/{project}"));
    grants.push(format!("OS-EP-FILTER/projects/{project}/endpoints/{}", there("endpoints")));
    for grant in grants {
        admin.put(&format!("/identity/v3/{grant}"), Value::Null).await.expect(204);
    }
    for made in
        [format!("roles/{role}/implies/{}", there("implies")), format!("projects/{project}/tags/{}", there("tags"))]
    {
        admin.put(&format!("/identity/v3/{made}"), Value::Null).await.expect(201);
    }
    let remote = json!({"identity_provider": {"remote_ids": ["https://people.test"]}});
    admin.patch("/identity/v3/OS-FEDERATION/identity_providers/acme-people", remote).await.expect(200);
    let gone = login(&world.cloud, Member, Value::Null).await.0;
    let headers = [("x-subject-token", gone.as_str())];
    admin.raw(Method::DELETE, "/identity/v3/auth/tokens", &headers, "").await.expect(204);
    let roles = admin.get("/identity/v3/roles?name=reader").await.expect(200);
    Prepared { child, reader: text(&roles["roles"][0]["id"]).to_owned() }
}

/// A token by password, and the body that came with it.
async fn login(cloud: &TestCloud, who: Persona, scope: Value) -> (String, Value) {
    let user = json!({"id": cloud.user(who).await, "password": who.password()});
    let mut auth = json!({"identity": {"methods": ["password"], "password": {"user": user}}});
    if !scope.is_null() {
        auth["scope"] = scope;
    }
    let reply = cloud.as_(Anonymous).post("/identity/v3/auth/tokens", json!({"auth": auth})).await;
    let token = reply.header("x-subject-token").unwrap_or_else(|| panic!("{reply}")).to_owned();
    (token, reply.expect(201))
}

#[tokio::test]
async fn tokens_of_every_kind_look_as_the_reference_shows_them() {
    let cloud = TestCloud::start().await;
    let admin = cloud.as_(Admin);
    let (user, project) = (cloud.user(Reader).await, cloud.project(Reader).await);
    let role = text(&admin.get("/identity/v3/roles?name=reader").await.expect(200)["roles"][0]["id"]).to_owned();
    for target in ["domains/default", "system"] {
        admin.put(&format!("/identity/v3/{target}/users/{user}/roles/{role}"), Value::Null).await.expect(204);
    }
    let scopes = [
        ("unscoped", Value::Null),
        ("explicit-unscoped", json!({"unscoped": {}})),
        ("project-scoped", json!({"project": {"id": project}})),
        ("domain-scoped", json!({"domain": {"id": "default"}})),
        ("system-scoped", json!({"system": {"all": true}})),
    ];
    let (own_token, _) = login(&cloud, Reader, Value::Null).await;
    let own = json!({"application_credential": {"name": "own", "project_id": project}});
    let (scoped, _) = login(&cloud, Reader, scopes[2].1.clone()).await;
    let own = cloud.with_token(&scoped).post(&format!("/identity/v3/users/{user}/application_credentials"), own).await;
    let own = own.expect(201)["application_credential"].clone();
    let trust = json!({"trust": {
        "trustor_user_id": user, "trustee_user_id": cloud.user(Member).await, "impersonation": false,
        "project_id": project, "roles": [{"name": "reader"}],
    }});
    let trust = cloud.with_token(&scoped).post("/identity/v3/OS-TRUST/trusts", trust).await.expect(201);
    let trust_scope = json!({"OS-TRUST:trust": {"id": trust["trust"]["id"]}});
    let (_, with_trust) = login(&cloud, Member, trust_scope).await;

    let mut wrong = Vec::new();
    let all = reference();
    let pool = pool(&all);
    for operation in all.iter().filter(|operation| operation.path == "/v3/auth/tokens") {
        let scope =
            || scopes.iter().rev().find(|(name, _)| operation.example.contains(name)).map(|(_, scope)| scope.clone());
        let body = match operation.example {
            "" | "auth-receipt-password" | "project-scoped-password-totp" | "trust-auth-redelegated-response" => {
                continue;
            }
            "trust-auth-trust-response" => with_trust.clone(),
            "auth-application-credential-response" => {
                let auth = json!({"auth": {"identity": {"methods": ["application_credential"],
                    "application_credential": {"id": own["id"], "secret": own["secret"]}}}});
                cloud.as_(Anonymous).post("/identity/v3/auth/tokens", auth).await.expect(201)
            }
            example if operation.method == Method::POST && example.contains("token") => {
                let mut auth = json!({"identity": {"methods": ["token"], "token": {"id": own_token}}});
                if let Some(scope) = scope().filter(|scope| !scope.is_null()) {
                    auth["scope"] = scope;
                }
                cloud.as_(Anonymous).post("/identity/v3/auth/tokens", json!({"auth": auth})).await.expect(201)
            }
            _ => {
                let (token, body) = login(&cloud, Reader, scope().unwrap()).await;
                if operation.method == Method::POST {
                    body
                } else {
                    let headers = [("x-subject-token", token.as_str())];
                    admin.raw(Method::GET, "/identity/v3/auth/tokens", &headers, "").await.expect(200)
                }
            }
        };
        wrong.extend(
            differences(operation, &pool, &body).into_iter().map(|found| format!("{}: {found}", operation.line())),
        );
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

//! Identity: how fast tokens are given out and looked at, beside a bare handler; what a login that fails gives away by the
//! time it takes; what effective roles cost in a cloud with many of everything.

use super::*;

/// What identity::passwords chooses, for the share that argon2 has in a login.
const ARGON2_MEMORY_KIB: u32 = 19_456;
const ARGON2_PASSES: u32 = 2;
const TRIES: usize = 300;

pub async fn measure(table: &mut Table, place: &Place, program: &Program) {
    let mut connection = program.login(place).await.unwrap();
    tokens(table, place, program, &mut connection).await;
    logins(table, &mut connection).await;
    roles(table, &mut connection).await;
}

/// Rates beside a bare handler that answers the same bytes, in turns.
async fn tokens(table: &mut Table, place: &Place, program: &Program, connection: &mut Connection) {
    let token = connection.token.clone().unwrap();
    let subject = || vec![("x-subject-token", token.clone())];
    let rescope = json!({"auth": {"identity": {"methods": ["token"], "token": {"id": token}},
        "scope": {"project": {"id": connection.project_id}}}});
    let json_body = || vec![("content-type", "application/json".to_owned())];
    let tokens = "/identity/v3/auth/tokens";
    let asks = [
        ("token validation", Budget::AtLeast(50.0), Ask { headers: subject(), ..Ask::get(tokens) }),
        (
            "token validation without catalog",
            Budget::AtLeast(50.0),
            Ask { headers: subject(), ..Ask::get("/identity/v3/auth/tokens?nocatalog") },
        ),
        ("catalog", Budget::None, Ask::get("/identity/v3/auth/catalog")),
        (
            "token by token",
            Budget::None,
            Ask { method: Method::POST, path: tokens, headers: json_body(), body: rescope.to_string() },
        ),
        (
            "token by password",
            Budget::None,
            Ask { method: Method::POST, path: tokens, headers: json_body(), body: password_request(place).to_string() },
        ),
    ];
    let tls = trusting(&place.ca());
    for (what, budget, ask) in asks {
        let headers: Vec<(&str, &str)> = ask.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let once = connection.send(ask.method.clone(), ask.path, &headers, ask.body.clone()).await.unwrap();
        let size = once.bytes.len();
        let bare = Bare::start(&once.bytes);
        let (mut ours, mut bares, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..3 {
            bares.push(bare.rate().await);
            ours.push(rate(&program.authority, &tls, Some(&token), &ask).await);
            ratios.push(100.0 * ours[ours.len() - 1] / bares[bares.len() - 1]);
        }
        table.row(format!("{what} ({size} bytes)"), median(ours), "/s", Budget::None, None);
        table.row(format!("  bare axum handler, {size} bytes"), median(bares), "/s", Budget::None, None);
        table.row("  as a share of the bare handler", median(ratios), "%", budget, None);
    }

    // One after the other, so that only the work itself counts; in turns, so that both meet the same machine.
    let (mut issued, mut hashed) = (Vec::new(), Vec::new());
    let body = password_request(place);
    for _ in 0..40 {
        let began = Instant::now();
        connection.post(tokens, &body).await.unwrap().expect(201);
        issued.push(ms(began));
        let began = Instant::now();
        tokio::task::spawn_blocking(hash).await.unwrap();
        hashed.push(ms(began));
    }
    let (issued, hashed) = (median(issued), median(hashed));
    table.row("token by password, one at a time", issued, "ms", Budget::None, Some(295.0));
    table.row("  argon2 alone", hashed, "ms", Budget::None, None);
    table.row("  argon2's share", 100.0 * hashed / issued, "%", Budget::AtLeast(80.0), None);
}

/// One password as Identity hashes it, on memory that is new each time.
fn hash() {
    let params = argon2::Params::new(ARGON2_MEMORY_KIB, ARGON2_PASSES, 1, Some(32)).unwrap();
    let hasher = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let mut output = [0; 32];
    hasher.hash_password_into(b"correct horse battery staple", &[7; 16], &mut output).unwrap();
    std::hint::black_box(output);
}

/// Whether the time of a refusal tells why. Every kind is tried in turns with a wrong password of a user that exists; of
/// each pair of tries, how often the one is slower than the other: half of the time, if they cannot be told apart.
async fn logins(table: &mut Table, connection: &mut Connection) {
    let mut made = Vec::new();
    for (name, enabled) in [("known", true), ("locked", true), ("disabled", false), ("without-password", true)] {
        let mut user = json!({"name": format!("login-{name}"), "domain_id": "default", "enabled": enabled});
        if name != "without-password" {
            user["password"] = json!("right");
        }
        if name != "locked" {
            user["options"] = json!({"ignore_lockout_failure_attempts": true});
        }
        let user = connection.post("/identity/v3/users", &json!({ "user": user })).await.unwrap().expect(201);
        made.push(user["user"]["id"].as_str().unwrap().to_owned());
    }
    let admin = connection.token.take();
    let request = |user: Value| json!({"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}});
    let named =
        |name: &str, password: &str| request(json!({"name": name, "domain": {"id": "default"}, "password": password}));
    let locked = named("login-locked", "right");
    for _ in 0..12 {
        connection.post("/identity/v3/auth/tokens", &named("login-locked", "wrong")).await.unwrap().expect(401);
    }
    let kinds = [
        ("wrong password of a known user", named("login-known", "wrong")),
        ("wrong password, by id", request(json!({"id": made[0], "password": "wrong"}))),
        ("unknown user", named("login-nobody", "wrong")),
        ("unknown user, by id", request(json!({"id": "0".repeat(32), "password": "wrong"}))),
        ("unknown domain", request(json!({"name": "x", "domain": {"name": "nowhere"}, "password": "wrong"}))),
        ("locked user, right password", locked),
        ("disabled user, right password", named("login-disabled", "right")),
        ("user without a password", named("login-without-password", "wrong")),
    ];
    let mut took = vec![Vec::with_capacity(TRIES); kinds.len()];
    for turn in 0..TRIES {
        for at in 0..kinds.len() {
            // Another first one each time: whatever follows whatever else.
            let at = (at + turn) % kinds.len();
            let began = Instant::now();
            connection.post("/identity/v3/auth/tokens", &kinds[at].1).await.unwrap().expect(401);
            took[at].push(ms(began));
        }
    }
    table.row(format!("{}, median", kinds[0].0), median(took[0].clone()), "ms", Budget::None, None);
    for at in 1..kinds.len() {
        table.row(format!("  {}, median", kinds[at].0), median(took[at].clone()), "ms", Budget::None, None);
        let slower = slower_of_pairs(&took[at], &took[0]);
        let advantage = 100.0 * (slower - 0.5).abs();
        // Chance alone stays below 8 with 300 tries each in 999 of 1000 runs.
        table.row("    how far from even odds", advantage, "%", Budget::AtMost(8.0), None);
    }
    connection.token = admin;
}

/// The rank-sum statistic as a probability: that a value of `a` is above one of `b`, ties counting half.
fn slower_of_pairs(a: &[f64], b: &[f64]) -> f64 {
    let mut wins = 0.0;
    for one in a {
        for other in b {
            wins += if one > other {
                1.0
            } else if one < other {
                0.0
            } else {
                0.5
            };
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let pairs = (a.len() * b.len()) as f64;
    wins / pairs
}

/// 1,000 users, 200 projects in trees of ten levels, roles that imply each other ten deep; each user has a role on one
/// project, half of them one that goes down the tree.
async fn roles(table: &mut Table, connection: &mut Connection) {
    let id = |made: Value, noun: &str| made[noun]["id"].as_str().unwrap().to_owned();
    let mut roles = Vec::new();
    for number in 0..10 {
        let body = json!({"role": {"name": format!("depth-{number}")}});
        roles.push(id(connection.post("/identity/v3/roles", &body).await.unwrap().expect(201), "role"));
    }
    let nothing = Bytes::new;
    for pair in roles.windows(2) {
        let path = format!("/identity/v3/roles/{}/implies/{}", pair[0], pair[1]);
        connection.send(Method::PUT, &path, &[], nothing()).await.unwrap().expect(201);
    }
    let mut projects: Vec<String> = Vec::new();
    for number in 0..200 {
        let mut project = json!({"name": format!("tree-{number}"), "domain_id": "default"});
        if number % 10 > 0 {
            project["parent_id"] = json!(projects[number - 1]);
        }
        let made = connection.post("/identity/v3/projects", &json!({ "project": project })).await.unwrap().expect(201);
        projects.push(id(made, "project"));
    }
    let mut users = Vec::new();
    for number in 0..1000 {
        let body = json!({"user": {"name": format!("many-{number}"), "domain_id": "default"}});
        let user = id(connection.post("/identity/v3/users", &body).await.unwrap().expect(201), "user");
        let (project, role) = (&projects[number % 200], &roles[number % 10]);
        let path = if number % 2 == 0 {
            format!("/identity/v3/OS-INHERIT/projects/{project}/users/{user}/roles/{role}/inherited_to_projects")
        } else {
            format!("/identity/v3/projects/{project}/users/{user}/roles/{role}")
        };
        connection.send(Method::PUT, &path, &[], nothing()).await.unwrap().expect(204);
        users.push(user);
    }
    // The root of a tree, with all that inherits from it; the one furthest down.
    let list = "/identity/v3/role_assignments?effective";
    for (what, path) in [
        ("effective roles of one user", format!("{list}&user.id={}", users[0])),
        (
            "effective roles of one user in one project",
            format!("{list}&user.id={}&scope.project.id={}", users[0], projects[9]),
        ),
        (
            "effective roles in a project ten deep, with names",
            format!("{list}&include_names&scope.project.id={}", projects[9]),
        ),
        ("effective roles in a tree", format!("{list}&include_subtree&scope.project.id={}", projects[0])),
        ("effective roles of everybody everywhere", list.to_owned()),
        ("effective roles of everybody, with names", format!("{list}&include_names")),
    ] {
        let (took, size) = time_get(connection, &path, 15).await;
        let what = format!("{what} ({} KiB)", size.div_ceil(1024));
        table.row(what, took, "ms", Budget::AtMost(20.0), None);
    }
}

//! `kill -9` of the real program at random moments while clients create and delete, again and again on the same state.
//!
//! Every answer is written down as it comes. At the end what is there is held against it: an accepted create is there,
//! with a result; an accepted delete is final; an upload answered with 204 is an active image; nothing has no owner.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    program::{Connection, Place, Program, ROOM, wait_for},
    random::Random,
};

const CLIENTS: u64 = 3;
/// `m1.nano`
const FLAVOR: &str = "42";

/// What was promised about one server or image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Promise {
    Kept,
    /// A delete was sent and not answered: both are right.
    Open,
    Deleted,
}

#[derive(Debug, Default)]
struct Ledger {
    servers: HashMap<String, Promise>,
    images: HashMap<String, Promise>,
    asked: BTreeMap<&'static str, u64>,
    answered: BTreeMap<&'static str, u64>,
}

impl Ledger {
    fn kept(of: &HashMap<String, Promise>) -> Vec<String> {
        let mut kept: Vec<String> = of.iter().filter(|(_, p)| **p == Promise::Kept).map(|(id, _)| id.clone()).collect();
        // A map has no order that a seed could repeat.
        kept.sort();
        kept
    }
}

#[derive(Clone)]
struct Client {
    ledger: Arc<Mutex<Ledger>>,
    random: Random,
    name: String,
    image: String,
    network: String,
    crowd: usize,
}

impl Client {
    fn with<T>(&self, change: impl FnOnce(&mut Ledger) -> T) -> T {
        change(&mut self.ledger.lock().unwrap())
    }

    fn asked(&self, what: &'static str) {
        self.with(|ledger| *ledger.asked.entry(what).or_default() += 1);
    }

    fn answered(&self, what: &'static str) {
        self.with(|ledger| *ledger.answered.entry(what).or_default() += 1);
    }

    /// Asks and asks until the program is no more.
    async fn work(mut self, mut connection: Connection) {
        let mut number = 0;
        loop {
            number += 1;
            let servers = self.with(|ledger| Ledger::kept(&ledger.servers));
            let images = self.with(|ledger| Ledger::kept(&ledger.images));
            let choice = self.random.below(100);
            let answer = match choice {
                _ if servers.len() > self.crowd => self.delete_server(&mut connection, &servers).await,
                0..45 => self.create(&mut connection, number).await,
                45..75 => self.delete_server(&mut connection, &servers).await,
                75..84 => self.power(&mut connection, &servers).await,
                84..88 => self.plug(&mut connection, &servers).await,
                88..96 => self.upload(&mut connection, number).await,
                _ => self.delete_image(&mut connection, &images).await,
            };
            if answer.is_err() {
                return;
            }
        }
    }

    async fn create(&mut self, connection: &mut Connection, number: u64) -> std::io::Result<()> {
        let mut server = json!({"name": format!("{}-{number}", self.name), "imageRef": self.image, "flavorRef": FLAVOR,
                                "networks": [{"uuid": self.network}]});
        if self.random.below(4) == 0 {
            server["config_drive"] = json!(true);
        }
        self.asked("create");
        let reply = connection.post("/compute/v2.1/servers", &json!({"server": server})).await?;
        let id = reply.expect(202)["server"]["id"].as_str().unwrap().to_owned();
        self.answered("create");
        self.with(|ledger| ledger.servers.insert(id, Promise::Kept));
        Ok(())
    }

    async fn delete_server(&mut self, connection: &mut Connection, servers: &[String]) -> std::io::Result<()> {
        let Some(id) = self.random.pick(servers).cloned() else { return Ok(()) };
        // Whoever writes it down first deletes it.
        if self.with(|ledger| ledger.servers.insert(id.clone(), Promise::Open)) != Some(Promise::Kept) {
            return Ok(());
        }
        self.asked("delete");
        connection.delete(&format!("/compute/v2.1/servers/{id}")).await?.expect(204);
        self.answered("delete");
        self.with(|ledger| ledger.servers.insert(id, Promise::Deleted));
        Ok(())
    }

    async fn power(&mut self, connection: &mut Connection, servers: &[String]) -> std::io::Result<()> {
        let Some(id) = self.random.pick(servers) else { return Ok(()) };
        let actions = [
            json!({"os-stop": null}),
            json!({"os-start": null}),
            json!({"reboot": {"type": "SOFT"}}),
            json!({"reboot": {"type": "HARD"}}),
            json!({"pause": null}),
            json!({"unpause": null}),
            json!({"suspend": null}),
            json!({"resume": null}),
        ];
        let action = self.random.pick(&actions).unwrap();
        self.asked("power");
        let reply = connection.post(&format!("/compute/v2.1/servers/{id}/action"), action).await?;
        // Busy, in the wrong state, or just deleted by another client.
        assert!(matches!(reply.status.as_u16(), 202 | 404 | 409), "{action} of {id}: {reply:?}");
        if reply.status == 202 {
            self.answered("power");
        }
        Ok(())
    }

    /// One more interface, or one fewer.
    async fn plug(&mut self, connection: &mut Connection, servers: &[String]) -> std::io::Result<()> {
        let Some(id) = self.random.pick(servers) else { return Ok(()) };
        let path = format!("/compute/v2.1/servers/{id}/os-interface");
        self.asked("plug");
        let reply = if self.random.below(2) == 0 {
            connection.post(&path, &json!({"interfaceAttachment": {"net_id": self.network}})).await?
        } else {
            let list = connection.get(&path).await?.json();
            let ports = list["interfaceAttachments"].as_array().cloned().unwrap_or_default();
            let Some(port) = self.random.pick(&ports) else { return Ok(()) };
            connection.delete(&format!("{path}/{}", text(&port["port_id"]))).await?
        };
        // As above; or one too many, or a hypervisor that cannot.
        assert!(matches!(reply.status.as_u16(), 200 | 202 | 400 | 404 | 409), "{path}: {reply:?}");
        self.answered("plug");
        Ok(())
    }

    async fn upload(&mut self, connection: &mut Connection, number: u64) -> std::io::Result<()> {
        let body = json!({"name": format!("{}-{number}", self.name), "disk_format": "raw", "container_format": "bare"});
        let id = connection.post("/image/v2/images", &body).await?.expect(201)["id"].as_str().unwrap().to_owned();
        self.with(|ledger| ledger.images.insert(id.clone(), Promise::Open));
        self.asked("upload");
        let bytes = vec![5; 64 << self.random.below(15)];
        connection.upload(&id, bytes.into()).await?.expect(204);
        self.answered("upload");
        self.with(|ledger| ledger.images.insert(id, Promise::Kept));
        Ok(())
    }

    async fn delete_image(&mut self, connection: &mut Connection, images: &[String]) -> std::io::Result<()> {
        let Some(id) = self.random.pick(images).cloned() else { return Ok(()) };
        if self.with(|ledger| ledger.images.insert(id.clone(), Promise::Open)) != Some(Promise::Kept) {
            return Ok(());
        }
        self.asked("image delete");
        connection.delete(&format!("/image/v2/images/{id}")).await?.expect(204);
        self.answered("image delete");
        self.with(|ledger| ledger.images.insert(id, Promise::Deleted));
        Ok(())
    }
}

async fn list(connection: &mut Connection, path: &str, key: &str) -> Vec<Value> {
    let mut reply = connection.get(path).await.unwrap().expect(200);
    serde_json::from_value(reply[key].take()).unwrap()
}

async fn servers(connection: &mut Connection) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let marker = all.last().map(|last| format!("&marker={}", text(&last["id"]))).unwrap_or_default();
        let path = format!("/compute/v2.1/servers/detail?all_tenants=1&limit=1000{marker}");
        let page = list(connection, &path, "servers").await;
        // The marker of a page may be deleted meanwhile: without need, no further page is asked for.
        let last = page.len() < 1000;
        all.extend(page);
        if last {
            return all;
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn names(path: &Path) -> BTreeSet<String> {
    std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Everything that servers and images own, by who owns it.
struct Seen {
    servers: Vec<Value>,
    ports: Vec<String>,
    allocations: BTreeSet<String>,
    directories: BTreeSet<String>,
    images: BTreeMap<String, String>,
    image_files: BTreeSet<String>,
    staged: BTreeSet<String>,
    cached: BTreeSet<String>,
}

async fn look(connection: &mut Connection, state: &Path) -> Seen {
    let ports = list(connection, "/network/v2.0/ports", "ports").await;
    let provider = list(connection, "/placement/resource_providers", "resource_providers").await;
    let path = format!("/placement/resource_providers/{}/allocations", text(&provider[0]["uuid"]));
    let allocations = connection.get(&path).await.unwrap().expect(200);
    let images = list(connection, "/image/v2/images?limit=1000", "images").await;
    Seen {
        servers: servers(connection).await,
        ports: ports
            .iter()
            .filter(|port| text(&port["device_owner"]).starts_with("compute:"))
            .map(|port| text(&port["device_id"]).to_owned())
            .collect(),
        allocations: allocations["allocations"].as_object().unwrap().keys().cloned().collect(),
        directories: names(&state.join("servers")),
        images: images.iter().map(|i| (text(&i["id"]).to_owned(), text(&i["status"]).to_owned())).collect(),
        image_files: names(&state.join("images/data")),
        staged: names(&state.join("images/staging")),
        cached: names(&state.join("images/cache")),
    }
}

impl Seen {
    /// What nobody owns, and what somebody lacks.
    fn disorder(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let ids: BTreeSet<String> = self.servers.iter().map(|server| text(&server["id"]).to_owned()).collect();
        for orphan in self.directories.difference(&ids) {
            wrong.push(format!("directory {orphan} of no server"));
        }
        for orphan in self.allocations.difference(&ids) {
            wrong.push(format!("allocation of {orphan}, which is no server"));
        }
        for orphan in self.ports.iter().filter(|id| !ids.contains(*id)) {
            wrong.push(format!("port of {orphan}, which is no server"));
        }
        for server in &self.servers {
            let (id, status) = (text(&server["id"]).to_owned(), text(&server["status"]));
            let ports = self.ports.iter().filter(|owner| **owner == id).count();
            let owns = (self.allocations.contains(&id), ports, self.directories.contains(&id));
            match status {
                "ACTIVE" | "SHUTOFF" | "PAUSED" | "SUSPENDED" if !matches!(owns, (true, 0..=8, true)) => {
                    wrong.push(format!("{status} server {id} has (allocation, ports, directory) {owns:?}"));
                }
                "ACTIVE" | "SHUTOFF" | "PAUSED" | "SUSPENDED" => {}
                "ERROR" if text(&server["fault"]["message"]).is_empty() => {
                    wrong.push(format!("server {id} is in error without a reason"));
                }
                "ERROR" => {}
                _ => wrong.push(format!("server {id} is {status}")),
            }
            if !server["OS-EXT-STS:task_state"].is_null() {
                wrong.push(format!("server {id} is stuck in {}", server["OS-EXT-STS:task_state"]));
            }
        }
        let with_file =
            self.images.iter().filter(|(_, status)| *status == "active").map(|(id, _)| id.clone()).collect();
        for name in self.image_files.symmetric_difference(&with_file) {
            wrong.push(format!("image {name} has a file or is active, not both"));
        }
        for name in &self.staged {
            wrong.push(format!("staged file {name} without an upload"));
        }
        wrong
    }
}

/// Runs `cycles` kills and looks at what is left.
pub struct Siege {
    pub place: Place,
    pub cycles: u64,
    pub seed: u64,
    /// The first image's bytes, from which every server boots.
    pub image: Vec<u8>,
    /// A kill comes this long after the clients have begun, at most.
    pub longest_ms: u64,
    /// Above this many servers clients only delete.
    pub crowd: usize,
}

impl Siege {
    pub async fn run(&self) {
        println!(
            "crash: {} cycles with the {} driver; SOLOSTACK_CRASH_SEED={} repeats the choices",
            self.cycles, self.place.driver, self.seed
        );
        let mut random = Random::new(self.seed);
        let ledger: Arc<Mutex<Ledger>> = Arc::default();

        let program = self.place.start().await;
        let mut connection = program.login(&self.place).await.unwrap();
        let token = connection.token.clone();
        let body = json!({"name": "base", "disk_format": "raw", "container_format": "bare"});
        let image = connection.post("/image/v2/images", &body).await.unwrap().expect(201);
        let image = text(&image["id"]).to_owned();
        connection.upload(&image, self.image.clone().into()).await.unwrap().expect(204);
        let networks = list(&mut connection, "/network/v2.0/networks?name=private", "networks").await;
        let network = text(&networks[0]["id"]).to_owned();
        program.kill().await;

        let mut restarts: Vec<Duration> = Vec::new();
        let mut during_start = 0;
        for cycle in 0..self.cycles {
            if random.below(8) == 0 {
                // Killed before it answers, perhaps before it does anything.
                let mut process = self.place.spawn().unwrap();
                let moment = Duration::from_millis(random.below(self.longest_ms));
                let ended = tokio::time::timeout(moment, process.wait()).await;
                assert!(ended.is_err(), "the program ended by itself: {ended:?}\n{}", self.place.log_end());
                process.kill().await.unwrap();
                during_start += 1;
                continue;
            }
            let program = self.place.start().await;
            restarts.push(program.took);
            let mut clients = tokio::task::JoinSet::new();
            for number in 0..CLIENTS {
                let mut connection = program.connect(&self.place).await.unwrap();
                // Tokens survive as well.
                connection.token.clone_from(&token);
                let client = Client {
                    ledger: Arc::clone(&ledger),
                    random: Random::new(random.next()),
                    name: format!("c{cycle}-{number}"),
                    image: image.clone(),
                    network: network.clone(),
                    crowd: self.crowd,
                };
                clients.spawn(client.work(connection));
            }
            let moment = Duration::from_millis(random.below(self.longest_ms));
            // Nothing ends before the kill but a client that was answered wrongly.
            let early = tokio::time::timeout(moment, clients.join_next()).await;
            if let Ok(Some(ended)) = early {
                let log = self.place.log_end();
                panic!("cycle {cycle}: a client ended before the kill: {ended:?}; the log ends:\n{log}");
            }
            program.kill().await;
            while let Some(client) = clients.join_next().await {
                client.unwrap();
            }
        }

        let began = Instant::now();
        let program = self.place.start().await;
        restarts.push(program.took);
        let seen = self.settled(&program, &ledger).await;
        let settled = began.elapsed();
        self.report(&ledger, &seen, restarts, during_start, settled);
        println!("  resident at the end: {:.0} MiB", program.resident_mib());
        self.clear(program, &seen).await;
    }

    /// Waits until everything is at rest and as promised.
    async fn settled(&self, program: &Program, ledger: &Mutex<Ledger>) -> Seen {
        let mut connection = program.login(&self.place).await.unwrap();
        wait_for("everything to be at rest and as promised", Duration::from_secs(180), async || {
            let seen = look(&mut connection, &self.place.state).await;
            let mut wrong = seen.disorder();
            let ledger = ledger.lock().unwrap();
            let there: BTreeSet<&str> = seen.servers.iter().map(|server| text(&server["id"])).collect();
            for (id, promise) in &ledger.servers {
                match (promise, there.contains(id.as_str())) {
                    (Promise::Kept, false) => wrong.push(format!("server {id} was accepted and is lost")),
                    (Promise::Deleted, true) => wrong.push(format!("server {id} was deleted and is there")),
                    _ => {}
                }
            }
            for (id, promise) in &ledger.images {
                match (promise, seen.images.get(id).map(String::as_str)) {
                    (Promise::Kept, Some("active")) | (Promise::Deleted, None) | (Promise::Open, _) => {}
                    (promise, seen) => wrong.push(format!("image {id} was {promise:?} and is {seen:?}")),
                }
            }
            if wrong.is_empty() { Ok(seen) } else { Err(format!("\n{}", wrong.join("\n"))) }
        })
        .await
    }

    fn report(
        &self,
        ledger: &Mutex<Ledger>,
        seen: &Seen,
        mut restarts: Vec<Duration>,
        during_start: u64,
        settled: Duration,
    ) {
        let ledger = ledger.lock().unwrap();
        let status = |wanted: &str| seen.servers.iter().filter(|server| text(&server["status"]) == wanted).count();
        restarts.sort();
        println!(
            "crash: {} cycles with the {} driver, seed {}: {during_start} killed while starting",
            self.cycles, self.place.driver, self.seed
        );
        for (what, asked) in &ledger.asked {
            let answered = ledger.answered.get(what).copied().unwrap_or_default();
            println!("  {what:13} {asked:5} asked, {answered:5} accepted");
        }
        println!(
            "  servers left: {} ACTIVE, {} SHUTOFF, {} ERROR; lost, stuck or without owner: 0",
            status("ACTIVE"),
            status("SHUTOFF"),
            status("ERROR")
        );
        for server in seen.servers.iter().filter(|server| text(&server["status"]) == "ERROR") {
            println!("    {}: {}", text(&server["id"]), text(&server["fault"]["message"]));
        }
        println!(
            "  restart to ready: median {:.2} s, longest {:.2} s; at rest {:.2} s after the last start began",
            restarts[restarts.len() / 2].as_secs_f64(),
            restarts.last().unwrap().as_secs_f64(),
            settled.as_secs_f64()
        );
        assert!(ledger.answered.get("create").is_some_and(|n| *n > 0), "no create was accepted: nothing was tested");
    }

    /// Deletes everything: nothing at all may be left then.
    async fn clear(&self, program: Program, seen: &Seen) {
        let mut connection = program.login(&self.place).await.unwrap();
        for server in &seen.servers {
            let path = format!("/compute/v2.1/servers/{}", text(&server["id"]));
            connection.delete(&path).await.unwrap().expect(204);
        }
        wait_for("all servers to be gone", Duration::from_secs(180), async || {
            let left = servers(&mut connection).await.len();
            if left == 0 { Ok(()) } else { Err(format!("{left} are there")) }
        })
        .await;
        for image in seen.images.keys() {
            connection.delete(&format!("/image/v2/images/{image}")).await.unwrap().expect(204);
        }
        wait_for("nothing to be left", Duration::from_secs(60), async || {
            let seen = look(&mut connection, &self.place.state).await;
            let mut left = seen.disorder();
            if self.place.driver == "tcg" {
                left.extend(machine());
            }
            left.extend(seen.ports.iter().map(|id| format!("port of {id}")));
            left.extend(seen.cached.iter().map(|name| format!("raw copy {name}")));
            left.extend(seen.image_files.iter().map(|name| format!("image file {name}")));
            if left.is_empty() { Ok(()) } else { Err(left.join(", ")) }
        })
        .await;
        program.stop().await;
    }
}

/// A number from the environment; empty is as if it were not there.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, which is no number")))
}

fn any_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::from(now.subsec_nanos()) * 1_000 + u64::from(std::process::id()) % 1_000
}

pub fn place(state: &Path, driver: &'static str) -> Place {
    let binary = std::env::var_os("SOLOSTACK_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_solostack").into());
    Place { binary: binary.into(), state: state.to_owned(), driver, config: ROOM }
}

fn seed() -> u64 {
    number("SOLOSTACK_CRASH_SEED").unwrap_or_else(any_seed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_promised_is_lost_and_nothing_is_left_when_the_program_is_killed_again_and_again() {
    let state = tempfile::Builder::new().prefix("solostack-crash-").tempdir().unwrap();
    let siege = Siege {
        place: place(state.path(), "fake"),
        cycles: number("SOLOSTACK_CRASH_CYCLES").unwrap_or(100),
        seed: seed(),
        image: vec![0; 64 << 10],
        longest_ms: 600,
        crowd: 40,
    };
    siege.run().await;
}

/// As the namespaces of `tests/clients/cloud.py`: what is found in them was made by this run, and the end of the run is the
/// end of every process in them. Bash, as process 1, reaps.
const INSIDE: &str = r#"
groups=$(mktemp -d)
mount --rbind /sys/fs/cgroup "$groups"
mount -t sysfs sysfs /sys
mount --move "$groups" /sys/fs/cgroup
rmdir "$groups"
mkdir -p /run/netns
mount -t tmpfs tmpfs /run/netns
ip link set lo up
"$@"
exit $?
"#;

/// Needs root, QEMU, dnsmasq and nftables (`just setup`).
#[test]
fn nothing_is_left_on_the_machine_when_the_program_is_killed_while_real_servers_come_and_go() {
    assert!(nix::unistd::geteuid().is_root(), "needs root: it makes namespaces and starts QEMU");
    let status = std::process::Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--propagation", "private"])
        .args(["--mount-proc", "bash", "-euc", INSIDE, "bash"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "kill::real_servers", "--ignored", "--nocapture"])
        .status()
        .expect("unshare (Debian package util-linux)");
    assert!(status.success(), "the run in namespaces of its own ended with {status}");
}

#[ignore = "the test above runs this in namespaces of its own"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_servers() {
    let state = tempfile::Builder::new().prefix("solostack-crash-").tempdir().unwrap();
    // Processes of servers run as users of their own, and pass through here.
    std::fs::set_permissions(state.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let siege = Siege {
        place: place(state.path(), "tcg"),
        cycles: number("SOLOSTACK_CRASH_REAL_CYCLES").unwrap_or(4),
        seed: seed(),
        image: include_bytes!("../../src/hypervisor/tests/payload/guest.bin").to_vec(),
        longest_ms: 6_000,
        crowd: 4,
    };
    siege.run().await;
    let down = std::process::Command::new(&siege.place.binary).arg("down").arg("--state").arg(state.path()).output();
    let down = down.unwrap();
    assert!(down.status.success(), "down: {}", String::from_utf8_lossy(&down.stderr));
    wait_for("nothing to be left on the machine after `down`", Duration::from_secs(30), async || {
        let mut left = machine();
        left.extend(namespaces().into_iter().map(|name| format!("namespace {name}")));
        left.extend(processes("dnsmasq"));
        let rules = output("nft", &["list", "ruleset"]);
        left.extend((!rules.is_empty()).then_some(rules));
        if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
    })
    .await;
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(program).args(arguments).output().expect(program);
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn namespaces() -> Vec<String> {
    let list = output("ip", &["netns", "list"]);
    list.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// Command lines in this process namespace that have this word in them, but for the dead.
fn processes(word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if entry.file_name().to_string_lossy().parse::<u32>().is_ok() && line.contains(word) {
            found.push(format!("process {line}"));
        }
    }
    found
}

/// What servers have on the machine: processes, taps, and rules that name one tap (not all of them).
fn machine() -> Vec<String> {
    let mut left = processes("qemu-system");
    left.extend(processes("solostack vm "));
    for namespace in namespaces() {
        let taps = output("ip", &["-n", &namespace, "-o", "link", "show", "type", "tun"]);
        left.extend(taps.lines().map(|tap| format!("{namespace}: {tap}")));
        let rules = output("ip", &["netns", "exec", &namespace, "nft", "list", "ruleset"]);
        left.extend(
            rules
                .lines()
                .filter(|rule| rule.replace("\"tap*\"", "").contains("\"tap"))
                .map(|rule| format!("{namespace}: {rule}")),
        );
    }
    left
}

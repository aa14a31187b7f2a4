//! What this machine offers a cloud and what it lacks, found by trying rather than by asking what is installed.
//!
//! Nothing is changed: network features are tried in a network namespace that ends with the thread that made it, and
//! ports are bound for a moment. Every row says what was found, and, unless all is well, what to do.

mod network;
mod ports;

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use config::{Config, Driver};

use self::network::network;
use self::ports::ports;

/// How long a program may take to say its version or to load a rule.
const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    Ok,
    /// It works, with less.
    Warn,
    /// The cloud does not start, or cannot run servers.
    Fail,
}

impl Health {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    pub check: &'static str,
    pub status: Health,
    /// What there is.
    pub found: String,
    /// What to do about it; `None` when all is well.
    pub advice: Option<String>,
}

impl Row {
    pub fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, status: Health::Ok, found: found.into(), advice: None }
    }

    pub fn warn(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, status: Health::Warn, found: found.into(), advice: Some(advice.into()) }
    }

    pub fn fail(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, status: Health::Fail, found: found.into(), advice: Some(advice.into()) }
    }

    /// A failure of what this configuration can do without is a warning.
    pub fn unless(mut self, dispensable: bool) -> Self {
        if dispensable {
            self.status = self.status.min(Health::Warn);
        }
        self
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub rows: Vec<Row>,
}

impl Report {
    pub fn status(&self) -> Health {
        self.rows.iter().map(|row| row.status).max().unwrap_or(Health::Ok)
    }

    /// 0 all fine, 1 warnings, 2 failures.
    pub fn exit_code(&self) -> u8 {
        self.status() as u8
    }

    pub fn to_json(&self) -> String {
        serde_json::json!({ "status": self.status(), "checks": self.rows }).to_string()
    }

    pub fn to_text(&self) -> String {
        let width = self.rows.iter().map(|row| row.check.len()).max().unwrap_or(0);
        let mut text = String::new();
        for row in &self.rows {
            text.push_str(&format!("{:<5} {:<width$}  {}\n", row.status.word(), row.check, row.found));
            if let Some(advice) = &row.advice {
                text.push_str(&format!("{:<5} {:<width$}  -> {advice}\n", "", ""));
            }
        }
        let count = |status| self.rows.iter().filter(|row| row.status == status).count();
        let (warnings, failures) = (count(Health::Warn), count(Health::Fail));
        text.push_str(&match (warnings, failures) {
            (0, 0) => "everything is fine\n".to_owned(),
            _ => format!("{failures} failures, {warnings} warnings\n"),
        });
        text
    }
}

/// Looks at everything. Takes a second or two.
pub async fn examine(config: &Config) -> Report {
    let fake = config.driver == Driver::Fake;
    let mut rows = vec![privileges().unless(fake), kvm(config).await, qemu(config).await];
    rows.push(program("nftables", "nft", &["--version"], "nftables").await.unless(fake));
    rows.push(program("dnsmasq", "dnsmasq", &["--version"], "dnsmasq-base").await.unless(fake));
    rows.extend(network().await.into_iter().map(|row| row.unless(fake)));
    rows.extend([namespaces().unless(fake), cgroups(), processors(), memory(config), state_dir(config), space(config)]);
    rows.extend(ports(config));
    rows.push(clock());
    Report { rows }
}

fn privileges() -> Row {
    const CHECK: &str = "privileges";
    const NEEDED: [(u32, &str); 4] =
        [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN"), (7, "CAP_SETUID"), (0, "CAP_CHOWN")];
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = field.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    let missing: Vec<_> = NEEDED.iter().filter(|(bit, _)| effective >> bit & 1 == 0).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        Row::ok(CHECK, "may manage networks, namespaces and users")
    } else {
        Row::fail(CHECK, format!("lacks {}", missing.join(", ")), "run it as root")
    }
}

async fn kvm(config: &Config) -> Row {
    const CHECK: &str = "kvm";
    let probe = match tokio::task::spawn_blocking(hypervisor::probe).await {
        Ok(probe) => probe,
        Err(error) => return Row::fail(CHECK, format!("the probe broke: {error}"), "report this as a bug"),
    };
    let reason = match &probe.kvm {
        hypervisor::KvmVerdict::Usable { .. } => return Row::ok(CHECK, format!("{}; {}", probe.kvm, probe.reason)),
        hypervisor::KvmVerdict::Unusable { reason } => reason,
    };
    let advice = kvm_advice(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default());
    match config.driver {
        Driver::Fake => Row::ok(CHECK, format!("not needed by driver fake ({reason})")),
        Driver::Kvm => Row::fail(CHECK, format!("driver is kvm, and {reason}"), advice),
        _ => Row::warn(CHECK, format!("{reason}; servers are emulated, many times slower"), advice),
    }
}

/// What can be done where KVM does not work.
fn kvm_advice(cpuinfo: &str) -> String {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let can = flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm");
    if !can {
        return "the processor shows no VT-x or AMD-V: enable virtualization in the firmware, or nested virtualization in \
                the hypervisor that runs this machine"
            .into();
    }
    match std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => "modprobe kvm-intel, or kvm-amd".into(),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => "run it as root, or join the group kvm".into(),
        _ => "use a host whose KVM runs guests in hardware".into(),
    }
}

async fn qemu(config: &Config) -> Row {
    const CHECK: &str = "qemu";
    let row = program(CHECK, "qemu-system-x86_64", &["--version"], "qemu-system-x86").await;
    if row.status == Health::Ok && major_version(&row.found).is_some_and(|major| major < 7) {
        return Row::fail(CHECK, row.found, "version 7 or later is needed");
    }
    row.unless(matches!(config.driver, Driver::Fake | Driver::Kvm))
}

/// `QEMU emulator version 7.2.22 (Debian ...)` is 7.
fn major_version(text: &str) -> Option<u32> {
    text.split_whitespace().find_map(|word| word.split_once('.')?.0.trim_start_matches('v').parse().ok())
}

async fn program(check: &'static str, name: &str, arguments: &[&str], package: &str) -> Row {
    match output(name, arguments, "").await {
        Ok(text) => Row::ok(check, text.lines().next().unwrap_or_default().trim().to_owned()),
        Err(Trouble::Missing) => {
            Row::fail(check, format!("{name} is not installed"), format!("apt-get install {package}"))
        }
        Err(Trouble::Other(reason)) => {
            Row::fail(check, format!("{name} does not run: {reason}"), format!("reinstall the package {package}"))
        }
    }
}

enum Trouble {
    Missing,
    Other(String),
}

/// Runs a program by name, also from the directories for administrators, which are not in every user's path.
async fn output(name: &str, arguments: &[&str], input: &str) -> Result<String, Trouble> {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = path
        .split(':')
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"])
        .filter(|dir| dir.starts_with('/'))
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.is_file())
        .ok_or(Trouble::Missing)?;
    let other = |error: io::Error| Trouble::Other(error.to_string());
    let mut child = Command::new(found)
        .args(arguments)
        // Nothing of our environment, where secrets and systemd's sockets may be.
        .env_clear()
        .env("PATH", &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(other)?;
    let all = async {
        if let Some(mut stdin) = child.stdin.take() {
            // A program that does not read its input closes it.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(DEADLINE, all)
        .await
        .map_err(|_| Trouble::Other(format!("no answer within {} s", DEADLINE.as_secs())))?
        .map_err(other)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    Err(Trouble::Other(format!("{}: {line}", output.status)))
}

fn namespaces() -> Row {
    const CHECK: &str = "process namespaces";
    let missing: Vec<_> = ["mnt", "pid", "ipc", "uts"]
        .into_iter()
        .filter(|kind| Path::new("/proc/self/ns").join(kind).symlink_metadata().is_err())
        .collect();
    if missing.is_empty() {
        Row::ok(CHECK, "mnt, pid, ipc, uts")
    } else {
        Row::fail(CHECK, format!("missing: {}", missing.join(", ")), "a kernel with CONFIG_NAMESPACES")
    }
}

fn cgroups() -> Row {
    const CHECK: &str = "cgroups";
    let controllers = |dir: &str| std::fs::read_to_string(Path::new(dir).join("cgroup.controllers"));
    if let Ok(text) = controllers("/sys/fs/cgroup") {
        let missing: Vec<_> = ["cpu", "memory", "pids"]
            .into_iter()
            .filter(|wanted| !text.split_whitespace().any(|controller| controller == *wanted))
            .collect();
        return if missing.is_empty() {
            Row::ok(CHECK, "version 2")
        } else {
            let found = format!("version 2 without {}", missing.join(", "));
            Row::warn(CHECK, found, "boot without cgroup_disable, or delegate these controllers to this container")
        };
    }
    let found = match controllers("/sys/fs/cgroup/unified") {
        Ok(_) => "version 1, with version 2 beside it",
        Err(_) => "no version 2",
    };
    let advice =
        "boot with systemd.unified_cgroup_hierarchy=1; without it servers are not held to their share of the machine";
    Row::warn(CHECK, found, advice)
}

fn processors() -> Row {
    const CHECK: &str = "processors";
    match std::thread::available_parallelism().map(usize::from) {
        Ok(1) => Row::warn(CHECK, "1", "servers compete with the cloud itself; give it 2 or more"),
        Ok(count) => Row::ok(CHECK, count.to_string()),
        Err(error) => Row::warn(CHECK, format!("cannot be counted: {error}"), "mount /proc and /sys"),
    }
}

fn memory(config: &Config) -> Row {
    const CHECK: &str = "memory";
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib / 1024)
    };
    let (Some(total), Some(available)) = (field("MemTotal:"), field("MemAvailable:")) else {
        return Row::warn(CHECK, "/proc/meminfo cannot be read", "mount /proc");
    };
    let found = format!("{available} of {total} MiB available");
    let reserved = config.scheduling.reserved_memory_mib;
    if total <= reserved + 64 {
        let found = format!("{found}, {reserved} MiB of it reserved");
        Row::fail(CHECK, found, "no server fits: add memory, or lower scheduling.reserved_memory_mib")
    } else if available < 512 {
        Row::warn(CHECK, found, "few servers fit: add memory, or end other programs")
    } else {
        Row::ok(CHECK, found)
    }
}

/// The nearest directory above `path` that exists, or `path` itself.
fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/")).to_owned()
}

fn state_dir(config: &Config) -> Row {
    const CHECK: &str = "state directory";
    let dir = &config.state_dir;
    let shown = dir.display();
    let Ok(metadata) = std::fs::metadata(dir) else {
        let above = existing(dir);
        return match nix::unistd::access(&above, nix::unistd::AccessFlags::W_OK) {
            Ok(()) if above.is_dir() => Row::ok(CHECK, format!("{shown} does not exist yet and can be made")),
            Ok(()) => {
                Row::fail(CHECK, format!("{} is not a directory", above.display()), "choose another with --state")
            }
            Err(error) => {
                let found = format!("{shown} does not exist and cannot be made: {}: {error}", above.display());
                Row::fail(CHECK, found, "run it as root, or choose another with --state")
            }
        };
    };
    let us = nix::unistd::geteuid().as_raw();
    if !metadata.is_dir() {
        Row::fail(CHECK, format!("{shown} is not a directory"), "choose another with --state")
    } else if metadata.uid() != us {
        let found = format!("{shown} belongs to user {}, and this is user {us}", metadata.uid());
        Row::fail(CHECK, found, format!("chown -R {us} {shown}"))
    } else if metadata.mode() & 0o022 != 0 {
        let found = format!("{shown} can be changed by others (mode {:o})", metadata.mode() & 0o7777);
        Row::fail(CHECK, found, format!("chmod go-w {shown}; it holds keys and disks"))
    } else if let Err(error) = nix::unistd::access(dir, nix::unistd::AccessFlags::W_OK) {
        Row::fail(
            CHECK,
            format!("{shown} cannot be written: {error}"),
            "remount it read-write, or choose another with --state",
        )
    } else {
        Row::ok(CHECK, format!("{shown} is ours"))
    }
}

fn space(config: &Config) -> Row {
    const CHECK: &str = "space";
    let dir = existing(&config.state_dir);
    let stat = match nix::sys::statvfs::statvfs(&dir) {
        Ok(stat) => stat,
        Err(error) => return Row::fail(CHECK, format!("{}: {error}", dir.display()), "choose another with --state"),
    };
    let gib = |blocks: u64| (blocks as f64) * (stat.fragment_size() as f64) / f64::from(1 << 30);
    let (free, total) = (gib(stat.blocks_available()), gib(stat.blocks()));
    let found = format!("{free:.1} of {total:.1} GiB free on {}", dir.display());
    if free < 1.0 {
        Row::fail(CHECK, found, "make room, or choose another file system with --state")
    } else if free < 10.0 {
        Row::warn(CHECK, found, "room for a few small servers only")
    } else if stat.files() > 0 && stat.files_available() < 10_000 {
        Row::warn(
            CHECK,
            format!("{found}, but only {} files can be made", stat.files_available()),
            "remove small files",
        )
    } else {
        Row::ok(CHECK, found)
    }
}

fn clock() -> Row {
    const CHECK: &str = "clock";
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // 2026-01-01: before that this program did not exist.
    if seconds < 1_767_225_600 {
        Row::warn(
            CHECK,
            "it is wrong by years",
            "set it (timedatectl set-ntp true): certificates and tokens depend on it",
        )
    } else {
        Row::ok(CHECK, "plausible")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn config() -> Config {
        Config { https_port: 0, http_port: None, service_ports: false, ..Config::default() }
    }

    #[test]
    fn the_exit_code_is_the_worst_row_and_both_forms_say_the_same() {
        let mut report = Report { rows: vec![Row::ok("a", "fine")] };
        assert_eq!((report.exit_code(), report.to_text().contains("everything is fine")), (0, true));
        report.rows.push(Row::warn("longer name", "slow", "buy more"));
        assert_eq!(report.exit_code(), 1);
        report.rows.push(Row::fail("b", "broken", "mend it"));
        assert_eq!(report.exit_code(), 2);
        let text = report.to_text();
        assert!(text.contains("FAIL  b            broken\n                   -> mend it\n"), "{text}");
        assert!(text.ends_with("1 failures, 1 warnings\n"));
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(json["status"], "fail");
        assert_eq!(json["checks"][1]["advice"], "buy more");
        assert_eq!(json["checks"][0]["advice"], serde_json::Value::Null);
    }

    #[test]
    fn a_state_directory_others_can_change_is_a_failure_and_one_that_can_be_made_is_not() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let config = |path: &Path| Config { state_dir: path.to_owned(), ..config() };
        assert_eq!(state_dir(&config(dir.path())).status, Health::Ok);
        assert_eq!(state_dir(&config(&dir.path().join("a/b"))).status, Health::Ok);
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let row = state_dir(&config(dir.path()));
        assert!(row.status == Health::Fail && row.advice.unwrap().starts_with("chmod go-w"));
        std::fs::write(dir.path().join("file"), "").unwrap();
        for path in ["file", "file/below"] {
            let row = state_dir(&config(&dir.path().join(path)));
            assert!(row.status == Health::Fail && row.found.contains("is not a directory"), "{row:?}");
        }
    }

    #[test]
    fn a_machine_too_small_for_its_reserve_is_a_failure() {
        let mut config = config();
        assert_ne!(memory(&config).status, Health::Fail);
        config.scheduling.reserved_memory_mib = 1 << 30;
        assert_eq!(memory(&config).status, Health::Fail);
    }

    #[tokio::test]
    async fn a_program_that_is_missing_or_fails_is_said_with_what_to_install() {
        let row = program("x", "no-such-program-at-all", &[], "some-package").await;
        assert_eq!(row, Row::fail("x", "no-such-program-at-all is not installed", "apt-get install some-package"));
        let row = program("x", "false", &[], "coreutils").await;
        assert!(row.found.starts_with("false does not run: exit status: 1"), "{row:?}");
        assert_eq!(program("x", "true", &[], "coreutils").await.status, Health::Ok);
    }

    #[tokio::test]
    async fn kvm_is_judged_by_what_the_configuration_needs_of_it() {
        assert_eq!(kvm(&Config { driver: Driver::Fake, ..config() }).await.status, Health::Ok);
        let (auto, forced) = (kvm(&config()).await, kvm(&Config { driver: Driver::Kvm, ..config() }).await);
        match auto.status {
            Health::Ok => assert_eq!(forced.status, Health::Ok),
            _ => assert_eq!((auto.status, forced.status), (Health::Warn, Health::Fail)),
        }
        assert!(kvm_advice("flags : fpu sse").contains("no VT-x or AMD-V"));
    }

    #[test]
    fn versions_are_read_from_what_programs_print() {
        assert_eq!(major_version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg)"), Some(7));
        assert_eq!(major_version("nftables v1.0.6 (Lester Gooch #5)"), Some(1));
        assert_eq!(major_version("nothing"), None);
    }
}

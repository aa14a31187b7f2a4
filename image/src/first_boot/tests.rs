//! First boots in a folder that stands for the machine.

use std::{
    io::{Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use tempfile::TempDir;

use super::*;

const HASH: &str = "$argon2id$v=19$m=65536,t=3,p=4$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY";

struct Machine {
    root: TempDir,
    restored: std::cell::RefCell<Vec<PathBuf>>,
    refuses_backups: std::cell::Cell<bool>,
    metadata: String,
}

fn machine() -> Machine {
    let root = TempDir::new().unwrap();
    // Nothing listens there.
    let metadata = "http://127.0.0.1:1".to_owned();
    Machine { root, restored: Vec::new().into(), refuses_backups: false.into(), metadata }
}

impl Machine {
    fn put(&self, path: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn stick(&self, text: &str) {
        self.put("dev/disk/by-label/SOLOSTACK/solostack.toml", text);
    }

    fn boot(&self) -> Result<Outcome, Trouble> {
        let restore = |file: &Path, state: &Path| {
            if self.refuses_backups.get() {
                return Err("it is of another version".to_owned());
            }
            self.restored.borrow_mut().push(file.to_owned());
            fs::write(state.join(DATABASE), "restored").map_err(|error| error.to_string())
        };
        self.with(&restore, |setup| setup.run())
    }

    fn with<T>(&self, restore: &Restore<'_>, work: impl FnOnce(&Setup<'_>) -> T) -> T {
        let check = |config: &Config| match config.region.as_str() {
            "Nowhere" => vec!["network_settings: no such NIC".to_owned()],
            _ => Vec::new(),
        };
        let root = self.root.path().to_owned();
        work(&Setup { root, metadata: self.metadata.clone(), check: &check, restore })
    }

    fn state(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.root.path().join("var/lib/solostack").join(name)).ok()
    }

    fn record(&self) -> Record {
        serde_json::from_str(&self.state(RECORD).unwrap()).unwrap()
    }
}

fn applied(from: &str) -> Result<Outcome, Trouble> {
    Ok(Outcome::Applied(from.to_owned()))
}

#[test]
fn a_stick_is_applied_once_and_may_stay() {
    let machine = machine();
    let text = format!(
        "# mine\nregion = \"Home\"\npublic_host = \"cloud.example\"\n[machine]\nhostname = \"cloud\"\n\
         [first_boot]\nadmin_password_hash = \"{HASH}\"\n[log.syslog]\naddress = \"logs.example:6514\"\n"
    );
    machine.stick(&text);
    assert_eq!(machine.boot(), applied("the medium labelled SOLOSTACK"));
    let written = machine.state("solostack.toml").unwrap();
    let config = config::resolve(&written, &[]).unwrap();
    assert_eq!((config.region.as_str(), config.machine.hostname.as_deref()), ("Home", Some("cloud")));
    assert_eq!(config.syslog.unwrap().host, "logs.example");
    assert!(!written.contains("first_boot") && !written.contains("argon2"), "{written}");
    assert_eq!(machine.state(ADMIN_HASH).as_deref(), Some(HASH));
    let file = machine.root.path().join("var/lib/solostack").join(ADMIN_HASH);
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    let record = machine.record();
    let sha256 = crate::secret::hash(&text).map(|byte| format!("{byte:02x}")).concat();
    assert_eq!((record.state.as_str(), record.sha256, record.reason), ("applied", sha256, None));
    assert_eq!(machine.state(STAGED), None);
    // It stays, and somebody writes something else onto it.
    machine.stick("region = \"Other\"\n[first_boot]\nadmin_password = \"of a thief\"");
    fs::remove_file(machine.root.path().join("var/lib/solostack").join(ADMIN_HASH)).unwrap();
    assert_eq!(machine.boot(), Ok(Outcome::Before));
    assert_eq!(machine.state("solostack.toml"), Some(written));
    assert_eq!(machine.state(ADMIN_HASH), None);
}

#[test]
fn without_a_preseed_nothing_happens_and_a_later_stick_still_counts_until_somebody_has_claimed() {
    let machine = machine();
    assert_eq!(machine.boot(), Ok(Outcome::None));
    assert_eq!(machine.state(RECORD), None);
    machine.put("var/lib/solostack/solostack.db", "x");
    machine.put("var/lib/solostack/unclaimed", "");
    assert_eq!(machine.boot(), Ok(Outcome::None));
    machine.stick("region = \"Home\"");
    fs::remove_file(machine.root.path().join("var/lib/solostack/unclaimed")).unwrap();
    assert_eq!(machine.boot(), Ok(Outcome::Over));
    assert_eq!(machine.state("solostack.toml"), None);
    machine.put("var/lib/solostack/unclaimed", "");
    assert_eq!(machine.boot(), applied("the medium labelled SOLOSTACK"));
}

#[test]
fn everything_that_is_wrong_is_said_with_its_line_and_nothing_is_applied() {
    let machine = machine();
    for (text, wanted) in [
        ("x", "line 1: not TOML"),
        ("region = \"a b\"", "line 1: region: \"a b\" is not 1 to 255"),
        ("\nregin = \"x\"", "line 2: unknown key regin; the nearest known key is region"),
        ("[first_boot]\npassword = \"x\"", "line 2: first_boot: unknown field `password`"),
        ("first_boot = 7", "line 1: first_boot: invalid type"),
        ("[first_boot]\n\nadmin_password_hash = \"$6$x\"", "line 3: first_boot.admin_password_hash: it is no argon2id"),
        (
            "[first_boot]\nadmin_password_hash = \"$argon2id$v=19$m=999999999,t=3,p=4$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY\"",
            "it asks for more than 256 MiB",
        ),
        ("[first_boot]\nadmin_password = \"short\"", "line 2: first_boot.admin_password: it has fewer than 8"),
        (
            "[first_boot]\nrestore = \"../../etc/shadow\"",
            "line 2: first_boot.restore: it is no path on the same medium",
        ),
        ("[first_boot]\nrestore = \"/etc/shadow\"", "line 2: first_boot.restore: it is no path on the same medium"),
        (
            "[first_boot]\nadmin_password = \"long enough\"\nrestore = \"x\"",
            "line 3: first_boot.restore: the restored cloud has its administrator already",
        ),
        ("state_dir = \"/elsewhere\"", "state_dir: in the appliance it is where it is"),
        ("[machine]\ntimezone = \"../../etc\"", "line 2: machine.timezone:"),
        ("[machine]\ntimezone = \"Europe/Atlantis\"", "machine.timezone: there is no time zone Europe/Atlantis"),
        ("[machine]\nhostname = \"a_b\"", "line 2: machine.hostname:"),
        ("region = \"Nowhere\"", "network_settings: no such NIC"),
    ] {
        machine.put("usr/share/zoneinfo/Europe/Berlin", "");
        machine.stick(text);
        let said = machine.boot().unwrap_err();
        assert!(said.contains(wanted), "{text}: {said}");
        assert_eq!(
            (machine.state("solostack.toml"), machine.state(STAGED), machine.state(ADMIN_HASH)),
            (None, None, None)
        );
        let record = machine.record();
        assert!(record.state == "refused" && record.reason.unwrap().contains(wanted));
    }
    let both = format!("[first_boot]\nadmin_password = \"long enough\"\nadmin_password_hash = \"{HASH}\"\nx = 1\n[y]");
    machine.stick(&both);
    let said = machine.boot().unwrap_err();
    assert!(said.contains("unknown key y") && said.contains("unknown field `x`"), "all at once: {said}");
    // Mended, it is applied.
    machine.stick("[machine]\ntimezone = \"Europe/Berlin\"");
    assert_eq!(machine.boot(), applied("the medium labelled SOLOSTACK"));
    assert_eq!(machine.record().state, "applied");
}

#[test]
fn a_plain_password_is_kept_as_a_hash_alone() {
    let machine = machine();
    machine.stick("[first_boot]\nadmin_password = \"correct horse\"");
    machine.boot().unwrap();
    let hash = machine.state(ADMIN_HASH).unwrap();
    assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
    let parsed = argon2::PasswordHash::new(&hash).unwrap();
    use argon2::PasswordVerifier;
    assert!(argon2::Argon2::default().verify_password(b"correct horse", &parsed).is_ok());
    for entry in fs::read_dir(machine.root.path().join("var/lib/solostack")).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("correct horse"));
    }
}

#[test]
fn the_first_place_in_the_order_counts() {
    let machine = machine();
    let region = |name: &str| format!("#solostack\nregion = \"{name}\"\n");
    let places = [
        ("dev/disk/by-label/config-2/openstack/latest/user_data", "Drive", "the config drive"),
        ("dev/disk/by-label/cidata/user-data", "Seed", "the NoCloud seed"),
        ("dev/disk/by-label/SOLOSTACK/solostack.toml", "Stick", "the medium labelled SOLOSTACK"),
    ];
    let expect = |name: &str, source: &str| {
        let state = machine.root.path().join("var/lib/solostack");
        let _ = fs::remove_dir_all(&state);
        assert_eq!(machine.boot(), applied(source));
        assert!(machine.state("solostack.toml").unwrap().contains(&format!("region = \"{name}\"")));
    };
    for (path, name, source) in places {
        machine.put(path, region(name));
        expect(name, source);
    }
    let asked = |name: &str| format!("solostack.preseed=base64:{}", STANDARD.encode(region(name)));
    let mut raw = vec![11, 5, 0, 0, 2];
    raw.extend(format!("other\0{}\0\0", asked("Smbios")).bytes());
    machine.put("sys/firmware/dmi/entries/11-0/raw", raw);
    expect("Smbios", "SMBIOS");
    machine.put("proc/cmdline", format!("quiet {} ro\n", asked("Line")));
    expect("Line", "the kernel's command line");
    machine.put("proc/cmdline", "quiet solostack.preseed=off ro\n");
    let _ = fs::remove_dir_all(machine.root.path().join("var/lib/solostack"));
    assert_eq!(machine.boot(), Ok(Outcome::None));
    for (asked, wanted) in [
        ("http://example/x", "is neither off, nor an https URL"),
        ("file:///etc/shadow", "is neither off, nor an https URL"),
        ("base64:!!", "is no base64"),
    ] {
        machine.put("proc/cmdline", format!("solostack.preseed={asked}"));
        assert!(machine.boot().unwrap_err().contains(wanted), "{asked}");
    }
}

#[test]
fn user_data_for_somebody_else_is_left_alone() {
    let machine = machine();
    machine.put("dev/disk/by-label/cidata/user-data", "#cloud-config\nusers: []\n");
    machine.put("dev/disk/by-label/config-2/openstack/latest/user_data", "#!/bin/sh\nreboot\n");
    assert_eq!(machine.boot(), Ok(Outcome::None));
    assert_eq!(machine.state(RECORD), None);
    // On a seed of our own no mark is needed.
    machine.put("dev/disk/by-label/cidata/solostack.toml", "region = \"Seed\"");
    assert_eq!(machine.boot(), applied("the NoCloud seed"));
}

#[test]
fn a_medium_cannot_lead_elsewhere_or_fill_the_memory() {
    let machine = machine();
    let secret = machine.put("etc/secret", "region = \"Stolen\"");
    let folder = machine.root.path().join("dev/disk/by-label/SOLOSTACK");
    fs::create_dir_all(&folder).unwrap();
    std::os::unix::fs::symlink(&secret, folder.join("solostack.toml")).unwrap();
    let said = machine.boot().unwrap_err();
    assert!(said.contains("it is no file of this medium"), "{said}");
    fs::remove_file(folder.join("solostack.toml")).unwrap();
    fs::create_dir(folder.join("solostack.toml")).unwrap();
    assert!(machine.boot().unwrap_err().contains("it is no file of this medium"));
    fs::remove_dir(folder.join("solostack.toml")).unwrap();
    machine.stick(&"#".repeat(2 << 20));
    assert!(machine.boot().unwrap_err().contains("larger than 1 MiB"));
    machine.put("dev/disk/by-label/SOLOSTACK/solostack.toml", [0xff, 0xfe]);
    assert!(machine.boot().unwrap_err().contains("it is no UTF-8 text"));
}

#[test]
fn a_power_cut_at_any_step_is_carried_to_the_end_without_the_stick() {
    let text = format!("region = \"Home\"\n[first_boot]\nadmin_password_hash = \"{HASH}\"\n");
    let files = [ADMIN_HASH, "solostack.toml", RECORD];
    // What the disk holds when the power fails: the staged file, and some of what follows from it.
    for done in 0..=files.len() {
        let whole = machine();
        whole.stick(&text);
        whole.boot().unwrap();
        let cut = machine();
        let staged = Staged {
            source: "the medium labelled SOLOSTACK".into(),
            sha256: whole.record().sha256,
            config: "region = \"Home\"\n".into(),
            admin_hash: Some(HASH.into()),
            restore: None,
        };
        cut.put(&format!("var/lib/solostack/{STAGED}"), serde_json::to_vec(&staged).unwrap());
        for name in &files[..done] {
            cut.put(&format!("var/lib/solostack/{name}"), whole.state(name).unwrap());
        }
        assert_eq!(cut.boot(), applied("the medium labelled SOLOSTACK"), "after {done} files");
        assert_eq!(cut.state(ADMIN_HASH), whole.state(ADMIN_HASH));
        assert_eq!(cut.state("solostack.toml"), whole.state("solostack.toml"));
        assert_eq!(cut.record().sha256, whole.record().sha256);
        assert_eq!(cut.state(STAGED), None);
        assert_eq!(cut.boot(), Ok(Outcome::Before));
    }
}

#[test]
fn what_the_operator_has_set_already_stays_unless_the_preseed_says_otherwise() {
    let machine = machine();
    machine.put("var/lib/solostack/solostack.toml", "region = \"Old\"\n[quota]\ninstances = 3\ncores = 4\n");
    machine.stick("region = \"New\"\n[quota]\ncores = 8\n");
    machine.boot().unwrap();
    let config = config::resolve(&machine.state("solostack.toml").unwrap(), &[]).unwrap();
    assert_eq!((config.region.as_str(), config.quota.instances, config.quota.cores), ("New", 3, 8));
    // What only both together get wrong is refused before anything is applied.
    let machine = self::machine();
    machine.put("var/lib/solostack/solostack.toml", "https_port = 8443\n");
    machine.stick("http_port = 8443\n");
    assert!(machine.boot().unwrap_err().contains("together with"), "{:?}", machine.state(RECORD));
    assert_eq!(machine.state("solostack.toml").as_deref(), Some("https_port = 8443\n"));
}

#[test]
fn a_backup_on_the_medium_comes_first_and_once() {
    let machine = machine();
    machine.stick("region = \"Home\"\n[first_boot]\nrestore = \"backups/cloud.backup\"\n");
    assert!(machine.boot().unwrap_err().contains("backups/cloud.backup is not restored"), "there is no such file");
    assert_eq!((machine.record().state.as_str(), machine.state("solostack.toml")), ("refused", None));
    machine.put("dev/disk/by-label/SOLOSTACK/backups/cloud.backup", "b");
    machine.refuses_backups.set(true);
    assert!(machine.boot().unwrap_err().contains("it is of another version"));
    assert_eq!((machine.state(STAGED), machine.state("solostack.toml")), (None, None));
    machine.refuses_backups.set(false);
    assert_eq!(machine.boot(), applied("the medium labelled SOLOSTACK"));
    assert_eq!(machine.restored.borrow().len(), 1);
    // The power failed behind the restore: it is not made twice, and needs no stick.
    let cut = self::machine();
    let staged = Staged {
        source: "s".into(),
        sha256: "0".into(),
        config: "region = \"Home\"\n".into(),
        admin_hash: None,
        restore: Some("backups/cloud.backup".into()),
    };
    cut.put(&format!("var/lib/solostack/{STAGED}"), serde_json::to_vec(&staged).unwrap());
    assert!(cut.boot().unwrap_err().contains("plug it in again"), "it was not restored yet");
    cut.put("var/lib/solostack/solostack.db", "restored");
    assert_eq!(cut.boot(), applied("s"));
    assert!(cut.restored.borrow().is_empty());
    // Where there is a cloud already, none is restored.
    let late = self::machine();
    late.put("var/lib/solostack/solostack.db", "x");
    late.put("var/lib/solostack/unclaimed", "");
    late.stick("[first_boot]\nrestore = \"cloud.backup\"\n");
    assert!(late.boot().unwrap_err().contains("there is a cloud already"));
}

/// Answers one request with this.
fn answering(answer: String) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut request, mut part) = (Vec::new(), [0; 1024]);
        while !request.ends_with(b"\r\n\r\n") {
            let count = stream.read(&mut part).unwrap();
            request.extend_from_slice(&part[..count]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(request).unwrap()
    });
    (url, thread)
}

#[test]
fn a_server_of_an_openstack_cloud_asks_its_metadata_service() {
    let mut machine = machine();
    let body = "#solostack\nregion = \"Nested\"\n";
    let (url, thread) = answering(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    machine.metadata = url;
    assert_eq!(machine.boot(), Ok(Outcome::None), "this machine is no server of a cloud");
    machine.put("sys/class/dmi/id/product_name", "OpenStack Nova\n");
    assert_eq!(machine.boot(), applied("the metadata service"));
    let request = thread.join().unwrap();
    assert!(request.starts_with("GET /openstack/latest/user_data HTTP/1.0\r\nHost: 127.0.0.1:"), "{request}");
    // Without user data, and with somebody else's.
    for answer in ["HTTP/1.0 404 Not Found\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\n#cloud-config\n"] {
        let mut machine = self::machine();
        let (url, thread) = answering(answer.to_owned());
        machine.metadata = url;
        machine.put("sys/class/dmi/id/product_name", "OpenStack Compute\n");
        assert_eq!(machine.boot(), Ok(Outcome::None));
        thread.join().unwrap();
    }
}

#[test]
fn the_machine_is_called_as_the_configuration_says() {
    let machine = machine();
    let restore = |_: &Path, _: &Path| Ok(());
    let text = "[machine]\nhostname = \"cloud\"\ntimezone = \"Europe/Berlin\"\n";
    for (text, name, zone) in [(text, Some("cloud"), "Europe/Berlin"), ("", Some("cloud"), "UTC")] {
        let config = config::resolve(text, &[]).unwrap();
        machine.with(&restore, |setup| setup.name_machine(&config)).unwrap();
        let run = machine.root.path().join("run/solostack");
        assert_eq!(fs::read_to_string(run.join("hostname")).ok().as_deref(), name);
        assert_eq!(fs::read_link(run.join("localtime")).unwrap(), Path::new("/usr/share/zoneinfo").join(zone));
    }
}

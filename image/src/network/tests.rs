use std::cell::{Cell, RefCell};
use std::path::PathBuf;

use config::{Config, NetworkSettings};

use super::*;

fn parsed(text: &str) -> Config {
    config::resolve(text, &[]).unwrap()
}

fn checked(text: &str) -> Checked {
    check(&parsed(text)).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn problems(text: &str) -> Vec<String> {
    check(&parsed(text)).expect_err(text)
}

const STATIC: &str = r#"
[network_settings]
dns_servers = ["192.0.2.53", "2001:db8::53"]
search_domains = ["example.org", "lab.example.org"]
ntp_servers = ["ntp.example.org", "192.0.2.123"]
[network_settings.interface.eno1]
addresses = ["192.0.2.10/24"]
gateways = ["192.0.2.1"]
mtu = 9000
[network_settings.interface."52-54-00-AB-cd-01"]
dhcp = "no"
addresses = ["2001:db8::10/64"]
gateways = ["fe80::1"]
"#;

const LAYERS: &str = r#"
[network_settings.bond.bond0]
members = ["eno1", "52:54:00:ab:cd:02"]
mode = "802.3ad"
lacp_rate = "fast"
hash = "layer3+4"
dhcp = "no"
[network_settings.bond.backup]
members = ["eno3", "eno4"]
primary = "eno4"
[network_settings.vlan.management]
parent = "bond0"
id = 10
addresses = ["192.0.2.10/24"]
gateways = ["192.0.2.1"]
[network_settings.vlan."eno5.20"]
parent = "eno5"
id = 20
"#;

fn golden(name: &str, text: &str) {
    let files: Vec<String> =
        render(&checked(text)).into_iter().map(|file| format!("=== {}\n{}", file.name, file.content)).collect();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/network").join(format!("{name}.txt"));
    let made = files.join("\n");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &made).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == made, "{} differs; UPDATE_GOLDEN=1 writes it:\n{made}", path.display());
}

#[test]
fn without_a_word_every_wired_nic_has_dhcp_with_a_link_local_fallback() {
    golden("default", "");
}

#[test]
fn fixed_addresses_become_files_of_networkd() {
    golden("static", STATIC);
}

#[test]
fn bonds_and_vlans_become_files_of_networkd() {
    golden("layers", LAYERS);
}

#[test]
fn what_keys_say_together_is_refused_with_the_key() {
    let bond = "[network_settings.bond.bond0]\nmembers = [\"eno1\"]\n";
    let vlan = "[network_settings.vlan.v]\nid = 5\n";
    let interface = "[network_settings.interface.eno1]\n";
    for (text, problem) in [
        ("[network_settings.interface.\"eno*\"]".to_owned(), "interface.\"eno*\": \"eno*\" is no device's name"),
        (
            "[network_settings.interface.\"a\\nName=b\"]".to_owned(),
            "interface.\"a\\nName=b\": \"a\\nName=b\" is no device's name",
        ),
        ("[network_settings.interface.\"a]b\"]".to_owned(), "interface.\"a]b\": \"a]b\" is no device's name"),
        ("[network_settings.interface.lo]".to_owned(), "interface.lo: \"lo\" is a name that the system has"),
        (
            "[network_settings.interface.ext-12345678]".to_owned(),
            "interface.ext-12345678: \"ext-12345678\" begins as the cloud's",
        ),
        (
            "[network_settings.interface.\"01:00:5e:00:00:01\"]".to_owned(),
            "interface.\"01:00:5e:00:00:01\": \"01:00:5e:00:00:01\" is the MAC of a group",
        ),
        (
            "[network_settings.interface.\"52:54:00:ab:cd:01\"]\n[network_settings.interface.\"52:54:00:AB:CD:01\"]"
                .to_owned(),
            "interface.\"52:54:00:ab:cd:01\": there is another section for 52:54:00:ab:cd:01",
        ),
        (
            format!("{interface}addresses = [\"192.0.2.10/24\"]\ngateways = [\"198.51.100.1\"]"),
            "interface.eno1.gateways: 198.51.100.1 is not on this link: it is in none of 192.0.2.10/24",
        ),
        (
            format!("{interface}gateways = [\"192.0.2.1\"]"),
            "interface.eno1.gateways: 192.0.2.1 is on no link: there is no address of its family",
        ),
        (
            format!("{interface}addresses = [\"192.0.2.10/24\"]\ngateways = [\"192.0.2.10\"]"),
            "interface.eno1.gateways: 192.0.2.10 is the machine's own address",
        ),
        (
            format!("{interface}addresses = [\"192.0.2.10/24\"]\ngateways = [\"192.0.2.255\"]"),
            "interface.eno1.gateways: 192.0.2.255 is the broadcast address of 192.0.2.0/24",
        ),
        (
            format!("{interface}addresses = [\"192.0.2.10/24\"]\ngateways = [\"192.0.2.1\", \"192.0.2.2\"]"),
            "interface.eno1.gateways: 192.0.2.2 is a second gateway for IPv4; the other is here",
        ),
        (
            format!("{interface}addresses = [\"192.0.2.10/24\", \"192.0.2.10/25\"]"),
            "interface.eno1.addresses: 192.0.2.10 is there twice",
        ),
        (
            format!(
                "{interface}addresses = [\"192.0.2.10/24\"]\n[network_settings.interface.eno2]\naddresses = [\"192.0.2.10/24\"]"
            ),
            "interface.eno2.addresses: 192.0.2.10 is there of interface.eno1 too",
        ),
        (
            format!("{interface}addresses = [\"172.24.4.9/16\"]"),
            "interface.eno1.addresses: 172.24.4.9/16 and network.external_subnet 172.24.4.0/24, the cloud's own, overlap",
        ),
        ("[network_settings.bond.bond0]\nmembers = []".to_owned(), "bond.bond0.members: a bond needs at least one NIC"),
        (
            format!("{bond}[network_settings.bond.bond1]\nmembers = [\"eno1\"]"),
            "bond.bond1.members: eno1 is a member of bond0 too",
        ),
        ("[network_settings.bond.b]\nmembers = [\"eno1\", \"eno1\"]".to_owned(), "bond.b.members: eno1 is there twice"),
        ("[network_settings.bond.b]\nmembers = [\"b\"]".to_owned(), "bond.b.members: b cannot be a member of itself"),
        (format!("{bond}[network_settings.bond.c]\nmembers = [\"bond0\"]"), "bond.c.members: \"bond0\" is no NIC"),
        (format!("{bond}{interface}"), "bond.bond0.members: eno1 has a section of its own"),
        (format!("{bond}primary = \"eno2\""), "bond.bond0.primary: \"eno2\" is not among the members"),
        (
            format!("{bond}primary = \"eno1\"\nmode = \"802.3ad\""),
            "bond.bond0.primary: the mode 802.3ad has no primary",
        ),
        (format!("{bond}[network_settings.interface.bond0]"), "interface.bond0: bond0 is a bond too"),
        (format!("{bond}{vlan}parent = \"eno1\""), "vlan.v.parent: eno1 is a member of bond0; put the VLAN on bond0"),
        (format!("{vlan}parent = \"v\""), "vlan.v.parent: v cannot carry itself"),
        (
            format!("{vlan}parent = \"eno1\"\n[network_settings.vlan.w]\nid = 6\nparent = \"v\""),
            "vlan.w.parent: v is a VLAN itself",
        ),
        (
            format!("{vlan}parent = \"eno1\"\n[network_settings.vlan.w]\nid = 5\nparent = \"eno1\""),
            "vlan.w.id: v has the tag 5 on eno1 already",
        ),
        (
            format!("{vlan}parent = \"eno1\"\nmtu = 9000"),
            "vlan.v.mtu: 9000 does not fit through eno1, whose mtu is 1500",
        ),
        (format!("{vlan}parent = \"a b\""), "vlan.v.parent: \"a b\" is no device's name"),
        (
            "[network_settings.vlan.much-too-long-a-name]\nid = 5\nparent = \"eno1\"".to_owned(),
            "vlan.much-too-long-a-name: \"much-too-long-a-name\" is no device's name",
        ),
    ] {
        let found = problems(&text);
        assert!(found.len() == 1 && found[0].starts_with(&format!("network_settings.{problem}")), "{text}\n{found:#?}");
    }
}

#[test]
fn a_gateway_of_ipv6_may_be_link_local_and_one_of_each_family_may_be_on_different_nics() {
    checked(STATIC);
    checked(LAYERS);
}

#[test]
fn a_nic_that_is_named_in_two_ways_is_found_on_the_machine() {
    let nic = Nic { name: "eno1".into(), mac: [0x52, 0x54, 0, 0xab, 0xcd, 1], physical: true, ..Nic::default() };
    let both = checked(
        "[network_settings.bond.b]\nmembers = [\"eno1\"]\n[network_settings.vlan.v]\nid = 5\nparent = \"52:54:00:ab:cd:01\"\n\
         [network_settings.interface.eno9]",
    );
    let (problems, notes) = check_here(&both, std::slice::from_ref(&nic));
    assert_eq!(
        problems,
        [
            "network_settings.vlan.v.parent: 52:54:00:ab:cd:01 is the NIC that network_settings.bond.b.members calls eno1; \
          name it the same way"
        ]
    );
    assert_eq!(notes, ["network_settings.interface.eno9: there is no wired NIC eno9 here now"]);
    let taken = checked("[network_settings.vlan.eno1]\nid = 5\nparent = \"eno2\"");
    assert_eq!(check_here(&taken, &[nic]).0, ["network_settings.eno1: a NIC of this machine has that name"]);
}

#[test]
fn settings_written_as_toml_read_the_same() {
    for text in ["", STATIC, LAYERS] {
        let settings = parsed(text).network_settings;
        assert_eq!(section(&to_toml(&settings)).unwrap(), settings, "{}", to_toml(&settings));
    }
}

#[test]
fn the_rest_of_the_operators_file_stays_as_it_is() {
    let file = "# mine\nregion = \"north\" # here\n\n[network_settings.interface.eno1]\nmtu = 1400\n\n[quota]\n# ten\ncores = 10\n";
    let wanted = parsed(STATIC).network_settings;
    let new = replaced(file, &wanted).unwrap();
    for kept in ["# mine\nregion = \"north\" # here\n", "[quota]\n# ten\ncores = 10\n"] {
        assert!(new.contains(kept), "{new}");
    }
    assert_eq!(parsed(&new), Config { network_settings: wanted.clone(), ..parsed(file) });
    assert!(!replaced(&new, &NetworkSettings::default()).unwrap().contains("network_settings"));
    assert!(replaced("= 1", &wanted).is_err());
    // A file that was wrong elsewhere is no less right here.
    assert_eq!(section(&replaced("nonsense = 1\n", &wanted).unwrap()).unwrap(), wanted);
}

/// Networkd and the clock of a test.
#[derive(Default)]
struct Fake {
    now_ms: Cell<u64>,
    boot: Cell<u32>,
    calls: RefCell<Vec<String>>,
    /// The call that fails, and whether it is the process that dies.
    fails_at: Cell<Option<(usize, bool)>>,
}

impl Fake {
    fn call(&self, what: String) -> Result<(), String> {
        let number = self.calls.borrow().len();
        self.calls.borrow_mut().push(what);
        match self.fails_at.get() {
            Some((at, true)) if at == number => std::panic::panic_any("the power is gone"),
            Some((at, false)) if at == number => Err("networkd is not there".into()),
            _ => Ok(()),
        }
    }
}

impl System for Fake {
    fn now(&self) -> Now {
        Now { boot_id: self.boot.get().to_string(), ms: self.now_ms.get() }
    }
    fn reload(&self) -> Result<(), String> {
        self.call("reload".into())
    }
    fn reconfigure(&self, links: &[String]) -> Result<(), String> {
        self.call(format!("reconfigure {}", links.join(" ")))
    }
    fn remove_device(&self, name: &str) -> Result<(), String> {
        self.call(format!("delete {name}"))
    }
}

struct Machine {
    folder: tempfile::TempDir,
    places: Places,
    fake: Fake,
}

impl Machine {
    fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let places = Places::under(folder.path());
        std::fs::create_dir_all(places.state()).unwrap();
        std::fs::write(places.config(), config).unwrap();
        let nic = places.sys_net().join("eno1");
        std::fs::create_dir_all(nic.join("device")).unwrap();
        for (file, text) in
            [("type", "1\n"), ("address", "52:54:00:ab:cd:0e\n"), ("carrier", "1\n"), ("speed", "1000\n")]
        {
            std::fs::write(nic.join(file), text).unwrap();
        }
        let machine = Self { folder, places, fake: Fake::default() };
        machine.changes().boot().unwrap();
        machine
    }

    fn changes(&self) -> Changes<'_> {
        Changes::new(&self.places, &self.fake)
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.places.networkd())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn has(&self, settings: &str) -> bool {
        let wanted = render(&checked(settings));
        self.files() == wanted.iter().map(|file| file.name.clone()).collect::<Vec<_>>()
            && wanted
                .iter()
                .all(|file| std::fs::read_to_string(self.places.networkd().join(&file.name)).unwrap() == file.content)
    }

    fn config(&self) -> NetworkSettings {
        section(&std::fs::read_to_string(self.places.config()).unwrap()).unwrap()
    }

    fn later(&self, seconds: u64) {
        self.fake.now_ms.set(self.fake.now_ms.get() + seconds * 1000);
    }
}

#[test]
fn a_change_that_is_confirmed_stays_and_is_in_the_operators_file() {
    let machine = Machine::new("region = \"north\"\n");
    assert!(machine.has(""));
    let foreign = machine.places.networkd().join("50-other.network");
    std::fs::write(&foreign, "x").unwrap();
    machine.changes().apply(&checked(STATIC)).unwrap();
    assert_eq!(machine.changes().status().waits_s, Some(60));
    assert_eq!(machine.config(), NetworkSettings::default(), "not before it is confirmed");
    assert_eq!(*machine.fake.calls.borrow(), ["reload", "reconfigure eno1"]);
    machine.later(59);
    machine.changes().tick().unwrap();
    machine.changes().confirm().unwrap();
    machine.later(600);
    machine.changes().tick().unwrap();
    assert!(foreign.exists(), "files of others are theirs");
    std::fs::remove_file(foreign).unwrap();
    assert!(machine.has(STATIC));
    assert_eq!(machine.config(), parsed(STATIC).network_settings);
    assert_eq!(machine.changes().status().note, None);
    assert!(machine.changes().confirm().unwrap_err().contains("no change waits"));
}

#[test]
fn a_change_that_nobody_confirms_is_gone_after_a_minute_and_says_so() {
    let machine = Machine::new("");
    machine.changes().apply(&checked(LAYERS)).unwrap();
    assert!(machine.has(LAYERS));
    assert!(machine.changes().apply(&checked(STATIC)).unwrap_err().contains("another change waits"));
    machine.later(60);
    machine.changes().tick().unwrap();
    assert!(machine.has(""));
    let note = machine.changes().status().note.unwrap();
    assert!(note.contains("nobody confirmed the new network settings within 60 s"), "{note}");
    let calls = machine.fake.calls.borrow();
    for device in ["delete bond0", "delete backup", "delete management", "delete eno5.20"] {
        assert!(calls.iter().any(|call| call == device), "{calls:?}");
    }
}

#[test]
fn a_late_confirmation_is_refused() {
    let machine = Machine::new("");
    machine.changes().apply(&checked(STATIC)).unwrap();
    machine.later(61);
    assert!(machine.changes().confirm().unwrap_err().contains("too late"));
    assert!(machine.has(""));
}

#[test]
fn a_reboot_before_the_confirmation_returns_the_old_settings_whatever_the_clock_says() {
    let machine = Machine::new("");
    machine.changes().apply(&checked(STATIC)).unwrap();
    std::fs::remove_dir_all(machine.places.networkd()).unwrap();
    machine.fake.boot.set(1);
    machine.fake.now_ms.set(0);
    machine.fake.calls.borrow_mut().clear();
    machine.changes().boot().unwrap();
    assert!(machine.has(""));
    assert!(machine.fake.calls.borrow().is_empty(), "networkd is not started yet");
    assert!(machine.changes().status().note.unwrap().contains("restarted before"));
}

#[test]
fn who_edits_the_operators_file_and_applies_it_gets_the_file_back_as_well() {
    let machine = Machine::new("");
    std::fs::write(machine.places.config(), format!("region = \"north\"\n{STATIC}")).unwrap();
    machine.changes().apply(&checked(STATIC)).unwrap();
    machine.later(60);
    machine.changes().tick().unwrap();
    assert_eq!(machine.config(), NetworkSettings::default());
    assert!(std::fs::read_to_string(machine.places.config()).unwrap().contains("north"));
}

#[test]
fn settings_that_networkd_refuses_leave_the_old_ones() {
    for call in 0..2 {
        let machine = Machine::new("");
        machine.fake.fails_at.set(Some((call, false)));
        let error = machine.changes().apply(&checked(STATIC)).unwrap_err();
        assert!(error.contains("networkd is not there; the settings are what they were"), "{error}");
        assert!(machine.has("") && machine.changes().status().waits_s.is_none());
    }
}

#[test]
fn settings_at_boot_that_are_wrong_are_not_used_and_the_last_good_ones_are() {
    let machine = Machine::new(STATIC);
    assert!(machine.has(STATIC));
    for wrong in ["[network_settings.bond.b]\nmembers = []", "= 1", "[network_settings]\ndns = 3", "\0"] {
        std::fs::write(machine.places.config(), wrong).unwrap();
        machine.changes().boot().unwrap();
        assert!(machine.has(STATIC), "{wrong}");
        let note = machine.changes().status().note.unwrap();
        assert!(note.contains("the last good ones"), "{note}");
    }
    // A mistake elsewhere is none of ours.
    std::fs::write(machine.places.config(), format!("nonsense = 1\n{LAYERS}")).unwrap();
    machine.changes().boot().unwrap();
    assert!(machine.has(LAYERS) && machine.changes().status().note.is_none());
    std::fs::remove_dir_all(machine.places.state()).unwrap();
    machine.changes().boot().unwrap();
    assert!(machine.has(""), "without a state every NIC has DHCP");
}

#[test]
fn a_preseed_settles_at_once_and_takes_the_place_of_what_waits() {
    let machine = Machine::new("");
    machine.changes().apply(&checked(LAYERS)).unwrap();
    std::fs::write(machine.places.config(), STATIC).unwrap();
    settle(&machine.places, &machine.fake).unwrap();
    machine.later(100);
    machine.changes().tick().unwrap();
    assert!(machine.has(STATIC) && machine.changes().status().note.is_none());
}

#[test]
fn a_death_at_any_step_ends_with_the_old_settings_or_with_the_confirmed_ones() {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    for reboots in [false, true] {
        for at in 0..8 {
            let machine = Machine::new(LAYERS);
            machine.fake.calls.borrow_mut().clear();
            machine.fake.fails_at.set(Some((at, true)));
            let died = catch_unwind(AssertUnwindSafe(|| {
                machine.changes().apply(&checked(STATIC)).unwrap();
                machine.later(60);
                machine.changes().tick().unwrap();
            }));
            machine.fake.fails_at.set(None);
            if reboots {
                machine.fake.boot.set(1);
                machine.changes().boot().unwrap();
            } else {
                machine.later(60);
                machine.changes().tick().unwrap();
            }
            assert!(machine.has(LAYERS), "death at {at}, {died:?}");
            assert_eq!(machine.config(), parsed(LAYERS).network_settings);
            machine.changes().apply(&checked(STATIC)).unwrap();
        }
    }
    // Confirmed, and cut off before the operator's file was written.
    let machine = Machine::new("");
    machine.changes().apply(&checked(STATIC)).unwrap();
    let record = machine.places.pending();
    let text = std::fs::read_to_string(&record).unwrap().replace("waiting", "confirmed");
    std::fs::write(record, text).unwrap();
    machine.fake.boot.set(1);
    machine.changes().boot().unwrap();
    assert!(machine.has(STATIC));
    assert_eq!(machine.config(), parsed(STATIC).network_settings);
}

#[test]
fn a_record_that_is_no_record_does_not_lock_anybody_out() {
    let machine = Machine::new("");
    std::fs::write(machine.places.pending(), "{").unwrap();
    machine.changes().apply(&checked(STATIC)).unwrap();
    machine.changes().confirm().unwrap();
    assert!(machine.has(STATIC));
}

#[test]
fn show_says_what_is_in_force_what_waits_and_which_nics_there_are() {
    let machine = Machine::new("");
    let text = show(&machine.places, &machine.fake);
    assert_eq!(text, "every wired NIC uses DHCP\n\neno1             52:54:00:ab:cd:0e  1000 Mbit/s  \n");
    let file = machine.folder.path().join("new.toml");
    std::fs::write(&file, STATIC).unwrap();
    let said = apply(&machine.places, &machine.fake, &file).unwrap();
    assert!(said.contains("without `solostack network confirm` within 60 s"), "{said}");
    let text = show(&machine.places, &machine.fake);
    assert!(text.contains("addresses = [\"192.0.2.10/24\"]") && text.contains("return in 60 s"), "{text}");
    assert!(give_back(&machine.places, &machine.fake).is_ok() && confirm(&machine.places, &machine.fake).is_err());
}

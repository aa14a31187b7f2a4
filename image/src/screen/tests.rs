use std::path::PathBuf;
use std::sync::Arc;

use ratatui_core::backend::TestBackend;
use ratatui_core::terminal::Terminal;

use super::form::{Field, Form};
use super::install::Offer;
use super::keys::Key;
use super::model::{Facts, Health, NicFacts, Part, Service, Update, Word};
use super::ui::{Action, Forget, Outcome, Page, Power, Ui};
use super::{letters, qr, view};
use crate::network::{Nic, to_toml};

const FINGERPRINT: &str =
    "0A:1B:2C:3D:4E:5F:60:71:82:93:A4:B5:C6:D7:E8:F9:0A:1B:2C:3D:4E:5F:60:71:82:93:A4:B5:C6:D7:E8:F9";

fn nic(name: &str, last: u8, addresses: &[&str]) -> NicFacts {
    let nic = Nic {
        name: name.into(),
        mac: [0x52, 0x54, 0, 0xab, 0xcd, last],
        physical: true,
        has_link: !addresses.is_empty(),
        speed_mbps: (!addresses.is_empty()).then_some(1000),
        bond: None,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
    };
    NicFacts { nic, has_no_dhcp: false }
}

fn ready() -> Facts {
    Facts {
        version: "0.1.0, image 2026.11.1".into(),
        uptime_min: 3 * 1440 + 245,
        service: Service::Running,
        urls: vec!["https://192.168.1.20/".into(), "https://solostack.local/".into()],
        nics: vec![nic("eno1", 1, &["fe80::5054:ff:feab:cd01/64", "192.168.1.20/24"]), nic("eno2", 2, &[])],
        fingerprint: Some(FINGERPRINT.into()),
        hypervisor: Some("kvm: a program ran in it as fast as outside".into()),
        clock_is_synchronised: Some(true),
        ..Facts::default()
    }
}

fn unclaimed() -> Facts {
    Facts { claim: Some("K7QM-4TXW".into()), uptime_min: 1, ..ready() }
}

fn degraded() -> Facts {
    let part = |name: &str, health, reason: &str, advice: &str| Part {
        name: name.into(),
        health,
        reason: reason.into(),
        advice: Some(advice.into()),
    };
    Facts {
        health: Health::Degraded,
        parts: vec![
            part(
                "hypervisor",
                Health::Degraded,
                "tcg: /dev/kvm is not there; servers are emulated, many times slower",
                "use a host whose KVM runs guests in hardware; solostack doctor says what is missing here",
            ),
            part("disk", Health::Degraded, "1.9 GiB of 28.0 GiB free", "delete images or servers that nobody needs"),
        ],
        hypervisor: None,
        clock_is_synchronised: Some(false),
        update: Some(Update {
            state: "returned".into(),
            version: "0.2.0".into(),
            from: "0.1.0".into(),
            reason: "the database did not open".into(),
            at: "2026-11-23T04:00:00Z".into(),
        }),
        network_note: Some(
            "nobody confirmed the new network settings within 60 s; the old ones are in force again".into(),
        ),
        ..ready()
    }
}

fn without_dhcp() -> Facts {
    let alone = NicFacts { has_no_dhcp: true, ..nic("eno1", 1, &["169.254.7.9/16", "fe80::5054:ff:feab:cd01/64"]) };
    Facts {
        urls: vec!["https://169.254.7.9/".into(), "https://solostack.local/".into()],
        nics: vec![alone],
        network_waits_s: Some(43),
        ..unclaimed()
    }
}

fn offers() -> Vec<Offer> {
    let offer = |name: &str, line: &str, reason: Option<&str>| Offer {
        name: name.into(),
        line: format!("{name}: {line}"),
        reason: reason.map(Into::into),
    };
    vec![
        offer("nvme0n1", "A Disk 9000, 500 GB, has partitions: EFI, Windows", None),
        offer("sda", "A Disk, 64 GB, empty", None),
        offer("sdb", "Stick, 4 GB, has data without a partition table", Some("it has 4 GB, and 8 are needed")),
    ]
}

fn ui(facts: Facts) -> Ui {
    Ui { facts, ..Ui::default() }
}

fn drawn(ui: &Ui, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(ui, frame.buffer_mut())).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let mut text = String::new();
    for row in buffer.content().chunks(width.into()) {
        let line: String = row.iter().map(ratatui_core::buffer::Cell::symbol).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn golden(name: &str, ui: &Ui) {
    for (width, height) in [(80, 24), (80, 25), (160, 50)] {
        let made = drawn(ui, width, height);
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/screen");
        let path = folder.join(format!("{name}-{width}x{height}.txt"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &made).unwrap();
        }
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(stored == made, "{} differs; UPDATE_GOLDEN=1 writes it:\n{made}", path.display());
    }
}

#[test]
fn each_page_looks_as_it_did() {
    golden("starting", &ui(Facts { service: Service::Starting, urls: Vec::new(), fingerprint: None, ..ready() }));
    golden("ready", &ui(ready()));
    golden("unclaimed", &ui(unclaimed()));
    golden("degraded", &ui(degraded()));
    golden("without-dhcp", &ui(without_dhcp()));
    let mut live = ui(Facts { is_live: true, ..unclaimed() });
    golden("live", &live);
    live.key(Key::Char('i'));
    live.done(Outcome::Disks(Ok(offers())));
    live.key(Key::Down);
    golden("install", &live);
    let mut network = ui(ready());
    network.key(Key::Char('n'));
    golden("network-dhcp", &network);
    for key in [Key::Tab, Key::Right, Key::Tab] {
        network.key(key);
    }
    type_in(&mut network, "192.168.1.0/24");
    for key in [Key::Tab, Key::Tab, Key::Tab, Key::Enter] {
        network.key(key);
    }
    golden("network-refused", &network);
    let mut reset = ui(ready());
    reset.key(Key::Char('r'));
    reset.key(Key::Down);
    golden("reset", &reset);
    let mut power = ui(ready());
    power.key(Key::Char('p'));
    power.key(Key::Enter);
    golden("power", &power);
    let mut logs = ui(ready());
    logs.key(Key::Char('l'));
    logs.done(Outcome::Logs(Ok((0..100).map(|number| format!("line {number}")).collect())));
    logs.key(Key::PageUp);
    golden("logs", &logs);
}

fn type_in(ui: &mut Ui, text: &str) {
    for c in text.chars() {
        ui.key(Key::Char(c));
    }
}

#[test]
fn the_state_word_is_the_one_that_matters_most() {
    let failing = Part { name: "disk".into(), health: Health::Failed, reason: "full".into(), advice: None };
    let trying = Some(Update { state: "trying".into(), version: "2".into(), ..Update::default() });
    for (facts, word) in [
        (Facts::default(), Word::Starting),
        (ready(), Word::Ready),
        (unclaimed(), Word::Unclaimed),
        (degraded(), Word::Degraded),
        (Facts { service: Service::Stopped, ..unclaimed() }, Word::Stopped),
        (Facts { service: Service::Failed("it ended".into()), ..degraded() }, Word::Failed),
        (Facts { health: Health::Failed, parts: vec![failing], ..unclaimed() }, Word::Failed),
        (Facts { update: trying, ..degraded() }, Word::Updating),
    ] {
        assert_eq!(facts.word(), word);
        assert!(!facts.sentence().is_empty());
    }
}

#[test]
fn hostile_text_reaches_no_cell_as_it_came_at_any_size() {
    let evil = "\u{1b}[2J\u{7}\u{9b}31m\r\n\u{202e}x\u{0}界e\u{301}";
    let mut facts = degraded();
    facts.version = evil.repeat(20);
    facts.claim = Some(evil.into());
    facts.fingerprint = Some(evil.repeat(9));
    facts.urls = vec![evil.into(), evil.repeat(40)];
    facts.hypervisor = Some(evil.into());
    facts.network_note = Some(evil.into());
    facts.parts[0].reason = evil.repeat(50);
    facts.parts[0].name = evil.into();
    facts.nics[0].nic.name = evil.into();
    facts.nics[0].nic.bond = Some(evil.into());
    let mut pages = vec![ui(facts.clone()), ui(facts.clone()), ui(facts)];
    pages[1].key(Key::Char('n'));
    pages[2].key(Key::Char('l'));
    pages[2].done(Outcome::Logs(Ok(vec![evil.repeat(30); 50])));
    pages[0].done(Outcome::Power(Err(evil.into())));
    for ui in &pages {
        for (width, height) in [(1, 1), (19, 7), (20, 8), (33, 11), (80, 24), (132, 43), (400, 150)] {
            let text = drawn(ui, width, height);
            let bad = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
            assert!(!text.contains(bad), "{width}x{height}: {text:?}");
        }
    }
}

#[test]
fn settings_are_applied_from_the_form_and_confirmed_by_a_key() {
    let mut ui = ui(ready());
    assert_eq!(ui.key(Key::Char('N')), None);
    for key in [Key::Down, Key::Char(' '), Key::Down] {
        ui.key(key);
    }
    type_in(&mut ui, "192.0.2.10/24 2001:db8::10/64");
    ui.key(Key::Enter);
    type_in(&mut ui, "192.0.2.1");
    ui.key(Key::Enter);
    type_in(&mut ui, "192.0.2.53");
    ui.key(Key::Enter);
    let Some(Action::Apply(checked)) = ui.key(Key::Enter) else { panic!("{:?}", ui.page) };
    let text = to_toml(checked.settings());
    for line in [
        "dns_servers = [\"192.0.2.53\"]",
        "[network_settings.interface.eno1]",
        "addresses = [\"192.0.2.10/24\", \"2001:db8::10/64\"]",
        "gateways = [\"192.0.2.1\"]",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(ui.is_busy && ui.key(Key::Esc).is_none(), "one thing at a time");
    ui.done(Outcome::Applied(Ok(Vec::new())));
    assert_eq!(ui.page, Page::Status);
    ui.facts.network_waits_s = Some(60);
    assert!(drawn(&ui, 80, 24).contains("the old ones return in 60 s.  K keep them   U undo"));
    assert_eq!(ui.key(Key::Char('k')), Some(Action::Confirm));
    ui.done(Outcome::Confirmed(Ok(())));
    assert_eq!(ui.key(Key::Char('k')), None, "there is nothing to keep any more");
}

#[test]
fn the_form_knows_what_is_in_force_and_back_to_dhcp_leaves_nothing() {
    let text = "[network_settings]\ndns_servers = [\"192.0.2.53\"]\n[network_settings.interface.\"52:54:00:ab:cd:01\"]\n\
                addresses = [\"192.0.2.10/24\"]\n[network_settings.vlan.v]\nid = 5\nparent = \"eno2\"";
    let config = Arc::new(config::resolve(text, &[]).unwrap());
    let mut ui = Ui { config: Arc::clone(&config), ..ui(ready()) };
    ui.key(Key::Char('n'));
    let Page::Network(form) = &ui.page else { panic!() };
    assert_eq!((form.fixed, form.addresses.as_str(), form.dns.as_str()), (true, "192.0.2.10/24", "192.0.2.53"));
    ui.key(Key::Tab);
    ui.key(Key::Left);
    ui.key(Key::Tab);
    let Page::Network(form) = &mut ui.page else { panic!() };
    assert_eq!(form.at, Field::Dns, "a NIC with DHCP has no field for addresses");
    form.dns.clear();
    ui.key(Key::Tab);
    let Some(Action::Apply(checked)) = ui.key(Key::Enter) else { panic!("{:?}", ui.page) };
    let text = to_toml(checked.settings());
    assert!(
        !text.contains("interface") && !text.contains("dns") && text.contains("[network_settings.vlan.v]"),
        "{text}"
    );
}

#[test]
fn mistakes_in_the_form_are_named_and_change_nothing() {
    for (addresses, gateway, dns, problem) in [
        ("", "", "", "a fixed address is missing"),
        ("192.0.2.10", "", "", "\"192.0.2.10\" is not an address with its prefix"),
        ("192.0.2.10/24", "198.51.100.1", "", "198.51.100.1 is not on this link"),
        ("192.0.2.10/24", "x", "", "\"x\" is not an IP address"),
        ("192.0.2.10/24", "", "ns.example.org", "\"ns.example.org\" is not an IP address"),
        ("192.0.2.10/24\"]\nmtu=1", "", "", "is not an address"),
    ] {
        let mut ui = ui(ready());
        ui.key(Key::Char('n'));
        let Page::Network(form) = &mut ui.page else { panic!() };
        *form = Form {
            fixed: true,
            addresses: addresses.into(),
            gateways: gateway.into(),
            dns: dns.into(),
            at: Field::Apply,
            ..form.clone()
        };
        assert_eq!(ui.key(Key::Enter), None);
        let Page::Network(form) = &ui.page else { panic!() };
        assert!(form.problems.iter().any(|text| text.contains(problem)), "{:?}", form.problems);
    }
}

#[test]
fn nothing_is_reset_without_its_word_and_noise_types_none() {
    let mut ui = ui(ready());
    ui.key(Key::Char('r'));
    assert_eq!(ui.key(Key::Enter), None);
    type_in(&mut ui, "erase everything");
    assert_eq!(ui.key(Key::Enter), None, "that is the word of the other");
    type_in(&mut ui, "reset");
    assert_eq!(ui.key(Key::Enter), Some(Action::Reset(Forget::Settings)));
    ui.done(Outcome::Reset(Err("no".into())));
    ui.key(Key::Down);
    type_in(&mut ui, "reset");
    assert_eq!(ui.key(Key::Enter), None);
    type_in(&mut ui, "Erase everythingg");
    ui.key(Key::Backspace);
    assert_eq!(ui.key(Key::Enter), Some(Action::Reset(Forget::Everything)));

    let mut noisy = super::tests::ui(ready());
    let noise: Vec<u8> = (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for key in super::keys::Keys::default().push(&noise) {
        let action = noisy.key(key);
        assert!(!matches!(action, Some(Action::Reset(_))), "{action:?}");
        noisy.is_busy = false;
    }
}

#[test]
fn power_wants_a_choice_and_a_yes_and_a_screen_to_look_at_does_nothing() {
    let mut seen = ui(ready());
    seen.key(Key::Char('p'));
    assert_eq!(seen.key(Key::Char('y')), None, "nothing is chosen yet");
    seen.key(Key::Down);
    seen.key(Key::Enter);
    assert_eq!(seen.key(Key::Char('y')), Some(Action::Power(Power::Off)));
    let mut seen = Ui { view_only: true, ..ui(without_dhcp()) };
    for key in "nrpkuNRP".chars() {
        assert_eq!((seen.key(Key::Char(key)), &seen.page), (None, &Page::Status));
    }
    assert_eq!(seen.key(Key::Char('l')), Some(Action::ReadLogs));
}

#[test]
fn lines_that_do_not_fit_are_counted_and_scrolled_to() {
    let mut facts = ready();
    facts.nics = (0..30).map(|number| nic(&format!("eno{number}"), number, &["192.0.2.9/24"])).collect();
    let mut ui = ui(facts);
    let text = drawn(&ui, 80, 24);
    assert!(text.contains("more lines: arrow down") && !text.contains("eno29"), "{text}");
    for _ in 0..40 {
        ui.key(Key::Down);
    }
    assert!(drawn(&ui, 80, 24).contains("eno29"));
    ui.key(Key::Home);
    assert!(drawn(&ui, 80, 24).contains("eno0 "));
}

#[test]
fn the_code_is_that_of_the_address() {
    let rows = qr::rows("https://192.168.100.100/").unwrap();
    assert!(rows.iter().all(|row| row.chars().count() == rows[0].chars().count()));
    assert!(rows.len() <= 15 && rows[0].chars().count() <= 29, "it fits beside the text");
    // Finder patterns: a dark square in a light one in a dark one, in three corners.
    let dark = |x: usize, y: usize| {
        let c = rows[y / 2].chars().nth(x).unwrap();
        !(c == '█' || (c == '▀' && y.is_multiple_of(2)) || (c == '▄' && y % 2 == 1))
    };
    let last = rows[0].chars().count() - 3;
    for (x, y) in [(2, 2), (last, 2), (2, last)] {
        assert!(dark(x, y), "the corner at {x}, {y}");
    }
    assert!((0..rows[0].chars().count()).all(|x| !dark(x, 0) && !dark(x, 1)), "a light margin");
    assert!(qr::rows(&"x".repeat(2000)).is_none());
    assert_eq!(letters::rows("UP")[0].chars().count(), 10);
}

#[test]
fn only_what_runs_from_a_medium_is_installed_and_only_to_the_disk_whose_name_was_typed() {
    let mut fixed = ui(ready());
    assert_eq!((fixed.key(Key::Char('i')), fixed.page.clone()), (None, Page::Status));
    let mut watched = Ui { view_only: true, ..ui(Facts { is_live: true, ..ready() }) };
    assert_eq!((watched.key(Key::Char('i')), watched.page.clone()), (None, Page::Status));
    let mut live = ui(Facts { is_live: true, ..ready() });
    assert_eq!(live.key(Key::Char('i')), Some(Action::ReadDisks));
    assert_eq!(live.key(Key::Enter), None, "it is looking for disks");
    live.done(Outcome::Disks(Ok(offers())));
    assert_eq!(live.key(Key::Enter), None);
    assert!(live.message.as_ref().is_some_and(|message| message.is_bad && message.text.contains("nvme0n1")));
    type_in(&mut live, "sda");
    assert_eq!(live.key(Key::Enter), None, "that is not the one that is chosen");
    live.key(Key::Up);
    type_in(&mut live, "sdb");
    assert_eq!(live.key(Key::Enter), None);
    assert!(live.message.as_ref().is_some_and(|message| message.text.contains("8 are needed")));
    live.key(Key::Up);
    type_in(&mut live, "sda");
    assert_eq!(live.key(Key::Enter), Some(Action::Install("sda".into())));
    live.done(Outcome::Installed(Err("sda is in use".into())));
    assert!(live.message.as_ref().is_some_and(|message| message.is_bad), "{:?}", live.message);
    type_in(&mut live, "sda");
    assert_eq!(live.key(Key::Enter), Some(Action::Install("sda".into())));
    live.done(Outcome::Installed(Ok(())));
    assert_eq!(live.page, Page::Status);
}

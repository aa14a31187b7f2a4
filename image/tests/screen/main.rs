//! The screen on a pseudo terminal, driven by keys. `tests/screen` at the root does the like with the whole program.

#![allow(clippy::unwrap_used, reason = "a failing helper fails the test that called it")]

mod terminal;

use std::process::Command;
use std::time::{Duration, Instant};

use appliance::network::{Places, ThisSystem};
use appliance::screen::{Options, run};

use terminal::{Machine, Screen, becomes, well};

const ROOT: &str = "SOLOSTACK_TEST_SCREEN_ROOT";
const TTY: &str = "SOLOSTACK_TEST_SCREEN_TTY";
const VIEW_ONLY: &str = "SOLOSTACK_TEST_SCREEN_VIEW_ONLY";

/// This program once more, as the screen.
fn changing(machine: &Machine, tty: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_screen_that_the_others_look_at", "--ignored"]);
    command.env(ROOT, machine.path("")).env(TTY, tty);
    command
}

fn only_showing(machine: &Machine, tty: &str) -> Command {
    let mut command = changing(machine, tty);
    command.env(VIEW_ONLY, "yes");
    command
}

#[test]
#[ignore = "is a process of the other tests"]
fn the_screen_that_the_others_look_at() {
    let (Some(root), Some(tty)) = (std::env::var_os(ROOT), std::env::var_os(TTY)) else { return };
    let places = Places::under(root);
    let networkctl = places.at("/bin/networkctl").to_string_lossy().into_owned();
    run(&Options {
        tty: Some(tty.into()),
        view_only: std::env::var_os(VIEW_ONLY).is_some(),
        may_quit: false,
        socket: places.state().join("console.sock"),
        system: ThisSystem { networkctl },
        places,
    })
    .unwrap();
}

#[test]
fn somebody_sets_a_fixed_address_and_keeps_it() {
    let machine = Machine::new();
    machine.says(well());
    let mut screen = machine.screen(80, 25, changing);
    for text in [
        "https://cloud.example:8443/",
        "Code to take the cloud over: K7QM-4TXW",
        "52:54:00:ab:cd:01",
        "0A:1B:2C",
        "image 2026.11.1",
    ] {
        screen.shows(text);
    }
    screen.press("n");
    screen.shows("Network settings");
    screen.press("\t\x1b[C\t192.0.2.10/24\t198.51.100.1\t\t\r");
    screen.shows("198.51.100.1 is not on this link");
    screen.press("\x1b[A\x1b[A");
    screen.press(&"\x7f".repeat(20));
    screen.press("192.0.2.1\t\t\r");
    screen.shows("New network settings: the old ones return in");
    let file = "run/systemd/network/20-solostack-eno1.network";
    assert!(machine.read(file).contains("Address=192.0.2.10/24\nGateway=192.0.2.1\n"), "{}", machine.read(file));
    assert!(!machine.read("var/lib/solostack/solostack.toml").contains("192.0.2.10"), "not before it is confirmed");
    assert!(machine.read("calls").contains("networkctl reload\nnetworkctl reconfigure eno1\n"));
    screen.press("k");
    screen.shows("the new network settings stay");
    screen.hides("the old ones return in");
    let config = machine.read("var/lib/solostack/solostack.toml");
    assert!(config.contains("region = \"north\"") && config.contains("addresses = [\"192.0.2.10/24\"]"), "{config}");
    // One that is given up is gone at once.
    screen.press("n\t\x1b[C\t\t\r");
    screen.shows("the old ones return in");
    screen.press("u");
    screen.shows("the old network settings are in force again");
    assert!(machine.read(file).contains("Address=192.0.2.10/24"));
}

#[test]
fn a_change_of_a_screen_that_dies_returns_when_the_next_one_starts_after_the_minute() {
    let machine = Machine::new();
    machine.says(well());
    let mut screen = machine.screen(80, 24, changing);
    screen.shows("eno1");
    screen.press("n\t\x1b[C\t192.0.2.10/24\t\t\t\r");
    screen.shows("the old ones return in");
    drop(screen);
    let pending = "var/lib/solostack/network-settings/pending.json";
    let mut record: serde_json::Value = serde_json::from_str(&machine.read(pending)).unwrap();
    record["deadline_ms"] = 1.into();
    machine.write(pending, &record.to_string());
    let mut screen = machine.screen(80, 24, changing);
    screen.shows("nobody confirmed the new network settings within 60 s");
    assert!(!machine.path("run/systemd/network/20-solostack-eno1.network").exists());
    assert!(!machine.path(pending).exists());
}

#[test]
fn the_log_is_shown_without_what_a_terminal_obeys() {
    let machine = Machine::new();
    machine.says(well());
    machine.write("journalctl.says", "one\x1b]0;pwned\x07\n\x1b[2Jtwo\u{202e}\nlast line\n");
    let mut screen = machine.screen(80, 24, only_showing);
    screen.shows("servers run by kvm: it works?]0;pwned?");
    screen.press("l");
    screen.shows("last line");
    screen.shows("one?]0;pwned?");
    screen.shows("?[2Jtwo");
    let is_evil = |bytes: &[u8]| bytes == b"\x1b]" || bytes == b"\x07";
    assert!(!screen.raw.windows(2).any(is_evil) && !screen.raw.contains(&7));
    screen.press("\x1b");
    screen.shows("L log");
    screen.press("nrp");
    screen.press("l");
    screen.shows("last line");
    assert!(!screen.text().contains("Network settings"), "it is only to be looked at");
}

#[test]
fn power_and_reset_ask_systemd_and_only_after_a_confirmation() {
    let machine = Machine::new();
    machine.says(well());
    let mut screen = machine.screen(160, 50, changing);
    screen.shows("P power");
    screen.press("py\x1b");
    screen.hides("power it off");
    screen.press("p\x1b[B\r");
    screen.shows("Press Y to power off");
    assert!(!machine.read("calls").contains("poweroff"));
    screen.press("y");
    screen.shows("the machine goes down now");
    assert!(machine.read("calls").contains("systemctl --no-block poweroff"));
    screen.press("\x1b");
    screen.shows("R reset");
    screen.press("r");
    screen.shows("type \"reset\"");
    screen.press("no\r");
    screen.shows("nothing was done");
    assert!(!machine.read("calls").contains("reboot"));
}

#[test]
fn a_cloud_that_is_not_there_is_starting_or_has_failed_as_systemd_says() {
    let machine = Machine::new();
    let mut screen = machine.screen(80, 24, changing);
    screen.shows("the cloud is starting");
    machine.write("systemctl.says", "ActiveState=activating\nSubState=auto-restart\nResult=exit-code\n");
    screen.shows("the cloud ended (exit-code)");
    machine.write("systemctl.says", "ActiveState=inactive\nSubState=dead\nResult=success\n");
    screen.shows("the cloud is stopped");
    machine.says(well());
    screen.shows("open the address below and enter the code");
    std::fs::remove_file(machine.path("run/solostack/claim")).unwrap();
    screen.shows("the cloud answers");
}

#[test]
fn a_serial_line_is_asked_for_its_size_and_one_that_is_silent_has_80_by_24() {
    let machine = Machine::new();
    machine.says(well());
    let mut screen = machine.screen(0, 0, changing);
    let asks = |screen: &Screen| screen.raw.windows(4).any(|bytes| bytes == b"\x1b[6n");
    assert!(screen.comes(&asks));
    screen.parser = terminal::parser(30, 100);
    screen.press("\x1b[30;100R");
    screen.shows("N network");
    let rows: Vec<String> = screen.parser.screen().rows(0, 100).collect();
    assert!(rows[29].contains("N network"), "{rows:#?}");
    let mut silent = machine.screen(0, 0, changing);
    silent.shows("N network");
    let rows: Vec<String> = silent.parser.screen().rows(0, 80).collect();
    assert!(rows[23].contains("N network"), "{rows:#?}");
}

#[test]
fn what_does_not_change_is_not_sent_again_and_a_terminal_that_is_gone_ends_it() {
    let machine = Machine::new();
    // A NIC with a link would soon say that nobody answers.
    machine.write("sys/class/net/eno1/carrier", "0");
    machine.says(well());
    let mut screen = machine.screen(80, 24, changing);
    screen.shows("servers run by kvm");
    screen.shows("eno1");
    // Two more looks at least.
    let sent = screen.raw.len();
    let quiet = Instant::now() + Duration::from_secs(5);
    screen.comes(&|_| Instant::now() >= quiet);
    assert!(screen.raw.len() - sent < 200, "{} bytes for nothing", screen.raw.len() - sent);
    screen.press("\x0c");
    assert!(screen.comes(&move |screen| screen.raw.len() > sent + 1000), "Ctrl-L draws all anew");
    screen.master = None;
    becomes("it ends with its terminal", || screen.child.try_wait().unwrap().is_some());
}

//! Real clients against the real program, in namespaces of their own. Each test runs one script of this folder with the
//! interpreter that `just setup` made, and shows what it printed. Needs root, the guest `tiny` (`just guests`) and QEMU.
//! The one in a machine with a true KVM (`just test-kvm`) needs no root.
//! What is missing makes a test fail with a word on how to get it, never pass.

#![allow(clippy::expect_used, reason = "a test says what it expected by failing")]

use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The Python that has python-openstackclient.
fn interpreter() -> PathBuf {
    let tools = Path::new(ROOT).join("tests/setup/tools");
    let said = Command::new(&tools).arg("openstack").output().expect("tests/setup/tools runs");
    let client = PathBuf::from(String::from_utf8_lossy(&said.stdout).trim().to_owned());
    assert!(client.exists(), "no openstack client at {}: run `just setup`", client.display());
    client.with_file_name("python")
}

fn run(script: &str, arguments: &[&str]) {
    let program = std::env::var_os("SOLOSTACK_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_solostack").into());
    let status = Command::new(interpreter())
        .arg(Path::new(ROOT).join("tests/clients").join(script))
        .arg(program)
        .args(arguments)
        .status()
        .expect("the script starts");
    assert!(status.success(), "{script} ended with {status}");
}

#[test]
fn the_stock_client_boots_a_server_reaches_it_and_leaves_nothing_behind() {
    run("story.py", &[]);
}

#[test]
fn real_guests_go_through_everything_that_can_be_done_to_a_server() {
    run("actions.py", &[]);
}

#[test]
fn openstacksdk_finds_every_service_as_it_expects() {
    run("sdk", &[]);
}

#[test]
fn users_of_a_directory_log_in_and_nothing_of_it_can_be_written() {
    run("identity.py", &[]);
}

#[test]
fn people_and_programs_come_in_from_a_real_identity_provider() {
    run("oidc.py", &[]);
}

#[test]
fn every_page_of_the_dashboard_is_accessible_harmless_and_light() {
    run("../browser/pages.py", &[]);
}

#[test]
fn a_user_goes_through_the_dashboard_with_script_and_without() {
    run("../browser/journey.py", &[]);
}

#[test]
fn kvm_runs_a_server_with_one_processor_for_the_stock_client() {
    run("kvm.py", &["--vcpus", "1"]);
}

#[test]
fn kvm_runs_a_server_with_two_processors_for_the_stock_client() {
    run("kvm.py", &["--vcpus", "2"]);
}

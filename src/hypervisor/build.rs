//! Builds the guest firmware, which the program carries: `firmware/` is a workspace of its own, with its own profile.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// What cargo, or whoever runs it, has set for the host's crates. None of it is for the guest's.
const NOT_FOR_GUESTS: [&str; 10] = [
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "LLVM_PROFILE_FILE",
];

const INPUTS: [&str; 5] = ["Cargo.toml", "Cargo.lock", "build.rs", "layout.ld", "src"];

fn main() {
    let path = |name: &str| PathBuf::from(std::env::var_os(name).unwrap_or_default());
    let (here, out) = (path("CARGO_MANIFEST_DIR"), path("OUT_DIR"));
    let firmware = here.join("../../firmware");
    for input in INPUTS {
        println!("cargo:rerun-if-changed={}", firmware.join(input).display());
    }
    println!("cargo:rerun-if-changed=build.rs");
    let target = out.join("firmware");
    // It has no dependencies, so the network is never needed; `--offline` says so where nothing is cached.
    if !build(&firmware, &target) {
        eprintln!("the guest firmware does not build: see above, and {}", firmware.display());
        exit(1);
    }
    let (built, carried) = (target.join("release/solo-fw"), out.join("firmware.elf"));
    if let Err(error) = std::fs::copy(&built, &carried) {
        eprintln!("cannot copy {}: {error}", built.display());
        exit(1);
    }
}

fn build(firmware: &Path, target: &Path) -> bool {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command
        .args(["build", "--release", "--bin", "solo-fw", "--locked", "--offline", "--quiet", "--manifest-path"])
        .arg(firmware.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .current_dir(firmware);
    for name in NOT_FOR_GUESTS {
        command.env_remove(name);
    }
    // Profiles of the workspace that is being built, where they came by the environment.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PROFILE_") {
            command.env_remove(name);
        }
    }
    command.status().is_ok_and(|status| status.success())
}

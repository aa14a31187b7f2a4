//! What `compute::vms` promises, kept by both of its drivers: the fake, and real processes around QEMU with a guest of
//! one sector.
//!
//! The module is taken in by its path: the suite needs no more of compute than that. This program has its own main,
//! because it is also the VM process that the driver spawns (`<this> vm <dir>`), as `solostack` is.
//!
//! Needs QEMU, and root for the tests about walls; without them it fails and says so.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "vms/bench.rs"]
mod bench;
#[path = "vms/both.rs"]
mod both;
#[path = "vms/crash.rs"]
mod crash;
#[path = "vms/live.rs"]
mod live;
#[path = "vms/machine.rs"]
mod machine;
#[path = "vms/process.rs"]
mod process;
#[allow(dead_code, reason = "taken in by its path; what compute uses is not all used here")]
#[path = "../../compute/src/vms/mod.rs"]
mod vms;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::future::Future;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::broadcast;
use uuid::Uuid;
use vms::{
    Driver, FakeDriver, Gone, Observed, ProcessConfig, ProcessDriver, Rebooted, Running, VmError, VmEvent, VmEventKind,
};
use vmspec::client::{Client, connect_socket};
use vmspec::protocol::{EventKind, MAX_MESSAGE_BYTES, VmState};
use vmspec::{
    Cpu, Disk, DiskKind, ExitCause, ExitRecord, Firmware, LockState, Mac, Nic, ServerDirectory, Smbios, VmSpec,
    directory,
};

use bench::*;
use both::*;
use crash::*;
use live::*;
use machine::*;
use process::*;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let [_, vm, directory] = arguments.as_slice()
        && vm == "vm"
    {
        return hypervisor::vm_process::main(Path::new(directory));
    }

    if let [_, supervisor, kind, state] = arguments.as_slice()
        && supervisor == "supervise"
    {
        let kind = if kind == "fake" { Kind::Fake } else { Kind::Tcg };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(supervise(kind, Path::new(state)));
        return ExitCode::FAILURE;
    }

    fn trial<F: Future<Output = ()>>(name: String, test: impl FnOnce() -> F + Send + 'static) -> Trial {
        Trial::test(name, move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(120), test()).await })?;
            Ok(())
        })
    }
    let mut trials = Vec::new();
    macro_rules! both {
        ($($name:ident)*) => { $(
            trials.push(trial(concat!("fake::", stringify!($name)).to_owned(), || $name(Bench::new(Kind::Fake))));
            trials.push(trial(concat!("tcg::", stringify!($name)).to_owned(), || $name(Bench::new(Kind::Tcg))));
        )* };
    }
    macro_rules! only_tcg {
        ($($name:ident)*) => { $(
            trials.push(trial(concat!("tcg::", stringify!($name)).to_owned(), || $name(Bench::new(Kind::Tcg))));
        )* };
    }
    both! {
        a_started_vm_runs_and_says_so
        starting_what_runs_changes_nothing
        starting_another_spec_over_what_runs_is_refused
        two_starts_at_once_make_one_vm
        a_stopped_vm_is_gone_and_starts_again
        a_guest_that_is_asked_shuts_down_itself
        a_guest_that_does_not_listen_is_stopped_when_its_time_is_over
        a_paused_guest_is_stopped_without_waiting_for_it
        a_guest_that_powers_itself_off_is_heard
        a_machine_that_crashes_is_heard_with_its_reason
        a_guest_that_reboots_stays_in_its_process
        a_reset_starts_the_guest_anew
        a_soft_reboot_asks_first_and_resets_later
        pause_and_resume_can_be_repeated
        what_does_not_run_cannot_be_told_anything
        a_supervisor_that_comes_back_finds_everything
        a_killed_vm_is_gone
        removing_leaves_nothing_and_can_be_repeated
        the_console_log_is_bounded_and_its_end_is_shown
        the_last_lines_of_the_console_can_be_had
        a_spec_that_does_not_fit_is_refused_and_leaves_nothing
        a_start_that_fails_says_why_and_can_be_tried_again
        vms_start_and_stop_side_by_side
        a_running_vm_counts_what_it_uses
        killing_the_supervisor_at_any_instant_loses_and_leaves_nothing
    }
    only_tcg! {
        killing_the_vm_process_kills_its_qemu_and_is_seen
        a_vm_process_that_is_told_to_terminate_ends_in_order
        a_guest_that_panics_is_heard
        a_second_vm_process_on_the_same_directory_is_refused
        a_vm_process_that_hangs_is_unresponsive_and_can_be_killed
        without_a_cgroup_the_holder_of_the_lock_is_killed_and_nobody_else
        whatever_is_said_on_the_control_socket_the_guest_runs_on
        a_supervisor_that_was_away_gets_the_events_it_missed
        the_serial_line_can_be_used_by_hand
        a_start_that_is_abandoned_can_be_taken_up
        qemu_is_fenced_in
        a_nic_is_the_tap_that_was_handed_over
        a_uefi_server_boots_with_variables_of_its_own
        the_built_in_machine_starts_pauses_resets_and_stops
        the_built_in_machine_takes_what_it_was_promised_or_says_what_is_missing
        qemus_own_words_are_in_the_reason_of_a_failed_start
        the_limits_of_disks_are_taken
        qemu_takes_what_it_was_promised_or_says_what_is_missing
        qemus_memory_comes_from_the_pool_that_was_named
        the_screen_of_a_guest_is_seen_through_its_socket
        a_machine_without_a_screen_has_no_socket_for_it
    }
    only_tcg! {
        a_server_with_secure_boot_has_variables_with_keys_in_them
        what_the_built_in_machine_cannot_run_is_run_by_qemu_with_kvm
        disks_and_nics_come_and_go_while_the_guest_runs
        a_suspended_guest_goes_on_where_it_was
        what_our_firmware_does_not_start_is_left_to_seabios_with_the_reason
    }
    for kind in [Kind::Fake, Kind::Tcg] {
        let name = if kind == Kind::Fake { "fake" } else { "tcg" };
        trials.push(trial(format!("{name}::a_path_longer_than_a_socket_address_does_not_matter"), move || {
            a_path_longer_than_a_socket_address_does_not_matter(kind)
        }));
    }
    trials.push(trial("tcg::the_program_that_spawns_vm_processes_may_be_missing".to_owned(), || {
        the_program_that_spawns_vm_processes_may_be_missing(Kind::Tcg)
    }));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

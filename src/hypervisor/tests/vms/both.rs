//! What both drivers promise.

use super::*;

pub async fn a_started_vm_runs_and_says_so(mut bench: Bench) {
    let spec = bench.spec();
    assert_eq!(bench.driver.observe(spec.server_id).await.unwrap(), Observed::Absent);
    bench.start(&spec).await;
    let running = bench.running(spec.server_id).await;
    assert_eq!((running.spec_hash, running.generation, running.state), (spec.hash(), 1, VmState::Running));
    assert_eq!(running.boot_id, spec.boot_id);
    let event = tokio::time::timeout(SOON, bench.events.recv()).await.unwrap().unwrap();
    assert_eq!(event.kind, VmEventKind::Changed(EventKind::Started));
    assert_eq!((event.server_id, event.generation), (spec.server_id, 1));
    bench.wait_for_console(spec.server_id, "hello\r\n").await;
}

pub async fn starting_what_runs_changes_nothing(bench: Bench) {
    let spec = bench.booted().await;
    let before = bench.running(spec.server_id).await;
    bench.start(&spec).await;
    assert_eq!(bench.running(spec.server_id).await, before);
}

pub async fn starting_another_spec_over_what_runs_is_refused(bench: Bench) {
    let spec = bench.booted().await;
    let before = bench.running(spec.server_id).await;
    let other = VmSpec { memory_mib: 48, generation: 2, ..spec.clone() };
    let error = bench.driver.ensure_running(&other, bench.disk(&other)).await.unwrap_err();
    assert!(matches!(error, VmError::DifferentSpec { running_generation: 1, .. }), "{error}");
    assert_eq!(bench.running(spec.server_id).await, before);
    assert_eq!(
        bench.directory(spec.server_id).read_spec().unwrap().unwrap(),
        spec,
        "the spec on disk is the running one"
    );
}

pub async fn two_starts_at_once_make_one_vm(bench: Bench) {
    let spec = bench.spec();
    let (one, two) = tokio::join!(
        bench.driver.ensure_running(&spec, bench.disk(&spec)),
        bench.driver.ensure_running(&spec, bench.disk(&spec))
    );
    one.unwrap();
    two.unwrap();
    bench.running(spec.server_id).await;
}

pub async fn a_stopped_vm_is_gone_and_starts_again(mut bench: Bench) {
    let mut spec = bench.booted().await;
    let id = spec.server_id;
    bench.driver.stop(id, None).await.unwrap();
    let exit = bench.exit(id).await;
    assert_eq!((exit.cause, exit.requested, exit.generation), (ExitCause::Stopped, false, 1));
    assert_eq!(bench.event_gone(id).await, Some(exit));
    eventually(async || vmspec::cgroup::path_of(id).is_none_or(|path| !path.exists())).await;
    bench.driver.stop(id, None).await.unwrap();
    bench.driver.stop(id, Some(Duration::from_secs(60))).await.unwrap();
    bench.driver.kill(id).await.unwrap();
    assert_eq!(bench.exit(id).await.cause, ExitCause::Stopped, "killing what is gone changes no record");

    spec.generation = 2;
    bench.start(&spec).await;
    assert_eq!(bench.running(id).await.generation, 2);
    bench.driver.stop(id, None).await.unwrap();
    assert_eq!(bench.exit(id).await.generation, 2);
}

pub async fn a_guest_that_is_asked_shuts_down_itself(bench: Bench) {
    let id = bench.booted().await.server_id;
    let started = Instant::now();
    bench.driver.stop(id, Some(Duration::from_secs(60))).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(20));
    let exit = bench.exit(id).await;
    assert_eq!((exit.cause, exit.requested), (ExitCause::GuestShutdown, true));
}

pub async fn a_guest_that_does_not_listen_is_stopped_when_its_time_is_over(bench: Bench) {
    let id = bench.booted().await.server_id;
    bench.guest_goes_deaf(id).await;
    let started = Instant::now();
    bench.driver.stop(id, Some(Duration::from_secs(1))).await.unwrap();
    assert!((1..20).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    assert_eq!(bench.exit(id).await.cause, ExitCause::Stopped);
}

pub async fn a_paused_guest_is_stopped_without_waiting_for_it(bench: Bench) {
    let id = bench.booted().await.server_id;
    bench.driver.pause(id).await.unwrap();
    let started = Instant::now();
    bench.driver.stop(id, Some(Duration::from_secs(60))).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(bench.exit(id).await.cause, ExitCause::Stopped);
}

pub async fn a_guest_that_powers_itself_off_is_heard(mut bench: Bench) {
    let id = bench.booted().await.server_id;
    bench.guest_powers_off(id).await;
    assert_eq!(bench.event(id).await, VmEventKind::Changed(EventKind::GuestShutdown { requested: false }));
    let exit = bench.event_gone(id).await.unwrap();
    assert_eq!((exit.cause, exit.requested), (ExitCause::GuestShutdown, false));
    assert_eq!(bench.exit(id).await, exit);
}

pub async fn a_machine_that_crashes_is_heard_with_its_reason(mut bench: Bench) {
    let id = bench.booted().await.server_id;
    bench.crash(id).await;
    let exit = bench.event_gone(id).await.unwrap();
    assert_eq!(exit.cause, ExitCause::HypervisorFailed);
    assert!(exit.detail.is_some());
}

pub async fn a_guest_that_reboots_stays_in_its_process(mut bench: Bench) {
    let id = bench.booted().await.server_id;
    let before = bench.running(id).await;
    bench.guest_reboots(id).await;
    assert_eq!(bench.event(id).await, VmEventKind::Changed(EventKind::Reset { by_guest: true }));
    assert_eq!(bench.running(id).await, before);
    if bench.kind == Kind::Tcg {
        eventually(async || bench.console(id).await.matches("hello").count() == 2).await;
    }
    bench.guest_powers_off(id).await;
    let next = bench.event(id).await;
    assert_eq!(next, VmEventKind::Changed(EventKind::GuestShutdown { requested: false }), "a reboot is told once");
}

pub async fn a_reset_starts_the_guest_anew(mut bench: Bench) {
    let id = bench.booted().await.server_id;
    bench.driver.reset(id).await.unwrap();
    assert_eq!(bench.event(id).await, VmEventKind::Changed(EventKind::Reset { by_guest: false }));
    if bench.kind == Kind::Tcg {
        eventually(async || bench.console(id).await.matches("hello").count() == 2).await;
        bench.driver.pause(id).await.unwrap();
        bench.driver.reset(id).await.unwrap();
        assert_eq!(bench.running(id).await.state, VmState::Running, "a reset also ends a pause");
        eventually(async || bench.console(id).await.matches("hello").count() == 3).await;
    }
}

pub async fn a_soft_reboot_asks_first_and_resets_later(bench: Bench) {
    let id = bench.booted().await.server_id;
    let before = bench.running(id).await;
    assert_eq!(bench.driver.reboot_soft(id, Duration::from_secs(30)).await.unwrap(), Rebooted::Soft);
    assert_eq!(bench.running(id).await, before, "same process, running");
    if bench.kind == Kind::Tcg {
        eventually(async || bench.console(id).await.matches("hello").count() == 2).await;
        assert!(bench.console(id).await.contains("bye"));
    }
    bench.guest_goes_deaf(id).await;
    assert_eq!(bench.driver.reboot_soft(id, Duration::from_millis(500)).await.unwrap(), Rebooted::Hard);
    assert_eq!(bench.running(id).await, before);
}

pub async fn pause_and_resume_can_be_repeated(mut bench: Bench) {
    let id = bench.booted().await.server_id;
    bench.driver.pause(id).await.unwrap();
    bench.driver.pause(id).await.unwrap();
    assert_eq!(bench.running(id).await.state, VmState::Paused);
    bench.driver.resume(id).await.unwrap();
    bench.driver.resume(id).await.unwrap();
    assert_eq!(bench.running(id).await.state, VmState::Running);
    assert_eq!(bench.event(id).await, VmEventKind::Changed(EventKind::Paused));
    assert_eq!(bench.event(id).await, VmEventKind::Changed(EventKind::Resumed));
    // If a repetition had sent another, it would be next.
    bench.guest_powers_off(id).await;
    assert_eq!(bench.event(id).await, VmEventKind::Changed(EventKind::GuestShutdown { requested: false }));
}

pub async fn what_does_not_run_cannot_be_told_anything(bench: Bench) {
    let id = bench.spec().server_id;
    for refused in [
        bench.driver.pause(id).await,
        bench.driver.resume(id).await,
        bench.driver.reset(id).await,
        bench.driver.reboot_soft(id, SOON).await.map(|_| ()),
        bench.driver.statistics(id).await.map(|_| ()),
    ] {
        assert!(matches!(refused, Err(VmError::NotRunning { .. })), "{refused:?}");
    }
    bench.driver.stop(id, None).await.unwrap();
    bench.driver.kill(id).await.unwrap();
    bench.driver.remove(id).await.unwrap();
    assert!(bench.driver.console_tail(id, Some(10), 1000).await.unwrap().is_empty());
    assert_eq!(bench.driver.observe(id).await.unwrap(), Observed::Absent);
    assert!(!bench.directory(id).path().exists(), "asking makes no directory");
}

pub async fn a_supervisor_that_comes_back_finds_everything(mut bench: Bench) {
    let (runs, stopped, left) = (bench.booted().await, bench.booted().await, bench.booted().await);
    bench.driver.stop(stopped.server_id, None).await.unwrap();
    let before = bench.running(runs.server_id).await;
    let pid = bench.running(left.server_id).await.pid;
    // A crash of an earlier supervisor between making the directory and writing the spec.
    let torn = Uuid::from_u128(7);
    fs::create_dir(bench.servers.join(torn.to_string())).unwrap();
    fs::write(bench.servers.join("not-a-server"), "").unwrap();

    bench.restart_supervisor();
    if bench.kind == Kind::Tcg {
        // Ends while nobody listens.
        signal(pid, Signal::SIGTERM);
        let directory = bench.directory(left.server_id);
        eventually(async || directory.lock_state().unwrap() == LockState::Free).await;
    } else {
        bench.driver.stop(left.server_id, None).await.unwrap();
    }
    let found = bench.driver.adopt_all().await.unwrap();
    assert_eq!(found.len(), 4);
    let of = |id| found.iter().find(|(found, _)| *found == id).unwrap().1.clone();
    assert_eq!(of(runs.server_id), Observed::Running(before));
    assert_eq!(of(torn), Observed::Absent);
    for id in [stopped.server_id, left.server_id] {
        let Observed::Gone(Gone { exit: Some(exit), boot_id, generation }) = of(id) else { panic!("{:?}", of(id)) };
        assert_eq!((exit.cause, boot_id, generation), (ExitCause::Stopped, Some(runs.boot_id), Some(1)));
    }

    bench.start(&runs).await;
    bench.guest_powers_off(runs.server_id).await;
    let exit = bench.event_gone(runs.server_id).await.expect("an adopted VM is listened to");
    assert_eq!(exit.cause, ExitCause::GuestShutdown);
    for id in [runs.server_id, stopped.server_id, left.server_id, torn] {
        bench.driver.remove(id).await.unwrap();
    }
    assert!(bench.driver.adopt_all().await.unwrap().is_empty());
}

pub async fn a_killed_vm_is_gone(mut bench: Bench) {
    let id = bench.booted().await.server_id;
    bench.driver.kill(id).await.unwrap();
    assert_eq!(bench.exit(id).await.cause, ExitCause::Killed);
    let _ = bench.event_gone(id).await;
    bench.driver.kill(id).await.unwrap();
}

pub async fn removing_leaves_nothing_and_can_be_repeated(bench: Bench) {
    let spec = bench.booted().await;
    let id = spec.server_id;
    fs::write(bench.directory(id).file("disk.raw"), "x").unwrap();
    bench.driver.remove(id).await.unwrap();
    assert!(!bench.directory(id).path().exists());
    assert!(vmspec::cgroup::path_of(id).is_none_or(|path| !path.exists()));
    assert_eq!(bench.driver.observe(id).await.unwrap(), Observed::Absent);
    bench.driver.remove(id).await.unwrap();
    bench.start(&spec).await;
    bench.running(id).await;
}

pub async fn the_console_log_is_bounded_and_its_end_is_shown(bench: Bench) {
    let spec = bench.booted().await;
    let id = spec.server_id;
    bench.guest_floods_its_console(id).await;
    let file = bench.directory(id).file(directory::CONSOLE);
    let bound = spec.console_log_bytes;
    let mut most = 0;
    eventually(async || {
        most = most.max(fs::metadata(&file).unwrap().len());
        !bench.console(id).await.contains("hello") && most > bound
    })
    .await;
    for _ in 0..100 {
        most = most.max(fs::metadata(&file).unwrap().len());
        tokio::time::sleep(Duration::from_millis(2)).await;
        let tail = bench.driver.console_tail(id, None, bound).await.unwrap();
        assert_eq!(tail.len() as u64, bound);
        assert!(tail.iter().all(|byte| *byte == b'x'));
    }
    assert!(most <= 2 * bound, "{most}");
    // And the one who asks is served meanwhile.
    assert_eq!(bench.running(id).await.state, VmState::Running);
}

pub async fn the_last_lines_of_the_console_can_be_had(bench: Bench) {
    let id = bench.booted().await.server_id;
    let last = bench.driver.console_tail(id, Some(1), 1 << 20).await.unwrap();
    let last = String::from_utf8(last).unwrap();
    assert_eq!(last.lines().count(), 1, "{last:?}");
    assert!(bench.driver.console_tail(id, Some(0), 1 << 20).await.unwrap().is_empty());
    assert_eq!(bench.driver.console_tail(id, Some(5), 3).await.unwrap().len(), 3);
}

pub async fn a_path_longer_than_a_socket_address_does_not_matter(kind: Kind) {
    let state = tempfile::tempdir().unwrap();
    let servers = state.path().join("long".repeat(50)).join("servers");
    assert!(servers.as_os_str().len() > 200);
    let mut bench = Bench::at(kind, State::Own(state), servers);
    let id = bench.booted().await.server_id;
    bench.restart_supervisor();
    bench.running(id).await;
    bench.driver.stop(id, None).await.unwrap();
}

pub async fn a_spec_that_does_not_fit_is_refused_and_leaves_nothing(bench: Bench) {
    let spec = bench.spec();
    let refused = |result: Result<(), VmError>| assert!(matches!(result, Err(VmError::Spec(_))), "{result:?}");
    refused(bench.driver.ensure_running(&spec, vec![]).await);
    let old = VmSpec { boot_id: Uuid::from_u128(1), ..spec.clone() };
    refused(bench.driver.ensure_running(&old, bench.disk(&old)).await);
    let none = VmSpec { vcpus: 0, ..spec.clone() };
    refused(bench.driver.ensure_running(&none, bench.disk(&none)).await);
    assert_eq!(bench.driver.observe(spec.server_id).await.unwrap(), Observed::Absent);
}

pub async fn a_start_that_fails_says_why_and_can_be_tried_again(bench: Bench) {
    let spec = bench.spec();
    let id = spec.server_id;
    let result = match bench.fake() {
        Some(fake) => {
            fake.fail_next_start("the fake was told to fail");
            bench.driver.ensure_running(&spec, bench.disk(&spec)).await
        }
        None => {
            let _ = bench.disk(&spec);
            let path = bench.state.path().join(format!("{id}.raw"));
            let read_only = vec![File::open(path).unwrap().into()];
            bench.driver.ensure_running(&spec, read_only).await
        }
    };
    let Err(VmError::StartFailed { reason, .. }) = result else { panic!("{result:?}") };
    assert!(
        reason.contains(if bench.kind == Kind::Fake { "told to fail" } else { "disk 0 is not open for what it is" }),
        "{reason}"
    );
    assert!(!matches!(bench.driver.observe(id).await.unwrap(), Observed::Running(_)));
    bench.start(&spec).await;
    bench.running(id).await;
}

pub async fn vms_start_and_stop_side_by_side(bench: Bench) {
    let count = if bench.kind == Kind::Fake { 200 } else { 4 };
    let specs: Vec<VmSpec> = (0..count).map(|_| bench.spec()).collect();
    let started = Instant::now();
    futures::future::join_all(specs.iter().map(|spec| bench.start(spec))).await;
    if bench.kind == Kind::Fake {
        // 2 ms each is the aim; the machine that runs this is busy.
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    }
    let found = bench.driver.adopt_all().await.unwrap();
    assert_eq!(found.iter().filter(|(_, observed)| matches!(observed, Observed::Running(_))).count(), count);
    let removed = futures::future::join_all(specs.iter().map(|spec| bench.driver.remove(spec.server_id))).await;
    assert!(removed.into_iter().all(|result| result.is_ok()));
    assert!(bench.driver.adopt_all().await.unwrap().is_empty());
}

pub async fn a_running_vm_counts_what_it_uses(bench: Bench) {
    let id = bench.booted().await.server_id;
    let statistics = bench.driver.statistics(id).await.unwrap();
    assert_eq!(statistics.disks.len(), 1);
    if bench.kind == Kind::Tcg {
        assert!(statistics.resident_bytes > 1024 * 1024, "{statistics:?}");
        assert!(statistics.disks[0].read_operations > 0, "{statistics:?}");
    }
}

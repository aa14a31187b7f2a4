//! What only real processes have to promise: their ends, their control sockets, who may speak to them.

use super::*;

pub async fn killing_the_vm_process_kills_its_qemu_and_is_seen(mut bench: Bench) {
    let id = bench.booted().await.server_id;
    let (minder, qemu) = (bench.running(id).await.pid, bench.qemu_of(id).await);
    signal(minder, Signal::SIGKILL);
    eventually(async || !alive(qemu)).await;
    assert_eq!(bench.event_gone(id).await, None, "it could not leave a record");
    assert_eq!(bench.gone(id).await.exit, None);
}

pub async fn a_vm_process_that_is_told_to_terminate_ends_in_order(bench: Bench) {
    let id = bench.booted().await.server_id;
    signal(bench.running(id).await.pid, Signal::SIGTERM);
    let directory = bench.directory(id);
    eventually(async || directory.lock_state().unwrap() == LockState::Free).await;
    assert_eq!(bench.exit(id).await.cause, ExitCause::Stopped);
}

pub async fn a_guest_that_panics_is_heard(mut bench: Bench) {
    let id = bench.booted().await.server_id;
    bench.type_in(id, "p").await;
    assert_eq!(bench.event(id).await, VmEventKind::Changed(EventKind::GuestPanicked));
    assert_eq!(bench.event_gone(id).await.unwrap().cause, ExitCause::GuestPanicked);
}

pub async fn a_second_vm_process_on_the_same_directory_is_refused(bench: Bench) {
    let id = bench.booted().await.server_id;
    let before = bench.running(id).await;
    let pid = fs::read(bench.directory(id).file(directory::LOCK)).unwrap();
    let disk = File::options().read(true).write(true).open(bench.state.path().join(format!("{id}.raw"))).unwrap();
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.arg("vm").arg(bench.directory(id).path());
    use command_fds::CommandFdExt as _;
    command.fd_mappings(vec![command_fds::FdMapping { parent_fd: disk.into(), child_fd: 3 }]).unwrap();
    let status = tokio::process::Command::from(command).status().await.unwrap();
    assert_eq!(status.code(), Some(3));
    assert_eq!(bench.running(id).await, before);
    assert_eq!(fs::read(bench.directory(id).file(directory::LOCK)).unwrap(), pid);
    bench.driver.stop(id, None).await.unwrap();
    assert_eq!(bench.exit(id).await.cause, ExitCause::Stopped);
}

pub async fn a_vm_process_that_hangs_is_unresponsive_and_can_be_killed(mut bench: Bench) {
    let id = bench.booted().await.server_id;
    let (minder, qemu) = (bench.running(id).await.pid, bench.qemu_of(id).await);
    signal(minder, Signal::SIGSTOP);
    let started = Instant::now();
    bench.restart_supervisor();
    let found = bench.driver.adopt_all().await.unwrap();
    assert!(matches!(&found[..], [(found, Observed::Unresponsive { .. })] if *found == id), "{found:?}");
    assert!((4..10).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    let spec = bench.directory(id).read_spec().unwrap().unwrap();
    let refused = bench.driver.ensure_running(&spec, bench.disk(&spec)).await;
    assert!(matches!(refused, Err(VmError::Unresponsive { .. })), "{refused:?}");
    bench.driver.kill(id).await.unwrap();
    eventually(async || !alive(qemu)).await;
    assert_eq!(bench.exit(id).await.cause, ExitCause::Killed);
}

pub async fn without_a_cgroup_the_holder_of_the_lock_is_killed_and_nobody_else(bench: Bench) {
    let id = bench.booted().await.server_id;
    let (minder, qemu) = (bench.running(id).await.pid, bench.qemu_of(id).await);
    if let Some(mount) = vmspec::cgroup::mount_point().filter(|_| bench.running_isolated()) {
        for pid in [minder, qemu] {
            fs::write(mount.join("cgroup.procs"), pid.to_string()).unwrap();
        }
    }
    signal(minder, Signal::SIGSTOP);
    // A VM process that was taken over names somebody else: that one does not have the lock file open.
    let mut innocent = tokio::process::Command::new("sleep").arg("60").kill_on_drop(true).spawn().unwrap();
    let lock = bench.directory(id).file(directory::LOCK);
    fs::write(&lock, format!("{}\n", innocent.id().unwrap())).unwrap();
    assert!(bench.driver.kill(id).await.is_err());
    assert!(alive(innocent.id().unwrap()) && alive(qemu));
    fs::write(&lock, format!("{minder}\n")).unwrap();
    bench.driver.kill(id).await.unwrap();
    eventually(async || !alive(qemu)).await;
    innocent.kill().await.unwrap();
}

pub async fn whatever_is_said_on_the_control_socket_the_guest_runs_on(bench: Bench) {
    let id = bench.booted().await.server_id;
    let directory = bench.directory(id);
    let before = bench.running(id).await;
    let hello = b"{\"id\":1,\"call\":{\"hello\":{\"newest\":1,\"oldest\":1}}}\n";
    let said: Vec<Vec<u8>> = vec![
        b"\n".to_vec(),
        b"garbage\n".to_vec(),
        random::<4096>().to_vec(),
        vec![b'['; MAX_MESSAGE_BYTES + 1],
        vec![b'x'; 20 * MAX_MESSAGE_BYTES],
        b"{\"id\":1,\"call\":\"stop\"}\n".to_vec(),
        b"{\"id\":1,\"call\":{\"hello\":{\"newest\":99,\"oldest\":98}}}\n".to_vec(),
        [&hello[..], b"{\"id\":2,\"call\":\"self_destruct\"}\n"].concat(),
        [&hello[..], b"{\"id\":2,\"call\":\"stop\",\"really\":true}\n"].concat(),
        [&hello[..], "{\"id\":2,\"call\":{\"reboot\":{\"deadline_ms\":-1}}}\n".as_bytes()].concat(),
        [&hello[..], &[b'['; 60_000], b"\n"].concat(),
    ];
    for bytes in said {
        let mut stream = connect_socket(&directory, directory::CONTROL).await.unwrap();
        // It may hang up in the middle.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "it neither answered nor hung up: {:?}", &bytes[..bytes.len().min(60)]);
    }
    assert_eq!(bench.running(id).await, before);

    // Silent ones take all the places, for as long as its patience lasts and no longer.
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(connect_socket(&directory, directory::CONTROL).await.unwrap());
    }
    // One that asks for much and never reads.
    let mut deaf = connect_socket(&directory, directory::CONTROL).await.unwrap();
    eventually(async || matches!(bench.driver.observe(id).await.unwrap(), Observed::Running(_))).await;
    let _ = deaf.write_all(hello).await;
    for _ in 0..20_000 {
        if tokio::time::timeout(Duration::from_millis(100), deaf.write_all(b"{\"id\":3,\"call\":\"status\"}\n"))
            .await
            .is_err()
        {
            break;
        }
    }
    assert_eq!(bench.running(id).await, before);
    let resident = fs::read_to_string(format!("/proc/{}/statm", before.pid)).unwrap();
    let pages: u64 = resident.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(pages * 4096 < 64 * 1024 * 1024, "the VM process has grown to {pages} pages");
}

pub async fn a_supervisor_that_was_away_gets_the_events_it_missed(bench: Bench) {
    let id = bench.booted().await.server_id;
    bench.driver.pause(id).await.unwrap();
    bench.driver.resume(id).await.unwrap();
    let client = Client::connect(&bench.directory(id), SOON).await.unwrap();
    let mut events = client.subscribe(Some(1)).await.unwrap();
    let mut next = async || tokio::time::timeout(SOON, events.recv()).await.unwrap().unwrap();
    let paused = next().await;
    assert_eq!((paused.number, paused.kind), (2, EventKind::Paused));
    assert_eq!(next().await.kind, EventKind::Resumed);
    client.stop().await.unwrap();
    let last = next().await;
    assert!(matches!(last.kind, EventKind::PoweredOff { cause: ExitCause::Stopped, .. }), "{last:?}");
    assert!(bench.directory(id).read_exit().unwrap().is_some(), "the record is there before the event");
    client.closed().await;
}

pub async fn the_serial_line_can_be_used_by_hand(bench: Bench) {
    let id = bench.booted().await.server_id;
    let mut one = connect_socket(&bench.directory(id), directory::SERIAL).await.unwrap();
    let mut two = connect_socket(&bench.directory(id), directory::SERIAL).await.unwrap();
    one.write_all(b"z").await.unwrap();
    for line in [&mut one, &mut two] {
        let byte = tokio::time::timeout(SOON, line.read_u8()).await.unwrap().unwrap();
        assert_eq!(byte, b'z');
    }
    // One that never reads holds up nobody.
    bench.guest_floods_its_console(id).await;
    let mut read = 0;
    let mut chunk = vec![0; 65536];
    while read < 200_000 {
        read += tokio::time::timeout(SOON, two.read(&mut chunk)).await.unwrap().unwrap();
    }
    assert_eq!(bench.running(id).await.state, VmState::Running);
}

pub async fn a_start_that_is_abandoned_can_be_taken_up(bench: Bench) {
    for after_ms in [0, 5, 20, 60, 150] {
        let spec = bench.spec();
        let start = bench.driver.ensure_running(&spec, bench.disk(&spec));
        let _ = tokio::time::timeout(Duration::from_millis(after_ms), start).await;
        bench.start(&spec).await;
        bench.running(spec.server_id).await;
        bench.driver.remove(spec.server_id).await.unwrap();
    }
}

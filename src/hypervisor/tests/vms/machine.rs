//! Walls, nics, firmware, and what of the host a machine is promised.

use super::*;

pub async fn qemu_is_fenced_in(bench: Bench) {
    assert!(nix::unistd::Uid::effective().is_root(), "this test needs root");
    // A descriptor of the supervisor that, by a mistake, any child would inherit.
    let leaked = File::open("/etc/hostname").unwrap();
    nix::fcntl::fcntl(&leaked, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let leaked_inode = leaked.metadata().unwrap().ino();

    let spec = bench.booted().await;
    let id = spec.server_id;
    let (minder, qemu) = (bench.running(id).await.pid, bench.qemu_of(id).await);
    let uid = spec.run_as.unwrap().to_string();
    for pid in [minder, qemu] {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        assert_eq!(field("Uid:"), [uid.as_str(); 4].join("\t"));
        assert_eq!(field("Gid:"), [uid.as_str(); 4].join("\t"));
        assert_eq!(field("Groups:"), "");
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(field(set), "0000000000000000", "{set} of {pid}");
        }
        assert_eq!(field("NoNewPrivs:"), "1");
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let session: u32 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(3).unwrap().parse().unwrap();
        assert_eq!(session, minder, "its own session");
        for namespace in ["net", "ipc", "uts"] {
            let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap();
            assert_ne!(of(&pid.to_string()), of("self"), "{namespace} namespace");
        }
        let environment = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
        let names: HashSet<&str> = environment.split('\0').filter_map(|entry| entry.split('=').next()).collect();
        assert!(names.iter().all(|name| ["", "PATH"].contains(name)), "{names:?}");
        if let Some(group) = vmspec::cgroup::path_of(id) {
            let members = fs::read_to_string(group.join("cgroup.procs")).unwrap();
            assert!(members.lines().any(|member| member == pid.to_string()), "{pid} is not in {group:?}");
        }
    }
    let root = PathBuf::from(format!("/proc/{qemu}/root"));
    for hidden in ["proc/self", "sys/kernel", "etc/passwd", "root", "home", "tmp", "var", "run"] {
        assert!(!root.join(hidden).exists(), "QEMU can see /{hidden}");
    }
    assert!(!root.join(bench.state.path().strip_prefix("/").unwrap()).exists(), "QEMU can see the state directory");
    for written in ["x", "usr/x", "dev/x"] {
        let error = File::create(root.join(written)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "/{written}");
    }
    let status = fs::read_to_string(format!("/proc/{qemu}/status")).unwrap();
    assert!(status.contains("Seccomp:\t2"), "QEMU has a seccomp filter");
    let pids = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap();
    assert_ne!(pids(&qemu.to_string()), pids("self"), "QEMU cannot name, so not signal, its VM process");

    let disk = fs::metadata(bench.state.path().join(format!("{id}.raw"))).unwrap().ino();
    for entry in fs::read_dir(format!("/proc/{qemu}/fd")).unwrap() {
        let path = entry.unwrap().path();
        let target = fs::read_link(&path).unwrap();
        let inode = fs::metadata(&path).map_or(0, |file| file.ino());
        assert_ne!(inode, leaked_inode, "the supervisor's descriptor reached QEMU");
        let text = target.to_string_lossy();
        let expected = inode == disk
            || ["socket:", "pipe:", "anon_inode:", "/dev/null", "/memfd:"].iter().any(|known| text.starts_with(known));
        assert!(expected, "QEMU has {text} open");
    }
    assert!(bench.running(id).await.isolation.missing.is_empty(), "{:?}", bench.running(id).await.isolation);
}

pub async fn a_nic_is_the_tap_that_was_handed_over(bench: Bench) {
    let mut spec = bench.spec();
    let mac = Mac([0xfa, 0x16, 0x3e, 1, 2, 3]);
    let (port_id, limits) = (Uuid::from_u128(5), Default::default());
    spec.nics = vec![Nic { slot: 0, port_id, mac, mtu: 1400, descriptor: 1, queues: 1, limits }];
    let name = format!("t{}", u32::from_ne_bytes(random()));
    let descriptors = |tap| {
        let mut descriptors = bench.disk(&spec);
        descriptors.push(tap);
        descriptors
    };
    let wrong = bench.driver.ensure_running(&spec, descriptors(File::open("/etc/hostname").unwrap().into())).await;
    assert!(matches!(&wrong, Err(VmError::StartFailed { reason, .. }) if reason.contains("not a tap")), "{wrong:?}");
    bench.driver.ensure_running(&spec, descriptors(tap(&name))).await.unwrap();
    let id = spec.server_id;
    bench.wait_for_console(id, "hello").await;
    // It stays in this namespace, and lives as long as QEMU has it open.
    let here = PathBuf::from(format!("/sys/class/net/{name}"));
    assert!(here.exists());
    let seen = fs::read_to_string(format!("/proc/{}/net/dev", bench.qemu_of(id).await)).unwrap();
    assert!(!seen.contains(&name) && seen.contains("lo:"), "QEMU's own namespace is empty: {seen}");
    bench.driver.stop(id, None).await.unwrap();
    eventually(async || !here.exists()).await;
}

pub async fn a_uefi_server_boots_with_variables_of_its_own(bench: Bench) {
    let spec = VmSpec { firmware: Firmware::Uefi, memory_mib: 256, ..bench.spec() };
    let id = spec.server_id;
    if !Path::new("/usr/share/OVMF/OVMF_CODE_4M.fd").exists() {
        let result = bench.driver.ensure_running(&spec, bench.disk(&spec)).await;
        let Err(VmError::StartFailed { reason, .. }) = result else { panic!("{result:?}") };
        assert!(reason.contains("package ovmf"), "{reason}");
        return;
    }
    bench.start(&spec).await;
    // The guest of one sector is no UEFI program: the firmware says so, on the serial line.
    eventually_within(FIRMWARE, async || bench.console(id).await.contains("BdsDxe")).await;
    let variables = bench.directory(id).file("uefi-vars.fd");
    assert_ne!(
        fs::read(variables).unwrap(),
        fs::read("/usr/share/OVMF/OVMF_VARS_4M.fd").unwrap(),
        "it keeps its variables"
    );
}

/// Real guests of the built-in machine need a KVM that is more than an interpreter (`tests/guests`); this is its life.
pub async fn the_built_in_machine_starts_pauses_resets_and_stops(bench: Bench) {
    let spec = VmSpec { driver: vmspec::Driver::Kvm, ..bench.spec() };
    let id = spec.server_id;
    let result = bench.driver.ensure_running(&spec, bench.disk(&spec)).await;
    if !Path::new("/dev/kvm").exists() {
        let Err(VmError::StartFailed { reason, .. }) = result else { panic!("{result:?}") };
        assert!(reason.contains("/dev/kvm"), "{reason}");
        return;
    }
    result.unwrap();
    if let hypervisor::KvmVerdict::Unusable { reason } = hypervisor::probe::probe_kvm() {
        // One that interprets fails at instructions of our firmware, sooner or later: then that is how it ended.
        let stopped = bench.driver.stop(id, None).await;
        let cause = bench.exit(id).await.cause;
        assert!(matches!(cause, ExitCause::Stopped | ExitCause::HypervisorFailed), "{cause:?}, {stopped:?}, {reason}");
        let log = fs::read_to_string(bench.directory(id).file("vm.log")).unwrap();
        assert!(!log.contains("is not allowed"), "the jail fits the process: {log}");
        return;
    }
    // Our firmware hands a disk of one sector over to SeaBIOS, which starts it.
    bench.wait_for_console(id, "hello").await;
    bench.driver.pause(id).await.unwrap();
    bench.driver.pause(id).await.unwrap();
    bench.driver.resume(id).await.unwrap();
    bench.driver.reset(id).await.unwrap();
    bench.driver.stop(id, None).await.unwrap();
    assert_eq!(bench.exit(id).await.cause, ExitCause::Stopped);
    bench.driver.ensure_running(&spec, bench.disk(&spec)).await.unwrap();
    bench.driver.stop(id, None).await.unwrap();
    let log = fs::read_to_string(bench.directory(id).file("vm.log")).unwrap();
    assert!(!log.contains("is not allowed"), "the jail fits the process: {log}");
}

pub async fn the_built_in_machine_takes_what_it_was_promised_or_says_what_is_missing(bench: Bench) {
    if !Path::new("/dev/kvm").exists() {
        eprintln!("not tested: no /dev/kvm");
        return;
    }
    let mut spec = VmSpec { driver: vmspec::Driver::Kvm, ..bench.spec() };
    let huge = VmSpec { page_size: vmspec::PageSize::OneGib, memory_mib: 1 << 20, ..spec.clone() };
    let refused = |result| match result {
        Err(VmError::StartFailed { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    let reason = refused(bench.driver.ensure_running(&huge, bench.disk(&huge)).await);
    assert!(reason.contains("not enough huge pages for 1048576 MiB"), "{reason}");
    let own = |cpu: u16| vmspec::Dedicated { vcpus: vec![[cpu].into()], others: [0].into() };
    spec.cpu.dedicated = Some(own(1023));
    let reason = refused(bench.driver.ensure_running(&spec, bench.disk(&spec)).await);
    assert!(reason.contains("vcpu0 cannot run on CPUs 1023"), "{reason}");
    spec.cpu.dedicated = Some(own(0));
    bench.driver.ensure_running(&spec, bench.disk(&spec)).await.unwrap();
    let _ = bench.driver.stop(spec.server_id, None).await;
    let log = fs::read_to_string(bench.directory(spec.server_id).file("vm.log")).unwrap();
    assert!(!log.contains("is not allowed"), "the jail fits the process: {log}");
}

pub async fn the_limits_of_disks_are_taken(bench: Bench) {
    let mut spec = bench.spec();
    spec.disks[0].limits.read_bytes_per_second = Some(1 << 20);
    spec.disks[0].limits.total_operations_per_second = Some(100);
    bench.start(&spec).await;
    bench.running(spec.server_id).await;
}

pub async fn qemu_takes_what_it_was_promised_or_says_what_is_missing(bench: Bench) {
    let spec = VmSpec { vcpus: 2, ..bench.spec() };
    let refused = |result| match result {
        Err(VmError::StartFailed { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    let huge = VmSpec { page_size: vmspec::PageSize::OneGib, memory_mib: 1 << 20, ..spec.clone() };
    let reason = refused(bench.driver.ensure_running(&huge, bench.disk(&huge)).await);
    assert!(reason.contains("not enough huge pages for 1048576 MiB"), "{reason}");

    let dedicated = |vcpus: [u16; 2]| {
        let vcpus = vcpus.map(|cpu| std::collections::BTreeSet::from([cpu])).to_vec();
        Cpu { dedicated: Some(vmspec::Dedicated { vcpus, others: [0].into() }), ..Cpu::default() }
    };
    let elsewhere = VmSpec { cpu: dedicated([0, 1023]), ..spec.clone() };
    let reason = refused(bench.driver.ensure_running(&elsewhere, bench.disk(&elsewhere)).await);
    assert!(reason.contains("vCPU 1 cannot run on CPUs 1023"), "{reason}");

    let last = u16::try_from(std::thread::available_parallelism().unwrap().get() - 1).unwrap();
    let pinned = VmSpec { cpu: dedicated([last, 0]), page_size: vmspec::PageSize::Small, ..spec };
    bench.start(&pinned).await;
    let qemu = bench.qemu_of(pinned.server_id).await;
    let mut found = 0;
    for task in fs::read_dir(format!("/proc/{qemu}/task")).unwrap() {
        let task = task.unwrap().path();
        let name = fs::read_to_string(task.join("comm")).unwrap();
        let status = fs::read_to_string(task.join("status")).unwrap();
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
        let expected = if name.starts_with("CPU 0/") { last } else { 0 };
        assert_eq!(allowed, expected.to_string(), "{name}");
        found += usize::from(name.starts_with("CPU "));
    }
    assert_eq!(found, 2);
    let status = fs::read_to_string(format!("/proc/{qemu}/status")).unwrap();
    assert!(status.contains("THP_enabled:\t0"), "small pages only: {status}");
}

/// Without a pool of the host's that lets this happen, it is the refusal above that is tested.
pub async fn qemus_memory_comes_from_the_pool_that_was_named(bench: Bench) {
    const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";
    let free = || fs::read_to_string(format!("{POOL}/free_hugepages")).ok()?.trim().parse::<u64>().ok();
    let Ok(alone) = File::open(format!("{POOL}/nr_hugepages")) else { return };
    alone.lock().unwrap();
    let before = fs::read_to_string(format!("{POOL}/nr_hugepages")).unwrap();
    let wanted = before.trim().parse::<u64>().unwrap() + 16;
    let _ = fs::write(format!("{POOL}/nr_hugepages"), wanted.to_string());
    if free().is_none_or(|free| free < 16) {
        eprintln!("not tested: this host has no huge pages to spare");
    } else {
        let spec = VmSpec { page_size: vmspec::PageSize::TwoMib, ..bench.spec() };
        let spare = free().unwrap();
        bench.start(&spec).await;
        bench.wait_for_console(spec.server_id, "hello").await;
        assert_eq!(free().unwrap(), spare - 16);
        bench.driver.stop(spec.server_id, None).await.unwrap();
        eventually(async || free() == Some(spare)).await;
    }
    let _ = fs::write(format!("{POOL}/nr_hugepages"), before);
}

pub async fn qemus_own_words_are_in_the_reason_of_a_failed_start(bench: Bench) {
    let spec = VmSpec { cpu: Cpu { model: Some("no-such-cpu".to_owned()), ..Cpu::default() }, ..bench.spec() };
    let result = bench.driver.ensure_running(&spec, bench.disk(&spec)).await;
    let Err(VmError::StartFailed { reason, .. }) = result else { panic!("{result:?}") };
    assert!(reason.contains("no-such-cpu"), "{reason}");
}

pub async fn the_program_that_spawns_vm_processes_may_be_missing(kind: Kind) {
    let state = tempfile::tempdir().unwrap();
    let servers = state.path().join("servers");
    let mut bench = Bench::at(kind, State::Own(state), servers.clone());
    for (program, said) in [("/nonexistent/solostack", "cannot be spawned"), ("/bin/false", "died")] {
        let config = ProcessConfig { command: vec![program.into()], ..ProcessConfig::new(servers.clone()) };
        bench.driver = Driver::Process(ProcessDriver::new(config).unwrap());
        let spec = bench.spec();
        let result = bench.driver.ensure_running(&spec, bench.disk(&spec)).await;
        let Err(VmError::StartFailed { reason, .. }) = result else { panic!("{result:?}") };
        assert!(reason.contains(said), "{reason}");
    }
}

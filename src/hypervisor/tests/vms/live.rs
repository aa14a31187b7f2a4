//! What is done to a guest that runs, besides ending it: devices that come and go, and suspend. By QEMU, with a guest that
//! never answers a request to let go of a device, which a reset does for it.

use vmspec::client::ClientError;
use vmspec::protocol::{Device, Devices};

use super::*;

async fn client(bench: &Bench, id: Uuid) -> Client {
    Client::connect(&bench.directory(id), SOON).await.unwrap()
}

fn volume(slot: u8, serial: &str) -> Disk {
    Disk {
        slot,
        kind: DiskKind::Volume,
        descriptor: 0,
        read_only: false,
        serial: serial.to_owned(),
        size_bytes: DISK_BYTES,
        limits: Default::default(),
    }
}

fn nic(slot: u8) -> Nic {
    let mac = Mac([0xfa, 0x16, 0x3e, 1, 2, slot]);
    Nic { slot, port_id: Uuid::from_u128(7), mac, mtu: 1500, descriptor: 0, queues: 1, limits: Default::default() }
}

/// Slots, each with whether it is about to be empty.
type Slots = Vec<(u8, bool)>;

/// Of disks, then of nics.
fn slots(devices: &Devices) -> (Slots, Slots) {
    let disks = devices.disks.iter().map(|disk| (disk.slot, disk.leaving)).collect();
    (disks, devices.nics.iter().map(|nic| (nic.slot, nic.leaving)).collect())
}

fn refused(result: Result<(), ClientError>, why: &str) {
    let Err(ClientError::Refused(refusal)) = result else { panic!("{result:?} is not refused") };
    assert!(refusal.message.contains(why), "{refusal:?}");
}

/// How many of QEMU's descriptors are this file.
async fn held_by_qemu(bench: &Bench, id: Uuid, file: &File) -> usize {
    let (inode, qemu) = (file.metadata().unwrap().ino(), bench.qemu_of(id).await);
    let entries = fs::read_dir(format!("/proc/{qemu}/fd")).unwrap();
    entries.filter(|entry| fs::metadata(entry.as_ref().unwrap().path()).is_ok_and(|meta| meta.ino() == inode)).count()
}

pub async fn disks_and_nics_come_and_go_while_the_guest_runs(mut bench: Bench) {
    let spec = bench.booted().await;
    let id = spec.server_id;
    let client = client(&bench, id).await;
    let disk = tempfile::tempfile().unwrap();
    disk.set_len(DISK_BYTES).unwrap();
    let open = || -> OwnedFd { disk.try_clone().unwrap().into() };

    let mut limited = volume(3, "volume-3");
    limited.limits.total_bytes_per_second = Some(1 << 20);
    client.attach_disk(limited.clone(), open()).await.unwrap();
    client.attach_disk(limited, open()).await.unwrap();
    assert_eq!(slots(&client.devices().await.unwrap()).0, [(0, false), (3, false)]);
    assert!(held_by_qemu(&bench, id, &disk).await > 0);
    assert_eq!(bench.driver.statistics(id).await.unwrap().disks.len(), 2);
    refused(client.attach_disk(volume(3, "another"), open()).await, "taken");
    refused(client.attach_disk(volume(4, "volume-3"), open()).await, "there already");
    refused(client.attach_disk(Disk { size_bytes: 512, ..volume(4, "") }, open()).await, "its spec says");
    refused(client.attach_disk(Disk { read_only: true, ..volume(4, "") }, open()).await, "not open for what it is");
    disk.set_len(2 * DISK_BYTES).unwrap();
    client.resize_disk(3, 2 * DISK_BYTES).await.unwrap();
    assert_eq!(client.devices().await.unwrap().disks[1].size_bytes, 2 * DISK_BYTES);
    refused(client.resize_disk(9, DISK_BYTES).await, "empty");

    let name = format!("t{}", u32::from_ne_bytes(random()));
    let here = PathBuf::from(format!("/sys/class/net/{name}"));
    refused(client.attach_nic(nic(2), &[File::open("/dev/null").unwrap().into()]).await, "QEMU refused");
    refused(client.attach_nic(nic(2), &[File::open("/etc/hostname").unwrap().into()]).await, "not a tap");
    client.attach_nic(nic(2), &[tap(&name)]).await.unwrap();
    assert!(here.exists());
    assert_eq!(slots(&client.devices().await.unwrap()).1, [(2, false)]);

    refused(client.detach_disk(0).await, "booted");
    client.detach_disk(7).await.unwrap();
    client.detach_nic(7).await.unwrap();
    for _ in 0..2 {
        client.detach_disk(3).await.unwrap();
        client.detach_nic(2).await.unwrap();
        assert_eq!(slots(&client.devices().await.unwrap()), (vec![(0, false), (3, true)], vec![(2, true)]));
    }
    let again = Disk { size_bytes: 2 * DISK_BYTES, ..volume(3, "volume-3") };
    refused(client.attach_disk(again, open()).await, "taken");
    let files = || -> OwnedFd { tempfile::tempfile().unwrap().into() };
    refused(client.suspend(files(), files(), SOON).await, "let go of a device");
    client.reset().await.unwrap();
    let mut removed = Vec::new();
    while removed.len() < 2 {
        if let VmEventKind::Changed(EventKind::DeviceRemoved(device)) = bench.event(id).await {
            removed.push(device);
        }
    }
    assert!(removed.contains(&Device::Disk { slot: 3 }) && removed.contains(&Device::Nic { slot: 2 }));
    assert_eq!(slots(&client.devices().await.unwrap()), (vec![(0, false)], vec![]));
    assert_eq!(held_by_qemu(&bench, id, &disk).await, 0, "it is closed");
    eventually(async || !here.exists()).await;
    // The slot can be used again, by something else.
    client.attach_disk(Disk { size_bytes: 2 * DISK_BYTES, ..volume(3, "another") }, open()).await.unwrap();
    bench.driver.stop(id, None).await.unwrap();
}

pub async fn a_suspended_guest_goes_on_where_it_was(bench: Bench) {
    let spec = bench.booted().await;
    let id = spec.server_id;
    bench.guest_goes_deaf(id).await;
    let extra = tempfile::tempfile().unwrap();
    extra.set_len(DISK_BYTES).unwrap();
    let plugged = volume(5, "later");
    client(&bench, id).await.attach_disk(plugged.clone(), extra.try_clone().unwrap().into()).await.unwrap();

    bench.driver.suspend(id).await.unwrap();
    assert_eq!(bench.exit(id).await.cause, ExitCause::Suspended);
    let goes_on = |generation: u64, change: fn(&mut VmSpec)| {
        let mut spec = VmSpec { generation, ..spec.clone() };
        spec.disks.push(Disk { descriptor: 1, ..plugged.clone() });
        spec.restore = Some(vmspec::Restore { state_descriptor: 2, memory_descriptor: 3 });
        change(&mut spec);
        spec
    };
    let open = async || {
        let (state, memory) = bench.driver.open_suspended(id).await.unwrap().expect("it is suspended");
        let mut descriptors = bench.disk(&spec);
        descriptors.push(extra.try_clone().unwrap().into());
        descriptors.extend([OwnedFd::from(state), OwnedFd::from(memory)]);
        descriptors
    };

    // A machine of another shape, or a memory that is not whole, never runs; and nothing is lost by trying.
    let (_, memory) = bench.driver.open_suspended(id).await.unwrap().unwrap();
    let whole = fs::read(bench.directory(id).file(directory::SUSPENDED_MEMORY)).unwrap();
    assert_eq!(memory.metadata().unwrap().len(), whole.len() as u64);
    let wrong = goes_on(2, |spec| spec.memory_mib += 1);
    let result = bench.driver.ensure_running(&wrong, open().await).await;
    assert!(
        matches!(&result, Err(VmError::StartFailed { reason, .. }) if reason.contains("memory in MiB")),
        "{result:?}"
    );
    let mut torn = whole.clone();
    let middle = torn.len() / 2;
    torn[middle..].fill(0xee);
    fs::write(bench.directory(id).file(directory::SUSPENDED_MEMORY), &torn).unwrap();
    let result = bench.driver.ensure_running(&goes_on(3, |_| {}), open().await).await;
    assert!(matches!(&result, Err(VmError::StartFailed { .. })), "{result:?}");
    fs::write(bench.directory(id).file(directory::SUSPENDED_MEMORY), &whole).unwrap();

    let restored = goes_on(4, |_| {});
    bench.driver.ensure_running(&restored, open().await).await.unwrap();
    let devices = client(&bench, id).await.devices().await.unwrap();
    assert_eq!(slots(&devices).0, [(0, false), (5, false)]);
    let before = bench.console(id).await;
    bench.type_in(id, "z").await;
    eventually(async || bench.console(id).await.ends_with('z')).await;
    client(&bench, id).await.power_button().await.unwrap();
    // Deaf, as it was: one that had started anew would say "bye", and "hello" before.
    bench.wait_for_console(id, "zbutton").await;
    assert_eq!(bench.console(id).await.matches("hello").count(), before.matches("hello").count());
    // A reset of it is a start like any other, and heard.
    bench.driver.reset(id).await.unwrap();
    eventually(async || bench.console(id).await.matches("hello").count() > before.matches("hello").count()).await;
    bench.driver.stop(id, None).await.unwrap();
}

pub async fn what_our_firmware_does_not_start_is_left_to_seabios_with_the_reason(mut bench: Bench) {
    let spec = bench.booted().await;
    let id = spec.server_id;
    let console = bench.console(id).await;
    assert!(console.contains("solo-fw: cannot start this disk itself"), "{console}");
    let log = || fs::read_to_string(bench.directory(id).file("vm.log")).unwrap();
    let reasons = || log().matches("the firmware hands over to SeaBIOS").count();
    assert_eq!(reasons(), 1, "{}", log());
    let (first, starts) = (bench.running(id).await.pid, console.matches("hello").count());
    // Each start is tried by the firmware first, within the same QEMU; and only the guest's own resets are news.
    let qemu = bench.qemu_of(id).await;
    bench.guest_reboots(id).await;
    eventually(async || bench.console(id).await.matches("hello").count() > starts).await;
    assert_eq!(reasons(), 2, "{}", log());
    assert_eq!((bench.running(id).await.pid, bench.qemu_of(id).await), (first, qemu));
    bench.guest_powers_off(id).await;
    let mut resets = 0;
    loop {
        match bench.event(id).await {
            VmEventKind::Changed(EventKind::Reset { by_guest: true }) => resets += 1,
            VmEventKind::Gone { .. } => break,
            _ => {}
        }
    }
    assert_eq!(resets, 1);
}

pub async fn a_server_with_secure_boot_has_variables_with_keys_in_them(bench: Bench) {
    let secure_boot = vmspec::SecureBoot::Required;
    let spec = VmSpec { firmware: Firmware::Uefi, secure_boot, memory_mib: 256, ..bench.spec() };
    let id = spec.server_id;
    let template = Path::new("/usr/share/OVMF/OVMF_VARS_4M.ms.fd");
    let result = bench.driver.ensure_running(&spec, bench.disk(&spec)).await;
    if !template.exists() {
        let Err(VmError::StartFailed { reason, .. }) = result else { panic!("{result:?}") };
        assert!(reason.contains("package ovmf"), "{reason}");
        return;
    }
    result.unwrap();
    eventually_within(FIRMWARE, async || bench.console(id).await.contains("BdsDxe")).await;
    let variables = fs::read(bench.directory(id).file("uefi-vars-secure.fd")).unwrap();
    // The common name of the key that signs boot loaders, in the certificate as in the variable.
    let holds = |text: &[u8]| variables.windows(text.len()).any(|part| part == text);
    assert!(holds(b"Microsoft Corporation UEFI CA 2011"));
    assert!(!bench.directory(id).file("uefi-vars.fd").exists());
    bench.driver.stop(id, None).await.unwrap();
}

/// Whether it gets far depends on the KVM; that QEMU may open it, behind its walls, does not.
pub async fn what_the_built_in_machine_cannot_run_is_run_by_qemu_with_kvm(bench: Bench) {
    let windows = VmSpec { guest_os: vmspec::GuestOs::Windows, ..bench.spec() };
    let uefi = VmSpec { firmware: Firmware::Uefi, memory_mib: 256, ..bench.spec() };
    for spec in [windows, uefi] {
        let spec = VmSpec { driver: vmspec::Driver::Kvm, ..spec };
        let id = spec.server_id;
        let result = bench.driver.ensure_running(&spec, bench.disk(&spec)).await;
        if !Path::new("/dev/kvm").exists() {
            let Err(VmError::StartFailed { reason, .. }) = result else { panic!("{result:?}") };
            assert!(reason.contains("/dev/kvm"), "{reason}");
            continue;
        }
        result.unwrap();
        let qemu = bench.qemu_of(id).await;
        let kvm = Path::new("/dev/kvm");
        let mut open = fs::read_dir(format!("/proc/{qemu}/fd")).unwrap();
        assert!(open.any(|entry| fs::read_link(entry.unwrap().path()).is_ok_and(|target| target == kvm)));
        let status = fs::read_to_string(format!("/proc/{qemu}/status")).unwrap();
        assert!(!status.contains("Uid:\t0"), "it is nobody's root");
        if bench.running_isolated() {
            let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap().trim();
            assert_eq!(groups, "", "it needs no group to open its own node of the device");
            let node = fs::metadata(format!("/proc/{qemu}/root/dev/kvm")).unwrap();
            assert_eq!((node.uid(), node.mode() & 0o777), (spec.run_as.unwrap(), 0o600));
        }
        let _ = bench.driver.stop(id, None).await;
    }
}

/// One viewer after the other, and two at once.
pub async fn the_screen_of_a_guest_is_seen_through_its_socket(bench: Bench) {
    let spec = VmSpec { display: true, ..bench.spec() };
    let id = spec.server_id;
    bench.start(&spec).await;
    let directory = bench.directory(id);
    let mut viewers = Vec::new();
    for _ in 0..3 {
        let mut viewer = connect_socket(&directory, directory::VNC).await.unwrap();
        let mut version = [0; 12];
        viewer.read_exact(&mut version).await.unwrap();
        assert_eq!(&version, b"RFB 003.008\n");
        viewer.write_all(&version).await.unwrap();
        let mut security = [0; 2];
        viewer.read_exact(&mut security).await.unwrap();
        assert_eq!(security, [1, 1], "one kind of security: none, RFC 6143 section 7.1.2");
        viewer.write_all(&[1]).await.unwrap();
        let mut result = [0; 4];
        viewer.read_exact(&mut result).await.unwrap();
        assert_eq!(result, [0; 4]);
        // Shared with whoever else looks.
        viewer.write_all(&[1]).await.unwrap();
        let mut screen = [0; 4];
        viewer.read_exact(&mut screen).await.unwrap();
        assert_ne!(screen, [0; 4], "it has a size");
        viewers.push(viewer);
    }
    // Whoever says nonsense ends nobody else's view.
    let mut hostile = connect_socket(&directory, directory::VNC).await.unwrap();
    hostile.write_all(&[0xff; 4096]).await.unwrap();
    drop(hostile);
    bench.wait_for_console(id, "hello").await;
    let first = &mut viewers[0];
    // FramebufferUpdateRequest, all of a corner.
    first.write_all(&[3, 0, 0, 0, 0, 0, 0, 8, 0, 8]).await.unwrap();
    let mut rest = vec![0; 22];
    first.read_exact(&mut rest).await.unwrap();
    assert_eq!(bench.running(id).await.state, VmState::Running);
}

pub async fn a_machine_without_a_screen_has_no_socket_for_it(bench: Bench) {
    let spec = bench.booted().await;
    assert!(!bench.directory(spec.server_id).file(directory::VNC).exists());
    // The agent's port is always there; a guest without an agent says nothing.
    let mut agent = connect_socket(&bench.directory(spec.server_id), directory::AGENT).await.unwrap();
    agent.write_all(b"{\"execute\":\"guest-ping\"}\n").await.unwrap();
    assert_eq!(bench.running(spec.server_id).await.state, VmState::Running);
}

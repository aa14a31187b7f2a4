//! QEMU's command line: the machine.

use std::ffi::OsString;

use serde_json::{Value, json};
use vmspec::{Disk, GuestOs, Nic, VmSpec};

use super::firmware::Places;

/// QEMU's machine, by its versioned name: the same on Debian 12 (QEMU 7.2) and 13 (QEMU 10).
pub const MACHINE: &str = "pc-q35-7.2";
/// Descriptors in QEMU: the monitor, the serial line, the firmware's port, the agent's, then those of disks and nics, then
/// those of UEFI, then that of the vsock.
pub const QMP_FD: i32 = 3;
const SERIAL_FD: i32 = 4;
const FIRMWARE_FD: i32 = 5;
const AGENT_FD: i32 = 6;
const DEVICES_FD: i32 = 7;

/// PCI devices: disks from 2, nics from 16, on whichever bus; the rest on the root bus, as in the built-in machine.
const DISK_DEVICE: u8 = 0x02;
const NIC_DEVICE: u8 = 0x10;
const RNG_DEVICE: u8 = 0x18;
const BALLOON_DEVICE: u8 = 0x19;
const VSOCK_DEVICE: u8 = 0x1a;
const SERIAL_DEVICE: u8 = 0x1b;
const SCREEN_DEVICE: u8 = 0x1c;
const KEYBOARD_DEVICE: u8 = 0x1d;
const TABLET_DEVICE: u8 = 0x1e;
const AGENT: &str = "org.qemu.guest_agent.0";
/// As it is called without a backend of its own, so that a suspended guest finds it.
const RAM: &str = "pc.ram";
/// The root bus, where nothing comes or goes, and the one behind a bridge, where everything may. The bridge is the only
/// one, so the guest's number for its bus is 1.
const ROOT_BUS: &str = "pcie.0";
const PLUG_BUS: &str = "pci.1";
const BRIDGE_DEVICE: u8 = 0x01;

/// What starts first in the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    /// SeaBIOS, and our firmware before any disk.
    Firmware(Places),
    /// SeaBIOS alone.
    Bios,
    /// OVMF; `secure` if it is the one that enforces Secure Boot.
    Uefi { secure: bool },
}

impl Boot {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Firmware(_) => "firmware",
            Self::Bios => "bios",
            Self::Uefi { secure: false } => "uefi",
            Self::Uefi { secure: true } => "secure uefi",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    Tcg,
    /// `hyperv`: the kernel offers guests the whole interface of Windows' own hypervisor.
    Kvm {
        hyperv: bool,
    },
}

impl Accelerator {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcg => "tcg",
            Self::Kvm { .. } => "kvm",
        }
    }
}

/// How a machine is run, which is not the guest's concern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Means {
    pub boot: Boot,
    pub accelerator: Accelerator,
    /// The host's pool that memory is taken from, by the MiB of its pages.
    pub pool_mib: Option<u64>,
    /// A descriptor of vhost-vsock is handed over, and the guest has this address.
    pub vsock_cid: Option<u32>,
}

/// QEMU's options take a comma only doubled.
fn escaped(text: &str) -> String {
    text.replace(',', ",,")
}

pub fn disk_name(slot: u8) -> String {
    format!("virtio-disk{slot}")
}

pub fn disk_node(slot: u8) -> String {
    format!("disk{slot}")
}

pub fn nic_name(slot: u8) -> String {
    format!("virtio-net{slot}")
}

pub fn nic_backend(slot: u8) -> String {
    format!("net{slot}")
}

/// A disk's file as a block node, from a set of descriptors.
pub fn disk_backend(disk: &Disk, set: i64) -> Value {
    json!({
        "driver": "raw",
        "node-name": disk_node(disk.slot),
        "read-only": disk.read_only,
        "discard": "unmap",
        "file": { "driver": "file", "filename": format!("/dev/fdset/{set}"), "aio": "threads", "discard": "unmap" },
    })
}

/// What is said of a disk's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// On the root bus, which guests look at before any other, and the only one where our firmware looks.
    pub first: bool,
    pub booted: bool,
}

/// The first disk sits on the root bus, every other behind the bridge.
pub fn disk_device(disk: &Disk, Place { first, booted }: Place) -> Value {
    let mut device = json!({
        "driver": "virtio-blk-pci",
        "id": disk_name(disk.slot),
        "drive": disk_node(disk.slot),
        "bus": if first { ROOT_BUS } else { PLUG_BUS },
        "addr": format!("{:#x}", DISK_DEVICE + disk.slot),
        "disable-legacy": "on",
    });
    if !disk.serial.is_empty() {
        device["serial"] = json!(disk.serial);
    }
    if booted {
        // After the firmware.
        device["bootindex"] = json!(1);
    }
    device
}

pub fn nic_device(nic: &Nic) -> Value {
    let mut device = json!({
        "driver": "virtio-net-pci",
        "id": nic_name(nic.slot),
        "netdev": nic_backend(nic.slot),
        "mac": nic.mac.to_string(),
        "host_mtu": nic.mtu,
        "bus": PLUG_BUS,
        "addr": format!("{:#x}", NIC_DEVICE + nic.slot),
        "disable-legacy": "on",
        // No network boot, whose ROM may not even be installed.
        "romfile": "",
    });
    if nic.queues > 1 {
        device["mq"] = json!(true);
        // One for each direction of each queue, one for control, one for changes.
        device["vectors"] = json!(2 * nic.queues + 2);
    }
    device
}

/// How many of the spec's descriptors are QEMU's: all but those of a suspended guest, which come last.
pub fn handed_descriptors(spec: &VmSpec) -> usize {
    spec.descriptor_count() - if spec.restore.is_some() { 2 } else { 0 }
}

/// A command line that grows.
#[derive(Default)]
struct Line(Vec<String>);

impl Line {
    fn push(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(|word| (*word).to_owned()));
    }

    /// A device on the root bus; `rest` starts with a comma, or is empty.
    fn on_root(&mut self, device: &str, address: u8, rest: &str) {
        self.push(&["-device", &format!("{device},bus={ROOT_BUS},addr={address:#x}{rest}")]);
    }
}

/// QEMU's command line for this machine, without the program.
pub fn line(spec: &VmSpec, means: &Means) -> Vec<OsString> {
    let mut line = Line::default();
    let windows = spec.guest_os == GuestOs::Windows;
    line.push(&["-nodefaults", "-no-user-config", "-display", "none", "-S"]);
    line.push(&["-name", &format!("guest={},debug-threads=on", spec.server_id)]);
    line.push(&["-uuid", &spec.server_id.to_string()]);
    line.push(&["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]);

    // Without graphics SeaBIOS shows its screen on the serial line, where boot loaders that only know a screen are seen
    // too. The controllers left out cost a guest's kernel time to probe.
    let secure = means.boot == Boot::Uefi { secure: true };
    let management_mode = if secure { "on" } else { "off" };
    let mut machine = format!(
        "{MACHINE},graphics=off,usb=off,sata=off,smbus=off,vmport=off,smm={management_mode},hpet=off,dump-guest-core=off"
    );
    if matches!(means.boot, Boot::Uefi { .. }) {
        machine.push_str(",pflash0=uefi-code,pflash1=uefi-variables");
    }
    if let Some(mib) = means.pool_mib {
        machine.push_str(&format!(",memory-backend={RAM}"));
        // Taken now, or no start: a page that is not there later would be the guest's end.
        let size = spec.memory_mib;
        line.push(&[
            "-object",
            &format!("memory-backend-memfd,id={RAM},size={size}M,hugetlb=on,hugetlbsize={mib}M,share=on,prealloc=on"),
        ]);
    }
    line.push(&["-machine", &machine]);
    if secure {
        // The variables may only be changed from system management mode; S3 would be a way around.
        line.push(&["-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1"]);
    }
    line.push(&[
        "-accel",
        match means.accelerator {
            Accelerator::Tcg => "tcg,thread=multi,tb-size=256",
            Accelerator::Kvm { .. } => "kvm",
        },
    ]);
    line.push(&["-cpu", &processor(spec, means.accelerator)]);
    // A display that nobody sees unless this process hands it a client.
    line.push(&["-vnc", "none"]);
    let (sockets, cores, threads) =
        spec.cpu.topology.map_or((spec.vcpus, 1, 1), |shape| (shape.sockets, shape.cores, shape.threads));
    line.push(&["-smp", &format!("cpus={},sockets={sockets},cores={cores},threads={threads}", spec.vcpus)]);
    line.push(&["-m", &format!("size={}M", spec.memory_mib)]);
    line.push(&["-rtc", if windows { "base=localtime,driftfix=slew" } else { "base=utc" }]);
    line.push(&["-boot", "strict=on,menu=off"]);
    line.push(&["-action", "reboot=reset,shutdown=pause,panic=pause"]);

    let smbios = &spec.smbios;
    line.push(&[
        "-smbios",
        &format!(
            "type=1,manufacturer={},product={},version={},serial={},uuid={}",
            escaped(&smbios.manufacturer),
            escaped(&smbios.product),
            escaped(&smbios.version),
            escaped(&smbios.serial),
            smbios.uuid
        ),
    ]);

    line.push(&["-chardev", &format!("socket,id=qmp,fd={QMP_FD},server=off"), "-mon", "chardev=qmp,mode=control"]);
    line.push(&["-chardev", &format!("socket,id=serial0,fd={SERIAL_FD},server=off"), "-serial", "chardev:serial0"]);
    if let Boot::Firmware(places) = &means.boot {
        line.push(&["-chardev", &format!("socket,id=firmware,fd={FIRMWARE_FD},server=off")]);
        line.push(&["-device", "isa-debugcon,iobase=0xb08,chardev=firmware"]);
        line.push(&["-device", &format!("loader,file={}", escaped(&places.image.to_string_lossy()))]);
        line.push(&["-option-rom", &format!("{},bootindex=0", escaped(&places.rom.to_string_lossy()))]);
    }

    line.push(&["-device", &format!("pci-bridge,id={PLUG_BUS},bus={ROOT_BUS},addr={BRIDGE_DEVICE:#x},chassis_nr=1")]);
    let mut disks: Vec<_> = spec.disks.iter().collect();
    disks.sort_unstable_by_key(|disk| disk.slot);
    let (first, boots) = (spec.first_slot(), spec.boot_slot());
    for disk in disks {
        let set = disk.descriptor;
        let place = Place { first: first == Some(disk.slot), booted: boots == Some(disk.slot) };
        line.push(&["-add-fd", &format!("fd={},set={set}", DEVICES_FD + set.cast_signed())]);
        line.push(&["-blockdev", &disk_backend(disk, set.into()).to_string()]);
        line.push(&["-device", &disk_device(disk, place).to_string()]);
    }
    for nic in &spec.nics {
        let first = DEVICES_FD + nic.descriptor.cast_signed();
        let fds: Vec<String> = (first..).take(nic.queues as usize).map(|fd| fd.to_string()).collect();
        let which = if let [fd] = fds.as_slice() { format!("fd={fd}") } else { format!("fds={}", fds.join(":")) };
        line.push(&["-netdev", &format!("tap,id={},{which},vhost=off", nic_backend(nic.slot))]);
        line.push(&["-device", &nic_device(nic).to_string()]);
    }
    line.on_root("virtio-rng-pci", RNG_DEVICE, ",disable-legacy=on");
    line.on_root("virtio-balloon-pci", BALLOON_DEVICE, ",disable-legacy=on,free-page-reporting=on");
    line.on_root("virtio-serial-pci", SERIAL_DEVICE, ",disable-legacy=on,id=serial,max_ports=2");
    // Windows has no driver for the other at its start.
    match (windows, spec.display) {
        (true, _) => line.on_root("VGA", SCREEN_DEVICE, ""),
        // Without a ROM, as in the built-in machine: boot loaders stay on the serial line, where the console log has them.
        (false, true) => line.on_root("bochs-display", SCREEN_DEVICE, ",vgamem=16M,romfile="),
        (false, false) => {}
    }
    if spec.display {
        line.on_root("virtio-keyboard-pci", KEYBOARD_DEVICE, ",disable-legacy=on");
        line.on_root("virtio-tablet-pci", TABLET_DEVICE, "");
    }
    let uefi = matches!(means.boot, Boot::Uefi { .. });
    if let Some(cid) = means.vsock_cid {
        let index = i32::try_from(handed_descriptors(spec)).unwrap_or(i32::MAX) + if uefi { 2 } else { 0 };
        let rest = format!(",disable-legacy=on,guest-cid={cid},vhostfd={}", DEVICES_FD + index);
        line.on_root("vhost-vsock-pci", VSOCK_DEVICE, &rest);
    }
    line.push(&["-chardev", &format!("socket,id=agent,fd={AGENT_FD},server=off")]);
    line.push(&["-device", &format!("virtserialport,bus=serial.0,nr=1,chardev=agent,name={AGENT}")]);
    line.push(&["-device", "pvpanic"]);
    line.push(&["-device", "vmgenid,guid=auto"]);
    if spec.restore.is_some() {
        line.push(&["-incoming", "defer"]);
    }
    if uefi {
        let first = u32::try_from(handed_descriptors(spec)).unwrap_or(u32::MAX);
        for (set, name, read_only) in [(first, "uefi-code", true), (first.saturating_add(1), "uefi-variables", false)] {
            line.push(&["-add-fd", &format!("fd={},set={set}", DEVICES_FD + set.cast_signed())]);
            let file = json!({ "driver": "file", "filename": format!("/dev/fdset/{set}") });
            let node = json!({ "driver": "raw", "node-name": name, "read-only": read_only, "file": file });
            line.push(&["-blockdev", &node.to_string()]);
        }
    }
    line.0.into_iter().map(OsString::from).collect()
}

fn processor(spec: &VmSpec, accelerator: Accelerator) -> String {
    let mut processor = match (&spec.cpu.model, accelerator) {
        (Some(model), _) => model.clone(),
        // Five-level page tables make every walk longer, and an emulated one is slow already.
        (None, Accelerator::Tcg) => "max,la57=off".to_owned(),
        (None, Accelerator::Kvm { .. }) => "host".to_owned(),
    };
    if (spec.guest_os, accelerator) == (GuestOs::Windows, Accelerator::Kvm { hyperv: true }) {
        // What Windows looks for before it trusts clocks, timers and locks of a virtual machine.
        processor.push_str(
            ",hv-relaxed,hv-vapic,hv-spinlocks=0x1fff,hv-time,hv-vpindex,hv-runtime,hv-synic,hv-stimer,hv-frequencies,\
             hv-tlbflush,hv-ipi",
        );
    }
    processor
}

#[cfg(test)]
mod tests {
    use vmspec::{DiskKind, Firmware, Restore, SecureBoot};

    use super::*;

    const GOLDEN_SPEC: &[u8] = include_bytes!("../../../vmspec/tests/golden/spec-v1.json");
    const GOLDEN_SPEC_2: &[u8] = include_bytes!("../../../vmspec/tests/golden/spec-v2.json");

    fn golden() -> VmSpec {
        VmSpec::parse(GOLDEN_SPEC).unwrap()
    }

    fn means(boot: Boot, accelerator: Accelerator) -> Means {
        Means { boot, accelerator, pool_mib: None, vsock_cid: None }
    }

    fn with_firmware() -> Means {
        let places = Places { rom: "/solo-fw.rom".into(), image: "/solo-fw.elf".into() };
        means(Boot::Firmware(places), Accelerator::Tcg)
    }

    fn words(spec: &VmSpec, means: &Means) -> Vec<String> {
        spec.validate().unwrap();
        line(spec, means).into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    /// The command line is part of what a guest sees. A change shows here, and is looked at.
    #[test]
    fn the_command_line_is_the_golden_one() {
        let windows = VmSpec {
            firmware: Firmware::Uefi,
            secure_boot: SecureBoot::Required,
            guest_os: GuestOs::Windows,
            restore: Some(Restore { state_descriptor: 3, memory_descriptor: 4 }),
            ..golden()
        };
        let secure = Means {
            pool_mib: Some(2),
            vsock_cid: Some(77),
            ..means(Boot::Uefi { secure: true }, Accelerator::Kvm { hyperv: true })
        };
        for (name, spec, means) in
            [("qemu-arguments.txt", golden(), with_firmware()), ("qemu-arguments-windows.txt", windows, secure)]
        {
            let text = words(&spec, &means).join("\n") + "\n";
            let golden = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                std::fs::write(&golden, &text).unwrap();
            }
            assert_eq!(text, std::fs::read_to_string(golden).unwrap());
        }
    }

    #[test]
    fn no_text_of_a_spec_breaks_out_of_its_option() {
        let mut spec = golden();
        spec.smbios.product = "a,uuid=b".to_owned();
        spec.name = "x,y -device z".to_owned();
        let line = words(&spec, &with_firmware());
        assert!(line.iter().any(|word| word.contains("product=a,,uuid=b,version=")));
        assert!(!line.iter().any(|word| word.contains("-device z")));
    }

    #[test]
    fn the_first_disk_boots_when_none_is_marked_as_root() {
        let mut spec = golden();
        spec.disks[0].kind = DiskKind::Volume;
        spec.disks.reverse();
        let line = words(&spec, &with_firmware());
        let boots: Vec<_> = line.iter().filter(|word| word.contains("\"bootindex\"")).collect();
        assert_eq!(boots.len(), 1);
        assert!(boots[0].contains("\"virtio-disk0\"") && boots[0].contains("\"pcie.0\""));
    }

    #[test]
    fn a_machine_that_boots_another_disk_keeps_its_first_one_first() {
        let mut spec = golden();
        spec.disks[0].kind = DiskKind::Ephemeral;
        spec.disks[1].kind = DiskKind::Root;
        let line = words(&spec, &Means { boot: Boot::Bios, ..with_firmware() });
        let disk = |slot: u8| line.iter().find(|word| word.contains(&format!("\"virtio-disk{slot}\""))).unwrap();
        assert!(disk(0).contains("\"pcie.0\"") && !disk(0).contains("bootindex"), "{}", disk(0));
        assert!(disk(1).contains("\"pci.1\"") && disk(1).contains("\"bootindex\":1"), "{}", disk(1));
    }

    #[test]
    fn a_nic_has_all_its_queues() {
        let spec = VmSpec { restore: None, ..VmSpec::parse(GOLDEN_SPEC_2).unwrap() };
        assert_eq!((spec.nics[0].queues, spec.nics[0].descriptor), (2, 2));
        let line = words(&spec, &with_firmware());
        assert!(line.iter().any(|word| word == "tap,id=net0,fds=9:10,vhost=off"));
        assert!(line.iter().any(|word| word.contains("\"mq\":true") && word.contains("\"vectors\":6")));
    }

    #[test]
    fn windows_is_told_of_what_the_kernel_has() {
        let spec = VmSpec { guest_os: GuestOs::Windows, ..golden() };
        for hyperv in [true, false] {
            let line = words(&spec, &means(Boot::Bios, Accelerator::Kvm { hyperv }));
            assert!(line.iter().any(|word| word.split(',').next() == Some("host")));
            assert_eq!(line.iter().any(|word| word.contains("hv-relaxed") && word.contains("hv-stimer")), hyperv);
        }
    }

    #[test]
    fn an_emulated_windows_is_not_told_of_an_interface_that_emulation_lacks() {
        let spec = VmSpec { guest_os: GuestOs::Windows, ..golden() };
        let line = words(&spec, &means(Boot::Bios, Accelerator::Tcg));
        assert!(!line.iter().any(|word| word.contains("hv-")));
        assert!(line.iter().any(|word| word.contains("localtime")));
        assert!(!line.iter().any(|word| word.contains("solo-fw")));
    }
}

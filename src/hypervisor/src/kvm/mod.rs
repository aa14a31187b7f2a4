//! The built-in machine `solo-1` on KVM: made, run, stopped, reset, saved and restored. What is told to it and what it
//! tells goes through `driver`.
//!
//! - [`layout`]: addresses, ports, interrupts. - [`ram`]: guest memory. - [`cpuid`]: what the CPUs say.
//! - [`vcpu`]: threads and exits. - [`state`]: registers, for reset and suspend. - [`interrupts`]: irqfds and doorbells.
//! - [`boot`]: what runs first. - [`devices`]: disks and nics. - [`screen`]: the display and who looks at it.
//! - `suspend`: to files and back. - [`driver`]: the bridge to the VM process.
//!
//! What must stay true: everything that changes the machine as a whole happens on one thread, with all vCPUs at the gate
//! and, where guest memory is concerned, all devices reset or paused.

pub mod boot;
pub mod cpuid;
pub mod devices;
pub mod driver;
pub mod interrupts;
pub mod layout;
pub mod ram;
pub mod screen;
pub mod state;
mod suspend;
#[cfg(test)]
mod tests;
pub mod vcpu;

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kvm_bindings::{
    CpuId, KVM_CAP_PMU_CAPABILITY, KVM_MAX_CPUID_ENTRIES, KVM_PIT_SPEAKER_DUMMY, KVM_PMU_CAP_DISABLE, kvm_enable_cap,
    kvm_pit_config,
};
use kvm_ioctls::{Cap, Kvm, VmFd};
use tokio::sync::mpsc::UnboundedReceiver;
use vm_memory::{Bytes as _, GuestAddress, GuestAddressSpace as _, GuestMemoryBackend as _};
use vmspec::VmSpec;
use vmspec::protocol::{Device, Devices, DiskStatistics};

use self::boot::{BiosRom, Entry, Start, Tables};
use self::cpuid::{Cpuid, Features, Topology};
use self::devices::{OpenDisk, OpenNic, Plugged, VhostPool, Wiring};
use self::interrupts::KvmInterrupts;
use self::ram::errno;
use self::screen::{MappedFramebuffer, Workplace};
use self::state::{ChipState, VcpuState};
use self::suspend::Saved;
use self::vcpu::{Dispatch, Vcpus};
use crate::acpi::{self, Pm1};
use crate::bus::{Bus, Registers, SharedRegisters};
use crate::memory::SharedRam;
use crate::pci::{Hotplug, PciBus, SharedLines, SimpleFunction, Windows, hotplug, slots};
use crate::platform::acpi::{Events, PmTimer};
use crate::platform::cmos::Cmos;
use crate::platform::fw_cfg::{FwCfg, Items};
use crate::platform::i8042::I8042;
use crate::platform::ports::{DebugPort, FIRMWARE_PORTS, FirmwarePort, PciAndReset, Pvpanic, SystemControlA, shared};
use crate::platform::serial::{Output, SerialPort};
use crate::platform::vmgenid::GenerationId;
use crate::platform::{Wish, Wishes, smbios};
use crate::virtio::balloon::Balloon;
use crate::virtio::console::{Console, ConsoleControl};
use crate::virtio::device::VirtioDevice;
use crate::virtio::rng::Rng;
use crate::virtio::vsock::Vsock;

/// What a machine is made with besides its spec.
pub struct Parts {
    pub kvm: Kvm,
    pub start: Start,
    /// What the guest writes to COM1.
    pub output: Arc<Output>,
    pub disks: Vec<OpenDisk>,
    pub nics: Vec<OpenNic>,
    /// Open `/dev/vhost-net`, for the queues of these NICs and of those that come later; or none.
    pub vhost: Vec<File>,
    /// An open `/dev/vhost-vsock`, and the guest's number.
    pub vsock: Option<(File, u64)>,
    /// State and memory of a suspended machine, to go on as that.
    pub restore: Option<(File, File)>,
    /// Have the BIOS write its log, to this process's.
    pub debug_port: bool,
}

/// Where all exits of all vCPUs go.
struct Exits {
    ports: Bus,
    pci: Arc<PciBus>,
    wishes: Arc<Wishes>,
}

impl Dispatch for Exits {
    fn port_read(&self, port: u16, data: &mut [u8]) {
        self.ports.read(port.into(), data);
    }

    fn port_write(&self, port: u16, data: &[u8]) {
        self.ports.write(port.into(), data);
    }

    fn memory_read(&self, address: u64, data: &mut [u8]) {
        self.pci.mmio_read(address, data);
    }

    fn memory_write(&self, address: u64, data: &[u8]) {
        self.pci.mmio_write(address, data);
    }

    fn wishes(&self) -> &Wishes {
        &self.wishes
    }
}

/// The devices at fixed ports that the machine itself speaks to.
struct Platform {
    serial: Arc<Mutex<SerialPort>>,
    cmos: Arc<Mutex<Cmos>>,
    fw_cfg: Arc<Mutex<FwCfg>>,
    keyboard: Arc<Mutex<I8042>>,
    events: Arc<Mutex<Events>>,
    pm1: Arc<Mutex<Pm1>>,
    generation: GenerationId,
}

/// One machine. It is stopped when made.
pub struct KvmMachine {
    // First, so that no thread of it is left when the rest goes.
    vcpus: Vcpus,
    vm: Arc<VmFd>,
    ram: SharedRam,
    exits: Arc<Exits>,
    platform: Platform,
    start: Start,
    /// The guest is in the BIOS that our firmware has asked for.
    in_bios: bool,
    rom: Option<BiosRom>,
    tables: AreaTables,
    plugged: Plugged,
    agent: ConsoleControl,
    workplace: Option<Workplace>,
    power_on: Vec<VcpuState>,
    chips: ChipState,
    msrs: Vec<u32>,
    apic_ids: Vec<u32>,
    ram_bytes: u64,
    /// Devices are paused, and vCPUs at the gate.
    paused: bool,
    /// RAM is still that of a file.
    restored: bool,
}

/// What lies below 1 MiB when no BIOS puts its own there.
struct AreaTables {
    smbios: Vec<u8>,
    acpi: acpi::Placed,
}

fn lock<T: ?Sized>(device: &Mutex<T>) -> MutexGuard<'_, T> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refused(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why.into())
}

fn step(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> io::Error {
    move |error| {
        let cause = errno(error);
        io::Error::new(cause.kind(), format!("{what}: {cause}"))
    }
}

/// Have KVM give no guest performance counters: CPUID hides them, but AMD's first four are there without being announced.
/// To be called before there is a vCPU.
fn without_counters(vm: &VmFd) -> Result<(), kvm_ioctls::Error> {
    // Nothing to hide where KVM has none, or is too old to be told.
    if vm.check_extension_raw(KVM_CAP_PMU_CAPABILITY.into()).cast_unsigned() & KVM_PMU_CAP_DISABLE == 0 {
        return Ok(());
    }
    let args = [KVM_PMU_CAP_DISABLE.into(), 0, 0, 0];
    vm.enable_cap(&kvm_enable_cap { cap: KVM_CAP_PMU_CAPABILITY, args, ..Default::default() })
}

/// What KVM must be able to do.
const NEEDED: [(Cap, &str); 8] = [
    (Cap::Irqchip, "interrupt controllers"),
    (Cap::Pit2, "a timer"),
    (Cap::Irqfd, "interrupts by eventfd"),
    (Cap::Ioeventfd, "doorbells by eventfd"),
    (Cap::IrqRouting, "routes of interrupts"),
    (Cap::UserMemory, "memory of a process"),
    (Cap::ImmediateExit, "exits on demand"),
    (Cap::SetTssAddr, "a place for the TSS"),
];

impl KvmMachine {
    pub fn new(spec: &VmSpec, parts: Parts) -> io::Result<(Self, UnboundedReceiver<Wish>)> {
        let Parts { kvm, start, output, disks, nics, vhost, vsock, mut restore, debug_port } = parts;
        let saved = match &mut restore {
            Some((state, _)) => Some(Saved::read(state)?),
            None => None,
        };
        let vsock = suspend::as_before(saved.as_ref(), vsock)?;
        for (cap, what) in NEEDED {
            if !kvm.check_extension(cap) {
                return Err(io::Error::new(io::ErrorKind::Unsupported, format!("/dev/kvm lacks {what}")));
            }
        }
        let most = kvm.get_max_vcpus();
        if spec.vcpus as usize > most {
            return Err(refused(format!("{} vCPUs, where this host's KVM takes {most}", spec.vcpus)));
        }
        let ram_bytes = spec.memory_mib.checked_mul(1 << 20).ok_or_else(|| refused("too much memory"))?;
        let vm = Arc::new(kvm.create_vm().map_err(step("KVM makes no VM"))?);
        vm.set_identity_map_address(layout::IDENTITY_MAP).map_err(step("identity map"))?;
        vm.set_tss_address(usize::try_from(layout::TSS).unwrap_or(usize::MAX)).map_err(step("TSS"))?;
        without_counters(&vm).map_err(step("performance counters"))?;
        vm.create_irq_chip().map_err(step("interrupt controllers"))?;
        let timer = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
        vm.create_pit2(timer).map_err(step("timer"))?;

        let guest_ram = match &restore {
            Some((_, memory)) => suspend::memory_from(memory, ram_bytes, spec.page_size, spec.display)?,
            None => ram::allocate(ram_bytes, spec.page_size)?,
        };
        ram::start_small(&guest_ram);
        ram::give_all(&vm, &guest_ram)?;
        let ram = SharedRam::new(guest_ram);
        let generation = GenerationId::new()?;
        for region in generation.regions() {
            ram::give(&vm, ram::GENERATION_SLOT, region, ram::SlotFlags::default())?;
        }

        let topology = Topology::new(spec.vcpus, spec.cpu.topology);
        let supported = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(step("CPUID of this host"))?;
        let features = Features { nested: false, tsc_deadline: kvm.check_extension(Cap::TscDeadlineTimer) };
        let cpuid = Cpuid::new(supported.as_slice(), topology, features);
        if layout::end_of_ram(ram_bytes) > 1 << cpuid.physical_bits() {
            return Err(refused(format!("{ram_bytes} bytes of memory, where this host's CPU addresses less")));
        }
        let mut vcpus = Vec::new();
        for index in 0..spec.vcpus {
            let vcpu = vm.create_vcpu(topology.apic_id(index).into()).map_err(step("KVM makes no vCPU"))?;
            let table = CpuId::from_entries(&cpuid.of_vcpu(index)).map_err(|_| refused("CPUID is too long"))?;
            vcpu.set_cpuid2(&table).map_err(step("CPUID of a vCPU"))?;
            vcpus.push(vcpu);
        }
        let first = vcpus.first().ok_or_else(|| refused("no vCPU"))?;
        let msrs = state::readable_msrs(&kvm, first)?;

        let interrupts = KvmInterrupts::new(Arc::clone(&vm))?;
        let (wishes, heard) = Wishes::new();
        let wishes = Arc::new(wishes);
        let smbios = smbios::Tables::new(&spec.smbios, spec.vcpus, spec.memory_mib);
        let window = layout::mmio64(cpuid.physical_bits(), ram_bytes).map(|(start, bytes)| start..start + bytes);
        let tables =
            acpi::build(&acpi::Machine { i8042: false, ..acpi::Machine::solo_1(topology.apic_ids(), window.clone()) });
        let placed = tables.place(layout::ACPI_TABLES);
        if placed.bytes.len() as u64 > layout::ACPI_TABLES_BYTES {
            return Err(refused("the ACPI tables do not fit below the BIOS"));
        }
        let items = fw_cfg_items(spec, ram_bytes, &smbios, tables);
        let pci = PciBus::new(Windows { low: layout::MMIO32..layout::MMIO32_END, high: window });
        let events = Arc::new(Mutex::new(Events::new(interrupts.edge(layout::GED_GSI)?)));
        let (notified, off) = (Arc::clone(&events), Arc::clone(&wishes));
        let notify = move || lock(&notified).raise(acpi::EVENT_PCI_HOTPLUG);
        let wiring = Wiring {
            ram: ram.clone(),
            events: Arc::<KvmInterrupts>::clone(&interrupts),
            interrupts: Arc::new(SharedLines::new(Arc::<KvmInterrupts>::clone(&interrupts))),
            vcpus: spec.vcpus,
            vhost: VhostPool::new(vhost),
        };
        let mut plugged = Plugged::new(wiring, Arc::clone(&pci), notify);
        let platform = Platform {
            serial: Arc::new(Mutex::new(SerialPort::new(interrupts.edge(layout::SERIAL_GSI)?, output)?)),
            cmos: Arc::new(Mutex::new(Cmos::new(ram_bytes, spec.vcpus))),
            fw_cfg: Arc::new(Mutex::new(FwCfg::new(items, ram.clone()))),
            keyboard: Arc::new(Mutex::new(I8042::new(Arc::clone(&wishes), None))),
            events,
            pm1: Arc::new(Mutex::new(Pm1::new(move || off.make(Wish::PowerOff)))),
            generation,
        };
        pci.add(slots::HOST_BRIDGE, SimpleFunction::host_bridge()).map_err(io::Error::other)?;
        pci.add(slots::LPC, SimpleFunction::lpc_bridge()).map_err(io::Error::other)?;
        for disk in disks {
            plugged.add_disk(disk)?;
        }
        for nic in nics {
            plugged.add_nic(nic)?;
        }
        let (rng, mut balloon, console) = (Rng::new()?, Balloon::new()?, Console::new()?);
        if ram.memory().iter().any(ram::is_of_pool) {
            balloon = balloon.without_reporting();
        }
        let agent = console.control();
        let mut fixed: Vec<(u8, Box<dyn VirtioDevice>)> = vec![
            (slots::RNG, Box::new(rng)),
            (slots::BALLOON, Box::new(balloon)),
            (slots::VIRTIO_SERIAL, Box::new(console)),
        ];
        if let Some((file, cid)) = vsock {
            fixed.push((slots::VSOCK, Box::new(Vsock::new(file, cid)?)));
        }
        let mut workplace = None;
        if spec.display {
            let (made, keyboard, tablet) = Workplace::new()?;
            let memory = MappedFramebuffer::new(Arc::clone(&vm), Arc::clone(made.display.framebuffer()));
            let display = made.display.function(Box::new(memory)).map_err(io::Error::other)?;
            pci.add(slots::DISPLAY, display).map_err(io::Error::other)?;
            fixed.push((slots::KEYBOARD, Box::new(keyboard)));
            fixed.push((slots::TABLET, Box::new(tablet)));
            workplace = Some(made);
        }
        for (slot, device) in fixed {
            pci.add(slot, plugged.wiring().function(slot, device)?).map_err(io::Error::other)?;
        }
        let exits = Arc::new(Exits { ports: Bus::new(), pci, wishes });
        platform.place(&exits, &plugged.hotplug, debug_port).map_err(io::Error::other)?;

        let mut vcpus = Vcpus::new(vcpus)?;
        let dispatch: Arc<dyn Dispatch> = Arc::<Exits>::clone(&exits);
        let power_on = vcpus.each(|_, vcpu| VcpuState::of(vcpu, &msrs))?;
        let chips = ChipState::of(&vm)?;
        vcpus.start(&dispatch, spec.cpu.dedicated.as_ref())?;
        let mut machine = Self {
            vcpus,
            vm,
            ram,
            exits,
            platform,
            start,
            in_bios: false,
            rom: None,
            tables: AreaTables { smbios: smbios.placed(layout::SMBIOS), acpi: placed },
            plugged,
            agent,
            workplace,
            power_on,
            chips,
            msrs,
            apic_ids: topology.apic_ids(),
            ram_bytes,
            paused: false,
            restored: saved.is_some(),
        };
        match (saved, restore) {
            (Some(saved), Some((_, memory))) => machine.take_over(saved, &memory)?,
            _ => machine.load()?,
        }
        Ok((machine, heard))
    }

    /// The BIOS in its place, if it is what runs.
    fn give_rom_if_wanted(&mut self) -> io::Result<bool> {
        let bios = match &self.start {
            Start::Bios { bios } => Some(bios),
            Start::Firmware { bios, .. } if self.in_bios => bios.as_ref(),
            _ => None,
        };
        let Some(file) = bios else { return Ok(false) };
        if self.rom.is_none() {
            let rom = BiosRom::new(file)?;
            rom.give(&self.vm)?;
            self.rom = Some(rom);
        }
        Ok(true)
    }

    /// Put into fresh memory what runs first, and set the boot processor to it.
    fn load(&mut self) -> io::Result<()> {
        match self.start {
            Start::Firmware { .. } if !self.in_bios => self.exits.wishes.firmware_begins(),
            _ => self.exits.wishes.firmware_is_done(),
        }
        let ram = self.ram.memory();
        if self.give_rom_if_wanted()? {
            return self.rom.as_ref().map_or(Ok(()), |rom| rom.put_copy(&ram));
        }
        ram.write_slice(&self.tables.smbios, GuestAddress(layout::SMBIOS)).map_err(io::Error::other)?;
        ram.write_slice(&self.tables.acpi.bytes, GuestAddress(layout::ACPI_TABLES)).map_err(io::Error::other)?;
        let map = layout::memory_map(self.ram_bytes, true);
        let tables = Tables { rsdp: self.tables.acpi.rsdp };
        let entry = match &mut self.start {
            Start::Firmware { elf, .. } => boot::load_firmware(&ram, elf, &map, tables)?,
            Start::Linux(linux) => boot::load_linux(&ram, linux, &map, tables)?,
            Start::Bios { .. } => Entry::ResetVector,
        };
        self.vcpus.each(|index, vcpu| {
            boot::set_memory_types(vcpu)?;
            if index == 0 { boot::enter(vcpu, entry) } else { Ok(()) }
        })?;
        Ok(())
    }

    /// Run, for the first time or on.
    pub fn go(&mut self) {
        if std::mem::take(&mut self.paused) {
            self.exits.pci.resume();
            // Keeps the guest from taking the pause for a hang. A guest without a paravirtual clock has nothing to tell.
            let _ = self.vcpus.each(|_, vcpu| vcpu.kvmclock_ctrl().or(Ok(())));
        }
        self.vcpus.go();
    }

    /// Stop all vCPUs, wherever they are, and then all work of devices.
    pub fn pause(&mut self) -> io::Result<()> {
        self.vcpus.stop()?;
        if !std::mem::replace(&mut self.paused, true) {
            self.exits.pci.pause();
        }
        Ok(())
    }

    /// Everything as at power-on, in the same process, and stopped. `bios`: what our firmware has asked for.
    pub fn reset(&mut self, bios: bool) -> io::Result<()> {
        self.vcpus.stop()?;
        self.paused = false;
        self.in_bios = bios;
        self.exits.pci.reset();
        lock(&self.plugged.hotplug).reset();
        self.platform.reset(self.ram_bytes, u32::try_from(self.vcpus.len()).unwrap_or(u32::MAX))?;
        if std::mem::take(&mut self.restored) {
            ram::discard_file(&self.ram.memory())?;
        }
        ram::clear(&self.ram.memory())?;
        self.chips.restore(&self.vm)?;
        let power_on = &self.power_on;
        self.vcpus.each(|index, vcpu| match power_on.get(index as usize) {
            Some(state) => state.reset(vcpu, index),
            None => Ok(()),
        })?;
        self.exits.wishes.clear();
        self.load()
    }

    /// No thread of a vCPU is left.
    pub fn end(&mut self) {
        self.vcpus.end();
        self.exits.pci.pause();
    }

    pub fn attach_disk(&mut self, disk: OpenDisk) -> io::Result<()> {
        self.plugged.attach_disk(disk)
    }

    pub fn attach_nic(&mut self, nic: OpenNic) -> io::Result<()> {
        self.plugged.attach_nic(nic)
    }

    /// Ask the guest to let go; false if there is nothing in the slot.
    pub fn detach(&mut self, device: Device) -> io::Result<bool> {
        match device {
            Device::Disk { slot } => self.plugged.detach_disk(slot),
            Device::Nic { slot } => self.plugged.detach_nic(slot),
        }
    }

    pub fn resize_disk(&mut self, slot: u8, size_bytes: u64) -> io::Result<()> {
        self.plugged.resize_disk(slot, size_bytes)
    }

    pub fn devices(&self) -> Devices {
        self.plugged.list()
    }

    pub fn disk_statistics(&self) -> Vec<DiskStatistics> {
        self.plugged.statistics()
    }

    /// What the guest has let go of since the last time this was asked.
    pub fn removed(&mut self) -> Vec<Device> {
        self.plugged.removed()
    }

    /// Wait until the guest lets go of something. Cancel safe.
    pub async fn removal(&mut self) -> Vec<Device> {
        self.plugged.wait().await
    }

    /// Whether the machine can hand over to a BIOS and has not yet.
    pub fn has_bios(&self) -> bool {
        matches!(&self.start, Start::Firmware { bios: Some(_), .. }) && !self.in_bios
    }

    pub fn press_power_button(&self) {
        lock(&self.platform.events).raise(acpi::EVENT_POWER_BUTTON);
    }

    /// The port of the guest agent.
    pub fn agent(&self) -> ConsoleControl {
        self.agent.clone()
    }

    /// The screen, unless the machine has none.
    pub fn workplace(&self) -> Option<Workplace> {
        self.workplace.clone()
    }

    /// COM1, for whoever types.
    pub fn serial(&self) -> Arc<Mutex<SerialPort>> {
        Arc::clone(&self.platform.serial)
    }
}

impl Platform {
    fn place(&self, exits: &Exits, hotplug: &Arc<Mutex<Hotplug>>, debug_port: bool) -> Result<(), crate::bus::Overlap> {
        let wishes = || Arc::clone(&exits.wishes);
        let place = |port: u16, length: u64, device: SharedRegisters| exits.ports.insert(port.into(), length, device);
        place(layout::SERIAL_PORT, 8, Arc::<Mutex<SerialPort>>::clone(&self.serial))?;
        place(layout::CMOS_PORT, 2, Arc::<Mutex<Cmos>>::clone(&self.cmos))?;
        place(layout::FW_CFG_PORT, 12, Arc::<Mutex<FwCfg>>::clone(&self.fw_cfg))?;
        let keyboard = || Arc::<Mutex<I8042>>::clone(&self.keyboard);
        place(layout::KEYBOARD_DATA_PORT, 1, keyboard())?;
        place(layout::KEYBOARD_COMMAND_PORT, 1, shared(At { device: keyboard(), offset: 4 }))?;
        place(layout::GED_PORT, 1, Arc::<Mutex<Events>>::clone(&self.events))?;
        place(layout::PM_TIMER_PORT, 4, shared(PmTimer::new()))?;
        place(acpi::PM1_PORT, acpi::PM1_PORTS.into(), Arc::<Mutex<Pm1>>::clone(&self.pm1))?;
        place(acpi::HOTPLUG_PORT, hotplug::PORTS.into(), Arc::<Mutex<Hotplug>>::clone(hotplug))?;
        let configuration = PciAndReset::new(exits.pci.ports(), wishes());
        place(layout::PCI_CONFIG_PORT, layout::PCI_CONFIG_PORTS, shared(configuration))?;
        place(layout::PVPANIC_PORT, 1, shared(Pvpanic(wishes())))?;
        place(layout::FIRMWARE_PORT, FIRMWARE_PORTS, shared(FirmwarePort::new(wishes())))?;
        place(layout::SYSTEM_CONTROL_A_PORT, 1, shared(SystemControlA(wishes())))?;
        if debug_port {
            place(layout::DEBUG_PORT, 1, shared(DebugPort::default()))?;
        }
        Ok(())
    }

    fn reset(&self, ram_bytes: u64, vcpus: u32) -> io::Result<()> {
        lock(&self.serial).reset()?;
        lock(&self.cmos).reset(ram_bytes, vcpus);
        lock(&self.fw_cfg).reset();
        lock(&self.keyboard).reset();
        lock(&self.events).reset();
        lock(&self.pm1).reset();
        Ok(())
    }
}

/// A device whose registers start at `offset` here.
struct At {
    device: SharedRegisters,
    offset: u64,
}

impl Registers for At {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        lock(&self.device).read(self.offset + offset, data);
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        lock(&self.device).write(self.offset + offset, data);
    }
}

/// What a BIOS is told.
fn fw_cfg_items(spec: &VmSpec, ram_bytes: u64, smbios: &smbios::Tables, acpi: acpi::Tables) -> Items {
    let vcpus = u16::try_from(spec.vcpus).unwrap_or(u16::MAX);
    let mut items = Items::new(vcpus, spec.server_id.into_bytes());
    let mut map = Vec::new();
    for entry in layout::memory_map(ram_bytes, false) {
        map.extend(entry.start.to_le_bytes());
        map.extend(entry.bytes.to_le_bytes());
        map.extend(match entry.kind {
            layout::MapKind::Ram => 1_u32.to_le_bytes(),
            layout::MapKind::Reserved => 2_u32.to_le_bytes(),
        });
    }
    items.file("etc/e820", map);
    items.file("etc/acpi/tables", acpi.tables);
    items.file("etc/acpi/rsdp", acpi.rsdp);
    items.file("etc/table-loader", acpi.loader);
    items.file("etc/smbios/smbios-tables", smbios.structures().to_vec());
    items.file("etc/smbios/smbios-anchor", smbios.entry(0).to_vec());
    // Text of the screen goes to COM1 too: some boot loaders only know a screen.
    items.file("etc/sercon-port", u64::from(layout::SERIAL_PORT).to_le_bytes().to_vec());
    items.file("etc/show-boot-menu", 0_u64.to_le_bytes().to_vec());
    items.file("etc/boot-fail-wait", 0_u64.to_le_bytes().to_vec());
    if let Some(slot) = spec.boot_slot() {
        let order = format!("/pci@i0cf8/scsi@{:x}/disk@0,0\nHALT\0", slots::FIRST_DISK + slot);
        items.file("bootorder", order.into_bytes());
    }
    items
}

//! The ACPI tables of the machine (ACPI 6.4), made once and installed in two ways: placed at an address by this process,
//! or given to a BIOS as files of fw_cfg with a script that says how to link them (`etc/table-loader`).
//!
//! Classic ACPI is the default, not the hardware-reduced kind: GRUB's `halt` and the BIOS's APM know no way to power off
//! but the PM1 control register ([`Pm1`]). Reset goes by port 0xcf9. The power button, hotplug and the generation id are
//! told by a generic event device on a GSI of its own, which every Linux drives under both kinds; so the SCI never comes.
//!
//! What must stay true: both ways give the same tables but for addresses; the AML speaks only of registers that the machine
//! has; `tests/golden/dsdt.dsl` shows a change of the DSDT for what it is: a change for guests.

mod dsdt;
mod loader;
mod pm1;
#[cfg(test)]
mod tests;

use std::ops::Range;

use acpi_tables::fadt::{FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::sdt::Sdt;
use acpi_tables::{Aml, facs, mcfg};

pub use loader::{Placed, Tables};
pub use pm1::{Pm1, SavedPm1};

use loader::Builder;

/// PM1 event and control blocks: 8 ports.
pub const PM1_PORT: u16 = 0x0610;
pub const PM1_PORTS: u16 = 8;
/// Interrupt of [`PM1_PORT`]'s events, of which there are none.
pub const SCI_GSI: u32 = 11;
/// The block of [`crate::pci::Hotplug`].
pub const HOTPLUG_PORT: u16 = 0x0a20;
/// `_S5`: what is written as sleep type to power off.
pub const S5_SLEEP_TYPE: u8 = 5;

/// Bits of the generic event device's register.
pub const EVENT_POWER_BUTTON: u8 = 1 << 0;
pub const EVENT_PCI_HOTPLUG: u8 = 1 << 1;
pub const EVENT_GENERATION: u8 = 1 << 2;

const OEM: [u8; 6] = *b"SOLO  ";
const OEM_TABLE: [u8; 8] = *b"SOLO-1  ";
const OEM_REVISION: u32 = 1;

const IOAPIC: u32 = 0xfec0_0000;
const LOCAL_APIC: u32 = 0xfee0_0000;
/// Behind all ids of local APICs that a byte can tell.
const X2APIC_FIRST: u32 = 255;

const RESET_PORT: u16 = 0x0cf9;
const RESET_VALUE: u8 = 0x06;
const PM_TIMER_PORT: u16 = 0x0608;
const SLEEP_CONTROL_PORT: u16 = 0x0600;
const SLEEP_STATUS_PORT: u16 = 0x0601;
const CENTURY: u8 = 0x32;

/// What the tables tell of. [`Machine::solo_1`] fills in what is fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The id of each vCPU's local APIC, in the order of the vCPUs. The topology is in these ids and in CPUID.
    pub apic_ids: Vec<u32>,
    /// Where 32-bit BARs may be: up to the IOAPIC, as SeaBIOS packs them from there downwards.
    pub mmio32: Range<u64>,
    /// Where 64-bit BARs may be.
    pub mmio64: Option<Range<u64>>,
    /// 256 MiB, of which bus 0 has one.
    pub ecam: u64,
    /// The generic event device: its line (edge, active high) and its one byte of register.
    pub event_gsi: u32,
    pub event_port: u16,
    /// Where the 16 bytes of the VM generation id are; outside RAM.
    pub generation: Option<u64>,
    pub pvpanic_port: Option<u16>,
    pub serial: bool,
    pub i8042: bool,
    /// Slots that disks and nics may come to and go from.
    pub removable: std::ops::RangeInclusive<u8>,
    /// No PM1 registers, no SCI, no PICs: power off by sleep control at 0x600 only.
    pub hardware_reduced: bool,
}

impl Machine {
    pub fn solo_1(apic_ids: Vec<u32>, mmio64: Option<Range<u64>>) -> Self {
        Self {
            apic_ids,
            mmio32: 0xc000_0000..0xfec0_0000,
            mmio64,
            ecam: 0xb000_0000,
            event_gsi: 9,
            event_port: 0x0a10,
            generation: Some(0xfeff_b000),
            pvpanic_port: Some(0x0505),
            serial: true,
            i8042: true,
            removable: crate::pci::slots::REMOVABLE,
            hardware_reduced: false,
        }
    }
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

/// All tables of a machine.
pub fn build(machine: &Machine) -> Tables {
    let mut builder = Builder::default();
    // First, as it must lie at a multiple of 64.
    let facs = (!machine.hardware_reduced).then(|| builder.table(&bytes(&facs::FACS::new())));
    let dsdt = builder.table(&dsdt::dsdt(machine));
    let fadt = builder.table(&fadt(machine));
    if let Some(facs) = facs {
        builder.point(fadt + 36, 4, facs);
    }
    builder.point(fadt + 40, 4, dsdt);
    builder.point(fadt + 140, 8, dsdt);
    builder.sum(fadt);
    let madt = builder.table(&madt(machine));
    let mut mcfg = mcfg::MCFG::new(OEM, OEM_TABLE, OEM_REVISION);
    mcfg.add_ecam(machine.ecam, 0, 0, 0);
    let mcfg = builder.table(&bytes(&mcfg));
    builder.finish(&[fadt, madt, mcfg])
}

fn io(port: u16, bits: u8, access: AccessSize) -> GAS {
    GAS::new(AddressSpace::SystemIo, bits, 0, access, port.into())
}

fn fadt(machine: &Machine) -> Vec<u8> {
    // Legacy devices, i8042, no VGA.
    let boot_architecture: u16 = 1 | u16::from(machine.i8042) << 1 | 1 << 2;
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        // "Not fixed hardware": the power button is a device of the DSDT, and there is no sleep button.
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::FixRtc)
        .flag(Flags::TmrValExt)
        .flag(Flags::ResetRegSup)
        .preferred_pm_profile(PmProfile::EnterpriseServer);
    fadt.iapc_boot_arch = boot_architecture.into();
    fadt.century = CENTURY;
    fadt.reset_reg = io(RESET_PORT, 8, AccessSize::ByteAccess);
    fadt.reset_value = RESET_VALUE;
    fadt.pm_tmr_blk = u32::from(PM_TIMER_PORT).into();
    fadt.pm_tmr_len = 4;
    fadt.x_pm_tmr_blk = io(PM_TIMER_PORT, 32, AccessSize::DwordAccess);
    // No C2 and no C3.
    fadt.p_lvl2_lat = 0x0fff.into();
    fadt.p_lvl3_lat = 0x0fff.into();
    fadt.hypervisor_vendor_identity = u64::from_le_bytes(*b"SOLOSTCK").into();
    if machine.hardware_reduced {
        fadt = fadt.flag(Flags::HwReducedAcpi);
        fadt.sleep_control_reg = io(SLEEP_CONTROL_PORT, 8, AccessSize::ByteAccess);
        fadt.sleep_status_reg = io(SLEEP_STATUS_PORT, 8, AccessSize::ByteAccess);
    } else {
        fadt.sci_int = (SCI_GSI as u16).into();
        fadt.pm1a_evt_blk = u32::from(PM1_PORT).into();
        fadt.pm1_evt_len = 4;
        fadt.x_pm1a_evt_blk = io(PM1_PORT, 32, AccessSize::WordAccess);
        fadt.pm1a_cnt_blk = u32::from(PM1_PORT + 4).into();
        fadt.pm1_cnt_len = 2;
        fadt.x_pm1a_cnt_blk = io(PM1_PORT + 4, 16, AccessSize::WordAccess);
    }
    bytes(&fadt.finalize())
}

fn madt(machine: &Machine) -> Vec<u8> {
    let mut madt = Sdt::new(*b"APIC", 44, 5, OEM, OEM_TABLE, OEM_REVISION);
    madt.write_u32(36, LOCAL_APIC);
    // There are PICs, for who starts with them.
    madt.write_u32(40, u32::from(!machine.hardware_reduced));
    let mut body = Vec::new();
    let mut x2apic = false;
    for (uid, id) in (0_u32..).zip(&machine.apic_ids) {
        match (u8::try_from(uid), u8::try_from(*id)) {
            (Ok(uid), Ok(id)) if u32::from(id) < X2APIC_FIRST => body.extend([0, 8, uid, id, 1, 0, 0, 0]),
            _ => {
                x2apic = true;
                body.extend([9, 16, 0, 0]);
                body.extend(id.to_le_bytes());
                body.extend(1_u32.to_le_bytes());
                body.extend(uid.to_le_bytes());
            }
        }
    }
    // I/O APIC 0, its lines from GSI 0.
    body.extend([1, 12, 0, 0]);
    body.extend(IOAPIC.to_le_bytes());
    body.extend(0_u32.to_le_bytes());
    let mut interrupt_override = |line: u8, gsi: u32, flags: u16| {
        body.extend([2, 10, 0, line]);
        body.extend(gsi.to_le_bytes());
        body.extend(flags.to_le_bytes());
    };
    if !machine.hardware_reduced {
        // The timer is on pin 2, as on every PC; the SCI is active high and level triggered.
        interrupt_override(0, 2, 0);
        interrupt_override(SCI_GSI as u8, SCI_GSI, 0x000d);
    }
    // NMI at LINT1 of all.
    body.extend([4, 6, 0xff, 0, 0, 1]);
    if x2apic {
        body.extend([0x0a, 12, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
    }
    madt.append_slice(&body);
    bytes(&madt)
}

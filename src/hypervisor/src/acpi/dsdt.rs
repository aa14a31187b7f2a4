//! The DSDT: what a guest cannot find out by looking, in AML.

use acpi_tables::aml::{
    Acquire, AddressSpace, AddressSpaceCacheable, And, Arg, CreateDWordField, Device, EISAName, Else, Equal, Field,
    FieldAccessType, FieldEntry, FieldLockRule, FieldUpdateRule, IO, If, Interrupt, Local, Memory32Fixed, Method,
    MethodCall, Mutex, Name, NotEqual, Notify, ONE, OpRegion, OpRegionSpace, Or, Package, PackageBuilder, Path,
    Release, ResourceTemplate, Return, Scope, ShiftLeft, Store, Uuid, ZERO,
};
use acpi_tables::sdt::Sdt;
use acpi_tables::{Aml, AmlSink};

use super::{
    EVENT_GENERATION, EVENT_PCI_HOTPLUG, EVENT_POWER_BUTTON, HOTPLUG_PORT, Machine, OEM, OEM_REVISION, OEM_TABLE,
    PM_TIMER_PORT, PM1_PORT, PM1_PORTS, S5_SLEEP_TYPE, SLEEP_CONTROL_PORT, bytes,
};
use crate::pci::{hotplug, intx_gsi};

/// A device is there and works, but is not to be shown.
const HIDDEN: u8 = 0x0b;
const DEVICE_CHECK: u8 = 1;
const EJECT_REQUEST: u8 = 3;
const STATUS_CHANGED: u8 = 0x80;
/// "Host bridge capabilities" (PCI Firmware Specification 3.2, section 4.5).
const PCI_OSC: &str = "33db4d5b-1ff7-401c-9657-7441c03dd766";
/// PME, AER, capability structure: the guest may have them. Not hotplug: there is only ACPI's.
const OSC_GRANTED: u32 = 0x1c;

/// AML already made.
#[derive(Default)]
struct Raw(Vec<u8>);

impl Aml for Raw {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(&self.0);
    }
}

impl Raw {
    fn add(&mut self, aml: &dyn Aml) {
        aml.to_aml_bytes(&mut self.0);
    }
}

/// In `\_SB`.
pub(super) fn dsdt(machine: &Machine) -> Vec<u8> {
    let mut body = Raw::default();
    body.add(&Name::new("_S5_".into(), &Package::new(vec![&S5_SLEEP_TYPE, &S5_SLEEP_TYPE, &ZERO, &ZERO])));
    let mut system = Raw::default();
    system.add(&pci_root(machine));
    system.add(&hotplug_block());
    system.add(&reserved(machine));
    system.add(&legacy(machine));
    system.add(&Device::new("PWRB".into(), vec![&Name::new("_HID".into(), &EISAName::new("PNP0C0C"))]));
    if let Some(address) = machine.generation {
        let (low, high) = (address as u32, (address >> 32) as u32);
        let halves = Package::new(vec![&low, &high]);
        // VMGENCTR is what Linux looks for, the other names are what Microsoft's document asks for.
        system.add(&Device::new(
            "VGEN".into(),
            vec![
                &Name::new("_HID".into(), &"VMGENCTR"),
                &Name::new("_CID".into(), &"VM_Gen_Counter"),
                &Name::new("_DDN".into(), &"VM_Gen_Counter"),
                &Name::new("ADDR".into(), &halves),
            ],
        ));
    }
    system.add(&events(machine));
    system.add(&processors(machine));
    body.add(&Scope::new("\\_SB_".into(), vec![&system]));

    // Revision 2 and later: integers of 64 bits.
    let mut table = Sdt::new(*b"DSDT", 36, 2, OEM, OEM_TABLE, OEM_REVISION);
    table.append_slice(&body.0);
    bytes(&table)
}

fn slot_path(slot: u8) -> Path {
    Path::new(&format!("S{slot:03X}"))
}

fn pci_root(machine: &Machine) -> Raw {
    let mut root = Raw::default();
    root.add(&Name::new("_HID".into(), &EISAName::new("PNP0A08")));
    root.add(&Name::new("_CID".into(), &EISAName::new("PNP0A03")));
    for name in ["_UID", "_SEG", "_BBN"] {
        root.add(&Name::new(name.into(), &ZERO));
    }

    let mut windows = Raw::default();
    windows.add(&AddressSpace::new_bus_number(0_u16, 0));
    windows.add(&IO::new(0xcf8, 0xcf8, 1, 8));
    windows.add(&AddressSpace::new_io(0x0000_u16, 0x0cf7, None));
    windows.add(&AddressSpace::new_io(0x0d00_u16, 0xffff, None));
    let (first, last) = (machine.mmio32.start as u32, (machine.mmio32.end - 1) as u32);
    windows.add(&AddressSpace::new_memory(AddressSpaceCacheable::NotCacheable, true, first, last, None));
    if let Some(high) = machine.mmio64.as_ref().filter(|high| !high.is_empty()) {
        let cacheable = AddressSpaceCacheable::PreFetchable;
        windows.add(&AddressSpace::new_memory(cacheable, true, high.start, high.end - 1, None));
    }
    root.add(&Name::new("_CRS".into(), &ResourceTemplate::new(vec![&windows])));

    // Pin A of each device; all are level triggered and active low, as PCI has it.
    let mut routes = PackageBuilder::new();
    for slot in 1_u8..32 {
        let address = u32::from(slot) << 16 | 0xffff;
        routes.add_element(&Package::new(vec![&address, &ZERO, &ZERO, &intx_gsi(slot)]));
    }
    root.add(&Name::new("_PRT".into(), &routes));
    root.add(&osc());

    let mut tell = Raw::default();
    for slot in machine.removable.clone() {
        let eject = MethodCall::new("\\_SB_.PHPR.PCEJ".into(), vec![&slot]);
        root.add(&Device::new(
            slot_path(slot),
            vec![
                &Name::new("_SUN".into(), &slot),
                &Name::new("_ADR".into(), &(u32::from(slot) << 16)),
                &Method::new("_EJ0".into(), 1, true, vec![&eject]),
            ],
        ));
        let bit = 1_u32 << slot;
        tell.add(&And::new(&Local(0), &Arg(0), &bit));
        tell.add(&If::new(&Local(0), vec![&Notify::new(&slot_path(slot), &Arg(1))]));
    }
    // Tell the slots of a mask (0) what happened to them (1).
    root.add(&Method::new("DVNT".into(), 2, true, vec![&tell]));

    let mut device = Raw::default();
    device.add(&Device::new("PCI0".into(), vec![&root]));
    device
}

/// Gives the guest what it asks for but native hotplug.
fn osc() -> Raw {
    let (status, control) = (Path::new("CDW1"), Path::new("CDW3"));
    let mut granted = Raw::default();
    granted.add(&CreateDWordField::new(&control, &Arg(3), &8_u8));
    granted.add(&And::new(&Local(0), &control, &OSC_GRANTED));
    granted.add(&If::new(&NotEqual::new(&Local(0), &control), vec![&Or::new(&status, &status, &0x10_u8)]));
    granted.add(&If::new(&NotEqual::new(&Arg(1), &ONE), vec![&Or::new(&status, &status, &0x08_u8)]));
    granted.add(&Store::new(&control, &Local(0)));
    let mut method = Raw::default();
    method.add(&Method::new(
        "_OSC".into(),
        4,
        true,
        vec![
            &CreateDWordField::new(&status, &Arg(3), &ZERO),
            &If::new(&Equal::new(&Arg(0), &Uuid::new(PCI_OSC)), vec![&granted]),
            &Else::new(vec![&Or::new(&status, &status, &0x04_u8)]),
            &Return::new(&Arg(3)),
        ],
    ));
    method
}

/// The registers of [`hotplug`] and what is done with them.
fn hotplug_block() -> Raw {
    let ports = IO::new(HOTPLUG_PORT, HOTPLUG_PORT, 1, hotplug::PORTS as u8);
    let fields =
        vec![FieldEntry::Named(*b"PCIU", 32), FieldEntry::Named(*b"PCID", 32), FieldEntry::Named(*b"B0EJ", 32)];
    let (up, down, eject) = (Path::new("PCIU"), Path::new("PCID"), Path::new("B0EJ"));
    let tell_up = MethodCall::new("\\_SB_.PCI0.DVNT".into(), vec![&Local(0), &DEVICE_CHECK]);
    let tell_down = MethodCall::new("\\_SB_.PCI0.DVNT".into(), vec![&Local(1), &EJECT_REQUEST]);
    let (take, give) = (Acquire::new("BLCK".into(), 0xffff), Release::new("BLCK".into()));
    let mut device = Raw::default();
    device.add(&Device::new(
        "PHPR".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0A06")),
            &Name::new("_UID".into(), &"PCI hotplug"),
            &Name::new("_STA".into(), &HIDDEN),
            &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&ports])),
            &OpRegion::new("PCST".into(), OpRegionSpace::SystemIO, &HOTPLUG_PORT, &hotplug::PORTS),
            &Field::new(
                "PCST".into(),
                FieldAccessType::DWord,
                FieldLockRule::NoLock,
                FieldUpdateRule::WriteAsZeroes,
                fields,
            ),
            &Mutex::new("BLCK".into(), 0),
            &Method::new(
                "PCEJ".into(),
                1,
                true,
                vec![&take, &ShiftLeft::new(&Local(0), &ONE, &Arg(0)), &Store::new(&eject, &Local(0)), &give],
            ),
            &Method::new(
                "PSCN".into(),
                0,
                true,
                vec![
                    &take,
                    &Store::new(&Local(0), &up),
                    &Store::new(&Local(1), &down),
                    &give,
                    &If::new(&Local(0), vec![&tell_up]),
                    &If::new(&Local(1), vec![&tell_down]),
                ],
            ),
        ],
    ));
    device
}

/// What belongs to the board: without ECAM in here Linux does not believe the MCFG.
fn reserved(machine: &Machine) -> Raw {
    let mut ranges = Raw::default();
    ranges.add(&Memory32Fixed::new(true, machine.ecam as u32, 256 << 20));
    let ports = |start: u16, length: u8| IO::new(start, start, 1, length);
    if machine.hardware_reduced {
        ranges.add(&ports(SLEEP_CONTROL_PORT, 2));
    } else {
        ranges.add(&ports(PM1_PORT, PM1_PORTS as u8));
    }
    ranges.add(&ports(PM_TIMER_PORT, 4));
    ranges.add(&ports(machine.event_port, 1));
    let mut device = Raw::default();
    device.add(&Device::new(
        "MRES".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0C02")),
            &Name::new("_UID".into(), &ZERO),
            &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&ranges])),
        ],
    ));
    device
}

/// Edge triggered, active high, not shared: as on ISA.
fn isa_interrupt(line: u32) -> Interrupt {
    Interrupt::new(true, true, false, false, line)
}

fn legacy(machine: &Machine) -> Raw {
    let mut devices = Raw::default();
    let mut device = |name: &str, id: &str, resources: Vec<&dyn Aml>| {
        devices.add(&Device::new(
            name.into(),
            vec![
                &Name::new("_HID".into(), &EISAName::new(id)),
                &Name::new("_CRS".into(), &ResourceTemplate::new(resources)),
            ],
        ));
    };
    device("RTC_", "PNP0B00", vec![&IO::new(0x70, 0x70, 1, 2), &isa_interrupt(8)]);
    if machine.i8042 {
        device("KBD_", "PNP0303", vec![&IO::new(0x60, 0x60, 1, 1), &IO::new(0x64, 0x64, 1, 1), &isa_interrupt(1)]);
        device("MOU_", "PNP0F13", vec![&isa_interrupt(12)]);
    }
    if machine.serial {
        devices.add(&Device::new(
            "COM1".into(),
            vec![
                &Name::new("_HID".into(), &EISAName::new("PNP0501")),
                &Name::new("_UID".into(), &ONE),
                &Name::new(
                    "_CRS".into(),
                    &ResourceTemplate::new(vec![&IO::new(0x3f8, 0x3f8, 1, 8), &isa_interrupt(4)]),
                ),
            ],
        ));
    }
    if let Some(port) = machine.pvpanic_port {
        devices.add(&Device::new(
            "PEVT".into(),
            vec![
                &Name::new("_HID".into(), &"QEMU0001"),
                &Name::new("_STA".into(), &HIDDEN),
                &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&IO::new(port, port, 1, 1)])),
                &OpRegion::new("PEOR".into(), OpRegionSpace::SystemIO, &port, &ONE),
                &Field::new(
                    "PEOR".into(),
                    FieldAccessType::Byte,
                    FieldLockRule::NoLock,
                    FieldUpdateRule::Preserve,
                    vec![FieldEntry::Named(*b"PEPT", 8)],
                ),
                &Method::new("RDPT".into(), 0, true, vec![&Return::new(&Path::new("PEPT"))]),
                &Method::new("WRPT".into(), 1, true, vec![&Store::new(&Path::new("PEPT"), &Arg(0))]),
            ],
        ));
    }
    devices.add(&Device::new(
        "FWCF".into(),
        vec![
            &Name::new("_HID".into(), &"QEMU0002"),
            &Name::new("_STA".into(), &HIDDEN),
            &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&IO::new(0x510, 0x510, 1, 12)])),
        ],
    ));
    devices
}

/// The generic event device: one line, one register whose bits say what happened, and reading it clears them.
fn events(machine: &Machine) -> Raw {
    let line = Interrupt::new(true, true, false, false, machine.event_gsi);
    let scan = MethodCall::new("\\_SB_.PHPR.PSCN".into(), vec![]);
    let mut dispatch = Raw::default();
    dispatch.add(&Store::new(&Local(0), &Path::new("GDAT")));
    let mut on = |bit: u8, action: &dyn Aml| {
        dispatch.add(&And::new(&Local(1), &Local(0), &bit));
        dispatch.add(&If::new(&Local(1), vec![action]));
    };
    on(EVENT_POWER_BUTTON, &Notify::new(&Path::new("\\_SB_.PWRB"), &STATUS_CHANGED));
    on(EVENT_PCI_HOTPLUG, &scan);
    if machine.generation.is_some() {
        on(EVENT_GENERATION, &Notify::new(&Path::new("\\_SB_.VGEN"), &STATUS_CHANGED));
    }
    let mut device = Raw::default();
    device.add(&Device::new(
        "GED_".into(),
        vec![
            &Name::new("_HID".into(), &"ACPI0013"),
            &Name::new("_UID".into(), &ZERO),
            &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&line])),
            &OpRegion::new("GDST".into(), OpRegionSpace::SystemIO, &machine.event_port, &ONE),
            &Field::new(
                "GDST".into(),
                FieldAccessType::Byte,
                FieldLockRule::NoLock,
                FieldUpdateRule::WriteAsZeroes,
                vec![FieldEntry::Named(*b"GDAT", 8)],
            ),
            &Method::new("_EVT".into(), 1, true, vec![&dispatch]),
        ],
    ));
    device
}

fn processors(machine: &Machine) -> Raw {
    let mut container = Raw::default();
    container.add(&Name::new("_HID".into(), &"ACPI0010"));
    container.add(&Name::new("_CID".into(), &EISAName::new("PNP0A05")));
    for index in 0..machine.apic_ids.len() {
        container.add(&Device::new(
            Path::new(&format!("C{index:03X}")),
            vec![&Name::new("_HID".into(), &"ACPI0007"), &Name::new("_UID".into(), &index)],
        ));
    }
    let mut device = Raw::default();
    device.add(&Device::new("CPUS".into(), vec![&container]));
    device
}

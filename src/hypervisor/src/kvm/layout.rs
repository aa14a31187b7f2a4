//! Where everything lies in the guest's address spaces: machine `solo-1`. A change of a number here is a change for
//! guests, and for saved states.
//!
//! What must stay true: nothing overlaps; low RAM ends below the first window that firmware insists on (`ECAM`); the pages
//! that KVM wants for itself on Intel (`IDENTITY_MAP`, `TSS`) are in no RAM and in no window of a BAR.

use vm_memory::GuestAddress;

/// RAM below 4 GiB ends here at the latest; the rest starts at [`HIGH_RAM`].
pub const LOW_RAM_MOST: u64 = 0x8000_0000;
pub const HIGH_RAM: u64 = 1 << 32;

/// Enhanced configuration access at reset; the guest may move it by PCIEXBAR.
pub const ECAM: u64 = 0xb000_0000;
pub const ECAM_BYTES: u64 = 0x1000_0000;
/// For 32-bit BARs. SeaBIOS packs them from the IOAPIC downwards.
pub const MMIO32: u64 = 0xc000_0000;
pub const MMIO32_END: u64 = IOAPIC;

pub const IOAPIC: u64 = 0xfec0_0000;
pub const LOCAL_APIC: u64 = 0xfee0_0000;
/// One page of memory with the VM generation id at its start.
pub const VMGENID: u64 = 0xfeff_b000;
pub const VMGENID_BYTES: u64 = 0x1000;
/// KVM's own: the identity-mapped page table, and the three pages of the TSS.
pub const IDENTITY_MAP: u64 = 0xfeff_c000;
pub const TSS: u64 = 0xfeff_d000;
/// Everything from [`VMGENID`] to the end of the TSS.
pub const PRIVATE_PAGES_BYTES: u64 = 0x5000;
/// The BIOS ends at 4 GiB, and its last part is also below 1 MiB.
pub const BIOS_END: u64 = 1 << 32;
pub const BIOS_COPY_BYTES: usize = 0x2_0000;

/// Below 1 MiB when this process places the tables itself, with no BIOS that does.
pub const EBDA: u64 = 0x9_fc00;
pub const ACPI_TABLES: u64 = 0xe_0000;
pub const ACPI_TABLES_BYTES: u64 = 0x1_0000;
pub const SMBIOS: u64 = 0xf_0000;
pub const SMBIOS_BYTES: u64 = 0x1_0000;
pub const ONE_MIB: u64 = 0x10_0000;

/// Interrupts of the IOAPIC. The first 16 are those of a PC.
pub const KEYBOARD_GSI: u32 = 1;
pub const SERIAL_GSI: u32 = 4;
/// Edge, active high: "look at [`GED_PORT`]".
pub const GED_GSI: u32 = 9;
pub const MOUSE_GSI: u32 = 12;
pub const IOAPIC_PINS: u32 = 24;
/// GSIs from here on are messages.
pub const FIRST_MESSAGE_GSI: u32 = 24;

/// I/O ports.
pub const KEYBOARD_DATA_PORT: u16 = 0x60;
pub const KEYBOARD_COMMAND_PORT: u16 = 0x64;
pub const SYSTEM_CONTROL_B_PORT: u16 = 0x61;
pub const CMOS_PORT: u16 = 0x70;
pub const POST_PORT: u16 = 0x80;
pub const SYSTEM_CONTROL_A_PORT: u16 = 0x92;
pub const SERIAL_PORT: u16 = 0x3f8;
pub const DEBUG_PORT: u16 = 0x402;
pub const PVPANIC_PORT: u16 = 0x505;
pub const FW_CFG_PORT: u16 = 0x510;
pub const PM_TIMER_PORT: u16 = 0x608;
/// What happened, as bits of one byte (`acpi::EVENT_*`) that reading clears.
pub const GED_PORT: u16 = 0x0a10;
/// Our firmware's port: says that it is this machine, and takes the plea for a BIOS.
pub const FIRMWARE_PORT: u16 = 0x0b00;
pub const PCI_CONFIG_PORT: u16 = 0xcf8;
pub const PCI_CONFIG_PORTS: u64 = 8;

/// How much RAM lies where: `(start, bytes)` of the low and, if there is any, the high part.
pub fn ram_regions(bytes: u64) -> Vec<(GuestAddress, u64)> {
    let low = bytes.min(LOW_RAM_MOST);
    let mut regions = vec![(GuestAddress(0), low)];
    if bytes > low {
        regions.push((GuestAddress(HIGH_RAM), bytes - low));
    }
    regions
}

/// The first address behind all RAM and all that lies below 4 GiB.
pub fn end_of_ram(bytes: u64) -> u64 {
    HIGH_RAM + bytes.saturating_sub(LOW_RAM_MOST)
}

/// The window for 64-bit BARs, `(start, bytes)`: the upper half of what the CPU can address. None if RAM reaches into it.
pub fn mmio64(physical_bits: u32, ram_bytes: u64) -> Option<(u64, u64)> {
    let half = 1_u64 << physical_bits.clamp(36, 52).saturating_sub(1);
    // Linux reserves the top of the space for itself on some hosts (L1TF): leave the last sixteenth alone.
    (end_of_ram(ram_bytes) <= half).then_some((half, half - half / 8))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    Ram,
    Reserved,
}

/// One range of the memory map that the guest is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapEntry {
    pub start: u64,
    pub bytes: u64,
    pub kind: MapKind,
}

/// The memory map. With `tables_placed` the first MiB holds tables that this process has put there; a BIOS puts its own.
pub fn memory_map(ram_bytes: u64, tables_placed: bool) -> Vec<MapEntry> {
    let ram = |start: u64, end: u64| MapEntry { start, bytes: end.saturating_sub(start), kind: MapKind::Ram };
    let reserved = |start: u64, bytes: u64| MapEntry { start, bytes, kind: MapKind::Reserved };
    let low = ram_bytes.min(LOW_RAM_MOST);
    let mut map = Vec::new();
    if tables_placed {
        map.push(ram(0, EBDA.min(low)));
        map.push(reserved(EBDA, 0xa_0000 - EBDA));
        map.push(reserved(ACPI_TABLES, ONE_MIB - ACPI_TABLES));
        map.push(ram(ONE_MIB, low.max(ONE_MIB)));
    } else {
        map.push(ram(0, low));
    }
    map.push(reserved(ECAM, ECAM_BYTES));
    map.push(reserved(VMGENID, PRIVATE_PAGES_BYTES));
    if ram_bytes > LOW_RAM_MOST {
        map.push(ram(HIGH_RAM, end_of_ram(ram_bytes)));
    }
    map.retain(|entry| entry.bytes > 0);
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn the_tables_tell_of_this_layout() {
        let told = crate::acpi::Machine::solo_1(vec![0], None);
        assert_eq!(told.mmio32, MMIO32..MMIO32_END);
        assert_eq!(told.ecam, ECAM);
        assert_eq!((told.event_gsi, told.event_port), (GED_GSI, GED_PORT));
        assert_eq!(told.generation, Some(VMGENID));
        assert_eq!(told.pvpanic_port, Some(PVPANIC_PORT));
    }

    #[test]
    fn nothing_of_the_map_overlaps() {
        for ram in [1 << 20, 128 << 20, 2 * GIB - 4096, 2 * GIB, 2 * GIB + 4096, 64 * GIB, 1024 * GIB] {
            for tables_placed in [false, true] {
                let mut map = memory_map(ram, tables_placed);
                map.push(MapEntry { start: MMIO32, bytes: MMIO32_END - MMIO32, kind: MapKind::Reserved });
                map.push(MapEntry { start: IOAPIC, bytes: 0x1000, kind: MapKind::Reserved });
                map.push(MapEntry { start: LOCAL_APIC, bytes: 0x1000, kind: MapKind::Reserved });
                map.sort_by_key(|entry| entry.start);
                for pair in map.windows(2) {
                    assert!(pair[0].start + pair[0].bytes <= pair[1].start, "{ram:#x}: {pair:x?}");
                }
            }
        }
    }

    #[test]
    fn all_ram_is_mapped_and_told() {
        for ram in [128 << 20, 2 * GIB, 5 * GIB, 1024 * GIB] {
            let mapped: u64 = ram_regions(ram).iter().map(|(_, bytes)| bytes).sum();
            assert_eq!(mapped, ram);
            let told: u64 =
                memory_map(ram, false).iter().filter(|e| e.kind == MapKind::Ram).map(|entry| entry.bytes).sum();
            assert_eq!(told, ram);
        }
    }

    #[test]
    fn the_64_bit_window_is_above_all_ram_or_absent() {
        assert_eq!(mmio64(40, 4 * GIB).map(|(start, _)| start), Some(1 << 39));
        assert_eq!(mmio64(40, 1024 * GIB), None);
        let (start, bytes) = mmio64(46, 1024 * GIB).unwrap();
        assert!(start >= end_of_ram(1024 * GIB) && start + bytes <= 1 << 46);
    }
}

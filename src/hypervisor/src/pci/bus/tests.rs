use super::*;
use crate::pci::{BarKind, Configuration, Identity, SimpleFunction};
use proptest::prelude::*;

const LOW: Range<u64> = 0xc000_0000..0xfec0_0000;
const HIGH: Range<u64> = 1 << 39..1 << 40;

/// Slot, BAR, and where to.
type Move = (u8, u8, Option<u64>);

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Move>>>);

struct Probe {
    slot: u8,
    space: Configuration,
    heard: Heard,
}

impl PciFunction for Probe {
    fn name(&self) -> &str {
        "probe"
    }
    fn configuration(&self) -> &Configuration {
        &self.space
    }
    fn configuration_mut(&mut self) -> &mut Configuration {
        &mut self.space
    }
    fn bar_read(&mut self, bar: u8, offset: u64, data: &mut [u8]) {
        assert!(offset + data.len() as u64 <= if bar == 0 { 0x4000 } else { 1 << 25 });
        data.fill(self.slot);
    }
    fn bar_write(&mut self, _bar: u8, _offset: u64, _data: &[u8]) {}
    fn bar_moved(&mut self, bar: u8, address: Option<u64>) {
        lock(&self.heard.0).push((self.slot, bar, address));
    }
    fn reset(&mut self) {
        self.space.reset();
    }
    fn save(&mut self) -> serde_json::Value {
        serde_json::to_value(self.space.save()).unwrap()
    }
    fn restore(&mut self, state: &serde_json::Value) -> Result<(), RestoreError> {
        self.space.restore(&Deserialize::deserialize(state).unwrap())
    }
}

fn probe(slot: u8, heard: &Heard) -> Probe {
    let mut space = Configuration::new(Identity {
        vendor: 0x1af4,
        device: 0x1040 + u16::from(slot),
        revision: 1,
        class: 0x02_00_00,
        subsystem_vendor: 0x1af4,
        subsystem: 0x1100,
    });
    space.add_bar(0, BarKind::Memory32, 0x4000).unwrap();
    space.add_bar(2, BarKind::Memory64, if slot == 3 { 1 << 25 } else { 0x1000 }).unwrap();
    Probe { slot, space, heard: heard.clone() }
}

fn bus() -> (Arc<PciBus>, Heard) {
    let heard = Heard::default();
    let bus = PciBus::new(Windows { low: LOW, high: Some(HIGH) });
    bus.add(0, SimpleFunction::host_bridge()).unwrap();
    for slot in 2..5 {
        bus.add(slot, probe(slot, &heard)).unwrap();
    }
    bus.add(0x1f, SimpleFunction::lpc_bridge()).unwrap();
    (bus, heard)
}

fn ecam(slot: u8, offset: u64) -> u64 {
    0xb000_0000 + (u64::from(slot) << 15) + offset
}

fn read(bus: &PciBus, address: u64) -> u32 {
    let mut data = [0; 4];
    bus.mmio_read(address, &mut data);
    u32::from_le_bytes(data)
}

fn write(bus: &PciBus, address: u64, value: u32) {
    bus.mmio_write(address, &value.to_le_bytes());
}

fn answers(bus: &PciBus, address: u64) -> Option<u8> {
    let mut data = [0];
    bus.mmio_read(address, &mut data).then_some(data[0])
}

#[test]
fn ports_and_ecam_show_the_same_registers_and_ones_where_nobody_is() {
    let (bus, _) = bus();
    let ports = bus.ports();
    let by_ports = |address: u32| {
        let mut data = [0; 4];
        let mut ports = lock(&ports);
        ports.write(0, &address.to_le_bytes());
        ports.read(4, &mut data);
        u32::from_le_bytes(data)
    };
    assert_eq!(by_ports(0x8000_0000), 0x29c0_8086);
    assert_eq!(by_ports(0x8000_002c), 0x1100_1af4);
    assert_eq!(by_ports(0x8000_f800), 0x2918_8086);
    for slot in 0..32 {
        assert_eq!(by_ports(0x8000_0000 | u32::from(slot) << 11), read(&bus, ecam(slot, 0)), "{slot}");
    }
    for nobody in [0x8000_0800, 0x8000_0100, 0x8001_0000, 0x80ff_ff00, 0x0000_0000] {
        assert_eq!(by_ports(nobody), u32::MAX, "{nobody:#x}");
    }
    let mut ports = lock(&ports);
    let mut half = [0; 2];
    ports.write(0, &0x8000_0000_u32.to_le_bytes());
    ports.read(6, &mut half);
    assert_eq!(half, [0xc0, 0x29]);
    // Only a whole double word is an address.
    ports.write(0, &[0; 2]);
    ports.read(4, &mut half);
    assert_eq!(half, [0x86, 0x80]);
}

#[test]
fn ecam_is_where_pciexbar_says() {
    let (bus, _) = bus();
    assert_eq!(read(&bus, 0xb000_0060), 0xb000_0001);
    write(&bus, 0xb000_0060, 0xe000_0001);
    assert_eq!(answers(&bus, 0xb000_0000), None);
    assert_eq!(read(&bus, 0xe000_0000), 0x29c0_8086);
    assert_eq!(read(&bus, 0xe000_0000 + (1 << 20)), u32::MAX);
    // Extended configuration space is empty, and an access over the edge is nobody's.
    assert_eq!(read(&bus, 0xe000_0100), 0);
    let mut eight = [0; 8];
    assert!(bus.mmio_read(0xe000_0ffc, &mut eight));
    assert_eq!(eight, [0xff; 8]);
    write(&bus, 0xe000_0060, 0);
    assert_eq!(answers(&bus, 0xe000_0000), None);
    bus.reset();
    assert_eq!(read(&bus, 0xb000_0000), 0x29c0_8086);
}

#[test]
fn bars_have_places_before_any_firmware_ran_and_answer_when_turned_on() {
    let (bus, heard) = bus();
    let address = u64::from(read(&bus, ecam(2, 0x10)));
    assert_eq!(address, 0xc020_0000);
    assert_eq!(answers(&bus, address), None);
    write(&bus, ecam(2, 4), 2);
    assert_eq!(answers(&bus, address), Some(2));
    assert_eq!(answers(&bus, address + 0x3fff), Some(2));
    let mut two = [0; 2];
    assert!(!bus.mmio_read(address + 0x4fff, &mut two));
    assert_eq!(lock(&heard.0).as_slice(), [(2, 0, Some(address)), (2, 2, Some(0xc020_4000))]);
    // The long BAR has a place behind those of all slots.
    assert_eq!(read(&bus, ecam(3, 0x18)), 0xc200_000c);
    write(&bus, ecam(2, 4), 0);
    assert_eq!(answers(&bus, address), None);
}

#[test]
fn a_bar_moves_half_by_half_and_is_nowhere_in_between() {
    let (bus, heard) = bus();
    write(&bus, ecam(2, 4), 2);
    lock(&heard.0).clear();
    write(&bus, ecam(2, 0x1c), 0x90);
    assert_eq!(answers(&bus, 0xc020_4000), None);
    // High half in, low half still the old one: inside the 64-bit window, so that is where it is.
    assert_eq!(answers(&bus, 0x90_c020_4000), Some(2));
    write(&bus, ecam(2, 0x18), 0x1000);
    assert_eq!(answers(&bus, 0x90_0000_1000), Some(2));
    // Sizing, and places outside every window.
    for (low, high) in [(u32::MAX, u32::MAX), (0, 0), (0x1000, 0), (0xfec0_0000, 0), (0xffff_f000, 0xff)] {
        write(&bus, ecam(2, 0x1c), high);
        write(&bus, ecam(2, 0x18), low);
        let last = lock(&heard.0).last().copied();
        let inside = (u64::from(high) << 32 | u64::from(low)) == 0xff_ffff_f000;
        assert_eq!(last.unwrap().2.is_some(), inside, "{low:#x} {high:#x}");
    }
    bus.reset();
    write(&bus, ecam(2, 4), 2);
    assert_eq!(answers(&bus, 0xc020_4000), Some(2));
}

#[test]
fn of_two_bars_in_one_place_the_first_stays_until_it_leaves() {
    let (bus, heard) = bus();
    write(&bus, ecam(2, 4), 2);
    write(&bus, ecam(4, 4), 2);
    lock(&heard.0).clear();
    write(&bus, ecam(4, 0x10), 0xc020_0000);
    assert_eq!(answers(&bus, 0xc020_0000), Some(2));
    assert_eq!(answers(&bus, 0xc040_0000), None);
    write(&bus, ecam(2, 4), 0);
    assert_eq!(answers(&bus, 0xc020_0000), Some(4));
    assert_eq!(lock(&heard.0).as_slice(), [(4, 0, None), (2, 0, None), (2, 2, None), (4, 0, Some(0xc020_0000))]);
}

#[test]
fn a_function_that_is_taken_away_is_unmapped_and_its_slot_is_free_again() {
    let (bus, heard) = bus();
    write(&bus, ecam(3, 4), 2);
    assert_eq!(answers(&bus, 0xc200_0000), Some(3));
    lock(&heard.0).clear();
    let taken = bus.remove(3).unwrap();
    assert_eq!(answers(&bus, 0xc200_0000), None);
    assert_eq!(read(&bus, ecam(3, 0)), u32::MAX);
    assert_eq!(lock(&heard.0).len(), 2);
    assert_eq!(lock(&taken).configuration().command(), 0);
    assert!(bus.remove(3).is_none());
    assert!(bus.remove(99).is_none());
    bus.add(3, probe(3, &heard)).unwrap();
    assert_eq!(read(&bus, ecam(3, 0x18)), 0xc200_000c);
    assert_eq!(bus.add(3, probe(3, &heard)).err(), Some(AddError::Taken(3)));
    assert_eq!(bus.add(32, probe(32, &heard)).err(), Some(AddError::NoSuchSlot(32)));
}

#[test]
fn a_bar_too_long_for_the_windows_is_refused() {
    let (bus, heard) = bus();
    let mut huge = probe(9, &heard);
    huge.space.add_bar(4, BarKind::Memory64, 1 << 40).unwrap();
    assert_eq!(bus.add(9, huge).err(), Some(AddError::NoRoom { slot: 9, bar: 4, bytes: 1 << 40 }));
    let mut large = probe(9, &heard);
    large.space.add_bar(4, BarKind::Memory64, 1 << 35).unwrap();
    bus.add(9, large).unwrap();
    write(&bus, ecam(9, 4), 2);
    assert_eq!(answers(&bus, HIGH.start), Some(9));
}

#[test]
fn a_saved_bus_comes_back_with_every_bar_where_it_was() {
    let (one, _) = bus();
    write(&one, ecam(2, 4), 2);
    write(&one, ecam(2, 0x10), 0xd000_0000);
    write(&one, 0xb000_0060, 0xe000_0001);
    let saved = serde_json::to_string(&one.save()).unwrap();
    let (other, heard) = bus();
    other.restore(&serde_json::from_str(&saved).unwrap()).unwrap();
    assert_eq!(answers(&other, 0xd000_0000), Some(2));
    assert_eq!(read(&other, 0xe000_0000), 0x29c0_8086);
    assert!(lock(&heard.0).contains(&(2, 0, Some(0xd000_0000))));
    other.remove(4);
    assert!(other.restore(&serde_json::from_str(&saved).unwrap()).is_err());
}

proptest! {
    #[test]
    fn nothing_a_guest_writes_maps_two_bars_over_each_other_or_outside_the_windows(
        writes in prop::collection::vec((2_u8..5, 0_u64..9, any::<u32>(), any::<u8>(), 1_usize..9), 1..200),
    ) {
        let (bus, heard) = bus();
        let mut told: BTreeMap<Place, u64> = BTreeMap::new();
        for (slot, register, value, near, length) in writes {
            let registers = [4, 4, 0x10, 0x14, 0x18, 0x1c, 0x1d, 0x20, 0x30];
            // Mostly places that others may also choose.
            let value = if near < 200 { 0xc020_0000 + (value & 0xf000) } else { value };
            let value = if register < 2 { value & 1 << 1 | 4 } else if register == 5 { value & 0xff } else { value };
            let bytes = (u64::from(value) | u64::from(value) << 32).to_le_bytes();
            bus.mmio_write(ecam(slot, registers[register as usize]), &bytes[..length]);
            for (slot, bar, address) in lock(&heard.0).drain(..) {
                match address {
                    Some(address) => prop_assert!(told.insert((slot, bar), address).is_none()),
                    None => prop_assert!(told.remove(&(slot, bar)).is_some()),
                }
            }
            let map = bus.map.read().unwrap();
            let mut end = 0;
            for (address, mapping) in &map.bars {
                prop_assert!(*address >= end);
                end = address + mapping.bytes;
                prop_assert!(bus.windows.hold(*address, mapping.bytes));
                prop_assert_eq!(told.get(&mapping.place), Some(address));
            }
            prop_assert_eq!(map.bars.len(), told.len());
        }
    }

    #[test]
    fn any_access_anywhere_is_survived(
        accesses in prop::collection::vec((any::<u64>(), 0_u8..4, any::<u64>(), 1_usize..9, any::<bool>()), 1..200),
    ) {
        let (bus, _) = bus();
        let ports = bus.ports();
        for (address, near, value, length, is_write) in accesses {
            let bytes = value.to_le_bytes();
            let mut data = [0; 8];
            match near {
                0 => {
                    let offset = address % 8;
                    let length = length.min(8 - offset as usize);
                    let mut ports = lock(&ports);
                    if is_write {
                        ports.write(offset, &bytes[..length]);
                    } else {
                        ports.read(offset, &mut data[..length]);
                    }
                }
                near => {
                    let address = match near {
                        1 => 0xb000_0000 + address % (32 << 15),
                        2 => LOW.start + address % (8 << 20),
                        _ => address,
                    };
                    if is_write {
                        bus.mmio_write(address, &bytes[..length]);
                    } else {
                        bus.mmio_read(address, &mut data[..length]);
                    }
                }
            }
        }
    }
}

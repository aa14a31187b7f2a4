//! SMBIOS tables (DMTF DSP0134, version 2.8): who made the machine, which is how cloud-init knows where it is.

use vmspec::Smbios;

/// The entry point, 31 bytes, and the tables it points to.
#[derive(Clone, Debug)]
pub struct Tables {
    structures: Vec<u8>,
    count: u16,
    largest: u16,
}

const ENTRY_BYTES: usize = 0x1f;
const VERSION: (u8, u8) = (2, 8);
/// Where structures lie after an entry point that is at the start of an area.
const AFTER_ENTRY: u64 = 0x20;

struct Builder {
    bytes: Vec<u8>,
    count: u16,
    largest: u16,
}

impl Builder {
    /// One structure: `formatted` follows its 4-byte header; strings are numbered from 1 in the order given.
    fn add(&mut self, kind: u8, handle: u16, formatted: &[u8], strings: &[&str]) {
        let start = self.bytes.len();
        self.bytes.push(kind);
        self.bytes.push(u8::try_from(formatted.len() + 4).unwrap_or(u8::MAX));
        self.bytes.extend(handle.to_le_bytes());
        self.bytes.extend(formatted);
        for text in strings {
            self.bytes.extend(text.bytes());
            self.bytes.push(0);
        }
        if strings.is_empty() {
            self.bytes.push(0);
        }
        self.bytes.push(0);
        self.count += 1;
        self.largest = self.largest.max(u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX));
    }
}

/// Strings of a structure: an empty one is no string, and has number 0.
fn numbered<'a>(texts: &[&'a str]) -> (Vec<u8>, Vec<&'a str>) {
    let mut strings = Vec::new();
    let numbers = texts
        .iter()
        .map(|text| {
            if text.is_empty() {
                return 0;
            }
            strings.push(*text);
            u8::try_from(strings.len()).unwrap_or(0)
        })
        .collect();
    (numbers, strings)
}

impl Tables {
    pub fn new(spec: &Smbios, vcpus: u32, memory_mib: u64) -> Self {
        let mut tables = Builder { bytes: Vec::new(), count: 0, largest: 0 };

        // BIOS information: characteristics "not supported" but for "is a virtual machine" in the second extension byte.
        let mut body = vec![1, 2, 0, 0, 3, 0];
        body.extend((1_u64 << 3).to_le_bytes());
        body.extend([0, 0b1_0000, 0xff, 0xff, 0xff, 0xff]);
        tables.add(0, 0, &body, &["Solostack", env!("CARGO_PKG_VERSION"), "01/01/2026"]);

        let (numbers, strings) = numbered(&[&spec.manufacturer, &spec.product, &spec.version, &spec.serial]);
        let mut body = numbers;
        body.extend(spec.uuid.to_bytes_le());
        // Wake-up by the power switch; no SKU, no family.
        body.extend([6, 0, 0]);
        tables.add(1, 0x100, &body, &strings);

        // Chassis, type "other".
        let (numbers, strings) = numbered(&[&spec.manufacturer, &spec.version, &spec.serial]);
        let number = |at: usize| numbers.get(at).copied().unwrap_or(0);
        let body = [number(0), 1, number(1), number(2), 0, 3, 3, 3, 2, 0, 0, 0, 0, 0, 1, 0, 0];
        tables.add(3, 0x300, &body, &strings);

        // One processor as a whole: its topology is CPUID's to tell.
        let mut body = vec![1, 3, 1, 2];
        body.extend([0; 8]);
        body.extend([0, 0]);
        // No clock, no speed known; populated and enabled; no upgrade; no cache handles; no strings more.
        body.extend([0; 6]);
        body.extend([0x41, 1]);
        body.extend([0xff; 6]);
        body.extend([0, 0, 0]);
        let cores = u8::try_from(vcpus).unwrap_or(0xff);
        body.extend([cores, cores, cores]);
        // 64-bit capable, more than one core where that is so.
        body.extend([if vcpus > 1 { 0x0c } else { 0x04 }, 0]);
        body.extend([2, 0]);
        tables.add(4, 0x400, &body, &["CPU 0", &spec.manufacturer]);

        // Memory: one array, one device.
        let mut body = vec![1, 3, 6];
        let kib = memory_mib.saturating_mul(1024);
        body.extend(u32::try_from(kib).ok().filter(|kib| *kib < 0x8000_0000).unwrap_or(0x8000_0000).to_le_bytes());
        body.extend([0xfe, 0xff, 1, 0]);
        body.extend(memory_mib.saturating_mul(1 << 20).to_le_bytes());
        tables.add(16, 0x1000, &body, &[]);
        let mut body = vec![0x00, 0x10, 0xfe, 0xff, 64, 0, 64, 0];
        let mib = u32::try_from(memory_mib).unwrap_or(0x7fff_ffff);
        body.extend(u16::try_from(mib).ok().filter(|mib| *mib < 0x7fff).unwrap_or(0x7fff).to_le_bytes());
        body.extend([9, 0, 1, 0, 7, 2, 0, 0, 0, 2, 0, 0, 0, 0]);
        body.extend(mib.to_le_bytes());
        body.extend([0, 0, 0, 0, 0, 0, 0, 0]);
        tables.add(17, 0x1100, &body, &["DIMM 0", &spec.manufacturer]);

        // System boot: no errors.
        tables.add(32, 0x2000, &[0; 7], &[]);
        tables.add(127, 0x7f00, &[], &[]);
        Self { structures: tables.bytes, count: tables.count, largest: tables.largest }
    }

    pub fn structures(&self) -> &[u8] {
        &self.structures
    }

    /// The entry point for structures at `address`.
    pub fn entry(&self, address: u32) -> [u8; ENTRY_BYTES] {
        let mut entry = [0_u8; ENTRY_BYTES];
        let length = u16::try_from(self.structures.len()).unwrap_or(u16::MAX);
        let parts: [&[u8]; 12] = [
            b"_SM_\0",
            &[ENTRY_BYTES as u8, VERSION.0, VERSION.1],
            &self.largest.to_le_bytes(),
            &[0; 6],
            b"_DMI_\0",
            &length.to_le_bytes(),
            &address.to_le_bytes(),
            &self.count.to_le_bytes(),
            &[VERSION.0 << 4 | VERSION.1],
            &[],
            &[],
            &[],
        ];
        for (place, byte) in entry.iter_mut().zip(parts.into_iter().flatten()) {
            *place = *byte;
        }
        // The intermediate part has its own checksum, and the whole has one.
        entry[0x15] = checksum(&entry[0x10..]);
        entry[4] = checksum(&entry);
        entry
    }

    /// Both in one piece, for an area that starts at `address`.
    pub fn placed(&self, address: u64) -> Vec<u8> {
        let structures = u32::try_from(address + AFTER_ENTRY).unwrap_or(0);
        let mut bytes = self.entry(structures).to_vec();
        bytes.resize(AFTER_ENTRY as usize, 0);
        bytes.extend(&self.structures);
        bytes
    }
}

fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn tables() -> Tables {
        Tables::new(&Smbios::openstack(Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff)), 4, 2048)
    }

    /// Each structure: type, formatted bytes, strings.
    fn walk(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>, Vec<String>)> {
        let mut found = Vec::new();
        while bytes.len() > 4 {
            let length = usize::from(bytes[1]);
            let (formatted, rest) = bytes.split_at(length);
            let end = rest.windows(2).position(|pair| pair == [0, 0]).unwrap();
            let strings = String::from_utf8(rest[..end].to_vec()).unwrap();
            let strings = strings.split('\0').filter(|s| !s.is_empty()).map(str::to_owned).collect();
            found.push((formatted[0], formatted.to_vec(), strings));
            bytes = &rest[end + 2..];
        }
        assert!(bytes.is_empty());
        found
    }

    #[test]
    fn cloud_init_finds_openstack_and_the_uuid() {
        let tables = tables();
        let found = walk(tables.structures());
        assert_eq!(found.len(), usize::from(tables.count));
        let (_, system, strings) = found.iter().find(|(kind, ..)| *kind == 1).unwrap();
        assert_eq!(strings[usize::from(system[5]) - 1], "OpenStack Nova");
        assert_eq!(strings[usize::from(system[4]) - 1], "OpenStack Foundation");
        assert_eq!(strings[usize::from(system[7]) - 1], "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(system[8..12], [0x33, 0x22, 0x11, 0x00]);
        assert_eq!(system.len(), 0x1b);
        assert_eq!(found.last().unwrap().0, 127);
        let lengths: Vec<(u8, usize)> = found.iter().map(|(kind, bytes, _)| (*kind, bytes.len())).collect();
        assert_eq!(lengths, [(0, 24), (1, 27), (3, 21), (4, 42), (16, 23), (17, 40), (32, 11), (127, 4)]);
    }

    #[test]
    fn the_entry_point_sums_to_zero() {
        let placed = tables().placed(0xf_0000);
        let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!(&placed[..4], b"_SM_");
        assert_eq!(&placed[16..21], b"_DMI_");
        assert_eq!(sum(&placed[..31]), 0);
        assert_eq!(sum(&placed[16..31]), 0);
        assert_eq!(u32::from_le_bytes(placed[24..28].try_into().unwrap()), 0xf_0020);
        assert_eq!(usize::from(u16::from_le_bytes([placed[22], placed[23]])), placed.len() - 0x20);
    }

    #[test]
    fn empty_texts_are_no_strings() {
        let mut spec = Smbios::openstack(Uuid::from_u128(1));
        spec.serial = String::new();
        let tables = Tables::new(&spec, 1, 1 << 24);
        let found = walk(tables.structures());
        let (_, system, _) = found.iter().find(|(kind, ..)| *kind == 1).unwrap();
        assert_eq!(system[7], 0);
    }
}

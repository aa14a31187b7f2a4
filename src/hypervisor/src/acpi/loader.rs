//! From tables to where they lie: links between them, checksums, and QEMU's `etc/table-loader` script (its specification:
//! `hw/acpi/bios-linker-loader.c` of QEMU), which SeaBIOS and OVMF run.

use acpi_tables::sdt::Sdt;

use super::{OEM, OEM_REVISION, OEM_TABLE, bytes};

const RSDP_FILE: &str = "etc/acpi/rsdp";
const TABLES_FILE: &str = "etc/acpi/tables";
/// Every table; the FACS needs it.
const ALIGNMENT: usize = 64;
const RSDP_ALIGNMENT: u32 = 16;
const CHECKSUM: usize = 9;

const ALLOCATE: u32 = 1;
const ADD_POINTER: u32 = 2;
const ADD_CHECKSUM: u32 = 3;
const ZONE_HIGH: u8 = 1;
const ZONE_F_SEGMENT: u8 = 2;
const COMMAND_BYTES: usize = 128;
const FILE_BYTES: usize = 56;

/// `size` bytes at `at` that point into the tables; until linked they hold the offset in the tables.
#[derive(Clone, Copy, Debug)]
struct Pointer {
    at: usize,
    size: usize,
}

/// The byte at `at` makes the sum of `start` to `start + length` zero.
#[derive(Clone, Copy, Debug)]
struct Checksum {
    at: usize,
    start: usize,
    length: usize,
}

#[derive(Default)]
pub(super) struct Builder {
    tables: Vec<u8>,
    pointers: Vec<Pointer>,
    checksums: Vec<Checksum>,
}

/// Tables ready to be installed. `tables`, `rsdp` and `loader` are the contents of the fw_cfg files `etc/acpi/tables`,
/// `etc/acpi/rsdp` and `etc/table-loader`.
#[derive(Clone, Debug)]
pub struct Tables {
    pub tables: Vec<u8>,
    pub rsdp: Vec<u8>,
    pub loader: Vec<u8>,
    pointers: Vec<Pointer>,
    rsdp_pointers: Vec<Pointer>,
    checksums: Vec<Checksum>,
    rsdp_checksums: Vec<Checksum>,
}

/// Tables for one address: write `bytes` there, and tell who boots of `rsdp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub rsdp: u64,
    pub bytes: Vec<u8>,
}

impl Builder {
    /// Append a table; where it begins.
    pub fn table(&mut self, table: &[u8]) -> usize {
        self.tables.resize(self.tables.len().next_multiple_of(ALIGNMENT), 0);
        let at = self.tables.len();
        self.tables.extend(table);
        at
    }

    /// Have `size` bytes at `at` point to `target`.
    pub fn point(&mut self, at: usize, size: usize, target: usize) {
        let value = (target as u64).to_le_bytes();
        self.tables[at..at + size].copy_from_slice(&value[..size]);
        self.pointers.push(Pointer { at, size });
    }

    /// The table at `at` has pointers, so its checksum is made after they are.
    pub fn sum(&mut self, at: usize) {
        let [a, b, c, d] = [4, 5, 6, 7].map(|byte| self.tables[at + byte]);
        self.tables[at + CHECKSUM] = 0;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        self.checksums.push(Checksum { at: at + CHECKSUM, start: at, length });
    }

    /// Add the root tables, which name `entries`.
    pub fn finish(mut self, entries: &[usize]) -> Tables {
        let mut root = |signature: [u8; 4], size: usize| {
            let length = 36 + size * entries.len();
            let table = self.table(&bytes(&Sdt::new(signature, length as u32, 1, OEM, OEM_TABLE, OEM_REVISION)));
            for (index, entry) in entries.iter().enumerate() {
                self.point(table + 36 + size * index, size, *entry);
            }
            self.sum(table);
            table
        };
        let (rsdt, xsdt) = (root(*b"RSDT", 4), root(*b"XSDT", 8));

        let mut rsdp = b"RSD PTR \0".to_vec();
        rsdp.extend(OEM);
        rsdp.push(2);
        rsdp.extend((rsdt as u32).to_le_bytes());
        rsdp.extend(36_u32.to_le_bytes());
        rsdp.extend((xsdt as u64).to_le_bytes());
        rsdp.extend([0; 4]);
        let mut tables = Tables {
            tables: self.tables,
            rsdp,
            loader: Vec::new(),
            pointers: self.pointers,
            rsdp_pointers: vec![Pointer { at: 16, size: 4 }, Pointer { at: 24, size: 8 }],
            checksums: self.checksums,
            rsdp_checksums: vec![Checksum { at: 8, start: 0, length: 20 }, Checksum { at: 32, start: 0, length: 36 }],
        };
        tables.loader = tables.script();
        tables
    }
}

fn link(blob: &mut [u8], pointers: &[Pointer], checksums: &[Checksum], base: u64) {
    for Pointer { at, size } in pointers {
        let place = &mut blob[*at..at + size];
        let mut value = [0; 8];
        value[..*size].copy_from_slice(place);
        let value = u64::from_le_bytes(value).wrapping_add(base).to_le_bytes();
        place.copy_from_slice(&value[..*size]);
    }
    for Checksum { at, start, length } in checksums {
        let sum = blob[*start..start + length].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        blob[*at] = blob[*at].wrapping_sub(sum);
    }
}

impl Tables {
    /// As they are at `base`, a multiple of 64 below 4 GiB.
    pub fn place(&self, base: u64) -> Placed {
        let mut rsdp = self.rsdp.clone();
        rsdp.resize(rsdp.len().next_multiple_of(ALIGNMENT), 0);
        let tables_base = base + rsdp.len() as u64;
        link(&mut rsdp, &self.rsdp_pointers, &self.rsdp_checksums, tables_base);
        let mut tables = self.tables.clone();
        link(&mut tables, &self.pointers, &self.checksums, tables_base);
        let mut bytes = rsdp;
        bytes.append(&mut tables);
        Placed { rsdp: base, bytes }
    }

    fn script(&self) -> Vec<u8> {
        let mut script = Vec::new();
        let mut command = |kind: u32, parts: &[&[u8]]| {
            let start = script.len();
            script.extend(kind.to_le_bytes());
            for part in parts {
                script.extend_from_slice(part);
            }
            script.resize(start + COMMAND_BYTES, 0);
        };
        let (rsdp, tables) = (file(RSDP_FILE), file(TABLES_FILE));
        command(ALLOCATE, &[&tables, &(ALIGNMENT as u32).to_le_bytes(), &[ZONE_HIGH]]);
        command(ALLOCATE, &[&rsdp, &RSDP_ALIGNMENT.to_le_bytes(), &[ZONE_F_SEGMENT]]);
        for (name, pointers, checksums) in
            [(&tables, &self.pointers, &self.checksums), (&rsdp, &self.rsdp_pointers, &self.rsdp_checksums)]
        {
            for Pointer { at, size } in pointers {
                command(ADD_POINTER, &[name, &tables, &(*at as u32).to_le_bytes(), &[*size as u8]]);
            }
            for Checksum { at, start, length } in checksums {
                let [at, start, length] = [at, start, length].map(|number| (*number as u32).to_le_bytes());
                command(ADD_CHECKSUM, &[name, &at, &start, &length]);
            }
        }
        script
    }
}

fn file(name: &str) -> [u8; FILE_BYTES] {
    let mut field = [0; FILE_BYTES];
    for (place, byte) in field.iter_mut().zip(name.bytes().take(FILE_BYTES - 1)) {
        *place = byte;
    }
    field
}

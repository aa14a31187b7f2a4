//! The partition table of a disk: which partitions there are, and new names for those that are written anew.
//!
//! Only names and ids change, never where a partition lies, so nobody has to look at the disk again before the next start. The
//! second table, at the end of the disk, is written first: a power cut leaves one of the two whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// GUIDs in the order of their text.
pub const ROOT: [u8; 16] = guid("4f68bce3e8cd4db196e7fbcaf984b709");
pub const ROOT_VERITY: [u8; 16] = guid("2c7357edebd246d9aec123d437ec2bf5");
pub const ESP: [u8; 16] = guid("c12a7328f81f11d2ba4b00a0c93ec93b");
/// Where GRUB's core image lies.
pub const BIOS: [u8; 16] = guid("2168614864496e6f744e656564454649");

const ENTRIES_MAX: u32 = 1024;
const NAME_UNITS: usize = 36;

const fn guid(hex: &str) -> [u8; 16] {
    let (text, mut bytes, mut at) = (hex.as_bytes(), [0; 16], 0);
    while at < 16 {
        bytes[at] = digit(text[at * 2]) * 16 + digit(text[at * 2 + 1]);
        at += 1;
    }
    bytes
}

const fn digit(byte: u8) -> u8 {
    if byte <= b'9' { byte - b'0' } else { byte - b'a' + 10 }
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// From 0, its place in the table.
    pub index: usize,
    pub kind: [u8; 16],
    pub id: [u8; 16],
    pub name: String,
    /// As they stand in the table: read-only, grow, and the like.
    pub flags: u64,
    /// Bytes from the disk's start.
    pub start: u64,
    pub size: u64,
}

/// The table of one disk.
#[derive(Debug)]
pub struct Table {
    sector: u64,
    header: Vec<u8>,
    entries: Vec<u8>,
    entry_size: usize,
    /// Of the first header and the second.
    places: [u64; 2],
}

fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> io::Result<[u8; N]> {
    let part = bytes.get(at..at + N).and_then(|part| part.try_into().ok());
    part.ok_or_else(|| broken("the partition table is cut off"))
}

fn long(bytes: &[u8], at: usize) -> io::Result<u64> {
    Ok(u64::from_le_bytes(number(bytes, at)?))
}

fn word(bytes: &[u8], at: usize) -> io::Result<u32> {
    Ok(u32::from_le_bytes(number(bytes, at)?))
}

fn set(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

/// A GUID as it lies on a disk, or back.
fn mixed(guid: [u8; 16]) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = guid;
    let mut mixed = [d, c, b, a, f, e, h, g, 0, 0, 0, 0, 0, 0, 0, 0];
    set(&mut mixed, 8, &rest);
    mixed
}

impl Table {
    /// Reads the first table that is whole.
    ///
    /// # Errors
    /// When there is none, or the disk cannot be read.
    pub fn read(disk: &File) -> io::Result<Self> {
        let mut last = broken("it has no partition table (GPT)");
        for sector in [512, 4096] {
            match Self::at(disk, sector, sector) {
                Ok(table) => return Ok(table),
                Err(error) => {
                    // The second one is in the last sector.
                    let size = io::Seek::seek(&mut &*disk, io::SeekFrom::End(0))?;
                    if let Some(end) = size.checked_sub(sector)
                        && let Ok(table) = Self::at(disk, end / sector * sector, sector)
                    {
                        return Ok(table);
                    }
                    if error.kind() != io::ErrorKind::InvalidData {
                        last = error;
                    }
                }
            }
        }
        Err(last)
    }

    fn at(disk: &File, place: u64, sector: u64) -> io::Result<Self> {
        let mut header = vec![0; usize::try_from(sector).unwrap_or(512)];
        disk.read_exact_at(&mut header, place)?;
        if header.get(..8) != Some(b"EFI PART") {
            return Err(broken("it has no partition table (GPT)"));
        }
        let size = word(&header, 12)? as usize;
        if !(92..=header.len()).contains(&size) || checksum_of(&header, size)? != word(&header, 16)? {
            return Err(broken("the partition table's header is damaged"));
        }
        let (count, entry_size) = (word(&header, 80)?, word(&header, 84)?);
        if count > ENTRIES_MAX || !(128..=1024).contains(&entry_size) {
            return Err(broken("the partition table is of an odd size"));
        }
        let mut entries = vec![0; count as usize * entry_size as usize];
        disk.read_exact_at(&mut entries, in_bytes(long(&header, 72)?, sector)?)?;
        if crc32fast::hash(&entries) != word(&header, 88)? {
            return Err(broken("the partition table's entries are damaged"));
        }
        let mine = in_bytes(long(&header, 24)?, sector)?;
        let other = in_bytes(long(&header, 32)?, sector)?;
        if mine != place {
            return Err(broken("the partition table is not where it says"));
        }
        Ok(Self {
            sector,
            header,
            entries,
            entry_size: entry_size as usize,
            places: [mine.min(other), mine.max(other)],
        })
    }

    /// A new one for a disk of `size` bytes in sectors of 512, with these partitions in this order; on the disk after [`Table::write`].
    ///
    /// # Errors
    /// When a partition lies where the tables do, or beyond the disk.
    pub fn create(size: u64, id: [u8; 16], partitions: &[Partition]) -> io::Result<Self> {
        const SECTOR: u64 = 512;
        const COUNT: usize = 128;
        const ENTRY: usize = 128;
        let length = (COUNT * ENTRY) as u64;
        let (first, second) = (SECTOR, (size / SECTOR).saturating_sub(1) * SECTOR);
        let (usable, end) = (2 * SECTOR + length, second.saturating_sub(length));
        let mut entries = vec![0; COUNT * ENTRY];
        for (entry, part) in entries.chunks_exact_mut(ENTRY).zip(partitions) {
            let after = part.start.checked_add(part.size).filter(|after| part.size > 0 && *after <= end);
            let Some(after) = after.filter(|_| part.start >= usable && part.start % SECTOR == 0) else {
                return Err(broken("a partition does not lie on the disk"));
            };
            set(entry, 0, &mixed(part.kind));
            set(entry, 16, &mixed(part.id));
            set(entry, 32, &(part.start / SECTOR).to_le_bytes());
            set(entry, 40, &(after / SECTOR - 1).to_le_bytes());
        }
        let mut header = vec![0; 512];
        set(&mut header, 0, b"EFI PART");
        set(&mut header, 8, &0x0001_0000_u32.to_le_bytes());
        set(&mut header, 12, &92_u32.to_le_bytes());
        set(&mut header, 24, &(first / SECTOR).to_le_bytes());
        set(&mut header, 32, &(second / SECTOR).to_le_bytes());
        set(&mut header, 40, &(usable / SECTOR).to_le_bytes());
        set(&mut header, 48, &(end / SECTOR - 1).to_le_bytes());
        set(&mut header, 56, &mixed(id));
        set(&mut header, 72, &2_u64.to_le_bytes());
        set(&mut header, 80, &(COUNT as u32).to_le_bytes());
        set(&mut header, 84, &(ENTRY as u32).to_le_bytes());
        let mut table = Self { sector: SECTOR, header, entries, entry_size: ENTRY, places: [first, second] };
        for (index, part) in partitions.iter().enumerate() {
            table.rename(index, &part.name, None);
            table.set_flags(index, part.flags);
        }
        Ok(table)
    }

    fn set_flags(&mut self, index: usize, flags: u64) {
        if let Some(entry) = self.entries.chunks_exact_mut(self.entry_size).nth(index) {
            set(entry, 48, &flags.to_le_bytes());
        }
    }

    /// Every partition.
    ///
    /// # Errors
    /// When one lies beyond any disk.
    pub fn partitions(&self) -> io::Result<Vec<Partition>> {
        let mut found = Vec::new();
        for (index, entry) in self.entries.chunks_exact(self.entry_size).enumerate() {
            let kind = mixed(number(entry, 0)?);
            if kind == [0; 16] {
                continue;
            }
            let (first, last) = (long(entry, 32)?, long(entry, 40)?);
            let sectors = last.checked_sub(first).and_then(|n| n.checked_add(1));
            let size = sectors.ok_or_else(|| broken("a partition ends before it begins"))?;
            let units: Vec<u16> = entry
                .get(56..128)
                .unwrap_or_default()
                .chunks_exact(2)
                .map(|two| u16::from_le_bytes([two[0], two[1]]))
                .collect();
            let name = String::from_utf16_lossy(units.split(|unit| *unit == 0).next().unwrap_or_default());
            found.push(Partition {
                index,
                kind,
                id: mixed(number(entry, 16)?),
                name,
                flags: long(entry, 48)?,
                start: in_bytes(first, self.sector)?,
                size: in_bytes(size, self.sector)?,
            });
        }
        Ok(found)
    }

    /// Gives a partition another name, and another id if one is given; on the disk after [`Table::write`].
    pub fn rename(&mut self, index: usize, name: &str, id: Option<[u8; 16]>) {
        let Some(entry) = self.entries.chunks_exact_mut(self.entry_size).nth(index) else { return };
        if let Some(id) = id {
            set(entry, 16, &mixed(id));
        }
        set(entry, 56, &[0; NAME_UNITS * 2]);
        for (at, unit) in name.encode_utf16().take(NAME_UNITS).enumerate() {
            set(entry, 56 + at * 2, &unit.to_le_bytes());
        }
    }

    /// Writes both tables, the second first; each is on the disk before the other is touched.
    ///
    /// # Errors
    /// When the disk cannot be written.
    pub fn write(&mut self, disk: &File, between: &dyn Fn()) -> io::Result<()> {
        let [first, second] = self.places;
        let length = (self.entries.len() as u64).div_ceil(self.sector) * self.sector;
        let after = if self.places[0] == in_bytes(long(&self.header, 24)?, self.sector)? {
            in_bytes(long(&self.header, 72)?, self.sector)?
        } else {
            first + self.sector
        };
        for (mine, other, entries) in [(second, first, second.saturating_sub(length)), (first, second, after)] {
            let mut header = self.header.clone();
            set(&mut header, 24, &(mine / self.sector).to_le_bytes());
            set(&mut header, 32, &(other / self.sector).to_le_bytes());
            set(&mut header, 72, &(entries / self.sector).to_le_bytes());
            set(&mut header, 88, &crc32fast::hash(&self.entries).to_le_bytes());
            let size = word(&header, 12)? as usize;
            let sum = checksum_of(&header, size)?;
            set(&mut header, 16, &sum.to_le_bytes());
            disk.write_all_at(&self.entries, entries)?;
            between();
            disk.write_all_at(&header, mine)?;
            disk.sync_all()?;
            between();
        }
        Ok(())
    }
}

fn in_bytes(sectors: u64, sector: u64) -> io::Result<u64> {
    sectors.checked_mul(sector).ok_or_else(|| broken("the partition table names places beyond any disk"))
}

fn checksum_of(header: &[u8], size: usize) -> io::Result<u32> {
    let mut copy = header.get(..size).ok_or_else(|| broken("the partition table is cut off"))?.to_vec();
    set(&mut copy, 16, &[0; 4]);
    Ok(crc32fast::hash(&copy))
}

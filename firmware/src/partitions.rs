//! GPT (both headers, checksums checked) and MBR with extended partitions.

use alloc::vec::Vec;

use crate::{
    Error, Result,
    bytes::{guid_at, u8_at, u32_le, u64_le},
    checksum::crc32,
    disk::Disk,
};

/// EFI system partition, as GPT stores it (first three fields little-endian).
pub const ESP: [u8; 16] = guid(0xc12a7328, 0xf81f, 0x11d2, 0xba4b00a0c93ec93b);
/// Extended boot loader partition (XBOOTLDR).
pub const XBOOTLDR: [u8; 16] = guid(0xbc13c2ff, 0x59e6, 0x4262, 0xa352b275fd6f7172);

const ENTRIES: u32 = 1024;
const LOGICAL: u32 = 128;

const fn guid(a: u32, b: u16, c: u16, d: u64) -> [u8; 16] {
    let (a, b, c, d) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes(), d.to_be_bytes());
    [a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Gpt([u8; 16]),
    Mbr(u8),
    /// A file system on the bare disk.
    Whole,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// From 1 on, as GRUB and Linux count; 0 for the whole disk.
    pub number: u32,
    pub kind: Kind,
    /// PARTUUID of a GPT partition; of an MBR one, disk signature and number (the rest zero).
    pub uuid: [u8; 16],
    pub start: u64,
    pub bytes: u64,
}

impl Partition {
    pub fn is_esp(&self) -> bool {
        matches!(self.kind, Kind::Gpt(ESP) | Kind::Mbr(0xef))
    }

    pub fn is_xbootldr(&self) -> bool {
        matches!(self.kind, Kind::Gpt(XBOOTLDR) | Kind::Mbr(0xea))
    }
}

/// The partitions in the order of their numbers. A disk without a table is one partition of kind [`Kind::Whole`].
pub fn read(disk: &Disk) -> Result<Vec<Partition>> {
    let sector = disk.sector_bytes();
    if disk.size_bytes() < 2 * sector {
        return Err(Error::Unsupported("a disk of less than two sectors"));
    }
    let first = disk.read_vec(0, 512)?;
    let signed = first[510..] == [0x55, 0xaa];
    // Only a protective MBR makes the GPT valid: another one means that its partitions have replaced the GPT's.
    let protective = signed && (0..4).any(|index| first[446 + 16 * index + 4] == 0xee);
    let gpt = if protective || !signed { gpt(disk) } else { Err(Error::NotFound) };
    match gpt {
        Ok(found) => Ok(found),
        Err(error) if protective => Err(error),
        Err(_) => {
            let found = if signed && !looks_like_fat(&first) { mbr(disk, &first)? } else { Vec::new() };
            if !found.is_empty() {
                return Ok(found);
            }
            let bytes = disk.size_bytes();
            Ok(alloc::vec![Partition { number: 0, kind: Kind::Whole, uuid: [0; 16], start: 0, bytes }])
        }
    }
}

/// A FAT boot sector carries the same signature as an MBR.
fn looks_like_fat(sector: &[u8]) -> bool {
    matches!(sector[0], 0xeb | 0xe9)
        && (&sector[0x36..0x39] == b"FAT" || &sector[0x52..0x55] == b"FAT")
        && u8_at(sector, 13).is_power_of_two()
}

fn gpt(disk: &Disk) -> Result<Vec<Partition>> {
    let sector = disk.sector_bytes();
    let last = disk.size_bytes() / sector - 1;
    // The backup lies in the last sector; a disk that has grown has it where the first header says.
    let primary = gpt_at(disk, 1);
    let Err(error) = primary else { return primary };
    let mut backup = gpt_at(disk, last);
    if backup.is_err()
        && let Ok(header) = disk.read_vec(sector, 512)
    {
        let told = u64_le(&header, 32);
        if &header[..8] == b"EFI PART" && told > 1 && told < last {
            backup = gpt_at(disk, told);
        }
    }
    backup.map_err(|_| error)
}

fn gpt_at(disk: &Disk, lba: u64) -> Result<Vec<Partition>> {
    let sector = disk.sector_bytes();
    let at = lba.checked_mul(sector).ok_or(Error::Corrupt("GPT address"))?;
    let mut header = disk.read_vec(at, 512)?;
    if &header[..8] != b"EFI PART" {
        return Err(Error::Corrupt("no GPT header"));
    }
    let header_bytes = u32_le(&header, 12) as usize;
    if !(92..=512).contains(&header_bytes) {
        return Err(Error::Corrupt("GPT header size"));
    }
    let sum = u32_le(&header, 16);
    header[16..20].fill(0);
    if crc32(&header[..header_bytes]) != sum || u64_le(&header, 24) != lba {
        return Err(Error::Corrupt("GPT header checksum"));
    }
    let (table, count, each) = (u64_le(&header, 72), u32_le(&header, 80), u32_le(&header, 84));
    if !(128..=4096).contains(&each) || !each.is_multiple_of(8) || count > ENTRIES {
        return Err(Error::Corrupt("GPT entry size or count"));
    }
    let table = table.checked_mul(sector).ok_or(Error::Corrupt("GPT address"))?;
    let entries = disk.read_vec(table, (count * each) as usize)?;
    if crc32(&entries) != u32_le(&header, 88) {
        return Err(Error::Corrupt("GPT table checksum"));
    }
    let mut found = Vec::new();
    for (index, entry) in entries.chunks_exact(each as usize).enumerate() {
        let kind = guid_at(entry, 0);
        if kind == [0; 16] {
            continue;
        }
        let (first, last) = (u64_le(entry, 32), u64_le(entry, 40));
        let (Some(start), Some(end)) =
            (first.checked_mul(sector), last.checked_add(1).and_then(|e| e.checked_mul(sector)))
        else {
            continue;
        };
        if start == 0 || end <= start || end > disk.size_bytes() {
            continue;
        }
        found.push(Partition {
            number: index as u32 + 1,
            kind: Kind::Gpt(kind),
            uuid: guid_at(entry, 16),
            start,
            bytes: end - start,
        });
    }
    Ok(found)
}

fn mbr(disk: &Disk, first: &[u8]) -> Result<Vec<Partition>> {
    let sector = disk.sector_bytes();
    let signature = u32_le(first, 440);
    let mut found = Vec::new();
    let mut add = |number: u32, kind: u8, start_sector: u64, sectors: u64| {
        let (start, bytes) = (start_sector * sector, sectors * sector);
        if start != 0 && bytes != 0 && start.checked_add(bytes).is_some_and(|end| end <= disk.size_bytes()) {
            let mut uuid = [0; 16];
            uuid[..4].copy_from_slice(&signature.to_le_bytes());
            uuid[4..8].copy_from_slice(&number.to_le_bytes());
            found.push(Partition { number, kind: Kind::Mbr(kind), uuid, start, bytes });
        }
    };
    let mut extended = None;
    for index in 0..4 {
        let entry = &first[446 + 16 * index..462 + 16 * index];
        // Neither active nor inactive: no partition table at all.
        if entry[0] & 0x7f != 0 {
            return Ok(Vec::new());
        }
        let (kind, start, sectors) = (entry[4], u64::from(u32_le(entry, 8)), u64::from(u32_le(entry, 12)));
        match kind {
            0 => {}
            0x05 | 0x0f | 0x85 => extended = extended.or(Some(start)),
            _ => add(index as u32 + 1, kind, start, sectors),
        }
    }
    // A chain of tables; each says where the next one is, so only the count keeps a loop from going on.
    if let Some(base) = extended {
        let mut table = base;
        for number in 5..5 + LOGICAL {
            let Ok(data) = disk.read_vec(table * sector, 512) else { break };
            if data[510..] != [0x55, 0xaa] {
                break;
            }
            let (kind, start, sectors) = (data[450], u64::from(u32_le(&data, 454)), u64::from(u32_le(&data, 458)));
            if kind != 0 {
                add(number, kind, table + start, sectors);
            }
            let next = u64::from(u32_le(&data, 470));
            if !matches!(data[466], 0x05 | 0x0f | 0x85) || next == 0 {
                break;
            }
            table = base + next;
        }
    }
    Ok(found)
}

//! Read-only FAT12, FAT16 and FAT32, with long names. For the EFI system partition.
//!
//! A chain of clusters is followed for as many steps as the file system has clusters and no more, so loops and chains that
//! run into each other end in an error.

use alloc::{
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use crate::{
    Error, Result,
    bytes::{text, u8_at, u16_le, u32_le},
    disk::Disk,
    file::FileMap,
    volume::{Entry, Kind, Node},
};

const DIRECTORY_BYTES: u64 = 2 << 20;
const FILE_BYTES: u64 = 2 << 30;
const COMPONENTS: usize = 64;
const TABLE_CACHE: u64 = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Fat12,
    Fat16,
    Fat32,
}

pub struct Fat {
    disk: Rc<Disk>,
    width: Width,
    cluster_bytes: u64,
    clusters: u32,
    table: u64,
    table_bytes: u64,
    /// FAT12 and FAT16: the fixed root directory. FAT32: its first cluster.
    root: Root,
    data: u64,
    serial: u32,
    label: String,
}

#[derive(Debug, Clone, Copy)]
enum Root {
    Fixed { start: u64, bytes: u64 },
    Chain(u32),
}

#[derive(Debug, Clone)]
struct Found {
    name: String,
    short: String,
    directory: bool,
    cluster: u32,
    bytes: u64,
}

impl Fat {
    pub fn open(disk: Rc<Disk>, start: u64, bytes: u64) -> Result<Fat> {
        if bytes < 4096 {
            return Err(Error::NotFound);
        }
        let boot = disk.read_vec(start, 512)?;
        let sector = u64::from(u16_le(&boot, 11));
        let per_cluster = u64::from(boot[13]);
        let (reserved, tables) = (u64::from(u16_le(&boot, 14)), u64::from(boot[16]));
        let root_entries = u64::from(u16_le(&boot, 17));
        let sectors = match u16_le(&boot, 19) {
            0 => u64::from(u32_le(&boot, 32)),
            small => u64::from(small),
        };
        let table_sectors = match u16_le(&boot, 22) {
            0 => u64::from(u32_le(&boot, 36)),
            small => u64::from(small),
        };
        let is_fat = boot[510..] == [0x55, 0xaa]
            && matches!(boot[0], 0xeb | 0xe9)
            && matches!(sector, 512 | 1024 | 2048 | 4096)
            && per_cluster.is_power_of_two()
            && reserved != 0
            && matches!(tables, 1 | 2)
            && table_sectors != 0
            && u8_at(&boot, 21) >= 0xf0;
        if !is_fat {
            return Err(Error::NotFound);
        }
        let root_sectors = (root_entries * 32).div_ceil(sector);
        let overhead = reserved + tables * table_sectors + root_sectors;
        // Cut at the partition: a file system that claims more is only readable as far as it exists.
        let sectors = sectors.min(bytes / sector);
        let clusters = sectors.checked_sub(overhead).ok_or(Error::Corrupt("FAT size"))? / per_cluster;
        let clusters = u32::try_from(clusters).map_err(|_| Error::Corrupt("FAT size"))?;
        let old = u16_le(&boot, 22) != 0;
        let width = match clusters {
            _ if !old => Width::Fat32,
            0..4085 => Width::Fat12,
            4085..65525 => Width::Fat16,
            _ => Width::Fat32,
        };
        let table = start + reserved * sector;
        let root_start = table + tables * table_sectors * sector;
        let (root, extra) = match width {
            Width::Fat32 => (Root::Chain(u32_le(&boot, 44)), 67),
            _ => (Root::Fixed { start: root_start, bytes: root_entries * 32 }, 39),
        };
        Ok(Fat {
            disk,
            width,
            cluster_bytes: sector * per_cluster,
            clusters: clusters.min(0x0fff_fff0),
            table,
            table_bytes: table_sectors * sector,
            root,
            data: root_start + root_sectors * sector,
            serial: u32_le(&boot, extra),
            label: text(&boot[extra + 4..extra + 15]).trim_end().to_string(),
        })
    }

    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// The volume's label: the entry in the root directory is the one that tools change, the boot sector's the old one.
    pub fn label(&self) -> String {
        let mut label = None;
        if let Ok(map) = self.root_map() {
            let _ = self.raw_entries(&map, |entry| {
                if entry[11] & 0x3f == 0x08 {
                    label = Some(text(&entry[..11]).trim_end().to_string());
                }
                label.is_none()
            });
        }
        label.unwrap_or_else(|| self.label.clone())
    }

    /// The clusters from `first` on, at most `bytes` of them (unknown for directories: `None`).
    fn chain(&self, first: u32, bytes: Option<u64>) -> Result<FileMap> {
        let mut map = FileMap::default();
        let wanted = match bytes {
            Some(0) => return Ok(map),
            Some(bytes) => bytes.div_ceil(self.cluster_bytes),
            None => DIRECTORY_BYTES / self.cluster_bytes + 1,
        };
        let mut cache = TableCache { at: u64::MAX, data: Vec::new() };
        let (mut cluster, mut count) = (first, 0u64);
        loop {
            if !(2..self.clusters.saturating_add(2)).contains(&cluster) {
                return Err(Error::Corrupt("FAT cluster number"));
            }
            let at = self.data + u64::from(cluster - 2) * self.cluster_bytes;
            map.push(count * self.cluster_bytes, Some(at), self.cluster_bytes)?;
            count += 1;
            if count == wanted && bytes.is_some() {
                break;
            }
            if count >= wanted || count > u64::from(self.clusters) {
                return Err(Error::Corrupt("FAT chain"));
            }
            match self.next(cluster, &mut cache)? {
                Some(next) => cluster = next,
                None if bytes.is_none() => break,
                None => return Err(Error::Corrupt("FAT chain shorter than its file")),
            }
        }
        map.finish(bytes.unwrap_or(count * self.cluster_bytes))
    }

    fn next(&self, cluster: u32, cache: &mut TableCache) -> Result<Option<u32>> {
        let cluster = u64::from(cluster);
        let value = match self.width {
            Width::Fat12 => {
                let at = cluster + cluster / 2;
                let pair = u32::from(cache.byte(self, at)?) | u32::from(cache.byte(self, at + 1)?) << 8;
                if cluster % 2 == 1 { pair >> 4 } else { pair & 0xfff }
            }
            Width::Fat16 => u32::from(u16_le(cache.bytes(self, 2 * cluster, 2)?, 0)),
            Width::Fat32 => u32_le(cache.bytes(self, 4 * cluster, 4)?, 0) & 0x0fff_ffff,
        };
        let end = match self.width {
            Width::Fat12 => 0xff8,
            Width::Fat16 => 0xfff8,
            Width::Fat32 => 0x0fff_fff8,
        };
        Ok((value < end).then_some(value))
    }

    fn root_map(&self) -> Result<FileMap> {
        match self.root {
            Root::Fixed { start, bytes } => {
                let mut map = FileMap::default();
                map.push(0, Some(start), bytes)?;
                map.finish(bytes)
            }
            Root::Chain(cluster) => self.chain(cluster, None),
        }
    }

    /// Every entry of 32 bytes that is in use, until `each` returns false.
    fn raw_entries(&self, map: &FileMap, mut each: impl FnMut(&[u8]) -> bool) -> Result<()> {
        let mut chunk = [0; 512];
        let mut at = 0;
        while at + 512 <= map.bytes {
            map.read(&self.disk, at, &mut chunk)?;
            at += 512;
            for entry in chunk.chunks_exact(32) {
                match entry[0] {
                    0 => return Ok(()),
                    0xe5 => {}
                    _ if !each(entry) => return Ok(()),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn scan(&self, map: &FileMap, mut each: impl FnMut(Found) -> bool) -> Result<()> {
        // The parts of a long name precede their entry, last part first.
        let mut long: Vec<u16> = Vec::new();
        let mut expect = 0;
        let mut sum = 0;
        self.raw_entries(map, |entry| {
            if entry[11] & 0x3f == 0x0f {
                let order = entry[0] & 0x3f;
                if entry[0] & 0x40 != 0 {
                    long.clear();
                    (expect, sum) = (order, entry[13]);
                }
                if order == 0 || order > 20 || order != expect || entry[13] != sum {
                    expect = 0;
                    long.clear();
                    return true;
                }
                expect = order - 1;
                let mut part: Vec<u16> = Vec::with_capacity(13 + long.len());
                for range in [1..11, 14..26, 28..32] {
                    part.extend(entry[range].chunks_exact(2).map(|pair| u16_le(pair, 0)));
                }
                part.append(&mut long);
                long = part;
                return true;
            }
            let complete = expect == 0 && !long.is_empty() && short_sum(&entry[..11]) == sum;
            let long_name = complete.then(|| {
                let end = long.iter().position(|&unit| unit == 0).unwrap_or(long.len());
                String::from_utf16_lossy(&long[..end])
            });
            long.clear();
            expect = 0;
            if entry[11] & 0x08 != 0 {
                return true;
            }
            let short = short_name(entry);
            if short == "." || short == ".." {
                return true;
            }
            let high = if self.width == Width::Fat32 { u32::from(u16_le(entry, 20)) << 16 } else { 0 };
            each(Found {
                name: long_name.unwrap_or_else(|| short.clone()),
                short,
                directory: entry[11] & 0x10 != 0,
                cluster: u32::from(u16_le(entry, 26)) | high,
                bytes: u64::from(u32_le(entry, 28)),
            })
        })
    }

    fn resolve(&self, path: &str) -> Result<Option<Found>> {
        let mut here: Option<Found> = None;
        for (index, name) in path.split('/').filter(|c| !c.is_empty() && *c != ".").enumerate() {
            if index >= COMPONENTS {
                return Err(Error::Limit("components of a path"));
            }
            let map = self.directory_map(here.as_ref())?;
            let mut found = None;
            self.scan(&map, |entry| {
                if same_name(&entry.name, name) || same_name(&entry.short, name) {
                    found = Some(entry);
                }
                found.is_none()
            })?;
            here = Some(found.ok_or(Error::NotFound)?);
        }
        Ok(here)
    }

    fn directory_map(&self, directory: Option<&Found>) -> Result<FileMap> {
        match directory {
            None => self.root_map(),
            Some(found) if !found.directory => Err(Error::NotFound),
            // A sub-directory's ".." may say 0 for the root.
            Some(found) if found.cluster == 0 => self.root_map(),
            Some(found) => self.chain(found.cluster, None),
        }
    }

    pub fn node(&self, path: &str) -> Result<Node> {
        Ok(match self.resolve(path)? {
            Some(found) if !found.directory => Node { kind: Kind::File, bytes: found.bytes },
            _ => Node { kind: Kind::Directory, bytes: 0 },
        })
    }

    pub fn file(&self, path: &str) -> Result<FileMap> {
        let found = self.resolve(path)?.filter(|found| !found.directory).ok_or(Error::NotFound)?;
        if found.bytes > FILE_BYTES {
            return Err(Error::Limit("size of a file"));
        }
        self.chain(found.cluster, Some(found.bytes))
    }

    pub fn list(&self, path: &str, limit: usize) -> Result<Vec<Entry>> {
        let directory = self.resolve(path)?;
        let map = self.directory_map(directory.as_ref())?;
        let mut entries = Vec::new();
        self.scan(&map, |found| {
            let kind = if found.directory { Kind::Directory } else { Kind::File };
            entries.push(Entry { name: found.name, kind });
            entries.len() < limit
        })?;
        Ok(entries)
    }
}

struct TableCache {
    at: u64,
    data: Vec<u8>,
}

impl TableCache {
    fn bytes(&mut self, fat: &Fat, at: u64, count: u64) -> Result<&[u8]> {
        if at + count > fat.table_bytes {
            return Err(Error::Corrupt("FAT shorter than its clusters"));
        }
        // Entries of two and four bytes are aligned; FAT12 asks byte by byte.
        let start = at & !(TABLE_CACHE - 1);
        if start != self.at {
            let bytes = TABLE_CACHE.min(fat.table_bytes - start);
            self.data.resize(bytes as usize, 0);
            fat.disk.read(fat.table + start, &mut self.data)?;
            self.at = start;
        }
        let from = (at - start) as usize;
        self.data.get(from..from + count as usize).ok_or(Error::Corrupt("FAT entry"))
    }

    fn byte(&mut self, fat: &Fat, at: u64) -> Result<u8> {
        Ok(self.bytes(fat, at, 1)?[0])
    }
}

fn short_sum(name: &[u8]) -> u8 {
    name.iter().fold(0u8, |sum, &byte| sum.rotate_right(1).wrapping_add(byte))
}

fn short_name(entry: &[u8]) -> String {
    // Byte 12: the base or the extension is in lower case.
    let lower = entry[12];
    let part = |range: core::ops::Range<usize>, lower: bool| {
        let text: String = entry[range].iter().map(|&byte| if byte < 0x80 { char::from(byte) } else { '?' }).collect();
        let text = text.trim_end().to_string();
        if lower { text.to_ascii_lowercase() } else { text }
    };
    let base = part(0..8, lower & 0x08 != 0);
    let extension = part(8..11, lower & 0x10 != 0);
    if extension.is_empty() { base } else { alloc::format!("{base}.{extension}") }
}

fn same_name(a: &str, b: &str) -> bool {
    a.chars().flat_map(char::to_lowercase).eq(b.chars().flat_map(char::to_lowercase))
}

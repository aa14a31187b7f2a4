//! VMDK files that hold their own data: `monolithicSparse` and `streamOptimized`, as VMware's "Virtual Disk Format 5.0"
//! describes them. Every other kind is a text that names other files, and is refused.

use crate::error::Error;
use crate::inspect::Limits;
use crate::qcow2::unpack_zlib;
use crate::source::{Source, bytes, ceil_div, fill, le16, le32, le64, within};
use crate::sparse::Sink;

const SECTOR: u64 = 512;
const MAX_DESCRIPTOR_BYTES: u64 = 1 << 20;
const MAX_GRAIN_BYTES: u64 = 2 << 20;
const MAX_DIRECTORY_ENTRIES: u64 = 1 << 20;
/// The grain directory follows the data; a copy of the header before the end of the file says where.
const DIRECTORY_AT_END: u64 = u64::MAX;

const FLAG_ZEROED_GRAINS: u32 = 1 << 2;
const FLAG_COMPRESSED: u32 = 1 << 16;
const FLAG_MARKERS: u32 = 1 << 17;

#[derive(Debug)]
pub(crate) struct Vmdk {
    capacity_bytes: u64,
    grain_bytes: u64,
    entries_per_table: u64,
    /// File offsets of the grain tables, 0 where there is none.
    tables: Vec<u64>,
    compressed: bool,
    zeroed_grains: bool,
}

impl Vmdk {
    pub(crate) fn virtual_size(&self) -> u64 {
        self.capacity_bytes
    }

    pub(crate) fn variant(&self) -> String {
        format!("vmdk {}", if self.compressed { "streamOptimized" } else { "monolithicSparse" })
    }

    pub(crate) fn open(source: &dyn Source, limits: &Limits) -> Result<Self, Error> {
        let head = bytes(source, 0, SECTOR, "the vmdk header")?;
        let version = le32(&head, 4);
        if !(1..=3).contains(&version) {
            return Error::refused(format!("vmdk version {version} is not supported"));
        }
        let flags = le32(&head, 8);
        let capacity = le64(&head, 12);
        let grain = le64(&head, 20);
        let entries_per_table = u64::from(le32(&head, 44));
        let Some(capacity_bytes) = capacity.checked_mul(SECTOR) else {
            return Error::refused("the disk in the image is absurdly large");
        };
        if capacity_bytes > limits.max_virtual_bytes {
            let max = limits.max_virtual_bytes;
            return Error::refused(format!(
                "the disk in the image is {capacity_bytes} bytes large, the limit is {max}"
            ));
        }
        if !grain.is_power_of_two() || !(8..=MAX_GRAIN_BYTES / SECTOR).contains(&grain) {
            return Error::refused(format!("vmdk grains of {grain} sectors are not allowed"));
        }
        if entries_per_table == 0 || entries_per_table > 512 {
            return Error::refused(format!("vmdk grain tables of {entries_per_table} entries are not allowed"));
        }
        // Written by FTP in text mode, these four bytes are no longer what they were.
        if head.get(73..77) != Some(&b"\n \r\n"[..]) {
            return Error::refused("the vmdk header was damaged by a transfer in text mode");
        }
        let compressed = flags & FLAG_COMPRESSED != 0;
        match (compressed, le16(&head, 77)) {
            (false, _) | (true, 1) => {}
            (true, other) => return Error::refused(format!("vmdk compression {other} is not supported")),
        }
        if compressed && flags & FLAG_MARKERS == 0 {
            return Error::refused("compressed vmdk grains without markers are not supported");
        }
        check_descriptor(source, le64(&head, 28), le64(&head, 36), capacity)?;

        let mut directory = le64(&head, 56);
        if directory == DIRECTORY_AT_END {
            let footer_at = source.len().saturating_sub(2 * SECTOR);
            let footer = bytes(source, footer_at, SECTOR, "the vmdk footer")?;
            if !footer.starts_with(b"KDMV") || footer.get(4..28) != head.get(4..28) {
                return Error::refused("the vmdk footer does not match the header");
            }
            directory = le64(&footer, 56);
        }
        let grain_bytes = grain * SECTOR;
        let table_count = ceil_div(capacity_bytes, grain_bytes * entries_per_table);
        if table_count > MAX_DIRECTORY_ENTRIES {
            return Error::refused("the grain directory is too large");
        }
        let Some(directory) = directory.checked_mul(SECTOR).filter(|offset| *offset != 0) else {
            return Error::refused("the grain directory lies beyond the end of the image");
        };
        let raw = bytes(source, directory, table_count * 4, "the grain directory")?;
        let mut tables = Vec::with_capacity(raw.len() / 4);
        for entry in raw.chunks_exact(4) {
            let table = u64::from(le32(entry, 0)) * SECTOR;
            if table != 0 {
                within(source, table, entries_per_table * 4, "a grain table")?;
            }
            tables.push(table);
        }
        let mut sorted: Vec<u64> = tables.iter().copied().filter(|table| *table != 0).collect();
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair.first() == pair.last()) {
            return Error::refused("two entries of the grain directory point to the same table");
        }
        let zeroed_grains = flags & FLAG_ZEROED_GRAINS != 0;
        Ok(Vmdk { capacity_bytes, grain_bytes, entries_per_table, tables, compressed, zeroed_grains })
    }

    /// Calls `visit` with (guest offset, file offset) for every grain that is there.
    fn walk(&self, source: &dyn Source, mut visit: impl FnMut(u64, u64) -> Result<(), Error>) -> Result<(), Error> {
        let end = source.len();
        let mut mapped = 0u64;
        let mut guest_table = 0u64;
        for table in &self.tables {
            if *table != 0 {
                let raw = bytes(source, *table, self.entries_per_table * 4, "a grain table")?;
                let mut guest = guest_table;
                for entry in raw.chunks_exact(4) {
                    let sector = u64::from(le32(entry, 0));
                    let is_hole = sector == 0 || (sector == 1 && self.zeroed_grains);
                    if guest < self.capacity_bytes && !is_hole {
                        let host = sector * SECTOR;
                        if host >= end {
                            return Error::refused("a grain lies beyond the end of the image");
                        }
                        mapped += if self.compressed { SECTOR } else { self.grain_bytes };
                        if mapped > end.saturating_add(self.grain_bytes) {
                            return Error::refused("the image maps the same data more than once");
                        }
                        visit(guest, host)?;
                    }
                    guest = guest.saturating_add(self.grain_bytes);
                }
            }
            guest_table = guest_table.saturating_add(self.grain_bytes * self.entries_per_table);
        }
        Ok(())
    }

    pub(crate) fn check(&self, source: &dyn Source) -> Result<u64, Error> {
        let mut data = 0u64;
        self.walk(source, |_, _| {
            data += self.grain_bytes;
            Ok(())
        })?;
        Ok(data)
    }

    pub(crate) fn copy(&self, source: &dyn Source, sink: &mut dyn Sink) -> Result<(), Error> {
        let mut out = vec![0u8; usize::try_from(self.grain_bytes).unwrap_or(0)];
        self.walk(source, |guest, host| {
            if !self.compressed {
                let read = fill(source, &mut out, host)?;
                return sink.write(guest, out.get(..read).unwrap_or_default());
            }
            sink.check_cancelled()?;
            let marker = bytes(source, host, 12, "a grain marker")?;
            if le64(&marker, 0).checked_mul(SECTOR) != Some(guest) {
                return Error::refused("a grain marker names another place of the disk");
            }
            let packed_len = u64::from(le32(&marker, 8));
            if packed_len == 0 || packed_len > self.grain_bytes * 2 {
                return Error::refused(format!("a compressed grain of {packed_len} bytes is not allowed"));
            }
            let packed = bytes(source, host + 12, packed_len, "a compressed grain")?;
            // The last grain of a disk may be shorter than a grain.
            let len = self.grain_bytes.min(self.capacity_bytes - guest);
            let Some(piece) = out.get_mut(..usize::try_from(len).unwrap_or(0)) else { return Ok(()) };
            if !unpack_zlib(&packed, piece) {
                return Error::refused("a compressed grain does not unpack");
            }
            sink.write(guest, piece)
        })
    }
}

/// The text inside the file must describe exactly one extent, the file itself, and no parent.
fn check_descriptor(source: &dyn Source, sector: u64, sectors: u64, capacity: u64) -> Result<(), Error> {
    let (Some(offset), Some(len)) = (sector.checked_mul(SECTOR), sectors.checked_mul(SECTOR)) else {
        return Error::refused("the vmdk descriptor lies beyond the end of the image");
    };
    if offset == 0 || len == 0 {
        return Error::refused("the image has no vmdk descriptor");
    }
    if len > MAX_DESCRIPTOR_BYTES {
        return Error::refused(format!("a vmdk descriptor of {len} bytes is not allowed"));
    }
    let raw = bytes(source, offset, len, "the vmdk descriptor")?;
    let text = raw.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let (mut extents, mut kind) = (0, None);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default().to_ascii_uppercase();
        if matches!(first.as_str(), "RW" | "RDONLY" | "NOACCESS") {
            extents += 1;
            let (size, extent) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            // VMware's own streams call their only extent read-only; for a disk that is copied it means nothing.
            if first == "NOACCESS" || !extent.eq_ignore_ascii_case("SPARSE") {
                return Error::refused(format!("vmdk extents of the kind {first} {extent} are not allowed"));
            }
            if size.parse::<u64>() != Ok(capacity) {
                return Error::refused("the vmdk extent is not as large as the disk");
            }
            // The name is the file's own, as it was called where it was made; a path would be another file.
            if line.contains(['/', '\\']) {
                return Error::refused("the vmdk descriptor points to another file");
            }
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            return Error::refused("the vmdk descriptor has a line that is neither a setting nor an extent");
        };
        let value = value.trim().trim_matches('"');
        match key.trim().to_ascii_lowercase().as_str() {
            "createtype" => kind = Some(value.to_owned()),
            "parentcid" if !value.eq_ignore_ascii_case("ffffffff") => {
                return Error::refused("the image has a parent disk");
            }
            "parentfilenamehint" => return Error::refused("the image has a parent disk"),
            "changetrackpath" => return Error::refused("the vmdk descriptor points to another file"),
            "encryption.keysafe" | "encryption.data" => return Error::refused("the image is encrypted"),
            _ => {}
        }
    }
    match kind.as_deref() {
        Some("monolithicSparse" | "streamOptimized") => {}
        Some(other) => return Error::refused(format!("vmdk of the kind {other} is not allowed")),
        None => return Error::refused("the vmdk descriptor does not say of which kind the image is"),
    }
    if extents != 1 {
        return Error::refused(format!(
            "the vmdk descriptor lists {extents} extents, and only the image itself is allowed"
        ));
    }
    Ok(())
}

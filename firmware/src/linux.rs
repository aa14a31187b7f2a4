//! The Linux boot protocol, 64-bit and 32-bit: what a bzImage says of itself, where it goes, and the zero page.
//!
//! The kernel unpacks itself to max(its load address, 16 MiB as built) whatever is asked of it, and needs `init_size` bytes
//! from there; so its preferred address costs nothing over a lower one, and is taken when free.

use alloc::vec::Vec;

use crate::{
    Error, Result,
    bytes::{put, u8_at, u16_le, u32_le, u64_le},
    file::SLACK_BYTES,
    memory::{Free, Region, Span},
};

/// So much of the file is needed for [`Header::parse`].
pub const HEADER_BYTES: usize = 0x270;
pub const ZERO_PAGE_BYTES: usize = 4096;
/// Offset of the 64-bit entry in the loaded part; the 32-bit entry is its start.
const ENTRY_64: u64 = 0x200;
const KERNEL_64: u16 = 1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    raw: Vec<u8>,
    /// The real-mode part, which is not loaded.
    pub setup_bytes: u64,
    pub init_bytes: u64,
    pub preferred: u64,
    pub alignment: u64,
    pub relocatable: bool,
    /// False for 32-bit kernels: they are entered at their first byte, with paging off.
    pub entry_64: bool,
    pub initrd_max: u64,
    pub cmdline_max: usize,
}

impl Header {
    pub fn parse(file: &[u8], file_bytes: u64) -> Result<Header> {
        if file.len() < HEADER_BYTES || u16_le(file, 0x1fe) != 0xaa55 || u32_le(file, 0x202) != 0x5372_6448 {
            return Err(Error::Unsupported("a kernel that is no bzImage"));
        }
        let version = u16_le(file, 0x206);
        // 2.10 brought the address and size that placing it needs; xloadflags came with 2.12.
        if version < 0x20a {
            return Err(Error::Unsupported("a kernel of before 2.6.31"));
        }
        let end = 0x202 + usize::from(u8_at(file, 0x201));
        if end < 0x264 || u8_at(file, 0x211) & 1 == 0 {
            return Err(Error::Unsupported("a kernel with a short header, or not for high memory"));
        }
        let sectors = match u8_at(file, 0x1f1) {
            0 => 4,
            told => u64::from(told),
        };
        let setup_bytes = (sectors + 1) * 512;
        let (init_bytes, alignment) = (u64::from(u32_le(file, 0x260)), u64::from(u32_le(file, 0x230)));
        if setup_bytes + ENTRY_64 >= file_bytes || init_bytes == 0 {
            return Err(Error::Corrupt("kernel header"));
        }
        if !alignment.is_power_of_two() || !(4096..=1 << 30).contains(&alignment) {
            return Err(Error::Corrupt("kernel alignment"));
        }
        Ok(Header {
            raw: file[0x1f1..end.min(HEADER_BYTES)].to_vec(),
            setup_bytes,
            init_bytes: init_bytes.max(file_bytes),
            preferred: u64_le(file, 0x258),
            alignment,
            entry_64: version >= 0x20c && u16_le(file, 0x236) & KERNEL_64 != 0,
            relocatable: u8_at(file, 0x234) != 0,
            initrd_max: u64::from(u32_le(file, 0x22c)),
            cmdline_max: u32_le(file, 0x238) as usize,
        })
    }
}

impl Header {
    /// Where to jump to in a kernel loaded at `kernel`.
    pub fn entry(&self, kernel: u64) -> u64 {
        if self.entry_64 { kernel + ENTRY_64 } else { kernel }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Where the protected-mode part goes; the file itself starts `setup_bytes` before.
    pub kernel: u64,
    /// Where each initrd goes, one behind the other, and the whole.
    pub initrds: Vec<u64>,
    pub initrd: Option<Span>,
}

/// Finds room. Several initrds become one: each starts on a page, and the kernel skips zeroes between archives.
pub fn place(header: &Header, initrd_bytes: &[u64], map: &[Region], taken: &[Span]) -> Result<Places> {
    let mut free = Free::new(map, taken);
    // Slack on both sides, because whole sectors are read, and in front the real-mode part, which comes with the rest.
    let before = (header.setup_bytes + SLACK_BYTES).next_multiple_of(4096);
    let need = before + header.init_bytes + SLACK_BYTES;
    let preferred = header.preferred;
    let kernel =
        if preferred >= before && preferred.is_multiple_of(header.alignment) && free.has(preferred - before, need) {
            preferred
        } else if header.relocatable {
            let from = preferred.max(0x100_0000).saturating_sub(before);
            // Aligned is the kernel, not the room with the part in front of it.
            let mut candidate = (from + before).next_multiple_of(header.alignment);
            loop {
                if free.has(candidate - before, need) {
                    break candidate;
                }
                let found = free
                    .lowest(candidate - before + 4096, need, 4096)
                    .ok_or(Error::Unsupported("a kernel too large for this memory"))?;
                candidate = (found + before).next_multiple_of(header.alignment);
            }
        } else {
            return Err(Error::Unsupported("a kernel too large for this memory"));
        };
    free.take(Span { start: kernel - before, end: kernel + header.init_bytes + SLACK_BYTES });

    let mut offsets = Vec::new();
    let mut total = SLACK_BYTES;
    for &bytes in initrd_bytes {
        // A page of slack in front of each, which is cleared after reading.
        offsets.push(total);
        total = total
            .checked_add(bytes)
            .and_then(|t| t.checked_next_multiple_of(4096))
            .ok_or(Error::Limit("size of the initrd"))?
            + SLACK_BYTES;
    }
    let (Some(&first), Some(&last), Some(&last_bytes)) = (offsets.first(), offsets.last(), initrd_bytes.last()) else {
        return Ok(Places { kernel, initrds: Vec::new(), initrd: None });
    };
    let limit = header.initrd_max.saturating_add(1);
    let start = free.highest(total, limit).ok_or(Error::Unsupported("an initrd too large for this memory"))?;
    let initrds = offsets.iter().map(|offset| start + offset).collect();
    let initrd = Some(Span { start: start + first, end: start + last + last_bytes });
    Ok(Places { kernel, initrds, initrd })
}

/// What `screen_info` says of a linear frame buffer of 32 bits a pixel, so that `efifb` and `simpledrm` show the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    pub base: u64,
    pub width: u16,
    pub height: u16,
}

/// The zero page (`struct boot_params`).
pub fn zero_page(
    header: &Header,
    map: &[Region],
    rsdp: u64,
    cmdline: u64,
    initrd: Option<Span>,
    screen: Option<Screen>,
) -> Result<[u8; ZERO_PAGE_BYTES]> {
    crate::memory::check(map)?;
    let mut page = [0u8; ZERO_PAGE_BYTES];
    put(&mut page, 0x1f1, &header.raw);
    // Which loader: unregistered. Video mode: as it is.
    page[0x210] = 0xff;
    put(&mut page, 0x1fa, &0xffffu16.to_le_bytes());
    let low = |value: u64| (value as u32).to_le_bytes();
    let high = |value: u64| ((value >> 32) as u32).to_le_bytes();
    put(&mut page, 0x228, &low(cmdline));
    put(&mut page, 0xc8, &high(cmdline));
    if let Some(initrd) = initrd {
        let bytes = initrd.end - initrd.start;
        put(&mut page, 0x218, &low(initrd.start));
        put(&mut page, 0x21c, &low(bytes));
        put(&mut page, 0xc0, &high(initrd.start));
        put(&mut page, 0xc4, &high(bytes));
    }
    put(&mut page, 0x70, &rsdp.to_le_bytes());
    page[0x1e8] = map.len() as u8;
    for (index, region) in map.iter().enumerate() {
        let at = 0x2d0 + 20 * index;
        put(&mut page, at, &region.start.to_le_bytes());
        put(&mut page, at + 8, &region.bytes.to_le_bytes());
        put(&mut page, at + 16, &region.kind.to_le_bytes());
    }
    if let Some(screen) = screen {
        let line = u32::from(screen.width) * 4;
        // Columns and lines of the text console; nobody relies on them.
        page[0x07] = 80;
        page[0x0e] = 25;
        // VIDEO_TYPE_EFI: a plain linear frame buffer, size in bytes.
        page[0x0f] = 0x70;
        put(&mut page, 0x12, &screen.width.to_le_bytes());
        put(&mut page, 0x14, &screen.height.to_le_bytes());
        put(&mut page, 0x16, &32u16.to_le_bytes());
        put(&mut page, 0x18, &low(screen.base));
        put(&mut page, 0x1c, &(line * u32::from(screen.height)).to_le_bytes());
        put(&mut page, 0x24, &(line as u16).to_le_bytes());
        // Size and position of red, green, blue and the unused byte.
        put(&mut page, 0x26, &[8, 16, 8, 8, 8, 0, 8, 24]);
        if screen.base >> 32 != 0 {
            put(&mut page, 0x36, &2u32.to_le_bytes());
            put(&mut page, 0x3a, &high(screen.base));
        }
    }
    Ok(page)
}

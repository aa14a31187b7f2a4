//! The memory map that the VMM hands over, and where things go in it.

use alloc::vec::Vec;

use crate::{Error, Result};

/// The zero page has room for this many.
pub const REGIONS: usize = 128;
pub const RAM: u32 = 1;
const PAGE: u64 = 4096;
/// Everything we place is reachable by 32-bit pointers and below the PCI window.
const TOP: u64 = 0xc000_0000;

/// Of type 1 (RAM), 2 (reserved), 3 (ACPI), 4 (NVS) and so on: PVH's numbers are those of e820.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    pub start: u64,
    pub bytes: u64,
    pub kind: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub start: u64,
    pub end: u64,
}

/// The free memory below 3 GiB, less what was taken.
#[derive(Debug, Clone)]
pub struct Free {
    spans: Vec<Span>,
}

impl Free {
    pub fn new(map: &[Region], taken: &[Span]) -> Free {
        let mut spans: Vec<Span> = map
            .iter()
            .filter(|region| region.kind == RAM)
            .filter_map(|region| {
                let start = region.start.checked_next_multiple_of(PAGE)?;
                let end = region.start.checked_add(region.bytes)?.min(TOP) & !(PAGE - 1);
                (start < end).then_some(Span { start, end })
            })
            .collect();
        spans.sort_by_key(|span| span.start);
        // Touching regions are one.
        let mut joined: Vec<Span> = Vec::new();
        for span in spans {
            match joined.last_mut() {
                Some(last) if last.end >= span.start => last.end = last.end.max(span.end),
                _ => joined.push(span),
            }
        }
        let mut free = Free { spans: joined };
        for region in map.iter().filter(|region| region.kind != RAM) {
            free.take(Span { start: region.start, end: region.start.saturating_add(region.bytes) });
        }
        for span in taken {
            free.take(*span);
        }
        free
    }

    pub fn take(&mut self, taken: Span) {
        let mut left = Vec::with_capacity(self.spans.len() + 1);
        for span in &self.spans {
            let before = Span { start: span.start, end: span.end.min(taken.start & !(PAGE - 1)) };
            let after_start = taken.end.checked_next_multiple_of(PAGE).unwrap_or(!(PAGE - 1));
            let after = Span { start: span.start.max(after_start), end: span.end };
            if taken.start >= span.end || taken.end <= span.start {
                left.push(*span);
                continue;
            }
            left.extend([before, after].into_iter().filter(|part| part.start < part.end));
        }
        self.spans = left;
    }

    pub fn has(&self, start: u64, bytes: u64) -> bool {
        start.checked_add(bytes).is_some_and(|end| self.spans.iter().any(|span| span.start <= start && end <= span.end))
    }

    /// The lowest aligned place of that size, from `from` on.
    pub fn lowest(&self, from: u64, bytes: u64, align: u64) -> Option<u64> {
        self.spans.iter().find_map(|span| {
            let start = span.start.max(from).checked_next_multiple_of(align)?;
            (start.checked_add(bytes)? <= span.end).then_some(start)
        })
    }

    /// The highest page-aligned place of that size that ends at or below `limit`.
    pub fn highest(&self, bytes: u64, limit: u64) -> Option<u64> {
        self.spans.iter().rev().find_map(|span| {
            let start = span.end.min(limit).checked_sub(bytes)? & !(PAGE - 1);
            (start >= span.start).then_some(start)
        })
    }
}

/// Checks what a map must have to be handed to Linux.
pub fn check(map: &[Region]) -> Result<()> {
    if map.is_empty() || map.len() > REGIONS {
        return Err(Error::Unsupported("a memory map of no or more than 128 regions"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ram(start: u64, end: u64) -> Region {
        Region { start, bytes: end - start, kind: RAM }
    }

    #[test]
    fn places_avoid_what_is_taken_and_what_is_reserved() {
        let map = [ram(0, 0xa0000), ram(0x10_0000, 64 << 20), Region { start: 0x200_0000, bytes: 0x1000, kind: 2 }];
        let mut free = Free::new(&map, &[Span { start: 0x10_0000, end: 0x80_0000 }]);
        assert!(free.has(0x80_0000, 0x10_0000));
        assert!(!free.has(0x7f_f000, 0x2000));
        assert!(!free.has(0x1ff_f000, 0x2000));
        assert_eq!(free.lowest(0x100_0000, 0x100_0000, 0x20_0000), Some(0x100_0000));
        assert_eq!(free.lowest(0x100_0000, 0x100_1000, 0x20_0000), Some(0x220_0000));
        assert_eq!(free.highest(0x1800, u64::MAX), Some((64 << 20) - 0x2000));
        free.take(Span { start: 0x220_0000, end: 0x400_0000 });
        assert_eq!(free.highest(0x1000, u64::MAX), Some(0x21f_f000));
        assert_eq!(free.highest(0x1000_0000, u64::MAX), None);
    }
}

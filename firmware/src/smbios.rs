//! SMBIOS tables, for GRUB's `smbios` command: configurations ask them for the machine's name or its memory.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use crate::bytes::{text, u8_at, u16_le, u32_le, u64_le};

const STRUCTURES: usize = 4096;
pub const TABLE_BYTES: usize = 64 << 10;

/// Where the table is and how long, by an entry point (`_SM3_` or `_SM_`) in the last 64 KiB of the first megabyte.
pub fn entry_point(segment: &[u8]) -> Option<(u64, usize)> {
    let mut old = None;
    for at in (0..segment.len()).step_by(16) {
        let here = &segment[at..];
        let right = |bytes: usize| {
            here.get(..bytes).is_some_and(|entry| entry.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)) == 0)
        };
        if here.starts_with(b"_SM3_") && right(usize::from(u8_at(here, 6))) {
            return Some((u64_le(here, 16), (u32_le(here, 12) as usize).min(TABLE_BYTES)));
        }
        if here.starts_with(b"_SM_") && right(usize::from(u8_at(here, 5))) && old.is_none() {
            old = Some((u64::from(u32_le(here, 24)), usize::from(u16_le(here, 22))));
        }
    }
    old
}

#[derive(Debug, Clone, Copy)]
struct Structure<'a> {
    kind: u8,
    handle: u16,
    formatted: &'a [u8],
    strings: &'a [u8],
}

fn structures(table: &[u8]) -> Vec<Structure<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at + 4 <= table.len() && found.len() < STRUCTURES {
        let here = &table[at..];
        let length = usize::from(here[1]);
        if length < 4 || length > here.len() {
            break;
        }
        // Strings follow, and end with an empty one.
        let Some(end) = here[length..].windows(2).position(|pair| pair == [0, 0]) else { break };
        found.push(Structure {
            kind: here[0],
            handle: u16_le(here, 2),
            formatted: &here[..length],
            strings: &here[length..length + end + 1],
        });
        if here[0] == 127 {
            break;
        }
        at += length + end + 2;
    }
    found
}

/// What a `smbios` command asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Query {
    pub kind: Option<u8>,
    pub handle: Option<u16>,
    /// The how manieth of those that fit, from 1 on.
    pub nth: usize,
    pub what: What,
    pub offset: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum What {
    #[default]
    Byte,
    Word,
    Double,
    Quad,
    String,
    Uuid,
}

pub fn ask(table: &[u8], query: &Query) -> Option<String> {
    let all = structures(table);
    let found = all
        .iter()
        .filter(|s| {
            query.kind.is_none_or(|kind| s.kind == kind) && query.handle.is_none_or(|handle| s.handle == handle)
        })
        .nth(query.nth.checked_sub(1)?)?;
    let bytes = match query.what {
        What::Byte | What::String => 1,
        What::Word => 2,
        What::Double => 4,
        What::Quad => 8,
        What::Uuid => 16,
    };
    let field = found.formatted.get(query.offset..query.offset.checked_add(bytes)?)?;
    Some(match query.what {
        What::Byte => field[0].to_string(),
        What::Word => u16_le(field, 0).to_string(),
        What::Double => u32_le(field, 0).to_string(),
        What::Quad => u64_le(field, 0).to_string(),
        What::String => match field[0] {
            0 => return None,
            number => text(found.strings.split(|&byte| byte == 0).nth(usize::from(number) - 1)?),
        },
        What::Uuid => {
            let (a, b, c) = (u32_le(field, 0), u16_le(field, 4), u16_le(field, 6));
            let rest: String = field[10..].iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{a:08x}-{b:04x}-{c:04x}-{:02x}{:02x}-{rest}", field[8], field[9])
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Vec<u8> {
        let mut table = vec![1, 8, 0, 1, 1, 2, 0, 7];
        table.extend(b"OpenStack Foundation\0Nova\0\0");
        table.extend([17, 14, 0, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
        table.extend([127, 4, 0, 127, 0, 0]);
        table
    }

    #[test]
    fn fields_and_strings_are_found() {
        let ask =
            |kind, what, offset| super::ask(&table(), &Query { kind: Some(kind), handle: None, nth: 1, what, offset });
        assert_eq!(ask(1, What::String, 4).as_deref(), Some("OpenStack Foundation"));
        assert_eq!(ask(1, What::String, 5).as_deref(), Some("Nova"));
        assert_eq!(ask(1, What::String, 6), None);
        assert_eq!(ask(1, What::String, 7), None);
        assert_eq!(ask(17, What::Word, 12).as_deref(), Some("256"));
        assert_eq!(ask(17, What::Quad, 12), None);
        assert_eq!(ask(99, What::Byte, 0), None);
    }

    #[test]
    fn the_entry_point_needs_its_checksum() {
        let mut segment = vec![0; 256];
        segment[32..37].copy_from_slice(b"_SM3_");
        segment[38] = 24;
        segment[44] = 100;
        segment[48] = 0x55;
        assert_eq!(entry_point(&segment), None);
        let sum = segment[32..56].iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte));
        segment[37] = sum.wrapping_neg();
        assert_eq!(entry_point(&segment), Some((0x55, 100)));
    }
}

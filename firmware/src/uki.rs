//! Unified kernel images: a PE file whose sections are kernel, initrd and command line.

use alloc::{string::String, vec::Vec};

use crate::{
    Error, Result,
    bytes::{text, u16_le, u32_le},
    disk::Disk,
    file::{FileMap, Piece},
};

const HEADERS_BYTES: usize = 16 << 10;
const SECTIONS: usize = 64;
const TEXT_BYTES: u64 = 64 << 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uki {
    pub linux: Piece,
    /// Microcode first, as its loader would put it.
    pub initrds: Vec<Piece>,
    pub cmdline: String,
    pub os_release: String,
}

struct Section {
    name: [u8; 8],
    offset: u64,
    bytes: u64,
}

/// Name, offset in the file and size of each section, as far as the headers are right.
fn sections(head: &[u8], file_bytes: u64) -> Result<Vec<Section>> {
    let pe = u32_le(head, 0x3c) as usize;
    if !head.starts_with(b"MZ") || pe > HEADERS_BYTES - 24 || head.get(pe..pe + 4) != Some(b"PE\0\0") {
        return Err(Error::Unsupported("an EFI program that is no PE file"));
    }
    if u16_le(head, pe + 4) != 0x8664 {
        return Err(Error::Unsupported("an EFI program for another processor"));
    }
    let count = usize::from(u16_le(head, pe + 6));
    let table = pe + 24 + usize::from(u16_le(head, pe + 20));
    if count > SECTIONS || table + 40 * count > head.len() {
        return Err(Error::Corrupt("PE section table"));
    }
    let mut found = Vec::new();
    for entry in head[table..table + 40 * count].chunks_exact(40) {
        let mut name = [0; 8];
        name.copy_from_slice(&entry[..8]);
        let bytes = u64::from(u32_le(entry, 8).min(u32_le(entry, 16)));
        let offset = u64::from(u32_le(entry, 20));
        if offset + bytes > file_bytes {
            return Err(Error::Corrupt("PE section outside its file"));
        }
        found.push(Section { name, offset, bytes });
    }
    Ok(found)
}

pub fn parse(disk: &Disk, map: &FileMap) -> Result<Uki> {
    let mut head = alloc::vec![0; HEADERS_BYTES.min(usize::try_from(map.bytes).unwrap_or(HEADERS_BYTES))];
    map.read(disk, 0, &mut head)?;
    let all = sections(&head, map.bytes)?;
    // Several profiles: what stands before the first is common, the first is the default.
    let profiles: Vec<usize> =
        all.iter().enumerate().filter(|(_, s)| &s.name == b".profile").map(|(index, _)| index).collect();
    let end = profiles.get(1).copied().unwrap_or(all.len());
    // Of two, the one in the profile counts.
    let find = |name: &[u8; 8]| all[..end].iter().rev().find(|section| &section.name == name);
    let piece = |section: &Section| Piece { map: map.clone(), offset: section.offset, bytes: section.bytes };
    let words = |name: &[u8; 8]| -> Result<String> {
        let Some(section) = find(name) else { return Ok(String::new()) };
        if section.bytes > TEXT_BYTES {
            return Err(Error::Limit("size of a text in an UKI"));
        }
        let mut data = alloc::vec![0; section.bytes as usize];
        map.read(disk, section.offset, &mut data)?;
        Ok(text(&data))
    };
    let linux = find(b".linux\0\0").map(piece).ok_or(Error::Unsupported("an EFI program that is no UKI"))?;
    let initrds = [find(b".ucode\0\0"), find(b".initrd\0")].into_iter().flatten().map(piece).collect();
    let cmdline = words(b".cmdline")?.trim().replace(['\n', '\r'], " ");
    Ok(Uki { linux, initrds, cmdline, os_release: words(b".osrel\0\0")? })
}

/// A value of os-release, unquoted.
pub fn os_release_value(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let value = line.trim().strip_prefix(key)?.strip_prefix('=')?.trim();
        Some(String::from(value.trim_matches(['"', '\''])))
    })
}

//! Read-only ext2, ext3 and ext4.
//!
//! Own code rather than a crate, because the kernel and the initrd must be mapped to extents and read straight into their
//! final place, and because every loop needs a bound. Checksums of metadata are not verified: the guest's kernel does that,
//! and a bad block at worst ends in SeaBIOS. A journal that was not written back is honoured (see `journal`): a server that
//! lost power after a kernel update boots what it installed.

mod journal;

use alloc::{
    collections::BTreeMap,
    rc::Rc,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use crate::{
    Error, Result,
    bytes::{guid_at, text, u8_at, u16_le, u32_le},
    disk::Disk,
    file::FileMap,
    volume::{Entry, Kind, Node},
};

const ROOT: u32 = 2;
const DIRECTORY_BYTES: u64 = 8 << 20;
const FILE_BYTES: u64 = 2 << 30;
const SYMLINKS: u32 = 16;
const COMPONENTS: usize = 128;
/// Nodes of an extent tree visited, and blocks of pointers read, for one file.
const TREE_NODES: u32 = 4096;

mod incompat {
    pub const RECOVER: u32 = 0x4;
    pub const META_BG: u32 = 0x10;
    pub const BIT64: u32 = 0x80;
    /// filetype, recover, meta_bg, extents, 64bit, mmp, flex_bg, ea_inode, csum_seed, largedir, inline_data, encrypt
    /// and casefold; the last three only make some inodes unreadable.
    pub const KNOWN: u32 =
        0x2 | RECOVER | META_BG | 0x40 | BIT64 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x10000 | 0x20000;
}

const FLAG_ENCRYPT: u32 = 0x800;
const FLAG_EXTENTS: u32 = 0x80000;
const FLAG_INLINE: u32 = 0x1000_0000;

pub struct Ext4 {
    disk: Rc<Disk>,
    start: u64,
    block_bytes: u64,
    blocks: u64,
    first_data_block: u64,
    inodes: u32,
    inodes_per_group: u32,
    blocks_per_group: u32,
    inode_bytes: u64,
    descriptor_bytes: u64,
    /// META_BG: descriptors from this block of them on lie in their own groups.
    first_meta_group: Option<u32>,
    sparse_super: bool,
    uuid: [u8; 16],
    label: String,
    /// Block of the file system -> block of the journal that replaces it.
    replaced: BTreeMap<u64, u64>,
}

#[derive(Debug, Clone)]
pub(crate) struct Inode {
    mode: u16,
    bytes: u64,
    flags: u32,
    block: [u8; 60],
}

impl Inode {
    fn kind(&self) -> Kind {
        match self.mode & 0xf000 {
            0x4000 => Kind::Directory,
            0x8000 => Kind::File,
            0xa000 => Kind::Symlink,
            _ => Kind::Other,
        }
    }
}

impl Ext4 {
    pub fn open(disk: Rc<Disk>, start: u64, bytes: u64) -> Result<Ext4> {
        if bytes < 4096 {
            return Err(Error::NotFound);
        }
        let sb = disk.read_vec(start + 1024, 1024)?;
        if u16_le(&sb, 0x38) != 0xef53 {
            return Err(Error::NotFound);
        }
        let shift = u32_le(&sb, 0x18);
        if shift > 6 {
            return Err(Error::Corrupt("ext4 block size"));
        }
        let block_bytes = 1024u64 << shift;
        let dynamic = u32_le(&sb, 0x4c) >= 1;
        let features = if dynamic { u32_le(&sb, 0x60) } else { 0 };
        let ro_features = if dynamic { u32_le(&sb, 0x64) } else { 0 };
        if features & !incompat::KNOWN != 0 {
            return Err(Error::Unsupported("a feature of this ext4"));
        }
        // BIGALLOC changes only allocation; extents still count blocks.
        let wide = features & incompat::BIT64 != 0;
        let blocks = u64::from(u32_le(&sb, 4)) | if wide { u64::from(u32_le(&sb, 0x150)) << 32 } else { 0 };
        let blocks = blocks.min(bytes / block_bytes);
        let descriptor_bytes = if wide { u64::from(u16_le(&sb, 0xfe)) } else { 32 };
        let inode_bytes = if dynamic { u64::from(u16_le(&sb, 0x58)) } else { 128 };
        let this = Ext4 {
            disk,
            start,
            block_bytes,
            blocks,
            first_data_block: u64::from(u32_le(&sb, 0x14)),
            inodes: u32_le(&sb, 0),
            inodes_per_group: u32_le(&sb, 0x28),
            blocks_per_group: u32_le(&sb, 0x20),
            inode_bytes,
            descriptor_bytes,
            first_meta_group: (features & incompat::META_BG != 0).then(|| u32_le(&sb, 0x104)),
            sparse_super: ro_features & 1 != 0,
            uuid: guid_at(&sb, 0x68),
            label: text(&sb[0x78..0x88]),
            replaced: BTreeMap::new(),
        };
        let sane = this.inodes_per_group != 0
            && this.blocks_per_group != 0
            && (128..=block_bytes).contains(&inode_bytes)
            && inode_bytes.is_power_of_two()
            && (32..=1024).contains(&descriptor_bytes)
            && descriptor_bytes.is_power_of_two()
            && this.first_data_block <= 1
            && blocks > 2;
        if !sane {
            return Err(Error::Corrupt("ext4 superblock"));
        }
        let mut this = this;
        if features & incompat::RECOVER != 0 {
            let inode = u32_le(&sb, 0xe0);
            // A journal that cannot be understood is left alone: that is what GRUB does with every journal.
            if let Ok(replaced) = journal::replay(&this, inode) {
                this.replaced = replaced;
            }
        }
        Ok(this)
    }

    pub fn uuid(&self) -> [u8; 16] {
        self.uuid
    }

    pub fn label(&self) -> &str {
        &self.label
    }

    fn block_offset(&self, block: u64) -> Result<u64> {
        let block = self.replaced.get(&block).copied().unwrap_or(block);
        if block >= self.blocks {
            return Err(Error::Corrupt("ext4 block number"));
        }
        Ok(self.start + block * self.block_bytes)
    }

    fn read_block(&self, block: u64) -> Result<Vec<u8>> {
        self.disk.read_vec(self.block_offset(block)?, self.block_bytes as usize)
    }

    fn descriptor(&self, group: u32) -> Result<Vec<u8>> {
        let per_block = (self.block_bytes / self.descriptor_bytes) as u32;
        let index = group / per_block;
        // With bigalloc the first data block is 0 even where the superblock fills a block of its own.
        let shift = u64::from(self.block_bytes == 1024 && self.first_data_block == 0);
        let block = match self.first_meta_group {
            Some(first) if index >= first => {
                // In the first group of its own meta group, behind the superblock if that group has one.
                let home = index.checked_mul(per_block).ok_or(Error::Corrupt("ext4 group"))?;
                let skip = u64::from(!self.sparse_super || has_superblock(home)) + if home == 0 { shift } else { 0 };
                self.first_data_block + u64::from(home) * u64::from(self.blocks_per_group) + skip
            }
            _ => self.first_data_block + 1 + shift + u64::from(index),
        };
        let within = u64::from(group % per_block) * self.descriptor_bytes;
        self.disk.read_vec(self.block_offset(block)? + within, self.descriptor_bytes as usize)
    }

    fn inode(&self, number: u32) -> Result<Inode> {
        if number == 0 || number > self.inodes {
            return Err(Error::Corrupt("ext4 inode number"));
        }
        let (group, index) = ((number - 1) / self.inodes_per_group, (number - 1) % self.inodes_per_group);
        let descriptor = self.descriptor(group)?;
        let high = if self.descriptor_bytes >= 64 { u64::from(u32_le(&descriptor, 0x28)) << 32 } else { 0 };
        let table = u64::from(u32_le(&descriptor, 8)) | high;
        let at = u64::from(index) * self.inode_bytes;
        let block = table.checked_add(at / self.block_bytes).ok_or(Error::Corrupt("ext4 inode table"))?;
        let raw = self.disk.read_vec(self.block_offset(block)? + at % self.block_bytes, 128)?;
        let mode = u16_le(&raw, 0);
        let high =
            if mode & 0xf000 == 0x8000 || mode & 0xf000 == 0x4000 { u64::from(u32_le(&raw, 0x6c)) << 32 } else { 0 };
        let mut block = [0; 60];
        block.copy_from_slice(&raw[0x28..0x64]);
        Ok(Inode { mode, bytes: u64::from(u32_le(&raw, 4)) | high, flags: u32_le(&raw, 0x20), block })
    }

    pub(crate) fn map(&self, inode: &Inode) -> Result<FileMap> {
        if inode.flags & FLAG_ENCRYPT != 0 {
            return Err(Error::Unsupported("an encrypted ext4 file"));
        }
        if inode.flags & FLAG_INLINE != 0 {
            return Err(Error::Unsupported("ext4 inline data"));
        }
        if inode.bytes > FILE_BYTES {
            return Err(Error::Limit("size of a file"));
        }
        let mut map = FileMap::default();
        let mut visits = 0;
        if inode.flags & FLAG_EXTENTS != 0 {
            self.extents(&inode.block, None, inode.bytes, &mut map, &mut visits)?;
        } else {
            let blocks = inode.bytes.div_ceil(self.block_bytes);
            let mut file_block = 0;
            for index in 0..12 {
                self.pointer(u32_le(&inode.block, 4 * index), 0, &mut file_block, blocks, &mut map, &mut visits)?;
            }
            for depth in 1..=3u32 {
                let pointer = u32_le(&inode.block, 44 + 4 * depth as usize);
                self.pointer(pointer, depth, &mut file_block, blocks, &mut map, &mut visits)?;
            }
        }
        map.finish(inode.bytes)
    }

    fn push(&self, map: &mut FileMap, file_block: u64, block: u64, count: u64) -> Result<()> {
        let end = block.checked_add(count).ok_or(Error::Corrupt("ext4 extent"))?;
        if end > self.blocks || block == 0 {
            return Err(Error::Corrupt("ext4 extent"));
        }
        if self.replaced.range(block..end).next().is_none() {
            return map.push(
                file_block * self.block_bytes,
                Some(self.start + block * self.block_bytes),
                count * self.block_bytes,
            );
        }
        // Data journalling: some blocks of the file itself are still in the journal.
        for index in 0..count {
            map.push(
                (file_block + index) * self.block_bytes,
                Some(self.block_offset(block + index)?),
                self.block_bytes,
            )?;
        }
        Ok(())
    }

    fn extents(&self, node: &[u8], depth: Option<u16>, bytes: u64, map: &mut FileMap, visits: &mut u32) -> Result<()> {
        *visits += 1;
        if *visits > TREE_NODES {
            return Err(Error::Limit("nodes of an ext4 extent tree"));
        }
        let (magic, entries, level) = (u16_le(node, 0), usize::from(u16_le(node, 2)), u16_le(node, 6));
        // Each level says its own height, so a tree cannot loop.
        if magic != 0xf30a || level > 5 || depth.is_some_and(|depth| depth != level) || 12 + 12 * entries > node.len() {
            return Err(Error::Corrupt("ext4 extent tree"));
        }
        for entry in node[12..12 + 12 * entries].chunks_exact(12) {
            let file_block = u64::from(u32_le(entry, 0));
            if file_block * self.block_bytes >= bytes {
                break;
            }
            if level > 0 {
                let child = u64::from(u32_le(entry, 4)) | u64::from(u16_le(entry, 8)) << 32;
                if child == 0 {
                    return Err(Error::Corrupt("ext4 extent tree"));
                }
                let child = self.read_block(child)?;
                self.extents(&child, Some(level - 1), bytes, map, visits)?;
                continue;
            }
            let count = u64::from(u16_le(entry, 4));
            // Above 32768: allocated but never written, reads as zeroes.
            let (count, written) = if count > 32768 { (count - 32768, false) } else { (count, true) };
            let block = u64::from(u32_le(entry, 8)) | u64::from(u16_le(entry, 6)) << 32;
            if written {
                self.push(map, file_block, block, count)?;
            } else {
                map.push(file_block * self.block_bytes, None, count * self.block_bytes)?;
            }
        }
        Ok(())
    }

    /// The blocks under one pointer of an ext2-style map; `depth` levels of pointer blocks lie between.
    fn pointer(
        &self,
        pointer: u32,
        depth: u32,
        file_block: &mut u64,
        blocks: u64,
        map: &mut FileMap,
        visits: &mut u32,
    ) -> Result<()> {
        if *file_block >= blocks {
            return Ok(());
        }
        let fan = self.block_bytes / 4;
        if pointer == 0 {
            *file_block += fan.pow(depth);
            return Ok(());
        }
        if depth == 0 {
            self.push(map, *file_block, u64::from(pointer), 1)?;
            *file_block += 1;
            return Ok(());
        }
        *visits += 1;
        if *visits > TREE_NODES {
            return Err(Error::Limit("blocks of ext4 pointers"));
        }
        let data = self.read_block(u64::from(pointer))?;
        for entry in data.chunks_exact(4) {
            self.pointer(u32_le(entry, 0), depth - 1, file_block, blocks, map, visits)?;
            if *file_block >= blocks {
                break;
            }
        }
        Ok(())
    }

    /// Calls `each` with name, inode number and the type byte, until it returns false.
    fn scan(&self, directory: &Inode, mut each: impl FnMut(&[u8], u32, u8) -> bool) -> Result<()> {
        if directory.kind() != Kind::Directory {
            return Err(Error::NotFound);
        }
        if directory.bytes > DIRECTORY_BYTES {
            return Err(Error::Limit("size of a directory"));
        }
        let map = self.map(directory)?;
        let mut block = vec![0; self.block_bytes as usize];
        let mut at = 0;
        while at + self.block_bytes <= map.bytes {
            map.read(&self.disk, at, &mut block)?;
            at += self.block_bytes;
            let mut entry = 0;
            // Index nodes of a hashed directory look like one unused entry, checksums like another.
            while entry + 8 <= block.len() {
                let length = match usize::from(u16_le(&block, entry + 4)) {
                    0 | 0xffff if block.len() == 65536 => 65536,
                    length => length,
                };
                let name_bytes = usize::from(u8_at(&block, entry + 6));
                if length < 8 || !length.is_multiple_of(4) || entry + length > block.len() || 8 + name_bytes > length {
                    return Err(Error::Corrupt("ext4 directory"));
                }
                let inode = u32_le(&block, entry);
                if inode != 0
                    && name_bytes != 0
                    && !each(&block[entry + 8..entry + 8 + name_bytes], inode, block[entry + 7])
                {
                    return Ok(());
                }
                entry += length;
            }
        }
        Ok(())
    }

    fn child(&self, directory: &Inode, name: &str) -> Result<Inode> {
        let mut found = None;
        self.scan(directory, |entry, inode, _| {
            if entry == name.as_bytes() {
                found = Some(inode);
            }
            found.is_none()
        })?;
        self.inode(found.ok_or(Error::NotFound)?)
    }

    fn link_target(&self, inode: &Inode) -> Result<String> {
        if inode.bytes > 4095 {
            return Err(Error::Corrupt("ext4 symbolic link"));
        }
        // Short targets stand where the block pointers would.
        let data = if inode.bytes < 60 && inode.flags & FLAG_EXTENTS == 0 {
            inode.block[..inode.bytes as usize].to_vec()
        } else {
            self.map(inode)?.read_all(&self.disk, 4096)?
        };
        String::from_utf8(data).map_err(|_| Error::Corrupt("ext4 symbolic link"))
    }

    /// Follows `path` from the root, symbolic links included.
    pub(crate) fn resolve(&self, path: &str) -> Result<Inode> {
        // Reversed: the next component is at the end, so that a link's target can be put on top.
        let mut todo: Vec<String> = path.split('/').rev().filter(|c| !c.is_empty()).map(ToString::to_string).collect();
        let mut trail: Vec<Inode> = vec![self.inode(ROOT)?];
        let (mut links, mut steps) = (0, 0);
        while let Some(name) = todo.pop() {
            steps += 1;
            if steps > COMPONENTS || todo.len() > COMPONENTS {
                return Err(Error::Limit("components of a path"));
            }
            match name.as_str() {
                "." => continue,
                ".." => {
                    if trail.len() > 1 {
                        trail.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let Some(here) = trail.last() else { return Err(Error::NotFound) };
            let next = self.child(here, &name)?;
            if next.kind() != Kind::Symlink {
                trail.push(next);
                continue;
            }
            links += 1;
            if links > SYMLINKS {
                return Err(Error::Limit("symbolic links"));
            }
            let target = self.link_target(&next)?;
            if target.starts_with('/') {
                trail.truncate(1);
            }
            todo.extend(target.split('/').rev().filter(|c| !c.is_empty()).map(ToString::to_string));
        }
        trail.pop().ok_or(Error::NotFound)
    }

    pub fn node(&self, path: &str) -> Result<Node> {
        let inode = self.resolve(path)?;
        Ok(Node { kind: inode.kind(), bytes: inode.bytes })
    }

    pub fn file(&self, path: &str) -> Result<FileMap> {
        let inode = self.resolve(path)?;
        if inode.kind() != Kind::File {
            return Err(Error::NotFound);
        }
        self.map(&inode)
    }

    pub fn file_in_place(&self, path: &str) -> Result<FileMap> {
        let map = self.file(path)?;
        if map.extents.len() > 8 {
            return Err(Error::Unsupported("writing a file in many pieces"));
        }
        let journalled = map.extents.iter().filter_map(|extent| extent.disk).any(|disk| {
            let block = (disk - self.start) / self.block_bytes;
            self.replaced.values().any(|&copy| copy == block)
        });
        if journalled { Err(Error::Unsupported("writing a file that is in the journal")) } else { Ok(map) }
    }

    pub fn list(&self, path: &str, limit: usize) -> Result<Vec<Entry>> {
        let directory = self.resolve(path)?;
        let mut entries = Vec::new();
        self.scan(&directory, |name, _, kind| {
            if name != b"." && name != b".." {
                let kind = match kind {
                    1 => Kind::File,
                    2 => Kind::Directory,
                    7 => Kind::Symlink,
                    _ => Kind::Other,
                };
                entries.push(Entry { name: String::from_utf8_lossy(name).into_owned(), kind });
            }
            entries.len() < limit
        })?;
        Ok(entries)
    }
}

fn has_superblock(group: u32) -> bool {
    let power = |base: u32| {
        let mut value = base;
        while value < group {
            value = value.saturating_mul(base);
        }
        value == group
    };
    group <= 1 || power(3) || power(5) || power(7)
}

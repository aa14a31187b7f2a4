//! The partitions of the root disk with what is on them, under the names that GRUB gives them.

use alloc::{
    format,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use crate::{
    Error, Result,
    bytes::guid_at,
    disk::Disk,
    ext4::Ext4,
    fat::Fat,
    file::FileMap,
    partitions::{self, Partition},
    tree::Tree,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Symlink,
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy)]
pub struct Node {
    pub kind: Kind,
    pub bytes: u64,
}

pub enum Content {
    Ext4(Ext4),
    Fat(Fat),
    /// In memory, for tests.
    Tree(Tree),
    /// Recognised, so that a search by UUID finds it, but its files are not ours to read.
    Opaque {
        what: &'static str,
        uuid: String,
        label: String,
    },
    Nothing,
}

pub struct Volume {
    pub partition: Partition,
    pub content: Content,
}

pub struct Volumes {
    pub disk: Rc<Disk>,
    pub all: Vec<Volume>,
}

impl Volumes {
    pub fn open(disk: Rc<Disk>) -> Result<Volumes> {
        let all = partitions::read(&disk)?
            .into_iter()
            .map(|partition| {
                let content = content(&disk, &partition);
                Volume { partition, content }
            })
            .collect();
        Ok(Volumes { disk, all })
    }

    /// The volume that GRUB calls `name`: `hd0,gpt1`, `hd0,msdos5`, `hd0,1`, or `hd0` for a bare file system.
    pub fn by_name(&self, name: &str) -> Option<usize> {
        let (disk, part) = match name.split_once(',') {
            Some((disk, part)) => (disk, part),
            None => (name, ""),
        };
        // An empty disk name means the one that `root` is on, and we only know one.
        if !matches!(disk, "hd0" | "") {
            return None;
        }
        let digits = part.trim_start_matches(|c: char| c.is_ascii_lowercase());
        let scheme = &part[..part.len() - digits.len()];
        let number = if part.is_empty() { 0 } else { digits.parse::<u32>().ok().filter(|&n| n != 0)? };
        self.all.iter().position(|volume| {
            volume.partition.number == number
                && match volume.partition.kind {
                    partitions::Kind::Gpt(_) => matches!(scheme, "" | "gpt"),
                    partitions::Kind::Mbr(_) => matches!(scheme, "" | "msdos"),
                    partitions::Kind::Whole => scheme.is_empty(),
                }
        })
    }

    pub fn name(&self, index: usize) -> String {
        match self.all.get(index) {
            Some(Volume { partition: Partition { number, kind: partitions::Kind::Gpt(_), .. }, .. }) => {
                format!("hd0,gpt{number}")
            }
            Some(Volume { partition: Partition { number, kind: partitions::Kind::Mbr(_), .. }, .. }) => {
                format!("hd0,msdos{number}")
            }
            _ => "hd0".to_string(),
        }
    }

    pub fn get(&self, index: usize) -> Result<&Volume> {
        self.all.get(index).ok_or(Error::NotFound)
    }
}

impl Volume {
    pub fn node(&self, path: &str) -> Result<Node> {
        match &self.content {
            Content::Ext4(fs) => fs.node(path),
            Content::Fat(fs) => fs.node(path),
            Content::Tree(fs) => fs.node(path),
            Content::Opaque { what, .. } => Err(Error::Unsupported(what)),
            Content::Nothing => Err(Error::NotFound),
        }
    }

    pub fn file(&self, path: &str) -> Result<FileMap> {
        match &self.content {
            Content::Ext4(fs) => fs.file(path),
            Content::Fat(fs) => fs.file(path),
            Content::Tree(fs) => fs.file(path),
            Content::Opaque { what, .. } => Err(Error::Unsupported(what)),
            Content::Nothing => Err(Error::NotFound),
        }
    }

    /// As [`Volume::file`], for a file that is to be written: none of its blocks may be replaced by the journal.
    pub fn file_in_place(&self, path: &str) -> Result<FileMap> {
        match &self.content {
            Content::Ext4(fs) => fs.file_in_place(path),
            _ => self.file(path),
        }
    }

    pub fn read(&self, disk: &Disk, path: &str, limit: usize) -> Result<Vec<u8>> {
        self.file(path)?.read_all(disk, limit)
    }

    pub fn list(&self, path: &str, limit: usize) -> Result<Vec<Entry>> {
        match &self.content {
            Content::Ext4(fs) => fs.list(path, limit),
            Content::Fat(fs) => fs.list(path, limit),
            Content::Tree(fs) => fs.list(path, limit),
            Content::Opaque { what, .. } => Err(Error::Unsupported(what)),
            Content::Nothing => Err(Error::NotFound),
        }
    }

    pub fn is_file(&self, path: &str) -> bool {
        self.node(path).is_ok_and(|node| node.kind == Kind::File)
    }

    pub fn is_directory(&self, path: &str) -> bool {
        self.node(path).is_ok_and(|node| node.kind == Kind::Directory)
    }

    pub fn is_readable(&self) -> bool {
        matches!(self.content, Content::Ext4(_) | Content::Fat(_) | Content::Tree(_))
    }

    /// As `blkid` and GRUB write it.
    pub fn uuid(&self) -> Option<String> {
        match &self.content {
            Content::Ext4(fs) => Some(uuid_text(&fs.uuid())),
            Content::Fat(fs) => Some(format!("{:04X}-{:04X}", fs.serial() >> 16, fs.serial() & 0xffff)),
            Content::Tree(fs) => Some(fs.uuid.clone()),
            Content::Opaque { uuid, .. } => Some(uuid.clone()),
            Content::Nothing => None,
        }
    }

    pub fn label(&self) -> Option<String> {
        match &self.content {
            Content::Ext4(fs) => Some(fs.label().to_string()),
            Content::Fat(fs) => Some(fs.label()),
            Content::Tree(fs) => Some(fs.label.clone()),
            Content::Opaque { label, .. } => Some(label.clone()),
            Content::Nothing => None,
        }
    }

    pub fn file_system(&self) -> &'static str {
        match &self.content {
            Content::Ext4(_) => "ext2",
            Content::Fat(_) => "fat",
            Content::Tree(_) => "memory",
            Content::Opaque { what, .. } => what,
            Content::Nothing => "",
        }
    }
}

fn content(disk: &Rc<Disk>, partition: &Partition) -> Content {
    let (start, bytes) = (partition.start, partition.bytes);
    match Ext4::open(disk.clone(), start, bytes) {
        Ok(fs) => return Content::Ext4(fs),
        Err(Error::Unsupported(what)) => {
            let uuid =
                disk.read_vec(start + 1024 + 0x68, 16).map(|data| uuid_text(&guid_at(&data, 0))).unwrap_or_default();
            return Content::Opaque { what, uuid, label: String::new() };
        }
        Err(_) => {}
    }
    if let Ok(fs) = Fat::open(disk.clone(), start, bytes) {
        return Content::Fat(fs);
    }
    opaque(disk, start, bytes).unwrap_or(Content::Nothing)
}

fn opaque(disk: &Disk, start: u64, bytes: u64) -> Option<Content> {
    let head = disk.read_vec(start, 512).ok()?;
    if head.starts_with(b"XFSB") {
        let label = crate::bytes::text(&head[108..120]);
        return Some(Content::Opaque { what: "xfs", uuid: uuid_text(&guid_at(&head, 32)), label });
    }
    if head.starts_with(b"LUKS\xba\xbe") {
        return Some(Content::Opaque {
            what: "an encrypted partition",
            uuid: crate::bytes::text(&head[168..208]),
            label: String::new(),
        });
    }
    if bytes >= 1 << 20 {
        let head = disk.read_vec(start + 0x10000, 512).ok()?;
        if &head[0x40..0x48] == b"_BHRfS_M" {
            let label =
                disk.read_vec(start + 0x10000 + 0x12b, 256).map(|data| crate::bytes::text(&data)).unwrap_or_default();
            return Some(Content::Opaque { what: "btrfs", uuid: uuid_text(&guid_at(&head, 0x20)), label });
        }
    }
    None
}

pub fn uuid_text(uuid: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// A GPT's GUID as text: its first three fields are little-endian.
pub fn guid_text(guid: &[u8; 16]) -> String {
    let g = guid;
    uuid_text(&[g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6], g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]])
}

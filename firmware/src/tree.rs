//! Volumes of files in memory: what the tests and fuzz targets of boot loader configurations run on.

use alloc::{
    boxed::Box,
    collections::BTreeMap,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use crate::{
    Error, Result,
    disk::{Disk, Memory},
    file::FileMap,
    partitions::{ESP, Kind as PartitionKind, Partition},
    volume::{Content, Entry, Kind, Node, Volume, Volumes},
};

#[derive(Debug, Clone, Default)]
pub struct Tree {
    pub uuid: String,
    pub label: String,
    /// Path to offset on the disk and size.
    files: BTreeMap<String, (u64, u64)>,
}

/// What a volume is made of.
pub struct Spec<'a> {
    pub uuid: &'a str,
    pub label: &'a str,
    pub esp: bool,
    pub files: &'a [(&'a str, &'a [u8])],
}

fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    alloc::format!("/{}", parts.join("/"))
}

impl Tree {
    pub fn node(&self, path: &str) -> Result<Node> {
        let path = normal(path);
        if let Some((_, bytes)) = self.files.get(&path) {
            return Ok(Node { kind: Kind::File, bytes: *bytes });
        }
        let below = if path == "/" { path } else { path + "/" };
        match self.files.keys().any(|file| file.starts_with(&below)) {
            true => Ok(Node { kind: Kind::Directory, bytes: 0 }),
            false => Err(Error::NotFound),
        }
    }

    pub fn file(&self, path: &str) -> Result<FileMap> {
        let (offset, bytes) = *self.files.get(&normal(path)).ok_or(Error::NotFound)?;
        let mut map = FileMap::default();
        map.push(0, Some(offset), bytes)?;
        map.finish(bytes)
    }

    pub fn list(&self, path: &str, limit: usize) -> Result<Vec<Entry>> {
        let path = normal(path);
        let below = if path == "/" { path } else { path + "/" };
        let mut entries: Vec<Entry> = Vec::new();
        for rest in self.files.keys().filter_map(|file| file.strip_prefix(&below)) {
            let (name, kind) = match rest.split_once('/') {
                Some((name, _)) => (name, Kind::Directory),
                None => (rest, Kind::File),
            };
            if entries.iter().all(|entry| entry.name != name) && entries.len() < limit {
                entries.push(Entry { name: name.to_string(), kind });
            }
        }
        if entries.is_empty() { Err(Error::NotFound) } else { Ok(entries) }
    }
}

/// GPT partitions 1, 2 and so on with these files.
pub fn volumes(specs: &[Spec]) -> Volumes {
    let mut data: Vec<u8> = alloc::vec![0; 4096];
    let mut all = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        let mut tree = Tree { uuid: spec.uuid.to_string(), label: spec.label.to_string(), files: BTreeMap::new() };
        for (path, content) in spec.files {
            tree.files.insert((*path).to_string(), (data.len() as u64, content.len() as u64));
            data.extend_from_slice(content);
            data.resize(data.len().next_multiple_of(4096), 0);
        }
        let kind = PartitionKind::Gpt(if spec.esp { ESP } else { [1; 16] });
        let partition = Partition { number: index as u32 + 1, kind, uuid: [index as u8 + 1; 16], start: 0, bytes: 0 };
        all.push(Volume { partition, content: Content::Tree(tree) });
    }
    Volumes { disk: Rc::new(Disk::new(Box::new(Memory(data)))), all }
}

pub fn sample(files: &[(&str, &[u8])]) -> Volumes {
    volumes(&[Spec { uuid: "11111111-2222-3333-4444-555555555555", label: "root", esp: false, files }])
}

//! An ISO 9660 file system (ECMA-119), with names as they are for those who read Rock Ridge (IEEE P1282) or Joliet.
//!
//! Two trees of directories share the files: the primary one, with names of its own narrow alphabet and the true ones in
//! Rock Ridge entries, and Joliet's with names in UCS-2. Everything is laid out before a byte is written:
//!
//! ```text
//! sector 0..16  nothing        19..  path tables: primary, Joliet, each little and big endian
//! 16            primary              directories of the primary tree, in the order of its path table
//! 17            Joliet               directories of Joliet's tree
//! 18            end of these         files, in the order of their paths
//! ```

use std::{
    collections::{BTreeMap, HashSet},
    io,
};

use time::OffsetDateTime;

const SECTOR: usize = 2048;
const FIRST_TABLE: u32 = 19;
/// Directories, the root among them, from the top to a file: the standard has no more.
const MOST_LEVELS: usize = 8;
/// In UCS-2 units, and what Joliet has room for.
const LONGEST_NAME: usize = 64;
/// An identifier of the primary tree, without its version.
const LONGEST_IDENTIFIER: usize = 30;
const LONGEST_EXTENSION: usize = 8;
const VERSION: &[u8] = b";1";
/// Joliet, level 3: UCS-2.
const JOLIET: &[u8] = b"%/E";
const MAKER: &str = "SOLOSTACK";

/// The image with these files, by their paths; `now` is the time of everything in it.
pub(super) fn write(files: &BTreeMap<String, Vec<u8>>, label: &str, now: OffsetDateTime) -> io::Result<Vec<u8>> {
    let tree = Tree::of(files)?;
    let mut free = FIRST_TABLE;
    let mut primary = Layout::new(&tree, Names::Primary);
    let mut joliet = Layout::new(&tree, Names::Joliet);
    for layout in [&mut primary, &mut joliet] {
        layout.tables = [take(&mut free, layout.table_bytes())?, take(&mut free, layout.table_bytes())?];
    }
    for layout in [&mut primary, &mut joliet] {
        for directory in layout.order.clone() {
            layout.places[directory] = Some(take(&mut free, layout.directory_bytes(&tree, directory))?);
        }
    }
    let mut contents = vec![0; tree.nodes.len()];
    for (index, node) in tree.nodes.iter().enumerate() {
        if let Some(content) = node.content {
            contents[index] = take(&mut free, content.len())?;
        }
    }

    // Whole pages, for hosts that read a disk by them.
    let sectors = free.next_multiple_of(2);
    let mut image = vec![0_u8; sectors as usize * SECTOR];
    put(&mut image, 16, &primary.descriptor(&tree, label, now, sectors)?);
    put(&mut image, 17, &joliet.descriptor(&tree, label, now, sectors)?);
    put(&mut image, 18, b"\xffCD001\x01");
    for layout in [&primary, &joliet] {
        put(&mut image, layout.tables[0], &layout.table(&tree, u32::to_le_bytes, u16::to_le_bytes)?);
        put(&mut image, layout.tables[1], &layout.table(&tree, u32::to_be_bytes, u16::to_be_bytes)?);
        for &directory in &layout.order {
            put(&mut image, layout.place(directory), &layout.directory(&tree, directory, &contents, now)?);
        }
    }
    for (node, place) in tree.nodes.iter().zip(contents) {
        put(&mut image, place, node.content.unwrap_or_default());
    }
    Ok(image)
}

/// The next free sector, and as many as this needs are no longer free. What is empty has a place, too.
fn take(free: &mut u32, bytes: usize) -> io::Result<u32> {
    let place = *free;
    let sectors = number(bytes.div_ceil(SECTOR).max(1))?;
    *free = free.checked_add(sectors).ok_or_else(|| invalid("more than ISO 9660 has room for"))?;
    Ok(place)
}

fn put(image: &mut [u8], sector: u32, bytes: &[u8]) {
    let at = sector as usize * SECTOR;
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

fn number(count: usize) -> io::Result<u32> {
    u32::try_from(count).map_err(|_| invalid("more than ISO 9660 can count"))
}

// -- what is in it -----------------------------------------------------------------------------------------------------
struct Node<'a> {
    name: &'a str,
    parent: usize,
    children: Vec<usize>,
    /// None of a directory.
    content: Option<&'a [u8]>,
}

/// The root is the first node, and its own parent.
struct Tree<'a> {
    nodes: Vec<Node<'a>>,
}

impl<'a> Tree<'a> {
    fn of(files: &'a BTreeMap<String, Vec<u8>>) -> io::Result<Self> {
        let mut tree = Self { nodes: vec![Node { name: "", parent: 0, children: Vec::new(), content: None }] };
        for (path, content) in files {
            let parts: Vec<&str> = path.split('/').collect();
            if parts.len() > MOST_LEVELS {
                return Err(invalid("a path with more directories than ISO 9660 has levels"));
            }
            let mut at = 0;
            for (depth, name) in parts.iter().enumerate() {
                let content = (depth + 1 == parts.len()).then_some(content.as_slice());
                at = tree.child(at, name, content)?;
            }
        }
        Ok(tree)
    }

    fn child(&mut self, parent: usize, name: &'a str, content: Option<&'a [u8]>) -> io::Result<usize> {
        let odd = |c: char| c.is_control() || "*/:;?\\".contains(c);
        let versioned = name.encode_utf16().count() + if content.is_some() { VERSION.len() } else { 0 };
        if matches!(name, "" | "." | "..") || versioned > LONGEST_NAME || name.len() > 100 || name.contains(odd) {
            return Err(invalid("a name that Joliet has no room or no letters for"));
        }
        let there = self.nodes[parent].children.iter().copied().find(|child| self.nodes[*child].name == name);
        match there {
            Some(child) if self.nodes[child].content.is_none() && content.is_none() => Ok(child),
            Some(_) => Err(invalid("one name for a file and a directory")),
            None => {
                let child = self.nodes.len();
                self.nodes.push(Node { name, parent, children: Vec::new(), content });
                self.nodes[parent].children.push(child);
                Ok(child)
            }
        }
    }
}

// -- one of its two trees of directories -------------------------------------------------------------------------------
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    Primary,
    Joliet,
}

struct Layout {
    names: Names,
    /// What each node is called.
    identifiers: Vec<Vec<u8>>,
    /// The children of each node, as a directory lists them.
    children: Vec<Vec<usize>>,
    /// Directories, level by level: their place here and one is their number.
    order: Vec<usize>,
    /// Where each directory is; decided once all are known.
    places: Vec<Option<u32>>,
    /// Where its path table is, little and big endian.
    tables: [u32; 2],
}

impl Layout {
    fn new(tree: &Tree<'_>, names: Names) -> Self {
        let mut identifiers = vec![Vec::new(); tree.nodes.len()];
        identifiers[0] = vec![0];
        let mut children: Vec<Vec<usize>> = tree.nodes.iter().map(|node| node.children.clone()).collect();
        for children in &mut children {
            let mut taken = HashSet::new();
            for &child in children.iter() {
                let node = &tree.nodes[child];
                identifiers[child] = match names {
                    Names::Primary => narrow(node.name, node.content.is_some(), &mut taken),
                    Names::Joliet => wide(node.name, node.content.is_some()),
                };
            }
            children.sort_by(|a, b| identifiers[*a].cmp(&identifiers[*b]));
        }
        let mut order = vec![0];
        let mut next = 0;
        while let Some(&directory) = order.get(next) {
            order.extend(children[directory].iter().filter(|child| tree.nodes[**child].content.is_none()));
            next += 1;
        }
        Self { names, identifiers, children, order, places: vec![None; tree.nodes.len()], tables: [0; 2] }
    }

    fn place(&self, directory: usize) -> u32 {
        self.places[directory].unwrap_or_default()
    }

    fn table_bytes(&self) -> usize {
        self.order.iter().map(|directory| 8 + self.identifiers[*directory].len().next_multiple_of(2)).sum()
    }

    fn table(&self, tree: &Tree<'_>, u32_of: fn(u32) -> [u8; 4], u16_of: fn(u16) -> [u8; 2]) -> io::Result<Vec<u8>> {
        let mut table = Vec::new();
        for &directory in &self.order {
            let identifier = &self.identifiers[directory];
            let parent = self.order.iter().position(|one| *one == tree.nodes[directory].parent).unwrap_or_default() + 1;
            let parent = u16::try_from(parent).map_err(|_| invalid("more directories than ISO 9660 can count"))?;
            table.extend([identifier.len() as u8, 0]);
            table.extend(u32_of(self.place(directory)));
            table.extend(u16_of(parent));
            table.extend(identifier);
            pad_to_even(&mut table);
        }
        Ok(table)
    }

    /// How large a directory is, in whole sectors: no record lies in two of them.
    fn directory_bytes(&self, tree: &Tree<'_>, directory: usize) -> usize {
        let mut bytes = 0;
        for length in self.records(tree, directory).map(|(identifier, extra, _)| record_bytes(&identifier, &extra)) {
            if bytes % SECTOR + length > SECTOR {
                bytes = bytes.next_multiple_of(SECTOR);
            }
            bytes += length;
        }
        bytes.next_multiple_of(SECTOR)
    }

    fn directory(
        &self,
        tree: &Tree<'_>,
        directory: usize,
        contents: &[u32],
        now: OffsetDateTime,
    ) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for (identifier, extra, node) in self.records(tree, directory) {
            let record = self.record(tree, &identifier, &extra, node, contents, now)?;
            if bytes.len() % SECTOR + record.len() > SECTOR {
                bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
            }
            bytes.extend(record);
        }
        Ok(bytes)
    }

    /// Identifier, system use area and node of everything that a directory lists: itself, its parent, what is in it.
    fn records<'a>(
        &'a self,
        tree: &'a Tree<'_>,
        directory: usize,
    ) -> impl Iterator<Item = (Vec<u8>, Vec<u8>, usize)> + 'a {
        let extra = move |node: usize, name: Option<&str>, first: bool| match self.names {
            Names::Primary => rock_ridge(&tree.nodes[node], name, first),
            Names::Joliet => Vec::new(),
        };
        let parent = tree.nodes[directory].parent;
        let own = [
            (vec![0], extra(directory, None, directory == 0), directory),
            (vec![1], extra(parent, None, false), parent),
        ];
        let children = self.children[directory].iter().map(move |&child| {
            (self.identifiers[child].clone(), extra(child, Some(tree.nodes[child].name), false), child)
        });
        own.into_iter().chain(children)
    }

    fn record(
        &self,
        tree: &Tree<'_>,
        identifier: &[u8],
        extra: &[u8],
        node: usize,
        contents: &[u32],
        now: OffsetDateTime,
    ) -> io::Result<Vec<u8>> {
        let (place, size, flags) = match tree.nodes[node].content {
            Some(content) => (contents[node], content.len(), 0),
            None => (self.place(node), self.directory_bytes(tree, node), 2),
        };
        let length = u8::try_from(record_bytes(identifier, extra)).map_err(|_| invalid("a record that is too long"))?;
        let mut record = vec![length, 0];
        record.extend(both_u32(place));
        record.extend(both_u32(number(size)?));
        record.extend(short_time(now));
        record.extend([flags, 0, 0]);
        record.extend(both_u16(1));
        record.push(identifier.len() as u8);
        record.extend(identifier);
        pad_to_even(&mut record);
        record.extend(extra);
        pad_to_even(&mut record);
        Ok(record)
    }

    fn descriptor(&self, tree: &Tree<'_>, label: &str, now: OffsetDateTime, sectors: u32) -> io::Result<Vec<u8>> {
        let joliet = self.names == Names::Joliet;
        let mut bytes = Vec::with_capacity(SECTOR);
        bytes.push(if joliet { 2 } else { 1 });
        bytes.extend(b"CD001\x01\0");
        let text = |bytes: &mut Vec<u8>, text: &str, length: usize| bytes.extend(self.padded(text, length));
        text(&mut bytes, "LINUX", 32);
        text(&mut bytes, label, 32);
        bytes.extend([0; 8]);
        bytes.extend(both_u32(sectors));
        bytes.extend(if joliet { JOLIET } else { &[] });
        bytes.resize(120, 0);
        bytes.extend(both_u16(1));
        bytes.extend(both_u16(1));
        bytes.extend(both_u16(SECTOR as u16));
        bytes.extend(both_u32(number(self.table_bytes())?));
        bytes.extend(self.tables[0].to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.tables[1].to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.record(tree, &[0], &[], 0, &[], now)?);
        text(&mut bytes, "", 128);
        text(&mut bytes, MAKER, 128);
        text(&mut bytes, MAKER, 128);
        text(&mut bytes, MAKER, 128);
        for _ in ["copyright", "abstract", "bibliography"] {
            text(&mut bytes, "", 37);
        }
        let made = long_time(now);
        bytes.extend(&made);
        bytes.extend(&made);
        let never = [[b'0'; 16].as_slice(), &[0]].concat();
        bytes.extend(&never);
        bytes.extend(&never);
        bytes.push(1);
        bytes.resize(SECTOR, 0);
        Ok(bytes)
    }

    fn padded(&self, text: &str, length: usize) -> Vec<u8> {
        let (mut bytes, space): (Vec<u8>, &[u8]) = match self.names {
            Names::Primary => (text.bytes().collect(), b" "),
            Names::Joliet => (ucs2(text), b"\0 "),
        };
        while bytes.len() + space.len() <= length {
            bytes.extend(space);
        }
        bytes.resize(length, 0);
        bytes
    }
}

// -- names -------------------------------------------------------------------------------------------------------------
/// A name in the letters that the primary tree has, unlike any other of its directory.
fn narrow(name: &str, is_file: bool, taken: &mut HashSet<Vec<u8>>) -> Vec<u8> {
    let letters = |text: &str| -> String {
        let narrow = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        text.chars().map(narrow).collect()
    };
    let (stem, extension) = match name.rsplit_once('.') {
        Some((stem, extension)) if is_file => (letters(stem), letters(extension)),
        _ => (letters(name), String::new()),
    };
    let extension = &extension[..extension.len().min(LONGEST_EXTENSION)];
    for count in 0_u32.. {
        let suffix = if count == 0 { String::new() } else { count.to_string() };
        let room = LONGEST_IDENTIFIER - extension.len() - suffix.len();
        let stem = &stem[..stem.len().min(room)];
        let mut identifier = format!("{stem}{suffix}").into_bytes();
        if is_file {
            identifier.extend(format!(".{extension}").bytes());
            identifier.extend(VERSION);
        }
        if taken.insert(identifier.clone()) {
            return identifier;
        }
    }
    Vec::new()
}

fn wide(name: &str, is_file: bool) -> Vec<u8> {
    let mut identifier = ucs2(name);
    if is_file {
        identifier.extend(VERSION.iter().flat_map(|byte| [0, *byte]));
    }
    identifier
}

fn ucs2(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// What Rock Ridge says of one record: readable by everybody, root's, and its name. The very first says that it is there.
fn rock_ridge(node: &Node<'_>, name: Option<&str>, first: bool) -> Vec<u8> {
    let mut extra = Vec::new();
    if first {
        extra.extend(b"SP\x07\x01\xbe\xef\0");
    }
    extra.extend(b"RR\x05\x01");
    extra.push(if name.is_some() { 0x09 } else { 0x01 });
    let (mode, links) = match node.content {
        Some(_) => (0o100_444, 1),
        None => (0o040_555, 2),
    };
    extra.extend(b"PX\x24\x01");
    for value in [mode, links, 0, 0] {
        extra.extend(both_u32(value));
    }
    if let Some(name) = name {
        extra.extend(b"NM");
        extra.extend([5 + name.len() as u8, 1, 0]);
        extra.extend(name.bytes());
    }
    if first {
        extra.extend(b"ER\x12\x01\x0a\0\0\x01RRIP_1991A");
    }
    extra
}

// -- numbers and times -------------------------------------------------------------------------------------------------
fn record_bytes(identifier: &[u8], extra: &[u8]) -> usize {
    (33 + identifier.len()).next_multiple_of(2) + extra.len().next_multiple_of(2)
}

fn pad_to_even(bytes: &mut Vec<u8>) {
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
}

fn both_u32(value: u32) -> impl Iterator<Item = u8> {
    value.to_le_bytes().into_iter().chain(value.to_be_bytes())
}

fn both_u16(value: u16) -> impl Iterator<Item = u8> {
    value.to_le_bytes().into_iter().chain(value.to_be_bytes())
}

fn short_time(at: OffsetDateTime) -> [u8; 7] {
    let at = at.to_offset(time::UtcOffset::UTC);
    let year = u8::try_from(at.year() - 1900).unwrap_or_default();
    [year, u8::from(at.month()), at.day(), at.hour(), at.minute(), at.second(), 0]
}

fn long_time(at: OffsetDateTime) -> Vec<u8> {
    let at = at.to_offset(time::UtcOffset::UTC);
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let mut text =
        format!("{year:04}{month:02}{day:02}{:02}{:02}{:02}00", at.hour(), at.minute(), at.second()).into_bytes();
    text.push(0);
    text
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, path::Path, process::Command};

    use time::macros::datetime;

    use super::*;

    fn samples() -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for version in ["2012-08-10", "2013-04-04", "latest"] {
            files.insert(
                format!("openstack/{version}/meta_data.json"),
                format!("{{\"of\": \"{version}\"}}").into_bytes(),
            );
            files.insert(format!("openstack/{version}/vendor_data2.json"), b"{}".to_vec());
        }
        files.insert("openstack/latest/user_data".to_owned(), (0..70_000_u32).map(|n| (n % 251) as u8).collect());
        files.insert("openstack/latest/empty".to_owned(), Vec::new());
        files.insert("ec2/latest/user-data".to_owned(), vec![9; SECTOR]);
        files.insert("openstack/latest/Fünf ÄÖ.tar.gz".to_owned(), b"not ASCII".to_vec());
        files.insert("openstack/latest/fünf äö.tar.gz".to_owned(), b"differs in case".to_vec());
        // More than a sector of records.
        for n in 0..60 {
            files.insert(format!("openstack/content/{n:04}-{}", "x".repeat(40)), format!("{n}").into_bytes());
        }
        files
    }

    fn image_of(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
        write(files, "config-2", datetime!(2026-11-23 05:04:03 UTC)).unwrap()
    }

    /// Every file below `folder`, by its path. Directories are made ones that can be removed again.
    fn found(folder: &Path, at: &str, files: &mut BTreeMap<String, Vec<u8>>) {
        std::fs::set_permissions(folder.join(at), std::fs::Permissions::from_mode(0o700)).unwrap();
        for entry in std::fs::read_dir(folder.join(at)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let path = if at.is_empty() { name } else { format!("{at}/{name}") };
            if entry.file_type().unwrap().is_dir() {
                found(folder, &path, files);
            } else {
                files.insert(path, std::fs::read(entry.path()).unwrap());
            }
        }
    }

    /// What xorriso finds in the image, reading it in its own way.
    fn read_by_xorriso(image: &Path, how: &[&str]) -> BTreeMap<String, Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let done = Command::new("xorriso")
            .args(["-abort_on", "SORRY", "-osirrox", "on"])
            .args(how)
            .arg("-indev")
            .arg(image)
            .args(["-extract", "/"])
            .arg(folder.path().join("all"))
            .output()
            .expect("xorriso is needed: install xorriso");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{said}");
        assert!(!said.contains("WARNING"), "{said}");
        assert!(said.contains("Volume id    : 'config-2'"), "{said}");
        let mut files = BTreeMap::new();
        found(&folder.path().join("all"), "", &mut files);
        files
    }

    #[test]
    fn others_find_the_very_files_by_either_kind_of_names() {
        let files = samples();
        let image = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(image.path(), image_of(&files)).unwrap();
        for how in [["-read_fs", "norock"], ["-read_fs", "nojoliet"]] {
            let read = read_by_xorriso(image.path(), &how);
            assert_eq!(read.keys().collect::<Vec<_>>(), files.keys().collect::<Vec<_>>(), "{how:?}");
            assert_eq!(read, files, "{how:?}");
        }
    }

    #[test]
    fn plain_names_are_of_their_own_alphabet_and_differ() {
        let mut taken = HashSet::new();
        let mut narrow = |name: &str, is_file| String::from_utf8(narrow(name, is_file, &mut taken)).unwrap();
        assert_eq!(narrow("meta_data.json", true), "META_DATA.JSON;1");
        assert_eq!(narrow("META-data.json", true), "META_DATA1.JSON;1");
        assert_eq!(narrow("user_data", true), "USER_DATA.;1");
        assert_eq!(narrow("2012-08-10", false), "2012_08_10");
        assert_eq!(narrow("fünf.tar.gz", true), "F_NF_TAR.GZ;1");
        assert_eq!(narrow(&"x".repeat(60), true).len(), LONGEST_IDENTIFIER + 1 + VERSION.len());
        assert_eq!(narrow(&format!("{}z", "x".repeat(60)), true), format!("{}1.;1", "X".repeat(29)));
    }

    #[test]
    fn an_image_is_the_same_each_time_and_no_longer_than_it_says() {
        let image = image_of(&samples());
        assert_eq!(image, image_of(&samples()));
        assert_eq!(&image[16 * SECTOR..16 * SECTOR + 6], b"\x01CD001");
        let sectors = u32::from_le_bytes(image[16 * SECTOR + 80..16 * SECTOR + 84].try_into().unwrap());
        assert_eq!(image.len(), sectors as usize * SECTOR);
    }

    #[test]
    fn an_image_of_nothing_has_a_root() {
        let image = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(image.path(), image_of(&BTreeMap::new())).unwrap();
        assert!(read_by_xorriso(image.path(), &[]).is_empty());
    }

    #[test]
    fn names_that_no_image_can_have_are_refused() {
        for path in ["", "/a", "a//b", "a/../b", "a;1", "a:b", "a\\b", "a\nb", "1/2/3/4/5/6/7/8/9", &"x".repeat(63)] {
            let files = BTreeMap::from([(path.to_owned(), Vec::new())]);
            assert!(write(&files, "config-2", OffsetDateTime::UNIX_EPOCH).is_err(), "{path:?}");
        }
        let files = BTreeMap::from([("a".to_owned(), Vec::new()), ("a/b".to_owned(), Vec::new())]);
        assert!(write(&files, "config-2", OffsetDateTime::UNIX_EPOCH).is_err());
    }
}

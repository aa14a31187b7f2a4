//! The copy itself.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::disks::{Disk, Disks};
use crate::backup::hashing::Hashing;
use crate::files::{About as _, Result, refused};
use crate::points::Points;
use crate::update::gpt::{self, Partition, Table};
use crate::update::{At, hash_at};

const CHUNK: usize = 1 << 20;
const SECTOR: u64 = 512;
/// In front of the first partition: the first sector, the table, and on a medium the file system of a CD.
const FRONT: u64 = 1 << 20;
/// Room for the second table.
const END: u64 = 1 << 20;
/// Code in the first sector, which the table that old tools see follows.
const CODE: usize = 440;

/// What is copied from where.
#[derive(Debug)]
pub struct Plan {
    pub source: PathBuf,
    pub version: String,
    parts: Vec<Partition>,
}

impl Plan {
    /// From the disk that runs. `versions` are those on its EFI partition.
    ///
    /// # Errors
    /// When it is not such a medium.
    pub fn new(source: &Path, version: &str, versions: &[String]) -> Result<Self> {
        if versions != [version] {
            return refused(format!(
                "this medium has other versions on it than the one that runs ({}): start from one that was just written",
                versions.join(", ")
            ));
        }
        let file = File::open(source).about(source, "cannot be opened")?;
        let found = Table::read(&file).and_then(|table| table.partitions());
        let found = found.about(source, "has no partition table that can be read")?;
        let name = format!("solostack_{version}");
        let of = |kind, name: Option<&str>| {
            let fits = |part: &&Partition| part.kind == kind && name.is_none_or(|name| part.name == name);
            found.iter().find(fits).cloned()
        };
        let parts =
            [of(gpt::ESP, None), of(gpt::BIOS, None), of(gpt::ROOT, Some(&name)), of(gpt::ROOT_VERITY, Some(&name))];
        let mut parts: Vec<Partition> = match parts.into_iter().collect() {
            Some(parts) => parts,
            None => return refused(format!("{} has not the partitions of an image", source.display())),
        };
        parts.sort_by_key(|part| part.start);
        if parts.first().is_some_and(|part| part.start < FRONT) {
            return refused(format!("{} is laid out differently than an image", source.display()));
        }
        Ok(Self { source: source.to_owned(), version: version.to_owned(), parts })
    }

    /// That will be copied.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.size).sum()
    }
}

/// Makes `disk` one that this version starts from. `progress` hears how many bytes are done.
///
/// # Errors
/// Why not. Nothing is started from the disk then, and it can be tried again.
pub fn install(plan: &Plan, disks: &Disks, disk: &Disk, points: &Points, progress: &mut dyn FnMut(u64)) -> Result<()> {
    let path = disks.dev.join(&disk.name);
    let mut target = disks.open(&disk.name, true)?;
    let size = target.seek(SeekFrom::End(0)).about(&path, "cannot be looked at")? / SECTOR * SECTOR;
    let end = plan.parts.last().map_or(0, |part| part.start + part.size);
    if size < super::BYTES_MIN || end + END > size {
        return refused(format!("{} is too small", disk.name));
    }
    let source = File::open(&plan.source).about(&plan.source, "cannot be opened")?;
    points.pass();
    // What was there must not start while what comes is not whole.
    wipe(&target, 0, FRONT).and_then(|()| wipe(&target, size - END, END)).about(&path, "cannot be written")?;
    points.pass();
    let mut done = 0;
    for part in &plan.parts {
        let mut reading = Hashing::new(At { disk: &source, at: part.start }.take(part.size));
        copy(&mut reading, &target, part.start, points, &mut |n| {
            done += n;
            progress(done);
        })
        .about(&path, "cannot be written, or the medium not read")?;
        if reading.count != part.size {
            return refused(format!("the medium ends within {}", part.name));
        }
        let hash = reading.finish();
        if hash_at(&target, part.start, part.size).about(&path, "cannot be read")? != hash {
            return refused(format!("{} reads differently than what was written: the disk is failing", disk.name));
        }
        points.pass();
    }
    let id = random_id(&path)?;
    let mut table = Table::create(size, id, &plan.parts).about(&path, "cannot have a partition table")?;
    table.write(&target, &|| points.pass()).about(&path, "cannot be written")?;
    let first = first_sector(&source, size).about(&plan.source, "cannot be read")?;
    target.write_all_at(&first, 0).and_then(|()| target.sync_all()).about(&path, "cannot be written")?;
    points.pass();
    Ok(())
}

fn wipe(target: &File, from: u64, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; CHUNK];
    for at in (from..from + bytes).step_by(CHUNK) {
        let left = usize::try_from(from + bytes - at).unwrap_or(CHUNK).min(CHUNK);
        target.write_all_at(zeros.get(..left).unwrap_or_default(), at)?;
    }
    target.sync_all()
}

fn copy(from: &mut dyn Read, to: &File, start: u64, points: &Points, wrote: &mut dyn FnMut(u64)) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut at = start;
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => return to.sync_all(),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all_at(buffer.get(..n).unwrap_or_default(), at)?;
        at += n as u64;
        wrote(n as u64);
        points.pass();
    }
}

fn random_id(path: &Path) -> Result<[u8; 16]> {
    let mut id = [0; 16];
    let random = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut id));
    random.about(path, "cannot have an id")?;
    // As a random one is marked.
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    Ok(id)
}

/// The code that BIOS starts, and the one partition that old tools see.
fn first_sector(source: &File, size: u64) -> io::Result<Vec<u8>> {
    let mut sector = vec![0; 512];
    source.read_exact_at(&mut sector, 0)?;
    sector.truncate(CODE);
    sector.resize(446, 0);
    let sectors = u32::try_from(size / SECTOR - 1).unwrap_or(u32::MAX);
    sector.extend([0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
    sector.extend(sectors.to_le_bytes());
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    Ok(sector)
}

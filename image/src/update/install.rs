//! Writes an update into the idle slot. Until the very last rename the machine starts what it started before.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::boot::Esp;
use super::gpt::{self, Partition, Table};
use super::record::{Record, State};
use super::release::{self, Kind, Part, PublicKey, Release, is_newer};
use crate::backup::hashing;
use crate::files::{self, About as _, Result, refused};
use crate::points::Points;

const EMPTY: &str = "_empty";
const CHUNK: usize = 1 << 20;

/// The machine that is updated.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The disk it was started from, or a file that looks like it.
    pub disk: PathBuf,
    pub esp: Esp,
    pub state: PathBuf,
    /// The version that runs.
    pub version: String,
    /// This start of it: [`super::boot_id`].
    pub boot: String,
    pub points: Points,
}

/// Where a version lies.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub root: Partition,
    pub verity: Partition,
}

/// The slot that runs, and the other.
fn slots(table: &Table, disk: &Path, running: &str) -> Result<(Slot, Slot)> {
    let partitions = table.partitions().about(disk, "has a table that makes no sense")?;
    let of = |kind| partitions.iter().filter(move |partition| partition.kind == kind).cloned();
    let mut pairs: Vec<Slot> =
        of(gpt::ROOT).zip(of(gpt::ROOT_VERITY)).map(|(root, verity)| Slot { root, verity }).collect();
    let name = format!("solostack_{running}");
    let at = pairs.iter().position(|slot| slot.root.name == name && slot.verity.name == name);
    match (at, pairs.len()) {
        (Some(at), 2) => {
            let runs = pairs.remove(at);
            Ok((runs, pairs.remove(0)))
        }
        (_, 0 | 1) => refused(format!(
            "{} has no second slot: this machine runs from a medium that is not updated",
            disk.display()
        )),
        _ => refused(format!("{} has no slot with the version that runs ({running})", disk.display())),
    }
}

/// What was installed, to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    pub release: Release,
    /// The name of the partition that it was written to before.
    pub replaced: String,
}

/// Says what an update is, after its signature was found good. Its parts are not looked at.
///
/// # Errors
/// Why it would not be installed.
pub fn look(from: &mut dyn Read, key: &PublicKey) -> Result<Release> {
    let mut found = None;
    // The first part ends the look.
    let ended = release::read(
        from,
        key,
        &mut |release| {
            found = Some(release.clone());
            refused("looked at")
        },
        &mut |_, _| Ok(()),
        &mut |_, _| Ok(()),
    );
    match (found, ended) {
        (Some(release), _) => Ok(release),
        (None, Err(error)) => Err(error),
        (None, Ok(release)) => Ok(release),
    }
}

/// Installs an update. `older` lets one in that is older than what runs.
///
/// # Errors
/// Why not. The version that runs is then what the machine starts, as before.
pub fn install(from: &mut dyn Read, key: &PublicKey, machine: &Machine, older: bool) -> Result<Installed> {
    let lock = machine.state.join(".update-lock");
    let lock_file =
        File::options().create(true).truncate(false).write(true).open(&lock).about(&lock, "cannot be opened")?;
    match lock_file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => return refused("another update is being installed"),
        Err(std::fs::TryLockError::Error(error)) => return Err(error).about(&lock, "cannot be locked"),
    }
    if let Some(record) = Record::read(&machine.state)?
        && record.state == State::Trying
        && record.version == machine.version
    {
        return refused(format!(
            "version {} has not proved itself yet: wait for that, or `solostack update confirm`",
            record.version
        ));
    }
    let disk = File::options().read(true).write(true).open(&machine.disk).about(&machine.disk, "cannot be opened")?;
    let points = &machine.points;
    let idle = std::cell::OnceCell::new();
    let mut replaced = String::new();
    let release = release::read(
        from,
        key,
        &mut |release| {
            fits(release, machine, older)?;
            let mut table = Table::read(&disk).about(&machine.disk, "cannot be updated")?;
            let (_, slot) = slots(&table, &machine.disk, &machine.version)?;
            for part in &release.parts {
                let room = match part.kind {
                    Kind::Root => slot.root.size,
                    Kind::Verity => slot.verity.size,
                    Kind::Grub | Kind::Uki => continue,
                };
                if part.size > room {
                    return refused(format!("{} has {} bytes, its slot has room for {room}", part.name, part.size));
                }
            }
            replaced.clone_from(&slot.root.name);
            // First nobody may start what is about to be written over.
            for entry in machine.esp.entries()?.iter().filter(|entry| entry.version != machine.version) {
                machine.esp.forget(&entry.version)?;
                points.pass();
            }
            machine.esp.forget(&release.version)?;
            table.rename(slot.root.index, EMPTY, None);
            table.rename(slot.verity.index, EMPTY, None);
            table.write(&disk, &|| points.pass()).about(&machine.disk, "cannot be written")?;
            let _ = idle.set(slot);
            Ok(())
        },
        &mut |part, bytes| {
            let Some(slot) = idle.get() else { return refused("there is no slot") };
            points.pass();
            match part.kind {
                Kind::Root => write_at(&disk, slot.root.start, bytes, points).about(&machine.disk, "cannot be written"),
                Kind::Verity => {
                    write_at(&disk, slot.verity.start, bytes, points).about(&machine.disk, "cannot be written")
                }
                Kind::Grub => {
                    let mut script = Vec::new();
                    bytes.take(CHUNK as u64).read_to_end(&mut script).about(&machine.disk, "cannot be read")?;
                    machine.esp.write_grub(&version_of(part), &script)
                }
                Kind::Uki => {
                    let path = machine.esp.partial(&version_of(part));
                    files::remove_file(&path)?;
                    let written = File::create_new(&path).and_then(|mut file| {
                        io::copy(bytes, &mut file)?;
                        file.sync_all()
                    });
                    if written.is_err() {
                        let _ = std::fs::remove_file(&path);
                    }
                    written.about(&path, "cannot be written")
                }
            }
        },
        // What was written is read again from where the next start will read it.
        &mut |part, hash| {
            points.pass();
            let Some(slot) = idle.get() else { return refused("there is no slot") };
            let found = match part.kind {
                Kind::Root => hash_at(&disk, slot.root.start, part.size).about(&machine.disk, "cannot be read")?,
                Kind::Verity => hash_at(&disk, slot.verity.start, part.size).about(&machine.disk, "cannot be read")?,
                Kind::Uki => {
                    let path = machine.esp.partial(&version_of(part));
                    File::open(&path).and_then(|file| hashing::hash(file, u64::MAX)).about(&path, "cannot be read")?.1
                }
                Kind::Grub => return Ok(()),
            };
            if found != hash {
                return refused(format!("{} reads differently than what was written: the disk is failing", part.name));
            }
            Ok(())
        },
    )?;
    let Some(slot) = idle.into_inner() else { return refused("there is no slot") };
    let [root, verity] = release.ids();
    let mut table = Table::read(&disk).about(&machine.disk, "cannot be updated")?;
    table.rename(slot.root.index, &release.name(), Some(root));
    table.rename(slot.verity.index, &release.name(), Some(verity));
    table.write(&disk, &|| points.pass()).about(&machine.disk, "cannot be written")?;
    let record = Record {
        state: State::Trying,
        version: release.version.clone(),
        from: machine.version.clone(),
        reason: None,
        at: db::Clock::default().now_text(),
        boot: machine.boot.clone(),
        servers: running_servers(&machine.state)?,
    };
    record.write(&machine.state)?;
    points.pass();
    machine.esp.try_out(&release.version)?;
    points.pass();
    Ok(Installed { release, replaced })
}

fn version_of(part: &Part) -> String {
    let stem = part.name.rsplit_once('.').map_or(part.name.as_str(), |(stem, _)| stem);
    stem.strip_prefix("solostack_").unwrap_or(stem).to_owned()
}

fn fits(release: &Release, machine: &Machine, older: bool) -> Result<()> {
    for part in &release.parts {
        if version_of(part) != release.version {
            return refused(format!("{} is not named as version {} should be", part.name, release.version));
        }
    }
    if release.version == machine.version {
        return refused(format!("version {} is what runs", release.version));
    }
    if !is_newer(&release.version, &machine.version) && !older {
        return refused(format!(
            "version {} is older than what runs ({}): --older installs it nevertheless",
            release.version, machine.version
        ));
    }
    let database = machine.state.join("solostack.db");
    if files::is_there(&database)? {
        let schema = db::snapshot::applied(&database)?.pop().unwrap_or_default();
        if release.schema < schema {
            return refused(format!(
                "version {} does not know this cloud's database ({schema}): it could not start; restore a backup of that version \
                 after a reset instead",
                release.version
            ));
        }
    }
    Ok(())
}

fn running_servers(state: &Path) -> Result<Vec<String>> {
    let folder = state.join("servers");
    let mut running = Vec::new();
    for id in files::names(&folder)? {
        if crate::backup::is_running(&folder.join(&id))? {
            running.push(id);
        }
    }
    Ok(running)
}

fn write_at(disk: &File, start: u64, bytes: &mut dyn Read, points: &Points) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut at = start;
    loop {
        let n = bytes.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        disk.write_all_at(buffer.get(..n).unwrap_or_default(), at)?;
        at += n as u64;
        points.pass();
    }
    disk.sync_all()
}

pub(crate) fn hash_at(disk: &File, start: u64, size: u64) -> io::Result<String> {
    // From the disk, not from memory, where the system does us the favour.
    let length = std::num::NonZeroU64::new(size);
    let _ = rustix::fs::fadvise(disk, start, length, rustix::fs::Advice::DontNeed);
    let (read, hash) = hashing::hash(At { disk, at: start }, size)?;
    if read == size { Ok(hash) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// A disk from a place on.
#[derive(Debug)]
pub(crate) struct At<'a> {
    pub disk: &'a File,
    pub at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.disk.read_at(buffer, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

//! The disks of this machine, and whether each may be overwritten.

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::BYTES_MIN;
use crate::files::{About as _, Result, refused};
use crate::text::plain;
use crate::update::At;
use crate::update::gpt::Table;

const SECTOR: u64 = 512;
/// Where file systems and tables have their signatures.
const FRONT: usize = 1 << 20;

/// What is on a disk now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holds {
    Nothing,
    /// Partitions, by name where they have one.
    Partitions(Vec<String>),
    /// Something without a partition table that is known here.
    Something,
}

impl Holds {
    /// In words for who decides about it.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Nothing => "empty".into(),
            Self::Partitions(names) if names.is_empty() => "has a partition table without partitions".into(),
            Self::Partitions(names) => format!("has partitions: {}", names.join(", ")),
            Self::Something => "has data without a partition table".into(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The kernel's name, as in `sda`.
    pub name: String,
    pub model: String,
    pub bytes: u64,
    pub holds: Holds,
    /// Why it is not taken.
    pub reason: Option<String>,
}

impl Disk {
    /// In one line, for who chooses.
    #[must_use]
    pub fn line(&self) -> String {
        let model = if self.model.is_empty() { "a disk" } else { &self.model };
        format!("{}: {model}, {} GB, {}", self.name, self.bytes / 1_000_000_000, self.holds.words())
    }
}

/// Where disks are found; tests have folders of their own.
#[derive(Clone, Debug)]
pub struct Disks {
    pub sys: PathBuf,
    pub dev: PathBuf,
    /// The disk that the system was started from.
    pub running: String,
}

impl Disks {
    /// Of this machine.
    ///
    /// # Errors
    /// When nobody knows what it was started from.
    pub fn this() -> Result<Self> {
        Ok(Self { sys: "/sys/block".into(), dev: "/dev".into(), running: crate::update::disk_of_root()? })
    }

    fn word(&self, name: &str, file: &str) -> String {
        let text = fs::read_to_string(self.sys.join(name).join(file)).unwrap_or_default();
        plain(text.trim()).chars().take(80).collect()
    }

    /// Every disk but the one that runs, those that cannot be taken too.
    ///
    /// # Errors
    /// When the kernel's list cannot be read.
    pub fn list(&self) -> Result<Vec<Disk>> {
        let names = crate::files::names(&self.sys)?;
        let disks = names.iter().filter(|name| **name != self.running && self.is_disk(name));
        disks.map(|name| self.look(name)).collect()
    }

    /// Devices without hardware of their own, CDs and floppies are none.
    fn is_disk(&self, name: &str) -> bool {
        let bytes = self.word(name, "size").parse::<u64>().unwrap_or(0);
        self.sys.join(name).join("device").exists() && !name.starts_with("sr") && !name.starts_with("fd") && bytes > 0
    }

    fn look(&self, name: &str) -> Result<Disk> {
        let path = self.dev.join(name);
        let bytes = self.word(name, "size").parse::<u64>().unwrap_or(0).saturating_mul(SECTOR);
        let mut disk = Disk {
            name: name.to_owned(),
            model: self.word(name, "device/model"),
            bytes,
            holds: Holds::Something,
            reason: None,
        };
        match holds(&path) {
            Ok(found) => disk.holds = found,
            Err(error) => disk.reason = Some(error.to_string()),
        }
        disk.reason = self.reason(name, bytes).or(disk.reason);
        Ok(disk)
    }

    fn reason(&self, name: &str, bytes: u64) -> Option<String> {
        if self.word(name, "ro") == "1" {
            return Some("it cannot be written to".into());
        }
        if bytes < BYTES_MIN {
            return Some(format!("it has {} GB, and {} are needed", bytes / 1_000_000_000, BYTES_MIN / 1_000_000_000));
        }
        let sector = self.word(name, "queue/logical_block_size");
        if !matches!(sector.as_str(), "" | "512") {
            return Some(format!("it has sectors of {sector} bytes, and the image is for 512"));
        }
        match self.open(name, false) {
            Err(error) => Some(error.to_string()),
            Ok(_) => None,
        }
    }

    /// The disk by its kernel's name or any path to it.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn find(&self, asked: &str) -> Result<Disk> {
        let path = if asked.contains('/') { PathBuf::from(asked) } else { self.dev.join(asked) };
        let path = fs::canonicalize(&path).about(&path, "is no disk of this machine")?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name == self.running {
            return refused(format!("{name} is what this machine runs from: it needs another disk"));
        }
        if path.parent() != Some(&fs::canonicalize(&self.dev).about(&self.dev, "cannot be looked at")?)
            || !self.sys.join(&name).exists()
        {
            return refused(format!("{asked} is no whole disk: `solostack install --list` shows them"));
        }
        if !self.is_disk(&name) {
            return refused(format!("{name} is no disk that a machine starts from"));
        }
        let disk = self.look(&name)?;
        match &disk.reason {
            Some(reason) => refused(format!("{name} is not taken: {reason}")),
            None => Ok(disk),
        }
    }

    /// The disk, for nobody else as long as this lives; refused if anything of it is mounted or in use otherwise.
    pub(super) fn open(&self, name: &str, writing: bool) -> Result<File> {
        let path = self.dev.join(name);
        let opened = OpenOptions::new().read(true).write(writing).custom_flags(libc::O_EXCL).open(&path);
        match opened {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                refused(format!("{name} is in use: it, or a partition of it, is mounted or part of something"))
            }
            opened => opened.about(&path, "cannot be opened"),
        }
    }
}

fn holds(path: &Path) -> Result<Holds> {
    let file = File::open(path).about(path, "cannot be opened")?;
    if let Ok(partitions) = Table::read(&file).and_then(|table| table.partitions()) {
        let name = |name: &str| if name.is_empty() { "one without a name".to_owned() } else { plain(name) };
        return Ok(Holds::Partitions(partitions.iter().map(|partition| name(&partition.name)).collect()));
    }
    let mut front = Vec::with_capacity(FRONT);
    At { disk: &file, at: 0 }.take(FRONT as u64).read_to_end(&mut front).about(path, "cannot be read")?;
    Ok(if front.len() == FRONT && front.iter().all(|byte| *byte == 0) { Holds::Nothing } else { Holds::Something })
}

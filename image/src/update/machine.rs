//! Which disk this machine was started from, and its EFI partition.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::boot::Esp;
use super::gpt::{ESP, Table};
use super::install::Machine;
use crate::files::{About as _, Result, refused};
use crate::points::Points;

/// Where the EFI partition is mounted, unless it is mounted already.
const MOUNT: &str = "/run/solostack/esp";

/// This machine, with its EFI partition mounted as long as this lives.
#[derive(Debug)]
pub struct Mounted {
    pub machine: Machine,
    mounted: bool,
}

impl Mounted {
    /// # Errors
    /// When this is no appliance, or its disk is not found.
    pub fn this(state: &Path) -> Result<Self> {
        if crate::version().is_some() && is_read_only(&disk_of_root()?) {
            return refused("this machine runs from a medium that is not updated: install it to a disk first");
        }
        Self::by(state, MsFlags::empty())
    }

    /// The same for who only looks: the medium may be one that cannot be written to.
    ///
    /// # Errors
    /// When this is no appliance, or its disk is not found.
    pub fn to_look(state: &Path) -> Result<Self> {
        Self::by(state, MsFlags::MS_RDONLY)
    }

    fn by(state: &Path, flags: MsFlags) -> Result<Self> {
        let Some(version) = crate::version() else {
            return refused("this is not the appliance: update the program as you installed it");
        };
        let name = disk_of_root()?;
        let disk = Path::new("/dev").join(&name);
        let (esp, mounted) = mount_esp(&name, &disk, flags)?;
        let machine = Machine {
            disk,
            esp: Esp::at(&esp),
            state: state.to_owned(),
            version,
            boot: super::boot_id(),
            points: Points::default(),
        };
        Ok(Self { machine, mounted })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.mounted {
            let _ = umount2(MOUNT, MntFlags::MNT_DETACH);
        }
    }
}

/// The name of the disk that the root lies on.
pub(crate) fn disk_of_root() -> Result<String> {
    let root = fs::metadata("/").about(Path::new("/"), "cannot be looked at")?.dev();
    let number = format!("{}:{}", nix::sys::stat::major(root), nix::sys::stat::minor(root));
    let device = Path::new("/sys/dev/block").join(number);
    let slaves = device.join("slaves");
    // The root is below dm-verity, which has the partition and that of its hashes below it.
    let lower = fs::read_dir(&slaves).ok().and_then(|mut entries| entries.find_map(|entry| Some(entry.ok()?.path())));
    let partition = fs::canonicalize(lower.unwrap_or(device));
    let disk = partition.ok().and_then(|path| Some(path.parent()?.file_name()?.to_str()?.to_owned()));
    match disk {
        Some(disk) if Path::new("/sys/block").join(&disk).exists() => Ok(disk),
        _ => refused(
            "the disk that this machine was started from is not found: it runs from a medium that is not updated",
        ),
    }
}

fn is_read_only(name: &str) -> bool {
    let said = fs::read_to_string(Path::new("/sys/block").join(name).join("ro"));
    said.is_ok_and(|text| text.trim() == "1")
}

fn mount_esp(name: &str, disk: &Path, flags: MsFlags) -> Result<(PathBuf, bool)> {
    let table =
        File::open(disk).and_then(|file| Table::read(&file)).about(disk, "has no partition table that can be read")?;
    let partitions = table.partitions().about(disk, "has no partition table that can be read")?;
    let Some(esp) = partitions.iter().find(|partition| partition.kind == ESP) else {
        return refused(format!(
            "{} has no EFI partition: this machine runs from a medium that is not updated",
            disk.display()
        ));
    };
    // The kernel counts in 512 bytes, whatever the disk does.
    let start = (esp.start / 512).to_string();
    let folder = Path::new("/sys/block").join(name);
    let node = fs::read_dir(&folder).about(&folder, "cannot be listed")?.flatten().find_map(|entry| {
        let found = fs::read_to_string(entry.path().join("start")).ok()?;
        (entry.path().join("partition").exists() && found.trim() == start).then(|| entry.file_name())
    });
    let Some(node) = node else {
        return refused(format!("the kernel does not know the EFI partition of {}", disk.display()));
    };
    let device = Path::new("/dev").join(node);
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let there = mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        (words.next() == device.to_str()).then(|| words.next().map(PathBuf::from))?
    });
    if let Some(there) = there {
        return Ok((there, false));
    }
    let target = Path::new(MOUNT);
    fs::create_dir_all(target).about(target, "cannot be made")?;
    let flags = flags | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some(&device), target, Some("vfat"), flags, Some("umask=0077,utf8"))
        .map_err(std::io::Error::from)
        .about(&device, "cannot be mounted")?;
    Ok((target.to_owned(), true))
}

//! A stick, a partition or a CD, mounted where nobody else sees it: in a mount namespace of this process, so that nothing is left
//! mounted however it ends.

use std::{
    fs,
    io::Read,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

use super::sources::MOST_BYTES;

/// What sticks, config drives and seeds are formatted with.
const KINDS: [&str; 2] = ["vfat", "iso9660"];

/// Something with files on it, to be read.
#[derive(Debug)]
pub(super) struct Medium {
    folder: PathBuf,
    mounted: bool,
}

impl Medium {
    /// `found` is a name below `/dev/disk/by-label`, or a folder in its place (tests; containers).
    pub(super) fn open(found: &Path, root: &Path) -> Result<Self, String> {
        let said = |error: &dyn std::fmt::Display| format!("{}: {error}", found.display());
        let device = fs::canonicalize(found).map_err(|error| said(&error))?;
        let kind = fs::metadata(&device).map_err(|error| said(&error))?.file_type();
        if kind.is_dir() {
            return Ok(Self { folder: device, mounted: false });
        }
        if !kind.is_block_device() {
            return Err(said(&"it is no block device"));
        }
        own_namespace().map_err(|error| said(&error))?;
        let folder = root.join("run/solostack/medium");
        fs::create_dir_all(&folder).map_err(|error| said(&error))?;
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        let none: Option<&str> = None;
        let mut last = nix::errno::Errno::ENODEV;
        for kind in KINDS {
            match mount(Some(&device), &folder, Some(kind), flags, none) {
                Ok(()) => return Ok(Self { folder, mounted: true }),
                Err(error) => last = error,
            }
        }
        Err(said(&format!("it is neither FAT nor ISO 9660 ({last})")))
    }

    /// A regular file of the medium itself.
    pub(super) fn file(&self, name: &str) -> Result<PathBuf, String> {
        let said = |error: &dyn std::fmt::Display| format!("{name}: {error}");
        let path = fs::canonicalize(self.folder.join(name)).map_err(|error| said(&error))?;
        let is_file = fs::metadata(&path).map_err(|error| said(&error))?.is_file();
        if !path.starts_with(&self.folder) || !is_file {
            return Err(said(&"it is no file of this medium"));
        }
        Ok(path)
    }

    /// The contents of a file; `None` where there is no such file.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        if fs::symlink_metadata(self.folder.join(name)).is_err() {
            return Ok(None);
        }
        let path = self.file(name)?;
        let mut bytes = Vec::new();
        let read = fs::File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes));
        read.map_err(|error| format!("{name}: {error}"))?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(format!("{name}: it is larger than 1 MiB"));
        }
        Ok(Some(bytes))
    }
}

impl Drop for Medium {
    fn drop(&mut self) {
        if self.mounted {
            let _ = umount2(&self.folder, MntFlags::MNT_DETACH);
        }
    }
}

/// Once for this process.
fn own_namespace() -> nix::Result<()> {
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
}

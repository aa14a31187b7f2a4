//! Files that survive a power cut, and errors that name the path.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Why something about the state of this machine was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} {what}: {source}", path.display())]
    File { path: PathBuf, what: &'static str, source: io::Error },
    #[error(transparent)]
    Database(#[from] db::Error),
    /// What a person did that cannot be done, with what to do instead.
    #[error("{0}")]
    Refused(String),
}

pub type Result<T> = std::result::Result<T, Error>;

/// Says which path an error of the system is about.
pub(crate) trait About<T> {
    fn about(self, path: &Path, what: &'static str) -> Result<T>;
}

impl<T> About<T> for io::Result<T> {
    fn about(self, path: &Path, what: &'static str) -> Result<T> {
        self.map_err(|source| Error::File { path: path.to_owned(), what, source })
    }
}

pub(crate) fn refused<T>(why: impl Into<String>) -> Result<T> {
    Err(Error::Refused(why.into()))
}

/// The folder that a path is in.
pub(crate) fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).about(path, "cannot be made durable")
}

/// A folder that nobody else can look into, and those above it.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).about(path, "cannot be made")
}

/// A new file that nobody else can read.
pub(crate) fn create_private(path: &Path) -> Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path).about(path, "cannot be made")
}

/// A temporary name beside `path`, told apart by the process.
pub(crate) fn partial(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    folder(path).join(format!(".{name}.partial-{}", std::process::id()))
}

/// The file is there whole or as it was, whatever happens, and still there after a power cut. Nobody else can read it.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, 0o600).about(path, "cannot be written")
}

/// As [`write_whole`], with a mode, in a folder that is made if need be.
pub(crate) fn write_durably(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder(path))?;
    replace(path, bytes, mode)
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let partial = partial(path);
    remove(&partial)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&partial)?;
    // What the process masks is not what was asked for.
    let written = file
        .set_permissions(Permissions::from_mode(mode))
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        let _ = fs::remove_file(&partial);
    }
    written?;
    File::open(folder(path))?.sync_all()
}

/// Gone, and gone after a power cut too; one that is not there is fine.
pub(crate) fn remove_durably(path: &Path) -> io::Result<()> {
    if remove(path)? { File::open(folder(path))?.sync_all() } else { Ok(()) }
}

/// Whether there was one.
fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        result => result.map(|()| true),
    }
}

/// Whether something is there; a broken link is something.
pub(crate) fn is_there(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).about(path, "cannot be looked at"),
    }
}

/// Removes a file; one that is not there is fine.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    remove(path).map(drop).about(path, "cannot be removed")
}

/// Removes whatever it is; what is not there is fine. Links are not followed.
pub(crate) fn remove_all(path: &Path) -> Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    let removed = if metadata.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).about(path, "cannot be removed"),
        _ => Ok(()),
    }
}

/// The names in a folder, sorted; none if there is no such folder.
pub(crate) fn names(path: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.about(path, "cannot be listed")?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.about(path, "cannot be listed")?.file_name();
        let Some(name) = name.to_str() else {
            return refused(format!("{}: its name is not UTF-8", path.join(name).display()));
        };
        names.push(name.to_owned());
    }
    names.sort();
    Ok(names)
}

/// Bytes that may still be written below `path`.
pub(crate) fn free_bytes(path: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(path).map_err(io::Error::from).about(path, "cannot be looked at")?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Exclusive use of a state directory: the very lock that `serve` holds.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub fn take(state: &Path) -> Result<Self> {
        DirBuilder::new().recursive(true).mode(0o711).create(state).about(state, "cannot be made")?;
        let path = state.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let file = file.about(&path, "cannot be opened")?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(fs::TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&path).unwrap_or_default();
                refused(format!(
                    "the cloud in {} is running (process {}): stop `solostack serve` first",
                    state.display(),
                    holder.trim()
                ))
            }
            Err(fs::TryLockError::Error(error)) => Err(error).about(&path, "cannot be locked"),
        }
    }
}

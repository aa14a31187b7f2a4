//! Makes a backup, while the cloud runs or not.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::hashing::{Hashing, hash};
use super::{CONFIG, DATABASE, DATABASE_FILE, FORMAT, MANIFEST, Manifest, Member, NAME_MAX, STATE, is_name};
use crate::files::{self, About as _, Error, Result, refused};
use crate::points::Points;

/// In the state directory: the database's copy and clones of disks, while a backup is made.
const FOLDER: &str = ".backup";
const DEPTH_MAX: usize = 4;
/// What is no data of a server: its lock, and the words of a process that is gone. Sockets are no files.
const NOT_OF_A_SERVER: [&str; 2] = ["lock", "vm.log"];

/// Makes `to`, an empty file, hold what `from` holds at one moment, or says that the file system cannot.
pub type Cloner = fn(from: &File, to: &File) -> io::Result<()>;

/// By shared blocks: writers wait while the kernel does it, so it is one moment.
fn reflink(from: &File, to: &File) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(to, from)?)
}

#[derive(Clone, Debug)]
pub struct Options {
    pub state: PathBuf,
    /// The configuration, if there is one.
    pub config: Option<PathBuf>,
    pub images: bool,
    pub disks: bool,
    /// Write over a backup of the same name.
    pub replace: bool,
    pub cloner: Cloner,
    pub points: Points,
}

impl Options {
    #[must_use]
    pub fn of(state: &Path) -> Self {
        Self {
            state: state.to_owned(),
            config: None,
            images: false,
            disks: false,
            replace: false,
            cloner: reflink,
            points: Points::default(),
        }
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    pub manifest: Manifest,
    /// Of the file; 0 for a stream.
    pub bytes: u64,
    /// Servers that ran: their disks are as after a power cut.
    pub running: Vec<String>,
}

/// A member that waits to be written.
struct Source {
    member: Member,
    path: PathBuf,
    file: File,
}

/// Writes a backup to `to`, or to the stream given instead.
///
/// # Errors
/// What cannot be read or written, with its path; nothing is left then.
pub fn create(options: &Options, to: Option<&Path>, stream: Option<&mut dyn Write>) -> Result<Created> {
    let database = options.state.join(DATABASE_FILE);
    if !files::is_there(&database)? {
        return refused(format!("there is no cloud in {}", options.state.display()));
    }
    if let Some(to) = to
        && files::is_there(to)?
        && !options.replace
    {
        return refused(format!("{} is there already: --replace writes over it", to.display()));
    }
    let scratch = Scratch::take(&options.state)?;
    let made = scratch.fill(options, &database).and_then(|(manifest, sources, running)| {
        let bytes = match (to, stream) {
            (Some(to), _) => write_file(to, &manifest, sources, &options.points)?,
            (None, Some(stream)) => write_to(stream, &manifest, sources, &options.points).map(|_| 0)?,
            (None, None) => return refused("there is nowhere to write the backup to"),
        };
        Ok(Created { manifest, bytes, running })
    });
    scratch.clear()?;
    made
}

/// The folder of one backup under way; what an earlier one left is removed.
struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    fn take(state: &Path) -> Result<Self> {
        let path = state.join(FOLDER);
        files::make_folder(&path)?;
        // Beside it: the folder's content is cleared.
        let lock = state.join(".backup-lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock);
        let file = file.about(&lock, "cannot be opened")?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return refused("another backup of this cloud is being made"),
            Err(fs::TryLockError::Error(error)) => return Err(error).about(&lock, "cannot be locked"),
        }
        let scratch = Self { path, _lock: file };
        scratch.clear()?;
        files::make_folder(&scratch.path)?;
        Ok(scratch)
    }

    fn clear(&self) -> Result<()> {
        files::remove_all(&self.path)
    }

    fn fill(&self, options: &Options, database: &Path) -> Result<(Manifest, Vec<Source>, Vec<String>)> {
        let state = &options.state;
        let mut sources = Vec::new();
        // Disks before the database: what the rows promise then is at least as new as what the disks hold.
        let known_servers = ids(&state.join("servers"))?;
        let known_images = ids(&state.join("images/data"))?;
        let mut running = Vec::new();
        if options.disks {
            for id in &known_servers {
                self.server(options, id, &mut sources, &mut running)?;
            }
        }
        options.points.pass();
        let copy = self.path.join(DATABASE_FILE);
        db::snapshot::copy(database, &copy)?;
        options.points.pass();
        let schema = db::snapshot::applied(&copy)?.pop().unwrap_or_default();
        let mut first = vec![open(&copy, DATABASE)?];
        for name in STATE {
            walk(&state.join(name), &format!("state/{name}"), 0, &mut first)?;
        }
        if let Some(config) = &options.config {
            first.push(open(config, CONFIG)?);
        }
        if options.images {
            for id in &known_images {
                let path = state.join("images/data").join(id);
                // Deleted since they were listed.
                if files::is_there(&path)? {
                    first.push(open(&path, &format!("images/{id}"))?);
                }
            }
        }
        first.append(&mut sources);
        let mut sources = first;
        for source in &mut sources {
            // A log grows while it is read: what counts is how long it was when it was opened.
            let (size, sha256) = hash(&source.file, source.member.size).about(&source.path, "cannot be read")?;
            if size != source.member.size {
                return refused(format!("{} became shorter while it was read", source.path.display()));
            }
            source.member.sha256 = sha256;
        }
        let manifest = Manifest {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            schema,
            made_at: db::Clock::default().now_text(),
            host: fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned(),
            images: options.images,
            disks: options.disks,
            known_images,
            known_servers,
            members: sources.iter().map(|source| source.member.clone()).collect(),
        };
        Ok((manifest, sources, running))
    }

    /// Every file of a server, each as it is at one moment.
    fn server(&self, options: &Options, id: &str, sources: &mut Vec<Source>, running: &mut Vec<String>) -> Result<()> {
        let folder = options.state.join("servers").join(id);
        let runs = is_running(&folder)?;
        let clones = self.path.join("servers").join(id);
        files::make_folder(&clones)?;
        for name in files::names(&folder)? {
            let path = folder.join(&name);
            let name_there = fs::symlink_metadata(&path);
            let Ok(metadata) = name_there else { continue };
            if !metadata.is_file() || NOT_OF_A_SERVER.contains(&name.as_str()) {
                continue;
            }
            let member = format!("servers/{id}/{name}");
            let source = open(&path, &member)?;
            let clone = clones.join(&name);
            let copy = files::create_private(&clone)?;
            match (options.cloner)(&source.file, &copy) {
                Ok(()) => {
                    let mut source = open(&clone, &member)?;
                    source.member.mode = metadata.permissions().mode() & 0o777;
                    sources.push(source);
                }
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    return Err(error).about(&path, "cannot be cloned");
                }
                // What nobody writes to is of one moment anyway; that nobody did is proved by reading it twice.
                Err(_) if !runs => {
                    files::remove_file(&clone)?;
                    sources.push(source);
                }
                Err(error) => {
                    return refused(format!(
                        "server {id} is running, and the file system of {} cannot copy its disk at one moment ({error}): shut the \
                         server off, or make the backup without --disks",
                        path.display()
                    ));
                }
            }
        }
        if runs {
            running.push(id.to_owned());
        }
        Ok(())
    }
}

/// Whether a process holds the lock of the server whose folder this is.
///
/// # Errors
/// When it cannot be looked at.
pub fn is_running(folder: &Path) -> Result<bool> {
    let path = folder.join("lock");
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file.about(&path, "cannot be opened")?,
    };
    match file.try_lock() {
        Ok(()) => Ok(false),
        Err(fs::TryLockError::WouldBlock) => Ok(true),
        Err(fs::TryLockError::Error(error)) => Err(error).about(&path, "cannot be locked"),
    }
}

/// Names that are ids; whatever else lies there is rubbish that is cleared away elsewhere.
fn ids(folder: &Path) -> Result<Vec<String>> {
    let mut names = files::names(folder)?;
    names.retain(|name| name.len() == 36 && name.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'));
    Ok(names)
}

fn walk(path: &Path, name: &str, depth: usize, sources: &mut Vec<Source>) -> Result<()> {
    // An operator may have put a link there: what it shows is what counts.
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !files::is_there(path)? => return Ok(()),
        metadata => metadata.about(path, "cannot be read")?,
    };
    if metadata.is_dir() {
        if depth == DEPTH_MAX {
            return refused(format!(
                "{} is too deep for a backup: folders in it may be linked in a circle",
                path.display()
            ));
        }
        for inner in files::names(path)? {
            // Files that are being written are replaced by whole ones in a moment.
            if inner.ends_with(".part") || inner.ends_with(".tmp") {
                continue;
            }
            walk(&path.join(&inner), &format!("{name}/{inner}"), depth + 1, sources)?;
        }
        return Ok(());
    }
    if !metadata.is_file() {
        return refused(format!("{} is no file, so it cannot be backed up", path.display()));
    }
    match open(path, name) {
        // Replaced while the folder was listed.
        Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        source => {
            sources.push(source?);
            Ok(())
        }
    }
}

fn open(path: &Path, name: &str) -> Result<Source> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.about(path, "cannot be read")?;
    let metadata = file.metadata().about(path, "cannot be read")?;
    if name.len() > NAME_MAX || !name.split('/').all(is_name) {
        return refused(format!("{}: its name is too long or too odd for a backup", path.display()));
    }
    let member = Member {
        name: name.to_owned(),
        size: metadata.len(),
        stored: metadata.blocks().saturating_mul(512).min(metadata.len()),
        sha256: String::new(),
        mode: metadata.permissions().mode() & 0o777,
    };
    Ok(Source { member, path: path.to_owned(), file })
}

fn write_file(to: &Path, manifest: &Manifest, sources: Vec<Source>, points: &Points) -> Result<u64> {
    let partial = files::partial(to);
    files::remove_file(&partial)?;
    let mut file = files::create_private(&partial)?;
    let written = write_to(&mut file, manifest, sources, points).and_then(|()| {
        file.sync_all().about(&partial, "cannot be written")?;
        let bytes = file.metadata().about(&partial, "cannot be read")?.len();
        points.pass();
        fs::rename(&partial, to).about(to, "cannot be written")?;
        files::sync_folder(files::folder(to))?;
        Ok(bytes)
    });
    if written.is_err() {
        let _ = fs::remove_file(&partial);
    }
    written
}

/// What the writing end says about itself.
const OUT: &str = "the backup";

fn write_to(out: &mut dyn Write, manifest: &Manifest, sources: Vec<Source>, points: &Points) -> Result<()> {
    let out_path = Path::new(OUT);
    let failed = "cannot be written";
    let mut encoder = zstd::stream::write::Encoder::new(out, 3).about(out_path, failed)?;
    encoder.include_checksum(true).about(out_path, failed)?;
    let mut tar = tar::Builder::new(encoder);
    let text = serde_json::to_vec(manifest).map_err(io::Error::other).about(out_path, failed)?;
    let header = header_of(MANIFEST, text.len() as u64, 0o600).about(out_path, failed)?;
    tar.append(&header, text.as_slice()).about(out_path, failed)?;
    for mut source in sources {
        let Member { name, size, sha256, mode, .. } = &source.member;
        source.file.rewind().about(&source.path, "cannot be read")?;
        let header = header_of(name, *size, *mode).about(&source.path, "has no place in an archive")?;
        let mut reading = Hashing::new((&source.file).take(*size));
        tar.append(&header, &mut reading).about(&source.path, "cannot be copied into the backup")?;
        if reading.count != *size || reading.finish() != *sha256 {
            return refused(format!(
                "{} changed while the backup was made: try again, or leave it out",
                source.path.display()
            ));
        }
        points.pass();
    }
    let encoder = tar.into_inner().about(out_path, failed)?;
    encoder.finish().and_then(Write::flush).about(out_path, failed)
}

fn header_of(name: &str, size: u64, mode: u32) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name)?;
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    Ok(header)
}

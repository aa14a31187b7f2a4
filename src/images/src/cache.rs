//! Raw copies of images, made once at first use, shared by everyone who waits for the same one, and kept within a bound.
//!
//! A copy is handed out as an open file: it stays whole for its user even if the cache drops its name meanwhile.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use disks::{Format, JailParams};
use tokio::sync::Mutex as AsyncMutex;

use crate::app::{Converter, Images};
use crate::files;
use crate::live::Guard;

/// Time on the clock for one conversion; the largest images we take convert in a few minutes.
const DEADLINE: Duration = Duration::from_secs(1800);
const CPU_SECONDS: u64 = 1800;

/// One lock per copy: the first to come makes it, the others find it.
#[derive(Debug, Default)]
pub struct Cache {
    locks: Mutex<HashMap<PathBuf, Arc<AsyncMutex<()>>>>,
    /// Images to be made ready before a server asks for them, in the order asked.
    queue: Mutex<Vec<String>>,
    turn: AsyncMutex<()>,
    /// Images that were asked for and are raw disks as they are: since when, in seconds since 1970.
    flat: Mutex<HashMap<String, f64>>,
    /// How often a copy was found, since the program started.
    hits: Mutex<HashMap<PathBuf, u64>>,
}

/// A raw copy that is there.
#[derive(Debug)]
pub struct Copy {
    pub path: PathBuf,
    pub image_id: String,
    /// What it takes of the disk.
    pub size_bytes: u64,
    pub hits: u64,
    /// Seconds since 1970.
    pub used_at: f64,
    pub made_at: f64,
}

/// A raw disk, open for reading.
#[derive(Debug)]
pub struct RawImage {
    pub path: PathBuf,
    pub file: File,
    /// Length of the disk.
    pub size_bytes: u64,
}

/// Why there is no raw copy.
#[derive(Debug, thiserror::Error)]
pub enum RawError {
    #[error("{0}")]
    Refused(String),
    #[error("there is not enough space on the disk for the image")]
    NoSpace,
    #[error("the image was deleted")]
    Gone,
    #[error("the image could not be converted to a raw disk")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> RawError {
    RawError::Failed(error.into())
}

impl Cache {
    fn queue(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn queued(&self) -> Vec<String> {
        self.queue().clone()
    }

    pub fn is_queued(&self, image_id: &str) -> bool {
        self.queue().iter().any(|id| id == image_id)
    }

    /// False when it was queued already.
    pub fn enqueue(&self, image_id: &str) -> bool {
        let mut queue = self.queue();
        let new = !queue.iter().any(|id| id == image_id);
        if new {
            queue.push(image_id.to_owned());
        }
        new
    }

    /// Whether it was queued.
    pub fn dequeue(&self, image_id: &str) -> bool {
        let mut queue = self.queue();
        let before = queue.len();
        queue.retain(|id| id != image_id);
        queue.len() < before
    }

    fn flat(&self) -> std::sync::MutexGuard<'_, HashMap<String, f64>> {
        self.flat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is ready as it is.
    pub fn mark_flat(&self, image_id: &str) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.flat().entry(image_id.to_owned()).or_insert(now.as_secs_f64());
    }

    /// Whether it was marked.
    pub fn forget_flat(&self, image_id: &str) -> bool {
        self.flat().remove(image_id).is_some()
    }

    pub fn forget_all_flat(&self) {
        self.flat().clear();
    }

    /// Those that are marked and still there, with their sizes.
    pub fn list_flat(&self, files: &files::Files) -> Vec<(String, u64, f64)> {
        let mut flat = self.flat();
        let size = |id: &String| fs::metadata(files.data(id)).map(|file| file.len());
        flat.retain(|id, _| size(id).is_ok());
        flat.iter().filter_map(|(id, at)| Some((id.clone(), size(id).ok()?, *at))).collect()
    }

    /// Held by the one queued image that is being made ready.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    fn found(&self, path: &Path) {
        let mut hits = self.hits.lock().unwrap_or_else(PoisonError::into_inner);
        // Copies that are gone are of no interest.
        if hits.len() > 10_000 {
            hits.retain(|path, _| path.exists());
        }
        *hits.entry(path.to_owned()).or_default() += 1;
    }

    fn hits_of(&self, path: &Path) -> u64 {
        self.hits.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied().unwrap_or(0)
    }

    fn lock_of(&self, path: &Path) -> Arc<AsyncMutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        // Locks that nobody holds any more are of no use.
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(locks.entry(path.to_owned()).or_default())
    }
}

/// The raw copy of an active image; made now if it is not there.
pub async fn raw(app: &Images, image_id: &str, format: Format, hash: &str) -> Result<RawImage, RawError> {
    if format.is_flat() {
        // What was uploaded is the disk already.
        return open(app.files().data(image_id)).await?.ok_or(RawError::Gone);
    }
    let path = app.files().cached(image_id, hash);
    let lock = app.cache().lock_of(&path);
    let _held = lock.lock().await;
    if let Some(found) = open(path.clone()).await? {
        app.cache().found(&path);
        return Ok(found);
    }
    // Whoever waits may give up; the work goes on and the next one finds it.
    let (app, id, wanted) = (app.clone(), image_id.to_owned(), path.clone());
    let guard = app.live().register(&id, &rest::new_uuid());
    tokio::task::spawn_blocking(move || {
        let made = make(&app, &id, format, &wanted, &guard);
        if let Err(error) = files::remove(&app.files().cache_temporary(&guard.work_id)) {
            tracing::warn!(image.id = id, %error, "a half-made raw copy stays for the reconciler");
        }
        drop(guard);
        // A new copy may have pushed the cache over its bound.
        app.wake();
        made
    })
    .await
    .map_err(failed)?
}

async fn open(path: PathBuf) -> Result<Option<RawImage>, RawError> {
    tokio::task::spawn_blocking(move || match File::open(&path) {
        Ok(file) => {
            // The time of the last use decides who goes first.
            if let Err(error) = file.set_modified(SystemTime::now()) {
                tracing::debug!(path = %path.display(), %error, "the time of use could not be set");
            }
            let size_bytes = file.metadata().map_err(failed)?.len();
            Ok(Some(RawImage { path, file, size_bytes }))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    })
    .await
    .map_err(failed)?
}

fn make(app: &Images, id: &str, format: Format, path: &Path, guard: &Guard) -> Result<RawImage, RawError> {
    let source = File::open(app.files().data(id)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => RawError::Gone,
        _ => failed(error),
    })?;
    let room = app.files().room_bytes(app.options().reserve_bytes).map_err(failed)?;
    let temporary = app.files().cache_temporary(&guard.work_id);
    let dest = files::create_private(&temporary).map_err(failed)?;
    let handle = dest.try_clone().map_err(failed)?;
    let mut limits = app.limits();
    limits.max_output_bytes = limits.max_output_bytes.min(room);
    let result = match &app.options().converter {
        Converter::Helper(program) => {
            let params = JailParams { format, limits, deadline: DEADLINE, cpu_seconds: CPU_SECONDS };
            disks::convert_in_jail(program, source, dest, &params, &guard.cancel.flag).map(|(made, jail)| {
                tracing::info!(image.id = id, bytes = made.written_bytes, ?jail, "converted an image to raw");
                made
            })
        }
        Converter::InProcess => disks::convert_to_raw(&source, format, &dest, &limits, &guard.cancel.flag),
    };
    let made = result.map_err(|error| match error {
        disks::Error::Refused(_)
            if room < app.limits().max_output_bytes
                && handle.metadata().is_ok_and(|meta| {
                    // Stopped by the space that was left, not by what the image is.
                    meta.blocks() * 512 + (64 << 20) > room
                }) =>
        {
            RawError::NoSpace
        }
        disks::Error::Refused(refused) => RawError::Refused(refused.reason),
        disks::Error::NoSpace => RawError::NoSpace,
        disks::Error::Cancelled => RawError::Gone,
        other => failed(other),
    })?;
    disks::persist(&handle, &temporary, path).map_err(failed)?;
    if guard.cancel.flag.load(std::sync::atomic::Ordering::Relaxed) {
        files::remove(path).map_err(failed)?;
        return Err(RawError::Gone);
    }
    Ok(RawImage { path: path.to_owned(), file: handle, size_bytes: made.virtual_size_bytes })
}

/// Drops copies, least recently used first, until the bound is kept.
pub fn shrink(directory: &Path, max_bytes: u64) -> io::Result<()> {
    let mut copies = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if entry.file_name().to_string_lossy().ends_with(".raw") {
            copies.push((meta.modified()?, meta.blocks() * 512, entry.path()));
        }
    }
    copies.sort();
    let mut total: u64 = copies.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, bytes, path) in copies {
        if total <= max_bytes {
            break;
        }
        files::remove(&path)?;
        total = total.saturating_sub(bytes);
        tracing::info!(path = %path.display(), bytes, "dropped the raw copy that was unused for longest");
    }
    Ok(())
}

/// Every raw copy, the most recently used first.
pub fn list(app: &Images) -> io::Result<Vec<Copy>> {
    let seconds =
        |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let mut copies = Vec::new();
    for entry in fs::read_dir(app.files().cache_directory())? {
        let entry = entry?;
        let name = entry.file_name();
        let Some((image_id, rest)) = name.to_str().and_then(|name| name.split_once('.')) else { continue };
        if !rest.ends_with(".raw") {
            continue;
        }
        let meta = match entry.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        let used_at = seconds(meta.modified()?);
        copies.push(Copy {
            image_id: image_id.to_owned(),
            size_bytes: meta.blocks() * 512,
            hits: app.cache().hits_of(&entry.path()),
            used_at,
            made_at: meta.created().map_or(used_at, seconds),
            path: entry.path(),
        });
    }
    copies.sort_by(|one, other| other.used_at.total_cmp(&one.used_at));
    Ok(copies)
}

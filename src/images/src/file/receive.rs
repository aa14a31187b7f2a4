//! A body on its way to a staging file: hashed while it streams, bounded, and gone again when anything goes wrong.
//!
//! Two threads of the blocking pool share the work, because MD5 and SHA-512 together take longer than the disk: one
//! writes and makes the MD5, the other makes the SHA-512 of the same buffers.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use disks::{Md5Hasher, Sha512Hasher};
use futures::StreamExt;
use rest::{Error, Kind, Result};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::spawn_blocking;

use crate::app::Images;
use crate::files;
use crate::image::model::Staged;
use crate::live::Guard;

/// A client that sends nothing for this long is cut off.
const IDLE: Duration = Duration::from_secs(60);
/// Pieces on their way to each thread.
const QUEUE: usize = 16;
/// Pieces of a slow connection are small: they are joined up to this size before a thread is woken.
const PIECE_BYTES: usize = 256 << 10;
/// How often the space that is left is looked at.
const ROOM_EVERY_BYTES: u64 = 64 << 20;

/// What bounds a transfer.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub max_bytes: u64,
    /// What the client announced, if it did.
    pub announced: Option<u64>,
}

/// A file that arrived whole and is durable. Dropping it without [`Received::keep`] removes it.
#[derive(Debug)]
pub struct Received {
    pub file: File,
    pub staged: Staged,
    cleanup: Cleanup,
}

impl Received {
    /// Hands the file over to the record that names it from now on.
    pub fn keep(&mut self) {
        self.cleanup.0 = None;
    }
}

/// Receives `body` into the staging file of `guard`'s transfer.
pub async fn receive(app: &Images, image_id: &str, guard: &Guard, body: Body, bounds: Bounds) -> Result<Received> {
    let room = app.files().room_bytes(app.options().reserve_bytes).map_err(Error::internal)?;
    if bounds.announced.is_some_and(|length| length > room) {
        return Err(full());
    }
    let path = app.files().staging(image_id, &guard.work_id);
    let file = files::create_private(&path).map_err(write_error)?;
    // From here on the file is removed unless it is handed over.
    let cleanup = Cleanup(Some(path));

    let (to_disk, disk_end) = channel::<Bytes>(QUEUE);
    let (to_hash, hash_end) = channel::<Bytes>(QUEUE);
    let disk = spawn_blocking(move || write_and_hash(file, disk_end));
    let hash = spawn_blocking(move || hash_only(hash_end));
    let fed = feed(app, guard, body, bounds, &to_disk, &to_hash).await;
    drop((to_disk, to_hash));
    // Both threads end once their queues are closed, whatever happened before.
    let (disk, hash) = (disk.await.map_err(Error::internal)?, hash.await.map_err(Error::internal)?);
    // A failed write is why feeding failed.
    let (file, checksum) = disk.map_err(write_error)?;
    let size_bytes = fed?;
    Ok(Received { file, staged: Staged { size_bytes, checksum, hash_value: hash }, cleanup })
}

async fn feed(
    app: &Images,
    guard: &Guard,
    body: Body,
    bounds: Bounds,
    to_disk: &Sender<Bytes>,
    to_hash: &Sender<Bytes>,
) -> Result<u64> {
    let mut stream = body.into_data_stream();
    let (mut size, mut next_look) = (0u64, ROOM_EVERY_BYTES);
    let mut pending = bytes::BytesMut::new();
    let cut_off = || Error::bad_request("The image data was cut off before its end.");
    loop {
        let piece = tokio::select! {
            piece = tokio::time::timeout(IDLE, stream.next()) => piece,
            () = guard.cancel.token.cancelled() => return Err(gone(None)),
        };
        let piece = match piece {
            Err(_) => return Err(Error::bad_request("The image data did not arrive in time.")),
            Ok(Some(Err(error))) => return Err(cut_off().caused_by(error)),
            Ok(Some(Ok(piece))) => Some(piece),
            Ok(None) => None,
        };
        let Some(piece) = piece else {
            if !pending.is_empty() {
                send(pending.freeze(), to_disk, to_hash).await?;
            }
            return Ok(size);
        };
        size += piece.len() as u64;
        if size > bounds.max_bytes {
            return Err(too_large(bounds.max_bytes));
        }
        if size >= next_look {
            next_look = size + ROOM_EVERY_BYTES;
            if app.files().room_bytes(app.options().reserve_bytes).map_err(Error::internal)? == 0 {
                return Err(full());
            }
        }
        if pending.is_empty() && piece.len() >= PIECE_BYTES {
            send(piece, to_disk, to_hash).await?;
            continue;
        }
        pending.extend_from_slice(&piece);
        if pending.len() >= PIECE_BYTES {
            let whole = std::mem::replace(&mut pending, bytes::BytesMut::with_capacity(PIECE_BYTES * 2));
            send(whole.freeze(), to_disk, to_hash).await?;
        }
    }
}

async fn send(piece: Bytes, to_disk: &Sender<Bytes>, to_hash: &Sender<Bytes>) -> Result<()> {
    let stopped = || Error::internal("the writer of an upload stopped");
    to_hash.send(piece.clone()).await.map_err(|_| stopped())?;
    to_disk.send(piece).await.map_err(|_| stopped())
}

fn write_and_hash(mut file: File, mut pieces: Receiver<Bytes>) -> std::io::Result<(File, String)> {
    let mut hasher = Md5Hasher::default();
    while let Some(piece) = pieces.blocking_recv() {
        file.write_all(&piece)?;
        hasher.update(&piece);
    }
    file.sync_all()?;
    Ok((file, hasher.finish()))
}

fn hash_only(mut pieces: Receiver<Bytes>) -> String {
    let mut hasher = Sha512Hasher::default();
    while let Some(piece) = pieces.blocking_recv() {
        hasher.update(&piece);
    }
    hasher.finish()
}

#[derive(Debug)]
struct Cleanup(Option<PathBuf>);

impl Drop for Cleanup {
    fn drop(&mut self) {
        if let Some(path) = &self.0
            && let Err(error) = files::remove(path)
        {
            tracing::warn!(path = %path.display(), %error, "a staged file stays for the reconciler");
        }
    }
}

pub fn too_large(max_bytes: u64) -> Error {
    Error::too_large(format!("Denying attempt to upload image larger than {max_bytes} bytes."))
}

/// Upstream's answer to a full store; its clients know it.
pub fn full() -> Error {
    Error::too_large("Image storage media is full: There is not enough disk space on the image storage media.")
}

pub fn gone(id: Option<&str>) -> Error {
    let name = id.map(|id| format!("Image {id}")).unwrap_or_else(|| "The image".to_owned());
    Error::new(
        Kind::Gone,
        format!("{name} could not be found after upload. The image may have been deleted during the upload."),
    )
}

pub fn write_error(error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => full().caused_by(error),
        std::io::ErrorKind::FileTooLarge => too_large(i64::MAX.unsigned_abs()).caused_by(error),
        _ => Error::internal(error),
    }
}

//! The guest's first serial line: into `console.log`, and to and from whoever is connected to `serial.sock`.
//!
//! The guest writes as fast as it can, and must never be able to fill memory or disk, nor be held up by a reader that is
//! slow: readers that fall behind miss something, the log keeps the newest bytes.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use vmspec::console::BoundedLog;

use crate::sockets::accepted;

const MOST_READERS: usize = 8;
const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks a reader may be behind.
const BEHIND: usize = 64;
/// How long a reader may take for one chunk.
const PATIENCE: Duration = Duration::from_secs(5);

/// Carry the serial line until its other end closes.
pub async fn carry(line: UnixStream, mut log: BoundedLog, listener: UnixListener) {
    let (mut from_guest, to_guest) = line.into_split();
    let (output, _) = broadcast::channel::<Vec<u8>>(BEHIND);
    let (input, typed) = mpsc::channel::<Vec<u8>>(4);
    let mut tasks = JoinSet::new();
    tasks.spawn(type_in(to_guest, typed));
    tasks.spawn(serve_readers(listener, output.clone(), input));
    let mut chunk = vec![0_u8; CHUNK_BYTES];
    let mut failed = false;
    loop {
        let read = match from_guest.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(read) => read,
        };
        let bytes = chunk.get(..read).unwrap_or_default();
        match log.append(bytes) {
            Err(error) if !failed => {
                // A full disk is no reason to stop a guest.
                tracing::warn!(%error, "cannot write the console log");
                failed = true;
            }
            Err(_) => {}
            Ok(()) => failed = false,
        }
        if output.receiver_count() > 0 {
            let _ = output.send(bytes.to_vec());
        }
        // A flood must leave room for the control socket, which shares this thread.
        tokio::task::yield_now().await;
    }
}

async fn type_in(mut to_guest: OwnedWriteHalf, mut typed: mpsc::Receiver<Vec<u8>>) {
    while let Some(bytes) = typed.recv().await {
        // Blocks while the guest does not read its line; those who type are held up by that, nobody else.
        if to_guest.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn serve_readers(listener: UnixListener, output: broadcast::Sender<Vec<u8>>, input: mpsc::Sender<Vec<u8>>) {
    let mut readers = JoinSet::new();
    loop {
        while readers.try_join_next().is_some() {}
        let stream = accepted(&listener).await;
        if readers.len() < MOST_READERS {
            readers.spawn(serve_reader(stream, output.subscribe(), input.clone()));
        }
    }
}

async fn serve_reader(stream: UnixStream, mut output: broadcast::Receiver<Vec<u8>>, input: mpsc::Sender<Vec<u8>>) {
    let (mut read_half, mut write_half) = stream.into_split();
    let reading = async {
        let mut chunk = vec![0_u8; 1024];
        while let Ok(read) = read_half.read(&mut chunk).await {
            if read == 0 || input.send(chunk.get(..read).unwrap_or_default().to_vec()).await.is_err() {
                return;
            }
        }
    };
    let writing = async {
        loop {
            match output.recv().await {
                Ok(bytes) => match timeout(PATIENCE, write_half.write_all(&bytes)).await {
                    Ok(Ok(())) => {}
                    _ => return,
                },
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
}

//! The port of the guest agent: between QEMU and whoever connected to `agent.sock` last.
//!
//! What must stay true: a guest that floods its port fills nothing here, and one that does not read it holds up nobody but
//! its client; a client that is gone, or slow, is replaced by the next.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};

use crate::sockets::accepted;

const CHUNK_BYTES: usize = 4096;

/// What has come to its end.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Port,
    Client,
}

/// Carry bytes until QEMU closes its end. What the guest says while nobody listens is lost.
pub async fn carry(port: UnixStream, listener: UnixListener) {
    let (mut from_guest, mut to_guest) = port.into_split();
    let mut client = None;
    loop {
        tokio::select! {
            biased;
            stream = accepted(&listener) => client = Some(stream),
            end = talk(&mut from_guest, &mut to_guest, client.as_mut()) => match end {
                End::Port => return,
                End::Client => client = None,
            },
        }
    }
}

async fn talk(from_guest: &mut OwnedReadHalf, to_guest: &mut OwnedWriteHalf, client: Option<&mut UnixStream>) -> End {
    let Some(client) = client else {
        return pump(from_guest, &mut tokio::io::sink(), End::Port, End::Client).await;
    };
    let (mut from_client, mut to_client) = client.split();
    tokio::select! {
        end = pump(from_guest, &mut to_client, End::Port, End::Client) => end,
        end = pump(&mut from_client, to_guest, End::Client, End::Port) => end,
    }
}

/// Carry one direction; gives whichever side ended it.
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    reader: End,
    writer: End,
) -> End {
    let mut chunk = [0_u8; CHUNK_BYTES];
    loop {
        let read = match from.read(&mut chunk).await {
            Ok(0) | Err(_) => return reader,
            Ok(read) => read,
        };
        if to.write_all(chunk.get(..read).unwrap_or_default()).await.is_err() {
            return writer;
        }
        // A flood must leave room for the control socket, which shares this thread.
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A port with `carry` behind it: the guest's end, and where clients connect.
    async fn plugged<T>(test: impl AsyncFnOnce(UnixStream, &std::path::Path) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (guest, port) = UnixStream::pair().unwrap();
        let carrying = tokio::spawn(carry(port, listener));
        let result = test(guest, &path).await;
        // The guest's end is closed now, which ends it.
        carrying.await.unwrap();
        result
    }

    /// The next bytes that are no part of a flood.
    async fn hears(stream: &mut UnixStream, words: &[u8]) {
        for word in words {
            let mut heard = b'x';
            while heard == b'x' {
                heard = stream.read_u8().await.unwrap();
            }
            assert_eq!(heard, *word);
        }
    }

    #[tokio::test]
    async fn who_connects_last_has_the_port() {
        plugged(async |mut guest, path| {
            // Far more than sockets hold: nobody is there to read it.
            guest.write_all(&vec![b'x'; 4 << 20]).await.unwrap();
            let mut first = UnixStream::connect(path).await.unwrap();
            first.write_all(b"ping").await.unwrap();
            hears(&mut guest, b"ping").await;
            let mut second = UnixStream::connect(path).await.unwrap();
            second.write_all(b"again").await.unwrap();
            hears(&mut guest, b"again").await;
            // The first has lost it, whatever it was told before.
            let _ = first.read_to_end(&mut Vec::new()).await;
            guest.write_all(b"pong").await.unwrap();
            hears(&mut second, b"pong").await;
        })
        .await;
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_replaced_by_the_next() {
        plugged(async |guest, path| {
            let _lazy = UnixStream::connect(path).await.unwrap();
            let (mut from_guest, mut to_guest) = guest.into_split();
            let flood = tokio::spawn(async move { while to_guest.write_all(&[b'x'; 4096]).await.is_ok() {} });
            let mut next = UnixStream::connect(path).await.unwrap();
            next.write_all(b"ping").await.unwrap();
            let mut heard = [0; 4];
            from_guest.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"ping");
            next.read_exact(&mut [0; 4]).await.unwrap();
            flood.abort();
            let _ = flood.await;
        })
        .await;
    }
}

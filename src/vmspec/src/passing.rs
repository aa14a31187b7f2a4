//! Open files over a stream socket: read lines while descriptors are collected, and send a line with some.
//!
//! What must stay true: descriptors arrive in the order of the lines they came with, and are close-on-exec from the first
//! moment; whoever sends more than [`MAX_WAITING`] that nobody takes is cut off.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;

/// Descriptors that may be waiting for the end of their line.
pub const MAX_WAITING: usize = 16;

/// The reading half of a socket. Bytes come by [`AsyncRead`], descriptors by [`Receiver::take`].
#[derive(Debug)]
pub struct Receiver {
    half: OwnedReadHalf,
    waiting: VecDeque<OwnedFd>,
}

impl Receiver {
    pub fn new(half: OwnedReadHalf) -> Self {
        Self { half, waiting: VecDeque::new() }
    }

    /// The oldest `count` descriptors; `None` if fewer have come, and then they stay.
    pub fn take(&mut self, count: usize) -> Option<Vec<OwnedFd>> {
        (count <= self.waiting.len()).then(|| self.waiting.drain(..count).collect())
    }

    fn receive(stream: &UnixStream, buffer: &mut [u8], waiting: &mut VecDeque<OwnedFd>) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_WAITING))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::net::recvmsg(
            stream.as_fd(),
            &mut [IoSliceMut::new(buffer)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
        )?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                waiting.extend(descriptors);
            }
        }
        if waiting.len() > MAX_WAITING {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too many descriptors without a request"));
        }
        Ok(received.bytes)
    }
}

impl AsyncRead for Receiver {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { half, waiting } = self.get_mut();
        let stream: &UnixStream = half.as_ref();
        loop {
            ready!(stream.poll_read_ready(context))?;
            let free = buffer.initialize_unfilled();
            match stream.try_io(Interest::READABLE, || Self::receive(stream, free, waiting)) {
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// Sends all of `line`, `descriptors` with its first byte.
///
/// Not cancel safe: a part of the line may be on its way already.
///
/// # Errors
/// The socket's own; `InvalidInput` for more than [`MAX_WAITING`] descriptors.
pub async fn send(stream: &UnixStream, line: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    if descriptors.len() > MAX_WAITING {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one request"));
    }
    let (mut rest, mut with) = (line, descriptors);
    while !rest.is_empty() {
        stream.writable().await?;
        let sent = stream.try_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_WAITING))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if !with.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(with)) {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one request"));
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            Ok(rustix::net::sendmsg(stream.as_fd(), &[IoSlice::new(rest)], &mut ancillary, flags)?)
        });
        match sent {
            Ok(count) => {
                rest = rest.get(count..).unwrap_or_default();
                with = &[];
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Seek as _, Write as _};

    use tokio::io::{AsyncReadExt as _, BufReader};

    use super::*;
    use crate::protocol::read_line;

    fn file(text: &str) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        file
    }

    #[tokio::test]
    async fn descriptors_arrive_with_their_lines_in_order() {
        let (here, there) = UnixStream::pair().unwrap();
        let (one, two) = (file("one"), file("two"));
        send(&here, b"first\n", &[one.as_fd()]).await.unwrap();
        send(&here, b"second\n", &[]).await.unwrap();
        send(&here, b"third\n", &[two.as_fd(), one.as_fd()]).await.unwrap();
        drop(here);
        let mut reader = BufReader::new(Receiver::new(there.into_split().0));
        let mut buffer = Vec::new();
        for (line, count) in [("first", 1), ("second", 0), ("third", 2)] {
            assert_eq!(read_line(&mut reader, &mut buffer).await.unwrap().unwrap(), line.as_bytes());
            let taken = reader.get_mut().take(count).unwrap();
            if line == "third" {
                let mut text = String::new();
                File::from(taken.into_iter().next().unwrap()).read_to_string(&mut text).unwrap();
                assert_eq!(text, "two");
            }
        }
        assert!(reader.get_mut().take(1).is_none());
        assert!(read_line(&mut reader, &mut buffer).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_line_longer_than_the_socket_takes_at_once_arrives_whole() {
        let (here, there) = UnixStream::pair().unwrap();
        let line = vec![7_u8; 3 << 20];
        let sending = tokio::spawn({
            let line = line.clone();
            async move { send(&here, &line, &[]).await }
        });
        let mut received = Vec::new();
        Receiver::new(there.into_split().0).read_to_end(&mut received).await.unwrap();
        sending.await.unwrap().unwrap();
        assert!(received == line);
    }

    #[tokio::test]
    async fn a_flood_of_descriptors_ends_the_connection() {
        let (here, there) = UnixStream::pair().unwrap();
        let one = file("one");
        for _ in 0..=MAX_WAITING / 4 {
            send(&here, b"x", &[one.as_fd(); 4]).await.unwrap();
        }
        let mut received = Vec::new();
        let error = Receiver::new(there.into_split().0).read_to_end(&mut received).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}

//! The supervisor's end of `control.sock`.
//!
//! Every method has a deadline. What comes from the other side is never trusted to be short, timely or well-formed: a VM
//! process may have been taken over by its guest. A connection that misbehaves ends; nothing else does.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::directory::{self, ServerDirectory};
use crate::passing;
use crate::protocol::{
    Answer, Call, Devices, Event, Hello, Message, OLDEST_PROTOCOL, PROTOCOL, Refusal, RefusalCode, Reply, Request,
    Statistics, Status, read_line, to_line,
};
use crate::spec::{Disk, Nic};

/// How long a VM process may be silent before it counts as unresponsive (DESIGN section 8).
pub const SILENCE: Duration = Duration::from_secs(5);
/// Events that may wait for a subscriber that is slow; then the connection ends, and a new one asks for the rest.
const WAITING_EVENTS: usize = 1024;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens: the process is gone, or has not come that far.
    #[error("no VM process listens on its control socket: {0}")]
    NotListening(io::Error),
    #[error("the VM process did not answer in time")]
    Timeout,
    #[error("the VM process broke the protocol: {0}")]
    Protocol(String),
    #[error("the connection to the VM process ended")]
    Closed,
    #[error(transparent)]
    Refused(#[from] Refusal),
}

type Waiting = HashMap<u64, oneshot::Sender<Result<Answer, Refusal>>>;

/// A connection that has said hello. Dropping it closes it.
#[derive(Debug)]
pub struct Client {
    hello: Hello,
    shared: Arc<Shared>,
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    closed: watch::Receiver<bool>,
    reader: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    waiting: Waiting,
    events: Option<mpsc::Sender<Event>>,
    ended: bool,
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Client {
    /// Connect and say hello, all within `deadline`. The answer is not compared with anything yet.
    pub async fn connect(directory: &ServerDirectory, deadline: Duration) -> Result<Self, ClientError> {
        timeout(deadline, async {
            let stream = connect_socket(directory, directory::CONTROL).await.map_err(ClientError::NotListening)?;
            Self::greet(stream).await
        })
        .await
        .map_err(|_| ClientError::Timeout)?
    }

    async fn greet(stream: UnixStream) -> Result<Self, ClientError> {
        let (read_half, write_half) = stream.into_split();
        let shared = Arc::new(Shared::default());
        let (closed_sender, closed) = watch::channel(false);
        let reader = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                read_messages(read_half, &shared).await;
                let mut state = shared.state();
                state.ended = true;
                state.waiting.clear();
                state.events = None;
                drop(state);
                let _ = closed_sender.send(true);
            }
        });
        let mut client = Self {
            // Replaced below; no other method can run before.
            hello: Hello {
                protocol: 0,
                server_id: uuid::Uuid::nil(),
                spec_hash: String::new(),
                boot_id: uuid::Uuid::nil(),
                generation: 0,
                driver: crate::Driver::Fake,
                pid: 0,
                state: crate::protocol::VmState::Starting,
                isolation: crate::protocol::Isolation::default(),
            },
            shared,
            writer: tokio::sync::Mutex::new(write_half),
            closed,
            reader,
        };
        match client.call(Call::Hello { newest: PROTOCOL, oldest: OLDEST_PROTOCOL }, SILENCE).await? {
            Answer::Hello(hello) if (OLDEST_PROTOCOL..=PROTOCOL).contains(&hello.protocol) => client.hello = hello,
            Answer::Hello(hello) => return Err(ClientError::Protocol(format!("it speaks version {}", hello.protocol))),
            other => return Err(ClientError::Protocol(format!("hello was answered with {other:?}"))),
        }
        Ok(client)
    }

    /// What the process said about itself when it was connected.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Events after number `after` (`None`: all that are kept). The receiver ends with the connection. Subscribing again
    /// ends the earlier receiver.
    pub async fn subscribe(&self, after: Option<u64>) -> Result<mpsc::Receiver<Event>, ClientError> {
        let (sender, receiver) = mpsc::channel(WAITING_EVENTS);
        self.shared.state().events = Some(sender);
        self.done(Call::Subscribe { after }).await?;
        Ok(receiver)
    }

    pub async fn power_button(&self) -> Result<(), ClientError> {
        self.done(Call::PowerButton).await
    }

    /// See [`Call::Reboot`].
    pub async fn reboot(&self, deadline: Duration) -> Result<(), ClientError> {
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        self.done(Call::Reboot { deadline_ms }).await
    }

    /// The VM ends after this is answered; see [`Client::closed`].
    pub async fn stop(&self) -> Result<(), ClientError> {
        self.done(Call::Stop).await
    }

    pub async fn reset(&self) -> Result<(), ClientError> {
        self.done(Call::Reset).await
    }

    pub async fn pause(&self) -> Result<(), ClientError> {
        self.done(Call::Pause).await
    }

    pub async fn resume(&self) -> Result<(), ClientError> {
        self.done(Call::Resume).await
    }

    pub async fn status(&self) -> Result<Status, ClientError> {
        match self.call(Call::Status, SILENCE).await? {
            Answer::Status(status) => Ok(status),
            other => Err(ClientError::Protocol(format!("status was answered with {other:?}"))),
        }
    }

    pub async fn statistics(&self) -> Result<Statistics, ClientError> {
        match self.call(Call::Statistics, SILENCE).await? {
            Answer::Statistics(statistics) => Ok(statistics),
            other => Err(ClientError::Protocol(format!("statistics was answered with {other:?}"))),
        }
    }

    /// Which disks and NICs the machine has now.
    pub async fn devices(&self) -> Result<Devices, ClientError> {
        match self.call(Call::Devices, SILENCE).await? {
            Answer::Devices(devices) => Ok(devices),
            other => Err(ClientError::Protocol(format!("devices was answered with {other:?}"))),
        }
    }

    /// See [`Call::AttachDisk`].
    pub async fn attach_disk(&self, disk: Disk, file: OwnedFd) -> Result<(), ClientError> {
        self.done_with(Call::AttachDisk { disk: Disk { descriptor: 0, ..disk } }, &[file], SILENCE).await
    }

    /// See [`Call::DetachDisk`].
    pub async fn detach_disk(&self, slot: u8) -> Result<(), ClientError> {
        self.done(Call::DetachDisk { slot }).await
    }

    /// See [`Call::AttachNic`]; one tap for each of its queues.
    pub async fn attach_nic(&self, nic: Nic, taps: &[OwnedFd]) -> Result<(), ClientError> {
        self.done_with(Call::AttachNic { nic: Nic { descriptor: 0, ..nic } }, taps, SILENCE).await
    }

    /// See [`Call::DetachDisk`].
    pub async fn detach_nic(&self, slot: u8) -> Result<(), ClientError> {
        self.done(Call::DetachNic { slot }).await
    }

    /// See [`Call::ResizeDisk`].
    pub async fn resize_disk(&self, slot: u8, size_bytes: u64) -> Result<(), ClientError> {
        self.done(Call::ResizeDisk { slot, size_bytes }).await
    }

    /// See [`Call::Suspend`]. Writing the guest's memory takes as long as it takes: `deadline` is the caller's.
    pub async fn suspend(&self, state: OwnedFd, memory: OwnedFd, deadline: Duration) -> Result<(), ClientError> {
        self.done_with(Call::Suspend, &[state, memory], deadline).await
    }

    /// Returns when the other side has closed the connection, or broken the protocol.
    pub async fn closed(&self) {
        let mut closed = self.closed.clone();
        // An error means the reader is gone, which is the same.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    async fn done(&self, call: Call) -> Result<(), ClientError> {
        self.done_with(call, &[], SILENCE).await
    }

    async fn done_with(&self, call: Call, files: &[OwnedFd], deadline: Duration) -> Result<(), ClientError> {
        match self.call_with(call, files, deadline).await? {
            Answer::Done => Ok(()),
            other => Err(ClientError::Protocol(format!("a command was answered with {other:?}"))),
        }
    }

    async fn call(&self, call: Call, deadline: Duration) -> Result<Answer, ClientError> {
        self.call_with(call, &[], deadline).await
    }

    async fn call_with(&self, call: Call, files: &[OwnedFd], deadline: Duration) -> Result<Answer, ClientError> {
        // Before hello the version is not known, and hello is of the first.
        if call.since() > 1 && call.since() > self.hello.protocol {
            let message =
                "it was started by an older release, which cannot do this; stop and start the server".to_owned();
            return Err(Refusal { code: RefusalCode::Version, message }.into());
        }
        if files.len() != call.descriptors() {
            return Err(ClientError::Protocol(format!("{} descriptors do not fit the request", files.len())));
        }
        let until = Instant::now() + deadline;
        let (sender, receiver) = oneshot::channel();
        let id = {
            let mut state = self.shared.state();
            if state.ended {
                return Err(ClientError::Closed);
            }
            state.next_id += 1;
            let id = state.next_id;
            state.waiting.insert(id, sender);
            id
        };
        let line =
            to_line(&Request { id, call }).ok_or_else(|| ClientError::Protocol("request too long".to_owned()))?;
        let result = timeout_at(until, async {
            // A cancelled write may leave half a line behind. The timeout ends the whole connection then, below.
            let writer = self.writer.lock().await;
            let files: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
            passing::send((*writer).as_ref(), &line, &files).await.map_err(|_| ClientError::Closed)?;
            drop(writer);
            Ok::<_, ClientError>(receiver.await.map_err(|_| ClientError::Closed)??)
        })
        .await;
        self.shared.state().waiting.remove(&id);
        result.unwrap_or_else(|_| {
            self.reader.abort();
            let mut state = self.shared.state();
            state.ended = true;
            state.waiting.clear();
            state.events = None;
            Err(ClientError::Timeout)
        })
    }
}

async fn read_messages(read_half: OwnedReadHalf, shared: &Shared) {
    let mut reader = BufReader::new(read_half);
    let mut buffer = Vec::new();
    // The stream's end, an endless line and an unreadable message are all the same to a caller: the connection is over.
    while let Ok(Some(line)) = read_line(&mut reader, &mut buffer).await {
        match serde_json::from_slice(&line) {
            Ok(Message::Reply(Reply { id, result })) => {
                let waiting = shared.state().waiting.remove(&id);
                if let Some(waiting) = waiting {
                    let _ = waiting.send(result);
                }
            }
            Ok(Message::Event(event)) => {
                let mut state = shared.state();
                if let Some(events) = &state.events {
                    match events.try_send(event) {
                        Ok(()) => {}
                        Err(mpsc::error::TrySendError::Closed(_)) => state.events = None,
                        Err(mpsc::error::TrySendError::Full(_)) => return,
                    }
                }
            }
            Err(_) => return,
        }
    }
}

/// Connect to a socket of a server's directory, however long its path is. The caller sets the deadline: while the other
/// side's queue of connections is full, this tries again.
pub async fn connect_socket(directory: &ServerDirectory, name: &str) -> io::Result<UnixStream> {
    let handle = directory.open()?;
    let address = directory::socket_address(&handle, name);
    loop {
        match UnixStream::connect(&address).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(Duration::from_millis(20)).await,
            other => return other,
        }
    }
}

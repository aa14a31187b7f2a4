//! The control socket. Whatever arrives here, the guest runs on: a connection that breaks a rule ends, and only it.
//!
//! Bounds: [`MOST_CONNECTIONS`] at once; a line of at most 64 KiB; `hello` within [`PATIENCE`]; answers and events taken
//! within [`PATIENCE`] each, with [`WAITING`] in between.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, broadcast, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use vmspec::SpecError;
use vmspec::passing::Receiver;
use vmspec::protocol::{
    Answer, Call, Event, EventKind, Message, OLDEST_PROTOCOL, PROTOCOL, Refusal, RefusalCode, Reply, Request,
    read_line, to_line,
};

use crate::machine::{Command, Machine, Outcome, refusal};
use crate::sockets::accepted;

const MOST_CONNECTIONS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(5);
/// More than the events that are kept, so that subscribing alone never overflows it.
const WAITING: usize = 512;

/// Serve the socket for ever.
pub async fn serve(listener: UnixListener, machine: Arc<Machine>) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let stream = accepted(&listener).await;
        // One too many is closed at once.
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            let machine = Arc::clone(&machine);
            connections.spawn(async move {
                serve_one(stream, machine).await;
                drop(place);
            });
        }
    }
}

/// Serve one connection until either side ends it.
pub async fn serve_one(stream: UnixStream, machine: Arc<Machine>) {
    let (read_half, write_half) = stream.into_split();
    let (outgoing, queue) = mpsc::channel(WAITING);
    // Either half ending ends both; what is queued when the reader ends is still sent.
    let mut writing = tokio::spawn(write_messages(write_half, queue));
    tokio::select! {
        () = read_requests(read_half, outgoing, machine) => {
            if timeout(PATIENCE, &mut writing).await.is_err() {
                writing.abort();
            }
        }
        _ = &mut writing => {}
    }
}

async fn write_messages(mut write_half: OwnedWriteHalf, mut queue: mpsc::Receiver<Message>) {
    while let Some(message) = queue.recv().await {
        let Some(line) = to_line(&message) else { return };
        if !matches!(timeout(PATIENCE, write_half.write_all(&line)).await, Ok(Ok(()))) {
            return;
        }
    }
}

/// The events of one connection are passed on by a task that ends with it.
struct Subscription(Option<AbortHandle>);

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

async fn read_requests(read_half: OwnedReadHalf, outgoing: mpsc::Sender<Message>, machine: Arc<Machine>) {
    let mut reader = BufReader::new(Receiver::new(read_half));
    let mut buffer = Vec::new();
    // The version in use, once both have said hello.
    let mut protocol = None;
    let mut subscription = Subscription(None);
    loop {
        let line = read_line(&mut reader, &mut buffer);
        let line = if protocol.is_some() { Ok(line.await) } else { timeout(PATIENCE, line).await };
        let Ok(Ok(Some(line))) = line else { return };
        let (id, result) = match serde_json::from_slice::<Request>(&line) {
            Ok(Request { id, call: Call::Hello { newest, oldest } }) => {
                if newest < OLDEST_PROTOCOL || oldest > PROTOCOL || oldest > newest {
                    let why = format!("this VM process speaks versions {OLDEST_PROTOCOL} to {PROTOCOL}");
                    (id, Err(refusal(RefusalCode::Version, why)))
                } else {
                    let mut hello = machine.hello();
                    hello.protocol = PROTOCOL.min(newest);
                    protocol = Some(hello.protocol);
                    (id, Ok(Answer::Hello(hello)))
                }
            }
            Ok(Request { id, call }) if protocol.is_none_or(|protocol| protocol < call.since()) => {
                let why = if protocol.is_none() { "say hello first" } else { "this came with a later version" };
                (id, Err(refusal(RefusalCode::BadRequest, why)))
            }
            Ok(Request { id, call: Call::Subscribe { after } }) => {
                let (kept, news) = machine.subscribe(after);
                drop(std::mem::replace(&mut subscription, Subscription(None)));
                if !send(&outgoing, id, Ok(Answer::Done)) {
                    return;
                }
                let task = tokio::spawn(pass_on(kept, news, outgoing.clone(), protocol.unwrap_or(PROTOCOL)));
                subscription = Subscription(Some(task.abort_handle()));
                continue;
            }
            Ok(Request { id, call }) => match reader.get_mut().take(call.descriptors()) {
                Some(descriptors) => (id, answer(&machine, call, descriptors).await),
                None => (id, Err(refusal(RefusalCode::BadRequest, "descriptors are missing"))),
            },
            Err(_) => (0, Err(refusal(RefusalCode::BadRequest, "this is not a request"))),
        };
        let broken = matches!(&result, Err(Refusal { code: RefusalCode::BadRequest | RefusalCode::Version, .. }));
        if !send(&outgoing, id, result) || broken {
            drop(subscription);
            return;
        }
    }
}

async fn answer(machine: &Machine, call: Call, descriptors: Vec<OwnedFd>) -> Result<Answer, Refusal> {
    let invalid = |error: SpecError| refusal(RefusalCode::BadRequest, error.to_string());
    let mut files = descriptors.into_iter();
    // As many as the call says have been taken.
    let mut file = || files.next().ok_or_else(|| refusal(RefusalCode::BadRequest, "descriptors are missing"));
    let command = match call {
        Call::Status => return Ok(Answer::Status(machine.status())),
        Call::PowerButton => Command::PowerButton,
        Call::Reboot { deadline_ms } => {
            Command::Reboot { deadline: Duration::from_millis(deadline_ms.min(86_400_000)) }
        }
        Call::Stop => Command::Stop,
        Call::Reset => Command::Reset,
        Call::Pause => Command::Pause,
        Call::Resume => Command::Resume,
        Call::Statistics => Command::Statistics,
        Call::Devices => Command::Devices,
        Call::AttachDisk { disk } => {
            disk.validate().map_err(invalid)?;
            Command::AttachDisk(disk, file()?)
        }
        Call::DetachDisk { slot } => Command::DetachDisk { slot },
        Call::AttachNic { nic } => {
            nic.validate().map_err(invalid)?;
            Command::AttachNic(nic, files.collect())
        }
        Call::DetachNic { slot } => Command::DetachNic { slot },
        Call::ResizeDisk { slot, size_bytes } if size_bytes > 0 && size_bytes.is_multiple_of(512) => {
            Command::ResizeDisk { slot, size_bytes }
        }
        Call::ResizeDisk { .. } => {
            return Err(refusal(RefusalCode::BadRequest, "a size is a positive multiple of 512"));
        }
        Call::Suspend => Command::Suspend { state: file()?, memory: file()? },
        // Handled before.
        Call::Hello { .. } | Call::Subscribe { .. } => return Err(refusal(RefusalCode::BadRequest, "out of place")),
    };
    Ok(match machine.order(command).await? {
        Outcome::Done => Answer::Done,
        Outcome::Statistics(statistics) => Answer::Statistics(statistics),
        Outcome::Devices(devices) => Answer::Devices(devices),
    })
}

/// False if the other side does not take what it asked for.
fn send(outgoing: &mpsc::Sender<Message>, id: u64, result: Result<Answer, Refusal>) -> bool {
    outgoing.try_send(Message::Reply(Reply { id, result })).is_ok()
}

async fn pass_on(
    kept: Vec<Event>,
    mut news: broadcast::Receiver<Event>,
    outgoing: mpsc::Sender<Message>,
    protocol: u32,
) {
    let known = |event: &Event| protocol >= 2 || !matches!(event.kind, EventKind::DeviceRemoved(_));
    for event in kept.into_iter().filter(known) {
        if outgoing.send(Message::Event(event)).await.is_err() {
            return;
        }
    }
    // One that is too slow has missed something: ending here leaves a gap it can see in the numbers when it subscribes
    // again, and never a wrong order.
    while let Ok(event) = news.recv().await {
        if known(&event) && outgoing.send(Message::Event(event)).await.is_err() {
            return;
        }
    }
}

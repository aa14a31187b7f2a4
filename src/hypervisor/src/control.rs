//! The control socket. Whatever arrives here, the guest runs on: a connection that breaks a rule ends, and only it.
//!
//! Bounds: [`MOST_CONNECTIONS`] at once; a line of at most 64 KiB; `hello` within [`PATIENCE`]; answers and events taken
//! within [`PATIENCE`] each, with [`WAITING`] in between.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, broadcast, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use vmspec::protocol::{
    Answer, Call, Event, Message, OLDEST_PROTOCOL, PROTOCOL, Refusal, RefusalCode, Reply, Request, read_line, to_line,
};

use crate::machine::{Command, Machine, Outcome, refusal};

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
        match listener.accept().await {
            Ok((stream, _)) => {
                // One too many is closed at once.
                if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                    let machine = Arc::clone(&machine);
                    connections.spawn(async move {
                        serve_one(stream, machine).await;
                        drop(place);
                    });
                }
            }
            // Out of descriptors, most likely: those that are open will close.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn serve_one(stream: UnixStream, machine: Arc<Machine>) {
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
    let mut reader = BufReader::new(read_half);
    let mut buffer = Vec::new();
    let mut greeted = false;
    let mut subscription = Subscription(None);
    loop {
        let line = read_line(&mut reader, &mut buffer);
        let line = if greeted { Ok(line.await) } else { timeout(PATIENCE, line).await };
        let Ok(Ok(Some(line))) = line else { return };
        let (id, result) = match serde_json::from_slice::<Request>(&line) {
            Ok(Request { id, call: Call::Hello { newest, oldest } }) => {
                if newest < OLDEST_PROTOCOL || oldest > PROTOCOL || oldest > newest {
                    let why = format!("this VM process speaks versions {OLDEST_PROTOCOL} to {PROTOCOL}");
                    (id, Err(refusal(RefusalCode::Version, why)))
                } else {
                    greeted = true;
                    let mut hello = machine.hello();
                    hello.protocol = PROTOCOL.min(newest);
                    (id, Ok(Answer::Hello(hello)))
                }
            }
            Ok(Request { id, .. }) if !greeted => (id, Err(refusal(RefusalCode::BadRequest, "say hello first"))),
            Ok(Request { id, call: Call::Subscribe { after } }) => {
                let (kept, news) = machine.subscribe(after);
                drop(std::mem::replace(&mut subscription, Subscription(None)));
                if !send(&outgoing, id, Ok(Answer::Done)) {
                    return;
                }
                let task = tokio::spawn(pass_on(kept, news, outgoing.clone()));
                subscription = Subscription(Some(task.abort_handle()));
                continue;
            }
            Ok(Request { id, call }) => (id, answer(&machine, call).await),
            Err(_) => (0, Err(refusal(RefusalCode::BadRequest, "this is not a request"))),
        };
        let broken = matches!(&result, Err(Refusal { code: RefusalCode::BadRequest | RefusalCode::Version, .. }));
        if !send(&outgoing, id, result) || broken {
            drop(subscription);
            return;
        }
    }
}

async fn answer(machine: &Machine, call: Call) -> Result<Answer, Refusal> {
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
        // Handled before.
        Call::Hello { .. } | Call::Subscribe { .. } => return Err(refusal(RefusalCode::BadRequest, "out of place")),
    };
    Ok(match machine.order(command).await? {
        Outcome::Done => Answer::Done,
        Outcome::Statistics(statistics) => Answer::Statistics(statistics),
    })
}

/// False if the other side does not take what it asked for.
fn send(outgoing: &mpsc::Sender<Message>, id: u64, result: Result<Answer, Refusal>) -> bool {
    outgoing.try_send(Message::Reply(Reply { id, result })).is_ok()
}

async fn pass_on(kept: Vec<Event>, mut news: broadcast::Receiver<Event>, outgoing: mpsc::Sender<Message>) {
    for event in kept {
        if outgoing.send(Message::Event(event)).await.is_err() {
            return;
        }
    }
    // One that is too slow has missed something: ending here leaves a gap it can see in the numbers when it subscribes
    // again, and never a wrong order.
    while let Ok(event) = news.recv().await {
        if outgoing.send(Message::Event(event)).await.is_err() {
            return;
        }
    }
}

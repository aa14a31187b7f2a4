//! QMP, QEMU's machine protocol: JSON lines, over one end of a socket pair.
//!
//! QEMU is only half trusted, as a guest may have broken into it: a line has a bound, an answer a deadline, and what is
//! not understood is ignored.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;

const MAX_LINE_BYTES: u64 = 1024 * 1024;
const WAITING_EVENTS: usize = 256;
/// Places that only the events which come once may take.
const RESERVED: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    #[error("QEMU did not answer {0:?} in time")]
    Timeout(&'static str),
    #[error("QEMU closed its monitor")]
    Closed,
    #[error("QEMU refused {command:?}: {reason}")]
    Refused { command: &'static str, reason: String },
}

/// The events this program acts on.
#[derive(Debug, PartialEq, Eq)]
pub enum QemuEvent {
    Shutdown {
        by_guest: bool,
        reason: String,
    },
    Reset {
        by_guest: bool,
    },
    Panicked,
    Stopped,
    Resumed,
    DiskError {
        device: String,
        reason: String,
    },
    /// A device that was plugged in by name is out of the machine.
    Deleted {
        device: String,
    },
}

type Waiting = HashMap<u64, oneshot::Sender<Result<Value, String>>>;

#[derive(Debug)]
pub struct Qmp {
    writer: OwnedWriteHalf,
    next_id: u64,
    waiting: Arc<Mutex<Option<Waiting>>>,
    reader: AbortHandle,
}

impl Drop for Qmp {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

#[derive(Deserialize)]
struct Line {
    id: Option<u64>,
    #[serde(rename = "return")]
    returned: Option<Value>,
    error: Option<Failure>,
    event: Option<String>,
    #[serde(default)]
    data: Value,
}

#[derive(Deserialize)]
struct Failure {
    desc: String,
}

fn lock(waiting: &Mutex<Option<Waiting>>) -> MutexGuard<'_, Option<Waiting>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Qmp {
    /// Negotiate, within `deadline`.
    pub async fn open(stream: UnixStream, deadline: Duration) -> Result<(Self, mpsc::Receiver<QemuEvent>), QmpError> {
        let (read_half, writer) = stream.into_split();
        let waiting = Arc::new(Mutex::new(Some(Waiting::new())));
        let (sender, events) = mpsc::channel(WAITING_EVENTS);
        let reader = tokio::spawn({
            let waiting = Arc::clone(&waiting);
            async move {
                read(read_half, &waiting, &sender).await;
                // Whoever waits learns that nothing comes any more.
                lock(&waiting).take();
            }
        });
        let mut qmp = Self { writer, next_id: 0, waiting, reader: reader.abort_handle() };
        // QEMU reads this once it is up, and answers after its greeting, which is ignored like all that is unknown.
        qmp.execute_within("qmp_capabilities", json!({}), deadline).await?;
        Ok((qmp, events))
    }

    pub async fn execute(&mut self, command: &'static str, arguments: Value) -> Result<Value, QmpError> {
        self.execute_within(command, arguments, Duration::from_secs(3)).await
    }

    pub async fn execute_within(
        &mut self,
        command: &'static str,
        arguments: Value,
        deadline: Duration,
    ) -> Result<Value, QmpError> {
        self.send(command, arguments, &[], deadline).await
    }

    /// With descriptors, which QEMU duplicates.
    pub async fn execute_with(
        &mut self,
        command: &'static str,
        arguments: Value,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Value, QmpError> {
        self.send(command, arguments, descriptors, Duration::from_secs(3)).await
    }

    async fn send(
        &mut self,
        command: &'static str,
        arguments: Value,
        descriptors: &[BorrowedFd<'_>],
        deadline: Duration,
    ) -> Result<Value, QmpError> {
        self.next_id += 1;
        let id = self.next_id;
        let (sender, receiver) = oneshot::channel();
        lock(&self.waiting).as_mut().ok_or(QmpError::Closed)?.insert(id, sender);
        let mut line = json!({ "execute": command, "arguments": arguments, "id": id }).to_string();
        line.push('\n');
        let answer = timeout(deadline, async {
            let sent = vmspec::passing::send(self.writer.as_ref(), line.as_bytes(), descriptors).await;
            sent.map_err(|_| QmpError::Closed)?;
            receiver.await.map_err(|_| QmpError::Closed)?.map_err(|reason| QmpError::Refused { command, reason })
        })
        .await;
        if let Some(waiting) = lock(&self.waiting).as_mut() {
            waiting.remove(&id);
        }
        answer.unwrap_or(Err(QmpError::Timeout(command)))
    }
}

async fn read(read_half: OwnedReadHalf, waiting: &Mutex<Option<Waiting>>, events: &mpsc::Sender<QemuEvent>) {
    let mut reader = BufReader::new(read_half);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).await {
            Ok(read) if read > 0 && line.ends_with(b"\n") => {}
            _ => return,
        }
        let Ok(parsed) = serde_json::from_slice::<Line>(&line) else { continue };
        if let Some(event) = parsed.event {
            let Some(event) = understand(&event, &parsed.data) else { continue };
            let once = matches!(event, QemuEvent::Shutdown { .. } | QemuEvent::Panicked | QemuEvent::Deleted { .. });
            if once || events.capacity() > RESERVED {
                // One too many of those that repeat is dropped: never wait here, an answer may be next.
                let _ = events.try_send(event);
            }
        } else if let Some(id) = parsed.id {
            let answer = match parsed.error {
                Some(failure) => Err(failure.desc),
                None => Ok(parsed.returned.unwrap_or(Value::Null)),
            };
            let sender = lock(waiting).as_mut().and_then(|waiting| waiting.remove(&id));
            if let Some(sender) = sender {
                let _ = sender.send(answer);
            }
        }
    }
}

fn understand(event: &str, data: &Value) -> Option<QemuEvent> {
    let by_guest = data.get("guest").and_then(Value::as_bool).unwrap_or(false);
    let text =
        |key: &str| data.get(key).and_then(Value::as_str).unwrap_or("unknown").chars().take(200).collect::<String>();
    Some(match event {
        "SHUTDOWN" => QemuEvent::Shutdown { by_guest, reason: text("reason") },
        "RESET" => QemuEvent::Reset { by_guest },
        "GUEST_PANICKED" => QemuEvent::Panicked,
        "STOP" => QemuEvent::Stopped,
        "RESUME" => QemuEvent::Resumed,
        // What stands behind a device goes too, and has only a path.
        "DEVICE_DELETED" if data.get("device").is_some_and(Value::is_string) => {
            QemuEvent::Deleted { device: text("device") }
        }
        "BLOCK_IO_ERROR" => QemuEvent::DiskError { device: text("qom-path"), reason: text("reason") },
        _ => return None,
    })
}

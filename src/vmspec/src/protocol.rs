//! The control protocol: one JSON message a line, at most [`MAX_MESSAGE_BYTES`] each, over the stream socket
//! `control.sock`.
//!
//! The supervisor sends [`Request`]s and gets one [`Reply`] for each, in any order, told apart by `id`; the first must be
//! `hello`. After `subscribe`, [`Event`]s come in between. Events are numbered and the newest [`KEPT_EVENTS`] are kept, so
//! a supervisor that comes back asks for what it missed.
//!
//! A request that carries file descriptors ([`Call::descriptors`]) sends them as one SCM_RIGHTS message with the first
//! byte of its line ([`crate::passing`]); that is why the socket is a stream with a bounded line and not datagrams.
//!
//! Versions: either side names the newest and the oldest protocol it speaks; both use the newest they share, and a VM
//! process of the previous release can always be spoken to.

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};
use uuid::Uuid;

use crate::exit::ExitCause;
use crate::spec::{Disk, Driver, Nic};

/// Version 2 added devices that come and go, and suspend.
pub const PROTOCOL: u32 = 2;
/// The protocol of the previous release is always spoken.
pub const OLDEST_PROTOCOL: u32 = 1;
/// A longer line ends the connection.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// How many events a VM process keeps for a supervisor that is away.
pub const KEPT_EVENTS: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    pub id: u64,
    pub call: Call,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Call {
    /// First on every connection.
    Hello {
        newest: u32,
        oldest: u32,
    },
    /// Send events from now on, after those kept with a number above `after`; `None` means all that are kept.
    Subscribe {
        after: Option<u64>,
    },
    /// Press the ACPI power button. The guest may ignore it.
    PowerButton,
    /// Shut the guest down by its power button and start it again, within `deadline_ms`; a guest that has not shut down by
    /// then stays up and runs on. Answered at once; a `Reset` event follows if it works.
    Reboot {
        deadline_ms: u64,
    },
    /// End the VM now, as if the plug were pulled; what the guest has flushed is safe.
    Stop,
    /// Reset the machine now, as if its reset button were pressed.
    Reset,
    Pause,
    Resume,
    Status,
    Statistics,
    /// Which disks and NICs the machine has now. Since version 2.
    Devices,
    /// Plug a disk in; its `descriptor` is 0, the one that comes with the request. Done when the guest has been told; doing
    /// it again with the same disk is done too. Since version 2.
    AttachDisk {
        disk: Disk,
    },
    /// Ask the guest to let go of a disk, and take it away when it has; a `DeviceRemoved` event follows. Answered when the
    /// guest has been asked; a slot that is empty is done already. The guest may refuse by doing nothing. Since version 2.
    DetachDisk {
        slot: u8,
    },
    /// Plug a NIC in; its `descriptor` is 0, and as many come with the request as it has queues. Since version 2.
    AttachNic {
        nic: Nic,
    },
    /// As [`Call::DetachDisk`]. Since version 2.
    DetachNic {
        slot: u8,
    },
    /// Tell the guest that a disk has grown (or, if it must be, shrunk) to this size; the file has it already. Since
    /// version 2.
    ResizeDisk {
        slot: u8,
        size_bytes: u64,
    },
    /// Write the machine to the two files that come with the request (state, then memory: empty, open for reading and
    /// writing), and end with [`ExitCause::Suspended`]. Answered when all is written and synced; a failure leaves the VM
    /// paused. Since version 2.
    Suspend,
}

impl Call {
    /// How many descriptors come with this request.
    pub fn descriptors(&self) -> usize {
        match self {
            Self::AttachDisk { .. } => 1,
            Self::AttachNic { nic } => nic.queues as usize,
            Self::Suspend => 2,
            _ => 0,
        }
    }

    /// The first protocol version that has it.
    pub fn since(&self) -> u32 {
        match self {
            Self::Devices
            | Self::AttachDisk { .. }
            | Self::DetachDisk { .. }
            | Self::AttachNic { .. }
            | Self::DetachNic { .. }
            | Self::ResizeDisk { .. }
            | Self::Suspend => 2,
            _ => 1,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    Reply(Reply),
    Event(Event),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Of the request; 0 when the request could not be read.
    pub id: u64,
    pub result: Result<Answer, Refusal>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Hello(Hello),
    Done,
    Status(Status),
    Statistics(Statistics),
    Devices(Devices),
}

/// What is plugged in, and what the guest was asked to let go of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Devices {
    pub disks: Vec<PluggedDisk>,
    pub nics: Vec<PluggedNic>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluggedDisk {
    pub slot: u8,
    pub serial: String,
    pub size_bytes: u64,
    /// The guest was asked to let go of it and has not yet.
    pub leaving: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluggedNic {
    pub slot: u8,
    pub port_id: Uuid,
    pub leaving: bool,
}

/// A device that can come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    Disk { slot: u8 },
    Nic { slot: u8 },
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub code: RefusalCode,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// Not a request of this protocol, or not after `hello`.
    BadRequest,
    /// No protocol version in common, or a request of a newer one.
    Version,
    /// Not possible in the state the VM is in.
    State,
    /// The machine did not do it, or not in time.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// What both sides use from now on.
    pub protocol: u32,
    pub server_id: Uuid,
    pub spec_hash: String,
    pub boot_id: Uuid,
    pub generation: u64,
    pub driver: Driver,
    pub pid: u32,
    pub state: VmState,
    /// Which walls stand around the guest.
    pub isolation: Isolation,
}

/// What the VM process could do to fence itself in. Each is best effort, and reported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// User id it runs as.
    pub uid: u32,
    pub cgroup: bool,
    pub network_namespace: bool,
    pub pid_namespace: bool,
    pub mount_namespace: bool,
    /// What is missing and why, for `doctor` and the log.
    pub missing: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VmState {
    Starting,
    Running,
    Paused,
    /// Ending; `exit.json` follows.
    Stopping,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub state: VmState,
    /// A power button was pressed and the guest has not shut down yet.
    pub shutdown_pending: bool,
    /// Number of the newest event.
    pub last_event: u64,
    /// Milliseconds since the guest first ran.
    pub uptime_ms: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// CPU time of the whole VM (guest and devices).
    pub cpu_time_ms: u64,
    /// Resident memory of the whole VM.
    pub resident_bytes: u64,
    pub disks: Vec<DiskStatistics>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskStatistics {
    pub slot: u8,
    pub read_bytes: u64,
    pub read_operations: u64,
    pub written_bytes: u64,
    pub write_operations: u64,
    pub errors: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// 1, 2, 3 ... within the life of one VM process.
    pub number: u64,
    pub at_unix_ms: u64,
    pub kind: EventKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The guest executes its first instruction.
    Started,
    Paused,
    Resumed,
    /// The machine was reset and runs again.
    Reset {
        by_guest: bool,
    },
    /// The guest powered itself off; `requested` if its power button had been pressed.
    GuestShutdown {
        requested: bool,
    },
    GuestPanicked,
    /// The guest has let go of it and its descriptors are closed. Only told to those who speak version 2.
    DeviceRemoved(Device),
    /// A request of a disk failed on the host.
    DiskError {
        slot: u8,
        detail: String,
    },
    /// The last event: `exit.json` is on the disk.
    PoweredOff {
        cause: ExitCause,
        detail: Option<String>,
    },
}

/// Why a line was not read.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    #[error("a message is longer than {MAX_MESSAGE_BYTES} bytes")]
    TooLong,
    #[error("the connection ended within a message")]
    Torn,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Read one line, without its end, holding no more than [`MAX_MESSAGE_BYTES`] in memory. `None` at the end of the
/// stream. Cancel safe: what was read stays in `buffer` and the next call goes on with it; start with an empty one.
pub async fn read_line<R: AsyncBufRead + Unpin>(
    reader: &mut R,
    buffer: &mut Vec<u8>,
) -> Result<Option<Vec<u8>>, LineError> {
    loop {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            return if buffer.is_empty() { Ok(None) } else { Err(LineError::Torn) };
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let take = end.unwrap_or(available.len());
        if buffer.len() + take > MAX_MESSAGE_BYTES {
            return Err(LineError::TooLong);
        }
        buffer.extend_from_slice(&available[..take]);
        reader.consume(end.map_or(take, |at| at + 1));
        if end.is_some() {
            return Ok(Some(std::mem::take(buffer)));
        }
    }
}

/// A message as it goes over the wire. Every type of this protocol can be written; `None` only if it came out too long.
pub fn to_line<T: Serialize>(message: &T) -> Option<Vec<u8>> {
    let mut line = serde_json::to_vec(message).ok()?;
    line.push(b'\n');
    (line.len() <= MAX_MESSAGE_BYTES).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().unwrap()
    }

    #[test]
    fn lines_are_split_and_bounded() {
        runtime().block_on(async {
            let mut reader = tokio::io::BufReader::with_capacity(7, &b"one\n\ntwo and more\n"[..]);
            let mut buffer = Vec::new();
            assert_eq!(read_line(&mut reader, &mut buffer).await.unwrap().unwrap(), b"one");
            assert_eq!(read_line(&mut reader, &mut buffer).await.unwrap().unwrap(), b"");
            assert_eq!(read_line(&mut reader, &mut buffer).await.unwrap().unwrap(), b"two and more");
            assert!(read_line(&mut reader, &mut buffer).await.unwrap().is_none());

            let long = vec![b'x'; 10 * MAX_MESSAGE_BYTES];
            let mut reader = tokio::io::BufReader::new(&long[..]);
            let mut buffer = Vec::new();
            assert!(matches!(read_line(&mut reader, &mut buffer).await, Err(LineError::TooLong)));
            assert!(buffer.capacity() <= 2 * MAX_MESSAGE_BYTES);

            let mut reader = tokio::io::BufReader::new(&b"torn"[..]);
            assert!(matches!(read_line(&mut reader, &mut Vec::new()).await, Err(LineError::Torn)));
        });
    }

    #[test]
    fn the_wire_format_is_what_the_previous_release_wrote() {
        for call in [Call::Status, Call::Pause, Call::Reboot { deadline_ms: 1 }] {
            assert_eq!((call.since(), call.descriptors()), (1, 0));
        }
        assert_eq!((Call::Suspend.since(), Call::Suspend.descriptors()), (2, 2));
        let request = Request { id: 7, call: Call::Hello { newest: 1, oldest: 1 } };
        assert_eq!(serde_json::to_string(&request).unwrap(), r#"{"id":7,"call":{"hello":{"newest":1,"oldest":1}}}"#);
        let request: Request = serde_json::from_str(r#"{"id":8,"call":"power_button"}"#).unwrap();
        assert_eq!(request.call, Call::PowerButton);
        let done = Message::Reply(Reply { id: 8, result: Ok(Answer::Done) });
        assert_eq!(serde_json::to_string(&done).unwrap(), r#"{"reply":{"id":8,"result":{"Ok":"done"}}}"#);
        assert!(serde_json::from_str::<Request>(r#"{"id":8,"call":"power_button","and":1}"#).is_err());
        assert!(serde_json::from_str::<Request>(r#"{"id":8,"call":{"subscribe":{"after":1,"x":2}}}"#).is_err());
    }
}

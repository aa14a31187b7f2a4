//! The control socket: lines, and descriptors that come with them.

use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use vmspec::protocol::{Answer, Call, Devices, Isolation, Message, Request, Statistics};
use vmspec::{VmSpec, passing};

use super::source::Source;
use crate::control::serve_one;
use crate::machine::{Command, Machine, Order, Outcome};

const SPEC: &[u8] = include_bytes!("../../../vmspec/tests/golden/spec-v2.json");
/// Nothing here waits for anything but the other end.
const PATIENCE: Duration = Duration::from_secs(30);
/// What is often said.
const WORDS: [&str; 10] = [
    r#"{"id":1,"call":{"hello":{"newest":2,"oldest":1}}}"#,
    r#"{"id":2,"call":{"subscribe":{"after":null}}}"#,
    r#"{"id":3,"call":"status"}"#,
    r#"{"id":4,"call":"suspend"}"#,
    r#"{"id":5,"call":{"attach_nic":{"nic":{"slot":1,"port_id":"d5a1ce5d-46cd-4ff0-9a35-96b4ba3e7a0f","mac":"fa:16:3e:00:00:01","mtu":1500,"descriptor":0,"queues":"#,
    r#"{"id":6,"call":{"attach_disk":{"disk":{"slot":3,"kind":"volume","descriptor":0,"read_only":false,"serial":"","size_bytes":512}}}}"#,
    r#"{"id":7,"call":{"resize_disk":{"slot":1,"size_bytes":1024}}}"#,
    "}}}}",
    r#","limits":{"inbound_bytes_per_second":1}"#,
    "\n",
];

fn outcome(command: &Command) -> Outcome {
    match command {
        Command::Statistics => Outcome::Statistics(Statistics { cpu_time_ms: 0, resident_bytes: 0, disks: Vec::new() }),
        Command::Devices => Outcome::Devices(Devices::default()),
        _ => Outcome::Done,
    }
}

/// Lines on a connection, with descriptors; and the same bytes as a spec.
pub fn control_protocol(data: &[u8]) {
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread().enable_all().build().unwrap();
    }
    spec(data);
    RUNTIME.with(|runtime| runtime.block_on(connection(data)));
}

/// What is read as a spec is written as the same.
fn spec(data: &[u8]) {
    if let Ok(spec) = VmSpec::parse(data) {
        let again = VmSpec::parse(&spec.to_bytes().unwrap()).unwrap();
        assert_eq!(again, spec);
        assert_eq!(again.hash(), spec.hash());
        assert!(spec.has_hash(&again.hash()));
        assert!(spec.descriptor_count() <= 14 + 64 + 2);
    }
    if let Ok(request) = serde_json::from_slice::<Request>(data) {
        assert!(request.call.since() <= 2);
        assert!(!matches!(request.call, Call::Status) || request.call.descriptors() == 0);
        let line = serde_json::to_vec(&request).unwrap();
        assert_eq!(serde_json::from_slice::<Request>(&line).unwrap(), request);
    }
}

async fn connection(data: &[u8]) {
    let (mut told, marked) = std::io::pipe().unwrap();
    let (machine, mut orders) = Machine::new(VmSpec::parse(SPEC).unwrap(), Isolation::default());
    let machine = Arc::new(machine);
    let (here, there) = UnixStream::pair().unwrap();
    let served = tokio::spawn(serve_one(there, Arc::clone(&machine)));
    let driver = async {
        while let Some(Order { command, answer }) = orders.recv().await {
            let _ = answer.send(Ok(outcome(&command)));
        }
    };
    let client = async {
        let mut source = Source::new(data);
        for _ in 0..64 {
            if source.is_empty() {
                break;
            }
            let mut line = Vec::new();
            let mut descriptors: Vec<BorrowedFd<'_>> = Vec::new();
            match source.below(16) {
                count @ 0..=9 => line.extend(WORDS[count as usize].bytes()),
                10 => {
                    let count = 1 + source.below(4) as usize;
                    descriptors.extend([marked.as_fd()].iter().cycle().take(count));
                    line.extend(WORDS[source.below(10) as usize].bytes());
                }
                11 => {
                    let count = source.u16().to_string();
                    line.extend(count.bytes());
                }
                12 => line.extend([b'['; 1000]),
                _ => {
                    let count = source.u8();
                    line.extend(source.bytes(count.into()));
                    if count & 1 == 1 {
                        line.push(b'\n');
                    }
                }
            }
            // It may have hung up.
            if line.is_empty() || passing::send(&here, &line, &descriptors).await.is_err() {
                break;
            }
        }
        let (mut reader, writer) = here.into_split();
        drop(writer);
        let mut heard = Vec::new();
        let _ = reader.read_to_end(&mut heard).await;
        heard
    };
    let heard = tokio::select! {
        heard = timeout(PATIENCE, client) => heard.expect("the connection does not end"),
        () = driver => unreachable!("the machine is there"),
    };
    timeout(PATIENCE, served).await.expect("the connection is served on after its end").unwrap();
    // What was said is whole messages, and greetings only to who greeted.
    for line in heard.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let message: Message = serde_json::from_slice(line).expect("an answer that is none");
        if let Message::Reply(reply) = message
            && let Ok(Answer::Hello(hello)) = reply.result
        {
            assert_eq!(hello.server_id, machine.spec.server_id);
        }
    }
    // Nobody has a descriptor any more that came with a line: the pipe's end is heard.
    drop((marked, orders));
    assert_eq!(told.read(&mut [0]).unwrap(), 0);
}

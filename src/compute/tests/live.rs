//! What the driver of processes does to a process that runs, with a stand-in for that process: it holds the lock, speaks the
//! control protocol, and behaves as badly as a test wants.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use compute::vms::{Driver, Observed, ProcessConfig, VmError};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use uuid::Uuid;
use vmspec::passing::Receiver;
use vmspec::protocol::{
    Answer, Call, Device, Devices, Event, EventKind, Hello, Isolation, Message, PROTOCOL, PluggedNic, Refusal,
    RefusalCode, Reply, Request, Status, VmState, read_line, to_line,
};
use vmspec::{ExitCause, ExitRecord, Nic, ServerDirectory, VmSpec, directory};

/// What the process and its guest do.
#[derive(Debug, Default)]
struct Manners {
    nics: Vec<(u8, Uuid)>,
    /// Requests to let go that the guest does not hear.
    deaf_to: u32,
    /// What was asked, in order.
    asked: Vec<Call>,
    /// Everything that changes the machine is refused with this.
    refuses: Option<&'static str>,
    /// After a suspend no last word is said, as if killed at that instant.
    dies_speechless: bool,
    /// What came with the last request, read to its end.
    received: VecDeque<String>,
}

struct Bench {
    state: tempfile::TempDir,
    driver: Driver,
    spec: VmSpec,
    manners: Arc<Mutex<Manners>>,
}

impl Bench {
    async fn new(manners: Manners) -> Self {
        let state = tempfile::tempdir().unwrap();
        let golden = include_bytes!("../../vmspec/tests/golden/spec-v2.json");
        let spec = VmSpec {
            boot_id: vmspec::host_boot_id().unwrap(),
            restore: None,
            disks: vec![],
            nics: vec![],
            memory_mib: 16,
            ..VmSpec::parse(golden).unwrap()
        };
        let mut config = ProcessConfig::new(state.path().to_owned());
        config.command = vec!["false".into()];
        let bench =
            Self { driver: Driver::process(config).unwrap(), spec, manners: Arc::new(Mutex::new(manners)), state };
        let directory = bench.directory();
        directory.ensure().unwrap();
        directory.write_spec(&bench.spec).unwrap();
        let lock = directory.try_lock().unwrap().unwrap();
        let listener = UnixListener::bind(directory.file(directory::CONTROL)).unwrap();
        let (spec, manners) = (bench.spec.clone(), Arc::clone(&bench.manners));
        tokio::spawn(async move {
            let (ended, mut end) = tokio::sync::mpsc::channel::<()>(1);
            loop {
                tokio::select! {
                    Ok((stream, _)) = listener.accept() => {
                        let serving = serve(stream, spec.clone(), directory.clone(), Arc::clone(&manners), ended.clone());
                        tokio::spawn(serving);
                    }
                    _ = end.recv() => break,
                }
            }
            drop(lock);
        });
        bench
    }

    fn directory(&self) -> ServerDirectory {
        ServerDirectory::of(self.state.path(), self.spec.server_id)
    }

    fn id(&self) -> Uuid {
        self.spec.server_id
    }

    fn manners(&self) -> std::sync::MutexGuard<'_, Manners> {
        self.manners.lock().unwrap()
    }

    fn suspended_files(&self) -> Vec<&'static str> {
        let names = [directory::SUSPENDED, directory::SUSPENDED_STATE, directory::SUSPENDED_MEMORY];
        names.into_iter().filter(|name| self.directory().file(name).exists()).collect()
    }
}

async fn serve(
    stream: UnixStream,
    spec: VmSpec,
    directory: ServerDirectory,
    manners: Arc<Mutex<Manners>>,
    ended: tokio::sync::mpsc::Sender<()>,
) {
    let (reading, mut writing) = stream.into_split();
    let (mut reader, mut buffer) = (BufReader::new(Receiver::new(reading)), Vec::new());
    while let Ok(Some(line)) = read_line(&mut reader, &mut buffer).await {
        let Request { id, call } = serde_json::from_slice(&line).unwrap();
        let files = reader.get_mut().take(call.descriptors()).unwrap();
        let (result, event) = answer(&call, files, &spec, &mut manners.lock().unwrap());
        let suspended = call == Call::Suspend && result.is_ok();
        let speechless = manners.lock().unwrap().dies_speechless;
        if suspended && !speechless {
            let record = ExitRecord::new(&spec, ExitCause::Suspended, false, None);
            directory.write_exit(&record).unwrap();
        }
        let mut lines = to_line(&Message::Reply(Reply { id, result })).unwrap();
        if let Some(kind) = event {
            lines.extend(to_line(&Message::Event(Event { number: 2, at_unix_ms: 0, kind })).unwrap());
        }
        if writing.write_all(&lines).await.is_err() {
            return;
        }
        if suspended {
            let _ = ended.send(()).await;
            return;
        }
    }
}

fn answer(
    call: &Call,
    files: Vec<OwnedFd>,
    spec: &VmSpec,
    manners: &mut Manners,
) -> (Result<Answer, Refusal>, Option<EventKind>) {
    manners.asked.push(call.clone());
    let mut event = None;
    let changes = matches!(call, Call::AttachNic { .. } | Call::DetachNic { .. } | Call::Suspend);
    if let Some(reason) = manners.refuses.filter(|_| changes) {
        return (Err(Refusal { code: RefusalCode::Failed, message: reason.to_owned() }), None);
    }
    let answer = match call {
        Call::Hello { .. } => Answer::Hello(Hello {
            protocol: PROTOCOL,
            server_id: spec.server_id,
            spec_hash: spec.hash(),
            boot_id: spec.boot_id,
            generation: spec.generation,
            driver: spec.driver,
            pid: 1,
            state: VmState::Running,
            isolation: Isolation::default(),
        }),
        Call::Status => {
            Answer::Status(Status { state: VmState::Running, shutdown_pending: false, last_event: 1, uptime_ms: 1 })
        }
        Call::Devices => {
            let nic = |(slot, port_id): &(u8, Uuid)| PluggedNic { slot: *slot, port_id: *port_id, leaving: false };
            Answer::Devices(Devices { disks: vec![], nics: manners.nics.iter().map(nic).collect() })
        }
        Call::AttachNic { nic } => {
            for file in files {
                let mut text = String::new();
                File::from(file).read_to_string(&mut text).unwrap();
                manners.received.push_back(text);
            }
            manners.nics.push((nic.slot, nic.port_id));
            Answer::Done
        }
        Call::DetachNic { slot } if manners.deaf_to == 0 => {
            manners.nics.retain(|(here, _)| here != slot);
            event = Some(EventKind::DeviceRemoved(Device::Nic { slot: *slot }));
            Answer::Done
        }
        Call::DetachNic { .. } => {
            manners.deaf_to -= 1;
            Answer::Done
        }
        Call::Suspend => {
            for (file, text) in files.into_iter().zip(["the state", "the memory"]) {
                File::from(file).write_all(text.as_bytes()).unwrap();
            }
            Answer::Done
        }
        _ => Answer::Done,
    };
    (Ok(answer), event)
}

fn nic(port_id: Uuid) -> Nic {
    Nic {
        slot: 3,
        port_id,
        mac: "fa:16:3e:00:00:07".parse().unwrap(),
        mtu: 1500,
        descriptor: 9,
        queues: 1,
        limits: vmspec::NicLimits::default(),
    }
}

#[tokio::test]
async fn a_nic_is_plugged_in_with_the_tap_that_comes_with_it() {
    let bench = Bench::new(Manners::default()).await;
    let mut tap = tempfile::tempfile().unwrap();
    tap.write_all(b"the tap").unwrap();
    tap.rewind().unwrap();
    let port_id = Uuid::from_u128(7);
    bench.driver.attach_nic(bench.id(), nic(port_id), vec![tap.into()]).await.unwrap();
    assert_eq!(bench.manners().received, ["the tap"]);
    let told = bench.manners().asked.iter().any(|call| matches!(call, Call::AttachNic { nic } if nic.descriptor == 0));
    assert!(told, "the descriptor is the one of the message");
    let devices = bench.driver.devices(bench.id()).await.unwrap();
    assert_eq!(devices.nics, [PluggedNic { slot: 3, port_id, leaving: false }]);
    let error = bench.driver.attach_nic(bench.id(), nic(port_id), vec![]).await.unwrap_err();
    assert!(matches!(error, VmError::Unresponsive { .. }), "a tap is missing: {error}");
}

#[tokio::test]
async fn a_guest_that_lets_go_at_once_is_waited_for_no_longer() {
    let bench = Bench::new(Manners { nics: vec![(1, Uuid::from_u128(1))], ..Manners::default() }).await;
    bench.driver.detach_nic(bench.id(), 1, Duration::from_secs(3600)).await.unwrap();
    assert_eq!(bench.manners().nics, []);
    bench.driver.detach_nic(bench.id(), 1, Duration::from_secs(3600)).await.unwrap();
    let asks = bench.manners().asked.iter().filter(|call| matches!(call, Call::DetachNic { .. })).count();
    assert_eq!(asks, 1, "an empty slot is done already");
}

#[tokio::test]
async fn a_guest_that_did_not_hear_is_asked_again_and_one_that_does_not_want_to_keeps_it() {
    let bench = Bench::new(Manners { nics: vec![(1, Uuid::from_u128(1))], deaf_to: 1, ..Manners::default() }).await;
    bench.driver.detach_nic(bench.id(), 1, Duration::from_secs(3600)).await.unwrap();
    assert_eq!(bench.manners().nics, []);

    bench.manners().nics.push((2, Uuid::from_u128(2)));
    bench.manners().deaf_to = u32::MAX;
    let error = bench.driver.detach_nic(bench.id(), 2, Duration::from_millis(50)).await.unwrap_err();
    let VmError::Refused { reason, .. } = error else { panic!("{error}") };
    assert!(reason.contains("has not let go"), "{reason}");
    assert_eq!(bench.manners().nics.len(), 1);
}

#[tokio::test]
async fn a_suspended_process_leaves_two_files_to_go_on_from() {
    for dies_speechless in [false, true] {
        let bench = Bench::new(Manners { dies_speechless, ..Manners::default() }).await;
        bench.driver.suspend(bench.id()).await.unwrap();
        assert!(matches!(bench.driver.observe(bench.id()).await.unwrap(), Observed::Gone(_)));
        bench.driver.suspend(bench.id()).await.unwrap();
        assert!(bench.driver.is_suspended(bench.id()).await.unwrap());
        let (state, memory) = bench.driver.open_suspended(bench.id()).await.unwrap().unwrap();
        for (mut file, expected) in [(state, "the state"), (memory, "the memory")] {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, expected);
        }
        assert_eq!(bench.suspended_files().len(), 3);
        bench.driver.discard_suspended(bench.id()).await.unwrap();
        assert_eq!(bench.suspended_files(), [""; 0]);
        let error = bench.driver.suspend(bench.id()).await.unwrap_err();
        assert!(matches!(error, VmError::NotRunning { .. }), "nothing is left of it: {error}");
    }
}

#[tokio::test]
async fn a_refused_suspend_leaves_no_files() {
    let bench = Bench::new(Manners { refuses: Some("not this machine"), ..Manners::default() }).await;
    let error = bench.driver.suspend(bench.id()).await.unwrap_err();
    assert!(matches!(&error, VmError::Refused { reason, .. } if reason == "not this machine"), "{error}");
    assert_eq!(bench.suspended_files(), [""; 0]);
    assert!(!bench.driver.is_suspended(bench.id()).await.unwrap());
    assert!(matches!(bench.driver.observe(bench.id()).await.unwrap(), Observed::Running(_)));
}

#[tokio::test]
async fn a_guest_whose_memory_does_not_fit_on_the_disk_is_not_touched() {
    let bench = Bench::new(Manners::default()).await;
    let huge = VmSpec { memory_mib: 16 * 1024 * 1024, ..bench.spec.clone() };
    bench.directory().write_spec(&huge).unwrap();
    let error = bench.driver.suspend(bench.id()).await.unwrap_err();
    let VmError::Refused { reason, .. } = error else { panic!("{error}") };
    assert!(reason.contains("MiB free"), "{reason}");
    assert!(!bench.manners().asked.contains(&Call::Suspend));
}

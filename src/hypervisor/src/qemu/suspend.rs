//! A guest under QEMU written to files, and brought back.
//!
//! QEMU migrates through a socket, and this process carries the bytes between that and the memory file: QEMU gives up
//! migration to plain files by descriptor, and a stream has a bound here. The state file says what the stream is of.
//!
//! What must stay true: a guest goes on only in a machine of the same shape; a stream that is not whole never runs; a file that
//! grows past any honest size ends the suspend and not the host's disk.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};
use vmspec::VmSpec;
use vmspec::protocol::Devices;

use super::arguments::{MACHINE, Means};
use super::process::blocking;
use super::qmp::Qmp;

/// The version of the state file. Version 2 has screen and vsock.
const VERSION: u32 = 2;
const MOST_STATE_BYTES: u64 = 64 * 1024;
const CHUNK_BYTES: usize = 256 * 1024;
/// QEMU moves some bytes within this, or has failed.
const STALL: Duration = Duration::from_secs(60);
/// What a stream has beside memory: devices, page headers, and as much again for what nobody thought of.
const BESIDE_MEMORY_BYTES: u64 = 64 << 20;
const NAME: &str = "suspended";
const UNREADABLE: &str = "the suspended guest cannot be read";

/// The shape of the machine that was suspended.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    version: u32,
    driver: String,
    machine: String,
    accelerator: String,
    boot: String,
    vcpus: u32,
    memory_mib: u64,
    disk_slots: Vec<u8>,
    nic_slots: Vec<u8>,
    screen: bool,
    vsock: bool,
    stream_bytes: u64,
}

impl State {
    fn new(spec: &VmSpec, means: &Means, devices: &Devices, stream_bytes: u64) -> Self {
        let mut disk_slots: Vec<u8> = devices.disks.iter().map(|disk| disk.slot).collect();
        let mut nic_slots: Vec<u8> = devices.nics.iter().map(|nic| nic.slot).collect();
        disk_slots.sort_unstable();
        nic_slots.sort_unstable();
        Self {
            version: VERSION,
            driver: "qemu".to_owned(),
            machine: MACHINE.to_owned(),
            accelerator: means.accelerator.name().to_owned(),
            boot: means.boot.name().to_owned(),
            vcpus: spec.vcpus,
            memory_mib: spec.memory_mib,
            disk_slots,
            nic_slots,
            screen: spec.display,
            vsock: means.vsock_cid.is_some(),
            stream_bytes,
        }
    }

    /// Why a guest of this shape cannot go on in a machine of that one.
    fn check(&self, here: &Self) -> Result<(), String> {
        let refused = |what: &str, then: String, now: String| Err(format!("{what} was {then}, and is {now} now"));
        if self.version != VERSION {
            return refused("the version of the state", self.version.to_string(), VERSION.to_string());
        }
        for (what, then, now) in [
            ("the driver", &self.driver, &here.driver),
            ("the machine", &self.machine, &here.machine),
            ("the accelerator", &self.accelerator, &here.accelerator),
            ("the firmware", &self.boot, &here.boot),
        ] {
            if then != now {
                return refused(what, then.clone(), now.clone());
            }
        }
        for (what, then, now) in [
            ("the number of processors", u64::from(self.vcpus), u64::from(here.vcpus)),
            ("the memory in MiB", self.memory_mib, here.memory_mib),
            ("the size of the memory file", self.stream_bytes, here.stream_bytes),
        ] {
            if then != now {
                return refused(what, then.to_string(), now.to_string());
            }
        }
        for (what, then, now) in [("the screen", self.screen, here.screen), ("the vsock", self.vsock, here.vsock)] {
            if then != now {
                let word = |is| if is { "there" } else { "not there" }.to_owned();
                return refused(what, word(then), word(now));
            }
        }
        for (what, then, now) in
            [("the slots of disks", &self.disk_slots, &here.disk_slots), ("of nics", &self.nic_slots, &here.nic_slots)]
        {
            if then != now {
                return refused(what, format!("{then:?}"), format!("{now:?}"));
            }
        }
        Ok(())
    }
}

fn said(what: &'static str) -> impl Fn(std::io::Error) -> String {
    move |error| format!("{what}: {error}")
}

/// A stream between QEMU, which knows its end as [`NAME`], and this process.
async fn connect(qmp: &mut Qmp) -> Result<UnixStream, String> {
    let (ours, far) = UnixStream::pair().map_err(said("cannot make a socket pair"))?;
    let far = blocking(far).map_err(said("cannot make a socket pair"))?;
    let sent = qmp.execute_with("getfd", json!({ "fdname": NAME }), &[far.as_fd()]).await;
    sent.map_err(|error| error.to_string())?;
    Ok(ours)
}

/// Where a migration stands: over and well, over and not, or neither.
async fn outcome(qmp: &mut Qmp) -> Result<Option<Result<(), String>>, String> {
    let status = qmp.execute("query-migrate", json!({})).await.map_err(|error| error.to_string())?;
    let text = |key: &str| status.get(key).and_then(Value::as_str);
    Ok(match text("status") {
        Some("completed") => Some(Ok(())),
        Some("failed" | "cancelled") => Some(Err(text("error-desc").unwrap_or("QEMU does not say why").to_owned())),
        _ => None,
    })
}

async fn wait_for_outcome(qmp: &mut Qmp) -> Result<(), String> {
    let until = Instant::now() + STALL;
    loop {
        if let Some(outcome) = outcome(qmp).await? {
            return outcome;
        }
        if Instant::now() > until {
            return Err("QEMU does not come to an end of it".to_owned());
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Write a guest that is stopped to its files, whole and synced.
pub async fn write(
    qmp: &mut Qmp,
    spec: &VmSpec,
    means: &Means,
    devices: &Devices,
    state: OwnedFd,
    memory: OwnedFd,
) -> Result<(), String> {
    let (mut state, mut memory) = (File::from(state), File::from(memory));
    // Nothing else has to share a line with it.
    let speed = json!({ "max-bandwidth": 1_u64 << 50 });
    qmp.execute("migrate-set-parameters", speed).await.map_err(|error| error.to_string())?;
    let stream = connect(qmp).await?;
    let uri = json!({ "uri": format!("fd:{NAME}") });
    qmp.execute("migrate", uri).await.map_err(|error| error.to_string())?;
    let most = spec.memory_mib.saturating_mul(2 << 20).saturating_add(BESIDE_MEMORY_BYTES);
    let carried = carry_out(stream, &mut memory, most).await;
    let stream_bytes = match carried {
        Ok(bytes) => bytes,
        Err(why) => {
            let _ = qmp.execute("migrate_cancel", json!({})).await;
            let _ = wait_for_outcome(qmp).await;
            return Err(why);
        }
    };
    wait_for_outcome(qmp).await?;
    memory.sync_all().map_err(said("the memory file cannot be written"))?;
    let bytes = serde_json::to_vec_pretty(&State::new(spec, means, devices, stream_bytes))
        .map_err(|error| error.to_string())?;
    let written = state.set_len(0).and_then(|()| state.write_all(&bytes)).and_then(|()| state.sync_all());
    written.map_err(said("the state file cannot be written"))
}

/// Until QEMU closes its end. Gives how much it was.
async fn carry_out(mut stream: UnixStream, memory: &mut File, most: u64) -> Result<u64, String> {
    memory.set_len(0).map_err(said("the memory file cannot be written"))?;
    let mut chunk = vec![0_u8; CHUNK_BYTES];
    let mut total = 0_u64;
    loop {
        let read = timeout(STALL, stream.read(&mut chunk)).await;
        let read = read.map_err(|_| "QEMU stopped in the middle of it".to_owned())?;
        let bytes = chunk.get(..read.map_err(said("QEMU's end of the stream broke"))?).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(total);
        }
        total = total.saturating_add(bytes.len() as u64);
        if total > most {
            return Err(format!("QEMU writes more than the {most} bytes that this guest can take"));
        }
        memory.write_all(bytes).map_err(said("the memory file cannot be written"))?;
    }
}

/// A suspended guest, with its state read.
pub struct Suspended {
    state: State,
    memory: File,
}

impl Suspended {
    pub fn open(state: OwnedFd, memory: OwnedFd) -> Result<Self, String> {
        let mut file = File::from(state);
        let mut text = Vec::new();
        let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(MOST_STATE_BYTES).read_to_end(&mut text));
        read.map_err(said(UNREADABLE))?;
        let state = serde_json::from_slice(&text)
            .map_err(|error| format!("the suspended guest was not written by this driver, or is damaged: {error}"))?;
        Ok(Self { state, memory: memory.into() })
    }

    /// A guest that had none gets none, though there may be one now.
    pub fn has_vsock(&self) -> bool {
        self.state.vsock
    }
}

/// Bring a guest back into a QEMU that waits for it. It is stopped then.
pub async fn read(
    qmp: &mut Qmp,
    spec: &VmSpec,
    means: &Means,
    devices: &Devices,
    suspended: Suspended,
) -> Result<(), String> {
    let Suspended { state, mut memory } = suspended;
    let unreadable = said(UNREADABLE);
    let stream_bytes = memory.seek(SeekFrom::End(0)).map_err(&unreadable)?;
    state.check(&State::new(spec, means, devices, stream_bytes))?;
    memory.seek(SeekFrom::Start(0)).map_err(&unreadable)?;

    let stream = connect(qmp).await?;
    let uri = json!({ "uri": format!("fd:{NAME}") });
    qmp.execute("migrate-incoming", uri).await.map_err(|error| error.to_string())?;
    carry_in(&mut memory, stream).await?;
    wait_for_outcome(qmp).await
}

async fn carry_in(memory: &mut File, mut stream: UnixStream) -> Result<(), String> {
    let mut chunk = vec![0_u8; CHUNK_BYTES];
    loop {
        let read = memory.read(&mut chunk).map_err(said(UNREADABLE))?;
        if read == 0 {
            return Ok(());
        }
        let written = timeout(STALL, stream.write_all(chunk.get(..read).unwrap_or_default())).await;
        match written {
            Ok(Ok(())) => {}
            // QEMU has what it wants, or has failed: it says which.
            Ok(Err(_)) => return Ok(()),
            Err(_) => return Err("QEMU does not take the suspended guest".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::arguments::{Accelerator, Boot};
    use super::*;

    fn state(change: impl FnOnce(&mut State)) -> State {
        let spec = VmSpec::parse(include_bytes!("../../../vmspec/tests/golden/spec-v1.json")).unwrap();
        let means = Means { boot: Boot::Bios, accelerator: Accelerator::Tcg, pool_mib: None, vsock_cid: None };
        let mut state = State::new(&spec, &means, &super::super::devices::Plugged::new(&spec).list(), 77);
        change(&mut state);
        state
    }

    #[test]
    fn a_guest_goes_on_only_in_a_machine_of_its_shape() {
        assert_eq!(state(|_| {}).check(&state(|_| {})), Ok(()));
        for (change, what) in [
            ((|state| state.version = 1) as fn(&mut State), "version"),
            (|state| state.machine.push('x'), "machine"),
            (|state| state.driver.push('x'), "driver"),
            (|state| state.accelerator = "kvm".to_owned(), "accelerator"),
            (|state| state.boot = "uefi".to_owned(), "firmware"),
            (|state| state.vcpus += 1, "processors"),
            (|state| state.memory_mib += 1, "memory in MiB"),
            (|state| state.stream_bytes -= 1, "memory file"),
            (|state| state.disk_slots.push(7), "disks"),
            (|state| state.nic_slots.clear(), "nics"),
            (|state| state.screen ^= true, "screen"),
            (|state| state.vsock ^= true, "vsock"),
        ] {
            let why = state(change).check(&state(|_| {})).unwrap_err();
            assert!(why.contains(what), "{why}");
        }
    }

    #[test]
    fn a_stream_has_a_bound_and_its_end_is_seen() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for (sent, most, expected) in [(100_000, 100_000, Some(100_000)), (100_001, 100_000, None)] {
                let (ours, mut far) = UnixStream::pair().unwrap();
                let mut file = tempfile::tempfile().unwrap();
                let sending = async move {
                    let _ = far.write_all(&vec![7; sent]).await;
                };
                let (carried, ()) = tokio::join!(carry_out(ours, &mut file, most), sending);
                assert_eq!(carried.ok(), expected);
                assert!(file.metadata().unwrap().len() <= most);
            }
        });
    }
}

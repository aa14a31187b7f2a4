//! The life of a VM process (DESIGN section 8).
//!
//! 1. Read the spec, take over the inherited descriptors, leave the supervisor's session.
//! 2. Take the lock, or end without touching anything: somebody else is this server.
//! 3. With root still: open every file it will ever write, bind its sockets, raise the walls. Then drop root.
//! 4. Run the machine; say `ready` on standard output when the guest executes.
//! 5. Fill `exit.json`, fsync it, tell those who are connected, end. The lock is free when, and only when, all of it is over.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, OFlag};
use nix::poll::{PollTimeout, poll};
use tokio::net::UnixListener as AsyncUnixListener;
use vmspec::console::BoundedLog;
use vmspec::protocol::{EventKind, VmState};
use vmspec::{Driver, ExitCause, ExitRecord, GuestOs, ServerDirectory, VmSpec, directory};

use crate::kvm::driver as kvm;
use crate::machine::{Ended, Machine};
use crate::pools;
use crate::qemu::{self, Accelerator, Boot, Means, Resources, firmware, uefi};
use crate::virtio::vhost;
use crate::{control, jail, sys, walls};

const QEMU_LOG: &str = "qemu.log";
const QEMU_LOG_BYTES: u64 = 64 * 1024;
/// Looking at the lock takes it for an instant; a process that starts meets that, and waits this long for it.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);
/// Connected supervisors get their last event within this, or not.
const FAREWELL: Duration = Duration::from_millis(20);

/// Exit statuses, for logs: the truth is in `exit.json`.
const ENDED_BADLY: u8 = 1;
const NO_SPEC: u8 = 2;
const LOCKED: u8 = 3;

/// The main of `solostack vm <dir>`. `dir` is the server's directory with a `spec.json`; descriptors 3, 4 ... are those
/// of the spec. Must be called before the program opens a descriptor or starts a thread.
pub fn main(dir: &Path) -> ExitCode {
    let directory = ServerDirectory::at(dir);
    let spec = match directory.read_spec() {
        Ok(Some(spec)) => spec,
        Ok(None) => return fail(NO_SPEC, "there is no spec.json"),
        Err(error) => return fail(NO_SPEC, &error.to_string()),
    };
    let descriptors = match sys::claim_descriptors(spec.descriptor_count()) {
        Ok(descriptors) => descriptors,
        Err(error) => return fail(NO_SPEC, &error.to_string()),
    };
    let stdout = match sys::take_stdout() {
        Ok(stdout) => stdout,
        Err(error) => return fail(NO_SPEC, &error.to_string()),
    };
    let logging =
        tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).with_max_level(tracing::Level::INFO);
    // A log that cannot be written must not end the guest: saying so on standard error would panic.
    let logging = logging.log_internal_errors(false);
    // A caller that logs already keeps its way.
    let _ = logging.try_init();
    walls::own_session();
    let _ = nix::sys::prctl::set_name(c"solostack-vm");

    let lock = match take_lock(&directory) {
        Ok(Some(lock)) => lock,
        Ok(None) => return fail(LOCKED, "another VM process holds the lock"),
        Err(error) => return fail(LOCKED, &format!("cannot take the lock: {error}")),
    };
    let exit_file = match open_own(&directory, directory::EXIT).and_then(|file| file.set_len(0).map(|()| file)) {
        Ok(file) => file,
        Err(error) => return fail(ENDED_BADLY, &format!("cannot open exit.json: {error}")),
    };
    let last_word = LastWord { file: exit_file, spec: spec.clone() };
    match live(&directory, spec, descriptors, stdout, &last_word) {
        Ok(code) => {
            // Explicit, as everything hangs on its order: the lock outlives the record.
            drop(lock);
            code
        }
        Err(why) => {
            tracing::error!("the VM did not start: {why}");
            last_word.say(&Ended::new(ExitCause::StartFailed, why));
            drop(lock);
            ExitCode::from(ENDED_BADLY)
        }
    }
}

fn fail(code: u8, why: &str) -> ExitCode {
    // Before there is a subscriber: one line for vm.log.
    let _ = writeln!(io::stderr(), "solostack vm: {why}");
    ExitCode::from(code)
}

/// The lock, with this process's pid written in it as a hint for whoever has to kill it.
fn take_lock(directory: &ServerDirectory) -> io::Result<Option<Flock<File>>> {
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        if let Some(lock) = directory.try_lock()? {
            let (mine, there) = (lock.metadata()?, fs::metadata(directory.file(directory::LOCK))?);
            if (mine.dev(), mine.ino()) != (there.dev(), there.ino()) {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the server was removed meanwhile"));
            }
            lock.set_len(0)?;
            lock.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)?;
            return Ok(Some(lock));
        }
        if Instant::now() > until {
            return Ok(None);
        }
        poll(&mut [], PollTimeout::from(10_u8))?;
    }
}

/// Open a file of this process, for reading and writing, made if missing.
pub(crate) fn open_own(directory: &ServerDirectory, name: &str) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits()).open(directory.file(name))
}

/// Bind a socket in the directory, replacing what a killed process left.
fn bind(directory: &ServerDirectory, handle: &File, name: &str) -> io::Result<UnixListener> {
    match fs::remove_file(directory.file(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(directory::socket_address(handle, name))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[derive(Debug)]
struct LastWord {
    file: File,
    spec: VmSpec,
}

impl LastWord {
    fn say(&self, ended: &Ended) {
        let record = ExitRecord::new(&self.spec, ended.cause, ended.requested, ended.detail.clone());
        let written = serde_json::to_vec(&record)
            .map_err(io::Error::from)
            .and_then(|bytes| self.file.write_all_at(&bytes, 0))
            .and_then(|()| self.file.sync_all());
        if let Err(error) = written {
            tracing::error!(%error, "cannot write exit.json");
        }
    }
}

/// What a driver has opened before the walls.
enum Opened {
    Kvm(kvm::Opened),
    Qemu(Box<OpenedForQemu>),
}

struct OpenedForQemu {
    log: BoundedLog,
    uefi: Option<uefi::UefiFiles>,
    accelerator: Accelerator,
    pool_mib: Option<u64>,
    vsock: Option<OwnedFd>,
    processes: File,
}

/// What QEMU starts first.
fn boot(spec: &VmSpec, uefi: Option<&uefi::UefiFiles>, firmware: Option<firmware::Places>) -> Boot {
    match (uefi, firmware) {
        (Some(files), _) => Boot::Uefi { secure: files.secure },
        // Its disks are nothing that the firmware knows.
        (None, _) if spec.guest_os == GuestOs::Windows => Boot::Bios,
        // It boots the first disk and no other.
        (None, _) if spec.boot_slot() != spec.first_slot() => Boot::Bios,
        (None, Some(places)) => Boot::Firmware(places),
        (None, None) => {
            tracing::warn!("QEMU cannot read our firmware: SeaBIOS boots the disk");
            Boot::Bios
        }
    }
}

/// Steps 3 to 5. An error is why the guest never ran, with no record written yet.
fn live(
    directory: &ServerDirectory,
    spec: VmSpec,
    descriptors: Vec<OwnedFd>,
    stdout: File,
    last_word: &LastWord,
) -> Result<ExitCode, String> {
    let explained = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    // The lock is held now, so nobody replaces the spec any more; it could have been replaced just before.
    let again = directory.read_spec().map_err(|error| error.to_string())?;
    if again.as_ref() != Some(&spec) {
        return Err("spec.json changed while this process started".to_owned());
    }
    let (built_in, kvm) = match spec.driver {
        Driver::Tcg => (false, false),
        // Neither OVMF nor Windows has been tried on the built-in machine.
        Driver::Kvm if uefi::wants_uefi(&spec) || spec.guest_os == GuestOs::Windows => {
            tracing::info!("UEFI and Windows are run by QEMU with KVM, and not by the built-in machine");
            (false, true)
        }
        Driver::Kvm => (true, true),
        Driver::Fake => return Err("a fake has no process".to_owned()),
    };
    crate::descriptors::check(&spec, &descriptors)?;

    let handle = directory.open().map_err(explained("cannot open the server's directory"))?;
    let bound = |name, bytes| open_own(directory, name).and_then(|file| BoundedLog::new(file, bytes));
    let console_log =
        bound(directory::CONSOLE, spec.console_log_bytes).map_err(explained("cannot open console.log"))?;
    let control = bind(directory, &handle, directory::CONTROL).map_err(explained("cannot bind control.sock"))?;
    let serial = bind(directory, &handle, directory::SERIAL).map_err(explained("cannot bind serial.sock"))?;
    let agent = bind(directory, &handle, directory::AGENT).map_err(explained("cannot bind agent.sock"))?;
    let vnc = spec.display.then(|| bind(directory, &handle, directory::VNC)).transpose();
    let vnc = vnc.map_err(explained("cannot bind vnc.sock"))?;
    let opened = if built_in {
        Opened::Kvm(kvm::open(&spec)?)
    } else {
        let log = bound(QEMU_LOG, QEMU_LOG_BYTES).map_err(explained("cannot open qemu.log"))?;
        let accelerator = if kvm {
            let device = File::options().read(true).write(true).open("/dev/kvm");
            let device = device.map_err(explained("cannot open /dev/kvm"))?;
            Accelerator::Kvm { hyperv: qemu::has_hyperv(device.into()) }
        } else {
            Accelerator::Tcg
        };
        let uefi = if uefi::wants_uefi(&spec) { Some(uefi::open(directory, &spec)?) } else { None };
        let processes = File::open("/proc").map_err(explained("cannot open /proc"))?;
        let pool_mib = pools::choose(spec.page_size, spec.memory_mib)?;
        let vsock = vhost::open_vsock(spec.vsock_cid().into()).map(|(file, _)| file.into());
        Opened::Qemu(Box::new(OpenedForQemu { log, uefi, accelerator, pool_mib, vsock, processes }))
    };
    let files = firmware::Files::new();
    let named = files.named();
    let root = if built_in { walls::Root::Empty } else { walls::Root::Qemu { kvm, files: &named } };
    let mut isolation = walls::raise(&spec, directory.path(), root);
    if !built_in && !isolation.mount_namespace {
        // In a place of its own if there is no root directory to put it in. What went wrong is seen when it is looked for.
        let _ = files.write_into(directory.path());
    }
    walls::drop_root(&spec, &mut isolation, root).map_err(explained("cannot become the user of this VM"))?;
    let place = if isolation.mount_namespace { Path::new("/") } else { directory.path() };
    let places = if built_in { None } else { firmware::Places::below(place) };
    if built_in {
        let guest_bytes = spec.memory_mib.saturating_mul(1 << 20);
        jail::enter(guest_bytes, jail::Violation::Report, &mut isolation)
            .map_err(explained("cannot enter the jail"))?;
    }
    for missing in &isolation.missing {
        tracing::warn!("a wall is missing: {missing}");
    }

    // One thread for everything that is not the built-in machine's: QEMU dies with the thread that started it, and a
    // process with a pid namespace for its children cannot start threads at all. The built-in machine starts its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(explained("cannot start the runtime"))?;
    runtime.block_on(async {
        let control = AsyncUnixListener::from_std(control).map_err(explained("cannot listen on control.sock"))?;
        let serial = AsyncUnixListener::from_std(serial).map_err(explained("cannot listen on serial.sock"))?;
        let (machine, orders) = Machine::new(spec, isolation);
        let machine = Arc::new(machine);
        let connections = tokio::spawn(control::serve(control, Arc::clone(&machine)));
        let ready = move || {
            // A supervisor that has died meanwhile does not hear it, and finds this process by its lock.
            let mut stdout = stdout;
            let _ = stdout.write_all(b"ready\n");
        };
        let agent = AsyncUnixListener::from_std(agent).map_err(explained("cannot listen on agent.sock"))?;
        let ended = match opened {
            Opened::Kvm(opened) => {
                let resources = kvm::Resources { opened, descriptors, console_log, serial, agent, vnc };
                kvm::run(&machine, resources, orders, ready).await
            }
            Opened::Qemu(opened) => {
                let OpenedForQemu { log: qemu_log, uefi, accelerator, pool_mib, vsock, processes } = *opened;
                let vnc = vnc.map(AsyncUnixListener::from_std).transpose();
                let vnc = vnc.map_err(explained("cannot listen on vnc.sock"))?;
                let boot = boot(&machine.spec, uefi.as_ref(), places);
                let vsock_cid = vsock.is_some().then(|| machine.spec.vsock_cid());
                let means = Means { boot, accelerator, pool_mib, vsock_cid };
                let resources = Resources {
                    means,
                    descriptors,
                    uefi,
                    console_log,
                    qemu_log,
                    serial,
                    agent,
                    vnc,
                    vsock,
                    processes,
                };
                qemu::run(&machine, resources, orders, ready).await
            }
        };
        tracing::info!(server_id = %machine.spec.server_id, cause = ?ended.cause, detail = ?ended.detail, "the VM ended");
        last_word.say(&ended);
        machine.change(VmState::Stopping, EventKind::PoweredOff { cause: ended.cause, detail: ended.detail });
        tokio::time::sleep(FAREWELL).await;
        connections.abort();
        Ok(match ended.cause {
            ExitCause::HypervisorFailed | ExitCause::StartFailed => ExitCode::from(ENDED_BADLY),
            _ => ExitCode::SUCCESS,
        })
    })
}

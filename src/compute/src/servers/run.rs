//! What the operations of servers do outside: have a VM running, have it gone. All of it can be repeated.

use std::{
    fs::{File, OpenOptions},
    os::fd::OwnedFd,
    time::Duration,
};

use serde_json::{Map, Value};
use tasks::{Failure, Record, TaskContext};
use uuid::Uuid;
use vmspec::{Restore, VmSpec, spec};

use super::{
    Server, cpus, disk,
    model::{PowerState, VmState},
    rescue, store,
};
use crate::{
    App,
    flavors::extra_specs::{self, Tuning},
    network_info,
    vms::{Observed, VmError, VmState as ProcessState},
};

/// The server that the operation is about. One without a row cannot go on.
pub(crate) async fn server(app: &App, task: &TaskContext) -> Result<Server, Failure> {
    let id = task.resource().to_owned();
    app.db.read(move |tx| store::find(tx, &id)).await?.ok_or_else(|| Failure::fatal("The server's row is gone."))
}

pub(crate) fn uuid(server: &Server) -> Result<Uuid, Failure> {
    Uuid::try_parse(&server.id).map_err(|error| Failure::fatal("The server's id is no UUID.").caused_by(error))
}

pub(crate) fn unreadable(app: &App, resource: &str, reason: &str) -> Record {
    let (id, reason, now) = (resource.to_owned(), reason.to_owned(), app.clock.now_text());
    Box::new(move |tx| store::fail(tx, &id, PowerState::NoState, &reason, &now))
}

/// Has the VM running with what the server has now. Looks first: after a crash it may run already.
pub(crate) async fn ensure_running(app: &App, task: &TaskContext, server: &Server) -> Result<(), Failure> {
    let id = uuid(server)?;
    let generation = task.row.generation.unsigned_abs();
    match app.driver.observe(id).await {
        Ok(Observed::Running(running)) if running.generation == generation => return Ok(()),
        Ok(Observed::Running(_) | Observed::Unresponsive { .. }) => {
            // One of an earlier operation, which this one replaces.
            task.act(end(app, id, None)).await?;
        }
        Ok(Observed::Gone(_) | Observed::Absent) => {}
        Err(error) => return Err(failure("The server's process cannot be looked at.", error)),
    }
    let (spec, descriptors) = task.act(prepare(app, server, id, generation, From::Disk)).await?;
    start(app, task, &spec, descriptors).await
}

/// Has the VM running on where it was suspended. What runs already is left alone: it is that, or better.
pub(crate) async fn ensure_resumed(app: &App, task: &TaskContext, server: &Server) -> Result<(), Failure> {
    let id = uuid(server)?;
    match app.driver.observe(id).await {
        Ok(Observed::Running(_)) => return Ok(()),
        Ok(Observed::Gone(_) | Observed::Absent) => {}
        Ok(Observed::Unresponsive { reason }) => return Err(Failure::retry(silent(&reason))),
        Err(error) => return Err(failure("The server's process cannot be looked at.", error)),
    }
    let files = app.driver.open_suspended(id).await;
    let files = files.map_err(|error| failure("The suspended server cannot be read.", error))?;
    let (state, memory) = files.ok_or_else(|| {
        Failure::fatal("The server's memory is lost: it was resumed once already, or its files are gone.")
    })?;
    let generation = task.row.generation.unsigned_abs();
    let (spec, descriptors) = task.act(prepare(app, server, id, generation, From::Memory(state, memory))).await?;
    start(app, task, &spec, descriptors).await
}

async fn start(app: &App, task: &TaskContext, spec: &VmSpec, descriptors: Vec<OwnedFd>) -> Result<(), Failure> {
    task.act(app.driver.ensure_running(spec, descriptors))
        .await
        .map_err(|error| failure(&format!("The hypervisor did not start the server: {error}"), error))
}

/// What a guest begins with.
enum From {
    Disk,
    /// State and memory of a suspended one.
    Memory(File, File),
}

/// The VM's description and its open files, in the order of their indices.
async fn prepare(
    app: &App,
    server: &Server,
    id: Uuid,
    generation: u64,
    from: From,
) -> Result<(VmSpec, Vec<OwnedFd>), Failure> {
    if matches!(from, From::Disk) {
        discard_suspended(app, id).await?;
    }
    let tuning = tuning(server);
    let rescue = rescue::of_server(app, server).await?;
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    let mut disks = Vec::new();
    for (slot, (kind, path, read_only)) in disk::files(app, server, rescue.as_ref()).into_iter().enumerate() {
        let file = open(&path, read_only)
            .map_err(|error| Failure::retry(format!("The {} cannot be opened.", disk::word(kind))).caused_by(error))?;
        let size_bytes = file
            .metadata()
            .map_err(|error| Failure::retry(format!("The {} cannot be read.", disk::word(kind))).caused_by(error))?
            .len();
        disks.push(spec::Disk {
            slot: u8::try_from(slot).unwrap_or(u8::MAX),
            kind,
            descriptor: u32::try_from(descriptors.len()).unwrap_or(u32::MAX),
            read_only,
            serial: String::new(),
            size_bytes,
            limits: if read_only { vmspec::DiskLimits::default() } else { tuning.disk },
        });
        descriptors.push(file.into());
    }
    let mut nics = Vec::new();
    for plug in network_info::plug(app, server).await? {
        nics.push(nic(server, &plug, u32::try_from(descriptors.len()).unwrap_or(u32::MAX)));
        descriptors.push(plug.tap);
    }
    let restore = match from {
        From::Disk => None,
        From::Memory(state, memory) => {
            let state_descriptor = u32::try_from(descriptors.len()).unwrap_or(u32::MAX);
            descriptors.extend([OwnedFd::from(state), OwnedFd::from(memory)]);
            Some(Restore { state_descriptor, memory_descriptor: state_descriptor.saturating_add(1) })
        }
    };
    let dedicated = if tuning.dedicated { Some(cpus::of_server(app, server).await?) } else { None };
    let boot_id = vmspec::host_boot_id()
        .map_err(|error| Failure::retry("The host's boot id cannot be read.").caused_by(error))?;
    let image = rescue.and_then(|rescue| rescue.image_properties).unwrap_or_else(|| server.image_properties.clone());
    let property = |name: &str| image.get(name).and_then(|value| value.as_str());
    let (firmware, secure_boot) = firmware(&image).map_err(Failure::fatal)?;
    let guest_os = match property("os_type") {
        Some("windows") => spec::GuestOs::Windows,
        _ => spec::GuestOs::Other,
    };
    let video = property("hw_video_model");
    let spec = VmSpec {
        version: spec::SPEC_VERSION,
        server_id: id,
        name: server.instance_name(),
        boot_id,
        generation,
        driver: app.options.driver,
        vcpus: u32::try_from(server.flavor.vcpus).unwrap_or(u32::MAX),
        memory_mib: server.flavor.ram_mib.unsigned_abs(),
        page_size: tuning.page_size,
        cpu: spec::Cpu { model: None, topology: tuning.topology, dedicated },
        disks,
        nics,
        console_log_bytes: app.options.console_log_bytes,
        smbios: spec::Smbios::openstack(id),
        firmware,
        secure_boot,
        guest_os,
        display: video != Some("none"),
        run_as: app.options.run_as_base.and_then(|_| u32::try_from(server.run_as).ok()),
        restore,
    };
    Ok((spec, descriptors))
}

/// An interface in the machine, whether it is there from the start or plugged in later.
pub(crate) fn nic(server: &Server, plug: &network_info::Plug, descriptor: u32) -> spec::Nic {
    spec::Nic {
        slot: plug.slot,
        port_id: plug.port_id,
        mac: plug.mac,
        mtu: plug.mtu,
        descriptor,
        queues: 1,
        limits: tuning(server).nic,
    }
}

/// What of the host the server gets. It was found right when the server was made; one that an older program made may
/// have words that mean nothing, and starts without.
fn tuning(server: &Server) -> Tuning {
    extra_specs::tuning(&server.flavor, &server.image_properties).unwrap_or_else(|error| {
        tracing::warn!(server.id = server.id, reason = error.public(), "the flavor's extra specs are not kept");
        Tuning::default()
    })
}

/// What boots, by the properties of the image. Secure Boot is a matter of UEFI; an error says so to a user.
pub(crate) fn firmware(image: &Map<String, Value>) -> Result<(spec::Firmware, spec::SecureBoot), &'static str> {
    let property = |name: &str| image.get(name).and_then(Value::as_str);
    let secure_boot = match property("os_secure_boot") {
        Some("required") => spec::SecureBoot::Required,
        Some("optional") => spec::SecureBoot::Optional,
        _ => spec::SecureBoot::Disabled,
    };
    match property("hw_firmware_type") {
        Some("uefi") => Ok((spec::Firmware::Uefi, secure_boot)),
        _ if secure_boot == spec::SecureBoot::Required => {
            Err("The image has os_secure_boot=required, which needs hw_firmware_type=uefi as well.")
        }
        _ => Ok((spec::Firmware::Bios, spec::SecureBoot::Disabled)),
    }
}

fn open(path: &std::path::Path, read_only: bool) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(!read_only).open(path)
}

/// Has no process left, and nothing to go on from. With `patience` the guest may shut down by itself first.
pub(crate) async fn end(app: &App, id: Uuid, patience: Option<Duration>) -> Result<(), Failure> {
    match app.driver.stop(id, patience).await {
        Ok(()) | Err(VmError::NotRunning { .. }) => {}
        Err(error) => {
            tracing::warn!(server.id = %id, %error, "the server does not stop, its process is killed");
            app.driver.kill(id).await.map_err(|error| failure("The server's process cannot be ended.", error))?;
        }
    }
    discard_suspended(app, id).await
}

/// Has nothing of a suspended machine left.
pub(crate) async fn discard_suspended(app: &App, id: Uuid) -> Result<(), Failure> {
    let discarded = app.driver.discard_suspended(id).await;
    discarded.map_err(|error| failure("The files of the suspended server cannot be removed.", error))
}

/// What the server is without an operation: by its process, or what is left of it. Retries while it is silent.
pub(crate) async fn settled(app: &App, id: Uuid) -> Result<(VmState, PowerState), Failure> {
    Ok(match app.driver.observe(id).await {
        Ok(Observed::Running(running)) if running.state == ProcessState::Paused => {
            (VmState::Paused, PowerState::Paused)
        }
        Ok(Observed::Running(running)) if running.state == ProcessState::Stopping => {
            return Err(Failure::retry("The server's process is ending."));
        }
        Ok(Observed::Running(_)) => (VmState::Active, PowerState::Running),
        Ok(Observed::Gone(gone)) => {
            let suspended = app.driver.is_suspended(id).await;
            match suspended.map_err(|error| failure("The suspended server cannot be read.", error))? {
                true => (VmState::Suspended, PowerState::Shutdown),
                false if gone.exit.is_some() => (VmState::Stopped, PowerState::Shutdown),
                false => (VmState::Stopped, PowerState::Crashed),
            }
        }
        Ok(Observed::Absent) => return Err(Failure::fatal("The server's directory with its disks is gone.")),
        Ok(Observed::Unresponsive { reason }) => return Err(Failure::retry(silent(&reason))),
        Err(error) => return Err(failure("The server's process cannot be looked at.", error)),
    })
}

fn silent(reason: &str) -> String {
    format!("The server's process does not answer: {reason}")
}

pub(crate) async fn unplug(app: &App, server: &Server) -> Result<(), Failure> {
    network_info::unplug(app, server).await
}

/// Nothing of the server left outside the database.
pub(crate) async fn remove(app: &App, task: &TaskContext, server: &Server) -> Result<(), Failure> {
    let id = uuid(server)?;
    task.act(end(app, id, None)).await?;
    task.act(unplug(app, server)).await?;
    task.act(app.driver.remove(id)).await.map_err(|error| failure("The server's files cannot be removed.", error))
}

pub(crate) fn failure(public: &str, error: VmError) -> Failure {
    Failure::retry(public.to_owned()).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secure_boot_is_asked_for_with_uefi_only() {
        use spec::{
            Firmware::{Bios, Uefi},
            SecureBoot::{Disabled, Optional, Required},
        };
        for (kind, secure, expected) in [
            (None, None, Some((Bios, Disabled))),
            (Some("bios"), Some("optional"), Some((Bios, Disabled))),
            (Some("bios"), Some("required"), None),
            (None, Some("required"), None),
            (Some("uefi"), None, Some((Uefi, Disabled))),
            (Some("uefi"), Some("disabled"), Some((Uefi, Disabled))),
            (Some("uefi"), Some("optional"), Some((Uefi, Optional))),
            (Some("uefi"), Some("required"), Some((Uefi, Required))),
        ] {
            let words = [("hw_firmware_type", kind), ("os_secure_boot", secure)];
            let image = words.into_iter().filter_map(|(name, word)| Some((name.to_owned(), word?.into()))).collect();
            assert_eq!(firmware(&image).ok(), expected, "{kind:?} {secure:?}");
        }
    }
}

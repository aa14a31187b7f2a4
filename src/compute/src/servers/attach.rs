//! Interfaces that come and go: durable, and never waiting for a guest beyond its time.
//!
//! The rows come first (the port is the server's, and has its place in the machine), so whatever dies, the next start has
//! what was promised. A detach goes the other way: out of the machine, then the tap, then the rows.

use std::time::Duration;

use rest::{Error, Kind};
use serde::{Deserialize, Serialize};
use tasks::{Failure, Operation, Record, Step, TaskContext};
use uuid::Uuid;

use super::{Server, model::VmState, run, store};
use crate::{
    App, network_info,
    vms::{Devices, Observed, VmError, VmState as ProcessState},
};

/// How long a guest has to let go of an interface.
const LETTING_GO: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Interfaces {
    Attach {
        port_id: String,
    },
    /// What could not be attached is let go of.
    Undo {
        port_id: String,
        why: String,
    },
    Detach {
        port_id: String,
    },
}

/// Upstream's words for a hypervisor that cannot do it while the guest runs, with its own reason.
fn unsupported(id: &str, reason: &str) -> String {
    format!("{UNSUPPORTED} {id}: {reason}.")
}

const UNSUPPORTED: &str = "Attaching interfaces is not supported for instance";

pub(crate) fn is_unsupported(message: &str) -> bool {
    message.starts_with(UNSUPPORTED)
}

/// Upstream's words for any other failure.
pub(crate) fn failed(id: &str) -> String {
    format!("Failed to attach network adapter device to {id}")
}

/// The answer for an operation that ended so: 400 for what the hypervisor cannot do, as upstream's.
pub(crate) fn refusal(message: &str) -> Error {
    let kind = if is_unsupported(message) { Kind::BadRequest } else { Kind::Internal };
    Error::new(kind, message.to_owned())
}

impl Operation for Interfaces {
    const KIND: &'static str = "compute.server.interfaces";
    type App = App;

    fn event(&self) -> Option<&'static str> {
        match self {
            Self::Attach { .. } => Some("compute_attach_interface"),
            Self::Undo { .. } => None,
            Self::Detach { .. } => Some("compute_detach_interface"),
        }
    }

    async fn advance(self, app: &App, task: &TaskContext) -> Result<Step<Self>, Failure> {
        let server = run::server(app, task).await?;
        let (id, now) = (server.id.clone(), app.clock.now_text());
        let machine = machine(app, &server).await?;
        match self {
            Self::Attach { port_id } => {
                // Without a process there is nothing to do: the next start has it.
                if let Some(machine) = machine {
                    attach(app, task, &server, &machine, &port_id).await?;
                }
                Ok(Step::done(move |tx| store::touch(tx, &id, &now)))
            }
            Self::Undo { port_id, why } => {
                if let Some(machine) = machine {
                    machine.let_go(app, task, &port_id).await?;
                }
                task.act(network_info::unplug_one(app, &port_id)).await?;
                let app = app.clone();
                Ok(Step::fail(why, move |tx| network_info::detach(tx, &app, &id, &port_id)))
            }
            Self::Detach { port_id } => {
                if let Some(machine) = machine {
                    tokio::select! {
                        gone = machine.let_go(app, task, &port_id) => gone?,
                        () = task.superseded() => return Err(Failure::fatal("The server was deleted.")),
                    }
                }
                task.act(network_info::unplug_one(app, &port_id)).await?;
                let app = app.clone();
                Ok(Step::done(move |tx| {
                    network_info::detach(tx, &app, &id, &port_id)?;
                    store::touch(tx, &id, &now)
                }))
            }
        }
    }

    fn failed(self, app: &App, task: &TaskContext, failure: &Failure) -> Step<Self> {
        let (id, now) = (task.resource().to_owned(), app.clock.now_text());
        let why = failure.public.clone();
        match self {
            Self::Attach { port_id } => Step::next(Self::Undo { port_id, why }, |_| Ok(())),
            // It stays the server's; the user may detach it.
            Self::Undo { why: first, .. } => {
                Step::fail(format!("{first} {why}"), move |tx| store::touch(tx, &id, &now))
            }
            Self::Detach { .. } => Step::fail(why, move |tx| store::touch(tx, &id, &now)),
        }
    }

    fn unreadable(app: &App, resource: &str, _reason: &str) -> Record {
        let (id, now) = (resource.to_owned(), app.clock.now_text());
        Box::new(move |tx| store::touch(tx, &id, &now))
    }
}

/// A process with what is plugged into it.
struct Machine {
    id: Uuid,
    paused: bool,
    devices: Devices,
}

/// The process of a server that runs or is paused; `None` if it has none just now.
async fn machine(app: &App, server: &Server) -> Result<Option<Machine>, Failure> {
    let id = run::uuid(server)?;
    if server.vm_state == VmState::Stopped {
        return Ok(None);
    }
    let paused = match app.driver.observe(id).await {
        Ok(Observed::Running(running)) => running.state == ProcessState::Paused,
        Ok(Observed::Gone(_) | Observed::Absent) => return Ok(None),
        Ok(Observed::Unresponsive { reason }) => {
            return Err(Failure::retry(format!("{}: its process does not answer: {reason}", failed(&server.id))));
        }
        Err(error) => return Err(run::failure("The server's process cannot be looked at.", error)),
    };
    match app.driver.devices(id).await {
        Ok(devices) => Ok(Some(Machine { id, paused, devices })),
        Err(VmError::NotRunning { .. }) => Ok(None),
        Err(error) => Err(not_done(&server.id, error)),
    }
}

impl Machine {
    fn slot_of(&self, port_id: &str) -> Option<u8> {
        self.devices.nics.iter().find(|nic| nic.port_id.to_string() == port_id).map(|nic| nic.slot)
    }

    /// Has the interface out of the machine, if the guest lets go of it.
    async fn let_go(&self, app: &App, task: &TaskContext, port_id: &str) -> Result<(), Failure> {
        let Some(slot) = self.slot_of(port_id) else { return Ok(()) };
        if self.paused {
            return Err(Failure::fatal(
                "A guest that is paused cannot let go of an interface: unpause the server first.",
            ));
        }
        match task.act(app.driver.detach_nic(self.id, slot, LETTING_GO)).await {
            Ok(()) => Ok(()),
            Err(_) if self.has_ended(app).await => Ok(()),
            Err(error) => Err(not_done(&self.id.to_string(), error)),
        }
    }

    /// Whether it has ended meanwhile, or is about to: then what it did not do does not matter.
    async fn has_ended(&self, app: &App) -> bool {
        match app.driver.observe(self.id).await {
            Ok(Observed::Running(running)) => running.state == ProcessState::Stopping,
            Ok(Observed::Gone(_) | Observed::Absent) => true,
            Ok(Observed::Unresponsive { .. }) | Err(_) => false,
        }
    }
}

async fn attach(
    app: &App,
    task: &TaskContext,
    server: &Server,
    machine: &Machine,
    port_id: &str,
) -> Result<(), Failure> {
    if machine.slot_of(port_id).is_some() {
        return Ok(());
    }
    let interfaces = network_info::interfaces(app, server).await?;
    let Some(interface) = interfaces.iter().find(|interface| interface.port_id == port_id) else {
        return Err(Failure::fatal(format!("{}: its port is gone.", failed(&server.id))));
    };
    let plug = task.act(network_info::plug_one(app, interface)).await?;
    let nic = run::nic(server, &plug, 0);
    match task.act(app.driver.attach_nic(machine.id, nic, vec![plug.tap])).await {
        Ok(()) => Ok(()),
        // The next start has it.
        Err(_) if machine.has_ended(app).await => Ok(()),
        Err(error) => Err(not_done(&server.id, error)),
    }
}

/// A refusal is the hypervisor's last word; anything else may go better the next time.
fn not_done(id: &str, error: VmError) -> Failure {
    match error {
        VmError::Refused { reason, .. } => Failure::fatal(unsupported(id, &reason)),
        error => Failure::retry(format!("{}: {error}", failed(id))).caused_by(error),
    }
}

//! Taps: handed out once their rules are in force, and taken back.

use std::os::fd::OwnedFd;

use rest::Error;

pub use hostnet::{OneWay, Traffic};

use crate::{
    App, desired, networks, ports,
    reconcile::{self, Failure},
};

/// An open tap, to be handed to the VM process.
#[derive(Debug)]
pub struct Plug {
    pub port_id: String,
    pub tap: OwnedFd,
    pub mac: String,
    pub mtu: u32,
}

/// Why the machine's side did not do what was asked. Trying again is safe, and often helps.
#[derive(Debug)]
pub struct PlugError(String);

impl std::fmt::Display for PlugError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PlugError {}

impl From<Failure> for PlugError {
    fn from(failure: Failure) -> Self {
        Self(failure.to_string())
    }
}

impl From<hostnet::Error> for PlugError {
    fn from(error: hostnet::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<Error> for PlugError {
    fn from(error: Error) -> Self {
        Failure::from(error).into()
    }
}

/// Opens the tap of a port: its network is in the kernel, its rules are in force, and the port is ACTIVE. May be called
/// again; while another process holds the tap it fails.
///
/// # Errors
/// What the machine said. The port stays closed then.
pub async fn plug(app: &App, port_id: &str) -> std::result::Result<Plug, PlugError> {
    let asked = port_id.to_owned();
    let (port, mtu) = app
        .db
        .read(move |tx| {
            let port = ports::store::get(tx, &asked)?;
            let mtu = networks::store::get(tx, &port.network_id)?.mtu;
            Ok::<_, Error>((port, mtu))
        })
        .await?;
    if port.host_id.is_empty() {
        return Err(PlugError(format!("port {port_id} is not bound to this machine")));
    }
    let (network_id, id) = (desired::id(&port.network_id)?, desired::id(&port.id)?);
    reconcile::sync_network(app, network_id).await?;
    let tap = match app.host.ensure_tap(network_id, id, port.mac, mtu).await {
        Err(hostnet::Error::NotFound(_)) => {
            // The namespace went away behind our back: look, and make it again.
            reconcile::forget(app, network_id);
            reconcile::sync_network(app, network_id).await?;
            app.host.ensure_tap(network_id, id, port.mac, mtu).await?
        }
        other => other?,
    };
    let (text, now) = (port.id.clone(), app.now());
    app.db.write(move |tx| ports::store::set_plugged(tx, &text, true, &now)).await?;
    Ok(Plug { port_id: port.id, tap, mac: port.mac.to_string(), mtu })
}

/// What has gone through a port's tap since it was made, in the guest's words; `None` where it has no tap now.
///
/// # Errors
/// What the machine said.
pub async fn traffic(app: &App, network_id: &str, port_id: &str) -> std::result::Result<Option<Traffic>, PlugError> {
    match app.host.tap_traffic(desired::id(network_id)?, desired::id(port_id)?).await {
        Ok(traffic) => Ok(Some(traffic)),
        Err(hostnet::Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes the tap of a port; the port is DOWN. Succeeds when there is none, and when the port is gone.
///
/// # Errors
/// What the machine said.
pub async fn unplug(app: &App, port_id: &str) -> std::result::Result<(), PlugError> {
    let asked = port_id.to_owned();
    let Some(port) = app.db.read(move |tx| ports::store::find(tx, &asked)).await? else {
        reconcile::look_soon(app);
        return Ok(());
    };
    let (network_id, id) = (desired::id(&port.network_id)?, desired::id(&port.id)?);
    app.host.remove_tap(network_id, id).await?;
    let (text, now) = (port.id, app.now());
    app.db.write(move |tx| ports::store::set_plugged(tx, &text, false, &now)).await?;
    Ok(())
}

//! What servers take of this machine, kept by Placement in the same transaction as the server.

use db::Tx;
use placement::peer;
use rest::Result;

use crate::{App, Options, host, servers::Server};

/// Takes the server's share. The inner error says what is short, for the server's fault.
pub(crate) fn claim(tx: &Tx<'_>, server: &Server) -> Result<std::result::Result<(), String>> {
    claim_as(tx, server, &server.id)
}

/// Takes what a resize holds until it is confirmed or taken back: the new share for the server, the old for the migration.
pub(crate) fn claim_both(
    tx: &Tx<'_>,
    old: &Server,
    new: &Server,
    migration_uuid: &str,
) -> Result<std::result::Result<(), String>> {
    match claim(tx, new)? {
        Ok(()) => claim_as(tx, old, migration_uuid),
        short => Ok(short),
    }
}

/// Has the server's share be what it is by its flavor now, where that is no more than it has already.
pub(crate) fn reclaim(tx: &Tx<'_>, server: &Server) -> db::Result<()> {
    match claim(tx, server) {
        Ok(Ok(())) => Ok(()),
        // An inventory was made smaller meanwhile. The server runs all the same, and has what it had.
        Ok(Err(shortage)) => {
            tracing::warn!(server.id = server.id, shortage, "the server keeps another share of the host than its own");
            Ok(())
        }
        Err(error) => Err(db::Error::Corrupt(format!("allocations of {} not changed: {}", server.id, error.causes()))),
    }
}

fn claim_as(tx: &Tx<'_>, server: &Server, consumer_uuid: &str) -> Result<std::result::Result<(), String>> {
    let resources = server.resources();
    let provider_uuid = host::store::node_uuid(tx)?;
    let claim = peer::Claim {
        provider_uuid: &provider_uuid,
        consumer_uuid,
        project_id: &server.project_id,
        user_id: &server.user_id,
        resources: &resources,
    };
    if host::store::disabled(tx)? {
        return Ok(Err("No valid host was found: the compute service of this machine is disabled.".into()));
    }
    match peer::claim(tx, &claim, &server.created_at) {
        Ok(()) => Ok(Ok(())),
        Err(peer::ClaimError::Shortage(shortage)) => Ok(Err(format!("No valid host was found: {shortage}"))),
        Err(peer::ClaimError::NoProvider) => {
            Ok(Err("No valid host was found: this machine does not offer its resources (self provider is off).".into()))
        }
        Err(peer::ClaimError::Failed(error)) => Err(error),
    }
}

/// Gives the server's share back. Nothing taken is fine too.
pub(crate) fn release(tx: &Tx<'_>, server_id: &str) -> db::Result<()> {
    peer::release(tx, server_id)
        .map(|_| ())
        .map_err(|error| db::Error::Corrupt(format!("allocations of {server_id} not released: {}", error.causes())))
}

/// How much of this machine may be promised.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    pub vcpus: i64,
    pub memory_mib: i64,
    pub disk_gib: i64,
    pub reserved_memory_mib: i64,
    pub reserved_disk_gib: i64,
    pub vcpu_ratio: f64,
    pub memory_ratio: f64,
    pub disk_ratio: f64,
}

/// Registers this machine as a provider with what it has now.
///
/// # Errors
/// When Placement refuses the numbers.
pub async fn register(app: &App, capacity: Capacity, traits: Vec<String>) -> Result<()> {
    let now = app.clock.now_text();
    let Options { host_name, .. } = &*app.options;
    let name = host_name.clone();
    app.db
        .write(move |tx| {
            let inventory = |class: &str, total: i64, reserved: i64, ratio: f64| {
                let mut inventory = peer::Inventory::of(class, total);
                inventory.reserved = reserved.clamp(0, total);
                inventory.ratio = ratio;
                inventory
            };
            let provider = peer::Provider {
                uuid: host::store::node_uuid(tx)?,
                name,
                inventories: vec![
                    inventory("VCPU", capacity.vcpus, 0, capacity.vcpu_ratio),
                    inventory("MEMORY_MB", capacity.memory_mib, capacity.reserved_memory_mib, capacity.memory_ratio),
                    inventory("DISK_GB", capacity.disk_gib, capacity.reserved_disk_gib, capacity.disk_ratio),
                ],
                traits,
            };
            peer::ensure_provider(tx, &provider, &now)
        })
        .await
}

//! All SQL about the host's services.

use db::{Tx, params};
use rest::{Error, Kind, Result};

/// One row of os-services. One process does the work of all; users still look for these names.
#[derive(Clone, Debug)]
pub(crate) struct ServiceRow {
    pub id: i64,
    pub uuid: String,
    pub binary: String,
    pub zone: String,
    pub disabled: bool,
    pub disabled_reason: Option<String>,
    pub forced_down: bool,
}

const ROWS: [(&str, &str); 3] =
    [("nova-scheduler", "internal"), ("nova-conductor", "internal"), ("nova-compute", "nova")];

pub(crate) fn bootstrap(tx: &Tx<'_>) -> Result<()> {
    for (binary, zone) in ROWS {
        tx.execute(
            "INSERT OR IGNORE INTO compute_service (uuid, binary, zone, disabled, forced_down) VALUES (?1, ?2, ?3, 0, 0)",
            params![rest::new_uuid(), binary, zone],
        )?;
    }
    Ok(())
}

pub(crate) fn list(tx: &Tx<'_>) -> Result<Vec<ServiceRow>> {
    Ok(tx.list(
        "SELECT id, uuid, binary, zone, disabled, disabled_reason, forced_down FROM compute_service ORDER BY id",
        [],
        |row| {
            Ok(ServiceRow {
                id: row.get(0)?,
                uuid: row.get(1)?,
                binary: row.get(2)?,
                zone: row.get(3)?,
                disabled: row.get(4)?,
                disabled_reason: row.get(5)?,
                forced_down: row.get(6)?,
            })
        },
    )?)
}

pub(crate) fn update(tx: &Tx<'_>, row: &ServiceRow) -> Result<()> {
    tx.execute(
        "UPDATE compute_service SET disabled = ?2, disabled_reason = ?3, forced_down = ?4 WHERE id = ?1",
        params![row.id, row.disabled, row.disabled_reason, row.forced_down],
    )?;
    Ok(())
}

fn compute(tx: &Tx<'_>) -> Result<ServiceRow> {
    list(tx)?
        .into_iter()
        .find(|row| row.binary == "nova-compute")
        .ok_or_else(|| Error::new(Kind::Unavailable, "This machine has not been set up as a compute host."))
}

/// Whether new servers may be placed here.
pub(crate) fn disabled(tx: &Tx<'_>) -> Result<bool> {
    let row = compute(tx)?;
    Ok(row.disabled || row.forced_down)
}

/// Whether an administrator has said that this machine is down.
pub(crate) fn forced_down(tx: &Tx<'_>) -> Result<bool> {
    Ok(compute(tx)?.forced_down)
}

/// The id of this machine as hypervisor and resource provider: made from the service's, so it is as lasting.
pub(crate) fn node_uuid(tx: &Tx<'_>) -> Result<String> {
    let service = uuid::Uuid::try_parse(&compute(tx)?.uuid).map_err(Error::internal)?;
    Ok(uuid::Uuid::new_v5(&service, b"node").to_string())
}

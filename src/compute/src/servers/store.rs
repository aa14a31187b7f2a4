//! All SQL of servers.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use db::{Row, Tx, params, rusqlite};
use rest::{Dialect, Direction, Error, Filter, FilterKind, ListSpec, Result};
use serde::de::DeserializeOwned;

use super::{
    Server,
    model::{Fault, PowerState, VmState},
};

const COLUMNS: &str = "s.id, s.project_id, s.user_id, s.name, s.hostname, s.description, s.vm_state, s.task_state, \
                       s.power_state, s.locked_by, s.image_id, s.image_properties, s.flavor, s.root_gib, s.key_name, \
                       s.public_key, s.key_type, s.user_data, s.config_drive, s.metadata, s.access_ipv4, \
                       s.access_ipv6, s.disk_config, s.availability_zone, s.reservation_id, s.launch_index, s.run_as, \
                       s.fault, s.created_at, s.updated_at, s.launched_at, s.locked_reason, s.scheduler_hints";

pub(crate) const LIST: ListSpec = ListSpec {
    dialect: Dialect::Compute,
    columns: COLUMNS,
    from: "compute_server s",
    key: "s.id",
    default_sort: &[("created_at", Direction::Descending)],
    sortable: &[
        ("created_at", "s.created_at"),
        ("updated_at", "s.updated_at"),
        ("launched_at", "ifnull(s.launched_at, '')"),
        ("display_name", "s.name"),
        ("display_description", "ifnull(s.description, '')"),
        ("name", "s.name"),
        ("uuid", "s.id"),
        ("project_id", "s.project_id"),
        ("user_id", "s.user_id"),
        ("vm_state", "s.vm_state"),
        ("task_state", "ifnull(s.task_state, '')"),
        ("power_state", "s.power_state"),
        ("instance_type_id", "s.flavor_id"),
        ("image_ref", "ifnull(s.image_id, '')"),
        ("key_name", "ifnull(s.key_name, '')"),
        ("hostname", "s.hostname"),
        ("launch_index", "s.launch_index"),
        ("availability_zone", "ifnull(s.availability_zone, '')"),
        ("config_drive", "s.config_drive"),
        ("access_ip_v4", "s.access_ipv4"),
        ("access_ip_v6", "s.access_ipv6"),
        ("root_device_name", "s.id"),
        ("host", "s.id"),
        ("node", "s.id"),
        ("locked_by", "ifnull(s.locked_by, '')"),
        ("progress", "s.id"),
        ("auto_disk_config", "s.disk_config"),
    ],
    filters: &[
        Filter::new("name", "s.name", FilterKind::Regex),
        Filter::new("image", "s.image_id", FilterKind::Text),
        Filter::new("flavor", "s.flavor_id", FilterKind::Text),
        Filter::new("changes-since", "s.updated_at", FilterKind::Since),
    ],
    limit_max: 1000,
};

/// Filters that only those with `allow_all_filters` may use; others' are ignored.
pub(crate) const ADMIN_FILTERS: &[Filter] = &[
    Filter::new("uuid", "s.id", FilterKind::Text),
    Filter::new("user_id", "s.user_id", FilterKind::Text),
    Filter::new("project_id", "s.project_id", FilterKind::Text),
    Filter::new("tenant_id", "s.project_id", FilterKind::Text),
    Filter::new("vm_state", "s.vm_state", FilterKind::Text),
    Filter::new("task_state", "s.task_state", FilterKind::Text),
    Filter::new("power_state", "s.power_state", FilterKind::Integer),
    Filter::new("key_name", "s.key_name", FilterKind::Text),
    Filter::new("availability_zone", "s.availability_zone", FilterKind::Text),
    Filter::new("reservation_id", "s.reservation_id", FilterKind::Text),
    Filter::new("description", "s.description", FilterKind::Regex),
    Filter::new("launch_index", "s.launch_index", FilterKind::Integer),
];

pub(crate) fn find(tx: &Tx<'_>, id: &str) -> db::Result<Option<Server>> {
    tx.find(&format!("SELECT {COLUMNS} FROM compute_server s WHERE s.id = ?1"), [id], read)
}

pub(crate) fn get(tx: &Tx<'_>, id: &str) -> Result<Server> {
    find(tx, id)?.ok_or_else(|| no_such_server(id))
}

pub(crate) fn no_such_server(id: &str) -> Error {
    Error::not_found("Instance", id)
}

pub(crate) fn list_all(tx: &Tx<'_>) -> db::Result<Vec<Server>> {
    tx.list(&format!("SELECT {COLUMNS} FROM compute_server s"), [], read)
}

pub(crate) fn exists(tx: &Tx<'_>, id: &str) -> db::Result<bool> {
    tx.exists("SELECT 1 FROM compute_server WHERE id = ?1", [id])
}

/// `base` is the first user id for VM processes; the lowest free one is taken.
pub(crate) fn free_run_as(tx: &Tx<'_>, base: i64) -> Result<i64> {
    let base_taken = tx.exists("SELECT 1 FROM compute_server WHERE run_as = ?1", [base])?;
    if !base_taken {
        return Ok(base);
    }
    Ok(tx.count(
        "SELECT min(run_as) + 1 FROM compute_server s
         WHERE NOT EXISTS (SELECT 1 FROM compute_server t WHERE t.run_as = s.run_as + 1)",
        [],
    )?)
}

pub(crate) fn insert(tx: &Tx<'_>, server: &Server) -> Result<()> {
    tx.execute(
        "INSERT INTO compute_server (id, project_id, user_id, name, hostname, description, vm_state, task_state,
             power_state, locked_by, image_id, image_properties, flavor_id, flavor, root_gib, vcpus, ram_mib, key_name,
             public_key, key_type, user_data, config_drive, metadata, access_ipv4, access_ipv6, disk_config,
             availability_zone, reservation_id, launch_index, run_as, fault, created_at, updated_at, launched_at,
             scheduler_hints)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22,
                 ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35)",
        params![
            server.id,
            server.project_id,
            server.user_id,
            server.name,
            server.hostname,
            server.description,
            server.vm_state.as_str(),
            server.task_state,
            server.power_state,
            server.locked_by,
            server.image_id,
            json(&server.image_properties)?,
            server.flavor.id,
            json(&server.flavor)?,
            server.root_gib,
            server.flavor.vcpus,
            server.flavor.ram_mib,
            server.key_name,
            server.public_key,
            server.key_type,
            server.user_data,
            server.config_drive,
            json(&server.metadata)?,
            server.access_ipv4,
            server.access_ipv6,
            server.disk_config,
            server.availability_zone,
            server.reservation_id,
            server.launch_index,
            server.run_as,
            server.fault.as_ref().map(json).transpose()?,
            server.created_at,
            server.updated_at,
            server.launched_at,
            json(&server.scheduler_hints)?
        ],
    )?;
    Ok(())
}

/// What PUT changes.
pub(crate) fn update(tx: &Tx<'_>, server: &Server) -> Result<()> {
    tx.execute(
        "UPDATE compute_server SET name = ?2, hostname = ?3, description = ?4, access_ipv4 = ?5, access_ipv6 = ?6,
                                   disk_config = ?7, updated_at = ?8 WHERE id = ?1",
        params![
            server.id,
            server.name,
            server.hostname,
            server.description,
            server.access_ipv4,
            server.access_ipv6,
            server.disk_config,
            server.updated_at
        ],
    )?;
    Ok(())
}

/// Another flavor, and what counts for the quota with it.
pub(crate) fn set_flavor(tx: &Tx<'_>, server: &Server, now: &str) -> db::Result<()> {
    tx.execute(
        "UPDATE compute_server SET flavor_id = ?2, flavor = ?3, root_gib = ?4, updated_at = ?5 WHERE id = ?1",
        params![server.id, server.flavor.id, json(&server.flavor)?, server.root_gib, now],
    )?;
    set_counted(tx, &server.id, server.flavor.vcpus, server.flavor.ram_mib)
}

/// What counts for the quota: more than the flavor has while a resize can be taken back.
pub(crate) fn set_counted(tx: &Tx<'_>, id: &str, vcpus: i64, ram_mib: i64) -> db::Result<()> {
    tx.execute("UPDATE compute_server SET vcpus = ?2, ram_mib = ?3 WHERE id = ?1", params![id, vcpus, ram_mib])?;
    Ok(())
}

/// What a rebuild changes.
pub(crate) fn set_rebuilt(tx: &Tx<'_>, server: &Server) -> db::Result<()> {
    tx.execute(
        "UPDATE compute_server SET name = ?2, hostname = ?3, description = ?4, access_ipv4 = ?5, access_ipv6 = ?6,
             disk_config = ?7, image_id = ?8, image_properties = ?9, root_gib = ?10, key_name = ?11, public_key = ?12,
             key_type = ?13, user_data = ?14, config_drive = ?15, metadata = ?16, task_state = ?17, updated_at = ?18
         WHERE id = ?1",
        params![
            server.id,
            server.name,
            server.hostname,
            server.description,
            server.access_ipv4,
            server.access_ipv6,
            server.disk_config,
            server.image_id,
            json(&server.image_properties)?,
            server.root_gib,
            server.key_name,
            server.public_key,
            server.key_type,
            server.user_data,
            server.config_drive,
            json(&server.metadata)?,
            server.task_state,
            server.updated_at
        ],
    )?;
    Ok(())
}

/// It was made anew.
pub(crate) fn set_launched(tx: &Tx<'_>, id: &str, now: &str) -> db::Result<()> {
    tx.execute("UPDATE compute_server SET launched_at = ?2 WHERE id = ?1", [id, now])?;
    Ok(())
}

pub(crate) fn set_task_state(tx: &Tx<'_>, id: &str, task_state: Option<&str>, now: &str) -> db::Result<()> {
    tx.execute(
        "UPDATE compute_server SET task_state = ?2, updated_at = ?3 WHERE id = ?1",
        params![id, task_state, now],
    )?;
    Ok(())
}

/// The end of an operation: what the server is now, and nothing being done to it.
pub(crate) fn settle(tx: &Tx<'_>, id: &str, vm_state: VmState, power: PowerState, now: &str) -> db::Result<()> {
    tx.execute(
        "UPDATE compute_server SET vm_state = ?2, power_state = ?3, task_state = NULL, fault = NULL, updated_at = ?4,
                                   launched_at = CASE WHEN ?2 = 'active' THEN ifnull(launched_at, ?4) ELSE launched_at END
         WHERE id = ?1",
        params![id, vm_state.as_str(), power as i64, now],
    )?;
    Ok(())
}

pub(crate) fn fail(tx: &Tx<'_>, id: &str, power: PowerState, message: &str, now: &str) -> db::Result<()> {
    let fault = Fault { code: 500, message: message.to_owned(), created: now.to_owned() };
    tx.execute(
        "UPDATE compute_server SET vm_state = 'error', power_state = ?2, task_state = NULL, fault = ?3, updated_at = ?4
         WHERE id = ?1",
        params![id, power as i64, json(&fault)?, now],
    )?;
    Ok(())
}

pub(crate) fn set_state(tx: &Tx<'_>, id: &str, vm_state: VmState, now: &str) -> db::Result<()> {
    tx.execute(
        "UPDATE compute_server SET vm_state = ?2, task_state = NULL, updated_at = ?3 WHERE id = ?1",
        params![id, vm_state.as_str(), now],
    )?;
    Ok(())
}

pub(crate) fn set_availability_zone(tx: &Tx<'_>, id: &str, zone: Option<&str>) -> db::Result<()> {
    tx.execute("UPDATE compute_server SET availability_zone = ?2 WHERE id = ?1", params![id, zone])?;
    Ok(())
}

pub(crate) fn set_power_state(tx: &Tx<'_>, id: &str, power: PowerState, now: &str) -> db::Result<()> {
    tx.execute(
        "UPDATE compute_server SET power_state = ?2, updated_at = ?3 WHERE id = ?1",
        params![id, power as i64, now],
    )?;
    Ok(())
}

/// Who locked it and why; `None` unlocks it.
pub(crate) fn set_lock(tx: &Tx<'_>, id: &str, lock: Option<(&str, Option<&str>)>, now: &str) -> db::Result<()> {
    tx.execute(
        "UPDATE compute_server SET locked_by = ?2, locked_reason = ?3, updated_at = ?4 WHERE id = ?1",
        params![id, lock.map(|(by, _)| by), lock.and_then(|(_, reason)| reason), now],
    )?;
    Ok(())
}

pub(crate) fn set_metadata(tx: &Tx<'_>, id: &str, metadata: &BTreeMap<String, String>, now: &str) -> Result<()> {
    tx.execute(
        "UPDATE compute_server SET metadata = ?2, updated_at = ?3 WHERE id = ?1",
        params![id, json(metadata)?, now],
    )?;
    Ok(())
}

/// The end of an operation that changed nothing of what the server is.
pub(crate) fn touch(tx: &Tx<'_>, id: &str, now: &str) -> db::Result<()> {
    tx.execute("UPDATE compute_server SET updated_at = ?2 WHERE id = ?1", [id, now])?;
    Ok(())
}

pub(crate) fn delete(tx: &Tx<'_>, id: &str) -> db::Result<()> {
    tx.execute("DELETE FROM compute_server WHERE id = ?1", [id])?;
    Ok(())
}

pub(crate) fn tags(tx: &Tx<'_>, id: &str) -> db::Result<Vec<String>> {
    tx.list("SELECT tag FROM compute_server_tag WHERE server_id = ?1 ORDER BY tag", [id], |row| row.get(0))
}

/// Tags of many servers at once.
pub(crate) fn tags_of(tx: &Tx<'_>, servers: &[Server]) -> db::Result<HashMap<String, Vec<String>>> {
    let mut all: HashMap<String, Vec<String>> = HashMap::new();
    if servers.is_empty() || !tx.exists("SELECT 1 FROM compute_server_tag", [])? {
        return Ok(all);
    }
    for server in servers {
        all.insert(server.id.clone(), tags(tx, &server.id)?);
    }
    Ok(all)
}

pub(crate) fn insert_tag(tx: &Tx<'_>, id: &str, tag: &str) -> db::Result<bool> {
    Ok(tx.execute("INSERT OR IGNORE INTO compute_server_tag VALUES (?1, ?2)", [id, tag])? == 1)
}

pub(crate) fn delete_tag(tx: &Tx<'_>, id: &str, tag: &str) -> db::Result<bool> {
    Ok(tx.execute("DELETE FROM compute_server_tag WHERE server_id = ?1 AND tag = ?2", [id, tag])? == 1)
}

pub(crate) fn delete_tags(tx: &Tx<'_>, id: &str) -> db::Result<()> {
    tx.execute("DELETE FROM compute_server_tag WHERE server_id = ?1", [id])?;
    Ok(())
}

/// A row of a server that had the port before is of no use any more: the port has been let go of since.
pub(crate) fn insert_nic(tx: &Tx<'_>, id: &str, port_id: &str, slot: u8, tag: Option<&str>) -> db::Result<()> {
    tx.execute(
        "INSERT OR REPLACE INTO compute_server_nic (port_id, server_id, position, tag) VALUES (?1, ?2, ?3, ?4)",
        params![port_id, id, slot, tag],
    )?;
    Ok(())
}

pub(crate) fn delete_nic(tx: &Tx<'_>, id: &str, port_id: &str) -> db::Result<()> {
    tx.execute("DELETE FROM compute_server_nic WHERE server_id = ?1 AND port_id = ?2", [id, port_id])?;
    Ok(())
}

/// Where a server has a port: the slot in its machine, for as long as it has it.
#[derive(Clone, Debug)]
pub(crate) struct Nic {
    pub port_id: String,
    pub slot: u8,
    pub tag: Option<String>,
}

/// Each server's interfaces in the order of their slots.
pub(crate) fn nics_of(tx: &Tx<'_>, ids: &[&str]) -> Result<HashMap<String, Vec<Nic>>> {
    let mut all: HashMap<String, Vec<Nic>> = HashMap::with_capacity(ids.len());
    let rows: Vec<(String, Nic)> = tx.list(
        "SELECT server_id, port_id, position, tag FROM compute_server_nic
         WHERE server_id IN (SELECT value FROM json_each(?1)) ORDER BY server_id, position",
        [json(&ids)?],
        |row| Ok((row.get(0)?, Nic { port_id: row.get(1)?, slot: row.get(2)?, tag: row.get(3)? })),
    )?;
    for (server_id, nic) in rows {
        all.entry(server_id).or_default().push(nic);
    }
    Ok(all)
}

/// CPUs of the host that are some server's own.
pub(crate) fn dedicated_cpus(tx: &Tx<'_>) -> db::Result<BTreeSet<u16>> {
    Ok(tx.list("SELECT cpu FROM compute_server_cpu", [], |row| row.get(0))?.into_iter().collect())
}

/// Those of one server, in the order of its virtual CPUs.
pub(crate) fn dedicated_cpus_of(tx: &Tx<'_>, id: &str) -> db::Result<Vec<u16>> {
    tx.list("SELECT cpu FROM compute_server_cpu WHERE server_id = ?1 AND vcpu >= 0 ORDER BY vcpu", [id], |row| {
        row.get(0)
    })
}

pub(crate) fn insert_dedicated_cpus(tx: &Tx<'_>, id: &str, cpus: &[u16]) -> db::Result<()> {
    for (vcpu, cpu) in (0_i64..).zip(cpus) {
        tx.execute(
            "INSERT INTO compute_server_cpu (cpu, server_id, vcpu) VALUES (?1, ?2, ?3)",
            params![cpu, id, vcpu],
        )?;
    }
    Ok(())
}

pub(crate) fn delete_dedicated_cpus(tx: &Tx<'_>, id: &str) -> db::Result<()> {
    tx.execute("DELETE FROM compute_server_cpu WHERE server_id = ?1", [id])?;
    Ok(())
}

/// Keeps the CPUs that the server has while it is of another size: they are nobody else's, under numbers below 0.
pub(crate) fn hold_cpus(tx: &Tx<'_>, id: &str) -> db::Result<()> {
    tx.execute("UPDATE compute_server_cpu SET vcpu = -1 - vcpu WHERE server_id = ?1 AND vcpu >= 0", [id])?;
    Ok(())
}

/// Gives it those again, in place of what it got since.
pub(crate) fn restore_cpus(tx: &Tx<'_>, id: &str) -> db::Result<()> {
    tx.execute("DELETE FROM compute_server_cpu WHERE server_id = ?1 AND vcpu >= 0", [id])?;
    tx.execute("UPDATE compute_server_cpu SET vcpu = -1 - vcpu WHERE server_id = ?1", [id])?;
    Ok(())
}

pub(crate) fn release_held_cpus(tx: &Tx<'_>, id: &str) -> db::Result<()> {
    tx.execute("DELETE FROM compute_server_cpu WHERE server_id = ?1 AND vcpu < 0", [id])?;
    Ok(())
}

/// Servers, virtual CPUs and memory (MiB) that a project's servers take.
pub(crate) fn usage(tx: &Tx<'_>, project_id: &str) -> db::Result<(i64, i64, i64)> {
    tx.get(
        "an aggregate",
        "SELECT count(*), ifnull(sum(vcpus), 0), ifnull(sum(ram_mib), 0) FROM compute_server WHERE project_id = ?1",
        [project_id],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )
}

/// The same of one user's servers in the project.
pub(crate) fn usage_of_user(tx: &Tx<'_>, project_id: &str, user_id: &str) -> db::Result<(i64, i64, i64)> {
    tx.get(
        "an aggregate",
        "SELECT count(*), ifnull(sum(vcpus), 0), ifnull(sum(ram_mib), 0) FROM compute_server
         WHERE project_id = ?1 AND user_id = ?2",
        [project_id, user_id],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )
}

pub(crate) fn json(value: &impl serde::Serialize) -> db::Result<String> {
    serde_json::to_string(value).map_err(|error| db::Error::Corrupt(format!("a column cannot be written: {error}")))
}

fn parsed<T: DeserializeOwned>(row: &Row<'_>, index: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(index)?.as_str()?;
    serde_json::from_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, Box::new(error)))
}

pub(crate) fn read(row: &Row<'_>) -> rusqlite::Result<Server> {
    let vm_state = VmState::parse(row.get_ref(6)?.as_str()?).unwrap_or(VmState::Error);
    let fault: Option<String> = row.get(27)?;
    Ok(Server {
        id: row.get(0)?,
        project_id: row.get(1)?,
        user_id: row.get(2)?,
        name: row.get(3)?,
        hostname: row.get(4)?,
        description: row.get(5)?,
        vm_state,
        task_state: row.get(7)?,
        power_state: row.get(8)?,
        locked_by: row.get(9)?,
        image_id: row.get(10)?,
        image_properties: parsed(row, 11)?,
        flavor: parsed(row, 12)?,
        root_gib: row.get(13)?,
        key_name: row.get(14)?,
        public_key: row.get(15)?,
        key_type: row.get(16)?,
        user_data: row.get(17)?,
        config_drive: row.get(18)?,
        metadata: parsed(row, 19)?,
        access_ipv4: row.get(20)?,
        access_ipv6: row.get(21)?,
        disk_config: row.get(22)?,
        availability_zone: row.get(23)?,
        reservation_id: row.get(24)?,
        launch_index: row.get(25)?,
        run_as: row.get(26)?,
        fault: fault.and_then(|text| serde_json::from_str(&text).ok()),
        created_at: row.get(28)?,
        updated_at: row.get(29)?,
        launched_at: row.get(30)?,
        terminated_at: None,
        locked_reason: row.get(31)?,
        scheduler_hints: parsed(row, 32)?,
    })
}

/// What the guest has encrypted and posted.
pub(crate) fn posted_password(tx: &Tx<'_>, id: &str) -> Result<Option<String>> {
    let sql = "SELECT password FROM compute_server_password WHERE server_id = ?1";
    Ok(tx.find(sql, [id], |row| row.get(0))?)
}

/// False when it has posted one already.
pub(crate) fn post_password(tx: &Tx<'_>, id: &str, password: &str) -> Result<bool> {
    Ok(tx.execute("INSERT OR IGNORE INTO compute_server_password VALUES (?1, ?2)", [id, password])? == 1)
}

pub(crate) fn clear_posted_password(tx: &Tx<'_>, id: &str) -> db::Result<()> {
    tx.execute("DELETE FROM compute_server_password WHERE server_id = ?1", [id])?;
    Ok(())
}

/// Ids of the servers whose memory is in files.
pub(crate) fn suspended(tx: &Tx<'_>) -> db::Result<Vec<String>> {
    tx.list("SELECT id FROM compute_server WHERE vm_state = 'suspended'", [], |row| row.get(0))
}

/// Ids and names of all servers, as `os-hypervisors` lists them.
pub(crate) fn names(tx: &Tx<'_>) -> Result<Vec<(String, String)>> {
    Ok(tx.list("SELECT id, name FROM compute_server WHERE vm_state <> 'error' ORDER BY id", [], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?)
}

//! A new version of the machine, in the slot that does not run; and the way back.
//!
//! ```text
//! good ── install ──> trying ── gate says good, or confirm ──> good
//!                        └───── gate says no, or it never came up ──> returned (the old slot, the old database)
//! ```

mod boot;
pub mod fetch;
pub(crate) mod gpt;
mod install;
mod machine;
mod record;
mod release;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use self::boot::{Entry, Esp, TRIES};
pub(crate) use self::install::{At, hash_at};
pub use self::install::{Installed, Machine, install, look};
pub use self::machine::Mounted;
pub(crate) use self::machine::disk_of_root;
pub use self::record::{Record, State};
pub use self::release::{Kind, Making, Part, PublicKey, Release, SecretKey, is_newer, is_version, pack};
use crate::files::{self, Result, refused};
use crate::points::Points;
use crate::swap::{Plan, Staging};

/// The release key's public half, in the image.
pub const RELEASE_KEY: &str = "/usr/lib/solostack/release.pub";
const DATABASE: &str = "solostack.db";

/// What a start found of an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub record: Record,
    /// The database as the newer version left it, if it was put aside.
    pub aside: Option<PathBuf>,
}

/// At each start, before the database is opened: if this is the old version again, its database comes back as well, where the newer
/// version had changed it. The state's lock must be free. `boot` is this start of the machine, as [`boot_id`] says it.
///
/// # Errors
/// When that cannot be done.
pub fn at_start(state: &Path, running: &str, boot: &str, points: &Points) -> Result<Option<Found>> {
    let Some(record) = Record::read(state)? else { return Ok(None) };
    // Of the cloud, not of the machine, is this start, if the update came since the machine's: nothing was tried yet.
    let waits = !record.boot.is_empty() && record.boot == boot;
    if record.state != State::Trying || record.version == running || waits {
        return Ok(Some(Found { record, aside: None }));
    }
    let _lock = files::Lock::take(state)?;
    crate::start::obey_locked(state, points)?;
    let aside = go_back(state, points)?;
    let reason = record.reason.clone().unwrap_or_else(|| {
        format!("version {} did not come up, or was switched off before it had proved itself", record.version)
    });
    let record = record.with(State::Returned, Some(reason));
    points.pass();
    record.write(state)?;
    Ok(Some(Found { record, aside }))
}

/// This start of the machine, by the kernel's name for it; empty where it has none.
#[must_use]
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// Puts the database of before back, if this program does not know what became of it.
fn go_back(state: &Path, points: &Points) -> Result<Option<PathBuf>> {
    let database = state.join(DATABASE);
    if !files::is_there(&database)? {
        return Ok(None);
    }
    let applied = db::snapshot::applied(&database)?;
    let Some(unknown) = db::snapshot::unknown(&applied) else { return Ok(None) };
    let Some(snapshot) = db::snapshot::newest_known(&database)? else {
        return refused(format!(
            "the database was changed by a newer version ({unknown}), and no copy of before is beside it: install that version, or \
             restore a backup"
        ));
    };
    let staging = Staging::new(state)?;
    // Copied whole, so that the copy that is kept stays what it is.
    db::snapshot::copy(&snapshot, &staging.at(DATABASE))?;
    let mut plan = Plan::default();
    plan.take_away(format!("{DATABASE}-wal"));
    plan.take_away(format!("{DATABASE}-shm"));
    plan.put(DATABASE);
    staging.decide(&plan, points)?;
    crate::swap::finish(state, points)?;
    Ok(Some(state.join(crate::ASIDE).join(DATABASE)))
}

/// The version that runs has proved itself. Says whether there was anything to prove.
///
/// # Errors
/// When the boot loaders cannot be told.
pub fn confirm(machine: &Machine) -> Result<bool> {
    let Some(record) = Record::read(&machine.state)? else { return Ok(false) };
    if record.state != State::Trying || record.version != machine.version {
        return Ok(false);
    }
    // The boot loaders first: a record that says good while attempts are counted would be a lie.
    machine.esp.bless(&machine.version)?;
    machine.points.pass();
    record.with(State::Good, None).write(&machine.state)?;
    Ok(true)
}

/// The version that runs has failed: the next start is the old one's. Says whether it was on trial.
///
/// # Errors
/// When the boot loaders cannot be told.
pub fn condemn(machine: &Machine, reason: &str) -> Result<bool> {
    let Some(record) = Record::read(&machine.state)? else { return Ok(false) };
    if record.state != State::Trying || record.version != machine.version {
        return Ok(false);
    }
    if !machine.esp.entries()?.iter().any(|entry| entry.version == record.from) {
        return refused(format!(
            "version {} is no more on this machine, so there is no way back: {reason}",
            record.from
        ));
    }
    record.with(State::Trying, Some(reason.to_owned())).write(&machine.state)?;
    machine.points.pass();
    machine.esp.condemn(&machine.version)?;
    Ok(true)
}

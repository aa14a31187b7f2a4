//! Puts a backup in the place of a state: all of it, or nothing.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::create::is_running;
use super::{CONFIG, DATABASE, DATABASE_FILE, Kind, Manifest, Member, STATE, archive, place_of};
use crate::files::{self, About as _, Error, Lock, Result, refused};
use crate::points::Points;
use crate::start;
use crate::swap::{ASIDE, Plan, Staging};

/// Room that is left for the database at work.
const RESERVE_BYTES: u64 = 64 << 20;
const BLOCK: usize = 64 << 10;

/// Where a backup goes.
#[derive(Clone, Debug)]
pub struct Into {
    pub state: PathBuf,
    /// A cloud that is there may be put aside.
    pub replace: bool,
    pub points: Points,
}

/// What is there now.
#[derive(Clone, Debug)]
pub struct Restored {
    pub manifest: Manifest,
    pub database: db::snapshot::Checked,
    /// What was there before, if anything was.
    pub aside: Option<PathBuf>,
    /// Servers whose disks are neither in the backup nor on this machine.
    pub without_disks: Vec<String>,
    /// Images whose data are neither.
    pub without_data: Vec<String>,
}

/// Restores the backup at `from`, or from the stream given instead.
///
/// # Errors
/// Why not; the state is then as it was. After a power cut the next start finds the old state or goes on to the new one.
pub fn restore(from: &Path, stream: Option<&mut dyn Read>, into: &Into) -> Result<Restored> {
    let state = &into.state;
    let _lock = Lock::take(state)?;
    start::obey_locked(state, &into.points)?;
    let taken = files::is_there(&state.join(DATABASE_FILE))?;
    if taken && !into.replace {
        return refused(format!(
            "there is a cloud in {} already: --replace puts it aside, in {}",
            state.display(),
            state.join(ASIDE).display()
        ));
    }
    for id in files::names(&state.join("servers"))? {
        if is_running(&state.join("servers").join(&id))? {
            return refused(format!(
                "server {id} of the cloud in {} is running: end it by `solostack down`",
                state.display()
            ));
        }
    }
    let staging = Staging::new(state)?;
    into.points.pass();
    match unpack(from, stream, into, &staging) {
        Ok((plan, mut restored)) => {
            staging.decide(&plan, &into.points)?;
            start::obey_locked(state, &into.points)?;
            restored.aside = Some(state.join(ASIDE)).filter(|aside| aside.exists());
            Ok(restored)
        }
        Err(error) => {
            staging.abandon()?;
            Err(error)
        }
    }
}

fn unpack(from: &Path, stream: Option<&mut dyn Read>, into: &Into, staging: &Staging) -> Result<(Plan, Restored)> {
    let state = &into.state;
    let manifest = archive::read(
        stream,
        from,
        &mut |manifest| {
            let needed = manifest.members.iter().fold(RESERVE_BYTES, |sum, member| sum.saturating_add(member.stored));
            let free = files::free_bytes(state)?;
            if needed > free {
                return refused(format!(
                    "{} has not enough room for the backup: {needed} bytes are needed, {free} are free",
                    state.display()
                ));
            }
            Ok(())
        },
        &mut |member, bytes| {
            let (_, place) = place_of(&member.name)?;
            let path = staging.at(place);
            files::make_folder(files::folder(&path))?;
            write(member, bytes, &path)?;
            into.points.pass();
            Ok(())
        },
    )?;
    // Proved on a copy: it is the next start that brings the schema up to date, with a way back.
    let database = staging.at(DATABASE_FILE);
    let proof = staging.at("proof.db");
    fs::copy(&database, &proof).about(&proof, "cannot be written")?;
    let checked = super::prove(&proof)?;
    for suffix in ["", "-wal", "-shm"] {
        files::remove_file(&staging.at(format!("proof.db{suffix}")))?;
    }
    let plan = plan(state, &manifest, staging)?;
    let there = |kind: &str, id: &str| staging.at(kind).join(id).exists() || state.join(kind).join(id).exists();
    let missing = |kind: &str, ids: &[String]| ids.iter().filter(|id| !there(kind, id)).cloned().collect();
    let (without_disks, without_data) =
        (missing("servers", &manifest.known_servers), missing("images/data", &manifest.known_images));
    Ok((plan, Restored { database: checked, aside: None, without_disks, without_data, manifest }))
}

/// What is replaced, in an order that never shows a new database beside an old log of it.
fn plan(state: &Path, manifest: &Manifest, staging: &Staging) -> Result<Plan> {
    let mut plan = Plan::default();
    plan.take_away(format!("{DATABASE_FILE}-wal"));
    plan.take_away(format!("{DATABASE_FILE}-shm"));
    plan.put(DATABASE_FILE);
    for name in STATE {
        if files::is_there(&staging.at(name))? {
            plan.put(name);
        } else {
            plan.take_away(name);
        }
    }
    if manifest.members.iter().any(|member| member.name == CONFIG) {
        plan.put(crate::reset::SETTINGS);
    }
    // `network` stays: by the tag in it this machine knows what the kernel has of the cloud before, and clears it away.
    plan.take_away("images/staging");
    plan.take_away("images/cache");
    one_by_one(state, staging, "images/data", &manifest.known_images, &mut plan)?;
    one_by_one(state, staging, "servers", &manifest.known_servers, &mut plan)?;
    Ok(plan)
}

/// What the backup has is put; what it knows and has not stays as it is here; what it does not know is put aside, or the cloud
/// would clear it away as nobody's.
fn one_by_one(state: &Path, staging: &Staging, kind: &str, known: &[String], plan: &mut Plan) -> Result<()> {
    let new = files::names(&staging.at(kind))?;
    for name in &new {
        plan.put(Path::new(kind).join(name));
    }
    for name in files::names(&state.join(kind))? {
        if !known.contains(&name) && !new.contains(&name) {
            plan.take_away(Path::new(kind).join(name));
        }
    }
    Ok(())
}

/// One file, holes where there are zeros.
fn write(member: &Member, bytes: &mut dyn Read, path: &Path) -> Result<()> {
    let file = files::create_private(path)?;
    let written = copy_sparse(bytes, &file, member.size);
    written.map_err(|source| match source.kind() {
        io::ErrorKind::StorageFull => {
            Error::Refused(format!("{} has not enough room for the backup", files::folder(path).display()))
        }
        _ => Error::File { path: path.to_owned(), what: "cannot be unpacked", source },
    })?;
    let (kind, _) = place_of(&member.name)?;
    // Public certificates are for everybody; everything else is for the cloud alone.
    let open = matches!(kind, Kind::State | Kind::Disk) && member.name != DATABASE;
    let mode = if open { member.mode & 0o755 } else { 0o600 };
    file.set_permissions(fs::Permissions::from_mode(mode)).about(path, "cannot be made private")
}

fn copy_sparse(bytes: &mut dyn Read, file: &File, size: u64) -> io::Result<()> {
    let mut block = vec![0; BLOCK];
    let mut at = 0;
    loop {
        let mut filled = 0;
        while filled < block.len() {
            match bytes.read(block.get_mut(filled..).unwrap_or_default())? {
                0 => break,
                n => filled += n,
            }
        }
        let piece = block.get(..filled).unwrap_or_default();
        if piece.is_empty() {
            break;
        }
        if piece.iter().any(|byte| *byte != 0) {
            file.write_all_at(piece, at)?;
        }
        at += filled as u64;
    }
    file.set_len(at.min(size))
}

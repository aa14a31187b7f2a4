//! What a suspended VM leaves in its directory, and whether its guest may still go on from it.
//!
//! What must stay true: a guest goes on from its memory once. When it has run on, its disks are no longer what that memory
//! believes, so from the instant at which a restored guest may have executed anything the files are worth nothing. That
//! instant is when its process empties `exit.json`, which it does before the guest runs: as long as `exit.json` holds the
//! last word of the suspended process, or of a start that failed, no guest has run.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use vmspec::directory::{DirectoryError, SUSPENDED, SUSPENDED_MEMORY, SUSPENDED_STATE};
use vmspec::{ExitCause, ServerDirectory, VmSpec};

const VERSION: u32 = 1;
const MAX_RECORD_BYTES: u64 = 4096;
/// Of the state file, and of the screen's memory, beside the guest's own memory.
const BESIDE_MEMORY_BYTES: u64 = 64 << 20;

/// `suspended.json`: both files are whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u32,
    /// Of the spec of the process that wrote them.
    boot_id: Uuid,
    generation: u64,
    state_bytes: u64,
    memory_bytes: u64,
    at_unix_ms: u64,
}

/// Empty files for a process to write itself to. What an earlier suspend left is gone.
pub(super) fn begin(directory: &ServerDirectory) -> io::Result<(File, File)> {
    discard(directory)?;
    let new = |name| OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(directory.file(name));
    let files = (new(SUSPENDED_STATE)?, new(SUSPENDED_MEMORY)?);
    File::open(directory.path())?.sync_all()?;
    Ok(files)
}

/// Why there is no room for the files of a VM of this size; `None` if there is.
pub(super) fn shortage(directory: &ServerDirectory, memory_mib: u64) -> io::Result<Option<String>> {
    let room = rustix::fs::statvfs(directory.path())?;
    let free_bytes = room.f_bavail.saturating_mul(room.f_frsize);
    let wanted_bytes = memory_mib.saturating_mul(1 << 20).saturating_add(BESIDE_MEMORY_BYTES);
    Ok((free_bytes < wanted_bytes).then(|| {
        format!(
            "its memory may take {} MiB, and the file system that holds servers has {} MiB free",
            wanted_bytes >> 20,
            free_bytes >> 20
        )
    }))
}

/// Records that the process of the current spec has written both files whole.
pub(super) fn finish(directory: &ServerDirectory) -> io::Result<()> {
    let Some(spec) = spec(directory)? else { return Err(io::Error::from(io::ErrorKind::NotFound)) };
    let bytes = |name| fs::metadata(directory.file(name)).map(|meta| meta.len());
    let record = Record {
        version: VERSION,
        boot_id: spec.boot_id,
        generation: spec.generation,
        state_bytes: bytes(SUSPENDED_STATE)?,
        memory_bytes: bytes(SUSPENDED_MEMORY)?,
        at_unix_ms: vmspec::unix_ms(),
    };
    directory.replace(SUSPENDED, &serde_json::to_vec(&record)?, true)
}

/// Whether a guest may go on from what is here. Only for a VM without a process.
pub(super) fn is_whole(directory: &ServerDirectory) -> io::Result<bool> {
    if !directory.file(SUSPENDED_STATE).try_exists()? || !directory.file(SUSPENDED_MEMORY).try_exists()? {
        return Ok(false);
    }
    let Some(spec) = spec(directory)? else { return Ok(false) };
    let exit = directory.read_exit()?;
    let ended = |boot_id: Uuid, generation: u64, cause: ExitCause| {
        exit.as_ref()
            .is_some_and(|exit| exit.boot_id == boot_id && exit.generation == generation && exit.cause == cause)
    };
    let record = directory.read_bounded(SUSPENDED, MAX_RECORD_BYTES)?;
    let Some(record) = record.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok()) else {
        // The process has said its last word, and the supervisor died before it could record that.
        return Ok(ended(spec.boot_id, spec.generation, ExitCause::Suspended));
    };
    if record.version != VERSION {
        return Ok(false);
    }
    if (record.boot_id, record.generation) == (spec.boot_id, spec.generation) {
        return Ok(true);
    }
    // A start since then: one that was to go on from here, and that never came to run its guest.
    Ok(spec.restore.is_some()
        && (ended(record.boot_id, record.generation, ExitCause::Suspended)
            || ended(spec.boot_id, spec.generation, ExitCause::StartFailed)))
}

/// The files, open for reading: state, then memory.
pub(super) fn open(directory: &ServerDirectory) -> io::Result<(File, File)> {
    Ok((File::open(directory.file(SUSPENDED_STATE))?, File::open(directory.file(SUSPENDED_MEMORY))?))
}

/// Nothing left of it. A process that goes on from the memory file keeps it until it ends, without its name.
pub(super) fn discard(directory: &ServerDirectory) -> io::Result<()> {
    for name in [SUSPENDED, SUSPENDED_STATE, SUSPENDED_MEMORY] {
        match fs::remove_file(directory.file(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// What the files take of the disk.
pub(super) fn bytes(directory: &ServerDirectory) -> u64 {
    let taken = |name| fs::metadata(directory.file(name)).map_or(0, |meta| meta.blocks() * 512);
    [SUSPENDED_STATE, SUSPENDED_MEMORY].into_iter().map(taken).sum()
}

fn spec(directory: &ServerDirectory) -> io::Result<Option<VmSpec>> {
    match directory.read_spec() {
        Ok(spec) => Ok(spec),
        Err(DirectoryError::Io(error)) => Err(error),
        Err(DirectoryError::Spec(_)) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use vmspec::{ExitRecord, Restore};

    use super::*;

    fn spec_of(generation: u64, restore: Option<Restore>) -> VmSpec {
        let golden = include_bytes!("../../../vmspec/tests/golden/spec-v2.json");
        VmSpec { generation, restore, disks: vec![], nics: vec![], ..VmSpec::parse(golden).unwrap() }
    }

    fn exit(directory: &ServerDirectory, generation: u64, cause: ExitCause) {
        directory.write_exit(&ExitRecord::new(&spec_of(generation, None), cause, false, None)).unwrap();
    }

    const RESTORE: Option<Restore> = Some(Restore { state_descriptor: 0, memory_descriptor: 1 });

    /// Suspended in generation 1.
    fn suspended() -> (tempfile::TempDir, ServerDirectory) {
        let state = tempfile::tempdir().unwrap();
        let directory = ServerDirectory::at(state.path());
        directory.write_spec(&spec_of(1, None)).unwrap();
        let (mut state_file, _) = begin(&directory).unwrap();
        io::Write::write_all(&mut state_file, b"state").unwrap();
        (state, directory)
    }

    #[test]
    fn files_count_once_the_process_or_the_supervisor_said_that_they_are_whole() {
        let (_state, directory) = suspended();
        assert!(!is_whole(&directory).unwrap(), "nobody has said so");
        exit(&directory, 1, ExitCause::Suspended);
        assert!(is_whole(&directory).unwrap(), "the process has");
        exit(&directory, 1, ExitCause::Killed);
        assert!(!is_whole(&directory).unwrap(), "it was killed over it");
        finish(&directory).unwrap();
        assert!(is_whole(&directory).unwrap(), "it had answered before it was killed");
        discard(&directory).unwrap();
        discard(&directory).unwrap();
        assert!(!is_whole(&directory).unwrap());
    }

    #[test]
    fn a_guest_that_may_have_run_on_never_goes_on_from_its_memory_again() {
        let (_state, directory) = suspended();
        exit(&directory, 1, ExitCause::Suspended);
        finish(&directory).unwrap();
        directory.write_spec(&spec_of(2, RESTORE)).unwrap();
        assert!(is_whole(&directory).unwrap(), "no process has come to life for the new spec");
        exit(&directory, 2, ExitCause::StartFailed);
        assert!(is_whole(&directory).unwrap(), "it failed before the guest ran");
        fs::write(directory.file(vmspec::directory::EXIT), "").unwrap();
        assert!(!is_whole(&directory).unwrap(), "it came to life, and was killed");
        exit(&directory, 2, ExitCause::GuestShutdown);
        assert!(!is_whole(&directory).unwrap(), "the guest ran");
    }

    #[test]
    fn a_guest_that_was_started_anew_does_not_go_on_from_its_memory() {
        let (_state, directory) = suspended();
        exit(&directory, 1, ExitCause::Suspended);
        finish(&directory).unwrap();
        directory.write_spec(&spec_of(2, None)).unwrap();
        assert!(!is_whole(&directory).unwrap());
    }
}

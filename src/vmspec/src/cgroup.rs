//! The cgroup of a VM: `<cgroup2 mount>/solostack/vm-<server id>`.
//!
//! It is made at the top of the tree, not below the supervisor's own cgroup: a supervisor started by hand lives in the
//! scope of a login session, which is killed at logout, and its servers must not be. The VM process moves itself in;
//! the supervisor kills and removes it. Best effort: without a writable cgroup2 there is none, and killing goes through a
//! pidfd of the lock's holder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// Where cgroup2 is mounted, if it is.
pub fn mount_point() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        // Fields: id parent major:minor root mount-point options [optional...] - type source options
        let (before, after) = line.split_once(" - ")?;
        (after.split(' ').next()? == "cgroup2").then_some(())?;
        before.split(' ').nth(4).map(PathBuf::from)
    })
}

/// The directory of this server's cgroup, whether it exists or not.
pub fn path_of(server_id: Uuid) -> Option<PathBuf> {
    mount_point().map(|mount| mount.join("solostack").join(format!("vm-{server_id}")))
}

/// Make the cgroup and move the calling process in.
pub fn enter(server_id: Uuid) -> io::Result<PathBuf> {
    let path = path_of(server_id).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "cgroup2 is not mounted"))?;
    let mut tries = 0;
    loop {
        let entered = fs::create_dir_all(&path).and_then(|()| fs::write(path.join("cgroup.procs"), "0"));
        match entered {
            Ok(()) => return Ok(path),
            // A supervisor that tidies up after the last process of this server has just removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries < 10 => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// True if any process is in it. A cgroup that does not exist has none.
pub fn is_populated(path: &Path) -> bool {
    fs::read_to_string(path.join("cgroup.events")).is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
}

/// Kill everything in it (Linux 5.14 and later). One that does not exist is no error.
pub fn kill(path: &Path) -> io::Result<()> {
    match fs::write(path.join("cgroup.kill"), "1") {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.exists() => Ok(()),
        other => other,
    }
}

/// Remove it, once empty, and what held it if it was the last. One that does not exist is no error.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Others are in it, or somebody is just about to be: either way it stays.
    let _ = path.parent().map(fs::remove_dir);
    Ok(())
}

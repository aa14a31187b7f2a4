//! What the VM process gives up before it meets anything of the guest (DESIGN section 15).
//!
//! Best effort where a host may lack the means, and everything that is missing is reported in `hello`. One step is not:
//! when the spec names a user, the process runs as that user or not at all.

use std::io;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid, setsid};
use rustix::process::{Resource, Rlimit, setrlimit};
use vmspec::protocol::Isolation;
use vmspec::{VmSpec, cgroup};

/// Out of the supervisor's session, so that neither its terminal nor its end is this process's.
pub fn own_session() {
    // Fails only for the leader of a process group, whose session somebody else has made then.
    let _ = setsid();
    crate::sys::ignore_hangup();
}

/// Cgroup and namespaces. To be called with root, before [`drop_root`], and before any other thread is started; QEMU,
/// started later by this thread, finds itself in a pid namespace of its own, from where it cannot signal this process.
pub fn raise(spec: &VmSpec) -> Isolation {
    let mut walls = Isolation { uid: Uid::effective().as_raw(), ..Isolation::default() };
    if !Uid::effective().is_root() {
        walls.missing.push("the supervisor does not run as root: no namespaces, no user of its own".to_owned());
        return walls;
    }
    let mut tried = |what: &str, done: Result<(), String>| match done {
        Ok(()) => true,
        Err(why) => {
            walls.missing.push(format!("{what}: {why}"));
            false
        }
    };
    let own_cgroup = tried("cgroup", cgroup::enter(spec.server_id).map(|_| ()).map_err(|error| error.to_string()));
    let namespace = |flag| unshare(flag).map_err(|error| error.to_string());
    let network = tried("network namespace", namespace(CloneFlags::CLONE_NEWNET));
    tried("ipc and uts namespaces", namespace(CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS));
    let pid = tried("pid namespace", namespace(CloneFlags::CLONE_NEWPID));
    walls.cgroup = own_cgroup;
    walls.network_namespace = network;
    walls.pid_namespace = pid;
    walls
}

/// Become the user of this VM, for good.
pub fn drop_root(spec: &VmSpec, walls: &mut Isolation) -> io::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    // A core file of a VM process is a copy of the guest's memory.
    setrlimit(Resource::Core, none)?;
    match spec.run_as {
        Some(id) if Uid::effective().is_root() => {
            let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
            setgroups(&[])?;
            setresgid(gid, gid, gid)?;
            // Leaving uid 0 behind clears every capability.
            setresuid(uid, uid, uid)?;
        }
        Some(id) if Uid::effective().as_raw() == id => {}
        Some(id) => {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("cannot become user {id} without root"),
            ));
        }
        None => walls.missing.push("no user of its own was asked for".to_owned()),
    }
    nix::sys::prctl::set_no_new_privs()?;
    // No other process of this user (there should be none) may look into this one.
    nix::sys::prctl::set_dumpable(false)?;
    walls.uid = Uid::effective().as_raw();
    Ok(())
}

//! What the VM process gives up before it meets anything of the guest (DESIGN section 15).
//!
//! Best effort where a host may lack the means, and everything that is missing is reported in `hello`. One step is not:
//! when the spec names a user, the process runs as that user or not at all.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::{Gid, Uid, chdir, chown, pivot_root, setgroups, setresgid, setresuid, setsid};
use rustix::process::{Resource, Rlimit, setrlimit};
use vmspec::protocol::Isolation;
use vmspec::{VmSpec, cgroup};

/// Out of the supervisor's session, so that neither its terminal nor its end is this process's.
pub fn own_session() {
    // Fails only for the leader of a process group, whose session somebody else has made then.
    let _ = setsid();
    crate::sys::ignore_hangup();
}

/// What is seen in the new root directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root<'a> {
    /// Nothing at all: the built-in machine has all its files open.
    Empty,
    /// QEMU, its libraries and its firmware, and files of ours by name. `kvm`: a node of the device as well, which is the
    /// VM's user's, as QEMU before 9.0 opens it by its path.
    Qemu { kvm: bool, files: &'a [(&'a str, &'a [u8])] },
}

const SHARED: [&str; 6] = ["usr", "bin", "lib", "lib32", "lib64", "libx32"];
const SHARED_FILES: [&str; 4] = ["etc/ld.so.cache", "dev/null", "dev/zero", "dev/urandom"];
const DEVICES: &str = "dev";
const KVM: &str = "dev/kvm";

/// Cgroup and namespaces. To be called with root, before [`drop_root`], and before any other thread is started; QEMU,
/// started later by this thread, finds itself in a pid namespace of its own, from where it cannot signal this process.
/// `directory` is covered by the new root, out of sight of everybody else; whatever is needed of it must be open.
pub fn raise(spec: &VmSpec, directory: &Path, root: Root<'_>) -> Isolation {
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
    // For children only: a process with one cannot start threads, which the built-in machine does in place of children.
    let pid = match root {
        Root::Qemu { .. } => tried("pid namespace", namespace(CloneFlags::CLONE_NEWPID)),
        Root::Empty => false,
    };
    let own_root = tried("root directory", own_root(directory, root, spec.run_as).map_err(|error| error.to_string()));
    walls.cgroup = own_cgroup;
    walls.mount_namespace = own_root;
    walls.network_namespace = network;
    walls.pid_namespace = pid;
    walls
}

/// A root directory with nothing in it that is not needed, all of it read-only. No `/proc`, no `/sys`, no state.
fn own_root(place: &Path, root: Root<'_>, user: Option<u32>) -> io::Result<()> {
    const NOTHING: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    // Nothing of what follows is seen outside.
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)?;
    let bare = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), place, Some("tmpfs"), bare, Some("size=1m,mode=755"))?;
    let (shared, shared_files): (&[&str], &[&str]) = match root {
        Root::Empty => (&[], &[]),
        Root::Qemu { .. } => (&SHARED, &SHARED_FILES),
    };
    if let Root::Qemu { kvm, files } = root {
        if kvm {
            own_kvm(place, user)?;
        }
        for (name, bytes) in files {
            fs::write(place.join(name), bytes)?;
            fs::set_permissions(place.join(name), fs::Permissions::from_mode(0o444))?;
        }
    }
    for name in shared {
        let (from, to) = (Path::new("/").join(name), place.join(name));
        match fs::symlink_metadata(&from) {
            // On a merged-usr host these are links into usr.
            Ok(found) if found.is_symlink() => symlink(fs::read_link(&from)?, &to)?,
            Ok(found) if found.is_dir() => {
                fs::create_dir(&to)?;
                bind_read_only(&from, &to, MsFlags::MS_NODEV)?;
            }
            _ => {}
        }
    }
    for name in shared_files {
        let (from, to) = (Path::new("/").join(name), place.join(name));
        if from.exists() {
            to.parent().map_or(Ok(()), fs::create_dir_all)?;
            File::create(&to)?;
            // A device stays what it is; it can be written to, though not changed.
            let devices = if name.starts_with("dev/") { MsFlags::empty() } else { MsFlags::MS_NODEV };
            bind_read_only(&from, &to, devices)?;
        }
    }
    if matches!(root, Root::Qemu { kvm: true, .. }) {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        mount(NOTHING, &place.join(DEVICES), NOTHING, flags, NOTHING)?;
    }
    mount(NOTHING, place, NOTHING, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | bare, NOTHING)?;
    chdir(place)?;
    // With both arguments the same, the old root lies below the new one, and is taken off from there.
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    Ok(())
}

/// A place for devices with a node of KVM in it that nobody but this user opens. The host's own may be root's alone, or a
/// group's that opens it on behalf of others.
fn own_kvm(place: &Path, user: Option<u32>) -> io::Result<()> {
    let (devices, node) = (place.join(DEVICES), place.join(KVM));
    fs::create_dir(&devices)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), &devices, Some("tmpfs"), flags, Some("size=64k,mode=755"))?;
    let device = fs::metadata(Path::new("/").join(KVM))?.rdev();
    mknod(&node, SFlag::S_IFCHR, Mode::from_bits_truncate(0o600), device)?;
    chown(&node, user.map(Uid::from_raw), user.map(Gid::from_raw))?;
    // Whatever the umask has left.
    fs::set_permissions(&node, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

fn bind_read_only(from: &Path, to: &Path, more: MsFlags) -> io::Result<()> {
    const NOTHING: Option<&str> = None;
    mount(Some(from), to, NOTHING, MsFlags::MS_BIND, NOTHING)?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | more;
    mount(NOTHING, to, NOTHING, flags, NOTHING)?;
    Ok(())
}

/// The group that may open the host's `/dev/kvm`, if that is needed later.
fn kept_groups(root: Root<'_>, walls: &Isolation) -> io::Result<Vec<Gid>> {
    if walls.mount_namespace || !matches!(root, Root::Qemu { kvm: true, .. }) {
        return Ok(Vec::new());
    }
    let group = fs::metadata(Path::new("/").join(KVM))?.gid();
    // Root's own group opens more than that.
    Ok(if group == 0 { Vec::new() } else { vec![Gid::from_raw(group)] })
}

/// Become the user of this VM, for good.
pub fn drop_root(spec: &VmSpec, walls: &mut Isolation, root: Root<'_>) -> io::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    // A core file of a VM process is a copy of the guest's memory.
    setrlimit(Resource::Core, none)?;
    match spec.run_as {
        Some(id) if Uid::effective().is_root() => {
            let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
            setgroups(&kept_groups(root, walls)?)?;
            setresgid(gid, gid, gid)?;
            // Leaving uid 0 behind clears every capability.
            setresuid(uid, uid, uid)?;
            // No other process of this user (there should be none) may look into this one. Without a user of its own
            // this would only keep the supervisor from seeing which files the process has open.
            nix::sys::prctl::set_dumpable(false)?;
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
    walls.uid = Uid::effective().as_raw();
    Ok(())
}

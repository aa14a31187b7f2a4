//! Network namespaces as `ip netns` knows them: files in /run/netns with a namespace mounted on them.
//!
//! The owner's tag is in two places, so that there is no moment at which a thing has no owner: in the file itself
//! (read while nothing is mounted on it: a creation that was cut short), and in the alias of the namespace's `lo`, which
//! is set before the namespace gets its name.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::fstatfs;

use crate::netlink::Netlink;
use crate::worker::on_own_thread;
use crate::{Error, Id, Inner, Result};

const DIRECTORY: &str = "/run/netns";
const NSFS_MAGIC: i64 = 0x6e73_6673;
/// The lane of work in the host's own namespace.
pub(crate) const HOST: &str = "host";

pub(crate) fn network(id: Id) -> String {
    format!("net-{id}")
}

pub(crate) fn router(id: Id) -> String {
    format!("rtr-{id}")
}

/// The alias of everything this instance makes.
pub(crate) fn alias(tag: &str) -> String {
    format!("solostack {tag}")
}

fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// The namespace of that name, if it exists.
pub(crate) fn find(name: &str) -> Result<Option<OwnedFd>> {
    let path = path(name);
    let failed = |e| Error::io(format!("opening the namespace {name}"), e);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    let kind = fstatfs(&file).map_err(|e| failed(e.into()))?.filesystem_type();
    #[allow(clippy::unnecessary_cast, reason = "the type of f_type differs between C libraries")]
    let mounted = kind.0 as i64 == NSFS_MAGIC;
    Ok(mounted.then(|| file.into()))
}

pub(crate) fn get(name: &str) -> Result<OwnedFd> {
    find(name)?.ok_or_else(|| Error::NotFound(format!("the namespace {name}")))
}

/// Moves the calling thread into the namespace for good. Only for threads of [`crate::worker`].
pub(crate) fn enter(namespace: impl AsFd) -> Result<()> {
    setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|e| Error::io("entering a namespace", e))
}

/// Makes the namespace if it is missing. `prepare` runs inside before it gets its name, so a namespace that can be
/// found is always prepared.
pub(crate) fn ensure(host: &Inner, name: &str, prepare: fn(&mut Netlink) -> Result<()>) -> Result<OwnedFd> {
    if let Some(found) = find(name)? {
        return Ok(found);
    }
    let failed = |e: std::io::Error| Error::io(format!("making the namespace {name}"), e);
    share_directory()?;
    let path = path(name);
    let owner = alias(&host.tag);
    fs::write(&path, &owner).map_err(failed)?;
    on_own_thread("making a namespace", || {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|e| failed(e.into()))?;
        let mut netlink = Netlink::open()?;
        let lo = netlink.get("lo")?;
        netlink.set_alias(lo.index, &owner)?;
        netlink.set_up(lo.index)?;
        prepare(&mut netlink)?;
        mount(Some("/proc/thread-self/ns/net"), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|e| failed(e.into()))
    })?;
    get(name)
}

/// As `ip netns` does it: /run/netns is a shared mount, so that every mount namespace sees the entries.
fn share_directory() -> Result<()> {
    let failed = |e: std::io::Error| Error::io(format!("sharing {DIRECTORY}"), e);
    fs::create_dir_all(DIRECTORY).map_err(failed)?;
    let share = || mount(None::<&str>, DIRECTORY, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    if share().is_ok() {
        return Ok(());
    }
    // Not a mount point yet.
    mount(Some(DIRECTORY), DIRECTORY, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .and_then(|()| share())
        .map_err(|e| failed(e.into()))
}

/// Removes the name and all interfaces, so that nothing lingers even if a socket somewhere keeps the namespace alive.
pub(crate) fn remove(host: &Inner, name: &str) -> Result<()> {
    let failed = |e: std::io::Error| Error::io(format!("removing the namespace {name}"), e);
    if let Some(namespace) = find(name)? {
        on_own_thread("emptying a namespace", || {
            enter(&namespace)?;
            let mut netlink = Netlink::open()?;
            if !is_ours(host, &mut netlink)? {
                return Err(Error::Invalid(format!("the namespace {name} belongs to another instance")));
            }
            let links = netlink.links()?.into_iter();
            let made = links.filter(|link| matches!(link.kind.as_str(), "veth" | "bridge" | "tun"));
            netlink.remove_many(&made.map(|link| link.index).collect::<Vec<_>>())?;
            Ok(())
        })?;
    }
    let path = path(name);
    loop {
        match umount2(&path, MntFlags::MNT_DETACH) {
            Ok(()) => {}
            Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => break,
            Err(e) => return Err(failed(e.into())),
        }
    }
    match fs::remove_file(&path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(failed(e)),
        _ => Ok(()),
    }
}

/// A namespace file that looks like ours.
pub(crate) struct Entry {
    pub name: String,
    pub id: Id,
    pub is_router: bool,
    /// None: nothing is mounted on it, and the file names us as its maker.
    pub namespace: Option<OwnedFd>,
}

/// All names of the form `net-<uuid>` and `rtr-<uuid>`; of those without a namespace only the ones this instance made.
/// Whose the others are is known only inside ([`is_ours`]).
pub(crate) fn list(host: &Inner) -> Result<Vec<Entry>> {
    let failed = |e| Error::io(format!("listing {DIRECTORY}"), e);
    let mut entries = Vec::new();
    let directory = match fs::read_dir(DIRECTORY) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(entries),
        other => other.map_err(failed)?,
    };
    for file in directory {
        let Ok(name) = file.map_err(failed)?.file_name().into_string() else { continue };
        let (id, is_router) = match (name.strip_prefix("net-"), name.strip_prefix("rtr-")) {
            (Some(id), _) => (id.parse::<Id>(), false),
            (_, Some(id)) => (id.parse::<Id>(), true),
            _ => continue,
        };
        let Ok(id) = id else { continue };
        let namespace = find(&name)?;
        if namespace.is_none() && fs::read_to_string(path(&name)).ok().as_deref() != Some(&alias(&host.tag)) {
            continue;
        }
        entries.push(Entry { name, id, is_router, namespace });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Whether the namespace of the calling thread was made by this instance.
pub(crate) fn is_ours(host: &Inner, netlink: &mut Netlink) -> Result<bool> {
    Ok(netlink.get("lo")?.alias.as_deref() == Some(&alias(&host.tag)))
}

/// Writes a setting below /proc/sys/net in the namespace of the calling thread, unless it is so already.
pub(crate) fn sysctl(name: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/{name}");
    let failed = |e| Error::io(format!("setting {path} to {value}"), e);
    if fs::read_to_string(&path).map_err(failed)?.trim() == value {
        return Ok(());
    }
    fs::write(&path, value).map_err(failed)
}

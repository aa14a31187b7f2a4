//! A server's disks while a resize may still be taken back: copies of what was, beside what is.
//!
//! What must stay true: a copy has its name only when it is whole, and it is made only while no process runs; so a copy
//! that is there is what the server had before. Each function can be repeated after a crash at any point.

use std::{
    fs::OpenOptions,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use tasks::Failure;

use crate::{
    App,
    servers::{
        Server,
        disk::{self, Blank, GIB, blank, blocking, fresh},
    },
};

/// Disks with a user's data.
const KEPT: [&str; 2] = ["disk", "disk.eph0"];

fn copy_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".before");
    name.into()
}

/// Has no copies: what an earlier resize left is not what the server has now.
pub(super) async fn discard(app: &App, server: &Server) -> Result<(), Failure> {
    let directory = disk::directory(app, server);
    blocking("The disks from before the resize could not be removed.", move || {
        KEPT.iter().try_for_each(|name| remove(&copy_of(&directory.join(name))))
    })
    .await
}

/// Has a copy of each disk. By reflink where the file system can.
pub(super) async fn save(app: &App, server: &Server) -> Result<(), Failure> {
    let directory = disk::directory(app, server);
    blocking("The disks could not be kept for taking the resize back.", move || {
        for path in KEPT.map(|name| directory.join(name)) {
            let copy = copy_of(&path);
            if copy.try_exists().map_err(disks::Error::dest)? {
                continue;
            }
            let from = match OpenOptions::new().read(true).open(&path) {
                Ok(from) => from,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(disks::Error::Source(error)),
            };
            let part = copy.with_extension("before-part");
            let file = fresh(&part)?;
            disks::clone_file(&from, &file)?;
            disks::persist(&file, &part, &copy).map_err(disks::Error::dest)?;
        }
        Ok(())
    })
    .await
}

/// Has disks as large as the flavor of `server` says. Never smaller than they are.
pub(super) async fn grow(app: &App, server: &Server) -> Result<(), Failure> {
    let directory = disk::directory(app, server);
    let wanted = [server.root_gib, server.flavor.ephemeral_gib].map(|gib| GIB * gib.unsigned_abs());
    let paths = KEPT.map(|name| directory.join(name));
    blocking("The disks could not be made larger.", move || {
        for (path, bytes) in paths.iter().zip(wanted).filter(|(_, bytes)| *bytes > 0) {
            let file = match OpenOptions::new().read(true).write(true).open(path) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(disks::Error::dest(error)),
            };
            if file.metadata().map_err(disks::Error::dest)?.len() < bytes {
                disks::grow(&file, bytes)?;
                file.sync_all().map_err(disks::Error::dest)?;
            }
        }
        Ok(())
    })
    .await?;
    fill(app, server).await
}

/// Has what was before the resize in place again. `server` is with its old flavor.
pub(super) async fn put_back(app: &App, server: &Server) -> Result<(), Failure> {
    let directory = disk::directory(app, server);
    let no_ephemeral = server.flavor.ephemeral_gib == 0;
    blocking("The disks from before the resize could not be put back.", move || {
        for path in KEPT.map(|name| directory.join(name)) {
            match std::fs::rename(copy_of(&path), &path) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(disks::Error::dest(error)),
            }
        }
        if no_ephemeral {
            remove(&directory.join(KEPT[1]))?;
        }
        disks::sync_directory(&directory).map_err(disks::Error::dest)
    })
    .await?;
    fill(app, server).await
}

/// Has the disks that hold nothing yet, and swap of the right size.
async fn fill(app: &App, server: &Server) -> Result<(), Failure> {
    let directory = disk::directory(app, server);
    let swap = directory.join("disk.swap");
    let swap_bytes = server.flavor.swap_mib.unsigned_abs() << 20;
    let stale = swap.clone();
    blocking("The swap disk could not be changed.", move || match std::fs::metadata(&stale) {
        Ok(is) if is.len() != swap_bytes => remove(&stale),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(disks::Error::dest(error)),
    })
    .await?;
    if swap_bytes > 0 {
        blank(swap, swap_bytes, Blank::Swap).await?;
    }
    if server.flavor.ephemeral_gib > 0 {
        blank(directory.join(KEPT[1]), GIB * server.flavor.ephemeral_gib.unsigned_abs(), Blank::Empty).await?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), disks::Error> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(disks::Error::dest(error)),
        _ => Ok(()),
    }
}

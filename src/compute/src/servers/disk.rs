//! A server's own disks, in its directory: made once, whole, and found by name.

use std::{
    fs::{File, OpenOptions},
    io::{Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use tasks::Failure;
use vmspec::DiskKind;

use super::rescue::Rescue;
use super::{Server, config_drive, personality};
use crate::{App, aggregates, documents::Subject, network_info};

pub(super) const GIB: u64 = 1 << 30;
const ROOT: &str = "disk";
const RESCUE_DISK: &str = "disk.rescue";
const RESCUE_CONFIG: &str = "disk.config.rescue";

pub(crate) fn directory(app: &App, server: &Server) -> PathBuf {
    app.servers_dir.join(&server.id)
}

pub(crate) fn word(kind: DiskKind) -> &'static str {
    match kind {
        DiskKind::Root => "root disk",
        DiskKind::Ephemeral => "ephemeral disk",
        DiskKind::ConfigDrive => "config drive",
        DiskKind::Volume => "volume",
    }
}

/// The disks in the order the guest meets them. A server that is rescued boots from its rescue disk, and has its own root
/// disk behind that; with a stable rescue all its own disks stay where they were.
pub(crate) fn files(app: &App, server: &Server, rescue: Option<&Rescue>) -> Vec<(DiskKind, PathBuf, bool)> {
    let mut files = own_files(app, server);
    let Some(rescue) = rescue else { return files };
    let directory = directory(app, server);
    for (kind, path, _) in &mut files {
        match kind {
            DiskKind::Root => *kind = DiskKind::Ephemeral,
            DiskKind::ConfigDrive => *path = directory.join(RESCUE_CONFIG),
            _ => {}
        }
    }
    let rescue_disk = (DiskKind::Root, directory.join(RESCUE_DISK), false);
    if rescue.stable {
        files.push(rescue_disk);
        return files;
    }
    let own = files.first().cloned();
    let config = files.into_iter().filter(|(kind, ..)| *kind == DiskKind::ConfigDrive);
    [rescue_disk].into_iter().chain(own).chain(config).collect()
}

fn own_files(app: &App, server: &Server) -> Vec<(DiskKind, PathBuf, bool)> {
    let directory = directory(app, server);
    let mut files = vec![(DiskKind::Root, directory.join("disk"), false)];
    if server.flavor.ephemeral_gib > 0 {
        files.push((DiskKind::Ephemeral, directory.join("disk.eph0"), false));
    }
    if server.flavor.swap_mib > 0 {
        files.push((DiskKind::Ephemeral, directory.join("disk.swap"), false));
    }
    if server.config_drive {
        files.push((DiskKind::ConfigDrive, directory.join("disk.config"), true));
    }
    files
}

/// Makes what is missing, the root disk from the server's image.
pub(crate) async fn ensure(app: &App, server: &Server, admin_pass: Option<&str>) -> Result<(), Failure> {
    let image_id = server.image_id.as_deref().ok_or_else(|| Failure::fatal("The server has no image."))?;
    ensure_from(app, server, image_id, admin_pass).await
}

/// Makes what is missing, the root disk from this image.
pub(crate) async fn ensure_from(
    app: &App,
    server: &Server,
    image_id: &str,
    admin_pass: Option<&str>,
) -> Result<(), Failure> {
    let directory = directory(app, server);
    make_directory(&directory)?;
    ensure_bootable(app, image_id, directory.join(ROOT), GIB * server.root_gib.unsigned_abs()).await?;
    if server.flavor.ephemeral_gib > 0 {
        blank(directory.join("disk.eph0"), GIB * server.flavor.ephemeral_gib.unsigned_abs(), Blank::Empty).await?;
    }
    if server.flavor.swap_mib > 0 {
        blank(directory.join("disk.swap"), server.flavor.swap_mib.unsigned_abs() << 20, Blank::Swap).await?;
    }
    if server.config_drive {
        write_config_drive(app, server, admin_pass, "disk.config").await?;
    }
    Ok(())
}

/// Makes what a rescue needs beside the server's own disks.
pub(crate) async fn ensure_rescue(app: &App, server: &Server, image_id: &str, admin_pass: &str) -> Result<(), Failure> {
    ensure_bootable(app, image_id, directory(app, server).join(RESCUE_DISK), 0).await?;
    if server.config_drive {
        write_config_drive(app, server, Some(admin_pass), RESCUE_CONFIG).await?;
    }
    Ok(())
}

/// Has nothing of a rescue left.
pub(crate) async fn remove_rescue(app: &App, server: &Server) -> Result<(), Failure> {
    let directory = directory(app, server);
    remove_file(directory.join(RESCUE_DISK)).await?;
    remove_file(directory.join(RESCUE_CONFIG)).await
}

/// A copy of the root disk under this name, whole once it has it.
pub(crate) async fn copy_root(app: &App, server: &Server, to: PathBuf) -> Result<(), Failure> {
    let (root, part) = (directory(app, server).join(ROOT), to.with_extension("part"));
    blocking("The root disk could not be copied.", move || {
        let source = File::open(&root).map_err(disks::Error::Source)?;
        let file = fresh(&part)?;
        disks::clone_file(&source, &file)?;
        disks::persist(&file, &part, &to).map_err(disks::Error::dest)
    })
    .await
}

/// Removes a file; one that is not there is fine.
pub(crate) async fn remove_file(path: PathBuf) -> Result<(), Failure> {
    let part = path.with_extension("part");
    blocking("A file of the server could not be removed.", move || {
        for path in [part, path] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(disks::Error::Dest(error)),
                _ => {}
            }
        }
        Ok(())
    })
    .await
}

/// A disk from an image, at least this large. It has its name only when it is whole, so a crash leaves nothing half made in
/// use.
async fn ensure_bootable(app: &App, image_id: &str, path: PathBuf, size_bytes: u64) -> Result<(), Failure> {
    if !path.exists() {
        let raw = images::peer::raw_cached(&app.images, image_id).await.map_err(|error| {
            let text = format!("The image could not be made a disk: {error}");
            match error {
                images::peer::RawError::Failed(_) => Failure::retry(text).caused_by(error),
                _ => Failure::fatal(text),
            }
        })?;
        let (part, path) = (path.with_extension("part"), path);
        blocking("The root disk could not be made.", move || {
            let file = fresh(&part)?;
            disks::clone_file(&raw.file, &file)?;
            let size_bytes = size_bytes.max(file.metadata().map_err(disks::Error::Source)?.len());
            disks::grow(&file, size_bytes)?;
            disks::persist(&file, &part, &path).map_err(disks::Error::dest)
        })
        .await?;
    }
    Ok(())
}

/// Has the image in the form that disks are cloned from.
pub(crate) async fn ensure_image(app: &App, server: &Server) -> Result<images::peer::RawImage, Failure> {
    let image_id = server.image_id.as_deref().ok_or_else(|| Failure::fatal("The server has no image."))?;
    images::peer::raw_cached(&app.images, image_id).await.map_err(|error| {
        let text = format!("The image could not be made a disk: {error}");
        match error {
            images::peer::RawError::Failed(_) => Failure::retry(text).caused_by(error),
            _ => Failure::fatal(text),
        }
    })
}

async fn write_config_drive(
    app: &App,
    server: &Server,
    admin_pass: Option<&str>,
    name: &'static str,
) -> Result<(), Failure> {
    let directory = directory(app, server);
    let (id, options) = (server.id.clone(), app.options.clone());
    let (interfaces, zone, files) = app
        .db
        .read(move |tx| {
            let interfaces = network_info::of_servers(tx, &[&id])?.of(&id).to_vec();
            Ok::<_, rest::Error>((interfaces, aggregates::store::zone(tx, &options)?, personality::list(tx, &id)?))
        })
        .await
        .map_err(|error| Failure::retry("The server's interfaces cannot be read.").caused_by(error.causes()))?;
    let admin_pass = admin_pass.map(str::to_owned);
    let subject = Subject { server: server.clone(), interfaces, zone, admin_pass, files };
    let files = subject.config_drive(&app.options);
    let (part, path) = (directory.join(format!("{name}.part")), directory.join(name));
    let (format, now) = (app.options.config_drive_format, app.clock.now());
    blocking("The config drive could not be made.", move || {
        let image = config_drive::write(format, &files, now).map_err(disks::Error::dest)?;
        let mut file = fresh(&part)?;
        file.write_all(&image).map_err(disks::Error::dest)?;
        disks::persist(&file, &part, &path).map_err(disks::Error::dest)
    })
    .await
}

fn make_directory(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(path)
        .map_err(|error| Failure::retry("The server's directory could not be made.").caused_by(error))
}

pub(super) fn fresh(path: &Path) -> Result<File, disks::Error> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(disks::Error::dest)
}

pub(super) enum Blank {
    Empty,
    Swap,
}

pub(super) async fn blank(path: PathBuf, size_bytes: u64, kind: Blank) -> Result<(), Failure> {
    if path.exists() {
        return Ok(());
    }
    blocking("A disk could not be made.", move || {
        let part = path.with_extension("part");
        let mut file = fresh(&part)?;
        file.set_len(size_bytes).map_err(disks::Error::dest)?;
        if matches!(kind, Blank::Swap) {
            write_swap_header(&mut file, size_bytes).map_err(disks::Error::dest)?;
        }
        disks::persist(&file, &part, &path).map_err(disks::Error::dest)
    })
    .await
}

/// The header of a Linux swap area, version 1, pages of 4 KiB.
fn write_swap_header(file: &mut File, size_bytes: u64) -> std::io::Result<()> {
    let mut page = [0_u8; 4096];
    let last_page = u32::try_from(size_bytes / 4096).unwrap_or(u32::MAX).saturating_sub(1);
    page[1024..1028].copy_from_slice(&1_u32.to_le_bytes());
    page[1028..1032].copy_from_slice(&last_page.to_le_bytes());
    page[1036..1052].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    page[4086..].copy_from_slice(b"SWAPSPACE2");
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&page)
}

pub(super) async fn blocking(
    public: &'static str,
    work: impl FnOnce() -> Result<(), disks::Error> + Send + 'static,
) -> Result<(), Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(disks::Error::NoSpace)) => {
            Err(Failure::fatal(format!("{public} The file system that holds servers is full.")))
        }
        Ok(Err(error)) => Err(Failure::retry(public).caused_by(error)),
        Err(error) => Err(Failure::retry(public).caused_by(error)),
    }
}

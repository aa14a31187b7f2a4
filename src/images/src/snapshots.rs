//! Images that Compute fills: the record comes with the server's operation, the bytes come from the server's disk.
//!
//! What must stay true: such a record is `saving` without an upload id, which no transfer of a client ever is, so neither
//! a client nor the reconciler touches it; its operation fills it, or removes it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use db::{Tx, params};
use disks::{Digests, Format, Hasher};

use crate::app::Images;
use crate::files;
use crate::image::model::{self, Image, Status, Visibility};
use crate::image::store;
use crate::live::Guard;

/// What is said of an image before it has bytes.
#[derive(Clone, Debug)]
pub struct NewSnapshot {
    pub id: String,
    pub name: String,
    /// The project that it belongs to, and that alone sees it.
    pub owner: String,
    pub min_disk_gib: u32,
    pub min_ram_mib: u32,
    pub properties: BTreeMap<String, String>,
}

/// Why an image was not filled. The texts are for users.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    #[error("the image was deleted")]
    Gone,
    #[error("{0}")]
    Refused(String),
    #[error("there is not enough space on the disk for the image")]
    NoSpace,
    #[error("the image could not be written")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> FillError {
    FillError::Failed(error.into())
}

/// Inserts the record.
///
/// # Errors
/// When the id is taken, when more is said than an image may hold, or when the project's storage is used up.
pub fn insert(tx: &Tx<'_>, app: &Images, new: &NewSnapshot) -> rest::Result<()> {
    let mut image = Image::new(new.id.clone(), new.owner.clone(), app.now());
    image.name = Some(new.name.clone());
    image.status = Status::Saving;
    image.visibility = Visibility::Private;
    image.disk_format = Some(Format::Qcow2.name().to_owned());
    image.container_format = Some("bare".to_owned());
    image.min_disk_gib = new.min_disk_gib;
    image.min_ram_mib = new.min_ram_mib;
    image.properties.clone_from(&new.properties);
    if let Some(taken) = new.properties.keys().find(|name| model::is_base(name) || model::check_writable(name).is_err())
    {
        return Err(rest::Error::bad_request(format!("An image has a {taken} of its own: it is no property.")));
    }
    image.check_quotas()?;
    if room_of_project(tx, app, &new.owner)? == 0 {
        return Err(rest::Error::forbidden(
            "Quota exceeded: the project's images take all the storage that it may use.",
        ));
    }
    store::insert(tx, &image)
}

/// Bytes that the project may still store.
fn room_of_project(tx: &Tx<'_>, app: &Images, owner: &str) -> db::Result<u64> {
    let Some(quota) = app.options().project_quota_bytes else { return Ok(u64::MAX) };
    let usage = store::usage(tx, owner)?;
    Ok(quota.saturating_sub(usage.size_bytes + usage.staged_bytes))
}

/// Fills the image with what `disk` holds; from then on it is active. Filled already is fine.
///
/// # Errors
/// The reason, fit for the server's instance action.
pub async fn fill(
    app: &Images,
    image_id: &str,
    disk: impl FnOnce() -> std::io::Result<File> + Send + 'static,
) -> Result<(), FillError> {
    // Before the record is read: what the reconciler sees without it is nobody's.
    let guard = app.live().register(image_id, &rest::new_uuid());
    let (id, inner) = (image_id.to_owned(), app.clone());
    let (image, room) = app
        .db()
        .read(move |tx| {
            let Some(image) = store::find(tx, &id)? else { return Ok(None) };
            let room = room_of_project(tx, &inner, &image.owner)?;
            Ok::<_, db::Error>(Some((image, room)))
        })
        .await
        .map_err(failed)?
        .ok_or(FillError::Gone)?;
    match image.status {
        Status::Active | Status::Deactivated => return Ok(()),
        Status::Saving if image.upload_id.is_none() => {}
        _ => return Err(FillError::Refused("the image is in use otherwise".to_owned())),
    }
    let (inner, max_bytes) = (app.clone(), room.min(app.options().max_image_bytes));
    // A task of its own: who waits may give up, and must not take the cleaning up with it.
    tokio::spawn(async move { write(&inner, &image.id, guard, disk, max_bytes).await }).await.map_err(failed)?
}

async fn write(
    app: &Images,
    image_id: &str,
    guard: Guard,
    disk: impl FnOnce() -> std::io::Result<File> + Send + 'static,
    max_bytes: u64,
) -> Result<(), FillError> {
    let staging = app.files().staging(image_id, &guard.work_id);
    let (inner, path, flag) = (app.clone(), staging.clone(), guard.cancel.flag.clone());
    let made = tokio::task::spawn_blocking(move || {
        let disk = disk().map_err(failed)?;
        write_file(&inner, &disk, &path, max_bytes, &flag)
    });
    let placed = match made.await.map_err(failed)? {
        Ok(made) => place(app, image_id, &staging, made).await,
        Err(error) => Err(error),
    };
    if placed.is_err()
        && let Err(error) = files::remove(&staging)
    {
        tracing::warn!(image.id = image_id, %error, "the file of a snapshot stays for the reconciler");
    }
    drop(guard);
    placed
}

struct Made {
    file: File,
    digests: Digests,
    virtual_size_bytes: u64,
}

fn write_file(app: &Images, disk: &File, path: &Path, max_bytes: u64, flag: &AtomicBool) -> Result<Made, FillError> {
    let room = app.files().room_bytes(app.options().reserve_bytes).map_err(failed)?;
    let virtual_size_bytes = disk.metadata().map_err(failed)?.len();
    let mut file = files::create_private(path).map_err(failed)?;
    match disks::write_qcow2(disk, &file, max_bytes.min(room), flag) {
        Ok(_) => {}
        Err(disks::Error::Refused(_)) if room <= max_bytes => return Err(FillError::NoSpace),
        Err(disks::Error::Refused(refused)) => {
            return Err(FillError::Refused(format!("{refused}, which is all that the project may store")));
        }
        Err(disks::Error::NoSpace) => return Err(FillError::NoSpace),
        Err(disks::Error::Cancelled) => return Err(FillError::Gone),
        Err(error) => return Err(failed(error)),
    }
    let digests = digests(&mut file, flag)?;
    Ok(Made { file, digests, virtual_size_bytes })
}

fn digests(file: &mut File, flag: &AtomicBool) -> Result<Digests, FillError> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let (mut hasher, mut piece) = (Hasher::new(), vec![0; 1 << 20]);
    loop {
        if flag.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(FillError::Gone);
        }
        match file.read(&mut piece) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(read) => hasher.update(piece.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

/// File first, record second: a record never names a file that is not there.
async fn place(app: &Images, image_id: &str, staging: &Path, made: Made) -> Result<(), FillError> {
    let (from, to) = (staging.to_owned(), app.files().data(image_id));
    let _placing = app.placing().read().await;
    let Made { file, digests, virtual_size_bytes } = made;
    tokio::task::spawn_blocking(move || disks::persist(&file, &from, &to)).await.map_err(failed)?.map_err(failed)?;
    let (id, now) = (image_id.to_owned(), app.now());
    let active = app.db().write(move |tx| activate(tx, &id, &digests, virtual_size_bytes, &now)).await;
    if matches!(active, Ok(true)) {
        return Ok(());
    }
    if let Err(error) = files::remove(&app.files().data(image_id)) {
        tracing::warn!(image.id = image_id, %error, "an unnamed file stays for the reconciler");
    }
    match active {
        Ok(_) => Err(FillError::Gone),
        Err(error) => {
            let error: db::Error = error;
            Err(failed(error))
        }
    }
}

fn activate(tx: &Tx<'_>, id: &str, digests: &Digests, virtual_size_bytes: u64, now: &str) -> db::Result<bool> {
    let sql = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let changed = tx.execute(
        "UPDATE images_image SET status = 'active', size_bytes = ?2, checksum = ?3, os_hash_value = ?4,
                virtual_size_bytes = ?5, updated_at = ?6
         WHERE id = ?1 AND status = 'saving' AND upload_id IS NULL",
        params![id, sql(digests.size_bytes), digests.md5, digests.sha512, sql(virtual_size_bytes), now],
    )?;
    Ok(changed == 1)
}

/// Removes an image, whatever protects it not, and stops what is done for it. One that is gone is fine.
///
/// # Errors
/// The database's.
pub fn delete(tx: &Tx<'_>, app: &Images, image_id: &str) -> db::Result<()> {
    if store::find(tx, image_id)?.is_none_or(|image| image.protected) {
        return Ok(());
    }
    store::delete(tx, image_id, &app.now())?;
    let (app, id) = (app.clone(), image_id.to_owned());
    tx.after_commit(move || {
        app.live().cancel_image(&id);
        app.wake();
    });
    Ok(())
}

/// Removes the images that are being filled from this server, and never will be.
///
/// # Errors
/// The database's.
pub fn abandon(tx: &Tx<'_>, app: &Images, server_id: &str) -> db::Result<()> {
    let unfilled: Vec<String> = tx.list(
        "SELECT i.id FROM images_image i JOIN images_property p ON p.image_id = i.id
         WHERE p.name = 'instance_uuid' AND p.value = ?1 AND i.status = 'saving' AND i.upload_id IS NULL",
        [server_id],
        |row| row.get(0),
    )?;
    for id in unfilled {
        store::delete(tx, &id, &app.now())?;
        let app = app.clone();
        tx.after_commit(move || {
            app.live().cancel_image(&id);
            app.wake();
        });
    }
    Ok(())
}

/// The active backups of a server of one type, newest first.
///
/// # Errors
/// The database's.
pub fn backups(tx: &Tx<'_>, owner: &str, server_id: &str, backup_type: &str) -> db::Result<Vec<String>> {
    const HAS: &str = "EXISTS (SELECT 1 FROM images_property p WHERE p.image_id = i.id AND p.name =";
    tx.list(
        &format!(
            "SELECT i.id FROM images_image i WHERE i.owner = ?1 AND i.status = 'active'
             AND {HAS} 'image_type' AND p.value = 'backup')
             AND {HAS} 'instance_uuid' AND p.value = ?2)
             AND {HAS} 'backup_type' AND p.value = ?3)
             ORDER BY i.created_at DESC, i.id DESC"
        ),
        [owner, server_id, backup_type],
        |row| row.get(0),
    )
}

/// Memory (MiB) that a server of this image needs at least; 0 when the image is gone.
///
/// # Errors
/// The database's.
pub fn min_ram_mib(tx: &Tx<'_>, image_id: &str) -> db::Result<u32> {
    Ok(store::find(tx, image_id)?.map_or(0, |image| image.min_ram_mib))
}

/// Whether there is such an image.
///
/// # Errors
/// The database's.
pub fn exists(tx: &Tx<'_>, image_id: &str) -> db::Result<bool> {
    Ok(store::find(tx, image_id)?.is_some())
}

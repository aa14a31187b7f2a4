//! Makes the files match the records: finishes what a crash, a full disk or a delete left.
//!
//! Safe against transfers that run meanwhile: they are looked up (in `live`) before the record is read, and they end only
//! after their record says so. A name that is not live and whose record does not want it will never be wanted again.

use std::fs;
use std::path::Path;

use disks::Format;

use crate::app::Images;
use crate::cache;
use crate::files;
use crate::image::model::{Image, Status};
use crate::image::store;

pub async fn run(app: &Images) -> Result<(), Failed> {
    for name in names(app.files().staging_directory()).await? {
        let Some((id, upload_id)) = name.split_once('.') else { continue };
        if app.live().has_work(upload_id) {
            continue;
        }
        let wanted = find(app, id).await?.is_some_and(|image| {
            image.upload_id.as_deref() == Some(upload_id)
                && matches!(image.status, Status::Uploading | Status::Importing)
        });
        if !wanted {
            remove(&app.files().staging_directory().join(&name), "a staged file without a transfer")?;
        }
    }
    revert_unfinished(app).await?;
    for id in names(app.files().data_directory()).await? {
        if app.live().has_image(&id) {
            continue;
        }
        let status = find(app, &id).await?.map(|image| image.status);
        // An import has its file in place before the record says active.
        if !matches!(status, Some(Status::Active | Status::Deactivated | Status::Importing)) {
            remove(&app.files().data(&id), "the file of an image that is not")?;
        }
    }
    for name in names(app.files().cache_directory()).await? {
        let path = app.files().cache_directory().join(&name);
        if let Some(work_id) = name.strip_prefix("tmp.") {
            if !app.live().has_work(work_id) {
                remove(&path, "a half-made raw copy")?;
            }
            continue;
        }
        let id = name.split('.').next().unwrap_or_default();
        let wanted = find(app, id).await?.is_some_and(|image| is_its_copy(app, &image, &path));
        if !wanted {
            remove(&path, "the raw copy of an image that is not")?;
        }
    }
    cache::shrink(app.files().cache_directory(), app.options().cache_max_bytes)?;
    Ok(())
}

/// Transfers of an earlier process: their clients are gone.
async fn revert_unfinished(app: &Images) -> Result<(), Failed> {
    let unfinished = app.db().read(|tx| Ok::<_, db::Error>((store::list_unfinished(tx)?,))).await?.0;
    for (id, upload_id, status, complete) in unfinished {
        let waits = match status {
            // A staged file that arrived whole waits for its import, if it is there.
            Status::Uploading => complete && app.files().staging(&id, &upload_id).exists(),
            // The operation brings this to its end.
            Status::Importing => true,
            _ => false,
        };
        if waits || app.live().has_work(&upload_id) {
            continue;
        }
        tracing::info!(image.id = id, "an interrupted upload is taken back");
        let now = app.now();
        app.db().write(move |tx| store::revert_upload(tx, &id, &upload_id, &now)).await?;
    }
    Ok(())
}

fn is_its_copy(app: &Images, image: &Image, path: &Path) -> bool {
    let flat = image.disk_format.as_deref().and_then(Format::from_name).is_none_or(Format::is_flat);
    let hash = image.os_hash_value.as_deref().unwrap_or_default();
    !flat && matches!(image.status, Status::Active | Status::Deactivated) && app.files().cached(&image.id, hash) == path
}

async fn find(app: &Images, id: &str) -> Result<Option<Image>, Failed> {
    let id = id.to_owned();
    Ok(app.db().read(move |tx| store::find(tx, &id)).await?)
}

async fn names(directory: &Path) -> Result<Vec<String>, Failed> {
    let directory = directory.to_owned();
    let listed = tokio::task::spawn_blocking(move || {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok::<_, std::io::Error>(names)
    });
    Ok(listed.await.map_err(std::io::Error::other)??)
}

fn remove(path: &Path, what: &str) -> Result<(), Failed> {
    files::remove(path)?;
    tracing::info!(path = %path.display(), "removed {what}");
    Ok(())
}

#[derive(Debug, thiserror::Error)]
pub enum Failed {
    #[error("the records of images cannot be read or written: {0}")]
    Db(#[from] db::Error),
    #[error("the files of images cannot be read or removed: {0}")]
    Io(#[from] std::io::Error),
}

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
use crate::image::model::Status;
use crate::image::store::{self, FileState};

pub async fn run(app: &Images) -> Result<(), Failed> {
    let mut staging = names(app.files().staging_directory()).await?;
    staging.retain(|name| name.split_once('.').is_some_and(|(_, upload_id)| !app.live().has_work(upload_id)));
    let mut data = names(app.files().data_directory()).await?;
    data.retain(|id| !app.live().has_image(id));
    let mut copies = names(app.files().cache_directory()).await?;
    copies.retain(|name| name.strip_prefix("tmp.").is_none_or(|work_id| !app.live().has_work(work_id)));

    let states = app.db().read(store::list_file_states).await?;
    for name in staging {
        let Some((id, upload_id)) = name.split_once('.') else { continue };
        let wanted = states.get(id).is_some_and(|state| {
            state.upload_id.as_deref() == Some(upload_id)
                && matches!(state.status, Status::Uploading | Status::Importing)
        });
        if !wanted {
            remove(&app.files().staging_directory().join(&name), "a staged file without a transfer")?;
        }
    }
    revert_unfinished(app).await?;
    for id in data.into_iter().filter(|id| !states.get(id).is_some_and(has_file)) {
        // A new upload may be about to give this very name to its file.
        let _placing = app.placing().write().await;
        let wanted = id.clone();
        let state = app.db().read(move |tx| store::find_file_state(tx, &wanted)).await?;
        if !state.as_ref().is_some_and(has_file) {
            remove(&app.files().data(&id), "the file of an image that is not")?;
        }
    }
    for name in copies {
        let path = app.files().cache_directory().join(&name);
        let id = name.split('.').next().unwrap_or_default();
        if !states.get(id).is_some_and(|state| is_its_copy(app, id, state, &path)) {
            remove(&path, "a raw copy that no image has")?;
        }
    }
    cache::shrink(app.files().cache_directory(), app.options().cache_max_bytes)?;
    Ok(())
}

/// An import has its file in place before the record says active.
fn has_file(state: &FileState) -> bool {
    matches!(state.status, Status::Active | Status::Deactivated | Status::Importing)
}

/// Transfers of an earlier process: their clients are gone.
async fn revert_unfinished(app: &Images) -> Result<(), Failed> {
    let unfinished = app.db().read(store::list_unfinished).await?;
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

fn is_its_copy(app: &Images, id: &str, state: &FileState, path: &Path) -> bool {
    let flat = state.disk_format.as_deref().and_then(Format::from_name).is_none_or(Format::is_flat);
    let hash = state.hash.as_deref().unwrap_or_default();
    !flat && matches!(state.status, Status::Active | Status::Deactivated) && app.files().cached(id, hash) == path
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

//! What compute and volumes may call.

use db::Tx;
use disks::Format;

use crate::app::Images;
use crate::cache;
pub use crate::cache::{RawError, RawImage};
use crate::image::model::{Image, OWN, Status};
use crate::image::store::{self, Viewer};
pub use crate::proxied::{ImageView, change_properties, delete_image, image, list_images};
pub use crate::snapshots::{
    FillError, NewSnapshot, abandon, backups, delete, exists, fill, insert as insert_snapshot, min_ram_mib,
};

/// An image that a server may be started from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootImage {
    pub id: String,
    pub name: String,
    pub owner: String,
    pub disk_format: Format,
    pub container_format: String,
    pub min_disk_gib: u32,
    pub min_ram_mib: u32,
    /// Bytes of the file as it was uploaded.
    pub size_bytes: u64,
    /// Bytes of the disk that a server needs at least.
    pub virtual_size_bytes: u64,
    /// SHA-512 of the file, in hexadecimal.
    pub hash: String,
    pub properties: std::collections::BTreeMap<String, String>,
}

/// Why a server cannot be started from an image. The texts are for users.
#[derive(Debug, thiserror::Error)]
pub enum NotBootable {
    #[error("Image {0} could not be found.")]
    NotFound(String),
    #[error("Image {id} is unacceptable: Image is not active (it is {status}).")]
    NotActive { id: String, status: &'static str },
    #[error("Image {id} is unacceptable: {reason}")]
    Unacceptable { id: String, reason: String },
    #[error(transparent)]
    Db(#[from] db::Error),
}

/// The image for a new server of `project_id`, if the project can see it and it holds a disk.
///
/// # Errors
/// What stands in the way, in words for the user.
pub fn bootable(tx: &Tx<'_>, project_id: &str, is_admin: bool, image_id: &str) -> Result<BootImage, NotBootable> {
    let viewer = Viewer { project_id: Some(project_id.to_owned()), is_admin };
    let image =
        store::find_visible(tx, &viewer, image_id)?.ok_or_else(|| NotBootable::NotFound(image_id.to_owned()))?;
    if image.status != Status::Active {
        return Err(NotBootable::NotActive { id: image.id, status: image.status.as_str() });
    }
    boot_image(image)
}

fn boot_image(image: Image) -> Result<BootImage, NotBootable> {
    let unacceptable = |reason: &str| NotBootable::Unacceptable { id: image.id.clone(), reason: reason.to_owned() };
    if !image.is_plain() {
        return Err(unacceptable("its container format holds no disk that can be started."));
    }
    let Ok((disk_format, container)) = image.formats() else {
        return Err(unacceptable("its disk format is not known."));
    };
    if matches!(disk_format, Format::Aki | Format::Ari) {
        return Err(unacceptable("it is a kernel or a RAM disk, not a disk."));
    }
    let (Some(size_bytes), Some(virtual_size_bytes), Some(hash)) =
        (image.size_bytes, image.virtual_size_bytes, image.os_hash_value.clone())
    else {
        return Err(unacceptable("it has no data, or none that is what its disk format says."));
    };
    Ok(BootImage {
        container_format: container.to_owned(),
        disk_format,
        size_bytes,
        virtual_size_bytes,
        hash,
        name: image.name.clone().unwrap_or_default(),
        min_disk_gib: image.min_disk_gib,
        min_ram_mib: image.min_ram_mib,
        owner: image.owner.clone(),
        properties: image
            .properties
            .iter()
            .filter(|(name, _)| !name.starts_with(OWN))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        id: image.id,
    })
}

/// The raw disk of an active image, converted now if it was not yet. Clone it (`disks::clone_file`), never open it for
/// writing. No visibility is checked: call [`bootable`] when the request comes in; a server that was accepted starts even
/// if the image is no longer shared a second later.
///
/// # Errors
/// The reason, fit for a server's fault.
pub async fn raw_cached(app: &Images, image_id: &str) -> Result<RawImage, RawError> {
    let id = image_id.to_owned();
    let image = app
        .db()
        .read(move |tx| store::find(tx, &id))
        .await
        .map_err(|error: db::Error| RawError::Failed(error.into()))?
        .ok_or(RawError::Gone)?;
    if !matches!(image.status, Status::Active | Status::Deactivated) {
        return Err(RawError::Refused(format!("image {image_id} is not active")));
    }
    let boot = boot_image(image).map_err(|error| RawError::Refused(error.to_string()))?;
    cache::raw(app, image_id, boot.disk_format, &boot.hash).await
}

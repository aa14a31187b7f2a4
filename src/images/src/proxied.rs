//! Images as Compute's own older API passes them on: without Images' policy, because Compute has asked its own.

use std::collections::BTreeMap;

use db::Tx;
use rest::{Error, Kind, Params, Result};
use serde_json::Value;

use crate::app::Images;
use crate::image::list;
use crate::image::model::{self, Image};
use crate::image::store::{self, Viewer};

/// An image as Compute lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageView {
    pub id: String,
    pub name: Option<String>,
    pub owner: String,
    /// In Images' words: `queued`, `active` ...
    pub status: &'static str,
    pub size_bytes: Option<u64>,
    pub min_disk_gib: u32,
    pub min_ram_mib: u32,
    pub properties: BTreeMap<String, String>,
    pub created_at: String,
    pub updated_at: String,
}

impl From<Image> for ImageView {
    fn from(image: Image) -> Self {
        Self {
            status: image.status.as_str(),
            id: image.id,
            name: image.name,
            owner: image.owner,
            size_bytes: image.size_bytes,
            min_disk_gib: image.min_disk_gib,
            min_ram_mib: image.min_ram_mib,
            properties: image.properties,
            created_at: image.created_at,
            updated_at: image.updated_at,
        }
    }
}

fn viewer(project_id: &str, is_admin: bool) -> Viewer {
    Viewer { project_id: Some(project_id.to_owned()), is_admin }
}

/// A page of the images that the project sees, by a query in the words of the Image API; and whether more follow.
///
/// # Errors
/// 400 for a query that makes no sense.
pub fn list_images(tx: &Tx<'_>, project_id: &str, is_admin: bool, query: Params) -> Result<(Vec<ImageView>, bool)> {
    let listing = list::fetch(&list::page(&viewer(project_id, is_admin), query)?, tx)?;
    Ok((listing.rows.into_iter().map(ImageView::from).collect(), listing.more))
}

/// One that the project sees.
///
/// # Errors
/// 404
pub fn image(tx: &Tx<'_>, project_id: &str, is_admin: bool, id: &str) -> Result<ImageView> {
    store::get_visible(tx, &viewer(project_id, is_admin), id).map(ImageView::from)
}

/// One that the project may change: its own.
fn own(tx: &Tx<'_>, project_id: &str, is_admin: bool, id: &str) -> Result<Image> {
    let image = store::get_visible(tx, &viewer(project_id, is_admin), id)?;
    if is_admin || image.owner == project_id {
        return Ok(image);
    }
    Err(Error::new(Kind::Forbidden, format!("You are not authorized to change image {id}.")))
}

/// What `change` makes of the image's free properties. Attributes of images (`min_ram`) are not among them.
///
/// # Errors
/// 404 for an image that the project does not see, 403 for one that is not its own; 400 for properties that no image can
/// have, 413 for too many.
pub fn change_properties(
    tx: &Tx<'_>,
    app: &Images,
    project_id: &str,
    is_admin: bool,
    id: &str,
    change: impl FnOnce(&mut BTreeMap<String, String>) -> Result<()>,
) -> Result<BTreeMap<String, String>> {
    let mut image = own(tx, project_id, is_admin, id)?;
    let mut wanted = image.properties.clone();
    change(&mut wanted)?;
    for (key, value) in &wanted {
        if image.properties.get(key) == Some(value) {
            continue;
        }
        model::check_writable(key)?;
        let mut probe = image.clone();
        probe.assign(key, &Value::String(value.clone()))?;
        if probe.properties.get(key) != Some(value) {
            return Err(Error::bad_request(format!("Invalid metadata: {key:?} is an attribute of the image.")));
        }
    }
    image.properties = wanted;
    image.check_quotas()?;
    image.updated_at = app.now();
    store::update(tx, &image)?;
    Ok(image.properties)
}

/// Deletes an image of the project.
///
/// # Errors
/// 404 for an image that the project does not see; 403 for one that is not its own, or protected.
pub fn delete_image(tx: &Tx<'_>, app: &Images, project_id: &str, is_admin: bool, id: &str) -> Result<()> {
    let image = own(tx, project_id, is_admin, id)?;
    if image.protected {
        return Err(Error::new(Kind::Forbidden, format!("Image {id} is protected and cannot be deleted.")));
    }
    store::delete(tx, &image.id, &app.now())?;
    // The file goes by the reconciler: once the record is gone nothing can find it any more.
    let (app, id) = (app.clone(), image.id);
    tx.after_commit(move || {
        app.live().cancel_image(&id);
        app.wake();
    });
    Ok(())
}

//! Images as Compute needs them: to boot from, and to pass on to users of its older API.

use std::collections::BTreeMap;

use db::Tx;
use images::peer::{self, ImageView};
use rest::{Credentials, Error, Kind, Params, Result};
use serde_json::{Map, Value};

use crate::App;

#[derive(Clone, Debug)]
pub(crate) struct BootImage {
    pub id: String,
    pub min_disk_gib: i64,
    pub min_ram_mib: i64,
    pub virtual_size_bytes: u64,
    pub properties: Map<String, Value>,
}

impl BootImage {
    /// Its disk in whole GiB.
    pub fn size_gib(&self) -> i64 {
        i64::try_from(self.virtual_size_bytes.div_ceil(1 << 30)).unwrap_or(i64::MAX)
    }

    pub fn needs_config_drive(&self) -> bool {
        self.properties.get("img_config_drive").and_then(Value::as_str) == Some("mandatory")
    }
}

/// The image, if the caller may boot it.
pub(crate) async fn bootable(app: &App, creds: &Credentials, image_id: &str) -> Result<BootImage> {
    let project_id = creds.project_id().unwrap_or_default().to_owned();
    let (admin, id) = (creds.has_role("admin"), image_id.to_owned());
    let image = app
        .db
        .read(move |tx| Ok::<_, db::Error>(images::peer::bootable(tx, &project_id, admin, &id)))
        .await
        .map_err(Error::from)?
        .map_err(|why| match why {
            images::peer::NotBootable::Db(error) => error.into(),
            // A request that names what is not there is wrong; it is not itself missing.
            why => Error::new(Kind::BadRequest, why.to_string()),
        })?;
    Ok(BootImage {
        id: image.id,
        min_disk_gib: image.min_disk_gib.into(),
        min_ram_mib: image.min_ram_mib.into(),
        virtual_size_bytes: image.virtual_size_bytes,
        properties: image.properties.into_iter().map(|(key, value)| (key, Value::String(value))).collect(),
    })
}

/// Images that a project sees, and whether more follow.
pub(crate) fn list(tx: &Tx<'_>, project_id: &str, admin: bool, query: Params) -> Result<(Vec<ImageView>, bool)> {
    peer::list_images(tx, project_id, admin, query)
}

pub(crate) fn one(tx: &Tx<'_>, project_id: &str, admin: bool, id: &str) -> Result<ImageView> {
    peer::image(tx, project_id, admin, id)
}

pub(crate) fn delete(tx: &Tx<'_>, app: &App, project_id: &str, admin: bool, id: &str) -> Result<()> {
    peer::delete_image(tx, &app.images, project_id, admin, id)
}

/// What `change` makes of an image's properties.
pub(crate) fn change_properties(
    tx: &Tx<'_>,
    app: &App,
    project_id: &str,
    admin: bool,
    id: &str,
    change: impl FnOnce(&mut BTreeMap<String, String>) -> Result<()>,
) -> Result<BTreeMap<String, String>> {
    peer::change_properties(tx, &app.images, project_id, admin, id, change)
}

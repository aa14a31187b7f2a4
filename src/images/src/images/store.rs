//! All SQL of image records. Members and tags of one image are in here too: they have no life without it.

use std::collections::{BTreeMap, HashMap};

use db::{Constraint, Row, Tx, params, rusqlite};
use rest::{Error, Result};

use crate::app::Options;

use super::model::{Image, Staged, Status, Visibility};

/// The select list that [`read`] reads; the table is `i`.
pub const COLUMNS: &str = "i.id, i.name, i.owner, i.status, i.visibility, i.disk_format, i.container_format, \
     i.size_bytes, i.virtual_size_bytes, i.checksum, i.os_hash_value, i.min_disk_gib, i.min_ram_mib, i.protected, \
     i.os_hidden, i.upload_id, i.staged_size_bytes, i.staged_checksum, i.staged_hash_value, i.created_at, i.updated_at, \
     (SELECT json_group_array(t.tag ORDER BY t.tag) FROM images_tag t WHERE t.image_id = i.id), \
     (SELECT json_group_object(p.name, p.value) FROM images_property p WHERE p.image_id = i.id)";

/// Who looks.
#[derive(Clone, Debug)]
pub struct Viewer {
    pub project_id: Option<String>,
    pub is_admin: bool,
}

/// SQLite's integers are signed; our sizes never reach their end.
fn bytes(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(i64::unsigned_abs))
}

fn sql(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

pub fn read(row: &Row<'_>) -> rusqlite::Result<Image> {
    let bad = |column: usize| {
        rusqlite::Error::InvalidColumnType(column, "images_image".to_owned(), rusqlite::types::Type::Text)
    };
    let status: String = row.get(3)?;
    let visibility: String = row.get(4)?;
    let tags: String = row.get(21)?;
    let properties: String = row.get(22)?;
    let staged = match (bytes(row, 16)?, row.get(17)?, row.get(18)?) {
        (Some(size_bytes), Some(checksum), Some(hash_value)) => Some(Staged { size_bytes, checksum, hash_value }),
        _ => None,
    };
    Ok(Image {
        id: row.get(0)?,
        name: row.get(1)?,
        owner: row.get(2)?,
        status: Status::parse(&status).ok_or_else(|| bad(3))?,
        visibility: Visibility::parse(&visibility).ok_or_else(|| bad(4))?,
        disk_format: row.get(5)?,
        container_format: row.get(6)?,
        size_bytes: bytes(row, 7)?,
        virtual_size_bytes: bytes(row, 8)?,
        checksum: row.get(9)?,
        os_hash_value: row.get(10)?,
        min_disk_gib: row.get(11)?,
        min_ram_mib: row.get(12)?,
        protected: row.get(13)?,
        os_hidden: row.get(14)?,
        upload_id: row.get(15)?,
        staged,
        created_at: row.get(19)?,
        updated_at: row.get(20)?,
        tags: serde_json::from_str(&tags).map_err(|_| bad(21))?,
        properties: serde_json::from_str::<BTreeMap<String, String>>(&properties).map_err(|_| bad(22))?,
        caller_member: None,
    })
}

pub fn find(tx: &Tx<'_>, id: &str) -> db::Result<Option<Image>> {
    tx.find(&format!("SELECT {COLUMNS} FROM images_image i WHERE i.id = ?1"), [id], read)
}

/// The image if the caller may know that it exists.
pub fn find_visible(tx: &Tx<'_>, viewer: &Viewer, id: &str) -> db::Result<Option<Image>> {
    let Some(mut image) = find(tx, id)? else { return Ok(None) };
    if let Some(project_id) = &viewer.project_id
        && *project_id != image.owner
        && image.visibility == Visibility::Shared
        && tx.exists("SELECT 1 FROM images_member WHERE image_id = ?1 AND member = ?2", [id, project_id])?
    {
        image.caller_member = Some(project_id.clone());
    }
    let visible = viewer.is_admin
        || viewer.project_id.as_ref() == Some(&image.owner)
        || matches!(image.visibility, Visibility::Public | Visibility::Community)
        || image.caller_member.is_some();
    Ok(visible.then_some(image))
}

/// [`find_visible`] that fails with 404.
pub fn get_visible(tx: &Tx<'_>, viewer: &Viewer, id: &str) -> Result<Image> {
    find_visible(tx, viewer, id)?.ok_or_else(|| not_found(id))
}

pub fn not_found(id: &str) -> Error {
    Error::new(rest::Kind::NotFound, format!("No image found with ID {id}"))
}

/// Adds a record with its tags and properties.
pub fn insert(tx: &Tx<'_>, image: &Image) -> Result<()> {
    let taken = || Error::conflict(format!("Image ID {} already exists!", image.id));
    if tx.exists("SELECT 1 FROM images_deleted WHERE id = ?1", [&image.id])? {
        return Err(taken());
    }
    tx.execute(
        "INSERT INTO images_image (id, name, owner, status, visibility, disk_format, container_format, min_disk_gib,
                                   min_ram_mib, protected, os_hidden, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        params![
            image.id,
            image.name,
            image.owner,
            image.status.as_str(),
            image.visibility.as_str(),
            image.disk_format,
            image.container_format,
            image.min_disk_gib,
            image.min_ram_mib,
            image.protected,
            image.os_hidden,
            image.created_at,
            image.updated_at
        ],
    )
    .on_unique("images_image.id", taken)?;
    insert_details(tx, image)?;
    Ok(())
}

fn insert_details(tx: &Tx<'_>, image: &Image) -> db::Result<()> {
    for (name, value) in &image.properties {
        tx.execute(
            "INSERT INTO images_property (image_id, name, value) VALUES (?1, ?2, ?3)",
            [&image.id, name, value],
        )?;
    }
    for tag in &image.tags {
        insert_tag(tx, &image.id, tag)?;
    }
    Ok(())
}

pub fn insert_tag(tx: &Tx<'_>, id: &str, tag: &str) -> db::Result<()> {
    tx.execute("INSERT OR IGNORE INTO images_tag (image_id, tag) VALUES (?1, ?2)", [id, tag])?;
    Ok(())
}

pub fn delete_tag(tx: &Tx<'_>, id: &str, tag: &str) -> db::Result<bool> {
    Ok(tx.execute("DELETE FROM images_tag WHERE image_id = ?1 AND tag = ?2", [id, tag])? == 1)
}

/// Writes what clients may change. Never the state or what describes the bytes: transfers own those.
pub fn update(tx: &Tx<'_>, image: &Image) -> db::Result<()> {
    tx.execute(
        "UPDATE images_image SET name = ?2, owner = ?3, visibility = ?4, disk_format = ?5, container_format = ?6,
                min_disk_gib = ?7, min_ram_mib = ?8, protected = ?9, os_hidden = ?10, updated_at = ?11
         WHERE id = ?1",
        params![
            image.id,
            image.name,
            image.owner,
            image.visibility.as_str(),
            image.disk_format,
            image.container_format,
            image.min_disk_gib,
            image.min_ram_mib,
            image.protected,
            image.os_hidden,
            image.updated_at
        ],
    )?;
    tx.execute("DELETE FROM images_property WHERE image_id = ?1", [&image.id])?;
    tx.execute("DELETE FROM images_tag WHERE image_id = ?1", [&image.id])?;
    insert_details(tx, image)
}

pub fn touch(tx: &Tx<'_>, id: &str, now: &str) -> db::Result<()> {
    tx.execute("UPDATE images_image SET updated_at = ?2 WHERE id = ?1", [id, now])?;
    Ok(())
}

pub fn delete(tx: &Tx<'_>, id: &str, now: &str) -> db::Result<()> {
    tx.execute("INSERT OR REPLACE INTO images_deleted (id, deleted_at) VALUES (?1, ?2)", [id, now])?;
    tx.execute("DELETE FROM images_image WHERE id = ?1", [id])?;
    Ok(())
}

/// Moves between states that hold data; false when the image was in another state.
pub fn update_status(tx: &Tx<'_>, id: &str, from: Status, to: Status, now: &str) -> db::Result<bool> {
    let statement = "UPDATE images_image SET status = ?3, updated_at = ?4 WHERE id = ?1 AND status = ?2";
    Ok(tx.execute(statement, [id, from.as_str(), to.as_str(), now])? == 1)
}

/// Starts a transfer: `saving` or, for a staged file, `uploading`.
pub fn begin_upload(tx: &Tx<'_>, id: &str, status: Status, upload_id: &str, now: &str) -> db::Result<bool> {
    let statement =
        "UPDATE images_image SET status = ?2, upload_id = ?3, updated_at = ?4 WHERE id = ?1 AND status = 'queued'";
    Ok(tx.execute(statement, [id, status.as_str(), upload_id, now])? == 1)
}

/// Takes a transfer back: as if it had never begun.
pub fn revert_upload(tx: &Tx<'_>, id: &str, upload_id: &str, now: &str) -> db::Result<bool> {
    let statement = "UPDATE images_image SET status = 'queued', upload_id = NULL, staged_size_bytes = NULL, \
               staged_checksum = NULL, staged_hash_value = NULL, updated_at = ?3 \
               WHERE id = ?1 AND upload_id = ?2 AND status IN ('saving', 'uploading', 'importing')";
    Ok(tx.execute(statement, [id, upload_id, now])? == 1)
}

/// Records a staged file as complete.
pub fn finish_staging(tx: &Tx<'_>, id: &str, upload_id: &str, staged: &Staged, now: &str) -> db::Result<bool> {
    let statement = "UPDATE images_image SET staged_size_bytes = ?3, staged_checksum = ?4, staged_hash_value = ?5, \
               updated_at = ?6 WHERE id = ?1 AND upload_id = ?2 AND status = 'uploading'";
    let values = params![id, upload_id, sql(staged.size_bytes), staged.checksum, staged.hash_value, now];
    Ok(tx.execute(statement, values)? == 1)
}

/// The moment at which an image has data: its file is in place already.
pub fn activate(
    tx: &Tx<'_>,
    id: &str,
    upload_id: &str,
    data: &Staged,
    virtual_size_bytes: Option<u64>,
    now: &str,
) -> db::Result<bool> {
    let statement = "UPDATE images_image SET status = 'active', upload_id = NULL, size_bytes = ?3, checksum = ?4, \
               os_hash_value = ?5, virtual_size_bytes = ?6, staged_size_bytes = NULL, staged_checksum = NULL, \
               staged_hash_value = NULL, updated_at = ?7 \
               WHERE id = ?1 AND upload_id = ?2 AND status IN ('saving', 'importing')";
    let values =
        params![id, upload_id, sql(data.size_bytes), data.checksum, data.hash_value, virtual_size_bytes.map(sql), now];
    Ok(tx.execute(statement, values)? == 1)
}

/// Says what an import is doing, in the properties that clients look at: where to, and where it failed.
pub fn mark_import(tx: &Tx<'_>, id: &str, importing: &str, failed: &str) -> db::Result<()> {
    for (name, value) in [(IMPORTING, importing), (FAILED, failed)] {
        tx.execute(
            "INSERT INTO images_property (image_id, name, value) SELECT id, ?2, ?3 FROM images_image WHERE id = ?1
             ON CONFLICT (image_id, name) DO UPDATE SET value = excluded.value",
            [id, name, value],
        )?;
    }
    Ok(())
}

/// Upstream's names for the stores that an import goes to, and for those where it failed.
const IMPORTING: &str = "os_glance_importing_to_stores";
const FAILED: &str = "os_glance_failed_import";

/// Images of a project: how many, bytes kept, bytes staged, transfers under way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub count: u64,
    pub size_bytes: u64,
    pub staged_bytes: u64,
    pub uploading: u64,
}

pub fn usage(tx: &Tx<'_>, project_id: &str) -> db::Result<Usage> {
    tx.get(
        "usage",
        "SELECT count(*), ifnull(sum(size_bytes), 0), ifnull(sum(staged_size_bytes), 0),
                ifnull(sum(status IN ('saving', 'uploading', 'importing')), 0)
         FROM images_image WHERE owner = ?1",
        [project_id],
        |row| {
            Ok(Usage {
                count: bytes(row, 0)?.unwrap_or(0),
                size_bytes: bytes(row, 1)?.unwrap_or(0),
                staged_bytes: bytes(row, 2)?.unwrap_or(0),
                uploading: bytes(row, 3)?.unwrap_or(0),
            })
        },
    )
}

/// Bytes that the next file of a project may have.
pub fn room(tx: &Tx<'_>, options: &Options, owner: &str) -> db::Result<u64> {
    let Some(quota) = options.project_quota_bytes else { return Ok(options.max_image_bytes) };
    let usage = usage(tx, owner)?;
    Ok(options.max_image_bytes.min(quota.saturating_sub(usage.size_bytes + usage.staged_bytes)))
}

/// Transfers that some process began and did not end: (image, upload, whether a staged file is complete).
pub fn list_unfinished(tx: &Tx<'_>) -> db::Result<Vec<(String, String, Status, bool)>> {
    let rows = tx.list(
        "SELECT id, upload_id, status, staged_size_bytes IS NOT NULL FROM images_image
         WHERE status IN ('saving', 'uploading', 'importing') AND upload_id IS NOT NULL",
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?, row.get(3)?)),
    )?;
    Ok(rows
        .into_iter()
        .filter_map(|(id, upload_id, status, complete)| Some((id, upload_id, Status::parse(&status)?, complete)))
        .collect())
}

/// What the reconciler of files must know of an image.
#[derive(Clone, Debug)]
pub struct FileState {
    pub status: Status,
    pub upload_id: Option<String>,
    pub disk_format: Option<String>,
    pub hash: Option<String>,
}

const FILE_STATE: &str = "SELECT id, status, upload_id, disk_format, os_hash_value FROM images_image";

fn read_file_state(row: &Row<'_>) -> rusqlite::Result<(String, Option<FileState>)> {
    let status: String = row.get(1)?;
    let status = Status::parse(&status);
    let (upload_id, disk_format, hash) = (row.get(2)?, row.get(3)?, row.get(4)?);
    Ok((row.get(0)?, status.map(|status| FileState { status, upload_id, disk_format, hash })))
}

pub fn list_file_states(tx: &Tx<'_>) -> db::Result<HashMap<String, FileState>> {
    let rows = tx.list(FILE_STATE, [], read_file_state)?;
    Ok(rows.into_iter().filter_map(|(id, state)| Some((id, state?))).collect())
}

pub fn find_file_state(tx: &Tx<'_>, id: &str) -> db::Result<Option<FileState>> {
    Ok(tx.find(&format!("{FILE_STATE} WHERE id = ?1"), [id], read_file_state)?.and_then(|(_, state)| state))
}

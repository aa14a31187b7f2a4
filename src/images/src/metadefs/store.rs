//! All SQL of metadata definitions.

use db::{Constraint, Row, Tx, params, rusqlite};
use rest::{Dialect, Direction, Error, Filter, FilterKind, ListSpec, Result};

use super::model::{ITEMS_MAX, Item, Kind, Namespace};
use crate::image::store::Viewer;

const COLUMNS: &str =
    "n.id, n.namespace, n.display_name, n.description, n.visibility, n.protected, n.owner, n.created_at, n.updated_at";

pub static SPEC: ListSpec = ListSpec {
    dialect: Dialect::Images,
    columns: COLUMNS,
    from: "images_metadef_namespace n",
    // A marker is the name.
    key: "n.namespace",
    default_sort: &[("created_at", Direction::Descending), ("id", Direction::Descending)],
    sortable: &[
        ("namespace", "n.namespace"),
        ("created_at", "n.created_at"),
        ("updated_at", "n.updated_at"),
        ("visibility", "n.visibility"),
        ("id", "n.id"),
    ],
    filters: &[Filter::new("owner", "ifnull(n.owner, '')", FilterKind::Text)],
    limit_max: 1000,
};

pub fn read(row: &Row<'_>) -> rusqlite::Result<Namespace> {
    Ok(Namespace {
        id: row.get(0)?,
        namespace: row.get(1)?,
        display_name: row.get(2)?,
        description: row.get(3)?,
        is_public: row.get::<_, String>(4)? == "public",
        protected: row.get(5)?,
        owner: row.get(6)?,
        created_at: row.get(7)?,
        updated_at: row.get(8)?,
    })
}

/// The namespace if the caller may know that it exists.
pub fn get_visible(tx: &Tx<'_>, viewer: &Viewer, name: &str) -> Result<Namespace> {
    let sql = format!("SELECT {COLUMNS} FROM images_metadef_namespace n WHERE n.namespace = ?1");
    let found = tx.find(&sql, [name], read)?.filter(|found| {
        viewer.is_admin || found.is_public || found.owner.is_none() || found.owner == viewer.project_id
    });
    found.ok_or_else(|| not_found(name))
}

pub fn not_found(name: &str) -> Error {
    Error::new(rest::Kind::NotFound, format!("Metadata definition namespace={name} was not found."))
}

fn taken(name: &str) -> Error {
    Error::conflict(format!("The metadata definition namespace={name} already exists."))
}

pub fn insert(tx: &Tx<'_>, namespace: &Namespace) -> Result<()> {
    tx.execute(
        "INSERT INTO images_metadef_namespace (id, namespace, display_name, description, visibility, protected, owner,
                                               created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            namespace.id,
            namespace.namespace,
            namespace.display_name,
            namespace.description,
            namespace.visibility(),
            namespace.protected,
            namespace.owner,
            namespace.created_at,
            namespace.updated_at
        ],
    )
    .on_unique("images_metadef_namespace.namespace", || taken(&namespace.namespace))?;
    Ok(())
}

pub fn update(tx: &Tx<'_>, namespace: &Namespace) -> Result<()> {
    tx.execute(
        "UPDATE images_metadef_namespace SET namespace = ?2, display_name = ?3, description = ?4, visibility = ?5,
                protected = ?6, owner = ?7, updated_at = ?8
         WHERE id = ?1",
        params![
            namespace.id,
            namespace.namespace,
            namespace.display_name,
            namespace.description,
            namespace.visibility(),
            namespace.protected,
            namespace.owner,
            namespace.updated_at
        ],
    )
    .on_unique("images_metadef_namespace.namespace", || taken(&namespace.namespace))?;
    Ok(())
}

pub fn delete(tx: &Tx<'_>, id: &str) -> db::Result<()> {
    tx.execute("DELETE FROM images_metadef_namespace WHERE id = ?1", [id])?;
    Ok(())
}

/// As SQLite names what is unique of an item.
const ITEM_KEY: &str = "images_metadef_item.namespace_id, images_metadef_item.kind, images_metadef_item.name";

fn read_item(row: &Row<'_>) -> rusqlite::Result<Item> {
    let body: String = row.get(1)?;
    let bad = |_| rusqlite::Error::InvalidColumnType(1, "images_metadef_item".to_owned(), rusqlite::types::Type::Text);
    Ok(Item {
        name: row.get(0)?,
        body: serde_json::from_str(&body).map_err(bad)?,
        created_at: row.get(2)?,
        updated_at: row.get(3)?,
    })
}

/// The newest first, as upstream lists them.
pub fn list_items(tx: &Tx<'_>, namespace_id: &str, kind: Kind) -> db::Result<Vec<Item>> {
    let sql = "SELECT name, body, created_at, updated_at FROM images_metadef_item
               WHERE namespace_id = ?1 AND kind = ?2 ORDER BY created_at DESC, id DESC";
    tx.list(sql, [namespace_id, kind.as_str()], read_item)
}

pub fn find_item(tx: &Tx<'_>, namespace_id: &str, kind: Kind, name: &str) -> db::Result<Option<Item>> {
    let sql = "SELECT name, body, created_at, updated_at FROM images_metadef_item
               WHERE namespace_id = ?1 AND kind = ?2 AND name = ?3";
    tx.find(sql, [namespace_id, kind.as_str(), name], read_item)
}

fn item_taken(namespace: &Namespace, kind: Kind, name: &str) -> Error {
    Error::conflict(format!(
        "A metadata definition {} with name={name} already exists in namespace={}.",
        kind.as_str(),
        namespace.namespace
    ))
}

pub fn insert_item(tx: &Tx<'_>, namespace: &Namespace, kind: Kind, item: &Item) -> Result<()> {
    let count = "SELECT count(*) FROM images_metadef_item WHERE namespace_id = ?1 AND kind = ?2";
    if tx.count(count, [namespace.id.as_str(), kind.as_str()])? >= ITEMS_MAX {
        return Err(Error::too_large(format!(
            "A namespace holds at most {ITEMS_MAX} items of the kind {}.",
            kind.as_str()
        )));
    }
    if kind == Kind::Association {
        ensure_type(tx, &item.name, &item.created_at)?;
    }
    tx.execute(
        "INSERT INTO images_metadef_item (namespace_id, kind, name, body, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            namespace.id,
            kind.as_str(),
            item.name,
            serde_json::Value::Object(item.body.clone()).to_string(),
            item.created_at,
            item.updated_at
        ],
    )
    .on_unique(ITEM_KEY, || item_taken(namespace, kind, &item.name))?;
    Ok(())
}

/// Gives the item another name and body; false when there is none.
pub fn update_item(tx: &Tx<'_>, namespace: &Namespace, kind: Kind, name: &str, item: &Item) -> Result<bool> {
    let changed = tx
        .execute(
            "UPDATE images_metadef_item SET name = ?4, body = ?5, updated_at = ?6
             WHERE namespace_id = ?1 AND kind = ?2 AND name = ?3",
            params![
                namespace.id,
                kind.as_str(),
                name,
                item.name,
                serde_json::Value::Object(item.body.clone()).to_string(),
                item.updated_at
            ],
        )
        .on_unique(ITEM_KEY, || item_taken(namespace, kind, &item.name))?;
    Ok(changed == 1)
}

pub fn delete_item(tx: &Tx<'_>, namespace_id: &str, kind: Kind, name: &str) -> db::Result<bool> {
    let sql = "DELETE FROM images_metadef_item WHERE namespace_id = ?1 AND kind = ?2 AND name = ?3";
    Ok(tx.execute(sql, [namespace_id, kind.as_str(), name])? == 1)
}

pub fn delete_items(tx: &Tx<'_>, namespace_id: &str, kind: Kind) -> db::Result<()> {
    let sql = "DELETE FROM images_metadef_item WHERE namespace_id = ?1 AND kind = ?2";
    tx.execute(sql, [namespace_id, kind.as_str()])?;
    Ok(())
}

/// A resource type comes into being with its first association.
fn ensure_type(tx: &Tx<'_>, name: &str, now: &str) -> db::Result<()> {
    let sql = "INSERT OR IGNORE INTO images_metadef_resource_type (name, created_at, updated_at) VALUES (?1, ?2, ?2)";
    tx.execute(sql, [name, now])?;
    Ok(())
}

/// Name, created, updated.
pub fn list_types(tx: &Tx<'_>) -> db::Result<Vec<(String, String, String)>> {
    let sql = "SELECT name, created_at, updated_at FROM images_metadef_resource_type ORDER BY name";
    tx.list(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
}

//! SQL of users.

use db::{Constraint, Tx, params};
use rest::{Dialect, Direction, Filter, FilterKind, ListSpec, Result};
use serde_json::{Map, Value};

use crate::{
    errors::duplicate,
    fields::{map_text, text_map},
};

#[derive(Clone, Debug)]
pub(crate) struct User {
    pub id: String,
    pub name: String,
    pub domain_id: String,
    pub enabled: bool,
    pub default_project_id: Option<String>,
    pub password_expires_at: Option<String>,
    pub options: Map<String, Value>,
    /// `description` and `email` among them, as upstream keeps them.
    pub extra: Map<String, Value>,
}

pub(crate) const COLUMNS: &str =
    "u.id, u.name, u.domain_id, u.enabled, u.default_project_id, u.password_expires_at, u.options, u.extra";

pub(crate) fn user(row: &db::Row<'_>) -> db::rusqlite::Result<User> {
    Ok(User {
        id: row.get(0)?,
        name: row.get(1)?,
        domain_id: row.get(2)?,
        enabled: row.get(3)?,
        default_project_id: row.get(4)?,
        password_expires_at: row.get(5)?,
        options: text_map(&row.get::<_, String>(6)?),
        extra: text_map(&row.get::<_, String>(7)?),
    })
}

const FILTERS: &[Filter] = &[
    Filter::new("domain_id", "u.domain_id", FilterKind::Text),
    Filter::new("enabled", "u.enabled", FilterKind::Bool),
    Filter::new("name", "u.name", FilterKind::Text),
    Filter::new("name__contains", "u.name", FilterKind::Contains),
    Filter::new("name__startswith", "u.name", FilterKind::Prefix),
    Filter::new("name__icontains", "lower(u.name)", FilterKind::Contains),
    Filter::new("name__istartswith", "lower(u.name)", FilterKind::Prefix),
];

pub(crate) static LIST: ListSpec = LIST_BASE;

/// The users of one group.
pub(crate) static MEMBERS: ListSpec =
    ListSpec { from: "identity_user u JOIN identity_membership m ON m.user_id = u.id", ..LIST_BASE };

const LIST_BASE: ListSpec = ListSpec {
    dialect: Dialect::Identity,
    columns: COLUMNS,
    from: "identity_user u",
    key: "u.id",
    default_sort: &[("name", Direction::Ascending)],
    sortable: &[("name", "u.name"), ("id", "u.id"), ("domain_id", "u.domain_id")],
    filters: FILTERS,
    limit_max: 0,
};

pub(crate) fn find(tx: &Tx<'_>, id: &str) -> db::Result<Option<User>> {
    tx.find(&format!("SELECT {COLUMNS} FROM identity_user u WHERE u.id = ?"), [id], user)
}

pub(crate) fn insert(tx: &Tx<'_>, user: &User, password_hash: Option<&str>, now: &str) -> Result<()> {
    tx.execute(
        "INSERT INTO identity_user (id, name, domain_id, enabled, default_project_id, password_hash, options, extra, \
         created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            user.id,
            user.name,
            user.domain_id,
            user.enabled,
            user.default_project_id,
            password_hash,
            map_text(&user.options),
            map_text(&user.extra),
            now
        ],
    )
    .on_unique("identity_user.domain_id, identity_user.name", || duplicate("user", &user.name))?;
    Ok(())
}

/// Writes what may change. `void_tokens` moves the epoch.
pub(crate) fn update(tx: &Tx<'_>, user: &User, void_tokens: bool) -> Result<()> {
    tx.execute(
        "UPDATE identity_user SET name = ?2, enabled = ?3, default_project_id = ?4, options = ?5, extra = ?6, \
         epoch = epoch + ?7 WHERE id = ?1",
        params![
            user.id,
            user.name,
            user.enabled,
            user.default_project_id,
            map_text(&user.options),
            map_text(&user.extra),
            void_tokens
        ],
    )
    .on_unique("identity_user.domain_id, identity_user.name", || duplicate("user", &user.name))?;
    Ok(())
}

/// Replaces (or takes away) the password and voids all tokens.
pub(crate) fn set_password(tx: &Tx<'_>, id: &str, hash: Option<&str>) -> db::Result<()> {
    tx.execute(
        "UPDATE identity_user SET password_hash = ?2, password_expires_at = NULL, epoch = epoch + 1 WHERE id = ?1",
        params![id, hash],
    )?;
    Ok(())
}

pub(crate) fn delete(tx: &Tx<'_>, id: &str) -> db::Result<()> {
    tx.execute("DELETE FROM identity_user WHERE id = ?", [id])?;
    Ok(())
}

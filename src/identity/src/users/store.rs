//! SQL of users.

use db::{Constraint, Tx, params};
use rest::{Dialect, Direction, Filter, FilterKind, ListSpec, Result};
use serde_json::{Map, Value};

use crate::{
    errors::duplicate,
    fields::{map_text, text_map},
    passwords::NewPassword,
};

#[derive(Clone, Debug)]
pub(crate) struct User {
    pub id: String,
    pub name: String,
    pub domain_id: String,
    pub enabled: bool,
    pub default_project_id: Option<String>,
    pub password_expires_at: Option<String>,
    pub last_active_on: Option<String>,
    /// Its domain's directory has it: nothing of it can be changed here.
    pub from_directory: bool,
    pub options: Map<String, Value>,
    /// `description` and `email` among them, as upstream keeps them.
    pub extra: Map<String, Value>,
}

pub(crate) const COLUMNS: &str = "u.id, u.name, u.domain_id, u.enabled, u.default_project_id, u.password_expires_at, u.last_active_on, u.options, \
     u.extra, u.local_id IS NOT NULL";

pub(crate) fn user(row: &db::Row<'_>) -> db::rusqlite::Result<User> {
    Ok(User {
        id: row.get(0)?,
        name: row.get(1)?,
        domain_id: row.get(2)?,
        enabled: row.get(3)?,
        default_project_id: row.get(4)?,
        password_expires_at: row.get(5)?,
        last_active_on: row.get(6)?,
        options: text_map(&row.get::<_, String>(7)?),
        extra: text_map(&row.get::<_, String>(8)?),
        from_directory: row.get(9)?,
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
    tx.find(&format!("SELECT {COLUMNS} FROM identity_user u WHERE u.id = ? AND u.gone = 0"), [id], user)
}

/// Also who is no longer in its directory but still has roles here.
pub(crate) fn find_even_gone(tx: &Tx<'_>, id: &str) -> db::Result<Option<User>> {
    tx.find(&format!("SELECT {COLUMNS} FROM identity_user u WHERE u.id = ?"), [id], user)
}

/// Without `password` nobody can log in as this user by password.
pub(crate) fn insert(tx: &Tx<'_>, user: &User, password: Option<&NewPassword>, now: &str) -> Result<()> {
    tx.execute(
        "INSERT INTO identity_user (id, name, domain_id, enabled, default_project_id, password_hash, password_created_at, \
         password_expires_at, last_active_on, options, extra, created_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        params![
            user.id,
            user.name,
            user.domain_id,
            user.enabled,
            user.default_project_id,
            password.map(|password| &password.hash),
            password.map(|password| &password.created_at),
            password.and_then(|password| password.expires_at.as_ref()),
            user.last_active_on,
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
         epoch = epoch + ?7, last_active_on = ?8 WHERE id = ?1",
        params![
            user.id,
            user.name,
            user.enabled,
            user.default_project_id,
            map_text(&user.options),
            map_text(&user.extra),
            void_tokens,
            user.last_active_on
        ],
    )
    .on_unique("identity_user.domain_id, identity_user.name", || duplicate("user", &user.name))?;
    Ok(())
}

/// Replaces (or takes away) the password and voids all tokens. The one before is kept among the last `keep`.
pub(crate) fn set_password(tx: &Tx<'_>, id: &str, password: Option<&NewPassword>, keep: u32) -> db::Result<()> {
    if keep > 0 {
        tx.execute(
            "INSERT INTO identity_password_history (user_id, hash) \
             SELECT id, password_hash FROM identity_user WHERE id = ? AND password_hash IS NOT NULL",
            [id],
        )?;
    }
    tx.execute(
        "DELETE FROM identity_password_history WHERE user_id = ?1 AND id NOT IN \
         (SELECT id FROM identity_password_history WHERE user_id = ?1 ORDER BY id DESC LIMIT ?2)",
        params![id, keep],
    )?;
    tx.execute(
        "UPDATE identity_user SET password_hash = ?2, password_created_at = ?3, password_expires_at = ?4, \
         password_self_service = ?5, epoch = epoch + 1 WHERE id = ?1",
        params![
            id,
            password.map(|password| &password.hash),
            password.map(|password| &password.created_at),
            password.and_then(|password| password.expires_at.as_ref()),
            password.is_some_and(|password| password.self_service)
        ],
    )?;
    Ok(())
}

/// Hashes of the passwords that were replaced, newest first.
pub(crate) fn replaced_passwords(tx: &Tx<'_>, id: &str, most: u32) -> db::Result<Vec<String>> {
    tx.list(
        "SELECT hash FROM identity_password_history WHERE user_id = ?1 ORDER BY id DESC LIMIT ?2",
        params![id, most],
        |row| row.get(0),
    )
}

pub(crate) fn void_tokens(tx: &Tx<'_>, id: &str) -> db::Result<()> {
    tx.execute("UPDATE identity_user SET epoch = epoch + 1 WHERE id = ?", [id])?;
    Ok(())
}

pub(crate) fn set_active(tx: &Tx<'_>, id: &str, day: Option<&str>) -> db::Result<()> {
    tx.execute("UPDATE identity_user SET last_active_on = ?2 WHERE id = ?1", params![id, day])?;
    Ok(())
}

pub(crate) fn delete(tx: &Tx<'_>, id: &str) -> db::Result<()> {
    tx.execute("DELETE FROM identity_user WHERE id = ?", [id])?;
    Ok(())
}

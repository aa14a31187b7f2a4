//! SQL of trusts.

use db::{Tx, params};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::fields::{map_text, text_map};

#[derive(Clone, Debug)]
pub(crate) struct Trust {
    pub id: String,
    pub trustor_user_id: String,
    pub trustee_user_id: String,
    pub project_id: Option<String>,
    pub impersonation: bool,
    pub expires_at: Option<String>,
    pub remaining_uses: Option<i64>,
    pub redelegation_count: i64,
    pub redelegated_trust_id: Option<String>,
    pub extra: Map<String, Value>,
}

impl Trust {
    /// Expired or used up: it is as good as deleted.
    pub(crate) fn over(&self, now: OffsetDateTime) -> bool {
        self.remaining_uses == Some(0)
            || self.expires_at.as_deref().and_then(db::clock::parse).is_some_and(|at| at <= now)
    }
}

const COLUMNS: &str = "id, trustor_user_id, trustee_user_id, project_id, impersonation, expires_at, remaining_uses, \
     redelegation_count, redelegated_trust_id, extra";

fn trust(row: &db::Row<'_>) -> db::rusqlite::Result<Trust> {
    Ok(Trust {
        id: row.get(0)?,
        trustor_user_id: row.get(1)?,
        trustee_user_id: row.get(2)?,
        project_id: row.get(3)?,
        impersonation: row.get(4)?,
        expires_at: row.get(5)?,
        remaining_uses: row.get(6)?,
        redelegation_count: row.get(7)?,
        redelegated_trust_id: row.get(8)?,
        extra: text_map(&row.get::<_, String>(9)?),
    })
}

pub(crate) fn find(tx: &Tx<'_>, id: &str) -> db::Result<Option<Trust>> {
    tx.find(&format!("SELECT {COLUMNS} FROM identity_trust WHERE id = ?"), [id], trust)
}

/// All, or those of a trustor, a trustee, or both.
pub(crate) fn list(tx: &Tx<'_>, trustor: Option<&str>, trustee: Option<&str>) -> db::Result<Vec<Trust>> {
    tx.list(
        &format!(
            "SELECT {COLUMNS} FROM identity_trust WHERE (?1 IS NULL OR trustor_user_id = ?1) \
             AND (?2 IS NULL OR trustee_user_id = ?2) ORDER BY id"
        ),
        params![trustor, trustee],
        trust,
    )
}

pub(crate) fn role_ids(tx: &Tx<'_>, id: &str) -> db::Result<Vec<String>> {
    tx.list("SELECT role_id FROM identity_trust_role WHERE trust_id = ? ORDER BY role_id", [id], |row| row.get(0))
}

pub(crate) fn insert(tx: &Tx<'_>, t: &Trust, role_ids: &[String]) -> db::Result<()> {
    tx.execute(
        &format!("INSERT INTO identity_trust ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"),
        params![
            t.id,
            t.trustor_user_id,
            t.trustee_user_id,
            t.project_id,
            t.impersonation,
            t.expires_at,
            t.remaining_uses,
            t.redelegation_count,
            t.redelegated_trust_id,
            map_text(&t.extra)
        ],
    )?;
    for role_id in role_ids {
        tx.execute("INSERT INTO identity_trust_role (trust_id, role_id) VALUES (?1, ?2)", params![t.id, role_id])?;
    }
    Ok(())
}

/// Whether there was a use left to take.
pub(crate) fn use_once(tx: &Tx<'_>, id: &str) -> db::Result<bool> {
    let sql = "UPDATE identity_trust SET remaining_uses = remaining_uses - 1 WHERE id = ? AND remaining_uses > 0";
    Ok(tx.execute(sql, [id])? > 0)
}

/// Those handed on from it go with it.
pub(crate) fn delete(tx: &Tx<'_>, id: &str) -> db::Result<()> {
    tx.execute("DELETE FROM identity_trust WHERE id = ?", [id])?;
    Ok(())
}

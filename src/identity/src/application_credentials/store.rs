//! SQL of application credentials and access rules.

use db::{Constraint, Tx, params};
use rest::{Dialect, Direction, Filter, FilterKind, ListSpec, Result};

use crate::errors::duplicate;

#[derive(Clone, Debug)]
pub(crate) struct ApplicationCredential {
    pub id: String,
    pub user_id: String,
    pub project_id: String,
    pub name: String,
    pub description: Option<String>,
    pub expires_at: Option<String>,
    pub unrestricted: bool,
    /// With access rules, even when none of them is left.
    pub restricted_to_rules: bool,
}

const COLUMNS: &str =
    "c.id, c.user_id, c.project_id, c.name, c.description, c.expires_at, c.unrestricted, c.restricted_to_rules";

pub(crate) fn credential(row: &db::Row<'_>) -> db::rusqlite::Result<ApplicationCredential> {
    Ok(ApplicationCredential {
        id: row.get(0)?,
        user_id: row.get(1)?,
        project_id: row.get(2)?,
        name: row.get(3)?,
        description: row.get(4)?,
        expires_at: row.get(5)?,
        unrestricted: row.get(6)?,
        restricted_to_rules: row.get(7)?,
    })
}

pub(crate) static LIST: ListSpec = ListSpec {
    dialect: Dialect::Identity,
    columns: COLUMNS,
    from: "identity_application_credential c",
    key: "c.id",
    default_sort: &[("name", Direction::Ascending)],
    sortable: &[("name", "c.name"), ("id", "c.id")],
    filters: &[Filter::new("name", "c.name", FilterKind::Text)],
    limit_max: 0,
};

pub(crate) fn find(tx: &Tx<'_>, id: &str) -> db::Result<Option<ApplicationCredential>> {
    tx.find(&format!("SELECT {COLUMNS} FROM identity_application_credential c WHERE c.id = ?"), [id], credential)
}

pub(crate) fn insert(
    tx: &Tx<'_>,
    c: &ApplicationCredential,
    secret_hash: &str,
    role_ids: &[String],
    rule_ids: &[String],
) -> Result<()> {
    tx.execute(
        "INSERT INTO identity_application_credential (id, user_id, project_id, name, description, secret_hash, \
         expires_at, unrestricted, restricted_to_rules) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            c.id,
            c.user_id,
            c.project_id,
            c.name,
            c.description,
            secret_hash,
            c.expires_at,
            c.unrestricted,
            c.restricted_to_rules
        ],
    )
    .on_unique("identity_application_credential.user_id, identity_application_credential.name", || {
        duplicate("application_credential", &c.name)
    })?;
    for role_id in role_ids {
        tx.execute(
            "INSERT INTO identity_application_credential_role (application_credential_id, role_id) VALUES (?1, ?2)",
            params![c.id, role_id],
        )?;
    }
    for rule_id in rule_ids {
        tx.execute(
            "INSERT INTO identity_application_credential_rule (application_credential_id, access_rule_id) \
             VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            params![c.id, rule_id],
        )?;
    }
    Ok(())
}

pub(crate) fn delete(tx: &Tx<'_>, id: &str) -> db::Result<()> {
    tx.execute("DELETE FROM identity_application_credential WHERE id = ?", [id])?;
    Ok(())
}

/// Id, name and domain of the roles handed on.
pub(crate) fn roles(tx: &Tx<'_>, id: &str) -> db::Result<Vec<(String, String, Option<String>)>> {
    tx.list(
        "SELECT r.id, r.name, r.domain_id FROM identity_role r JOIN identity_application_credential_role c \
         ON c.role_id = r.id WHERE c.application_credential_id = ? ORDER BY r.name",
        [id],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )
}

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub id: String,
    pub service: String,
    pub method: String,
    pub path: String,
}

fn rule(row: &db::Row<'_>) -> db::rusqlite::Result<Rule> {
    Ok(Rule { id: row.get(0)?, service: row.get(1)?, method: row.get(2)?, path: row.get(3)? })
}

pub(crate) fn rules(tx: &Tx<'_>, credential_id: &str) -> db::Result<Vec<Rule>> {
    tx.list(
        "SELECT r.id, r.service, r.method, r.path FROM identity_access_rule r JOIN \
         identity_application_credential_rule c ON c.access_rule_id = r.id WHERE c.application_credential_id = ? \
         ORDER BY r.id",
        [credential_id],
        rule,
    )
}

pub(crate) fn rules_of_user(tx: &Tx<'_>, user_id: &str) -> db::Result<Vec<Rule>> {
    let sql = "SELECT id, service, method, path FROM identity_access_rule WHERE user_id = ? ORDER BY id";
    tx.list(sql, [user_id], rule)
}

pub(crate) fn find_rule(tx: &Tx<'_>, user_id: &str, id: &str) -> db::Result<Option<Rule>> {
    let sql = "SELECT id, service, method, path FROM identity_access_rule WHERE user_id = ? AND id = ?";
    tx.find(sql, [user_id, id], rule)
}

/// The user's rule with this content, made when there is none.
pub(crate) fn ensure_rule(tx: &Tx<'_>, user_id: &str, service: &str, method: &str, path: &str) -> db::Result<String> {
    tx.execute(
        "INSERT INTO identity_access_rule (id, user_id, service, method, path) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT DO NOTHING",
        params![rest::new_hex_id(), user_id, service, method, path],
    )?;
    tx.get(
        "an access rule",
        "SELECT id FROM identity_access_rule WHERE user_id = ?1 AND service = ?2 AND method = ?3 AND path = ?4",
        params![user_id, service, method, path],
        |row| row.get(0),
    )
}

pub(crate) fn delete_rule(tx: &Tx<'_>, id: &str) -> Result<()> {
    tx.execute("DELETE FROM identity_access_rule WHERE id = ?", [id]).on_foreign(|| {
        rest::Error::forbidden(format!("Access rule {id} is in use by one or more application credentials."))
    })?;
    Ok(())
}

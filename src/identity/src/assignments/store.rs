//! SQL of assignments.

use std::collections::HashSet;

use db::{Tx, params};
use rest::NamedRef;

use crate::{
    projects::store::{COLUMNS as PROJECT_COLUMNS, Project, project},
    tokens::model::TokenScope,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Target {
    Project,
    Domain,
    System,
}

impl Target {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Domain => "domain",
            Self::System => "system",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "project" => Self::Project,
            "domain" => Self::Domain,
            _ => Self::System,
        }
    }
}

/// A row as granted.
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    pub role_id: String,
    pub user_id: Option<String>,
    pub group_id: Option<String>,
    pub target: Target,
    /// Empty for the system.
    pub target_id: String,
    pub inherited: bool,
}

/// Ids of groups as SQL takes them: a JSON list.
fn bound(groups: &[String]) -> String {
    serde_json::to_string(groups).unwrap_or_else(|_| "[]".into())
}

/// The roles that count for `user` and these groups in `scope`, implied ones included, those of domains left out; by name.
pub(crate) fn effective_roles(
    tx: &Tx<'_>,
    user_id: &str,
    groups: &[String],
    scope: &TokenScope,
) -> db::Result<Vec<NamedRef>> {
    const TAIL: &str = "all_roles (id) AS (SELECT role_id FROM held UNION \
         SELECT i.implied_id FROM identity_implied_role i JOIN all_roles a ON a.id = i.prior_id) \
         SELECT r.id, r.name FROM identity_role r JOIN all_roles a ON a.id = r.id WHERE r.domain_id IS NULL ORDER BY r.name";
    const MINE: &str = "(a.user_id = ?1 OR a.group_id IN \
         (SELECT group_id FROM identity_membership WHERE user_id = ?1 UNION SELECT value FROM json_each(?2)))";
    let groups = bound(groups);
    let row = |row: &db::Row<'_>| Ok(NamedRef { id: row.get(0)?, name: row.get(1)? });
    match scope {
        TokenScope::Unscoped => Ok(Vec::new()),
        TokenScope::System => tx.list(
            &format!(
                "WITH RECURSIVE held AS (SELECT a.role_id FROM identity_assignment a \
                 WHERE {MINE} AND a.target = 'system'), {TAIL}"
            ),
            [user_id, &groups],
            row,
        ),
        TokenScope::Domain(id) => tx.list(
            &format!(
                "WITH RECURSIVE held AS (SELECT a.role_id FROM identity_assignment a \
                 WHERE {MINE} AND a.target = 'domain' AND a.target_id = ?3 AND a.inherited = 0), {TAIL}"
            ),
            [user_id, &groups, id],
            row,
        ),
        TokenScope::Project(id) => tx.list(
            &format!(
                "WITH RECURSIVE above (id) AS (SELECT parent_id FROM identity_project WHERE id = ?3 UNION \
                 SELECT p.parent_id FROM identity_project p JOIN above b ON b.id = p.id), \
                 held AS (SELECT a.role_id FROM identity_assignment a WHERE {MINE} AND \
                 ((a.target = 'project' AND a.target_id = ?3 AND a.inherited = 0) \
                 OR (a.inherited = 1 AND a.target_id IN (SELECT id FROM above WHERE id IS NOT NULL)))), {TAIL}"
            ),
            [user_id, &groups, id],
            row,
        ),
    }
}

/// These roles and all that they imply.
pub(crate) fn with_implied(tx: &Tx<'_>, role_ids: &[String]) -> db::Result<HashSet<String>> {
    let mut all: HashSet<String> = role_ids.iter().cloned().collect();
    let mut open: Vec<String> = role_ids.to_vec();
    while let Some(id) = open.pop() {
        let implied: Vec<String> =
            tx.list("SELECT implied_id FROM identity_implied_role WHERE prior_id = ?", [id], |row| row.get(0))?;
        for id in implied {
            if all.insert(id.clone()) {
                open.push(id);
            }
        }
    }
    Ok(all)
}

/// The projects on which the user has a role, however it got there. `usable`: only those a token can be scoped to.
pub(crate) fn projects_of(tx: &Tx<'_>, user_id: &str, usable: bool) -> db::Result<Vec<Project>> {
    projects_with(tx, user_id, &[], usable)
}

/// [`projects_of`] the user and these groups.
pub(crate) fn projects_with(tx: &Tx<'_>, user_id: &str, groups: &[String], usable: bool) -> db::Result<Vec<Project>> {
    let enabled = if usable { "AND p.enabled = 1 AND (p.domain_id IS NULL OR d.enabled = 1)" } else { "" };
    tx.list(
        &format!(
            "WITH RECURSIVE mine AS (SELECT target, target_id, inherited FROM identity_assignment \
             WHERE (user_id = ?1 OR group_id IN (SELECT group_id FROM identity_membership WHERE user_id = ?1 \
             UNION SELECT value FROM json_each(?2))) AND target <> 'system'), \
             below (id) AS (SELECT p.id FROM identity_project p JOIN mine m ON m.target_id = p.parent_id AND m.inherited = 1 \
             UNION SELECT p.id FROM identity_project p JOIN below b ON b.id = p.parent_id), \
             reached (id) AS (SELECT target_id FROM mine WHERE target = 'project' AND inherited = 0 \
             UNION SELECT id FROM below) \
             SELECT {PROJECT_COLUMNS} FROM identity_project p LEFT JOIN identity_project d ON d.id = p.domain_id \
             WHERE p.id IN (SELECT id FROM reached) {enabled} ORDER BY p.name, p.id"
        ),
        [user_id, &bound(groups)],
        project,
    )
}

/// The enabled domains on which the user or these groups have a role of their own.
pub(crate) fn domains_with(tx: &Tx<'_>, user_id: &str, groups: &[String]) -> db::Result<Vec<Project>> {
    tx.list(
        &format!(
            "SELECT {PROJECT_COLUMNS} FROM identity_project p WHERE p.is_domain = 1 AND p.enabled = 1 AND p.id IN \
             (SELECT target_id FROM identity_assignment WHERE target = 'domain' AND inherited = 0 AND \
             (user_id = ?1 OR group_id IN (SELECT group_id FROM identity_membership WHERE user_id = ?1 \
             UNION SELECT value FROM json_each(?2)))) ORDER BY p.name, p.id"
        ),
        [user_id, &bound(groups)],
        project,
    )
}

const SAME: &str =
    "role_id = ?1 AND user_id IS ?2 AND group_id IS ?3 AND target = ?4 AND target_id IS ?5 AND inherited = ?6";

fn bind(a: &Assignment) -> (&str, Option<&str>, Option<&str>, &'static str, Option<&str>, bool) {
    let target_id = (a.target != Target::System).then_some(a.target_id.as_str());
    (&a.role_id, a.user_id.as_deref(), a.group_id.as_deref(), a.target.name(), target_id, a.inherited)
}

pub(crate) fn exists(tx: &Tx<'_>, assignment: &Assignment) -> db::Result<bool> {
    tx.exists(&format!("SELECT 1 FROM identity_assignment WHERE {SAME}"), bind(assignment))
}

/// Granting what is granted changes nothing.
pub(crate) fn insert(tx: &Tx<'_>, assignment: &Assignment) -> db::Result<()> {
    tx.execute(
        "INSERT INTO identity_assignment (role_id, user_id, group_id, target, target_id, inherited) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
        bind(assignment),
    )?;
    Ok(())
}

/// Whether there was one.
pub(crate) fn delete(tx: &Tx<'_>, assignment: &Assignment) -> db::Result<bool> {
    Ok(tx.execute(&format!("DELETE FROM identity_assignment WHERE {SAME}"), bind(assignment))? > 0)
}

/// The roles granted to one actor on one target.
pub(crate) fn role_ids(tx: &Tx<'_>, like: &Assignment) -> db::Result<Vec<String>> {
    let (_, user_id, group_id, target, target_id, inherited) = bind(like);
    tx.list(
        "SELECT role_id FROM identity_assignment WHERE user_id IS ?1 AND group_id IS ?2 AND target = ?3 \
         AND target_id IS ?4 AND inherited = ?5 ORDER BY id",
        params![user_id, group_id, target, target_id, inherited],
        |row| row.get(0),
    )
}

/// All rows, or those of a user and its groups.
pub(crate) fn list(tx: &Tx<'_>, reaching_user: Option<&str>) -> db::Result<Vec<Assignment>> {
    let row = |row: &db::Row<'_>| {
        Ok(Assignment {
            role_id: row.get(0)?,
            user_id: row.get(1)?,
            group_id: row.get(2)?,
            target: Target::parse(&row.get::<_, String>(3)?),
            target_id: row.get::<_, Option<String>>(4)?.unwrap_or_default(),
            inherited: row.get(5)?,
        })
    };
    let columns = "SELECT role_id, user_id, group_id, target, target_id, inherited FROM identity_assignment";
    match reaching_user {
        None => tx.list(&format!("{columns} ORDER BY id"), [], row),
        Some(user_id) => tx.list(
            &format!(
                "{columns} WHERE user_id = ?1 OR group_id IN \
                 (SELECT group_id FROM identity_membership WHERE user_id = ?1) ORDER BY id"
            ),
            [user_id],
            row,
        ),
    }
}

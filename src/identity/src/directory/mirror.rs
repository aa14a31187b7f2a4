//! Rows of what was seen in a directory. Nothing is written that is written already, so looking costs no generation.

use std::collections::{HashMap, HashSet};

use db::{Tx, params};
use rest::Result;

use super::entries::{Person, Team};
use crate::{
    errors::refused,
    fields::{map_text, text_map},
};

/// What a look at a directory brought.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub people: Vec<Person>,
    pub teams: Vec<Team>,
    /// User and group.
    pub memberships: Vec<(String, String)>,
    /// Users all of whose memberships are among those.
    pub settled: HashSet<String>,
    pub missing_users: Missing,
    pub missing_groups: Missing,
}

/// Who is no longer there.
#[derive(Debug, Default)]
pub(super) enum Missing {
    #[default]
    Nobody,
    These(Vec<String>),
    /// Everybody of the domain who was not seen now.
    Others,
}

impl Missing {
    /// Of the rows known.
    fn of<'a, T>(&self, known: &'a HashMap<String, T>, seen: &HashSet<&str>) -> Vec<&'a str> {
        known
            .keys()
            .map(String::as_str)
            .filter(|id| match self {
                Self::Nobody => false,
                Self::These(ids) => ids.iter().any(|gone| gone == id),
                Self::Others => !seen.contains(id),
            })
            .collect()
    }
}

struct UserRow {
    name: String,
    enabled: bool,
    default_project_id: Option<String>,
    extra: String,
    gone: bool,
}

struct GroupRow {
    name: String,
    description: String,
    extra: String,
    gone: bool,
}

/// A user of a directory: domain and id there.
pub(super) fn local_user(tx: &Tx<'_>, id: &str) -> db::Result<Option<(String, String)>> {
    tx.find("SELECT domain_id, local_id FROM identity_user WHERE id = ? AND local_id IS NOT NULL", [id], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
}

/// A group of a directory: domain and id there.
pub(super) fn local_group(tx: &Tx<'_>, id: &str) -> db::Result<Option<(String, String)>> {
    tx.find("SELECT domain_id, local_id FROM identity_group WHERE id = ? AND local_id IS NOT NULL", [id], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
}

/// Domains with groups of directories that have roles.
pub(super) fn domains_with_roles(tx: &Tx<'_>) -> db::Result<Vec<String>> {
    tx.list(
        "SELECT DISTINCT g.domain_id FROM identity_group g JOIN identity_assignment a ON a.group_id = g.id \
         WHERE g.local_id IS NOT NULL",
        [],
        |row| row.get(0),
    )
}

fn users(tx: &Tx<'_>, domain_id: &str) -> db::Result<HashMap<String, UserRow>> {
    let rows = tx.list(
        "SELECT id, name, enabled, default_project_id, extra, gone FROM identity_user \
         WHERE domain_id = ? AND local_id IS NOT NULL",
        [domain_id],
        |row| {
            let user = UserRow {
                name: row.get(1)?,
                enabled: row.get(2)?,
                default_project_id: row.get(3)?,
                extra: row.get(4)?,
                gone: row.get(5)?,
            };
            Ok((row.get::<_, String>(0)?, user))
        },
    )?;
    Ok(rows.into_iter().collect())
}

fn groups(tx: &Tx<'_>, domain_id: &str) -> db::Result<HashMap<String, GroupRow>> {
    let rows = tx.list(
        "SELECT id, name, description, extra, gone FROM identity_group WHERE domain_id = ? AND local_id IS NOT NULL",
        [domain_id],
        |row| {
            let group = GroupRow { name: row.get(1)?, description: row.get(2)?, extra: row.get(3)?, gone: row.get(4)? };
            Ok((row.get::<_, String>(0)?, group))
        },
    )?;
    Ok(rows.into_iter().collect())
}

/// What has to be written.
#[derive(Default)]
struct Plan<'a> {
    people: Vec<&'a Person>,
    teams: Vec<&'a Team>,
    gone_users: Vec<String>,
    gone_groups: Vec<String>,
    join: Vec<(String, String)>,
    leave: Vec<(String, String)>,
}

impl Plan<'_> {
    fn is_empty(&self) -> bool {
        self.people.is_empty()
            && self.teams.is_empty()
            && self.gone_users.is_empty()
            && self.gone_groups.is_empty()
            && self.join.is_empty()
            && self.leave.is_empty()
    }
}

impl Seen {
    /// Whether something has to be written.
    pub(super) fn differs(&self, tx: &Tx<'_>, domain_id: &str) -> Result<bool> {
        Ok(!self.plan(tx, domain_id)?.is_empty())
    }

    fn plan(&self, tx: &Tx<'_>, domain_id: &str) -> db::Result<Plan<'_>> {
        let (known_users, known_groups) = (users(tx, domain_id)?, groups(tx, domain_id)?);
        let people: Vec<(&str, &str, &str)> =
            self.people.iter().map(|one| (one.id.as_str(), one.name.as_str(), one.dn.as_str())).collect();
        let teams: Vec<(&str, &str, &str)> =
            self.teams.iter().map(|one| (one.id.as_str(), one.name.as_str(), one.dn.as_str())).collect();
        let named = claims(&people, |id, name| known_users.get(id).is_some_and(|row| !row.gone && row.name == name));
        let mut plan = Plan::default();
        plan.people.extend(self.people.iter().filter(|person| {
            named.contains(person.id.as_str())
                && known_users.get(&person.id).is_none_or(|row| {
                    row.gone
                        || row.name != person.name
                        || row.enabled != person.enabled
                        || row.default_project_id != person.default_project_id
                        || text_map(&row.extra) != person.extra
                })
        }));
        let named = claims(&teams, |id, name| known_groups.get(id).is_some_and(|row| !row.gone && row.name == name));
        plan.teams.extend(self.teams.iter().filter(|team| {
            named.contains(team.id.as_str())
                && known_groups.get(&team.id).is_none_or(|row| {
                    row.gone
                        || row.name != team.name
                        || row.description != team.description
                        || text_map(&row.extra) != team.extra
                })
        }));
        let seen = people.iter().map(|(id, _, _)| *id).collect();
        let gone = self.missing_users.of(&known_users, &seen).into_iter();
        plan.gone_users = gone.filter(|id| !known_users[*id].gone).map(str::to_owned).collect();
        let seen = teams.iter().map(|(id, _, _)| *id).collect();
        let gone = self.missing_groups.of(&known_groups, &seen).into_iter();
        plan.gone_groups = gone.filter(|id| !known_groups[*id].gone).map(str::to_owned).collect();

        let present: HashSet<(String, String)> = tx
            .list(
                "SELECT m.user_id, m.group_id FROM identity_membership m JOIN identity_user u ON u.id = m.user_id \
                 WHERE u.domain_id = ? AND u.local_id IS NOT NULL",
                [domain_id],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?
            .into_iter()
            .collect();
        let wanted: HashSet<&(String, String)> = self.memberships.iter().collect();
        plan.join = wanted.iter().filter(|pair| !present.contains(**pair)).map(|pair| (*pair).clone()).collect();
        plan.leave =
            present.iter().filter(|pair| self.settled.contains(&pair.0) && !wanted.contains(pair)).cloned().collect();
        Ok(plan)
    }

    /// Writes what differs.
    pub(super) fn write(&self, tx: &Tx<'_>, domain_id: &str, now: &str) -> db::Result<()> {
        let plan = self.plan(tx, domain_id)?;
        remove(tx, &plan.gone_users, &plan.gone_groups)?;
        // Whoever had the name has another one now, which the next look will tell; two may also have changed names.
        for person in &plan.people {
            tx.execute(
                "UPDATE identity_user SET name = id WHERE domain_id = ? AND name = ? AND id <> ?",
                params![domain_id, person.name, person.id],
            )?;
        }
        for person in &plan.people {
            tx.execute(
                "INSERT INTO identity_user (id, name, domain_id, enabled, default_project_id, extra, created_at, local_id) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO UPDATE SET name = ?2, \
                 epoch = epoch + (enabled > ?4), enabled = ?4, default_project_id = ?5, extra = ?6, gone = 0",
                params![
                    person.id,
                    person.name,
                    domain_id,
                    person.enabled,
                    person.default_project_id,
                    map_text(&person.extra),
                    now,
                    person.local_id
                ],
            )?;
        }
        for team in &plan.teams {
            tx.execute(
                "UPDATE identity_group SET name = id WHERE domain_id = ? AND name = ? AND id <> ?",
                params![domain_id, team.name, team.id],
            )?;
        }
        for team in &plan.teams {
            tx.execute(
                "INSERT INTO identity_group (id, name, domain_id, description, extra, local_id) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
                 ON CONFLICT (id) DO UPDATE SET name = ?2, description = ?4, extra = ?5, gone = 0",
                params![team.id, team.name, domain_id, team.description, map_text(&team.extra), team.local_id],
            )?;
        }
        for (user_id, group_id) in &plan.leave {
            tx.execute("DELETE FROM identity_membership WHERE user_id = ? AND group_id = ?", [user_id, group_id])?;
        }
        for (user_id, group_id) in &plan.join {
            // One of both may have been left out.
            tx.execute(
                "INSERT INTO identity_membership (user_id, group_id) SELECT u.id, g.id \
                 FROM identity_user u, identity_group g WHERE u.id = ? AND g.id = ? ON CONFLICT DO NOTHING",
                [user_id, group_id],
            )?;
        }
        Ok(())
    }
}

/// Which ids get their names: of several entries with one name, the one that has it already, or else the first.
fn claims<'a>(entries: &[(&'a str, &'a str, &'a str)], has: impl Fn(&str, &str) -> bool) -> HashSet<&'a str> {
    let mut by_name: HashMap<&str, (&'a str, bool)> = HashMap::new();
    for (id, name, dn) in entries {
        let mine = has(id, name);
        match by_name.get(name) {
            None => drop(by_name.insert(name, (id, mine))),
            Some((first, _)) if first == id => {}
            Some((_, theirs)) => {
                tracing::warn!(dn, name, "two entries of a directory have one name: one is left out");
                if mine && !theirs {
                    by_name.insert(name, (id, mine));
                }
            }
        }
    }
    by_name.into_values().map(|(id, _)| id).collect()
}

/// Disables, hides and renames what is no longer there; tokens become void, roles stay for a return.
fn remove(tx: &Tx<'_>, users: &[String], groups: &[String]) -> db::Result<()> {
    for id in users {
        tx.execute("UPDATE identity_user SET gone = 1, enabled = 0, name = id, epoch = epoch + 1 WHERE id = ?", [id])?;
        tx.execute("DELETE FROM identity_membership WHERE user_id = ?", [id])?;
    }
    for id in groups {
        tx.execute("UPDATE identity_group SET gone = 1, name = id WHERE id = ?", [id])?;
        tx.execute("DELETE FROM identity_membership WHERE group_id = ?", [id])?;
    }
    Ok(())
}

/// Everything that a domain's directory had.
pub(super) fn remove_all(tx: &Tx<'_>, domain_id: &str) -> db::Result<()> {
    let gone_users: Vec<String> =
        users(tx, domain_id)?.into_iter().filter(|(_, row)| !row.gone).map(|(id, _)| id).collect();
    let gone_groups: Vec<String> =
        groups(tx, domain_id)?.into_iter().filter(|(_, row)| !row.gone).map(|(id, _)| id).collect();
    remove(tx, &gone_users, &gone_groups)
}

/// A domain with users or groups of its own gets no directory: nobody could tell them apart.
///
/// # Errors
/// 403 naming what the domain has.
pub(super) fn refuse_locals(tx: &Tx<'_>, domain_id: &str) -> Result<()> {
    for (noun, table) in [("users", "identity_user"), ("groups", "identity_group")] {
        if tx.exists(&format!("SELECT 1 FROM {table} WHERE domain_id = ? AND local_id IS NULL"), [domain_id])? {
            return Err(refused(format_args!(
                "take the users of domain {domain_id} from a directory: it has {noun} of its own, make a new domain"
            )));
        }
    }
    Ok(())
}

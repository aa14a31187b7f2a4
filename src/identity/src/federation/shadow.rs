//! Users whom identity providers vouch for: which one a name at a provider is, and what a login leaves behind.
//!
//! What must stay true:
//! - one name at one protocol of one provider is one user, with the same id at every login, also after the protocol was
//!   deleted and made again: the id comes from those names;
//! - a name that somebody of the domain has already is never taken over: the newcomer's gets a suffix;
//! - a login that changes nothing writes nothing.

use std::collections::{BTreeMap, BTreeSet};

use db::{Tx, clock, params};
use rest::{Error, Result};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::{
    login::refuse,
    mapping::{Mapped, MappedProject},
    providers::Provider,
};
use crate::{
    assignments::store::{self as assignments, Assignment, Target},
    fields::PROJECT_NAME_MAX,
    projects::store::{self as projects, Project},
    roles::store as roles,
    tokens::{
        authenticate::find_domain,
        store::{find_account_by_name, find_project_id},
    },
    users::store::{self as users, User},
};

/// A token holds the ids of them all.
const GROUPS_MAX: usize = 50;

/// A name that an assertion proved.
pub(crate) struct Arrived<'a> {
    pub provider: &'a Provider,
    pub protocol_id: &'a str,
    pub mapped: &'a Mapped,
    pub now: OffsetDateTime,
}

/// What a user is called at a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub provider_id: String,
    pub protocol_id: String,
    pub unique_id: String,
}

/// Whether this provider still vouches for the user by this protocol.
pub(crate) fn vouched(tx: &Tx<'_>, user_id: &str, provider_id: &str, protocol_id: &str) -> db::Result<bool> {
    tx.exists(
        "SELECT 1 FROM identity_federated f JOIN identity_provider i ON i.id = f.provider_id \
         WHERE f.user_id = ?1 AND f.provider_id = ?2 AND f.protocol_id = ?3 AND i.enabled = 1",
        [user_id, provider_id, protocol_id],
    )
}

/// Voids all tokens of those whom the provider (by this protocol) vouches for.
pub(crate) fn void_tokens(tx: &Tx<'_>, provider_id: &str, protocol_id: Option<&str>) -> db::Result<()> {
    tx.execute(
        "UPDATE identity_user SET epoch = epoch + 1 WHERE id IN (SELECT user_id FROM identity_federated \
         WHERE provider_id = ?1 AND protocol_id = ifnull(?2, protocol_id))",
        params![provider_id, protocol_id],
    )?;
    Ok(())
}

/// Groups that logins gave for a while, and until when.
pub(crate) fn expiring(tx: &Tx<'_>, user_id: &str, now: &str) -> db::Result<Vec<(String, String)>> {
    tx.list(
        "SELECT group_id, expires_at FROM identity_expiring_membership WHERE user_id = ?1 AND expires_at > ?2",
        [user_id, now],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}

/// The names of many users at their providers, by user.
pub(crate) fn links(tx: &Tx<'_>, user_ids: &[&str]) -> db::Result<BTreeMap<String, Vec<Link>>> {
    let ids = json!(user_ids).to_string();
    let rows = tx.list(
        "SELECT user_id, provider_id, protocol_id, unique_id FROM identity_federated \
         WHERE user_id IN (SELECT value FROM json_each(?1)) ORDER BY user_id, provider_id, protocol_id, unique_id",
        [ids],
        |row| {
            let link = Link { provider_id: row.get(1)?, protocol_id: row.get(2)?, unique_id: row.get(3)? };
            Ok((row.get::<_, String>(0)?, link))
        },
    )?;
    let mut found: BTreeMap<String, Vec<Link>> = BTreeMap::new();
    for (user_id, link) in rows {
        found.entry(user_id).or_default().push(link);
    }
    Ok(found)
}

/// Who has this name at this protocol.
pub(crate) fn holder(tx: &Tx<'_>, link: &Link) -> db::Result<Option<String>> {
    tx.find(
        "SELECT user_id FROM identity_federated WHERE provider_id = ?1 AND protocol_id = ?2 AND unique_id = ?3",
        [&link.provider_id, &link.protocol_id, &link.unique_id],
        |row| row.get(0),
    )
}

pub(crate) fn link(tx: &Tx<'_>, user_id: &str, link: &Link) -> db::Result<()> {
    tx.execute(
        "INSERT INTO identity_federated (user_id, provider_id, protocol_id, unique_id) VALUES (?1, ?2, ?3, ?4)",
        [user_id, &link.provider_id, &link.protocol_id, &link.unique_id],
    )?;
    Ok(())
}

pub(crate) fn unlink_all(tx: &Tx<'_>, user_id: &str) -> db::Result<()> {
    tx.execute("DELETE FROM identity_federated WHERE user_id = ?", [user_id])?;
    Ok(())
}

/// The user and the groups of this login. `None`: something is to be written, and `write` forbids it.
pub(crate) fn settle(tx: &Tx<'_>, arrived: &Arrived<'_>, write: bool) -> Result<Option<(String, Vec<String>)>> {
    let group_ids = groups(tx, arrived.mapped)?;
    let Some(user_id) = user(tx, arrived, write)? else { return Ok(None) };
    for project in &arrived.mapped.projects {
        if !provision(tx, arrived, &user_id, project, write)? {
            return Ok(None);
        }
    }
    if let Some(minutes) = arrived.provider.authorization_ttl.filter(|minutes| *minutes > 0) {
        if !write {
            return Ok(None);
        }
        keep_groups(tx, arrived, &user_id, &group_ids, minutes)?;
    }
    Ok(Some((user_id, group_ids)))
}

/// Groups by id must exist, as upstream has it; those by name that do not exist are passed over.
fn groups(tx: &Tx<'_>, mapped: &Mapped) -> Result<Vec<String>> {
    let mut found = BTreeSet::new();
    for id in &mapped.group_ids {
        if !tx.exists("SELECT 1 FROM identity_group WHERE id = ?", [id])? {
            return Err(refuse(format!("the mapping names a group {id:?} that does not exist")));
        }
        found.insert(id.clone());
    }
    for (name, domain) in &mapped.groups {
        let id: Option<String> = match find_domain(tx, domain)? {
            Some(domain_id) => {
                tx.find("SELECT id FROM identity_group WHERE domain_id = ? AND name = ?", [&domain_id, name], |row| {
                    row.get(0)
                })?
            }
            None => None,
        };
        match id {
            Some(id) => drop(found.insert(id)),
            None => tracing::info!(group.name = name, "the mapping names a group that does not exist: passed over"),
        }
    }
    if found.len() > GROUPS_MAX {
        return Err(refuse(format!("the mapping gives more than {GROUPS_MAX} groups that exist here")));
    }
    Ok(found.into_iter().collect())
}

/// 32 hexadecimal digits out of what makes the user this one.
fn derived_id(parts: [&str; 4]) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        // With its length, so that no two lists of parts are one text.
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part.as_bytes());
    }
    context.finish().as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn user(tx: &Tx<'_>, arrived: &Arrived<'_>, write: bool) -> Result<Option<String>> {
    let mapped = &arrived.mapped.user;
    let unique_id = mapped.id.as_ref().or(mapped.name.as_ref()).ok_or_else(|| refuse("the user has no name"))?;
    let wanted = mapped.name.as_ref().unwrap_or(unique_id);
    let own = Link {
        provider_id: arrived.provider.id.clone(),
        protocol_id: arrived.protocol_id.to_owned(),
        unique_id: unique_id.clone(),
    };
    if let Some(id) = holder(tx, &own)? {
        return refresh(tx, arrived, &id, wanted, write);
    }
    if !write {
        return Ok(None);
    }
    let domain_id = match &mapped.domain {
        None => arrived.provider.domain_id.clone(),
        Some(domain) => find_domain(tx, domain)?
            .filter(|id| matches!(projects::find_domain(tx, id), Ok(Some(_))))
            .ok_or_else(|| refuse("the mapping puts the user into a domain that does not exist"))?,
    };
    let id = derived_id([&domain_id, &own.provider_id, &own.protocol_id, unique_id]);
    if users::find(tx, &id)?.is_some() {
        // The protocol went and came back. What was handed out before stays void.
        link(tx, &id, &own)?;
        users::void_tokens(tx, &id)?;
        return refresh(tx, arrived, &id, wanted, write);
    }
    let mut extra = Map::new();
    if let Some(email) = &mapped.email {
        extra.insert("email".into(), json!(email));
    }
    let user = User {
        name: free_name(tx, wanted, &domain_id, &id)?,
        id,
        domain_id,
        enabled: true,
        default_project_id: None,
        password_expires_at: None,
        last_active_on: None,
        options: Map::new(),
        extra,
        from_directory: false,
    };
    users::insert(tx, &user, None, &clock::text(arrived.now))?;
    tx.execute("UPDATE identity_user SET shadow = 1 WHERE id = ?", [&user.id])?;
    link(tx, &user.id, &own)?;
    Ok(Some(user.id))
}

/// The name, or one like it where another user of the domain has it.
fn free_name(tx: &Tx<'_>, wanted: &str, domain_id: &str, id: &str) -> Result<String> {
    match find_account_by_name(tx, wanted, domain_id)?.filter(|other| other.id != id) {
        None => Ok(wanted.to_owned()),
        Some(_) => {
            let suffix = id.get(..8).unwrap_or(id);
            Ok(format!("{}#{suffix}", wanted.chars().take(240).collect::<String>()))
        }
    }
}

/// Name and address of a shadow follow the provider. A user that an administrator tied to the provider stays as it is.
fn refresh(tx: &Tx<'_>, arrived: &Arrived<'_>, id: &str, wanted: &str, write: bool) -> Result<Option<String>> {
    let mut user = users::find(tx, id)?.ok_or_else(|| Error::internal("a federated name without its user"))?;
    if !tx.exists("SELECT 1 FROM identity_user WHERE id = ? AND shadow = 1", [id])? {
        return Ok(Some(user.id));
    }
    let name = free_name(tx, wanted, &user.domain_id, id)?;
    let email = arrived.mapped.user.email.as_deref();
    let same_email = email.is_none_or(|email| user.extra.get("email").and_then(Value::as_str) == Some(email));
    if name == user.name && same_email {
        return Ok(Some(user.id));
    }
    if !write {
        return Ok(None);
    }
    user.name = name;
    if let Some(email) = email {
        user.extra.insert("email".into(), json!(email));
    }
    users::update(tx, &user, false)?;
    Ok(Some(user.id))
}

/// Makes a project of the mapping where it is missing and gives the user its roles there. Nothing is ever taken away. False:
/// something is to be written, and `write` forbids it.
fn provision(tx: &Tx<'_>, arrived: &Arrived<'_>, user_id: &str, wanted: &MappedProject, write: bool) -> Result<bool> {
    let name = wanted.name.trim();
    if name.is_empty() || name.chars().count() > PROJECT_NAME_MAX {
        return Err(refuse(format!("the mapping names a project that is blank or longer than {PROJECT_NAME_MAX}")));
    }
    let domain_id = match &wanted.domain {
        None => Some(arrived.provider.domain_id.clone()),
        Some(domain) => find_domain(tx, domain)?,
    };
    let domain_id = match domain_id {
        Some(id) if projects::find_domain(tx, &id)?.is_some() => id,
        _ => return Err(refuse(format!("the mapping puts the project {name:?} into a domain that does not exist"))),
    };
    let project_id = match find_project_id(tx, name, &domain_id)? {
        Some(id) => id,
        None if !write => return Ok(false),
        None => {
            let id = rest::new_hex_id();
            projects::insert(
                tx,
                &Project {
                    id: id.clone(),
                    name: name.to_owned(),
                    domain_id: Some(domain_id.clone()),
                    parent_id: Some(domain_id),
                    is_domain: false,
                    description: String::new(),
                    enabled: true,
                    options: Map::new(),
                    extra: Map::new(),
                    tags: Vec::new(),
                },
            )?;
            id
        }
    };
    for role in &wanted.roles {
        let role = roles::find_by_name(tx, role)?
            .ok_or_else(|| refuse(format!("the mapping names a role {role:?} that does not exist")))?;
        let grant = Assignment {
            role_id: role.id,
            user_id: Some(user_id.to_owned()),
            group_id: None,
            target: Target::Project,
            target_id: project_id.clone(),
            inherited: false,
        };
        if !assignments::exists(tx, &grant)? {
            if !write {
                return Ok(false);
            }
            assignments::insert(tx, &grant)?;
        }
    }
    Ok(true)
}

/// Groups of this login, and only these, count until the provider's time is over.
fn keep_groups(
    tx: &Tx<'_>,
    arrived: &Arrived<'_>,
    user_id: &str,
    group_ids: &[String],
    minutes: u32,
) -> db::Result<()> {
    let provider_id = &arrived.provider.id;
    let until = arrived.now + time::Duration::minutes(minutes.into());
    tx.execute(
        "DELETE FROM identity_expiring_membership WHERE user_id = ?1 AND (provider_id = ?2 OR expires_at <= ?3)",
        params![user_id, provider_id, clock::text(arrived.now)],
    )?;
    for group_id in group_ids {
        tx.execute(
            "INSERT INTO identity_expiring_membership (user_id, group_id, provider_id, expires_at) VALUES (?1, ?2, ?3, ?4)",
            params![user_id, group_id, provider_id, clock::text(until)],
        )?;
    }
    Ok(())
}

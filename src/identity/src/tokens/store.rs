//! What a token stands for right now, and what has been revoked.

use std::sync::{Arc, OnceLock};

use db::{Tx, clock, params};
use rest::{Credentials, Delegation, NamedRef, Result, Scope};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::model::{AccessRule, AuditId, Credential, Known, Payload, TokenScope, TrustRef, audit_text, method_names};
use crate::{
    assignments,
    federation::{service_providers, shadow},
    fields::text_map,
    trusts::store as trusts,
};

/// The user as authentication sees it.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub id: String,
    pub name: String,
    pub domain: NamedRef,
    /// User and domain both.
    pub enabled: bool,
    pub epoch: u32,
    pub password_hash: Option<String>,
    pub password_expires_at: Option<String>,
    pub password_created_at: Option<String>,
    /// Chosen by the user, not set by an administrator.
    pub password_self_service: bool,
    pub last_active_on: Option<String>,
    pub default_project_id: Option<String>,
    /// Its domain's directory has it.
    pub from_directory: bool,
    pub options: Map<String, Value>,
}

impl Account {
    pub(crate) fn password_expired(&self, now: OffsetDateTime) -> bool {
        self.options.get("ignore_password_expiry") != Some(&Value::Bool(true))
            && self.password_expires_at.as_deref().and_then(clock::parse).is_some_and(|at| at <= now)
    }
}

/// A user that an identity provider's login made is enabled only while one of its providers is.
const ACCOUNT: &str = "SELECT u.id, u.name, d.id, d.name, u.enabled AND d.enabled AND (u.shadow = 0 OR EXISTS \
     (SELECT 1 FROM identity_federated f JOIN identity_provider i ON i.id = f.provider_id \
     WHERE f.user_id = u.id AND i.enabled = 1)), u.epoch, u.password_hash, \
     u.password_expires_at, u.password_created_at, u.password_self_service, u.last_active_on, u.default_project_id, \
     u.options, u.local_id IS NOT NULL \
     FROM identity_user u JOIN identity_project d ON d.id = u.domain_id";

fn account(row: &db::Row<'_>) -> db::rusqlite::Result<Account> {
    Ok(Account {
        id: row.get(0)?,
        name: row.get(1)?,
        domain: NamedRef { id: row.get(2)?, name: row.get(3)? },
        enabled: row.get(4)?,
        epoch: row.get(5)?,
        password_hash: row.get(6)?,
        password_expires_at: row.get(7)?,
        password_created_at: row.get(8)?,
        password_self_service: row.get(9)?,
        last_active_on: row.get(10)?,
        default_project_id: row.get(11)?,
        options: text_map(&row.get::<_, String>(12)?),
        from_directory: row.get(13)?,
    })
}

pub(crate) fn find_account(tx: &Tx<'_>, id: &str) -> db::Result<Option<Account>> {
    tx.find(&format!("{ACCOUNT} WHERE u.id = ? AND u.gone = 0"), [id], account)
}

pub(crate) fn find_account_by_name(tx: &Tx<'_>, name: &str, domain_id: &str) -> db::Result<Option<Account>> {
    tx.find(&format!("{ACCOUNT} WHERE u.domain_id = ? AND u.name = ? AND u.gone = 0"), [domain_id, name], account)
}

pub(crate) fn find_domain_id(tx: &Tx<'_>, name: &str) -> db::Result<Option<String>> {
    tx.find("SELECT id FROM identity_project WHERE is_domain = 1 AND name = ?", [name], |row| row.get(0))
}

pub(crate) fn find_project_id(tx: &Tx<'_>, name: &str, domain_id: &str) -> db::Result<Option<String>> {
    tx.find("SELECT id FROM identity_project WHERE domain_id = ? AND name = ?", [domain_id, name], |row| row.get(0))
}

/// Where a scope leads, if it is enabled.
pub(crate) struct Place {
    pub scope: Scope,
    pub epoch: u32,
    pub is_domain: bool,
}

pub(crate) fn find_place(tx: &Tx<'_>, scope: &TokenScope) -> db::Result<Option<Place>> {
    match scope {
        TokenScope::Unscoped => Ok(Some(Place { scope: Scope::Unscoped, epoch: 0, is_domain: false })),
        TokenScope::System => Ok(Some(Place { scope: Scope::System, epoch: 0, is_domain: false })),
        TokenScope::Domain(id) => tx.find(
            "SELECT id, name, epoch FROM identity_project WHERE id = ? AND is_domain = 1 AND enabled = 1",
            [id],
            |row| {
                let domain = NamedRef { id: row.get(0)?, name: row.get(1)? };
                Ok(Place { scope: Scope::Domain(domain), epoch: row.get(2)?, is_domain: false })
            },
        ),
        // A domain used as a project is its own domain. The domain's epoch is part of its projects'.
        TokenScope::Project(id) => tx.find(
            "SELECT p.id, p.name, d.id, d.name, p.epoch + iif(p.is_domain, 0, d.epoch), p.is_domain \
             FROM identity_project p JOIN identity_project d ON d.id = ifnull(p.domain_id, p.id) \
             WHERE p.id = ? AND p.enabled = 1 AND d.enabled = 1",
            [id],
            |row| {
                let project = NamedRef { id: row.get(0)?, name: row.get(1)? };
                let domain = NamedRef { id: row.get(2)?, name: row.get(3)? };
                let scope = Scope::Project { project, domain };
                Ok(Place { scope, epoch: row.get(4)?, is_domain: row.get(5)? })
            },
        ),
    }
}

/// The token's meaning, or `None` when anything that it depends on is gone.
pub(crate) fn resolve(tx: &Tx<'_>, payload: Payload, now: OffsetDateTime) -> Result<Option<Known>> {
    if revoked(tx, &payload)? {
        return Ok(None);
    }
    if let Some(federated) = &payload.federated
        && !shadow::vouched(tx, &payload.user_id, &federated.provider_id, &federated.protocol_id)?
    {
        return Ok(None);
    }
    let Some(account) = find_account(tx, &payload.user_id)? else { return Ok(None) };
    if !account.enabled || account.epoch != payload.user_epoch {
        return Ok(None);
    }
    let Some(place) = find_place(tx, &payload.scope)? else { return Ok(None) };
    if place.epoch != payload.scope_epoch {
        return Ok(None);
    }
    let trust = match &payload.trust_id {
        None => None,
        Some(id) => match find_trust(tx, id, &account.id, &payload.scope)? {
            Some(found) => Some(found),
            None => return Ok(None),
        },
    };
    // The roles are those of whoever hands them on.
    let holder = trust.as_ref().map_or(&account.id, |trust| &trust.root_trustor_id);
    let (groups, until_s) = passing_groups(tx, holder, &payload, now)?;
    let mut roles = assignments::store::effective_roles(tx, holder, &groups, &payload.scope)?;
    if roles.is_empty() && payload.scope != TokenScope::Unscoped {
        return Ok(None);
    }
    let mut credential = None;
    if let Some(id) = &payload.application_credential_id {
        let Some((found, role_ids)) = find_credential(tx, id, &account.id, &payload.scope)? else { return Ok(None) };
        // Every role handed on must still be held; one that was taken away voids the credential.
        if !role_ids.iter().all(|id| roles.iter().any(|role| role.id == *id)) {
            return Ok(None);
        }
        let granted = assignments::store::with_implied(tx, &role_ids)?;
        roles.retain(|role| granted.contains(&role.id));
        credential = Some(found);
    }
    let mut from_directory: Vec<String> = account.from_directory.then(|| account.id.clone()).into_iter().collect();
    let mut user = NamedRef { id: account.id, name: account.name };
    let mut user_domain = account.domain;
    let mut trust_ref = None;
    if let Some(found) = trust {
        if !found.role_ids.iter().all(|id| roles.iter().any(|role| role.id == *id)) {
            return Ok(None);
        }
        let granted = assignments::store::with_implied(tx, &found.role_ids)?;
        roles.retain(|role| granted.contains(&role.id));
        from_directory.extend(found.from_directory);
        if found.trust.impersonation {
            let trustor = found.trustor;
            user = NamedRef { id: trustor.id, name: trustor.name };
            user_domain = trustor.domain;
        }
        trust_ref = Some(found.trust);
    }
    let at = |s: u32| OffsetDateTime::from_unix_timestamp(s.into()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut creds = Credentials {
        user,
        user_domain,
        scope: place.scope,
        roles,
        methods: method_names(payload.methods),
        audit_ids: payload.audit_ids(),
        delegation: Delegation {
            trust_id: payload.trust_id.clone(),
            application_credential_id: payload.application_credential_id.clone(),
            restricted: credential.as_ref().is_some_and(|credential| credential.restricted),
        },
        issued_at: at(payload.issued_s),
        expires_at: at(payload.expires_s),
        view: Map::new(),
    };
    creds.view = creds.policy_view();
    // Rules such as `not domain_id:None` tell "no domain" from null, as oslo.context gives it.
    for key in ["domain_id", "project_id", "system_scope"] {
        creds.view.entry(key).or_insert(Value::Null);
    }
    Ok(Some(Known {
        payload,
        creds: Arc::new(creds),
        is_domain: place.is_domain,
        password_expires_at: account.password_expires_at,
        credential,
        trust: trust_ref,
        from_directory,
        until_s,
        service_providers: service_providers::enabled(tx)?,
        written: OnceLock::new(),
    }))
}

/// Groups beyond the holder's lasting memberships: of this token, and of logins whose `authorization_ttl` is not over. And when
/// the first of those ends.
pub(crate) fn passing_groups(
    tx: &Tx<'_>,
    holder: &str,
    payload: &Payload,
    now: OffsetDateTime,
) -> db::Result<(Vec<String>, Option<i64>)> {
    let mut groups = payload.federated.as_ref().map(|federated| federated.group_ids.clone()).unwrap_or_default();
    let mut until_s = None;
    for (group_id, expires_at) in shadow::expiring(tx, holder, &clock::text(now))? {
        let end_s = clock::parse(&expires_at).map_or(0, OffsetDateTime::unix_timestamp);
        until_s = Some(until_s.map_or(end_s, |until_s: i64| until_s.min(end_s)));
        groups.push(group_id);
    }
    Ok((groups, until_s))
}

fn find_credential(
    tx: &Tx<'_>,
    id: &str,
    user_id: &str,
    scope: &TokenScope,
) -> db::Result<Option<(Credential, Vec<String>)>> {
    let TokenScope::Project(project_id) = scope else { return Ok(None) };
    let found = tx.find(
        "SELECT id, name, unrestricted, expires_at, restricted_to_rules FROM identity_application_credential \
         WHERE id = ? AND user_id = ? AND project_id = ?",
        [id, user_id, project_id],
        |row| {
            let expires: Option<String> = row.get(3)?;
            Ok((
                Credential {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    restricted: !row.get::<_, bool>(2)?,
                    expires_s: expires
                        .and_then(|text| clock::parse(&text))
                        .map(|at| u32::try_from(at.unix_timestamp()).unwrap_or(0)),
                    rules: None,
                },
                row.get::<_, bool>(4)?,
            ))
        },
    )?;
    let Some((mut credential, with_rules)) = found else { return Ok(None) };
    if with_rules {
        credential.rules = Some(tx.list(
            "SELECT r.service, r.method, r.path FROM identity_access_rule r \
             JOIN identity_application_credential_rule c ON c.access_rule_id = r.id \
             WHERE c.application_credential_id = ?",
            [id],
            |row| Ok(AccessRule { service: row.get(0)?, method: row.get(1)?, path: row.get(2)? }),
        )?);
    }
    let roles = tx.list(
        "SELECT role_id FROM identity_application_credential_role WHERE application_credential_id = ?",
        [id],
        |row| row.get(0),
    )?;
    Ok(Some((credential, roles)))
}

/// A trust as a token needs it.
struct Trusted {
    trust: TrustRef,
    trustor: Account,
    /// Who held the roles before they were handed on for the first time.
    root_trustor_id: String,
    role_ids: Vec<String>,
    /// Those who handed it on and whom a directory has.
    from_directory: Vec<String>,
}

/// The trust if it leads this trustee to this scope and everyone on the way is still enabled.
fn find_trust(tx: &Tx<'_>, id: &str, trustee_id: &str, scope: &TokenScope) -> db::Result<Option<Trusted>> {
    let Some(trust) = trusts::find(tx, id)? else { return Ok(None) };
    let place = match scope {
        TokenScope::Project(id) => Some(id),
        TokenScope::Unscoped => None,
        TokenScope::Domain(_) | TokenScope::System => return Ok(None),
    };
    if trust.trustee_user_id != trustee_id || trust.project_id.as_ref() != place {
        return Ok(None);
    }
    let Some(trustor) = find_account(tx, &trust.trustor_user_id)?.filter(|trustor| trustor.enabled) else {
        return Ok(None);
    };
    let mut from_directory: Vec<String> = trustor.from_directory.then(|| trustor.id.clone()).into_iter().collect();
    let mut root_trustor_id = trust.trustor_user_id.clone();
    let mut above = trust.redelegated_trust_id.clone();
    while let Some(id) = above {
        let Some(parent) = trusts::find(tx, &id)? else { return Ok(None) };
        let Some(account) = find_account(tx, &parent.trustor_user_id)?.filter(|account| account.enabled) else {
            return Ok(None);
        };
        from_directory.extend(account.from_directory.then_some(account.id));
        root_trustor_id = parent.trustor_user_id;
        above = parent.redelegated_trust_id;
    }
    let expires_s =
        trust.expires_at.as_deref().and_then(clock::parse).map(|at| u32::try_from(at.unix_timestamp()).unwrap_or(0));
    let role_ids = trusts::role_ids(tx, id)?;
    let trust = TrustRef {
        id: trust.id,
        trustor_user_id: trust.trustor_user_id,
        trustee_user_id: trust.trustee_user_id,
        impersonation: trust.impersonation,
        expires_s,
    };
    Ok(Some(Trusted { trust, trustor, root_trustor_id, role_ids, from_directory }))
}

fn revoked(tx: &Tx<'_>, payload: &Payload) -> db::Result<bool> {
    let own = audit_text(&payload.audit_id);
    let chain = payload.chain_id.as_ref().map(audit_text);
    tx.exists(
        "SELECT 1 FROM identity_revocation WHERE audit_id = ?1 OR (audit_id = ?2 AND chain = 1)",
        params![own, chain],
    )
}

/// Voids one token, or with `chain` also all that were rescoped from it. Forgets revocations of tokens long expired.
pub(crate) fn revoke(
    tx: &Tx<'_>,
    audit_id: &AuditId,
    chain: bool,
    now: &str,
    now_s: i64,
    keep_until_s: i64,
) -> db::Result<()> {
    tx.execute("DELETE FROM identity_revocation WHERE expires_s < ?", [now_s])?;
    tx.execute(
        "INSERT INTO identity_revocation (audit_id, chain, revoked_at, expires_s) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (audit_id) DO UPDATE SET chain = max(chain, excluded.chain)",
        params![audit_text(audit_id), chain, now, keep_until_s],
    )?;
    Ok(())
}

/// Audit id, whether the whole chain is void, and since when; of those voided at `since` or later.
pub(crate) fn revoked_since(tx: &Tx<'_>, since: &str) -> db::Result<Vec<(String, bool, String)>> {
    tx.list(
        "SELECT audit_id, chain, revoked_at FROM identity_revocation WHERE revoked_at >= ? ORDER BY revoked_at",
        [since],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )
}

//! From proof of identity to a token.
//!
//! Every failure after the body was understood is the same 401, but for a token that is no longer good (404). Whether the user exists is decided only after the
//! password was hashed. The user's epoch is read together with the hash and must still hold when the token is made.

use rest::{ClientCertificate, Error, Result};
use serde_json::Value;

use super::{
    cache::Cache,
    model::{APPLICATION_CREDENTIAL, Federated, Known, MAPPED, PASSWORD, Payload, TOKEN, TOTP, TokenScope},
    receipt::{self, Receipt},
    request::{DomainRef, Method, Ref, Request, ScopeRequest},
    store::{self, Account},
};
use crate::{
    App, credentials,
    federation::login::Vouched,
    fernet,
    passwords::{PASSWORD_MAX_BYTES, totp},
    trusts::store as trusts,
    users,
};

/// What one method proved.
struct Proof {
    account: Account,
    methods: u8,
    /// Of the token that was handed in: it bounds the new one and starts or continues the chain.
    parent: Option<Payload>,
    /// Of the application credential: it decides the scope.
    application_credential: Option<(String, String)>,
    /// Of the identity provider that vouched.
    federated: Option<Federated>,
}

pub(crate) struct Issued {
    pub id: String,
    pub known: std::sync::Arc<Known>,
}

/// What an authentication leads to.
pub(crate) enum Outcome {
    Token(Issued),
    /// The user's rules want more factors than were shown.
    Receipt(Receipt),
}

impl App {
    /// `receipt`: of an authentication before this one, by other factors.
    /// `certificate`: what the client showed on the port that asks for one.
    pub(crate) async fn issue(
        &self,
        request: Request,
        receipt: Option<&str>,
        certificate: Option<&ClientCertificate>,
    ) -> Result<Outcome> {
        let mut proof: Option<Proof> = None;
        for method in request.methods {
            let next = match method {
                Method::Password { user, password } => self.by_password(user, password).await?,
                Method::Totp { user, passcode } => self.by_totp(user, passcode).await?,
                Method::Token { id } => self.by_token(&id).await?,
                Method::External => {
                    let certificate = certificate.ok_or_else(Error::unauthenticated)?;
                    let Vouched { account, federated } = self.vouched_by_certificate(certificate).await?;
                    Proof { account, methods: MAPPED, parent: None, application_credential: None, federated }
                }
                Method::ApplicationCredential { id, name, user, secret } => {
                    self.by_application_credential(id, name, user, secret).await?
                }
            };
            proof = Some(match proof {
                None => next,
                Some(before) if before.account.id == next.account.id && before.account.epoch == next.account.epoch => {
                    Proof {
                        methods: before.methods | next.methods,
                        parent: before.parent.or(next.parent),
                        application_credential: before.application_credential.or(next.application_credential),
                        federated: before.federated.or(next.federated),
                        account: next.account,
                    }
                }
                Some(_) => return Err(Error::unauthenticated()),
            });
        }
        let mut proof = proof.ok_or_else(Error::unauthenticated)?;
        if proof.account.from_directory {
            self.refresh_user(&proof.account.id).await?;
        }
        if let Some(receipt) = receipt {
            proof.methods |= self.factors_before(receipt, &proof.account)?;
        }
        if proof.methods & TOKEN == 0
            && let Some(rules) = receipt::missing(&proof.account.options, proof.methods)?
        {
            return self.receipt(&proof.account, proof.methods, rules).map(Outcome::Receipt);
        }
        let scope = request.scope;
        if proof.application_credential.is_some() && !matches!(scope, ScopeRequest::Absent) {
            return Err(Error::unauthenticated());
        }
        self.grant(proof, scope).await.map(Outcome::Token)
    }

    /// An unscoped token for somebody whom an identity provider vouches for; `federated` is `None` for a user of this cloud.
    pub(crate) async fn issue_mapped(&self, account: Account, federated: Option<Federated>) -> Result<Issued> {
        self.issue_mapped_in(account, federated, ScopeRequest::Unscoped).await
    }

    pub(crate) async fn issue_mapped_in(
        &self,
        account: Account,
        federated: Option<Federated>,
        scope: ScopeRequest,
    ) -> Result<Issued> {
        if !account.enabled {
            return Err(Error::unauthenticated());
        }
        // Somebody of this cloud stays bound by the rules for its factors.
        if federated.is_none() && receipt::missing(&account.options, MAPPED)?.is_some() {
            return Err(Error::unauthenticated());
        }
        self.seen(&account).await?;
        let proof = Proof { account, methods: MAPPED, parent: None, application_credential: None, federated };
        self.grant(proof, scope).await
    }

    /// A token for what was proven, if the user may have this scope.
    async fn grant(&self, proof: Proof, scope: ScopeRequest) -> Result<Issued> {
        let now_s = u32::try_from(self.now_s()).map_err(Error::internal)?;
        let lifetime = u32::try_from(self.options.token_lifetime_s).unwrap_or(u32::MAX);
        let expires_s = match &proof.parent {
            Some(parent) => parent.expires_s,
            None => now_s.saturating_add(lifetime),
        };
        let audit_id = fernet::random().ok_or_else(|| Error::internal("no random numbers"))?;
        let draft = Payload {
            methods: proof.methods,
            user_id: proof.account.id.clone(),
            user_epoch: proof.account.epoch,
            scope: TokenScope::Unscoped,
            scope_epoch: 0,
            issued_s: now_s,
            expires_s,
            audit_id,
            chain_id: proof.parent.as_ref().map(|parent| parent.chain_id.unwrap_or(parent.audit_id)),
            application_credential_id: proof.application_credential.as_ref().map(|(id, _)| id.clone()),
            trust_id: None,
            federated: proof.federated.clone(),
        };
        if let ScopeRequest::Trust(id) = &scope {
            self.use_trust(id, &proof.account.id).await?;
        }
        let generation = self.cache.generation();
        let now = self.clock.now();
        let known = self
            .db
            .read(move |tx| -> Result<Option<Known>> {
                let wanted = match (&proof.application_credential, scope) {
                    (Some((_, project_id)), _) => TokenScope::Project(project_id.clone()),
                    (None, ScopeRequest::Unscoped) => TokenScope::Unscoped,
                    (None, ScopeRequest::System) => TokenScope::System,
                    (None, ScopeRequest::Domain(domain)) => match find_domain(tx, &domain)? {
                        Some(id) => TokenScope::Domain(id),
                        None => return Ok(None),
                    },
                    (None, ScopeRequest::Project(project)) => match find_project(tx, project)? {
                        Some(id) => TokenScope::Project(id),
                        None => return Ok(None),
                    },
                    (None, ScopeRequest::Trust(id)) => {
                        let Some(trust) = trusts::find(tx, &id)? else { return Ok(None) };
                        let wanted = trust.project_id.map_or(TokenScope::Unscoped, TokenScope::Project);
                        let draft = Payload { trust_id: Some(id), federated: None, ..draft };
                        return settle(tx, draft, wanted, now);
                    }
                    (None, ScopeRequest::Absent) => {
                        if let Some(id) = &proof.account.default_project_id {
                            let known = settle(tx, draft.clone(), TokenScope::Project(id.clone()), now)?;
                            if known.is_some() {
                                return Ok(known);
                            }
                        }
                        TokenScope::Unscoped
                    }
                };
                settle(tx, draft, wanted, now)
            })
            .await?
            .ok_or_else(Error::unauthenticated)?;
        let id = self.keys.seal(now_s.into(), &known.payload.encode())?;
        let known = std::sync::Arc::new(known);
        self.cache.put(Cache::hash(&id), generation, std::sync::Arc::clone(&known));
        Ok(Issued { id, known })
    }

    async fn by_password(&self, user: Ref, password: String) -> Result<Proof> {
        if let Some(directory) = self.directory_for(&user)? {
            let account = self.by_directory(&directory, user, &password).await?.ok_or_else(Error::unauthenticated)?;
            return Ok(Proof {
                account,
                methods: PASSWORD,
                parent: None,
                application_credential: None,
                federated: None,
            });
        }
        let account = self.find_user(user).await?;
        let account = self.verify(account, password).await?;
        // Told only to who knows the password: clients offer to change it.
        if account.password_expired(self.clock.now()) {
            return Err(Error::new(
                rest::Kind::Unauthenticated,
                format!("The password is expired and needs to be changed for user: {}.", account.id),
            ));
        }
        self.seen(&account).await?;
        Ok(Proof { account, methods: PASSWORD, parent: None, application_credential: None, federated: None })
    }

    /// A passcode of one of the user's credentials of type `totp`; guessing locks the account as with passwords.
    async fn by_totp(&self, user: Ref, passcode: String) -> Result<Proof> {
        let account = self.find_user(user).await?.ok_or_else(Error::unauthenticated)?;
        let now = self.clock.now();
        let user_id = account.id.clone();
        let found =
            self.db.read(move |tx| -> Result<_> { Ok(credentials::store::list_of(tx, &user_id, "totp")?) }).await?;
        let mut fits = false;
        for credential in found {
            let secret = self.open_blob(&credential.blob)?;
            if let Some(step) = totp::step_of(&secret, &passcode, self.now_s()) {
                fits |= self.passcodes.spend(&credential.id, step);
            }
        }
        let account = self.admit(Some(account), fits, now)?;
        self.seen(&account).await?;
        Ok(Proof { account, methods: TOTP, parent: None, application_credential: None, federated: None })
    }

    /// The account if it exists, is enabled and not locked, and the password is its own; the same answer after the same
    /// work if not.
    pub(crate) async fn verify(&self, account: Option<Account>, password: String) -> Result<Account> {
        let hash = account.as_ref().and_then(|account| account.password_hash.clone());
        let (password, hash) =
            if password.len() > PASSWORD_MAX_BYTES { (String::new(), None) } else { (password, hash) };
        let fits = self.hasher.verify(password, hash).await?;
        self.admit(account, fits, self.clock.now())
    }

    /// Counts what failed. A locked account is refused after the work, also with what fits.
    fn admit(&self, account: Option<Account>, fits: bool, now: time::OffsetDateTime) -> Result<Account> {
        let account = account.ok_or_else(Error::unauthenticated)?;
        let lockout = &self.rules.lockout;
        if account.options.get("ignore_lockout_failure_attempts") != Some(&Value::Bool(true)) {
            if lockout.locked(&account.id, now) {
                return Err(Error::unauthenticated());
            }
            if fits {
                lockout.forgive(&account.id);
            } else {
                lockout.failed(&account.id, now);
            }
        }
        let inactive = self.rules.inactive(account.last_active_on.as_deref(), &account.options, now);
        if fits && account.enabled && !inactive { Ok(account) } else { Err(Error::unauthenticated()) }
    }

    /// Notes that the user was here today, where anybody wants to know, once a day.
    async fn seen(&self, account: &Account) -> Result<()> {
        let today = self.rules.active_on(self.clock.now());
        if today.is_none() || today == account.last_active_on {
            return Ok(());
        }
        let id = account.id.clone();
        self.db.write(move |tx| Ok(users::store::set_active(tx, &id, today.as_deref())?)).await
    }

    pub(crate) async fn find_user(&self, user: Ref) -> Result<Option<Account>> {
        self.db
            .read(move |tx| match user {
                Ref::Id(id) => Ok(store::find_account(tx, &id)?),
                Ref::Name(name, domain) => match find_domain(tx, &domain)? {
                    Some(domain) => Ok(store::find_account_by_name(tx, name.trim(), &domain)?),
                    None => Ok(None),
                },
            })
            .await
    }

    async fn by_token(&self, token: &str) -> Result<Proof> {
        let known = self.known(token).await?.filter(|known| !known.expired(self.now_s()));
        let known = known.ok_or_else(crate::errors::no_token)?;
        if known.payload.application_credential_id.is_some() || known.payload.trust_id.is_some() {
            return Err(crate::errors::refused("rescope a delegated token"));
        }
        let account = self.find_user(Ref::Id(known.payload.user_id.clone())).await?;
        let account = account
            .filter(|account| account.enabled && account.epoch == known.payload.user_epoch)
            .ok_or_else(crate::errors::no_token)?;
        Ok(Proof {
            account,
            methods: known.payload.methods | TOKEN,
            parent: Some(known.payload.clone()),
            application_credential: None,
            federated: known.payload.federated.clone(),
        })
    }

    /// Takes one of the trust's uses. Whoever is not its trustee learns nothing and uses nothing up.
    async fn use_trust(&self, id: &str, trustee_id: &str) -> Result<()> {
        let (id, trustee_id, now) = (id.to_owned(), trustee_id.to_owned(), self.clock.now());
        let bounded = self.db.read_blocking(|tx| -> Result<bool> {
            let trust = trusts::find(tx, &id)?.filter(|trust| trust.trustee_user_id == trustee_id && !trust.over(now));
            let trust = trust.ok_or_else(|| Error::forbidden("The trust cannot be used."))?;
            Ok(trust.remaining_uses.is_some())
        })?;
        if !bounded {
            return Ok(());
        }
        let used = self.db.write(move |tx| -> Result<bool> { Ok(trusts::use_once(tx, &id)?) }).await?;
        if used { Ok(()) } else { Err(Error::forbidden("No remaining uses for the trust.")) }
    }

    async fn by_application_credential(
        &self,
        id: Option<String>,
        name: Option<String>,
        user: Option<Ref>,
        secret: String,
    ) -> Result<Proof> {
        let named = match (id.is_none(), user) {
            (true, Some(user)) => self.find_user(user).await?.map(|account| account.id),
            _ => None,
        };
        let found = self
            .db
            .read(move |tx| {
                let columns = "SELECT id, user_id, project_id, secret_hash FROM identity_application_credential";
                let row = |row: &db::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
                let found: Option<(String, String, String, String)> = match (id, named, name) {
                    (Some(id), _, _) => tx.find(&format!("{columns} WHERE id = ?"), [id], row)?,
                    (None, Some(user), Some(name)) => {
                        tx.find(&format!("{columns} WHERE user_id = ? AND name = ?"), [user, name], row)?
                    }
                    _ => None,
                };
                let account = match &found {
                    Some((_, user_id, _, _)) => store::find_account(tx, user_id)?,
                    None => None,
                };
                rest::Result::Ok(found.zip(account))
            })
            .await?;
        let hash = found.as_ref().map(|((_, _, _, hash), _)| hash.clone());
        let (secret, hash) = if secret.len() > PASSWORD_MAX_BYTES { (String::new(), None) } else { (secret, hash) };
        let fits = self.hasher.verify(secret, hash).await?;
        let ((id, _, project_id, _), account) =
            found.filter(|(_, account)| fits && account.enabled).ok_or_else(Error::unauthenticated)?;
        Ok(Proof {
            account,
            methods: APPLICATION_CREDENTIAL,
            parent: None,
            application_credential: Some((id, project_id)),
            federated: None,
        })
    }
}

/// The payload in this scope, if the user may have it.
fn settle(
    tx: &db::Tx<'_>,
    mut payload: Payload,
    scope: TokenScope,
    now: time::OffsetDateTime,
) -> Result<Option<Known>> {
    let Some(place) = store::find_place(tx, &scope)? else { return Ok(None) };
    payload.scope = scope;
    payload.scope_epoch = place.epoch;
    store::resolve(tx, payload, now)
}

pub(crate) fn find_domain(tx: &db::Tx<'_>, domain: &DomainRef) -> Result<Option<String>> {
    Ok(match domain {
        DomainRef::Id(id) => Some(id.clone()),
        DomainRef::Name(name) => store::find_domain_id(tx, name.trim())?,
    })
}

fn find_project(tx: &db::Tx<'_>, project: Ref) -> Result<Option<String>> {
    Ok(match project {
        Ref::Id(id) => Some(id),
        Ref::Name(name, domain) => match find_domain(tx, &domain)? {
            Some(domain) => store::find_project_id(tx, name.trim(), &domain)?,
            None => None,
        },
    })
}

/// A scope as people name it: by id, or by a name that only one has.
#[derive(Clone, Debug)]
pub enum ScopeName {
    Unscoped,
    Project(String),
    Domain(String),
    System,
}

impl App {
    /// What policy would see of this user in this scope, without a token: for `solostack policy explain`. Users, projects
    /// and domains by id or, where only one has it, by name.
    ///
    /// # Errors
    /// 404 for what is not there, 409 for a name that several have, 403 without a role in the scope.
    pub fn policy_view(&self, user: &str, scope: &ScopeName) -> Result<serde_json::Map<String, Value>> {
        let now = self.clock.now();
        let known = self.db.read_blocking(|tx| -> Result<Option<Known>> {
            let user_id = only(tx, "user", "SELECT id FROM identity_user WHERE id = ?1 OR name = ?1", user)?;
            let account = store::find_account(tx, &user_id)?.ok_or_else(|| crate::errors::not_found("user", user))?;
            let scope = match scope {
                ScopeName::Unscoped => TokenScope::Unscoped,
                ScopeName::System => TokenScope::System,
                ScopeName::Project(name) => {
                    let sql = "SELECT id FROM identity_project WHERE is_domain = 0 AND (id = ?1 OR name = ?1)";
                    TokenScope::Project(only(tx, "project", sql, name)?)
                }
                ScopeName::Domain(name) => {
                    let sql = "SELECT id FROM identity_project WHERE is_domain = 1 AND (id = ?1 OR name = ?1)";
                    TokenScope::Domain(only(tx, "domain", sql, name)?)
                }
            };
            let payload = Payload {
                methods: PASSWORD,
                user_id: account.id,
                user_epoch: account.epoch,
                scope: TokenScope::Unscoped,
                scope_epoch: 0,
                issued_s: 0,
                expires_s: u32::MAX,
                audit_id: [0; 16],
                chain_id: None,
                application_credential_id: None,
                trust_id: None,
                federated: None,
            };
            settle(tx, payload, scope, now)
        })?;
        let known = known.ok_or_else(|| Error::forbidden("The user has no role there, or one of both is disabled."))?;
        Ok(known.creds.view.clone())
    }
}

fn only(tx: &db::Tx<'_>, noun: &str, sql: &'static str, name: &str) -> Result<String> {
    let mut found: Vec<String> = tx.list(sql, [name], |row| row.get(0))?;
    match (found.pop(), found.pop()) {
        (Some(id), None) => Ok(id),
        (None, _) => Err(crate::errors::not_found(noun, name)),
        _ => Err(Error::conflict(format!("More than one {noun} is called {name}: give its id."))),
    }
}

//! What is known of one request: who asks, by which address, at which version, and whether policy was asked.

use std::{
    convert::Infallible,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::extract::FromRequestParts;
use db::measure::Histogram;
use futures::future::BoxFuture;
use http::{HeaderMap, Method, request::Parts};
use policy::{Enforcer, Rule, Target};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::{Error, Microversion, Result, Style};

/// How a request reached the machine; put there by the listener, never by the client.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub peer: SocketAddr,
    pub scheme: &'static str,
    /// The service of a service port; `None` on the shared port, where the first path segment names it.
    pub service: Option<&'static str>,
}

/// The certificate that a client proved to hold, of an authority that the configuration names; put among a request's
/// extensions by the listener, never by the client. DER.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    pub der: Arc<[u8]>,
}

/// A thing's id and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedRef {
    pub id: String,
    pub name: String,
}

/// What the token is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    Unscoped,
    Project { project: NamedRef, domain: NamedRef },
    Domain(NamedRef),
    System,
}

/// How much of the user's power was handed on, beyond the scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delegation {
    pub trust_id: Option<String>,
    pub application_credential_id: Option<String>,
    /// Whether the application credential may not manage credentials of its own.
    pub restricted: bool,
}

/// An authenticated caller. Decisions about keys and delegation go by `delegation` and `methods`, never by scope.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub user: NamedRef,
    pub user_domain: NamedRef,
    pub scope: Scope,
    /// Effective roles in this scope, implied ones included.
    pub roles: Vec<NamedRef>,
    pub methods: Vec<String>,
    /// First the token's own, then (if rescoped) the chain's.
    pub audit_ids: Vec<String>,
    pub delegation: Delegation,
    pub issued_at: OffsetDateTime,
    pub expires_at: OffsetDateTime,
    /// What policy rules see as credentials; built once by [`Credentials::policy_view`].
    pub view: Map<String, Value>,
}

impl Credentials {
    #[must_use]
    pub fn has_role(&self, name: &str) -> bool {
        self.roles.iter().any(|role| role.name.eq_ignore_ascii_case(name))
    }

    #[must_use]
    pub fn project_id(&self) -> Option<&str> {
        match &self.scope {
            Scope::Project { project, .. } => Some(&project.id),
            _ => None,
        }
    }

    #[must_use]
    pub fn domain_id(&self) -> Option<&str> {
        match &self.scope {
            Scope::Domain(domain) => Some(&domain.id),
            _ => None,
        }
    }

    #[must_use]
    pub fn is_system(&self) -> bool {
        self.scope == Scope::System
    }

    /// The attributes that rules may name: oslo.context's `to_policy_values` and Keystone's `token.*`.
    #[must_use]
    pub fn policy_view(&self) -> Map<String, Value> {
        let mut view = Map::new();
        let mut put = |key: &str, value: Value| {
            view.insert(key.to_owned(), value);
        };
        put("user_id", json!(self.user.id));
        put("user_domain_id", json!(self.user_domain.id));
        put("roles", json!(self.roles.iter().map(|role| role.name.as_str()).collect::<Vec<_>>()));
        put("is_admin_project", json!(true));
        let mut token = json!({"user": {"id": self.user.id, "domain": {"id": self.user_domain.id}}});
        match &self.scope {
            Scope::Unscoped => {}
            Scope::Project { project, domain } => {
                put("project_id", json!(project.id));
                put("tenant_id", json!(project.id));
                put("tenant", json!(project.id));
                put("project_domain_id", json!(domain.id));
                token["project"] = json!({"id": project.id, "domain": {"id": domain.id}});
            }
            Scope::Domain(domain) => {
                put("domain_id", json!(domain.id));
                token["domain"] = json!({"id": domain.id});
            }
            Scope::System => {
                put("system_scope", json!("all"));
                token["system"] = json!({"all": true});
            }
        }
        put("token", token);
        view
    }
}

/// The request as access rules of application credentials see it.
#[derive(Clone, Copy, Debug)]
pub struct RequestLine<'a> {
    /// The service type, e.g. `compute`.
    pub service: &'a str,
    pub method: &'a Method,
    /// Path below the service's root.
    pub path: &'a str,
}

/// Turns a token into credentials. Implemented by Identity.
pub trait TokenCheck: Send + Sync {
    /// # Errors
    /// [`Error::unauthenticated`] for a token that is not (or no longer) good, 403 for a request outside its access rules.
    fn check<'a>(&'a self, token: &'a str, request: RequestLine<'a>) -> BoxFuture<'a, Result<Arc<Credentials>>>;

    /// Who may do without a token: the client's certificate says who, the headers say in which scope.
    ///
    /// # Errors
    /// [`Error::unauthenticated`] for a certificate of nobody in particular.
    fn check_certificate<'a>(
        &'a self,
        certificate: &'a ClientCertificate,
        headers: &'a HeaderMap,
    ) -> BoxFuture<'a, Result<Arc<Credentials>>> {
        let _ = (certificate, headers);
        Box::pin(std::future::ready(Err(Error::unauthenticated())))
    }
}

/// One request's context. Clones share everything.
#[derive(Clone)]
pub struct Ctx {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub request_id: String,
    pub service: &'static str,
    pub style: Style,
    pub base_url: String,
    pub version: Option<Microversion>,
    pub arrival: Arrival,
    pub method: Method,
    pub path: String,
    pub token: Option<String>,
    /// Of a client that showed one and sent no token: with the headers that name its scope.
    pub certificate: Option<(ClientCertificate, HeaderMap)>,
    pub token_check: Arc<dyn TokenCheck>,
    pub policy: Arc<Enforcer>,
    pub credentials: OnceLock<Arc<Credentials>>,
    pub decided: AtomicBool,
    /// Who asked, where no token says it: for the audit trail.
    pub asking: OnceLock<String>,
    /// Kept in the audit trail though it only reads.
    pub audited: AtomicBool,
    /// Of the route that answers.
    pub meter: OnceLock<Arc<Histogram>>,
}

impl fmt::Debug for Ctx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ctx").field("request.id", &self.inner.request_id).finish_non_exhaustive()
    }
}

impl Ctx {
    pub(crate) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.inner.request_id
    }

    #[must_use]
    pub fn arrival(&self) -> Arrival {
        self.inner.arrival
    }

    /// The service's root as the client sees it, without a slash at its end: `https://cloud/compute`.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.inner.base_url
    }

    /// An absolute link: `ctx.url("/v2.1/servers/x")`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.inner.base_url)
    }

    /// The path of this request below the service's root.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.inner.path
    }

    /// The negotiated microversion; `0.0` for services without them.
    #[must_use]
    pub fn version(&self) -> Microversion {
        self.inner.version.unwrap_or(Microversion(0, 0))
    }

    /// Whether the request's microversion is at least `major.minor`.
    #[must_use]
    pub fn since(&self, major: u16, minor: u16) -> bool {
        self.version() >= Microversion(major, minor)
    }

    /// The raw token of the request, for Identity's own use.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.inner.token.as_deref()
    }

    /// Checks the token (once). Routes that are not public have done so before the handler runs.
    ///
    /// # Errors
    /// 401 without a good token.
    pub async fn authenticate(&self) -> Result<&Credentials> {
        if let Some(known) = self.inner.credentials.get() {
            return Ok(known);
        }
        let line = RequestLine { service: self.inner.service, method: &self.inner.method, path: &self.inner.path };
        let credentials = match (&self.inner.token, &self.inner.certificate) {
            (Some(token), _) => self.inner.token_check.check(token, line).await?,
            // As upstream has it: only Identity does without tokens.
            (None, Some((certificate, headers))) if line.service == "identity" => {
                self.inner.token_check.check_certificate(certificate, headers).await?
            }
            (None, _) => return Err(Error::unauthenticated()),
        };
        Ok(self.inner.credentials.get_or_init(|| credentials))
    }

    /// Who asks.
    ///
    /// # Errors
    /// 401 on a public route when nobody authenticated.
    pub fn creds(&self) -> Result<&Credentials> {
        self.inner.credentials.get().map(Arc::as_ref).ok_or_else(Error::unauthenticated)
    }

    /// Tells the audit trail who asks, where that is not in a token: who authenticates.
    pub fn asked_by(&self, user_id: &str) {
        let _ = self.inner.asking.set(user_id.to_owned());
    }

    /// Puts this request into the audit trail though its method only reads: an authentication by GET.
    pub fn audit(&self) {
        self.inner.audited.store(true, Ordering::Relaxed);
    }

    /// [`Ctx::creds`] where their absence is an answer.
    #[must_use]
    pub fn creds_if_any(&self) -> Option<&Arc<Credentials>> {
        self.inner.credentials.get()
    }

    /// The project that the token is scoped to.
    ///
    /// # Errors
    /// 403 for a token of another scope.
    pub fn project_id(&self) -> Result<&str> {
        self.creds()?.project_id().ok_or_else(|| {
            self.decide();
            Error::forbidden("This call needs a token that is scoped to a project.")
        })
    }

    #[must_use]
    pub fn user_id(&self) -> Option<&str> {
        self.inner.credentials.get().map(|creds| creds.user.id.as_str())
    }

    /// Asks policy, and fails in the service's words.
    ///
    /// # Errors
    /// 403 when refused, 401 when nobody authenticated.
    pub fn allow(&self, rule: Rule, target: &Target) -> Result<()> {
        if self.may(rule, target)? { Ok(()) } else { Err(self.inner.style.refusal(rule.name)) }
    }

    /// Asks policy where a refusal means that the caller may not know the thing exists.
    ///
    /// # Errors
    /// `hidden` when refused, 401 when nobody authenticated.
    pub fn allow_or(&self, rule: Rule, target: &Target, hidden: impl FnOnce() -> Error) -> Result<()> {
        if self.may(rule, target)? { Ok(()) } else { Err(hidden()) }
    }

    /// Asks policy where both answers are fine (an extra field, another project's rows).
    ///
    /// # Errors
    /// 401 when nobody authenticated.
    pub fn may(&self, rule: Rule, target: &Target) -> Result<bool> {
        let creds = self.creds()?;
        self.decide();
        if self.inner.style.is_of_projects() && matches!(creds.scope, Scope::System | Scope::Domain(_)) {
            return Ok(false);
        }
        Ok(self.inner.policy.allows(rule.name, &creds.view, target))
    }

    /// Records that the handler decided by other means than a rule (its own data, an object that carries its owner).
    pub fn decide(&self) {
        self.inner.decided.store(true, Ordering::Relaxed);
    }

    /// Which route it is, for counting.
    pub(crate) fn found(&self, meter: &Arc<Histogram>) {
        let _ = self.inner.meter.set(Arc::clone(meter));
    }

    pub(crate) fn decided(&self) -> bool {
        self.inner.decided.load(Ordering::Relaxed)
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }
}

impl<S: Sync> FromRequestParts<S> for Ctx {
    type Rejection = Infallible;

    /// # Panics
    /// When a service is mounted without the gateway, which is a mistake of the wiring.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> std::result::Result<Self, Infallible> {
        match parts.extensions.get::<Self>() {
            Some(ctx) => Ok(ctx.clone()),
            None => unreachable!("every service is mounted behind the gateway, which makes the context"),
        }
    }
}

/// A policy target from pairs: `target(&[("project_id", id)])`.
#[must_use]
pub fn target(pairs: &[(&str, &str)]) -> Target {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect()
}

//! The body of `POST /v3/auth/tokens`. API reference: Identity v3, "Authentication and token management".

use rest::{Error, Result};
use serde_json::{Map, Value};

use crate::{
    errors::{expecting, invalid},
    fields::{Fields, NAME_MAX},
};

/// More methods than exist in one request are a mistake or worse.
const METHODS_MAX: usize = 8;

/// A thing by id, or by name where names are unique.
#[derive(Clone, Debug)]
pub(crate) enum DomainRef {
    Id(String),
    Name(String),
}

#[derive(Clone, Debug)]
pub(crate) enum Ref {
    Id(String),
    Name(String, DomainRef),
}

/// Never printed: it holds secrets.
pub(crate) enum Method {
    Password {
        user: Ref,
        password: String,
    },
    Token {
        id: String,
    },
    Totp {
        user: Ref,
        passcode: String,
    },
    /// The client's certificate.
    External,
    ApplicationCredential {
        id: Option<String>,
        name: Option<String>,
        user: Option<Ref>,
        secret: String,
    },
}

#[derive(Debug)]
pub(crate) enum ScopeRequest {
    /// The default project if there is one.
    Absent,
    Unscoped,
    Project(Ref),
    Domain(DomainRef),
    System,
    Trust(String),
}

pub(crate) struct Request {
    pub methods: Vec<Method>,
    pub scope: ScopeRequest,
}

impl Request {
    /// Who it says it is, where it says so.
    pub(crate) fn claimed_user(&self) -> Option<Ref> {
        self.methods.iter().find_map(|method| match method {
            Method::Password { user, .. } | Method::Totp { user, .. } => Some(user.clone()),
            Method::ApplicationCredential { user, .. } => user.clone(),
            Method::Token { .. } | Method::External => None,
        })
    }

    pub(crate) fn parse(body: Value) -> Result<Self> {
        let mut auth = Fields::open(body, "auth")?;
        let mut identity = Fields::of(auth.required_object("identity", "auth")?);
        let scope = scope(auth.take("scope"))?;
        let names = identity.array("methods")?.ok_or_else(|| expecting("methods", "identity"))?;
        if names.is_empty() || names.len() > METHODS_MAX {
            return Err(invalid("methods", "it must name at least one authentication method"));
        }
        let mut methods = Vec::with_capacity(names.len());
        let mut seen: Vec<String> = Vec::new();
        for name in names {
            let Value::String(name) = name else { return Err(invalid("methods", "every method must be a string")) };
            if seen.contains(&name) {
                continue;
            }
            if name == "external" {
                methods.push(Method::External);
                seen.push(name);
                continue;
            }
            if !matches!(name.as_str(), "password" | "token" | "totp" | "application_credential" | "mapped") {
                return Err(Error::new(
                    rest::Kind::Unauthenticated,
                    "Attempted to authenticate with an unsupported method.",
                ));
            }
            let data = Fields::of(identity.required_object(&name, "identity")?);
            methods.push(method(&name, data)?);
            seen.push(name);
        }
        Ok(Self { methods, scope })
    }
}

fn method(name: &str, mut data: Fields) -> Result<Method> {
    match name {
        "password" => {
            let mut user = Fields::of(data.required_object("user", "password")?);
            let password = user.required_text("password", usize::MAX, "user")?;
            Ok(Method::Password { user: reference(&mut user, "user")?, password })
        }
        "totp" => {
            let mut user = Fields::of(data.required_object("user", "totp")?);
            let passcode = user.required_text("passcode", NAME_MAX, "user")?;
            Ok(Method::Totp { user: reference(&mut user, "user")?, passcode })
        }
        // What an identity provider said is in the token that it led to.
        "token" | "mapped" => Ok(Method::Token { id: data.required_text("id", usize::MAX, name)? }),
        _ => {
            let secret = data.required_text("secret", usize::MAX, "application_credential")?;
            let id = data.text("id", NAME_MAX)?;
            let name = data.text("name", NAME_MAX)?;
            let user = match data.object("user")? {
                Some(user) => Some(reference(&mut Fields::of(user), "user")?),
                None => None,
            };
            if id.is_none() && (name.is_none() || user.is_none()) {
                return Err(expecting("id, or name and user", "application_credential"));
            }
            Ok(Method::ApplicationCredential { id, name, user, secret })
        }
    }
}

fn reference(fields: &mut Fields, noun: &str) -> Result<Ref> {
    if let Some(id) = fields.text("id", NAME_MAX)? {
        return Ok(Ref::Id(id));
    }
    let name = fields.text("name", NAME_MAX)?.ok_or_else(|| expecting("id or name", noun))?;
    let domain = fields.required_object("domain", noun)?;
    Ok(Ref::Name(name, domain_reference(domain)?))
}

fn domain_reference(domain: Map<String, Value>) -> Result<DomainRef> {
    let mut domain = Fields::of(domain);
    if let Some(id) = domain.text("id", NAME_MAX)? {
        return Ok(DomainRef::Id(id));
    }
    Ok(DomainRef::Name(domain.text("name", NAME_MAX)?.ok_or_else(|| expecting("id or name", "domain"))?))
}

fn scope(scope: Option<Value>) -> Result<ScopeRequest> {
    let scope = match scope {
        None | Some(Value::Null) => return Ok(ScopeRequest::Absent),
        Some(Value::String(word)) if word == "unscoped" => return Ok(ScopeRequest::Unscoped),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(invalid("scope", "it must be an object or \"unscoped\"")),
    };
    let kinds = ["project", "domain", "system", "unscoped", "OS-TRUST:trust"];
    let named: Vec<&str> = kinds.into_iter().filter(|kind| scope.contains_key(*kind)).collect();
    let mut scope = Fields::of(scope);
    match named.as_slice() {
        ["project"] => Ok(ScopeRequest::Project(reference(
            &mut Fields::of(scope.required_object("project", "scope")?),
            "project",
        )?)),
        ["domain"] => Ok(ScopeRequest::Domain(domain_reference(scope.required_object("domain", "scope")?)?)),
        ["system"] => {
            let mut system = Fields::of(scope.required_object("system", "scope")?);
            match system.boolean("all")? {
                Some(true) => Ok(ScopeRequest::System),
                _ => Err(expecting("all", "system")),
            }
        }
        ["unscoped"] => Ok(ScopeRequest::Unscoped),
        ["OS-TRUST:trust"] => {
            let mut trust = Fields::of(scope.required_object("OS-TRUST:trust", "scope")?);
            Ok(ScopeRequest::Trust(trust.required_text("id", NAME_MAX, "OS-TRUST:trust")?))
        }
        [] => Err(expecting("project, domain or system", "scope")),
        _ => Err(invalid("scope", "it must name exactly one of project, domain and system")),
    }
}

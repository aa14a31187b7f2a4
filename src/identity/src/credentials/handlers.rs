//! `/v3/credentials`

use axum::extract::{Path, State};
use policy::Target;
use rest::{Ctx, Error, Params, RawJson, Reply, Result, target};
use serde_json::{Value, json};

use super::{
    policy as rules,
    store::{self, Credential},
};
use crate::{
    App,
    errors::{duplicate_entry, expecting, invalid, not_found, refused},
    fernet,
    fields::{Fields, ID_MAX, NAME_MAX, merge},
    listing::{self, SelfLink},
    projects, users,
};

/// The longest secret kept here.
const BLOB_MAX: usize = 65_535;

pub(crate) fn not_delegated(ctx: &Ctx) -> Result<()> {
    let delegation = &ctx.creds()?.delegation;
    if delegation.application_credential_id.is_some() || delegation.trust_id.is_some() {
        return Err(refused("credentials cannot be managed with a delegated token"));
    }
    Ok(())
}

pub(crate) fn owner(user_id: &str) -> Target {
    target(&[("target.credential.user_id", user_id)])
}

pub(crate) fn owner_of(found: Option<&Credential>) -> Target {
    found.map_or_else(|| target(&[]), |credential| owner(&credential.user_id))
}

/// The id of an EC2 credential is the hash of its access key, as upstream has it.
pub(crate) fn ec2_id(access: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, access.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl App {
    pub(crate) fn seal_blob(&self, blob: &str) -> Result<String> {
        self.secrets.seal(u64::try_from(self.now_s()).unwrap_or(0), blob.as_bytes())
    }

    pub(crate) fn open_blob(&self, sealed: &str) -> Result<String> {
        let bytes = self.secrets.unseal_long(sealed).ok_or_else(|| {
            Error::internal("a credential cannot be decrypted: the key that encrypted it is not in the repository")
        })?;
        String::from_utf8(bytes).map_err(Error::internal)
    }
}

fn view(app: &App, ctx: &Ctx, c: &Credential) -> Result<Value> {
    let mut view = json!({
        "id": c.id,
        "user_id": c.user_id,
        "project_id": c.project_id,
        "type": c.kind,
        "blob": app.open_blob(&c.blob)?,
        "links": SelfLink::new(ctx, "/credentials", &c.id),
    });
    for (name, value) in &c.extra {
        if view.get(name).is_none() {
            view[name.as_str()] = value.clone();
        }
    }
    Ok(view)
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, mut params: Params) -> Result<Reply> {
    let asked = params.clone();
    let own = ctx.creds()?.user.id.clone();
    ctx.allow(rules::LIST, &owner(&own))?;
    not_delegated(&ctx)?;
    let page = store::LIST.page(&mut params)?;
    app.db
        .read({
            let app = app.clone();
            move |tx| {
                let listing = page.fetch(tx, store::credential)?;
                let mut views = Vec::new();
                for credential in &listing.rows {
                    if ctx.may(rules::GET, &owner(&credential.user_id))? {
                        views.push(view(&app, &ctx, credential)?);
                    }
                }
                let next = listing.next_link(&ctx, &asked, |credential| &credential.id);
                Ok(listing::page_of(&ctx, &asked, "credentials", &views, next))
            }
        })
        .await
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    let found = app.db.read_blocking(|tx| store::find(tx, &id))?;
    ctx.allow(rules::GET, &owner_of(found.as_ref()))?;
    not_delegated(&ctx)?;
    let credential = found.ok_or_else(|| not_found("credential", &id))?;
    Ok(Reply::ok(&json!({"credential": view(&app, &ctx, &credential)?})))
}

/// The blob as text: clients send it as a string, some as an object.
fn blob(fields: &mut Fields) -> Result<Option<String>> {
    let text = match fields.take("blob") {
        None => return Ok(None),
        Some(Value::String(text)) => text,
        Some(value @ Value::Object(_)) => value.to_string(),
        Some(_) => return Err(invalid("blob", "it must be a string")),
    };
    if text.len() > BLOB_MAX {
        return Err(invalid("blob", format_args!("it is longer than {BLOB_MAX} bytes")));
    }
    Ok(Some(text))
}

/// The access key in an EC2 credential's blob.
fn access_key(blob: &str) -> Result<String> {
    let bad = || invalid("blob", "an EC2 credential is a JSON object with access and secret");
    let value: Value = serde_json::from_str(blob).map_err(|_| bad())?;
    if !value["secret"].is_string() {
        return Err(bad());
    }
    value["access"].as_str().map(str::to_owned).ok_or_else(bad)
}

pub(crate) async fn create(State(app): State<App>, ctx: Ctx, RawJson(body): RawJson) -> Result<Reply> {
    let mut fields = Fields::open(body, "credential")?;
    let own = ctx.creds()?.user.id.clone();
    let user_id = fields.nullable("user_id", ID_MAX)?.flatten().unwrap_or(own);
    ctx.allow(rules::CREATE, &owner(&user_id))?;
    not_delegated(&ctx)?;
    let kind = fields.required_name("type", NAME_MAX, "credential")?;
    let plain = blob(&mut fields)?.ok_or_else(|| expecting("blob", "credential"))?;
    let project_id = fields.nullable("project_id", ID_MAX)?.flatten();
    let id = if kind == "ec2" {
        if project_id.is_none() {
            return Err(expecting("project_id", "credential"));
        }
        ec2_id(&access_key(&plain)?)
    } else {
        rest::new_hex_id()
    };
    let sealed = app.seal_blob(&plain)?;
    let credential = Credential { id, user_id, project_id, kind, blob: sealed, extra: fields.into_extra() };
    let view = view(&app, &ctx, &credential)?;
    app.db
        .write(move |tx| {
            users::store::find(tx, &credential.user_id)?
                .ok_or_else(|| Error::bad_request(format!("Could not find user: {}.", credential.user_id)))?;
            check_project(tx, credential.project_id.as_deref())?;
            if store::find(tx, &credential.id)?.is_some() {
                return Err(duplicate_entry("credential"));
            }
            store::insert(tx, &credential)?;
            Ok(Reply::created(&json!({ "credential": view })))
        })
        .await
}

fn check_project(tx: &db::Tx<'_>, id: Option<&str>) -> Result<()> {
    match id {
        Some(id) if projects::store::find(tx, id)?.is_none() => {
            Err(Error::bad_request(format!("Could not find project: {id}.")))
        }
        _ => Ok(()),
    }
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    app.db
        .write({
            let app = app.clone();
            move |tx| {
                let found = store::find(tx, &id)?;
                ctx.allow(rules::UPDATE, &owner_of(found.as_ref()))?;
                not_delegated(&ctx)?;
                let mut credential = found.ok_or_else(|| not_found("credential", &id))?;
                let mut fields = Fields::open(body, "credential")?.some("credential")?;
                fields.same_id(&id)?;
                fields.unchanged("user_id", Some(&credential.user_id))?;
                let before = app.open_blob(&credential.blob)?;
                if let Some(kind) = fields.name("type", NAME_MAX)? {
                    credential.kind = kind;
                }
                if let Some(project_id) = fields.nullable("project_id", ID_MAX)? {
                    check_project(tx, project_id.as_deref())?;
                    credential.project_id = project_id;
                }
                let after = blob(&mut fields)?.unwrap_or(before);
                if credential.kind == "ec2" {
                    access_key(&after)?;
                    if credential.project_id.is_none() {
                        return Err(expecting("project_id", "credential"));
                    }
                }
                credential.blob = app.seal_blob(&after)?;
                merge(&mut credential.extra, fields.into_extra(), false);
                store::update(tx, &credential)?;
                Ok(Reply::ok(&json!({"credential": view(&app, &ctx, &credential)?})))
            }
        })
        .await
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    app.db
        .write(move |tx| {
            let found = store::find(tx, &id)?;
            ctx.allow(rules::DELETE, &owner_of(found.as_ref()))?;
            not_delegated(&ctx)?;
            found.ok_or_else(|| not_found("credential", &id))?;
            store::delete(tx, &id)?;
            Ok(Reply::no_content())
        })
        .await
}

/// A new access or secret key.
pub(crate) fn new_key() -> Result<String> {
    let bytes: [u8; 16] = fernet::random().ok_or_else(|| Error::internal("no random numbers"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

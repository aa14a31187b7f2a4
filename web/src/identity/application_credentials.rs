//! Application credentials: `/application-credentials`. They act for who made them, in the project they were made in.

use std::collections::BTreeMap;

use askama::Template;
use axum::{
    Router,
    response::Response,
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Reference;
use crate::{
    Dashboard,
    api::{Service, encoded},
    failure::{Failure, Result},
    form::Fields,
    frame::Frame,
    session::{Flash, Scope},
    visit::Visit,
};

pub(super) fn routes() -> Router<Dashboard> {
    Router::new()
        .route("/application-credentials", get(index))
        .route("/application-credentials/new", get(form).post(create))
        .route("/application-credentials/delete", post(delete))
}

#[derive(Clone, Debug, Deserialize)]
struct Credential {
    id: String,
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    project_id: Option<String>,
    expires_at: Option<String>,
    #[serde(default)]
    unrestricted: bool,
    #[serde(default)]
    roles: Vec<Reference>,
    #[serde(default)]
    access_rules: Vec<AccessRule>,
    /// Only when it was made a moment ago.
    secret: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct AccessRule {
    service: String,
    method: String,
    path: String,
}

#[derive(Deserialize)]
struct Credentials {
    application_credentials: Vec<Credential>,
}

fn root(visit: &Visit) -> Result<String> {
    Ok(format!("/users/{}/application_credentials", encoded(&visit.session()?.user.id)))
}

#[derive(Template)]
#[template(path = "identity/application_credentials.html")]
struct Index {
    frame: Frame,
    credentials: Vec<Credential>,
    here: String,
}

/// `GET /application-credentials`.
async fn index(visit: Visit) -> Result<Response> {
    let found: Credentials = visit.api.get(Service::Identity, &root(&visit)?).await?;
    let frame = visit.frame("/application-credentials", visit.words().t("Application credentials")).live();
    let here = project(&visit)?.map(|project| project.id).unwrap_or_default();
    visit.page(&Index { frame, credentials: found.application_credentials, here })
}

fn project(visit: &Visit) -> Result<Option<crate::session::Named>> {
    Ok(match &visit.session()?.scope {
        Scope::Project { project, .. } => Some(project.clone()),
        _ => None,
    })
}

#[derive(Template)]
#[template(path = "identity/application_credential.html")]
struct New {
    frame: Frame,
    fields: Fields,
    roles: Vec<String>,
    project: String,
}

fn page(visit: &Visit, fields: Fields) -> Result<New> {
    let session = visit.session()?;
    let project = project(visit)?.map(|project| project.name).unwrap_or_default();
    let frame = visit.frame("/application-credentials", visit.words().t("New application credential"));
    Ok(New { frame, fields, roles: session.roles.clone(), project })
}

/// `GET /application-credentials/new`.
async fn form(visit: Visit) -> Result<Response> {
    let mut fields = Fields::default();
    // Everything that is one's own there, unless one takes something away.
    for role in &visit.session()?.roles {
        fields.push("role", role.clone());
    }
    visit.page(&page(&visit, fields)?)
}

#[derive(Template)]
#[template(path = "identity/application_credential_made.html")]
struct Made {
    frame: Frame,
    credential: Credential,
    secret: String,
    clouds: String,
    shell: String,
}

/// `POST /application-credentials/new`: the page that answers is the only one that ever shows the secret.
async fn create(visit: Visit, fields: Fields) -> Result<Response> {
    let made = async {
        let body = body(&visit, &fields)?;
        let body = json!({"application_credential": body});
        let mut made = visit.api.post(Service::Identity, &root(&visit)?, &body).await?;
        let credential: Credential =
            serde_json::from_value(made["application_credential"].take()).map_err(Failure::internal)?;
        Ok::<_, Failure>(credential)
    };
    match made.await {
        Ok(credential) => {
            let secret = credential.secret.clone().unwrap_or_default();
            let (clouds, shell) = snippets(&visit, &credential.id, &secret);
            let frame = visit.frame("/application-credentials", credential.name.clone());
            visit.page(&Made { frame, credential, secret, clouds, shell })
        }
        Err(failure) if failure.is_users() => {
            let mut page = page(&visit, fields)?;
            page.frame = page.frame.with_problem(&failure);
            visit.again(&failure, &page)
        }
        Err(failure) => Err(failure),
    }
}

fn body(visit: &Visit, fields: &Fields) -> Result<BTreeMap<&'static str, Value>> {
    let mut body = BTreeMap::from([
        ("name", Value::from(fields.get("name"))),
        ("description", Value::from(fields.get("description"))),
        ("unrestricted", Value::from(fields.on("unrestricted"))),
    ]);
    let roles: Vec<Value> = fields.all("role").into_iter().map(|name| json!({"name": name})).collect();
    if roles.is_empty() {
        return Err(Failure::bad_request(visit.words().t("Choose a role: without any it could do nothing.")));
    }
    body.insert("roles", roles.into());
    if fields.on("expires_at") {
        // Of the form `2026-01-02T03:04`, and UTC as the form says.
        let text = fields.get("expires_at");
        body.insert("expires_at", if text.len() == 16 { format!("{text}:00").into() } else { text.into() });
    }
    let rules = rules(fields.raw("access_rules"))?;
    if !rules.is_empty() {
        body.insert("access_rules", rules.into());
    }
    Ok(body)
}

/// Lines of `METHOD service path`.
fn rules(text: &str) -> Result<Vec<Value>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            [method, service, path] => Ok(json!({"method": method.to_uppercase(), "service": service, "path": path})),
            _ => Err(Failure::bad_request(format!("{line:?} is no line of the kind GET compute /v2.1/servers."))),
        })
        .collect()
}

/// `clouds.yaml`, and lines for a shell. Ids and secrets of the service need no quoting; JSON strings are YAML as well.
fn snippets(visit: &Visit, id: &str, secret: &str) -> (String, String) {
    let url = format!("https://{}/identity/v3", visit.api.authority);
    let region = visit.seen().frame("", "").region;
    let (id, secret) = (Value::from(id), Value::from(secret));
    let clouds = format!(
        "clouds:\n  solostack:\n    auth_type: v3applicationcredential\n    auth:\n      auth_url: {url}\n      \
         application_credential_id: {id}\n      application_credential_secret: {secret}\n    region_name: {}\n    \
         interface: public\n    identity_api_version: 3\n    cacert: solostack-ca.crt\n",
        Value::from(region.clone())
    );
    let quoted = |value: &Value| format!("'{}'", value.as_str().unwrap_or_default().replace('\'', "'\\''"));
    let shell = format!(
        "export OS_AUTH_TYPE=v3applicationcredential\nexport OS_AUTH_URL={url}\nexport OS_IDENTITY_API_VERSION=3\n\
         export OS_REGION_NAME={}\nexport OS_INTERFACE=public\nexport OS_APPLICATION_CREDENTIAL_ID={}\n\
         export OS_APPLICATION_CREDENTIAL_SECRET={}\nexport OS_CACERT=solostack-ca.crt\n",
        quoted(&Value::from(region)),
        quoted(&id),
        quoted(&secret)
    );
    (clouds, shell)
}

/// `POST /application-credentials/delete`: each `id`.
async fn delete(visit: Visit, form: Fields) -> Result<Response> {
    let (mut done, mut refused) = (0, Vec::new());
    for id in form.all("id") {
        match visit.api.delete(Service::Identity, &format!("{}/{}", root(&visit)?, encoded(id))).await {
            Ok(()) => done += 1,
            Err(failure) if failure.is_users() => refused.push(format!("{id}: {}", failure.line())),
            Err(failure) => return Err(failure),
        }
    }
    let text = visit.words().fill("{} done, {} refused", &[&done, &refused.len()]);
    visit.leave("/application-credentials", Flash { good: refused.is_empty(), text, rows: refused }).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_rules_are_three_words_in_a_line() {
        let found = rules("get compute /v2.1/servers\n\n POST  network  /v2.0/ports ").unwrap();
        assert_eq!(found[0], json!({"method": "GET", "service": "compute", "path": "/v2.1/servers"}));
        assert_eq!(found.len(), 2);
        assert!(rules("GET compute").is_err());
    }
}

//! API access: what the tools need to work as this user in this project, to be copied or saved. No password stands in it.

use askama::Template;
use axum::{
    Router,
    extract::Path,
    response::{IntoResponse, Response},
    routing::get,
};
use http::header;
use serde::Deserialize;

use crate::{
    Dashboard,
    api::Service,
    failure::{Failure, Result},
    frame::Frame,
    session::{Named, Scope, Session},
    visit::Visit,
};

pub(crate) fn routes() -> Router<Dashboard> {
    Router::new().route("/access", get(show)).route("/access/{file}", get(file))
}

/// A word of the shell that expands to nothing.
fn shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A string of YAML and of JSON, with what could hide or break a line as an escape.
fn yaml(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\u{85}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            _ if letter.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            _ => out.push(letter),
        }
    }
    out + "\""
}

/// A string of HCL in which nothing is a template.
fn hcl(text: &str) -> String {
    yaml(text).replace("${", "$${").replace("%{", "%%{")
}

/// What every file is made of.
struct Facts {
    auth_url: String,
    region: String,
    user: Named,
    user_domain: Named,
    scope: Scope,
}

impl Facts {
    fn of(visit: &Visit, frame: &Frame) -> Result<Self> {
        let Session { user, user_domain, scope, .. } = visit.session()?;
        Ok(Self {
            auth_url: format!("https://{}/identity/v3", visit.api.authority),
            region: frame.region.clone(),
            user: user.clone(),
            user_domain: user_domain.clone(),
            scope: scope.clone(),
        })
    }

    /// Lines that name the scope, in the words of `clouds.yaml`.
    fn scope_lines(&self) -> Vec<(&'static str, &str)> {
        match &self.scope {
            Scope::Project { project, domain } => {
                vec![("project_name", &project.name), ("project_domain_name", &domain.name)]
            }
            Scope::Domain(domain) => vec![("domain_name", &domain.name)],
            Scope::System => vec![("system_scope", "all")],
            Scope::Unscoped => Vec::new(),
        }
    }

    /// The password is asked for.
    fn clouds(&self) -> String {
        let mut text = format!("clouds:\n  solostack:\n    auth:\n      auth_url: {}\n", yaml(&self.auth_url));
        let mut lines = vec![("username", self.user.name.as_str()), ("user_domain_name", &self.user_domain.name)];
        lines.extend(self.scope_lines());
        for (key, value) in lines {
            text.push_str(&format!("      {key}: {}\n", yaml(value)));
        }
        text + &self.rest()
    }

    fn rest(&self) -> String {
        let region = yaml(&self.region);
        format!("    region_name: {region}\n    interface: public\n    identity_api_version: 3\n    cacert: ca.crt\n")
    }

    fn credential(&self) -> String {
        format!(
            "clouds:\n  solostack:\n    auth_type: v3applicationcredential\n    auth:\n      auth_url: {}\n      \
             application_credential_id: \"ID\"\n      application_credential_secret: \"SECRET\"\n{}",
            yaml(&self.auth_url),
            self.rest()
        )
    }

    fn openrc(&self) -> String {
        let mut text = String::from("# For `source`: asks for the password, and keeps it in this shell alone.\n");
        text.push_str("unset OS_CLOUD OS_PROJECT_NAME OS_PROJECT_DOMAIN_NAME OS_DOMAIN_NAME OS_SYSTEM_SCOPE\n");
        let mut lines = vec![
            ("AUTH_URL", self.auth_url.as_str()),
            ("IDENTITY_API_VERSION", "3"),
            ("AUTH_TYPE", "password"),
            ("USERNAME", &self.user.name),
            ("USER_DOMAIN_NAME", &self.user_domain.name),
        ];
        let scope = self.scope_lines();
        let scope: Vec<(String, &str)> = scope.into_iter().map(|(key, value)| (key.to_uppercase(), value)).collect();
        lines.extend(scope.iter().map(|(key, value)| (key.as_str(), *value)));
        lines.extend([("REGION_NAME", self.region.as_str()), ("INTERFACE", "public"), ("CACERT", "ca.crt")]);
        for (key, value) in lines {
            text.push_str(&format!("export OS_{key}={}\n", shell(value)));
        }
        text + "printf 'Password: ' && read -rs OS_PASSWORD && export OS_PASSWORD && echo\n"
    }

    fn curl(&self) -> String {
        let user = format!(
            r#"{{"name": {}, "domain": {{"name": {}}}, "password": "PASSWORD"}}"#,
            yaml(&self.user.name),
            yaml(&self.user_domain.name)
        );
        let scope = match &self.scope {
            Scope::Project { project, .. } => format!(r#", "scope": {{"project": {{"id": {}}}}}"#, yaml(&project.id)),
            Scope::Domain(domain) => format!(r#", "scope": {{"domain": {{"id": {}}}}}"#, yaml(&domain.id)),
            Scope::System => r#", "scope": {"system": {"all": true}}"#.to_owned(),
            Scope::Unscoped => String::new(),
        };
        let body = format!(
            r#"{{"auth": {{"identity": {{"methods": ["password"], "password": {{"user": {user}}}}}{scope}}}}}"#
        );
        format!(
            "curl --cacert ca.crt -i {} \\\n  -H 'Content-Type: application/json' \\\n  -d {}\n",
            shell(&format!("{}/auth/tokens", self.auth_url)),
            shell(&body)
        )
    }

    fn terraform(&self) -> String {
        let mut text = String::from(
            "terraform {\n  required_providers {\n    openstack = {\n      source = \"terraform-provider-openstack/openstack\"\n    \
             }\n  }\n}\n\n# The secret comes from OS_APPLICATION_CREDENTIAL_SECRET.\nprovider \"openstack\" {\n",
        );
        for (key, value) in [
            ("auth_url", self.auth_url.as_str()),
            ("region", &self.region),
            ("application_credential_id", "ID"),
            ("cacert_file", "ca.crt"),
        ] {
            text.push_str(&format!("  {key:<25} = {}\n", hcl(value)));
        }
        text + "}\n"
    }

    fn files(&self) -> Vec<Snippet> {
        let snippet = |title, name, text| Snippet { title, name, text };
        vec![
            snippet("clouds.yaml", "clouds.yaml", self.clouds()),
            snippet("openrc", "openrc.sh", self.openrc()),
            snippet("clouds.yaml (application credential)", "clouds-credential.yaml", self.credential()),
            snippet("Terraform", "provider.tf", self.terraform()),
            snippet("curl", "token.sh", self.curl()),
        ]
    }
}

/// A file to save or copy.
struct Snippet {
    title: &'static str,
    name: &'static str,
    text: String,
}

#[derive(Default, Deserialize)]
struct Catalog {
    #[serde(default)]
    catalog: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    interface: String,
    region: String,
    url: String,
}

#[derive(Template)]
#[template(path = "access/index.html")]
struct Page {
    frame: Frame,
    snippets: Vec<Snippet>,
    catalog: Vec<Entry>,
    user_id: String,
    project_id: String,
}

/// `GET /access`.
async fn show(visit: Visit) -> Result<Response> {
    let frame = visit.frame("", visit.words().t("API access"));
    let facts = Facts::of(&visit, &frame)?;
    let catalog: Catalog = visit.api.find(Service::Identity, "/auth/catalog").await?.unwrap_or_default();
    let project_id = visit.session()?.project_id().unwrap_or_default().to_owned();
    let user_id = facts.user.id.clone();
    visit.page(&Page { frame, snippets: facts.files(), catalog: catalog.catalog, user_id, project_id })
}

/// `GET /access/<file>`.
async fn file(visit: Visit, Path(name): Path<String>) -> Result<Response> {
    let facts = Facts::of(&visit, &visit.frame("", ""))?;
    let found = facts.files().into_iter().find(|file| file.name == name);
    let found = found.ok_or_else(|| Failure::not_found("There is no such file."))?;
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{}\"", found.name)),
    ];
    Ok((headers, found.text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a'b\"c\\d\n${x}%{y}`id`$(id)\u{202e}\u{1f4a5}";

    #[test]
    fn hostile_names_stay_one_string_of_every_tool() {
        assert_eq!(shell("it's $(id)"), r"'it'\''s $(id)'");
        assert_eq!(yaml(HOSTILE), r#""a'b\"c\\d\u000a${x}%{y}`id`$(id)\u202e💥""#);
        assert_eq!(hcl("${x} %{y}"), r#""$${x} %%{y}""#);
        let named = |name: &str| Named { id: "x".into(), name: name.into() };
        let facts = Facts {
            auth_url: "https://cloud.test/identity/v3".into(),
            region: "RegionOne".into(),
            user: named(HOSTILE),
            user_domain: named("Default"),
            scope: Scope::Project { project: named(HOSTILE), domain: named("Default") },
        };
        let lines = facts.clouds().lines().count();
        assert_eq!(lines, 12, "a name adds no line: {}", facts.clouds());
        let body = facts.curl();
        let body = body.split_once("-d '").unwrap().1.trim_end().trim_end_matches('\'').replace("'\\''", "'");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["auth"]["identity"]["password"]["user"]["name"], HOSTILE);
        for file in facts.files() {
            assert!(!file.text.to_lowercase().contains("password: \""), "{}", file.text);
        }
    }

    #[test]
    fn the_shell_takes_an_openrc_for_what_it_says() {
        let named = |name: &str| Named { id: "x".into(), name: name.into() };
        let facts = Facts {
            auth_url: "https://cloud.test/identity/v3".into(),
            region: "R".into(),
            user: named("a'b $(id) `id`"),
            user_domain: named("Default"),
            scope: Scope::System,
        };
        let script = format!("{}\nprintf %s \"$OS_USERNAME|$OS_SYSTEM_SCOPE|$OS_PASSWORD\"", facts.openrc());
        let mut child = std::process::Command::new("bash")
            .args(["-c", &script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"secret\n").unwrap();
        let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        assert!(said.ends_with("a'b $(id) `id`|all|secret"), "{said}");
    }
}

//! Roles of users and groups on projects, domains and the system.

use axum::response::Response;
use http::Method;
use serde::Deserialize;

use super::{Reference, Thing, find_things, id_of};
use crate::{
    api::{Service, encoded},
    failure::{Failure, Result},
    form::Fields,
    visit::Visit,
};

/// One assignment, with names where they may be known.
#[derive(Clone, Debug, Deserialize)]
pub struct Assignment {
    pub role: Reference,
    pub user: Option<Reference>,
    pub group: Option<Reference>,
    pub scope: Place,
    #[serde(default)]
    pub links: Links,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Place {
    pub project: Option<Reference>,
    pub domain: Option<Reference>,
    #[serde(rename = "OS-INHERIT:inherited_to")]
    pub inherited_to: Option<String>,
}

/// By which way a role has come to somebody.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Links {
    #[serde(default)]
    pub assignment: Option<String>,
    #[serde(default)]
    pub membership: Option<String>,
    #[serde(default)]
    pub prior_role: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
pub struct Assignments {
    pub role_assignments: Vec<Assignment>,
}

/// What a card of assignments shows, and its form.
pub struct Card {
    pub assignments: Vec<Assignment>,
    /// Of whom, or where, these are: as [`act`] takes it. The other side stands in the form.
    pub target: Option<String>,
    pub who: Option<String>,
    pub roles: Vec<Thing>,
    pub back: String,
    /// Why they are not to be seen.
    pub hidden: Option<Failure>,
}

impl Assignment {
    /// `user:<id>` or `group:<id>`.
    #[must_use]
    pub fn who(&self) -> String {
        match (&self.user, &self.group) {
            (Some(user), _) => format!("user:{}", user.id),
            (None, Some(group)) => format!("group:{}", group.id),
            (None, None) => String::new(),
        }
    }

    /// `project:<id>`, `domain:<id>` or `system`.
    #[must_use]
    pub fn target(&self) -> String {
        match (&self.scope.project, &self.scope.domain) {
            (Some(project), _) => format!("project:{}", project.id),
            (None, Some(domain)) => format!("domain:{}", domain.id),
            (None, None) => "system".to_owned(),
        }
    }
}

impl Card {
    /// The assignments that `query` names, and what is needed to change them.
    pub(super) async fn of(
        visit: &Visit,
        query: &str,
        target: Option<String>,
        who: Option<String>,
        back: &str,
    ) -> Result<Self> {
        let path = format!("/role_assignments?include_names=true&{query}");
        let (found, hidden) = match visit.api.get::<Assignments>(Service::Identity, &path).await {
            Ok(found) => (found, None),
            Err(failure) if failure.is_forbidden() => (Assignments::default(), Some(failure)),
            Err(failure) => return Err(failure),
        };
        let roles = find_things(visit, "/roles", "roles").await?;
        Ok(Self { assignments: found.role_assignments, target, who, roles, back: back.to_owned(), hidden })
    }
}

/// `POST /assignments`: `do` is `grant` or `revoke`; `who`, `target`, `role`, `inherited`; `back` is where it came from.
pub(super) async fn act(visit: Visit, form: Fields) -> Result<Response> {
    let words = visit.words();
    let back = form.get("back");
    let (method, text) = match form.get("do") {
        "grant" => (Method::PUT, words.t("The role is given.")),
        "revoke" => (Method::DELETE, words.t("The role is taken away.")),
        _ => return Err(Failure::bad_request(words.t("Choose what to do."))),
    };
    let result = match path(&visit, &form).await {
        Ok(path) => visit.api.send(method, Service::Identity, &path, None).await,
        Err(failure) => Err(failure),
    };
    visit.outcome(result, back, text).await
}

/// The path of the assignment. What people typed may be a name.
async fn path(visit: &Visit, form: &Fields) -> Result<String> {
    let words = visit.words();
    let who = match form.get("who").split_once(':') {
        Some(("user", id)) => format!("users/{}", encoded(id)),
        Some(("group", id)) => format!("groups/{}", encoded(id)),
        _ if form.get("kind") == "group" => {
            format!("groups/{}", encoded(&id_of(visit, "groups", form.get("name")).await?))
        }
        _ => format!("users/{}", encoded(&id_of(visit, "users", form.get("name")).await?)),
    };
    let at = match form.get("target").split_once(':') {
        Some(("project", id)) => format!("projects/{}", encoded(id)),
        Some(("domain", id)) => format!("domains/{}", encoded(id)),
        None if form.get("target") == "system" => "system".to_owned(),
        _ if form.get("place") == "system" => "system".to_owned(),
        _ if form.get("place") == "domain" => {
            format!("domains/{}", encoded(&id_of(visit, "domains", form.get("where")).await?))
        }
        _ => format!("projects/{}", encoded(&id_of(visit, "projects", form.get("where")).await?)),
    };
    let role = form.get("role");
    if role.is_empty() {
        return Err(Failure::bad_request(words.t("Choose a role.")));
    }
    let role = encoded(role);
    Ok(match form.on("inherited") && at != "system" {
        true => format!("/OS-INHERIT/{at}/{who}/roles/{role}/inherited_to_projects"),
        false => format!("/{at}/{who}/roles/{role}"),
    })
}

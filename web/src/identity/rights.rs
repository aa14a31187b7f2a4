//! Who may what, where, and by which way: `/rights`.

use std::collections::HashMap;

use askama::Template;
use axum::response::Response;

use super::{
    Thing,
    assignments::{Assignment, Assignments},
    find_things, id_of,
};
use crate::{
    api::{Service, encoded},
    failure::{Failure, Result},
    form::Fields,
    frame::Frame,
    visit::Visit,
};

/// What a page shows; a filter narrows what is more.
const ROWS_MAX: usize = 500;

struct Row {
    assignment: Assignment,
    /// By which way it came.
    ways: Vec<String>,
}

#[derive(Template)]
#[template(path = "identity/rights.html")]
struct Page {
    frame: Frame,
    filters: Fields,
    roles: Vec<Thing>,
    rows: Vec<Row>,
    cut: bool,
    problem: Option<Failure>,
}

/// `GET /rights?user=&project=&domain=&role=&system=&given=`: names or ids.
pub(super) async fn show(visit: Visit, filters: Fields) -> Result<Response> {
    let words = visit.words();
    let frame = visit.frame("/rights", words.t("Rights"));
    let roles = find_things(&visit, "/roles", "roles").await?;
    let groups = find_things(&visit, "/groups", "groups").await?;
    let (found, problem) = match ask(&visit, &filters).await {
        Ok(found) => (found.role_assignments, None),
        Err(failure) if failure.is_users() && !failure.is_forbidden() => (Vec::new(), Some(failure)),
        Err(failure) => return Err(failure),
    };
    let names: HashMap<&str, &str> =
        roles.iter().chain(&groups).map(|thing| (thing.id.as_str(), thing.name.as_str())).collect();
    let cut = found.len() > ROWS_MAX;
    let row = |assignment: Assignment| Row { ways: ways(&visit, &assignment, &names), assignment };
    let rows = found.into_iter().take(ROWS_MAX).map(row).collect();
    visit.page(&Page { frame, filters, roles, rows, cut, problem })
}

async fn ask(visit: &Visit, filters: &Fields) -> Result<Assignments> {
    let mut path = "/role_assignments?include_names=true".to_owned();
    if !filters.on("given") {
        path.push_str("&effective=true");
    }
    for (name, many, key) in [
        ("user", "users", "user.id"),
        ("project", "projects", "scope.project.id"),
        ("domain", "domains", "scope.domain.id"),
    ] {
        if filters.on(name) {
            path.push_str(&format!("&{key}={}", encoded(&id_of(visit, many, filters.get(name)).await?)));
        }
    }
    if filters.on("role") {
        path.push_str(&format!("&role.id={}", encoded(filters.get("role"))));
    }
    if filters.on("system") {
        path.push_str("&scope.system=all");
    }
    visit.api.get(Service::Identity, &path).await
}

/// What the links of an assignment tell.
fn ways(visit: &Visit, assignment: &Assignment, names: &HashMap<&str, &str>) -> Vec<String> {
    let words = visit.words();
    let named = |id: &str| names.get(id).map_or_else(|| id.to_owned(), |name| (*name).to_owned());
    let links = &assignment.links;
    let mut ways = Vec::new();
    if let Some(group) = links.membership.as_deref().and_then(|link| segment(link, "groups")) {
        ways.push(words.fill("as one of the group {}", &[&named(group)]));
    }
    if let Some(role) = links.prior_role.as_deref().and_then(|link| segment(link, "roles")) {
        ways.push(words.fill("implied by the role {}", &[&named(role)]));
    }
    if links.assignment.as_deref().is_some_and(|link| link.contains("OS-INHERIT")) {
        ways.push(words.t("given above, for what is below").to_owned());
    }
    if ways.is_empty() {
        ways.push(words.t("given directly").to_owned());
    }
    ways
}

/// What stands in a path after that word.
fn segment<'a>(link: &'a str, after: &str) -> Option<&'a str> {
    let mut parts = link.split('/').skip_while(|part| *part != after);
    parts.next()?;
    parts.next().filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_stands_in_the_link() {
        let link = "https://h/identity/v3/groups/g1/users/u1";
        assert_eq!(
            (segment(link, "groups"), segment(link, "users"), segment(link, "roles")),
            (Some("g1"), Some("u1"), None)
        );
        assert_eq!(segment("/roles/", "roles"), None);
    }
}

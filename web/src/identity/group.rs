//! One group: its users, and their roles by it.

use askama::Template;
use axum::{extract::Path, response::Response};
use http::Method;

use super::{Thing, assignments::Card, find_things, get_thing, id_of};
use crate::{
    api::{Service, encoded},
    failure::{Failure, Result},
    form::Fields,
    frame::Frame,
    visit::Visit,
};

#[derive(Template)]
#[template(path = "identity/group.html")]
struct Page {
    frame: Frame,
    group: Thing,
    path: String,
    users: Vec<Thing>,
    roles: Card,
}

/// `GET /groups/{id}`.
pub(super) async fn show(visit: Visit, Path(id): Path<String>) -> Result<Response> {
    let path = format!("/groups/{}", encoded(&id));
    let group = get_thing(&visit, &path, "group").await?;
    let users = find_things(&visit, &format!("{path}/users"), "users").await?;
    let query = format!("group.id={}", encoded(&group.id));
    let roles = Card::of(&visit, &query, None, Some(format!("group:{}", group.id)), &path).await?;
    visit.page(&Page { frame: visit.frame("/groups", group.name.clone()), group, path, users, roles })
}

/// `POST /groups/{id}`: `do` is `add` or `remove` a user.
pub(super) async fn act(visit: Visit, Path(id): Path<String>, form: Fields) -> Result<Response> {
    let words = visit.words();
    let path = format!("/groups/{}", encoded(&id));
    let verb = form.get("do");
    let result = async {
        let method = match verb {
            "add" => Method::PUT,
            "remove" => Method::DELETE,
            _ => return Err(Failure::bad_request(words.t("Choose what to do."))),
        };
        let user = id_of(&visit, "users", form.get("user")).await?;
        visit.api.send(method, Service::Identity, &format!("{path}/users/{}", encoded(&user)), None).await
    }
    .await;
    let text = if verb == "add" {
        words.t("The user is in the group.")
    } else {
        words.t("The user is no longer in the group.")
    };
    visit.outcome(result, &path, text).await
}

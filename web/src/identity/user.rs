//! One user: facts, groups, roles, application credentials.

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
#[template(path = "identity/user.html")]
struct Page {
    frame: Frame,
    user: Thing,
    path: String,
    groups: Vec<Thing>,
    credentials: Vec<Thing>,
    roles: Card,
    options: Vec<String>,
}

/// `GET /users/{id}`.
pub(super) async fn show(visit: Visit, Path(id): Path<String>) -> Result<Response> {
    let path = format!("/users/{}", encoded(&id));
    let user = get_thing(&visit, &path, "user").await?;
    let groups = find_things(&visit, &format!("{path}/groups"), "groups").await?;
    let own = format!("{path}/application_credentials");
    let credentials = find_things(&visit, &own, "application_credentials").await?;
    let query = format!("user.id={}", encoded(&user.id));
    let roles = Card::of(&visit, &query, None, Some(format!("user:{}", user.id)), &path).await?;
    let options = user.options.iter().filter(|(_, value)| value.as_bool() == Some(true));
    let options = options.map(|(name, _)| name.replace('_', " ")).collect();
    visit.page(&Page {
        frame: visit.frame("/users", user.name.clone()),
        user,
        path,
        groups,
        credentials,
        roles,
        options,
    })
}

/// `POST /users/{id}`: `do` is `join` or `leave` a group, `enable` or `disable`.
pub(super) async fn act(visit: Visit, Path(id): Path<String>, form: Fields) -> Result<Response> {
    let words = visit.words();
    let path = format!("/users/{}", encoded(&id));
    let verb = form.get("do");
    let result = async {
        match verb {
            "enable" | "disable" => {
                let body = serde_json::json!({"user": {"enabled": verb == "enable"}});
                visit.api.patch(Service::Identity, &path, &body).await.map(|_| ())
            }
            "join" | "leave" => {
                let group = id_of(&visit, "groups", form.get("group")).await?;
                let method = if verb == "join" { Method::PUT } else { Method::DELETE };
                let path = format!("/groups/{}{path}", encoded(&group));
                visit.api.send(method, Service::Identity, &path, None).await.map(|_| ())
            }
            _ => Err(Failure::bad_request(words.t("Choose what to do."))),
        }
    }
    .await;
    let text = match verb {
        "enable" => words.t("The user is enabled."),
        "disable" => words.t("The user is disabled: its sessions are over."),
        "join" => words.t("The user is in the group."),
        _ => words.t("The user is no longer in the group."),
    };
    visit.outcome(result, &path, text).await
}

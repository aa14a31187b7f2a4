//! `/servers/{id}/events`: what was done to a server, step by step, with how each ended and why.

use askama::Template;
use axum::{extract::Path, response::Response};
use serde::Deserialize;

use super::detail::Head;
use crate::{
    api::{Api, Service, encoded},
    failure::Result,
    frame::Frame,
    visit::Visit,
};

/// The last ones are looked at step by step.
const ACTIONS_MAX: usize = 50;

#[derive(Deserialize)]
struct Actions {
    #[serde(rename = "instanceActions")]
    all: Vec<Action>,
}

#[derive(Deserialize)]
struct One {
    #[serde(rename = "instanceAction")]
    action: Action,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Action {
    pub action: String,
    pub request_id: String,
    pub user_id: Option<String>,
    pub start_time: String,
    /// `Error`, or nothing.
    pub message: Option<String>,
    #[serde(default)]
    pub events: Vec<Event>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    pub event: String,
    pub start_time: String,
    pub finish_time: Option<String>,
    pub result: Option<String>,
    /// For administrators.
    pub details: Option<String>,
}

impl Action {
    #[must_use]
    pub fn failed(&self) -> bool {
        self.message.is_some()
    }

    #[must_use]
    pub fn under_way(&self) -> bool {
        !self.failed() && (self.events.is_empty() || self.events.iter().any(|event| event.result.is_none()))
    }
}

/// What was done to a server, the last first.
///
/// # Errors
/// What Compute says.
pub async fn actions(api: &Api, server_id: &str, most: usize) -> Result<Vec<Action>> {
    let path = format!("/servers/{}/os-instance-actions", encoded(server_id));
    let mut found: Vec<Action> = api.get::<Actions>(Service::Compute, &format!("{path}?limit={most}")).await?.all;
    for action in &mut found {
        let one: Option<One> = api.find(Service::Compute, &format!("{path}/{}", encoded(&action.request_id))).await?;
        if let Some(one) = one {
            *action = one.action;
        }
    }
    Ok(found)
}

#[derive(Template)]
#[template(path = "servers/events.html")]
struct Page {
    frame: Frame,
    head: Head,
    actions: Vec<Action>,
    /// The visitor's own.
    user_id: String,
}

/// `GET /servers/{id}/events`.
pub(super) async fn show(visit: Visit, Path(id): Path<String>) -> Result<Response> {
    let head = Head::of(&visit, &id, "/events").await?;
    let actions = actions(&visit.api, &id, ACTIONS_MAX).await?;
    let user_id = visit.session()?.user.id.clone();
    visit.page(&Page { frame: head.frame(&visit).live(), head, actions, user_id })
}

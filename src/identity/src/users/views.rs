//! Bodies of users.

use rest::Ctx;
use serde::Serialize;
use serde_json::{Map, Value};

use super::store::User;
use crate::{
    App,
    federation::{login, shadow::Link},
    listing::SelfLink,
};

#[derive(Debug, Serialize)]
pub(crate) struct UserView<'a> {
    id: &'a str,
    name: &'a str,
    domain_id: &'a str,
    enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_project_id: Option<&'a str>,
    /// Without a zone, as upstream writes it.
    password_expires_at: Option<String>,
    options: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    federated: Vec<Value>,
    #[serde(flatten)]
    extra: &'a Map<String, Value>,
    links: SelfLink,
}

pub(crate) fn user<'a>(app: &App, ctx: &Ctx, user: &'a User) -> UserView<'a> {
    let inactive = app.rules.inactive(user.last_active_on.as_deref(), &user.options, app.clock.now());
    UserView {
        id: &user.id,
        name: &user.name,
        domain_id: &user.domain_id,
        enabled: user.enabled && !inactive,
        default_project_id: user.default_project_id.as_deref(),
        password_expires_at: user.password_expires_at.as_deref().map(db::clock::naive),
        options: &user.options,
        federated: Vec::new(),
        extra: &user.extra,
        links: SelfLink::new(ctx, "/users", &user.id),
    }
}

impl UserView<'_> {
    /// With what identity providers call the user.
    pub(crate) fn vouched_by(mut self, links: &[Link]) -> Self {
        self.federated = login::views(links);
        self
    }
}

//! `/servers/{id}`: what stands above every tab, and the first of them.

use askama::Template;
use axum::{extract::Path, response::Response};
use serde::Deserialize;

use super::{
    model::{One, Server},
    verbs::{May, Offer, offers},
};
use crate::{
    api::{Service, encoded},
    echo::shell,
    failure::Result,
    frame::Frame,
    visit::Visit,
    words::t,
};

/// The server and what can be done with it: above every tab.
pub(crate) struct Head {
    pub server: Server,
    pub offers: Vec<Offer>,
    pub may: May,
    /// The end of the tab's path.
    pub tab: &'static str,
}

/// Ends of paths and their names.
const TABS: &[(&str, &str)] = &[
    ("", t("Overview")),
    ("/interfaces", t("Interfaces")),
    ("/events", t("Events")),
    ("/log", t("Log")),
    ("/metrics", t("Metrics")),
    ("/console", t("Console")),
];

impl Head {
    pub async fn of(visit: &Visit, id: &str, tab: &'static str) -> Result<Self> {
        let found: One = visit.api.get(Service::Compute, &format!("/servers/{}", encoded(id))).await?;
        let (server, may) = (found.server, May::of(visit));
        Ok(Self { offers: offers(visit.words(), &server, may), server, may, tab })
    }

    /// What is most likely wanted now.
    pub fn first(&self) -> impl Iterator<Item = &Offer> {
        let likely = ["start", "stop", "reboot", "unpause", "resume", "unrescue", "unshelve", "confirm", "revert"];
        self.offers.iter().filter(move |offer| offer.why.is_none() && likely.contains(&offer.verb.name)).take(3)
    }

    pub fn tabs(&self) -> &'static [(&'static str, &'static str)] {
        TABS
    }

    pub fn frame(&self, visit: &Visit) -> Frame {
        visit.frame("/servers", self.server.name.clone())
    }
}

/// How to get in.
struct Connect {
    ssh: Option<String>,
    /// From outside its network.
    outside: bool,
}

#[derive(Deserialize)]
struct Image {
    name: Option<String>,
    os_distro: Option<String>,
    os_admin_user: Option<String>,
}

#[derive(Template)]
#[template(path = "servers/overview.html")]
struct Page {
    frame: Frame,
    head: Head,
    state: String,
    image: Option<String>,
    connect: Connect,
}

/// The user that an image lets in, as far as its makers' habits tell.
fn login(image: Option<&Image>) -> String {
    let Some(image) = image else { return "root".to_owned() };
    if let Some(user) = &image.os_admin_user {
        return user.clone();
    }
    let named =
        format!("{} {}", image.os_distro.as_deref().unwrap_or_default(), image.name.as_deref().unwrap_or_default());
    let named = named.to_lowercase();
    let known = [
        ("debian", "debian"),
        ("ubuntu", "ubuntu"),
        ("fedora", "fedora"),
        ("cirros", "cirros"),
        ("alpine", "alpine"),
        ("arch", "arch"),
        ("centos", "cloud-user"),
        ("rocky", "rocky"),
        ("alma", "almalinux"),
        ("rhel", "cloud-user"),
        ("opensuse", "opensuse"),
        ("freebsd", "freebsd"),
    ];
    known.into_iter().find(|(distro, _)| named.contains(distro)).map_or("root", |(_, user)| user).to_owned()
}

/// `GET /servers/{id}`.
pub(super) async fn show(visit: Visit, Path(id): Path<String>) -> Result<Response> {
    let head = Head::of(&visit, &id, "").await?;
    let server = &head.server;
    let image: Option<Image> = match server.image_id() {
        Some(id) => visit.api.find(Service::Images, &format!("/images/{}", encoded(id))).await?,
        None => None,
    };
    let user = login(image.as_ref());
    let best = server.best_address();
    let connect = Connect {
        ssh: best.map(|(address, _)| format!("ssh {}", shell(&format!("{user}@{address}")))),
        outside: best.is_some_and(|(_, outside)| outside),
    };
    let page = Page {
        frame: head.frame(&visit).live(),
        state: server.in_words(visit.words()),
        image: image.map(|image| image.name.filter(|name| !name.is_empty()).unwrap_or_else(|| "–".to_owned())),
        connect,
        head,
    };
    visit.page(&page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_what_the_image_says_or_its_makers_habit() {
        let image = |name: &str, user: Option<&str>| Image {
            name: Some(name.to_owned()),
            os_distro: None,
            os_admin_user: user.map(str::to_owned),
        };
        assert_eq!(login(Some(&image("Debian 12", None))), "debian");
        assert_eq!(login(Some(&image("x", Some("me")))), "me");
        assert_eq!(login(Some(&image("x", None))), "root");
        assert_eq!(login(None), "root");
    }
}

//! What stands around every page: the menu, who is signed in and where, the last word, language and theme.

use http::HeaderMap;

use crate::{
    assets,
    failure::Failure,
    session::{Flash, Scope, cookie},
    visit::Seen,
    words::{LANGUAGES, Words},
};

/// Light, dark, or as the browser prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    Auto,
    Light,
    Dark,
}

impl Theme {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        match cookie(headers, "theme") {
            Some("light") => Self::Light,
            Some("dark") => Self::Dark,
            _ => Self::Auto,
        }
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// Marks a text for translation where it is only data.
const fn t(text: &'static str) -> &'static str {
    text
}

/// A line of the menu.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub label: &'static str,
    pub path: &'static str,
    /// The name of its picture in `icons.svg`.
    pub icon: &'static str,
}

/// Lines of the menu under one heading.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    pub label: &'static str,
    pub entries: &'static [Entry],
    /// Shown to administrators alone; the APIs decide what anybody may do.
    pub admin: bool,
}

const fn entry(label: &'static str, path: &'static str, icon: &'static str) -> Entry {
    Entry { label, path, icon }
}

/// The menu.
pub(crate) const MENU: &[Group] = &[
    Group {
        label: t("Compute"),
        admin: false,
        entries: &[
            entry(t("Overview"), "/", "home"),
            entry(t("Servers"), "/servers", "server"),
            entry(t("Images"), "/images", "disc"),
            entry(t("Key pairs"), "/keypairs", "key"),
            entry(t("Flavors"), "/flavors", "sliders"),
            entry(t("Server groups"), "/server-groups", "layers"),
            entry(t("Availability zones"), "/aggregates", "globe"),
        ],
    },
    Group {
        label: t("Network"),
        admin: false,
        entries: &[
            entry(t("Topology"), "/topology", "topology"),
            entry(t("Networks"), "/networks", "network"),
            entry(t("Routers"), "/routers", "router"),
            entry(t("Ports"), "/ports", "plug"),
            entry(t("Floating IPs"), "/floating-ips", "globe"),
            entry(t("Security groups"), "/security-groups", "shield"),
        ],
    },
    Group {
        label: t("Identity"),
        admin: false,
        entries: &[
            entry(t("Projects"), "/projects", "folder"),
            entry(t("Users"), "/users", "user"),
            entry(t("Groups"), "/groups", "users"),
            entry(t("Roles"), "/roles", "badge"),
            entry(t("Domains"), "/domains", "layers"),
            entry(t("Rights"), "/rights", "shield"),
            entry(t("Application credentials"), "/application-credentials", "token"),
        ],
    },
    Group {
        label: t("System"),
        admin: true,
        entries: &[
            entry(t("Health"), "/system", "heart"),
            entry(t("Placement"), "/resource-providers", "scale"),
            entry(t("Certificates"), "/certificates", "lock"),
            entry(t("Audit"), "/audit", "list"),
        ],
    },
];

/// The parts of a page that are not its own.
#[derive(Clone, Debug)]
pub struct Frame {
    pub words: Words,
    pub title: String,
    /// The path of the menu's line that is lit.
    pub section: &'static str,
    /// The user's name; empty when nobody is signed in.
    pub user: String,
    /// Where the user works, in words.
    pub place: String,
    pub admin: bool,
    pub csrf: String,
    pub theme: Theme,
    pub region: String,
    /// Path and query of this page: where forms of the frame come back to.
    pub path: String,
    pub flash: Option<Flash>,
    /// What was wrong with the form that this page shows again.
    pub problem: Option<Failure>,
    /// Whether the page is followed: its inside is replaced when it changes.
    pub live: bool,
}

impl Frame {
    pub(crate) fn new(seen: &Seen, section: &'static str, title: String) -> Self {
        let session = seen.signed.as_ref().map(|signed| &signed.session);
        let place = match session.map(|session| &session.scope) {
            Some(Scope::Project { project, .. }) => project.name.clone(),
            Some(Scope::Domain(domain)) => seen.words.fill("Domain {}", &[&domain.name]),
            Some(Scope::System) => seen.words.t("The whole system").to_owned(),
            Some(Scope::Unscoped) => seen.words.t("No project").to_owned(),
            None => String::new(),
        };
        Self {
            words: seen.words,
            title,
            section,
            user: session.map(|session| session.user.name.clone()).unwrap_or_default(),
            place,
            admin: session.is_some_and(|session| session.has_role("admin")),
            csrf: seen.csrf(),
            theme: seen.theme,
            region: seen.dashboard.region.to_string(),
            path: seen.path.clone(),
            flash: seen.signed.as_ref().and_then(|signed| signed.flash.clone()).filter(|_| !seen.part),
            problem: None,
            live: false,
        }
    }

    /// The page is replaced when it changes.
    #[must_use]
    pub fn live(mut self) -> Self {
        self.live = true;
        self
    }

    /// Says what was wrong with the form.
    #[must_use]
    pub fn with_problem(mut self, failure: &Failure) -> Self {
        self.problem = Some(failure.clone());
        self
    }

    /// `text` in the user's language.
    #[must_use]
    pub fn t<'a>(&self, text: &'a str) -> &'a str
    where
        'static: 'a,
    {
        self.words.t(text)
    }

    /// `text` in the user's language with `{}` replaced by the value.
    #[must_use]
    pub fn fill(&self, text: &str, value: impl std::fmt::Display) -> String {
        self.words.fill(text, &[&value])
    }

    pub fn menu(&self) -> impl Iterator<Item = &'static Group> {
        let admin = self.admin;
        MENU.iter().filter(move |group| admin || !group.admin)
    }

    #[must_use]
    pub fn asset(&self, name: &str) -> String {
        assets::address(name)
    }

    #[must_use]
    pub fn languages(&self) -> Vec<(&'static str, &'static str)> {
        LANGUAGES.iter().map(|(code, name, _)| (*code, *name)).collect()
    }

    /// The theme that a click goes on to.
    #[must_use]
    pub fn next_theme(&self) -> &'static str {
        match self.theme {
            Theme::Auto => "dark",
            Theme::Dark => "light",
            Theme::Light => "auto",
        }
    }
}

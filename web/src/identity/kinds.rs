//! What the lists and forms of projects, users, groups, roles and domains have in common, and where they differ.

const fn t(text: &'static str) -> &'static str {
    text
}

/// One kind of things.
pub(super) struct Kind {
    /// Of its pages, and of the Identity service.
    pub path: &'static str,
    /// The key of one, and of many, in bodies.
    pub one: &'static str,
    pub many: &'static str,
    pub title: &'static str,
    pub new: &'static str,
    pub none: &'static str,
    /// What is asked before it is deleted.
    pub sure: &'static str,
    /// The filter for a part of a name.
    pub contains: &'static str,
    pub has_domain: bool,
    pub has_enabled: bool,
    pub is_user: bool,
    pub is_project: bool,
}

pub(super) static ALL: [Kind; 5] = [PROJECTS, USERS, GROUPS, ROLES, DOMAINS];

const PROJECTS: Kind = Kind {
    path: "/projects",
    one: "project",
    many: "projects",
    title: t("Projects"),
    new: t("New project"),
    none: t("There is no project."),
    sure: t(
        "Delete this project? Its servers, networks and images are not deleted with it: empty it first. To shut it without losing anything, disable it.",
    ),
    contains: "name__icontains",
    has_domain: true,
    has_enabled: true,
    is_user: false,
    is_project: true,
};

const USERS: Kind = Kind {
    path: "/users",
    one: "user",
    many: "users",
    title: t("Users"),
    new: t("New user"),
    none: t("There is no user."),
    sure: t(
        "Delete this user? Its application credentials and roles go with it. To keep it out for a while, disable it.",
    ),
    contains: "name__icontains",
    has_domain: true,
    has_enabled: true,
    is_user: true,
    is_project: false,
};

const GROUPS: Kind = Kind {
    path: "/groups",
    one: "group",
    many: "groups",
    title: t("Groups"),
    new: t("New group"),
    none: t("There is no group yet. A role that a group has, all its users have."),
    sure: t("Delete this group? Its users lose the roles that they have by it."),
    contains: "name__contains",
    has_domain: true,
    has_enabled: false,
    is_user: false,
    is_project: false,
};

const ROLES: Kind = Kind {
    path: "/roles",
    one: "role",
    many: "roles",
    title: t("Roles"),
    new: t("New role"),
    none: t("There is no role."),
    sure: t("Delete this role? Everybody who has it loses what it allows."),
    contains: "name__contains",
    has_domain: false,
    has_enabled: false,
    is_user: false,
    is_project: false,
};

const DOMAINS: Kind = Kind {
    path: "/domains",
    one: "domain",
    many: "domains",
    title: t("Domains"),
    new: t("New domain"),
    none: t("There is no domain."),
    sure: t("Delete this domain? All its projects, users and groups go with it. It must be disabled first."),
    contains: "name__contains",
    has_domain: false,
    has_enabled: true,
    is_user: false,
    is_project: false,
};

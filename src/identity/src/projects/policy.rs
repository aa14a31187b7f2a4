//! Rules of projects, with upstream's names and defaults.

use rest::{Rule, rule};

const READ: &str = "(rule:admin_required) or (role:reader and system_scope:all) or (role:reader and \
     domain_id:%(target.project.domain_id)s and not None:%(target.project.domain_id)s) or project_id:%(target.project.id)s";
const WRITE: &str = "(rule:admin_required) or (role:manager and domain_id:%(target.project.domain_id)s and not \
     None:%(target.project.domain_id)s)";

pub(crate) const GET: Rule =
    rule("identity:get_project", READ, "Show a project.", &[("GET", "/v3/projects/{project_id}")]);
pub(crate) const LIST: Rule = rule(
    "identity:list_projects",
    "(rule:admin_required) or (role:reader and system_scope:all) or (role:reader and domain_id:%(target.domain_id)s)",
    "List projects.",
    &[("GET", "/v3/projects")],
);
pub(crate) const LIST_OF_USER: Rule = rule(
    "identity:list_user_projects",
    "(rule:admin_required) or (role:reader and system_scope:all) or (role:reader and \
     domain_id:%(target.user.domain_id)s) or user_id:%(target.user.id)s",
    "List the projects on which a user has a role.",
    &[("GET", "/v3/users/{user_id}/projects")],
);
pub(crate) const CREATE: Rule =
    rule("identity:create_project", WRITE, "Create a project.", &[("POST", "/v3/projects")]);
pub(crate) const UPDATE: Rule =
    rule("identity:update_project", WRITE, "Change a project.", &[("PATCH", "/v3/projects/{project_id}")]);
pub(crate) const DELETE: Rule =
    rule("identity:delete_project", WRITE, "Delete a project.", &[("DELETE", "/v3/projects/{project_id}")]);
pub(crate) const LIST_TAGS: Rule =
    rule("identity:list_project_tags", READ, "List a project's tags.", &[("GET", "/v3/projects/{project_id}/tags")]);
pub(crate) const GET_TAG: Rule = rule(
    "identity:get_project_tag",
    READ,
    "See whether a project has a tag.",
    &[("GET", "/v3/projects/{project_id}/tags/{value}")],
);
pub(crate) const UPDATE_TAGS: Rule = rule(
    "identity:update_project_tags",
    WRITE,
    "Replace all tags of a project.",
    &[("PUT", "/v3/projects/{project_id}/tags")],
);
pub(crate) const CREATE_TAG: Rule =
    rule("identity:create_project_tag", WRITE, "Tag a project.", &[("PUT", "/v3/projects/{project_id}/tags/{value}")]);
pub(crate) const DELETE_TAGS: Rule = rule(
    "identity:delete_project_tags",
    WRITE,
    "Take all tags off a project.",
    &[("DELETE", "/v3/projects/{project_id}/tags")],
);
pub(crate) const DELETE_TAG: Rule = rule(
    "identity:delete_project_tag",
    WRITE,
    "Take a tag off a project.",
    &[("DELETE", "/v3/projects/{project_id}/tags/{value}")],
);

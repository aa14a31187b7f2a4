//! Base rules that the resources' rules refer to, as upstream names and words them.

use rest::{Ctx, Error, Result, Rule, rule, target};

pub(crate) const BASE: &[Rule] = &[
    rule("context_is_admin", "role:admin", "Who is an administrator", &[]),
    rule(
        "admin_or_owner",
        "is_admin:True or project_id:%(project_id)s",
        "Deprecated upstream, kept for overrides",
        &[],
    ),
    rule("admin_api", "role:admin", "Deprecated upstream, kept for overrides", &[]),
    rule("project_manager_api", "role:manager and project_id:%(project_id)s", "Managers of the project", &[]),
    rule("project_manager_or_admin", "rule:project_manager_api or rule:context_is_admin", "Managers or admins", &[]),
    rule("project_member_api", "role:member and project_id:%(project_id)s", "Members of the project", &[]),
    rule("project_reader_api", "role:reader and project_id:%(project_id)s", "Readers of the project", &[]),
    rule("project_member_or_admin", "rule:project_member_api or rule:context_is_admin", "Members or admins", &[]),
    rule("project_reader_or_admin", "rule:project_reader_api or rule:context_is_admin", "Readers or admins", &[]),
];

/// Whether the caller may do what `rule` guards with a thing of this project and user; none if there is no such thing. What is
/// another project's looks as if it did not exist.
pub(crate) fn see(ctx: &Ctx, rule: Rule, owner: Option<(&str, &str)>, missing: impl Fn() -> Error) -> Result<()> {
    let own = ctx.creds()?.project_id();
    let Some((project_id, user_id)) = owner else {
        // Whoever may do nothing at all is told so before being told what exists.
        ctx.allow(rule, &target(&[("project_id", own.unwrap_or_default())]))?;
        return Err(missing());
    };
    let owner = target(&[("project_id", project_id), ("user_id", user_id)]);
    if own == Some(project_id) { ctx.allow(rule, &owner) } else { ctx.allow_or(rule, &owner, missing) }
}

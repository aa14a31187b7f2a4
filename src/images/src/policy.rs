//! The rules that others refer to, and what rules are asked about.

use ::policy::Target;
use rest::{Ctx, Kind, Result, Rule, rule};
use serde_json::Value;

use crate::image::model::Image;
use crate::image::{policy, store};
use crate::metadefs::policy as metadefs;

pub const ADMIN: &str = "rule:context_is_admin";

pub const CONTEXT_IS_ADMIN: Rule =
    rule("context_is_admin", "role:admin", "Who is an administrator of the Image service", &[]);

pub const BASE: &[Rule] = &[
    CONTEXT_IS_ADMIN,
    rule("default", "", "What no other rule decides", &[]),
    rule("service_api", "role:service or role:admin", "Another service", &[]),
    metadefs::BASE[0],
    metadefs::BASE[1],
];

/// Reader, member: a role in the image's own project.
pub const READER: &str = "rule:context_is_admin or (role:reader and project_id:%(project_id)s)";
pub const MEMBER: &str = "rule:context_is_admin or (role:member and project_id:%(project_id)s)";

/// Who may look: any reader to whom the image is visible at all.
pub const VISIBLE_READER: &str = "rule:context_is_admin or (role:reader and (project_id:%(project_id)s or \
     project_id:%(member_id)s or 'community':%(visibility)s or 'public':%(visibility)s or 'shared':%(visibility)s))";
pub const VISIBLE_MEMBER: &str = "rule:context_is_admin or (role:member and (project_id:%(project_id)s or \
     project_id:%(member_id)s or 'community':%(visibility)s or 'public':%(visibility)s or 'shared':%(visibility)s))";

/// What rules may ask of an image.
pub fn target(image: &Image) -> Target {
    let mut target = rest::target(&[
        ("project_id", &image.owner),
        ("owner", &image.owner),
        ("visibility", image.visibility.as_str()),
        ("image_id", &image.id),
        ("status", image.status.as_str()),
    ]);
    if let Some(member) = &image.caller_member {
        target.insert("member_id".to_owned(), Value::from(member.as_str()));
    }
    target
}

/// Asks a rule about an image. Who may not even look at it is told that it is not there, as for one that is not.
///
/// # Errors
/// 403, or 404.
pub fn allow(ctx: &Ctx, rule: Rule, image: &Image) -> Result<()> {
    let target = target(image);
    match ctx.allow(rule, &target) {
        Err(error) if error.kind() == Kind::Forbidden => {
            if ctx.may(policy::SHOW, &target)? {
                Err(error)
            } else {
                Err(store::not_found(&image.id))
            }
        }
        other => other,
    }
}

/// Whether the caller is an administrator: sees everything, may give images to others.
pub fn is_admin(ctx: &Ctx) -> Result<bool> {
    ctx.may(CONTEXT_IS_ADMIN, &Target::new())
}

//! Rules of the records, with upstream's names and defaults.

use rest::{Rule, rule};

use crate::policy::{ADMIN, MEMBER, READER, VISIBLE_READER};

pub const CREATE: Rule = rule(
    "add_image",
    "rule:context_is_admin or (role:member and project_id:%(project_id)s and project_id:%(owner)s)",
    "Create new image",
    &[("POST", "/v2/images")],
);
pub const INDEX: Rule = rule("get_images", READER, "Get list of available images", &[("GET", "/v2/images")]);
pub const SHOW: Rule = rule("get_image", VISIBLE_READER, "Get specified image", &[("GET", "/v2/images/{image_id}")]);
pub const UPDATE: Rule = rule("modify_image", MEMBER, "Updates given image", &[("PATCH", "/v2/images/{image_id}")]);
pub const DELETE: Rule = rule("delete_image", MEMBER, "Deletes the image", &[("DELETE", "/v2/images/{image_id}")]);
pub const PUBLICIZE: Rule =
    rule("publicize_image", ADMIN, "Publicize given image", &[("PATCH", "/v2/images/{image_id}")]);
pub const COMMUNITIZE: Rule =
    rule("communitize_image", MEMBER, "Communitize given image", &[("PATCH", "/v2/images/{image_id}")]);
pub const COPY: Rule =
    rule("copy_image", ADMIN, "Copy existing image to other stores", &[("POST", "/v2/images/{image_id}/import")]);
pub const LOCATIONS_SHOW: Rule = rule(
    "fetch_image_location",
    "rule:service_api",
    "Show all locations associated to given image",
    &[("GET", "/v2/images/{image_id}/locations")],
);
pub const LOCATIONS_CREATE: Rule = rule(
    "add_image_location",
    "rule:service_api or (role:member and project_id:%(project_id)s and project_id:%(owner)s)",
    "Add location URI to given image",
    &[("POST", "/v2/images/{image_id}/locations")],
);

//! Rules of image data, with upstream's names and defaults.

use rest::{Rule, rule};

use crate::policy::{MEMBER, VISIBLE_MEMBER};

pub const UPLOAD: Rule = rule("upload_image", MEMBER, "Uploads given image", &[("PUT", "/v2/images/{image_id}/file")]);
pub const DOWNLOAD: Rule =
    rule("download_image", VISIBLE_MEMBER, "Downloads given image", &[("GET", "/v2/images/{image_id}/file")]);

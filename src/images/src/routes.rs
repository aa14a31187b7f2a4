//! The whole URL table.

use rest::{Route, delete, get, patch, post, put};

use crate::app::Images;
use crate::{actions, file, image, imports, info, members, schemas, tags};

pub fn table() -> Vec<Route<Images>> {
    vec![
        get("/v2/images", image::handlers::index).rule(image::policy::INDEX),
        post("/v2/images", image::handlers::create).rules(&[
            image::policy::CREATE,
            image::policy::PUBLICIZE,
            image::policy::COMMUNITIZE,
        ]),
        // A client that deletes the image with the id "" must not be told that the method is wrong.
        delete("/v2/images", image::handlers::no_id).rule(image::policy::DELETE),
        get("/v2/images/{image_id}", image::handlers::show).rule(image::policy::SHOW),
        patch("/v2/images/{image_id}", image::handlers::update).rules(&[
            image::policy::UPDATE,
            image::policy::PUBLICIZE,
            image::policy::COMMUNITIZE,
        ]),
        delete("/v2/images/{image_id}", image::handlers::delete).rule(image::policy::DELETE),
        get("/v2/images/{image_id}/file", file::handlers::show).rule(file::policy::DOWNLOAD),
        put("/v2/images/{image_id}/file", file::handlers::update).rule(file::policy::UPLOAD),
        put("/v2/images/{image_id}/stage", imports::handlers::stage).rule(file::policy::UPLOAD),
        post("/v2/images/{image_id}/import", imports::handlers::create).rule(file::policy::UPLOAD),
        get("/v2/images/{image_id}/tasks", imports::handlers::tasks).rule(image::policy::SHOW),
        post("/v2/images/{image_id}/actions/deactivate", actions::deactivate).rule(actions::DEACTIVATE),
        post("/v2/images/{image_id}/actions/reactivate", actions::reactivate).rule(actions::REACTIVATE),
        put("/v2/images/{image_id}/tags/{tag}", tags::update).rule(image::policy::UPDATE),
        delete("/v2/images/{image_id}/tags/{tag}", tags::delete).rule(image::policy::UPDATE),
        get("/v2/images/{image_id}/members", members::handlers::index).rule(members::policy::INDEX),
        post("/v2/images/{image_id}/members", members::handlers::create).rule(members::policy::CREATE),
        get("/v2/images/{image_id}/members/{member_id}", members::handlers::show).rule(members::policy::SHOW),
        put("/v2/images/{image_id}/members/{member_id}", members::handlers::update).rule(members::policy::UPDATE),
        delete("/v2/images/{image_id}/members/{member_id}", members::handlers::delete).rule(members::policy::DELETE),
        get("/v2/schemas/{name}", schemas::show).any_token(),
        get("/v2/info/import", info::import).any_token(),
        get("/v2/info/stores", info::stores).any_token(),
        get("/v2/info/stores/detail", info::stores_detail).rule(info::STORES_DETAIL),
        get("/v2/info/usage", info::usage).any_token(),
    ]
}

//! The whole URL table.

use rest::{Route, delete, get, patch, post, put};

use crate::app::Images;
use crate::imports::tasks_of;
use crate::metadefs::{self, items, namespaces, policy as rules, tags as metatags, types};
use crate::{actions, cached, file, image, imports, info, locations, members, schemas, tags};

pub fn table() -> Vec<Route<Images>> {
    let mut table = images();
    table.extend(metadata_definitions());
    table
}

fn images() -> Vec<Route<Images>> {
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
        post("/v2/images/{image_id}/import", imports::handlers::create)
            .rules(&[file::policy::UPLOAD, image::policy::COPY]),
        get("/v2/images/{image_id}/tasks", tasks_of::of_image).rule(image::policy::SHOW),
        get("/v2/images/{image_id}/locations", locations::index).rule(image::policy::LOCATIONS_SHOW),
        post("/v2/images/{image_id}/locations", locations::create).rule(image::policy::LOCATIONS_CREATE),
        get("/v2/tasks", tasks_of::index).rules(&[tasks_of::ACCESS, tasks_of::INDEX]),
        post("/v2/tasks", tasks_of::create).rules(&[tasks_of::ACCESS, tasks_of::CREATE]),
        get("/v2/tasks/{task_id}", tasks_of::show).rules(&[tasks_of::ACCESS, tasks_of::SHOW]),
        get("/v2/cache", cached::index).rule(cached::INDEX),
        delete("/v2/cache", cached::clear).rule(cached::DELETE),
        put("/v2/cache/{image_id}", cached::create).rule(cached::CREATE),
        delete("/v2/cache/{image_id}", cached::delete).rule(cached::DELETE),
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

const SPACE: &str = "/v2/metadefs/namespaces/{namespace}";
const OBJECTS: &str = "/v2/metadefs/namespaces/{namespace}/objects";
const OBJECT: &str = "/v2/metadefs/namespaces/{namespace}/objects/{object_name}";
const PROPERTIES: &str = "/v2/metadefs/namespaces/{namespace}/properties";
const PROPERTY: &str = "/v2/metadefs/namespaces/{namespace}/properties/{property_name}";
const TAGS: &str = "/v2/metadefs/namespaces/{namespace}/tags";
const TAG: &str = "/v2/metadefs/namespaces/{namespace}/tags/{tag_name}";
const TYPES: &str = "/v2/metadefs/namespaces/{namespace}/resource_types";

fn metadata_definitions() -> Vec<Route<Images>> {
    vec![
        get("/v2/schemas/metadefs/{name}", metadefs::schemas::show).any_token(),
        get("/v2/metadefs/resource_types", types::index).rule(rules::TYPE_INDEX),
        get("/v2/metadefs/namespaces", namespaces::index).rule(rules::NAMESPACE_INDEX),
        post("/v2/metadefs/namespaces", namespaces::create).rule(rules::NAMESPACE_CREATE),
        get(SPACE, namespaces::show).rule(rules::NAMESPACE_SHOW),
        put(SPACE, namespaces::update).rule(rules::NAMESPACE_UPDATE),
        delete(SPACE, namespaces::delete).rule(rules::NAMESPACE_DELETE),
        get(OBJECTS, items::objects).rule(rules::OBJECT_INDEX),
        post(OBJECTS, items::create_object).rule(rules::OBJECT_CREATE),
        delete(OBJECTS, namespaces::delete_objects).rule(rules::NAMESPACE_DELETE),
        get(OBJECT, items::show_object).rule(rules::OBJECT_SHOW),
        put(OBJECT, items::update_object).rule(rules::OBJECT_UPDATE),
        delete(OBJECT, items::delete_object).rule(rules::OBJECT_DELETE),
        get(PROPERTIES, items::properties).rule(rules::PROPERTY_INDEX),
        post(PROPERTIES, items::create_property).rule(rules::PROPERTY_CREATE),
        delete(PROPERTIES, namespaces::delete_properties).rule(rules::NAMESPACE_DELETE),
        get(PROPERTY, items::show_property).rule(rules::PROPERTY_SHOW),
        put(PROPERTY, items::update_property).rule(rules::PROPERTY_UPDATE),
        delete(PROPERTY, items::delete_property).rule(rules::PROPERTY_DELETE),
        get(TAGS, metatags::index).rule(rules::TAG_INDEX),
        post(TAGS, metatags::create_all).rule(rules::TAGS_CREATE),
        delete(TAGS, namespaces::delete_tags).rule(rules::TAGS_DELETE),
        get(TAG, metatags::show).rule(rules::TAG_SHOW),
        post(TAG, metatags::create).rule(rules::TAG_CREATE),
        put(TAG, metatags::update).rule(rules::TAG_UPDATE),
        delete(TAG, metatags::delete).rule(rules::TAG_DELETE),
        get(TYPES, types::associations).rules(&[rules::TYPE_INDEX, rules::TYPE_SHOW]),
        post(TYPES, types::create).rule(rules::TYPE_CREATE),
        delete("/v2/metadefs/namespaces/{namespace}/resource_types/{resource_type}", types::delete)
            .rule(rules::TYPE_DELETE),
    ]
}

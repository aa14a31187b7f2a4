//! The URL table.

use rest::{Route, delete, get, post, put};

use crate::{
    App, aggregates, allocation_candidates, allocations, inventories, reshaper, resource_classes, resource_providers,
    traits, usages,
};

pub fn table() -> Vec<Route<App>> {
    vec![
        get("/resource_classes", resource_classes::handlers::index).rule(resource_classes::policy::LIST).since(1, 2),
        post("/resource_classes", resource_classes::handlers::create)
            .rule(resource_classes::policy::CREATE)
            .since(1, 2),
        get("/resource_classes/{name}", resource_classes::handlers::show)
            .rule(resource_classes::policy::SHOW)
            .since(1, 2),
        put("/resource_classes/{name}", resource_classes::handlers::update)
            .rule(resource_classes::policy::UPDATE)
            .since(1, 2),
        delete("/resource_classes/{name}", resource_classes::handlers::delete)
            .rule(resource_classes::policy::DELETE)
            .since(1, 2),
        get("/resource_providers", resource_providers::handlers::index).rule(resource_providers::policy::LIST),
        post("/resource_providers", resource_providers::handlers::create).rule(resource_providers::policy::CREATE),
        get("/resource_providers/{uuid}", resource_providers::handlers::show).rule(resource_providers::policy::SHOW),
        put("/resource_providers/{uuid}", resource_providers::handlers::update)
            .rule(resource_providers::policy::UPDATE),
        delete("/resource_providers/{uuid}", resource_providers::handlers::delete)
            .rule(resource_providers::policy::DELETE),
        get("/resource_providers/{uuid}/inventories", inventories::handlers::index).rule(inventories::policy::LIST),
        post("/resource_providers/{uuid}/inventories", inventories::handlers::create)
            .rule(inventories::policy::CREATE)
            .body_max_bytes(LARGE_BODY_BYTES),
        put("/resource_providers/{uuid}/inventories", inventories::handlers::replace)
            .rule(inventories::policy::UPDATE)
            .body_max_bytes(LARGE_BODY_BYTES),
        // Below 1.5 the method is refused, not hidden: the path exists for others.
        delete("/resource_providers/{uuid}/inventories", inventories::handlers::delete_all)
            .rule(inventories::policy::DELETE),
        get("/resource_providers/{uuid}/inventories/{resource_class}", inventories::handlers::show)
            .rule(inventories::policy::SHOW),
        put("/resource_providers/{uuid}/inventories/{resource_class}", inventories::handlers::update)
            .rule(inventories::policy::UPDATE),
        delete("/resource_providers/{uuid}/inventories/{resource_class}", inventories::handlers::delete)
            .rule(inventories::policy::DELETE),
        get("/resource_providers/{uuid}/usages", usages::handlers::of_provider).rule(usages::policy::PROVIDER),
        get("/resource_providers/{uuid}/aggregates", aggregates::handlers::index)
            .rule(aggregates::policy::LIST)
            .since(1, 1),
        put("/resource_providers/{uuid}/aggregates", aggregates::handlers::replace)
            .rule(aggregates::policy::UPDATE)
            .since(1, 1),
        get("/resource_providers/{uuid}/allocations", allocations::handlers::of_provider)
            .rule(allocations::policy::OF_PROVIDER),
        get("/resource_providers/{uuid}/traits", traits::handlers::of_provider)
            .rule(traits::policy::PROVIDER_LIST)
            .since(1, 6),
        put("/resource_providers/{uuid}/traits", traits::handlers::replace_of_provider)
            .rule(traits::policy::PROVIDER_UPDATE)
            .since(1, 6),
        delete("/resource_providers/{uuid}/traits", traits::handlers::delete_of_provider)
            .rule(traits::policy::PROVIDER_DELETE)
            .since(1, 6),
        get("/traits", traits::handlers::index).rule(traits::policy::LIST).since(1, 6),
        get("/traits/{name}", traits::handlers::show).rule(traits::policy::SHOW).since(1, 6),
        put("/traits/{name}", traits::handlers::update).rule(traits::policy::UPDATE).since(1, 6),
        delete("/traits/{name}", traits::handlers::delete).rule(traits::policy::DELETE).since(1, 6),
        post("/allocations", allocations::handlers::manage)
            .rule(allocations::policy::MANAGE)
            .since(1, 13)
            .body_max_bytes(LARGE_BODY_BYTES),
        get("/allocations/{consumer_uuid}", allocations::handlers::show).rule(allocations::policy::LIST),
        put("/allocations/{consumer_uuid}", allocations::handlers::replace)
            .rule(allocations::policy::UPDATE)
            .body_max_bytes(LARGE_BODY_BYTES),
        delete("/allocations/{consumer_uuid}", allocations::handlers::delete).rule(allocations::policy::DELETE),
        get("/allocation_candidates", allocation_candidates::handlers::index)
            .rule(allocation_candidates::policy::LIST)
            .since(1, 10),
        get("/usages", usages::handlers::total).rule(usages::policy::TOTAL).since(1, 9),
        post("/reshaper", reshaper::handlers::reshape)
            .rule(reshaper::policy::RESHAPE)
            .since(1, 30)
            .body_max_bytes(LARGE_BODY_BYTES),
    ]
}

/// Bodies that name many providers or consumers at once.
const LARGE_BODY_BYTES: usize = 4 * 1024 * 1024;

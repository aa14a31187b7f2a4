//! Bodies of image records. Links are relative to the service, as upstream writes them and its clients cut them.

use rest::{Listing, Params};
use serde_json::{Map, Value, json};

use super::model::{Image, Status};

pub const STORE: &str = "local";

pub fn show(image: &Image) -> Value {
    let mut body = Map::new();
    // Free properties first: nothing they are called can hide what the image is.
    for (name, value) in &image.properties {
        body.insert(name.clone(), Value::from(value.as_str()));
    }
    let path = format!("/v2/images/{}", image.id);
    let fields = json!({
        "name": image.name,
        "disk_format": image.disk_format,
        "container_format": image.container_format,
        "visibility": image.visibility.as_str(),
        "size": image.size_bytes,
        "virtual_size": image.virtual_size_bytes,
        "status": image.status.as_str(),
        "checksum": image.checksum,
        "protected": image.protected,
        "min_ram": image.min_ram_mib,
        "min_disk": image.min_disk_gib,
        "owner": image.owner,
        "os_hidden": image.os_hidden,
        "os_hash_algo": image.os_hash_value.as_ref().map(|_| "sha512"),
        "os_hash_value": image.os_hash_value,
        "id": image.id,
        "created_at": db::clock::seconds(&image.created_at),
        "updated_at": db::clock::seconds(&image.updated_at),
        "tags": image.tags,
        "self": path,
        "file": format!("{path}/file"),
        "schema": "/v2/schemas/image",
    });
    if let Value::Object(fields) = fields {
        body.extend(fields);
    }
    if matches!(image.status, Status::Active | Status::Deactivated) {
        body.insert("stores".to_owned(), Value::from(STORE));
    }
    Value::Object(body)
}

pub fn index(listing: &Listing<Image>, params: &Params) -> Value {
    let link = |query: String| match query.is_empty() {
        true => "/v2/images".to_owned(),
        false => format!("/v2/images?{query}"),
    };
    let mut first = params.clone();
    first.take("marker");
    let mut body = json!({
        "images": listing.rows.iter().map(show).collect::<Vec<_>>(),
        "first": link(first.with(&[])),
        "schema": "/v2/schemas/images",
    });
    if let Some(last) = listing.rows.last().filter(|_| listing.more) {
        body["next"] = Value::from(link(params.with(&[("marker", &last.id)])));
    }
    body
}

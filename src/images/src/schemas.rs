//! `/v2/schemas/...`: what clients generate their models from (API reference, "Image schemas").

use axum::extract::Path;
use rest::{Error, Reply, Result};
use serde_json::{Value, json};

use crate::image::model::{CONTAINER_FORMATS, Status, Visibility, disk_formats};

pub async fn show(Path(name): Path<String>) -> Result<Reply> {
    let schema = match name.as_str() {
        "image" => image(),
        "images" => collection("images", "image", image(), true),
        "member" => member(),
        "members" => collection("members", "member", member(), false),
        "task" => task(),
        "tasks" => collection("tasks", "task", task(), true),
        _ => return Err(Error::no_such_route()),
    };
    Ok(Reply::ok(&schema))
}

fn collection(name: &str, item: &str, schema: Value, paged: bool) -> Value {
    let mut body = json!({
        "name": name,
        "properties": {
            name: {"type": "array", "items": schema},
            "schema": {"type": "string"},
        },
        "links": [{"rel": "describedby", "href": "{schema}"}],
    });
    if paged {
        body["properties"]["first"] = json!({"type": "string"});
        body["properties"]["next"] = json!({"type": "string"});
        body["links"] = json!([
            {"rel": "first", "href": "{first}"},
            {"rel": "next", "href": "{next}"},
            {"rel": "describedby", "href": "{schema}"},
        ]);
    }
    if item == "member" {
        body["links"] = json!([{"rel": "describedby", "href": "{schema}"}]);
    }
    body
}

const UUID: &str = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$";

fn image() -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    let shown = |mut schema: Value| {
        schema["readOnly"] = json!(true);
        schema
    };
    let formats = |names: &[&str], description: &str| {
        let mut all: Vec<Value> = vec![Value::Null];
        all.extend(names.iter().map(|name| json!(name)));
        json!({"type": ["null", "string"], "enum": all, "description": description})
    };
    let statuses: Vec<&str> = Status::ALL.iter().map(|status| status.as_str()).collect();
    let visibilities: Vec<&str> = Visibility::ALL.iter().map(|visibility| visibility.as_str()).collect();
    json!({
        "name": "image",
        "properties": {
            "id": {"type": "string", "description": "An identifier for the image", "pattern": UUID},
            "name": {"type": ["null", "string"], "maxLength": 255, "description": "Descriptive name for the image"},
            "status": shown(json!({"type": "string", "enum": statuses, "description": "Status of the image"})),
            "visibility": {"type": "string", "enum": visibilities, "description": "Scope of image accessibility"},
            "protected": {"type": "boolean", "description": "If true, image will not be deletable."},
            "os_hidden": {"type": "boolean", "description": "If true, image will not appear in default image list response."},
            "checksum": shown(json!({"type": ["null", "string"], "maxLength": 32, "description": "md5 hash of image contents."})),
            "os_hash_algo": shown(json!({"type": ["null", "string"], "maxLength": 64, "description": "Algorithm to calculate the os_hash_value"})),
            "os_hash_value": shown(json!({"type": ["null", "string"], "maxLength": 128, "description": "Hexdigest of the image contents using the algorithm specified by the os_hash_algo"})),
            "owner": {"type": ["null", "string"], "maxLength": 255, "description": "Owner of the image"},
            "size": shown(json!({"type": ["null", "integer"], "description": "Size of image file in bytes"})),
            "virtual_size": shown(json!({"type": ["null", "integer"], "description": "Virtual size of image in bytes"})),
            "container_format": formats(&CONTAINER_FORMATS, "Format of the container"),
            "disk_format": formats(&disk_formats(), "Format of the disk"),
            "created_at": shown(text("Date and time of image registration")),
            "updated_at": shown(text("Date and time of the last image modification")),
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 255}, "description": "List of strings related to the image"},
            "min_ram": {"type": "integer", "description": "Amount of ram (in MB) required to boot image."},
            "min_disk": {"type": "integer", "description": "Amount of disk space (in GB) required to boot image."},
            "self": shown(text("An image self url")),
            "file": shown(text("An image file url")),
            "schema": shown(text("An image schema url")),
            "stores": shown(text("Store in which image data resides.")),
            "architecture": {"type": "string", "is_base": false, "description": "Operating system architecture"},
            "os_distro": {"type": "string", "is_base": false, "description": "Common name of operating system distribution"},
            "os_version": {"type": "string", "is_base": false, "description": "Operating system version as specified by the distributor."},
            "kernel_id": {"type": ["null", "string"], "pattern": UUID, "is_base": false, "description": "ID of image stored in Glance that should be used as the kernel when booting an AMI-style image."},
            "ramdisk_id": {"type": ["null", "string"], "pattern": UUID, "is_base": false, "description": "ID of image stored in Glance that should be used as the ramdisk when booting an AMI-style image."},
            "instance_uuid": {"type": "string", "is_base": false, "description": "Metadata which can be used to record which instance this image is associated with."},
        },
        "additionalProperties": {"type": "string"},
        "links": [
            {"rel": "self", "href": "{self}"},
            {"rel": "enclosure", "href": "{file}"},
            {"rel": "describedby", "href": "{schema}"},
        ],
    })
}

fn member() -> Value {
    json!({
        "name": "member",
        "properties": {
            "image_id": {"type": "string", "description": "An identifier for the image", "pattern": UUID},
            "member_id": {"type": "string", "description": "An identifier for the image member (tenantId)"},
            "status": {"type": "string", "enum": ["pending", "accepted", "rejected"], "description": "The status of this image member"},
            "created_at": {"type": "string", "description": "Date and time of image member creation"},
            "updated_at": {"type": "string", "description": "Date and time of last modification of image member"},
            "schema": {"type": "string", "readOnly": true},
        },
    })
}

fn task() -> Value {
    json!({
        "name": "task",
        "properties": {
            "id": {"type": "string", "description": "An identifier for the task"},
            "type": {"type": "string", "enum": ["api_image_import"], "description": "The type of task represented by this content"},
            "status": {"type": "string", "enum": ["pending", "processing", "success", "failure"], "description": "The current status of this task"},
            "input": {"type": ["null", "object"], "description": "The parameters required by task, JSON blob"},
            "result": {"type": ["null", "object"], "description": "The result of current task, JSON blob"},
            "owner": {"type": ["null", "string"], "description": "An identifier for the owner of this task"},
            "message": {"type": "string", "description": "Human-readable informative message only included when appropriate (usually on failure)"},
            "image_id": {"type": "string"},
            "request_id": {"type": "string"},
            "user_id": {"type": ["null", "string"]},
            "expires_at": {"type": ["null", "string"]},
            "created_at": {"type": "string"},
            "updated_at": {"type": "string"},
            "self": {"type": "string", "readOnly": true},
            "schema": {"type": "string", "readOnly": true},
        },
    })
}

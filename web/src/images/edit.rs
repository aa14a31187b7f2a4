//! What can be changed of an image.

use std::collections::BTreeMap;

use askama::Template;
use axum::{extract::Path, response::Response};
use http::Method;
use serde_json::{Value, json};

use super::model::Image;
use crate::{
    api::{Service, encoded},
    failure::{Failure, Result},
    form::{Fields, listed, pairs},
    frame::Frame,
    visit::Visit,
};

/// A free property that this cloud acts upon.
pub struct Known {
    pub name: &'static str,
    pub hint: &'static str,
    /// Empty: any text.
    pub values: &'static [&'static str],
}

const fn t(text: &'static str) -> &'static str {
    text
}

pub const KNOWN: &[Known] = &[
    Known {
        name: "hw_firmware_type",
        hint: t("What starts the guest. Images that only know UEFI, and Windows, need uefi."),
        values: &["bios", "uefi"],
    },
    Known {
        name: "os_secure_boot",
        hint: t("Whether the firmware starts signed systems alone. Needs uefi."),
        values: &["optional", "required", "disabled"],
    },
    Known {
        name: "hw_qemu_guest_agent",
        hint: t("Whether the guest runs the QEMU guest agent: for passwords, and quiet snapshots."),
        values: &["yes", "no"],
    },
    Known {
        name: "os_require_quiesce",
        hint: t("Whether a snapshot fails if the guest's file systems cannot be made quiet first."),
        values: &["yes", "no"],
    },
    Known { name: "os_admin_user", hint: t("Whose password is set: root if nothing else is said."), values: &[] },
    Known { name: "os_type", hint: t("linux or windows."), values: &["linux", "windows"] },
    Known {
        name: "img_config_drive",
        hint: t("Whether servers of this image always get a configuration drive."),
        values: &["mandatory", "optional"],
    },
    Known {
        name: "hw_video_model",
        hint: t("The graphics card of the guest; none for servers without a screen."),
        values: &[],
    },
    Known {
        name: "hw_rescue_device",
        hint: t("As what this image is attached to a server it rescues."),
        values: &["disk", "cdrom"],
    },
];

#[derive(Template)]
#[template(path = "images/edit.html")]
struct Page {
    frame: Frame,
    image: Image,
    fields: Fields,
    known: &'static [Known],
}

impl Page {
    fn new(visit: &Visit, image: Image, fields: Fields) -> Self {
        let title = visit.words().fill("Edit {}", &[&image.title()]);
        Self { frame: visit.frame("/images", title), image, fields, known: KNOWN }
    }
}

fn is_known(name: &str) -> bool {
    KNOWN.iter().any(|known| known.name == name)
}

fn fields_of(image: &Image) -> Fields {
    let mut fields = Fields::default()
        .with("name", image.name.as_deref().unwrap_or_default())
        .with("visibility", &image.visibility)
        .with("min_disk", image.min_disk.to_string())
        .with("min_ram", image.min_ram.to_string())
        .with("tags", image.tags.join(", "));
    for (name, on) in [("protected", image.protected), ("os_hidden", image.os_hidden)] {
        if on {
            fields.push(name, "1");
        }
    }
    let mut others = String::new();
    for (name, value) in image.properties() {
        if is_known(name) {
            fields.push(name, value);
        } else {
            others.push_str(&format!("{name}={}\n", value.replace(['\r', '\n'], " ")));
        }
    }
    fields.with("properties", others)
}

/// `GET /images/{id}/edit`.
pub(super) async fn form(visit: Visit, Path(id): Path<String>) -> Result<Response> {
    let image: Image = visit.api.get(Service::Images, &format!("/images/{}", encoded(&id))).await?;
    let fields = fields_of(&image);
    visit.page(&Page::new(&visit, image, fields))
}

/// `POST /images/{id}/edit`.
pub(super) async fn update(visit: Visit, Path(id): Path<String>, fields: Fields) -> Result<Response> {
    let path = format!("/images/{}", encoded(&id));
    let image: Image = visit.api.get(Service::Images, &path).await?;
    let result = async {
        let patch = changes(&image, &fields)?;
        if patch.is_empty() {
            return Ok(());
        }
        let kind = [("content-type", "application/openstack-images-v2.1-json-patch")];
        visit.api.send_with(Method::PATCH, Service::Images, &path, &kind, Some(&Value::from(patch))).await.map(|_| ())
    }
    .await;
    match result {
        Ok(()) => visit.done(&path, visit.words().t("The image is changed.")).await,
        Err(failure) if failure.is_users() => {
            let mut page = Page::new(&visit, image, fields);
            page.frame = page.frame.with_problem(&failure);
            visit.again(&failure, &page)
        }
        Err(failure) => Err(failure),
    }
}

/// What differs, as a patch.
fn changes(image: &Image, fields: &Fields) -> Result<Vec<Value>> {
    let mut patch = Vec::new();
    let mut replace = |name: &str, old: Value, new: Value| {
        if old != new {
            patch.push(json!({"op": "replace", "path": format!("/{name}"), "value": new}));
        }
    };
    replace("name", json!(image.name.as_deref().unwrap_or_default()), json!(fields.get("name")));
    if fields.on("visibility") {
        replace("visibility", json!(image.visibility), json!(fields.get("visibility")));
    }
    replace("protected", json!(image.protected), json!(fields.on("protected")));
    replace("os_hidden", json!(image.os_hidden), json!(fields.on("os_hidden")));
    replace("min_disk", json!(image.min_disk), json!(fields.number("min_disk")?.unwrap_or(0)));
    replace("min_ram", json!(image.min_ram), json!(fields.number("min_ram")?.unwrap_or(0)));
    let (mut old, mut new) = (image.tags.clone(), listed(fields.get("tags")));
    old.sort();
    new.sort();
    replace("tags", json!(old), json!(new));

    let before: BTreeMap<String, String> =
        image.properties().into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut after: BTreeMap<String, String> = pairs(fields.raw("properties"))?.into_iter().collect();
    if let Some(name) = after.keys().find(|name| is_known(name)) {
        return Err(Failure::bad_request(format!("{name} has a field of its own.")));
    }
    for known in KNOWN.iter().filter(|known| fields.on(known.name)) {
        after.insert(known.name.to_owned(), fields.get(known.name).to_owned());
    }
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        patch.push(json!({"op": "remove", "path": pointer(name)}));
    }
    for (name, value) in &after {
        let op = match before.get(name) {
            // What a text area made of line ends is no change.
            Some(old) if old.replace(['\r', '\n'], " ").trim() == value => continue,
            Some(_) => "replace",
            None => "add",
        };
        patch.push(json!({"op": op, "path": pointer(name), "value": value}));
    }
    Ok(patch)
}

/// RFC 6901.
fn pointer(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        serde_json::from_value(json!({
            "id": "1", "name": "a", "status": "active", "visibility": "private", "owner": "p", "size": 1,
            "virtual_size": null, "disk_format": "raw", "container_format": "bare", "min_disk": 1, "min_ram": 0,
            "protected": true, "os_hidden": false, "tags": ["y", "x"], "created_at": "", "updated_at": "",
            "self": "/v2/images/1", "schema": "/s", "stores": "local", "file": "/f", "checksum": "c",
            "hw_firmware_type": "uefi", "a/b": "1", "lines": "1\n2",
        }))
        .unwrap()
    }

    #[test]
    fn a_form_that_is_sent_back_as_it_came_changes_nothing() {
        let image = image();
        assert_eq!(image.properties(), [("a/b", "1"), ("hw_firmware_type", "uefi"), ("lines", "1\n2")]);
        assert_eq!(changes(&image, &fields_of(&image)).unwrap(), Vec::<Value>::new());
    }

    #[test]
    fn only_what_differs_is_in_the_patch() {
        let form =
            "name=b&visibility=public&min_disk=1&tags=x,+y&hw_firmware_type=bios&properties=lines%3D1+2%0D%0Ax~y%3D%3D";
        let patch = changes(&image(), &Fields::parse(form.as_bytes())).unwrap();
        assert_eq!(
            json!(patch),
            json!([
                {"op": "replace", "path": "/name", "value": "b"},
                {"op": "replace", "path": "/visibility", "value": "public"},
                {"op": "replace", "path": "/protected", "value": false},
                {"op": "remove", "path": "/a~1b"},
                {"op": "replace", "path": "/hw_firmware_type", "value": "bios"},
                {"op": "add", "path": "/x~0y", "value": "="},
            ])
        );
        assert!(changes(&image(), &Fields::parse(b"min_ram=much")).is_err());
        assert!(changes(&image(), &Fields::parse(b"properties=hw_firmware_type%3Dbios")).is_err());
    }
}

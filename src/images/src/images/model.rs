//! What an image is, and what may be said of it.
//!
//! ```text
//!            PUT file                    whole, inspected
//!  queued ───────────────► saving ──────────────────────────► active ◄──► deactivated
//!    │ ▲                     │ failed, cut off, refused, crash
//!    │ └─────────────────────┤
//!    │ PUT stage             │
//!    └──────────► uploading ─┴─ POST import ──► importing ──► active
//! ```
//!
//! Nothing leads from active or deactivated back to queued: the bytes of an image never change.

use std::collections::BTreeMap;

use disks::Format;
use rest::{Error, Result};
use serde_json::Value;

pub const CONTAINER_FORMATS: [&str; 8] = ["ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed"];
/// Containers that hold nothing but the disk, so that the disk can be inspected and booted.
const PLAIN_CONTAINERS: [&str; 4] = ["bare", "ami", "ari", "aki"];

const NAME_MAX: usize = 255;
const VALUE_MAX: usize = 65_535;
const PROPERTIES_MAX: usize = 128;
const TAGS_MAX: usize = 128;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($variant),+ }
        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant),+];
            pub fn as_str(self) -> &'static str { match self { $($name::$variant => $text),+ } }
            pub fn parse(text: &str) -> Option<Self> { match text { $($text => Some($name::$variant),)+ _ => None } }
        }
    };
}

words!(Status {
    Queued = "queued",
    Saving = "saving",
    Uploading = "uploading",
    Importing = "importing",
    Active = "active",
    Deactivated = "deactivated",
});

words!(Visibility { Community = "community", Public = "public", Private = "private", Shared = "shared" });

#[derive(Clone, Debug)]
pub struct Image {
    pub id: String,
    pub name: Option<String>,
    pub owner: String,
    pub status: Status,
    pub visibility: Visibility,
    pub disk_format: Option<String>,
    pub container_format: Option<String>,
    pub size_bytes: Option<u64>,
    pub virtual_size_bytes: Option<u64>,
    pub checksum: Option<String>,
    pub os_hash_value: Option<String>,
    pub min_disk_gib: u32,
    pub min_ram_mib: u32,
    pub protected: bool,
    pub os_hidden: bool,
    pub upload_id: Option<String>,
    pub staged: Option<Staged>,
    pub created_at: String,
    pub updated_at: String,
    pub tags: Vec<String>,
    pub properties: BTreeMap<String, String>,
    /// The caller's project, when the image was shared with it.
    pub caller_member: Option<String>,
}

/// A staged file that is complete.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Staged {
    pub size_bytes: u64,
    pub checksum: String,
    pub hash_value: String,
}

/// What clients may never set.
const READ_ONLY: [&str; 15] = [
    "created_at",
    "updated_at",
    "status",
    "checksum",
    "size",
    "virtual_size",
    "direct_url",
    "self",
    "file",
    "schema",
    "id",
    "os_hash_algo",
    "os_hash_value",
    "stores",
    "locations",
];
/// Properties that only the service writes.
pub const OWN: &str = "os_glance";
const RESERVED: [&str; 3] = ["location", "deleted", "deleted_at"];
/// What every image has, so that it can be replaced but not removed.
const BASE: [&str; 10] = [
    "name",
    "owner",
    "visibility",
    "disk_format",
    "container_format",
    "min_disk",
    "min_ram",
    "protected",
    "os_hidden",
    "tags",
];

/// Whether `key` is an attribute that every image has.
pub fn is_base(key: &str) -> bool {
    BASE.contains(&key) || READ_ONLY.contains(&key)
}

/// Refuses keys that clients may not write. `id` may be chosen when an image is created.
pub fn check_writable(key: &str) -> Result<()> {
    if key == "locations" {
        return Err(Error::forbidden("It's not allowed to add or update locations if locations are invisible."));
    }
    if READ_ONLY.contains(&key) {
        return Err(Error::forbidden(format!("Attribute '{key}' is read-only.")));
    }
    if RESERVED.contains(&key) || key.starts_with(OWN) {
        return Err(Error::forbidden(format!("Attribute '{key}' is reserved.")));
    }
    Ok(())
}

impl Image {
    /// A record without data.
    pub fn new(id: String, owner: String, now: String) -> Self {
        Image {
            id,
            name: None,
            owner,
            status: Status::Queued,
            visibility: Visibility::Shared,
            disk_format: None,
            container_format: None,
            size_bytes: None,
            virtual_size_bytes: None,
            checksum: None,
            os_hash_value: None,
            min_disk_gib: 0,
            min_ram_mib: 0,
            protected: false,
            os_hidden: false,
            upload_id: None,
            staged: None,
            created_at: now.clone(),
            updated_at: now,
            tags: Vec::new(),
            properties: BTreeMap::new(),
            caller_member: None,
        }
    }

    /// Sets an attribute or a free property from a client's value. Whether the caller may is not decided here.
    pub fn assign(&mut self, key: &str, value: &Value) -> Result<()> {
        match key {
            "name" => self.name = text_or_null(key, value, NAME_MAX)?,
            "owner" => {
                self.owner = text_or_null(key, value, NAME_MAX)?
                    .filter(|owner| !owner.is_empty())
                    .ok_or_else(|| invalid(key, value, "expected a project id"))?;
            }
            "visibility" => {
                self.visibility = value
                    .as_str()
                    .and_then(Visibility::parse)
                    .ok_or_else(|| invalid(key, value, "expected one of community, public, private, shared"))?;
            }
            "disk_format" => {
                self.disk_format = choice(key, value, |text| Format::from_name(text).is_some(), &disk_formats())?;
            }
            "container_format" => {
                self.container_format =
                    choice(key, value, |text| CONTAINER_FORMATS.contains(&text), &CONTAINER_FORMATS)?;
            }
            "min_disk" => self.min_disk_gib = size(key, value)?,
            "min_ram" => self.min_ram_mib = size(key, value)?,
            "protected" => self.protected = boolean(key, value)?,
            "os_hidden" => self.os_hidden = boolean(key, value)?,
            "tags" => self.tags = tags(value)?,
            _ => {
                if key.is_empty() || key.chars().count() > NAME_MAX {
                    return Err(Error::bad_request(format!("A property name has 1 to {NAME_MAX} characters.")));
                }
                let text = value.as_str().ok_or_else(|| invalid(key, value, "expected a string"))?;
                if text.len() > VALUE_MAX {
                    return Err(Error::bad_request(format!("The value of property {key} is too long.")));
                }
                self.properties.insert(key.to_owned(), text.to_owned());
            }
        }
        Ok(())
    }

    /// The bounds on how much may be said of one image.
    pub fn check_quotas(&self) -> Result<()> {
        // What the service itself says of an image is not the user's.
        let properties = self.properties.keys().filter(|name| !name.starts_with(OWN)).count();
        for (noun, count, max) in [("properties", properties, PROPERTIES_MAX), ("tags", self.tags.len(), TAGS_MAX)] {
            if count > max {
                return Err(Error::too_large(format!(
                    "The limit has been exceeded on the number of allowed image {noun}. Attempted: {count}, Maximum: {max}"
                )));
            }
        }
        Ok(())
    }

    /// The format in which the bytes are kept; both formats must be known before there can be any.
    pub fn formats(&self) -> Result<(Format, &str)> {
        let missing =
            || Error::bad_request("Properties disk_format, container_format must be set prior to saving data.");
        let disk = self.disk_format.as_deref().and_then(Format::from_name).ok_or_else(missing)?;
        Ok((disk, self.container_format.as_deref().ok_or_else(missing)?))
    }

    /// Whether the file is the disk itself and not an archive around it.
    pub fn is_plain(&self) -> bool {
        self.container_format.as_deref().is_some_and(|container| PLAIN_CONTAINERS.contains(&container))
    }
}

pub fn disk_formats() -> [&'static str; 10] {
    Format::ALL.map(Format::name)
}

fn invalid(key: &str, value: &Value, expected: &str) -> Error {
    let mut shown: String = value.to_string().chars().take(80).collect();
    if shown.len() < value.to_string().len() {
        shown.push_str("...");
    }
    Error::bad_request(format!("Invalid value {shown} for {key}: {expected}."))
}

fn text_or_null(key: &str, value: &Value, max: usize) -> Result<Option<String>> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if text.chars().count() <= max => Ok(Some(text.clone())),
        Value::String(_) => Err(Error::bad_request(format!("The value of {key} is longer than {max} characters."))),
        _ => Err(invalid(key, value, "expected a string")),
    }
}

fn choice(key: &str, value: &Value, known: impl Fn(&str) -> bool, all: &[&str]) -> Result<Option<String>> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if known(text) => Ok(Some(text.clone())),
        _ => Err(invalid(key, value, &format!("expected one of {}", all.join(", ")))),
    }
}

fn size(key: &str, value: &Value) -> Result<u32> {
    value
        .as_u64()
        .and_then(|n| u32::try_from(n).ok())
        .filter(|n| *n <= i32::MAX.unsigned_abs())
        .ok_or_else(|| invalid(key, value, "expected an integer from 0 to 2147483647"))
}

fn boolean(key: &str, value: &Value) -> Result<bool> {
    value.as_bool().ok_or_else(|| invalid(key, value, "expected true or false"))
}

fn tags(value: &Value) -> Result<Vec<String>> {
    let list = value.as_array().ok_or_else(|| invalid("tags", value, "expected a list"))?;
    let mut tags = Vec::with_capacity(list.len().min(TAGS_MAX));
    for tag in list {
        let tag = check_tag(tag.as_str().ok_or_else(|| invalid("tags", tag, "expected a string"))?)?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
        if tags.len() > TAGS_MAX {
            break;
        }
    }
    Ok(tags)
}

/// A tag that can be kept.
pub fn check_tag(tag: &str) -> Result<String> {
    if tag.is_empty() || tag.chars().count() > NAME_MAX {
        return Err(Error::bad_request(format!("A tag has 1 to {NAME_MAX} characters.")));
    }
    Ok(tag.to_owned())
}

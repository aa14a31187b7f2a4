//! The body of POST /servers, checked: what upstream's schema says, before anything is looked up.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use base64::Engine as _;
use rest::{Ctx, Error, Result, is_uuid, nullable};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::personality::{self, InjectedFile};
use crate::flavors::{handlers::unexpected, model::check_name};

const USER_DATA_MAX_BYTES: usize = 65_535;
const COUNT_MAX: i64 = 1000;

#[derive(Deserialize)]
pub(crate) struct CreateBody {
    pub server: ServerRequest,
    #[serde(default, rename = "os:scheduler_hints", alias = "OS-SCH-HNT:scheduler_hints")]
    pub hints: Option<serde_json::Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerRequest {
    pub name: String,
    #[serde(rename = "imageRef")]
    pub image_ref: Option<String>,
    #[serde(rename = "flavorRef", deserialize_with = "text_or_number")]
    pub flavor_ref: String,
    pub networks: Option<Networks>,
    pub key_name: Option<String>,
    pub user_data: Option<String>,
    pub metadata: Option<BTreeMap<String, Value>>,
    #[serde(default, deserialize_with = "config_drive")]
    pub config_drive: Option<bool>,
    pub security_groups: Option<Vec<GroupName>>,
    #[serde(default, deserialize_with = "count")]
    pub min_count: Option<i64>,
    #[serde(default, deserialize_with = "count")]
    pub max_count: Option<i64>,
    #[serde(default, deserialize_with = "maybe_boolean")]
    pub return_reservation_id: Option<bool>,
    pub availability_zone: Option<String>,
    #[serde(rename = "adminPass")]
    pub admin_pass: Option<String>,
    #[serde(rename = "accessIPv4")]
    pub access_ipv4: Option<String>,
    #[serde(rename = "accessIPv6")]
    pub access_ipv6: Option<String>,
    #[serde(rename = "OS-DCF:diskConfig")]
    pub disk_config: Option<String>,
    pub description: Option<Value>,
    pub tags: Option<Vec<String>>,
    pub block_device_mapping_v2: Option<Vec<BlockDevice>>,
    pub block_device_mapping: Option<Value>,
    pub personality: Option<Vec<Value>>,
    #[serde(default, deserialize_with = "nullable")]
    pub trusted_image_certificates: Option<Option<Vec<String>>>,
    pub host: Option<String>,
    pub hypervisor_hostname: Option<String>,
    pub hostname: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupName {
    pub name: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Networks {
    Word(String),
    List(Vec<NetworkRequest>),
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetworkRequest {
    pub uuid: Option<String>,
    pub port: Option<String>,
    pub fixed_ip: Option<String>,
    pub tag: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct BlockDevice {
    #[serde(default)]
    pub source_type: Option<String>,
    #[serde(default)]
    pub destination_type: Option<String>,
    #[serde(default)]
    pub uuid: Option<String>,
    #[serde(default)]
    pub boot_index: Option<Value>,
}

/// The request with every field checked and every default filled in.
pub(crate) struct Wanted {
    pub name: String,
    pub image_id: String,
    pub flavor_id: String,
    pub networks: WantedNetworks,
    pub key_name: Option<String>,
    pub user_data: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub config_drive: bool,
    pub files: Vec<InjectedFile>,
    pub security_groups: Vec<String>,
    pub min_count: usize,
    pub max_count: usize,
    pub return_reservation_id: bool,
    pub availability_zone: Option<String>,
    pub host: Option<String>,
    pub hypervisor_hostname: Option<String>,
    pub hostname: Option<String>,
    pub admin_pass: String,
    pub access_ipv4: String,
    pub access_ipv6: String,
    pub disk_config: String,
    pub description: Option<String>,
    pub tags: Vec<String>,
}

pub(crate) enum WantedNetworks {
    /// The one network that the project can use, or none if there is none.
    Default,
    /// `none`: no interface at all.
    None,
    /// `auto`: the one network, which must exist.
    Auto,
    Listed(Vec<NetworkRequest>),
}

pub(crate) fn bad(field: &str, why: &str) -> Error {
    Error::bad_request(format!("Invalid input for field/attribute {field}: {why}."))
}

impl ServerRequest {
    pub fn checked(self, ctx: &Ctx) -> Result<Wanted> {
        for (present, field, since) in [
            (self.description.is_some(), "description", (2, 19)),
            (self.tags.is_some(), "tags", (2, 52)),
            (self.trusted_image_certificates.is_some(), "trusted_image_certificates", (2, 63)),
            (self.host.is_some(), "host", (2, 74)),
            (self.hypervisor_hostname.is_some(), "hypervisor_hostname", (2, 74)),
        ] {
            if present && !ctx.since(since.0, since.1) {
                return Err(unexpected(field));
            }
        }
        let files = personality::asked(ctx, self.personality)?;
        if self.block_device_mapping.is_some() {
            return Err(Error::bad_request("Block Device Mapping is Invalid: volumes are not supported yet."));
        }
        trusted_certificates(self.trusted_image_certificates)?;
        let zone = self.availability_zone.filter(|zone| !zone.is_empty());
        if zone.as_ref().is_some_and(|zone| zone.contains(':'))
            && (self.host.is_some() || self.hypervisor_hostname.is_some())
        {
            return Err(Error::bad_request(
                "Unable to specify both availability_zone with a host, and host or hypervisor_hostname.",
            ));
        }
        let name = check_name("name", &self.name)?;
        let image_id = image(self.image_ref, self.block_device_mapping_v2)?;
        let networks = networks(ctx, self.networks)?;
        let (min_count, max_count) = counts(self.min_count, self.max_count)?;
        let description = match self.description {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if text.chars().count() <= 255 => Some(text),
            Some(_) => return Err(bad("description", "it must be null or text of at most 255 characters")),
        };
        let mut tags = self.tags.unwrap_or_default();
        tags.sort();
        tags.dedup();
        tags.iter().try_for_each(|tag| super::tags::check(tag))?;
        if tags.len() > super::tags::TAGS_MAX {
            return Err(bad("tags", "too many"));
        }
        let admin_pass = admin_pass(self.admin_pass)?;
        let mut security_groups: Vec<String> =
            self.security_groups.unwrap_or_default().into_iter().map(|group| group.name).collect();
        let mut seen = std::collections::HashSet::new();
        security_groups.retain(|name| seen.insert(name.clone()));
        if security_groups.is_empty() {
            security_groups.push("default".into());
        }
        Ok(Wanted {
            name,
            image_id,
            flavor_id: flavor_id(&self.flavor_ref)?,
            networks,
            key_name: self.key_name,
            user_data: self.user_data.map(user_data).transpose()?,
            metadata: metadata(self.metadata.unwrap_or_default())?,
            // There is no other way to them.
            config_drive: self.config_drive.unwrap_or(false) || !files.is_empty(),
            files,
            security_groups,
            min_count,
            max_count,
            return_reservation_id: self.return_reservation_id.unwrap_or(false),
            availability_zone: zone,
            host: self.host,
            hypervisor_hostname: self.hypervisor_hostname,
            hostname: hostname(ctx, self.hostname)?,
            admin_pass,
            access_ipv4: address::<Ipv4Addr>("accessIPv4", self.access_ipv4)?,
            access_ipv6: address::<Ipv6Addr>("accessIPv6", self.access_ipv6)?,
            disk_config: disk_config(self.disk_config)?.unwrap_or_else(|| "MANUAL".into()),
            description,
            tags,
        })
    }
}

/// The guest's own name (2.90): a label of RFC 1123, and since 2.94 a name of several.
pub(crate) fn hostname(ctx: &Ctx, asked: Option<String>) -> Result<Option<String>> {
    let Some(name) = asked else { return Ok(None) };
    if !ctx.since(2, 90) {
        return Err(unexpected("hostname"));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let good = if ctx.since(2, 94) {
        (2..=255).contains(&name.len()) && name.split('.').all(label)
    } else {
        (2..=63).contains(&name.len()) && label(&name)
    };
    if good { Ok(Some(name)) } else { Err(bad("hostname", "it is no host name (RFC 1123)")) }
}

/// Nothing here checks the signatures of images, and to accept the names would say that it does.
pub(crate) fn trusted_certificates(asked: Option<Option<Vec<String>>>) -> Result<()> {
    match asked {
        None | Some(None) => Ok(()),
        Some(Some(_)) => Err(bad(
            "trusted_image_certificates",
            "signatures of images are not checked by this cloud, so certificates cannot be asked for",
        )),
    }
}

fn image(image_ref: Option<String>, devices: Option<Vec<BlockDevice>>) -> Result<String> {
    let mut from_device = None;
    for device in devices.unwrap_or_default() {
        let source = device.source_type.as_deref().unwrap_or("volume");
        let destination = device.destination_type.as_deref().unwrap_or("volume");
        let boots = matches!(&device.boot_index, Some(Value::Number(index)) if index.as_i64() == Some(0))
            || matches!(&device.boot_index, Some(Value::String(index)) if index == "0");
        match (source, destination) {
            ("image", "local") if boots => from_device = device.uuid,
            _ => {
                return Err(Error::bad_request(format!(
                    "Block Device Mapping is Invalid: {source} to {destination} is not supported yet; only the boot \
                     image as a local disk is."
                )));
            }
        }
    }
    let image_ref = image_ref.filter(|image| !image.is_empty());
    match (image_ref, from_device) {
        (Some(image), Some(device)) if image != device => {
            Err(Error::bad_request("Block Device Mapping is Invalid: the boot image is not imageRef."))
        }
        (Some(image), _) | (None, Some(image)) => {
            // A link to the image is accepted as upstream does; its last segment is the id.
            let id = image.rsplit('/').next().unwrap_or_default().to_owned();
            if is_uuid(&id) { Ok(id) } else { Err(bad("imageRef", "it is no image id")) }
        }
        (None, None) => Err(Error::bad_request(
            "Invalid imageRef provided: an image is needed, because booting from a volume is not supported yet.",
        )),
    }
}

fn networks(ctx: &Ctx, networks: Option<Networks>) -> Result<WantedNetworks> {
    let list = match networks {
        None if ctx.since(2, 37) => return Err(Error::bad_request("'networks' is a required property")),
        None => return Ok(WantedNetworks::Default),
        Some(Networks::Word(word)) => {
            return match word.as_str() {
                "auto" if ctx.since(2, 37) => Ok(WantedNetworks::Auto),
                "none" if ctx.since(2, 37) => Ok(WantedNetworks::None),
                _ => Err(bad("networks", "it must be a list, or (since 2.37) 'auto' or 'none'")),
            };
        }
        Some(Networks::List(list)) => list,
    };
    if list.is_empty() {
        return Ok(WantedNetworks::Default);
    }
    for network in &list {
        if network.tag.is_some() && !(ctx.version() == rest::Microversion(2, 32) || ctx.since(2, 42)) {
            return Err(unexpected("tag"));
        }
        if let Some(tag) = &network.tag {
            super::tags::check_device_tag(tag)?;
        }
        match (&network.uuid, &network.port) {
            (None, None) => return Err(Error::bad_request("Bad network format: missing 'uuid' or 'port'")),
            (Some(id), _) | (None, Some(id)) if !is_uuid(id) => {
                return Err(Error::bad_request(format!(
                    "Bad networks format: network uuid is not in proper format ({id})"
                )));
            }
            (_, Some(_)) if network.fixed_ip.is_some() => {
                return Err(Error::bad_request("Specified Fixed IP cannot be used with a port."));
            }
            _ => {}
        }
        if network.fixed_ip.as_deref().is_some_and(|ip| ip.parse::<std::net::IpAddr>().is_err()) {
            return Err(bad("fixed_ip", "it is no IP address"));
        }
    }
    if list.len() > vmspec::spec::MAX_NICS {
        return Err(bad("networks", "a server can have 8 interfaces at most"));
    }
    Ok(WantedNetworks::Listed(list))
}

fn counts(min: Option<i64>, max: Option<i64>) -> Result<(usize, usize)> {
    let min_count = min.unwrap_or(1);
    let max_count = max.unwrap_or(min_count);
    for (field, value) in [("min_count", min_count), ("max_count", max_count)] {
        if !(1..=COUNT_MAX).contains(&value) {
            return Err(bad(field, "it must be 1 to 1000"));
        }
    }
    if min_count > max_count {
        return Err(Error::bad_request("min_count must be <= max_count"));
    }
    Ok((usize::try_from(min_count).unwrap_or(1), usize::try_from(max_count).unwrap_or(1)))
}

pub(crate) fn flavor_id(text: &str) -> Result<String> {
    let id = text.rsplit('/').next().unwrap_or_default();
    if id.is_empty() { Err(bad("flavorRef", "it names no flavor")) } else { Ok(id.to_owned()) }
}

/// Base64 that decodes to at most 65,535 bytes; kept as sent.
pub(crate) fn user_data(text: String) -> Result<String> {
    let packed: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    if packed.len() > USER_DATA_MAX_BYTES {
        return Err(bad("user_data", "longer than 65535 characters"));
    }
    match base64::engine::general_purpose::STANDARD.decode(&packed) {
        Ok(_) => Ok(packed),
        Err(_) => Err(bad("user_data", "it is not base64")),
    }
}

pub(crate) fn metadata(items: BTreeMap<String, Value>) -> Result<BTreeMap<String, String>> {
    items
        .into_iter()
        .map(|(key, value)| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_:. ".contains(c);
            if key.is_empty() || key.chars().count() > 255 || !key.chars().all(plain) {
                return Err(bad("metadata", "a key must have 1 to 255 letters, digits, spaces and '-_:.'"));
            }
            match value {
                Value::String(text) if text.chars().count() <= 255 => Ok((key, text)),
                _ => Err(bad(&format!("metadata.{key}"), "a value must be text of at most 255 characters")),
            }
        })
        .collect()
}

/// The fields of an action, refused with the place of the mistake.
pub(crate) fn fields<T: serde::de::DeserializeOwned>(action: &str, argument: Value) -> Result<T> {
    if !argument.is_object() {
        return Err(bad(action, "it must be an object"));
    }
    rest::from_json(argument)
}

/// An action without arguments: null, or as some clients have it, an object with nothing in it.
pub(crate) fn nothing(action: &str, argument: &Value) -> Result<()> {
    let empty = argument.is_null() || argument.as_object().is_some_and(serde_json::Map::is_empty);
    if empty { Ok(()) } else { Err(bad(action, "it must be null")) }
}

/// A password of the guest's administrator: what was asked for, or one made up.
pub(crate) fn admin_pass(asked: Option<String>) -> Result<String> {
    match asked {
        Some(password) if password.chars().count() <= 255 => Ok(password),
        Some(_) => Err(bad("adminPass", "longer than 255 characters")),
        None => Ok(rest::new_hex_id()[..12].to_owned()),
    }
}

/// An address in its canonical form (RFC 5952), which is what is shown afterwards; empty where none is wanted.
pub(crate) fn address<T: std::str::FromStr + std::fmt::Display>(field: &str, text: Option<String>) -> Result<String> {
    match text.as_deref() {
        None | Some("") => Ok(String::new()),
        Some(text) => match text.parse::<T>() {
            Ok(address) => Ok(address.to_string()),
            Err(_) => Err(bad(field, "it is no address of this family")),
        },
    }
}

pub(crate) fn disk_config(text: Option<String>) -> Result<Option<String>> {
    match text.as_deref() {
        None | Some("AUTO" | "MANUAL") => Ok(text),
        Some(_) => Err(bad("OS-DCF:diskConfig", "it must be AUTO or MANUAL")),
    }
}

pub(crate) fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        Value::Number(number) if number.is_u64() => Ok(number.to_string()),
        other => Err(serde::de::Error::custom(format!("{other} is neither text nor a number"))),
    }
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<i64>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = match &value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number.map(Some).ok_or_else(|| serde::de::Error::custom(format!("{value} is not an integer")))
}

fn maybe_boolean<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<bool>, D::Error> {
    crate::flavors::handlers::boolean(deserializer).map(Some)
}

/// A boolean, or null, or an empty string, as Nova has always taken it.
fn config_drive<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<bool>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    match &value {
        Value::Null => Ok(None),
        Value::Bool(truth) => Ok(Some(*truth)),
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) => rest::parse_bool(text)
            .map(Some)
            .ok_or_else(|| serde::de::Error::custom(format!("{value} is not a boolean"))),
        _ => Err(serde::de::Error::custom(format!("{value} is not a boolean"))),
    }
}

//! `PATCH /v2/images/{id}`: JSON patch as the Image API restricts it (API reference, "Update image"), in its current
//! media type and in the one of version 2.0 (`{"replace": "/name", "value": ..}`).

use axum::extract::Request;
use http_body_util::{BodyExt, Limited};
use rest::{Error, JSON_BODY_MAX_BYTES, Kind, Result};
use serde_json::Value;

use super::model::{self, Image, Status};

const CURRENT: &str = "application/openstack-images-v2.1-json-patch";
const OLD: &str = "application/openstack-images-v2.0-json-patch";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Add,
    Replace,
    Remove,
}

/// One change of one attribute.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub op: Op,
    pub key: String,
    /// Only for `tags`, whose items the SDK addresses one by one.
    pub item: Option<String>,
    pub value: Value,
}

/// Reads the request's changes.
pub async fn read(request: Request) -> Result<Vec<Change>> {
    let kind = request.headers().get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let old = match essence.as_str() {
        CURRENT => false,
        OLD => true,
        _ => {
            let text = format!("Unsupported Content-Type: {essence}. Supported are {CURRENT} and {OLD}.");
            return Err(Error::new(Kind::WrongMediaType, text)
                .with_header(http::HeaderName::from_static("accept-patch"), http::HeaderValue::from_static(CURRENT)));
        }
    };
    let wait = std::time::Duration::from_secs(60);
    let body = tokio::time::timeout(wait, Limited::new(request.into_body(), JSON_BODY_MAX_BYTES).collect())
        .await
        .map_err(|_| Error::bad_request("The request body did not arrive in time."))?
        .map_err(|_| Error::too_large(format!("A body here may hold {JSON_BODY_MAX_BYTES} bytes.")))?;
    let body: Value = serde_json::from_slice(&body.to_bytes())
        .map_err(|_| Error::bad_request("Malformed request body: it is not valid JSON."))?;
    parse(&body, old)
}

pub fn parse(body: &Value, old: bool) -> Result<Vec<Change>> {
    let list =
        body.as_array().ok_or_else(|| Error::bad_request("Request body must be a JSON array of operation objects."))?;
    list.iter().map(|item| parse_change(item, old)).collect()
}

fn parse_change(item: &Value, old: bool) -> Result<Change> {
    let object = item.as_object().ok_or_else(|| Error::bad_request("Operations must be JSON objects."))?;
    let (name, pointer) = if old {
        let named: Vec<_> =
            ["add", "replace", "remove"].into_iter().filter(|name| object.contains_key(*name)).collect();
        match named.as_slice() {
            [name] => (*name, object.get(*name)),
            _ => return Err(Error::bad_request("Operation objects must contain exactly one of add, replace, remove.")),
        }
    } else {
        let name = object
            .get("op")
            .and_then(Value::as_str)
            .ok_or_else(|| Error::bad_request("Unable to find '\"op\"' in JSON Schema change"))?;
        (name, object.get("path"))
    };
    let op = match name {
        "add" => Op::Add,
        "replace" => Op::Replace,
        "remove" => Op::Remove,
        _ => return Err(Error::bad_request(format!("Operations must be one of add, replace, remove, not {name:?}."))),
    };
    let pointer = pointer
        .and_then(Value::as_str)
        .ok_or_else(|| Error::bad_request("Unable to find '\"path\"' in JSON Schema change"))?;
    let (key, item) = parse_pointer(pointer)?;
    let value = match (op, object.get("value")) {
        (Op::Remove, _) => Value::Null,
        (_, Some(value)) => value.clone(),
        (_, None) => {
            return Err(Error::bad_request("Operation \"add\" or \"replace\" requires a member named \"value\"."));
        }
    };
    Ok(Change { op, key, item, value })
}

fn parse_pointer(pointer: &str) -> Result<(String, Option<String>)> {
    let wrong = |why: &str| Error::bad_request(format!("Invalid JSON pointer for this resource: {pointer:?} {why}."));
    let rest = pointer.strip_prefix('/').ok_or_else(|| wrong("does not start with \"/\""))?;
    let parts: Vec<&str> = rest.split('/').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(wrong("has an empty part"));
    }
    let unescape = |part: &str| -> Result<String> {
        let mut text = String::with_capacity(part.len());
        let mut chars = part.chars();
        while let Some(c) = chars.next() {
            match (c, if c == '~' { chars.next() } else { None }) {
                ('~', Some('0')) => text.push('~'),
                ('~', Some('1')) => text.push('/'),
                ('~', _) => return Err(wrong("has a \"~\" that is not part of an escape sequence")),
                (other, _) => text.push(other),
            }
        }
        Ok(text)
    };
    match parts.as_slice() {
        [key] => Ok((unescape(key)?, None)),
        [key @ ("tags" | "locations"), item] => Ok(((*key).to_owned(), Some(unescape(item)?))),
        _ => Err(wrong("has too many parts")),
    }
}

/// Applies one change. What the caller may do with owner and visibility is the handler's to decide.
pub fn apply(image: &mut Image, change: &Change) -> Result<()> {
    let key = change.key.as_str();
    model::check_writable(key)?;
    if let Some(item) = &change.item {
        return apply_tag(image, change, item);
    }
    if matches!(key, "disk_format" | "container_format") && image.status != Status::Queued {
        return Err(Error::forbidden(format!("Attribute {key} can be only replaced for a queued image.")));
    }
    if change.op == Op::Remove {
        if model::is_base(key) {
            return Err(Error::forbidden(format!("Property {key} may not be removed.")));
        }
        return match image.properties.remove(key) {
            Some(_) => Ok(()),
            None => Err(Error::conflict(format!("Property {key} does not exist."))),
        };
    }
    if change.op == Op::Replace && !model::is_base(key) && !image.properties.contains_key(key) {
        return Err(Error::conflict(format!("Property {key} does not exist.")));
    }
    image.assign(key, &change.value)
}

/// One item of the list of tags, by its place in the order shown; `-` is the end.
fn apply_tag(image: &mut Image, change: &Change, item: &str) -> Result<()> {
    let missing = || Error::conflict(format!("There is no tag at /tags/{item}."));
    let index = match (item, change.op) {
        ("-", Op::Add) => image.tags.len(),
        _ => item.parse::<usize>().map_err(|_| missing())?,
    };
    if change.op == Op::Remove {
        if index >= image.tags.len() {
            return Err(missing());
        }
        image.tags.remove(index);
        return Ok(());
    }
    let tag = change.value.as_str().ok_or_else(|| Error::bad_request("A tag is a string."))?;
    let tag = model::check_tag(tag)?;
    match change.op {
        Op::Add if index <= image.tags.len() => image.tags.insert(index, tag),
        Op::Replace if index < image.tags.len() => {
            if let Some(old) = image.tags.get_mut(index) {
                *old = tag;
            }
        }
        _ => return Err(missing()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn image() -> Image {
        let mut image = Image::new("i".into(), "p".into(), "2026-01-02T03:04:05.000000Z".into());
        image.properties.insert("a/b".into(), "1".into());
        image.tags = vec!["x".into(), "y".into()];
        image
    }

    fn patched(body: Value, old: bool) -> Result<Image> {
        let mut image = image();
        for change in parse(&body, old)? {
            apply(&mut image, &change)?;
        }
        Ok(image)
    }

    fn status(body: Value) -> u16 {
        patched(body, false).unwrap_err().kind().status().as_u16()
    }

    #[test]
    fn both_media_types_add_replace_and_remove() {
        let image = patched(
            json!([{"op": "replace", "path": "/name", "value": "n"}, {"op": "add", "path": "/k", "value": "v"},
                   {"op": "remove", "path": "/a~1b"}, {"op": "add", "path": "/tags/-", "value": "z"},
                   {"op": "remove", "path": "/tags/0"}]),
            false,
        )
        .unwrap();
        assert_eq!(image.name.as_deref(), Some("n"));
        assert_eq!(image.properties.into_iter().collect::<Vec<_>>(), [("k".to_owned(), "v".to_owned())]);
        assert_eq!(image.tags, ["y", "z"]);
        let image = patched(json!([{"replace": "/min_ram", "value": 5}, {"remove": "/a~1b"}]), true).unwrap();
        assert_eq!(image.min_ram_mib, 5);
    }

    #[test]
    fn what_may_not_be_written_is_forbidden_and_what_is_malformed_is_a_bad_request() {
        for (body, expected) in [
            (json!({"op": "add"}), 400),
            (json!([1]), 400),
            (json!([{"path": "/name", "value": "x"}]), 400),
            (json!([{"op": "move", "path": "/name", "value": "x"}]), 400),
            (json!([{"op": "add", "value": "x"}]), 400),
            (json!([{"op": "add", "path": "name", "value": "x"}]), 400),
            (json!([{"op": "add", "path": "/", "value": "x"}]), 400),
            (json!([{"op": "add", "path": "/a//b", "value": "x"}]), 400),
            (json!([{"op": "add", "path": "/a/b", "value": "x"}]), 400),
            (json!([{"op": "add", "path": "/a~2", "value": "x"}]), 400),
            (json!([{"op": "add", "path": "/a"}]), 400),
            (json!([{"op": "add", "path": "/a", "value": 1}]), 400),
            (json!([{"op": "replace", "path": "/min_ram", "value": -1}]), 400),
            (json!([{"op": "replace", "path": "/min_ram", "value": 4294967296u64}]), 400),
            (json!([{"op": "replace", "path": "/visibility", "value": "secret"}]), 400),
            (json!([{"op": "replace", "path": "/protected", "value": "yes"}]), 400),
            (json!([{"op": "replace", "path": "/missing", "value": "x"}]), 409),
            (json!([{"op": "remove", "path": "/missing"}]), 409),
            (json!([{"op": "remove", "path": "/name"}]), 403),
            (json!([{"op": "replace", "path": "/status", "value": "active"}]), 403),
            (json!([{"op": "replace", "path": "/id", "value": "x"}]), 403),
            (json!([{"op": "add", "path": "/os_glance_x", "value": "x"}]), 403),
            (json!([{"op": "add", "path": "/deleted", "value": "x"}]), 403),
            (json!([{"op": "add", "path": "/locations/-", "value": {"url": "file:///etc/shadow"}}]), 403),
            (json!([{"op": "replace", "path": "/locations", "value": []}]), 403),
        ] {
            assert_eq!(status(body.clone()), expected, "{body}");
        }
    }
}

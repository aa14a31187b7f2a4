//! Reading a request's attributes: typed, one at a time, with Neutron's words for what does not fit. What no one took
//! is refused at the end, so a misspelt attribute never passes in silence.

use std::net::IpAddr;

use rest::{Ctx, Error, Result};
use serde_json::{Map, Value};

use crate::{
    errors::{bad, invalid},
    ip,
    ip::{HostRoute, Pool},
};

/// More items than this in one bulk request are refused.
const BULK_MAX: usize = 1000;
pub(crate) const NAME_MAX: usize = 255;

/// One resource as the client wrote it.
#[derive(Clone, Debug)]
pub(crate) struct Attributes {
    map: Map<String, Value>,
}

/// The resources of a `POST` body, and whether they came as a list.
#[derive(Debug)]
pub(crate) struct Bulk {
    pub items: Vec<Attributes>,
    pub is_list: bool,
}

impl Bulk {
    /// `{"network": {...}}` or `{"networks": [{...}, ...]}`.
    pub(crate) fn read(body: Value, singular: &str, plural: &str) -> Result<Self> {
        let mut body = object(body, singular)?;
        if let Some(list) = body.remove(plural) {
            if !body.is_empty() {
                return Err(bad("HTTPBadRequest", format!("Only '{plural}' may be in the request body")));
            }
            let Value::Array(list) = list else {
                return Err(invalid(plural, "it is not a list"));
            };
            if list.is_empty() {
                return Err(bad("HTTPBadRequest", "Resources required"));
            }
            if list.len() > BULK_MAX {
                return Err(bad("HTTPBadRequest", format!("A request may hold {BULK_MAX} resources at most")));
            }
            let items = list.into_iter().map(|item| item_of(item, singular)).collect::<Result<_>>()?;
            return Ok(Self { items, is_list: true });
        }
        Ok(Self { items: vec![single(body, singular)?], is_list: false })
    }
}

fn object(body: Value, singular: &str) -> Result<Map<String, Value>> {
    match body {
        Value::Object(map) => Ok(map),
        _ => Err(bad("HTTPBadRequest", format!("Unable to find '{singular}' in request body"))),
    }
}

fn single(mut body: Map<String, Value>, singular: &str) -> Result<Attributes> {
    match body.remove(singular) {
        Some(Value::Object(map)) if body.is_empty() => Ok(Attributes { map }),
        Some(Value::Object(_)) => Err(bad("HTTPBadRequest", format!("Only '{singular}' may be in the request body"))),
        Some(_) => Err(invalid(singular, "it is not a dictionary")),
        None => Err(bad("HTTPBadRequest", format!("Unable to find '{singular}' in request body"))),
    }
}

/// Items of a bulk request come bare, or wrapped once more in their singular.
fn item_of(item: Value, singular: &str) -> Result<Attributes> {
    match item {
        Value::Object(mut map) => match map.remove(singular) {
            Some(Value::Object(inner)) if map.is_empty() => Ok(Attributes { map: inner }),
            Some(other) => {
                map.insert(singular.to_owned(), other);
                Ok(Attributes { map })
            }
            None => Ok(Attributes { map }),
        },
        _ => Err(invalid(singular, "it is not a dictionary")),
    }
}

/// How a value reads in a refusal; long ones are cut.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null => "None".to_owned(),
        other => other.to_string(),
    };
    if text.chars().count() > 80 { format!("{}...", text.chars().take(80).collect::<String>()) } else { text }
}

impl Attributes {
    /// The body of a `PUT`: `{"network": {...}}`.
    pub(crate) fn update(body: Value, singular: &str) -> Result<Self> {
        single(object(body, singular)?, singular)
    }

    /// A body without an envelope, as router actions have it.
    pub(crate) fn bare(body: Value) -> Result<Self> {
        match body {
            Value::Object(map) => Ok(Self { map }),
            _ => Err(bad("HTTPBadRequest", "Invalid request body: it is not a dictionary")),
        }
    }

    /// Attributes inside an attribute (`external_gateway_info`).
    pub(crate) fn nested(name: &str, value: Value) -> Result<Self> {
        match value {
            Value::Object(map) => Ok(Self { map }),
            other => Err(invalid(name, format!("'{}' is not a dictionary", shown(&other)))),
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// Adds what the rest of a request implies.
    pub(crate) fn put(&mut self, name: &str, text: &str) {
        self.map.insert(name.to_owned(), Value::from(text));
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.swap_remove(name)
    }

    /// Refuses attributes that a client may never write.
    pub(crate) fn read_only(&self, names: &[&str], is_update: bool) -> Result<()> {
        match names.iter().find(|name| self.map.contains_key(**name)) {
            None => Ok(()),
            Some(name) if is_update => Err(bad("HTTPBadRequest", format!("Cannot update read-only attribute {name}"))),
            Some(name) => Err(bad("HTTPBadRequest", format!("Attribute '{name}' not allowed in POST"))),
        }
    }

    /// The project that a new resource belongs to. That a caller may name another than its own is up to policy.
    pub(crate) fn project(&mut self, ctx: &Ctx) -> Result<String> {
        let given = match (self.text_or_null("project_id", 255)?, self.text_or_null("tenant_id", 255)?) {
            (Some(Some(project)), Some(Some(tenant))) if project != tenant => {
                return Err(bad("HTTPBadRequest", "'project_id' and 'tenant_id' do not match"));
            }
            (Some(Some(project)), _) | (_, Some(Some(project))) => Some(project),
            _ => None,
        };
        match given.or_else(|| ctx.creds().ok().and_then(|creds| creds.project_id()).map(str::to_owned)) {
            Some(project) if !project.is_empty() && project.chars().all(|c| !c.is_control()) => Ok(project),
            _ => {
                Err(bad("HTTPBadRequest", "A token that is not scoped to a project needs 'project_id' in the request"))
            }
        }
    }

    pub(crate) fn required<T>(value: Option<T>, name: &str) -> Result<T> {
        value.ok_or_else(|| {
            bad("HTTPBadRequest", format!("Failed to parse request. Required attribute '{name}' not specified"))
        })
    }

    pub(crate) fn text(&mut self, name: &str, max: usize) -> Result<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => check_text(name, text, max).map(Some),
            Some(other) => Err(invalid(name, format!("'{}' is not a valid string", shown(&other)))),
        }
    }

    pub(crate) fn text_or_null(&mut self, name: &str, max: usize) -> Result<Option<Option<String>>> {
        match self.map.get(name) {
            Some(Value::Null) => {
                self.take(name);
                Ok(Some(None))
            }
            _ => Ok(self.text(name, max)?.map(Some)),
        }
    }

    /// Name and description: null means empty, as the clients send it to clear one.
    pub(crate) fn label(&mut self, name: &str) -> Result<Option<String>> {
        Ok(self.text_or_null(name, NAME_MAX)?.map(Option::unwrap_or_default))
    }

    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => read_flag(&value)
                .map(Some)
                .ok_or_else(|| invalid(name, format!("'{}' cannot be converted to boolean", shown(&value)))),
        }
    }

    pub(crate) fn integer(&mut self, name: &str, range: std::ops::RangeInclusive<i64>) -> Result<Option<i64>> {
        Ok(self.integer_or_null(name, range)?.flatten())
    }

    pub(crate) fn integer_or_null(
        &mut self,
        name: &str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Result<Option<Option<i64>>> {
        let value = match self.take(name) {
            None => return Ok(None),
            Some(Value::Null) => return Ok(Some(None)),
            Some(value) => value,
        };
        let number = match &value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let number = number.ok_or_else(|| invalid(name, format!("'{}' is not an integer", shown(&value))))?;
        if !range.contains(&number) {
            let reason = format!("'{number}' is not in range {} through {}", range.start(), range.end());
            return Err(invalid(name, reason));
        }
        Ok(Some(Some(number)))
    }

    pub(crate) fn one_of(&mut self, name: &str, allowed: &[&'static str]) -> Result<Option<&'static str>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        value
            .as_str()
            .and_then(|text| allowed.iter().find(|known| **known == text).copied())
            .map(Some)
            .ok_or_else(|| invalid(name, format!("'{}' is not in {allowed:?}", shown(&value))))
    }

    pub(crate) fn one_of_or_null(&mut self, name: &str, allowed: &[&'static str]) -> Result<Option<&'static str>> {
        if self.map.get(name).is_some_and(Value::is_null) {
            self.take(name);
            return Ok(None);
        }
        self.one_of(name, allowed)
    }

    pub(crate) fn uuid(&mut self, name: &str) -> Result<Option<String>> {
        Ok(match self.uuid_or_null(name)? {
            None => None,
            Some(Some(id)) => Some(id),
            Some(None) => return Err(invalid(name, "'None' is not a valid UUID")),
        })
    }

    pub(crate) fn uuid_or_null(&mut self, name: &str) -> Result<Option<Option<String>>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(value) => read_uuid(name, &value).map(|id| Some(Some(id))),
        }
    }

    pub(crate) fn address_or_null(&mut self, name: &str) -> Result<Option<Option<IpAddr>>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(value) => read_address(name, &value).map(|address| Some(Some(address))),
        }
    }

    pub(crate) fn list(&mut self, name: &str, max: usize) -> Result<Option<Vec<Value>>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(Vec::new())),
            Some(Value::Array(list)) if list.len() <= max => Ok(Some(list)),
            Some(Value::Array(_)) => Err(invalid(name, format!("it may hold {max} items at most"))),
            Some(other) => Err(invalid(name, format!("'{}' is not a list", shown(&other)))),
        }
    }

    pub(crate) fn uuids(&mut self, name: &str, max: usize) -> Result<Option<Vec<String>>> {
        let Some(list) = self.list(name, max)? else { return Ok(None) };
        let mut ids: Vec<String> = Vec::with_capacity(list.len());
        for value in &list {
            let id = read_uuid(name, value)?;
            if ids.contains(&id) {
                return Err(invalid(name, format!("Duplicate items in the list: '{id}'")));
            }
            ids.push(id);
        }
        Ok(Some(ids))
    }

    pub(crate) fn addresses(&mut self, name: &str, max: usize) -> Result<Option<Vec<IpAddr>>> {
        let Some(list) = self.list(name, max)? else { return Ok(None) };
        let mut addresses: Vec<IpAddr> = Vec::with_capacity(list.len());
        for value in &list {
            let address = read_address(name, value)?;
            if addresses.contains(&address) {
                return Err(invalid(name, format!("Duplicate items in the list: '{address}'")));
            }
            addresses.push(address);
        }
        Ok(Some(addresses))
    }

    pub(crate) fn routes(&mut self, name: &str, max: usize) -> Result<Option<Vec<HostRoute>>> {
        let Some(list) = self.list(name, max)? else { return Ok(None) };
        let mut routes: Vec<HostRoute> = Vec::with_capacity(list.len());
        for value in list {
            let mut route = Self::nested(name, value)?;
            let destination = Self::required(route.text("destination", 64)?, "destination")
                .and_then(|text| ip::parse_cidr(name, &text))?;
            let nexthop = route.address_or_null("nexthop")?.flatten();
            let nexthop = nexthop.ok_or_else(|| invalid(name, "a route needs a 'nexthop'"))?;
            route.finish()?;
            if destination.addr().is_ipv4() != nexthop.is_ipv4() {
                return Err(invalid(name, "destination and nexthop are of different IP versions"));
            }
            let route = HostRoute { destination, nexthop };
            if routes.contains(&route) {
                return Err(invalid(name, format!("Duplicate items in the list: '{destination} via {nexthop}'")));
            }
            routes.push(route);
        }
        Ok(Some(routes))
    }

    pub(crate) fn pools(&mut self, name: &str) -> Result<Option<Vec<Pool>>> {
        let Some(list) = self.list(name, 256)? else { return Ok(None) };
        let mut pools = Vec::with_capacity(list.len());
        for value in list {
            let mut pool = Self::nested(name, value)?;
            let start = pool.address_or_null("start")?.flatten();
            let end = pool.address_or_null("end")?.flatten();
            pool.finish()?;
            let (Some(start), Some(end)) = (start, end) else {
                return Err(invalid(name, "a pool needs 'start' and 'end'"));
            };
            pools.push(Pool { start, end });
        }
        Ok(Some(pools))
    }

    /// Refuses what nothing took.
    pub(crate) fn finish(self) -> Result<()> {
        if self.map.is_empty() {
            return Ok(());
        }
        let names: Vec<String> =
            self.map.keys().take(5).map(|name| format!("'{}'", name.chars().take(80).collect::<String>())).collect();
        Err(bad("HTTPBadRequest", format!("Unrecognized attribute(s) {}", names.join(", "))))
    }
}

fn check_text(name: &str, text: String, max: usize) -> Result<String> {
    if text.chars().count() > max {
        return Err(invalid(name, format!("'{}' exceeds maximum length of {max}", shown(&Value::from(text)))));
    }
    if text.contains('\0') {
        return Err(invalid(name, "it holds a NUL character"));
    }
    Ok(text)
}

fn read_flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        },
        Value::Number(number) => match number.as_i64() {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        },
        _ => None,
    }
}

pub(crate) fn read_uuid(name: &str, value: &Value) -> Result<String> {
    match value.as_str() {
        Some(text) if rest::is_uuid(text) => Ok(text.to_ascii_lowercase()),
        _ => Err(invalid(name, format!("'{}' is not a valid UUID", shown(value)))),
    }
}

pub(crate) fn read_address(name: &str, value: &Value) -> Result<IpAddr> {
    let refused = || invalid(name, format!("'{}' is not a valid IP address", shown(value)));
    value.as_str().ok_or_else(refused)?.trim().parse().map_err(|_| refused())
}

pub(crate) fn read_mac(name: &str, value: &Value) -> Result<hostnet::Mac> {
    let refused = || -> Error { invalid(name, format!("'{}' is not a valid MAC address", shown(value))) };
    let mac: hostnet::Mac = value.as_str().ok_or_else(refused)?.trim().parse().map_err(|_| refused())?;
    if mac.is_multicast() || mac.0 == [0; 6] {
        return Err(refused());
    }
    Ok(mac)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_body_is_one_resource_or_a_list_of_them() {
        let one = Bulk::read(json!({"network": {"name": "a"}}), "network", "networks").unwrap();
        assert!(!one.is_list && one.items.len() == 1);
        let many = Bulk::read(json!({"networks": [{"name": "a"}, {"network": {"name": "b"}}]}), "network", "networks");
        let mut many = many.unwrap();
        assert!(many.is_list);
        assert_eq!(many.items[1].text("name", 9).unwrap().unwrap(), "b");
        for hostile in [
            json!([]),
            json!(null),
            json!({"net": {}}),
            json!({"network": []}),
            json!({"networks": {}}),
            json!({"networks": []}),
            json!({"networks": [1]}),
            json!({"network": {}, "extra": 1}),
        ] {
            assert!(Bulk::read(hostile.clone(), "network", "networks").is_err(), "{hostile}");
        }
    }

    #[test]
    fn values_of_the_wrong_type_are_refused_by_name() {
        let mut attributes = Attributes::bare(json!({
            "a": 1, "b": "perhaps", "c": "12x", "d": "not-a-uuid", "e": "10.0.0.300", "f": {}, "g": ["x"], "h": 70000
        }))
        .unwrap();
        assert!(attributes.text("a", 5).unwrap_err().public().contains("Invalid input for a."));
        assert!(attributes.flag("b").is_err());
        assert!(attributes.integer("c", 0..=9).is_err());
        assert!(attributes.uuid("d").is_err());
        assert!(attributes.address_or_null("e").is_err());
        assert!(attributes.list("f", 1).is_err());
        assert!(attributes.routes("g", 1).is_err());
        assert!(attributes.integer("h", 0..=65535).is_err());
        attributes.finish().unwrap();
        let rest = Attributes::bare(json!({"surprise": 1})).unwrap();
        assert!(rest.finish().unwrap_err().public().contains("surprise"));
    }
}

//! What all lists and shows of Neutron share: `fields`, tags as filters, and `*_links`.

use db::Value as Bound;
use rest::{Ctx, Listing, Page, Params, Reply, Result};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Value, json};

/// A query string: `fields` taken out, the rest for the list's own specification.
#[derive(Debug)]
pub(crate) struct Query {
    original: Params,
    pub params: Params,
    fields: Vec<String>,
}

impl Query {
    pub(crate) fn new(mut params: Params) -> Self {
        let original = params.clone();
        let fields = params.take_all("fields").iter().flat_map(|text| text.split(',')).map(str::to_owned).collect();
        Self { original, params, fields }
    }

    /// The four tag filters, for lists whose main table is called `r`.
    pub(crate) fn tags(&mut self, page: &mut Page) {
        const EACH: &str = "EXISTS (SELECT 1 FROM network_tag t WHERE t.resource_id = r.id AND t.tag = ?)";
        const NOT_ALL: &str = "(SELECT count(*) FROM network_tag t WHERE t.resource_id = r.id
            AND t.tag IN (SELECT value FROM json_each(?))) < ?";
        const ANY: &str = "EXISTS (SELECT 1 FROM network_tag t WHERE t.resource_id = r.id
            AND t.tag IN (SELECT value FROM json_each(?)))";
        const NOT_ANY: &str = "NOT EXISTS (SELECT 1 FROM network_tag t WHERE t.resource_id = r.id
            AND t.tag IN (SELECT value FROM json_each(?)))";
        for tag in self.split("tags") {
            page.and(EACH, [Bound::Text(tag)]);
        }
        let any = self.split("tags-any");
        if !any.is_empty() {
            page.and(ANY, [Bound::Text(json!(any).to_string())]);
        }
        let mut not_all = self.split("not-tags");
        if !not_all.is_empty() {
            not_all.sort_unstable();
            not_all.dedup();
            let count = i64::try_from(not_all.len()).unwrap_or(i64::MAX);
            page.and(NOT_ALL, [Bound::Text(json!(not_all).to_string()), Bound::Integer(count)]);
        }
        let not_any = self.split("not-tags-any");
        if !not_any.is_empty() {
            page.and(NOT_ANY, [Bound::Text(json!(not_any).to_string())]);
        }
    }

    fn split(&mut self, name: &str) -> Vec<String> {
        let values = self.params.take_all(name);
        values.iter().flat_map(|text| text.split(',')).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
    }

    /// A whole list: `{"networks": [...], "networks_links": [...]}`, the links only where the client pages.
    pub(crate) fn listing<R, T: Serialize>(
        &self,
        ctx: &Ctx,
        collection: &'static str,
        listing: &Listing<R>,
        id: impl Fn(&R) -> &str,
        items: &[T],
    ) -> Reply {
        let mut links = Vec::new();
        if self.original.has("limit") {
            let here = ctx.url(ctx.path());
            let link = |rel: &str, row: &R, backwards: bool| {
                let reverse = if backwards { "True" } else { "False" };
                let query = self.original.with(&[("marker", id(row)), ("page_reverse", reverse)]);
                json!({"rel": rel, "href": format!("{here}?{query}")})
            };
            let (is_more_ahead, is_more_behind) =
                if listing.reverse { (true, listing.more) } else { (listing.more, self.original.has("marker")) };
            if let Some(last) = listing.rows.last().filter(|_| is_more_ahead) {
                links.push(link("next", last, false));
            }
            if let Some(first) = listing.rows.first().filter(|_| is_more_behind) {
                links.push(link("previous", first, true));
            }
        }
        if self.fields.is_empty() {
            return Reply::ok(&Body { collection, items, links });
        }
        let pruned: Vec<Value> = items.iter().map(|item| self.prune(item)).collect();
        Reply::ok(&Body { collection, items: &pruned, links })
    }

    /// A list that does not page.
    pub(crate) fn all<T: Serialize>(&self, collection: &'static str, items: &[T]) -> Reply {
        if self.fields.is_empty() {
            return Reply::ok(&Body { collection, items, links: Vec::new() });
        }
        let pruned: Vec<Value> = items.iter().map(|item| self.prune(item)).collect();
        Reply::ok(&Body { collection, items: &pruned, links: Vec::new() })
    }

    pub(crate) fn one<T: Serialize>(&self, name: &'static str, item: &T) -> Reply {
        if self.fields.is_empty() { enveloped(name, item) } else { enveloped(name, &self.prune(item)) }
    }

    fn prune<T: Serialize>(&self, item: &T) -> Value {
        let mut value = serde_json::to_value(item).unwrap_or_default();
        if let Some(map) = value.as_object_mut() {
            map.retain(|key, _| self.fields.iter().any(|field| field == key));
        }
        value
    }
}

fn enveloped<T: Serialize>(name: &'static str, item: &T) -> Reply {
    Reply::ok(&One(name, item))
}

/// `{"network": {...}}` with 200, for updates.
pub(crate) fn updated<T: Serialize>(name: &'static str, item: &T) -> Reply {
    enveloped(name, item)
}

/// The answer to a `POST`: one resource or as many as were asked for.
pub(crate) fn created<T: Serialize>(is_list: bool, singular: &'static str, plural: &'static str, items: &[T]) -> Reply {
    match items {
        [item] if !is_list => Reply::created(&One(singular, item)),
        items => Reply::created(&Body { collection: plural, items, links: Vec::new() }),
    }
}

struct One<'a, T>(&'static str, &'a T);

impl<T: Serialize> Serialize for One<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.0, self.1)?;
        map.end()
    }
}

struct Body<'a, T> {
    collection: &'static str,
    items: &'a [T],
    links: Vec<Value>,
}

impl<T: Serialize> Serialize for Body<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(self.collection, self.items)?;
        if !self.links.is_empty() {
            map.serialize_entry(&format!("{}_links", self.collection), &self.links)?;
        }
        map.end()
    }
}

/// Ids as the JSON text that `IN (SELECT value FROM json_each(?))` takes: one statement for any number of them.
pub(crate) fn id_list<'a>(ids: impl IntoIterator<Item = &'a str>) -> String {
    let mut ids: Vec<&str> = ids.into_iter().collect();
    // Of neighbours in a list most are in the same network.
    ids.dedup();
    serde_json::to_string(&ids).unwrap_or_default()
}

/// JSON kept in a row. What we wrote reads back; anything else would be a corrupt row and reads as empty.
pub(crate) fn stored<T: serde::de::DeserializeOwned + Default>(text: &str) -> T {
    serde_json::from_str(text).unwrap_or_else(|error| {
        tracing::error!(%error, "a JSON column of the Network service cannot be read");
        T::default()
    })
}

/// The text for such a column.
pub(crate) fn storable(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(rest::Error::internal)
}

//! Collections as Identity answers them: `{"users": [...], "links": {"self", "previous", "next"}}`.

use rest::{Ctx, Listing, Params, Reply};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Value, json};

/// The link that every resource carries.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SelfLink {
    #[serde(rename = "self")]
    pub(crate) url: String,
}

impl SelfLink {
    pub(crate) fn new(ctx: &Ctx, path: &str, id: &str) -> Self {
        Self { url: format!("{}/v3{path}/{id}", ctx.base_url()) }
    }
}

pub(crate) struct Collection<'a, T> {
    name: &'static str,
    items: &'a [T],
    url: String,
    next: Option<String>,
}

impl<T: Serialize> Serialize for Collection<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry(self.name, self.items)?;
        map.serialize_entry("links", &json!({"next": self.next, "self": self.url, "previous": null}))?;
        map.end()
    }
}

/// A whole collection.
pub(crate) fn all<T: Serialize>(ctx: &Ctx, params: &Params, name: &'static str, items: &[T]) -> Reply {
    Reply::ok(&Collection { name, items, url: own_url(ctx, params), next: None })
}

/// One page of a collection.
pub(crate) fn page_of<T: Serialize>(
    ctx: &Ctx,
    params: &Params,
    name: &'static str,
    items: &[T],
    next: Option<String>,
) -> Reply {
    Reply::ok(&Collection { name, items, url: own_url(ctx, params), next })
}

/// One page of a collection as it was read, each row shown by `view`; the next page begins after the last one's `id`.
pub(crate) fn page<'a, T, V: Serialize>(
    ctx: &Ctx,
    params: &Params,
    name: &'static str,
    listing: &'a Listing<T>,
    view: impl Fn(&'a T) -> V,
    id: impl FnOnce(&T) -> &str,
) -> Reply {
    let views: Vec<_> = listing.rows.iter().map(view).collect();
    page_of(ctx, params, name, &views, listing.next_link(ctx, params, id))
}

fn own_url(ctx: &Ctx, params: &Params) -> String {
    if params.pairs().is_empty() {
        ctx.url(ctx.path())
    } else {
        format!("{}?{}", ctx.url(ctx.path()), params.with(&[]))
    }
}

/// `?effective`, `?effective=1`: true unless it is absent or says no.
pub(crate) fn flag(params: &Params, name: &str) -> bool {
    params.get(name).is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "0" | "false"))
}

/// `{noun: view}`.
pub(crate) fn wrap(noun: &str, view: &impl Serialize) -> Value {
    let mut map = serde_json::Map::new();
    map.insert(noun.to_owned(), serde_json::to_value(view).unwrap_or_default());
    Value::Object(map)
}

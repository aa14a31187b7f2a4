//! Which images a list shows, in the words of the Image API: visibility, `in:`, comparison of times, free properties.

use db::{Tx, Value};
use rest::{Dialect, Direction, Error, Filter, FilterKind, ListSpec, Listing, Page, Params, Result, parse_bool};

use super::model::{Image, Status, Visibility};
use super::store::{self, Viewer};

pub static SPEC: ListSpec = ListSpec {
    dialect: Dialect::Images,
    columns: store::COLUMNS,
    from: "images_image i",
    key: "i.id",
    default_sort: &[("created_at", Direction::Descending), ("id", Direction::Descending)],
    sortable: &[
        ("name", "ifnull(i.name, '')"),
        ("status", "i.status"),
        ("container_format", "ifnull(i.container_format, '')"),
        ("disk_format", "ifnull(i.disk_format, '')"),
        ("size", "ifnull(i.size_bytes, 0)"),
        ("virtual_size", "ifnull(i.virtual_size_bytes, 0)"),
        ("id", "i.id"),
        ("created_at", "i.created_at"),
        ("updated_at", "i.updated_at"),
    ],
    filters: &[
        Filter::new("owner", "i.owner", FilterKind::Text),
        Filter::new("protected", "i.protected", FilterKind::Bool),
        Filter::new("min_disk", "i.min_disk_gib", FilterKind::Integer),
        Filter::new("min_ram", "i.min_ram_mib", FilterKind::Integer),
        Filter::new("size", "i.size_bytes", FilterKind::Integer),
        Filter::new("virtual_size", "i.virtual_size_bytes", FilterKind::Integer),
        Filter::new("checksum", "i.checksum", FilterKind::Text),
        Filter::new("os_hash_value", "i.os_hash_value", FilterKind::Text),
    ],
    limit_max: 1000,
};

/// Parameters that take several values as `in:a,"b,c"`.
const SETS: [(&str, &str); 5] = [
    ("id", "i.id"),
    ("name", "ifnull(i.name, '')"),
    ("status", "i.status"),
    ("disk_format", "ifnull(i.disk_format, '')"),
    ("container_format", "ifnull(i.container_format, '')"),
];

/// Reads a request's parameters into a page. What no filter of ours knows is the value of a free property.
pub fn page(viewer: &Viewer, mut params: Params) -> Result<Page> {
    if params.has("sort") && (params.has("sort_key") || params.has("sort_dir")) {
        return Err(Error::bad_request("Old and new sorting syntax cannot be combined"));
    }
    if params.has("changes-since") {
        return Err(Error::bad_request("The \"changes-since\" filter is no longer available on v2."));
    }
    let mut page = SPEC.page(&mut params)?;

    let visibility = match params.take("visibility").as_deref() {
        None => Wanted::Usual,
        Some("all") => Wanted::All,
        Some(text) => Wanted::Only(
            Visibility::parse(text).ok_or_else(|| Error::bad_request(format!("Invalid visibility value: {text}")))?,
        ),
    };
    let member_status = params.take("member_status").unwrap_or_else(|| "accepted".to_owned());
    if !["all", "pending", "accepted", "rejected"].contains(&member_status.as_str()) {
        return Err(Error::bad_request(format!("Invalid status: {member_status}")));
    }
    restrict(&mut page, viewer, visibility, &member_status);

    let hidden = params.take_bool("os_hidden")?.unwrap_or(false);
    page.and("i.os_hidden = ?", [Value::Integer(hidden.into())]);
    for tag in params.take_all("tag") {
        page.and("EXISTS (SELECT 1 FROM images_tag t WHERE t.image_id = i.id AND t.tag = ?)", [Value::Text(tag)]);
    }
    for (name, column) in SETS {
        for text in params.take_all(name) {
            let values = match text.strip_prefix("in:") {
                Some(list) => split_quoted(list)?,
                None => vec![text],
            };
            if name == "status"
                && let Some(unknown) = values.iter().find(|value| Status::parse(value).is_none())
                && !["killed", "deleted", "pending_delete"].contains(&unknown.as_str())
            {
                return Err(Error::bad_request(format!("Invalid status value: {unknown}")));
            }
            page.and_in(column, values);
        }
    }
    for (name, at_least) in [("size_min", true), ("size_max", false)] {
        if let Some(text) = params.take(name) {
            let bytes = text
                .parse::<u64>()
                .ok()
                .and_then(|n| i64::try_from(n).ok())
                .ok_or_else(|| Error::bad_request(format!("Invalid value {text:?} for filter {name}.")))?;
            let condition = if at_least { "i.size_bytes >= ?" } else { "i.size_bytes <= ?" };
            page.and(condition, [Value::Integer(bytes)]);
        }
    }
    for name in ["created_at", "updated_at"] {
        for text in params.take_all(name) {
            let (condition, at) = time_condition(name, &text)?;
            page.and(condition, [Value::Text(at)]);
        }
    }
    match params.take("os_hash_algo").as_deref() {
        None => {}
        Some("sha512") => {
            page.and("i.os_hash_value IS NOT NULL", []);
        }
        Some(_) => {
            page.and("0", []);
        }
    }
    for (name, value) in params.pairs() {
        // oslo's older name for "deleted rows too": there are none.
        if name == "deleted" {
            if parse_bool(value).unwrap_or(false) {
                page.and("0", []);
            }
            continue;
        }
        page.and(
            "EXISTS (SELECT 1 FROM images_property p WHERE p.image_id = i.id AND p.name = ? AND p.value = ?)",
            [Value::Text(name.clone()), Value::Text(value.clone())],
        );
    }
    Ok(page)
}

pub fn fetch(page: &Page, tx: &Tx<'_>) -> Result<Listing<Image>> {
    page.fetch(tx, store::read)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// One's own, public ones, and accepted shares; community images only when asked for.
    Usual,
    All,
    Only(Visibility),
}

fn restrict(page: &mut Page, viewer: &Viewer, wanted: Wanted, member_status: &str) {
    let project = || Value::Text(viewer.project_id.clone().unwrap_or_default());
    if let Wanted::Only(visibility) = wanted {
        page.and("i.visibility = ?", [Value::Text(visibility.as_str().to_owned())]);
    }
    if wanted == Wanted::Usual {
        page.and("(i.visibility <> 'community' OR i.owner = ?)", [project()]);
    }
    if viewer.is_admin {
        return;
    }
    page.and(
        "(i.owner = ? OR i.visibility IN ('public', 'community') OR (i.visibility = 'shared' AND EXISTS \
         (SELECT 1 FROM images_member m WHERE m.image_id = i.id AND m.member = ? AND (m.status = ? OR ? = 'all'))))",
        [project(), project(), Value::Text(member_status.to_owned()), Value::Text(member_status.to_owned())],
    );
}

/// `gt:2026-01-02T03:04:05Z` and its kin; without an operator, equality.
fn time_condition(name: &str, text: &str) -> Result<(&'static str, String)> {
    let (operator, rest) = match text.split_once(':') {
        Some((operator @ ("gt" | "gte" | "lt" | "lte" | "eq" | "neq"), rest)) => (operator, rest),
        _ => ("eq", text),
    };
    let at = db::clock::parse(rest).ok_or_else(|| {
        Error::bad_request(format!("Invalid time value {text:?} for filter {name}: expected ISO 8601."))
    })?;
    // Clients see whole seconds, so that is what they compare with.
    let at = db::clock::seconds(&db::clock::text(at));
    let created = name == "created_at";
    let condition = match operator {
        "gt" if created => "substr(i.created_at, 1, 19) || 'Z' > ?",
        "gte" if created => "substr(i.created_at, 1, 19) || 'Z' >= ?",
        "lt" if created => "substr(i.created_at, 1, 19) || 'Z' < ?",
        "lte" if created => "substr(i.created_at, 1, 19) || 'Z' <= ?",
        "neq" if created => "substr(i.created_at, 1, 19) || 'Z' <> ?",
        _ if created => "substr(i.created_at, 1, 19) || 'Z' = ?",
        "gt" => "substr(i.updated_at, 1, 19) || 'Z' > ?",
        "gte" => "substr(i.updated_at, 1, 19) || 'Z' >= ?",
        "lt" => "substr(i.updated_at, 1, 19) || 'Z' < ?",
        "lte" => "substr(i.updated_at, 1, 19) || 'Z' <= ?",
        "neq" => "substr(i.updated_at, 1, 19) || 'Z' <> ?",
        _ => "substr(i.updated_at, 1, 19) || 'Z' = ?",
    };
    Ok((condition, at))
}

/// `a,"b,c",d`: values that hold a comma or a quote are quoted, with `\"` inside.
fn split_quoted(text: &str) -> Result<Vec<String>> {
    let wrong = || Error::bad_request(format!("Invalid filter value {text:?}: the quotes do not match."));
    let (mut values, mut value, mut chars) = (Vec::new(), String::new(), text.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '"' if value.is_empty() => {
                loop {
                    match chars.next().ok_or_else(wrong)? {
                        '"' => break,
                        '\\' => value.push(chars.next().ok_or_else(wrong)?),
                        other => value.push(other),
                    }
                }
                if !matches!(chars.peek(), None | Some(',')) {
                    return Err(wrong());
                }
            }
            '"' => return Err(wrong()),
            ',' => values.push(std::mem::take(&mut value)),
            other => value.push(other),
        }
    }
    values.push(value);
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_values_may_be_quoted_and_broken_quotes_are_refused() {
        assert_eq!(split_quoted("a,b").unwrap(), ["a", "b"]);
        assert_eq!(split_quoted(r#""a,b","say \"hi\"",c"#).unwrap(), ["a,b", "say \"hi\"", "c"]);
        assert_eq!(split_quoted("").unwrap(), [""]);
        for broken in [r#""a"#, r#"a"b"#, r#""a"b"#, r#""a\"#] {
            assert!(split_quoted(broken).is_err(), "{broken}");
        }
    }
}

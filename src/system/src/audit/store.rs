//! Rows of `audit_event`.

use db::Row;
use rest::{Dialect, Direction, Filter, FilterKind, ListSpec};
use serde_json::{Value, json};

pub static LIST: ListSpec = ListSpec {
    dialect: Dialect::Identity,
    columns: "id, at, service, request_id, method, path, status, peer, user_id, project_id, domain_id, system, audit_id",
    from: "audit_event",
    key: "id",
    default_sort: &[("id", Direction::Descending)],
    sortable: &[("id", "id")],
    filters: &[
        Filter::new("since", "at", FilterKind::Since),
        Filter::new("until", "at", FilterKind::Before),
        Filter::new("user", "user_id", FilterKind::Text),
        Filter::new("project", "project_id", FilterKind::Text),
        Filter::new("service", "service", FilterKind::Text),
        Filter::new("method", "method", FilterKind::TextIgnoreCase),
        Filter::new("path", "path", FilterKind::Contains),
        Filter::new("request_id", "request_id", FilterKind::Text),
        Filter::new("address", "peer", FilterKind::Text),
    ],
    limit_max: 1000,
};

/// One row as it is shown.
pub fn shown(row: &Row<'_>) -> db::rusqlite::Result<Value> {
    let text = |index: usize| row.get::<_, Option<String>>(index);
    Ok(json!({
        "id": row.get::<_, i64>(0)?.to_string(),
        "at": text(1)?,
        "service": text(2)?,
        "request_id": text(3)?,
        "method": text(4)?,
        "path": text(5)?,
        "status": row.get::<_, u16>(6)?,
        "address": text(7)?,
        "user_id": text(8)?,
        "project_id": text(9)?,
        "domain_id": text(10)?,
        "system": row.get::<_, bool>(11)?,
        "audit_id": text(12)?,
    }))
}

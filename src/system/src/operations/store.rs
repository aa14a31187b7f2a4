//! Rows of `tasks_log`, which outlive those of `tasks_task`.

use db::Row;
use rest::{Dialect, Direction, Filter, FilterKind, ListSpec};
use serde_json::{Value, json};

pub static LIST: ListSpec = ListSpec {
    dialect: Dialect::Identity,
    columns: "l.generation, l.resource, l.kind, l.action, l.request_id, l.user_id, l.project_id, l.started_at, \
              l.updated_at, l.result, l.message, t.state, t.attempt",
    from: "tasks_log l LEFT JOIN tasks_task t ON t.generation = l.generation",
    key: "l.generation",
    default_sort: &[("id", Direction::Descending)],
    sortable: &[("id", "l.generation")],
    filters: &[
        Filter::new("resource", "l.resource", FilterKind::Text),
        Filter::new("kind", "l.kind", FilterKind::Text),
        Filter::new("action", "l.action", FilterKind::Text),
        Filter::new("project", "l.project_id", FilterKind::Text),
        Filter::new("user", "l.user_id", FilterKind::Text),
        Filter::new("result", "ifnull(l.result, 'running')", FilterKind::Text),
        Filter::new("request_id", "l.request_id", FilterKind::Text),
    ],
    limit_max: 1000,
};

/// One row as it is shown.
pub fn shown(row: &Row<'_>) -> db::rusqlite::Result<Value> {
    let text = |index: usize| row.get::<_, Option<String>>(index);
    Ok(json!({
        "id": row.get::<_, i64>(0)?.to_string(),
        "resource": text(1)?,
        "kind": text(2)?,
        "action": text(3)?,
        "request_id": text(4)?,
        "user_id": text(5)?,
        "project_id": text(6)?,
        "started_at": text(7)?,
        "updated_at": text(8)?,
        "result": text(9)?.unwrap_or_else(|| "running".to_owned()),
        "reason": text(10)?,
        "state": text(11)?.and_then(|state| step(&state)),
        "attempts": row.get::<_, Option<i64>>(12)?,
    }))
}

/// The name of the step: what it carries is nobody's business, and may be a secret.
fn step(state: &str) -> Option<String> {
    match serde_json::from_str(state).ok()? {
        Value::String(name) => Some(name),
        Value::Object(fields) => fields.into_iter().next().map(|(name, _)| name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_shown_by_its_name_alone() {
        assert_eq!(step("\"Spawn\"").as_deref(), Some("Spawn"));
        assert_eq!(step(r#"{"Rebuild": {"password": "x"}}"#).as_deref(), Some("Rebuild"));
        assert_eq!(step("[1]"), None);
        assert_eq!(step("nonsense"), None);
    }
}

//! Query parameters of the lists of servers that are more than a column and a value, or depend on the microversion. Compute API reference, "List servers".

use db::Value as Sql;
use rest::{Ctx, Error, Filter, FilterKind, Page, Params, Result, parse_bool};
use serde_json::json;

use super::{
    model::{states_of_status, task_states_of_status},
    store::ADMIN_FILTERS,
};
use crate::versions;

/// Filters that everyone may use since 2.83.
const FOR_ALL: &[&str] = &[
    "availability_zone",
    "config_drive",
    "created_at",
    "key_name",
    "launched_at",
    "power_state",
    "progress",
    "task_state",
    "terminated_at",
    "user_id",
    "vm_state",
];

/// What upstream's schema knows and nothing here differs by: without effect, where an unknown name is refused.
const KNOWN: &[&str] = &[
    "access_ip_v4",
    "access_ip_v6",
    "all_tenants",
    "auto_disk_config",
    "block_device_mapping",
    "changes-before",
    "changes-since",
    "cleaned",
    "deleted",
    "description",
    "disable_terminate",
    "display_description",
    "display_name",
    "ephemeral_gb",
    "host",
    "hostname",
    "image_ref",
    "info_cache",
    "instance_type_id",
    "kernel_id",
    "launch_index",
    "locked_by",
    "memory_mb",
    "metadata",
    "node",
    "not-tags",
    "not-tags-any",
    "pci_devices",
    "project_id",
    "ramdisk_id",
    "reservation_id",
    "root_device_name",
    "root_gb",
    "security_groups",
    "services",
    "shutdown_terminate",
    "soft_deleted",
    "system_metadata",
    "tags",
    "tags-any",
    "tenant_id",
    "uuid",
    "vcpus",
];

const CHANGES_BEFORE: Filter = Filter::new("changes-before", "s.updated_at", FilterKind::Before);
const CONFIG_DRIVE: Filter = Filter::new("config_drive", "s.config_drive", FilterKind::Bool);
/// Times that are compared as they are shown: to the second.
const TIMES: &[Filter] = &[
    Filter::new("created_at", "substr(s.created_at, 1, 19)", FilterKind::Text),
    Filter::new("launched_at", "substr(s.launched_at, 1, 19)", FilterKind::Text),
];

/// Takes what the version and the caller may filter by out of `params`, which were `asked`; `all` is for those with
/// `allow_all_filters`.
///
/// # Errors
/// 400 for a value of the wrong kind, and since 2.75 for a name that is none.
pub(crate) fn take(
    ctx: &Ctx,
    page: &mut Page,
    params: &mut Params,
    asked: &Params,
    all: bool,
    all_tenants: bool,
) -> Result<()> {
    for filter in ADMIN_FILTERS {
        let others = matches!(filter.name, "project_id" | "tenant_id") && !all_tenants;
        let may = all || (ctx.since(2, 83) && FOR_ALL.contains(&filter.name));
        let values = params.take_all(filter.name);
        if may && !others && !values.is_empty() {
            page.filter(filter, &values)?;
        }
    }
    if all || ctx.since(2, 83) {
        for filter in TIMES.iter().chain([&CONFIG_DRIVE]) {
            let mut values = params.take_all(filter.name);
            if filter.kind == FilterKind::Text {
                values.iter_mut().for_each(|value| value.truncate(value.trim_end_matches('Z').len()));
            }
            if !values.is_empty() {
                page.filter(filter, &values)?;
            }
        }
    }
    if ctx.since(2, 66) {
        changes_before(page, params, asked.get("changes-since"))?;
    }
    if ctx.since(2, 73)
        && let Some(locked) = params.take("locked")
    {
        let locked = parse_bool(&locked)
            .ok_or_else(|| Error::bad_request(format!("Invalid value {locked:?} for locked: expected a boolean.")))?;
        page.and("(s.locked_by IS NOT NULL) = ?", [Sql::Integer(locked.into())]);
    }
    Ok(())
}

/// What changed until a time, which is none before `changes-since`.
fn changes_before(page: &mut Page, params: &mut Params, since: Option<&str>) -> Result<()> {
    let Some(before) = params.take(CHANGES_BEFORE.name) else { return Ok(()) };
    let since = since.and_then(db::clock::parse);
    if since.zip(db::clock::parse(&before)).is_some_and(|(since, before)| since > before) {
        return Err(Error::bad_request("The value of changes-since must be less than or equal to changes-before."));
    }
    page.filter(&CHANGES_BEFORE, &[before])
}

/// `status`, which stands for states of servers and what is done to them. Whether it leaves any: before 2.38, one that is
/// none has no servers.
///
/// # Errors
/// 400 for one that is none.
pub(crate) fn by_status(ctx: &Ctx, page: &mut Page, params: &mut Params) -> Result<bool> {
    let statuses = params.take_all("status");
    if statuses.is_empty() {
        return Ok(true);
    }
    let (mut states, mut tasks, mut any_task) = (Vec::new(), Vec::new(), false);
    for status in &statuses {
        match states_of_status(status) {
            Some(list) => {
                states.extend(list.iter().map(|state| (*state).to_owned()));
                let named = task_states_of_status(status);
                tasks.extend(named.iter().map(|state| (*state).to_owned()));
                any_task |= named.is_empty();
            }
            None if ctx.since(2, 38) => return Err(Error::bad_request(format!("Invalid status value: {status}"))),
            None => {}
        }
    }
    let some = !states.is_empty();
    page.and_in("s.vm_state", states);
    if !any_task && !tasks.is_empty() {
        page.and_in("ifnull(s.task_state, '')", tasks);
    }
    Ok(some)
}

/// `ip` and `ip6`: patterns of addresses, by the name of the filter.
///
/// # Errors
/// 400 for a pattern that is none, or one that would cost too much.
pub(crate) fn addresses(params: &mut Params) -> Result<Vec<(String, String)>> {
    let mut patterns = Vec::new();
    for name in ["ip", "ip6"] {
        let Some(pattern) = params.take(name) else { continue };
        if pattern.len() > 255 || regex::RegexBuilder::new(&pattern).size_limit(1 << 18).build().is_err() {
            return Err(Error::bad_request(format!(
                "Invalid value {pattern:?} for filter {name}: expected a regular expression."
            )));
        }
        patterns.push((name.to_owned(), pattern));
    }
    Ok(patterns)
}

/// `tags`: all of them; `tags-any`: one of them; `not-tags`: not all of them; `not-tags-any`: none of them.
pub(crate) fn by_tags(page: &mut Page, params: &mut Params) {
    // SQLite's json_each lets any number of tags be one bound value.
    const ALL: &str = "NOT EXISTS (SELECT 1 FROM json_each(?) WHERE NOT EXISTS \
                       (SELECT 1 FROM compute_server_tag t WHERE t.server_id = s.id AND t.tag = value))";
    const ANY: &str = "EXISTS (SELECT 1 FROM json_each(?) WHERE EXISTS \
                       (SELECT 1 FROM compute_server_tag t WHERE t.server_id = s.id AND t.tag = value))";
    const NOT_ALL: &str = "EXISTS (SELECT 1 FROM json_each(?) WHERE NOT EXISTS \
                       (SELECT 1 FROM compute_server_tag t WHERE t.server_id = s.id AND t.tag = value))";
    const NOT_ANY: &str = "NOT EXISTS (SELECT 1 FROM json_each(?) WHERE EXISTS \
                       (SELECT 1 FROM compute_server_tag t WHERE t.server_id = s.id AND t.tag = value))";
    for (name, condition) in [("tags", ALL), ("tags-any", ANY), ("not-tags", NOT_ALL), ("not-tags-any", NOT_ANY)] {
        if let Some(text) = params.take(name) {
            let tags: Vec<&str> = text.split(',').collect();
            page.and(condition, [Sql::Text(json!(tags).to_string())]);
        }
    }
}

/// Since 2.75 what is left must at least be a name that upstream knows.
///
/// # Errors
/// 400 naming what is not.
pub(crate) fn finish(ctx: &Ctx, mut left: Params) -> Result<()> {
    for name in KNOWN.iter().chain(FOR_ALL) {
        left.take_all(name);
    }
    versions::finish(ctx, left)
}

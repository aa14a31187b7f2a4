//! Query parameters of the lists of servers that depend on the microversion. Compute API reference, "List servers".

use db::Value as Sql;
use rest::{Ctx, Error, Filter, FilterKind, Page, Params, Result, parse_bool};

use super::store::ADMIN_FILTERS;
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

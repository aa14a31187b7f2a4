//! `/v2.0/quotas`: how much a project may have. Usage is counted from rows, never kept.

use std::collections::HashMap;

use axum::extract::{Path, State};
use db::{Tx, params};
use policy::Target;
use rest::{Ctx, Params, RawJson, Reply, Result, Rule, rule, target};
use serde_json::{Map, Value, json};

use crate::{App, attributes::Attributes, errors, policy::ADMIN};

const READ: &str = "rule:admin_only or (role:reader and project_id:%(project_id)s)";
pub(crate) const GET: Rule = rule("get_quota", READ, "See a project's quota", &[("GET", "/quotas/{project_id}")]);
pub(crate) const LIST: Rule = rule("get_quota:all", ADMIN, "See all quotas", &[("GET", "/quotas")]);
pub(crate) const UPDATE: Rule =
    rule("update_quota", ADMIN, "Set a project's quota", &[("PUT", "/quotas/{project_id}")]);
pub(crate) const DELETE: Rule =
    rule("delete_quota", ADMIN, "Reset a project's quota", &[("DELETE", "/quotas/{project_id}")]);

/// What is counted, with upstream's default limits and the statement that counts. -1: no limit.
const RESOURCES: &[(&str, i64, &str)] = &[
    ("network", 100, "SELECT count(*) FROM network_network WHERE project_id = ?1"),
    ("subnet", 100, "SELECT count(*) FROM network_subnet WHERE project_id = ?1"),
    ("subnetpool", -1, "SELECT count(*) FROM network_subnet_pool WHERE project_id = ?1"),
    ("port", 500, "SELECT count(*) FROM network_port WHERE project_id = ?1"),
    ("router", 10, "SELECT count(*) FROM network_router WHERE project_id = ?1"),
    ("floatingip", 50, "SELECT count(*) FROM network_floating_ip WHERE project_id = ?1"),
    ("security_group", 10, "SELECT count(*) FROM network_security_group WHERE project_id = ?1"),
    ("security_group_rule", 100, "SELECT count(*) FROM network_security_group_rule WHERE project_id = ?1"),
];

fn default_of(app: &App, resource: &str, upstream: i64) -> i64 {
    app.options.quotas.get(resource).copied().unwrap_or(upstream)
}

/// Refuses to go beyond the limit with `extra` more.
pub(crate) fn check(tx: &Tx<'_>, app: &App, project_id: &str, resource: &'static str, extra: i64) -> Result<()> {
    let Some((_, upstream, count)) = RESOURCES.iter().find(|(name, _, _)| *name == resource) else { return Ok(()) };
    let limit = tx
        .find(
            "SELECT amount FROM network_quota WHERE project_id = ?1 AND resource = ?2",
            params![project_id, resource],
            |row| row.get::<_, i64>(0),
        )?
        .unwrap_or_else(|| default_of(app, resource, *upstream));
    if limit >= 0 && tx.count(count, params![project_id])? + extra > limit {
        return Err(errors::over_quota(resource));
    }
    Ok(())
}

fn own(tx: &Tx<'_>, project_id: &str) -> Result<HashMap<String, i64>> {
    Ok(tx
        .list("SELECT resource, amount FROM network_quota WHERE project_id = ?1", params![project_id], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?
        .into_iter()
        .collect())
}

fn limits(app: &App, own: &HashMap<String, i64>) -> Map<String, Value> {
    RESOURCES
        .iter()
        .map(|(name, upstream, _)| {
            let limit = own.get(*name).copied().unwrap_or_else(|| default_of(app, name, *upstream));
            ((*name).to_owned(), Value::from(limit))
        })
        .collect()
}

fn of_project(project_id: &str) -> Target {
    target(&[("project_id", project_id), ("tenant_id", project_id)])
}

/// The limits in force for a project: what Compute's proxy and the dashboard show.
pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(project): Path<String>) -> Result<Reply> {
    ctx.allow(GET, &of_project(&project))?;
    let quota = app.db.clone().read(move |tx| Ok::<_, rest::Error>(limits(&app, &own(tx, &project)?))).await?;
    Ok(Reply::ok(&json!({ "quota": quota })))
}

pub(crate) async fn defaults(State(app): State<App>, ctx: Ctx, Path(project): Path<String>) -> Result<Reply> {
    ctx.allow(GET, &of_project(&project))?;
    Ok(Reply::ok(&json!({ "quota": limits(&app, &HashMap::new()) })))
}

pub(crate) async fn details(State(app): State<App>, ctx: Ctx, Path(project): Path<String>) -> Result<Reply> {
    ctx.allow(GET, &of_project(&project))?;
    let quota = app
        .db
        .clone()
        .read(move |tx| {
            let limits = limits(&app, &own(tx, &project)?);
            let mut details = Map::new();
            for (name, _, count) in RESOURCES {
                let used = tx.count(count, params![project])?;
                details.insert((*name).to_owned(), json!({"limit": limits[*name], "used": used, "reserved": 0}));
            }
            Ok::<_, rest::Error>(details)
        })
        .await?;
    Ok(Reply::ok(&json!({ "quota": quota })))
}

/// Whose quota the token's project is.
pub(crate) async fn tenant(ctx: Ctx) -> Result<Reply> {
    let project = ctx.project_id()?.to_owned();
    ctx.allow(GET, &of_project(&project))?;
    Ok(Reply::ok(&json!({"tenant": {"tenant_id": project, "project_id": project}})))
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, _: Params) -> Result<Reply> {
    ctx.allow(LIST, &Target::new())?;
    let quotas = app
        .db
        .clone()
        .read(move |tx| {
            let projects =
                tx.list("SELECT DISTINCT project_id FROM network_quota ORDER BY 1", [], |row| row.get::<_, String>(0))?;
            let mut quotas = Vec::with_capacity(projects.len());
            for project in projects {
                let mut quota = limits(&app, &own(tx, &project)?);
                quota.insert("tenant_id".to_owned(), Value::from(project.as_str()));
                quota.insert("project_id".to_owned(), Value::from(project));
                quotas.push(quota);
            }
            Ok::<_, rest::Error>(quotas)
        })
        .await?;
    Ok(Reply::ok(&json!({ "quotas": quotas })))
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path(project): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    ctx.allow(UPDATE, &of_project(&project))?;
    let mut attributes = Attributes::update(body, "quota")?;
    attributes.take("tenant_id");
    attributes.take("project_id");
    attributes.take("force");
    let check_limit = attributes.flag("check_limit")?.unwrap_or(false);
    let mut changes = Vec::new();
    for (name, _, count) in RESOURCES {
        if let Some(amount) = attributes.integer(name, -1..=i64::from(i32::MAX))? {
            changes.push((*name, amount, *count));
        }
    }
    attributes.finish()?;
    let quota = app
        .db
        .clone()
        .write(move |tx| {
            for (name, amount, count) in changes {
                let used = tx.count(count, params![project])?;
                if check_limit && amount >= 0 && used > amount {
                    return Err(errors::bad(
                        "InvalidQuotaValue",
                        format!("Change would make usage less than 0 for the following resources: ['{name}']."),
                    ));
                }
                tx.execute(
                    "INSERT INTO network_quota (project_id, resource, amount) VALUES (?1, ?2, ?3)
                     ON CONFLICT (project_id, resource) DO UPDATE SET amount = excluded.amount",
                    params![project, name, amount],
                )?;
            }
            Ok(limits(&app, &own(tx, &project)?))
        })
        .await?;
    Ok(Reply::ok(&json!({ "quota": quota })))
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(project): Path<String>) -> Result<Reply> {
    ctx.allow(DELETE, &of_project(&project))?;
    app.db
        .write(move |tx| {
            let gone = tx.execute("DELETE FROM network_quota WHERE project_id = ?1", params![project])?;
            if gone == 0 {
                return Err(errors::not_found_text(
                    "TenantQuotaNotFound",
                    format!("Quota for tenant {project} could not be found."),
                ));
            }
            Ok(Reply::no_content())
        })
        .await
}

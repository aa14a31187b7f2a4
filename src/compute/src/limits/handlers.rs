//! Requests about limits and quota sets.

use axum::extract::{Path, State};
use http::StatusCode;
use rest::{Body, Ctx, Error, Params, Reply, Result, target};
use serde_json::{Map, Value, json};

use super::{policy, store};
use crate::{App, Quotas, flavors::handlers::unexpected, keypairs, server_groups, servers};

/// Compute's network quotas went away with its proxies (2.36); before, they are shown as unlimited.
const PROXY_RESOURCES: &[&str] = &["fixed_ips", "floating_ips", "security_groups", "security_group_rules"];
const INJECTED: &[&str] = &["injected_files", "injected_file_content_bytes", "injected_file_path_bytes"];

struct Used {
    instances: i64,
    cores: i64,
    ram_mib: i64,
    key_pairs: i64,
    server_groups: i64,
}

async fn of_project(app: &App, ctx: &Ctx, project_id: &str) -> Result<(Quotas, Used)> {
    let (project_id, defaults, user_id) =
        (project_id.to_owned(), app.options.quotas.clone(), ctx.creds()?.user.id.clone());
    app.db
        .read(move |tx| {
            let quotas = store::of_project(tx, &project_id, &defaults)?;
            let (instances, cores, ram_mib) = servers::store::usage(tx, &project_id)?;
            let key_pairs = keypairs::store::count(tx, &user_id)?;
            let server_groups = server_groups::store::count(tx, &project_id)?;
            Ok::<_, Error>((quotas, Used { instances, cores, ram_mib, key_pairs, server_groups }))
        })
        .await
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, mut params: Params) -> Result<Reply> {
    ctx.allow(policy::SHOW, &target(&[]))?;
    let own = ctx.creds()?.project_id().unwrap_or_default().to_owned();
    let project_id = match params.take("tenant_id") {
        Some(other) if other != own => {
            ctx.allow(policy::OTHER_PROJECT, &target(&[("project_id", &own)]))?;
            other
        }
        _ => own,
    };
    let (quotas, used) = of_project(&app, &ctx, &project_id).await?;
    let mut absolute = json!({
        "maxTotalInstances": quotas.instances,
        "maxTotalCores": quotas.cores,
        "maxTotalRAMSize": quotas.ram_mib,
        "maxTotalKeypairs": quotas.key_pairs,
        "maxServerMeta": quotas.metadata_items,
        "maxServerGroups": quotas.server_groups,
        "maxServerGroupMembers": quotas.server_group_members,
        "totalInstancesUsed": used.instances,
        "totalCoresUsed": used.cores,
        "totalRAMUsed": used.ram_mib,
        "totalServerGroupsUsed": used.server_groups,
    });
    if !ctx.since(2, 36) {
        for name in ["maxTotalFloatingIps", "maxSecurityGroups", "maxSecurityGroupRules"] {
            absolute[name] = json!(-1);
        }
        for name in ["totalFloatingIpsUsed", "totalSecurityGroupsUsed"] {
            absolute[name] = json!(0);
        }
    }
    if !ctx.since(2, 39) {
        absolute["maxImageMeta"] = json!(quotas.metadata_items);
    }
    if !ctx.since(2, 57) {
        absolute["maxPersonality"] = json!(0);
        absolute["maxPersonalitySize"] = json!(0);
    }
    Ok(Reply::ok(&json!({"limits": {"rate": [], "absolute": absolute}})))
}

/// A quota set as this microversion has it; `value` makes each entry.
fn set(ctx: &Ctx, quotas: &Quotas, value: impl Fn(&str, i64) -> Value) -> Map<String, Value> {
    let mut quotas = quotas.clone();
    let mut view = Map::new();
    for (name, field) in store::RESOURCES {
        view.insert((*name).to_owned(), value(name, *field(&mut quotas)));
    }
    if !ctx.since(2, 36) {
        for name in PROXY_RESOURCES {
            view.insert((*name).to_owned(), value(name, -1));
        }
    }
    if !ctx.since(2, 57) {
        for name in INJECTED {
            view.insert((*name).to_owned(), value(name, 0));
        }
    }
    view
}

fn reply(mut view: Map<String, Value>, project_id: Option<&str>) -> Reply {
    if let Some(project_id) = project_id {
        view.insert("id".into(), json!(project_id));
    }
    Reply::ok(&json!({"quota_set": view}))
}

pub(crate) async fn quota_show(State(app): State<App>, ctx: Ctx, Path(project_id): Path<String>) -> Result<Reply> {
    ctx.allow(policy::QUOTA_SHOW, &target(&[("project_id", &project_id)]))?;
    let (quotas, _) = of_project(&app, &ctx, &project_id).await?;
    Ok(reply(set(&ctx, &quotas, |_, limit| json!(limit)), Some(&project_id)))
}

pub(crate) async fn quota_defaults(State(app): State<App>, ctx: Ctx, Path(project_id): Path<String>) -> Result<Reply> {
    ctx.allow(policy::QUOTA_DEFAULTS, &target(&[("project_id", &project_id)]))?;
    Ok(reply(set(&ctx, &app.options.quotas, |_, limit| json!(limit)), Some(&project_id)))
}

pub(crate) async fn quota_detail(State(app): State<App>, ctx: Ctx, Path(project_id): Path<String>) -> Result<Reply> {
    ctx.allow(policy::QUOTA_DETAIL, &target(&[("project_id", &project_id)]))?;
    let (quotas, used) = of_project(&app, &ctx, &project_id).await?;
    let view = set(&ctx, &quotas, |name, limit| {
        let in_use = match name {
            "instances" => used.instances,
            "cores" => used.cores,
            "ram" => used.ram_mib,
            "key_pairs" => used.key_pairs,
            "server_groups" => used.server_groups,
            _ => 0,
        };
        json!({"limit": limit, "in_use": in_use, "reserved": 0})
    });
    Ok(reply(view, Some(&project_id)))
}

pub(crate) async fn quota_update(
    State(app): State<App>,
    ctx: Ctx,
    Path(project_id): Path<String>,
    Body(mut body): Body<Map<String, Value>>,
) -> Result<Reply> {
    ctx.allow(policy::QUOTA_UPDATE, &target(&[("project_id", &project_id)]))?;
    let Some(Value::Object(mut changes)) = body.remove("quota_set").filter(|_| body.is_empty()) else {
        return Err(Error::bad_request("Invalid input: the body must be {\"quota_set\": {..}}."));
    };
    let force = changes.remove("force").and_then(|value| value.as_bool()).unwrap_or(false);
    changes.remove("tenant_id");
    let mut limits = Vec::new();
    for (name, value) in changes {
        let number = match &value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        let limit = number.filter(|limit| (-1..=0x7FFF_FFFF).contains(limit)).ok_or_else(|| {
            Error::bad_request(format!("Invalid input for field/attribute {name}: -1 (no limit) to 2147483647."))
        })?;
        let known = store::RESOURCES.iter().any(|(resource, _)| *resource == name);
        let proxy = PROXY_RESOURCES.contains(&name.as_str()) && !ctx.since(2, 36);
        if known {
            limits.push((name, limit));
        } else if !(proxy || INJECTED.contains(&name.as_str()) && !ctx.since(2, 57)) {
            return Err(unexpected(&name));
        }
    }
    let (_, used) = of_project(&app, &ctx, &project_id).await?;
    for (name, limit) in &limits {
        let in_use = match name.as_str() {
            "instances" => used.instances,
            "cores" => used.cores,
            "ram" => used.ram_mib,
            "server_groups" => used.server_groups,
            _ => 0,
        };
        if !force && *limit >= 0 && *limit < in_use {
            return Err(Error::bad_request(format!(
                "Quota limit {limit} for {name} must be greater than or equal to already used and reserved {in_use}."
            )));
        }
    }
    let id = project_id.clone();
    app.db.write(move |tx| limits.iter().try_for_each(|(name, limit)| store::set(tx, &id, name, *limit))).await?;
    let (quotas, _) = of_project(&app, &ctx, &project_id).await?;
    Ok(reply(set(&ctx, &quotas, |_, limit| json!(limit)), None))
}

pub(crate) async fn quota_delete(State(app): State<App>, ctx: Ctx, Path(project_id): Path<String>) -> Result<Reply> {
    ctx.allow(policy::QUOTA_DELETE, &target(&[("project_id", &project_id)]))?;
    app.db.write(move |tx| store::reset(tx, &project_id)).await?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

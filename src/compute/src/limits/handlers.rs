//! Requests about limits and quota sets.

use axum::extract::{Path, State};
use http::StatusCode;
use rest::{Body, Ctx, Error, Params, Reply, Result, parse_bool, target};
use serde_json::{Map, Value, json};

use super::{
    policy,
    store::{self, Of, Set},
};
use crate::{App, Quotas, flavors::handlers::unexpected, keypairs, server_groups, servers};

/// Compute's network quotas went away with its proxies (2.36); before, they are shown, and hold nobody back.
const PROXY_RESOURCES: &[&str] = &["fixed_ips", "floating_ips", "security_groups", "security_group_rules"];
const GROUPS: &[&str] = &["server_groups", "server_group_members"];

struct Used {
    instances: i64,
    cores: i64,
    ram_mib: i64,
    key_pairs: i64,
    server_groups: i64,
}

impl Used {
    fn of(&self, name: &str) -> i64 {
        match name {
            "instances" => self.instances,
            "cores" => self.cores,
            "ram" => self.ram_mib,
            "server_groups" => self.server_groups,
            _ => 0,
        }
    }
}

/// What is in force for a project or a user in it, and what they have.
async fn looked_up(app: &App, ctx: &Ctx, project_id: &str, user_id: Option<String>) -> Result<(Set, Used)> {
    let (project_id, asker) = (project_id.to_owned(), ctx.creds()?.user.id.clone());
    app.db
        .read(move |tx| {
            let (instances, cores, ram_mib) = match &user_id {
                Some(user_id) => servers::store::usage_of_user(tx, &project_id, user_id)?,
                None => servers::store::usage(tx, &project_id)?,
            };
            let key_pairs = keypairs::store::count(tx, user_id.as_deref().unwrap_or(&asker))?;
            let server_groups = server_groups::store::count(tx, &project_id)?;
            let of = match user_id {
                Some(user_id) => Of::User(project_id, user_id),
                None => Of::Project(project_id),
            };
            let set = store::in_force(tx, &of)?;
            Ok::<_, Error>((set, Used { instances, cores, ram_mib, key_pairs, server_groups }))
        })
        .await
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, mut params: Params) -> Result<Reply> {
    ctx.allow(policy::SHOW, &target(&[]))?;
    // Upstream takes it and has nothing to say of it: nothing is reserved where rows are counted.
    params.take("reserved");
    let own = ctx.creds()?.project_id().unwrap_or_default().to_owned();
    let project_id = match params.take("tenant_id") {
        Some(other) if other != own => {
            ctx.allow(policy::OTHER_PROJECT, &target(&[("project_id", &own)]))?;
            other
        }
        _ => own,
    };
    if ctx.since(2, 75) {
        params.finish()?;
    }
    let (set, used) = looked_up(&app, &ctx, &project_id, None).await?;
    let quotas = store::applied(&app.options.quotas, &set);
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
        absolute["maxPersonality"] = json!(store::file_limit(&set, "injected_files"));
        absolute["maxPersonalitySize"] = json!(store::file_limit(&set, "injected_file_content_bytes"));
    }
    Ok(Reply::ok(&json!({"limits": {"rate": [], "absolute": absolute}})))
}

/// Which resources a quota set has at this microversion; a quota class set shed the network's later, and had no groups before.
fn names(ctx: &Ctx, class: bool) -> impl Iterator<Item = &'static str> {
    let network_until = if class { (2, 50) } else { (2, 36) };
    let (groups, network, files) =
        (!class || ctx.since(2, 50), !ctx.since(network_until.0, network_until.1), !ctx.since(2, 57));
    let own = store::RESOURCES.iter().map(|(name, _)| *name).filter(move |name| groups || !GROUPS.contains(name));
    own.chain(PROXY_RESOURCES.iter().copied().filter(move |_| network))
        .chain(store::FILES.iter().map(|(name, _)| *name).filter(move |_| files))
}

/// A quota set as this microversion has it; `value` makes each entry.
fn view(
    ctx: &Ctx,
    defaults: &Quotas,
    set: &Set,
    class: bool,
    value: impl Fn(&str, i64) -> Value,
) -> Map<String, Value> {
    let mut quotas = store::applied(defaults, set);
    names(ctx, class)
        .map(|name| {
            let limit = match store::RESOURCES.iter().find(|(known, _)| *known == name) {
                Some((_, field)) => *field(&mut quotas),
                None => store::file_limit(set, name),
            };
            (name.to_owned(), value(name, limit))
        })
        .collect()
}

/// Limits in a request, each in the words of this microversion.
fn read(ctx: &Ctx, class: bool, changes: Map<String, Value>) -> Result<Set> {
    let mut limits = Set::new();
    for (name, value) in changes {
        // Upstream's schema of classes has the groups from the start, only the answers have them not.
        let known = names(ctx, class).any(|known| known == name) || GROUPS.contains(&name.as_str());
        if !known {
            return Err(unexpected(&name));
        }
        let number = match &value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        let limit = number.filter(|limit| (-1..=0x7FFF_FFFF).contains(limit)).ok_or_else(|| {
            Error::bad_request(format!("Invalid input for field/attribute {name}: -1 (no limit) to 2147483647."))
        })?;
        limits.insert(name, limit);
    }
    Ok(limits)
}

fn reply(mut view: Map<String, Value>, project_id: Option<&str>) -> Reply {
    if let Some(project_id) = project_id {
        view.insert("id".into(), json!(project_id));
    }
    Reply::ok(&json!({"quota_set": view}))
}

/// The user that a query names, if it does.
fn user(ctx: &Ctx, mut params: Params) -> Result<Option<String>> {
    let user_id = params.take("user_id").filter(|user_id| !user_id.is_empty());
    if ctx.since(2, 75) {
        params.finish()?;
    }
    Ok(user_id)
}

pub(crate) async fn quota_show(
    State(app): State<App>,
    ctx: Ctx,
    Path(project_id): Path<String>,
    params: Params,
) -> Result<Reply> {
    ctx.allow(policy::QUOTA_SHOW, &target(&[("project_id", &project_id)]))?;
    let (set, _) = looked_up(&app, &ctx, &project_id, user(&ctx, params)?).await?;
    let view = view(&ctx, &app.options.quotas, &set, false, |_, limit| json!(limit));
    Ok(reply(view, Some(&project_id)))
}

pub(crate) async fn quota_defaults(State(app): State<App>, ctx: Ctx, Path(project_id): Path<String>) -> Result<Reply> {
    ctx.allow(policy::QUOTA_DEFAULTS, &target(&[("project_id", &project_id)]))?;
    let set = app.db.read(|tx| store::in_force(tx, &Of::Class(store::DEFAULT_CLASS.to_owned()))).await?;
    let view = view(&ctx, &app.options.quotas, &set, false, |_, limit| json!(limit));
    Ok(reply(view, Some(&project_id)))
}

pub(crate) async fn quota_detail(
    State(app): State<App>,
    ctx: Ctx,
    Path(project_id): Path<String>,
    params: Params,
) -> Result<Reply> {
    ctx.allow(policy::QUOTA_DETAIL, &target(&[("project_id", &project_id)]))?;
    let (set, used) = looked_up(&app, &ctx, &project_id, user(&ctx, params)?).await?;
    let view = view(&ctx, &app.options.quotas, &set, false, |name, limit| {
        let in_use = if name == "key_pairs" { used.key_pairs } else { used.of(name) };
        json!({"limit": limit, "in_use": in_use, "reserved": 0})
    });
    Ok(reply(view, Some(&project_id)))
}

pub(crate) async fn quota_update(
    State(app): State<App>,
    ctx: Ctx,
    Path(project_id): Path<String>,
    params: Params,
    Body(mut body): Body<Map<String, Value>>,
) -> Result<Reply> {
    ctx.allow(policy::QUOTA_UPDATE, &target(&[("project_id", &project_id)]))?;
    let user_id = user(&ctx, params)?;
    let Some(Value::Object(mut changes)) = body.remove("quota_set").filter(|_| body.is_empty()) else {
        return Err(Error::bad_request("Invalid input: the body must be {\"quota_set\": {..}}."));
    };
    let force = match changes.remove("force") {
        None => false,
        Some(Value::Bool(force)) => force,
        Some(other) => other
            .as_str()
            .and_then(parse_bool)
            .ok_or_else(|| Error::bad_request("Invalid input for field/attribute force: expected a boolean."))?,
    };
    changes.remove("tenant_id");
    let limits = read(&ctx, false, changes)?;
    if let Some(user_id) = &user_id {
        let (of_project, _) = looked_up(&app, &ctx, &project_id, None).await?;
        check_within(&store::applied(&app.options.quotas, &of_project), &limits, user_id)?;
    }
    let (_, used) = looked_up(&app, &ctx, &project_id, user_id.clone()).await?;
    for (name, limit) in &limits {
        let in_use = used.of(name);
        if !force && *limit >= 0 && *limit < in_use {
            return Err(Error::bad_request(format!(
                "Quota limit {limit} for {name} must be greater than or equal to already used and reserved {in_use}."
            )));
        }
    }
    let of = match user_id.clone() {
        Some(user_id) => Of::User(project_id.clone(), user_id),
        None => Of::Project(project_id.clone()),
    };
    app.db.write(move |tx| limits.iter().try_for_each(|(name, limit)| store::set(tx, &of, name, *limit))).await?;
    let (set, _) = looked_up(&app, &ctx, &project_id, user_id).await?;
    let view = view(&ctx, &app.options.quotas, &set, false, |_, limit| json!(limit));
    Ok(reply(view, None))
}

/// A user's share of a project is no more than the project has.
fn check_within(project: &Quotas, limits: &Set, user_id: &str) -> Result<()> {
    let mut project = project.clone();
    for (name, field) in store::RESOURCES {
        let most = *field(&mut project);
        if let Some(limit) = limits.get(*name)
            && most >= 0
            && (*limit < 0 || *limit > most)
        {
            return Err(Error::bad_request(format!(
                "Quota limit {limit} for {name} must be less than or equal to {most}: user {user_id} cannot have more \
                 than the project."
            )));
        }
    }
    Ok(())
}

pub(crate) async fn quota_delete(
    State(app): State<App>,
    ctx: Ctx,
    Path(project_id): Path<String>,
    params: Params,
) -> Result<Reply> {
    ctx.allow(policy::QUOTA_DELETE, &target(&[("project_id", &project_id)]))?;
    let user_id = user(&ctx, params)?;
    app.db.write(move |tx| store::reset(tx, &project_id, user_id.as_deref())).await?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

pub(crate) async fn class_show(State(app): State<App>, ctx: Ctx, Path(class): Path<String>) -> Result<Reply> {
    ctx.allow(policy::CLASS_SHOW, &target(&[("quota_class", &class)]))?;
    let of = Of::Class(class.clone());
    let set = app.db.read(move |tx| store::in_force(tx, &of)).await?;
    let mut view = view(&ctx, &app.options.quotas, &set, true, |_, limit| json!(limit));
    view.insert("id".into(), json!(class));
    Ok(Reply::ok(&json!({"quota_class_set": view})))
}

/// Class names that are kept: others than `default` hold for nobody, and are kept because clients may ask for them.
const CLASSES_MAX: i64 = 1000;

pub(crate) async fn class_update(
    State(app): State<App>,
    ctx: Ctx,
    Path(class): Path<String>,
    Body(mut body): Body<Map<String, Value>>,
) -> Result<Reply> {
    ctx.allow(policy::CLASS_UPDATE, &target(&[("quota_class", &class)]))?;
    let Some(Value::Object(changes)) = body.remove("quota_class_set").filter(|_| body.is_empty()) else {
        return Err(Error::bad_request("Invalid input: the body must be {\"quota_class_set\": {..}}."));
    };
    if class.chars().count() > 255 {
        return Err(Error::bad_request("Invalid quota class: its name is longer than 255 characters."));
    }
    let limits = read(&ctx, true, changes)?;
    let of = Of::Class(class);
    let set = app
        .db
        .write(move |tx| {
            if store::count_classes(tx)? >= CLASSES_MAX {
                return Err(Error::over_quota("Quota exceeded, too many quota classes."));
            }
            limits.iter().try_for_each(|(name, limit)| store::set(tx, &of, name, *limit))?;
            store::in_force(tx, &of)
        })
        .await?;
    let view = view(&ctx, &app.options.quotas, &set, true, |_, limit| json!(limit));
    Ok(Reply::ok(&json!({"quota_class_set": view})))
}

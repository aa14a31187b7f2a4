//! POST /servers/{id}/action. Compute API reference, "Servers - run an action" and "Servers - run an administrative action".

use axum::extract::{Path, State};
use http::StatusCode;
use rest::{Ctx, Error, Kind, RawJson, Reply, Result, Rule, target};
use serde_json::{Map, Value, json};

use super::{
    Server, admin_actions,
    begin::Wish,
    deferred, floating_ips,
    handlers::{refuse_locked, require, visible},
    model::VmState,
    moves, password, policy,
    power::Power,
    rebuild, rescue_requests, resize, shelve_requests, snapshots, store,
};
use crate::{App, consoles, network_info};

/// All rules that actions ask, for the route table.
pub(crate) const RULES: &[Rule] = &[
    policy::START,
    policy::STOP,
    policy::REBOOT,
    policy::PAUSE,
    policy::UNPAUSE,
    policy::SUSPEND,
    policy::RESUME,
    policy::CONSOLE_OUTPUT,
    consoles::policy::CREATE,
    policy::CREATE_IMAGE,
    policy::CREATE_BACKUP,
    policy::RESCUE,
    policy::UNRESCUE,
    policy::SHELVE,
    policy::SHELVE_OFFLOAD,
    policy::UNSHELVE,
    policy::UNSHELVE_TO_HOST,
    policy::LOCK,
    policy::UNLOCK,
    policy::UNLOCK_OVERRIDE,
    policy::RESET_STATE,
    policy::SECURITY_GROUPS_ADD,
    policy::SECURITY_GROUPS_REMOVE,
    policy::FIXED_IP_ADD,
    policy::FIXED_IP_REMOVE,
    policy::REBUILD,
    policy::RESIZE,
    policy::CONFIRM_RESIZE,
    policy::REVERT_RESIZE,
    policy::CRASH_DUMP,
    policy::MIGRATE,
    policy::MIGRATE_HOST,
    policy::MIGRATE_LIVE,
    policy::MIGRATE_LIVE_HOST,
    policy::EVACUATE,
    policy::INJECT_NETWORK_INFO,
    policy::FORCE_DELETE,
    policy::RESTORE,
    policy::CHANGE_PASSWORD,
    policy::FLOATING_IP_ADD,
    policy::FLOATING_IP_REMOVE,
];

pub(crate) async fn action(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    let Value::Object(body) = body else { return Err(Error::bad_request("Malformed request body: it is no object.")) };
    let mut entries = body.into_iter();
    let (Some((name, argument)), None) = (entries.next(), entries.next()) else {
        return Err(Error::bad_request("Multiple actions are not supported in one request, and none is no request."));
    };
    match name.as_str() {
        "os-start" => simple(&app, &ctx, &id, &START).await,
        "os-stop" => simple(&app, &ctx, &id, &STOP).await,
        "pause" => simple(&app, &ctx, &id, &PAUSE).await,
        "unpause" => simple(&app, &ctx, &id, &UNPAUSE).await,
        "suspend" => simple(&app, &ctx, &id, &SUSPEND).await,
        "resume" => simple(&app, &ctx, &id, &RESUME).await,
        "os-getVNCConsole" | "os-getSerialConsole" | "os-getSPICEConsole" | "os-getRDPConsole" => {
            consoles::handlers::action(&app, &ctx, &id, &name, argument).await
        }
        "createImage" => snapshots::requests::create_image(&app, &ctx, &id, argument).await,
        "createBackup" => snapshots::requests::create_backup(&app, &ctx, &id, argument).await,
        "rescue" => rescue_requests::rescue(&app, &ctx, &id, argument).await,
        "unrescue" => rescue_requests::unrescue(&app, &ctx, &id).await,
        "shelve" => shelve_requests::shelve(&app, &ctx, &id).await,
        "shelveOffload" => shelve_requests::offload(&app, &ctx, &id).await,
        "unshelve" => shelve_requests::unshelve(&app, &ctx, &id, argument).await,
        "reboot" => reboot(&app, &ctx, &id, &argument).await,
        "os-getConsoleOutput" => console_output(&app, &ctx, &id, &argument).await,
        "lock" => lock(&app, &ctx, &id, &argument).await,
        "unlock" => unlock(&app, &ctx, &id).await,
        "os-resetState" => reset_state(&app, &ctx, &id, &argument).await,
        "addSecurityGroup" => security_group(&app, &ctx, &id, &argument, true).await,
        "removeSecurityGroup" => security_group(&app, &ctx, &id, &argument, false).await,
        "addFixedIp" => fixed_ip(&app, &ctx, &id, &argument, true).await,
        "removeFixedIp" => fixed_ip(&app, &ctx, &id, &argument, false).await,
        "rebuild" => rebuild::request::rebuild(&app, &ctx, &id, argument).await,
        "resize" => resize::request::resize(&app, &ctx, &id, argument).await,
        "confirmResize" => resize::request::confirm(&app, &ctx, &id, &argument).await,
        "revertResize" => resize::request::revert(&app, &ctx, &id, &argument).await,
        "migrate" => moves::migrate(&app, &ctx, &id, argument).await,
        "os-migrateLive" => moves::migrate_live(&app, &ctx, &id, argument).await,
        "evacuate" => moves::evacuate(&app, &ctx, &id, argument).await,
        "changePassword" => password::change(&app, &ctx, &id, argument).await,
        "injectNetworkInfo" => admin_actions::inject_network_info(&app, &ctx, &id, &argument).await,
        "resetNetwork" => admin_actions::reset_network(&app, &ctx, &id, &argument).await,
        "trigger_crash_dump" => admin_actions::trigger_crash_dump(&app, &ctx, &id, &argument).await,
        "forceDelete" => deferred::force_delete(&app, &ctx, &id).await,
        "restore" => deferred::restore(&app, &ctx, &id, &argument).await,
        "addFloatingIp" => floating_ips::change(&app, &ctx, &id, argument, true).await,
        "removeFloatingIp" => floating_ips::change(&app, &ctx, &id, argument, false).await,
        unknown => Err(Error::bad_request(format!("There is no such action: {unknown}"))),
    }
}

/// An action without arguments that is one durable operation.
struct Simple {
    name: &'static str,
    rule: Rule,
    task_state: &'static str,
    operation: Power,
    states: &'static [VmState],
}

const START: Simple = Simple {
    name: "start",
    rule: policy::START,
    task_state: "powering-on",
    operation: Power::Start,
    states: &[VmState::Stopped],
};
const STOP: Simple = Simple {
    name: "stop",
    rule: policy::STOP,
    task_state: "powering-off",
    operation: Power::Stop,
    states: &[VmState::Active, VmState::Error],
};
const PAUSE: Simple = Simple {
    name: "pause",
    rule: policy::PAUSE,
    task_state: "pausing",
    operation: Power::Pause,
    states: &[VmState::Active],
};
const UNPAUSE: Simple = Simple {
    name: "unpause",
    rule: policy::UNPAUSE,
    task_state: "unpausing",
    operation: Power::Unpause,
    states: &[VmState::Paused],
};
const SUSPEND: Simple = Simple {
    name: "suspend",
    rule: policy::SUSPEND,
    task_state: "suspending",
    operation: Power::Suspend,
    states: &[VmState::Active],
};
const RESUME: Simple = Simple {
    name: "resume",
    rule: policy::RESUME,
    task_state: "resuming",
    operation: Power::Resume,
    states: &[VmState::Suspended],
};

async fn simple(app: &App, ctx: &Ctx, id: &str, action: &Simple) -> Result<Reply> {
    let Simple { name, rule, task_state, operation, states } = action;
    let server = visible(app, ctx, id, *rule).await?;
    refuse_locked(ctx, &server)?;
    power(app, ctx, &server, name, task_state, operation.clone(), states).await
}

/// What a hard reboot need not wait for, as upstream's: it is the way out for a guest that something hangs on.
const OVERTAKEN: &[&str] = &["rebooting", "rebooting_hard", "pausing", "unpausing", "suspending", "resuming"];

async fn power(
    app: &App,
    ctx: &Ctx,
    server: &Server,
    action: &'static str,
    task_state: &'static str,
    operation: Power,
    states: &'static [VmState],
) -> Result<Reply> {
    let wish = Wish::new(app, ctx, server, action)?;
    app.db
        .write(move |tx| {
            let server = store::get(tx, &wish.id)?;
            let overtaken = server.task_state.as_deref().is_some_and(|state| OVERTAKEN.contains(&state));
            if matches!(operation, Power::RebootHard) && overtaken {
                require(&Server { task_state: None, ..server }, action, states)?;
                return wish.supersede(tx, task_state, &operation);
            }
            require(&server, action, states)?;
            wish.start(tx, task_state, &operation)
        })
        .await?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

async fn reboot(app: &App, ctx: &Ctx, id: &str, argument: &Value) -> Result<Reply> {
    let kind =
        argument.as_object().filter(|map| map.len() == 1).and_then(|map| map.get("type")).and_then(Value::as_str);
    let hard = match kind.map(str::to_ascii_uppercase).as_deref() {
        Some("SOFT") => false,
        Some("HARD") => true,
        _ => return Err(Error::bad_request("Invalid input for field/attribute type: it must be SOFT or HARD.")),
    };
    let server = visible(app, ctx, id, policy::REBOOT).await?;
    refuse_locked(ctx, &server)?;
    if hard {
        let states = &[VmState::Active, VmState::Stopped, VmState::Paused, VmState::Suspended, VmState::Error];
        power(app, ctx, &server, "reboot", "rebooting_hard", Power::RebootHard, states).await
    } else {
        power(app, ctx, &server, "reboot", "rebooting", Power::RebootSoft, &[VmState::Active]).await
    }
}

async fn console_output(app: &App, ctx: &Ctx, id: &str, argument: &Value) -> Result<Reply> {
    let lines = match argument.as_object().map(|map| map.get("length")) {
        None if argument.is_null() => None,
        Some(None | Some(Value::Null)) => None,
        Some(Some(Value::Number(number))) if number.as_i64() == Some(-1) => None,
        Some(Some(Value::Number(number))) if number.as_u64().is_some() => number.as_u64(),
        Some(Some(Value::String(text))) if text == "-1" => None,
        Some(Some(Value::String(text))) if text.parse::<u64>().is_ok() => text.parse().ok(),
        _ => {
            return Err(Error::bad_request(
                "Invalid input for field/attribute length: it must be -1 or a number of lines.",
            ));
        }
    };
    let server = visible(app, ctx, id, policy::CONSOLE_OUTPUT).await?;
    if matches!(server.vm_state, VmState::Building | VmState::ShelvedOffloaded) {
        return Err(Error::conflict(format!("Instance {id} is not ready")));
    }
    let uuid = uuid::Uuid::try_parse(&server.id).map_err(Error::internal)?;
    let lines = lines.map(|lines| usize::try_from(lines).unwrap_or(usize::MAX));
    let text = app
        .driver
        .console_tail(uuid, lines, app.options.console_log_bytes)
        .await
        .map_err(|error| Error::new(Kind::NotFound, "The console log is not available.").caused_by(error))?;
    // Control characters other than those of text would be refused by strict clients.
    let output: String = String::from_utf8_lossy(&text)
        .chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t' | '\u{1b}'))
        .collect();
    Ok(Reply::ok(&json!({"output": output})))
}

async fn lock(app: &App, ctx: &Ctx, id: &str, argument: &Value) -> Result<Reply> {
    let refuse = |why| Error::bad_request(format!("Invalid input for field/attribute lock: {why}."));
    let reason = match argument {
        Value::Null => None,
        Value::Object(fields) if fields.is_empty() => None,
        Value::Object(fields) if ctx.since(2, 73) && fields.len() == 1 => match fields.get("locked_reason") {
            Some(Value::String(reason)) if (1..=255).contains(&reason.chars().count()) => Some(reason.clone()),
            _ => return Err(refuse("it takes a locked_reason of 1 to 255 characters")),
        },
        _ => return Err(refuse("it must be null")),
    };
    let server = visible(app, ctx, id, policy::LOCK).await?;
    // The owner's lock binds members; an administrator's binds the owner too.
    let owner = ctx.creds()?.project_id() == Some(&server.project_id);
    let locked_by = if owner { "owner" } else { "admin" };
    let (server_id, now) = (server.id, app.clock.now_text());
    app.db
        .write(move |tx| store::set_lock(tx, &server_id, Some((locked_by, reason.as_deref())), &now))
        .await
        .map_err(Error::from)?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

async fn unlock(app: &App, ctx: &Ctx, id: &str) -> Result<Reply> {
    let server = visible(app, ctx, id, policy::UNLOCK).await?;
    if server.locked_by.as_deref() == Some("admin") {
        ctx.allow(policy::UNLOCK_OVERRIDE, &target(&[("project_id", &server.project_id)]))?;
    }
    let (server_id, now) = (server.id, app.clock.now_text());
    app.db.write(move |tx| store::set_lock(tx, &server_id, None, &now)).await.map_err(Error::from)?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

async fn reset_state(app: &App, ctx: &Ctx, id: &str, argument: &Value) -> Result<Reply> {
    let state = match argument.as_object().filter(|map| map.len() == 1).and_then(|map| map.get("state")?.as_str()) {
        Some("active") => VmState::Active,
        Some("error") => VmState::Error,
        _ => return Err(Error::bad_request("Invalid input for field/attribute state: it must be active or error.")),
    };
    let server = visible(app, ctx, id, policy::RESET_STATE).await?;
    let now = app.clock.now_text();
    app.db
        .write(move |tx| {
            // What waited to be confirmed is what the server is now.
            if tasks::find(tx, &server.id)?.is_none() {
                resize::close(tx, &server.id, &now)?;
            }
            store::set_state(tx, &server.id, state, &now)
        })
        .await
        .map_err(Error::from)?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

async fn security_group(app: &App, ctx: &Ctx, id: &str, argument: &Value, add: bool) -> Result<Reply> {
    let empty = Map::new();
    let fields = argument.as_object().unwrap_or(&empty);
    let name = fields.get("name").and_then(Value::as_str).map(str::trim).filter(|name| !name.is_empty());
    let Some(name) = name.filter(|_| fields.len() == 1) else {
        return Err(Error::bad_request("Missing parameter dict: a security group's name is needed."));
    };
    let rule = if add { policy::SECURITY_GROUPS_ADD } else { policy::SECURITY_GROUPS_REMOVE };
    let server = visible(app, ctx, id, rule).await?;
    refuse_locked(ctx, &server)?;
    let name = name.to_owned();
    let changer = app.clone();
    app.db.write(move |tx| network_info::change_security_group(tx, &changer, &server, &name, add)).await?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

/// Until 2.43; Network does it since.
async fn fixed_ip(app: &App, ctx: &Ctx, id: &str, argument: &Value, add: bool) -> Result<Reply> {
    if ctx.since(2, 44) {
        return Err(Error::no_such_route());
    }
    let (name, field, rule) = if add {
        ("add_fixed_ip", "networkId", policy::FIXED_IP_ADD)
    } else {
        ("remove_fixed_ip", "address", policy::FIXED_IP_REMOVE)
    };
    let server = visible(app, ctx, id, rule).await?;
    let value = argument.as_object().filter(|fields| fields.len() == 1).and_then(|fields| fields.get(field));
    // Upstream takes a number for a network, too.
    let value = match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) if add => number.to_string(),
        _ => return Err(Error::bad_request(format!("Invalid input for field/attribute {field}: it is needed."))),
    };
    refuse_locked(ctx, &server)?;
    let changer = app.clone();
    app.db
        .write(move |tx| {
            require(&store::get(tx, &server.id)?, name, &[VmState::Active])?;
            network_info::change_fixed_ip(tx, &changer, &server, &value, add)
        })
        .await?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

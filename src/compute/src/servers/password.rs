//! The password of a guest's administrator: set through its agent, and the one that it has encrypted and posted itself.
//! Compute API reference, "Change Administrative Password" and "Servers password".

use std::time::Duration;

use axum::extract::{Path, State};
use base64::Engine as _;
use http::StatusCode;
use rest::{Ctx, Error, Reply, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tasks::{Failure, Operation, Record, Step, TaskContext};
use time::OffsetDateTime;

use super::{
    Server,
    begin::Wish,
    handlers::{refuse_locked, visible},
    interfaces::ended,
    model::VmState,
    policy, request, run,
    snapshots::image::says,
    store,
};
use crate::{App, vms::VmError};

/// How long the agent has to say that it is there, and then for the password.
const PRESENT: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(20);
/// How long an agent is waited for in a guest that has just been started: one that its image promises for as long as a slow
/// boot takes, one that may not exist for as long as an answer can wait.
const BOOT_IF_PROMISED: time::Duration = time::Duration::minutes(5);
const BOOT: time::Duration = time::Duration::seconds(35);
/// Between two looks for it. A look is short then, for many guests may be booting.
const PAUSE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_secs(2);
/// How long an answer waits for the guest.
const ANSWER: Duration = Duration::from_secs(45);
/// What leaves a guest that boots.
const STARTS: [&str; 9] =
    ["create", "start", "reboot", "rebuild", "resize", "revertResize", "rescue", "unrescue", "unshelve"];
/// What a guest may post: as much as upstream keeps.
pub(crate) const POSTED_MAX_BYTES: usize = 4 * 255;

/// The password is in the row until the guest has it, or has not.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SetPassword {
    password: String,
    /// Until when the guest may still be on its way to its agent.
    #[serde(default)]
    boots_until: Option<String>,
}

impl Operation for SetPassword {
    const KIND: &'static str = "compute.server.password";
    type App = App;

    fn event(&self) -> Option<&'static str> {
        Some("compute_set_admin_password")
    }

    async fn advance(self, app: &App, task: &TaskContext) -> std::result::Result<Step<Self>, Failure> {
        let server = run::server(app, task).await?;
        let (id, now) = (server.id.clone(), app.clock.now_text());
        let arguments = json!({
            "username": user(&server),
            "password": base64::engine::general_purpose::STANDARD.encode(&self.password),
            "crypted": false,
        });
        let boots = self.boots_until.is_some_and(|until| now < until);
        let agent = app.driver.ask_agent(
            run::uuid(&server)?,
            "guest-set-user-password",
            arguments,
            if boots { LOOK } else { PRESENT },
            PATIENCE,
        );
        let asked = tokio::select! {
            asked = task.act(agent) => asked,
            // A delete or a hard reboot need not wait for the guest.
            () = task.superseded() => return Err(Failure::fatal("Another operation overtook the change of the password.")),
        };
        match asked {
            Err(VmError::NoAgent { .. }) if boots => Ok(Step::Wait(PAUSE)),
            Ok(_) => Ok(Step::done(move |tx| store::set_task_state(tx, &id, None, &now))),
            // Whoever asked waits for the answer: the first one is it.
            Err(VmError::Refused { reason, .. } | VmError::NoAgent { reason, .. }) => Err(not_set(&server.id, &reason)),
            Err(VmError::NotRunning { .. }) => Err(not_set(&server.id, "its process has ended")),
            Err(error) => Err(not_set(&server.id, "the hypervisor cannot reach its guest agent").caused_by(error)),
        }
    }

    fn failed(self, app: &App, task: &TaskContext, failure: &Failure) -> Step<Self> {
        let (id, now) = (task.resource().to_owned(), app.clock.now_text());
        Step::fail(failure.public.clone(), move |tx| store::set_task_state(tx, &id, None, &now))
    }

    fn unreadable(app: &App, resource: &str, _reason: &str) -> Record {
        let (id, now) = (resource.to_owned(), app.clock.now_text());
        Box::new(move |tx| store::set_task_state(tx, &id, None, &now))
    }
}

/// When its guest was last started or restarted through the API.
fn started_at(tx: &db::Tx<'_>, server: &Server) -> db::Result<Option<OffsetDateTime>> {
    let log = tasks::list_log(tx, &server.id)?;
    let last = log.iter().find(|entry| STARTS.contains(&entry.action.as_str()) && entry.result.is_some());
    Ok(last.and_then(|entry| db::clock::parse(&entry.updated_at)))
}

fn not_set(id: &str, reason: &str) -> Failure {
    Failure::fatal(format!("Failed to set admin password on {id} because {reason}."))
}

/// Upstream's: as the image says, or what the operating system calls it.
fn user(server: &Server) -> &str {
    let property = |name: &str| server.image_properties.get(name).and_then(Value::as_str);
    match (property("os_admin_user"), property("os_type")) {
        (Some(user), _) => user,
        (None, Some("windows")) => "Administrator",
        (None, _) => "root",
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(rename = "adminPass")]
    admin_pass: String,
}

pub(crate) async fn change(app: &App, ctx: &Ctx, id: &str, argument: Value) -> Result<Reply> {
    let wanted: Wanted = request::fields("changePassword", argument)?;
    let password = request::admin_pass(Some(wanted.admin_pass))?;
    let server = visible(app, ctx, id, policy::CHANGE_PASSWORD).await?;
    refuse_locked(ctx, &server)?;
    let wish = Wish::new(app, ctx, &server, "changePassword")?;
    app.db
        .write(move |tx| {
            let server = wish.server(tx, &[VmState::Active])?;
            let promised = says(&server, "hw_qemu_guest_agent");
            if promised == Some(false) {
                let why =
                    not_set(&server.id, "its image says that there is no guest agent in it (hw_qemu_guest_agent)");
                return Err(Error::conflict(why.public));
            }
            let boot = if promised == Some(true) { BOOT_IF_PROMISED } else { BOOT };
            let boots_until = started_at(tx, &server)?.map(|at| db::clock::text(at + boot));
            wish.start(tx, "updating_password", &SetPassword { password, boots_until })
        })
        .await?;
    let entry = ended(app, ctx, &server.id, ANSWER).await?;
    match entry.and_then(|entry| Some((entry.result?, entry.message))) {
        Some((result, _)) if result == "success" => Ok(Reply::empty(StatusCode::ACCEPTED)),
        Some((result, Some(why))) if result == "error" => Err(Error::conflict(why)),
        Some(_) => Err(Error::conflict(format!("Instance {id} was busy with another operation."))),
        // It is under way, and the actions will tell.
        None => Ok(Reply::empty(StatusCode::ACCEPTED)),
    }
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    let server = visible(&app, &ctx, &id, policy::PASSWORD_SHOW).await?;
    let password = app.db.read(move |tx| store::posted_password(tx, &server.id)).await?;
    Ok(Reply::ok(&json!({"password": password.unwrap_or_default()})))
}

/// Forgets it. The guest's own is not changed.
pub(crate) async fn clear(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    let server = visible(&app, &ctx, &id, policy::PASSWORD_CLEAR).await?;
    app.db.write(move |tx| store::clear_posted_password(tx, &server.id)).await.map_err(Error::from)?;
    Ok(Reply::no_content())
}

//! `/servers/{id}/os-interface`. Compute API reference, "Port interfaces".

use std::time::Duration;

use axum::extract::{Path, State};
use http::StatusCode;
use rest::{Body, Ctx, Error, Kind, Reply, Result, is_uuid};
use serde::Deserialize;
use serde_json::{Value, json};
use tasks::LogEntry;

use super::{
    attach::{self, Interfaces},
    begin::Wish,
    handlers::{interfaces, refuse_locked, require, visible},
    model::VmState,
    policy, store,
};
use crate::{
    App,
    flavors::handlers::unexpected,
    network_info::{self, Interface, PortRequest},
};

/// Upstream's: the states in which a server's interfaces change.
const STATES: &[VmState] = &[VmState::Active, VmState::Paused, VmState::Stopped];
/// How long an answer waits for the interface to be there. What takes longer goes on without the client.
const ATTACH: Duration = Duration::from_secs(50);
/// How long an answer waits for a refusal that comes at once.
const DETACH: Duration = Duration::from_secs(2);

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    let server = visible(&app, &ctx, &id, policy::INTERFACES).await?;
    Ok(Reply::ok(&json!({"interfaceAttachments": attachments(&app, &ctx, &server.id).await?})))
}

pub(crate) async fn show(
    State(app): State<App>,
    ctx: Ctx,
    Path((id, port_id)): Path<(String, String)>,
) -> Result<Reply> {
    let server = visible(&app, &ctx, &id, policy::INTERFACES_SHOW).await?;
    one(&app, &ctx, &server.id, &port_id).await
}

async fn one(app: &App, ctx: &Ctx, id: &str, port_id: &str) -> Result<Reply> {
    match attachments(app, ctx, id).await?.into_iter().find(|attachment| attachment["port_id"] == port_id) {
        Some(attachment) => Ok(Reply::ok(&json!({"interfaceAttachment": attachment}))),
        None => Err(no_such_port(id, port_id)),
    }
}

async fn attachments(app: &App, ctx: &Ctx, id: &str) -> Result<Vec<Value>> {
    let server_id = id.to_owned();
    let nics = app.db.read(move |tx| store::nics_of(tx, &[&server_id])).await?.remove(id).unwrap_or_default();
    let mut all: Vec<Value> = interfaces(app, id).await?.iter().map(view).collect();
    if ctx.since(2, 70) {
        for attachment in &mut all {
            let nic = nics.iter().find(|nic| attachment["port_id"] == nic.port_id);
            attachment["tag"] = json!(nic.and_then(|nic| nic.tag.as_deref()));
        }
    }
    Ok(all)
}

fn no_such_port(id: &str, port_id: &str) -> Error {
    Error::new(Kind::NotFound, format!("Instance {id} does not have a port with id {port_id}"))
}

fn view(interface: &Interface) -> Value {
    let fixed: Vec<Value> = interface
        .fixed_ips
        .iter()
        .map(|fixed| json!({"subnet_id": fixed.subnet.id, "ip_address": fixed.address}))
        .collect();
    json!({
        "port_state": if interface.active { "ACTIVE" } else { "DOWN" },
        "fixed_ips": fixed,
        "port_id": interface.port_id,
        "net_id": interface.network_id,
        "mac_addr": interface.mac,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateBody {
    #[serde(default, rename = "interfaceAttachment")]
    attachment: Attachment,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Attachment {
    net_id: Option<String>,
    port_id: Option<String>,
    fixed_ips: Option<Vec<FixedIp>>,
    tag: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FixedIp {
    ip_address: String,
}

impl Attachment {
    fn checked(self, ctx: &Ctx) -> Result<PortRequest> {
        if self.tag.is_some() && !ctx.since(2, 49) {
            return Err(unexpected("tag"));
        }
        if let Some(tag) = &self.tag {
            super::tags::check_device_tag(tag)?;
        }
        for (field, id) in [("net_id", &self.net_id), ("port_id", &self.port_id)] {
            if id.as_deref().is_some_and(|id| !is_uuid(id)) {
                return Err(Error::bad_request(format!("Invalid input for field/attribute {field}: it is no UUID.")));
            }
        }
        let fixed_ip = match self.fixed_ips.as_deref() {
            None => None,
            Some([fixed]) => Some(fixed.ip_address.parse().map_err(|_| {
                Error::bad_request("Invalid input for field/attribute ip_address: it is no IP address.")
            })?),
            Some(_) => {
                return Err(Error::bad_request(
                    "Invalid input for field/attribute fixed_ips: exactly one can be given.",
                ));
            }
        };
        if self.net_id.is_some() && self.port_id.is_some() {
            return Err(Error::bad_request("Must not input both network_id and port_id"));
        }
        if fixed_ip.is_some() && self.net_id.is_none() {
            return Err(Error::bad_request("Must input network_id when request IP address"));
        }
        Ok(PortRequest { network_id: self.net_id, port_id: self.port_id, fixed_ip, tag: self.tag })
    }
}

pub(crate) async fn create(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    Body(CreateBody { attachment }): Body<CreateBody>,
) -> Result<Reply> {
    let server = visible(&app, &ctx, &id, policy::INTERFACES_CREATE).await?;
    refuse_locked(&ctx, &server)?;
    let mut request = attachment.checked(&ctx)?;
    let wish = Wish::new(&app, &ctx, &server, "attach_interface")?;
    let changer = app.clone();
    let port_id = app
        .db
        .write(move |tx| {
            let server = wish.server(tx, STATES)?;
            if request.port_id.is_none() && request.network_id.is_none() {
                request.network_id = Some(only_network(tx, &server.project_id)?);
            }
            let running = server.vm_state != VmState::Stopped;
            let port_id = network_info::attach(tx, &changer, &server, &request, wish.asker.admin, running)
                .map_err(in_attachs_words)?;
            wish.start_as_is(tx, &Interfaces::Attach { port_id: port_id.clone() })?;
            Ok::<_, Error>(port_id)
        })
        .await?;
    let entry = ended(&app, &ctx, &server.id, ATTACH).await?;
    let (result, message) = entry.map_or((None, None), |entry| (entry.result, entry.message));
    if result.as_deref() == Some("success") {
        return one(&app, &ctx, &server.id, &port_id).await;
    }
    // Deleted meanwhile, it is not there; overtaken by a delete or a hard reboot, this was one too many at a time.
    let server = visible(&app, &ctx, &server.id, policy::INTERFACES_CREATE).await?;
    if result.as_deref() == Some("superseded") {
        require(&server, "attach_interface", STATES)?;
        return Err(Error::conflict(format!("Instance {} was busy with another operation.", server.id)));
    }
    Err(attach::refusal(&message.unwrap_or_else(|| attach::failed(&server.id))))
}

/// What a server gets that names nothing. Upstream finds both cases a mistake of the request here.
fn only_network(tx: &db::Tx<'_>, project_id: &str) -> Result<String> {
    match network_info::only_network(tx, project_id) {
        Ok(Some(id)) => Ok(id),
        Ok(None) => Err(Error::bad_request(format!(
            "No specific network was requested and none are available for project '{project_id}'."
        ))),
        Err(error) if error.kind() == Kind::Conflict => Err(Error::bad_request(error.public().to_owned())),
        Err(error) => Err(error),
    }
}

/// Where making a server says 400 of what does not exist, attaching it says 404.
fn in_attachs_words(error: Error) -> Error {
    match error.code() {
        Some("PortNotFound" | "NetworkNotFound") => Error::new(Kind::NotFound, error.public().to_owned()),
        _ => error,
    }
}

pub(crate) async fn delete(
    State(app): State<App>,
    ctx: Ctx,
    Path((id, port_id)): Path<(String, String)>,
) -> Result<Reply> {
    let server = visible(&app, &ctx, &id, policy::INTERFACES_DELETE).await?;
    refuse_locked(&ctx, &server)?;
    let wish = Wish::new(&app, &ctx, &server, "detach_interface")?;
    app.db
        .write(move |tx| {
            wish.server(tx, STATES)?;
            let all = network_info::of_servers(tx, &[&id])?;
            if !all.of(&id).iter().any(|interface| interface.port_id == port_id) {
                return Err(no_such_port(&id, &port_id));
            }
            wish.start_as_is(tx, &Interfaces::Detach { port_id })
        })
        .await?;
    // A hypervisor that cannot says so at once; a guest has its time, and the client need not wait for it.
    match ended(&app, &ctx, &server.id, DETACH).await? {
        Some(LogEntry { message: Some(message), .. }) if attach::is_unsupported(&message) => {
            Err(attach::refusal(&message))
        }
        _ => Ok(Reply::empty(StatusCode::ACCEPTED)),
    }
}

/// How the operation that this request started has ended, if it does so in this time.
pub(crate) async fn ended(app: &App, ctx: &Ctx, server_id: &str, patience: Duration) -> Result<Option<LogEntry>> {
    let mut changes = app.db.changes("tasks");
    let looking = async {
        loop {
            let (id, request_id) = (server_id.to_owned(), ctx.request_id().to_owned());
            match app.db.read(move |tx| tasks::find_log(tx, &id, &request_id)).await? {
                Some(entry) if entry.result.is_none() => changes.changed().await,
                other => return Ok(other),
            }
        }
    };
    tokio::time::timeout(patience, looking).await.unwrap_or(Ok(None))
}

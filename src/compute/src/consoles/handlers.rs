//! `remote-consoles`, the actions before it, and what a token opens. Compute API reference, "Server consoles".

use axum::extract::{Path, State};
use rest::{Body, Ctx, Error, Kind, Reply, Result, target};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    model::{Console, TOKEN_LIFE, unavailable},
    policy, store,
};
use crate::{
    App,
    servers::{
        handlers::visible,
        model::VmState::{Active, Paused, Rescued},
        request,
    },
    sisters,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateBody {
    remote_console: Wanted,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    protocol: String,
    #[serde(rename = "type")]
    kind: String,
}

/// `POST /servers/{id}/remote-consoles`, since 2.6.
pub(crate) async fn create(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    Body(CreateBody { remote_console: Wanted { protocol, kind } }): Body<CreateBody>,
) -> Result<Reply> {
    let console = Console::wanted(&ctx, &protocol, &kind);
    let url = open(&app, &ctx, &id, console).await?;
    Ok(Reply::ok(&json!({"remote_console": {"protocol": protocol, "type": kind, "url": url}})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActionBody {
    #[serde(rename = "type")]
    kind: String,
}

/// `os-getVNCConsole` and its like, before 2.6.
pub(crate) async fn action(app: &App, ctx: &Ctx, id: &str, name: &str, argument: Value) -> Result<Reply> {
    if ctx.since(2, 6) {
        return Err(Error::no_such_route());
    }
    let ActionBody { kind } = request::fields(name, argument)?;
    let protocol = match name {
        "os-getVNCConsole" => "vnc",
        "os-getSPICEConsole" => "spice",
        "os-getRDPConsole" => "rdp",
        _ => "serial",
    };
    let url = open(app, ctx, id, Console::wanted(ctx, protocol, &kind)).await?;
    Ok(Reply::ok(&json!({"console": {"type": kind, "url": url}})))
}

/// A token for one connection. Answers the address to go to.
async fn open(app: &App, ctx: &Ctx, id: &str, console: Result<Console>) -> Result<String> {
    let server = visible(app, ctx, id, policy::CREATE).await?;
    let console = console?;
    if !matches!(server.vm_state, Active | Paused | Rescued) {
        return Err(Error::conflict(format!("Instance {id} is not ready")));
    }
    let screen = server.image_properties.get("hw_video_model").and_then(Value::as_str) != Some("none");
    if console == Console::Screen && !screen {
        return Err(unavailable(console.kind()));
    }
    let token = rest::new_uuid();
    let now = app.clock.now();
    let (expires_at, now) = (db::clock::text(now + TOKEN_LIFE), db::clock::text(now));
    let (kept, server_id) = (token.clone(), server.id);
    app.db
        .write(move |tx| store::insert(tx, &kept, &server_id, console, &expires_at, &now))
        .await
        .map_err(Error::from)?;
    Ok(url(ctx.base_url(), console, &token))
}

/// What listens on it is the shared port's own root.
const PORT: u16 = 6080;

fn url(base_url: &str, console: Console, token: &str) -> String {
    let root = sisters::root(base_url, "", PORT);
    match console {
        // noVNC takes the path of the WebSocket from here.
        Console::Screen => format!("{root}/console/vnc.html?path=console%2Fws%3Ftoken%3D{token}"),
        Console::Serial => format!("wss{}/console/ws?token={token}", root.trim_start_matches("https")),
    }
}

/// `GET /os-console-auth-tokens/{token}`: what the token opens, and not to whom it was given.
pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(token): Path<String>) -> Result<Reply> {
    ctx.allow(policy::TOKENS, &target(&[]))?;
    let (wanted, now) = (token, app.clock.now_text());
    let found = app.db.read(move |tx| store::find(tx, &wanted, &now)).await.map_err(Error::from)?;
    let Some(opened) = found else { return Err(Error::new(Kind::NotFound, "Token not found")) };
    // Before 2.31 this was for RDP consoles only.
    if !ctx.since(2, 31) {
        return Err(Error::unauthenticated());
    }
    let mut console = json!({
        "instance_uuid": opened.server_id,
        "host": app.options.host_name,
        // A console is a socket in the server's directory.
        "port": 0,
        "internal_access_path": match opened.console {
            Console::Screen => vmspec::directory::VNC,
            Console::Serial => vmspec::directory::SERIAL,
        },
    });
    if ctx.since(2, 99)
        && let Some(fields) = console.as_object_mut()
    {
        fields.insert("tls_port".into(), Value::Null);
    }
    Ok(Reply::ok(&json!({"console": console})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consoles_are_on_the_shared_port_or_on_their_own() {
        let screen = "/console/vnc.html?path=console%2Fws%3Ftoken%3Dt";
        assert_eq!(url("https://a.b/compute", Console::Screen, "t"), format!("https://a.b{screen}"));
        assert_eq!(url("https://a.b:8443/compute", Console::Screen, "t"), format!("https://a.b:8443{screen}"));
        assert_eq!(url("https://a.b:8774", Console::Screen, "t"), format!("https://a.b:6080{screen}"));
        assert_eq!(url("https://a.b/compute", Console::Serial, "t"), "wss://a.b/console/ws?token=t");
    }
}

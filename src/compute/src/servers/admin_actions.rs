//! `injectNetworkInfo`, `resetNetwork`, `trigger_crash_dump`. Compute API reference, "Servers - run an administrative action".

use http::StatusCode;
use rest::{Ctx, Error, Kind, Reply, Result};
use serde_json::Value;

use super::{
    handlers::{refuse_locked, require, visible, visible_to_few},
    model::VmState,
    policy, request,
};
use crate::App;

/// What a server is told of its network is made when it asks, or starts: there is nothing to do, as with upstream's libvirt.
pub(crate) async fn inject_network_info(app: &App, ctx: &Ctx, id: &str, argument: &Value) -> Result<Reply> {
    request::nothing("injectNetworkInfo", argument)?;
    let server = visible_to_few(app, ctx, id, policy::INJECT_NETWORK_INFO).await?;
    refuse_locked(ctx, &server)?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

/// Upstream has removed it, and says so to whoever may see the server.
pub(crate) async fn reset_network(app: &App, ctx: &Ctx, id: &str, argument: &Value) -> Result<Reply> {
    request::nothing("resetNetwork", argument)?;
    visible(app, ctx, id, policy::SHOW).await?;
    Err(Error::new(Kind::Gone, "The action resetNetwork was removed: it did something with XenAPI only."))
}

/// Since 2.17.
pub(crate) async fn trigger_crash_dump(app: &App, ctx: &Ctx, id: &str, argument: &Value) -> Result<Reply> {
    if !ctx.since(2, 17) {
        return Err(Error::no_such_route());
    }
    request::nothing("trigger_crash_dump", argument)?;
    let server = visible(app, ctx, id, policy::CRASH_DUMP).await?;
    refuse_locked(ctx, &server)?;
    require(&server, "trigger_crash_dump", &[VmState::Active, VmState::Paused, VmState::Resized, VmState::Error])?;
    Err(Error::bad_request(format!(
        "Triggering crash dump is not supported for instance {id}: its machine has no button for a non-maskable interrupt."
    )))
}

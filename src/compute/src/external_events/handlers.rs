//! Requests about external events.

use axum::extract::State;
use http::StatusCode;
use rest::{Body, Ctx, Error, Kind, Reply, Result, target};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{model::Event, policy};
use crate::{App, servers};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateRequest {
    events: Vec<Event>,
}

/// 200 when every event was taken, 207 when some were; each says which it was. Nothing has to be done about any: Compute
/// reads ports and power from where they are (the network is in this process, the guest in its own), so it is never
/// behind by an event.
pub(crate) async fn create(
    State(app): State<App>,
    ctx: Ctx,
    Body(CreateRequest { events }): Body<CreateRequest>,
) -> Result<Reply> {
    ctx.allow(policy::CREATE, &target(&[]))?;
    if events.is_empty() {
        return Err(Error::bad_request("Invalid input for field/attribute events: at least one event is needed."));
    }
    events.iter().try_for_each(|event| event.check(&ctx))?;
    let ids: Vec<String> = events.iter().map(|event| event.server_uuid.clone()).collect();
    let found: Vec<Option<bool>> = app
        .db
        .read(move |tx| {
            ids.iter()
                .map(|id| Ok(servers::store::find(tx, id)?.map(|server| server.launched_at.is_some())))
                .collect::<db::Result<_>>()
        })
        .await
        .map_err(Error::from)?;
    let codes: Vec<u16> = events
        .iter()
        .zip(found)
        .map(|(event, server)| match server {
            None => 404,
            // It is on no host that could be told.
            Some(false) => 422,
            Some(true) if !event.is_whole() => 400,
            Some(true) => 200,
        })
        .collect();
    if codes.iter().all(|code| *code == 404) {
        return Err(Error::new(Kind::NotFound, "No instances found for any event"));
    }
    let answers: Vec<Value> = events
        .iter()
        .zip(&codes)
        .map(|(event, code)| {
            let status = if *code == 200 { event.status.as_deref().unwrap_or("completed") } else { "failed" };
            let mut answer =
                json!({"name": event.name, "server_uuid": event.server_uuid, "status": status, "code": code});
            if let Some(tag) = &event.tag {
                answer["tag"] = json!(tag);
            }
            answer
        })
        .collect();
    for (event, code) in events.iter().zip(&codes) {
        tracing::info!(server.id = event.server_uuid, event = event.name, tag = event.tag, code, "external event");
    }
    let status = if codes.iter().all(|code| *code == 200) { StatusCode::OK } else { StatusCode::MULTI_STATUS };
    Ok(Reply::json(status, &json!({"events": answers})))
}

//! Requests about instance actions.

use axum::extract::{Path, State};
use rest::{Ctx, Error, Kind, Params, Reply, Result, Rule, target};
use serde_json::{Value, json};
use tasks::LogEntry;

use super::policy;
use crate::{App, servers};

/// The project of a server that the caller may see, and its log. Since 2.21 also of one that is gone.
async fn log(app: &App, ctx: &Ctx, id: &str, rule: Rule) -> Result<(String, Vec<LogEntry>)> {
    let wanted = id.to_owned();
    let (server, log) = app
        .db
        .read(move |tx| Ok::<_, Error>((servers::store::find(tx, &wanted)?, tasks::list_log(tx, &wanted)?)))
        .await?;
    let owner = match (&server, log.last()) {
        (Some(server), _) => server.project_id.clone(),
        (None, Some(first)) if ctx.since(2, 21) && first.kind.starts_with("compute.server.") => {
            first.project_id.clone().unwrap_or_default()
        }
        _ => {
            ctx.allow(rule, &target(&[("project_id", ctx.creds()?.project_id().unwrap_or_default())]))?;
            return Err(servers::store::no_such_server(id));
        }
    };
    ctx.allow_or(rule, &target(&[("project_id", &owner)]), || servers::store::no_such_server(id))?;
    Ok((owner, log))
}

fn view(ctx: &Ctx, entry: &LogEntry) -> Value {
    let failed = entry.result.as_deref() == Some("error");
    let mut view = json!({
        "action": entry.action,
        "instance_uuid": entry.resource,
        "request_id": entry.request_id,
        "user_id": entry.user_id,
        "project_id": entry.project_id,
        "start_time": db::clock::naive(&entry.started_at),
        "message": if failed { json!("Error") } else { Value::Null },
    });
    if ctx.since(2, 58) {
        view["updated_at"] = json!(db::clock::naive(&entry.updated_at));
    }
    view
}

fn time(params: &mut Params, name: &str) -> Result<Option<String>> {
    let Some(text) = params.take(name) else { return Ok(None) };
    let time = db::clock::parse(&text)
        .ok_or_else(|| Error::bad_request(format!("Invalid value for {name}: expected a time in ISO 8601.")))?;
    Ok(Some(db::clock::text(time)))
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, Path(id): Path<String>, params: Params) -> Result<Reply> {
    let (_, mut log) = log(&app, &ctx, &id, policy::LIST).await?;
    let mut body = json!({});
    if ctx.since(2, 58) {
        let mut rest = params.clone();
        let since = time(&mut rest, "changes-since")?;
        let before = if ctx.since(2, 66) { time(&mut rest, "changes-before")? } else { None };
        if since.as_ref().zip(before.as_ref()).is_some_and(|(since, before)| since > before) {
            return Err(Error::bad_request("The value of changes-since must be less than or equal to changes-before."));
        }
        log.retain(|entry| {
            since.as_ref().is_none_or(|since| entry.updated_at >= *since)
                && before.as_ref().is_none_or(|before| entry.updated_at <= *before)
        });
        if let Some(marker) = rest.take("marker") {
            let at = log.iter().position(|entry| entry.request_id == marker);
            let at = at.ok_or_else(|| Error::bad_request(format!("marker [{marker}] not found")))?;
            log.drain(..=at);
        }
        let limit = match rest.take("limit") {
            None => 1000,
            Some(text) => text
                .parse::<usize>()
                .map_err(|_| Error::bad_request("Invalid input for query parameter limit: expected a number."))?
                .min(1000),
        };
        if log.len() > limit && limit > 0 {
            log.truncate(limit);
            if let Some(last) = log.last() {
                let next = format!("{}?{}", ctx.url(ctx.path()), params.with(&[("marker", &last.request_id)]));
                body["links"] = json!([{"rel": "next", "href": next}]);
            }
        }
    }
    body["instanceActions"] = log.iter().map(|entry| view(&ctx, entry)).collect();
    Ok(Reply::ok(&body))
}

pub(crate) async fn show(
    State(app): State<App>,
    ctx: Ctx,
    Path((id, request_id)): Path<(String, String)>,
) -> Result<Reply> {
    let (project_id, log) = log(&app, &ctx, &id, policy::SHOW).await?;
    let missing =
        || Error::new(Kind::NotFound, format!("Action for request_id {request_id} on instance {id} not found"));
    let entry = log.iter().find(|entry| entry.request_id == request_id).ok_or_else(missing)?;
    let mut body = view(&ctx, entry);
    // Since 2.51 everyone who sees the action sees its events; only administrators see the texts.
    let admin = ctx.may(policy::EVENTS, &target(&[]))?;
    if admin || ctx.since(2, 51) {
        let generation = entry.generation;
        let events = app.db.read(move |tx| tasks::list_events(tx, generation)).await.map_err(Error::from)?;
        let detailed = ctx.since(2, 62) && ctx.may(policy::EVENTS_DETAILS, &target(&[]))?;
        let host = &app.options.host_name;
        let host_id = servers::views::host_id(&app.options, &project_id);
        body["events"] = events
            .iter()
            .map(|event| {
                let mut one = json!({
                    "event": event.name,
                    "start_time": db::clock::naive(&event.started_at),
                    "finish_time": db::clock::naive(&event.finished_at),
                    "result": event.result,
                });
                if admin {
                    one["traceback"] = json!(event.message);
                }
                if ctx.since(2, 62) {
                    one["hostId"] = json!(host_id);
                }
                if detailed {
                    one["host"] = json!(host);
                }
                if detailed && ctx.since(2, 84) {
                    one["details"] = json!(event.message);
                }
                one
            })
            .collect();
    }
    Ok(Reply::ok(&json!({"instanceAction": body})))
}

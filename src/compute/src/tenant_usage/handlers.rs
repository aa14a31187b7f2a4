//! Requests about usage.

use axum::extract::{Path, State};
use db::Value as Sql;
use rest::{Ctx, Error, Listing, Params, Reply, Result, target};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::{
    model::{Span, Used, times},
    policy, store,
};
use crate::App;

fn at(params: &mut Params, name: &str) -> Result<Option<OffsetDateTime>> {
    let Some(text) = params.take(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    db::clock::parse(&text).map(Some).ok_or_else(|| Error::bad_request(format!("Invalid {name} time: {text:?}.")))
}

/// Four weeks until now, where nothing else is said.
fn span(params: &mut Params, now: OffsetDateTime) -> Result<Span> {
    let start = at(params, "start")?.unwrap_or(now - Duration::weeks(4));
    let end = at(params, "end")?.unwrap_or(now);
    if start > end {
        return Err(Error::bad_request("Invalid start time. The start time cannot occur after the end time."));
    }
    Ok(Span { start, end, now })
}

struct Found {
    listing: Listing<Used>,
    span: Span,
    next: Option<Value>,
    detailed: bool,
}

async fn found(app: &App, ctx: &Ctx, params: &Params, project_id: Option<String>) -> Result<Found> {
    let mut rest = params.clone();
    let span = span(&mut rest, app.clock.now())?;
    let detailed = rest.take("detailed").is_some_and(|text| text == "1");
    let paged = ctx.since(2, 40);
    let (limit, marker) = (rest.take("limit"), rest.take("marker"));
    if ctx.since(2, 75) {
        rest.finish()?;
    }
    // Only these two are a page's: usage is not sorted by anything else.
    let mut asked = Params::default();
    if paged {
        let pairs = [("limit", limit.as_deref()), ("marker", marker.as_deref())];
        let pairs: Vec<(&str, &str)> = pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        asked = Params::parse(&asked.with(&pairs));
    }
    let mut page = if paged { store::PAGED.page(&mut asked)? } else { store::WHOLE.page(&mut asked)? };
    page.and("s.launched_at < ?", [Sql::Text(db::clock::text(span.end))]);
    page.and("(s.terminated_at IS NULL OR s.terminated_at > ?)", [Sql::Text(db::clock::text(span.start))]);
    if let Some(project_id) = project_id {
        page.and("s.project_id = ?", [Sql::Text(project_id)]);
    }
    let listing = app.db.read(move |tx| page.fetch(tx, store::read)).await?;
    let next = listing.next_link(ctx, params, |used| &used.id).filter(|_| paged);
    let next = next.map(|next| json!([{"rel": "next", "href": next}]));
    Ok(Found { listing, span, next, detailed })
}

fn text(at: OffsetDateTime) -> String {
    db::clock::naive(&db::clock::text(at))
}

/// Sums over servers of one project.
fn report(project_id: &str, servers: &[&Used], span: Span, detailed: bool) -> Value {
    let sum = |size: fn(&Used) -> i64| -> f64 { servers.iter().map(|used| times(size(used), used.hours(span))).sum() };
    let mut view = json!({
        "tenant_id": project_id,
        "total_hours": sum(|_| 1),
        "total_vcpus_usage": sum(|used| used.vcpus),
        "total_memory_mb_usage": sum(|used| used.ram_mib),
        "total_local_gb_usage": sum(|used| used.disk_gib),
        "start": text(span.start),
        "stop": text(span.end),
    });
    if detailed {
        let servers: Vec<Value> = servers.iter().map(|used| server(used, span)).collect();
        view["server_usages"] = json!(servers);
    }
    view
}

fn server(used: &Used, span: Span) -> Value {
    json!({
        "instance_id": used.id,
        "name": used.name,
        "tenant_id": used.project_id,
        "flavor": used.flavor,
        "hours": used.hours(span),
        "vcpus": used.vcpus,
        "memory_mb": used.ram_mib,
        "local_gb": used.disk_gib,
        "state": used.vm_state,
        "started_at": text(used.launched_at),
        "ended_at": used.terminated_at.map(text),
        "uptime": used.uptime_s(span.now),
    })
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    ctx.allow(policy::LIST, &target(&[]))?;
    let Found { listing, span, next, detailed } = found(&app, &ctx, &params, None).await?;
    let mut by_project: Vec<(&str, Vec<&Used>)> = Vec::new();
    for used in &listing.rows {
        match by_project.iter_mut().find(|(project_id, _)| *project_id == used.project_id) {
            Some((_, servers)) => servers.push(used),
            None => by_project.push((&used.project_id, vec![used])),
        }
    }
    let usages: Vec<Value> =
        by_project.iter().map(|(project_id, servers)| report(project_id, servers, span, detailed)).collect();
    let mut body = json!({"tenant_usages": usages});
    if let Some(next) = next {
        body["tenant_usages_links"] = next;
    }
    Ok(Reply::ok(&body))
}

/// Always with each server. A project that used nothing has an empty report, as upstream's.
pub(crate) async fn show(
    State(app): State<App>,
    ctx: Ctx,
    Path(project_id): Path<String>,
    params: Params,
) -> Result<Reply> {
    ctx.allow(policy::SHOW, &target(&[("project_id", &project_id)]))?;
    let Found { listing, span, next, .. } = found(&app, &ctx, &params, Some(project_id.clone())).await?;
    let servers: Vec<&Used> = listing.rows.iter().collect();
    let usage = if servers.is_empty() { json!({}) } else { report(&project_id, &servers, span, true) };
    let mut body = json!({"tenant_usage": usage});
    if let Some(next) = next {
        body["tenant_usage_links"] = next;
    }
    Ok(Reply::ok(&body))
}

//! `GET /os-migrations`.

use axum::extract::State;
use rest::{Ctx, Error, Params, Reply, Result, target};
use serde_json::{Value, json};

use super::{Migration, policy, store};
use crate::App;

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    let own = ctx.creds()?.project_id().unwrap_or_default().to_owned();
    let mine = target(&[("project_id", &own)]);
    ctx.allow(policy::INDEX, &mine)?;
    // Upstream's: who does not ask for one project, the own, asks for all.
    if params.get("project_id").filter(|_| ctx.since(2, 80)) != Some(own.as_str()) {
        ctx.allow(policy::INDEX_ALL, &mine)?;
    }
    let hosts = ctx.may(policy::INDEX_HOST, &mine)?;
    let mut rest = params.clone();
    if !ctx.since(2, 59) {
        // What came later is passed over, as everything is that a version does not know.
        for name in ["limit", "marker"] {
            rest.take_all(name);
        }
    }
    for name in ["sort_key", "sort_dir"] {
        if rest.has(name) && ctx.since(2, 59) {
            return Err(unknown(name));
        }
        rest.take_all(name);
    }
    let mut page = store::LIST.page(&mut rest)?;
    let (since, before) = (rest.take_all(store::SINCE.name), rest.take_all(store::BEFORE.name));
    if ctx.since(2, 59) && !since.is_empty() {
        page.filter(&store::SINCE, &since)?;
    }
    if !before.is_empty() {
        match (ctx.since(2, 66), ctx.since(2, 59)) {
            (true, _) => page.filter(&store::BEFORE, &before)?,
            (false, true) => return Err(unknown(store::BEFORE.name)),
            (false, false) => {}
        }
    }
    if ctx.since(2, 66)
        && let ([since], [before]) = (since.as_slice(), before.as_slice())
        && db::clock::parse(before) < db::clock::parse(since)
    {
        return Err(Error::bad_request("The value of changes-since must be less than or equal to changes-before."));
    }
    for filter in &store::OWNERS {
        let values = rest.take_all(filter.name);
        match (values.is_empty(), ctx.since(2, 80), ctx.since(2, 59)) {
            (true, ..) | (false, false, false) => {}
            (false, true, _) => page.filter(filter, &values)?,
            (false, false, true) => return Err(unknown(filter.name)),
        }
    }
    // Every row here is a resize from this host to itself, and none is hidden.
    let mut nothing = false;
    for name in ["host", "source_compute"] {
        nothing |= rest.take(name).is_some_and(|host| host != app.options.host_name);
    }
    nothing |= rest.take("migration_type").is_some_and(|kind| kind != "resize");
    nothing |= rest.take("hidden").is_some_and(|hidden| rest::parse_bool(&hidden) == Some(true));
    if ctx.since(2, 59) {
        rest.finish()?;
    }
    if nothing {
        return Ok(Reply::ok(&json!({"migrations": []})));
    }
    let listing = app.db.read(move |tx| page.fetch(tx, store::read)).await?;
    let rows: Vec<Value> = listing.rows.iter().map(|row| view(&app, &ctx, row, hosts)).collect();
    let mut body = json!({"migrations": rows});
    if ctx.since(2, 59)
        && let Some(next) = listing.next_link(&ctx, &params, |row| &row.uuid)
    {
        body["migrations_links"] = json!([{"rel": "next", "href": next}]);
    }
    Ok(Reply::ok(&body))
}

fn unknown(name: &str) -> Error {
    Error::bad_request(format!("Invalid query parameter {name:?}."))
}

fn view(app: &App, ctx: &Ctx, row: &Migration, hosts: bool) -> Value {
    let host = hosts.then_some(&app.options.host_name);
    let address = hosts.then_some(&app.options.host_address);
    let mut view = json!({
        "id": row.id,
        "instance_uuid": row.server_id,
        "status": row.status,
        "old_instance_type_id": row.old_number,
        "new_instance_type_id": row.new_number,
        "source_compute": host,
        "source_node": host,
        "dest_compute": host,
        "dest_node": host,
        "dest_host": address,
        "created_at": db::clock::naive(&row.created_at),
        "updated_at": db::clock::naive(&row.updated_at),
    });
    if ctx.since(2, 23) {
        view["migration_type"] = json!("resize");
    }
    if ctx.since(2, 59) {
        view["uuid"] = json!(row.uuid);
    }
    if ctx.since(2, 80) {
        view["user_id"] = json!(row.user_id);
        view["project_id"] = json!(row.project_id);
    }
    view
}

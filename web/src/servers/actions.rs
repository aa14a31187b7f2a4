//! Verbs of one click for one or many servers. Each row of a bulk action has its own result.

use askama::Template;
use axum::response::Response;
use serde_json::{Value, json};

use super::{
    model::{One, Server},
    verbs::{How, May, Verb},
};
use crate::{
    api::{Service, encoded},
    echo::{Command, Echo},
    failure::{Failure, Result},
    form::WithFiles,
    frame::Frame,
    session::Flash,
    visit::Visit,
};

/// More are not on one page.
const ROWS_MAX: usize = 1000;

#[derive(Template)]
#[template(path = "servers/sure.html")]
struct Sure {
    frame: Frame,
    servers: Vec<Server>,
    back: String,
    echo: Echo,
}

/// `POST /servers/actions`: `do=<verb>:<id>` of a row's own menu, or `verb` with as many `id` as are marked.
pub(super) async fn many(visit: Visit, WithFiles(fields): WithFiles) -> Result<Response> {
    let words = visit.words();
    let (verb, ids) = match fields.get("do").split_once(':') {
        Some((verb, id)) => (verb, vec![id]),
        None => (fields.get("verb"), fields.all("id")),
    };
    let verb = Verb::find(verb).ok_or_else(|| Failure::bad_request(words.t("Choose what to do.")))?;
    let back = if fields.on("back") { fields.get("back") } else { "/servers" };
    if ids.is_empty() {
        let text = words.t("Mark the servers first.").to_owned();
        return visit.leave(back, Flash { good: false, text, rows: Vec::new() }).await;
    }
    if ids.len() > ROWS_MAX {
        return Err(Failure::bad_request(words.t("Those are too many at once.")));
    }
    let mut servers = Vec::new();
    let mut refused = Vec::new();
    for id in ids {
        match visit.api.get::<One>(Service::Compute, &format!("/servers/{}", encoded(id))).await {
            Ok(found) => servers.push(found.server),
            Err(failure) if failure.is_users() => refused.push(format!("{id}: {}", failure.line())),
            Err(failure) => return Err(failure),
        }
    }
    if verb.name == "delete" && !fields.on("sure") && !servers.is_empty() {
        let title = words.fill("Delete {} servers?", &[&servers.len()]);
        let command = servers.iter().fold(Command::new("server delete"), |command, one| command.argument(&one.id));
        let (frame, back) = (visit.frame("/servers", title), back.to_owned());
        return visit.page(&Sure { frame, servers, back, echo: Echo::command(&command) });
    }
    let may = May::of(&visit);
    let mut done = 0;
    for server in &servers {
        if let Some(why) = verb.why_not(words, server, may) {
            refused.push(format!("{}: {why}", server.name));
            continue;
        }
        match one(&visit, verb, server).await {
            Ok(()) => done += 1,
            Err(failure) if failure.is_users() => refused.push(format!("{}: {}", server.name, named(&failure, server))),
            Err(failure) => return Err(failure),
        }
    }
    let text = match (servers.first(), servers.len(), refused.len()) {
        (Some(server), 1, 0) => words.fill("{}: accepted for {}", &[&words.t(verb.label), &server.name]),
        (_, _, count) => words.fill("{}: {} accepted, {} refused", &[&words.t(verb.label), &done, &count]),
    };
    visit.leave(back, Flash { good: refused.is_empty(), text, rows: refused }).await
}

/// What Compute said, with the server's name in the place of its id.
pub(super) fn named(failure: &Failure, server: &Server) -> String {
    failure.line().replace(&server.id, &format!("“{}”", server.name))
}

async fn one(visit: &Visit, verb: Verb, server: &Server) -> Result<()> {
    let path = format!("/servers/{}", encoded(&server.id));
    let (action, argument) = match (verb.name, verb.how) {
        ("delete", _) => return visit.api.delete(Service::Compute, &path).await,
        ("lock", _) => ("lock", Value::Null),
        ("reboot", How::Click(action)) => (action, json!({"type": "SOFT"})),
        ("hard-reboot", How::Click(action)) => (action, json!({"type": "HARD"})),
        (_, How::Click(action)) => (action, Value::Null),
        (_, How::Page) => {
            return Err(Failure::bad_request(
                visit.words().t("This needs more words: do it on the server's own page."),
            ));
        }
    };
    visit.api.post(Service::Compute, &format!("{path}/action"), &json!({ action: argument })).await.map(|_| ())
}

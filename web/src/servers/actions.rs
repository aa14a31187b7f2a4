//! Verbs for one or many servers. Each row of a bulk action has its own result.

use axum::{extract::RawForm, response::Response};
use serde_json::{Value, json};

use super::model::Verb;
use crate::{
    api::{Service, encoded},
    failure::{Failure, Result},
    session::Flash,
    visit::Visit,
};

/// `POST /servers/actions`: `do=<verb>:<id>` of a row's own menu, or `verb` with as many `id` as are marked.
pub(super) async fn many(visit: Visit, RawForm(form): RawForm) -> Result<Response> {
    let fields: Vec<(String, String)> = form_urlencoded::parse(&form).into_owned().collect();
    let first = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let (verb, ids) = match first("do").and_then(|text| text.split_once(':')) {
        Some((verb, id)) => (verb, vec![id]),
        None => {
            let marked = fields.iter().filter(|(name, _)| name == "id").map(|(_, id)| id.as_str());
            (first("verb").unwrap_or_default(), marked.collect())
        }
    };
    let verb = Verb::find(verb).ok_or_else(|| Failure::bad_request(visit.words().t("Choose what to do.")))?;
    let back = first("back").unwrap_or("/servers").to_owned();
    let words = visit.words();
    if ids.is_empty() {
        let text = words.t("Mark the servers first.").to_owned();
        return visit.leave(&back, Flash { good: false, text, rows: Vec::new() }).await;
    }
    let (mut done, mut refused) = (0, Vec::new());
    for id in &ids {
        match one(&visit, verb, id).await {
            Ok(()) => done += 1,
            Err(failure) if failure.is_users() => refused.push(format!("{id}: {}", failure.line())),
            Err(failure) => return Err(failure),
        }
    }
    let text = words.fill("{}: {} accepted, {} refused", &[&words.t(verb.label), &done, &refused.len()]);
    visit.leave(&back, Flash { good: refused.is_empty(), text, rows: refused }).await
}

async fn one(visit: &Visit, verb: Verb, id: &str) -> Result<()> {
    let path = format!("/servers/{}", encoded(id));
    let Some(action) = verb.action else { return visit.api.delete(Service::Compute, &path).await };
    let argument = match verb.name {
        "reboot" => json!({"type": "SOFT"}),
        "hard-reboot" => json!({"type": "HARD"}),
        _ => Value::Null,
    };
    visit.api.post(Service::Compute, &format!("{path}/action"), &json!({ action: argument })).await.map(|_| ())
}

//! Verbs for images and their members.

use axum::{extract::Path, response::Response};
use http::Method;
use serde_json::{Value, json};

use crate::{
    api::{Service, encoded},
    failure::{Failure, Result},
    form::Fields,
    session::{Flash, Scope},
    visit::Visit,
};

/// `POST /images/actions`: `verb` for each `id` that is marked.
pub(super) async fn many(visit: Visit, form: Fields) -> Result<Response> {
    let words = visit.words();
    let ids = form.all("id");
    if ids.is_empty() {
        let text = words.t("Mark the images first.").to_owned();
        return visit.leave("/images", Flash { good: false, text, rows: Vec::new() }).await;
    }
    let (mut done, mut refused) = (0, Vec::new());
    for id in ids {
        match act(&visit, id, form.get("verb")).await {
            Ok(_) => done += 1,
            Err(failure) if failure.is_users() => refused.push(format!("{id}: {}", failure.line())),
            Err(failure) => return Err(failure),
        }
    }
    let text = words.fill("{} done, {} refused", &[&done, &refused.len()]);
    visit.leave("/images", Flash { good: refused.is_empty(), text, rows: refused }).await
}

/// `POST /images/{id}/actions`: one verb.
pub(super) async fn one(visit: Visit, Path(id): Path<String>, form: Fields) -> Result<Response> {
    let verb = form.get("verb");
    let here = format!("/images/{}", encoded(&id));
    let result = act(&visit, &id, verb).await;
    let to = if verb == "delete" && result.is_ok() { "/images" } else { &here };
    let words = visit.words();
    let text = match verb {
        "delete" => words.t("The image is deleted."),
        "deactivate" => words.t("The image is deactivated: nobody but administrators gets its data."),
        "reactivate" => words.t("The image is active again."),
        "accept" => words.t("The image is accepted: it is in this project's list."),
        _ => words.t("The image is rejected."),
    };
    let text = text.to_owned();
    visit.outcome(result, to, text).await
}

async fn act(visit: &Visit, id: &str, verb: &str) -> Result<Value> {
    let path = format!("/images/{}", encoded(id));
    match verb {
        "delete" => visit.api.delete(Service::Images, &path).await.map(|()| Value::Null),
        "deactivate" | "reactivate" => {
            let path = format!("{path}/actions/{verb}");
            visit.api.send(Method::POST, Service::Images, &path, None).await.map(|answer| answer.body)
        }
        "accept" | "reject" => {
            let Scope::Project { project, .. } = &visit.session()?.scope else {
                return Err(Failure::bad_request(
                    visit.words().t("Choose a project first: images are shared with projects."),
                ));
            };
            let path = format!("{path}/members/{}", encoded(&project.id));
            visit.api.put(Service::Images, &path, &json!({"status": format!("{verb}ed")})).await
        }
        _ => Err(Failure::bad_request(visit.words().t("Choose what to do."))),
    }
}

/// `POST /images/{id}/members`: `add` a project, or `remove` one.
pub(super) async fn members(visit: Visit, Path(id): Path<String>, form: Fields) -> Result<Response> {
    let here = format!("/images/{}#members", encoded(&id));
    let path = format!("/images/{}/members", encoded(&id));
    let words = visit.words();
    if form.on("remove") {
        let result = visit.api.delete(Service::Images, &format!("{path}/{}", encoded(form.get("remove")))).await;
        return visit.outcome(result, &here, words.t("The image is no longer shared with that project.")).await;
    }
    let result = visit.api.post(Service::Images, &path, &json!({"member": form.get("member")})).await;
    let text = words.t("The image is offered. Somebody of that project has to accept it.");
    visit.outcome(result, &here, text).await
}

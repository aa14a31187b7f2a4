//! Verbs for one or many things of a list. Each row has its own result. And who may change what.

use axum::response::Response;
use serde_json::{Value, json};

use super::{lists, model::Resource};
use crate::{
    api::{Service, encoded},
    failure::{Failure, Result},
    form::Fields,
    session::Flash,
    visit::Visit,
};

/// More than a page has rows.
const MANY_MAX: usize = 500;

/// What a verb does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Delete,
    /// Sets one attribute to a value.
    Set(&'static str, fn() -> Value),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Verb {
    /// As the form sends it.
    pub name: &'static str,
    pub label: &'static str,
    /// What is asked before it is done.
    pub question: &'static str,
    pub act: Act,
}

impl Verb {
    pub(super) fn is_danger(&self) -> bool {
        matches!(self.act, Act::Delete)
    }
}

/// `verb`, and as many `id` as are marked. `back` is where to go when all was done, `stay` when something was refused.
pub(super) async fn many<T: Resource>(visit: Visit, fields: Fields, verbs: &[Verb], home: &str) -> Result<Response> {
    let words = visit.words();
    let wanted = fields.get("verb");
    let verb = verbs.iter().find(|verb| verb.name == wanted);
    let verb = verb.ok_or_else(|| Failure::bad_request(words.t("Choose what to do.")))?;
    let or = |name: &str, other: &str| if fields.on(name) { fields.get(name).to_owned() } else { other.to_owned() };
    let back = or("back", home);
    let stay = or("stay", &back);
    let ids = fields.all("id");
    if ids.is_empty() {
        let text = words.t("Mark something first.").to_owned();
        return visit.leave(&stay, Flash { good: false, text, rows: Vec::new() }).await;
    }
    if ids.len() > MANY_MAX {
        return Err(Failure::bad_request(words.t("These are too many at once.")));
    }
    let (mut done, mut refused) = (Vec::new(), Vec::new());
    for id in &ids {
        let path = format!("{}/{}", T::PATH, encoded(id));
        // Its name is gone with it.
        let label = lists::find::<T>(&visit.api, id).await?.map_or_else(|| (*id).to_owned(), |thing| thing.label());
        let result = match verb.act {
            Act::Delete => visit.api.delete(Service::Network, &path).await,
            Act::Set(name, value) => {
                let body = json!({ T::ONE: { name: value() } });
                visit.api.put(Service::Network, &path, &body).await.map(|_| ())
            }
        };
        match result {
            Ok(()) => done.push(label),
            Err(failure) if failure.is_users() => refused.push(format!("{label}: {}", failure.line())),
            Err(failure) => return Err(failure),
        }
    }
    let said = words.t(verb.label);
    if refused.is_empty() {
        let text = match done.as_slice() {
            [only] => words.fill("{}: {} – done", &[&said, only]),
            _ => words.fill("{}: {} done", &[&said, &done.len()]),
        };
        return visit.done(&back, text).await;
    }
    let text = words.fill("{}: {} done, {} refused", &[&said, &done.len(), &refused.len()]);
    visit.leave(&stay, Flash { good: false, text, rows: refused }).await
}

/// Why the user may not change what is of this project, as far as it is known before asking.
pub(super) fn blocked(visit: &Visit, project_id: &str) -> Result<Option<String>> {
    let session = visit.session()?;
    let words = visit.words();
    if session.has_role("admin") {
        return Ok(None);
    }
    if session.project_id() != Some(project_id) {
        return Ok(Some(words.t("It belongs to another project.").to_owned()));
    }
    only_reads(visit)
}

/// Whether the user is one who may look only. Other roles may be allowed anything by the operator's policy.
pub(super) fn only_reads(visit: &Visit) -> Result<Option<String>> {
    let session = visit.session()?;
    let only = session.has_role("reader") && !["member", "manager", "admin"].iter().any(|role| session.has_role(role));
    let text = visit.words().t("You may look and not change: that takes the role member.");
    Ok(only.then(|| text.to_owned()))
}

//! What a project may have unless it has quotas of its own: the quota class `default`.

use askama::Template;
use axum::{extract::RawForm, response::Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{api::Service, failure::Result, frame::Frame, visit::Visit};

#[derive(Deserialize)]
struct Class {
    quota_class_set: Map<String, Value>,
}

struct Limit {
    name: String,
    value: String,
}

#[derive(Template)]
#[template(path = "system/quotas.html")]
struct Page {
    frame: Frame,
    limits: Vec<Limit>,
}

async fn page(visit: &Visit, typed: &[(String, String)]) -> Result<Page> {
    let class: Class = visit.api.get(Service::Compute, "/os-quota-class-sets/default").await?;
    let limits = class.quota_class_set.into_iter().filter(|(_, value)| value.is_i64()).map(|(name, value)| {
        let typed = typed.iter().find(|(field, _)| *field == name).map(|(_, value)| value.clone());
        Limit { value: typed.unwrap_or_else(|| value.to_string()), name }
    });
    let limits = limits.collect();
    Ok(Page { frame: visit.frame("/system", visit.words().t("Default quotas")), limits })
}

/// `GET /quota-defaults`.
pub(super) async fn show(visit: Visit) -> Result<Response> {
    let page = page(&visit, &[]).await?;
    visit.page(&page)
}

/// `POST /quota-defaults`.
pub(super) async fn save(visit: Visit, RawForm(form): RawForm) -> Result<Response> {
    let typed: Vec<(String, String)> = form_urlencoded::parse(&form).into_owned().collect();
    let mut page = page(&visit, &typed).await?;
    // What is no number goes on as it is: the API says what is wrong with it.
    let limits: Map<String, Value> = page
        .limits
        .iter()
        .map(|limit| {
            let value = limit.value.trim();
            (limit.name.clone(), value.parse::<i64>().map_or_else(|_| json!(value), |number| json!(number)))
        })
        .collect();
    let body = json!({"quota_class_set": limits});
    match visit.api.put(Service::Compute, "/os-quota-class-sets/default", &body).await {
        Ok(_) => visit.done("/quota-defaults", visit.words().t("The defaults are changed.")).await,
        Err(failure) if failure.is_users() => {
            page.frame = page.frame.with_problem(&failure);
            visit.again(&failure, &page)
        }
        Err(failure) => Err(failure),
    }
}

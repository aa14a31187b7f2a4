//! Flavors: `/flavors`. Everybody sees those of use; administrators make them.

use std::collections::BTreeMap;

use askama::Template;
use axum::{Router, extract::Path, response::Response, routing::get};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Dashboard,
    api::{Service, encoded},
    failure::{Failure, Result},
    form::{Fields, pairs},
    frame::Frame,
    show,
    visit::Visit,
};

pub(crate) fn routes() -> Router<Dashboard> {
    Router::new()
        .route("/flavors", get(index))
        .route("/flavors/new", get(form).post(create))
        .route("/flavors/{id}", get(detail).post(update))
}

#[derive(Clone, Debug, Deserialize)]
struct Flavor {
    id: String,
    name: String,
    #[serde(default)]
    vcpus: i64,
    /// MiB.
    #[serde(default)]
    ram: i64,
    /// GiB.
    #[serde(default)]
    disk: i64,
    /// GiB.
    #[serde(rename = "OS-FLV-EXT-DATA:ephemeral", default)]
    ephemeral: i64,
    /// MiB; older answers have an empty text for none.
    #[serde(default)]
    swap: Value,
    #[serde(rename = "os-flavor-access:is_public", default)]
    is_public: bool,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    extra_specs: BTreeMap<String, String>,
}

impl Flavor {
    fn swap_mib(&self) -> i64 {
        self.swap.as_i64().unwrap_or(0)
    }

    fn specs(&self) -> String {
        self.extra_specs.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
    }
}

#[derive(Deserialize)]
struct Flavors {
    flavors: Vec<Flavor>,
    #[serde(default)]
    flavors_links: Vec<Value>,
}

#[derive(Deserialize)]
struct One {
    flavor: Flavor,
}

#[derive(Template)]
#[template(path = "flavors/index.html")]
struct Index {
    frame: Frame,
    filters: Fields,
    flavors: Vec<Flavor>,
    next: Option<String>,
}

/// `GET /flavors`.
async fn index(visit: Visit, filters: Fields) -> Result<Response> {
    let mut path = "/flavors/detail?limit=100&sort_key=memory_mb".to_owned();
    let frame = visit.frame("/flavors", visit.words().t("Flavors")).live();
    if frame.admin {
        path.push_str("&is_public=None");
    }
    for (name, key) in [("ram", "minRam"), ("disk", "minDisk"), ("marker", "marker")] {
        if filters.on(name) {
            path.push_str(&format!("&{key}={}", encoded(filters.get(name))));
        }
    }
    let found: Flavors = visit.api.get(Service::Compute, &path).await?;
    let last = found.flavors.last().filter(|_| !found.flavors_links.is_empty());
    let next = last.map(|last| format!("/flavors?{}", filters.after(&last.id)));
    visit.page(&Index { frame, flavors: found.flavors, next, filters })
}

#[derive(Template)]
#[template(path = "flavors/new.html")]
struct New {
    frame: Frame,
    fields: Fields,
}

/// `GET /flavors/new`.
async fn form(visit: Visit) -> Result<Response> {
    let fields = Fields::default().with("vcpus", "1").with("ram", "1024").with("disk", "10").with("is_public", "1");
    visit.page(&New { frame: visit.frame("/flavors", visit.words().t("New flavor")), fields })
}

/// `POST /flavors/new`.
async fn create(visit: Visit, fields: Fields) -> Result<Response> {
    let result: Result<(String, Option<Failure>)> = async {
        let number = |name: &str, least| fields.number(name).map(|number| number.unwrap_or(least));
        let specs = pairs(fields.raw("extra_specs"))?;
        let mut flavor = json!({
            "name": fields.get("name"), "vcpus": number("vcpus", 1)?, "ram": number("ram", 0)?,
            "disk": number("disk", 0)?, "OS-FLV-EXT-DATA:ephemeral": number("ephemeral", 0)?,
            "swap": number("swap", 0)?, "os-flavor-access:is_public": fields.on("is_public"),
        });
        for name in ["id", "description"] {
            if fields.on(name) {
                flavor[name] = fields.get(name).into();
            }
        }
        let made = visit.api.post(Service::Compute, "/flavors", &json!({"flavor": flavor})).await?;
        let id = made.pointer("/flavor/id").and_then(Value::as_str).unwrap_or_default().to_owned();
        if specs.is_empty() {
            return Ok((id, None));
        }
        let specs: BTreeMap<String, String> = specs.into_iter().collect();
        let path = format!("/flavors/{}/os-extra_specs", encoded(&id));
        let kept = visit.api.post(Service::Compute, &path, &json!({"extra_specs": specs})).await;
        Ok((id, kept.err()))
    }
    .await;
    match result {
        Ok((id, None)) => {
            visit.done(&format!("/flavors/{}", encoded(&id)), visit.words().t("The flavor is made.")).await
        }
        // It is there, without its extra specs: its own page has the form for them.
        Ok((id, Some(failure))) => visit.outcome::<()>(Err(failure), &format!("/flavors/{}", encoded(&id)), "").await,
        Err(failure) if failure.is_users() => {
            let frame = visit.frame("/flavors", visit.words().t("New flavor")).with_problem(&failure);
            visit.again(&failure, &New { frame, fields })
        }
        Err(failure) => Err(failure),
    }
}

#[derive(Deserialize)]
struct Access {
    flavor_access: Vec<Granted>,
}

#[derive(Deserialize)]
struct Granted {
    tenant_id: String,
}

#[derive(Template)]
#[template(path = "flavors/detail.html")]
struct Detail {
    frame: Frame,
    flavor: Flavor,
    /// Projects that may use a flavor that is not public.
    access: Vec<Granted>,
    /// What the form for extra specs shows.
    specs: String,
    path: String,
}

async fn page(visit: &Visit, id: &str) -> Result<Detail> {
    let path = format!("/flavors/{}", encoded(id));
    let One { flavor } = visit.api.get(Service::Compute, &path).await?;
    let access: Option<Access> = match flavor.is_public {
        true => None,
        false => visit.api.find(Service::Compute, &format!("{path}/os-flavor-access")).await?,
    };
    Ok(Detail {
        frame: visit.frame("/flavors", flavor.name.clone()),
        access: access.map(|access| access.flavor_access).unwrap_or_default(),
        specs: flavor.specs(),
        flavor,
        path,
    })
}

/// `GET /flavors/{id}`.
async fn detail(visit: Visit, Path(id): Path<String>) -> Result<Response> {
    let page = page(&visit, &id).await?;
    visit.page(&page)
}

/// `POST /flavors/{id}`: `do` says what.
async fn update(visit: Visit, Path(id): Path<String>, form: Fields) -> Result<Response> {
    let path = format!("/flavors/{}", encoded(&id));
    let words = visit.words();
    let api = &visit.api;
    let access = async |verb: &str| {
        let body = json!({ verb: {"tenant": form.get("project")} });
        api.post(Service::Compute, &format!("{path}/action"), &body).await.map(|_| ())
    };
    let (result, text) = match form.get("do") {
        "delete" => {
            let result = api.delete(Service::Compute, &path).await;
            let to = if result.is_ok() { "/flavors" } else { &path };
            return visit.outcome(result, to, words.t("The flavor is deleted.")).await;
        }
        "describe" => {
            let description = Some(form.get("description")).filter(|text| !text.is_empty());
            let body = json!({"flavor": {"description": description}});
            let result = api.put(Service::Compute, &path, &body).await.map(|_| ());
            (result, words.t("The description is changed."))
        }
        "grant" => (access("addTenantAccess").await, words.t("The project may use the flavor.")),
        "revoke" => (access("removeTenantAccess").await, words.t("The project may no longer use the flavor.")),
        "specs" => {
            let result = specs(&visit, &path, form.raw("extra_specs")).await;
            if let Err(failure) = &result
                && failure.is_users()
            {
                let mut page = page(&visit, &id).await?;
                page.frame = page.frame.with_problem(failure);
                form.raw("extra_specs").clone_into(&mut page.specs);
                return visit.again(failure, &page);
            }
            (result, words.t("The extra specs are changed. Servers that are there keep theirs until they are resized."))
        }
        _ => (Err(Failure::bad_request(words.t("Choose what to do."))), ""),
    };
    visit.outcome(result, &path, text).await
}

/// Makes the extra specs what the text says.
async fn specs(visit: &Visit, path: &str, text: &str) -> Result<()> {
    let wanted: BTreeMap<String, String> = pairs(text)?.into_iter().collect();
    let One { flavor } = visit.api.get(Service::Compute, path).await?;
    let path = format!("{path}/os-extra_specs");
    if wanted != flavor.extra_specs && !wanted.is_empty() {
        visit.api.post(Service::Compute, &path, &json!({"extra_specs": wanted})).await?;
    }
    for name in flavor.extra_specs.keys().filter(|name| !wanted.contains_key(*name)) {
        visit.api.delete(Service::Compute, &format!("{path}/{}", encoded(name))).await?;
    }
    Ok(())
}

//! `/routers`: what connects networks with each other and with the outside.

use std::collections::HashMap;

use askama::Template;
use axum::{
    Router as Routes,
    extract::Path,
    response::Response,
    routing::{get, post},
};
use serde_json::{Value, json};

use super::{
    addresses,
    bulk::{self, Act, Verb},
    lists::{self, Left, Rows},
    model::{Network, Port, Resource, Router, Subnet},
    ports::by_name,
};
use crate::{
    Dashboard,
    api::{Service, encoded},
    failure::{Failure, Result},
    form::Fields,
    frame::Frame,
    show,
    visit::Visit,
};

pub(super) fn routes() -> Routes<Dashboard> {
    Routes::new()
        .route("/routers", get(index))
        .route("/routers/actions", post(actions))
        .route("/routers/new", get(new).post(create))
        .route("/routers/{id}", get(one))
        .route("/routers/{id}/change", post(change))
}

const fn t(text: &'static str) -> &'static str {
    text
}

const VERBS: &[Verb] = &[
    Verb { name: "up", label: t("Switch on"), question: "", act: Act::Set("admin_state_up", || true.into()) },
    Verb { name: "down", label: t("Switch off"), question: "", act: Act::Set("admin_state_up", || false.into()) },
    Verb {
        name: "delete",
        label: t("Delete"),
        question: t("Delete the marked routers? Those that connect networks are kept."),
        act: Act::Delete,
    },
];

struct Row {
    router: Router,
    outside: Option<String>,
    blocked: Option<String>,
}

#[derive(Template)]
#[template(path = "routers/index.html")]
struct Index {
    frame: Frame,
    fields: Fields,
    rows: Vec<Row>,
    next: Option<String>,
    verbs: &'static [Verb],
    left: Option<Left>,
    blocked: Option<String>,
}

/// `GET /routers`.
async fn index(visit: Visit, fields: Fields) -> Result<Response> {
    let name = fields.get("name");
    let query = lists::only_project_filter(&visit, fields.on("all"))?;
    let keep = |router: &Router| {
        let mut texts = vec![router.name.as_str(), &router.id, &router.description];
        texts.extend(router.outside());
        lists::matches(name, &texts)
    };
    let Rows { rows, next } = lists::page(&visit.api, &query, fields.get("marker"), !name.is_empty(), keep).await?;
    let networks = lists::networks(&visit.api).await?;
    let rows = rows.into_iter().map(|router: Router| {
        let outside = router.external_gateway_info.as_ref().map(|gateway| name_of(&networks, &gateway.network_id));
        let blocked = bulk::blocked(&visit, &router.project_id)?;
        Ok(Row { router, outside, blocked })
    });
    let rows = rows.collect::<Result<Vec<Row>>>()?;
    let [left] = lists::quota(&visit, ["router"]).await?;
    visit.page(&Index {
        frame: visit.frame("/routers", visit.words().t("Routers")).live(),
        next: next.map(|marker| format!("/routers?{}", fields.after(&marker))),
        rows,
        verbs: VERBS,
        left,
        blocked: bulk::only_reads(&visit)?,
        fields,
    })
}

pub(super) fn name_of(networks: &HashMap<String, Network>, id: &str) -> String {
    networks.get(id).map_or_else(|| show::short(id).to_owned(), Resource::label)
}

/// `POST /routers/actions`.
async fn actions(visit: Visit, fields: Fields) -> Result<Response> {
    bulk::many::<Router>(visit, fields, VERBS, "/routers").await
}

#[derive(Template)]
#[template(path = "routers/new.html")]
struct New {
    frame: Frame,
    fields: Fields,
    outside: Vec<Network>,
    subnets: Vec<(Subnet, String)>,
    left: Option<Left>,
    blocked: Option<String>,
}

/// Subnets that a router of the project can be connected to, with their networks' names.
async fn inside(visit: &Visit, networks: &HashMap<String, Network>) -> Result<Vec<(Subnet, String)>> {
    let mine = visit.session()?.project_id().unwrap_or_default().to_owned();
    let subnets: Vec<Subnet> = lists::all(&visit.api, "").await?;
    let fits = |subnet: &Subnet| {
        let network = networks.get(&subnet.network_id);
        network.is_some_and(|network| !network.external && (network.project_id == mine || network.shared))
    };
    let subnets = by_name(subnets).into_iter().filter(fits);
    Ok(subnets
        .map(|subnet| {
            let network = name_of(networks, &subnet.network_id);
            (subnet, network)
        })
        .collect())
}

fn outside(networks: &HashMap<String, Network>) -> Vec<Network> {
    by_name(networks.values().filter(|network| network.external && !network.subnets.is_empty()).cloned().collect())
}

/// `GET /routers/new`.
async fn new(visit: Visit) -> Result<Response> {
    let networks = lists::networks(&visit.api).await?;
    let outside = outside(&networks);
    let usual = outside.iter().find(|network| network.is_default == Some(true)).or_else(|| outside.first());
    let fields = Fields::default().with("gateway", usual.map(|network| network.id.clone()).unwrap_or_default());
    new_form(visit, fields, None).await
}

async fn new_form(visit: Visit, fields: Fields, failure: Option<&Failure>) -> Result<Response> {
    let networks = lists::networks(&visit.api).await?;
    let subnets = inside(&visit, &networks).await?;
    let [left] = lists::quota(&visit, ["router"]).await?;
    let mut frame = visit.frame("/routers", visit.words().t("New router"));
    if let Some(failure) = failure {
        frame = frame.with_problem(failure);
    }
    let page = New { frame, fields, outside: outside(&networks), subnets, left, blocked: bulk::only_reads(&visit)? };
    match failure {
        None => visit.page(&page),
        Some(failure) => visit.again(failure, &page),
    }
}

/// `POST /routers/new`: with its gateway and interfaces, or not at all.
async fn create(visit: Visit, fields: Fields) -> Result<Response> {
    match make(&visit, &fields).await {
        Ok(id) => visit.done(&format!("/routers/{}", encoded(&id)), visit.words().t("The router is made.")).await,
        Err(failure) if failure.is_users() => new_form(visit, fields, Some(&failure)).await,
        Err(failure) => Err(failure),
    }
}

async fn make(visit: &Visit, fields: &Fields) -> Result<String> {
    let api = &visit.api;
    let mut body = json!({"name": fields.get("name"), "description": fields.get("description")});
    if fields.on("gateway") {
        body["external_gateway_info"] = json!({"network_id": fields.get("gateway")});
    }
    let made = api.post(Service::Network, "/routers", &json!({ "router": body })).await?;
    let id = made["router"]["id"].as_str().unwrap_or_default().to_owned();
    let path = format!("/routers/{}", encoded(&id));
    let mut connected = Vec::new();
    for subnet in fields.all("subnet") {
        let result =
            api.put(Service::Network, &format!("{path}/add_router_interface"), &json!({"subnet_id": subnet})).await;
        let Err(failure) = result else {
            connected.push(subnet);
            continue;
        };
        for subnet in connected {
            let body = json!({"subnet_id": subnet});
            api.put(Service::Network, &format!("{path}/remove_router_interface"), &body).await?;
        }
        api.delete(Service::Network, &path).await?;
        return Err(failure);
    }
    Ok(id)
}

struct Interface {
    port: Port,
    network: String,
    subnets: Vec<String>,
}

#[derive(Template)]
#[template(path = "routers/show.html")]
struct Show {
    frame: Frame,
    router: Router,
    /// What was typed into the form that failed.
    fields: Fields,
    gateway: Option<String>,
    outside: Vec<Network>,
    interfaces: Vec<Interface>,
    free: Vec<(Subnet, String)>,
    blocked: Option<String>,
    kept: Option<String>,
}

/// `GET /routers/{id}`.
async fn one(visit: Visit, Path(id): Path<String>) -> Result<Response> {
    page(visit, &id, Fields::default(), None).await
}

async fn page(visit: Visit, id: &str, fields: Fields, failure: Option<&Failure>) -> Result<Response> {
    let router: Router = lists::one(&visit.api, id).await?;
    let words = visit.words();
    let networks = lists::networks(&visit.api).await?;
    let query = format!("?device_id={}&device_owner=network:router_interface", encoded(&router.id));
    let ports: Vec<Port> = lists::all(&visit.api, &query).await?;
    let subnets: Vec<Subnet> = lists::all(&visit.api, "").await?;
    let titles: HashMap<&str, String> = subnets.iter().map(|subnet| (subnet.id.as_str(), subnet.title())).collect();
    let interfaces: Vec<Interface> = ports
        .into_iter()
        .map(|port| Interface {
            network: name_of(&networks, &port.network_id),
            subnets: port.fixed_ips.iter().filter_map(|fixed| titles.get(fixed.subnet_id.as_str()).cloned()).collect(),
            port,
        })
        .collect();
    let connected: Vec<String> = interfaces
        .iter()
        .flat_map(|interface| &interface.port.fixed_ips)
        .map(|fixed| fixed.subnet_id.clone())
        .collect();
    let free = inside(&visit, &networks).await?;
    let blocked = bulk::blocked(&visit, &router.project_id)?;
    let kept =
        (!interfaces.is_empty()).then(|| words.t("It connects networks: take its interfaces away first.").to_owned());
    let mut frame = visit.frame("/routers", router.label());
    frame = match failure {
        Some(failure) => frame.with_problem(failure),
        None => frame.live(),
    };
    let shown = Show {
        frame,
        fields,
        gateway: router.external_gateway_info.as_ref().map(|gateway| name_of(&networks, &gateway.network_id)),
        outside: outside(&networks),
        interfaces,
        free: free.into_iter().filter(|(subnet, _)| !connected.contains(&subnet.id)).collect(),
        blocked,
        kept,
        router,
    };
    match failure {
        None => visit.page(&shown),
        Some(failure) => visit.again(failure, &shown),
    }
}

/// `POST /routers/{id}/change`: the forms of the router's page; `what` says which.
async fn change(visit: Visit, Path(id): Path<String>, fields: Fields) -> Result<Response> {
    match apply(&visit, &id, &fields).await {
        Ok(()) => visit.done(&format!("/routers/{}", encoded(&id)), visit.words().t("The router is changed.")).await,
        // Of a router that is not there, or not the user's, there is no form to show again.
        Err(failure) if failure.is_users() => page(visit, &id, fields, Some(&failure)).await,
        Err(failure) => Err(failure),
    }
}

async fn apply(visit: &Visit, id: &str, fields: &Fields) -> Result<()> {
    let words = visit.words();
    let path = format!("/routers/{}", encoded(id));
    let update = |body: Value| (path.clone(), json!({ "router": body }));
    let route = |text: &str| -> Result<Value> {
        let routes = addresses::routes(words, text)?;
        if routes.is_empty() {
            return Err(Failure::bad_request(words.t("Give a route: range via address.")));
        }
        Ok(json!({"router": {"routes": routes}}))
    };
    let (path, body) = match fields.get("what") {
        "edit" => update(json!({
            "name": fields.get("name"),
            "description": fields.get("description"),
            "admin_state_up": fields.on("up"),
        })),
        "set-gateway" if fields.on("gateway") => {
            let mut info = json!({"network_id": fields.get("gateway")});
            // To say so takes a right; unsaid, addresses are translated.
            if fields.on("no_snat") {
                info["enable_snat"] = false.into();
            }
            update(json!({ "external_gateway_info": info }))
        }
        "set-gateway" => return Err(Failure::bad_request(words.t("Choose the external network."))),
        "clear-gateway" => update(json!({"external_gateway_info": null})),
        "connect" if fields.on("subnet") => {
            (format!("{path}/add_router_interface"), json!({"subnet_id": fields.get("subnet")}))
        }
        "connect" => return Err(Failure::bad_request(words.t("Choose the subnet."))),
        "disconnect" => (format!("{path}/remove_router_interface"), json!({"port_id": fields.get("port")})),
        "add-route" => (format!("{path}/add_extraroutes"), route(fields.get("route"))?),
        "remove-route" => (format!("{path}/remove_extraroutes"), route(fields.get("route"))?),
        _ => return Err(Failure::bad_request(words.t("Choose what to do."))),
    };
    visit.api.put(Service::Network, &path, &body).await.map(|_| ())
}

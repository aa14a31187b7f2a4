//! Requests about flavors.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use http::StatusCode;
use rest::{Body, Ctx, Error, Params, Reply, Result, nullable, parse_bool, target};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::{
    Flavor, extra_specs,
    model::{NUMBER_MAX, check_extra_spec_key, check_name},
    policy, store, views,
};
use crate::App;

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    list(app, ctx, params, false).await
}

pub(crate) async fn detail(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    list(app, ctx, params, true).await
}

async fn list(app: App, ctx: Ctx, params: Params, detail: bool) -> Result<Reply> {
    ctx.allow(policy::SHOW, &target(&[]))?;
    let mut rest = params.clone();
    let mut page = store::LIST.page(&mut rest)?;
    store::min_filters(&mut page, rest.take("minRam").as_deref(), rest.take("minDisk").as_deref())?;
    let creds = ctx.creds()?;
    let asked = rest.take("is_public");
    crate::versions::finish(&ctx, rest)?;
    let admin = creds.has_role("admin");
    let project_id = creds.project_id().unwrap_or_default().to_owned();
    let wanted = match asked.as_deref() {
        None => Some(true),
        Some(text) if text.eq_ignore_ascii_case("none") => None,
        Some(text) => {
            Some(parse_bool(text).ok_or_else(|| Error::bad_request(format!("Invalid is_public filter [{text}]")))?)
        }
    };
    let listing = app
        .db
        .read(move |tx| {
            let visible = match wanted {
                _ if !admin => store::Visible::Project(&project_id),
                None => store::Visible::All,
                Some(true) if asked.is_none() => store::Visible::Project(&project_id),
                Some(true) => store::Visible::Public,
                Some(false) => store::Visible::Private,
            };
            store::list(tx, page, &visible)
        })
        .await?;
    let specs = ctx.may(policy::EXTRA_SPECS_INDEX, &own_project(&ctx)?)?;
    let flavors: Vec<Value> = listing
        .rows
        .iter()
        .map(|flavor| if detail { views::show(&ctx, flavor, specs) } else { views::brief(&ctx, flavor) })
        .collect();
    let mut body = json!({"flavors": flavors});
    if let Some(next) = listing.next_link(&ctx, &params, |flavor| &flavor.id) {
        body["flavors_links"] = json!([{"rel": "next", "href": next}]);
    }
    Ok(Reply::ok(&body))
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(policy::SHOW, &target(&[]))?;
    let flavor = visible(&app, &ctx, id).await?;
    let specs = ctx.may(policy::EXTRA_SPECS_INDEX, &own_project(&ctx)?)?;
    Ok(Reply::ok(&json!({"flavor": views::show(&ctx, &flavor, specs)})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateRequest {
    flavor: NewFlavor,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewFlavor {
    name: String,
    #[serde(default, deserialize_with = "flavor_id")]
    id: Option<String>,
    #[serde(deserialize_with = "number")]
    ram: i64,
    #[serde(deserialize_with = "number")]
    vcpus: i64,
    #[serde(deserialize_with = "number")]
    disk: i64,
    #[serde(default, rename = "OS-FLV-EXT-DATA:ephemeral", deserialize_with = "number")]
    ephemeral: i64,
    #[serde(default, deserialize_with = "number")]
    swap: i64,
    #[serde(default = "one", deserialize_with = "factor")]
    rxtx_factor: f64,
    #[serde(default = "yes", rename = "os-flavor-access:is_public", deserialize_with = "boolean")]
    is_public: bool,
    #[serde(default, deserialize_with = "nullable")]
    description: Option<Option<String>>,
}

pub(crate) async fn create(
    State(app): State<App>,
    ctx: Ctx,
    Body(CreateRequest { flavor: new }): Body<CreateRequest>,
) -> Result<Reply> {
    ctx.allow(policy::CREATE, &target(&[]))?;
    if new.description.is_some() && !ctx.since(2, 55) {
        return Err(unexpected("description"));
    }
    let name = check_name("name", &new.name)?;
    let id = match new.id.as_deref() {
        None | Some("auto") => rest::new_uuid(),
        Some(id) => check_id(id)?,
    };
    for (field, value, min) in [
        ("ram", new.ram, 1),
        ("vcpus", new.vcpus, 1),
        ("disk", new.disk, 0),
        ("OS-FLV-EXT-DATA:ephemeral", new.ephemeral, 0),
        ("swap", new.swap, 0),
    ] {
        if !(min..=NUMBER_MAX).contains(&value) {
            return Err(Error::bad_request(format!(
                "Invalid input for field/attribute {field}. Value: {value}. It must be {min} to {NUMBER_MAX}."
            )));
        }
    }
    let description = check_description(new.description.flatten())?;
    let flavor = Flavor {
        id,
        name,
        vcpus: new.vcpus,
        ram_mib: new.ram,
        disk_gib: new.disk,
        ephemeral_gib: new.ephemeral,
        swap_mib: new.swap,
        rxtx_factor: new.rxtx_factor,
        is_public: new.is_public,
        disabled: false,
        description,
        extra_specs: BTreeMap::new(),
    };
    let (made, now) = (flavor.clone(), app.clock.now_text());
    app.db.write(move |tx| store::insert(tx, &flavor, &now)).await?;
    Ok(Reply::ok(&json!({"flavor": views::show(&ctx, &made, true)})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateRequest {
    flavor: FlavorChange,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlavorChange {
    description: Option<String>,
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    Body(UpdateRequest { flavor: change }): Body<UpdateRequest>,
) -> Result<Reply> {
    ctx.allow(policy::UPDATE, &target(&[]))?;
    let description = check_description(change.description)?;
    let flavor = app
        .db
        .write(move |tx| {
            store::update_description(tx, &id, description.as_deref())?;
            store::get(tx, &id, None)
        })
        .await?;
    Ok(Reply::ok(&json!({"flavor": views::show(&ctx, &flavor, true)})))
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(policy::DELETE, &target(&[]))?;
    app.db.write(move |tx| store::delete(tx, &id)).await?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

pub(crate) async fn access_index(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(policy::ACCESS, &target(&[]))?;
    let flavor = visible(&app, &ctx, id).await?;
    if flavor.is_public {
        return Err(Error::new(rest::Kind::NotFound, "Access list not available for public flavors."));
    }
    access_reply(&app, flavor.id).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccessAction {
    #[serde(rename = "addTenantAccess")]
    add: Option<Tenant>,
    #[serde(rename = "removeTenantAccess")]
    remove: Option<Tenant>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tenant {
    tenant: String,
}

pub(crate) async fn action(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    Body(action): Body<AccessAction>,
) -> Result<Reply> {
    let (rule, add, project_id) = match (action.add, action.remove) {
        (Some(to), None) => (policy::ACCESS_ADD, true, to.tenant),
        (None, Some(from)) => (policy::ACCESS_REMOVE, false, from.tenant),
        _ => return Err(Error::bad_request("There is no such action, or more than one.")),
    };
    ctx.allow(rule, &target(&[]))?;
    if project_id.is_empty() || project_id.len() > 255 {
        return Err(Error::bad_request("Invalid input for field/attribute tenant: it names no project."));
    }
    let flavor = visible(&app, &ctx, id).await?;
    if flavor.is_public && ctx.since(2, 7) && add {
        return Err(Error::conflict("Can not add access to a public flavor."));
    }
    let flavor_id = flavor.id.clone();
    app.db
        .write(move |tx| {
            if add {
                store::access_add(tx, &flavor_id, &project_id)
            } else {
                store::access_remove(tx, &flavor_id, &project_id)
            }
        })
        .await?;
    access_reply(&app, flavor.id).await
}

async fn access_reply(app: &App, id: String) -> Result<Reply> {
    let flavor_id = id.clone();
    let projects = app.db.read(move |tx| store::access_list(tx, &flavor_id)).await?;
    let access: Vec<Value> = projects.iter().map(|project| json!({"flavor_id": id, "tenant_id": project})).collect();
    Ok(Reply::ok(&json!({"flavor_access": access})))
}

pub(crate) async fn extra_specs_index(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(policy::EXTRA_SPECS_INDEX, &own_project(&ctx)?)?;
    let flavor = visible(&app, &ctx, id).await?;
    Ok(Reply::ok(&json!({"extra_specs": flavor.extra_specs})))
}

pub(crate) async fn extra_specs_show(
    State(app): State<App>,
    ctx: Ctx,
    Path((id, key)): Path<(String, String)>,
) -> Result<Reply> {
    ctx.allow(policy::EXTRA_SPECS_SHOW, &own_project(&ctx)?)?;
    let flavor = visible(&app, &ctx, id).await?;
    match flavor.extra_specs.get(&key) {
        Some(value) => Ok(Reply::ok(&json!({ key: value }))),
        None => Err(store::no_such_spec(&flavor.id, &key)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExtraSpecs {
    extra_specs: BTreeMap<String, Value>,
}

pub(crate) async fn extra_specs_create(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    Body(body): Body<ExtraSpecs>,
) -> Result<Reply> {
    ctx.allow(policy::EXTRA_SPECS_CREATE, &target(&[]))?;
    let specs = check_specs(body.extra_specs)?;
    let flavor = visible(&app, &ctx, id).await?;
    let answer = json!({"extra_specs": specs});
    app.db.write(move |tx| store::extra_specs_put(tx, &flavor.id, &specs)).await?;
    Ok(Reply::ok(&answer))
}

pub(crate) async fn extra_specs_update(
    State(app): State<App>,
    ctx: Ctx,
    Path((id, key)): Path<(String, String)>,
    Body(body): Body<BTreeMap<String, Value>>,
) -> Result<Reply> {
    ctx.allow(policy::EXTRA_SPECS_UPDATE, &target(&[]))?;
    if body.len() != 1 || !body.contains_key(&key) {
        return Err(Error::bad_request("Request body and URI mismatch."));
    }
    let specs = check_specs(body)?;
    let flavor = visible(&app, &ctx, id).await?;
    let answer = json!(specs);
    app.db.write(move |tx| store::extra_specs_put(tx, &flavor.id, &specs)).await?;
    Ok(Reply::ok(&answer))
}

pub(crate) async fn extra_specs_delete(
    State(app): State<App>,
    ctx: Ctx,
    Path((id, key)): Path<(String, String)>,
) -> Result<Reply> {
    ctx.allow(policy::EXTRA_SPECS_DELETE, &target(&[]))?;
    let flavor = visible(&app, &ctx, id).await?;
    app.db.write(move |tx| store::extra_spec_delete(tx, &flavor.id, &key)).await?;
    Ok(Reply::empty(StatusCode::OK))
}

/// The flavor if the caller may see it: administrators see all.
async fn visible(app: &App, ctx: &Ctx, id: String) -> Result<Flavor> {
    let creds = ctx.creds()?;
    let project_id = (!creds.has_role("admin")).then(|| creds.project_id().unwrap_or_default().to_owned());
    app.db.read(move |tx| store::get(tx, &id, project_id.as_deref())).await
}

fn own_project(ctx: &Ctx) -> Result<::policy::Target> {
    Ok(target(&[("project_id", ctx.creds()?.project_id().unwrap_or_default())]))
}

fn check_specs(specs: BTreeMap<String, Value>) -> Result<BTreeMap<String, String>> {
    let mut checked = BTreeMap::new();
    for (key, value) in specs {
        check_extra_spec_key(&key)?;
        let value = match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            _ => {
                return Err(Error::bad_request(format!("Invalid input for field/attribute {key}: expected a string.")));
            }
        };
        if value.chars().count() > 255 {
            return Err(Error::bad_request(format!("Invalid input for field/attribute {key}: longer than 255.")));
        }
        extra_specs::check(&key, &value)?;
        checked.insert(key, value);
    }
    Ok(checked)
}

fn check_id(id: &str) -> Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_. ".contains(c);
    if id.is_empty() || id.len() > 255 || id.trim() != id || !id.chars().all(plain) {
        return Err(Error::bad_request(
            "Invalid input for field/attribute id: only letters, digits, '-', '_', '.' and spaces.",
        ));
    }
    Ok(id.to_owned())
}

pub(crate) fn check_description(description: Option<String>) -> Result<Option<String>> {
    if description.as_ref().is_some_and(|text| text.chars().count() > 65_535 || text.contains('\0')) {
        return Err(Error::bad_request("Invalid input for field/attribute description: longer than 65535 characters."));
    }
    Ok(description)
}

pub(crate) fn unexpected(field: &str) -> Error {
    Error::bad_request(format!("Additional properties are not allowed ('{field}' was unexpected)"))
}

fn yes() -> bool {
    true
}

fn one() -> f64 {
    1.0
}

/// A number, or one in quotes, as upstream's schemas allow.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<i64, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = match &value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| serde::de::Error::custom(format!("{value} is not an integer")))
}

fn factor<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<f64, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number: Option<f64> = match &value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number
        .filter(|number| number.is_finite() && *number > 0.0 && *number <= 3.4e38)
        .ok_or_else(|| serde::de::Error::custom(format!("{value} is not a positive number")))
}

/// A boolean in any spelling that upstream's `parameter_types.boolean` lists.
pub(crate) fn boolean<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<bool, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let truth = match &value {
        Value::Bool(truth) => Some(*truth),
        Value::String(text) => parse_bool(text),
        _ => None,
    };
    truth.ok_or_else(|| serde::de::Error::custom(format!("{value} is not a boolean")))
}

fn flavor_id<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<String>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::String(id) => Ok(Some(id)),
        Value::Number(id) if id.is_i64() => Ok(Some(id.to_string())),
        other => Err(serde::de::Error::custom(format!("{other} is not a flavor id"))),
    }
}

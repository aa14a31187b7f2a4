//! `os-security-groups` and `os-security-group-rules`, until 2.35; and the groups of a server, which stay.

use axum::extract::{Path, State};
use http::StatusCode;
use network::peer::{GroupRuleView, GroupView};
use rest::{Body, Ctx, Error, Kind, Params, Reply, Result, is_uuid, parse_bool, target};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{asker, policy};
use crate::{App, network_info, servers};

fn allow(ctx: &Ctx, rule: rest::Rule) -> Result<()> {
    ctx.allow(rule, &target(&[("project_id", ctx.creds()?.project_id().unwrap_or_default())]))
}

fn check_id(id: &str) -> Result<()> {
    if is_uuid(id) { Ok(()) } else { Err(Error::bad_request("Security group id should be uuid")) }
}

/// Network's conflicts are bad requests to Compute.
fn in_novas_words(error: Error) -> Error {
    if error.kind() == Kind::Conflict { Error::bad_request(error.public().to_owned()) } else { error }
}

/// Any port is 1 to 65535 of those protocols that have ports, and -1 of others.
fn rule_view(rule: &GroupRuleView) -> Value {
    let (from, to) = match (rule.ports, rule.protocol.as_deref()) {
        ((Some(from), to), _) => (i64::from(from), to.map_or(-1, i64::from)),
        ((None, _), Some("tcp" | "udp")) => (1, 65535),
        _ => (-1, -1),
    };
    let group = rule.remote_group.as_ref().map(|(name, project_id)| json!({"name": name, "tenant_id": project_id}));
    let ip_range = match (&group, &rule.remote_ip_prefix) {
        (Some(_), _) => json!({}),
        (None, Some(prefix)) => json!({"cidr": prefix}),
        (None, None) => json!({"cidr": if rule.ethertype == "IPv6" { "::/0" } else { "0.0.0.0/0" }}),
    };
    json!({
        "id": rule.id,
        "parent_group_id": rule.group_id,
        "ip_protocol": rule.protocol,
        "from_port": from,
        "to_port": to,
        "group": group.unwrap_or_else(|| json!({})),
        "ip_range": ip_range,
    })
}

fn view(group: &GroupView) -> Value {
    json!({
        "id": group.id,
        "name": group.name,
        "description": group.description,
        "tenant_id": group.project_id,
        "rules": group.rules.iter().map(rule_view).collect::<Vec<_>>(),
    })
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, mut params: Params) -> Result<Reply> {
    allow(&ctx, policy::GROUPS)?;
    let (project_id, admin) = asker(&ctx)?;
    // Others' wish for all is not heard, as upstream.
    let all =
        params.take("all_tenants").is_some_and(|text| text.is_empty() || parse_bool(&text) == Some(true)) && admin;
    let number = |text: Option<String>, name: &str| -> Result<Option<usize>> {
        let Some(text) = text else { return Ok(None) };
        let bad = || Error::bad_request(format!("Invalid input for query parameter {name}: {text:?} is no number."));
        text.parse().map(Some).map_err(|_| bad())
    };
    let limit = number(params.take("limit"), "limit")?.filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let offset = number(params.take("offset"), "offset")?.unwrap_or(0);
    let lister = app.clone();
    let groups = app.db.write(move |tx| network_info::list_security_groups(tx, &lister, &project_id, all)).await?;
    let groups: Vec<Value> = groups.iter().skip(offset).take(limit).map(view).collect();
    Ok(Reply::ok(&json!({"security_groups": groups})))
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    allow(&ctx, policy::GROUPS_SHOW)?;
    check_id(&id)?;
    let (project_id, admin) = asker(&ctx)?;
    let group = app.db.read(move |tx| network_info::security_group(tx, &project_id, admin, &id)).await?;
    Ok(Reply::ok(&json!({"security_group": view(&group)})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupRequest {
    security_group: GroupText,
}

#[derive(Deserialize)]
struct GroupText {
    name: String,
    description: String,
}

impl GroupText {
    fn check(&self) -> Result<()> {
        for (field, text) in [("name", &self.name), ("description", &self.description)] {
            let long = text.chars().count() > 255;
            if long || text.chars().any(char::is_control) || (field == "name" && text.trim().is_empty()) {
                return Err(Error::bad_request(format!(
                    "Security group {field} is not valid: it must have 1 to 255 printable characters."
                )));
            }
        }
        Ok(())
    }
}

pub(crate) async fn create(
    State(app): State<App>,
    ctx: Ctx,
    Body(GroupRequest { security_group: text }): Body<GroupRequest>,
) -> Result<Reply> {
    allow(&ctx, policy::GROUPS_CREATE)?;
    text.check()?;
    let (project_id, _) = asker(&ctx)?;
    let maker = app.clone();
    let make = move |tx: &db::Tx<'_>| {
        network_info::create_security_group(tx, &maker, &project_id, &text.name, &text.description)
    };
    let group = app.db.write(make).await.map_err(in_novas_words)?;
    Ok(Reply::ok(&json!({"security_group": view(&group)})))
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    Body(GroupRequest { security_group: text }): Body<GroupRequest>,
) -> Result<Reply> {
    allow(&ctx, policy::GROUPS_UPDATE)?;
    check_id(&id)?;
    text.check()?;
    let (project_id, admin) = asker(&ctx)?;
    let maker = app.clone();
    let change = move |tx: &db::Tx<'_>| {
        let asker = (project_id.as_str(), admin);
        network_info::update_security_group(tx, &maker, asker, &id, (&text.name, &text.description))
    };
    let group = app.db.write(change).await.map_err(in_novas_words)?;
    Ok(Reply::ok(&json!({"security_group": view(&group)})))
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    allow(&ctx, policy::GROUPS_DELETE)?;
    check_id(&id)?;
    let (project_id, admin) = asker(&ctx)?;
    let remove = move |tx: &db::Tx<'_>| network_info::delete_security_group(tx, &project_id, admin, &id);
    app.db.write(remove).await.map_err(in_novas_words)?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleRequest {
    security_group_rule: NewRule,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewRule {
    parent_group_id: Option<Value>,
    ip_protocol: Option<Value>,
    from_port: Option<Value>,
    to_port: Option<Value>,
    cidr: Option<String>,
    group_id: Option<String>,
}

impl NewRule {
    fn port(value: Option<&Value>, name: &str) -> Result<Option<i64>> {
        let number = match value {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Number(number)) => number.as_i64(),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        number
            .filter(|number| (-1..=65535).contains(number))
            .map(|number| Some(number).filter(|number| *number >= 0))
            .ok_or_else(|| Error::bad_request(format!("Invalid input for {name}: a port is -1 to 65535.")))
    }

    /// The group, and the rule as Network has it.
    fn terms(self) -> Result<(String, Value)> {
        let Some(Value::String(group_id)) = self.parent_group_id else {
            return Err(Error::bad_request("Security group id should be uuid"));
        };
        check_id(&group_id)?;
        let (from, to) =
            (Self::port(self.from_port.as_ref(), "from_port")?, Self::port(self.to_port.as_ref(), "to_port")?);
        let protocol = self.ip_protocol.filter(|protocol| !protocol.is_null());
        if self.group_id.is_none() && protocol.is_none() {
            return Err(Error::bad_request("Not enough parameters to build a valid rule."));
        }
        let mut terms = json!({
            "direction": "ingress",
            "protocol": protocol,
            "port_range_min": from,
            "port_range_max": to,
        });
        match (self.group_id, self.cidr) {
            (Some(remote), _) => {
                check_id(&remote)?;
                terms["remote_group_id"] = json!(remote);
            }
            (None, cidr) => {
                let cidr = cidr.unwrap_or_else(|| "0.0.0.0/0".to_owned());
                terms["ethertype"] = json!(if cidr.contains(':') { "IPv6" } else { "IPv4" });
                terms["remote_ip_prefix"] = json!(cidr);
            }
        }
        Ok((group_id, terms))
    }
}

pub(crate) async fn rule_create(
    State(app): State<App>,
    ctx: Ctx,
    Body(RuleRequest { security_group_rule: new }): Body<RuleRequest>,
) -> Result<Reply> {
    allow(&ctx, policy::RULES_CREATE)?;
    let (group_id, terms) = new.terms()?;
    let (project_id, admin) = asker(&ctx)?;
    let maker = app.clone();
    let make = move |tx: &db::Tx<'_>| {
        network_info::create_security_group_rule(tx, &maker, (&project_id, admin), &group_id, terms)
    };
    let rule = app.db.write(make).await.map_err(in_novas_words)?;
    Ok(Reply::ok(&json!({"security_group_rule": rule_view(&rule)})))
}

pub(crate) async fn rule_delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    allow(&ctx, policy::RULES_DELETE)?;
    if !is_uuid(&id) {
        return Err(Error::bad_request("Security group rule id should be uuid"));
    }
    let (project_id, admin) = asker(&ctx)?;
    let remover = app.clone();
    app.db.write(move |tx| network_info::delete_security_group_rule(tx, &remover, (&project_id, admin), &id)).await?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

/// `/servers/{id}/os-security-groups`, at every microversion.
pub(crate) async fn of_server(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    let server = servers::handlers::visible(&app, &ctx, &id, servers::policy::SECURITY_GROUPS).await?;
    let groups = app.db.read(move |tx| network_info::security_groups_of(tx, &server.id)).await?;
    Ok(Reply::ok(&json!({"security_groups": groups.iter().map(view).collect::<Vec<_>>()})))
}

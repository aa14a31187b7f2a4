//! `/v2.0/security-group-rules`.

use axum::extract::{Path, State};
use db::{Tx, Value as Bound, clock::seconds, params};
use rest::{Ctx, Params, RawJson, Reply, Result};
use serde::Serialize;

use super::{
    model, policy,
    store::{self, GroupRule},
};
use crate::{
    App,
    attributes::{Attributes, Bulk},
    errors, ip,
    policy::{Owner, Sights, guard, is_admin},
    query::{self, Query},
    quotas,
};

#[derive(Debug, Serialize)]
pub(crate) struct View {
    id: String,
    tenant_id: String,
    project_id: String,
    security_group_id: String,
    ethertype: String,
    direction: String,
    protocol: Option<String>,
    port_range_min: Option<u16>,
    port_range_max: Option<u16>,
    remote_ip_prefix: Option<String>,
    remote_address_group_id: Option<String>,
    normalized_cidr: Option<String>,
    remote_group_id: Option<String>,
    description: String,
    belongs_to_default_sg: bool,
    created_at: String,
    updated_at: String,
    revision_number: i64,
}

impl View {
    pub(crate) fn of(rule: &GroupRule) -> Self {
        Self {
            id: rule.id.clone(),
            tenant_id: rule.project_id.clone(),
            project_id: rule.project_id.clone(),
            security_group_id: rule.group_id.clone(),
            ethertype: rule.ethertype.clone(),
            direction: rule.direction.clone(),
            protocol: rule.protocol.clone(),
            port_range_min: rule.port_min,
            port_range_max: rule.port_max,
            remote_ip_prefix: rule.remote_ip_prefix.clone(),
            remote_address_group_id: None,
            normalized_cidr: rule.remote_ip_prefix.as_deref().and_then(ip::parse_prefix).map(|net| net.to_string()),
            remote_group_id: rule.remote_group_id.clone(),
            description: rule.description.clone(),
            belongs_to_default_sg: rule.in_default_group,
            created_at: seconds(&rule.created_at),
            updated_at: seconds(&rule.updated_at),
            revision_number: rule.revision,
        }
    }
}

fn owner(rule: &GroupRule) -> Owner {
    Owner { network_project_id: Some(rule.group_project_id.clone()), ..Owner::of(&rule.project_id) }
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    let mut query = Query::new(params);
    let mut page = store::RULES.page(&mut query.params)?;
    if !is_admin(&ctx)? {
        let mine = Bound::Text(ctx.creds()?.project_id().unwrap_or_default().to_owned());
        page.and("(r.project_id = ? OR g.project_id = ?)", [mine.clone(), mine]);
    }
    app.db
        .read(move |tx| {
            let listing = page.fetch(tx, store::map_rule)?;
            let mut sights = Sights::new();
            let mut views = Vec::with_capacity(listing.rows.len());
            for rule in &listing.rows {
                if sights.of(owner(rule), |target| ctx.may(policy::GET_RULE, target))? {
                    views.push(View::of(rule));
                }
            }
            Ok(query.listing(&ctx, "security_group_rules", &listing, |row| &row.id, &views))
        })
        .await
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>, params: Params) -> Result<Reply> {
    let query = Query::new(params);
    app.db
        .read(move |tx| {
            let rule = store::get_rule(tx, &id)?;
            ctx.allow_or(policy::GET_RULE, &owner(&rule).target(), || errors::rule_not_found(&id))?;
            Ok(query.one("security_group_rule", &View::of(&rule)))
        })
        .await
}

pub(crate) async fn create(State(app): State<App>, ctx: Ctx, RawJson(body): RawJson) -> Result<Reply> {
    let bulk = Bulk::read(body, "security_group_rule", "security_group_rules")?;
    app.db
        .clone()
        .write(move |tx| {
            let mut views = Vec::with_capacity(bulk.items.len());
            for item in bulk.items {
                views.push(View::of(&create_one(tx, &app, &ctx, item)?));
            }
            Ok(query::created(bulk.is_list, "security_group_rule", "security_group_rules", &views))
        })
        .await
}

fn create_one(tx: &Tx<'_>, app: &App, ctx: &Ctx, mut attributes: Attributes) -> Result<GroupRule> {
    attributes.read_only(
        &["id", "created_at", "updated_at", "revision_number", "normalized_cidr", "belongs_to_default_sg"],
        false,
    )?;
    let project_id = attributes.project(ctx)?;
    let group_id = Attributes::required(attributes.uuid("security_group_id")?, "security_group_id")?;
    let terms = model::read(&mut attributes)?;
    let description = attributes.label("description")?.unwrap_or_default();
    attributes.finish()?;
    ctx.allow(policy::CREATE_RULE, &Owner::of(&project_id).target())?;
    let group = store::get(tx, &group_id)?;
    let admin = is_admin(ctx)?;
    if !admin && group.project_id != project_id {
        return Err(errors::group_not_found(&group_id));
    }
    if let Some(remote) = &terms.remote_group_id {
        store::check_usable(tx, std::slice::from_ref(remote), &group.project_id, admin)?;
    }
    quotas::check(tx, app, &group.project_id, "security_group_rule", 1)?;
    let id = store::insert_rule(tx, app, &group, &description, &terms)?;
    touch(tx, &group_id, &app.now())?;
    store::get_rule(tx, &id)
}

fn touch(tx: &Tx<'_>, group_id: &str, now: &str) -> Result<()> {
    tx.execute(
        "UPDATE network_security_group SET revision = revision + 1, updated_at = ?2 WHERE id = ?1",
        params![group_id, now],
    )?;
    Ok(())
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    let now = app.now();
    app.db
        .write(move |tx| {
            let rule = store::get_rule(tx, &id)?;
            guard(&ctx, policy::DELETE_RULE, policy::GET_RULE, &owner(&rule).target(), || errors::rule_not_found(&id))?;
            tx.execute("DELETE FROM network_security_group_rule WHERE id = ?1", params![id])?;
            touch(tx, &rule.group_id, &now)?;
            Ok(Reply::no_content())
        })
        .await
}

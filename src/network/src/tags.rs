//! `/v2.0/{resource}/{id}/tags`: words on resources. API reference: "Standard attributes tag".

use std::collections::HashMap;

use axum::extract::{Path, State};
use db::{Tx, params};
use policy::Target;
use rest::{Ctx, RawJson, Reply, Result, Rule};
use serde_json::json;

use crate::{
    App,
    attributes::Attributes,
    errors, floatingips, networks,
    policy::{Owner, guard},
    ports, routers, security_groups, subnetpools, subnets,
};

const TAG_MAX: usize = 255;
const TAGS_MAX: usize = 50;

/// Tags by resource, for a JSON list of ids.
pub(crate) fn of(tx: &Tx<'_>, ids: &str) -> Result<HashMap<String, Vec<String>>> {
    let mut tags: HashMap<String, Vec<String>> = HashMap::new();
    let rows = tx.list(
        "SELECT resource_id, tag FROM network_tag WHERE resource_id IN (SELECT value FROM json_each(?1)) ORDER BY tag",
        params![ids],
        |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)),
    )?;
    for (resource, tag) in rows {
        tags.entry(resource).or_default().push(tag);
    }
    Ok(tags)
}

pub(crate) fn remove_all(tx: &Tx<'_>, resource_id: &str) -> Result<()> {
    tx.execute("DELETE FROM network_tag WHERE resource_id = ?1", params![resource_id])?;
    Ok(())
}

/// Tags given when a resource is made (`tags` in the body, for ports and networks).
pub(crate) fn read(attributes: &mut Attributes) -> Result<Option<Vec<String>>> {
    let Some(list) = attributes.list("tags", TAGS_MAX)? else { return Ok(None) };
    let mut tags = Vec::with_capacity(list.len());
    for value in list {
        let tag = value.as_str().ok_or_else(|| errors::invalid("tags", format!("'{value}' is not a valid string")))?;
        tags.push(checked(tag)?.to_owned());
    }
    tags.sort_unstable();
    tags.dedup();
    Ok(Some(tags))
}

pub(crate) fn set(tx: &Tx<'_>, resource_id: &str, tags: &[String]) -> Result<()> {
    remove_all(tx, resource_id)?;
    for tag in tags {
        add(tx, resource_id, tag)?;
    }
    Ok(())
}

fn add(tx: &Tx<'_>, resource_id: &str, tag: &str) -> Result<()> {
    tx.execute("INSERT OR IGNORE INTO network_tag (resource_id, tag) VALUES (?1, ?2)", params![resource_id, tag])?;
    Ok(())
}

fn checked(tag: &str) -> Result<&str> {
    if tag.chars().count() > TAG_MAX {
        return Err(errors::invalid("tags", format!("a tag exceeds maximum length of {TAG_MAX}")));
    }
    if tag.is_empty() || tag.chars().any(char::is_control) {
        return Err(errors::invalid("tags", "a tag is empty or holds control characters"));
    }
    Ok(tag)
}

/// Asks whether the caller may see (or change) the tagged resource, whatever it is.
fn check(tx: &Tx<'_>, ctx: &Ctx, collection: &str, id: &str, is_change: bool) -> Result<()> {
    let simple = |sql: &'static str| -> Result<Option<Target>> {
        Ok(tx.find(sql, params![id], |row| row.get::<_, String>(0))?.map(|project| Owner::of(&project).target()))
    };
    type Parts = (Rule, Rule, Option<Target>, rest::Error);
    let (see, change, target, hidden): Parts = match collection {
        "networks" => (
            networks::policy::GET_ONE,
            networks::policy::UPDATE,
            networks::store::find(tx, id)?.map(|network| networks::views::owner(&network).target()),
            errors::network_not_found(id),
        ),
        "subnets" => (
            subnets::policy::GET_ONE,
            subnets::policy::UPDATE,
            match subnets::store::find(tx, id)? {
                Some(subnet) => Some(subnets::views::owner(tx, &subnet)?.target()),
                None => None,
            },
            errors::subnet_not_found(id),
        ),
        "ports" => (
            ports::policy::GET_ONE,
            ports::policy::UPDATE,
            match ports::store::find(tx, id)? {
                Some(port) => Some(ports::views::owner_of(tx, &port)?.target()),
                None => None,
            },
            errors::port_not_found(id),
        ),
        "routers" => (
            routers::policy::GET_ONE,
            routers::policy::UPDATE,
            simple("SELECT project_id FROM network_router WHERE id = ?1")?,
            errors::router_not_found(id),
        ),
        "floatingips" => (
            floatingips::policy::GET_ONE,
            floatingips::policy::UPDATE,
            simple("SELECT project_id FROM network_floating_ip WHERE id = ?1")?,
            errors::floating_ip_not_found(id),
        ),
        "security-groups" | "security_groups" => (
            security_groups::policy::GET_ONE,
            security_groups::policy::UPDATE,
            simple("SELECT project_id FROM network_security_group WHERE id = ?1")?,
            errors::group_not_found(id),
        ),
        "subnetpools" => (
            subnetpools::policy::GET_ONE,
            subnetpools::policy::UPDATE,
            simple("SELECT project_id FROM network_subnet_pool WHERE id = ?1")?,
            subnetpools::not_found(id),
        ),
        _ => return Err(rest::Error::no_such_route()),
    };
    let Some(target) = target else { return Err(hidden) };
    if is_change { guard(ctx, change, see, &target, || hidden) } else { ctx.allow_or(see, &target, || hidden) }
}

fn list(tx: &Tx<'_>, id: &str) -> Result<Vec<String>> {
    Ok(tx.list("SELECT tag FROM network_tag WHERE resource_id = ?1 ORDER BY tag", params![id], |row| row.get(0))?)
}

/// Changing tags moves the resource's `updated_at` and revision, as upstream does.
fn touch(tx: &Tx<'_>, collection: &str, id: &str, now: &str) -> Result<()> {
    let sql = match collection {
        "networks" => "UPDATE network_network SET revision = revision + 1, updated_at = ?2 WHERE id = ?1",
        "subnets" => "UPDATE network_subnet SET revision = revision + 1, updated_at = ?2 WHERE id = ?1",
        "ports" => "UPDATE network_port SET revision = revision + 1, updated_at = ?2 WHERE id = ?1",
        "routers" => "UPDATE network_router SET revision = revision + 1, updated_at = ?2 WHERE id = ?1",
        "floatingips" => "UPDATE network_floating_ip SET revision = revision + 1, updated_at = ?2 WHERE id = ?1",
        "subnetpools" => "UPDATE network_subnet_pool SET revision = revision + 1, updated_at = ?2 WHERE id = ?1",
        _ => "UPDATE network_security_group SET revision = revision + 1, updated_at = ?2 WHERE id = ?1",
    };
    tx.execute(sql, params![id, now])?;
    Ok(())
}

pub(crate) async fn index(
    State(app): State<App>,
    ctx: Ctx,
    Path((collection, id)): Path<(String, String)>,
) -> Result<Reply> {
    let tags = app
        .db
        .read(move |tx| {
            check(tx, &ctx, &collection, &id, false)?;
            list(tx, &id)
        })
        .await?;
    Ok(Reply::ok(&json!({ "tags": tags })))
}

pub(crate) async fn show(
    State(app): State<App>,
    ctx: Ctx,
    Path((collection, id, tag)): Path<(String, String, String)>,
) -> Result<Reply> {
    app.db
        .read(move |tx| {
            check(tx, &ctx, &collection, &id, false)?;
            if list(tx, &id)?.contains(&tag) { Ok(Reply::no_content()) } else { Err(tag_not_found(&tag)) }
        })
        .await
}

pub(crate) async fn replace(
    State(app): State<App>,
    ctx: Ctx,
    Path((collection, id)): Path<(String, String)>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    let mut attributes = Attributes::bare(body)?;
    let tags = Attributes::required(read(&mut attributes)?, "tags")?;
    attributes.finish()?;
    let now = app.now();
    let reply = json!({ "tags": tags });
    app.db
        .write(move |tx| {
            check(tx, &ctx, &collection, &id, true)?;
            set(tx, &id, &tags)?;
            touch(tx, &collection, &id, &now)
        })
        .await?;
    Ok(Reply::ok(&reply))
}

pub(crate) async fn put(
    State(app): State<App>,
    ctx: Ctx,
    Path((collection, id, tag)): Path<(String, String, String)>,
) -> Result<Reply> {
    checked(&tag)?;
    let now = app.now();
    app.db
        .write(move |tx| {
            check(tx, &ctx, &collection, &id, true)?;
            let known = list(tx, &id)?;
            if known.len() >= TAGS_MAX && !known.contains(&tag) {
                return Err(errors::invalid("tags", format!("a resource may have {TAGS_MAX} tags at most")));
            }
            add(tx, &id, &tag)?;
            touch(tx, &collection, &id, &now)
        })
        .await?;
    Ok(Reply::empty(http::StatusCode::CREATED))
}

pub(crate) async fn delete(
    State(app): State<App>,
    ctx: Ctx,
    Path((collection, id, tag)): Path<(String, String, String)>,
) -> Result<Reply> {
    let now = app.now();
    app.db
        .write(move |tx| {
            check(tx, &ctx, &collection, &id, true)?;
            let gone = tx.execute("DELETE FROM network_tag WHERE resource_id = ?1 AND tag = ?2", params![id, tag])?;
            if gone == 0 {
                return Err(tag_not_found(&tag));
            }
            touch(tx, &collection, &id, &now)
        })
        .await?;
    Ok(Reply::no_content())
}

pub(crate) async fn clear(
    State(app): State<App>,
    ctx: Ctx,
    Path((collection, id)): Path<(String, String)>,
) -> Result<Reply> {
    let now = app.now();
    app.db
        .write(move |tx| {
            check(tx, &ctx, &collection, &id, true)?;
            remove_all(tx, &id)?;
            touch(tx, &collection, &id, &now)
        })
        .await?;
    Ok(Reply::no_content())
}

fn tag_not_found(tag: &str) -> rest::Error {
    errors::not_found("Tag", "TagNotFound", tag)
}

use axum::extract::{Path, State};
use db::{Tx, Value as Bound, clock::seconds, params};
use ipnet::IpNet;
use rest::{Ctx, Params, RawJson, Reply, Result};
use serde::Serialize;

use super::{LIST, SubnetPool, get, map, not_found, owner, policy as rules, write};
use crate::{
    App,
    attributes::{Attributes, Bulk},
    errors::{bad, conflict, invalid},
    ip,
    policy::{Owner, Sights, guard, is_admin},
    query::{self, Query, id_list},
    quotas, tags,
};

const READ_ONLY: &[&str] = &["id", "created_at", "updated_at", "revision_number", "ip_version"];

#[derive(Debug, Serialize)]
struct View {
    id: String,
    name: String,
    description: String,
    tenant_id: String,
    project_id: String,
    address_scope_id: Option<String>,
    ip_version: u8,
    prefixes: Vec<IpNet>,
    default_prefixlen: String,
    min_prefixlen: String,
    max_prefixlen: String,
    default_quota: Option<i64>,
    shared: bool,
    is_default: bool,
    tags: Vec<String>,
    created_at: String,
    updated_at: String,
    revision_number: i64,
}

fn render(tx: &Tx<'_>, ctx: &Ctx, pools: &[SubnetPool]) -> Result<Vec<View>> {
    let mut tags = tags::of(tx, &id_list(pools.iter().map(|pool| pool.id.as_str())))?;
    let mut sights = Sights::new();
    let mut views = Vec::with_capacity(pools.len());
    for pool in pools {
        if !sights.of(owner(pool), |target| ctx.may(rules::GET_ONE, target))? {
            continue;
        }
        views.push(View {
            id: pool.id.clone(),
            name: pool.name.clone(),
            description: pool.description.clone(),
            tenant_id: pool.project_id.clone(),
            project_id: pool.project_id.clone(),
            address_scope_id: None,
            ip_version: pool.ip_version,
            prefixes: pool.prefixes.clone(),
            default_prefixlen: pool.default_prefixlen.to_string(),
            min_prefixlen: pool.min_prefixlen.to_string(),
            max_prefixlen: pool.max_prefixlen.to_string(),
            default_quota: pool.default_quota,
            shared: pool.shared,
            is_default: pool.is_default,
            tags: tags.remove(&pool.id).unwrap_or_default(),
            created_at: seconds(&pool.created_at),
            updated_at: seconds(&pool.updated_at),
            revision_number: pool.revision,
        });
    }
    Ok(views)
}

fn one<'v>(views: &'v [View], id: &str) -> Result<&'v View> {
    views.first().ok_or_else(|| not_found(id))
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    let mut query = Query::new(params);
    let mut page = LIST.page(&mut query.params)?;
    query.tags(&mut page);
    if !is_admin(&ctx)? {
        let mine = ctx.creds()?.project_id().unwrap_or_default().to_owned();
        page.and("(r.project_id = ? OR r.shared)", [Bound::Text(mine)]);
    }
    app.db
        .read(move |tx| {
            let listing = page.fetch(tx, map)?;
            let views = render(tx, &ctx, &listing.rows)?;
            Ok(query.listing(&ctx, "subnetpools", &listing, |row| &row.id, &views))
        })
        .await
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>, params: Params) -> Result<Reply> {
    let query = Query::new(params);
    app.db
        .read(move |tx| {
            let pool = get(tx, &id)?;
            ctx.allow_or(rules::GET_ONE, &owner(&pool).target(), || not_found(&id))?;
            let views = render(tx, &ctx, std::slice::from_ref(&pool))?;
            Ok(query.one("subnetpool", one(&views, &id)?))
        })
        .await
}

pub(crate) async fn create(State(app): State<App>, ctx: Ctx, RawJson(body): RawJson) -> Result<Reply> {
    let bulk = Bulk::read(body, "subnetpool", "subnetpools")?;
    app.db
        .clone()
        .write(move |tx| {
            let mut pools = Vec::with_capacity(bulk.items.len());
            for item in bulk.items {
                pools.push(create_one(tx, &app, &ctx, item)?);
            }
            let views = render(tx, &ctx, &pools)?;
            Ok(query::created(bulk.is_list, "subnetpool", "subnetpools", &views))
        })
        .await
}

fn create_one(tx: &Tx<'_>, app: &App, ctx: &Ctx, mut attributes: Attributes) -> Result<SubnetPool> {
    attributes.read_only(READ_ONLY, false)?;
    let project_id = attributes.project(ctx)?;
    let shared = attributes.flag("shared")?.unwrap_or(false);
    let is_default = attributes.flag("is_default")?.unwrap_or(false);
    let target = Owner { shared, ..Owner::of(&project_id) }.target();
    ctx.allow(rules::CREATE, &target)?;
    if shared {
        ctx.allow(rules::CREATE_SHARED, &target)?;
    }
    if is_default {
        ctx.allow(rules::CREATE_DEFAULT, &target)?;
    }
    let prefixes = Attributes::required(read_prefixes(&mut attributes)?, "prefixes")?;
    let Some(first) = prefixes.first() else {
        return Err(bad("EmptySubnetPoolPrefixList", "Empty subnet pool prefix list."));
    };
    let whole = first.max_prefix_len();
    let lengths = read_lengths(&mut attributes, (if whole == 32 { 8 } else { 64 }, None, whole), whole)?;
    no_scope(&mut attributes)?;
    let now = app.now();
    let pool = SubnetPool {
        id: rest::new_uuid(),
        name: Attributes::required(attributes.label("name")?, "name")?,
        description: attributes.label("description")?.unwrap_or_default(),
        ip_version: if whole == 32 { 4 } else { 6 },
        prefixes: IpNet::aggregate(&prefixes),
        default_prefixlen: lengths.1,
        min_prefixlen: lengths.0,
        max_prefixlen: lengths.2,
        default_quota: attributes.integer_or_null("default_quota", 0..=i64::from(i32::MAX))?.flatten(),
        project_id,
        shared,
        is_default,
        revision: 1,
        created_at: now.clone(),
        updated_at: now,
    };
    let tags = tags::read(&mut attributes)?;
    attributes.finish()?;
    quotas::check(tx, app, &pool.project_id, "subnetpool", 1)?;
    only_default(tx, &pool)?;
    write(tx, &pool)?;
    if let Some(tags) = tags {
        tags::set(tx, &pool.id, &tags)?;
    }
    Ok(pool)
}

fn no_scope(attributes: &mut Attributes) -> Result<()> {
    match attributes.uuid_or_null("address_scope_id")?.flatten() {
        Some(_) => Err(invalid("address_scope_id", "this cloud has no address scopes")),
        None => Ok(()),
    }
}

fn read_prefixes(attributes: &mut Attributes) -> Result<Option<Vec<IpNet>>> {
    let Some(list) = attributes.list("prefixes", 256)? else { return Ok(None) };
    let mut prefixes: Vec<IpNet> = Vec::with_capacity(list.len());
    for value in &list {
        let text = value.as_str().ok_or_else(|| invalid("prefixes", format!("'{value}' is not a valid IP subnet")))?;
        prefixes.push(ip::parse_cidr("prefixes", text)?);
    }
    if prefixes.iter().any(|prefix| prefix.addr().is_ipv4() != prefixes[0].addr().is_ipv4()) {
        return Err(bad("PrefixVersionMismatch", "Cannot mix IPv4 and IPv6 prefixes in a subnet pool."));
    }
    Ok(Some(prefixes))
}

/// Minimum, default and maximum length. Without a default of its own, the shortest length is one.
fn read_lengths(
    attributes: &mut Attributes,
    (min, default, max): (u8, Option<u8>, u8),
    whole: u8,
) -> Result<(u8, u8, u8)> {
    let range = 0..=i64::from(whole);
    let length = |value: Option<i64>| value.and_then(|length| u8::try_from(length).ok());
    let min = length(attributes.integer("min_prefixlen", range.clone())?).unwrap_or(min);
    let max = length(attributes.integer("max_prefixlen", range.clone())?).unwrap_or(max);
    let default = length(attributes.integer("default_prefixlen", range)?).or(default).unwrap_or(min);
    if min > max || default < min || default > max {
        return Err(bad(
            "IllegalSubnetPoolPrefixBounds",
            format!("Illegal prefix bounds: min_prefixlen={min}, default_prefixlen={default}, max_prefixlen={max}."),
        ));
    }
    Ok((min, default, max))
}

fn only_default(tx: &Tx<'_>, pool: &SubnetPool) -> Result<()> {
    let other = pool.is_default
        && tx.exists(
            "SELECT 1 FROM network_subnet_pool WHERE is_default AND ip_version = ?1 AND id <> ?2",
            params![pool.ip_version, pool.id],
        )?;
    if other {
        let text = format!(
            "A default subnetpool for this IP family has already been set. Only one default may exist per IP family {}.",
            pool.ip_version
        );
        return Err(bad("InvalidInput", text));
    }
    Ok(())
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    let mut attributes = Attributes::update(body, "subnetpool")?;
    let now = app.now();
    app.db
        .write(move |tx| {
            let mut pool = get(tx, &id)?;
            let target = owner(&pool).target();
            guard(&ctx, rules::UPDATE, rules::GET_ONE, &target, || not_found(&id))?;
            attributes.read_only(READ_ONLY, true)?;
            attributes.read_only(&["project_id", "tenant_id", "shared"], true)?;
            if let Some(name) = attributes.label("name")? {
                pool.name = name;
            }
            if let Some(description) = attributes.label("description")? {
                pool.description = description;
            }
            if let Some(prefixes) = read_prefixes(&mut attributes)? {
                let keeps = |old: &IpNet| prefixes.iter().any(|new| new.contains(old));
                if !pool.prefixes.iter().all(keeps) {
                    let text = "Existing prefixes must be a subset of the new prefixes.";
                    return Err(bad("IllegalSubnetPoolPrefixUpdate", text));
                }
                let is_v4 = |net: &IpNet| net.addr().is_ipv4();
                if prefixes.iter().any(|net| is_v4(net) != (pool.ip_version == 4)) {
                    return Err(bad("PrefixVersionMismatch", "Cannot mix IPv4 and IPv6 prefixes in a subnet pool."));
                }
                pool.prefixes = IpNet::aggregate(&prefixes);
            }
            let whole = if pool.ip_version == 4 { 32 } else { 128 };
            let old = (pool.min_prefixlen, Some(pool.default_prefixlen), pool.max_prefixlen);
            (pool.min_prefixlen, pool.default_prefixlen, pool.max_prefixlen) =
                read_lengths(&mut attributes, old, whole)?;
            if let Some(quota) = attributes.integer_or_null("default_quota", 0..=i64::from(i32::MAX))? {
                pool.default_quota = quota;
            }
            if let Some(is_default) = attributes.flag("is_default")? {
                ctx.allow(rules::UPDATE_DEFAULT, &target)?;
                pool.is_default = is_default;
            }
            no_scope(&mut attributes)?;
            attributes.finish()?;
            only_default(tx, &pool)?;
            pool.revision += 1;
            pool.updated_at = now;
            write(tx, &pool)?;
            let views = render(tx, &ctx, std::slice::from_ref(&pool))?;
            Ok(query::updated("subnetpool", one(&views, &id)?))
        })
        .await
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    app.db
        .write(move |tx| {
            let pool = get(tx, &id)?;
            guard(&ctx, rules::DELETE, rules::GET_ONE, &owner(&pool).target(), || not_found(&id))?;
            if tx.exists("SELECT 1 FROM network_subnet WHERE subnet_pool_id = ?1", params![id])? {
                return Err(conflict(
                    "SubnetPoolInUse",
                    format!("Unable to complete operation on subnet pool {id}. It is in use by subnets."),
                ));
            }
            tags::remove_all(tx, &id)?;
            tx.execute("DELETE FROM network_subnet_pool WHERE id = ?1", params![id])?;
            Ok(Reply::no_content())
        })
        .await
}

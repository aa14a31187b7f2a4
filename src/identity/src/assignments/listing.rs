//! `GET /v3/role_assignments`. API reference: Identity v3, "List role assignments".

use std::collections::HashMap;

use axum::extract::State;
use db::Tx;
use rest::{Ctx, Error, Params, Reply, Result, target};
use serde_json::{Map, Value, json};

use super::{
    effective::{Row, Wanted, World},
    policy,
    store::{self, Target},
};
use crate::{App, errors::not_found, listing, projects};

/// The query, checked.
struct Query {
    role_id: Option<String>,
    user_id: Option<String>,
    group_id: Option<String>,
    domain_id: Option<String>,
    project_id: Option<String>,
    system: bool,
    inherited: Option<bool>,
    effective: bool,
    names: bool,
    subtree: bool,
    /// A domain-scoped caller sees only this domain.
    only_domain: Option<String>,
}

impl Query {
    fn read(params: &Params) -> Result<Self> {
        let text = |name: &str| params.get(name).filter(|value| !value.is_empty()).map(str::to_owned);
        let query = Self {
            role_id: text("role.id"),
            user_id: text("user.id"),
            group_id: text("group.id"),
            domain_id: text("scope.domain.id"),
            project_id: text("scope.project.id"),
            system: params.get("scope.system").is_some(),
            inherited: params.get("scope.OS-INHERIT:inherited_to").map(|to| to == "projects"),
            effective: listing::flag(params, "effective"),
            names: listing::flag(params, "include_names"),
            subtree: listing::flag(params, "include_subtree"),
            only_domain: None,
        };
        let either = |a: bool, b: bool, text: &'static str| if a && b { Err(Error::bad_request(text)) } else { Ok(()) };
        let (domain, project) = (query.domain_id.is_some(), query.project_id.is_some());
        either(domain, project, "Specify a domain or project, not both")?;
        either(domain, query.system, "Specify system or domain, not both")?;
        either(project, query.system, "Specify system or project, not both")?;
        either(query.user_id.is_some(), query.group_id.is_some(), "Specify a user or group, not both")?;
        either(
            query.effective,
            query.group_id.is_some(),
            "Combining effective and group filter will always result in an empty list.",
        )?;
        either(
            query.effective && domain,
            query.inherited == Some(true),
            "Combining effective, domain and inherited filters will always result in an empty list.",
        )?;
        Ok(query)
    }
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    let scope_domain = ctx.creds()?.domain_id().map(str::to_owned);
    if listing::flag(&params, "include_subtree") {
        let project_id = params.get("scope.project.id").unwrap_or_default().to_owned();
        let project = app.db.read_blocking(|tx| projects::store::find(tx, &project_id))?;
        let domain_id = project.as_ref().and_then(|project| project.domain_id.clone()).unwrap_or_default();
        ctx.allow(policy::LIST_ASSIGNMENTS_FOR_TREE, &target(&[("target.domain_id", &domain_id)]))?;
        if project_id.is_empty() {
            return Err(Error::bad_request("scope.project.id must be specified if include_subtree is also specified"));
        }
        if project.is_none() {
            return Err(not_found("project", &project_id));
        }
    } else {
        ctx.allow(
            policy::LIST_ASSIGNMENTS,
            &match &scope_domain {
                Some(id) => target(&[("target.domain_id", id)]),
                None => target(&[]),
            },
        )?;
    }
    let mut query = Query::read(&params)?;
    query.only_domain = scope_domain;
    if query.effective {
        app.refresh_groups_with_roles().await?;
    }
    let base = format!("{}/v3", ctx.base_url());
    let items = app.db.read(move |tx| -> Result<_> { Ok(list(tx, &query, &base)?) }).await?;
    Ok(listing::all(&ctx, &params, "role_assignments", &items))
}

fn list(tx: &Tx<'_>, query: &Query, base: &str) -> db::Result<Vec<Value>> {
    let world = if query.effective || query.subtree { load_world(tx)? } else { World::default() };
    let projects = query
        .project_id
        .as_ref()
        .map(|id| if query.subtree { world.subtree(id) } else { std::iter::once(id.clone()).collect() });
    let mut rows: Vec<Row> = if query.effective {
        let granted = store::list(tx, query.user_id.as_deref())?;
        let wanted = Wanted { user_id: query.user_id.clone(), projects: projects.clone(), inherited: query.inherited };
        world.expand(granted, &wanted)
    } else {
        let keep = |row: &store::Assignment| {
            query.user_id.as_ref().is_none_or(|id| row.user_id.as_ref() == Some(id))
                && query.inherited.is_none_or(|inherited| row.inherited == inherited)
        };
        store::list(tx, None)?.into_iter().filter(keep).map(Row::from).collect()
    };
    rows.retain(|row| {
        query.role_id.as_ref().is_none_or(|id| row.role_id == *id)
            && query.group_id.as_ref().is_none_or(|id| row.group_id.as_ref() == Some(id))
            && query.domain_id.as_ref().is_none_or(|id| row.target == Target::Domain && row.target_id == *id)
            && projects.as_ref().is_none_or(|ids| row.target == Target::Project && ids.contains(&row.target_id))
            && (!query.system || row.target == Target::System)
    });
    if let Some(domain_id) = &query.only_domain {
        let inside: HashMap<String, String> = tx
            .list("SELECT id, domain_id FROM identity_project WHERE domain_id = ?", [domain_id], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?
            .into_iter()
            .collect();
        rows.retain(|row| match row.target {
            Target::Domain => row.target_id == *domain_id,
            Target::Project => inside.contains_key(&row.target_id),
            Target::System => false,
        });
    }
    let names = if query.names { Some(load_names(tx)?) } else { None };
    Ok(rows.iter().map(|row| view(row, names.as_ref(), base)).collect())
}

fn load_world(tx: &Tx<'_>) -> db::Result<World> {
    let pairs = |sql: &str| -> db::Result<HashMap<String, Vec<String>>> {
        let mut map: HashMap<String, Vec<String>> = HashMap::new();
        for (key, value) in tx.list(sql, [], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))? {
            map.entry(key).or_default().push(value);
        }
        Ok(map)
    };
    Ok(World {
        members: pairs("SELECT group_id, user_id FROM identity_membership ORDER BY user_id")?,
        children: pairs("SELECT parent_id, id FROM identity_project WHERE parent_id IS NOT NULL ORDER BY name")?,
        implied: pairs("SELECT prior_id, implied_id FROM identity_implied_role")?,
        domain_roles: tx
            .list("SELECT id FROM identity_role WHERE domain_id IS NOT NULL", [], |row| row.get(0))?
            .into_iter()
            .collect(),
    })
}

/// Id to name and the domain's id.
type Names = HashMap<String, (String, Option<String>)>;

struct AllNames {
    users: Names,
    groups: Names,
    projects: Names,
    roles: Names,
}

fn load_names(tx: &Tx<'_>) -> db::Result<AllNames> {
    let names = |sql: &str| -> db::Result<Names> {
        Ok(tx.list(sql, [], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?.into_iter().collect())
    };
    Ok(AllNames {
        users: names("SELECT id, name, domain_id FROM identity_user")?,
        groups: names("SELECT id, name, domain_id FROM identity_group")?,
        projects: names("SELECT id, name, domain_id FROM identity_project")?,
        roles: names("SELECT id, name, domain_id FROM identity_role")?,
    })
}

impl AllNames {
    /// `{"id", "name", "domain"?}`
    fn of(&self, names: &Names, id: &str) -> Value {
        let mut view = json!({ "id": id });
        if let Some((name, domain_id)) = names.get(id) {
            view["name"] = json!(name);
            if let Some(domain_id) = domain_id {
                let domain = self.projects.get(domain_id).map(|(name, _)| name);
                view["domain"] = json!({"id": domain_id, "name": domain});
            }
        }
        view
    }
}

fn view(row: &Row, names: Option<&AllNames>, base: &str) -> Value {
    let plain = |id: &str| json!({ "id": id });
    let project = |id: &str| names.map_or_else(|| plain(id), |names| names.of(&names.projects, id));
    let mut scope = Map::new();
    let mut path = String::new();
    match row.target {
        Target::System => {
            scope.insert("system".into(), json!({"all": true}));
            path.push_str("/system");
        }
        target => {
            scope.insert(target.name().into(), project(&row.target_id));
            let (from, id) = row.origin.above.as_ref().map_or((target, &row.target_id), |(target, id)| (*target, id));
            path.push_str(if from == Target::Domain { "/domains/" } else { "/projects/" });
            path.push_str(id);
        }
    }
    let mut links = Map::new();
    let mut item = Map::new();
    if let Some(id) = &row.user_id {
        item.insert("user".into(), names.map_or_else(|| plain(id), |names| names.of(&names.users, id)));
        match &row.origin.group_id {
            Some(group_id) => {
                links.insert("membership".into(), json!(format!("{base}/groups/{group_id}/users/{id}")));
                path.push_str("/groups/");
                path.push_str(group_id);
            }
            None => {
                path.push_str("/users/");
                path.push_str(id);
            }
        }
    } else if let Some(id) = &row.group_id {
        item.insert("group".into(), names.map_or_else(|| plain(id), |names| names.of(&names.groups, id)));
        path.push_str("/groups/");
        path.push_str(id);
    }
    path.push_str("/roles/");
    path.push_str(row.origin.prior_role_id.as_ref().unwrap_or(&row.role_id));
    if let Some(prior) = &row.origin.prior_role_id {
        links.insert("prior_role".into(), json!(format!("{base}/roles/{prior}/implies/{}", row.role_id)));
    }
    if row.inherited || row.origin.above.is_some() {
        scope.insert("OS-INHERIT:inherited_to".into(), json!("projects"));
        path = format!("/OS-INHERIT{path}/inherited_to_projects");
    }
    links.insert("assignment".into(), json!(format!("{base}{path}")));
    item.insert("role".into(), names.map_or_else(|| plain(&row.role_id), |names| names.of(&names.roles, &row.role_id)));
    item.insert("scope".into(), Value::Object(scope));
    item.insert("links".into(), Value::Object(links));
    Value::Object(item)
}

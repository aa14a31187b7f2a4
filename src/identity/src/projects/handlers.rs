//! `/v3/projects`

use axum::extract::{Path, State};
use db::{Tx, Value as Bound};
use policy::Target;
use rest::{Credentials, Ctx, Error, Page, Params, RawJson, Reply, Result, Scope};
use serde_json::{Value, json};

use super::{
    policy as rules,
    store::{self, Project},
    views,
};
use crate::{
    App, assignments,
    errors::{not_found, refused},
    fields::{Fields, OptionKind, PROJECT_NAME_MAX, TEXT_MAX, check_options, immutable, merge},
    listing::{self, flag},
};

pub(crate) const OPTIONS: &[(&str, OptionKind)] = &[("immutable", OptionKind::Bool)];

/// What policy sees of a project; nothing when there is none.
pub(crate) fn policy_target(project: Option<&Project>) -> Target {
    let mut target = rest::target(&[]);
    if let Some(project) = project {
        target.insert("target.project.id".into(), json!(project.id));
        target.insert("target.project.domain_id".into(), json!(project.domain_id));
    }
    target
}

/// The domain that a new thing belongs to when its body names none.
pub(crate) fn default_domain(creds: &Credentials) -> String {
    match &creds.scope {
        Scope::Domain(domain) => domain.id.clone(),
        Scope::Project { domain, .. } => domain.id.clone(),
        Scope::System | Scope::Unscoped => "default".into(),
    }
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, mut params: Params) -> Result<Reply> {
    let asked = params.clone();
    let domain_id = ctx.creds()?.domain_id().map(str::to_owned);
    ctx.allow(
        rules::LIST,
        &match &domain_id {
            Some(id) => rest::target(&[("target.domain_id", id)]),
            None => rest::target(&[]),
        },
    )?;
    let is_domain = params.take_bool("is_domain")?.unwrap_or(false);
    let mut page = store::LIST.page(&mut params)?;
    page.and("p.is_domain = ?", [Bound::Integer(is_domain.into())]);
    if let Some(id) = domain_id {
        page.and("p.domain_id = ?", [Bound::Text(id)]);
    }
    tag_filters(&mut page, &mut params);
    app.db
        .read(move |tx| {
            let listing = page.fetch(tx, store::project)?;
            Ok(listing::page(
                &ctx,
                &asked,
                "projects",
                &listing,
                |project| views::project(&ctx, project),
                |project| &project.id,
            ))
        })
        .await
}

/// `tags` (all of them), `tags-any`, `not-tags` (not all of them), `not-tags-any`: each a list with commas.
fn tag_filters(page: &mut Page, params: &mut Params) {
    let mut add = |name: &str, condition: &'static str, counted: bool| {
        let Some(list) = params.take(name) else { return };
        let mut tags: Vec<&str> = list.split(',').filter(|tag| !tag.is_empty()).collect();
        tags.sort_unstable();
        tags.dedup();
        let mut values = vec![Bound::Text(json!(tags).to_string())];
        if counted {
            values.push(Bound::Integer(i64::try_from(tags.len()).unwrap_or(i64::MAX)));
        }
        page.and(condition, values);
    };
    add(
        "tags",
        "(SELECT count(*) FROM identity_project_tag t WHERE t.project_id = p.id AND t.name IN \
         (SELECT value FROM json_each(?))) = ?",
        true,
    );
    add(
        "tags-any",
        "EXISTS (SELECT 1 FROM identity_project_tag t WHERE t.project_id = p.id AND t.name IN \
         (SELECT value FROM json_each(?)))",
        false,
    );
    add(
        "not-tags",
        "(SELECT count(*) FROM identity_project_tag t WHERE t.project_id = p.id AND t.name IN \
         (SELECT value FROM json_each(?))) < ?",
        true,
    );
    add(
        "not-tags-any",
        "NOT EXISTS (SELECT 1 FROM identity_project_tag t WHERE t.project_id = p.id AND t.name IN \
         (SELECT value FROM json_each(?)))",
        false,
    );
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>, params: Params) -> Result<Reply> {
    app.db
        .read(move |tx| {
            let found = store::find(tx, &id)?;
            ctx.allow(rules::GET, &policy_target(found.as_ref()))?;
            let project = found.ok_or_else(|| not_found("project", &id))?;
            let mut body = listing::wrap("project", &views::project(&ctx, &project));
            family(tx, &ctx, &params, &project, &mut body["project"])?;
            Ok(Reply::ok(&body))
        })
        .await
}

/// `parents_as_list`, `parents_as_ids`, `subtree_as_list`, `subtree_as_ids`. Lists hold only the projects on which the
/// caller has a role.
fn family(tx: &Tx<'_>, ctx: &Ctx, params: &Params, project: &Project, body: &mut Value) -> Result<()> {
    let asked = |name| flag(params, name);
    for (list, ids) in [("parents_as_list", "parents_as_ids"), ("subtree_as_list", "subtree_as_ids")] {
        if asked(list) && asked(ids) {
            return Err(Error::bad_request(format!("Cannot use {list} and {ids} query params at the same time.")));
        }
    }
    let visible = |projects: Vec<Project>| -> Result<Value> {
        let mine = assignments::store::projects_of(tx, &ctx.creds()?.user.id, false)?;
        Ok(projects
            .iter()
            .filter(|project| mine.iter().any(|own| own.id == project.id))
            .map(|project| listing::wrap("project", &views::project(ctx, project)))
            .collect())
    };
    if asked("parents_as_list") {
        body["parents"] = visible(store::ancestors(tx, &project.id)?)?;
    } else if asked("parents_as_ids") {
        body["parents"] = views::ids_upwards(&store::ancestors(tx, &project.id)?);
    }
    if asked("subtree_as_list") {
        body["subtree"] = visible(store::descendants(tx, &project.id)?)?;
    } else if asked("subtree_as_ids") {
        body["subtree"] = views::ids_downwards(&project.id, &store::descendants(tx, &project.id)?);
    }
    Ok(())
}

pub(crate) async fn create(State(app): State<App>, ctx: Ctx, RawJson(body): RawJson) -> Result<Reply> {
    let mut fields = Fields::open(body, "project")?;
    let name = fields.required_name("name", PROJECT_NAME_MAX, "project")?;
    let is_domain = fields.boolean("is_domain")?.unwrap_or(false);
    let domain_id = fields.nullable("domain_id", 64)?.flatten();
    let parent_id = fields.nullable("parent_id", 64)?.flatten();
    let description = fields.nullable("description", TEXT_MAX)?.flatten().unwrap_or_default();
    let enabled = fields.boolean("enabled")?.unwrap_or(true);
    let options = fields.object("options")?.unwrap_or_default();
    check_options(&options, OPTIONS)?;
    let tags = fields.tags()?.unwrap_or_default();
    let mut project = Project {
        id: rest::new_hex_id(),
        name,
        domain_id,
        parent_id,
        is_domain,
        description,
        enabled,
        options,
        extra: fields.into_extra(),
        tags,
    };
    project.options.retain(|_, value| !value.is_null());
    app.db
        .write(move |tx| {
            place(tx, &mut project, ctx.creds()?)?;
            ctx.allow(rules::CREATE, &policy_target(Some(&project)))?;
            check_place(tx, &project)?;
            store::insert(tx, &project)?;
            Ok(Reply::created(&listing::wrap("project", &views::project(&ctx, &project))))
        })
        .await
}

/// Fills in domain and parent where the body named only one of them, or none.
fn place(tx: &Tx<'_>, project: &mut Project, creds: &Credentials) -> Result<()> {
    if project.is_domain {
        return Ok(());
    }
    if project.domain_id.is_none() {
        let parent = match &project.parent_id {
            Some(id) => store::find(tx, id)?,
            None => None,
        };
        project.domain_id = Some(match parent {
            Some(parent) => parent.domain_id.unwrap_or(parent.id),
            None => default_domain(creds),
        });
    }
    if project.parent_id.is_none() {
        project.parent_id.clone_from(&project.domain_id);
    }
    Ok(())
}

/// The parent must exist, be enabled, be in the same domain, and leave room below it.
fn check_place(tx: &Tx<'_>, project: &Project) -> Result<()> {
    if project.is_domain {
        if project.domain_id.is_some() || project.parent_id.is_some() {
            return Err(Error::bad_request("A project that acts as a domain has neither a domain nor a parent."));
        }
        return Ok(());
    }
    let domain_id = project.domain_id.as_deref().unwrap_or_default();
    let parent_id = project.parent_id.as_deref().unwrap_or_default();
    if store::find_domain(tx, domain_id)?.is_none() {
        return Err(Error::bad_request(format!("Could not find domain: {domain_id}.")));
    }
    let parent = store::find(tx, parent_id)?
        .ok_or_else(|| Error::bad_request(format!("Could not find project: {parent_id}.")))?;
    let same = if parent.is_domain { parent.id == domain_id } else { parent.domain_id.as_deref() == Some(domain_id) };
    if !same {
        return Err(Error::bad_request("Cannot create a project in another domain than its parent's."));
    }
    if !parent.enabled {
        return Err(refused(format_args!("cannot create a project below {parent_id}, which is disabled")));
    }
    if store::ancestors(tx, parent_id)?.len() as i64 >= store::DEPTH_MAX {
        return Err(refused(format_args!("max hierarchy depth reached for the branch of {parent_id}")));
    }
    Ok(())
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    let fields = Fields::open(body, "project")?;
    app.db
        .write(move |tx| {
            let found = store::find(tx, &id)?;
            ctx.allow(rules::UPDATE, &policy_target(found.as_ref()))?;
            let mut project = found.ok_or_else(|| not_found("project", &id))?;
            let mut fields = fields.some("project")?;
            fields.same_id(&id)?;
            if fields.boolean("is_domain")?.is_some_and(|is_domain| is_domain != project.is_domain) {
                return Err(Error::bad_request("Update of `is_domain` is not allowed."));
            }
            fields.unchanged("domain_id", project.domain_id.as_deref())?;
            if fields.has("parent_id")
                && fields.peek("parent_id").and_then(Value::as_str) != project.parent_id.as_deref()
            {
                return Err(refused("Update of `parent_id` is not allowed"));
            }
            fields.take("parent_id");
            change(tx, &mut project, fields)?;
            Ok(Reply::ok(&listing::wrap("project", &views::project(&ctx, &project))))
        })
        .await
}

/// What projects and domains share of an update.
pub(crate) fn change(tx: &Tx<'_>, project: &mut Project, mut fields: Fields) -> Result<()> {
    let was_immutable = immutable(&project.options);
    let before = (project.name.clone(), project.description.clone(), project.enabled, project.extra.clone());
    if let Some(options) = fields.object("options")? {
        check_options(&options, OPTIONS)?;
        merge(&mut project.options, options, true);
    }
    if let Some(name) = fields.name("name", PROJECT_NAME_MAX)? {
        project.name = name;
    }
    if let Some(description) = fields.nullable("description", TEXT_MAX)? {
        project.description = description.unwrap_or_default();
    }
    let was_enabled = project.enabled;
    if let Some(enabled) = fields.boolean("enabled")? {
        project.enabled = enabled;
    }
    let tags = fields.tags()?;
    merge(&mut project.extra, fields.into_extra(), false);
    let changed = (&before.0, &before.1, before.2, &before.3)
        != (&project.name, &project.description, project.enabled, &project.extra)
        || tags.as_ref().is_some_and(|tags| *tags != project.tags);
    if was_immutable && immutable(&project.options) && changed {
        return Err(frozen(project));
    }
    if let Some(tags) = tags {
        store::set_tags(tx, &project.id, &tags)?;
        project.tags = tags;
    }
    if !project.is_domain && was_enabled != project.enabled {
        if !project.enabled && store::has_enabled_below(tx, &project.id)? {
            return Err(refused(format_args!(
                "cannot disable project {} since its subtree contains enabled projects",
                project.id
            )));
        }
        if project.enabled && store::ancestors(tx, &project.id)?.iter().any(|above| !above.enabled) {
            return Err(refused(format_args!("cannot enable project {} since it has disabled parents", project.id)));
        }
    }
    store::update(tx, project, was_enabled && !project.enabled)
}

pub(crate) fn frozen(project: &Project) -> Error {
    refused(format_args!("{} {} is immutable", project.noun(), project.id))
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    app.db
        .write(move |tx| {
            let found = store::find(tx, &id)?;
            ctx.allow(rules::DELETE, &policy_target(found.as_ref()))?;
            let project = found.ok_or_else(|| not_found("project", &id))?;
            remove(tx, &project)?;
            Ok(Reply::no_content())
        })
        .await
}

/// Deletes a leaf project, or a disabled domain with all its content.
pub(crate) fn remove(tx: &Tx<'_>, project: &Project) -> Result<()> {
    if immutable(&project.options) {
        return Err(frozen(project));
    }
    if project.is_domain {
        if project.id == "default" {
            return Err(refused("delete the default domain"));
        }
        if project.enabled {
            return Err(refused("cannot delete a domain that is enabled, please disable it first"));
        }
    } else if store::has_children(tx, &project.id)? {
        return Err(refused(format_args!(
            "cannot delete the project {} since it is not a leaf in the hierarchy",
            project.id
        )));
    }
    Ok(store::delete(tx, &project.id)?)
}

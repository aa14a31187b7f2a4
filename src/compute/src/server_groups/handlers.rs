//! Requests about server groups.

use axum::extract::{Path, State};
use rest::{Body, Ctx, Error, Params, Reply, Result, Rule, target};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Group, Policy, policy, store, views};
use crate::{
    App,
    flavors::{handlers::unexpected, model::check_name},
    limits,
};

/// As many as one answer holds.
const LIMIT_MAX: i64 = 1000;

fn number(params: &mut Params, name: &str) -> Result<i64> {
    let Some(text) = params.take(name) else { return Ok(0) };
    text.parse().ok().filter(|number| *number >= 0).ok_or_else(|| {
        Error::bad_request(format!("Invalid input for query parameters {name}. Value: {text}. It is no whole number."))
    })
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, mut params: Params) -> Result<Reply> {
    let own = ctx.project_id()?.to_owned();
    ctx.allow(policy::INDEX, &target(&[("project_id", &own)]))?;
    // Given at all is meant, as upstream has it; who may not is shown their own.
    let all = params.take("all_projects").is_some() && ctx.may(policy::INDEX_ALL, &target(&[("project_id", &own)]))?;
    let (limit, offset) = (number(&mut params, "limit")?, number(&mut params, "offset")?);
    let limit = if limit == 0 { LIMIT_MAX } else { limit.min(LIMIT_MAX) };
    crate::versions::finish(&ctx, params)?;
    let groups = app.db.read(move |tx| store::list(tx, (!all).then_some(own.as_str()), offset, limit)).await?;
    let groups: Vec<Value> = groups.iter().map(|group| views::show(&ctx, group)).collect();
    Ok(Reply::ok(&json!({"server_groups": groups})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateRequest {
    server_group: NewGroup,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewGroup {
    name: String,
    policies: Option<Vec<String>>,
    policy: Option<String>,
    rules: Option<Rules>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    max_server_per_host: Option<Value>,
}

impl NewGroup {
    /// The policy by the one name (2.64) or in the list of one (before), and how many servers one host takes.
    fn checked(self, ctx: &Ctx) -> Result<(String, Policy, Option<i64>)> {
        let name = check_name("name", &self.name)?;
        let word = if ctx.since(2, 64) {
            if self.policies.is_some() {
                return Err(unexpected("policies"));
            }
            self.policy.ok_or_else(|| Error::bad_request("'policy' is a required property"))?
        } else {
            for (field, given) in [("policy", self.policy.is_some()), ("rules", self.rules.is_some())] {
                if given {
                    return Err(unexpected(field));
                }
            }
            match self.policies.as_deref() {
                Some([word]) => word.clone(),
                Some(_) => {
                    return Err(Error::bad_request("Invalid input for field/attribute policies: it holds one policy."));
                }
                None => return Err(Error::bad_request("'policies' is a required property")),
            }
        };
        let policy =
            Policy::from_word(&word).filter(|policy| !policy.is_soft() || ctx.since(2, 15)).ok_or_else(|| {
                Error::bad_request(format!(
                    "Invalid input for field/attribute policies. Value: {word}. There is none such."
                ))
            })?;
        let Some(max) = self.rules.and_then(|rules| rules.max_server_per_host) else { return Ok((name, policy, None)) };
        // A number, or text that is one.
        let number = max.as_i64().or_else(|| max.as_str()?.parse().ok()).filter(|number| *number >= 1);
        let number = number.ok_or_else(|| {
            Error::bad_request("Invalid input for field/attribute max_server_per_host: it is no number from 1 on.")
        })?;
        if policy != Policy::AntiAffinity {
            return Err(Error::bad_request("Only anti-affinity policy supports rules."));
        }
        Ok((name, policy, Some(number)))
    }
}

pub(crate) async fn create(
    State(app): State<App>,
    ctx: Ctx,
    Body(CreateRequest { server_group }): Body<CreateRequest>,
) -> Result<Reply> {
    let project_id = ctx.project_id()?.to_owned();
    ctx.allow(policy::CREATE, &target(&[("project_id", &project_id)]))?;
    let (name, policy, max_server_per_host) = server_group.checked(&ctx)?;
    let group = Group {
        id: rest::new_uuid(),
        user_id: ctx.creds()?.user.id.clone(),
        name,
        policy,
        max_server_per_host,
        members: Vec::new(),
        created_at: app.clock.now_text(),
        project_id,
    };
    let (made, defaults) = (group.clone(), app.options.quotas.clone());
    app.db
        .write(move |tx| {
            let max = limits::store::of_project(tx, &group.project_id, &defaults)?.server_groups;
            if max >= 0 && store::count(tx, &group.project_id)? >= max {
                return Err(Error::over_quota("Quota exceeded, too many server groups."));
            }
            store::insert(tx, &group)
        })
        .await?;
    Ok(Reply::ok(&json!({"server_group": views::show(&ctx, &made)})))
}

/// The group, if the caller may do this with it: 404 for another project's, whether or not it exists.
fn visible(ctx: &Ctx, tx: &db::Tx<'_>, id: &str, rule: Rule) -> Result<Group> {
    let group = store::find(tx, id)?;
    let owner = group.as_ref().map(|group| (group.project_id.as_str(), group.user_id.as_str()));
    crate::policy::see(ctx, rule, owner, || store::no_such_group(id))?;
    group.ok_or_else(|| store::no_such_group(id))
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    let asker = ctx.clone();
    let group = app.db.read(move |tx| visible(&asker, tx, &id, policy::SHOW)).await?;
    Ok(Reply::ok(&json!({"server_group": views::show(&ctx, &group)})))
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    app.db
        .write(move |tx| {
            let group = visible(&ctx, tx, &id, policy::DELETE)?;
            store::delete(tx, &group.id)
        })
        .await?;
    Ok(Reply::no_content())
}

//! OS-ENDPOINT-POLICY: which stored policy belongs to an endpoint. The nearest wins: the endpoint's own, that of its
//! service in its region or a region above, that of its service.

use axum::extract::{Path, State};
use db::{Tx, params};
use rest::{Ctx, Error, Kind, Params, Reply, Result, Rule, target};
use serde_json::json;

use super::{handlers, policy as rules};
use crate::{
    App,
    catalog::{self, endpoints, regions, services},
};

/// What a policy is associated with.
struct Place {
    endpoint_id: Option<String>,
    service_id: Option<String>,
    region_id: Option<String>,
}

impl Place {
    fn endpoint(id: String) -> Self {
        Self { endpoint_id: Some(id), service_id: None, region_id: None }
    }

    fn service(id: String) -> Self {
        Self { endpoint_id: None, service_id: Some(id), region_id: None }
    }

    fn region(service_id: String, region_id: String) -> Self {
        Self { endpoint_id: None, service_id: Some(service_id), region_id: Some(region_id) }
    }

    /// 404 for a place that is not there.
    fn check(&self, tx: &Tx<'_>) -> Result<()> {
        if let Some(id) = &self.endpoint_id {
            endpoints::exists(tx, id)?;
        }
        if let Some(id) = &self.service_id {
            services::check(tx, id)?;
        }
        if let Some(id) = &self.region_id {
            regions::check(tx, id)?;
        }
        Ok(())
    }
}

const HERE: &str = "endpoint_id IS ?1 AND service_id IS ?2 AND region_id IS ?3";

/// The three verbs on one association.
enum Verb {
    Create,
    Check,
    Delete,
}

async fn act(app: App, ctx: Ctx, rule: Rule, verb: Verb, policy_id: String, place: Place) -> Result<Reply> {
    ctx.allow(rule, &target(&[]))?;
    app.db
        .write(move |tx| {
            handlers::find(tx, &policy_id)?;
            place.check(tx)?;
            let here = params![place.endpoint_id, place.service_id, place.region_id];
            let found: Option<String> =
                tx.find(&format!("SELECT policy_id FROM identity_policy_association WHERE {HERE}"), here, |row| {
                    row.get(0)
                })?;
            match verb {
                Verb::Create => {
                    tx.execute(&format!("DELETE FROM identity_policy_association WHERE {HERE}"), here)?;
                    tx.execute(
                        "INSERT INTO identity_policy_association (policy_id, endpoint_id, service_id, region_id) \
                         VALUES (?1, ?2, ?3, ?4)",
                        params![policy_id, place.endpoint_id, place.service_id, place.region_id],
                    )?;
                }
                _ if found.as_ref() != Some(&policy_id) => {
                    return Err(Error::new(Kind::NotFound, "Could not find policy association."));
                }
                Verb::Check => {}
                Verb::Delete => {
                    tx.execute(&format!("DELETE FROM identity_policy_association WHERE {HERE}"), here)?;
                }
            }
            Ok(Reply::no_content())
        })
        .await
}

macro_rules! verbs {
    ($path:pat => $place:expr, $type:ty; $($name:ident $verb:ident $rule:ident)+) => {
        $(pub(crate) async fn $name(State(app): State<App>, ctx: Ctx, Path($path): Path<$type>) -> Result<Reply> {
            let (policy_id, place) = $place;
            act(app, ctx, rules::$rule, Verb::$verb, policy_id, place).await
        })+
    };
}

verbs! { (policy, endpoint) => (policy, Place::endpoint(endpoint)), (String, String);
    create_for_endpoint Create CREATE_FOR_ENDPOINT
    check_for_endpoint Check CHECK_FOR_ENDPOINT
    delete_for_endpoint Delete DELETE_FOR_ENDPOINT
}
verbs! { (policy, service) => (policy, Place::service(service)), (String, String);
    create_for_service Create CREATE_FOR_SERVICE
    check_for_service Check CHECK_FOR_SERVICE
    delete_for_service Delete DELETE_FOR_SERVICE
}
verbs! { (policy, service, region) => (policy, Place::region(service, region)), (String, String, String);
    create_for_region Create CREATE_FOR_REGION
    check_for_region Check CHECK_FOR_REGION
    delete_for_region Delete DELETE_FOR_REGION
}

pub(crate) async fn endpoints(
    State(app): State<App>,
    ctx: Ctx,
    Path(policy_id): Path<String>,
    params: Params,
) -> Result<Reply> {
    ctx.allow(rules::LIST_ENDPOINTS, &target(&[]))?;
    let base = catalog::base_url(&ctx, &app.options);
    app.db
        .read(move |tx| {
            handlers::find(tx, &policy_id)?;
            let ids: Vec<String> = tx.list(
                "WITH RECURSIVE below (association, region_id) AS (\
                   SELECT rowid, region_id FROM identity_policy_association \
                   WHERE policy_id = ?1 AND region_id IS NOT NULL \
                   UNION SELECT b.association, r.id FROM below b JOIN identity_region r ON r.parent_id = b.region_id) \
                 SELECT DISTINCT e.id FROM identity_endpoint e JOIN identity_policy_association a ON a.policy_id = ?1 AND (\
                   a.endpoint_id = e.id OR (a.service_id = e.service_id AND (a.region_id IS NULL OR EXISTS (\
                   SELECT 1 FROM below b WHERE b.association = a.rowid AND b.region_id = e.region_id))))",
                [&policy_id],
                |row| row.get(0),
            )?;
            let found = endpoints::all_by_id(tx, |id, _, _| ids.iter().any(|own| own == id))?;
            Ok(endpoints::views(&ctx, &params, &base, &found))
        })
        .await
}

pub(crate) async fn policy_of_endpoint(
    State(app): State<App>,
    ctx: Ctx,
    Path(endpoint_id): Path<String>,
) -> Result<Reply> {
    ctx.allow(rules::GET_FOR_ENDPOINT, &target(&[]))?;
    app.db
        .read(move |tx| {
            endpoints::exists(tx, &endpoint_id)?;
            let nearest: Option<String> = tx.find(
                "WITH RECURSIVE above (region_id, distance) AS (\
                   SELECT region_id, 1 FROM identity_endpoint WHERE id = ?1 \
                   UNION ALL SELECT r.parent_id, a.distance + 1 FROM above a JOIN identity_region r ON r.id = a.region_id \
                   WHERE r.parent_id IS NOT NULL AND a.distance < 100) \
                 SELECT p.policy_id FROM identity_policy_association p JOIN identity_endpoint e ON e.id = ?1 \
                 LEFT JOIN above a ON a.region_id = p.region_id \
                 WHERE p.endpoint_id = e.id OR (p.service_id = e.service_id AND (p.region_id IS NULL OR a.distance > 0)) \
                 ORDER BY CASE WHEN p.endpoint_id IS NOT NULL THEN 0 ELSE ifnull(a.distance, 1000000) END LIMIT 1",
                [&endpoint_id],
                |row| row.get(0),
            )?;
            let missing = || {
                Error::new(Kind::NotFound, format!("No policy is associated with endpoint {endpoint_id}."))
            };
            let policy = handlers::find(tx, &nearest.ok_or_else(missing)?)?;
            Ok(Reply::ok(&json!({"policy": handlers::view(&ctx, &policy)})))
        })
        .await
}

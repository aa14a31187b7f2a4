//! `shelve`, `shelveOffload`, `unshelve`. Compute API reference, "Servers - run an action".

use http::StatusCode;
use rest::{Ctx, Error, Reply, Result, nullable, target};
use serde::Deserialize;
use serde_json::Value;

use super::{
    begin::Wish,
    handlers::{refuse_locked, visible},
    model::VmState,
    moves::no_such_host,
    policy, request, shelve,
    shelve::Shelve,
    snapshots::{
        image::{self, Maker, Wanted},
        requests::STATES,
    },
    store,
    unshelve::Unshelve,
};
use crate::{App, aggregates};

pub(crate) async fn shelve(app: &App, ctx: &Ctx, id: &str) -> Result<Reply> {
    let server = visible(app, ctx, id, policy::SHELVE).await?;
    refuse_locked(ctx, &server)?;
    let wish = Wish::new(app, ctx, &server, "shelve")?;
    let maker = Maker::of(ctx.creds()?);
    let app = app.clone();
    app.db
        .clone()
        .write(move |tx| {
            let server = wish.server(tx, STATES)?;
            let wanted = Wanted {
                name: shelved_name(&server.name),
                owner: server.project_id.clone(),
                kind: vec![("image_type", "snapshot".to_owned())],
                metadata: Default::default(),
                maker,
            };
            let image_id = image::insert(tx, &app, &server, &wanted)?;
            shelve::insert_shelf(tx, &server.id, &image_id, &wish.now)?;
            wish.start(tx, "shelving", &Shelve::Stop)
        })
        .await?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

/// `<name>-shelved`, as long as a name may be.
fn shelved_name(name: &str) -> String {
    const END: &str = "-shelved";
    let start: String = name.chars().take(255 - END.len()).collect();
    start + END
}

pub(crate) async fn offload(app: &App, ctx: &Ctx, id: &str) -> Result<Reply> {
    let server = visible(app, ctx, id, policy::SHELVE_OFFLOAD).await?;
    refuse_locked(ctx, &server)?;
    let wish = Wish::new(app, ctx, &server, "shelveOffload")?;
    app.db
        .write(move |tx| {
            wish.server(tx, &[VmState::Shelved])?;
            wish.start(tx, "shelving_offloading", &Shelve::Offload)
        })
        .await?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Where {
    #[serde(default, deserialize_with = "nullable")]
    availability_zone: Option<Option<String>>,
    host: Option<String>,
}

pub(crate) async fn unshelve(app: &App, ctx: &Ctx, id: &str, argument: Value) -> Result<Reply> {
    let place = place(ctx, argument)?;
    let server = visible(app, ctx, id, policy::UNSHELVE).await?;
    refuse_locked(ctx, &server)?;
    if place.host.is_some() {
        ctx.allow(policy::UNSHELVE_TO_HOST, &target(&[("project_id", &server.project_id)]))?;
    }
    let wish = Wish::new(app, ctx, &server, "unshelve")?;
    let named = place.availability_zone.is_some() || place.host.is_some();
    let app = app.clone();
    app.db
        .clone()
        .write(move |tx| {
            let server = wish.server(tx, &[VmState::Shelved, VmState::ShelvedOffloaded])?;
            if named && server.vm_state != VmState::ShelvedOffloaded {
                return Err(Error::conflict(format!(
                    "Specifying an availability zone or a host is only allowed for servers that are shelved and offloaded; {} is not.",
                    server.id
                )));
            }
            let here = aggregates::store::zone(tx, &app.options)?;
            if place.availability_zone.iter().flatten().any(|zone| *zone != here) {
                return Err(Error::bad_request("The requested availability zone is not available"));
            }
            if let Some(host) = place.host.filter(|host| *host != app.options.host_name) {
                return Err(no_such_host(&host));
            }
            if let Some(zone) = &place.availability_zone {
                store::set_availability_zone(tx, &server.id, zone.as_deref())?;
            }
            wish.start(tx, "unshelving", &Unshelve::Claim)
        })
        .await?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

/// Where it shall go: nowhere in particular before 2.77, to a zone since, and since 2.91 to a host, or to no zone.
fn place(ctx: &Ctx, argument: Value) -> Result<Where> {
    if argument.is_null() || !ctx.since(2, 77) {
        return Ok(Where::default());
    }
    let place: Where = request::fields("unshelve", argument)?;
    let refuse = |what: &str| Err(request::bad("unshelve", what));
    if !ctx.since(2, 91) {
        if place.host.is_some() {
            return refuse("host comes with microversion 2.91");
        }
        if !matches!(place.availability_zone, Some(Some(_))) {
            return refuse("availability_zone is needed");
        }
    }
    if place.availability_zone.is_none() && place.host.is_none() {
        return refuse("availability_zone or host is needed");
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::shelved_name;

    #[test]
    fn a_shelved_server_is_an_image_with_a_name_that_fits() {
        assert_eq!(shelved_name("web"), "web-shelved");
        assert_eq!(shelved_name(&"ü".repeat(255)).chars().count(), 255);
    }
}

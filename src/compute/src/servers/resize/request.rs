//! `resize`, `confirmResize`, `revertResize`. Compute API reference, "Servers - run an action".

use http::StatusCode;
use rest::{Ctx, Error, Reply, Result};
use serde::Deserialize;
use serde_json::Value;

use super::{Resize, confirm};
use crate::{
    App, allocation,
    flavors::{self, Flavor, extra_specs},
    image_info, limits,
    migrations::{self, Migration, Status},
    servers::{
        Server,
        begin::Wish,
        cpus,
        handlers::{refuse_locked, require, visible},
        model::VmState,
        policy, request, store,
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(rename = "flavorRef", deserialize_with = "request::text_or_number")]
    flavor_ref: String,
    #[serde(rename = "OS-DCF:diskConfig")]
    disk_config: Option<String>,
}

pub(crate) async fn resize(app: &App, ctx: &Ctx, id: &str, argument: Value) -> Result<Reply> {
    let wanted: Wanted = request::fields("resize", argument)?;
    let flavor_id = request::flavor_id(&wanted.flavor_ref)?;
    let disk_config = request::disk_config(wanted.disk_config)?;
    let server = visible(app, ctx, id, policy::RESIZE).await?;
    refuse_locked(ctx, &server)?;
    require(&server, "resize", STATES)?;
    let user = flavors::store::user(ctx.creds()?);
    let flavor = app.db.read(move |tx| flavors::store::usable(tx, &flavor_id, user.as_deref())).await?;
    let root_gib = check_disks(&server, &flavor)?;
    let tuning = extra_specs::tuning(&flavor, &server.image_properties)?;
    check_memory(app, ctx, &server, &flavor).await?;
    let wish = Wish::new(app, ctx, &server, "resize")?;
    let quotas = app.options.quotas.clone();
    app.db
        .write(move |tx| {
            let mut server = wish.server(tx, STATES)?;
            if server.flavor.id == flavor.id {
                return Err(Error::bad_request("When resizing, instances must change flavor!"));
            }
            super::close(tx, &server.id, &wish.now)?;
            check_quota(tx, &quotas, &server, &flavor)?;
            let migration = Migration {
                id: 0,
                uuid: rest::new_uuid(),
                server_id: server.id.clone(),
                project_id: server.project_id.clone(),
                user_id: wish.asker.user_id.clone(),
                status: Status::PreMigrating.as_str().into(),
                old_flavor: server.flavor.clone(),
                new_flavor: flavor,
                old_number: None,
                new_number: None,
                old_root_gib: server.root_gib,
                new_root_gib: root_gib,
                old_vm_state: server.vm_state,
                created_at: wish.now.clone(),
                updated_at: wish.now.clone(),
            };
            let larger = super::with_flavor(&server, &migration, true);
            if let Err(shortage) = allocation::claim_both(tx, &server, &larger, &migration.uuid)? {
                return Err(Error::bad_request(shortage));
            }
            store::hold_cpus(tx, &server.id)?;
            if tuning.dedicated {
                let own = cpus::choose(tx, larger.flavor.vcpus)?.map_err(Error::bad_request)?;
                store::insert_dedicated_cpus(tx, &server.id, &own)?;
            }
            let number = migrations::store::insert(tx, &migration)?;
            let (vcpus, ram_mib) = (&server.flavor.vcpus, &server.flavor.ram_mib);
            store::set_counted(tx, &server.id, *vcpus.max(&larger.flavor.vcpus), *ram_mib.max(&larger.flavor.ram_mib))?;
            if let Some(disk_config) = disk_config {
                server.disk_config = disk_config;
                store::update(tx, &server)?;
            }
            wish.start(tx, "resize_prep", &Resize::Stop { migration: number })
        })
        .await?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

const STATES: &[VmState] = &[VmState::Active, VmState::Stopped];

/// The size of the root disk with the new flavor. A disk in use is never made smaller, so what cannot work is refused now.
fn check_disks(server: &Server, flavor: &Flavor) -> Result<i64> {
    if flavor.disk_gib == 0 && server.flavor.disk_gib != 0 {
        return Err(Error::bad_request(
            "Server disk was unable to be resized because: Resize to zero disk flavor is not allowed.",
        ));
    }
    // A flavor of disk 0 leaves the disk as it came from the image.
    let root_gib = if flavor.disk_gib == 0 { server.root_gib } else { flavor.disk_gib };
    for (what, is, wanted) in [
        ("root disk", server.root_gib, root_gib),
        ("ephemeral disk", server.flavor.ephemeral_gib, flavor.ephemeral_gib),
    ] {
        if wanted < is {
            return Err(Error::bad_request(format!(
                "Server disk was unable to be resized because: Unable to resize disk down: the {what} has {is} GiB, the \
                 flavor {wanted}."
            )));
        }
    }
    Ok(root_gib)
}

/// What the image asks for, as long as there is the image to ask.
async fn check_memory(app: &App, ctx: &Ctx, server: &Server, flavor: &Flavor) -> Result<()> {
    let Some(image_id) = &server.image_id else { return Ok(()) };
    match image_info::bootable(app, ctx.creds()?, image_id).await {
        Ok(image) if image.min_ram_mib > flavor.ram_mib => {
            Err(Error::bad_request("Flavor's memory is too small for requested image."))
        }
        _ => Ok(()),
    }
}

/// What becomes more must have room.
fn check_quota(tx: &db::Tx<'_>, defaults: &crate::Quotas, server: &Server, flavor: &Flavor) -> Result<()> {
    let more = ((flavor.vcpus - server.flavor.vcpus).max(0), (flavor.ram_mib - server.flavor.ram_mib).max(0));
    if more == (0, 0) {
        return Ok(());
    }
    let (project_id, user_id) = (&server.project_id, &server.user_id);
    let room = |quotas: crate::Quotas, used| {
        // No server is added.
        limits::room(&crate::Quotas { instances: -1, ..quotas }, used, more, 1, 1)
    };
    room(limits::store::of_project(tx, project_id, defaults)?, store::usage(tx, project_id)?)?;
    if let Some(own) = limits::store::of_user(tx, project_id, user_id, defaults)? {
        room(own, store::usage_of_user(tx, project_id, user_id)?)?;
    }
    Ok(())
}

pub(crate) async fn confirm(app: &App, ctx: &Ctx, id: &str, argument: &Value) -> Result<Reply> {
    request::nothing("confirmResize", argument)?;
    let server = visible(app, ctx, id, policy::CONFIRM_RESIZE).await?;
    refuse_locked(ctx, &server)?;
    let wish = Wish::new(app, ctx, &server, "confirmResize")?;
    app.db.write(move |tx| confirm::start(tx, &wish.id, &wish.task())).await?;
    Ok(Reply::no_content())
}

pub(crate) async fn revert(app: &App, ctx: &Ctx, id: &str, argument: &Value) -> Result<Reply> {
    request::nothing("revertResize", argument)?;
    let server = visible(app, ctx, id, policy::REVERT_RESIZE).await?;
    refuse_locked(ctx, &server)?;
    let wish = Wish::new(app, ctx, &server, "revertResize")?;
    app.db
        .write(move |tx| {
            wish.server(tx, &[VmState::Resized])?;
            let migration = confirm::waiting(tx, &wish.id)?;
            migrations::store::set_status(tx, migration, Status::Reverting, &wish.now)?;
            wish.start(tx, "resize_reverting", &Resize::Back { migration, why: None })
        })
        .await?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

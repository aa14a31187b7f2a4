//! `rescue` and `unrescue`. Compute API reference, "Rescue Server (rescue Action)" and "Unrescue Server (unrescue Action)".

use http::StatusCode;
use rest::{Ctx, Error, Reply, Result, is_uuid};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    begin::Wish,
    handlers::{refuse_locked, visible},
    model::VmState,
    policy, request,
    rescue::{self, Rescue, Rescuing},
    run,
};
use crate::{App, image_info::BootImage};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(rename = "adminPass")]
    admin_pass: Option<String>,
    rescue_image_ref: Option<String>,
}

pub(crate) async fn rescue(app: &App, ctx: &Ctx, id: &str, argument: Value) -> Result<Reply> {
    let body = if argument.is_null() { Body::default() } else { request::fields("rescue", argument)? };
    let admin_pass = request::admin_pass(body.admin_pass)?;
    if body.rescue_image_ref.as_ref().is_some_and(|id| !is_uuid(id)) {
        return Err(Error::bad_request(
            "Invalid input for field/attribute rescue_image_ref: it must be the id of an image.",
        ));
    }
    let server = visible(app, ctx, id, policy::RESCUE).await?;
    refuse_locked(ctx, &server)?;
    let wish = Wish::new(app, ctx, &server, "rescue")?;
    let image_id = body.rescue_image_ref.or(server.image_id).ok_or_else(|| {
        Error::bad_request(format!("Instance {id} cannot be rescued: it has no image, so an image must be named."))
    })?;
    let states = &[VmState::Active, VmState::Stopped, VmState::Error];
    let checked = wish.clone();
    // What the server is comes before what it is asked to boot.
    app.db.read(move |tx| checked.server(tx, states).map(|_| ())).await?;
    let image = crate::image_info::bootable(app, ctx.creds()?, &image_id).await?;
    let stable = is_stable(&image)?;
    run::firmware(if stable { &server.image_properties } else { &image.properties }).map_err(Error::bad_request)?;
    let rescue = Rescue::new(image, stable);
    let state = Rescuing::Stop { admin_pass: admin_pass.clone() };
    app.db
        .write(move |tx| {
            wish.server(tx, states)?;
            rescue::insert(tx, &wish.id, &rescue)?;
            wish.start(tx, "rescuing", &state)
        })
        .await?;
    Ok(Reply::ok(&json!({"adminPass": admin_pass})))
}

pub(crate) async fn unrescue(app: &App, ctx: &Ctx, id: &str) -> Result<Reply> {
    let server = visible(app, ctx, id, policy::UNRESCUE).await?;
    refuse_locked(ctx, &server)?;
    let wish = Wish::new(app, ctx, &server, "unrescue")?;
    app.db
        .write(move |tx| {
            wish.server(tx, &[VmState::Rescued])?;
            wish.start(tx, "unrescuing", &Rescuing::Leave)
        })
        .await?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

/// By either property an image asks that the server's own disks keep their places. Whatever bus it names, the rescue disk
/// is a virtio disk: there is no other bus here.
fn is_stable(image: &BootImage) -> Result<bool> {
    const BUSES: &[&str] = &["fdc", "ide", "nvme", "sata", "scsi", "uml", "usb", "virtio", "xen", "lxc"];
    const DEVICES: &[&str] = &["cdrom", "disk", "floppy"];
    let mut stable = false;
    for (name, known) in [("hw_rescue_bus", BUSES), ("hw_rescue_device", DEVICES)] {
        match image.properties.get(name).and_then(Value::as_str) {
            None => {}
            Some(word) if known.contains(&word) => stable = true,
            Some(word) => {
                return Err(Error::bad_request(format!(
                    "Image {} cannot be used to rescue a server: its {name} is {word:?}, which is none of {}.",
                    image.id,
                    known.join(", ")
                )));
            }
        }
    }
    Ok(stable)
}

//! The `rebuild` action. Compute API reference, "Servers - run an action".

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use http::header;
use rest::{Ctx, Error, Reply, Result, nullable};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Before, Order, Rebuild};
use crate::{
    App, allocation,
    flavors::{
        extra_specs,
        handlers::{check_description, unexpected},
        model::check_name,
    },
    image_info, keypairs, limits,
    servers::{
        Server,
        begin::Wish,
        cpus,
        handlers::{document, refuse_locked, require, root_gib, visible},
        model::VmState,
        personality, policy,
        request::{self, bad},
        run, store,
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(rename = "imageRef")]
    image_ref: String,
    name: Option<String>,
    #[serde(rename = "adminPass")]
    admin_pass: Option<String>,
    metadata: Option<BTreeMap<String, Value>>,
    #[serde(default, deserialize_with = "crate::flavors::handlers::boolean")]
    preserve_ephemeral: bool,
    #[serde(rename = "OS-DCF:diskConfig")]
    disk_config: Option<String>,
    #[serde(rename = "accessIPv4")]
    access_ipv4: Option<String>,
    #[serde(rename = "accessIPv6")]
    access_ipv6: Option<String>,
    personality: Option<Vec<Value>>,
    #[serde(default, deserialize_with = "nullable")]
    description: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    key_name: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    user_data: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    trusted_image_certificates: Option<Option<Vec<String>>>,
    hostname: Option<String>,
}

impl Wanted {
    fn check_version(&self, ctx: &Ctx) -> Result<()> {
        for (present, field, (major, minor)) in [
            (self.description.is_some(), "description", (2, 19)),
            (self.key_name.is_some(), "key_name", (2, 54)),
            (self.user_data.is_some(), "user_data", (2, 57)),
            (self.trusted_image_certificates.is_some(), "trusted_image_certificates", (2, 63)),
            (self.hostname.is_some(), "hostname", (2, 90)),
        ] {
            if present && !ctx.since(major, minor) {
                return Err(unexpected(field));
            }
        }
        request::trusted_certificates(self.trusted_image_certificates.clone())
    }
}

const STATES: &[VmState] = &[VmState::Active, VmState::Stopped, VmState::Error];

pub(crate) async fn rebuild(app: &App, ctx: &Ctx, id: &str, argument: Value) -> Result<Reply> {
    let wanted: Wanted = request::fields("rebuild", argument)?;
    wanted.check_version(ctx)?;
    let image_id = wanted.image_ref.rsplit('/').next().unwrap_or_default().to_owned();
    if !rest::is_uuid(&image_id) {
        return Err(bad("imageRef", "it is no image id"));
    }
    let name = wanted.name.map(|name| check_name("name", &name)).transpose()?;
    let metadata = wanted.metadata.map(request::metadata).transpose()?;
    let disk_config = request::disk_config(wanted.disk_config)?;
    let ipv4 = wanted.access_ipv4.map(|text| request::address::<Ipv4Addr>("accessIPv4", Some(text))).transpose()?;
    let ipv6 = wanted.access_ipv6.map(|text| request::address::<Ipv6Addr>("accessIPv6", Some(text))).transpose()?;
    let description = wanted.description.map(check_description).transpose()?;
    let user_data = wanted.user_data.map(|data| data.map(request::user_data).transpose()).transpose()?;
    let hostname = request::hostname(ctx, wanted.hostname)?;
    let admin_pass = request::admin_pass(wanted.admin_pass)?;
    let files = personality::asked(ctx, wanted.personality)?;

    let server = visible(app, ctx, id, policy::REBUILD).await?;
    refuse_locked(ctx, &server)?;
    require(&server, "rebuild", STATES)?;
    let image = image_info::bootable(app, ctx.creds()?, &image_id).await?;
    let root_gib = root_gib(&server.flavor, &image)?;
    let tuning = extra_specs::tuning(&server.flavor, &image.properties)?;
    run::firmware(&image.properties).map_err(Error::bad_request)?;

    let wish = Wish::new(app, ctx, &server, "rebuild")?;
    let (quotas, password, preserve_ephemeral) =
        (app.options.quotas.clone(), admin_pass.clone(), wanted.preserve_ephemeral);
    let key_name = wanted.key_name;
    let server = app
        .db
        .write(move |tx| {
            let mut server = wish.server(tx, STATES)?;
            let before = Before {
                image_id: server.image_id.take(),
                image_properties: std::mem::take(&mut server.image_properties),
                root_gib: server.root_gib,
            };
            if let Some(metadata) = metadata {
                limits::check_metadata(&limits::store::of_project(tx, &server.project_id, &quotas)?, metadata.len())?;
                server.metadata = metadata;
            }
            if let Some(key_name) = key_name {
                give_key(tx, &mut server, &wish.asker.user_id, key_name)?;
            }
            for (field, value) in [
                (&mut server.name, name),
                (&mut server.access_ipv4, ipv4),
                (&mut server.access_ipv6, ipv6),
                (&mut server.disk_config, disk_config),
                (&mut server.hostname, hostname),
            ] {
                if let Some(value) = value {
                    *field = value;
                }
            }
            if let Some(description) = description {
                server.description = description;
            }
            if let Some(user_data) = user_data {
                server.user_data = user_data;
            }
            personality::check_quota(tx, &server.project_id, &files)?;
            personality::replace(tx, &server.id, &files)?;
            server.config_drive |= image.needs_config_drive() || !files.is_empty();
            server.image_id = Some(image.id);
            server.image_properties = image.properties;
            server.task_state = Some("rebuilding".into());
            server.updated_at = wish.now.clone();
            // The larger of both, until the old disk is gone.
            server.root_gib = root_gib.max(before.root_gib);
            if let Err(shortage) = allocation::claim(tx, &server)? {
                return Err(Error::bad_request(shortage));
            }
            server.root_gib = root_gib;
            cpus::refit(tx, &server, tuning.dedicated)?.map_err(Error::bad_request)?;
            store::set_rebuilt(tx, &server)?;
            let order = Order {
                admin_pass: server.config_drive.then_some(password),
                preserve_ephemeral,
                stopped: server.vm_state == VmState::Stopped,
                before,
            };
            wish.start_as_is(tx, &Rebuild::Image(order))?;
            Ok::<_, Error>(server)
        })
        .await?;
    answer(app, ctx, &server, &admin_pass).await
}

/// A key pair of whoever asks, or none.
fn give_key(tx: &db::Tx<'_>, server: &mut Server, user_id: &str, name: Option<String>) -> Result<()> {
    let key = match name {
        None => None,
        Some(name) => Some(
            keypairs::store::find(tx, user_id, &name)?
                .ok_or_else(|| Error::bad_request("Invalid key_name provided."))?,
        ),
    };
    server.key_name = key.as_ref().map(|key| key.name.clone());
    server.key_type = key.as_ref().map(|key| key.kind.clone());
    server.public_key = key.map(|key| key.public_key);
    Ok(())
}

/// The server, as PUT answers it, with what a rebuild adds.
async fn answer(app: &App, ctx: &Ctx, server: &Server, admin_pass: &str) -> Result<Reply> {
    let mut view = document(app, ctx, server, !ctx.since(2, 75)).await?;
    view["adminPass"] = json!(admin_pass);
    if ctx.since(2, 54) {
        view["key_name"] = json!(server.key_name);
    }
    if ctx.since(2, 57) {
        view["user_data"] = json!(server.user_data);
        if let Some(fields) = view.as_object_mut() {
            fields.remove("OS-EXT-SRV-ATTR:user_data");
        }
    }
    let location = ctx.url(&format!("/v2.1/servers/{}", server.id));
    Ok(Reply::accepted(&json!({"server": view})).with_header(header::LOCATION, &location))
}

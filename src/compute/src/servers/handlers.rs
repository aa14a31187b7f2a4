//! Requests about servers: list, show, create, update, delete, addresses.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use db::Value as Sql;
use http::header;
use rest::{Body, Ctx, Error, Kind, Params, Reply, Result, Rule, is_uuid, nullable, target};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Server,
    begin::Wish,
    create,
    delete::Delete,
    filters,
    model::VmState,
    policy,
    request::{self, CreateBody, Wanted},
    store,
    views::{self, Sight},
};
use crate::{
    App, aggregates, flavors,
    flavors::handlers::{check_description, unexpected},
    gone,
    image_info::BootImage,
    keypairs,
    network_info::{self, Interface},
    server_groups,
};

/// The server if the caller may do what `rule` guards: one that is another project's looks as if it did not exist.
pub(crate) async fn visible(app: &App, ctx: &Ctx, id: &str, rule: Rule) -> Result<Server> {
    let wanted = id.to_owned();
    let server = app.db.read(move |tx| store::find(tx, &wanted)).await?;
    let owner = server.as_ref().map(|server| (server.project_id.as_str(), server.user_id.as_str()));
    crate::policy::see(ctx, rule, owner, || store::no_such_server(id))?;
    server.ok_or_else(|| store::no_such_server(id))
}

/// As [`visible`], for rules that the project's own people may not fulfil: they are refused, while what is another
/// project's looks as if it did not exist to whatever role.
pub(crate) async fn visible_to_few(app: &App, ctx: &Ctx, id: &str, rule: Rule) -> Result<Server> {
    let server = visible(app, ctx, id, policy::SHOW).await?;
    ctx.allow(rule, &target(&[("project_id", &server.project_id), ("user_id", &server.user_id)]))?;
    Ok(server)
}

/// A locked server is changed by nobody below its locker.
pub(crate) fn refuse_locked(ctx: &Ctx, server: &Server) -> Result<()> {
    if server.locked() && !ctx.creds()?.has_role("admin") {
        return Err(Error::conflict(format!("Instance {} is locked", server.id)));
    }
    Ok(())
}

/// 409 for a server that is in none of the states, or that something is being done to.
pub(crate) fn require(server: &Server, action: &str, states: &[VmState]) -> Result<()> {
    if !states.contains(&server.vm_state) {
        return Err(Error::conflict(format!(
            "Cannot '{action}' instance {} while it is in vm_state {}",
            server.id,
            server.vm_state.as_str()
        )));
    }
    if let Some(task_state) = &server.task_state {
        return Err(Error::conflict(format!(
            "Cannot '{action}' instance {} while it is in task_state {task_state}",
            server.id
        )));
    }
    Ok(())
}

/// 409 where the server has an operation already.
pub(crate) fn busy(error: tasks::Busy, id: &str) -> Error {
    match error {
        tasks::Busy::Busy(_) => Error::conflict(format!("Instance {id} is busy with another operation.")),
        tasks::Busy::Db(error) => error.into(),
    }
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    list(app, ctx, params, false).await
}

pub(crate) async fn detail(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    list(app, ctx, params, true).await
}

async fn list(app: App, ctx: Ctx, params: Params, detail: bool) -> Result<Reply> {
    let (rule, rule_all) =
        if detail { (policy::DETAIL, policy::DETAIL_ALL) } else { (policy::INDEX, policy::INDEX_ALL) };
    let project_id = ctx.creds()?.project_id().unwrap_or_default().to_owned();
    let own = target(&[("project_id", &project_id)]);
    ctx.allow(rule, &own)?;
    let mut rest = params.clone();
    let whole = ctx.may(policy::ALLOW_ALL_FILTERS, &own)?;
    let which = Which::asked(&ctx, &mut rest, whole)?;
    let mut page = which.spec().page(&mut rest)?;
    let all = match rest.take("all_tenants").as_deref() {
        None => false,
        // Upstream's: the parameter without a value asks for all.
        Some("") => true,
        Some(text) => ::rest::parse_bool(text).ok_or_else(|| {
            Error::bad_request(format!("Invalid value {text:?} for all_tenants: expected a boolean."))
        })?,
    };
    if all {
        ctx.allow(rule_all, &own)?;
    } else {
        page.and("s.project_id = ?", [Sql::Text(project_id)]);
    }
    filters::take(&ctx, &mut page, &mut rest, &params, whole, all)?;
    let mut nothing = !filters::by_status(&ctx, &mut page, &mut rest)?;
    if let Some(host) = rest.take("host").filter(|_| whole) {
        nothing |= host != app.options.host_name;
    }
    if ctx.since(2, 26) {
        filters::by_tags(&mut page, &mut rest);
    }
    let addresses = filters::addresses(&mut rest)?;
    filters::finish(&ctx, rest)?;
    let sight = sight(&ctx, &own)?;
    if nothing {
        return Ok(Reply::ok(&json!({"servers": []})));
    }
    let options = app.options.clone();
    let (listing, interfaces, tags, zone) = app
        .db
        .read(move |tx| {
            if !addresses.is_empty() {
                page.and_in("s.id", network_info::servers_with_address(tx, &addresses)?);
            }
            let (listing, gone_tags) = which.fetch(tx, &page)?;
            if !detail {
                return Ok::<_, Error>((listing, network_info::ByServer::default(), Default::default(), String::new()));
            }
            let ids: Vec<&str> = listing.rows.iter().map(|server| server.id.as_str()).collect();
            let interfaces = network_info::of_servers(tx, &ids)?;
            let mut tags = store::tags_of(tx, &listing.rows)?;
            tags.extend(gone_tags);
            Ok((listing, interfaces, tags, aggregates::store::zone(tx, &options)?))
        })
        .await?;
    #[derive(Serialize)]
    struct Answer<T> {
        servers: Vec<T>,
        #[serde(skip_serializing_if = "Option::is_none")]
        servers_links: Option<Value>,
    }
    let servers_links =
        listing.next_link(&ctx, &params, |server| &server.id).map(|next| json!([{"rel": "next", "href": next}]));
    if !detail {
        let servers = listing.rows.iter().map(|server| views::brief(&ctx, server)).collect();
        return Ok(Reply::ok(&Answer { servers, servers_links }));
    }
    let servers = listing
        .rows
        .iter()
        .map(|server| {
            let (interfaces, tags) = (interfaces.of(&server.id), tags.get(&server.id).map_or(&[][..], Vec::as_slice));
            let server_groups = None;
            views::Show {
                ctx: &ctx,
                options: &app.options,
                zone: &zone,
                server,
                interfaces,
                tags,
                server_groups,
                sight,
            }
        })
        .collect();
    Ok(Reply::ok(&Answer { servers, servers_links }))
}

/// Which servers a list is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Live,
    Deleted,
    Both,
}

impl Which {
    /// As upstream: what changed since a time lists what was deleted since, too; only those with `whole` sight may ask for
    /// deleted servers as such.
    fn asked(ctx: &Ctx, params: &mut Params, whole: bool) -> Result<Self> {
        let statuses: Vec<&str> =
            params.pairs().iter().filter(|(name, _)| name == "status").map(|(_, status)| status.as_str()).collect();
        let only_deleted = !statuses.is_empty() && statuses.iter().all(|one| one.eq_ignore_ascii_case("deleted"));
        let deleted = params.take_bool("deleted").unwrap_or(None).filter(|_| whole);
        let by_change = params.has("changes-since") || (params.has("changes-before") && ctx.since(2, 66));
        Ok(match deleted {
            _ if only_deleted && !whole => {
                return Err(Error::forbidden("Only administrators may list deleted instances"));
            }
            _ if only_deleted => Self::Deleted,
            Some(true) => Self::Deleted,
            Some(false) => Self::Live,
            None if by_change => Self::Both,
            None => Self::Live,
        })
    }

    fn spec(self) -> &'static ::rest::ListSpec {
        match self {
            Self::Live => &store::LIST,
            Self::Deleted => &gone::store::LIST,
            Self::Both => &gone::store::LIST_WITH_LIVE,
        }
    }

    /// The servers, and the tags of those that were deleted.
    fn fetch(self, tx: &db::Tx<'_>, page: &::rest::Page) -> Result<(::rest::Listing<Server>, Tags)> {
        if self == Self::Live {
            return Ok((page.fetch(tx, store::read)?, Tags::new()));
        }
        let listing = gone::store::fetch(tx, page)?;
        let (mut rows, mut tags) = (Vec::with_capacity(listing.rows.len()), Tags::new());
        for (server, had) in listing.rows {
            tags.extend(had.map(|had| (server.id.clone(), had)));
            rows.push(server);
        }
        Ok((::rest::Listing { rows, more: listing.more, reverse: listing.reverse }, tags))
    }
}

/// Tags by server.
type Tags = std::collections::HashMap<String, Vec<String>>;

fn sight(ctx: &Ctx, owner: &::policy::Target) -> Result<Sight> {
    Ok(Sight {
        extended: ctx.may(policy::EXTENDED, owner)?,
        host_status: ctx.since(2, 16) && ctx.may(policy::SHOW_HOST_STATUS, owner)?,
        own_fields: false,
    })
}

pub(crate) async fn show(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    let server = visible(&app, &ctx, &id, policy::SHOW).await?;
    one(&app, &ctx, server, false).await
}

async fn one(app: &App, ctx: &Ctx, server: Server, own_fields: bool) -> Result<Reply> {
    let server = document(app, ctx, &server, own_fields).await?;
    Ok(Reply::ok(&BTreeMap::from([("server", server)])))
}

/// The server as it is shown, or (`own_fields`) as PUT answers it before 2.75.
pub(crate) async fn document(app: &App, ctx: &Ctx, server: &Server, own_fields: bool) -> Result<Value> {
    let (id, options) = (server.id.clone(), app.options.clone());
    let (interfaces, tags, zone, group) = app
        .db
        .read(move |tx| {
            let (zone, group) = (aggregates::store::zone(tx, &options)?, server_groups::store::group_of(tx, &id)?);
            Ok::<_, Error>((network_info::of_servers(tx, &[&id])?, store::tags(tx, &id)?, zone, group))
        })
        .await?;
    let groups: Vec<String> = group.into_iter().collect();
    let owner = target(&[("project_id", &server.project_id), ("user_id", &server.user_id)]);
    let sight = Sight { own_fields, ..sight(ctx, &owner)? };
    let interfaces = interfaces.of(&server.id);
    let server_groups = ctx.since(2, 71).then_some(groups.as_slice());
    let view =
        views::Show { ctx, options: &app.options, zone: &zone, server, interfaces, tags: &tags, server_groups, sight };
    serde_json::to_value(view).map_err(Error::internal)
}

pub(crate) async fn create(State(app): State<App>, ctx: Ctx, Body(body): Body<CreateBody>) -> Result<Reply> {
    let project_id = ctx.project_id()?.to_owned();
    ctx.allow(policy::CREATE, &target(&[("project_id", &project_id), ("user_id", &ctx.creds()?.user.id)]))?;
    let group = match body.hints.as_ref().and_then(|hints| hints.get("group")) {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) if is_uuid(id) => Some(id.clone()),
        Some(_) => return Err(Error::bad_request("Invalid input for field/attribute group: it is no UUID.")),
    };
    let wanted = body.server.checked(&ctx)?;
    if wanted.host.is_some() || wanted.hypervisor_hostname.is_some() {
        ctx.allow(policy::CREATE_ON_HOST, &target(&[]))?;
    }
    for asked in [&wanted.host, &wanted.hypervisor_hostname].into_iter().flatten() {
        if *asked != app.options.host_name {
            return Err(Error::bad_request(format!("No valid host was found. There is no host {asked}.")));
        }
    }
    let options = app.options.clone();
    let zone = app.db.read(move |tx| aggregates::store::zone(tx, &options)).await.map_err(Error::from)?;
    if wanted.availability_zone.as_ref().is_some_and(|asked| asked.split(':').next() != Some(&zone)) {
        return Err(Error::bad_request("The requested availability zone is not available"));
    }
    let plan = plan(&app, &ctx, &wanted).await?;
    let reservation_id = format!("r-{}", &rest::new_hex_id()[..8]);
    let admin_pass = wanted.admin_pass.clone();
    let (groups, reservation) = (wanted.security_groups.clone(), reservation_id.clone());
    let want_reservation = wanted.return_reservation_id;
    let command = create::Command {
        creds: create::Asker::of(&ctx)?,
        wanted,
        plan,
        group,
        hints: body.hints.unwrap_or_default(),
        project_id,
        reservation_id,
        now: app.clock.now_text(),
        request_id: ctx.request_id().to_owned(),
    };
    let maker = app.clone();
    let servers = app.db.write(move |tx| command.run(tx, &maker)).await?;
    if want_reservation {
        return Ok(Reply::accepted(&json!({"reservation_id": reservation})));
    }
    let Some(first) = servers.first() else { return Err(Error::internal("no server was made")) };
    let location = ctx.url(&format!("/v2.1/servers/{}", first.id));
    Ok(Reply::accepted(&views::created(&ctx, first, &admin_pass, &groups)).with_header(header::LOCATION, &location))
}

/// Everything the request names, looked up; what does not fit together is refused.
async fn plan(app: &App, ctx: &Ctx, wanted: &Wanted) -> Result<create::Plan> {
    let creds = ctx.creds()?;
    let flavor_user = flavors::store::user(creds);
    let (flavor_id, user_id, key_name) = (wanted.flavor_id.clone(), creds.user.id.clone(), wanted.key_name.clone());
    let (flavor, keypair) = app
        .db
        .read(move |tx| {
            let flavor = flavors::store::usable(tx, &flavor_id, flavor_user.as_deref())?;
            let keypair = match &key_name {
                None => None,
                Some(name) => Some(
                    keypairs::store::find(tx, &user_id, name)?
                        .ok_or_else(|| Error::bad_request("Invalid key_name provided."))?,
                ),
            };
            Ok::<_, Error>((flavor, keypair))
        })
        .await?;
    let image = crate::image_info::bootable(app, creds, &wanted.image_id).await?;
    let root_gib = root_gib(&flavor, &image)?;
    let tuning = flavors::extra_specs::tuning(&flavor, &image.properties)?;
    super::run::firmware(&image.properties).map_err(Error::bad_request)?;
    Ok(create::Plan { flavor, keypair, image, root_gib, tuning })
}

/// The size of the root disk that the image gets with the flavor; 400 for an image that asks for more than it has.
pub(crate) fn root_gib(flavor: &flavors::Flavor, image: &BootImage) -> Result<i64> {
    if image.min_ram_mib > flavor.ram_mib {
        return Err(Error::bad_request("Flavor's memory is too small for requested image."));
    }
    if flavor.disk_gib > 0 && (image.min_disk_gib > flavor.disk_gib || image.size_gib() > flavor.disk_gib) {
        return Err(Error::bad_request("Flavor's disk is too small for requested image."));
    }
    // A flavor of disk 0 takes the image as it is.
    Ok(if flavor.disk_gib > 0 { flavor.disk_gib } else { image.size_gib().max(image.min_disk_gib).max(1) })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateBody {
    server: ServerChange,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerChange {
    name: Option<String>,
    #[serde(rename = "OS-DCF:diskConfig")]
    disk_config: Option<String>,
    #[serde(rename = "accessIPv4")]
    access_ipv4: Option<String>,
    #[serde(rename = "accessIPv6")]
    access_ipv6: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    description: Option<Option<String>>,
    hostname: Option<String>,
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    Body(UpdateBody { server: change }): Body<UpdateBody>,
) -> Result<Reply> {
    let server = visible(&app, &ctx, &id, policy::UPDATE).await?;
    refuse_locked(&ctx, &server)?;
    if change.description.is_some() && !ctx.since(2, 19) {
        return Err(unexpected("description"));
    }
    let hostname = request::hostname(&ctx, change.hostname)?;
    let name = change.name.map(|name| flavors::model::check_name("name", &name)).transpose()?;
    let ipv4 =
        change.access_ipv4.map(|text| request::address::<std::net::Ipv4Addr>("accessIPv4", Some(text))).transpose()?;
    let ipv6 =
        change.access_ipv6.map(|text| request::address::<std::net::Ipv6Addr>("accessIPv6", Some(text))).transpose()?;
    let disk_config = request::disk_config(change.disk_config)?;
    let description = change.description.map(check_description).transpose()?;
    let now = app.clock.now_text();
    let server = app
        .db
        .write(move |tx| {
            let mut server = store::get(tx, &id)?;
            if let Some(name) = name {
                server.name = name;
            }
            if let Some(hostname) = hostname {
                server.hostname = hostname;
            }
            if let Some(ipv4) = ipv4 {
                server.access_ipv4 = ipv4;
            }
            if let Some(ipv6) = ipv6 {
                server.access_ipv6 = ipv6;
            }
            if let Some(disk_config) = disk_config {
                server.disk_config = disk_config;
            }
            if let Some(description) = description {
                server.description = description;
            }
            server.updated_at = now;
            store::update(tx, &server)?;
            Ok::<_, Error>(server)
        })
        .await?;
    let own_fields = !ctx.since(2, 75);
    one(&app, &ctx, server, own_fields).await
}

pub(crate) async fn delete(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    let server = visible(&app, &ctx, &id, policy::DELETE).await?;
    refuse_locked(&ctx, &server)?;
    delete_now(&app, &ctx, &server, "delete").await?;
    Ok(Reply::no_content())
}

/// Starts the delete, whatever else is being done to the server.
pub(crate) async fn delete_now(app: &App, ctx: &Ctx, server: &Server, action: &'static str) -> Result<()> {
    let wish = Wish::new(app, ctx, server, action)?;
    app.db
        .write(move |tx| {
            // Deleting twice at once is one delete: the second finds the first under way.
            if store::get(tx, &wish.id)?.task_state.as_deref() == Some("deleting") {
                return Ok(());
            }
            wish.supersede(tx, "deleting", &Delete::Stop)
        })
        .await
}

pub(crate) async fn ips(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    let server = visible(&app, &ctx, &id, policy::IPS).await?;
    let interfaces = interfaces(&app, &server.id).await?;
    Ok(Reply::ok(&BTreeMap::from([("addresses", views::Addresses { interfaces: &interfaces, extended: false })])))
}

pub(crate) async fn ips_show(
    State(app): State<App>,
    ctx: Ctx,
    Path((id, label)): Path<(String, String)>,
) -> Result<Reply> {
    let server = visible(&app, &ctx, &id, policy::IPS_SHOW).await?;
    let interfaces = interfaces(&app, &server.id).await?;
    let addresses: Vec<_> = interfaces
        .iter()
        .filter(|interface| interface.network_name == label)
        .flat_map(|interface| views::addresses_of(interface, false))
        .collect();
    if addresses.is_empty() {
        return Err(Error::new(Kind::NotFound, "Network not found"));
    }
    Ok(Reply::ok(&BTreeMap::from([(label, addresses)])))
}

pub(crate) async fn interfaces(app: &App, id: &str) -> Result<Vec<Interface>> {
    let id = id.to_owned();
    app.db.read(move |tx| Ok::<_, Error>(network_info::of_servers(tx, &[&id])?.of(&id).to_vec())).await
}

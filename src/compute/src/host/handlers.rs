//! Requests about the host.

use axum::extract::{Path, State};
use placement::peer::Usage;
use rest::{Body, Ctx, Error, Kind, Params, Reply, Result, is_uuid, target};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    policy,
    store::{self, ServiceRow},
};
use crate::{App, flavors::handlers::unexpected, servers};

pub(crate) async fn extensions(ctx: Ctx) -> Result<Reply> {
    ctx.allow(policy::EXTENSIONS, &target(&[]))?;
    Ok(Reply::ok(&json!({"extensions": []})))
}

/// One host needs no aggregates: none can be made, and the list says so to clients that look.
pub(crate) async fn aggregates(ctx: Ctx) -> Result<Reply> {
    ctx.allow(policy::AGGREGATES, &target(&[]))?;
    Ok(Reply::ok(&json!({"aggregates": []})))
}

pub(crate) async fn zones(State(app): State<App>, ctx: Ctx) -> Result<Reply> {
    ctx.allow(policy::ZONES, &target(&[]))?;
    let rows = app.db.read(store::list).await?;
    Ok(Reply::ok(&json!({"availabilityZoneInfo": [zone(&app, &rows, false)]})))
}

pub(crate) async fn zones_detail(State(app): State<App>, ctx: Ctx) -> Result<Reply> {
    ctx.allow(policy::ZONES_DETAIL, &target(&[]))?;
    let rows = app.db.read(store::list).await?;
    let internal = json!({
        "zoneName": "internal",
        "zoneState": {"available": true},
        "hosts": {&app.options.host_name: hosts(&app, &rows, "internal")},
    });
    Ok(Reply::ok(&json!({"availabilityZoneInfo": [internal, zone(&app, &rows, true)]})))
}

fn zone(app: &App, rows: &[ServiceRow], detail: bool) -> Value {
    let available = rows.iter().any(|row| row.binary == "nova-compute" && !row.disabled && !row.forced_down);
    json!({
        "zoneName": app.options.availability_zone,
        "zoneState": {"available": available},
        "hosts": if detail { json!({&app.options.host_name: hosts(app, rows, "nova")}) } else { Value::Null },
    })
}

fn hosts(app: &App, rows: &[ServiceRow], zone: &str) -> Value {
    let now = db::clock::naive(&app.clock.now_text());
    rows.iter()
        .filter(|row| row.zone == zone)
        .map(|row| {
            let state = json!({"available": !row.forced_down, "active": !row.disabled, "updated_at": now});
            (row.binary.clone(), state)
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn service_view(app: &App, ctx: &Ctx, row: &ServiceRow) -> Value {
    let zone = if row.zone == "internal" { "internal" } else { &app.options.availability_zone };
    let mut view = json!({
        "id": row.id,
        "binary": row.binary,
        "host": app.options.host_name,
        "zone": zone,
        "status": if row.disabled { "disabled" } else { "enabled" },
        // One process: whoever reads this was answered by it.
        "state": if row.forced_down { "down" } else { "up" },
        "updated_at": db::clock::naive(&app.clock.now_text()),
        "disabled_reason": row.disabled_reason,
    });
    if ctx.since(2, 11) {
        view["forced_down"] = json!(row.forced_down);
    }
    if ctx.since(2, 53) {
        view["id"] = json!(row.uuid);
    }
    view
}

pub(crate) async fn services(State(app): State<App>, ctx: Ctx, mut params: Params) -> Result<Reply> {
    ctx.allow(policy::SERVICES, &target(&[]))?;
    let (binary, host) = (params.take("binary"), params.take("host"));
    let rows = app.db.read(store::list).await?;
    let services: Vec<Value> = rows
        .iter()
        .filter(|row| binary.as_ref().is_none_or(|binary| *binary == row.binary))
        .filter(|_| host.as_ref().is_none_or(|host| *host == app.options.host_name))
        .map(|row| service_view(&app, &ctx, row))
        .collect();
    Ok(Reply::ok(&json!({"services": services})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceChange {
    host: Option<String>,
    binary: Option<String>,
    status: Option<String>,
    disabled_reason: Option<String>,
    forced_down: Option<bool>,
}

/// Before 2.53 the last segment is a verb and the body names the service; since then it is the service's id.
pub(crate) async fn service_update(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    Body(change): Body<ServiceChange>,
) -> Result<Reply> {
    ctx.allow(policy::SERVICES_UPDATE, &target(&[]))?;
    let by_id = ctx.since(2, 53);
    let (status, reason) = if by_id {
        if change.host.is_some() || change.binary.is_some() {
            return Err(unexpected("host"));
        }
        if !is_uuid(&id) {
            return Err(Error::bad_request(format!("Invalid uuid {id}")));
        }
        (change.status.clone(), change.disabled_reason.clone())
    } else {
        match id.as_str() {
            "enable" => (Some("enabled".to_owned()), None),
            "disable" => (Some("disabled".to_owned()), None),
            "disable-log-reason" if change.disabled_reason.is_some() => {
                (Some("disabled".to_owned()), change.disabled_reason.clone())
            }
            "disable-log-reason" => return Err(Error::bad_request("Missing disabled reason field")),
            "force-down" if ctx.since(2, 11) => (None, None),
            _ => return Err(Error::new(Kind::NotFound, "Unknown action")),
        }
    };
    if reason.as_ref().is_some_and(|reason| reason.trim() != reason || !(1..=255).contains(&reason.chars().count())) {
        return Err(Error::bad_request("Disabled reason contains invalid characters or is too long"));
    }
    let disabled = match status.as_deref() {
        None => None,
        Some("enabled") => Some(false),
        Some("disabled") => Some(true),
        Some(_) => return Err(Error::bad_request("Invalid input for field/attribute status: enabled or disabled.")),
    };
    if disabled == Some(false) && reason.is_some() {
        return Err(Error::bad_request("Specifying 'disabled_reason' is only allowed when disabling."));
    }
    if disabled.is_none() && change.forced_down.is_none() {
        return Err(Error::bad_request(
            "No updates were requested. Fields 'status' or 'forced_down' should be specified.",
        ));
    }
    let host_known = change.host.as_ref().is_none_or(|host| *host == app.options.host_name);
    let row = app
        .db
        .write(move |tx| {
            let missing = || Error::new(Kind::NotFound, "Could not find the service.");
            let mut row = store::list(tx)?
                .into_iter()
                .find(|row| if by_id { row.uuid == id } else { change.binary.as_ref() == Some(&row.binary) })
                .filter(|_| host_known)
                .ok_or_else(missing)?;
            if let Some(disabled) = disabled {
                row.disabled = disabled;
                row.disabled_reason = if disabled { reason } else { None };
            }
            if let Some(forced_down) = change.forced_down {
                row.forced_down = forced_down;
            }
            store::update(tx, &row)?;
            Ok::<_, Error>(row)
        })
        .await?;
    let view = service_view(&app, &ctx, &row);
    if by_id {
        return Ok(Reply::ok(&json!({"service": view})));
    }
    let mut short = json!({"host": view["host"], "binary": view["binary"]});
    let keys: &[&str] = match (disabled.is_some(), row.disabled_reason.is_some()) {
        (true, true) => &["status", "disabled_reason"],
        (true, false) => &["status"],
        (false, _) => &["forced_down"],
    };
    for key in keys {
        short[*key] = view[*key].clone();
    }
    Ok(Reply::ok(&json!({"service": short})))
}

struct Host {
    uuid: String,
    disabled: bool,
    forced_down: bool,
    disabled_reason: Option<String>,
    service_id: i64,
    service_uuid: String,
    usage: Vec<Usage>,
    servers: Vec<(String, String)>,
    /// What suspended servers take of the disk beside what every server was promised.
    suspended_gib: i64,
}

async fn host(app: &App) -> Result<Host> {
    let (mut host, suspended) = app
        .db
        .read(|tx| {
            let uuid = store::node_uuid(tx)?;
            let row = store::list(tx)?.into_iter().find(|row| row.binary == "nova-compute");
            let row = row.ok_or_else(|| Error::new(Kind::NotFound, "No hypervisor is set up."))?;
            let host = Host {
                usage: placement::peer::usage(tx, &uuid)?,
                uuid,
                disabled: row.disabled,
                forced_down: row.forced_down,
                disabled_reason: row.disabled_reason,
                service_id: row.id,
                service_uuid: row.uuid,
                servers: servers::store::names(tx)?,
                suspended_gib: 0,
            };
            Ok::<_, Error>((host, servers::store::suspended(tx)?))
        })
        .await?;
    let suspended = suspended.iter().filter_map(|id| uuid::Uuid::try_parse(id).ok()).collect();
    let bytes = app.driver.suspended_bytes(suspended).await;
    host.suspended_gib = i64::try_from(bytes.div_ceil(1 << 30)).unwrap_or(i64::MAX);
    Ok(host)
}

impl Host {
    fn of(&self, class: &str) -> (i64, i64) {
        self.usage
            .iter()
            .find(|usage| usage.class == class)
            .map_or((0, 0), |usage| (usage.total, usage.used + usage.reserved))
    }

    fn id(&self, ctx: &Ctx) -> Value {
        if ctx.since(2, 53) { json!(self.uuid) } else { json!(1) }
    }

    fn numbers(&self) -> Value {
        let ((vcpus, vcpus_used), (ram, ram_used), (disk, disk_used)) =
            (self.of("VCPU"), self.of("MEMORY_MB"), self.of("DISK_GB"));
        json!({
            "vcpus": vcpus,
            "vcpus_used": vcpus_used,
            "memory_mb": ram,
            "memory_mb_used": ram_used,
            "free_ram_mb": ram - ram_used,
            "local_gb": disk,
            "local_gb_used": disk_used,
            "free_disk_gb": disk - disk_used,
            "running_vms": self.servers.len(),
            "current_workload": 0,
        })
    }

    fn disk_available_least(&self) -> i64 {
        let (disk, used) = self.of("DISK_GB");
        disk - used - self.suspended_gib
    }

    fn brief(&self, app: &App, ctx: &Ctx) -> Value {
        json!({
            "id": self.id(ctx),
            "hypervisor_hostname": app.options.host_name,
            "state": if self.forced_down { "down" } else { "up" },
            "status": if self.disabled { "disabled" } else { "enabled" },
        })
    }

    fn detail(&self, app: &App, ctx: &Ctx) -> Value {
        let mut view = self.numbers();
        if let (Value::Object(view), Value::Object(brief)) = (&mut view, self.brief(app, ctx)) {
            view.extend(brief);
        }
        let options = &app.options;
        let service_id = if ctx.since(2, 53) { json!(self.service_uuid) } else { json!(self.service_id) };
        view["service"] = json!({"id": service_id, "host": options.host_name, "disabled_reason": self.disabled_reason});
        view["host_ip"] = json!(options.host_address);
        // The word users look for, and why it is this one.
        view["hypervisor_type"] = json!(match options.driver {
            vmspec::Driver::Kvm => "KVM",
            vmspec::Driver::Tcg => "QEMU",
            vmspec::Driver::Fake => "fake",
        });
        view["hypervisor_version"] = json!(options.hypervisor_version);
        view["disk_available_least"] = json!(self.disk_available_least());
        let info = json!({
            "arch": std::env::consts::ARCH,
            "model": options.driver.as_str(),
            "vendor": options.driver_reason,
            "features": [],
            "topology": {"sockets": 1, "cores": self.of("VCPU").0, "threads": 1},
        });
        view["cpu_info"] = if ctx.since(2, 28) { info } else { json!(info.to_string()) };
        view
    }

    fn with_servers(&self, mut view: Value) -> Value {
        if !self.servers.is_empty() {
            let list: Vec<Value> = self.servers.iter().map(|(id, name)| json!({"uuid": id, "name": name})).collect();
            view["servers"] = json!(list);
        }
        view
    }
}

pub(crate) async fn hypervisors(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    ctx.allow(policy::HYPERVISORS, &target(&[]))?;
    hypervisor_list(&app, &ctx, params, false).await
}

pub(crate) async fn hypervisors_detail(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    ctx.allow(policy::HYPERVISORS_DETAIL, &target(&[]))?;
    hypervisor_list(&app, &ctx, params, true).await
}

async fn hypervisor_list(app: &App, ctx: &Ctx, mut params: Params, detail: bool) -> Result<Reply> {
    let host = host(app).await?;
    let pattern = params.take("hypervisor_hostname_pattern").filter(|_| ctx.since(2, 53));
    if let Some(pattern) = &pattern
        && !app.options.host_name.contains(pattern.as_str())
    {
        return Err(Error::new(Kind::NotFound, format!("No hypervisor matching '{pattern}' could be found.")));
    }
    let with_servers = params.take_bool("with_servers")?.unwrap_or(false) && ctx.since(2, 53);
    let beyond = ctx.since(2, 33) && params.take("marker").is_some_and(|marker| marker == host.uuid || marker == "1");
    let view = if detail { host.detail(app, ctx) } else { host.brief(app, ctx) };
    let view = if with_servers { host.with_servers(view) } else { view };
    Ok(Reply::ok(&json!({"hypervisors": if beyond { vec![] } else { vec![view] }})))
}

pub(crate) async fn hypervisor(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    mut params: Params,
) -> Result<Reply> {
    ctx.allow(policy::HYPERVISORS_SHOW, &target(&[]))?;
    let host = named(&app, &ctx, &id).await?;
    let view = host.detail(&app, &ctx);
    let with_servers = ctx.since(2, 53) && params.take_bool("with_servers")?.unwrap_or(false);
    Ok(Reply::ok(&json!({"hypervisor": if with_servers { host.with_servers(view) } else { view }})))
}

/// The host, if `id` is its: a number before 2.53, a UUID since.
async fn named(app: &App, ctx: &Ctx, id: &str) -> Result<Host> {
    if ctx.since(2, 53) && !is_uuid(id) {
        return Err(Error::bad_request(format!("Invalid uuid {id}")));
    }
    let host = host(app).await?;
    let own = host.id(ctx);
    if own.as_str().map_or_else(|| own.to_string(), str::to_owned) != id {
        return Err(Error::new(Kind::NotFound, format!("Hypervisor with ID '{id}' could not be found.")));
    }
    Ok(host)
}

/// What uptime(1) prints, which is what clients take apart. (From 2.88 on, which is not announced, a part of the hypervisor.)
pub(crate) async fn uptime(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(policy::HYPERVISORS_UPTIME, &target(&[]))?;
    let host = named(&app, &ctx, &id).await?;
    let read = |path: &str| std::fs::read_to_string(path).map_err(Error::internal);
    let (up, load) = (read("/proc/uptime")?, read("/proc/loadavg")?);
    let mut view = host.brief(&app, &ctx);
    view["uptime"] = json!(uptime_line(app.clock.now(), &up, &load));
    Ok(Reply::ok(&json!({"hypervisor": view})))
}

/// ` 12:01:02 up 3 days,  1:02,  0 users,  load average: 0.20, 0.12, 0.14`, of the contents of `/proc/uptime` and
/// `/proc/loadavg`.
fn uptime_line(now: time::OffsetDateTime, up: &str, load: &str) -> String {
    let seconds: u64 = up.split('.').next().and_then(|whole| whole.parse().ok()).unwrap_or_default();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let days = match days {
        0 => String::new(),
        1 => "1 day, ".to_owned(),
        many => format!("{many} days, "),
    };
    let since = if hours == 0 { format!("{minutes} min") } else { format!("{hours:2}:{minutes:02}") };
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    let (hour, minute, second) = now.to_hms();
    format!(" {hour:02}:{minute:02}:{second:02} up {days}{since},  0 users,  load average: {}", load.join(", "))
}

pub(crate) async fn statistics(State(app): State<App>, ctx: Ctx) -> Result<Reply> {
    ctx.allow(policy::HYPERVISORS_STATISTICS, &target(&[]))?;
    let host = host(&app).await?;
    let mut view = host.numbers();
    view["count"] = json!(1);
    view["disk_available_least"] = json!(host.disk_available_least());
    Ok(Reply::ok(&json!({"hypervisor_statistics": view})))
}

#[cfg(test)]
mod tests {
    use super::uptime_line;

    #[test]
    fn uptime_reads_as_the_program_of_that_name_prints_it() {
        let now = time::macros::datetime!(2026-01-02 03:04:05 UTC);
        let line = |up: &str| uptime_line(now, up, "0.20 0.12 0.14 1/123 4567\n");
        assert_eq!(line("263000.5 1.0\n"), " 03:04:05 up 3 days,  1:03,  0 users,  load average: 0.20, 0.12, 0.14");
        assert_eq!(line("90000.00 1"), " 03:04:05 up 1 day,  1:00,  0 users,  load average: 0.20, 0.12, 0.14");
        assert_eq!(line("600.00 1"), " 03:04:05 up 10 min,  0 users,  load average: 0.20, 0.12, 0.14");
    }
}

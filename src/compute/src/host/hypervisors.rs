//! Requests about the hypervisor, which is this machine.

use axum::extract::{Path, State};
use placement::peer::Usage;
use rest::{Ctx, Error, Kind, Params, Reply, Result, is_uuid, target};
use serde_json::{Value, json};

use super::{policy, store};
use crate::{App, servers};

/// This machine as a hypervisor.
pub(crate) struct Host {
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

pub(crate) async fn host(app: &App) -> Result<Host> {
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
    /// All of a class, and what is taken of it.
    pub(crate) fn of(&self, class: &str) -> (i64, i64) {
        self.usage
            .iter()
            .find(|usage| usage.class == class)
            .map_or((0, 0), |usage| (usage.total, usage.used + usage.reserved))
    }

    fn id(&self, ctx: &Ctx) -> Value {
        if ctx.since(2, 53) { json!(self.uuid) } else { json!(1) }
    }

    fn id_text(&self, ctx: &Ctx) -> String {
        if ctx.since(2, 53) { self.uuid.clone() } else { "1".to_owned() }
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

    /// Since 2.88 with the uptime, and without what Placement says.
    fn detail(&self, app: &App, ctx: &Ctx) -> Result<Value> {
        let mut view = self.brief(app, ctx);
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
        if ctx.since(2, 88) {
            view["uptime"] = json!(uptime_now(app)?);
            return Ok(view);
        }
        if let (Value::Object(view), Value::Object(numbers)) = (&mut view, self.numbers()) {
            view.extend(numbers);
        }
        view["disk_available_least"] = json!(self.disk_available_least());
        let info = json!({
            "arch": std::env::consts::ARCH,
            "model": options.driver.as_str(),
            "vendor": options.driver_reason,
            "features": [],
            "topology": {"sockets": 1, "cores": self.of("VCPU").0, "threads": 1},
        });
        view["cpu_info"] = if ctx.since(2, 28) { info } else { json!(info.to_string()) };
        Ok(view)
    }

    /// Its servers; where there are none, an empty list since 2.75, and nothing before.
    fn with_servers(&self, ctx: &Ctx, mut view: Value) -> Value {
        if ctx.since(2, 75) || !self.servers.is_empty() {
            let list: Vec<Value> = self.servers.iter().map(|(id, name)| json!({"uuid": id, "name": name})).collect();
            view["servers"] = json!(list);
        }
        view
    }
}

pub(crate) async fn index(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    ctx.allow(policy::HYPERVISORS, &target(&[]))?;
    list(&app, &ctx, params, false).await
}

pub(crate) async fn detail(State(app): State<App>, ctx: Ctx, params: Params) -> Result<Reply> {
    ctx.allow(policy::HYPERVISORS_DETAIL, &target(&[]))?;
    list(&app, &ctx, params, true).await
}

async fn list(app: &App, ctx: &Ctx, mut params: Params, detail: bool) -> Result<Reply> {
    let pattern = params.take("hypervisor_hostname_pattern").filter(|_| ctx.since(2, 53));
    let with_servers = params.take_bool("with_servers")?.unwrap_or(false) && ctx.since(2, 53);
    let (limit, marker) = (params.take("limit"), params.take("marker"));
    if ctx.since(2, 75) {
        params.finish()?;
    }
    let mut shown = true;
    if ctx.since(2, 33) {
        if pattern.is_some() && (limit.is_some() || marker.is_some()) {
            return Err(Error::bad_request(
                "Paging is not supported with the 'hypervisor_hostname_pattern' query parameter.",
            ));
        }
        if let Some(limit) = limit {
            let bad =
                || Error::bad_request(format!("Invalid input for query parameter limit: {limit:?} is no number."));
            shown = limit.parse::<u32>().map_err(|_| bad())? > 0;
        }
    }
    let host = host(app).await?;
    if let Some(pattern) = &pattern {
        found(app, pattern)?;
    }
    if let Some(marker) = marker.filter(|_| ctx.since(2, 33)) {
        if marker != host.id_text(ctx) {
            return Err(Error::bad_request(format!("marker [{marker}] not found")));
        }
        shown = false;
    }
    let view = if detail { host.detail(app, ctx)? } else { host.brief(app, ctx) };
    let view = if with_servers { host.with_servers(ctx, view) } else { view };
    Ok(Reply::ok(&json!({"hypervisors": if shown { vec![view] } else { vec![] }})))
}

fn found(app: &App, pattern: &str) -> Result<()> {
    if app.options.host_name.contains(pattern) {
        return Ok(());
    }
    Err(Error::new(Kind::NotFound, format!("No hypervisor matching '{pattern}' could be found.")))
}

/// Until 2.52; a filter of the list since.
pub(crate) async fn search(State(app): State<App>, ctx: Ctx, Path(pattern): Path<String>) -> Result<Reply> {
    ctx.allow(policy::HYPERVISORS_SEARCH, &target(&[]))?;
    found(&app, &pattern)?;
    let host = host(&app).await?;
    Ok(Reply::ok(&json!({"hypervisors": [host.brief(&app, &ctx)]})))
}

/// Until 2.52; `with_servers` of the list since.
pub(crate) async fn servers(State(app): State<App>, ctx: Ctx, Path(pattern): Path<String>) -> Result<Reply> {
    ctx.allow(policy::HYPERVISORS_SERVERS, &target(&[]))?;
    found(&app, &pattern)?;
    let host = host(&app).await?;
    let view = host.with_servers(&ctx, host.brief(&app, &ctx));
    Ok(Reply::ok(&json!({"hypervisors": [view]})))
}

pub(crate) async fn show(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    mut params: Params,
) -> Result<Reply> {
    ctx.allow(policy::HYPERVISORS_SHOW, &target(&[]))?;
    let host = named(&app, &ctx, &id).await?;
    let view = host.detail(&app, &ctx)?;
    let with_servers = ctx.since(2, 53) && params.take_bool("with_servers")?.unwrap_or(false);
    Ok(Reply::ok(&json!({"hypervisor": if with_servers { host.with_servers(&ctx, view) } else { view }})))
}

/// The host, if `id` is its: a number before 2.53, a UUID since.
async fn named(app: &App, ctx: &Ctx, id: &str) -> Result<Host> {
    if ctx.since(2, 53) && !is_uuid(id) {
        return Err(Error::bad_request(format!("Invalid uuid {id}")));
    }
    let host = host(app).await?;
    if host.id_text(ctx) != id {
        return Err(Error::new(Kind::NotFound, format!("Hypervisor with ID '{id}' could not be found.")));
    }
    Ok(host)
}

/// Until 2.87; a part of the hypervisor since.
pub(crate) async fn uptime(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    ctx.allow(policy::HYPERVISORS_UPTIME, &target(&[]))?;
    if ctx.since(2, 88) {
        return Err(Error::no_such_route());
    }
    let host = named(&app, &ctx, &id).await?;
    let mut view = host.brief(&app, &ctx);
    view["uptime"] = json!(uptime_now(&app)?);
    Ok(Reply::ok(&json!({"hypervisor": view})))
}

/// What uptime(1) prints, which is what clients take apart.
fn uptime_now(app: &App) -> Result<String> {
    let read = |path: &str| std::fs::read_to_string(path).map_err(Error::internal);
    Ok(uptime_line(app.clock.now(), &read("/proc/uptime")?, &read("/proc/loadavg")?))
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
    if ctx.since(2, 88) {
        return Err(Error::no_such_route());
    }
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

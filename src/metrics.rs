//! `GET /metrics`: numbers for graphs and alarms, in Prometheus' text format.
//!
//! Who may read what:
//! - who shows the token of the configuration (`metrics.token_sha256`, as `Authorization: Bearer`): everything;
//! - programs on this machine (loopback), when they show no token: aggregates, which name no server, project, user or address;
//! - everybody else: nothing.
//!
//! Labels are bounded: services, route patterns, statuses, kinds. Ids stand in the series of single servers alone.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Extension, State},
    response::{IntoResponse, Response},
    routing::get,
};
use db::Db;
use http::{HeaderMap, StatusCode, header};
use rest::Arrival;
use tasks::Engine;

use crate::{
    exposition::{CONTENT_TYPE, Exposition, Kind},
    monitor::Monitor,
    process,
};

/// For looking at the cloud, and for asking its servers: together less than a scraper waits.
const PATIENCE: Duration = Duration::from_secs(3);

/// What numbers come from. Clones share everything.
#[derive(Clone, Debug)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    monitor: Monitor,
    db: Db,
    engine: Engine,
    compute: compute::App,
    tls: Option<tls::Authority>,
    state_dir: std::path::PathBuf,
    /// SHA-256 of the token that may see single servers.
    token: Option<[u8; 32]>,
}

/// How much somebody may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    Aggregates,
    Everything,
}

impl Metrics {
    #[must_use]
    pub fn new(
        monitor: Monitor,
        db: Db,
        engine: Engine,
        compute: compute::App,
        tls: Option<tls::Authority>,
        config: &config::Config,
    ) -> Self {
        let (state_dir, token) = (config.state_dir.clone(), config.metrics.token_sha256);
        Self { inner: Arc::new(Inner { monitor, db, engine, compute, tls, state_dir, token }) }
    }

    pub fn pages(&self) -> Router {
        Router::new().route("/metrics", get(show)).with_state(self.clone())
    }

    /// `None`: nothing at all.
    fn sight(&self, peer: IpAddr, headers: &HeaderMap) -> Option<Sight> {
        match headers.get(header::AUTHORIZATION) {
            // Who shows a token wants what it is for: a wrong one is not taken for none.
            Some(value) => {
                let (scheme, shown) = value.to_str().ok()?.split_once(' ')?;
                let wanted = self.inner.token?;
                let right = scheme.eq_ignore_ascii_case("bearer") && appliance::secret::is_of(shown.trim(), &wanted);
                right.then_some(Sight::Everything)
            }
            None => peer.to_canonical().is_loopback().then_some(Sight::Aggregates),
        }
    }

    async fn text(&self, sight: Sight) -> String {
        let mut text = Exposition::default();
        let inner = &*self.inner;
        let ready = inner.monitor.probe(PATIENCE).await.is_ok();
        text.family("solostack_build_info", Kind::Gauge, "The program's version.")
            .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        text.family("solostack_ready", Kind::Gauge, "Whether every API and the database answer.")
            .sample(&[], u8::from(ready));
        process::write(&mut text, &inner.state_dir);
        self.requests(&mut text);
        self.database(&mut text);
        self.operations(&mut text);
        self.certificates(&mut text).await;
        self.machine(&mut text).await;
        if let Some(sending) = appliance::syslog::own() {
            let counts = sending.counts();
            text.family("solostack_syslog_sent_total", Kind::Counter, "Messages that went to the syslog server.")
                .sample(&[], counts.sent);
            text.family("solostack_syslog_lost_total", Kind::Counter, "Messages that did not fit into the queue.")
                .sample(&[], counts.lost);
            text.family("solostack_syslog_waiting", Kind::Gauge, "Messages that wait for the syslog server.")
                .sample(&[], counts.waiting);
        }
        if sight == Sight::Everything {
            self.guests(&mut text).await;
        }
        text.finish()
    }

    fn requests(&self, text: &mut Exposition) {
        let Some(gateway) = self.inner.monitor.gateway() else { return };
        let all = gateway.requests();
        text.family(
            "solostack_requests_total",
            Kind::Counter,
            "Requests by service and status; pages are the dashboard.",
        );
        for requests in &all {
            for (status, count) in &requests.statuses {
                text.sample(&[("service", requests.service), ("status", &status.to_string())], count);
            }
        }
        text.family(
            "solostack_request_duration_seconds",
            Kind::Histogram,
            "Until the head of the answer was there, by route pattern; without one, what no route answered.",
        );
        for requests in &all {
            for (method, route, durations) in &requests.durations {
                text.durations(&[("service", requests.service), ("method", method), ("route", route)], durations);
            }
        }
    }

    fn database(&self, text: &mut Exposition) {
        let activity = self.inner.db.activity();
        text.family("solostack_database_writes_total", Kind::Counter, "Writes that the database's writer took up.")
            .sample(&[], activity.writes);
        text.family("solostack_database_writes_waiting", Kind::Gauge, "Writes that wait for the writer.")
            .sample(&[], activity.waiting);
        text.family("solostack_database_commit_failures_total", Kind::Counter, "Commits that failed.")
            .sample(&[], activity.failed);
        text.family("solostack_database_commit_duration_seconds", Kind::Histogram, "Until a commit was on the disk.")
            .durations(&[], &activity.commits);
        text.family("solostack_database_size_bytes", Kind::Gauge, "Size of the database and of its write-ahead log.");
        let path = self.inner.db.path();
        for (file, path) in [("database", path.to_owned()), ("log", path.with_extension("db-wal"))] {
            let size = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
            text.sample(&[("file", file)], size);
        }
    }

    fn operations(&self, text: &mut Exposition) {
        type Group = (String, &'static str, i64);
        let groups: db::Result<Vec<Group>> = self.inner.db.read_blocking(|tx| {
            let sql =
                "SELECT kind, attempt > 0 AS again, count(*) FROM tasks_task GROUP BY kind, again ORDER BY kind, again";
            tx.list(sql, [], |row| Ok((row.get(0)?, if row.get(1)? { "retrying" } else { "running" }, row.get(2)?)))
        });
        text.family(
            "solostack_operations",
            Kind::Gauge,
            "Operations under way, by kind; retrying: a step of it failed.",
        );
        for (kind, state, count) in groups.unwrap_or_default() {
            text.sample(&[("kind", &kind), ("state", state)], count);
        }
        text.family("solostack_reconciler_failures", Kind::Gauge, "Rounds of a reconciler that failed in a row.");
        for round in self.inner.engine.rounds() {
            text.sample(&[("reconciler", round.name)], round.failures);
        }
    }

    async fn certificates(&self, text: &mut Exposition) {
        let Some(tls) = self.inner.tls.clone() else { return };
        // It may block on files.
        let Ok(chain) = tokio::task::spawn_blocking(move || tls.certificates()).await else { return };
        text.family(
            "solostack_certificate_expiry_timestamp_seconds",
            Kind::Gauge,
            "When a certificate of the chain ends.",
        );
        for certificate in chain {
            let place = match certificate.place {
                tls::Place::Leaf => "leaf",
                tls::Place::Intermediate => "intermediate",
                tls::Place::Root => "root",
            };
            text.sample(&[("place", place)], certificate.not_after.unix_timestamp());
        }
    }

    async fn machine(&self, text: &mut Exposition) {
        let compute = &self.inner.compute;
        text.family("solostack_servers", Kind::Gauge, "Servers by status.");
        for (status, count) in compute.servers_by_status().await.unwrap_or_default() {
            text.sample(&[("status", status)], count);
        }
        let shares = compute.shares().await.unwrap_or_default();
        text.family("solostack_capacity", Kind::Gauge, "What may be promised to servers, by resource class.");
        for share in &shares {
            text.sample(&[("class", &share.class)], share.capacity);
        }
        text.family("solostack_capacity_used", Kind::Gauge, "What is promised to servers, by resource class.");
        for share in &shares {
            text.sample(&[("class", &share.class)], share.used);
        }
    }

    async fn guests(&self, text: &mut Exposition) {
        let mut guests = self.inner.compute.guests(PATIENCE).await.unwrap_or_default();
        guests.sort_by(|left, right| left.server_id.cmp(&right.server_id));
        text.family("solostack_server_info", Kind::Gauge, "A running server and its project.");
        for guest in &guests {
            text.sample(&[("server_id", &guest.server_id), ("project_id", &guest.project_id)], 1);
        }
        text.family("solostack_server_cpu_seconds_total", Kind::Counter, "Processor time of a server and its devices.");
        for guest in &guests {
            #[expect(clippy::cast_precision_loss, reason = "three digits behind the point")]
            let seconds = guest.statistics.cpu_time_ms as f64 / 1e3;
            text.sample(&[("server_id", &guest.server_id)], seconds);
        }
        text.family("solostack_server_memory_bytes", Kind::Gauge, "Memory that a server has.");
        for guest in &guests {
            text.sample(&[("server_id", &guest.server_id)], guest.memory_mib.saturating_mul(1 << 20));
        }
        text.family(
            "solostack_server_memory_resident_bytes",
            Kind::Gauge,
            "Memory of this machine that a server takes.",
        );
        for guest in &guests {
            text.sample(&[("server_id", &guest.server_id)], guest.statistics.resident_bytes);
        }
        type OfDisk = fn(&vmspec::protocol::DiskStatistics) -> u64;
        let of_disks: [(&'static str, &str, OfDisk); 5] = [
            ("solostack_server_disk_read_bytes_total", "Read from a disk.", |disk| disk.read_bytes),
            ("solostack_server_disk_written_bytes_total", "Written to a disk.", |disk| disk.written_bytes),
            ("solostack_server_disk_reads_total", "Reads of a disk.", |disk| disk.read_operations),
            ("solostack_server_disk_writes_total", "Writes to a disk.", |disk| disk.write_operations),
            ("solostack_server_disk_errors_total", "Requests of a disk that failed.", |disk| disk.errors),
        ];
        for (name, help, value) in of_disks {
            text.family(name, Kind::Counter, help);
            for guest in &guests {
                for disk in &guest.statistics.disks {
                    text.sample(&[("server_id", &guest.server_id), ("slot", &disk.slot.to_string())], value(disk));
                }
            }
        }
        type OfNic = fn(&compute::NicCounters) -> u64;
        let of_nics: [(&'static str, &str, OfNic); 2] = [
            ("solostack_server_network_received_bytes_total", "Received by a port.", |nic| nic.received_bytes),
            ("solostack_server_network_sent_bytes_total", "Sent by a port.", |nic| nic.sent_bytes),
        ];
        for (name, help, value) in of_nics {
            text.family(name, Kind::Counter, help);
            for guest in &guests {
                for nic in &guest.nics {
                    text.sample(&[("server_id", &guest.server_id), ("port_id", &nic.port_id)], value(nic));
                }
            }
        }
    }
}

/// `GET /metrics`.
async fn show(State(metrics): State<Metrics>, Extension(arrival): Extension<Arrival>, headers: HeaderMap) -> Response {
    match metrics.sight(arrival.peer.ip(), &headers) {
        Some(sight) => {
            let headers = [(header::CONTENT_TYPE, CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")];
            (headers, metrics.text(sight).await).into_response()
        }
        None => {
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer realm=\"solostack metrics\"")];
            let text = "Metrics need the token whose SHA-256 stands in the configuration (metrics.token_sha256).\n";
            (StatusCode::UNAUTHORIZED, challenge, text).into_response()
        }
    }
}

//! Whether the cloud works, found out as its users would: an API request to each service, a write and a read of the
//! database. `/healthz` and `/readyz` say it to whoever asks, the watchdog to systemd.
//!
//! What must stay true:
//! - a probe ends by its deadline, whatever hangs;
//! - however many ask, the database is written to at most once a second;
//! - nothing here says anything of tenants.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use appliance::notify::{Notifier, Word};
use axum::{Router, body::Body, extract::State, routing::get};
use db::{Clock, Db, params};
use http::{Request, StatusCode, header};
use rest::{Arrival, Gateway};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// Longer than anything that is probed takes, also on a disk under load; shorter than anybody's patience.
const DEADLINE: Duration = Duration::from_secs(5);
/// For how long an answer is good.
const FRESH: Duration = Duration::from_secs(1);

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Not yet, or no longer.
    Closed(&'static str),
    /// It answers that it cannot, for a reason that a start anew does not mend: a full disk.
    Refuses(String),
    /// It does not answer, or answers nonsense.
    Broken(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(reason) => f.write_str(reason),
            Self::Refuses(reason) | Self::Broken(reason) => f.write_str(reason),
        }
    }
}

/// What a probe found, and when.
type Found = Option<(Instant, Result<(), Trouble>)>;

/// Looks at the cloud. Clones share everything.
#[derive(Clone, Debug)]
pub struct Monitor {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    db: Db,
    clock: Clock,
    gateway: OnceLock<Weak<Gateway>>,
    stopping: AtomicBool,
    /// The last probe; held while the next one runs, so that there is one at a time.
    last: Mutex<Found>,
}

impl Monitor {
    #[must_use]
    pub fn new(db: Db, clock: Clock) -> Self {
        let inner =
            Inner { db, clock, gateway: OnceLock::new(), stopping: AtomicBool::new(false), last: Mutex::new(None) };
        Self { inner: Arc::new(inner) }
    }

    /// The door to the APIs, once there is one.
    pub fn connect(&self, gateway: &Arc<Gateway>) {
        let _ = self.inner.gateway.set(Arc::downgrade(gateway));
    }

    /// From here on nobody is to send anything new.
    pub fn close(&self) {
        self.inner.stopping.store(true, Ordering::Relaxed);
    }

    /// `/healthz` and `/readyz`.
    pub fn pages(&self) -> Router {
        Router::new().route("/healthz", get(alive)).route("/readyz", get(ready)).with_state(self.clone())
    }

    /// The gateway, if it is there.
    #[must_use]
    pub fn gateway(&self) -> Option<Arc<Gateway>> {
        self.inner.gateway.get().and_then(Weak::upgrade)
    }

    /// Whether every API and the database answer. What was found less than a second ago is found again.
    ///
    /// # Errors
    /// The first thing that does not.
    pub async fn probe(&self, deadline: Duration) -> Result<(), Trouble> {
        if self.inner.stopping.load(Ordering::Relaxed) {
            return Err(Trouble::Closed("The cloud is stopping."));
        }
        let mut last = self.inner.last.lock().await;
        if let Some((at, found)) = &*last
            && at.elapsed() < FRESH
        {
            return found.clone();
        }
        let found = self.look(deadline).await;
        *last = Some((Instant::now(), found.clone()));
        found
    }

    async fn look(&self, deadline: Duration) -> Result<(), Trouble> {
        let Some(gateway) = self.gateway() else { return Err(Trouble::Closed("The cloud is starting.")) };
        let end = tokio::time::Instant::now() + deadline;
        let late = |what: &str| Trouble::Broken(format!("{what} gives no answer within {} ms.", deadline.as_millis()));
        let written = tokio::time::timeout_at(end, self.database()).await;
        written.unwrap_or_else(|_| Err(late("The database")))?;
        for info in gateway.services() {
            let answered = tokio::time::timeout_at(end, service(&gateway, info.kind, info.prefix)).await;
            answered.unwrap_or_else(|_| Err(late(&format!("The service {}", info.kind))))?;
        }
        Ok(())
    }

    /// A row is written, durably, and read again as others would read it.
    async fn database(&self) -> Result<(), Trouble> {
        let now = self.inner.clock.now_text();
        let at = now.clone();
        let written = self.inner.db.write(move |tx| {
            tx.execute(
                "INSERT INTO system_probe (id, at) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET at = ?1",
                params![at],
            )
        });
        match written.await {
            Ok(_) => (),
            Err(db::Error::Full) => return Err(Trouble::Refuses("The disk of the database is full.".into())),
            Err(error) => {
                tracing::error!(%error, "a probe could not write to the database");
                return Err(Trouble::Broken("The database cannot be written to.".into()));
            }
        }
        let read = self
            .inner
            .db
            .read(|tx| tx.find("SELECT at FROM system_probe WHERE id = 1", [], |row| row.get::<_, String>(0)));
        match read.await {
            Ok(Some(at)) if at >= now => Ok(()),
            Ok(_) => Err(Trouble::Broken("The database does not have what was written to it.".into())),
            Err(error) => {
                let error: db::Error = error;
                tracing::error!(%error, "a probe could not read the database");
                Err(Trouble::Broken("The database cannot be read.".into()))
            }
        }
    }
}

/// A service's version document.
async fn service(gateway: &Gateway, kind: &str, prefix: &str) -> Result<(), Trouble> {
    let broken = |what: String| Trouble::Broken(format!("The service {kind} {what}"));
    let request = Request::get(format!("{prefix}/")).body(Body::empty());
    let request = request.map_err(|error| broken(format!("has no address: {error}.")))?;
    let peer = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let response = gateway.handle(Arrival { peer, scheme: "https", service: None }, request).await;
    match response.status() {
        StatusCode::OK | StatusCode::MULTIPLE_CHOICES => Ok(()),
        status => Err(broken(format!("answers {status}."))),
    }
}

const PLAIN: [(header::HeaderName, &str); 2] =
    [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];

type Page = (StatusCode, [(header::HeaderName, &'static str); 2], String);

/// `GET /healthz`: the program runs and answers.
async fn alive() -> Page {
    (StatusCode::OK, PLAIN, "ok\n".into())
}

/// `GET /readyz`: 200 when APIs and database answer, else 503 with the reason.
async fn ready(State(monitor): State<Monitor>) -> Page {
    match monitor.probe(DEADLINE).await {
        Ok(()) => (StatusCode::OK, PLAIN, "ready\n".into()),
        Err(trouble) => (StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{trouble}\n")),
    }
}

/// Tells systemd again and again that all is well, as long as it is, at half the time that it waits.
pub async fn feed(notifier: Arc<Notifier>, monitor: Monitor, well: String, stop: CancellationToken) {
    let Some(patience) = notifier.watchdog() else { return };
    let mut turn = tokio::time::interval(patience / 2);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut trouble = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = turn.tick() => (),
        }
        let found = tokio::select! {
            () = stop.cancelled() => return,
            found = monitor.probe(patience / 2) => found.err(),
        };
        if found != trouble {
            match &found {
                None => tracing::info!("all APIs and the database answer again"),
                Some(reason) => tracing::error!(%reason, "not all is well; the watchdog is told"),
            }
        }
        let status = found.as_ref().map_or_else(|| well.clone(), ToString::to_string);
        let fed = !matches!(found, Some(Trouble::Broken(_)));
        let words = [Word::Status(&status), Word::Watchdog];
        if let Err(error) = notifier.say(if fed { &words } else { &words[..1] }) {
            tracing::warn!(%error, "systemd does not hear that all is well");
        }
        trouble = found;
    }
}

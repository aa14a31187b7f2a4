//! From rows to the kernel. A round reads everything that is wanted, compares it with what was last applied, and applies
//! what differs; from time to time it looks at the kernel itself, so that what is missing comes back and what is left over
//! goes.
//!
//! What must stay true:
//! - One lane per network: a round and a `plug` never work on the same namespace at once. Whoever comes while a pass runs
//!   waits for the next one, which serves all that came: of one network there is one pass at work and one to come.
//! - A plan is read, applied and dropped; only its outline is kept.
//! - A plan counts as applied only when all of it was. What failed is tried again.
//! - Before anything is removed its row is looked for again, inside its lane: a network made after this round read the
//!   rows is not a leftover.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use db::params;
use futures::{StreamExt, stream};
use hostnet::Id;

use crate::{
    App, MetadataHandler,
    desired::{self, NetworkPlan, Outline, RouterPlan},
    metadata,
    query::id_list,
};

/// How often the kernel itself is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Namespaces worked on at once.
const LANES: usize = 4;
/// Between rounds that follow each other, this many times the length of the former: writes that come one by one do not
/// each pay for a look at everything.
const REST: u32 = 4;
/// At most: a change reaches running servers within a second.
const REST_MAX: Duration = Duration::from_millis(500);

/// What is known of the kernel, shared by all clones of [`App`]. Nothing here outlives the process, and nothing needs to.
#[derive(Default)]
pub(crate) struct State {
    networks: Mutex<HashMap<Id, Applied>>,
    routers: Mutex<HashMap<Id, RouterPlan>>,
    lanes: Mutex<HashMap<Id, Arc<Lane>>>,
    listeners: Mutex<HashMap<Id, tokio::task::JoinHandle<()>>>,
    looked_at: Mutex<Option<Instant>>,
    round: tokio::sync::Mutex<Rounds>,
    /// Moves before something in the kernel is changed, and when it is known not to be as it was left.
    doubts: AtomicU64,
    handler: Arc<RwLock<Option<MetadataHandler>>>,
}

/// What was last applied of a network.
struct Applied {
    outline: Outline,
    /// The generation of the rows, as it was before they were read: while it stays there is nothing to read.
    generation: u64,
}

/// What is known of rounds.
#[derive(Default)]
struct Rounds {
    /// Generation and doubts before the last round, if all of it succeeded.
    settled: Option<(u64, u64)>,
    /// When the last round ended, and how long it took.
    last: Option<(Instant, Duration)>,
}

/// Whoever works on a network holds `pass`.
#[derive(Default)]
struct Lane {
    /// How many have asked for a pass so far.
    asked: AtomicU64,
    pass: tokio::sync::Mutex<Pass>,
}

/// The last pass: who had asked when it began, and what became of it.
#[derive(Default)]
struct Pass {
    serves: u64,
    failure: Option<Failure>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("State")
    }
}

impl Drop for State {
    fn drop(&mut self) {
        for (_, task) in locked(&self.listeners).drain() {
            task.abort();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    pub(crate) fn set_metadata_handler(&self, handler: MetadataHandler) {
        *self.handler.write().unwrap_or_else(PoisonError::into_inner) = Some(handler);
    }

    fn lane(&self, id: Id) -> Arc<Lane> {
        let mut lanes = locked(&self.lanes);
        // Lanes that nobody is in are made anew when needed.
        if lanes.len() > 256 {
            lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        }
        Arc::clone(lanes.entry(id).or_default())
    }
}

/// Why the kernel is not as the rows say; told to all who waited for it.
#[derive(Clone, Debug)]
pub(crate) struct Failure(Arc<Cause>);

#[derive(Debug)]
enum Cause {
    Host(hostnet::Error),
    Rows(rest::Error),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &*self.0 {
            Cause::Host(error) => error.fmt(f),
            Cause::Rows(error) => write!(f, "{} {}", error.public(), error.causes()),
        }
    }
}

impl std::error::Error for Failure {}

impl From<hostnet::Error> for Failure {
    fn from(error: hostnet::Error) -> Self {
        Self(Arc::new(Cause::Host(error)))
    }
}

impl From<rest::Error> for Failure {
    fn from(error: rest::Error) -> Self {
        Self(Arc::new(Cause::Rows(error)))
    }
}

type Outcome<T = ()> = Result<T, Failure>;

/// The first failure of many, after all were tried.
#[derive(Default)]
struct First(Option<Failure>);

impl First {
    fn note<T>(&mut self, what: &'static str, id: Id, outcome: Outcome<T>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::warn!(id = %id, %error, "{what}");
                self.0.get_or_insert(error);
                None
            }
        }
    }
}

/// Waits until it is time for another round, and makes it.
pub(crate) async fn next_round(app: &App) -> Outcome {
    let last = app.state.round.lock().await.last;
    if let Some((ended, took)) = last {
        tokio::time::sleep_until((ended + (took * REST).min(REST_MAX)).into()).await;
    }
    round(app).await
}

pub(crate) async fn round(app: &App) -> Outcome {
    // Rounds are called one after the other; tests and `plug` may call in between.
    let mut rounds = app.state.round.lock().await;
    let start = Instant::now();
    let before = (app.db.generation("network").get(), app.state.doubts.load(Ordering::Acquire));
    let seen = look(app).await?;
    if seen.is_none() && rounds.settled == Some(before) {
        return Ok(());
    }
    rounds.settled = None;
    let outcome = whole_round(app, seen.unwrap_or_default()).await;
    if outcome.is_ok() {
        rounds.settled = Some(before);
    }
    rounds.last = Some((Instant::now(), start.elapsed()));
    outcome
}

async fn whole_round(app: &App, seen: Seen) -> Outcome {
    let mut first = First::default();
    let options = Arc::clone(&app.options);
    let wanted = app.db.read(move |tx| desired::load(tx, &options)).await?;

    let gone_routers: BTreeSet<Id> = {
        let applied = locked(&app.state.routers);
        let known = applied.keys().copied().chain(seen.routers.iter().copied());
        known.filter(|id| !wanted.routers.contains_key(id)).collect()
    };
    for id in gone_routers {
        first.note("removing a router", id, remove_router(app, id).await);
    }

    let changed: Vec<Id> = {
        let applied = locked(&app.state.networks);
        let differs =
            |(id, outline): &(&Id, &Outline)| applied.get(*id).is_none_or(|applied| applied.outline != **outline);
        wanted.networks.iter().filter(differs).map(|(id, _)| *id).collect()
    };
    let outcomes: Vec<(Id, Outcome)> = stream::iter(changed)
        .map(|id| async move { (id, sync_network(app, id).await) })
        .buffer_unordered(LANES)
        .collect()
        .await;
    for (id, outcome) in outcomes {
        first.note("applying a network", id, outcome);
    }

    let changed: Vec<(Id, RouterPlan)> = {
        let applied = locked(&app.state.routers);
        let differs = |(id, plan): &(Id, RouterPlan)| applied.get(id) != Some(plan);
        wanted.routers.iter().map(|(id, plan)| (*id, plan.clone())).filter(differs).collect()
    };
    let outcomes: Vec<(Id, Outcome)> = stream::iter(changed)
        .map(|(id, plan)| async move { (id, sync_router(app, id, plan).await) })
        .buffer_unordered(LANES)
        .collect()
        .await;
    for (id, outcome) in outcomes {
        first.note("applying a router", id, outcome);
    }
    mark_idle(app, &wanted.idle_ports).await?;

    let gone: BTreeSet<Id> = {
        let applied = locked(&app.state.networks);
        let known = applied.keys().copied().chain(seen.networks.keys().copied());
        known.filter(|id| !wanted.networks.contains_key(id)).collect()
    };
    for id in gone {
        first.note("removing a network", id, sync_network(app, id).await);
    }
    for (network_id, taps) in seen.networks {
        if let Some(outline) = wanted.networks.get(&network_id) {
            let stray = stray_taps(&outline.taps, &taps);
            first.note("removing leftover taps", network_id, remove_stray_taps(app, network_id, &stray).await);
        }
    }
    first.0.map_or(Ok(()), Err)
}

/// What the kernel has, as far as a round needs it.
#[derive(Default)]
struct Seen {
    /// Taps by network.
    networks: BTreeMap<Id, Vec<String>>,
    routers: BTreeSet<Id>,
}

/// Looks at the kernel, when it is time to, and forgets what was applied but is not there any more.
async fn look(app: &App) -> Outcome<Option<Seen>> {
    let is_due = locked(&app.state.looked_at).is_none_or(|at| at.elapsed() >= LOOK_EVERY);
    if !is_due {
        return Ok(None);
    }
    let observed = app.host.observe().await?;
    let with_dhcp: HashSet<Id> = observed.dnsmasq.iter().map(|(id, _)| *id).collect();
    locked(&app.state.networks).retain(|id, applied| {
        let is_whole = observed.networks.get(id).is_some_and(|namespace| !namespace.tables.is_empty())
            && (!applied.outline.has_dhcp || with_dhcp.contains(id));
        if !is_whole {
            tracing::warn!(network.id = %id, "a network is not as it was left, applying it again");
        }
        is_whole
    });
    locked(&app.state.routers).retain(|id, _| observed.routers.contains_key(id));
    *locked(&app.state.looked_at) = Some(Instant::now());
    Ok(Some(Seen {
        networks: observed.networks.into_iter().map(|(id, namespace)| (id, namespace.taps)).collect(),
        routers: observed.routers.into_keys().collect(),
    }))
}

/// Takes back what is believed of a network, so that all of it is applied again.
pub(crate) fn forget(app: &App, id: Id) {
    locked(&app.state.networks).remove(&id);
    app.state.doubts.fetch_add(1, Ordering::AcqRel);
}

/// Makes the next round look at the kernel.
pub(crate) fn look_soon(app: &App) {
    *locked(&app.state.looked_at) = None;
}

/// Brings one network to what its rows say now, by a pass that begins after this call does. Many who call at once share it.
pub(crate) async fn sync_network(app: &App, id: Id) -> Outcome {
    let lane = app.state.lane(id);
    let mine = lane.asked.fetch_add(1, Ordering::AcqRel) + 1;
    let mut last = lane.pass.lock().await;
    if last.serves < mine {
        let serves = lane.asked.load(Ordering::Acquire);
        // If this call is given up within the pass, the next in the lane makes its own.
        let outcome = pass(app, id).await;
        *last = Pass { serves, failure: outcome.err() };
    }
    last.failure.clone().map_or(Ok(()), Err)
}

/// Reads and applies what one network wants. Called inside its lane.
async fn pass(app: &App, id: Id) -> Outcome {
    let generation = app.db.generation("network").get();
    if locked(&app.state.networks).get(&id).is_some_and(|applied| applied.generation == generation) {
        return Ok(());
    }
    let options = Arc::clone(&app.options);
    let text = id.to_string();
    let read = app.db.read(move |tx| {
        let plan = desired::load_network(tx, &options, &text)?;
        Ok::<_, rest::Error>(plan.map(|plan| (plan.outline(), plan)))
    });
    let Some((outline, plan)) = read.await? else { return remove_network(app, id).await };
    // Nothing is believed of a network that is worked on, also when the work is given up half done.
    let old = locked(&app.state.networks).remove(&id).map(|applied| applied.outline);
    if old.as_ref() != Some(&outline) {
        app.state.doubts.fetch_add(1, Ordering::AcqRel);
        let outcome = apply_network(app, id, &plan, &outline, old.as_ref()).await;
        mark_network(app, id, &plan, &outcome).await?;
        outcome.map_err(|partial| partial.error)?;
    }
    locked(&app.state.networks).insert(id, Applied { outline, generation });
    Ok(())
}

/// A network that is not as it should be: the first failure, and whether rules and the rest are in force.
struct Partial {
    error: Failure,
    firewall: Option<String>,
    other: Option<String>,
}

impl From<hostnet::Error> for Partial {
    fn from(error: hostnet::Error) -> Self {
        Self { firewall: None, other: Some(error.to_string()), error: error.into() }
    }
}

async fn apply_network(
    app: &App,
    id: Id,
    plan: &NetworkPlan,
    outline: &Outline,
    old: Option<&Outline>,
) -> Result<(), Partial> {
    if old.is_none_or(|old| old.spec != outline.spec) {
        app.host.ensure_network(&plan.spec).await?;
    }
    // First the rules: nothing else may keep a closed port open or an opened one closed.
    let firewall = if old.is_none_or(|old| old.firewall != outline.firewall) {
        app.host.apply_firewall(id, &plan.firewall).await.map(|change| {
            for (port, reason) in change.refused {
                tracing::warn!(port.id = %port, reason, "a rule that can never match was left out");
            }
        })
    } else {
        Ok(())
    };
    let other = apply_rest(app, id, plan, outline, old).await;
    let text = |outcome: &hostnet::Result<()>| outcome.as_ref().err().map(ToString::to_string);
    let (firewall_text, other_text) = (text(&firewall), text(&other));
    firewall.and(other).map_err(|error| Partial { error: error.into(), firewall: firewall_text, other: other_text })
}

/// What else a network has. Each part is tried, whatever became of the others: guests without metadata still get their
/// addresses.
async fn apply_rest(
    app: &App,
    id: Id,
    plan: &NetworkPlan,
    outline: &Outline,
    old: Option<&Outline>,
) -> hostnet::Result<()> {
    // Ports of the former plan that are gone take their taps with them.
    let mut taps = Ok(());
    let former = old.into_iter().flat_map(|old| &old.taps);
    for port in former.filter(|port| outline.taps.binary_search(port).is_err()) {
        taps = taps.and(app.host.remove_tap(id, *port).await);
    }
    let metadata = listen(app, id).await;
    let external = match &plan.external {
        Some(spec) if old.is_none_or(|old| old.external != outline.external) => app.host.apply_external(spec).await,
        None if old.is_none_or(|old| old.external.is_some()) => app.host.remove_external(id).await,
        _ => Ok(()),
    };
    let dhcp =
        if old.is_none_or(|old| old.dhcp != outline.dhcp) { app.host.apply_dhcp(&plan.dhcp).await } else { Ok(()) };
    taps.and(metadata).and(external).and(dhcp)
}

/// Rows learn what became of the network: its DHCP port is up, or why something is not. They are not written when they
/// said so before, so that a failure that stays wakes nobody.
async fn mark_network(app: &App, id: Id, plan: &NetworkPlan, outcome: &Result<(), Partial>) -> Outcome {
    let (problem, port_problem) = match outcome {
        Ok(()) => (None, None),
        Err(partial) => (partial.other.clone(), partial.firewall.clone()),
    };
    let (told, count) = (plan.told, plan.firewall.ports.len());
    let ports_differ = told.ports_with_problem != if port_problem.is_some() { count } else { 0 };
    let dhcp_port =
        plan.dhcp_port.filter(|_| !plan.dhcp.subnets.is_empty() && !told.is_dhcp_plugged && problem.is_none());
    if !ports_differ && dhcp_port.is_none() && told.has_problem == problem.is_some() {
        return Ok(());
    }
    let ports: Vec<String> =
        plan.firewall.ports.iter().filter(|_| ports_differ).map(|port| port.port_id.to_string()).collect();
    let network_id = id.to_string();
    app.db
        .write(move |tx| {
            tx.execute(
                "UPDATE network_network SET problem = ?2 WHERE id = ?1 AND (problem IS NULL) <> (?2 IS NULL)",
                params![network_id, problem],
            )?;
            if ports_differ {
                tx.execute(
                    "UPDATE network_port SET problem = ?2
                     WHERE id IN (SELECT value FROM json_each(?1)) AND (problem IS NULL) <> (?2 IS NULL)",
                    params![id_list(ports.iter().map(String::as_str)), port_problem],
                )?;
            }
            if let Some(port) = dhcp_port {
                tx.execute(
                    "UPDATE network_port SET plugged = 1 WHERE id = ?1 AND NOT plugged",
                    params![port.to_string()],
                )?;
            }
            Ok::<_, rest::Error>(())
        })
        .await?;
    Ok(())
}

/// Removes a network that the rows do not want. Called inside its lane, after looking.
async fn remove_network(app: &App, id: Id) -> Outcome {
    let listener = locked(&app.state.listeners).remove(&id);
    if let Some(task) = listener {
        // The listener holds the namespace; it is closed once the task has ended.
        task.abort();
        let _ = task.await;
    }
    app.host.remove_external(id).await?;
    app.host.remove_network(id).await?;
    locked(&app.state.networks).remove(&id);
    Ok(())
}

/// Closes all metadata listeners.
pub(crate) async fn stop(app: &App) {
    let tasks: Vec<_> = locked(&app.state.listeners).drain().map(|(_, task)| task).collect();
    for task in tasks {
        task.abort();
        let _ = task.await;
    }
}

/// Starts the metadata listener of a network that has none.
async fn listen(app: &App, id: Id) -> hostnet::Result<()> {
    let is_running = locked(&app.state.listeners).get(&id).is_some_and(|task| !task.is_finished());
    if is_running {
        return Ok(());
    }
    let Some(listener) = app.host.metadata_listener(id).await? else { return Ok(()) };
    let front =
        metadata::Front { db: app.db.clone(), handler: Arc::clone(&app.state.handler), network_id: id.to_string() };
    let task = tokio::spawn(async move {
        if let Err(error) = metadata::listen(front, listener).await {
            tracing::warn!(network.id = %id, %error, "the metadata listener ended");
        }
    });
    locked(&app.state.listeners).insert(id, task);
    Ok(())
}

/// Those of the taps that no port of these has: of ports deleted while this program was not running.
fn stray_taps(ports: &[Id], taps: &[String]) -> Vec<String> {
    let wanted: HashSet<String> = ports.iter().map(|port| hostnet::tap_name(*port)).collect();
    taps.iter().filter(|tap| !wanted.contains(*tap)).cloned().collect()
}

async fn remove_stray_taps(app: &App, network_id: Id, taps: &[String]) -> Outcome {
    if taps.is_empty() {
        return Ok(());
    }
    let lane = app.state.lane(network_id);
    let _mine = lane.pass.lock().await;
    let options = Arc::clone(&app.options);
    let text = network_id.to_string();
    let now = app.db.read(move |tx| desired::load_network(tx, &options, &text)).await?;
    let ports = now.map(|plan| plan.taps).unwrap_or_default();
    for port in stray_taps(&ports, taps).iter().filter_map(|tap| port_of_tap(tap)) {
        app.host.remove_tap(network_id, port).await?;
    }
    Ok(())
}

/// A port id that has this tap's name; the rest of the id does not matter to the kernel.
fn port_of_tap(tap: &str) -> Option<Id> {
    let start = tap.strip_prefix("tap").filter(|start| start.len() == 11)?;
    let port: Id = format!("{start}00-0000-0000-000000000000").parse().ok()?;
    (hostnet::tap_name(port) == tap).then_some(port)
}

async fn sync_router(app: &App, id: Id, plan: RouterPlan) -> Outcome {
    let outcome = app.host.apply_router(&plan.spec).await;
    let problem = outcome.as_ref().err().map(ToString::to_string);
    mark_router(app, id, &plan, problem).await?;
    match outcome {
        Ok(()) => {
            locked(&app.state.routers).insert(id, plan);
            Ok(())
        }
        Err(error) => {
            locked(&app.state.routers).remove(&id);
            Err(error.into())
        }
    }
}

async fn mark_router(app: &App, id: Id, plan: &RouterPlan, problem: Option<String>) -> Outcome {
    let (router, ports, floating) = (
        id.to_string(),
        id_list(plan.ports.iter().map(String::as_str)),
        id_list(plan.floating_ips.iter().map(String::as_str)),
    );
    app.db
        .write(move |tx| {
            tx.execute(
                "UPDATE network_router SET problem = ?2 WHERE id = ?1 AND (problem IS NULL) <> (?2 IS NULL)",
                params![router, problem],
            )?;
            if problem.is_none() {
                tx.execute(
                    "UPDATE network_port SET plugged = 1
                     WHERE id IN (SELECT value FROM json_each(?1)) AND NOT plugged",
                    params![ports],
                )?;
                tx.execute(
                    "UPDATE network_floating_ip SET active = 1
                     WHERE id IN (SELECT value FROM json_each(?1)) AND NOT active AND router_id = ?2",
                    params![floating, router],
                )?;
            }
            Ok::<_, rest::Error>(())
        })
        .await?;
    Ok(())
}

async fn remove_router(app: &App, id: Id) -> Outcome {
    // Routers have no other way into the kernel than rounds, which are never two at once: what is wanted was read in
    // this one. A router made since then was not seen in the kernel.
    app.host.remove_router(id).await?;
    locked(&app.state.routers).remove(&id);
    let router = id.to_string();
    app.db
        .write(move |tx| {
            tx.execute("UPDATE network_floating_ip SET active = 0 WHERE router_id = ?1 AND active", params![router])?;
            Ok::<_, rest::Error>(())
        })
        .await?;
    Ok(())
}

/// Ports of routers that are switched off count as connected: there is nothing left to do for them.
async fn mark_idle(app: &App, ports: &[String]) -> Outcome {
    if ports.is_empty() {
        return Ok(());
    }
    let ids = id_list(ports.iter().map(String::as_str));
    app.db
        .write(move |tx| {
            tx.execute(
                "UPDATE network_port SET plugged = 1 WHERE id IN (SELECT value FROM json_each(?1)) AND NOT plugged",
                params![ids],
            )?;
            Ok::<_, rest::Error>(())
        })
        .await?;
    Ok(())
}

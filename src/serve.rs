//! The supervisor: what starts in which order, and what stops it.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use appliance::notify::{Environment, Notifier, Word};
use axum::{Router, routing::get};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cloud::{Cloud, Hooks, Layout, StateLock};
use crate::listen::{self, Listeners};
use crate::{console, monitor, policies};
use config::Config;

/// Why the supervisor did not start, or ended.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How often certificates are looked after, and imports noticed.
const CERTIFICATE_TICK: Duration = Duration::from_secs(2);

/// How often policy files and keys of tokens are looked at.
const POLICY_TICK: Duration = Duration::from_secs(2);

/// How often memory that is not used any more is given back, if it is more than so many bytes.
const MEMORY_TICK: Duration = Duration::from_secs(2);
const MEMORY_FREE: usize = 4 << 20;

/// Runs until SIGTERM or SIGINT. Servers run on afterwards.
///
/// # Errors
/// What is missing or broken, in words for an operator.
pub async fn run(config: Config) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let notifier = match Notifier::of(&Environment::own()) {
        Ok(notifier) => notifier.map(Arc::new),
        Err(error) => {
            tracing::warn!(%error, "NOTIFY_SOCKET cannot be used: nobody is told how the service is");
            None
        }
    };
    let tell = |words: &[Word<'_>]| {
        if let Some(notifier) = &notifier
            && let Err(error) = notifier.say(words)
        {
            tracing::warn!(%error, "systemd is not told how the service is");
        }
    };
    tell(&[Word::Status("starting")]);

    // The lock comes before anything is written, the sockets before anything is promised.
    let lock = StateLock::take(&config.state_dir)?;
    let listeners = Listeners::bind(&config).await?;
    let tls = tls::Authority::open(tls::Setup::in_state_dir(&config.state_dir))?;
    let host = listen::public_host(&config);
    tls.set_names(tls::Names::of_this_machine(Some(&host))?)?;
    tracing::info!(fingerprint = tls.fingerprint(), "clients must trust this certificate (SHA-256)");
    tokio::spawn(look_after_certificates(tls.clone(), config.clone(), stop.clone()));
    tokio::spawn(give_memory_back(stop.clone()));

    let asking = match (config.client_certificates.port, &config.client_certificates.ca_file) {
        (Some(_), Some(file)) => {
            let refused =
                |why: &dyn std::fmt::Display| format!("client_certificates.ca_file {}: {why}", file.display());
            let pem = std::fs::read(file).map_err(|error| refused(&error))?;
            Some(tls.server_config_asking(&pem).map_err(|error| refused(&error))?)
        }
        (Some(_), None) => return Err("client_certificates.port needs client_certificates.ca_file".into()),
        (None, _) => None,
    };

    let authority = match listeners.https_port() {
        443 => listen::bracketed(&host),
        port => format!("{}:{port}", listen::bracketed(&host)),
    };
    let hooks = Hooks { tls: Some(tls.clone()), ..Hooks::default() };
    let cloud = Arc::new(Cloud::open(&config, lock, hooks, pages(&tls, &config, &authority), &authority).await?);
    tokio::spawn(policies::follow(Arc::clone(&cloud), Layout::of(&config), POLICY_TICK, stop.clone()));
    let answering = Arc::clone(&cloud);
    let handler = move |arrival, request| {
        let cloud = Arc::clone(&answering);
        async move { cloud.handle(arrival, request).await }
    };
    let serving = tokio::spawn(listeners.serve(tls, asking, host, handler, stop.clone()));
    console::start(&config, &authority, cloud.reporter.clone(), stop.clone());
    writeln!(std::io::stdout(), "ready https://{authority}")?;
    let well = format!("ready: https://{authority}");
    tell(&[Word::Ready, Word::Status(&well)]);
    if let Some(notifier) = &notifier {
        tokio::spawn(monitor::feed(Arc::clone(notifier), cloud.monitor.clone(), well, stop.clone()));
    }

    tokio::select! {
        _ = terminate.recv() => (),
        _ = interrupt.recv() => (),
    }
    tracing::info!("stopping; servers run on");
    tell(&[Word::Stopping, Word::Status("stopping; servers run on")]);
    stop.cancel();
    let (served, ()) = tokio::join!(serving, cloud.close());
    served?;
    Ok(())
}

/// What belongs to no service.
fn pages(tls: &tls::Authority, config: &Config, authority: &str) -> Router {
    let tls = tls.clone();
    Router::new()
        .route("/ca.crt", get(move || std::future::ready(listen::ca(&tls))))
        .merge(crate::profile::page(&config.region, authority))
}

/// Keeps the certificate valid and true to the names and addresses of this machine.
async fn look_after_certificates(authority: tls::Authority, config: Config, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(CERTIFICATE_TICK) => (),
        }
        let (authority, host) = (authority.clone(), listen::public_host(&config));
        let work = tokio::task::spawn_blocking(move || {
            // Errors are logged there, once each.
            let _ = authority.renew_if_due();
            if let Ok(names) = tls::Names::of_this_machine(Some(&host))
                && let Err(error) = authority.set_names(names)
            {
                tracing::error!(%error, "the certificate does not follow the names of this machine");
            }
        });
        let _ = work.await;
    }
}

async fn give_memory_back(stop: CancellationToken) {
    let mut free = 0;
    while stop.run_until_cancelled(tokio::time::sleep(MEMORY_TICK)).await.is_some() {
        let giving = tokio::task::spawn_blocking(move || hypervisor::heap::give_back(free, MEMORY_FREE));
        free = giving.await.unwrap_or(free);
    }
}

/// Stops every server and removes every namespace, rule and tap. Rows stay: the next `serve` shows the servers shut off.
///
/// # Errors
/// When a supervisor still runs on this state, or something cannot be removed.
pub async fn down(config: Config) -> Result<(), Failure> {
    let layout = Layout::of(&config);
    if !layout.database().exists() {
        return Err(format!("there is no cloud in {}", config.state_dir.display()).into());
    }
    let _lock = StateLock::take(&config.state_dir)?;
    let driver = compute::vms::Driver::process(compute::vms::ProcessConfig::new(layout.servers()))?;
    let mut left = Vec::new();
    for (id, observed) in driver.adopt_all().await? {
        if matches!(observed, compute::vms::Observed::Running(_) | compute::vms::Observed::Unresponsive { .. })
            && let Err(error) = driver.stop(id, Some(Duration::from_secs(20))).await
        {
            tracing::warn!(server.id = %id, %error, "the server did not stop, it is killed");
            if let Err(error) = driver.kill(id).await {
                left.push(format!("server {id}: {error}"));
            }
        }
    }
    if let Err(error) = remove_network(&layout).await {
        left.push(format!("network: {error}"));
    }
    if left.is_empty() { Ok(()) } else { Err(format!("not everything could be removed: {}", left.join("; ")).into()) }
}

async fn remove_network(layout: &Layout) -> hostnet::Result<()> {
    hostnet::Host::open(&layout.network()).await?.remove_all().await
}

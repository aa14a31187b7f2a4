//! The supervisor: what starts in which order, and what stops it.

use std::io::Write;
use std::time::Duration;

use axum::response::IntoResponse;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::listen::{self, Listeners};

/// Why the supervisor did not start, or ended.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How often certificates are looked after, and imports noticed.
const CERTIFICATE_TICK: Duration = Duration::from_secs(2);

/// Runs until SIGTERM or SIGINT.
pub async fn run(config: Config) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();

    let authority = tls::Authority::open(tls::Setup::in_state_dir(&config.state_dir))?;
    let host = listen::public_host(&config);
    authority.set_names(tls::Names::of_this_machine(Some(&host))?)?;
    tracing::info!(fingerprint = authority.fingerprint(), "clients must trust this certificate (SHA-256)");
    tokio::spawn(look_after_certificates(authority.clone(), config.clone(), stop.clone()));

    let listeners = Listeners::bind(&config).await?;
    let port = listeners.https_port();
    let url = match port {
        443 => format!("https://{}", listen::bracketed(&host)),
        _ => format!("https://{}:{port}", listen::bracketed(&host)),
    };
    let pages = authority.clone();
    let handler = move |_, request: axum::extract::Request| {
        let answer = match request.uri().path() {
            "/ca.crt" => listen::ca(&pages),
            _ => axum::http::StatusCode::NOT_FOUND.into_response(),
        };
        std::future::ready(answer)
    };
    let serving = tokio::spawn(listeners.serve(authority, host, handler, stop.clone()));
    writeln!(std::io::stdout(), "ready {url}")?;

    tokio::select! {
        _ = terminate.recv() => (),
        _ = interrupt.recv() => (),
    }
    stop.cancel();
    serving.await?;
    Ok(())
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

/// Stops every server and removes every namespace, rule and tap.
pub async fn down(_config: Config) -> Result<(), Failure> {
    Err("the services are not wired yet".into())
}

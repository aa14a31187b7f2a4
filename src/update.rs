//! `solostack update`: another version of the appliance, and whether it is any good.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use appliance::trust;
use appliance::update::{self, Machine, Making, Mounted, PublicKey, Record, SecretKey, State, fetch};
use clap::Subcommand;
use config::Config;
use http_body_util::BodyExt as _;
use rustls::pki_types::ServerName;

use crate::cloud::Layout;
use crate::listen;
use crate::place::Where;
use crate::serve::Failure;

/// How long a new version may take until its APIs answer, and until servers that ran before run again.
const APIS: Duration = Duration::from_secs(180);
const SERVERS: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_secs(2);
const ONE_ANSWER: Duration = Duration::from_secs(10);

#[derive(Debug, Subcommand)]
pub enum Update {
    /// Say what an update file is, and whether this machine would take it.
    Check {
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        place: Where,
    },
    /// Write an update into the idle slot. The next start tries it; if it does not prove itself, the machine returns.
    Install {
        #[command(flatten)]
        source: Source,
        /// Take one that is older than what runs.
        #[arg(long)]
        older: bool,
        /// Start it at once: servers are shut down, and started again.
        #[arg(long)]
        reboot: bool,
        #[command(flatten)]
        place: Where,
    },
    /// Show what runs, and how the last update went.
    Status {
        #[command(flatten)]
        place: Where,
    },
    /// Say that the version on trial is good, whatever the health gate thinks.
    Confirm {
        #[command(flatten)]
        place: Where,
    },
    /// Decide about a version on trial: started by systemd after `serve`.
    #[command(hide = true)]
    Gate {
        #[command(flatten)]
        place: Where,
        /// Do not restart the machine.
        #[arg(long)]
        no_reboot: bool,
    },
    /// Make an update file, where releases are made.
    #[command(hide = true)]
    Pack(Pack),
}

#[derive(Debug, clap::Args)]
pub struct Source {
    /// A file, or an https URL.
    #[arg(value_name = "FILE|URL")]
    from: String,
    /// The release key's public half, PEM [default: <state>/release.pub if it is there, or the image's own].
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Authorities to trust for the URL, PEM [default: the system's].
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub struct Pack {
    #[arg(long = "release", value_name = "VERSION")]
    version: String,
    #[arg(long)]
    root: PathBuf,
    #[arg(long)]
    verity: PathBuf,
    #[arg(long)]
    uki: PathBuf,
    /// GRUB's script of this version.
    #[arg(long)]
    grub: Option<PathBuf>,
    /// The release key's secret half: Ed25519, PEM.
    #[arg(long)]
    key: PathBuf,
    /// The file to write.
    out: PathBuf,
}

impl Source {
    fn key(&self, state: &Path) -> Result<PublicKey, Failure> {
        let own = state.join("release.pub");
        let path = match &self.key {
            Some(path) => path.clone(),
            None if own.exists() => own,
            None => update::RELEASE_KEY.into(),
        };
        Ok(PublicKey::read(&path)?)
    }

    /// Hands the bytes to `work`, on a thread where it may block.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn std::io::Read) -> Result<T, appliance::Error> + Send + 'static,
    ) -> Result<T, Failure> {
        let done = if fetch::is_url(&self.from) {
            let mut download = fetch::fetch(&self.from, self.ca.as_deref()).await?;
            tokio::task::spawn_blocking(move || work(&mut download)).await?
        } else {
            let mut file = std::fs::File::open(&self.from).map_err(|error| format!("{}: {error}", self.from))?;
            tokio::task::spawn_blocking(move || work(&mut file)).await?
        };
        Ok(done?)
    }
}

/// # Errors
/// Why not, in words for an operator.
pub async fn run(command: Update, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        Update::Check { source, place } => {
            let key = source.key(&place.load()?.state_dir)?;
            let release = source.with(move |bytes| update::look(bytes, &key)).await?;
            writeln!(out, "version {}, signed by the release key that this machine trusts", release.version)?;
            let running = appliance::version().unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned());
            let word = match (release.version == running, update::is_newer(&release.version, &running)) {
                (true, _) => "it is what runs",
                (_, true) => "it is newer than what runs",
                _ => "it is older than what runs",
            };
            writeln!(out, "{word} ({running})")?;
        }
        Update::Install { source, older, reboot, place } => {
            let config = place.load()?;
            let key = source.key(&config.state_dir)?;
            let mounted = Mounted::this(&config.state_dir)?;
            let machine = mounted.machine.clone();
            let installed = source.with(move |bytes| update::install(bytes, &key, &machine, older)).await?;
            writeln!(out, "version {} is installed; it replaced {}", installed.release.version, installed.replaced)?;
            drop(mounted);
            if reboot {
                writeln!(out, "the machine starts it now")?;
                restart()?;
            } else {
                writeln!(out, "the next start of the machine tries it; `solostack update status` says how that went")?;
            }
        }
        Update::Status { place } => status(&place.load()?.state_dir, out)?,
        Update::Confirm { place } => {
            let mounted = Mounted::this(&place.load()?.state_dir)?;
            let done = update::confirm(&mounted.machine)?;
            writeln!(out, "{}", if done { "the version that runs stays" } else { "no version is on trial" })?;
        }
        Update::Gate { place, no_reboot } => {
            let config = place.load()?;
            let on_trial = Record::read(&config.state_dir)?.filter(|record| record.state == State::Trying);
            let Some(record) = on_trial.filter(|record| appliance::version().as_ref() == Some(&record.version)) else {
                writeln!(out, "no version is on trial")?;
                return Ok(());
            };
            let mounted = Mounted::this(&config.state_dir)?;
            let found = examine(&config, &record).await;
            let bad = found.as_ref().err().cloned();
            decide(&mounted.machine, found, out)?;
            drop(mounted);
            if let Some(reason) = bad {
                if !no_reboot {
                    restart()?;
                }
                // What waits for a good start (boot-complete.target) must not come.
                return Err(format!("the machine returns to version {}: {reason}", record.from).into());
            }
        }
        Update::Pack(pack) => {
            let making = Making {
                version: &pack.version,
                root: &pack.root,
                verity: &pack.verity,
                uki: &pack.uki,
                grub: pack.grub.as_deref(),
            };
            let release = update::pack(&making, &SecretKey::read(&pack.key)?, &pack.out)?;
            writeln!(out, "written: {}, version {}", pack.out.display(), release.version)?;
        }
    }
    Ok(())
}

fn decide(machine: &Machine, found: Result<(), String>, out: &mut dyn Write) -> Result<(), Failure> {
    match found {
        Ok(()) => {
            update::confirm(machine)?;
            writeln!(out, "version {} has proved itself", machine.version)?;
        }
        Err(reason) => {
            tracing::error!(reason, version = machine.version, "the update is not good: the machine returns");
            update::condemn(machine, &reason)?;
            writeln!(out, "version {} is not good: {reason}", machine.version)?;
        }
    }
    Ok(())
}

fn restart() -> Result<(), Failure> {
    let status = std::process::Command::new("systemctl").arg("reboot").status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("systemctl reboot ended with {status}").into()),
        Err(error) => Err(format!("systemctl: {error}").into()),
    }
}

fn status(state: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    match appliance::version() {
        Some(version) => writeln!(out, "running: {version} (appliance)")?,
        None => writeln!(out, "running: {} (no appliance)", env!("CARGO_PKG_VERSION"))?,
    }
    match Record::read(state)? {
        None => writeln!(out, "there was no update yet")?,
        Some(record) => writeln!(out, "{}", sentence(&record))?,
    }
    Ok(())
}

/// How an update went, in one line.
#[must_use]
pub fn sentence(record: &Record) -> String {
    let Record { version, from, at, .. } = record;
    let because = record.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    match record.state {
        State::Good => format!("version {version} proved itself at {at}; before it was {from}"),
        State::Trying => format!("version {version} is installed since {at} and has yet to prove itself{because}"),
        State::Returned => format!("the machine returned from version {version} to {from} at {at}{because}"),
    }
}

/// Whether this version is as good as the one before.
async fn examine(config: &Config, record: &Record) -> Result<(), String> {
    until(APIS, || apis(config)).await?;
    let database = Layout::of(config).database();
    let looked = tokio::task::spawn_blocking(move || db::snapshot::sound(&database)).await;
    looked.map_err(|error| error.to_string())?.map_err(|error| format!("the database is not whole: {error}"))?;
    if config.resume_guests_on_host_boot {
        until(SERVERS, async || servers(config, record)).await?;
    }
    Ok(())
}

/// Asks again and again, and answers the last reason.
async fn until(longest: Duration, look: impl AsyncFn() -> Result<(), String>) -> Result<(), String> {
    let end = Instant::now() + longest;
    loop {
        match look().await {
            Ok(()) => return Ok(()),
            Err(reason) if Instant::now() > end => return Err(reason),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Every service says which versions it has.
async fn apis(config: &Config) -> Result<(), String> {
    for info in [identity::INFO, images::INFO, placement::INFO, network::INFO, compute::INFO] {
        let answer = tokio::time::timeout(ONE_ANSWER, ask(config, &format!("{}/", info.prefix))).await;
        match answer {
            Ok(Ok(status)) if status < 500 => {}
            Ok(Ok(status)) => return Err(format!("the API {} answers with status {status}", info.name)),
            Ok(Err(reason)) => return Err(format!("the API {} does not answer: {reason}", info.name)),
            Err(_) => return Err(format!("the API {} does not answer within {} s", info.name, ONE_ANSWER.as_secs())),
        }
    }
    Ok(())
}

async fn ask(config: &Config, path: &str) -> Result<u16, Failure> {
    let pem = std::fs::read(config.state_dir.join("ca.crt"))?;
    let tls = trust::client(trust::authorities(Some(&pem))?)?;
    let address = match config.listen {
        any if any.is_unspecified() => std::net::IpAddr::from([127, 0, 0, 1]),
        one => one,
    };
    // Every address of this machine stands in its certificate.
    let host = address.to_string();
    let stream = tokio::net::TcpStream::connect((address, config.https_port)).await?;
    let name = ServerName::try_from(host.clone())?;
    let stream = tokio_rustls::TlsConnector::from(tls).connect(name, stream).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await?;
    let ends = tokio::spawn(connection);
    let request = http::Request::get(path)
        .header(http::header::HOST, listen::bracketed(&host))
        .body(http_body_util::Empty::<axum::body::Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    response.into_body().collect().await?;
    ends.abort();
    Ok(status)
}

/// Those that ran when the update was installed run again, unless somebody wanted otherwise since.
fn servers(config: &Config, record: &Record) -> Result<(), String> {
    let layout = Layout::of(config);
    let database = db::Db::open(&layout.database()).map_err(|error| error.to_string())?;
    for id in &record.servers {
        let state: Option<String> = database
            .read_blocking(|tx| {
                tx.find("SELECT vm_state FROM compute_server WHERE id = ?1", db::params![id], |row| row.get(0))
            })
            .map_err(|error: db::Error| error.to_string())?;
        let runs = appliance::backup::is_running(&layout.servers().join(id)).map_err(|error| error.to_string())?;
        match state.as_deref() {
            Some("error") => return Err(format!("server {id}, which ran before, is in error")),
            Some("active") if !runs => return Err(format!("server {id}, which ran before, does not run")),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_an_update_went_is_one_sentence_with_its_reason() {
        let record = Record {
            state: State::Returned,
            version: "1.1".into(),
            from: "1.0".into(),
            reason: Some("the API nova does not answer".into()),
            at: "2026-01-02T03:04:05Z".into(),
            boot: String::new(),
            servers: Vec::new(),
        };
        let text = sentence(&record);
        assert!(text.contains("returned from version 1.1 to 1.0") && text.ends_with("does not answer"), "{text}");
    }
}

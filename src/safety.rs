//! `solostack backup` and `solostack reset`: what the operator asks, and what is answered.

use std::fmt::Write as _;
use std::io::{BufRead as _, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use appliance::backup::{self, Manifest};
use appliance::{points::Points, reset};
use clap::Subcommand;
use config::Config;
use db::snapshot::Checked;

use crate::cloud::Layout;
use crate::place::Where;
use crate::serve::{self, Failure};

#[derive(Debug, Subcommand)]
pub enum Backup {
    /// Write one file with the database, certificates, keys, policy files and the configuration, while the cloud runs or not.
    /// It holds secrets: whoever has it has the cloud.
    Create {
        /// The file to write, or - for standard output.
        file: PathBuf,
        /// With images' data.
        #[arg(long)]
        images: bool,
        /// With servers' disks. Those of running servers are as after a power cut.
        #[arg(long)]
        disks: bool,
        /// Write over a file of this name.
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        place: Where,
    },
    /// Prove that a backup can be restored: every checksum, and a test restore of its database.
    Verify {
        /// The file, or - for standard input.
        file: PathBuf,
    },
    /// Put a backup in the place of the state. The cloud must not run.
    Restore {
        /// The file, or - for standard input.
        file: PathBuf,
        /// Put a cloud that is there aside, into <state>/before-restore.
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        place: Where,
    },
}

#[derive(Debug, Subcommand)]
pub enum Reset {
    /// Forget the configuration in the state directory, with the network settings. The cloud stays as it is.
    Settings {
        #[command(flatten)]
        asked: Asked,
    },
    /// Forget everything: users, images, servers, certificates, settings.
    Everything {
        #[command(flatten)]
        asked: Asked,
    },
    /// Take it back, as long as the next start has not come.
    Cancel {
        #[command(flatten)]
        place: Where,
    },
}

#[derive(Debug, clap::Args)]
pub struct Asked {
    /// Do not ask for this machine's name.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    place: Where,
}

const STDIN_OUT: &str = "-";

/// # Errors
/// Why not, in words for an operator.
pub fn run_backup(command: Backup, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        Backup::Create { file, images, disks, replace, place } => {
            let config = place.load()?;
            let named = place
                .config
                .clone()
                .or_else(|| Some(config::DEFAULT_FILE.into()).filter(|file: &PathBuf| file.exists()));
            let options =
                backup::Options { config: named, images, disks, replace, ..backup::Options::of(&config.state_dir) };
            let streams = file == Path::new(STDIN_OUT);
            if streams && std::io::stdout().is_terminal() {
                return Err("a backup is no text: send standard output into a file or a program".into());
            }
            let created = if streams {
                backup::create(&options, None, Some(&mut *out))?
            } else {
                backup::create(&options, Some(&file), None)?
            };
            let mut text = format!("written: {}\n", file.display());
            describe(&created.manifest, &mut text)?;
            for id in &created.running {
                writeln!(text, "server {id} was running: its disk in the backup is as after a power cut")?;
            }
            writeln!(text, "it holds keys and password hashes: keep it as secret as the machine itself")?;
            // With a stream the backup itself is what goes there.
            if streams { std::io::stderr().write_all(text.as_bytes())? } else { out.write_all(text.as_bytes())? }
        }
        Backup::Verify { file } => {
            let scratch = std::env::temp_dir();
            let verified = with_input(&file, |stream| backup::verify(&file, stream, &scratch))?;
            let mut text = String::new();
            describe(&verified.manifest, &mut text)?;
            count(&verified.database, &mut text)?;
            writeln!(text, "the backup can be restored")?;
            out.write_all(text.as_bytes())?;
        }
        Backup::Restore { file, replace, place } => {
            let config = place.load()?;
            let into = backup::Into { state: config.state_dir.clone(), replace, points: Points::default() };
            let restored = with_input(&file, |stream| backup::restore(&file, stream, &into))?;
            let mut text = format!("restored: {}\n", config.state_dir.display());
            describe(&restored.manifest, &mut text)?;
            count(&restored.database, &mut text)?;
            if let Some(aside) = &restored.aside {
                writeln!(text, "what was there before is in {}: remove it when you need it no more", aside.display())?;
            }
            for id in &restored.without_disks {
                writeln!(
                    text,
                    "server {id}: its disks are not here; it will be in error and can be rebuilt or deleted"
                )?;
            }
            for id in &restored.without_data {
                writeln!(text, "image {id}: its data are not here; upload them again, or delete it")?;
            }
            if restored.manifest.members.iter().any(|member| member.name.starts_with("config/")) {
                let here = config.state_dir.join(reset::SETTINGS);
                if place.config.as_deref() != Some(here.as_path()) {
                    writeln!(
                        text,
                        "the configuration of then is in {}: start with --config to use it",
                        here.display()
                    )?;
                }
            }
            out.write_all(text.as_bytes())?;
        }
    }
    Ok(())
}

fn with_input<T>(
    file: &Path,
    work: impl FnOnce(Option<&mut dyn std::io::Read>) -> Result<T, appliance::Error>,
) -> Result<T, Failure> {
    if file == Path::new(STDIN_OUT) { Ok(work(Some(&mut std::io::stdin().lock()))?) } else { Ok(work(None)?) }
}

fn describe(manifest: &Manifest, text: &mut String) -> std::fmt::Result {
    let bytes: u64 = manifest.members.iter().map(|member| member.size).sum();
    writeln!(text, "made at {} on {} by Solostack {}", manifest.made_at, manifest.host, manifest.version)?;
    writeln!(text, "{} files, {bytes} bytes; database schema {}", manifest.members.len(), manifest.schema)?;
    let held = |yes: bool, what: &str, known: usize| match (yes, known) {
        (true, _) => format!("with {what} ({known})"),
        (false, 0) => format!("there were no {what}"),
        (false, _) => format!("WITHOUT {what} ({known})"),
    };
    let images = held(manifest.images, "images' data", manifest.known_images.len());
    writeln!(text, "{images}, {}", held(manifest.disks, "servers' disks", manifest.known_servers.len()))
}

fn count(database: &Checked, text: &mut String) -> std::fmt::Result {
    let rows = |table: &str| database.rows.get(table).copied().unwrap_or(0);
    let all: u64 = database.rows.values().sum();
    writeln!(
        text,
        "the database is sound: {} servers, {} images, {} networks, {} users, {all} rows in all",
        rows("compute_server"),
        rows("images_image"),
        rows("network_network"),
        rows("identity_user"),
    )?;
    if database.added > 0 {
        writeln!(text, "it is of an older version: the first start brings it up to date ({} steps)", database.added)?;
    }
    Ok(())
}

/// # Errors
/// Why not, in words for an operator.
pub fn run_reset(command: Reset, out: &mut dyn Write) -> Result<(), Failure> {
    let (what, asked) = match command {
        Reset::Settings { asked } => (reset::What::Settings, asked),
        Reset::Everything { asked } => (reset::What::Everything, asked),
        Reset::Cancel { place } => {
            let was = reset::take_back(&place.load()?.state_dir)?;
            writeln!(out, "{}", if was { "nothing will be forgotten" } else { "nothing was to be forgotten" })?;
            return Ok(());
        }
    };
    // A configuration that is broken is a reason to reset it.
    let state = match (asked.place.load(), &asked.place.state) {
        (Ok(config), _) => config.state_dir,
        (Err(_), Some(state)) => std::path::absolute(state)?,
        (Err(_), None) => Config::default().state_dir,
    };
    if what == reset::What::Settings
        && let Some(file) =
            asked.place.config.clone().or_else(|| Some(config::DEFAULT_FILE.into()).filter(|f: &PathBuf| f.exists()))
        && std::path::absolute(&file)? != state.join(reset::SETTINGS)
    {
        return Err(format!("the settings are in {}, which is yours to edit", file.display()).into());
    }
    if !asked.yes {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let what = match what {
            reset::What::Settings => "all settings",
            reset::What::Everything => "EVERYTHING: users, images, servers with their disks, certificates and settings",
        };
        write!(out, "This forgets {what}, in {}.\nType the name of this machine to go on: ", state.display())?;
        out.flush()?;
        let mut typed = String::new();
        std::io::stdin().lock().read_line(&mut typed)?;
        if typed.trim() != name.trim() || typed.trim().is_empty() {
            return Err(format!("that is not the name of this machine ({}): nothing was done", name.trim()).into());
        }
    }
    reset::ask(&state, what)?;
    writeln!(out, "it is forgotten at the next start; `solostack reset cancel` takes it back until then")?;
    Ok(())
}

/// Obeys a reset where the configuration cannot even say where the state is. Says whether there was one.
///
/// # Errors
/// When it cannot be done.
pub fn forgets_settings(place: &Where) -> Result<bool, Failure> {
    let beside = place.config.as_deref().and_then(Path::parent);
    let default = Config::default();
    for state in [place.state.as_deref(), beside, Some(default.state_dir.as_path())].into_iter().flatten() {
        if reset::asked(state)?.is_some() {
            return Ok(appliance::start::obey(state)?.anything());
        }
    }
    Ok(false)
}

/// What was left to be done at this start, before anything else. Says whether the configuration may be another one now.
///
/// # Errors
/// When it cannot be done; the next start goes on.
pub async fn before_serving(config: &Config) -> Result<bool, Failure> {
    let state = &config.state_dir;
    // Processes of servers that are forgotten would go on for ever.
    let pretended = config.driver == config::Driver::Fake;
    if reset::asked(state)? == Some(reset::What::Everything) && !pretended && Layout::of(config).database().exists() {
        serve::down(config.clone()).await?;
    }
    let obeyed = appliance::start::obey(state)?;
    match obeyed.reset {
        Some(reset::What::Everything) => tracing::warn!("everything was forgotten, as asked"),
        Some(reset::What::Settings) => tracing::warn!("the settings were forgotten, as asked"),
        None => {}
    }
    if obeyed.restored {
        tracing::warn!("a restore that was cut off is complete now");
    }
    if let Some(version) = appliance::version()
        && let Some(found) =
            appliance::update::at_start(state, &version, &appliance::update::boot_id(), &Points::default())?
    {
        tracing::info!(update = crate::update::sentence(&found.record), "the last update");
        if let Some(aside) = &found.aside {
            tracing::warn!(aside = %aside.display(), "the database is what it was before the update");
        }
    }
    Ok(obeyed.anything())
}

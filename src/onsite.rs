//! What is done at the machine itself, where it is the appliance: its network, its screen.

use std::io::Write;
use std::path::PathBuf;

use appliance::network::{self, Changes, Places, System, ThisSystem};
use clap::{Args, Subcommand};

use crate::serve::Failure;

#[derive(Debug, Args)]
pub struct Network {
    #[command(subcommand)]
    command: NetworkCommand,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Subcommand)]
enum NetworkCommand {
    /// Show what is in force, what waits for a confirmation, and the NICs.
    Show,
    /// Say everything that is wrong with the network settings of a file.
    Check {
        /// [default: /var/lib/solostack/solostack.toml]
        file: Option<PathBuf>,
    },
    /// Put the network settings of a file into force; without `confirm` within 60 s the ones before return.
    Apply {
        /// [default: /var/lib/solostack/solostack.toml]
        #[arg(conflicts_with_all = ["settle", "boot"])]
        file: Option<PathBuf>,
        /// Without a confirmation: what the operator's file says, for good.
        #[arg(long)]
        settle: bool,
        /// Only write the files, before systemd-networkd starts.
        #[arg(long, conflicts_with = "settle")]
        boot: bool,
    },
    /// Keep the settings that wait.
    Confirm,
    /// Give up the settings that wait.
    Return,
    /// Return what nobody confirms; started by `apply`.
    #[command(hide = true)]
    Watch,
}

#[derive(Debug, Args)]
pub struct Screen {
    /// The terminal [default: standard input].
    #[arg(long, value_name = "PATH")]
    tty: Option<PathBuf>,
    /// Show, and let nobody change anything.
    #[arg(long)]
    view_only: bool,
    #[command(flatten)]
    place: Place,
}

/// Until the terminal is gone.
///
/// # Errors
/// When there is no terminal.
pub fn screen(asked: Screen) -> Result<(), Failure> {
    let places = asked.place.places()?;
    let options = appliance::screen::Options {
        tty: asked.tty,
        view_only: asked.view_only,
        // Where systemd keeps it running, Ctrl-C is a key that somebody pressed by mistake.
        may_quit: std::env::var_os("INVOCATION_ID").is_none(),
        socket: crate::console::socket(&places.state()),
        system: ThisSystem { networkctl: asked.place.networkctl },
        places,
    };
    Ok(appliance::screen::run(&options)?)
}

/// For tests: another root than the machine's, another program that speaks to systemd-networkd.
#[derive(Debug, Args)]
struct Place {
    #[arg(long, global = true, hide = true, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    #[arg(long, global = true, hide = true, value_name = "PROGRAM", default_value = "networkctl")]
    networkctl: String,
    /// The appliance has one configuration file; units name it all the same.
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Place {
    fn places(&self) -> Result<Places, Failure> {
        let places = Places::under(&self.root);
        match &self.config {
            Some(other) if *other != places.config() => {
                Err(format!("the appliance's configuration file is {}", places.config().display()).into())
            }
            _ => Ok(places),
        }
    }
}

/// # Errors
/// What is wrong, in words for who stands before the machine.
pub fn network(asked: Network, out: &mut dyn Write) -> Result<(), Failure> {
    let places = asked.place.places()?;
    let system = ThisSystem { networkctl: asked.place.networkctl.clone() };
    if !matches!(asked.command, NetworkCommand::Check { .. }) && !places.mark().exists() {
        return Err("this machine is not the appliance: its network is set as on any other host".into());
    }
    let text = match asked.command {
        NetworkCommand::Show => network::show(&places, &system),
        NetworkCommand::Check { file } => {
            let file = file.unwrap_or_else(|| places.config());
            let (_, notes) = network::check_file(&places, &file)?;
            let notes: String = notes.iter().map(|note| format!("note: {note}\n")).collect();
            format!("{notes}{}: fine\n", file.display())
        }
        NetworkCommand::Apply { boot: true, .. } => {
            Changes::new(&places, &system).boot()?;
            String::new()
        }
        NetworkCommand::Apply { settle: true, .. } => network::settle(&places, &system)?,
        NetworkCommand::Apply { file, .. } => {
            let said = network::apply(&places, &system, &file.unwrap_or_else(|| places.config()))?;
            watch_from_outside(&asked.place, &places, &system)?;
            said
        }
        NetworkCommand::Confirm => network::confirm(&places, &system)?,
        NetworkCommand::Return => network::give_back(&places, &system)?,
        NetworkCommand::Watch => network::watch(&places, &system)?,
    };
    out.write_all(text.as_bytes())?;
    Ok(())
}

/// A process that outlives this one, and the terminal that may be cut off by the very change.
fn watch_from_outside(place: &Place, places: &Places, system: &dyn System) -> Result<(), Failure> {
    use std::os::unix::process::CommandExt;
    let started = std::env::current_exe().and_then(|program| {
        std::process::Command::new(program)
            .args(["network", "watch", "--networkctl", &place.networkctl, "--root"])
            .arg(&place.root)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .process_group(0)
            .spawn()
    });
    match started {
        Ok(_) => Ok(()),
        Err(error) => {
            Changes::new(places, system).give_back()?;
            Err(format!("nobody can watch over the change, so it is given up: {error}").into())
        }
    }
}

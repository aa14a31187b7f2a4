//! Arguments to actions. Answers go to standard output, everything else to standard error.
//!
//! Exit status: 0 done; 1 refused or failed, with the reason on standard error; 2 wrong usage. `doctor` has its own: 0 all
//! fine, 1 warnings, 2 failures.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::cloud::{self, Layout};
use crate::place::Where;
use crate::serve::Failure;
use crate::{audit, ca, first_boot, install, logging, onsite, policies, safety, serve, update};
use config::{self, Config, Log, LogFormat, Override, Value};

#[derive(Debug, Parser)]
#[command(
    name = "solostack",
    version,
    about = "A cloud in one box: the OpenStack APIs and their hypervisor, in one program."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the cloud. Prints `ready <URL>` when every API answers; SIGTERM ends it and leaves servers running.
    Serve(Serve),
    /// Stop every server of this state directory and remove every namespace, rule and tap.
    Down(Where),
    /// Show what this machine offers and lacks. Exit status 0: all fine, 1: warnings, 2: failures.
    Doctor(Doctor),
    /// The configuration file.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// The certificate authority.
    #[command(subcommand)]
    Ca(ca::Ca),
    /// Who may do what: the services' rules and what the files in `<state>/policy` override.
    #[command(subcommand)]
    Policy(policies::Policy),
    /// Show calls that may have changed something, and authentications: time, status, service, call, address, user, scope,
    /// audit id of the token, request id.
    Audit {
        #[command(flatten)]
        place: Where,
        /// Not before this time, as in 2026-01-02T03:04:05Z.
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Only of this user's id.
        #[arg(long, value_name = "ID")]
        user: Option<String>,
        /// At most this many, the newest.
        #[arg(long, value_name = "N", default_value_t = 1000)]
        last: u32,
    },
    /// Users' tokens.
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// One file with the whole cloud: make it, prove it, put it back.
    #[command(subcommand)]
    Backup(safety::Backup),
    /// Another version of the appliance: look at it, install it, see how it went.
    #[command(subcommand)]
    Update(update::Update),
    /// Forget the settings, or everything, at the next start.
    #[command(subcommand)]
    Reset(safety::Reset),
    /// Copy the appliance from the medium that it was started from to a disk of the machine.
    Install(install::Install),
    /// The appliance's own network.
    Network(onsite::Network),
    /// The screen of the machine: how it is, its network, log, reset, power.
    Screen(onsite::Screen),
    /// What the appliance does before `serve`: the preseed of its first boot, its name and time zone.
    FirstBoot(first_boot::Arguments),
    /// The process of one server; started by `serve`.
    #[command(hide = true)]
    Vm { directory: PathBuf },
    /// The jailed conversion of one image; started by `serve`.
    #[command(hide = true)]
    Convert {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    place: Where,
    /// The address to listen on [default: ::, every IPv6 and IPv4 address].
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// The port of every API and the dashboard; 0 takes any free one [default: 443].
    #[arg(long, value_name = "N")]
    https_port: Option<i64>,
    /// The port that redirects and hands out the CA; 0 is off [default: 80].
    #[arg(long, value_name = "N")]
    http_port: Option<i64>,
    /// Answer also on the ports that OpenStack tools know [default: on].
    #[arg(long, value_name = "on|off")]
    service_ports: Option<Switch>,
    /// The name or address by which clients reach this machine.
    #[arg(long, value_name = "NAME")]
    public_host: Option<String>,
    /// How servers run: auto, kvm, tcg or fake [default: auto].
    #[arg(long, value_name = "DRIVER")]
    driver: Option<String>,
    /// The region in the catalog [default: RegionOne].
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
    /// Do not register this machine in Placement, which then starts empty.
    #[arg(long)]
    no_self_provider: bool,
    /// Log as text or json [default: text].
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// The least serious event that is logged: error, warn, info, debug, trace [default: info].
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Debug, Args)]
struct Doctor {
    #[command(flatten)]
    place: Where,
    /// Print JSON for machines.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check a file and say everything that is wrong with it.
    Check {
        /// [default: /etc/solostack/solostack.toml]
        file: Option<PathBuf>,
        #[arg(long, value_name = "FILE", conflicts_with = "file")]
        config: Option<PathBuf>,
    },
    /// Print a file with every key, its meaning and its default.
    Sample,
}

#[derive(Debug, Subcommand)]
enum IdentityCommand {
    /// Encrypt new tokens with the next key. Tokens of the key before stay good. A running `serve` follows within
    /// seconds.
    RotateKeys {
        #[command(flatten)]
        place: Where,
    },
}

impl Serve {
    fn load(&self) -> Result<Config, Failure> {
        let text = |value: &Option<String>| value.clone().map(Value::Text);
        let flags = [
            ("listen", "--listen", text(&self.listen)),
            ("https_port", "--https-port", self.https_port.map(Value::Int)),
            ("http_port", "--http-port", self.http_port.map(Value::Int)),
            ("service_ports", "--service-ports", self.service_ports.map(|s| Value::Bool(matches!(s, Switch::On)))),
            ("public_host", "--public-host", text(&self.public_host)),
            ("driver", "--driver", text(&self.driver)),
            ("region", "--region", text(&self.region)),
            ("self_provider", "--no-self-provider", self.no_self_provider.then_some(Value::Bool(false))),
            ("log.format", "--log-format", text(&self.log_format)),
            ("log.level", "--log-level", text(&self.log_level)),
        ];
        let mut overrides = self.place.overrides()?;
        overrides
            .extend(flags.into_iter().filter_map(|(key, flag, value)| Some(Override { key, flag, value: value? })));
        Ok(config::load(self.place.config.as_deref(), &overrides)?)
    }
}

/// The whole program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, with status 0. A closed pipe is no reason to panic.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match run(cli.command, &mut std::io::stdout().lock()) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "solostack: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    match command {
        Command::Serve(arguments) => {
            // Settings that cannot be read are forgotten if somebody asked for that.
            let config = match arguments.load() {
                Err(_) if safety::forgets_settings(&arguments.place)? => arguments.load()?,
                loaded => loaded?,
            };
            let sending = logging::init_serving(&config)?;
            let served = run_to_end(async {
                let changed = safety::before_serving(&config).await?;
                serve::run(if changed { arguments.load()? } else { config }).await
            });
            if let Some(sending) = sending {
                sending.flush(LAST_WORDS);
            }
            served?;
        }
        Command::Down(place) => {
            let config = place.load()?;
            logging::init(&config.log)?;
            run_to_end(serve::down(config))?;
        }
        Command::Doctor(arguments) => {
            quiet()?;
            let config = arguments.place.load()?;
            let mut report = run_to_end(async { Ok(doctor::examine(&config).await) })?;
            report.rows.push(policies::health(&config));
            if arguments.json {
                writeln!(out, "{}", report.to_json())?;
            } else {
                write!(out, "{}", report.to_text())?;
            }
            return Ok(ExitCode::from(report.exit_code()));
        }
        Command::Config(ConfigCommand::Check { file, config }) => {
            let named = file.or(config);
            let config = config::load(named.as_deref(), &[])?;
            appliance::network::check(&config).map_err(|problems| problems.join("\n"))?;
            let default = Path::new(config::DEFAULT_FILE);
            match named.as_deref().or_else(|| default.exists().then_some(default)) {
                Some(file) => writeln!(out, "{}: fine", file.display())?,
                None => writeln!(out, "there is no {}: every key has its default", default.display())?,
            }
        }
        Command::Config(ConfigCommand::Sample) => write!(out, "{}", config::sample())?,
        Command::Ca(command) => {
            quiet()?;
            ca::run(command, out)?;
        }
        Command::Audit { place, since, user, last } => {
            quiet()?;
            let since = match since {
                Some(text) => match db::clock::parse(&text) {
                    Some(at) => Some(db::clock::text(at)),
                    None => return Err(format!("--since: {text} is not a time").into()),
                },
                None => None,
            };
            let db = Layout::of(&place.load()?).open_database()?;
            audit::print(&db, &audit::Asked { since, user_id: user, last }, out)?;
        }
        Command::Policy(command) => {
            quiet()?;
            if !policies::run(command, out)? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Identity(IdentityCommand::RotateKeys { place }) => {
            quiet()?;
            cloud::identity(&place.load()?)?.rotate_keys()?;
            writeln!(out, "rotated; a running `solostack serve` follows within seconds")?;
        }
        Command::Backup(command) => {
            quiet()?;
            safety::run_backup(command, out)?;
        }
        Command::Update(command) => {
            quiet()?;
            run_to_end(update::run(command, out))?;
        }
        Command::Reset(command) => {
            quiet()?;
            safety::run_reset(command, out)?;
        }
        Command::Install(asked) => {
            quiet()?;
            install::run(asked, &mut std::io::stdin().lock(), out)?;
        }
        Command::Network(asked) => onsite::network(asked, out)?,
        Command::Screen(asked) => onsite::screen(asked)?,
        Command::FirstBoot(arguments) => {
            quiet()?;
            first_boot::run(arguments, out)?;
        }
        // A server's process must not have as much as a second thread before it is in its jail.
        Command::Vm { directory } => return Ok(hypervisor::vm_process::main(&directory)),
        Command::Convert { args } => return Ok(disks::convert_main(args)),
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// How long the last messages of a program that ends may take to a syslog server.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_secs(2);

/// With glibc's own choice, eight for each core, a cloud of a thousand servers has a sixth more memory.
const HEAP_ARENAS: i32 = 2;

/// Runs to the end, and does not wait for what other threads still do: all of that is safe to cut off, as by a crash.
fn run_to_end<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    // Requests read the database on these threads (`Db::read`): with a few more than a small machine has cores, a long
    // list does not hold up the others.
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    hypervisor::heap::bound(HEAP_ARENAS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(cores.max(4)).enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start threads: {error}"))?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

/// Answers on a terminal need no log of how they were found.
fn quiet() -> Result<(), Failure> {
    Ok(logging::init(&Log { format: LogFormat::Text, level: "warn" })?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use config::Driver;

    fn serve_config(arguments: &[&str]) -> Result<Config, String> {
        let cli = Cli::try_parse_from([&["solostack", "serve"], arguments].concat()).map_err(|e| e.to_string())?;
        let Command::Serve(serve) = cli.command else { panic!("not serve") };
        serve.load().map_err(|e| e.to_string())
    }

    fn answer(arguments: &[&str]) -> Result<String, String> {
        let cli = Cli::try_parse_from([&["solostack"], arguments].concat()).map_err(|e| e.to_string())?;
        let mut out = Vec::new();
        run(cli.command, &mut out).map_err(|e| e.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_arguments_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_of_serve_reaches_the_configuration() {
        let config = serve_config(&[
            "--state",
            "/s",
            "--listen",
            "::1",
            "--https-port",
            "8443",
            "--http-port",
            "0",
            "--service-ports",
            "off",
            "--public-host",
            "cloud.example",
            "--driver",
            "fake",
            "--region",
            "Home",
            "--no-self-provider",
            "--log-format",
            "json",
            "--log-level",
            "debug",
        ])
        .unwrap();
        let expected = Config {
            state_dir: "/s".into(),
            listen: "::1".parse().unwrap(),
            https_port: 8443,
            http_port: None,
            service_ports: false,
            public_host: Some("cloud.example".into()),
            driver: Driver::Fake,
            region: "Home".into(),
            self_provider: false,
            log: Log { format: LogFormat::Json, level: "debug" },
            ..Config::default()
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn a_relative_state_directory_is_relative_to_where_the_user_stands() {
        let config = serve_config(&["--state", "state"]).unwrap();
        assert_eq!(config.state_dir, std::env::current_dir().unwrap().join("state"));
    }

    #[test]
    fn bad_flags_are_refused_by_their_name() {
        for (arguments, text) in [
            (&["--https-port", "70000"][..], "--https-port: 70000 is not between 0 and 65535"),
            (&["--https-port", "x"], "--https-port"),
            (&["--driver", "vmware"], "--driver: \"vmware\" is not one of auto, kvm, tcg, fake"),
            (&["--listen", "here"], "--listen: \"here\" is not an IP address"),
            (&["--service-ports", "maybe"], "possible values: on, off"),
            (&["--public-host", "a b"], "--public-host"),
            (&["--log-level", "loud"], "--log-level"),
            (&["--config", "/nowhere/x.toml"], "/nowhere/x.toml: cannot be read"),
            (&["--confg", "x"], "--config"),
        ] {
            let error = serve_config(arguments).expect_err(text);
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn config_check_says_fine_or_everything_that_is_wrong() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        std::fs::write(path, config::sample()).unwrap();
        assert_eq!(answer(&["config", "check", path]).unwrap(), format!("{path}: fine\n"));
        std::fs::write(path, "drivr = 1\nregion = 2").unwrap();
        let error = answer(&["config", "check", "--config", path]).unwrap_err();
        assert_eq!(error.lines().count(), 2, "{error}");
        assert!(error.starts_with(&format!("{path}:1: unknown key drivr; the nearest known key is driver")), "{error}");
        assert_eq!(answer(&["config", "sample"]).unwrap(), config::sample());
    }

    #[test]
    fn policy_lists_shows_checks_and_explains() {
        let dir = tempfile::tempdir().unwrap();
        let state = ["--state", dir.path().to_str().unwrap()];
        let ask = |arguments: &[&str]| answer(&[&["policy"], arguments, &state].concat());
        let error = ask(&["explain", "identity:list_users", "--user", "admin", "--system"]).unwrap_err();
        assert!(error.contains("there is no cloud in"), "{error}");
        assert!(ask(&["check"]).unwrap().contains("every rule has its default"));

        let layout = Layout { root: dir.path().to_owned() };
        let made = run_to_end(async {
            let db = db::Db::open(&layout.database())?;
            let options = cloud::identity_options(&Config::default(), &layout, 443);
            let app = identity::App::new(db, db::Clock::default(), options)?;
            let wanted = identity::Bootstrap { admin_password: Some("secret".into()), services: &[] };
            Ok(app.bootstrap(&wanted).await?)
        });
        made.unwrap();
        let explain = |more: &[&str]| ask(&[&["explain", "identity:create_region", "--user", "admin"], more].concat());
        let text = explain(&["--project", "admin"]).unwrap();
        assert!(text.starts_with("identity:create_region: allowed\nyes  "), "{text}");
        assert!(text.contains("\nyes    rule:admin_required"), "{text}");
        assert!(explain(&[]).unwrap().starts_with("identity:create_region: denied\n"));
        assert!(explain(&["--project", "nowhere"]).unwrap_err().contains("Could not find project: nowhere."));

        std::fs::create_dir(layout.policy()).unwrap();
        let file = layout.policy().join("identity.yaml");
        std::fs::write(&file, "\"identity:create_region\": \"!\"\n").unwrap();
        assert!(explain(&["--project", "admin"]).unwrap().starts_with("identity:create_region: denied\nno   !"));
        assert!(ask(&["check"]).unwrap().contains("identity.yaml: fine"));
        assert!(ask(&["list", "identity"]).unwrap().contains("* identity   identity:create_region  !"));
        let shown = ask(&["show", "identity:create_region"]).unwrap();
        assert!(shown.contains("POST /v3/regions") && shown.contains("in force  !"), "{shown}");
        std::fs::write(&file, "\"identity:create_region\": \"role:\"").unwrap();
        assert!(ask(&["check"]).unwrap_err().contains("identity.yaml: policy rule \"identity:create_region\""));
        assert!(ask(&["show", "no:such"]).unwrap_err().contains("no service has a rule"));
        assert!(ask(&["list", "dns"]).unwrap_err().contains("there are identity, image"));
        assert!(answer(&["policy", "sample", "image"]).unwrap().contains("#\"add_image\":"));

        let primary = || {
            let keys = std::fs::read_dir(layout.keys().join("fernet")).unwrap();
            keys.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok()).max()
        };
        assert_eq!(primary(), Some(1));
        answer(&[&["identity", "rotate-keys"], &state[..]].concat()).unwrap();
        assert_eq!(primary(), Some(2));
    }

    #[test]
    fn ca_show_makes_no_authority_and_import_refuses_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().to_str().unwrap();
        let error = answer(&["ca", "show", "--state", state]).unwrap_err();
        assert!(error.contains("no authority yet"), "{error}");
        assert!(!dir.path().join("tls").exists());
        assert!(answer(&["ca", "reset", "--state", state]).unwrap_err().contains("nothing to return from"));

        let setup = tls::Setup::in_state_dir(dir.path());
        let fingerprint = tls::Authority::open(setup).unwrap().fingerprint();
        let shown = answer(&["ca", "show", "--state", state]).unwrap();
        assert!(shown.contains(&fingerprint) && shown.contains("built in"), "{shown}");
        let pem = answer(&["ca", "show", "--pem", "--state", state]).unwrap();
        assert_eq!(pem, std::fs::read_to_string(dir.path().join("ca.crt")).unwrap());

        let root = dir.path().join("tls/root.pem");
        let root = root.to_str().unwrap();
        let error = answer(&["ca", "import", "--state", state, "--cert", root, "--key", root]).unwrap_err();
        assert!(error.contains("is a root"), "{error}");
        let error = answer(&["ca", "import", "--state", state, "--cert", "/nowhere", "--key", root]).unwrap_err();
        assert!(error.starts_with("cannot read /nowhere"), "{error}");
    }
}

//! The whole cloud on one state directory: which service gets what, and what starts in which order.
//!
//! Tests start it in process; `serve` puts sockets before it.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{extract::Request, response::Response};
use config::{Config, Driver};
use db::{Clock, Db};
use hypervisor::KvmVerdict;
use rest::{Arrival, Gateway, GatewayOptions};
use tasks::{Engine, EngineBuilder, Faults};

use crate::machine::{OurCertificates, ThisMachine};
use crate::{access, audit, capacity, metrics::Metrics, monitor::Monitor, policies, serve::Failure};

/// First of the user ids that VM processes run as; each server has one of its own.
const RUN_AS_BASE: u32 = 1_879_048_192;
const CONSOLE_LOG_BYTES: u64 = 256 << 10;
/// How long a guest has to react to its power button, unless its image says otherwise.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(60);

/// What a cloud is given besides its configuration.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    pub clock: Clock,
    pub faults: Faults,
    /// What the fake driver has below Network: outlives a process that dies, as a kernel does.
    pub machine: network::FakeHost,
    /// Who signs for this machine; tests without sockets have nobody.
    pub tls: Option<tls::Authority>,
}

/// A running cloud without sockets.
pub struct Cloud {
    pub gateway: Arc<Gateway>,
    trail: Arc<audit::Trail>,
    dashboard: web::Dashboard,
    /// How the cloud is, for the machine itself.
    pub reporter: system::Reporter,
    pub monitor: Monitor,
    pub engine: Engine,
    pub db: Db,
    pub identity: identity::App,
    pub network: network::App,
    pub compute: compute::App,
    /// Held for life: a second process on the same state is refused.
    _lock: StateLock,
}

impl std::fmt::Debug for Cloud {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cloud").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

/// Exclusive use of a state directory.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// # Errors
    /// When another process holds it, with that process's id; or the directory cannot be used.
    pub fn take(state_dir: &Path) -> Result<Self, Failure> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(state_dir)
            .map_err(|error| format!("the state directory {} cannot be made: {error}", state_dir.display()))?;
        let path = state_dir.join("lock");
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                io::Write::write_all(&mut &file, std::process::id().to_string().as_bytes())?;
                Ok(Self { _file: file })
            }
            Err(std::fs::TryLockError::WouldBlock) => {
                let holder = std::fs::read_to_string(&path).unwrap_or_default();
                Err(format!(
                    "the state directory {} is used by another solostack (process {})",
                    state_dir.display(),
                    holder.trim()
                )
                .into())
            }
            Err(std::fs::TryLockError::Error(error)) => Err(error.into()),
        }
    }
}

/// Where things are in a state directory.
#[derive(Clone, Debug)]
pub struct Layout {
    pub root: PathBuf,
}

impl Layout {
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self { root: config.state_dir.clone() }
    }

    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.root.join("solostack.db")
    }

    /// The database of a cloud that is there, running or not.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn open_database(&self) -> Result<Db, Failure> {
        let path = self.database();
        if !path.exists() {
            return Err(format!("there is no cloud in {}", self.root.display()).into());
        }
        Ok(Db::open(&path)?)
    }

    #[must_use]
    pub fn servers(&self) -> PathBuf {
        self.root.join("servers")
    }

    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// Where the first boot leaves the hash of the administrator's password.
    #[must_use]
    pub fn admin_hash(&self) -> PathBuf {
        self.root.join(appliance::ADMIN_HASH)
    }

    /// There while the cloud waits to be claimed.
    #[must_use]
    pub fn unclaimed(&self) -> PathBuf {
        self.root.join(appliance::first_boot::UNCLAIMED)
    }

    /// Where an operator puts `<service type>.yaml`.
    #[must_use]
    pub fn policy(&self) -> PathBuf {
        self.root.join("policy")
    }

    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    #[must_use]
    pub fn network(&self) -> PathBuf {
        self.root.join("network")
    }
}

/// What runs VMs, and why.
#[derive(Clone, Debug)]
pub struct Chosen {
    pub driver: vmspec::Driver,
    pub reason: String,
    /// As `hypervisor_version` shows it: major * 1,000,000 + minor * 1,000 + patch.
    pub version: i64,
}

/// Decides by the configuration, and for `auto` by trying.
///
/// # Errors
/// When what was asked for cannot run here.
pub fn choose_driver(config: &Config) -> Result<Chosen, Failure> {
    if config.driver == Driver::Fake {
        return Ok(Chosen {
            driver: vmspec::Driver::Fake,
            reason: "asked for: servers are only pretended".into(),
            version: 1_000_000,
        });
    }
    let probe = hypervisor::probe();
    let built_in = |reason| Ok(Chosen { driver: vmspec::Driver::Kvm, reason, version: version_number(OWN_VERSION) });
    match (config.driver, &probe.kvm) {
        (Driver::Kvm, KvmVerdict::Usable { .. }) => return built_in("asked for".to_owned()),
        // Who asks for it gets it, slow as it may be, if it is there at all.
        (Driver::Kvm, KvmVerdict::Unusable { reason }) => {
            return match std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
                Ok(_) => built_in(format!("asked for, though {reason}")),
                Err(error) => Err(format!("the kvm driver cannot run here: /dev/kvm: {error}").into()),
            };
        }
        _ => {}
    }
    if config.driver != Driver::Tcg && probe.chosen == Some(vmspec::Driver::Kvm) {
        return built_in(probe.reason);
    }
    let Some(qemu) = &probe.qemu else {
        return Err(
            "no hypervisor can run here: qemu-system-x86_64 was not found (Debian package qemu-system-x86)".into()
        );
    };
    let reason = if config.driver == Driver::Tcg { "asked for".to_owned() } else { probe.reason.clone() };
    Ok(Chosen { driver: vmspec::Driver::Tcg, reason, version: version_number(qemu) })
}

/// The built-in hypervisor has the program's version.
const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");

fn version_number(text: &str) -> i64 {
    let mut parts = text
        .split(|c: char| !c.is_ascii_digit() && c != '.')
        .find(|word| word.contains('.'))
        .unwrap_or_default()
        .split('.')
        .map(|part| part.parse::<i64>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    next() * 1_000_000 + next() * 1_000 + next()
}

impl Cloud {
    /// Opens the state directory, adopts what runs, starts operations. The API answers when this returns.
    ///
    /// # Errors
    /// What is missing or broken, in words for an operator.
    pub async fn open(
        config: &Config,
        lock: StateLock,
        hooks: Hooks,
        pages: axum::Router,
        authority: &str,
    ) -> Result<Self, Failure> {
        let layout = Layout::of(config);
        let clock = hooks.clock;
        let db = Db::open(&layout.database())?;
        let chosen = choose_driver(config)?;
        tracing::info!(driver = %chosen.driver, reason = chosen.reason, "hypervisor chosen");
        let root = nix::unistd::geteuid().is_root();

        let identity =
            identity::App::new(db.clone(), clock.clone(), identity_options(config, &layout, port_of(authority)))?;
        let admin = Arc::new(access::Administrator(identity.clone()));
        let claims = system::Claims::new(db.clone(), clock.clone(), &config.claim.file, &layout.unclaimed(), admin);
        let admin_project_id = access::bootstrap(&identity, &layout, config, authority, &claims).await?;

        let images = images::Images::open(db.clone(), clock.clone(), image_options(config, &layout, &chosen))?;
        let host = if chosen.driver == vmspec::Driver::Fake {
            network::HostSide::Fake(hooks.machine)
        } else {
            network::HostSide::Kernel(hostnet::Host::open(&layout.network()).await?)
        };
        let network = network::App::new(db.clone(), clock.clone(), network_options(config), host);
        network.bootstrap(&admin_project_id).await.map_err(|error| access::explain(&error))?;

        let driver = match chosen.driver {
            vmspec::Driver::Fake => compute::vms::Driver::fake(layout.servers())?,
            _ => compute::vms::Driver::process(compute::vms::ProcessConfig::new(layout.servers()))?,
        };
        let compute = compute::App::new(
            db.clone(),
            clock.clone(),
            compute_options(config, &chosen, root),
            driver,
            images.clone(),
            network.clone(),
        );
        compute.bootstrap().await.map_err(|error| access::explain(&error))?;
        if config.self_provider {
            let traits = capacity::traits(chosen.driver);
            compute::register_host(&compute, capacity::of_this_machine(config), traits)
                .await
                .map_err(|error| access::explain(&error))?;
        }
        compute::adopt(&compute).await.map_err(|error| access::explain(&error))?;

        let engine = EngineBuilder::new(db.clone(), clock.clone(), hooks.faults);
        let engine = images::operations(engine, &images).reconcilers(network.reconcilers());
        let engine = compute.register(engine).start();

        let monitor = Monitor::new(db.clone(), clock.clone());
        let metrics =
            Metrics::new(monitor.clone(), db.clone(), engine.clone(), compute.clone(), hooks.tls.clone(), config);
        let machine = ThisMachine::new(config.clone(), chosen, engine.clone(), identity.clone());
        let certificates = hooks.tls.map(OurCertificates::shared);
        let dashboard = web::Dashboard::new(db.clone(), clock.clone(), &config.region);
        let (system, reporter) =
            system::service(db.clone(), clock.clone(), &config.region, Arc::new(machine), certificates, claims);
        let services = vec![
            identity::service(identity.clone()),
            images::service(&images),
            placement::service(db.clone(), clock.clone()),
            network::service(network.clone()),
            compute::service(compute.clone()),
            system,
        ];
        let options = GatewayOptions {
            default_authority: authority.to_owned(),
            pages: pages.merge(compute.pages()).merge(monitor.pages()).merge(metrics.pages()).merge(dashboard.router()),
            policy_overrides: policies::overrides(&layout),
        };
        let retention = audit::Retention { events: config.audit.keep_events, days: config.audit.keep_days };
        let trail = Arc::new(audit::Trail::start(db.clone(), clock, retention));
        let gateway =
            Gateway::new(services, identity.tokens(), options)?.audited_by(Arc::<audit::Trail>::clone(&trail));
        let gateway = Arc::new(gateway);
        dashboard.connect(&gateway);
        monitor.connect(&gateway);
        Ok(Self { gateway, trail, dashboard, reporter, monitor, engine, db, identity, network, compute, _lock: lock })
    }

    /// Answers one request that arrived on a socket.
    pub async fn handle(&self, arrival: Arrival, request: Request) -> Response {
        self.gateway.handle(arrival, request).await
    }

    /// Replaces a service's policy overrides; a broken text keeps the rules in force.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn load_policy(&self, service: &str, yaml: &str) -> Result<(), policy::OverrideError> {
        self.gateway.load_policy(service, yaml)
    }

    /// Takes over the keys of tokens as another process rotated them.
    ///
    /// # Errors
    /// When they cannot be read; those in use then stay.
    pub fn follow_keys(&self) -> identity::Result<bool> {
        self.identity.follow_keys()
    }

    /// Lets steps under way end, for a little while. Servers run on.
    pub async fn close(&self) {
        self.monitor.close();
        self.dashboard.close();
        self.engine.stop().await;
        self.trail.close().await;
    }
}

fn port_of(authority: &str) -> u16 {
    authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(443)
}

/// Identity on the state of a cloud that may be running.
///
/// # Errors
/// There is no cloud, or its database or keys cannot be read.
pub fn identity(config: &Config) -> Result<identity::App, Failure> {
    let layout = Layout::of(config);
    let options = identity_options(config, &layout, config.https_port);
    Ok(identity::App::new(layout.open_database()?, Clock::default(), options)?)
}

/// What Identity is told; `https_port` only stands in the catalog.
pub fn identity_options(config: &Config, layout: &Layout, https_port: u16) -> identity::Options {
    let keys = &config.identity;
    identity::Options {
        keys_dir: layout.keys(),
        token_lifetime_s: keys.token_lifetime_s,
        receipt_lifetime_s: keys.receipt_lifetime_s,
        directory_cache_s: keys.directory_cache_s,
        region: config.region.clone(),
        https_port,
        public_host: config.public_host.clone(),
        passwords: identity::PasswordRules {
            lockout_failure_attempts: keys.lockout_failure_attempts,
            lockout_duration_s: keys.lockout_duration_s,
            expires_days: keys.password_expires_days,
            unique_last_count: keys.unique_last_password_count,
            minimum_age_days: keys.minimum_password_age_days,
            regex: keys.password_regex.clone(),
            regex_description: keys.password_regex_description.clone().unwrap_or_default(),
            change_upon_first_use: keys.change_password_upon_first_use,
            inactive_days: keys.disable_user_account_days_inactive,
        },
        oidc: keys.oidc.iter().map(|(id, oidc)| (id.clone(), oidc_provider(oidc))).collect(),
        trusted_dashboards: keys.trusted_dashboards.clone(),
        ..identity::Options::default()
    }
}

fn oidc_provider(oidc: &config::Oidc) -> identity::OidcProvider {
    identity::OidcProvider {
        issuer: oidc.issuer.clone(),
        client_id: oidc.client_id.clone(),
        client_secret: oidc.client_secret.as_ref().map(|secret| identity::Secret(secret.0.clone())),
        client_secret_file: oidc.client_secret_file.clone(),
        audience: oidc.audience.clone(),
        introspection: match oidc.introspection {
            config::Introspection::Off => identity::Introspection::Off,
            config::Introspection::Opaque => identity::Introspection::Opaque,
            config::Introspection::All => identity::Introspection::All,
        },
        algorithms: oidc.algorithms.clone(),
        ca_file: oidc.ca_file.clone(),
        scopes: oidc.scopes.clone(),
    }
}

fn image_options(config: &Config, layout: &Layout, chosen: &Chosen) -> images::Options {
    let converter = match chosen.driver {
        vmspec::Driver::Fake => images::Converter::InProcess,
        _ => images::Converter::Helper("/proc/self/exe".into()),
    };
    let mut options = images::Options::new(layout.images(), converter);
    options.max_image_bytes = config.limits.image_bytes;
    options.require_format_match = config.images.require_format_match;
    let set = &config.images;
    options.downloads = set.web_download.then(|| images::Downloads {
        guard: images::Guard {
            allowed_hosts: set.web_download_allowed_hosts.clone(),
            denied_hosts: set.web_download_denied_hosts.clone(),
            allowed_ports: set.web_download_ports.clone(),
            allowed_networks: set.web_download_allowed_networks.clone(),
            denied_networks: set.web_download_denied_networks.clone(),
        },
        ca_file: set.web_download_ca_file.clone(),
        max_seconds: set.web_download_max_seconds,
    });
    options
}

fn network_options(config: &Config) -> network::Options {
    let quota = &config.quota;
    let quotas = [
        ("network", quota.networks),
        ("subnet", quota.subnets),
        ("port", quota.ports),
        ("router", quota.routers),
        ("floatingip", quota.floating_ips),
        ("security_group", quota.security_groups),
        ("security_group_rule", quota.security_group_rules),
    ];
    network::Options {
        region: config.region.clone(),
        host_name: capacity::host_name(),
        dns_servers: if config.network.dns_servers.is_empty() {
            hostnet::host_resolvers()
        } else {
            config.network.dns_servers.clone()
        },
        quotas: quotas.into_iter().map(|(name, limit)| (name.to_owned(), limit)).collect(),
        external_cidr: config.network.external_subnet.into(),
        private_cidr: config.network.private_subnet.into(),
        ..network::Options::default()
    }
}

fn compute_options(config: &Config, chosen: &Chosen, root: bool) -> compute::Options {
    let quota = &config.quota;
    compute::Options {
        host_name: capacity::host_name(),
        // An address even where the public host is a name.
        host_address: crate::listen::public_host(&Config { public_host: None, ..config.clone() }),
        availability_zone: "nova".into(),
        quotas: compute::Quotas {
            instances: quota.instances,
            cores: quota.cores,
            ram_mib: quota.ram_mib,
            metadata_items: quota.metadata_items,
            key_pairs: quota.key_pairs,
            server_groups: quota.server_groups,
            server_group_members: quota.server_group_members,
        },
        driver: chosen.driver,
        driver_reason: chosen.reason.clone(),
        hypervisor_version: chosen.version,
        run_as_base: (root && chosen.driver != vmspec::Driver::Fake).then_some(RUN_AS_BASE),
        console_log_bytes: CONSOLE_LOG_BYTES,
        shutdown_timeout: SHUTDOWN_TIMEOUT,
        resize_confirm_window: (config.resize_confirm_window_s > 0)
            .then(|| Duration::from_secs(config.resize_confirm_window_s)),
        resume_after_host_boot: config.resume_guests_on_host_boot,
        keep_deleted: compute::KeepDeleted {
            days: config.deleted_servers.keep_days,
            count: config.deleted_servers.keep_count,
        },
        shelved_offload_after: config.shelved_offload_after_s.map(Duration::from_secs),
        config_drive_format: match config.config_drive_format {
            config::ConfigDriveFormat::Iso9660 => compute::ConfigDriveFormat::Iso9660,
            config::ConfigDriveFormat::Vfat => compute::ConfigDriveFormat::Vfat,
        },
        vendor_data: BTreeMap::new(),
    }
}

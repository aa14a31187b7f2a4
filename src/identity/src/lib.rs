//! Identity (Keystone v3): who a caller is, what the caller may do, and where the services are.
//!
//! What must stay true:
//! - no token is stored; a token is good only while its keys, its user, its scope and at least one role there are;
//! - whatever a token depends on lives in tables `identity_*`, so the generation of those tables guards every cache;
//! - an unknown user, a wrong password and a disabled account answer the same status, body and take the same time.

mod application_credentials;
mod assignments;
mod bootstrap;
mod catalog;
mod credentials;
mod directory;
mod domains;
mod errors;
mod federation;
mod fernet;
mod fields;
mod groups;
mod home;
mod limits;
mod listing;
mod oauth1;
mod passwords;
pub mod peer;
mod policies;
mod policy;
mod projects;
mod roles;
mod routes;
mod tokens;
mod trusts;
mod users;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use db::{Clock, Db};
use rest::{ApiVersion, DiscoveryStyle, ServiceInfo, Style};

pub use bootstrap::{Bootstrap, BootstrapOutcome, SetPassword};
pub use federation::oidc::{Introspection, OidcProvider, Secret};
pub use passwords::PasswordRules;
pub use tokens::ScopeName;

/// Why Identity could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the key repository {path} cannot be used: {why}")]
    Keys { path: String, why: String },
    #[error(transparent)]
    Db(#[from] db::Error),
    #[error("a password cannot be hashed: {0}")]
    Hash(String),
    #[error("the pattern for passwords is not a regular expression: {0}")]
    Pattern(String),
    #[error("the identity provider {provider} of the configuration cannot be used: {why}")]
    Oidc { provider: String, why: String },
}

pub type Result<T> = std::result::Result<T, Error>;

/// What the wiring decides.
#[derive(Clone, Debug)]
pub struct Options {
    /// Holds `fernet/` and `credential/`, created 0700 when missing.
    pub keys_dir: PathBuf,
    pub token_lifetime_s: u64,
    /// How long a first factor is remembered for who still owes another.
    pub receipt_lifetime_s: u64,
    /// For how long what was seen of a directory's user is believed.
    pub directory_cache_s: u64,
    /// How long after its expiry a service may still validate a token (`allow_expired`).
    pub allow_expired_window_s: u64,
    pub region: String,
    /// The port that carries all services: catalog URLs name it when the client came through a service's own port.
    pub https_port: u16,
    /// The host in catalog URLs; `None`: the one that the client used.
    pub public_host: Option<String>,
    pub passwords: PasswordRules,
    /// Whose tokens let people in, by the id of the identity provider in OS-FEDERATION.
    pub oidc: BTreeMap<String, OidcProvider>,
    /// Addresses that a browser's sign-in may bring a token to, in full.
    pub trusted_dashboards: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            keys_dir: PathBuf::from("keys"),
            token_lifetime_s: 3600,
            receipt_lifetime_s: 300,
            directory_cache_s: 60,
            allow_expired_window_s: 172_800,
            region: "RegionOne".into(),
            https_port: 443,
            public_host: None,
            passwords: PasswordRules::default(),
            oidc: BTreeMap::new(),
            trusted_dashboards: Vec::new(),
        }
    }
}

/// The service's state; clones share everything.
#[derive(Clone, Debug)]
pub struct App {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) options: Arc<Options>,
    pub(crate) keys: Arc<fernet::Keys>,
    pub(crate) secrets: Arc<fernet::Keys>,
    pub(crate) hasher: passwords::Hasher,
    pub(crate) rules: Arc<passwords::Rules>,
    pub(crate) passcodes: Arc<passwords::totp::Spent>,
    pub(crate) cache: Arc<tokens::Cache>,
    pub(crate) catalog: Arc<catalog::Cache>,
    pub(crate) directories: Arc<directory::Directories>,
    pub(crate) issuers: Arc<federation::oidc::Issuers>,
}

impl App {
    /// Opens (or creates) the key repositories.
    ///
    /// # Errors
    /// When keys cannot be read or written.
    pub fn new(db: Db, clock: Clock, options: Options) -> Result<Self> {
        let keys = fernet::Keys::open(&options.keys_dir.join("fernet"))?;
        let secrets = fernet::Keys::open(&options.keys_dir.join("credential"))?;
        let generation = db.generation("identity");
        Ok(Self {
            cache: Arc::new(tokens::Cache::new(generation.clone())),
            directories: Arc::new(directory::Directories::new(generation.clone())),
            catalog: Arc::new(catalog::Cache::new(generation)),
            keys: Arc::new(keys),
            secrets: Arc::new(secrets),
            hasher: passwords::Hasher::new()?,
            rules: Arc::new(passwords::Rules::new(options.passwords.clone())?),
            passcodes: Arc::default(),
            issuers: Arc::new(federation::oidc::Issuers::new(&options.oidc)?),
            options: Arc::new(options),
            db,
            clock,
        })
    }

    /// What the gateway asks about tokens.
    #[must_use]
    pub fn tokens(&self) -> Arc<dyn rest::TokenCheck> {
        Arc::new(tokens::Checker::new(self.clone()))
    }

    /// Whether there is more than one domain that a user can be of.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn several_domains(&self) -> Result<bool> {
        let count = self.db.read_blocking(|tx| {
            tx.count("SELECT count(*) FROM identity_project WHERE is_domain = 1 AND enabled = 1", [])
        });
        Ok(count.map_err(|error: db::Error| error)? > 1)
    }

    /// Takes over keys that `solostack identity rotate-keys` rotated. True when they are others than before.
    ///
    /// # Errors
    /// When the repository cannot be read; the keys in use then stay.
    pub fn follow_keys(&self) -> Result<bool> {
        let changed = self.keys.follow()?;
        if changed {
            self.db.generation("identity").bump();
        }
        Ok(changed)
    }

    /// Makes the staged key the primary one and stages a new one; tokens of keys that fall out stop working.
    ///
    /// # Errors
    /// When the repository cannot be written; the keys in use then stay.
    pub fn rotate_keys(&self) -> Result<()> {
        self.keys.rotate()?;
        // Tokens of a key that is gone must not live on in the cache.
        self.db.generation("identity").bump();
        Ok(())
    }
}

/// What the gateway and the catalog know of Identity.
pub const INFO: ServiceInfo = ServiceInfo {
    kind: "identity",
    name: "keystone",
    style: Style::Identity,
    prefix: "/identity",
    port: 5000,
    catalog_path: "",
    microversions: None,
    discovery: DiscoveryStyle::Identity,
    versions: &[ApiVersion {
        id: "v3.14",
        status: "stable",
        path: "/v3/",
        updated: "2020-04-07T00:00:00Z",
        microversions: false,
    }],
};

/// Identity as the gateway mounts it.
#[must_use]
pub fn service(app: App) -> rest::Service {
    let table = routes::table();
    let (root, v3) = (home::document(&table, "/v3"), home::document(&table, ""));
    rest::Service::new(INFO, app, table, policy::BASE).with_home("/", root).with_home("/v3", v3)
}

/// Every policy rule of this service.
#[must_use]
pub fn rules() -> Vec<rest::Rule> {
    rest::rules_of(&routes::table(), policy::BASE)
}

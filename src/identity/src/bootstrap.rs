//! What must exist before anyone can log in. Run at every start: what is there stays as it is, what a newer program
//! needs is added.

use db::{Tx, params};
use rest::Result;
use serde_json::{Map, json};

use crate::{
    App,
    assignments::store::{Assignment, Target, insert as grant},
    catalog::{endpoints, services},
    fernet,
    passwords::{self, NewPassword},
    projects::store::{self as projects, Project},
    roles::store::{self as roles, Role},
    users::store::{self as users, User},
};

pub(crate) const DEFAULT_DOMAIN: &str = "default";

/// Each implies the next.
const CHAIN: [&str; 4] = ["admin", "manager", "member", "reader"];

/// What the wiring wants to exist.
#[derive(Clone, Debug)]
pub struct Bootstrap<'a> {
    /// For the first run; `None`: a random one.
    pub admin_password: Option<String>,
    /// Type, name, and path of the URL below the machine's base: `("compute", "nova", "/compute/v2.1")`.
    pub services: &'a [(&'a str, &'a str, &'a str)],
}

#[derive(Clone)]
pub struct BootstrapOutcome {
    /// The administrator's password, only when this run made the administrator. Nobody can read it again later.
    pub admin_password: Option<String>,
    pub admin_user_id: String,
    pub admin_project_id: String,
    /// Whether this run changed anything.
    pub changed: bool,
}

impl std::fmt::Debug for BootstrapOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BootstrapOutcome").field("changed", &self.changed).finish_non_exhaustive()
    }
}

impl App {
    /// Whether [`App::bootstrap`] has ever made the first user here.
    ///
    /// # Errors
    /// The database's.
    pub fn bootstrapped(&self) -> crate::Result<bool> {
        Ok(self.db.read_blocking(|tx| tx.exists("SELECT 1 FROM identity_project WHERE id = ?", [DEFAULT_DOMAIN]))?)
    }

    /// # Errors
    /// When the database or the random number generator fails; nothing is changed then.
    pub async fn bootstrap(&self, wanted: &Bootstrap<'_>) -> crate::Result<BootstrapOutcome> {
        // An ordinary start changes nothing: find out without waking the writer.
        let first = !self.bootstrapped()?;
        let mut secret = None;
        if first {
            let password = match &wanted.admin_password {
                Some(password) => password.clone(),
                None => fernet::random_secret().ok_or_else(|| crate::Error::Hash("no random numbers".into()))?,
            };
            let text = password.clone();
            let hash = tokio::task::spawn_blocking(move || passwords::hash(&text))
                .await
                .map_err(|error| crate::Error::Hash(error.to_string()))?
                .map_err(crate::Error::Hash)?;
            secret = Some((password, hash));
        }
        let services: Vec<(String, String, String)> = wanted
            .services
            .iter()
            .map(|(kind, name, path)| ((*kind).to_owned(), (*name).to_owned(), (*path).to_owned()))
            .collect();
        let hash = secret.as_ref().map(|(_, hash)| hash.clone());
        let (now, region) = (self.clock.now_text(), self.options.region.clone());
        let mut outcome = self
            .db
            .write(move |tx| -> Result<BootstrapOutcome> { ensure(tx, &services, hash.as_deref(), &now, &region) })
            .await
            .map_err(|error| crate::Error::Db(db::Error::Corrupt(format!("{}: {}", error.public(), error.causes()))))?;
        if outcome.admin_password.is_some() {
            outcome.admin_password = secret.map(|(password, _)| password);
        }
        Ok(outcome)
    }
}

/// Sets the first user's password in a transaction of the caller's.
pub type SetPassword = Box<dyn FnOnce(&Tx<'_>) -> Result<()> + Send>;

impl App {
    /// The first user's password, chosen by whoever may.
    ///
    /// # Errors
    /// 400 when it may not be one.
    pub async fn first_password(&self, password: String) -> Result<SetPassword> {
        self.rules.check(&password)?;
        let hash = self.hasher.hash(password).await?;
        Ok(self.set_first_password(hash))
    }

    /// The first user's password, known by its hash.
    ///
    /// # Errors
    /// 400 when it is no hash that could be verified.
    pub fn first_password_hash(&self, hash: String) -> Result<SetPassword> {
        if !passwords::is_hash(&hash) {
            return Err(rest::Error::bad_request("The hash is no argon2id hash in PHC form with 32 bytes of output."));
        }
        Ok(self.set_first_password(hash))
    }

    fn set_first_password(&self, hash: String) -> SetPassword {
        let password = self.rules.new_password(hash, self.clock.now(), true, &Map::new());
        let keep = self.rules.unique_last_count();
        Box::new(move |tx| Ok(users::set_password(tx, &recall(tx, "admin_user_id")?, Some(&password), keep)?))
    }
}

fn ensure(
    tx: &Tx<'_>,
    wanted: &[(String, String, String)],
    hash: Option<&str>,
    now: &str,
    region: &str,
) -> Result<BootstrapOutcome> {
    let mut changed = false;
    // Names and passwords are the operator's once they exist: only the first run makes domain, project and user.
    let fresh = projects::find_domain(tx, DEFAULT_DOMAIN)?.is_none();
    if fresh {
        changed = true;
        projects::insert(tx, &project(DEFAULT_DOMAIN, "Default", None, "The default domain"))?;
        let admin = rest::new_hex_id();
        projects::insert(
            tx,
            &project(&admin, "admin", Some(DEFAULT_DOMAIN), "Bootstrap project for initializing the cloud."),
        )?;
        let user = User {
            id: rest::new_hex_id(),
            name: "admin".into(),
            domain_id: DEFAULT_DOMAIN.into(),
            enabled: true,
            default_project_id: None,
            password_expires_at: None,
            from_directory: false,
            last_active_on: None,
            options: Map::new(),
            extra: Map::new(),
        };
        // Made up here or by the operator: it never expires by itself.
        let password = hash.map(|hash| NewPassword {
            hash: hash.to_owned(),
            created_at: now.to_owned(),
            expires_at: None,
            self_service: false,
        });
        users::insert(tx, &user, password.as_ref(), now)?;
        remember(tx, "admin_user_id", &user.id)?;
        remember(tx, "admin_project_id", &admin)?;
    }
    for name in CHAIN.iter().chain(&["service"]) {
        if roles::find_by_name(tx, name)?.is_none() {
            changed = true;
            let mut options = Map::new();
            options.insert("immutable".into(), json!(true));
            roles::insert(
                tx,
                &Role {
                    id: rest::new_hex_id(),
                    name: (*name).into(),
                    domain_id: None,
                    description: None,
                    options,
                    extra: Map::new(),
                },
            )?;
        }
    }
    let admin_user_id = recall(tx, "admin_user_id")?;
    let admin_project_id = recall(tx, "admin_project_id")?;
    if fresh {
        for pair in CHAIN.windows(2) {
            if let (Some(prior), Some(implied)) = (roles::find_by_name(tx, pair[0])?, roles::find_by_name(tx, pair[1])?)
            {
                roles::insert_implied(tx, &prior.id, &implied.id)?;
            }
        }
        let role = roles::find_by_name(tx, "admin")?.map(|role| role.id).unwrap_or_default();
        for (target, target_id) in [(Target::Project, admin_project_id.as_str()), (Target::System, "")] {
            let assignment = Assignment {
                role_id: role.clone(),
                user_id: Some(admin_user_id.clone()),
                group_id: None,
                target,
                target_id: target_id.into(),
                inherited: false,
            };
            grant(tx, &assignment)?;
        }
    }
    // A service that the operator took out of the catalog stays out.
    for (kind, name, path) in wanted {
        let key = format!("service:{kind}");
        if recall(tx, &key)?.is_empty() {
            changed = true;
            let (id, new) = services::ensure(tx, kind, name)?;
            if new {
                endpoints::insert_three(tx, &id, region, path)?;
            }
            remember(tx, &key, &id)?;
        }
    }
    Ok(BootstrapOutcome { admin_password: fresh.then(String::new), admin_user_id, admin_project_id, changed })
}

fn project(id: &str, name: &str, domain_id: Option<&str>, description: &str) -> Project {
    Project {
        id: id.into(),
        name: name.into(),
        domain_id: domain_id.map(Into::into),
        parent_id: domain_id.map(Into::into),
        is_domain: domain_id.is_none(),
        description: description.into(),
        enabled: true,
        options: Map::new(),
        extra: Map::new(),
        tags: Vec::new(),
    }
}

fn remember(tx: &Tx<'_>, name: &str, value: &str) -> db::Result<()> {
    tx.execute("INSERT INTO identity_bootstrap (name, value) VALUES (?1, ?2)", params![name, value])?;
    Ok(())
}

fn recall(tx: &Tx<'_>, name: &str) -> db::Result<String> {
    let found = tx.find("SELECT value FROM identity_bootstrap WHERE name = ?", [name], |row| row.get(0))?;
    Ok(found.unwrap_or_default())
}

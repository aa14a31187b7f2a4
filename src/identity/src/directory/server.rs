//! The directory server itself: connections, searches, binds.
//!
//! Searches share one connection, bound as the domain's own account; each login has one of its own. Nothing waits longer
//! than its deadline, and after a failure to connect nobody tries for a moment. What the library does is done in a task of
//! its own: it panics on what is no LDAP, and that must not end a request without an answer.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ldap3::{
    Ldap, LdapConnAsync, LdapConnSettings, LdapError, Scope, SearchEntry, SearchOptions,
    adapters::{Adapter, EntriesOnly, PagedResults},
};
use rest::Error;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::sync::Semaphore;

use super::{
    entries::Attributes,
    options::{Settings, Tls},
};

/// One search, all of its pages.
const LONG: Duration = Duration::from_secs(30);
/// One that finds few.
const SHORT: Duration = Duration::from_secs(10);
const FEW: usize = 100;
const BIND_DEADLINE: Duration = Duration::from_secs(10);
/// How long a server that could not be reached is left alone.
const REST: Duration = Duration::from_secs(3);

const LATE: &str = "does not answer in time";

const INVALID_CREDENTIALS: u32 = 49;
const NO_SUCH_OBJECT: u32 = 32;
/// Time and size limits of the server, and its administrator's.
const LIMITS: [u32; 3] = [3, 4, 11];

/// Why a directory did not answer: a word for the client, and the rest for the log.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    what: &'static str,
    why: String,
}

impl Trouble {
    fn new(what: &'static str, why: impl std::fmt::Display) -> Self {
        Self { what, why: why.to_string() }
    }

    fn lost(error: &LdapError) -> Self {
        match error {
            LdapError::LdapResult { result } => {
                Self::new("refuses to be searched", format_args!("result code {}: {}", result.rc, result.text))
            }
            LdapError::Timeout { .. } => Self::new(LATE, error),
            _ => Self::new("cannot be reached", error),
        }
    }
}

/// What a search found.
pub(super) struct Hits {
    pub entries: Vec<Attributes>,
    /// There are more.
    pub cut: bool,
    /// The base of the search is not there.
    pub no_base: bool,
}

pub(super) struct Server {
    domain_id: String,
    settings: Arc<Settings>,
    shared: tokio::sync::Mutex<Option<(Ldap, Instant)>>,
    searches: Semaphore,
    binds: Semaphore,
    down: Mutex<Option<(Instant, Trouble)>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("domain_id", &self.domain_id).finish_non_exhaustive()
    }
}

impl Server {
    pub(super) fn new(domain_id: String, settings: Arc<Settings>) -> Self {
        Self {
            domain_id,
            shared: tokio::sync::Mutex::default(),
            searches: Semaphore::new(settings.searches_at_once),
            binds: Semaphore::new(settings.binds_at_once),
            down: Mutex::default(),
            settings,
        }
    }

    /// 503: the domain's users cannot be asked about now.
    fn unavailable(&self, trouble: &Trouble) -> Error {
        let said = format!("The directory of domain {} {}.", self.domain_id, trouble.what);
        Error::unavailable(said).caused_by(trouble.why.clone())
    }

    /// Entries below `base` (or just that, see `scope`).
    ///
    /// # Errors
    /// 503.
    pub(super) async fn search(
        &self,
        base: &str,
        scope: Scope,
        filter: &str,
        attributes: Vec<String>,
        limit: usize,
    ) -> rest::Result<Hits> {
        let _turn = self.searches.acquire().await.map_err(Error::internal)?;
        // A connection that was idle may be dead without either side knowing: then a new one is tried once.
        for last in [false, true] {
            let (ldap, reused) = self.connection().await.map_err(|trouble| self.unavailable(&trouble))?;
            let done = search(ldap, Arc::clone(&self.settings), base, scope, filter, &attributes, limit).await;
            match done {
                Ok(hits) => {
                    if hits.cut {
                        // The rest of the answer is still under way on this connection.
                        self.shared.lock().await.take();
                    }
                    return Ok(hits);
                }
                Err(trouble) => {
                    self.shared.lock().await.take();
                    if trouble.what == LATE {
                        self.leave_alone(&trouble);
                    }
                    if last || !reused {
                        return Err(self.unavailable(&trouble));
                    }
                }
            }
        }
        Err(Error::internal("a search ended without an answer"))
    }

    /// Whether the entry's password is this. Never called without a password: to a server that would be a login of nobody
    /// in particular (RFC 4513, section 5.1.2).
    ///
    /// # Errors
    /// 503.
    pub(super) async fn bind(&self, dn: &str, password: &str) -> rest::Result<bool> {
        if dn.is_empty() || password.is_empty() {
            return Ok(false);
        }
        let _turn = self.binds.acquire().await.map_err(Error::internal)?;
        let bind = async {
            let mut ldap = self.connect().await?;
            let result = run(BIND_DEADLINE, {
                let (dn, password) = (dn.to_owned(), password.to_owned());
                async move {
                    let result = ldap.simple_bind(&dn, &password).await;
                    let _ = ldap.unbind().await;
                    result
                }
            });
            result.await
        };
        match bind.await {
            Ok(result) if result.rc == 0 => Ok(true),
            Ok(result) => {
                if result.rc != INVALID_CREDENTIALS {
                    // A password that ran out, an account that is locked there: a refusal all the same.
                    tracing::info!(
                        domain.id = self.domain_id,
                        dn,
                        code = result.rc,
                        text = result.text,
                        "a directory refuses a login"
                    );
                }
                Ok(false)
            }
            Err(trouble) => Err(self.unavailable(&trouble)),
        }
    }

    /// A handle on the shared connection, and whether it was there before.
    async fn connection(&self) -> Result<(Ldap, bool), Trouble> {
        let mut shared = self.shared.lock().await;
        if let Some((ldap, since)) = shared.as_mut()
            && since.elapsed() < self.settings.connection_lifetime
            && !ldap.is_closed()
        {
            return Ok((ldap.clone(), true));
        }
        let ldap = self.connect().await?;
        if let Some(user) = self.settings.user.clone() {
            let settings = Arc::clone(&self.settings);
            let mut handle = ldap.clone();
            let result = run(BIND_DEADLINE, async move { handle.simple_bind(&user, &settings.password).await }).await?;
            if result.rc != 0 {
                return Err(Trouble::new(
                    "refuses the account that this cloud has there",
                    format_args!("result code {}: {}", result.rc, result.text),
                ));
            }
        }
        *shared = Some((ldap.clone(), Instant::now()));
        Ok((ldap, false))
    }

    /// A new connection to the first server that answers.
    async fn connect(&self) -> Result<Ldap, Trouble> {
        {
            let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
            match &*down {
                Some((since, trouble)) if since.elapsed() < REST => return Err(trouble.clone()),
                _ => *down = None,
            }
        }
        let mut last = Trouble::new("cannot be reached", "no server is named");
        for url in &self.settings.urls {
            match connect(Arc::clone(&self.settings), url.clone()).await {
                Ok(ldap) => return Ok(ldap),
                Err(trouble) => {
                    tracing::warn!(
                        domain.id = self.domain_id,
                        url,
                        why = trouble.why,
                        "a directory server {}",
                        trouble.what
                    );
                    last = trouble;
                }
            }
        }
        self.leave_alone(&last);
        Err(last)
    }

    /// For a moment, so that those who wait do not wait one after the other.
    fn leave_alone(&self, trouble: &Trouble) {
        *self.down.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), trouble.clone()));
    }
}

/// Waits for a task that may fail in any way at all.
async fn run<T: Send + 'static>(
    deadline: Duration,
    task: impl Future<Output = ldap3::result::Result<T>> + Send + 'static,
) -> Result<T, Trouble> {
    let task = tokio::spawn(task);
    let abort = task.abort_handle();
    match tokio::time::timeout(deadline, task).await {
        Ok(Ok(result)) => result.map_err(|error| Trouble::lost(&error)),
        Ok(Err(error)) => Err(Trouble::new("answers what is no LDAP", error)),
        Err(_) => {
            abort.abort();
            Err(Trouble::new(LATE, format_args!("nothing within {} s", deadline.as_secs())))
        }
    }
}

async fn connect(settings: Arc<Settings>, url: String) -> Result<Ldap, Trouble> {
    let protected = settings.tls == Tls::Start || url.starts_with("ldaps://");
    let timeout = settings.connect_timeout;
    let mut options = LdapConnSettings::new().set_conn_timeout(timeout).set_starttls(settings.tls == Tls::Start);
    if protected {
        if settings.verify {
            // Read anew each time, so that a certificate may be replaced.
            let roots = tokio::task::spawn_blocking(move || roots(&settings)).await;
            let roots = roots.map_err(|error| Trouble::new("is not configured right", error))?;
            if let Some(roots) = roots.map_err(|why| {
                Trouble::new("is not configured right: tls_cacertfile or tls_cacertdir holds no certificates", why)
            })? {
                let provider = Arc::new(rustls::crypto::ring::default_provider());
                let config = ClientConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()
                    .map_err(|error| Trouble::new("cannot be reached", error))?
                    .with_root_certificates(roots)
                    .with_no_client_auth();
                options = options.set_config(Arc::new(config));
            }
        } else {
            options = options.set_no_tls_verify(true);
        }
    }
    let connecting = run(timeout + Duration::from_secs(1), async move {
        let (conn, ldap) = LdapConnAsync::with_settings(options, &url).await?;
        tokio::spawn(async move {
            if let Err(error) = conn.drive().await {
                tracing::debug!(%error, "a connection to a directory ended");
            }
        });
        Ok(ldap)
    });
    connecting.await.map_err(|trouble| {
        let untrusted = trouble.why.contains("certificate");
        if untrusted { Trouble { what: "has a certificate that is not trusted", ..trouble } } else { trouble }
    })
}

/// The authorities that a domain trusts; `None`: those that this machine does.
fn roots(settings: &Settings) -> Result<Option<RootCertStore>, String> {
    let mut texts = Vec::new();
    match &settings.ca_file {
        // The text itself, for who cannot put files on this machine.
        Some(text) if text.starts_with("-----BEGIN") => texts.push(text.clone().into_bytes()),
        Some(path) => texts.push(std::fs::read(path).map_err(|error| format!("{path}: {error}"))?),
        None => {}
    }
    if let Some(folder) = &settings.ca_folder {
        for entry in std::fs::read_dir(folder).map_err(|error| format!("{folder}: {error}"))? {
            let path = entry.map_err(|error| format!("{folder}: {error}"))?.path();
            if path.is_file() {
                texts.push(std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?);
            }
        }
    }
    if settings.ca_file.is_none() && settings.ca_folder.is_none() {
        return Ok(None);
    }
    let mut store = RootCertStore::empty();
    for text in &texts {
        let found: Vec<_> = CertificateDer::pem_slice_iter(text).filter_map(Result::ok).collect();
        store.add_parsable_certificates(found);
    }
    if store.is_empty() { Err("no certificate could be read".into()) } else { Ok(Some(store)) }
}

async fn search(
    mut ldap: Ldap,
    settings: Arc<Settings>,
    base: &str,
    scope: Scope,
    filter: &str,
    attributes: &[String],
    limit: usize,
) -> Result<Hits, Trouble> {
    let (base, filter, attributes) = (base.to_owned(), filter.to_owned(), attributes.to_vec());
    let deadline = if limit <= FEW { SHORT } else { LONG };
    run(deadline, async move {
        let mut adapters: Vec<Box<dyn Adapter<'_, String, Vec<String>>>> = vec![Box::new(EntriesOnly::new())];
        if settings.page_size > 0 && scope != Scope::Base {
            adapters.push(Box::new(PagedResults::new(settings.page_size)));
        }
        ldap.with_timeout(deadline).with_search_options(SearchOptions::new().deref(settings.deref()));
        let mut stream = ldap.streaming_search_with(adapters, &base, scope, &filter, attributes).await?;
        let mut hits = Hits { entries: Vec::new(), cut: false, no_base: false };
        while let Some(entry) = stream.next().await? {
            if hits.entries.len() == limit {
                hits.cut = true;
                return Ok(hits);
            }
            hits.entries.push(Attributes::from(SearchEntry::construct(entry)));
        }
        let result = stream.finish().await;
        match result.rc {
            // Referrals are not followed: who needs another server names it.
            0 | 10 => {}
            NO_SUCH_OBJECT => hits.no_base = true,
            code if LIMITS.contains(&code) => hits.cut = true,
            _ => return Err(LdapError::LdapResult { result }),
        }
        Ok(hits)
    })
    .await
}

//! The authority: what is on disk, what is served, and when either is replaced.
//!
//! Two ways lead to a new leaf. [`Authority::renew_if_due`] runs on a timer, does all file work, and notices what
//! `solostack ca import` did in another process. The handshake only looks: when the leaf in service is not valid at that
//! moment (the timer was late, the machine slept, the clock jumped) it makes one on the spot, without touching the disk.
//! Either way the new leaf replaces the old one by one pointer; connections that exist keep their keys and never notice.

use std::fmt;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use time::OffsetDateTime;

use crate::InvalidName;
use crate::chain::{
    IMPORTED, NAMES, OWN_INTERMEDIATE, ROOT, Root, Serving, intermediate_is_due, load_issuer, load_root, lock,
    make_intermediate, make_leaf, make_root, refuse_second_root, save, save_as, stamps, sync_dir,
};
use crate::files::{self, Stamp};
use crate::import::{self, ImportError, Issuer};
use crate::keys::CryptoFailure;
use crate::names::Names;
use crate::view::{self, Certificate};

/// Tells the time. Tests hand in one that jumps.
pub type Clock = Arc<dyn Fn() -> OffsetDateTime + Send + Sync>;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("cannot {action} {path}: {source}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "the root certificate {root} is missing, but {witness} shows that there was one; clients trust it, so no other \
         is made. Restore {root} from a backup; or, if every client may be given a new root, remove {witness} and \
         everything in {dir}"
    )]
    RootLost { root: PathBuf, witness: PathBuf, dir: PathBuf },
    #[error(
        "the root certificate {root} cannot be used: {reason}. Clients trust it, so no other is made; restore it from a backup"
    )]
    RootDamaged { root: PathBuf, reason: String },
    #[error(
        "the brought intermediate {path} cannot be used: {reason}. Import it again, or return to the built-in one with `solostack ca reset`"
    )]
    ImportDamaged { path: PathBuf, reason: ImportError },
    #[error("the name constraints of the brought intermediate allow none of the names of this machine")]
    NoAllowedName,
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    #[error("cannot {0}")]
    Crypto(&'static str),
}

impl From<CryptoFailure> for Error {
    fn from(CryptoFailure(what): CryptoFailure) -> Self {
        Self::Crypto(what)
    }
}

pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { action, path: path.to_owned(), source }
}

/// Where an authority lives.
#[derive(Clone)]
pub struct Setup {
    /// Keys and certificates; created with mode 0700.
    pub dir: PathBuf,
    /// Kept equal to [`Authority::ca_pem`]. Where it exists, a root was made once.
    pub ca_file: Option<PathBuf>,
    pub clock: Clock,
}

impl Setup {
    /// `<state>/tls/`, `<state>/ca.crt` and the system clock.
    pub fn in_state_dir(state: &Path) -> Self {
        Self { dir: state.join("tls"), ca_file: Some(state.join("ca.crt")), clock: system_clock() }
    }

    /// Whether there is an authority already; [`Authority::open`] makes one otherwise.
    pub fn is_made(&self) -> bool {
        self.dir.join(ROOT).exists()
    }
}

/// The clock of this machine.
pub fn system_clock() -> Clock {
    Arc::new(OffsetDateTime::now_utc)
}

/// What a call changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    /// A new leaf is in service.
    pub leaf: bool,
    /// What clients must trust is another certificate than before.
    pub ca: bool,
    pub leaf_not_after: OffsetDateTime,
}

/// For `ca show`, the dashboard and `doctor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What clients must trust.
    pub ca_subject: String,
    /// SHA-256, colon hex.
    pub ca_fingerprint: String,
    pub ca_not_after: OffsetDateTime,
    /// False when the operator brought an intermediate without its root: then the topmost certificate stands in.
    pub ca_is_root: bool,
    pub issuer_subject: String,
    pub issuer_not_after: OffsetDateTime,
    /// The issuer was brought by the operator.
    pub imported: bool,
    pub leaf_not_after: OffsetDateTime,
    /// Names and addresses in the leaf, the host first.
    pub names: Vec<String>,
    /// Names that the name constraints of a brought intermediate exclude.
    pub left_out: Vec<String>,
    /// Why clients may refuse what is served although nothing failed here: a wrong clock, an expired issuer.
    pub problem: Option<String>,
}

/// The authority of this machine. Cheap to clone; all clones are the same authority.
#[derive(Clone)]
pub struct Authority {
    inner: Arc<Inner>,
    config: Arc<ServerConfig>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

struct Inner {
    setup: Setup,
    work: Mutex<Work>,
    serving: RwLock<Arc<Serving>>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("dir", &self.setup.dir).finish_non_exhaustive()
    }
}

/// What only one at a time changes. Taken before `serving`, never after.
struct Work {
    root: Root,
    issuer: Issuer,
    names: Names,
    /// Of the two files that another process may replace, as last read or written.
    stamps: [Stamp; 2],
    /// The intermediate was made during a handshake and is not on disk yet.
    unsaved: Option<String>,
    /// The files on disk cannot be followed, and why.
    failure: Option<String>,
    /// The failure is in the content of a file: it lasts until the file changes.
    unreadable: bool,
    /// What was logged last, to say it once.
    problem: Option<String>,
}

impl Authority {
    /// Opens the authority in `dir`, making root and intermediate at the very first time.
    ///
    /// A first leaf speaks for the names of the last run, or for `localhost`; see [`Authority::set_names`].
    /// Errors: the root was lost or damaged, a brought intermediate is unreadable, the directory is not writable.
    pub fn open(setup: Setup) -> Result<Self, Error> {
        let dir = &setup.dir;
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error("create", dir))?;
        let _lock = lock(dir)?;
        let now = (setup.clock)();
        let root = match load_root(dir)? {
            Some(root) => root,
            None => {
                refuse_second_root(&setup)?;
                make_root(dir, now)?
            }
        };
        if now < root.certificate.not_before {
            tracing::warn!(now = %now, not_before = %root.certificate.not_before, "the clock shows a time before the root certificate was made");
        }
        let names_file = dir.join(NAMES);
        let names = files::read(&names_file)
            .map_err(io_error("read", &names_file))?
            .and_then(|text| Names::from_file(&String::from_utf8_lossy(&text)))
            .unwrap_or_else(Names::local);
        let (issuer, pem) = match load_issuer(dir, &root)? {
            Some(issuer) if !intermediate_is_due(&issuer, now) => (issuer, None),
            _ => {
                let (issuer, pem) = make_intermediate(&root, now)?;
                (issuer, Some(pem))
            }
        };
        if let Some(pem) = &pem {
            save(dir, OWN_INTERMEDIATE, pem)?;
        }
        let serving = make_leaf(&issuer, &names, now)?;
        let stamps = stamps(dir);
        let work = Work { root, issuer, names, stamps, unsaved: None, failure: None, unreadable: false, problem: None };
        let inner = Arc::new(Inner { work: Mutex::new(work), serving: RwLock::new(Arc::new(serving)), setup });
        inner.publish()?;
        inner.report(&mut inner.work());
        let config = server_config(inner.clone(), None)?;
        Ok(Self { inner, config })
    }

    /// For every listener: TLS 1.2 and 1.3, `h2` and `http/1.1`. One object for the life of the authority; what it serves
    /// follows renewals by itself.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// As [`Authority::server_config`], for a listener that also asks clients for a certificate of one of the authorities in
    /// `pem`. A client may come without one; one that does not verify ends the handshake.
    ///
    /// # Errors
    /// When there is no certificate in `pem`.
    pub fn server_config_asking(&self, pem: &[u8]) -> Result<Arc<ServerConfig>, Error> {
        let found: Vec<_> = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found);
        if roots.is_empty() {
            return Err(Error::Crypto("find a certificate among the authorities of clients"));
        }
        server_config(self.inner.clone(), Some(roots))
    }

    /// Changes what the leaf speaks for. Does nothing when the names are the same.
    pub fn set_names(&self, names: Names) -> Result<Renewal, Error> {
        let mut work = self.inner.work();
        if work.names == names {
            return Ok(self.inner.unchanged());
        }
        let now = self.inner.now();
        let serving = make_leaf(&work.issuer, &names, now)?;
        let text = names.to_file();
        work.names = names;
        self.inner.serve(serving);
        self.inner.report(&mut work);
        save_as(&self.inner.setup.dir, NAMES, &text, files::PUBLIC)?;
        Ok(Renewal { leaf: true, ..self.inner.unchanged() })
    }

    /// A new leaf now, whatever the age of the one in service.
    pub fn rotate(&self) -> Result<Renewal, Error> {
        let mut work = self.inner.work();
        let serving = make_leaf(&work.issuer, &work.names, self.inner.now())?;
        self.inner.serve(serving);
        self.inner.report(&mut work);
        Ok(Renewal { leaf: true, ..self.inner.unchanged() })
    }

    /// What is served and what vouches for it: the leaf, each followed by its issuer.
    pub fn certificates(&self) -> Vec<Certificate> {
        view::of(&self.inner.serving())
    }

    /// Where this authority lives.
    pub fn setup(&self) -> &Setup {
        &self.inner.setup
    }

    /// What the leaf should speak for now.
    pub fn names(&self) -> Names {
        self.inner.work().names.clone()
    }

    /// To be called every few seconds, from a thread that may block: two `stat` calls when there is nothing to do.
    /// Replaces the leaf at half its life and our own intermediate at half of its, and takes up what `ca import` or
    /// `ca reset` did meanwhile.
    ///
    /// On an error what can be served is served on, and the next call tries again. It is logged here, once, when it
    /// starts; [`Status::problem`] has it for as long as it lasts.
    pub fn renew_if_due(&self) -> Result<Renewal, Error> {
        let inner = &self.inner;
        let mut work = inner.work();
        let now = inner.now();
        let before = inner.serving();
        let files = inner.follow_files(&mut work, now);
        let mut reissued = false;
        if before.is_due_at(now) || before.issuer.intermediate() != work.issuer.intermediate() {
            let serving = make_leaf(&work.issuer, &work.names, now)?;
            inner.serve(serving);
            reissued = true;
        }
        let published = inner.publish();
        let failure = files.and(published);
        if let Err(error) = &failure {
            work.failure = Some(error.to_string());
        } else if !work.unreadable {
            work.failure = None;
        }
        inner.report(&mut work);
        failure?;
        let after = inner.serving();
        Ok(Renewal {
            leaf: reissued,
            ca: before.issuer.anchor().der != after.issuer.anchor().der,
            leaf_not_after: after.not_after,
        })
    }

    /// Makes the operator's intermediate the issuer, from now on and after restarts. `cert_pem` may hold the chain up to
    /// the root, in any order; `root_pem` names the root where it is in a file of its own.
    ///
    /// Without a root, [`Authority::ca_pem`] is the topmost certificate given: enough for clients that trust the root
    /// already, and for those that accept a partial chain.
    pub fn import_intermediate(
        &self,
        cert_pem: &str,
        key_pem: &str,
        root_pem: Option<&str>,
    ) -> Result<Renewal, ImportError> {
        let inner = &self.inner;
        let issuer = import::read(cert_pem, key_pem, root_pem)?;
        import::check(&issuer, &inner.work().names, inner.now())?;
        let text = import::to_file(&issuer, key_pem)?;
        let store = |error: Error| ImportError::Store(error.to_string());
        {
            let _lock = lock(&inner.setup.dir).map_err(store)?;
            save(&inner.setup.dir, IMPORTED, &text).map_err(store)?;
        }
        self.renew_if_due().map_err(store)
    }

    /// Back to the built-in intermediate and root. Works on the files, also when what they hold keeps the authority from
    /// opening; one that is open follows at its next [`Authority::renew_if_due`]. False when nothing was imported.
    pub fn reset_import(setup: &Setup) -> Result<bool, Error> {
        let path = setup.dir.join(IMPORTED);
        match fs::remove_file(&path) {
            Ok(()) => sync_dir(&setup.dir).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(io_error("remove", &path)(error)),
        }
    }

    /// What clients must trust, as PEM: what `/ca.crt` answers.
    pub fn ca_pem(&self) -> String {
        self.inner.ca_pem()
    }

    /// SHA-256 of that certificate as colon hex, for people to compare.
    pub fn fingerprint(&self) -> String {
        self.inner.serving().issuer.anchor().fingerprint()
    }

    /// When the leaf in service ends.
    pub fn leaf_not_after(&self) -> OffsetDateTime {
        self.inner.serving().not_after
    }

    pub fn status(&self) -> Status {
        let failure = self.inner.work().failure.clone();
        let serving = self.inner.serving();
        let (anchor, intermediate) = (serving.issuer.anchor(), serving.issuer.intermediate());
        Status {
            ca_subject: anchor.subject_text.clone(),
            ca_fingerprint: anchor.fingerprint(),
            ca_not_after: anchor.not_after,
            ca_is_root: serving.issuer.rooted,
            issuer_subject: intermediate.subject_text.clone(),
            issuer_not_after: intermediate.not_after,
            imported: serving.issuer.imported,
            leaf_not_after: serving.not_after,
            names: serving.names.to_strings(),
            left_out: serving.left_out.clone(),
            problem: problem(&serving, failure.as_deref(), self.inner.now()),
        }
    }
}

impl Inner {
    fn now(&self) -> OffsetDateTime {
        (self.setup.clock)()
    }

    // A panic while one of the two is held cannot leave half a value: each is replaced by one assignment.
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serving(&self) -> Arc<Serving> {
        self.serving.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn serve(&self, serving: Serving) {
        tracing::info!(not_after = %serving.not_after, issuer = %serving.issuer.intermediate().subject_text, "a new server certificate is in service");
        *self.serving.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(serving);
    }

    fn unchanged(&self) -> Renewal {
        Renewal { leaf: false, ca: false, leaf_not_after: self.serving().not_after }
    }

    fn ca_pem(&self) -> String {
        files::pem("CERTIFICATE", &self.serving().issuer.anchor().der)
    }

    fn publish(&self) -> Result<(), Error> {
        let Some(path) = &self.setup.ca_file else { return Ok(()) };
        let wanted = self.ca_pem();
        if files::read(path).ok().flatten().is_some_and(|content| content == wanted.as_bytes()) {
            return Ok(());
        }
        files::replace(path, wanted.as_bytes(), files::PUBLIC).map_err(io_error("write", path))
    }

    /// Logs what is wrong when it starts to be.
    fn report(&self, work: &mut Work) {
        let serving = self.serving();
        let now_wrong = problem(&serving, work.failure.as_deref(), self.now());
        if work.problem != now_wrong {
            match &now_wrong {
                Some(text) => tracing::error!("trouble with our certificates: {text}"),
                None => tracing::info!("our certificates are in order again"),
            }
            work.problem = now_wrong;
        }
    }

    /// Takes up what other processes did to the files, replaces our own intermediate when it is due, and saves what a
    /// handshake made. Whatever fails, `work` stays usable.
    fn follow_files(&self, work: &mut Work, now: OffsetDateTime) -> Result<(), Error> {
        let dir = &self.setup.dir;
        if work.stamps == stamps(dir) && !intermediate_is_due(&work.issuer, now) && work.unsaved.is_none() {
            return Ok(());
        }
        // A full disk must not keep us from having an intermediate that is valid.
        let lock = lock(dir);
        let seen = stamps(dir);
        if lock.is_ok() && work.stamps != seen {
            work.stamps = seen;
            work.unreadable = false;
            match load_issuer(dir, &work.root) {
                Ok(Some(issuer)) => {
                    work.issuer = issuer;
                    work.unsaved = None;
                }
                Ok(None) => {
                    let (issuer, pem) = make_intermediate(&work.root, now)?;
                    work.issuer = issuer;
                    work.unsaved = Some(pem);
                }
                Err(error) => {
                    work.unreadable = true;
                    return Err(error);
                }
            }
        }
        if intermediate_is_due(&work.issuer, now) {
            let (issuer, pem) = make_intermediate(&work.root, now)?;
            work.issuer = issuer;
            work.unsaved = Some(pem);
        }
        let _lock = lock?;
        if let Some(pem) = &work.unsaved {
            save(dir, OWN_INTERMEDIATE, pem)?;
            work.unsaved = None;
            work.stamps = stamps(dir);
        }
        Ok(())
    }

    /// The handshake met a leaf that is not valid now.
    fn reissue(&self, now: OffsetDateTime) -> Result<Arc<Serving>, Error> {
        let mut work = self.work();
        let current = self.serving();
        if current.is_valid_at(now) {
            return Ok(current);
        }
        if intermediate_is_due(&work.issuer, now) {
            let (issuer, pem) = make_intermediate(&work.root, now)?;
            work.issuer = issuer;
            work.unsaved = Some(pem);
        }
        self.serve(make_leaf(&work.issuer, &work.names, now)?);
        Ok(self.serving())
    }
}

impl ResolvesServerCert for Inner {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let serving = self.serving();
        let now = self.now();
        if serving.is_valid_at(now) {
            return Some(serving.certified.clone());
        }
        match self.reissue(now) {
            Ok(serving) => Some(serving.certified.clone()),
            Err(error) => {
                // An expired certificate can still be inspected by the client; a closed connection says nothing.
                tracing::error!(%error, "cannot replace the expired server certificate");
                Some(serving.certified.clone())
            }
        }
    }
}

/// `clients`: who may vouch for clients, where they are asked.
fn server_config(resolver: Arc<Inner>, clients: Option<RootCertStore>) -> Result<Arc<ServerConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|_| Error::Crypto("set up TLS 1.2 and 1.3"))?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|_| Error::Crypto("set up the verification of client certificates"))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Sessions resume from tickets: no memory per client.
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(|_| Error::Crypto("set up session tickets"))?;
    Ok(Arc::new(config))
}

fn problem(serving: &Serving, failure: Option<&str>, now: OffsetDateTime) -> Option<String> {
    for certificate in &serving.issuer.path {
        let subject = &certificate.subject_text;
        if now < certificate.not_before {
            let born = certificate.not_before;
            return Some(format!("it is {now} by our clock, and {subject} is not valid before {born}"));
        }
        if now >= certificate.not_after {
            return Some(format!("{subject} expired at {}", certificate.not_after));
        }
    }
    if let Some(failure) = failure {
        return Some(failure.to_owned());
    }
    if serving.left_out.is_empty() {
        return None;
    }
    Some(format!("the name constraints of the brought intermediate exclude {}", serving.left_out.join(", ")))
}

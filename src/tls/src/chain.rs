//! Root, intermediate and leaf: how each is made, kept in its file, and found again.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use crate::LEAF_LIFETIME;
use crate::authority::{Error, Setup, io_error};
use crate::files::{self, Stamp};
use crate::import::{self, Issuer};
use crate::keys::Key;
use crate::names::Names;
use crate::x509::{self, AuthorityCertificate, Profile, Template};

const ROOT_LIFETIME: Duration = Duration::days(3653);
/// Our own intermediate is replaced at half of it, long before a leaf is cut short by it.
const INTERMEDIATE_LIFETIME: Duration = Duration::days(365);
/// A clock that shows less is wrong for certain. Then the root's ten years are counted from here, so that a machine
/// whose first boot has a dead clock does not make a root that is expired for everybody else.
pub(crate) const EARLIEST_TRUE_TIME: OffsetDateTime = datetime!(2026-01-01 0:00 UTC);

/// Key and certificate of the root, 0600.
pub(crate) const ROOT: &str = "root.pem";
/// The root's certificate once more, for people and as a witness that there is a root.
pub(crate) const ROOT_CERTIFICATE: &str = "root.crt";
/// Key and certificate of our own intermediate, 0600.
pub(crate) const OWN_INTERMEDIATE: &str = "intermediate.pem";
/// Key and chain that the operator brought, 0600. While it exists, it signs.
pub(crate) const IMPORTED: &str = "imported.pem";
/// What the leaf spoke for last: known at the next start before anybody says so, and to `ca import`.
pub(crate) const NAMES: &str = "names";
pub(crate) const LOCK: &str = "lock";

#[derive(Clone)]
pub(crate) struct Root {
    pub(crate) key: Key,
    pub(crate) certificate: AuthorityCertificate,
}

/// What handshakes use: replaced as a whole.
pub(crate) struct Serving {
    pub(crate) certified: Arc<CertifiedKey>,
    pub(crate) made_at: OffsetDateTime,
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
    pub(crate) left_out: Vec<String>,
    pub(crate) names: Names,
    pub(crate) issuer: Issuer,
}

impl Serving {
    pub(crate) fn is_valid_at(&self, now: OffsetDateTime) -> bool {
        self.not_before <= now && now < self.not_after
    }

    pub(crate) fn is_due_at(&self, now: OffsetDateTime) -> bool {
        if !self.is_valid_at(now) || now.saturating_add(Duration::HOUR) < self.made_at {
            return true;
        }
        // Near the end of its issuer a new leaf would end with the old one: nothing to gain.
        let gains = leaf_end(&self.issuer, now) > self.not_after;
        gains && now >= half_life(self.made_at, self.not_after)
    }
}

pub(crate) fn half_life(from: OffsetDateTime, to: OffsetDateTime) -> OffsetDateTime {
    from.saturating_add((to - from) / 2)
}

/// A leaf must not outlive its issuer; behind an expired issuer its own life makes no difference.
pub(crate) fn leaf_end(issuer: &Issuer, now: OffsetDateTime) -> OffsetDateTime {
    let wanted = now.saturating_add(LEAF_LIFETIME);
    let most = issuer.not_after();
    if most > now { wanted.min(most) } else { wanted }
}

/// One change of the directory at a time, across processes. Released when dropped.
pub(crate) fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(files::PRIVATE)
        .open(&path)
        .map_err(io_error("open", &path))?;
    file.lock().map_err(io_error("lock", &path))?;
    Ok(file)
}

pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error("sync", dir))
}

pub(crate) fn save(dir: &Path, name: &str, text: &str) -> Result<(), Error> {
    save_as(dir, name, text, files::PRIVATE)
}

pub(crate) fn save_as(dir: &Path, name: &str, text: &str, mode: u32) -> Result<(), Error> {
    let path = dir.join(name);
    files::replace(&path, text.as_bytes(), mode).map_err(io_error("write", &path))
}

pub(crate) fn stamps(dir: &Path) -> [Stamp; 2] {
    [IMPORTED, OWN_INTERMEDIATE].map(|name| Stamp::of(&dir.join(name)))
}

/// A private key and one certificate in one file, which therefore always belong together.
pub(crate) fn load_pair(path: &Path) -> Result<Option<(Key, AuthorityCertificate)>, String> {
    let Some(content) = files::read(path).map_err(|error| error.to_string())? else { return Ok(None) };
    match files::narrow(path) {
        Ok(true) => tracing::warn!(path = %path.display(), "others could read this key; its mode is 0600 again"),
        Ok(false) => (),
        Err(error) => tracing::warn!(path = %path.display(), %error, "cannot see or set who may read this key"),
    }
    let der = PrivateKeyDer::from_pem_slice(&content).map_err(|_| "it holds no readable private key")?;
    let key = Key::load(&der).ok_or("its private key is damaged")?;
    let certificate =
        CertificateDer::from_pem_slice(&content).map_err(|error| format!("it holds no certificate: {error}"))?;
    let certificate = AuthorityCertificate::read(certificate)?;
    if certificate.public_bits != key.public_bits {
        return Err("its private key does not match its certificate".into());
    }
    if !certificate.is_authority {
        return Err("its certificate is not that of an authority".into());
    }
    Ok(Some((key, certificate)))
}

pub(crate) fn load_root(dir: &Path) -> Result<Option<Root>, Error> {
    let path = dir.join(ROOT);
    let damaged = |reason: String| Error::RootDamaged { root: path.clone(), reason };
    let Some((key, certificate)) = load_pair(&path).map_err(damaged)? else { return Ok(None) };
    let damaged = |reason: String| Error::RootDamaged { root: path.clone(), reason };
    if !certificate.is_self_issued() {
        return Err(damaged("its certificate is not a root".into()));
    }
    let witness = dir.join(ROOT_CERTIFICATE);
    match files::read(&witness).map_err(io_error("read", &witness))? {
        // A crash between the two writes.
        None => save_as(dir, ROOT_CERTIFICATE, &files::pem("CERTIFICATE", &certificate.der), files::PUBLIC)?,
        Some(content) => {
            if CertificateDer::from_pem_slice(&content).ok().as_ref() != Some(&certificate.der) {
                return Err(damaged(format!("{} is another certificate", witness.display())));
            }
        }
    }
    Ok(Some(Root { key, certificate }))
}

/// There is no root file: fine at the very first start, and at no other.
pub(crate) fn refuse_second_root(setup: &Setup) -> Result<(), Error> {
    let dir = &setup.dir;
    let lost = |witness: PathBuf| Error::RootLost { root: dir.join(ROOT), witness, dir: dir.clone() };
    // Also a dangling link is a witness.
    if let Some(path) = setup.ca_file.as_ref().filter(|path| path.symlink_metadata().is_ok()) {
        return Err(lost(path.clone()));
    }
    for entry in fs::read_dir(dir).map_err(io_error("read", dir))? {
        let entry = entry.map_err(io_error("read", dir))?;
        let name = entry.file_name();
        // Temporary files of an interrupted first start begin with a dot: what they hold was never in use.
        if name != LOCK && !name.to_string_lossy().starts_with('.') {
            return Err(lost(entry.path()));
        }
    }
    Ok(())
}

pub(crate) fn make_root(dir: &Path, now: OffsetDateTime) -> Result<Root, Error> {
    let (key, pkcs8) = Key::generate()?;
    let subject = x509::name(&format!("Solostack root {}", short_id(&key)));
    let certificate = Template {
        issuer: &subject,
        subject: &subject,
        spki: &key.spki,
        not_before: x509::a_day_before(now),
        not_after: now.max(EARLIEST_TRUE_TIME).saturating_add(ROOT_LIFETIME),
        authority_key_id: None,
        profile: Profile::Authority { path_length: None },
    }
    .signed_with(&key)?;
    let certificate = AuthorityCertificate::read(certificate).map_err(|_| Error::Crypto("read back the new root"))?;
    let public = files::pem("CERTIFICATE", &certificate.der);
    save(dir, ROOT, &(files::pem("PRIVATE KEY", pkcs8.secret_pkcs8_der()) + &public))?;
    save_as(dir, ROOT_CERTIFICATE, &public, files::PUBLIC)?;
    // The directory itself must survive a power cut too.
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        sync_dir(parent)?;
    }
    tracing::info!(fingerprint = %certificate.fingerprint(), "made the root certificate");
    Ok(Root { key, certificate })
}

/// Distinguishes authorities of several machines in one trust store.
pub(crate) fn short_id(key: &Key) -> String {
    x509::key_id(&key.spki).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// Who signs, by the files: the brought intermediate if there is one, else our own. `None` when our own is missing or
/// unusable, which is no loss: the root can make another.
pub(crate) fn load_issuer(dir: &Path, root: &Root) -> Result<Option<Issuer>, Error> {
    let path = dir.join(IMPORTED);
    if let Some(content) = files::read(&path).map_err(io_error("read", &path))? {
        let _ = files::narrow(&path);
        let text = String::from_utf8_lossy(&content);
        return import::read(&text, &text, None)
            .map(Some)
            .map_err(|reason| Error::ImportDamaged { path: path.clone(), reason });
    }
    match load_pair(&dir.join(OWN_INTERMEDIATE)) {
        Ok(Some((key, certificate))) if certificate.issuer == root.certificate.subject => {
            let path = vec![certificate, root.certificate.clone()];
            Ok(Some(Issuer { key, path, rooted: true, imported: false }))
        }
        Ok(Some(_)) => {
            tracing::warn!("the intermediate was not issued by our root; making another");
            Ok(None)
        }
        Ok(None) => Ok(None),
        Err(reason) => {
            tracing::warn!(reason, "the intermediate cannot be used; making another");
            Ok(None)
        }
    }
}

pub(crate) fn intermediate_is_due(issuer: &Issuer, now: OffsetDateTime) -> bool {
    if issuer.imported {
        return false;
    }
    let (own, root) = (issuer.intermediate(), issuer.anchor());
    // A root that ends soon limits both: making another intermediate gains nothing then.
    let gains = intermediate_end(root, now) > own.not_after;
    !own.is_valid_at(now) || gains && now >= half_life(own.not_before, own.not_after)
}

pub(crate) fn intermediate_end(root: &AuthorityCertificate, now: OffsetDateTime) -> OffsetDateTime {
    let wanted = now.saturating_add(INTERMEDIATE_LIFETIME);
    if root.not_after > now { wanted.min(root.not_after) } else { wanted }
}

pub(crate) fn make_intermediate(root: &Root, now: OffsetDateTime) -> Result<(Issuer, String), Error> {
    let (key, pkcs8) = Key::generate()?;
    let subject = x509::name(&format!("Solostack intermediate {}", short_id(&key)));
    let certificate = Template {
        issuer: &root.certificate.subject,
        subject: &subject,
        spki: &key.spki,
        not_before: x509::a_day_before(now),
        not_after: intermediate_end(&root.certificate, now),
        authority_key_id: root.certificate.key_id.as_deref(),
        profile: Profile::Authority { path_length: Some(0) },
    }
    .signed_with(&root.key)?;
    let certificate =
        AuthorityCertificate::read(certificate).map_err(|_| Error::Crypto("read back the new intermediate"))?;
    let pem = files::pem("PRIVATE KEY", pkcs8.secret_pkcs8_der()) + &files::pem("CERTIFICATE", &certificate.der);
    tracing::info!(not_after = %certificate.not_after, "made an intermediate certificate");
    let path = vec![certificate, root.certificate.clone()];
    Ok((Issuer { key, path, rooted: true, imported: false }, pem))
}

pub(crate) fn make_leaf(issuer: &Issuer, names: &Names, now: OffsetDateTime) -> Result<Serving, Error> {
    let (allowed, left_out) = issuer.allowed(names);
    if allowed.is_empty() {
        return Err(Error::NoAllowedName);
    }
    let (key, _) = Key::generate()?;
    let (not_before, not_after) = (x509::a_day_before(now), leaf_end(issuer, now));
    let leaf = issuer.leaf(&allowed, &key.spki, not_before, not_after)?;
    let chain = std::iter::once(leaf).chain(issuer.served()).collect();
    Ok(Serving {
        certified: Arc::new(CertifiedKey::new(chain, key.signing())),
        made_at: now,
        not_before,
        not_after,
        left_out: left_out.iter().map(ToString::to_string).collect(),
        names: names.clone(),
        issuer: issuer.clone(),
    })
}

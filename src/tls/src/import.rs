//! An intermediate that the operator brings: a certificate and its key, checked before anything depends on them.
//!
//! What is accepted must work for a strict client: the key fits, the certificate may issue server certificates, the
//! chain to its root (where one is given) is complete and correctly signed, every date is right now, and a trial leaf for
//! the host verifies. Each refusal says which certificate and why.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use time::{Duration, OffsetDateTime};

use crate::files;
use crate::keys::{CryptoFailure, Key};
use crate::names::{Names, San};
use crate::x509::{AuthorityCertificate, EMPTY_NAME, Profile, Template};

/// More certificates than any real chain file has.
const MOST_CERTIFICATES: usize = 16;
const MOST_BYTES: usize = 256 * 1024;

/// Why a brought intermediate is refused. The text is for the operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    #[error("the {what} is larger than 256 KiB or holds more than 16 certificates")]
    TooLarge { what: &'static str },
    #[error("the {what} cannot be read: {reason}")]
    Unparsable { what: &'static str, reason: String },
    #[error("the {what} holds no certificate (expected a PEM block `-----BEGIN CERTIFICATE-----`)")]
    NoCertificate { what: &'static str },
    #[error(
        "the key file holds no private key (expected a PEM block `PRIVATE KEY`, `EC PRIVATE KEY` or `RSA PRIVATE KEY`)"
    )]
    NoKey,
    #[error("the private key is encrypted; decrypt it first, for instance with `openssl pkey -in KEY -out PLAIN_KEY`")]
    KeyEncrypted,
    #[error(
        "the private key is damaged or of a kind that cannot be used: use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 4096 bits"
    )]
    KeyUnsupported,
    #[error("the private key does not match the certificate {subject}")]
    KeyMismatch { subject: String },
    #[error("the certificate {subject} is not a certificate authority (basicConstraints says CA:FALSE, or nothing)")]
    NotAuthority { subject: String },
    #[error(
        "the certificate {subject} is a root (it is signed by itself); bring an intermediate that it has signed, and keep the root's key elsewhere"
    )]
    SelfSigned { subject: String },
    #[error("the key usage of {subject} does not allow it to sign certificates (keyCertSign is missing)")]
    KeyUsage { subject: String },
    #[error("the extended key usage of {subject} does not allow server certificates (serverAuth is missing)")]
    ExtendedKeyUsage { subject: String },
    #[error(
        "the path length of {subject} allows {allowed} intermediate certificates below it, but there are {present}"
    )]
    PathLength { subject: String, allowed: u32, present: u32 },
    #[error("the certificate {subject} expired at {at}")]
    Expired { subject: String, at: OffsetDateTime },
    #[error("the certificate {subject} is not valid before {at}")]
    NotYetValid { subject: String, at: OffsetDateTime },
    #[error("the chain is broken: {subject} is issued by {issuer}, and no such certificate is given")]
    ChainBroken { subject: String, issuer: String },
    #[error("the chain is broken: {subject} was not signed by the key of the certificate that is given for {issuer}")]
    ChainSignature { subject: String, issuer: String },
    #[error("the root {subject} is not signed by itself")]
    NotRoot { subject: String },
    #[error(
        "a certificate of the chain is signed with an algorithm that clients do not accept (SHA-1 or MD5, perhaps)"
    )]
    SignatureAlgorithm,
    #[error("the name constraints of the chain do not allow the host {host}")]
    NameConstraints { host: String },
    #[error("the chain does not verify: {reason}")]
    Verification { reason: String },
    #[error("cannot keep the intermediate: {0}")]
    Store(String),
}

impl From<CryptoFailure> for ImportError {
    fn from(failure: CryptoFailure) -> Self {
        Self::Verification { reason: failure.to_string() }
    }
}

/// Who signs leaf certificates: the key, and its certificates upwards.
#[derive(Clone, Debug)]
pub(crate) struct Issuer {
    pub key: Key,
    /// The intermediate first, each followed by its issuer.
    pub path: Vec<AuthorityCertificate>,
    /// The last of `path` is a root; otherwise it is as far as the operator's files went.
    pub rooted: bool,
    pub imported: bool,
}

impl Issuer {
    pub(crate) fn intermediate(&self) -> &AuthorityCertificate {
        &self.path[0]
    }

    /// What clients must trust: the root, or the topmost certificate that is known.
    pub(crate) fn anchor(&self) -> &AuthorityCertificate {
        &self.path[self.path.len() - 1]
    }

    /// What is served behind the leaf. A root is left out: who does not have it gains nothing from seeing it.
    pub(crate) fn served(&self) -> impl Iterator<Item = CertificateDer<'static>> {
        let count = self.path.len() - usize::from(self.rooted);
        self.path[..count].iter().map(|certificate| certificate.der.clone())
    }

    /// The first moment at which something in the path is no longer valid.
    pub(crate) fn not_after(&self) -> OffsetDateTime {
        self.path.iter().map(|certificate| certificate.not_after).min().unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// A server certificate for `names`, for the public key `spki`.
    pub(crate) fn leaf(
        &self,
        names: &[San],
        spki: &[u8],
        not_before: OffsetDateTime,
        not_after: OffsetDateTime,
    ) -> Result<CertificateDer<'static>, CryptoFailure> {
        let intermediate = self.intermediate();
        Template {
            issuer: &intermediate.subject,
            subject: EMPTY_NAME,
            spki,
            not_before,
            not_after,
            authority_key_id: intermediate.key_id.as_deref(),
            profile: Profile::Server { names },
        }
        .signed_with(&self.key)
    }

    /// What a client sees that trusts exactly the anchor, at the time when the youngest certificate became valid: dates
    /// are a question of their own.
    fn try_names(&self, names: &[San]) -> Result<(), Trial> {
        let born = self.path.iter().map(|c| c.not_before).max().unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (key, _) = Key::generate()?;
        let leaf = self.leaf(names, &key.spki, born, born.saturating_add(Duration::HOUR))?;
        let leaf = webpki::EndEntityCert::try_from(&leaf)?;
        let anchor = webpki::anchor_from_trusted_cert(&self.anchor().der)?;
        let others: Vec<_> = self.path[..self.path.len() - 1].iter().map(|c| c.der.clone()).collect();
        let seconds = u64::try_from(born.unix_timestamp() + 1).unwrap_or(0);
        leaf.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &[anchor],
            &others,
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)),
            webpki::KeyUsage::server_auth(),
            None,
            None,
        )?;
        for name in names.iter().filter_map(San::server_name) {
            leaf.verify_is_valid_for_subject_name(&name)?;
        }
        Ok(())
    }

    fn has_wrong_signature(&self) -> bool {
        let anything = [San::Dns("localhost".into())];
        let refused = self.try_names(&anything);
        matches!(
            refused,
            Err(Trial::Refused(webpki::Error::InvalidSignatureForPublicKey | webpki::Error::UnknownIssuer))
        )
    }

    /// The names that the chain may vouch for, and those that its name constraints exclude.
    pub(crate) fn allowed(&self, names: &Names) -> (Vec<San>, Vec<San>) {
        if !self.path.iter().any(|certificate| certificate.has_name_constraints) {
            return (names.all().cloned().collect(), Vec::new());
        }
        names.all().cloned().partition(|name| {
            !matches!(
                self.try_names(std::slice::from_ref(name)),
                Err(Trial::Refused(webpki::Error::NameConstraintViolation))
            )
        })
    }
}

enum Trial {
    Refused(webpki::Error),
    Failed(CryptoFailure),
}

impl From<webpki::Error> for Trial {
    fn from(error: webpki::Error) -> Self {
        Self::Refused(error)
    }
}

impl From<CryptoFailure> for Trial {
    fn from(failure: CryptoFailure) -> Self {
        Self::Failed(failure)
    }
}

/// Reads the operator's files and puts the chain in order. Every check that does not depend on time or on our names.
///
/// The certificate that fits the key is the intermediate; the others may stand in any order.
pub(crate) fn read(cert_pem: &str, key_pem: &str, root_pem: Option<&str>) -> Result<Issuer, ImportError> {
    let mut certificates = certificates("certificate file", cert_pem)?;
    let root = match root_pem {
        None => None,
        Some(pem) => {
            let mut roots = self::certificates("root file", pem)?;
            if roots.len() != 1 {
                let reason = "it holds more than one certificate".into();
                return Err(ImportError::Unparsable { what: "root file", reason });
            }
            let root = roots.remove(0);
            if !root.is_self_issued() {
                return Err(ImportError::NotRoot { subject: root.subject_text });
            }
            Some(root)
        }
    };
    let (key, _) = private_key(key_pem)?;
    let Some(position) = certificates.iter().position(|certificate| certificate.public_bits == key.public_bits) else {
        return Err(ImportError::KeyMismatch { subject: certificates.swap_remove(0).subject_text });
    };
    let intermediate = certificates.remove(position);
    let subject = || intermediate.subject_text.clone();
    if intermediate.is_self_issued() {
        return Err(ImportError::SelfSigned { subject: subject() });
    }

    let mut pool = certificates;
    let rooted = root.is_some() || pool.iter().any(AuthorityCertificate::is_self_issued);
    // An explicit root wins over whatever the chain file carries.
    pool.splice(0..0, root.clone());
    let mut path = vec![intermediate.clone()];
    loop {
        let last = &path[path.len() - 1];
        if last.is_self_issued() {
            break;
        }
        let Some(next) = issuer_of(&key, &path, &pool) else {
            if rooted {
                let (subject, issuer) = (last.subject_text.clone(), last.issuer_text.clone());
                return Err(ImportError::ChainBroken { subject, issuer });
            }
            break;
        };
        path.push(pool.remove(next));
    }
    if let Some(root) = root
        && path[path.len() - 1].der != root.der
    {
        let last = &path[path.len() - 1];
        return Err(ImportError::ChainBroken { subject: last.subject_text.clone(), issuer: root.subject_text });
    }

    for (below, certificate) in path.iter().enumerate() {
        let subject = certificate.subject_text.clone();
        if !certificate.is_authority && (certificate.has_extensions || !certificate.is_self_issued()) {
            return Err(ImportError::NotAuthority { subject });
        }
        if !certificate.may_sign {
            return Err(ImportError::KeyUsage { subject });
        }
        if !certificate.may_vouch_for_servers {
            return Err(ImportError::ExtendedKeyUsage { subject });
        }
        let present = u32::try_from(below).unwrap_or(u32::MAX);
        if let Some(allowed) = certificate.path_length.filter(|allowed| *allowed < present) {
            return Err(ImportError::PathLength { subject, allowed, present });
        }
    }
    Ok(Issuer { key, path, rooted, imported: true })
}

/// Which of `pool` issued the last of `path`. An authority that changed its key has two certificates of one name, so the
/// one whose key made the signature comes first; without any, the name alone decides, and the check says what is wrong.
fn issuer_of(key: &Key, path: &[AuthorityCertificate], pool: &[AuthorityCertificate]) -> Option<usize> {
    let last = &path[path.len() - 1];
    let named: Vec<usize> = (0..pool.len()).filter(|index| pool[*index].subject == last.issuer).collect();
    let signed = |index: &&usize| {
        let path = path.iter().chain([&pool[**index]]).cloned().collect();
        !Issuer { key: key.clone(), path, rooted: true, imported: true }.has_wrong_signature()
    };
    if named.len() > 1 { named.iter().find(signed).or(named.first()).copied() } else { named.first().copied() }
}

/// The checks that depend on the time and on what this machine is called.
pub(crate) fn check(issuer: &Issuer, names: &Names, now: OffsetDateTime) -> Result<(), ImportError> {
    for certificate in &issuer.path {
        let subject = certificate.subject_text.clone();
        if now < certificate.not_before {
            return Err(ImportError::NotYetValid { subject, at: certificate.not_before });
        }
        if now >= certificate.not_after {
            return Err(ImportError::Expired { subject, at: certificate.not_after });
        }
    }
    let host = names.host_san();
    let refused = match issuer.try_names(std::slice::from_ref(host)) {
        Ok(()) => return Ok(()),
        Err(Trial::Failed(failure)) => return Err(failure.into()),
        Err(Trial::Refused(error)) => error,
    };
    Err(match refused {
        webpki::Error::NameConstraintViolation => ImportError::NameConstraints { host: host.to_string() },
        webpki::Error::InvalidSignatureForPublicKey | webpki::Error::UnknownIssuer => match wrong_signature(issuer) {
            Some((subject, issuer)) => ImportError::ChainSignature { subject, issuer },
            None => ImportError::Verification { reason: refused.to_string() },
        },
        error if format!("{error:?}").contains("SignatureAlgorithm") => ImportError::SignatureAlgorithm,
        error => ImportError::Verification { reason: error.to_string() },
    })
}

/// The lowest certificate of the path whose signature is not by the next one.
fn wrong_signature(issuer: &Issuer) -> Option<(String, String)> {
    // Verifies when the path is cut above this certificate, and no longer with it.
    (1..issuer.path.len()).find_map(|count| {
        let cut = Issuer { path: issuer.path[..=count].to_vec(), rooted: true, ..issuer.clone() };
        let (below, above) = (&issuer.path[count - 1], &issuer.path[count]);
        cut.has_wrong_signature().then(|| (below.subject_text.clone(), above.subject_text.clone()))
    })
}

/// What [`read`] reads back: the key, the intermediate, and what is above it, in one file, so that it changes as one.
pub(crate) fn to_file(issuer: &Issuer, key_pem: &str) -> Result<String, ImportError> {
    let mut text = private_key(key_pem)?.1;
    for certificate in &issuer.path {
        text.push_str(&files::pem("CERTIFICATE", &certificate.der));
    }
    Ok(text)
}

fn certificates(what: &'static str, pem: &str) -> Result<Vec<AuthorityCertificate>, ImportError> {
    if pem.len() > MOST_BYTES {
        return Err(ImportError::TooLarge { what });
    }
    let mut found: Vec<AuthorityCertificate> = Vec::new();
    for (count, der) in CertificateDer::pem_slice_iter(pem.as_bytes()).enumerate() {
        if count >= MOST_CERTIFICATES {
            return Err(ImportError::TooLarge { what });
        }
        let unparsable = |reason| ImportError::Unparsable { what, reason };
        let der = der.map_err(|error| unparsable(error.to_string()))?;
        let read = AuthorityCertificate::read(der)
            .map_err(|reason| unparsable(format!("certificate {} of the file: {reason}", count + 1)))?;
        if !found.iter().any(|known| known.der == read.der) {
            found.push(read);
        }
    }
    if found.is_empty() { Err(ImportError::NoCertificate { what }) } else { Ok(found) }
}

/// The key, and it alone as PEM again.
fn private_key(pem: &str) -> Result<(Key, String), ImportError> {
    const WHAT: &str = "key file";
    if pem.len() > MOST_BYTES {
        return Err(ImportError::TooLarge { what: WHAT });
    }
    if pem.contains("BEGIN ENCRYPTED PRIVATE KEY") || pem.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(ImportError::KeyEncrypted);
    }
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => ImportError::NoKey,
        // The error may quote the file; a key must not get into a log.
        _ => ImportError::Unparsable { what: WHAT, reason: "it is not correct PEM".into() },
    })?;
    let key = Key::load(&der).ok_or(ImportError::KeyUnsupported)?;
    let label = match &der {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    Ok((key, files::pem(label, der.secret_der())))
}

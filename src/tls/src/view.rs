//! The chain in service, for people to look at.

use time::OffsetDateTime;

use crate::chain::Serving;
use crate::x509::AuthorityCertificate;

/// Where a certificate stands in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Leaf,
    Intermediate,
    Root,
}

/// One certificate of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    pub place: Place,
    /// Empty for a leaf: its names stand in `names`.
    pub subject: String,
    pub issuer: String,
    /// What a leaf speaks for.
    pub names: Vec<String>,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
    /// SHA-256, colon hex.
    pub fingerprint: String,
    /// The operator brought it.
    pub brought: bool,
}

/// The leaf first.
pub(crate) fn of(serving: &Serving) -> Vec<Certificate> {
    let shown = |place, certificate: &AuthorityCertificate, names, brought| Certificate {
        place,
        subject: certificate.subject_text.clone(),
        issuer: certificate.issuer_text.clone(),
        names,
        not_before: certificate.not_before,
        not_after: certificate.not_after,
        fingerprint: certificate.fingerprint(),
        brought,
    };
    let mut names = serving.names.to_strings();
    names.retain(|name| !serving.left_out.contains(name));
    let leaf = serving.certified.cert.first().and_then(|der| AuthorityCertificate::read(der.clone().into_owned()).ok());
    let mut all: Vec<Certificate> = leaf.iter().map(|leaf| shown(Place::Leaf, leaf, names.clone(), false)).collect();
    let issuer = &serving.issuer;
    for (index, certificate) in issuer.path.iter().enumerate() {
        let root = issuer.rooted && index + 1 == issuer.path.len();
        let place = if root { Place::Root } else { Place::Intermediate };
        all.push(shown(place, certificate, Vec::new(), issuer.imported));
    }
    all
}

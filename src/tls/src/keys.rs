//! Private keys: made here, read from files, and signing certificates with them.

use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::SignatureScheme;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::SigningKey;
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

/// The system's random source or the signature code failed; nothing the caller did.
#[derive(Debug, thiserror::Error)]
#[error("cannot {0}")]
pub(crate) struct CryptoFailure(pub(crate) &'static str);

/// A key with what certificates need to know of it.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    signing: Arc<dyn SigningKey>,
    /// SubjectPublicKeyInfo, DER.
    pub(crate) spki: Vec<u8>,
    /// The bits inside `spki`: equal exactly when the key is the same, however the algorithm is spelled.
    pub(crate) public_bits: Vec<u8>,
}

impl Key {
    /// A fresh ECDSA P-256 key and its PKCS#8 form.
    pub(crate) fn generate() -> Result<(Self, PrivatePkcs8KeyDer<'static>), CryptoFailure> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .map_err(|_| CryptoFailure("make a private key"))?;
        let der = PrivatePkcs8KeyDer::from(document.as_ref().to_vec());
        let key = Self::load(&PrivateKeyDer::Pkcs8(der.clone_key()))
            .ok_or(CryptoFailure("read back the private key that was just made"))?;
        Ok((key, der))
    }

    /// PKCS#8, SEC1 or PKCS#1; `None` for a kind that cannot sign here (P-521, DSA, short RSA) or is damaged.
    pub(crate) fn load(der: &PrivateKeyDer<'_>) -> Option<Self> {
        let signing = rustls::crypto::ring::sign::any_supported_type(der).ok()?;
        let spki = signing.public_key()?.as_ref().to_vec();
        let public_bits = SubjectPublicKeyInfo::from_der(&spki).ok()?.1.subject_public_key.data.to_vec();
        Some(Self { signing, spki, public_bits })
    }

    pub(crate) fn signing(&self) -> Arc<dyn SigningKey> {
        self.signing.clone()
    }

    /// Signs a certificate body with the usual algorithm of this kind of key.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CryptoFailure> {
        let (scheme, _) = self.algorithm()?;
        let signer = self.signing.choose_scheme(&[scheme]).ok_or(CryptoFailure("sign a certificate"))?;
        signer.sign(message).map_err(|_| CryptoFailure("sign a certificate"))
    }

    /// The scheme used by [`Key::sign`] and the object identifier that certificates name it by.
    pub(crate) fn algorithm(&self) -> Result<(SignatureScheme, &'static [u64]), CryptoFailure> {
        const ALGORITHMS: [(SignatureScheme, &[u64]); 4] = [
            (SignatureScheme::ECDSA_NISTP256_SHA256, &[1, 2, 840, 10045, 4, 3, 2]),
            (SignatureScheme::ECDSA_NISTP384_SHA384, &[1, 2, 840, 10045, 4, 3, 3]),
            (SignatureScheme::ED25519, &[1, 3, 101, 112]),
            (SignatureScheme::RSA_PKCS1_SHA256, &[1, 2, 840, 113549, 1, 1, 11]),
        ];
        ALGORITHMS
            .into_iter()
            .find(|(scheme, _)| self.signing.choose_scheme(&[*scheme]).is_some())
            .ok_or(CryptoFailure("sign a certificate with this kind of key"))
    }
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], CryptoFailure> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| CryptoFailure("get random bytes"))?;
    Ok(bytes)
}

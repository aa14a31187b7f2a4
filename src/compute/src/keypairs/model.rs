//! A key pair, and the keys themselves.

use base64::Engine as _;
use md5::Digest as _;
use rest::{Error, Result};
use ssh_key::{Algorithm, LineEnding, PrivateKey, PublicKey, rand_core::OsRng};

#[derive(Clone, Debug)]
pub(crate) struct Keypair {
    pub id: i64,
    pub user_id: String,
    pub name: String,
    /// `ssh` or `x509`
    pub kind: String,
    pub fingerprint: String,
    pub public_key: String,
    pub created_at: String,
}

/// Makes an Ed25519 pair: public key line and private key in OpenSSH's own format.
pub(crate) fn generate(comment: &str) -> Result<(String, String)> {
    let mut key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).map_err(Error::internal)?;
    key.set_comment(comment);
    let private = key.to_openssh(LineEnding::LF).map_err(Error::internal)?.to_string();
    let public = key.public_key().to_openssh().map_err(Error::internal)?;
    Ok((public, private))
}

/// MD5 of the key's blob as `aa:bb:..`, which is what Compute has always shown.
pub(crate) fn ssh_fingerprint(public_key: &str) -> Result<String> {
    let refused = || Error::bad_request("Keypair data is invalid: failed to generate fingerprint");
    let line = public_key.trim();
    if line.contains(['\n', '\r', '\0']) {
        return Err(refused());
    }
    // The rest of the line is a comment, of any words; the parser at hand takes one word only.
    let mut words = line.split_whitespace();
    let (Some(algorithm), Some(blob)) = (words.next(), words.next()) else { return Err(refused()) };
    let key = PublicKey::from_openssh(&format!("{algorithm} {blob}")).map_err(|_| refused())?;
    Ok(colons(&md5::Md5::digest(key.to_bytes().map_err(|_| refused())?)))
}

/// SHA-1 of the certificate's DER as `aa:bb:..`.
pub(crate) fn x509_fingerprint(pem: &str) -> Result<String> {
    let refused = || Error::bad_request("Keypair data is invalid: failed to generate X509 fingerprint");
    let inner = pem
        .split("-----BEGIN CERTIFICATE-----")
        .nth(1)
        .and_then(|rest| rest.split("-----END CERTIFICATE-----").next())
        .ok_or_else(refused)?;
    let packed: String = inner.chars().filter(|c| !c.is_whitespace()).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(packed).map_err(|_| refused())?;
    // A certificate is a DER sequence; anything else is a mistake worth telling at once.
    if der.first() != Some(&0x30) {
        return Err(refused());
    }
    Ok(colons(&sha1::Sha1::digest(&der)))
}

fn colons(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_reads_back_and_has_a_fingerprint() {
        let (public, private) = generate("me and my machine").unwrap();
        assert!(public.ends_with(" me and my machine"));
        assert!(public.starts_with("ssh-ed25519 ") && private.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----"));
        assert_eq!(ssh_fingerprint(&public).unwrap().len(), 47);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for bad in ["", "ssh-rsa", "ssh-rsa AAAA", "ssh-ed25519 !!!!", "ssh-ed25519 AAAA\nssh-rsa BBBB"] {
            assert!(ssh_fingerprint(bad).is_err(), "{bad:?}");
        }
    }
}

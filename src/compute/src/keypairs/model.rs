//! A key pair, and the keys themselves.

use base64::Engine as _;
use md5::Digest as _;
use rest::{Error, Result};
use ssh_key::{Algorithm, LineEnding, PrivateKey, rand_core::OsRng};

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

/// Makes an Ed25519 pair (upstream makes RSA; every sshd of the last ten years takes either, and this one is made in no
/// time on any machine): public key line and private key in OpenSSH's own format.
pub(crate) fn generate(comment: &str) -> Result<(String, String)> {
    let mut key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).map_err(Error::internal)?;
    key.set_comment(comment);
    let private = key.to_openssh(LineEnding::LF).map_err(Error::internal)?.to_string();
    let public = key.public_key().to_openssh().map_err(Error::internal)?;
    Ok((public, private))
}

/// Makes a certificate that its own key has signed, as Windows guests take it for a login: certificate and private key, PEM.
/// The key is ECDSA on P-256: the library that this program signs with makes no RSA keys.
pub(crate) fn generate_x509(user_id: &str, now: time::OffsetDateTime) -> Result<(String, String)> {
    // Microsoft's user principal name: WinRM finds the account by it.
    const PRINCIPAL_NAME: &[u64] = &[1, 3, 6, 1, 4, 1, 311, 20, 2, 3];
    let key = rcgen::KeyPair::generate().map_err(Error::internal)?;
    let mut wanted = rcgen::CertificateParams::default();
    wanted.distinguished_name = rcgen::DistinguishedName::new();
    wanted.distinguished_name.push(rcgen::DnType::CommonName, user_id);
    let principal = rcgen::OtherNameValue::from(format!("{user_id}@localhost"));
    wanted.subject_alt_names = vec![rcgen::SanType::OtherName((PRINCIPAL_NAME.to_vec(), principal))];
    wanted.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    wanted.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    // A day back for guests whose clock is wrong; ten years, as upstream's.
    wanted.not_before = now - time::Duration::days(1);
    wanted.not_after = now + time::Duration::days(3650);
    let certificate = wanted.self_signed(&key).map_err(Error::internal)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// MD5 of the key's blob as `aa:bb:..`, which is what Compute has always shown.
pub(crate) fn ssh_fingerprint(public_key: &str) -> Result<String> {
    let refused = || Error::bad_request("Keypair data is invalid: failed to generate fingerprint");
    let line = public_key.trim();
    if line.contains(['\n', '\r', '\0']) {
        return Err(refused());
    }
    // The rest of the line is a comment, of any words.
    let mut words = line.split_whitespace();
    let (Some(algorithm), Some(packed)) = (words.next(), words.next()) else { return Err(refused()) };
    let blob = base64::engine::general_purpose::STANDARD.decode(packed).map_err(|_| refused())?;
    let is_key = ALGORITHMS.iter().any(|(name, fields)| {
        *name == algorithm
            && wire_strings(&blob).is_some_and(|all| all.len() == fields + 1 && all[0] == name.as_bytes())
    });
    if is_key { Ok(colons(&md5::Md5::digest(&blob))) } else { Err(refused()) }
}

/// Kinds of keys that sshd knows, and how many fields each has after its name. Guests judge keys, Compute only has to tell
/// a key from what is none: a curve that this program cannot compute with is a good key all the same.
const ALGORITHMS: &[(&str, usize)] = &[
    ("ssh-ed25519", 1),
    ("ssh-rsa", 2),
    ("ssh-dss", 4),
    ("ecdsa-sha2-nistp256", 2),
    ("ecdsa-sha2-nistp384", 2),
    ("ecdsa-sha2-nistp521", 2),
    ("sk-ssh-ed25519@openssh.com", 2),
    ("sk-ecdsa-sha2-nistp256@openssh.com", 3),
];

/// The strings of a key's blob (RFC 4251, section 5), none of them empty; None when they do not fill it exactly.
fn wire_strings(mut blob: &[u8]) -> Option<Vec<&[u8]>> {
    let mut strings = Vec::new();
    while !blob.is_empty() {
        let (length, rest) = blob.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (string, rest) = rest.split_at_checked(length).filter(|_| length > 0)?;
        strings.push(string);
        blob = rest;
    }
    Some(strings)
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
    fn a_generated_certificate_has_a_fingerprint_and_its_key() {
        let now = time::macros::datetime!(2026-01-02 03:04:05 UTC);
        let (certificate, private) = generate_x509("0123", now).unwrap();
        assert!(private.starts_with("-----BEGIN PRIVATE KEY-----"));
        assert_eq!(x509_fingerprint(&certificate).unwrap().len(), 59);
    }

    #[test]
    fn keys_of_curves_that_this_program_cannot_compute_with_are_keys() {
        let key = "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBMywJpZkokCpfQ1Nk1ETKsIXZD3y\
                   lqMAhughqI3UgshvCfJym6hEz776uxU/fBQUhZhRnhhX4n8nNM11sY0wnjWh+MgaFxCCg8e+Y2GajJ/vu3d8t0mrhOXUUZwzt74PEA==";
        assert_eq!(ssh_fingerprint(key).unwrap().len(), 47);
        assert_eq!(ssh_fingerprint(key).unwrap(), ssh_fingerprint(&format!("{key} me and my machine")).unwrap());
        assert!(ssh_fingerprint(&key.replace("nistp384 ", "nistp256 ")).is_err(), "the name must be the blob's");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for bad in ["", "ssh-rsa", "ssh-rsa AAAA", "ssh-ed25519 !!!!", "ssh-ed25519 AAAA\nssh-rsa BBBB"] {
            assert!(ssh_fingerprint(bad).is_err(), "{bad:?}");
        }
    }
}

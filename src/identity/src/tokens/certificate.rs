//! Client certificates (X.509): what a verified one says of its holder, under the names that `mod_ssl` gives it and mappings
//! written for Keystone use.
//!
//! The listener has verified the chain and that the client holds the key. Whether the certificate is valid now is asked at
//! each use, because a connection may outlive it.

use std::collections::BTreeMap;

use rest::{ClientCertificate, Error, Result};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// The issuer's name (RFC 4514): the remote id of the identity provider that it stands for.
    pub issuer: String,
    /// `SSL_CLIENT_S_DN`, `SSL_CLIENT_S_DN_CN`, `SSL_CLIENT_S_DN_O` ... and `REMOTE_USER`, which is the common name.
    pub assertion: BTreeMap<String, Vec<String>>,
}

/// # Errors
/// 401 for what cannot be read or is not valid now.
pub(crate) fn read(certificate: &ClientCertificate, now: OffsetDateTime) -> Result<Shown> {
    let refuse = |why: String| Error::unauthenticated().caused_by(why);
    let (_, parsed) = X509Certificate::from_der(&certificate.der).map_err(|error| refuse(error.to_string()))?;
    let validity = parsed.validity();
    let now_s = now.unix_timestamp();
    if now_s < validity.not_before.timestamp() || now_s > validity.not_after.timestamp() {
        return Err(refuse("the client's certificate is not valid now".into()));
    }
    let mut assertion = BTreeMap::new();
    for (prefix, name) in [("SSL_CLIENT_S_DN", parsed.subject()), ("SSL_CLIENT_I_DN", parsed.issuer())] {
        assertion.insert(prefix.to_owned(), vec![text(name)]);
        for attribute in name.iter_attributes() {
            let Some(short) = short(&attribute.attr_type().to_id_string()) else { continue };
            // Of an encoding that is no text nothing is believed.
            let Ok(value) = attribute.as_str() else { continue };
            assertion.entry(format!("{prefix}_{short}")).or_insert_with(Vec::new).push(value.to_owned());
        }
    }
    assertion.insert("SSL_CLIENT_M_SERIAL".into(), vec![parsed.raw_serial_as_string().replace(':', "").to_uppercase()]);
    if let Some([name]) = assertion.get("SSL_CLIENT_S_DN_CN").map(Vec::as_slice) {
        let name = name.clone();
        assertion.insert("REMOTE_USER".into(), vec![name]);
    }
    Ok(Shown { issuer: text(parsed.issuer()), assertion })
}

/// Names of attributes by their identifiers (RFC 4514, section 3, and PKCS #9).
fn short(identifier: &str) -> Option<&'static str> {
    Some(match identifier {
        "2.5.4.3" => "CN",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "0.9.2342.19200300.100.1.25" => "DC",
        "0.9.2342.19200300.100.1.1" => "UID",
        "1.2.840.113549.1.9.1" => "Email",
        _ => return None,
    })
}

/// RFC 4514: the most specific part first.
fn text(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in name.iter() {
        let attributes: Vec<String> = part
            .iter()
            .map(|attribute| {
                let identifier = attribute.attr_type().to_id_string();
                let kind = match short(&identifier) {
                    Some("Email") => "emailAddress".to_owned(),
                    Some(short) => short.to_owned(),
                    None => identifier,
                };
                match attribute.as_str() {
                    Ok(value) => format!("{kind}={}", escaped(value)),
                    Err(_) => {
                        let bytes = attribute.as_slice().iter();
                        bytes.fold(format!("{kind}=#"), |text, byte| text + &format!("{byte:02x}"))
                    }
                }
            })
            .collect();
        parts.push(attributes.join("+"));
    }
    parts.reverse();
    parts.join(",")
}

fn escaped(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut out = String::with_capacity(value.len());
    for (at, char) in value.chars().enumerate() {
        match char {
            '\0' => out.push_str("\\00"),
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => out.extend(['\\', char]),
            ' ' if at == 0 || at == last => out.push_str("\\ "),
            '#' if at == 0 => out.push_str("\\#"),
            _ => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
    use time::Duration;

    use super::*;

    fn certificate(names: &[(DnType, &str)], from: OffsetDateTime, until: OffsetDateTime) -> ClientCertificate {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), *value);
        }
        (params.not_before, params.not_after) = (from, until);
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        ClientCertificate { der: made.der().as_ref().into() }
    }

    #[test]
    fn a_certificate_says_who_and_by_whom_in_the_words_of_mappings() {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::days(20_000);
        let (from, until) = (now - Duration::DAY, now + Duration::DAY);
        let names =
            [(DnType::CountryName, "NL"), (DnType::OrganizationName, "Corp, Inc."), (DnType::CommonName, "dana #1")];
        let shown = read(&certificate(&names, from, until), now).unwrap();
        assert_eq!(shown.issuer, "CN=dana #1,O=Corp\\, Inc.,C=NL");
        let says = |name: &str| shown.assertion.get(name).map(|values| values.join("|")).unwrap_or_default();
        assert_eq!(says("SSL_CLIENT_S_DN"), shown.issuer);
        assert_eq!((says("SSL_CLIENT_S_DN_CN"), says("SSL_CLIENT_S_DN_O")), ("dana #1".into(), "Corp, Inc.".into()));
        assert_eq!((says("SSL_CLIENT_I_DN_C"), says("REMOTE_USER")), ("NL".into(), "dana #1".into()));
        assert!(!says("SSL_CLIENT_M_SERIAL").is_empty());
    }

    #[test]
    fn a_certificate_is_good_for_its_time_and_nonsense_never() {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::days(20_000);
        let names = [(DnType::CommonName, "x")];
        let of = |from: OffsetDateTime, until: OffsetDateTime| read(&certificate(&names, from, until), now).is_ok();
        assert!(of(now - Duration::DAY, now + Duration::DAY));
        assert!(!of(now - 2 * Duration::DAY, now - Duration::DAY));
        assert!(!of(now + Duration::DAY, now + 2 * Duration::DAY));
        let whole = certificate(&names, now - Duration::DAY, now + Duration::DAY);
        for length in 0..whole.der.len() {
            assert!(read(&ClientCertificate { der: whole.der[..length].into() }, now).is_err());
        }
    }

    #[test]
    fn names_without_a_text_of_their_own_are_escaped() {
        assert_eq!(escaped(" a+b, \"c\"#"), "\\ a\\+b\\, \\\"c\\\"#");
        assert_eq!(escaped("#x "), "\\#x\\ ");
        assert_eq!(escaped("\0"), "\\00");
    }
}

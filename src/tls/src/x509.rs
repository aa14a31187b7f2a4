//! Certificates as bytes: writing the three kinds that we issue, and reading what an authority's certificate allows.
//!
//! The writer is ours because an issuer's name must be copied byte for byte from a brought intermediate. The usual
//! library (rcgen) parses it into a map of attributes first, which loses `DC=corp, DC=example` and every unusual string
//! type, and then no client accepts the chain.

use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use yasna::models::{GeneralizedTime, ObjectIdentifier, UTCTime};
use yasna::{ASN1Result, DERWriter, DERWriterSeq, Tag};

use crate::keys::{CryptoFailure, Key, random};
use crate::names::San;

/// What a new certificate says.
pub(crate) struct Template<'a> {
    /// DER of the name, copied from the issuer.
    pub issuer: &'a [u8],
    /// DER of the name.
    pub subject: &'a [u8],
    /// DER of the SubjectPublicKeyInfo.
    pub spki: &'a [u8],
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
    /// Subject key identifier of the issuer, where it has one.
    pub authority_key_id: Option<&'a [u8]>,
    pub profile: Profile<'a>,
}

pub(crate) enum Profile<'a> {
    Authority { path_length: Option<u8> },
    Server { names: &'a [San] },
}

const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];
const SUBJECT_ALT_NAME: &[u64] = &[2, 5, 29, 17];
const SUBJECT_KEY_ID: &[u64] = &[2, 5, 29, 14];
const AUTHORITY_KEY_ID: &[u64] = &[2, 5, 29, 35];
const SERVER_AUTH: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 1];
const RSA_SHA256: &[u64] = &[1, 2, 840, 113549, 1, 1, 11];

impl Template<'_> {
    pub(crate) fn signed_with(&self, key: &Key) -> Result<CertificateDer<'static>, CryptoFailure> {
        let (_, algorithm) = key.algorithm()?;
        let mut serial: [u8; 16] = random()?;
        // Positive, and never shorter than 16 bytes.
        serial[0] = serial[0] & 0x7f | 0x40;
        let body = yasna::construct_der(|writer| writer.write_sequence(|seq| self.body(seq, &serial, algorithm)));
        let signature = key.sign(&body)?;
        let certificate = yasna::construct_der(|writer| {
            writer.write_sequence(|seq| {
                seq.next().write_der(&body);
                write_algorithm(seq.next(), algorithm);
                seq.next().write_bitvec_bytes(&signature, signature.len() * 8);
            });
        });
        Ok(certificate.into())
    }

    fn body(&self, seq: &mut DERWriterSeq<'_>, serial: &[u8], algorithm: &[u64]) {
        seq.next().write_tagged(Tag::context(0), |writer| writer.write_u8(2)); // version 3
        seq.next().write_bigint_bytes(serial, true);
        write_algorithm(seq.next(), algorithm);
        seq.next().write_der(self.issuer);
        seq.next().write_sequence(|seq| {
            write_time(seq.next(), self.not_before);
            write_time(seq.next(), self.not_after);
        });
        seq.next().write_der(self.subject);
        seq.next().write_der(self.spki);
        seq.next().write_tagged(Tag::context(3), |writer| writer.write_sequence(|seq| self.extensions(seq)));
    }

    fn extensions(&self, seq: &mut DERWriterSeq<'_>) {
        match self.profile {
            Profile::Authority { path_length } => {
                write_extension(seq, BASIC_CONSTRAINTS, true, |writer| {
                    writer.write_sequence(|seq| {
                        seq.next().write_bool(true);
                        if let Some(length) = path_length {
                            seq.next().write_u8(length);
                        }
                    });
                });
                // keyCertSign (bit 5) and cRLSign (bit 6).
                write_extension(seq, KEY_USAGE, true, |writer| writer.write_bitvec_bytes(&[0b0000_0110], 7));
            }
            Profile::Server { names } => {
                write_extension(seq, BASIC_CONSTRAINTS, true, |writer| writer.write_sequence(|_| ()));
                // digitalSignature (bit 0).
                write_extension(seq, KEY_USAGE, true, |writer| writer.write_bitvec_bytes(&[0b1000_0000], 1));
                write_extension(seq, EXTENDED_KEY_USAGE, false, |writer| {
                    writer.write_sequence(|seq| seq.next().write_oid(&ObjectIdentifier::from_slice(SERVER_AUTH)));
                });
                // Critical, because the subject is empty (RFC 5280, 4.2.1.6).
                write_extension(seq, SUBJECT_ALT_NAME, true, |writer| {
                    writer.write_sequence(|seq| {
                        for name in names {
                            write_name(seq.next(), name);
                        }
                    });
                });
            }
        }
        write_extension(seq, SUBJECT_KEY_ID, false, |writer| writer.write_bytes(&key_id(self.spki)));
        if let Some(id) = self.authority_key_id {
            write_extension(seq, AUTHORITY_KEY_ID, false, |writer| {
                writer.write_sequence(|seq| {
                    seq.next().write_tagged_implicit(Tag::context(0), |writer| writer.write_bytes(id));
                });
            });
        }
    }
}

fn write_algorithm(writer: DERWriter<'_>, algorithm: &[u64]) {
    writer.write_sequence(|seq| {
        seq.next().write_oid(&ObjectIdentifier::from_slice(algorithm));
        // RFC 4055 wants the NULL for RSA; RFC 5758 and 8410 forbid parameters for the others.
        if algorithm == RSA_SHA256 {
            seq.next().write_null();
        }
    });
}

fn write_time(writer: DERWriter<'_>, at: OffsetDateTime) {
    let at = at.replace_nanosecond(0).unwrap_or(at);
    if (1950..2050).contains(&at.year()) {
        writer.write_utctime(&UTCTime::from_datetime(at));
    } else {
        writer.write_generalized_time(&GeneralizedTime::from_datetime(at));
    }
}

fn write_extension(seq: &mut DERWriterSeq<'_>, oid: &[u64], critical: bool, value: impl FnOnce(DERWriter<'_>)) {
    seq.next().write_sequence(|seq| {
        seq.next().write_oid(&ObjectIdentifier::from_slice(oid));
        if critical {
            seq.next().write_bool(true);
        }
        seq.next().write_bytes(&yasna::construct_der(value));
    });
}

fn write_name(writer: DERWriter<'_>, name: &San) {
    match name {
        San::Dns(name) => writer.write_tagged_implicit(Tag::context(2), |writer| writer.write_ia5_string(name)),
        San::Ip(ip) => writer.write_tagged_implicit(Tag::context(7), |writer| match ip {
            std::net::IpAddr::V4(ip) => writer.write_bytes(&ip.octets()),
            std::net::IpAddr::V6(ip) => writer.write_bytes(&ip.octets()),
        }),
    }
}

/// DER of `O=Solostack, CN=<common_name>`.
pub(crate) fn name(common_name: &str) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|seq| {
            for (oid, value) in [(&[2, 5, 4, 10], "Solostack"), (&[2, 5, 4, 3], common_name)] {
                seq.next().write_set(|set| {
                    set.next().write_sequence(|seq| {
                        seq.next().write_oid(&ObjectIdentifier::from_slice(oid));
                        seq.next().write_utf8_string(value);
                    });
                });
            }
        });
    })
}

/// DER of the name without attributes.
pub(crate) const EMPTY_NAME: &[u8] = &[0x30, 0];

/// Subject key identifier by method 1 of RFC 7093: the first 160 bits of SHA-256 of the public key bits.
pub(crate) fn key_id(spki: &[u8]) -> Vec<u8> {
    let bits = spki_bits(spki).unwrap_or_else(|_| spki.to_vec());
    digest(&SHA256, &bits).as_ref()[..20].to_vec()
}

fn spki_bits(spki: &[u8]) -> ASN1Result<Vec<u8>> {
    yasna::parse_der(spki, |reader| {
        reader.read_sequence(|seq| {
            seq.next().read_der()?;
            Ok(seq.next().read_bitvec_bytes()?.0)
        })
    })
}

/// A certificate of an authority, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuthorityCertificate {
    pub der: CertificateDer<'static>,
    pub subject: Vec<u8>,
    pub issuer: Vec<u8>,
    /// For people.
    pub subject_text: String,
    pub issuer_text: String,
    pub public_bits: Vec<u8>,
    pub key_id: Option<Vec<u8>>,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
    pub is_authority: bool,
    /// X.509 version 3; a version 1 root cannot say that it is an authority.
    pub has_extensions: bool,
    pub path_length: Option<u32>,
    /// keyCertSign is granted, or key usage is not restricted.
    pub may_sign: bool,
    /// serverAuth is granted, or extended key usage is not restricted.
    pub may_vouch_for_servers: bool,
    pub has_name_constraints: bool,
}

impl AuthorityCertificate {
    pub(crate) fn read(der: CertificateDer<'static>) -> Result<Self, String> {
        let (rest, parsed) = X509Certificate::from_der(&der).map_err(|error| format!("not X.509: {error}"))?;
        if !rest.is_empty() {
            return Err("there are bytes behind the certificate".into());
        }
        let mut read = Self {
            subject: parsed.subject().as_raw().to_vec(),
            issuer: parsed.issuer().as_raw().to_vec(),
            subject_text: parsed.subject().to_string(),
            issuer_text: parsed.issuer().to_string(),
            public_bits: parsed.public_key().subject_public_key.data.to_vec(),
            key_id: None,
            not_before: parsed.validity().not_before.to_datetime(),
            not_after: parsed.validity().not_after.to_datetime(),
            is_authority: false,
            has_extensions: !parsed.extensions().is_empty(),
            path_length: None,
            may_sign: true,
            may_vouch_for_servers: true,
            has_name_constraints: false,
            der: der.clone(),
        };
        for extension in parsed.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(constraints) => {
                    read.is_authority = constraints.ca;
                    read.path_length = constraints.path_len_constraint;
                }
                ParsedExtension::KeyUsage(usage) => read.may_sign = usage.key_cert_sign(),
                ParsedExtension::ExtendedKeyUsage(usage) => {
                    read.may_vouch_for_servers = usage.server_auth || usage.any;
                }
                ParsedExtension::SubjectKeyIdentifier(id) => read.key_id = Some(id.0.to_vec()),
                ParsedExtension::NameConstraints(_) => read.has_name_constraints = true,
                ParsedExtension::ParseError { error } => {
                    return Err(format!("extension {}: {error}", extension.oid));
                }
                _ => (),
            }
        }
        Ok(read)
    }

    pub(crate) fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    pub(crate) fn is_valid_at(&self, at: OffsetDateTime) -> bool {
        self.not_before <= at && at < self.not_after
    }

    /// SHA-256 of the certificate, as `openssl x509 -fingerprint -sha256` prints it.
    pub(crate) fn fingerprint(&self) -> String {
        let digest = digest(&SHA256, &self.der);
        digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
    }
}

/// A time of birth that clients with a slow clock accept too.
pub(crate) fn a_day_before(now: OffsetDateTime) -> OffsetDateTime {
    now.saturating_sub(Duration::DAY)
}

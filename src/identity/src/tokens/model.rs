//! What is inside a token, and its bytes. No I/O.
//!
//! The payload names ids only; everything else is looked up when the token is used. It carries the epoch of its user and
//! of its project or domain: moving an epoch voids all tokens at once and depends on no clock.

use std::sync::{Arc, OnceLock};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rest::Credentials;

const VERSION: u8 = 1;

/// Authentication methods by the bit that stands for them. Never reorder.
const METHODS: [&str; 5] = ["password", "token", "application_credential", "totp", "mapped"];

pub(crate) const PASSWORD: u8 = 1;
pub(crate) const TOKEN: u8 = 2;
pub(crate) const APPLICATION_CREDENTIAL: u8 = 4;
pub(crate) const TOTP: u8 = 8;
/// By an identity provider.
pub(crate) const MAPPED: u8 = 16;

pub(crate) fn method_names(bits: u8) -> Vec<String> {
    METHODS.iter().enumerate().filter(|(bit, _)| bits & (1 << bit) != 0).map(|(_, name)| (*name).to_owned()).collect()
}

pub(crate) type AuditId = [u8; 16];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TokenScope {
    Unscoped,
    Project(String),
    Domain(String),
    System,
}

/// Which identity provider vouched, and the groups that its assertion gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Federated {
    pub provider_id: String,
    pub protocol_id: String,
    /// At most 255; beside those that the user has here.
    pub group_ids: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Payload {
    pub methods: u8,
    pub user_id: String,
    pub user_epoch: u32,
    pub scope: TokenScope,
    pub scope_epoch: u32,
    pub issued_s: u32,
    pub expires_s: u32,
    pub audit_id: AuditId,
    /// The audit id of the first token of a chain of rescoping.
    pub chain_id: Option<AuditId>,
    /// At most one of this, `trust_id` and `federated`.
    pub application_credential_id: Option<String>,
    pub trust_id: Option<String>,
    pub federated: Option<Federated>,
}

impl Payload {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(112);
        out.push(VERSION);
        out.push(self.methods);
        put_id(&mut out, &self.user_id);
        out.extend_from_slice(&self.user_epoch.to_be_bytes());
        match &self.scope {
            TokenScope::Unscoped => out.push(0),
            TokenScope::Project(id) => {
                out.push(1);
                put_id(&mut out, id);
            }
            TokenScope::Domain(id) => {
                out.push(2);
                put_id(&mut out, id);
            }
            TokenScope::System => out.push(3),
        }
        out.extend_from_slice(&self.scope_epoch.to_be_bytes());
        out.extend_from_slice(&self.issued_s.to_be_bytes());
        out.extend_from_slice(&self.expires_s.to_be_bytes());
        out.extend_from_slice(&self.audit_id);
        match &self.chain_id {
            None => out.push(0),
            Some(id) => {
                out.push(1);
                out.extend_from_slice(id);
            }
        }
        match (&self.application_credential_id, &self.trust_id, &self.federated) {
            (None, None, None) => out.push(0),
            (Some(id), _, _) => {
                out.push(1);
                put_id(&mut out, id);
            }
            (None, Some(id), _) => {
                out.push(2);
                put_id(&mut out, id);
            }
            (None, None, Some(federated)) => {
                out.push(3);
                put_id(&mut out, &federated.provider_id);
                put_id(&mut out, &federated.protocol_id);
                out.push(u8::try_from(federated.group_ids.len()).unwrap_or(u8::MAX));
                for id in federated.group_ids.iter().take(usize::from(u8::MAX)) {
                    put_id(&mut out, id);
                }
            }
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        if reader.byte()? != VERSION {
            return None;
        }
        let methods = reader.byte()?;
        let user_id = reader.id()?;
        let user_epoch = reader.number()?;
        let scope = match reader.byte()? {
            0 => TokenScope::Unscoped,
            1 => TokenScope::Project(reader.id()?),
            2 => TokenScope::Domain(reader.id()?),
            3 => TokenScope::System,
            _ => return None,
        };
        let mut payload = Self {
            methods,
            user_id,
            user_epoch,
            scope,
            scope_epoch: reader.number()?,
            issued_s: reader.number()?,
            expires_s: reader.number()?,
            audit_id: reader.array()?,
            chain_id: if reader.byte()? == 0 { None } else { Some(reader.array()?) },
            application_credential_id: None,
            trust_id: None,
            federated: None,
        };
        match reader.byte()? {
            0 => {}
            1 => payload.application_credential_id = Some(reader.id()?),
            2 => payload.trust_id = Some(reader.id()?),
            3 => {
                let (provider_id, protocol_id) = (reader.id()?, reader.id()?);
                let count = reader.byte()?;
                let group_ids = (0..count).map(|_| reader.id()).collect::<Option<_>>()?;
                payload.federated = Some(Federated { provider_id, protocol_id, group_ids });
            }
            _ => return None,
        }
        reader.0.is_empty().then_some(payload)
    }

    /// First the token's own, then the chain's.
    pub(crate) fn audit_ids(&self) -> Vec<String> {
        std::iter::once(&self.audit_id).chain(&self.chain_id).map(audit_text).collect()
    }
}

pub(crate) fn audit_text(id: &AuditId) -> String {
    URL_SAFE_NO_PAD.encode(id)
}

/// Most ids are 32 hexadecimal digits and take 16 bytes; those of directories' users are 64 and take 32.
pub(super) fn put_id(out: &mut Vec<u8>, id: &str) {
    if let Some(bytes) = hex(id) {
        out.push(0xff);
        out.extend_from_slice(&u128::to_be_bytes(bytes));
    } else if let Some((high, low)) = id.split_at_checked(32).and_then(|(high, low)| hex(high).zip(hex(low))) {
        out.push(0xfe);
        out.extend_from_slice(&high.to_be_bytes());
        out.extend_from_slice(&low.to_be_bytes());
    } else {
        let text = id.as_bytes();
        let length = text.len().min(0xfd);
        out.push(u8::try_from(length).unwrap_or(0xfd));
        out.extend_from_slice(&text[..length]);
    }
}

/// Lower case only: the text must come back as it was.
fn hex(id: &str) -> Option<u128> {
    if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
        return None;
    }
    u128::from_str_radix(id, 16).ok()
}

pub(super) struct Reader<'a>(pub &'a [u8]);

impl Reader<'_> {
    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    pub fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub fn number(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn id(&mut self) -> Option<String> {
        match self.byte()? {
            0xff => Some(format!("{:032x}", u128::from_be_bytes(self.array()?))),
            0xfe => {
                let (high, low) = (u128::from_be_bytes(self.array()?), u128::from_be_bytes(self.array()?));
                Some(format!("{high:032x}{low:032x}"))
            }
            length => String::from_utf8(self.take(usize::from(length))?.to_vec()).ok(),
        }
    }
}

/// One rule of an application credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccessRule {
    pub service: String,
    pub method: String,
    pub path: String,
}

/// The application credential behind a token.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    pub id: String,
    pub name: String,
    pub restricted: bool,
    pub expires_s: Option<u32>,
    /// `None`: any request.
    pub rules: Option<Vec<AccessRule>>,
}

/// The trust behind a token.
#[derive(Clone, Debug)]
pub(crate) struct TrustRef {
    pub id: String,
    pub trustor_user_id: String,
    pub trustee_user_id: String,
    pub impersonation: bool,
    pub expires_s: Option<u32>,
}

/// A token that was good when it was looked up. Expiry is checked at each use.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub payload: Payload,
    pub creds: Arc<Credentials>,
    /// The project of the scope is a domain.
    pub is_domain: bool,
    pub password_expires_at: Option<String>,
    pub credential: Option<Credential>,
    pub trust: Option<TrustRef>,
    /// Users of directories on whom it depends: they are looked at again from time to time.
    pub from_directory: Vec<String>,
    /// When a membership that this was looked up with ends: from then on it must be looked up anew.
    pub until_s: Option<i64>,
    /// Enabled service providers as the token shows them; empty where there are none.
    pub service_providers: Vec<serde_json::Value>,
    /// Its document without the catalog, from when it was first asked for.
    pub written: OnceLock<String>,
}

impl Known {
    pub(crate) fn expired(&self, now_s: i64) -> bool {
        let over = |at: u32| i64::from(at) <= now_s;
        over(self.payload.expires_s)
            || self.credential.as_ref().and_then(|credential| credential.expires_s).is_some_and(over)
            || self.trust.as_ref().and_then(|trust| trust.expires_s).is_some_and(over)
    }

    /// Whether an access rule lets this request through.
    pub(crate) fn lets_through(&self, service: &str, method: &str, path: &str) -> bool {
        let Some(rules) = self.credential.as_ref().and_then(|credential| credential.rules.as_ref()) else {
            return true;
        };
        rules.iter().any(|rule| {
            rule.method.eq_ignore_ascii_case(method)
                && same_service(&rule.service, service)
                && path_matches(&rule.path, path)
        })
    }
}

/// Service types that are names of one service.
fn same_service(a: &str, b: &str) -> bool {
    fn plain(kind: &str) -> &str {
        match kind {
            "volumev3" | "volumev2" | "volume" | "block-store" => "block-storage",
            other => other,
        }
    }
    plain(a) == plain(b)
}

/// `*` and `{name}` stand for one segment, `**` for any number of them.
fn path_matches(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
    let path: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    // Greedy with one point to return to, as for wild cards in file names: never more than pattern x path steps.
    let (mut at, mut from, mut back) = (0, 0, None);
    while from < path.len() {
        match pattern.get(at) {
            Some(&"**") => {
                back = Some((at, from));
                at += 1;
            }
            Some(part) if *part == "*" || (part.starts_with('{') && part.ends_with('}')) || *part == path[from] => {
                at += 1;
                from += 1;
            }
            _ => match back {
                Some((star, start)) => {
                    back = Some((star, start + 1));
                    at = star + 1;
                    from = start + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|part| *part == "**")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload() -> Payload {
        Payload {
            methods: PASSWORD | TOKEN,
            user_id: "0123456789abcdef0123456789abcdef".into(),
            user_epoch: 7,
            scope: TokenScope::Project("f".repeat(32)),
            scope_epoch: 1,
            issued_s: 1_700_000_000,
            expires_s: 1_700_003_600,
            audit_id: [1; 16],
            chain_id: Some([2; 16]),
            application_credential_id: None,
            trust_id: None,
            federated: None,
        }
    }

    #[test]
    fn a_payload_survives_its_bytes() {
        let mut all = vec![payload()];
        for scope in [TokenScope::Unscoped, TokenScope::System, TokenScope::Domain("default".into())] {
            all.push(Payload { scope, chain_id: None, ..payload() });
        }
        all.push(Payload { application_credential_id: Some("a".repeat(32)), ..payload() });
        all.push(Payload { trust_id: Some("b".repeat(32)), ..payload() });
        for group_ids in [vec![], vec!["c".repeat(32), "odd".into()]] {
            let federated = Federated { provider_id: "acme".into(), protocol_id: "openid".into(), group_ids };
            all.push(Payload { federated: Some(federated), ..payload() });
        }
        all.push(Payload { user_id: "ABCDEF6789abcdef0123456789abcdef".into(), ..payload() });
        all.push(Payload { user_id: "0123456789abcdef".repeat(4), ..payload() });
        all.push(Payload { user_id: "0123456789ABCDEF".repeat(4), ..payload() });
        for one in all {
            let bytes = one.encode();
            assert_eq!(Payload::decode(&bytes), Some(one));
            for length in 0..bytes.len() {
                assert_eq!(Payload::decode(&bytes[..length]), None);
            }
        }
    }

    #[test]
    fn the_longest_usual_payload_makes_a_token_below_255_characters() {
        let longest = Payload { user_id: "c".repeat(64), trust_id: Some("b".repeat(32)), ..payload() }.encode().len();
        let padded = (longest / 16 + 1) * 16;
        assert!((1 + 8 + 16 + padded + 32).div_ceil(3) * 4 < 255, "{longest}");
    }

    #[test]
    fn access_rules_match_segments() {
        for (pattern, path, want) in [
            ("/v2.1/servers", "/v2.1/servers", true),
            ("/v2.1/servers", "/v2.1/servers/1", false),
            ("/v2.1/servers/*", "/v2.1/servers/1", true),
            ("/v2.1/servers/*", "/v2.1/servers", false),
            ("/v2.1/servers/{server_id}/ips", "/v2.1/servers/1/ips", true),
            ("/v2.1/**", "/v2.1/servers/1/ips", true),
            ("/v2.1/**", "/v2.1", true),
            ("/v2.1/**/ips", "/v2.1/servers/1/ips", true),
            ("/v2.1/**/ips", "/v2.1/servers/1/tags", false),
            ("**", "/anything/at/all", true),
            ("/**/a/**/b", "/x/a/y/a/z/b", true),
            ("/v2.1", "/v3", false),
        ] {
            assert_eq!(path_matches(pattern, path), want, "{pattern} {path}");
        }
    }
}

//! A domain's `ldap` options with upstream's names, meanings and defaults.

use std::time::Duration;

use ldap3::{DerefAliases, Scope};
use rest::{Error, Result};
use serde_json::{Map, Value};

use crate::errors::invalid;

/// For who sets none, or -1.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Entries of one search, where the domain sets no `list_limit`.
const LIMIT: usize = 20_000;
const POOL_MAX: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    /// `use_tls`: an `ldap://` connection becomes a protected one before anything else is said.
    Start,
    /// `ldaps://`, or nothing.
    ByUrl,
}

/// How a user is enabled or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Enabled {
    Always,
    /// The attribute says so; `inverted`: says the contrary.
    Attribute {
        name: String,
        inverted: bool,
        default: bool,
    },
    /// Disabled when all bits of `mask` are set.
    Mask {
        name: String,
        mask: i64,
        default: i64,
    },
    /// Who is a member of this entry.
    Members {
        dn: String,
        attribute: String,
    },
}

/// Where entries of a kind are and what their attributes are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub tree_dn: String,
    /// Both parenthesised, or empty.
    pub class_filter: String,
    pub own_filter: String,
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    /// Attribute there, attribute here.
    pub additional: Vec<(String, String)>,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// One after the other until one answers.
    pub urls: Vec<String>,
    pub user: Option<String>,
    pub password: String,
    pub tls: Tls,
    /// PEM text, or the path of a file.
    pub ca_file: Option<String>,
    pub ca_folder: Option<String>,
    pub verify: bool,
    pub connect_timeout: Duration,
    pub connection_lifetime: Duration,
    pub searches_at_once: usize,
    pub binds_at_once: usize,
    pub page_size: i32,
    pub limit: usize,
    pub subtree: bool,
    pub aliases: Aliases,
    pub users: Kind,
    pub groups: Kind,
    pub mail: Option<String>,
    pub default_project: Option<String>,
    pub enabled: Enabled,
    pub member: String,
    /// Members are ids of users, not names of entries.
    pub members_are_ids: bool,
    /// Groups in groups count, as Active Directory resolves them.
    pub nested: bool,
}

/// [`DerefAliases`], comparable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aliases {
    Never,
    Searching,
    Finding,
    Always,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("urls", &self.urls).finish_non_exhaustive()
    }
}

impl Settings {
    pub(crate) fn scope(&self) -> Scope {
        if self.subtree { Scope::Subtree } else { Scope::OneLevel }
    }

    pub(crate) fn deref(&self) -> DerefAliases {
        match self.aliases {
            Aliases::Never => DerefAliases::Never,
            Aliases::Searching => DerefAliases::Searching,
            Aliases::Finding => DerefAliases::Finding,
            Aliases::Always => DerefAliases::Always,
        }
    }

    /// From a domain's `ldap` options and its `identity.list_limit`.
    ///
    /// # Errors
    /// 400 naming the option that makes no sense.
    pub(crate) fn read(options: &Map<String, Value>, list_limit: Option<&Value>) -> Result<Self> {
        let from = Reader(options);
        let suffix = from.text("suffix")?.unwrap_or_else(|| "cn=example,cn=com".into());
        let tree = |name: &str, unit: &str| -> Result<String> {
            Ok(from.text(name)?.unwrap_or_else(|| format!("ou={unit},{suffix}")))
        };
        let ignored = from.list("user_attribute_ignore")?.unwrap_or_else(|| vec!["default_project_id".into()]);
        let user = |attribute: &str, ours: &str| -> Result<Option<String>> {
            if ignored.iter().any(|name| name == ours) { Ok(None) } else { from.attribute(attribute) }
        };
        let group_ignored = from.list("group_attribute_ignore")?.unwrap_or_default();
        let urls = from.urls()?;
        let tls = if from.flag("use_tls")?.unwrap_or(false) { Tls::Start } else { Tls::ByUrl };
        if tls == Tls::Start && urls.iter().any(|url| url.starts_with("ldaps://")) {
            return Err(invalid("use_tls", "it is for ldap:// only, ldaps:// is protected already"));
        }
        let settings = Self {
            urls,
            user: from.text("user")?,
            password: from.text("password")?.unwrap_or_default(),
            tls,
            ca_file: from.text("tls_cacertfile")?,
            ca_folder: from.text("tls_cacertdir")?,
            verify: match from.text("tls_req_cert")?.as_deref() {
                None | Some("demand") => true,
                Some("never" | "allow") => false,
                Some(_) => return Err(invalid("tls_req_cert", "it must be demand, allow or never")),
            },
            connect_timeout: from.seconds("connection_timeout")?.unwrap_or(CONNECT_TIMEOUT),
            connection_lifetime: from.seconds("pool_connection_lifetime")?.unwrap_or(Duration::from_secs(600)),
            searches_at_once: from.count("pool_size")?.unwrap_or(10).clamp(1, POOL_MAX),
            binds_at_once: from.count("auth_pool_size")?.unwrap_or(100).clamp(1, POOL_MAX),
            page_size: i32::try_from(from.count("page_size")?.unwrap_or(0))
                .map_err(|_| invalid("page_size", "it is too large"))?,
            limit: match list_limit {
                None | Some(Value::Null) => LIMIT,
                Some(value) => whole(value)
                    .and_then(|limit| usize::try_from(limit).ok())
                    .filter(|limit| *limit > 0)
                    .ok_or_else(|| invalid("list_limit", "it must be a positive number"))?,
            },
            subtree: match from.text("query_scope")?.as_deref() {
                None | Some("one") => false,
                Some("sub") => true,
                Some(_) => return Err(invalid("query_scope", "it must be one or sub")),
            },
            aliases: match from.text("alias_dereferencing")?.as_deref() {
                None | Some("default" | "never") => Aliases::Never,
                Some("searching") => Aliases::Searching,
                Some("finding") => Aliases::Finding,
                Some("always") => Aliases::Always,
                Some(_) => {
                    let why = "it must be default, never, searching, finding or always";
                    return Err(invalid("alias_dereferencing", why));
                }
            },
            users: Kind {
                tree_dn: tree("user_tree_dn", "Users")?,
                class_filter: from.class("user_objectclass", "inetOrgPerson")?,
                own_filter: from.filter("user_filter")?,
                id: from.attribute("user_id_attribute")?.unwrap_or_else(|| "cn".into()),
                name: from.attribute("user_name_attribute")?.unwrap_or_else(|| "sn".into()),
                description: user("user_description_attribute", "description")?,
                additional: from.pairs("user_additional_attribute_mapping")?,
            },
            groups: Kind {
                tree_dn: tree("group_tree_dn", "UserGroups")?,
                class_filter: from.class("group_objectclass", "groupOfNames")?,
                own_filter: from.filter("group_filter")?,
                id: from.attribute("group_id_attribute")?.unwrap_or_else(|| "cn".into()),
                name: from.attribute("group_name_attribute")?.unwrap_or_else(|| "ou".into()),
                description: if group_ignored.iter().any(|name| name == "description") {
                    None
                } else {
                    from.attribute("group_desc_attribute")?
                },
                additional: from.pairs("group_additional_attribute_mapping")?,
            },
            mail: user("user_mail_attribute", "email")?,
            default_project: user("user_default_project_id_attribute", "default_project_id")?,
            enabled: Enabled::Always,
            member: from.attribute("group_member_attribute")?.unwrap_or_else(|| "member".into()),
            members_are_ids: from.flag("group_members_are_ids")?.unwrap_or(false),
            nested: from.flag("group_ad_nesting")?.unwrap_or(false),
        };
        let enabled = if from.flag("user_enabled_emulation")?.unwrap_or(false) {
            let by_config = from.flag("user_enabled_emulation_use_group_config")?.unwrap_or(false);
            Enabled::Members {
                dn: match from.text("user_enabled_emulation_dn")? {
                    Some(dn) => dn,
                    None => format!("cn=enabled_users,{}", settings.users.tree_dn),
                },
                attribute: if by_config { settings.member.clone() } else { "member".into() },
            }
        } else if ignored.iter().any(|name| name == "enabled") {
            Enabled::Always
        } else {
            from.enabled()?
        };
        from.rest()?;
        Ok(Self { enabled, ..settings })
    }
}

/// Options as stored or sent: a number or a truth may also be written as text.
struct Reader<'a>(&'a Map<String, Value>);

impl Reader<'_> {
    fn text(&self, name: &str) -> Result<Option<String>> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.contains('\0') => Err(invalid(name, "it must not contain NUL")),
            Some(Value::String(text)) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Some(_) => Err(invalid(name, "it must be a string")),
        }
    }

    fn flag(&self, name: &str) -> Result<Option<bool>> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(Value::String(text)) => {
                rest::parse_bool(text).map(Some).ok_or_else(|| invalid(name, "it must be a boolean"))
            }
            Some(_) => Err(invalid(name, "it must be a boolean")),
        }
    }

    fn integer(&self, name: &str) -> Result<Option<i64>> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => whole(value).map(Some).ok_or_else(|| invalid(name, "it must be a whole number")),
        }
    }

    fn count(&self, name: &str) -> Result<Option<usize>> {
        let Some(number) = self.integer(name)? else { return Ok(None) };
        usize::try_from(number).map(Some).map_err(|_| invalid(name, "it must not be negative"))
    }

    /// -1 is none.
    fn seconds(&self, name: &str) -> Result<Option<Duration>> {
        match self.integer(name)? {
            None | Some(-1) => Ok(None),
            Some(number @ 1..=86_400) => Ok(Some(Duration::from_secs(number.unsigned_abs()))),
            Some(_) => Err(invalid(name, "it must be -1 or a number of seconds from 1 to 86400")),
        }
    }

    /// An array, or text with commas.
    fn list(&self, name: &str) -> Result<Option<Vec<String>>> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => {
                Ok(Some(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()))
            }
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| item.as_str().map(str::to_owned).ok_or_else(|| invalid(name, "it must hold strings")))
                .collect::<Result<_>>()
                .map(Some),
            Some(_) => Err(invalid(name, "it must be an array of strings")),
        }
    }

    /// The name of an attribute (RFC 4512, section 2.5), or its default.
    fn attribute(&self, name: &str) -> Result<Option<String>> {
        let default = match name {
            "user_description_attribute" | "group_desc_attribute" => Some("description"),
            "user_mail_attribute" => Some("mail"),
            _ => None,
        };
        match self.text(name)? {
            Some(text) if is_attribute(&text) => Ok(Some(text)),
            Some(_) => Err(invalid(name, "it must be the name of an attribute")),
            None => Ok(default.map(str::to_owned)),
        }
    }

    fn class(&self, name: &str, default: &str) -> Result<String> {
        let class = self.text(name)?.unwrap_or_else(|| default.into());
        if is_attribute(&class) { Ok(format!("(objectClass={class})")) } else { Err(invalid(name, "it is no class")) }
    }

    /// With its parentheses.
    fn filter(&self, name: &str) -> Result<String> {
        let Some(text) = self.text(name)? else { return Ok(String::new()) };
        let text = if text.starts_with('(') { text } else { format!("({text})") };
        match ldap3::parse_filter(&text) {
            Ok(_) => Ok(text),
            Err(()) => Err(invalid(name, "it is no search filter (RFC 4515)")),
        }
    }

    fn pairs(&self, name: &str) -> Result<Vec<(String, String)>> {
        let mut pairs = Vec::new();
        for pair in self.list(name)?.unwrap_or_default() {
            let (there, here) = pair.split_once(':').unwrap_or(("", ""));
            if !is_attribute(there) || here.trim().is_empty() {
                return Err(invalid(name, "each must be <attribute there>:<attribute here>"));
            }
            pairs.push((there.to_owned(), here.trim().to_owned()));
        }
        Ok(pairs)
    }

    fn urls(&self) -> Result<Vec<String>> {
        let text = self.text("url")?.unwrap_or_else(|| "ldap://localhost".into());
        let urls: Vec<String> = text.split([',', ' ']).filter(|url| !url.is_empty()).map(str::to_owned).collect();
        for url in &urls {
            let host = url.strip_prefix("ldap://").or_else(|| url.strip_prefix("ldaps://"));
            let valid = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
            if !host.is_some_and(|host| {
                let host = host.strip_suffix('/').unwrap_or(host);
                !host.is_empty() && !host.starts_with(':') && host.bytes().all(valid)
            }) {
                return Err(invalid("url", "it must be ldap://<host>[:<port>] or ldaps://<host>[:<port>], or several"));
            }
        }
        if urls.is_empty() { Err(invalid("url", "it names no server")) } else { Ok(urls) }
    }

    fn enabled(&self) -> Result<Enabled> {
        let name = self.attribute("user_enabled_attribute")?.unwrap_or_else(|| "enabled".into());
        let mask = self.integer("user_enabled_mask")?.unwrap_or(0);
        if mask != 0 {
            let default = self.integer("user_enabled_default");
            let why = "with user_enabled_mask it must be a whole number";
            let default = default.map_err(|_| invalid("user_enabled_default", why))?.unwrap_or(0);
            return Ok(Enabled::Mask { name, mask, default });
        }
        let inverted = self.flag("user_enabled_invert")?.unwrap_or(false);
        // A number here is left over from a mask.
        let default = self.flag("user_enabled_default").unwrap_or(None).unwrap_or(true);
        Ok(Enabled::Attribute { name, inverted, default })
    }

    /// Options that do nothing here must still be of their type.
    fn rest(&self) -> Result<()> {
        for name in ["chase_referrals", "use_pool", "use_auth_pool"] {
            self.flag(name)?;
        }
        for name in ["debug_level", "pool_retry_max", "pool_connection_timeout", "auth_pool_connection_lifetime"] {
            self.integer(name)?;
        }
        self.text("user_pass_attribute").map(|_| ())
    }
}

fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A short name or a numeric object identifier, with options.
fn is_attribute(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.len() <= 255
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.;_".contains(&byte))
}

/// What cannot be used is no fault of who asks, but of who configured it.
pub(crate) fn unusable(domain_id: &str, error: &Error) -> Error {
    tracing::error!(domain.id = domain_id, why = error.public(), "a domain's directory is not configured right");
    Error::unavailable(format!("The directory of domain {domain_id} is not configured right: {}", error.public()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(options: Value) -> Result<Settings> {
        let Value::Object(options) = options else { unreachable!() };
        Settings::read(&options, None)
    }

    #[test]
    fn nothing_said_is_what_upstream_takes() {
        let settings = read(json!({})).unwrap();
        assert_eq!(settings.urls, ["ldap://localhost"]);
        assert_eq!(settings.users.tree_dn, "ou=Users,cn=example,cn=com");
        assert_eq!(settings.groups.tree_dn, "ou=UserGroups,cn=example,cn=com");
        assert_eq!((settings.users.id.as_str(), settings.users.name.as_str()), ("cn", "sn"));
        assert_eq!(settings.users.class_filter, "(objectClass=inetOrgPerson)");
        assert_eq!((settings.mail.as_deref(), settings.default_project.as_deref()), (Some("mail"), None));
        let enabled = Enabled::Attribute { name: "enabled".into(), inverted: false, default: true };
        assert_eq!(settings.enabled, enabled);
        assert!(settings.verify && !settings.subtree && settings.user.is_none());
    }

    #[test]
    fn numbers_and_truths_may_be_text_as_in_a_configuration_file() {
        let settings = read(json!({
            "url": "ldap://a,ldap://b:1389", "use_tls": "True", "page_size": "500", "query_scope": "sub",
            "user_enabled_attribute": "userAccountControl", "user_enabled_mask": "2", "user_enabled_default": "512",
            "user_filter": "memberOf=cn=a,dc=b", "user_attribute_ignore": "mail, default_project_id",
            "user_additional_attribute_mapping": ["telephoneNumber:phone"], "connection_timeout": -1,
        }))
        .unwrap();
        assert_eq!(settings.urls, ["ldap://a", "ldap://b:1389"]);
        assert_eq!((settings.tls, settings.page_size, settings.subtree), (Tls::Start, 500, true));
        assert_eq!(settings.enabled, Enabled::Mask { name: "userAccountControl".into(), mask: 2, default: 512 });
        assert_eq!(settings.users.own_filter, "(memberOf=cn=a,dc=b)");
        assert_eq!(settings.users.additional, [("telephoneNumber".to_owned(), "phone".to_owned())]);
        assert_eq!(settings.connect_timeout, CONNECT_TIMEOUT);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (name, value) in [
            ("url", json!("http://x")),
            ("url", json!("ldap://")),
            ("url", json!("ldap://:389")),
            ("url", json!("ldap://user:pass@host")),
            ("url", json!("ldapi:///run/slapd")),
            ("url", json!(",")),
            ("use_tls", json!("perhaps")),
            ("page_size", json!(-1)),
            ("page_size", json!("many")),
            ("page_size", json!(i64::MAX)),
            ("query_scope", json!("base")),
            ("tls_req_cert", json!("always")),
            ("user_filter", json!("(cn=a")),
            ("user_filter", json!("(cn=a)(cn=b)")),
            ("user_id_attribute", json!("cn)(x=*")),
            ("user_objectclass", json!("a*")),
            ("user_additional_attribute_mapping", json!(["x"])),
            ("user_attribute_ignore", json!([1])),
            ("connection_timeout", json!(0)),
            ("suffix", json!(1)),
            ("alias_dereferencing", json!("sometimes")),
            ("chase_referrals", json!("x")),
        ] {
            let error = read(json!({name: value})).unwrap_err();
            assert!(error.public().contains(name), "{name} {value}: {}", error.public());
        }
        assert!(read(json!({"url": "ldaps://x", "use_tls": true})).is_err());
        assert!(Settings::read(&Map::new(), Some(&json!(0))).is_err());
    }
}

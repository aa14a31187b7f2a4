//! `/v3/domains/<id>/config`: a domain's own configuration, one row for each option.

use axum::extract::{Path, State};
use db::{Tx, params};
use rest::{Ctx, Error, RawJson, Reply, Result, Rule, target};
use serde_json::{Map, Value, json};

use super::policy as rules;
use crate::{
    App,
    bootstrap::DEFAULT_DOMAIN,
    directory,
    errors::{expecting, invalid, not_found},
    projects::store::find_domain,
};

const VALUE_MAX: usize = 65_535;
/// Of the domain `default`, read only, and what the program's own configuration says.
const COMPLIANCE: &str = "security_compliance";

/// An option that a domain may set, and what holds where it does not.
struct Known {
    section: &'static str,
    name: &'static str,
    /// JSON.
    default: &'static str,
    /// Kept encrypted and never shown.
    secret: bool,
}

const fn known(section: &'static str, name: &'static str, default: &'static str) -> Known {
    Known { section, name, default, secret: false }
}

/// Upstream's options and defaults.
const KNOWN: &[Known] = &[
    known("identity", "driver", "\"sql\""),
    known("identity", "list_limit", "null"),
    known("ldap", "url", "\"ldap://localhost\""),
    known("ldap", "user", "null"),
    Known { section: "ldap", name: "password", default: "null", secret: true },
    known("ldap", "suffix", "\"cn=example,cn=com\""),
    known("ldap", "query_scope", "\"one\""),
    known("ldap", "page_size", "0"),
    known("ldap", "alias_dereferencing", "\"default\""),
    known("ldap", "debug_level", "null"),
    known("ldap", "chase_referrals", "null"),
    known("ldap", "user_tree_dn", "null"),
    known("ldap", "user_filter", "null"),
    known("ldap", "user_objectclass", "\"inetOrgPerson\""),
    known("ldap", "user_id_attribute", "\"cn\""),
    known("ldap", "user_name_attribute", "\"sn\""),
    known("ldap", "user_description_attribute", "\"description\""),
    known("ldap", "user_mail_attribute", "\"mail\""),
    known("ldap", "user_pass_attribute", "\"userPassword\""),
    known("ldap", "user_enabled_attribute", "\"enabled\""),
    known("ldap", "user_enabled_invert", "false"),
    known("ldap", "user_enabled_mask", "0"),
    known("ldap", "user_enabled_default", "\"True\""),
    known("ldap", "user_attribute_ignore", "[\"default_project_id\"]"),
    known("ldap", "user_default_project_id_attribute", "null"),
    known("ldap", "user_enabled_emulation", "false"),
    known("ldap", "user_enabled_emulation_dn", "null"),
    known("ldap", "user_enabled_emulation_use_group_config", "false"),
    known("ldap", "user_additional_attribute_mapping", "[]"),
    known("ldap", "group_tree_dn", "null"),
    known("ldap", "group_filter", "null"),
    known("ldap", "group_objectclass", "\"groupOfNames\""),
    known("ldap", "group_id_attribute", "\"cn\""),
    known("ldap", "group_name_attribute", "\"ou\""),
    known("ldap", "group_member_attribute", "\"member\""),
    known("ldap", "group_members_are_ids", "false"),
    known("ldap", "group_desc_attribute", "\"description\""),
    known("ldap", "group_attribute_ignore", "[]"),
    known("ldap", "group_additional_attribute_mapping", "[]"),
    known("ldap", "group_ad_nesting", "false"),
    known("ldap", "tls_cacertfile", "null"),
    known("ldap", "tls_cacertdir", "null"),
    known("ldap", "use_tls", "false"),
    known("ldap", "tls_req_cert", "\"demand\""),
    known("ldap", "connection_timeout", "-1"),
    known("ldap", "use_pool", "true"),
    known("ldap", "pool_size", "10"),
    known("ldap", "pool_retry_max", "3"),
    known("ldap", "pool_retry_delay", "0.1"),
    known("ldap", "pool_connection_timeout", "-1"),
    known("ldap", "pool_connection_lifetime", "600"),
    known("ldap", "use_auth_pool", "true"),
    known("ldap", "auth_pool_size", "100"),
    known("ldap", "auth_pool_connection_lifetime", "60"),
];

fn is_secret(section: &str, name: &str) -> bool {
    KNOWN.iter().any(|option| option.secret && option.section == section && option.name == name)
}

/// Part of a configuration: all of it, a section, or one option.
#[derive(Clone, Debug, Default)]
struct Part {
    section: Option<String>,
    name: Option<String>,
}

impl Part {
    fn section(section: String) -> Self {
        Self { section: Some(section), name: None }
    }

    fn option(section: String, name: String) -> Self {
        Self { section: Some(section), name: Some(name) }
    }

    fn has(&self, section: &str, name: &str) -> bool {
        self.section.as_deref().is_none_or(|own| own == section) && self.name.as_deref().is_none_or(|own| own == name)
    }

    /// 403 for a part that no domain can have.
    fn check(&self) -> Result<()> {
        if KNOWN.iter().any(|option| self.has(option.section, option.name)) {
            return Ok(());
        }
        let (section, name) = (self.section.as_deref().unwrap_or_default(), self.name.as_deref());
        Err(refused(match name {
            Some(name) => {
                format!("Option {name} in group {section} is not supported for domain specific configurations")
            }
            None => format!("Group {section} is not supported for domain specific configurations"),
        }))
    }

    fn missing(&self, domain_id: &str) -> Error {
        let what = match (&self.section, &self.name) {
            (Some(section), Some(name)) => format!("option {name} in group {section}"),
            (Some(section), None) => format!("group {section}"),
            _ => "any options".into(),
        };
        Error::new(
            rest::Kind::NotFound,
            format!("Could not find {what} in domain configuration for domain {domain_id}."),
        )
    }
}

fn refused(reason: impl std::fmt::Display) -> Error {
    Error::forbidden(format!("Invalid domain specific configuration: {reason}."))
}

fn check_domain(tx: &Tx<'_>, id: &str) -> Result<()> {
    find_domain(tx, id)?.map(|_| ()).ok_or_else(|| not_found("domain", id))
}

/// `{section: {name: value}}` of what is stored and no secret.
fn stored(tx: &Tx<'_>, domain_id: &str, part: &Part) -> Result<Map<String, Value>> {
    let rows = tx.list(
        "SELECT section, name, value FROM identity_domain_option WHERE domain_id = ? ORDER BY section, name",
        [domain_id],
        |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)),
    )?;
    let mut config = Map::new();
    for (section, name, value) in rows {
        if part.has(&section, &name) && !is_secret(&section, &name) {
            insert(&mut config, &section, &name, serde_json::from_str(&value).unwrap_or_default());
        }
    }
    Ok(config)
}

fn insert(config: &mut Map<String, Value>, section: &str, name: &str, value: Value) {
    if let Value::Object(options) = config.entry(section).or_insert_with(|| json!({})) {
        options.insert(name.to_owned(), value);
    }
}

/// A single option is answered without its section, as upstream does.
fn reply(config: Map<String, Value>, part: &Part) -> Value {
    match (&part.section, &part.name) {
        (Some(section), Some(name)) => json!({"config": {name: config[section][name]}}),
        _ => json!({"config": config}),
    }
}

/// What the body sets: `(section, name, value)`.
fn asked(body: Value, part: &Part) -> Result<Vec<(String, String, Value)>> {
    let Value::Object(mut body) = body else {
        return Err(Error::bad_request("The request body must be a JSON object."));
    };
    let config = match body.remove("config") {
        Some(Value::Object(config)) => config,
        Some(_) => return Err(invalid("config", "it must be an object")),
        None => return Err(expecting("config", "request body")),
    };
    let mut options = Vec::new();
    if let (Some(section), Some(name)) = (&part.section, &part.name) {
        let mut config = config.into_iter();
        match (config.next(), config.next()) {
            (Some((own, value)), None) if own == *name => options.push((section.clone(), own, value)),
            _ => return Err(refused(format!("The request must be about the option {name} alone"))),
        }
    } else {
        for (section, values) in config {
            if part.section.as_ref().is_some_and(|own| *own != section) {
                return Err(refused(format!("The request must not be about the group {section}")));
            }
            let Value::Object(values) = values else { return Err(invalid(&section, "it must be an object")) };
            options.extend(values.into_iter().map(|(name, value)| (section.clone(), name, value)));
        }
    }
    if options.is_empty() {
        return Err(refused("No options specified"));
    }
    for (section, name, value) in &options {
        Part::option(section.clone(), name.clone()).check()?;
        if value.is_object() || value.to_string().len() > VALUE_MAX {
            return Err(invalid(name, "it must be a value of reasonable length"));
        }
    }
    Ok(options)
}

fn store(app: &App, tx: &Tx<'_>, domain_id: &str, options: Vec<(String, String, Value)>) -> Result<()> {
    for (section, name, value) in options {
        let value = if is_secret(&section, &name) { json!(app.seal_blob(&value.to_string())?) } else { value };
        tx.execute(
            "INSERT INTO identity_domain_option (domain_id, section, name, value) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (domain_id, section, name) DO UPDATE SET value = excluded.value",
            params![domain_id, section, name, value.to_string()],
        )?;
    }
    Ok(())
}

/// A stored value as it was sent.
pub(crate) fn opened(app: &App, section: &str, name: &str, stored: &str) -> Result<Value> {
    let value: Value = serde_json::from_str(stored).unwrap_or_default();
    if !is_secret(section, name) {
        return Ok(value);
    }
    let text = app.open_blob(value.as_str().unwrap_or_default())?;
    serde_json::from_str(&text).map_err(Error::internal)
}

async fn show(app: App, ctx: Ctx, domain_id: String, part: Part, rule: Rule) -> Result<Reply> {
    ctx.allow(rule, &target(&[("target.domain.id", &domain_id)]))?;
    if part.section.as_deref() == Some(COMPLIANCE) {
        app.db.read_blocking(|tx| check_domain(tx, &domain_id))?;
        return compliance(&app, &domain_id, &part);
    }
    app.db
        .read(move |tx| {
            check_domain(tx, &domain_id)?;
            part.check()?;
            let found = stored(tx, &domain_id, &part)?;
            if found.is_empty() {
                return Err(part.missing(&domain_id));
            }
            Ok(Reply::ok(&reply(found, &part)))
        })
        .await
}

/// What a password must be like, for whoever wants to choose one.
fn compliance(app: &App, domain_id: &str, part: &Part) -> Result<Reply> {
    if domain_id != DEFAULT_DOMAIN {
        return Err(refused(
            "Reading security compliance values for any domain other than the default domain is not allowed",
        ));
    }
    let mut config = Map::new();
    let passwords = &app.options.passwords;
    insert(&mut config, COMPLIANCE, "password_regex", json!(passwords.regex));
    let description = Some(&passwords.regex_description).filter(|text| !text.is_empty());
    insert(&mut config, COMPLIANCE, "password_regex_description", json!(description));
    if let Some(name) = &part.name
        && config[COMPLIANCE].get(name).is_none()
    {
        return Err(refused(format!("Option {name} in group {COMPLIANCE} is not supported")));
    }
    Ok(Reply::ok(&reply(config, part)))
}

/// The rule that guards reading this section.
fn reading(section: &str) -> Rule {
    if section == COMPLIANCE { rules::GET_COMPLIANCE } else { rules::GET_CONFIG }
}

pub(crate) async fn show_all(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    show(app, ctx, id, Part::default(), rules::GET_CONFIG).await
}

pub(crate) async fn show_section(
    State(app): State<App>,
    ctx: Ctx,
    Path((id, section)): Path<(String, String)>,
) -> Result<Reply> {
    let rule = reading(&section);
    show(app, ctx, id, Part::section(section), rule).await
}

pub(crate) async fn show_option(
    State(app): State<App>,
    ctx: Ctx,
    Path((id, section, name)): Path<(String, String, String)>,
) -> Result<Reply> {
    let rule = reading(&section);
    show(app, ctx, id, Part::option(section, name), rule).await
}

pub(crate) async fn create(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    ctx.allow(rules::CREATE_CONFIG, &target(&[("target.domain.id", &id)]))?;
    let part = Part::default();
    let options = asked(body, &part)?;
    let db = app.db.clone();
    db.write(move |tx| {
        check_domain(tx, &id)?;
        let replaced = tx.execute("DELETE FROM identity_domain_option WHERE domain_id = ?", [&id])? > 0;
        store(&app, tx, &id, options)?;
        directory::follow_config(&app, tx, &id)?;
        let body = reply(stored(tx, &id, &part)?, &part);
        Ok(if replaced { Reply::ok(&body) } else { Reply::created(&body) })
    })
    .await
}

async fn update(app: App, ctx: Ctx, domain_id: String, part: Part, body: Value) -> Result<Reply> {
    ctx.allow(rules::UPDATE_CONFIG, &target(&[("target.domain.id", &domain_id)]))?;
    let db = app.db.clone();
    db.write(move |tx| {
        check_domain(tx, &domain_id)?;
        part.check()?;
        let options = asked(body, &part)?;
        if (part.section.is_some()) && !any(tx, &domain_id, &part)? {
            return Err(part.missing(&domain_id));
        }
        store(&app, tx, &domain_id, options)?;
        directory::follow_config(&app, tx, &domain_id)?;
        Ok(Reply::ok(&json!({"config": stored(tx, &domain_id, &Part::default())?})))
    })
    .await
}

/// Whether anything of it is stored, a secret too.
fn any(tx: &Tx<'_>, domain_id: &str, part: &Part) -> db::Result<bool> {
    tx.exists(
        "SELECT 1 FROM identity_domain_option WHERE domain_id = ?1 AND section = ifnull(?2, section) \
         AND name = ifnull(?3, name)",
        params![domain_id, part.section, part.name],
    )
}

pub(crate) async fn update_all(
    State(app): State<App>,
    ctx: Ctx,
    Path(id): Path<String>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    update(app, ctx, id, Part::default(), body).await
}

pub(crate) async fn update_section(
    State(app): State<App>,
    ctx: Ctx,
    Path((id, section)): Path<(String, String)>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    update(app, ctx, id, Part::section(section), body).await
}

pub(crate) async fn update_option(
    State(app): State<App>,
    ctx: Ctx,
    Path((id, section, name)): Path<(String, String, String)>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    update(app, ctx, id, Part::option(section, name), body).await
}

async fn remove(app: App, ctx: Ctx, domain_id: String, part: Part) -> Result<Reply> {
    ctx.allow(rules::DELETE_CONFIG, &target(&[("target.domain.id", &domain_id)]))?;
    let db = app.db.clone();
    db.write(move |tx| {
        check_domain(tx, &domain_id)?;
        part.check()?;
        let removed = tx.execute(
            "DELETE FROM identity_domain_option WHERE domain_id = ?1 AND section = ifnull(?2, section) \
                 AND name = ifnull(?3, name)",
            params![domain_id, part.section, part.name],
        )?;
        if removed == 0 {
            return Err(part.missing(&domain_id));
        }
        directory::follow_config(&app, tx, &domain_id)?;
        Ok(Reply::no_content())
    })
    .await
}

pub(crate) async fn delete_all(State(app): State<App>, ctx: Ctx, Path(id): Path<String>) -> Result<Reply> {
    remove(app, ctx, id, Part::default()).await
}

pub(crate) async fn delete_section(
    State(app): State<App>,
    ctx: Ctx,
    Path((id, section)): Path<(String, String)>,
) -> Result<Reply> {
    remove(app, ctx, id, Part::section(section)).await
}

pub(crate) async fn delete_option(
    State(app): State<App>,
    ctx: Ctx,
    Path((id, section, name)): Path<(String, String, String)>,
) -> Result<Reply> {
    remove(app, ctx, id, Part::option(section, name)).await
}

fn defaults(ctx: &Ctx, part: &Part) -> Result<Reply> {
    ctx.allow(rules::GET_CONFIG_DEFAULT, &target(&[]))?;
    part.check()?;
    let mut config = Map::new();
    for option in KNOWN.iter().filter(|option| !option.secret && part.has(option.section, option.name)) {
        insert(&mut config, option.section, option.name, serde_json::from_str(option.default).unwrap_or_default());
    }
    if config.is_empty() {
        return Err(refused("The option is never shown"));
    }
    Ok(Reply::ok(&reply(config, part)))
}

pub(crate) async fn default_all(ctx: Ctx) -> Result<Reply> {
    defaults(&ctx, &Part::default())
}

pub(crate) async fn default_section(ctx: Ctx, Path(section): Path<String>) -> Result<Reply> {
    defaults(&ctx, &Part::section(section))
}

pub(crate) async fn default_option(ctx: Ctx, Path((section, name)): Path<(String, String)>) -> Result<Reply> {
    defaults(&ctx, &Part::option(section, name))
}

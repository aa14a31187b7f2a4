//! Receipts: what a user with multi-factor rules gets for some of the factors, to come back with the others. API
//! reference: Identity v3, "Authentication and token management", "Multi-Factor Authentication and authentication receipts".
//!
//! A receipt is encrypted like a token and stored nowhere. It carries the user's epoch: a new password voids it.

use rest::{Error, NamedRef, Result};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::{
    model::{Reader, method_names, put_id},
    store::Account,
};
use crate::App;

/// Unlike that of any token's payload.
const VERSION: u8 = 0x52;

/// Rules: each names methods that together are enough.
pub(crate) type Rules = Vec<Vec<String>>;

pub(crate) struct Receipt {
    pub id: String,
    pub user: NamedRef,
    domain: NamedRef,
    methods: u8,
    issued_s: u32,
    expires_s: u32,
    rules: Rules,
}

impl Receipt {
    pub(crate) fn view(&self) -> Value {
        let at = |s: u32| {
            let at = OffsetDateTime::from_unix_timestamp(s.into()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
            db::clock::text(at)
        };
        json!({
            "receipt": {
                "methods": method_names(self.methods),
                "user": {
                    "id": self.user.id,
                    "name": self.user.name,
                    "domain": {"id": self.domain.id, "name": self.domain.name},
                },
                "expires_at": at(self.expires_s),
                "issued_at": at(self.issued_s),
            },
            "required_auth_methods": self.rules,
        })
    }
}

/// `None`: the factors are enough. Otherwise the rules of which some were met in part; 401 if none was.
///
/// Rules that name unknown methods do not count, and a user without any other is not locked out, as upstream has it.
pub(crate) fn missing(options: &Map<String, Value>, methods: u8) -> Result<Option<Rules>> {
    if options.get("multi_factor_auth_enabled") != Some(&Value::Bool(true)) {
        return Ok(None);
    }
    let (known, used) = (method_names(u8::MAX), method_names(methods));
    let mut rules = Rules::new();
    for rule in options.get("multi_factor_auth_rules").and_then(Value::as_array).into_iter().flatten() {
        let names = rule.as_array().into_iter().flatten().filter_map(Value::as_str);
        let rule: Vec<String> = names.map(str::to_owned).collect();
        if rule.iter().all(|method| known.contains(method)) {
            rules.push(rule);
        }
    }
    if rules.is_empty() || rules.iter().any(|rule| rule.iter().all(|method| used.contains(method))) {
        return Ok(None);
    }
    if rules.iter().flatten().any(|method| used.contains(method)) {
        return Ok(Some(rules));
    }
    Err(Error::unauthenticated())
}

impl App {
    pub(crate) fn receipt(&self, account: &Account, methods: u8, rules: Rules) -> Result<Receipt> {
        let issued_s = u32::try_from(self.now_s()).map_err(Error::internal)?;
        let lifetime = u32::try_from(self.options.receipt_lifetime_s).unwrap_or(u32::MAX);
        let expires_s = issued_s.saturating_add(lifetime);
        let mut payload = vec![VERSION, methods];
        put_id(&mut payload, &account.id);
        for number in [account.epoch, expires_s] {
            payload.extend_from_slice(&number.to_be_bytes());
        }
        Ok(Receipt {
            id: self.keys.seal(issued_s.into(), &payload)?,
            user: NamedRef { id: account.id.clone(), name: account.name.clone() },
            domain: account.domain.clone(),
            methods,
            issued_s,
            expires_s,
            rules,
        })
    }

    /// The methods that a receipt stands for. 401 if it is none of ours, is over, or was given to somebody else.
    pub(crate) fn factors_before(&self, receipt: &str, account: &Account) -> Result<u8> {
        let payload = self.keys.unseal(receipt).ok_or_else(Error::unauthenticated)?;
        let read = |mut reader: Reader<'_>| {
            let (version, methods, user_id) = (reader.byte()?, reader.byte()?, reader.id()?);
            let (epoch, expires_s) = (reader.number()?, reader.number()?);
            let good = version == VERSION
                && reader.0.is_empty()
                && user_id == account.id
                && epoch == account.epoch
                && i64::from(expires_s) > self.now_s();
            good.then_some(methods)
        };
        read(Reader(&payload)).ok_or_else(Error::unauthenticated)
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{PASSWORD, TOTP};
    use super::*;

    fn options(enabled: bool, rules: &Value) -> Map<String, Value> {
        Map::from_iter([
            ("multi_factor_auth_enabled".to_owned(), json!(enabled)),
            ("multi_factor_auth_rules".to_owned(), rules.clone()),
        ])
    }

    #[test]
    fn one_rule_met_is_enough_and_one_met_in_part_is_a_receipt() {
        let both = json!([["password", "totp"]]);
        assert_eq!(missing(&options(false, &both), PASSWORD).unwrap(), None);
        assert_eq!(missing(&options(true, &both), PASSWORD | TOTP).unwrap(), None);
        assert_eq!(missing(&options(true, &both), PASSWORD).unwrap().unwrap(), [["password", "totp"]]);
        assert!(missing(&options(true, &json!([["totp"]])), PASSWORD).is_err());
        let either = json!([["password"], ["password", "totp"]]);
        assert_eq!(missing(&options(true, &either), PASSWORD).unwrap(), None);
    }

    #[test]
    fn rules_of_unknown_methods_lock_nobody_out() {
        assert_eq!(missing(&options(true, &json!([["password", "retina"]])), PASSWORD).unwrap(), None);
        assert_eq!(missing(&options(true, &json!([])), PASSWORD).unwrap(), None);
        let mixed = json!([["retina"], ["password", "totp"]]);
        assert_eq!(missing(&options(true, &mixed), PASSWORD).unwrap().unwrap(), [["password", "totp"]]);
    }
}

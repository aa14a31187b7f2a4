//! Bodies.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::Chain;

/// `{"intermediate": {"certificate": PEM, "key": PEM, "root": PEM or null}}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bring {
    pub intermediate: Intermediate,
}

/// No `Debug`: it holds a key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intermediate {
    pub certificate: String,
    pub key: String,
    #[serde(default)]
    pub root: Option<String>,
}

/// The chain, the leaf first.
pub fn chain(chain: &Chain) -> Value {
    let certificates: Vec<Value> = chain
        .certificates
        .iter()
        .map(|one| {
            json!({
                "place": one.place,
                "subject": one.subject,
                "issuer": one.issuer,
                "names": one.names,
                "not_before": db::clock::text(one.not_before),
                "not_after": db::clock::text(one.not_after),
                "fingerprint": one.fingerprint,
                "origin": if one.brought { "brought" } else { "own" },
            })
        })
        .collect();
    json!({
        "certificates": certificates,
        "brought": chain.brought,
        "left_out": chain.left_out,
        "problem": chain.problem,
    })
}

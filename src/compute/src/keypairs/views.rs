//! Key pair documents by microversion.

use rest::Ctx;
use serde_json::{Value, json};

use super::Keypair;

pub(crate) fn brief(ctx: &Ctx, keypair: &Keypair) -> Value {
    let mut view = json!({
        "name": keypair.name,
        "public_key": keypair.public_key,
        "fingerprint": keypair.fingerprint,
    });
    if ctx.since(2, 2) {
        view["type"] = json!(keypair.kind);
    }
    view
}

pub(crate) fn created(ctx: &Ctx, keypair: &Keypair, private_key: Option<&str>) -> Value {
    let mut view = brief(ctx, keypair);
    view["user_id"] = json!(keypair.user_id);
    if let Some(private_key) = private_key {
        view["private_key"] = json!(private_key);
    }
    view
}

pub(crate) fn show(ctx: &Ctx, keypair: &Keypair) -> Value {
    let mut view = created(ctx, keypair, None);
    view["id"] = json!(keypair.id);
    view["created_at"] = json!(db::clock::naive(&keypair.created_at));
    view["deleted"] = json!(false);
    view["deleted_at"] = Value::Null;
    view["updated_at"] = Value::Null;
    view
}

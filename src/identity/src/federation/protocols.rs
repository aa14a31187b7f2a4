//! `/v3/OS-FEDERATION/identity_providers/<id>/protocols`

use axum::extract::{Path, State};
use db::{Constraint, Tx, params};
use rest::{Ctx, Params, RawJson, Reply, Result, target};
use serde_json::{Value, json};

use super::{policy as rules, providers, shadow};
use crate::{
    App,
    errors::{duplicate_entry, expecting, invalid, not_found},
    fields::{Fields, ID_MAX},
    listing,
};

#[derive(Clone, Debug)]
pub(crate) struct Protocol {
    pub id: String,
    pub provider_id: String,
    pub mapping_id: String,
    remote_id_attribute: Option<String>,
}

const COLUMNS: &str = "id, provider_id, mapping_id, remote_id_attribute";

fn protocol(row: &db::Row<'_>) -> db::rusqlite::Result<Protocol> {
    Ok(Protocol {
        id: row.get(0)?,
        provider_id: row.get(1)?,
        mapping_id: row.get(2)?,
        remote_id_attribute: row.get(3)?,
    })
}

pub(crate) fn find(tx: &Tx<'_>, provider_id: &str, id: &str) -> Result<Protocol> {
    tx.find(
        &format!("SELECT {COLUMNS} FROM identity_protocol WHERE provider_id = ?1 AND id = ?2"),
        params![provider_id, id],
        protocol,
    )?
    .ok_or_else(|| not_found("federated protocol", id))
}

fn view(ctx: &Ctx, protocol: &Protocol) -> Value {
    let provider = format!("{}/v3/OS-FEDERATION/identity_providers/{}", ctx.base_url(), protocol.provider_id);
    json!({
        "id": protocol.id,
        "mapping_id": protocol.mapping_id,
        "remote_id_attribute": protocol.remote_id_attribute,
        "links": {"self": format!("{provider}/protocols/{}", protocol.id), "identity_provider": provider},
    })
}

pub(crate) async fn index(
    State(app): State<App>,
    ctx: Ctx,
    Path(provider_id): Path<String>,
    params: Params,
) -> Result<Reply> {
    ctx.allow(rules::LIST_PROTOCOLS, &target(&[]))?;
    app.db
        .read(move |tx| {
            providers::find(tx, &provider_id)?;
            let found = tx.list(
                &format!("SELECT {COLUMNS} FROM identity_protocol WHERE provider_id = ? ORDER BY id"),
                [&provider_id],
                protocol,
            )?;
            let wanted = params.get("id");
            let views: Vec<_> = found
                .iter()
                .filter(|protocol| wanted.is_none_or(|id| id == protocol.id))
                .map(|protocol| view(&ctx, protocol))
                .collect();
            Ok(listing::all(&ctx, &params, "protocols", &views))
        })
        .await
}

pub(crate) async fn show(
    State(app): State<App>,
    ctx: Ctx,
    Path((provider_id, id)): Path<(String, String)>,
) -> Result<Reply> {
    ctx.allow(rules::GET_PROTOCOL, &target(&[]))?;
    let found = app.db.read(move |tx| find(tx, &provider_id, &id)).await?;
    Ok(Reply::ok(&json!({"protocol": view(&ctx, &found)})))
}

/// 400, as upstream has it: the mapping is part of the body.
fn check_mapping(tx: &Tx<'_>, id: &str) -> Result<()> {
    if tx.exists("SELECT 1 FROM identity_mapping WHERE id = ?", [id])? {
        return Ok(());
    }
    Err(invalid("mapping_id", format_args!("Could not find mapping: {id}")))
}

pub(crate) async fn create(
    State(app): State<App>,
    ctx: Ctx,
    Path((provider_id, id)): Path<(String, String)>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    ctx.allow(rules::CREATE_PROTOCOL, &target(&[]))?;
    let mut fields = Fields::open(body, "protocol")?;
    fields.take_id(&id)?;
    let protocol = Protocol {
        id: super::path_id(id)?,
        provider_id,
        mapping_id: fields.text("mapping_id", ID_MAX)?.ok_or_else(|| expecting("mapping_id", "protocol"))?,
        remote_id_attribute: fields.nullable("remote_id_attribute", ID_MAX)?.flatten(),
    };
    fields.nothing_else("protocol")?;
    app.db
        .write(move |tx| {
            providers::find(tx, &protocol.provider_id)?;
            check_mapping(tx, &protocol.mapping_id)?;
            tx.execute(
                "INSERT INTO identity_protocol (id, provider_id, mapping_id, remote_id_attribute) \
                 VALUES (?1, ?2, ?3, ?4)",
                params![protocol.id, protocol.provider_id, protocol.mapping_id, protocol.remote_id_attribute],
            )
            .on_unique("identity_protocol.provider_id, identity_protocol.id", || {
                duplicate_entry("federation_protocol")
            })?;
            Ok(Reply::created(&json!({"protocol": view(&ctx, &protocol)})))
        })
        .await
}

pub(crate) async fn update(
    State(app): State<App>,
    ctx: Ctx,
    Path((provider_id, id)): Path<(String, String)>,
    RawJson(body): RawJson,
) -> Result<Reply> {
    ctx.allow(rules::UPDATE_PROTOCOL, &target(&[]))?;
    app.db
        .write(move |tx| {
            let mut protocol = find(tx, &provider_id, &id)?;
            let mut fields = Fields::open(body, "protocol")?.some("protocol")?;
            fields.take_id(&id)?;
            if let Some(mapping_id) = fields.text("mapping_id", ID_MAX)? {
                check_mapping(tx, &mapping_id)?;
                protocol.mapping_id = mapping_id;
            }
            if let Some(attribute) = fields.nullable("remote_id_attribute", ID_MAX)? {
                protocol.remote_id_attribute = attribute;
            }
            fields.nothing_else("protocol")?;
            tx.execute(
                "UPDATE identity_protocol SET mapping_id = ?3, remote_id_attribute = ?4 \
                 WHERE provider_id = ?1 AND id = ?2",
                params![provider_id, id, protocol.mapping_id, protocol.remote_id_attribute],
            )?;
            Ok(Reply::ok(&json!({"protocol": view(&ctx, &protocol)})))
        })
        .await
}

pub(crate) async fn delete(
    State(app): State<App>,
    ctx: Ctx,
    Path((provider_id, id)): Path<(String, String)>,
) -> Result<Reply> {
    ctx.allow(rules::DELETE_PROTOCOL, &target(&[]))?;
    app.db
        .write(move |tx| {
            find(tx, &provider_id, &id)?;
            shadow::void_tokens(tx, &provider_id, Some(&id))?;
            tx.execute("DELETE FROM identity_protocol WHERE provider_id = ?1 AND id = ?2", params![provider_id, id])?;
            Ok(Reply::no_content())
        })
        .await
}

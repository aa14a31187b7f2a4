//! The token document.

use rest::{Credentials, NamedRef, Scope};
use serde_json::{Value, json, value::RawValue};

use super::model::Known;

fn named(thing: &NamedRef) -> Value {
    json!({"id": thing.id, "name": thing.name})
}

/// `{"token": {...}}` in JSON. `catalog`: left out of unscoped tokens and with `?nocatalog`.
pub(crate) fn document(known: &Known, catalog: Option<&RawValue>) -> Vec<u8> {
    let fields = known.written.get_or_init(|| fields(known).to_string());
    // Before the brace that closes the fields.
    let open = &fields[..fields.len() - 1];
    let parts = match catalog {
        Some(catalog) => ["{\"token\":", open, ",\"catalog\":", catalog.get(), "}}"],
        None => ["{\"token\":", open, "", "", "}}"],
    };
    parts.concat().into_bytes()
}

/// What is the same in every document of a token.
fn fields(known: &Known) -> Value {
    let creds: &Credentials = &known.creds;
    let mut token = json!({
        "methods": creds.methods,
        "user": {
            "domain": named(&creds.user_domain),
            "id": creds.user.id,
            "name": creds.user.name,
            "password_expires_at": known.password_expires_at.as_deref().map(db::clock::naive),
        },
        "audit_ids": creds.audit_ids,
        "expires_at": db::clock::text(creds.expires_at),
        "issued_at": db::clock::text(creds.issued_at),
    });
    if let Some(federated) = &known.payload.federated {
        let groups: Vec<Value> = federated.group_ids.iter().map(|id| json!({"id": id})).collect();
        token["user"]["OS-FEDERATION"] = json!({
            "identity_provider": {"id": federated.provider_id},
            "protocol": {"id": federated.protocol_id},
            "groups": groups,
        });
    }
    if !known.service_providers.is_empty() {
        token["service_providers"] = json!(known.service_providers);
    }
    match &creds.scope {
        Scope::Unscoped => {}
        Scope::Project { project, domain } => {
            token["project"] = json!({"domain": named(domain), "id": project.id, "name": project.name});
            token["is_domain"] = json!(known.is_domain);
        }
        Scope::Domain(domain) => token["domain"] = named(domain),
        Scope::System => token["system"] = json!({"all": true}),
    }
    if creds.scope != Scope::Unscoped {
        token["roles"] = creds.roles.iter().map(named).collect();
    }
    if let Some(credential) = &known.credential {
        token["application_credential"] =
            json!({"id": credential.id, "name": credential.name, "restricted": credential.restricted});
        if let Some(rules) = &credential.rules {
            token["application_credential"]["access_rules"] = rules
                .iter()
                .map(|rule| json!({"service": rule.service, "method": rule.method, "path": rule.path}))
                .collect();
        }
    }
    if let Some(trust) = &known.trust {
        token["OS-TRUST:trust"] = json!({
            "id": trust.id,
            "trustor_user": {"id": trust.trustor_user_id},
            "trustee_user": {"id": trust.trustee_user_id},
            "impersonation": trust.impersonation,
        });
    }
    token
}

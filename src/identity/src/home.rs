//! The JSON home document: what each path of the route table is called. Relations and parameters bear upstream's URIs.

use rest::Route;
use serde_json::{Map, Value, json};

use crate::App;

const BASE: &str = "https://docs.openstack.org/api/openstack-identity/3";

const EC2: &str = "OS-EC2";
const EP_FILTER: &str = "OS-EP-FILTER";
const EP_POLICY: &str = "OS-ENDPOINT-POLICY";
const FEDERATION: &str = "OS-FEDERATION";
const INHERIT: &str = "OS-INHERIT";
const OAUTH1: &str = "OS-OAUTH1";
const REVOKE: &str = "OS-REVOKE";
const TRUST: &str = "OS-TRUST";

/// Path below `/v3`, extension (empty: the core API), relation.
const RELATIONS: &[(&str, &str, &str)] = &[
    ("/auth/tokens", "", "auth_tokens"),
    ("/auth/catalog", "", "auth_catalog"),
    ("/auth/projects", "", "auth_projects"),
    ("/auth/domains", "", "auth_domains"),
    ("/auth/system", "", "auth_system"),
    ("/auth/projects", FEDERATION, "projects"),
    ("/auth/domains", FEDERATION, "domains"),
    ("/OS-REVOKE/events", REVOKE, "events"),
    ("/domains", "", "domains"),
    ("/domains/{domain_id}", "", "domain"),
    ("/domains/config/default", "", "domain_config_default"),
    ("/domains/config/{group}/default", "", "domain_config_default_group"),
    ("/domains/config/{group}/{option}/default", "", "domain_config_default_option"),
    ("/domains/{domain_id}/config", "", "domain_config"),
    ("/domains/{domain_id}/config/{group}", "", "domain_config_group"),
    ("/domains/{domain_id}/config/{group}/{option}", "", "domain_config_option"),
    ("/domains/{domain_id}/users/{user_id}/roles", "", "domain_user_roles"),
    ("/domains/{domain_id}/users/{user_id}/roles/{role_id}", "", "domain_user_role"),
    ("/domains/{domain_id}/groups/{group_id}/roles", "", "domain_group_roles"),
    ("/domains/{domain_id}/groups/{group_id}/roles/{role_id}", "", "domain_group_role"),
    ("/projects", "", "projects"),
    ("/projects/{project_id}", "", "project"),
    ("/projects/{project_id}/tags", "", "project_tags"),
    ("/projects/{project_id}/tags/{value}", "", "project_tag"),
    ("/projects/{project_id}/users/{user_id}/roles", "", "project_user_roles"),
    ("/projects/{project_id}/users/{user_id}/roles/{role_id}", "", "project_user_role"),
    ("/projects/{project_id}/groups/{group_id}/roles", "", "project_group_roles"),
    ("/projects/{project_id}/groups/{group_id}/roles/{role_id}", "", "project_group_role"),
    ("/system/users/{user_id}/roles", "", "system_user_roles"),
    ("/system/users/{user_id}/roles/{role_id}", "", "system_user_role"),
    ("/system/groups/{group_id}/roles", "", "system_group_roles"),
    ("/system/groups/{group_id}/roles/{role_id}", "", "system_group_role"),
    (
        "/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/inherited_to_projects",
        INHERIT,
        "domain_user_roles_inherited_to_projects",
    ),
    (
        "/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/{role_id}/inherited_to_projects",
        INHERIT,
        "domain_user_role_inherited_to_projects",
    ),
    (
        "/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/inherited_to_projects",
        INHERIT,
        "domain_group_roles_inherited_to_projects",
    ),
    (
        "/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects",
        INHERIT,
        "domain_group_role_inherited_to_projects",
    ),
    (
        "/OS-INHERIT/projects/{project_id}/users/{user_id}/roles/{role_id}/inherited_to_projects",
        INHERIT,
        "project_user_role_inherited_to_projects",
    ),
    (
        "/OS-INHERIT/projects/{project_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects",
        INHERIT,
        "project_group_role_inherited_to_projects",
    ),
    ("/users", "", "users"),
    ("/users/{user_id}", "", "user"),
    ("/users/{user_id}/password", "", "user_change_password"),
    ("/users/{user_id}/projects", "", "user_projects"),
    ("/users/{user_id}/groups", "", "user_groups"),
    ("/users/{user_id}/application_credentials", "", "application_credentials"),
    ("/users/{user_id}/application_credentials/{application_credential_id}", "", "application_credential"),
    ("/users/{user_id}/access_rules", "", "access_rules"),
    ("/users/{user_id}/access_rules/{access_rule_id}", "", "access_rule"),
    ("/users/{user_id}/credentials/OS-EC2", EC2, "user_credentials"),
    ("/users/{user_id}/credentials/OS-EC2/{credential_id}", EC2, "user_credential"),
    ("/groups", "", "groups"),
    ("/groups/{group_id}", "", "group"),
    ("/groups/{group_id}/users", "", "group_users"),
    ("/groups/{group_id}/users/{user_id}", "", "group_user"),
    ("/roles", "", "roles"),
    ("/roles/{role_id}", "", "role"),
    ("/roles/{role_id}/implies", "", "implied_roles"),
    ("/roles/{role_id}/implies/{implied_role_id}", "", "implied_role"),
    ("/role_inferences", "", "role_inferences"),
    ("/role_assignments", "", "role_assignments"),
    ("/regions", "", "regions"),
    ("/regions/{region_id}", "", "region"),
    ("/services", "", "services"),
    ("/services/{service_id}", "", "service"),
    ("/endpoints", "", "endpoints"),
    ("/endpoints/{endpoint_id}", "", "endpoint"),
    ("/credentials", "", "credentials"),
    ("/credentials/{credential_id}", "", "credential"),
    ("/policies", "", "policies"),
    ("/policies/{policy_id}", "", "policy"),
    ("/endpoints/{endpoint_id}/OS-ENDPOINT-POLICY/policy", EP_POLICY, "endpoint_policy"),
    ("/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints", EP_POLICY, "policy_endpoints"),
    ("/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints/{endpoint_id}", EP_POLICY, "endpoint_policy_association"),
    ("/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}", EP_POLICY, "service_policy_association"),
    (
        "/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}/regions/{region_id}",
        EP_POLICY,
        "region_and_service_policy_association",
    ),
    ("/OS-OAUTH1/consumers", OAUTH1, "consumers"),
    ("/OS-OAUTH1/consumers/{consumer_id}", OAUTH1, "consumer"),
    ("/OS-TRUST/trusts", TRUST, "trusts"),
    ("/OS-TRUST/trusts/{trust_id}", TRUST, "trust"),
    ("/OS-TRUST/trusts/{trust_id}/roles", TRUST, "trust_roles"),
    ("/OS-TRUST/trusts/{trust_id}/roles/{role_id}", TRUST, "trust_role"),
    ("/OS-EP-FILTER/endpoint_groups", EP_FILTER, "endpoint_groups"),
    ("/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}", EP_FILTER, "endpoint_group"),
    ("/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/endpoints", EP_FILTER, "endpoints_in_endpoint_group"),
    (
        "/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects",
        EP_FILTER,
        "projects_associated_with_endpoint_group",
    ),
    (
        "/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}",
        EP_FILTER,
        "endpoint_group_to_project_association",
    ),
    ("/OS-EP-FILTER/projects/{project_id}/endpoint_groups", EP_FILTER, "project_endpoint_groups"),
    ("/OS-EP-FILTER/projects/{project_id}/endpoints", EP_FILTER, "project_endpoints"),
    ("/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}", EP_FILTER, "project_endpoint"),
    ("/OS-EP-FILTER/endpoints/{endpoint_id}/projects", EP_FILTER, "endpoint_projects"),
    ("/registered_limits", "", "registered_limits"),
    ("/registered_limits/{registered_limit_id}", "", "registered_limit"),
    ("/limits", "", "limits"),
    ("/limits/model", "", "limit_model"),
    ("/limits/{limit_id}", "", "limit"),
    ("/OS-FEDERATION/identity_providers", FEDERATION, "identity_providers"),
    ("/OS-FEDERATION/identity_providers/{idp_id}", FEDERATION, "identity_provider"),
    ("/OS-FEDERATION/identity_providers/{idp_id}/protocols", FEDERATION, "identity_provider_protocols"),
    ("/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}", FEDERATION, "identity_provider_protocol"),
    (
        "/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/auth",
        FEDERATION,
        "identity_provider_protocol_auth",
    ),
    ("/OS-FEDERATION/projects", FEDERATION, "deprecated_projects"),
    ("/OS-FEDERATION/domains", FEDERATION, "deprecated_domains"),
    ("/auth/OS-FEDERATION/websso/{protocol_id}", FEDERATION, "websso"),
    (
        "/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/websso",
        FEDERATION,
        "identity_providers_websso",
    ),
    (
        "/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/websso/callback",
        FEDERATION,
        "identity_providers_websso_callback",
    ),
    ("/OS-FEDERATION/mappings", FEDERATION, "mappings"),
    ("/OS-FEDERATION/mappings/{mapping_id}", FEDERATION, "mapping"),
    ("/OS-FEDERATION/service_providers", FEDERATION, "service_providers"),
    ("/OS-FEDERATION/service_providers/{sp_id}", FEDERATION, "service_provider"),
];

/// Whose parameter it is, and what it is called there.
fn parameter(extension: &str, name: &str) -> String {
    let (extension, name) = match name {
        "trust_id" => (TRUST, name),
        "consumer_id" => (OAUTH1, name),
        "idp_id" | "protocol_id" | "mapping_id" | "sp_id" => (FEDERATION, name),
        "endpoint_group_id" => (EP_FILTER, name),
        "credential_id" if extension == EC2 => (EC2, name),
        "group" => ("", "config_group"),
        "option" => ("", "config_option"),
        "implied_role_id" => ("", "role_id"),
        "value" => ("", "tag_value"),
        _ => ("", name),
    };
    uri(extension, "param", name)
}

fn uri(extension: &str, kind: &str, name: &str) -> String {
    if extension.is_empty() {
        format!("{BASE}/{kind}/{name}")
    } else {
        format!("{BASE}/ext/{extension}/1.0/{kind}/{name}")
    }
}

/// The document of what the table serves; paths begin with `prefix` in place of `/v3`.
pub(crate) fn document(table: &[Route<App>], prefix: &str) -> Value {
    let mut resources = Map::new();
    for (path, extension, relation) in RELATIONS {
        if !table.iter().any(|route| route.info.path.strip_prefix("/v3") == Some(path)) {
            continue;
        }
        let href = format!("{prefix}{path}");
        let vars: Map<String, Value> = path
            .split('/')
            .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
            .map(|name| (name.to_owned(), json!(parameter(extension, name))))
            .collect();
        let resource =
            if vars.is_empty() { json!({"href": href}) } else { json!({"href-template": href, "href-vars": vars}) };
        resources.insert(uri(extension, "rel", relation), resource);
    }
    json!({"resources": resources})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::routes;

    #[test]
    fn every_path_of_the_table_has_a_relation_of_its_own() {
        let table = routes::table();
        let served: BTreeSet<_> = table.iter().filter_map(|route| route.info.path.strip_prefix("/v3")).collect();
        let named: BTreeSet<_> = RELATIONS.iter().map(|(path, _, _)| *path).collect();
        assert_eq!(served.difference(&named).collect::<Vec<_>>(), Vec::<&&str>::new(), "add them to RELATIONS");
        assert_eq!(named.difference(&served).collect::<Vec<_>>(), Vec::<&&str>::new(), "no such route");
        let document = document(&table, "");
        assert_eq!(document["resources"].as_object().unwrap().len(), RELATIONS.len());
    }

    #[test]
    fn parameters_bear_the_uris_of_those_who_define_them() {
        let document = document(&routes::table(), "/v3");
        let at = |name: &str| &document["resources"][format!("{BASE}/{name}")];
        assert_eq!(at("rel/users"), &json!({"href": "/v3/users"}));
        assert_eq!(
            at("rel/user"),
            &json!({"href-template": "/v3/users/{user_id}", "href-vars": {"user_id": format!("{BASE}/param/user_id")}})
        );
        assert_eq!(
            at("ext/OS-TRUST/1.0/rel/trust_role")["href-vars"],
            json!({"trust_id": format!("{BASE}/ext/OS-TRUST/1.0/param/trust_id"),
                   "role_id": format!("{BASE}/param/role_id")})
        );
        assert_eq!(
            at("ext/OS-OAUTH1/1.0/rel/consumer"),
            &json!({"href-template": "/v3/OS-OAUTH1/consumers/{consumer_id}",
                    "href-vars": {"consumer_id": format!("{BASE}/ext/OS-OAUTH1/1.0/param/consumer_id")}})
        );
        assert_eq!(
            at("ext/OS-EC2/1.0/rel/user_credential")["href-vars"]["credential_id"],
            format!("{BASE}/ext/OS-EC2/1.0/param/credential_id")
        );
    }
}

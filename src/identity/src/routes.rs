//! The URL table of Identity v3.

use rest::{Route, delete, get, head, patch, post, put};

use crate::{
    App,
    application_credentials::{self, access_rules, handlers as own},
    assignments,
    catalog::{self, endpoints, filters, regions, services},
    credentials::{self, ec2},
    domains, federation, groups,
    limits::{self, registered},
    oauth1, policies, projects, roles, tokens, trusts, users,
};

pub(crate) fn table() -> Vec<Route<App>> {
    let mut table = vec![
        post("/v3/auth/tokens", tokens::handlers::create).public(),
        get("/v3/auth/tokens", tokens::handlers::show).rule(tokens::policy::VALIDATE),
        head("/v3/auth/tokens", tokens::handlers::check).rule(tokens::policy::CHECK),
        delete("/v3/auth/tokens", tokens::handlers::revoke).rule(tokens::policy::REVOKE),
        get("/v3/OS-REVOKE/events", tokens::handlers::revoked).rule(tokens::policy::LIST_REVOKED),
        get("/v3/auth/catalog", tokens::handlers::own_catalog).rule(tokens::policy::AUTH_CATALOG),
        get("/v3/auth/projects", tokens::handlers::own_projects).rule(tokens::policy::AUTH_PROJECTS),
        get("/v3/auth/domains", tokens::handlers::own_domains).rule(tokens::policy::AUTH_DOMAINS),
        get("/v3/auth/system", tokens::handlers::own_system).rule(tokens::policy::AUTH_SYSTEM),
        get("/v3/domains", domains::handlers::index).rule(domains::policy::LIST),
        post("/v3/domains", domains::handlers::create).rule(domains::policy::CREATE),
        get("/v3/domains/{domain_id}", domains::handlers::show).rule(domains::policy::GET),
        patch("/v3/domains/{domain_id}", domains::handlers::update).rule(domains::policy::UPDATE),
        delete("/v3/domains/{domain_id}", domains::handlers::delete).rule(domains::policy::DELETE),
        get("/v3/projects", projects::handlers::index).rule(projects::policy::LIST),
        post("/v3/projects", projects::handlers::create).rule(projects::policy::CREATE),
        get("/v3/projects/{project_id}", projects::handlers::show).rule(projects::policy::GET),
        patch("/v3/projects/{project_id}", projects::handlers::update).rule(projects::policy::UPDATE),
        delete("/v3/projects/{project_id}", projects::handlers::delete).rule(projects::policy::DELETE),
        get("/v3/projects/{project_id}/tags", projects::tags::index).rule(projects::policy::LIST_TAGS),
        put("/v3/projects/{project_id}/tags", projects::tags::replace).rule(projects::policy::UPDATE_TAGS),
        delete("/v3/projects/{project_id}/tags", projects::tags::clear).rule(projects::policy::DELETE_TAGS),
        get("/v3/projects/{project_id}/tags/{value}", projects::tags::show).rule(projects::policy::GET_TAG),
        put("/v3/projects/{project_id}/tags/{value}", projects::tags::create).rule(projects::policy::CREATE_TAG),
        delete("/v3/projects/{project_id}/tags/{value}", projects::tags::delete).rule(projects::policy::DELETE_TAG),
        get("/v3/users", users::handlers::index).rule(users::policy::LIST),
        post("/v3/users", users::handlers::create).rule(users::policy::CREATE),
        get("/v3/users/{user_id}", users::handlers::show).rule(users::policy::GET),
        patch("/v3/users/{user_id}", users::handlers::update).rule(users::policy::UPDATE),
        delete("/v3/users/{user_id}", users::handlers::delete).rule(users::policy::DELETE),
        // The old password in the body is the authentication.
        post("/v3/users/{user_id}/password", users::handlers::change_password).public(),
        get("/v3/users/{user_id}/projects", users::handlers::projects).rule(projects::policy::LIST_OF_USER),
        get("/v3/users/{user_id}/groups", users::handlers::groups).rule(groups::policy::LIST_OF_USER),
        get("/v3/groups", groups::handlers::index).rule(groups::policy::LIST),
        post("/v3/groups", groups::handlers::create).rule(groups::policy::CREATE),
        get("/v3/groups/{group_id}", groups::handlers::show).rule(groups::policy::GET),
        patch("/v3/groups/{group_id}", groups::handlers::update).rule(groups::policy::UPDATE),
        delete("/v3/groups/{group_id}", groups::handlers::delete).rule(groups::policy::DELETE),
        get("/v3/groups/{group_id}/users", groups::handlers::users).rule(groups::policy::LIST_USERS),
        get("/v3/groups/{group_id}/users/{user_id}", groups::handlers::check_user).rule(groups::policy::CHECK_USER),
        put("/v3/groups/{group_id}/users/{user_id}", groups::handlers::add_user).rule(groups::policy::ADD_USER),
        delete("/v3/groups/{group_id}/users/{user_id}", groups::handlers::remove_user)
            .rule(groups::policy::REMOVE_USER),
        get("/v3/roles", roles::handlers::index).rules(&[roles::policy::LIST, roles::policy::LIST_OF_DOMAIN]),
        post("/v3/roles", roles::handlers::create).rules(&[roles::policy::CREATE, roles::policy::CREATE_OF_DOMAIN]),
        get("/v3/roles/{role_id}", roles::handlers::show).rules(&[roles::policy::GET, roles::policy::GET_OF_DOMAIN]),
        patch("/v3/roles/{role_id}", roles::handlers::update)
            .rules(&[roles::policy::UPDATE, roles::policy::UPDATE_OF_DOMAIN]),
        delete("/v3/roles/{role_id}", roles::handlers::delete)
            .rules(&[roles::policy::DELETE, roles::policy::DELETE_OF_DOMAIN]),
        get("/v3/roles/{role_id}/implies", roles::implied::index).rule(roles::policy::LIST_IMPLIED),
        get("/v3/roles/{role_id}/implies/{implied_role_id}", roles::implied::show).rule(roles::policy::GET_IMPLIED),
        head("/v3/roles/{role_id}/implies/{implied_role_id}", roles::implied::check).rule(roles::policy::CHECK_IMPLIED),
        put("/v3/roles/{role_id}/implies/{implied_role_id}", roles::implied::create)
            .rule(roles::policy::CREATE_IMPLIED),
        delete("/v3/roles/{role_id}/implies/{implied_role_id}", roles::implied::delete)
            .rule(roles::policy::DELETE_IMPLIED),
        get("/v3/role_inferences", roles::implied::inferences).rule(roles::policy::LIST_INFERENCES),
        get("/v3/role_assignments", assignments::listing::index)
            .rules(&[assignments::policy::LIST_ASSIGNMENTS, assignments::policy::LIST_ASSIGNMENTS_FOR_TREE]),
        get("/v3/regions", regions::index).rule(catalog::policy::LIST_REGIONS),
        post("/v3/regions", regions::create).rule(catalog::policy::CREATE_REGION),
        get("/v3/regions/{region_id}", regions::show).rule(catalog::policy::GET_REGION),
        put("/v3/regions/{region_id}", regions::put).rule(catalog::policy::CREATE_REGION),
        patch("/v3/regions/{region_id}", regions::update).rule(catalog::policy::UPDATE_REGION),
        delete("/v3/regions/{region_id}", regions::delete).rule(catalog::policy::DELETE_REGION),
        get("/v3/services", services::index).rule(catalog::policy::LIST_SERVICES),
        post("/v3/services", services::create).rule(catalog::policy::CREATE_SERVICE),
        get("/v3/services/{service_id}", services::show).rule(catalog::policy::GET_SERVICE),
        patch("/v3/services/{service_id}", services::update).rule(catalog::policy::UPDATE_SERVICE),
        delete("/v3/services/{service_id}", services::delete).rule(catalog::policy::DELETE_SERVICE),
        get("/v3/endpoints", endpoints::index).rule(catalog::policy::LIST_ENDPOINTS),
        post("/v3/endpoints", endpoints::create).rule(catalog::policy::CREATE_ENDPOINT),
        get("/v3/endpoints/{endpoint_id}", endpoints::show).rule(catalog::policy::GET_ENDPOINT),
        patch("/v3/endpoints/{endpoint_id}", endpoints::update).rule(catalog::policy::UPDATE_ENDPOINT),
        delete("/v3/endpoints/{endpoint_id}", endpoints::delete).rule(catalog::policy::DELETE_ENDPOINT),
        get("/v3/users/{user_id}/application_credentials", own::index).rule(application_credentials::policy::LIST),
        post("/v3/users/{user_id}/application_credentials", own::create).rule(application_credentials::policy::CREATE),
        get("/v3/users/{user_id}/application_credentials/{application_credential_id}", own::show)
            .rule(application_credentials::policy::GET),
        delete("/v3/users/{user_id}/application_credentials/{application_credential_id}", own::delete)
            .rule(application_credentials::policy::DELETE),
        get("/v3/users/{user_id}/access_rules", access_rules::index).rule(application_credentials::policy::LIST_RULES),
        get("/v3/users/{user_id}/access_rules/{access_rule_id}", access_rules::show)
            .rule(application_credentials::policy::GET_RULE),
        delete("/v3/users/{user_id}/access_rules/{access_rule_id}", access_rules::delete)
            .rule(application_credentials::policy::DELETE_RULE),
        get("/v3/credentials", credentials::handlers::index)
            .rules(&[credentials::policy::LIST, credentials::policy::GET]),
        post("/v3/credentials", credentials::handlers::create).rule(credentials::policy::CREATE),
        get("/v3/credentials/{credential_id}", credentials::handlers::show).rule(credentials::policy::GET),
        patch("/v3/credentials/{credential_id}", credentials::handlers::update).rule(credentials::policy::UPDATE),
        delete("/v3/credentials/{credential_id}", credentials::handlers::delete).rule(credentials::policy::DELETE),
        get("/v3/users/{user_id}/credentials/OS-EC2", ec2::index).rule(credentials::policy::EC2_LIST),
        post("/v3/users/{user_id}/credentials/OS-EC2", ec2::create).rule(credentials::policy::EC2_CREATE),
        get("/v3/users/{user_id}/credentials/OS-EC2/{credential_id}", ec2::show).rule(credentials::policy::EC2_GET),
        delete("/v3/users/{user_id}/credentials/OS-EC2/{credential_id}", ec2::delete)
            .rule(credentials::policy::EC2_DELETE),
        get("/v3/OS-TRUST/trusts", trusts::handlers::index).rules(&[
            trusts::policy::LIST,
            trusts::policy::LIST_OF_TRUSTOR,
            trusts::policy::LIST_OF_TRUSTEE,
        ]),
        post("/v3/OS-TRUST/trusts", trusts::handlers::create).rule(trusts::policy::CREATE),
        get("/v3/OS-TRUST/trusts/{trust_id}", trusts::handlers::show).rule(trusts::policy::GET),
        delete("/v3/OS-TRUST/trusts/{trust_id}", trusts::handlers::delete).rule(trusts::policy::DELETE),
        get("/v3/OS-TRUST/trusts/{trust_id}/roles", trusts::handlers::roles).rule(trusts::policy::LIST_ROLES),
        get("/v3/OS-TRUST/trusts/{trust_id}/roles/{role_id}", trusts::handlers::role).rule(trusts::policy::GET_ROLE),
        get("/v3/policies", policies::handlers::index).rule(policies::policy::LIST),
        post("/v3/policies", policies::handlers::create).rule(policies::policy::CREATE),
        get("/v3/policies/{policy_id}", policies::handlers::show).rule(policies::policy::GET),
        patch("/v3/policies/{policy_id}", policies::handlers::update).rule(policies::policy::UPDATE),
        delete("/v3/policies/{policy_id}", policies::handlers::delete).rule(policies::policy::DELETE),
        get("/v3/OS-EP-FILTER/endpoint_groups", filters::index).rule(catalog::policy::LIST_GROUPS),
        post("/v3/OS-EP-FILTER/endpoint_groups", filters::create).rule(catalog::policy::CREATE_GROUP),
        get("/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}", filters::show).rule(catalog::policy::GET_GROUP),
        patch("/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}", filters::update)
            .rule(catalog::policy::UPDATE_GROUP),
        delete("/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}", filters::delete)
            .rule(catalog::policy::DELETE_GROUP),
        get("/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/endpoints", filters::endpoints_of_group)
            .rule(catalog::policy::LIST_ENDPOINTS_OF_GROUP),
        get("/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects", filters::projects_of_group)
            .rule(catalog::policy::LIST_PROJECTS_OF_GROUP),
        get("/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}", filters::show_group)
            .rule(catalog::policy::GET_GROUP_IN_PROJECT),
        put("/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}", filters::add_group)
            .rule(catalog::policy::ADD_GROUP_TO_PROJECT),
        delete("/v3/OS-EP-FILTER/endpoint_groups/{endpoint_group_id}/projects/{project_id}", filters::remove_group)
            .rule(catalog::policy::REMOVE_GROUP_FROM_PROJECT),
        get("/v3/OS-EP-FILTER/projects/{project_id}/endpoint_groups", filters::groups_of_project)
            .rule(catalog::policy::LIST_GROUPS_OF_PROJECT),
        get("/v3/OS-EP-FILTER/projects/{project_id}/endpoints", filters::endpoints_of_project)
            .rule(catalog::policy::LIST_ENDPOINTS_OF_PROJECT),
        get("/v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}", filters::check_endpoint)
            .rule(catalog::policy::CHECK_ENDPOINT_IN_PROJECT),
        put("/v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}", filters::add_endpoint)
            .rule(catalog::policy::ADD_ENDPOINT_TO_PROJECT),
        delete("/v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}", filters::remove_endpoint)
            .rule(catalog::policy::REMOVE_ENDPOINT_FROM_PROJECT),
        get("/v3/OS-EP-FILTER/endpoints/{endpoint_id}/projects", filters::projects_of_endpoint)
            .rule(catalog::policy::LIST_PROJECTS_OF_ENDPOINT),
        get("/v3/registered_limits", registered::index).rule(limits::policy::LIST_REGISTERED),
        post("/v3/registered_limits", registered::create).rule(limits::policy::CREATE_REGISTERED),
        get("/v3/registered_limits/{registered_limit_id}", registered::show).rule(limits::policy::GET_REGISTERED),
        patch("/v3/registered_limits/{registered_limit_id}", registered::update)
            .rule(limits::policy::UPDATE_REGISTERED),
        delete("/v3/registered_limits/{registered_limit_id}", registered::delete)
            .rule(limits::policy::DELETE_REGISTERED),
        get("/v3/limits", limits::own::index).rule(limits::policy::LIST),
        post("/v3/limits", limits::own::create).rule(limits::policy::CREATE),
        get("/v3/limits/model", limits::own::model).rule(limits::policy::MODEL),
        get("/v3/limits/{limit_id}", limits::own::show).rule(limits::policy::GET),
        patch("/v3/limits/{limit_id}", limits::own::update).rule(limits::policy::UPDATE),
        delete("/v3/limits/{limit_id}", limits::own::delete).rule(limits::policy::DELETE),
    ];
    table.extend(grants());
    table.extend(federation());
    table.extend(domain_config());
    table.extend(endpoint_policies());
    table.extend(oauth());
    table
}

/// The same four handlers below every combination of target and actor.
fn grants() -> Vec<Route<App>> {
    use assignments::{handlers, policy};
    let plain = [policy::LIST, policy::CHECK, policy::CREATE, policy::REVOKE];
    let user =
        [policy::SYSTEM_USER_LIST, policy::SYSTEM_USER_CHECK, policy::SYSTEM_USER_CREATE, policy::SYSTEM_USER_REVOKE];
    let group = [
        policy::SYSTEM_GROUP_LIST,
        policy::SYSTEM_GROUP_CHECK,
        policy::SYSTEM_GROUP_CREATE,
        policy::SYSTEM_GROUP_REVOKE,
    ];
    let mut table = Vec::new();
    for (all, one, rules) in [
        (
            "/v3/projects/{project_id}/users/{user_id}/roles",
            "/v3/projects/{project_id}/users/{user_id}/roles/{role_id}",
            plain,
        ),
        (
            "/v3/projects/{project_id}/groups/{group_id}/roles",
            "/v3/projects/{project_id}/groups/{group_id}/roles/{role_id}",
            plain,
        ),
        (
            "/v3/domains/{domain_id}/users/{user_id}/roles",
            "/v3/domains/{domain_id}/users/{user_id}/roles/{role_id}",
            plain,
        ),
        (
            "/v3/domains/{domain_id}/groups/{group_id}/roles",
            "/v3/domains/{domain_id}/groups/{group_id}/roles/{role_id}",
            plain,
        ),
        ("/v3/system/users/{user_id}/roles", "/v3/system/users/{user_id}/roles/{role_id}", user),
        ("/v3/system/groups/{group_id}/roles", "/v3/system/groups/{group_id}/roles/{role_id}", group),
        (
            "/v3/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/inherited_to_projects",
            "/v3/OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/{role_id}/inherited_to_projects",
            plain,
        ),
        (
            "/v3/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/inherited_to_projects",
            "/v3/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects",
            plain,
        ),
        ("", "/v3/OS-INHERIT/projects/{project_id}/users/{user_id}/roles/{role_id}/inherited_to_projects", plain),
        ("", "/v3/OS-INHERIT/projects/{project_id}/groups/{group_id}/roles/{role_id}/inherited_to_projects", plain),
    ] {
        let [list, check, create, revoke] = rules;
        if !all.is_empty() {
            table.push(get(all, handlers::index).rule(list));
        }
        table.push(get(one, handlers::check).rule(check));
        table.push(put(one, handlers::create).rule(create));
        table.push(delete(one, handlers::revoke).rule(revoke));
    }
    table
}

fn federation() -> Vec<Route<App>> {
    use federation::{login, mappings, policy, protocols, providers, service_providers, websso};
    vec![
        // The identity provider's bearer token is the authentication.
        get("/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/auth", login::auth).public(),
        post("/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/auth", login::auth).public(),
        get("/v3/auth/OS-FEDERATION/websso/{protocol_id}", websso::start_anywhere).public(),
        post("/v3/auth/OS-FEDERATION/websso/{protocol_id}", websso::start_anywhere).public(),
        get("/v3/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/websso", websso::start)
            .public(),
        post("/v3/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/websso", websso::start)
            .public(),
        // The code that the issuer gave, and the cookie of the browser that asked for it.
        get(
            "/v3/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/websso/callback",
            websso::callback,
        )
        .public(),
        get("/v3/OS-FEDERATION/projects", tokens::handlers::own_projects).rule(tokens::policy::AUTH_PROJECTS),
        get("/v3/OS-FEDERATION/domains", tokens::handlers::own_domains).rule(tokens::policy::AUTH_DOMAINS),
        get("/v3/OS-FEDERATION/identity_providers", providers::index).rule(policy::LIST_IDENTITY_PROVIDERS),
        put("/v3/OS-FEDERATION/identity_providers/{idp_id}", providers::create).rule(policy::CREATE_IDENTITY_PROVIDER),
        get("/v3/OS-FEDERATION/identity_providers/{idp_id}", providers::show).rule(policy::GET_IDENTITY_PROVIDER),
        patch("/v3/OS-FEDERATION/identity_providers/{idp_id}", providers::update)
            .rule(policy::UPDATE_IDENTITY_PROVIDER),
        delete("/v3/OS-FEDERATION/identity_providers/{idp_id}", providers::delete)
            .rule(policy::DELETE_IDENTITY_PROVIDER),
        get("/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols", protocols::index).rule(policy::LIST_PROTOCOLS),
        put("/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}", protocols::create)
            .rule(policy::CREATE_PROTOCOL),
        get("/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}", protocols::show)
            .rule(policy::GET_PROTOCOL),
        patch("/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}", protocols::update)
            .rule(policy::UPDATE_PROTOCOL),
        delete("/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}", protocols::delete)
            .rule(policy::DELETE_PROTOCOL),
        get("/v3/OS-FEDERATION/mappings", mappings::index).rule(policy::LIST_MAPPINGS),
        put("/v3/OS-FEDERATION/mappings/{mapping_id}", mappings::create).rule(policy::CREATE_MAPPING),
        get("/v3/OS-FEDERATION/mappings/{mapping_id}", mappings::show).rule(policy::GET_MAPPING),
        patch("/v3/OS-FEDERATION/mappings/{mapping_id}", mappings::update).rule(policy::UPDATE_MAPPING),
        delete("/v3/OS-FEDERATION/mappings/{mapping_id}", mappings::delete).rule(policy::DELETE_MAPPING),
        get("/v3/OS-FEDERATION/service_providers", service_providers::index).rule(policy::LIST_SERVICE_PROVIDERS),
        put("/v3/OS-FEDERATION/service_providers/{sp_id}", service_providers::create)
            .rule(policy::CREATE_SERVICE_PROVIDER),
        get("/v3/OS-FEDERATION/service_providers/{sp_id}", service_providers::show).rule(policy::GET_SERVICE_PROVIDER),
        patch("/v3/OS-FEDERATION/service_providers/{sp_id}", service_providers::update)
            .rule(policy::UPDATE_SERVICE_PROVIDER),
        delete("/v3/OS-FEDERATION/service_providers/{sp_id}", service_providers::delete)
            .rule(policy::DELETE_SERVICE_PROVIDER),
    ]
}

fn domain_config() -> Vec<Route<App>> {
    use domains::{config, policy};
    vec![
        get("/v3/domains/config/default", config::default_all).rule(policy::GET_CONFIG_DEFAULT),
        get("/v3/domains/config/{group}/default", config::default_section).rule(policy::GET_CONFIG_DEFAULT),
        get("/v3/domains/config/{group}/{option}/default", config::default_option).rule(policy::GET_CONFIG_DEFAULT),
        get("/v3/domains/{domain_id}/config", config::show_all).rule(policy::GET_CONFIG),
        put("/v3/domains/{domain_id}/config", config::create).rule(policy::CREATE_CONFIG),
        patch("/v3/domains/{domain_id}/config", config::update_all).rule(policy::UPDATE_CONFIG),
        delete("/v3/domains/{domain_id}/config", config::delete_all).rule(policy::DELETE_CONFIG),
        get("/v3/domains/{domain_id}/config/{group}", config::show_section)
            .rules(&[policy::GET_CONFIG, policy::GET_COMPLIANCE]),
        patch("/v3/domains/{domain_id}/config/{group}", config::update_section).rule(policy::UPDATE_CONFIG),
        delete("/v3/domains/{domain_id}/config/{group}", config::delete_section).rule(policy::DELETE_CONFIG),
        get("/v3/domains/{domain_id}/config/{group}/{option}", config::show_option)
            .rules(&[policy::GET_CONFIG, policy::GET_COMPLIANCE]),
        patch("/v3/domains/{domain_id}/config/{group}/{option}", config::update_option).rule(policy::UPDATE_CONFIG),
        delete("/v3/domains/{domain_id}/config/{group}/{option}", config::delete_option).rule(policy::DELETE_CONFIG),
    ]
}

fn endpoint_policies() -> Vec<Route<App>> {
    use policies::{associations as of, policy};
    vec![
        get("/v3/endpoints/{endpoint_id}/OS-ENDPOINT-POLICY/policy", of::policy_of_endpoint)
            .rule(policy::GET_FOR_ENDPOINT),
        get("/v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints", of::endpoints).rule(policy::LIST_ENDPOINTS),
        put("/v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints/{endpoint_id}", of::create_for_endpoint)
            .rule(policy::CREATE_FOR_ENDPOINT),
        get("/v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints/{endpoint_id}", of::check_for_endpoint)
            .rule(policy::CHECK_FOR_ENDPOINT),
        delete("/v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints/{endpoint_id}", of::delete_for_endpoint)
            .rule(policy::DELETE_FOR_ENDPOINT),
        put("/v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}", of::create_for_service)
            .rule(policy::CREATE_FOR_SERVICE),
        get("/v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}", of::check_for_service)
            .rule(policy::CHECK_FOR_SERVICE),
        delete("/v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}", of::delete_for_service)
            .rule(policy::DELETE_FOR_SERVICE),
        put(
            "/v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}/regions/{region_id}",
            of::create_for_region,
        )
        .rule(policy::CREATE_FOR_REGION),
        get(
            "/v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}/regions/{region_id}",
            of::check_for_region,
        )
        .rule(policy::CHECK_FOR_REGION),
        delete(
            "/v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}/regions/{region_id}",
            of::delete_for_region,
        )
        .rule(policy::DELETE_FOR_REGION),
    ]
}

fn oauth() -> Vec<Route<App>> {
    use oauth1::{consumers, policy};
    vec![
        get("/v3/OS-OAUTH1/consumers", consumers::index).rule(policy::LIST_CONSUMERS),
        post("/v3/OS-OAUTH1/consumers", consumers::create).rule(policy::CREATE_CONSUMER),
        get("/v3/OS-OAUTH1/consumers/{consumer_id}", consumers::show).rule(policy::GET_CONSUMER),
        patch("/v3/OS-OAUTH1/consumers/{consumer_id}", consumers::update).rule(policy::UPDATE_CONSUMER),
        delete("/v3/OS-OAUTH1/consumers/{consumer_id}", consumers::delete).rule(policy::DELETE_CONSUMER),
    ]
}

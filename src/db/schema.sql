CREATE TABLE audit_event (
    id         INTEGER PRIMARY KEY,
    at         TEXT NOT NULL,
    service    TEXT NOT NULL,
    request_id TEXT NOT NULL,
    method     TEXT NOT NULL,
    path       TEXT NOT NULL,
    status     INTEGER NOT NULL,
    peer       TEXT NOT NULL,
    user_id    TEXT,
    project_id TEXT,
    domain_id  TEXT,
    system     INTEGER NOT NULL,
    audit_id   TEXT
);

CREATE INDEX audit_event_at ON audit_event (at);

CREATE INDEX audit_event_user ON audit_event (user_id);

CREATE TABLE compute_aggregate (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid       TEXT NOT NULL UNIQUE,
    name       TEXT NOT NULL UNIQUE,
    has_host   INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT
);

CREATE TABLE compute_aggregate_metadata (
    aggregate_id INTEGER NOT NULL REFERENCES compute_aggregate (id) ON DELETE CASCADE,
    key          TEXT NOT NULL,
    value        TEXT NOT NULL,
    PRIMARY KEY (aggregate_id, key)
);

CREATE TABLE compute_console_token (
    token_hash TEXT PRIMARY KEY,          -- SHA-256, hexadecimal
    server_id  TEXT NOT NULL REFERENCES compute_server (id) ON DELETE CASCADE,
    console    TEXT NOT NULL,             -- novnc serial
    expires_at TEXT NOT NULL
);

CREATE INDEX compute_console_token_expiry ON compute_console_token (expires_at);

CREATE INDEX compute_console_token_server ON compute_console_token (server_id);

CREATE TABLE compute_flavor (
    id            TEXT PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE,
    vcpus         INTEGER NOT NULL,
    ram_mib       INTEGER NOT NULL,
    disk_gib      INTEGER NOT NULL,
    ephemeral_gib INTEGER NOT NULL,
    swap_mib      INTEGER NOT NULL,
    rxtx_factor   REAL NOT NULL,
    is_public     INTEGER NOT NULL,
    disabled      INTEGER NOT NULL,
    description   TEXT,
    created_at    TEXT NOT NULL
);

CREATE TABLE compute_flavor_access (
    flavor_id  TEXT NOT NULL REFERENCES compute_flavor (id) ON DELETE CASCADE,
    project_id TEXT NOT NULL,
    PRIMARY KEY (flavor_id, project_id)
);

CREATE TABLE compute_flavor_extra_spec (
    flavor_id TEXT NOT NULL REFERENCES compute_flavor (id) ON DELETE CASCADE,
    key       TEXT NOT NULL,
    value     TEXT NOT NULL,
    PRIMARY KEY (flavor_id, key)
);

CREATE TABLE compute_keypair (
    id          INTEGER PRIMARY KEY,
    user_id     TEXT NOT NULL,
    name        TEXT NOT NULL,
    type        TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    public_key  TEXT NOT NULL,
    created_at  TEXT NOT NULL,
    UNIQUE (user_id, name)
);

CREATE TABLE compute_migration (
    id            INTEGER PRIMARY KEY,
    uuid          TEXT NOT NULL UNIQUE,       -- also the consumer that holds the old flavor's share in Placement
    server_id     TEXT NOT NULL,
    project_id    TEXT NOT NULL,
    user_id       TEXT NOT NULL,
    status        TEXT NOT NULL,
    old_flavor    TEXT NOT NULL,              -- JSON
    new_flavor    TEXT NOT NULL,              -- JSON
    old_number    INTEGER,                    -- what old clients know flavors by
    new_number    INTEGER,
    old_root_gib  INTEGER NOT NULL,
    new_root_gib  INTEGER NOT NULL,
    old_vm_state  TEXT NOT NULL,              -- active or stopped
    created_at    TEXT NOT NULL,
    updated_at    TEXT NOT NULL
);

CREATE INDEX compute_migration_created ON compute_migration (created_at, id);

CREATE INDEX compute_migration_server ON compute_migration (server_id, id);

CREATE TABLE compute_quota (
    project_id TEXT NOT NULL,
    resource   TEXT NOT NULL,
    hard_limit INTEGER NOT NULL,
    PRIMARY KEY (project_id, resource)
);

CREATE TABLE compute_quota_class (
    class      TEXT NOT NULL,
    resource   TEXT NOT NULL,
    hard_limit INTEGER NOT NULL,
    PRIMARY KEY (class, resource)
);

CREATE TABLE compute_quota_user (
    project_id TEXT NOT NULL,
    user_id    TEXT NOT NULL,
    resource   TEXT NOT NULL,
    hard_limit INTEGER NOT NULL,
    PRIMARY KEY (project_id, user_id, resource)
);

CREATE TABLE compute_server (
    id                TEXT PRIMARY KEY,
    project_id        TEXT NOT NULL,
    user_id           TEXT NOT NULL,
    name              TEXT NOT NULL,
    hostname          TEXT NOT NULL,
    description       TEXT,
    vm_state          TEXT NOT NULL,
    task_state        TEXT,
    power_state       INTEGER NOT NULL,
    locked_by         TEXT,                -- admin or owner
    image_id          TEXT,
    image_properties  TEXT NOT NULL,       -- JSON, as the image had them when the server was made
    flavor_id         TEXT NOT NULL,
    flavor            TEXT NOT NULL,       -- JSON: the flavor as it was when the server was made
    root_gib          INTEGER NOT NULL,
    vcpus             INTEGER NOT NULL,
    ram_mib           INTEGER NOT NULL,
    key_name          TEXT,
    public_key        TEXT,
    key_type          TEXT,
    user_data         TEXT,                -- base64, as sent
    config_drive      INTEGER NOT NULL,
    metadata          TEXT NOT NULL,       -- JSON object
    access_ipv4       TEXT NOT NULL,
    access_ipv6       TEXT NOT NULL,
    disk_config       TEXT NOT NULL,
    availability_zone TEXT,
    reservation_id    TEXT NOT NULL,
    launch_index      INTEGER NOT NULL,
    run_as            INTEGER NOT NULL UNIQUE, -- user id of its VM process
    fault             TEXT,                -- JSON: code, message, details, created
    created_at        TEXT NOT NULL,
    updated_at        TEXT NOT NULL,
    launched_at       TEXT
, locked_reason TEXT, scheduler_hints TEXT NOT NULL DEFAULT '{}');

CREATE INDEX compute_server_created ON compute_server (created_at, id);

CREATE INDEX compute_server_project ON compute_server (project_id, created_at, id);

CREATE TABLE compute_server_cpu (
    cpu       INTEGER PRIMARY KEY,
    server_id TEXT NOT NULL REFERENCES compute_server (id) ON DELETE CASCADE,
    vcpu      INTEGER NOT NULL,
    UNIQUE (server_id, vcpu)
);

CREATE TABLE compute_server_file (
    server_id TEXT NOT NULL REFERENCES compute_server (id) ON DELETE CASCADE,
    position  INTEGER NOT NULL,
    path      TEXT NOT NULL,
    contents  BLOB NOT NULL,
    PRIMARY KEY (server_id, position)
);

CREATE TABLE compute_server_gone (
    id            TEXT PRIMARY KEY,
    project_id    TEXT NOT NULL,
    created_at    TEXT NOT NULL,
    updated_at    TEXT NOT NULL,
    launched_at   TEXT,
    terminated_at TEXT NOT NULL,
    tags          TEXT NOT NULL,       -- JSON list
    document      TEXT NOT NULL        -- JSON: the server as it was last
);

CREATE INDEX compute_server_gone_project ON compute_server_gone (project_id, terminated_at);

CREATE INDEX compute_server_gone_terminated ON compute_server_gone (terminated_at, id);

CREATE INDEX compute_server_gone_updated ON compute_server_gone (updated_at, id);

CREATE TABLE compute_server_group (
    id                  TEXT PRIMARY KEY,
    project_id          TEXT NOT NULL,
    user_id             TEXT NOT NULL,
    name                TEXT NOT NULL,
    policy              TEXT NOT NULL,
    max_server_per_host INTEGER,
    created_at          TEXT NOT NULL
);

CREATE INDEX compute_server_group_project ON compute_server_group (project_id, created_at, id);

CREATE TABLE compute_server_group_member (
    server_id TEXT PRIMARY KEY REFERENCES compute_server (id) ON DELETE CASCADE,
    group_id  TEXT NOT NULL REFERENCES compute_server_group (id) ON DELETE CASCADE
);

CREATE INDEX compute_server_group_member_group ON compute_server_group_member (group_id);

CREATE TABLE compute_server_nic (
    port_id   TEXT PRIMARY KEY,
    server_id TEXT NOT NULL REFERENCES compute_server (id) ON DELETE CASCADE,
    position  INTEGER NOT NULL,
    tag       TEXT
);

CREATE INDEX compute_server_nic_server ON compute_server_nic (server_id, position);

CREATE TABLE compute_server_password (
    server_id TEXT PRIMARY KEY REFERENCES compute_server (id) ON DELETE CASCADE,
    password  TEXT NOT NULL
);

CREATE TABLE compute_server_rescue (
    server_id TEXT PRIMARY KEY REFERENCES compute_server (id) ON DELETE CASCADE,
    image_id  TEXT NOT NULL,
    stable    INTEGER NOT NULL           -- the server's own disks keep their places
, image_properties TEXT);

CREATE TABLE compute_server_shelf (
    server_id  TEXT PRIMARY KEY REFERENCES compute_server (id) ON DELETE CASCADE,
    image_id   TEXT NOT NULL,
    shelved_at TEXT NOT NULL
);

CREATE TABLE compute_server_tag (
    server_id TEXT NOT NULL REFERENCES compute_server (id) ON DELETE CASCADE,
    tag       TEXT NOT NULL,
    PRIMARY KEY (server_id, tag)
);

CREATE TABLE compute_service (
    id              INTEGER PRIMARY KEY,
    uuid            TEXT NOT NULL UNIQUE,
    binary          TEXT NOT NULL UNIQUE,
    zone            TEXT NOT NULL,
    disabled        INTEGER NOT NULL,
    disabled_reason TEXT,
    forced_down     INTEGER NOT NULL
);

CREATE TABLE db_migration (name TEXT PRIMARY KEY, applied_at TEXT NOT NULL);

CREATE TABLE identity_access_rule (
    id      TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES identity_user (id) ON DELETE CASCADE,
    service TEXT NOT NULL,
    method  TEXT NOT NULL,
    path    TEXT NOT NULL,
    UNIQUE (user_id, service, method, path)
);

CREATE TABLE identity_application_credential (
    id           TEXT PRIMARY KEY,
    user_id      TEXT NOT NULL REFERENCES identity_user (id) ON DELETE CASCADE,
    project_id   TEXT NOT NULL REFERENCES identity_project (id) ON DELETE CASCADE,
    name         TEXT NOT NULL,
    description  TEXT,
    secret_hash  TEXT NOT NULL,
    expires_at   TEXT,
    unrestricted INTEGER NOT NULL DEFAULT 0,
    restricted_to_rules INTEGER NOT NULL DEFAULT 0,  -- with access rules, even when none of them is left
    UNIQUE (user_id, name)
);

CREATE INDEX identity_application_credential_project ON identity_application_credential (project_id);

CREATE TABLE identity_application_credential_role (
    application_credential_id TEXT NOT NULL REFERENCES identity_application_credential (id) ON DELETE CASCADE,
    role_id                   TEXT NOT NULL,         -- no reference: a deleted role voids the credential
    PRIMARY KEY (application_credential_id, role_id)
);

CREATE TABLE identity_application_credential_rule (
    application_credential_id TEXT NOT NULL REFERENCES identity_application_credential (id) ON DELETE CASCADE,
    access_rule_id            TEXT NOT NULL REFERENCES identity_access_rule (id),
    PRIMARY KEY (application_credential_id, access_rule_id)
);

CREATE INDEX identity_application_credential_rule_rule ON identity_application_credential_rule (access_rule_id);

CREATE TABLE identity_assignment (
    id          INTEGER PRIMARY KEY,
    role_id     TEXT NOT NULL REFERENCES identity_role (id) ON DELETE CASCADE,
    user_id     TEXT REFERENCES identity_user (id) ON DELETE CASCADE,
    group_id    TEXT REFERENCES identity_group (id) ON DELETE CASCADE,
    target      TEXT NOT NULL CHECK (target IN ('project', 'domain', 'system')),
    target_id   TEXT REFERENCES identity_project (id) ON DELETE CASCADE,  -- null for the system
    inherited   INTEGER NOT NULL DEFAULT 0,
    CHECK ((user_id IS NULL) <> (group_id IS NULL)),
    CHECK ((target = 'system') = (target_id IS NULL))
);

CREATE INDEX identity_assignment_group ON identity_assignment (group_id);

CREATE UNIQUE INDEX identity_assignment_once ON identity_assignment
    (role_id, ifnull(user_id, ''), ifnull(group_id, ''), target, ifnull(target_id, ''), inherited);

CREATE INDEX identity_assignment_target ON identity_assignment (target_id);

CREATE INDEX identity_assignment_user ON identity_assignment (user_id);

CREATE TABLE identity_bootstrap (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE identity_credential (
    id         TEXT PRIMARY KEY,
    user_id    TEXT NOT NULL REFERENCES identity_user (id) ON DELETE CASCADE,
    project_id TEXT REFERENCES identity_project (id) ON DELETE CASCADE,
    type       TEXT NOT NULL,
    blob       TEXT NOT NULL,
    extra      TEXT NOT NULL DEFAULT '{}'
);

CREATE INDEX identity_credential_user ON identity_credential (user_id);

CREATE TABLE identity_domain_option (
    domain_id TEXT NOT NULL REFERENCES identity_project (id) ON DELETE CASCADE,
    section   TEXT NOT NULL,
    name      TEXT NOT NULL,
    value     TEXT NOT NULL,                    -- JSON; encrypted where the option is a secret
    PRIMARY KEY (domain_id, section, name)
);

CREATE TABLE identity_endpoint (
    id         TEXT PRIMARY KEY,
    service_id TEXT NOT NULL REFERENCES identity_service (id) ON DELETE CASCADE,
    region_id  TEXT REFERENCES identity_region (id),
    interface  TEXT NOT NULL,
    url        TEXT NOT NULL,
    enabled    INTEGER NOT NULL DEFAULT 1,
    extra      TEXT NOT NULL DEFAULT '{}'
);

CREATE INDEX identity_endpoint_region ON identity_endpoint (region_id);

CREATE INDEX identity_endpoint_service ON identity_endpoint (service_id);

CREATE TABLE identity_endpoint_group (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    description TEXT,
    filters     TEXT NOT NULL                   -- JSON object: interface, service_id, region_id, enabled
);

CREATE TABLE identity_expiring_membership (
    user_id     TEXT NOT NULL REFERENCES identity_user (id) ON DELETE CASCADE,
    group_id    TEXT NOT NULL REFERENCES identity_group (id) ON DELETE CASCADE,
    provider_id TEXT NOT NULL REFERENCES identity_provider (id) ON DELETE CASCADE,
    expires_at  TEXT NOT NULL,
    PRIMARY KEY (user_id, group_id, provider_id)
);

CREATE INDEX identity_expiring_membership_group ON identity_expiring_membership (group_id);

CREATE INDEX identity_expiring_membership_provider ON identity_expiring_membership (provider_id);

CREATE TABLE identity_federated (
    user_id     TEXT NOT NULL REFERENCES identity_user (id) ON DELETE CASCADE,
    provider_id TEXT NOT NULL,
    protocol_id TEXT NOT NULL,
    unique_id   TEXT NOT NULL,
    PRIMARY KEY (provider_id, protocol_id, unique_id),
    FOREIGN KEY (provider_id, protocol_id) REFERENCES identity_protocol (provider_id, id) ON DELETE CASCADE
);

CREATE INDEX identity_federated_user ON identity_federated (user_id);

CREATE TABLE identity_group (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    domain_id   TEXT NOT NULL REFERENCES identity_project (id) ON DELETE CASCADE,
    description TEXT NOT NULL DEFAULT '',
    extra       TEXT NOT NULL DEFAULT '{}', local_id TEXT, gone INTEGER NOT NULL DEFAULT 0,
    UNIQUE (domain_id, name)
);

CREATE TABLE identity_implied_role (
    prior_id   TEXT NOT NULL REFERENCES identity_role (id) ON DELETE CASCADE,
    implied_id TEXT NOT NULL REFERENCES identity_role (id) ON DELETE CASCADE,
    PRIMARY KEY (prior_id, implied_id)
);

CREATE INDEX identity_implied_role_implied ON identity_implied_role (implied_id);

CREATE TABLE identity_limit (
    id                  TEXT PRIMARY KEY,
    registered_limit_id TEXT NOT NULL REFERENCES identity_registered_limit (id),
    project_id          TEXT REFERENCES identity_project (id) ON DELETE CASCADE,
    domain_id           TEXT REFERENCES identity_project (id) ON DELETE CASCADE,
    resource_limit      INTEGER NOT NULL,
    description         TEXT,
    CHECK ((project_id IS NULL) <> (domain_id IS NULL))
);

CREATE INDEX identity_limit_domain ON identity_limit (domain_id);

CREATE UNIQUE INDEX identity_limit_once ON identity_limit
    (registered_limit_id, ifnull(project_id, ''), ifnull(domain_id, ''));

CREATE INDEX identity_limit_project ON identity_limit (project_id);

CREATE TABLE identity_mapping (
    id             TEXT PRIMARY KEY,
    rules          TEXT NOT NULL,               -- JSON
    schema_version TEXT NOT NULL
);

CREATE TABLE identity_membership (
    user_id  TEXT NOT NULL REFERENCES identity_user (id) ON DELETE CASCADE,
    group_id TEXT NOT NULL REFERENCES identity_group (id) ON DELETE CASCADE,
    PRIMARY KEY (user_id, group_id)
);

CREATE INDEX identity_membership_group ON identity_membership (group_id);

CREATE TABLE identity_oauth1_consumer (
    id          TEXT PRIMARY KEY,
    description TEXT,
    secret      TEXT NOT NULL,                  -- encrypted: signatures (RFC 5849) are made with it in clear
    extra       TEXT NOT NULL DEFAULT '{}'
);

CREATE TABLE identity_password_history (
    id      INTEGER PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES identity_user (id) ON DELETE CASCADE,
    hash    TEXT NOT NULL
);

CREATE INDEX identity_password_history_user ON identity_password_history (user_id);

CREATE TABLE identity_policy (
    id    TEXT PRIMARY KEY,
    type  TEXT NOT NULL,
    blob  TEXT NOT NULL,                        -- JSON
    extra TEXT NOT NULL DEFAULT '{}'
);

CREATE TABLE identity_policy_association (
    policy_id   TEXT NOT NULL REFERENCES identity_policy (id) ON DELETE CASCADE,
    endpoint_id TEXT REFERENCES identity_endpoint (id) ON DELETE CASCADE,
    service_id  TEXT REFERENCES identity_service (id) ON DELETE CASCADE,
    region_id   TEXT REFERENCES identity_region (id) ON DELETE CASCADE,
    CHECK ((endpoint_id IS NULL) <> (service_id IS NULL)),
    CHECK (region_id IS NULL OR service_id IS NOT NULL)
);

CREATE INDEX identity_policy_association_endpoint ON identity_policy_association (endpoint_id);

CREATE UNIQUE INDEX identity_policy_association_once ON identity_policy_association
    (ifnull(endpoint_id, ''), ifnull(service_id, ''), ifnull(region_id, ''));

CREATE INDEX identity_policy_association_policy ON identity_policy_association (policy_id);

CREATE INDEX identity_policy_association_region ON identity_policy_association (region_id);

CREATE INDEX identity_policy_association_service ON identity_policy_association (service_id);

CREATE TABLE identity_project (
    id            TEXT PRIMARY KEY,
    name          TEXT NOT NULL,
    domain_id     TEXT REFERENCES identity_project (id) ON DELETE CASCADE,
    parent_id     TEXT REFERENCES identity_project (id),
    is_domain     INTEGER NOT NULL DEFAULT 0,
    description   TEXT NOT NULL DEFAULT '',
    enabled       INTEGER NOT NULL DEFAULT 1,
    options       TEXT NOT NULL DEFAULT '{}',
    extra         TEXT NOT NULL DEFAULT '{}',
    epoch         INTEGER NOT NULL DEFAULT 0   -- moves to void all tokens; tokens carry the value they were issued under
);

CREATE UNIQUE INDEX identity_project_name ON identity_project (ifnull(domain_id, ''), name);

CREATE INDEX identity_project_parent ON identity_project (parent_id);

CREATE TABLE identity_project_endpoint (
    project_id  TEXT NOT NULL REFERENCES identity_project (id) ON DELETE CASCADE,
    endpoint_id TEXT NOT NULL REFERENCES identity_endpoint (id) ON DELETE CASCADE,
    PRIMARY KEY (project_id, endpoint_id)
);

CREATE INDEX identity_project_endpoint_endpoint ON identity_project_endpoint (endpoint_id);

CREATE TABLE identity_project_endpoint_group (
    project_id        TEXT NOT NULL REFERENCES identity_project (id) ON DELETE CASCADE,
    endpoint_group_id TEXT NOT NULL REFERENCES identity_endpoint_group (id) ON DELETE CASCADE,
    PRIMARY KEY (project_id, endpoint_group_id)
);

CREATE INDEX identity_project_endpoint_group_group ON identity_project_endpoint_group (endpoint_group_id);

CREATE TABLE identity_project_tag (
    project_id TEXT NOT NULL REFERENCES identity_project (id) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    PRIMARY KEY (project_id, name)
);

CREATE TABLE identity_protocol (
    id                  TEXT NOT NULL,
    provider_id         TEXT NOT NULL REFERENCES identity_provider (id) ON DELETE CASCADE,
    mapping_id          TEXT NOT NULL REFERENCES identity_mapping (id),
    remote_id_attribute TEXT,
    PRIMARY KEY (provider_id, id)
);

CREATE INDEX identity_protocol_mapping ON identity_protocol (mapping_id);

CREATE TABLE identity_provider (
    id                TEXT PRIMARY KEY,
    domain_id         TEXT NOT NULL REFERENCES identity_project (id) ON DELETE CASCADE,
    enabled           INTEGER NOT NULL,
    description       TEXT,
    authorization_ttl INTEGER                   -- minutes that group memberships outlive a login; null: the token only
);

CREATE INDEX identity_provider_domain ON identity_provider (domain_id);

CREATE TABLE identity_provider_remote_id (
    remote_id   TEXT PRIMARY KEY,
    provider_id TEXT NOT NULL REFERENCES identity_provider (id) ON DELETE CASCADE
);

CREATE INDEX identity_provider_remote_id_provider ON identity_provider_remote_id (provider_id);

CREATE TABLE identity_region (
    id          TEXT PRIMARY KEY,
    parent_id   TEXT REFERENCES identity_region (id) ON DELETE CASCADE,
    description TEXT NOT NULL DEFAULT '',
    extra       TEXT NOT NULL DEFAULT '{}'
);

CREATE INDEX identity_region_parent ON identity_region (parent_id);

CREATE TABLE identity_registered_limit (
    id            TEXT PRIMARY KEY,
    service_id    TEXT NOT NULL REFERENCES identity_service (id),
    region_id     TEXT REFERENCES identity_region (id),
    resource_name TEXT NOT NULL,
    default_limit INTEGER NOT NULL,
    description   TEXT
);

CREATE UNIQUE INDEX identity_registered_limit_once ON identity_registered_limit
    (service_id, ifnull(region_id, ''), resource_name);

CREATE INDEX identity_registered_limit_region ON identity_registered_limit (region_id);

CREATE TABLE identity_revocation (
    audit_id   TEXT PRIMARY KEY,
    chain      INTEGER NOT NULL,
    revoked_at TEXT NOT NULL,
    expires_s  INTEGER NOT NULL    -- seconds since 1970
);

CREATE INDEX identity_revocation_expires ON identity_revocation (expires_s);

CREATE TABLE identity_role (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    domain_id   TEXT REFERENCES identity_project (id) ON DELETE CASCADE,  -- null: a role of the whole cloud
    description TEXT,
    options     TEXT NOT NULL DEFAULT '{}',
    extra       TEXT NOT NULL DEFAULT '{}'
);

CREATE UNIQUE INDEX identity_role_name ON identity_role (ifnull(domain_id, ''), name);

CREATE TABLE identity_service (
    id          TEXT PRIMARY KEY,
    type        TEXT NOT NULL,
    name        TEXT NOT NULL DEFAULT '',
    enabled     INTEGER NOT NULL DEFAULT 1,
    extra       TEXT NOT NULL DEFAULT '{}'
);

CREATE TABLE identity_service_provider (
    id                 TEXT PRIMARY KEY,
    auth_url           TEXT NOT NULL,
    sp_url             TEXT NOT NULL,
    description        TEXT,
    enabled            INTEGER NOT NULL,
    relay_state_prefix TEXT NOT NULL
);

CREATE TABLE identity_trust (
    id                  TEXT PRIMARY KEY,
    trustor_user_id     TEXT NOT NULL REFERENCES identity_user (id) ON DELETE CASCADE,
    trustee_user_id     TEXT NOT NULL REFERENCES identity_user (id) ON DELETE CASCADE,
    project_id          TEXT REFERENCES identity_project (id) ON DELETE CASCADE,
    impersonation       INTEGER NOT NULL,
    expires_at          TEXT,
    remaining_uses      INTEGER,                -- null: any number
    redelegation_count  INTEGER NOT NULL,       -- how often it may still be handed on
    redelegated_trust_id TEXT REFERENCES identity_trust (id) ON DELETE CASCADE,
    extra               TEXT NOT NULL DEFAULT '{}'
);

CREATE INDEX identity_trust_project ON identity_trust (project_id);

CREATE INDEX identity_trust_redelegated ON identity_trust (redelegated_trust_id);

CREATE INDEX identity_trust_trustee ON identity_trust (trustee_user_id);

CREATE INDEX identity_trust_trustor ON identity_trust (trustor_user_id);

CREATE TABLE identity_trust_role (
    trust_id TEXT NOT NULL REFERENCES identity_trust (id) ON DELETE CASCADE,
    role_id  TEXT NOT NULL,                     -- no reference: a deleted role voids the trust
    PRIMARY KEY (trust_id, role_id)
);

CREATE TABLE identity_user (
    id                  TEXT PRIMARY KEY,
    name                TEXT NOT NULL,
    domain_id           TEXT NOT NULL REFERENCES identity_project (id) ON DELETE CASCADE,
    enabled             INTEGER NOT NULL DEFAULT 1,
    default_project_id  TEXT,
    password_hash       TEXT,                  -- argon2id in PHC form; null: no password
    password_expires_at TEXT,
    options             TEXT NOT NULL DEFAULT '{}',
    extra               TEXT NOT NULL DEFAULT '{}',
    epoch               INTEGER NOT NULL DEFAULT 0,
    created_at          TEXT NOT NULL, password_created_at TEXT, password_self_service INTEGER NOT NULL DEFAULT 0, last_active_on TEXT, shadow INTEGER NOT NULL DEFAULT 0, local_id TEXT, gone INTEGER NOT NULL DEFAULT 0,
    UNIQUE (domain_id, name)
);

CREATE INDEX identity_user_default_project ON identity_user (default_project_id);

CREATE TABLE images_deleted (
    id         TEXT PRIMARY KEY,
    deleted_at TEXT NOT NULL
);

CREATE TABLE images_image (
    id                 TEXT PRIMARY KEY,
    name               TEXT,
    owner              TEXT NOT NULL,        -- project id
    status             TEXT NOT NULL,        -- queued saving uploading importing active deactivated
    visibility         TEXT NOT NULL,        -- public private shared community
    disk_format        TEXT,
    container_format   TEXT,
    size_bytes         INTEGER,
    virtual_size_bytes INTEGER,
    checksum           TEXT,                 -- MD5
    os_hash_value      TEXT,                 -- SHA-512
    min_disk_gib       INTEGER NOT NULL,
    min_ram_mib        INTEGER NOT NULL,
    protected          INTEGER NOT NULL,
    os_hidden          INTEGER NOT NULL,
    upload_id          TEXT,                 -- of the transfer under way, or of the file that waits for its import
    staged_size_bytes  INTEGER,              -- of a staged file that is complete
    staged_checksum    TEXT,
    staged_hash_value  TEXT,
    created_at         TEXT NOT NULL,
    updated_at         TEXT NOT NULL
);

CREATE INDEX images_image_created ON images_image (created_at, id);

CREATE INDEX images_image_name ON images_image (name);

CREATE INDEX images_image_owner ON images_image (owner, created_at, id);

CREATE TABLE images_member (
    image_id   TEXT NOT NULL REFERENCES images_image (id) ON DELETE CASCADE,
    member     TEXT NOT NULL,                -- project id
    status     TEXT NOT NULL,                -- pending accepted rejected
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (image_id, member)
);

CREATE INDEX images_member_member ON images_member (member, image_id);

CREATE TABLE images_metadef_item (
    id           INTEGER PRIMARY KEY,
    namespace_id TEXT NOT NULL REFERENCES images_metadef_namespace (id) ON DELETE CASCADE,
    kind         TEXT NOT NULL,                -- object property tag association
    name         TEXT NOT NULL,
    body         TEXT NOT NULL,                -- JSON object, without the name
    created_at   TEXT NOT NULL,
    updated_at   TEXT NOT NULL,
    UNIQUE (namespace_id, kind, name)
);

CREATE INDEX images_metadef_item_association ON images_metadef_item (name) WHERE kind = 'association';

CREATE TABLE images_metadef_namespace (
    id           TEXT PRIMARY KEY,
    namespace    TEXT NOT NULL UNIQUE,
    display_name TEXT,
    description  TEXT,
    visibility   TEXT NOT NULL,                -- public private
    protected    INTEGER NOT NULL,
    owner        TEXT,                         -- project id; none: the cloud's
    created_at   TEXT NOT NULL,
    updated_at   TEXT NOT NULL
);

CREATE INDEX images_metadef_namespace_created ON images_metadef_namespace (created_at, id);

CREATE TABLE images_metadef_resource_type (
    name       TEXT PRIMARY KEY,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);

CREATE TABLE images_property (
    image_id TEXT NOT NULL REFERENCES images_image (id) ON DELETE CASCADE,
    name     TEXT NOT NULL,
    value    TEXT NOT NULL,
    PRIMARY KEY (image_id, name)
);

CREATE TABLE images_tag (
    image_id TEXT NOT NULL REFERENCES images_image (id) ON DELETE CASCADE,
    tag      TEXT NOT NULL,
    PRIMARY KEY (image_id, tag)
);

CREATE TABLE network_auto_topology (
    project_id TEXT PRIMARY KEY,
    network_id TEXT NOT NULL REFERENCES network_network (id) ON DELETE CASCADE,
    router_id  TEXT NOT NULL REFERENCES network_router (id) ON DELETE CASCADE
);

CREATE TABLE network_bootstrap (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    done_at TEXT NOT NULL
);

CREATE TABLE network_fixed_ip (
    subnet_id  TEXT NOT NULL REFERENCES network_subnet (id),
    position   BLOB NOT NULL,              -- the address as 16 bytes, big-endian: sorts as addresses do
    address    TEXT NOT NULL,
    port_id    TEXT NOT NULL REFERENCES network_port (id) ON DELETE CASCADE,
    network_id TEXT NOT NULL,
    ordinal    INTEGER NOT NULL,
    PRIMARY KEY (subnet_id, position)
);

CREATE INDEX network_fixed_ip_address ON network_fixed_ip (network_id, address);

CREATE INDEX network_fixed_ip_port ON network_fixed_ip (port_id, ordinal);

CREATE TABLE network_floating_ip (
    id                  TEXT PRIMARY KEY,
    project_id          TEXT NOT NULL,
    description         TEXT NOT NULL,
    floating_network_id TEXT NOT NULL REFERENCES network_network (id),
    floating_ip_address TEXT NOT NULL,
    floating_port_id    TEXT NOT NULL REFERENCES network_port (id),
    fixed_port_id       TEXT REFERENCES network_port (id),
    fixed_ip_address    TEXT,
    router_id           TEXT REFERENCES network_router (id),
    active              INTEGER NOT NULL,
    dns_name            TEXT NOT NULL,
    dns_domain          TEXT NOT NULL,
    revision            INTEGER NOT NULL,
    created_at          TEXT NOT NULL,
    updated_at          TEXT NOT NULL
);

CREATE INDEX network_floating_ip_fixed ON network_floating_ip (fixed_port_id);

CREATE INDEX network_floating_ip_floating ON network_floating_ip (floating_port_id);

CREATE INDEX network_floating_ip_network ON network_floating_ip (floating_network_id);

CREATE INDEX network_floating_ip_project ON network_floating_ip (project_id);

CREATE INDEX network_floating_ip_router ON network_floating_ip (router_id);

CREATE TABLE network_network (
    id                    TEXT PRIMARY KEY,
    project_id            TEXT NOT NULL,
    name                  TEXT NOT NULL,
    description           TEXT NOT NULL,
    admin_state_up        INTEGER NOT NULL,
    shared                INTEGER NOT NULL,
    external              INTEGER NOT NULL,
    is_default            INTEGER NOT NULL,
    mtu                   INTEGER NOT NULL,
    port_security_enabled INTEGER NOT NULL,
    dns_domain            TEXT NOT NULL,
    provider_type         TEXT NOT NULL,   -- local or flat
    provider_physical     TEXT UNIQUE,
    problem               TEXT,            -- why the kernel does not have it as it should be
    revision              INTEGER NOT NULL,
    created_at            TEXT NOT NULL,
    updated_at            TEXT NOT NULL
);

CREATE INDEX network_network_project ON network_network (project_id);

CREATE TABLE network_port (
    id                    TEXT PRIMARY KEY,
    network_id            TEXT NOT NULL REFERENCES network_network (id),
    project_id            TEXT NOT NULL,   -- empty for ports that belong to no project (gateways, floating IPs)
    name                  TEXT NOT NULL,
    description           TEXT NOT NULL,
    mac_address           TEXT NOT NULL,
    admin_state_up        INTEGER NOT NULL,
    device_id             TEXT NOT NULL,
    device_owner          TEXT NOT NULL,
    port_security_enabled INTEGER NOT NULL,
    allowed_address_pairs TEXT NOT NULL,   -- JSON
    extra_dhcp_opts       TEXT NOT NULL,   -- JSON
    dns_name              TEXT NOT NULL,
    vnic_type             TEXT NOT NULL,
    host_id               TEXT NOT NULL,   -- empty: not bound
    profile               TEXT NOT NULL,   -- JSON
    made_for              TEXT,            -- the server that Compute made this port for, and deletes it with
    plugged               INTEGER NOT NULL,-- its tap, veth or server is there
    problem               TEXT,            -- why its rules are not in force
    revision              INTEGER NOT NULL,
    created_at            TEXT NOT NULL,
    updated_at            TEXT NOT NULL,
    UNIQUE (network_id, mac_address)
);

CREATE INDEX network_port_device ON network_port (device_id);

CREATE INDEX network_port_project ON network_port (project_id);

CREATE TABLE network_port_security_group (
    port_id           TEXT NOT NULL REFERENCES network_port (id) ON DELETE CASCADE,
    security_group_id TEXT NOT NULL REFERENCES network_security_group (id),
    PRIMARY KEY (port_id, security_group_id)
);

CREATE INDEX network_port_security_group_group ON network_port_security_group (security_group_id);

CREATE TABLE network_quota (
    project_id TEXT NOT NULL,
    resource   TEXT NOT NULL,
    amount     INTEGER NOT NULL,
    PRIMARY KEY (project_id, resource)
);

CREATE TABLE network_router (
    id              TEXT PRIMARY KEY,
    project_id      TEXT NOT NULL,
    name            TEXT NOT NULL,
    description     TEXT NOT NULL,
    admin_state_up  INTEGER NOT NULL,
    gateway_port_id TEXT REFERENCES network_port (id),
    enable_snat     INTEGER NOT NULL,
    routes          TEXT NOT NULL,         -- JSON [{"destination":..,"nexthop":..}]
    problem         TEXT,
    revision        INTEGER NOT NULL,
    created_at      TEXT NOT NULL,
    updated_at      TEXT NOT NULL
);

CREATE INDEX network_router_gateway ON network_router (gateway_port_id);

CREATE INDEX network_router_project ON network_router (project_id);

CREATE TABLE network_security_group (
    id          TEXT PRIMARY KEY,
    project_id  TEXT NOT NULL,
    name        TEXT NOT NULL,
    description TEXT NOT NULL,
    stateful    INTEGER NOT NULL,
    is_default  INTEGER NOT NULL,
    revision    INTEGER NOT NULL,
    created_at  TEXT NOT NULL,
    updated_at  TEXT NOT NULL
);

CREATE UNIQUE INDEX network_security_group_default ON network_security_group (project_id) WHERE is_default = 1;

CREATE INDEX network_security_group_project ON network_security_group (project_id);

CREATE TABLE network_security_group_rule (
    id                TEXT PRIMARY KEY,
    security_group_id TEXT NOT NULL REFERENCES network_security_group (id) ON DELETE CASCADE,
    project_id        TEXT NOT NULL,
    description       TEXT NOT NULL,
    direction         TEXT NOT NULL,
    ethertype         TEXT NOT NULL,
    protocol          TEXT,
    port_range_min    INTEGER,
    port_range_max    INTEGER,
    remote_ip_prefix  TEXT,
    remote_group_id   TEXT REFERENCES network_security_group (id) ON DELETE CASCADE,
    revision          INTEGER NOT NULL,
    created_at        TEXT NOT NULL,
    updated_at        TEXT NOT NULL
);

CREATE INDEX network_security_group_rule_group ON network_security_group_rule (security_group_id);

CREATE INDEX network_security_group_rule_project ON network_security_group_rule (project_id);

CREATE INDEX network_security_group_rule_remote ON network_security_group_rule (remote_group_id);

CREATE TABLE network_subnet (
    id                TEXT PRIMARY KEY,
    network_id        TEXT NOT NULL REFERENCES network_network (id) ON DELETE CASCADE,
    project_id        TEXT NOT NULL,
    name              TEXT NOT NULL,
    description       TEXT NOT NULL,
    ip_version        INTEGER NOT NULL,
    cidr              TEXT NOT NULL,
    gateway_ip        TEXT,
    enable_dhcp       INTEGER NOT NULL,
    ipv6_ra_mode      TEXT,
    ipv6_address_mode TEXT,
    allocation_pools  TEXT NOT NULL,       -- JSON [{"start":..,"end":..}]
    dns_nameservers   TEXT NOT NULL,       -- JSON list of addresses
    host_routes       TEXT NOT NULL,       -- JSON [{"destination":..,"nexthop":..}]
    service_types     TEXT NOT NULL,       -- JSON list of device owners
    subnet_pool_id    TEXT REFERENCES network_subnet_pool (id),
    revision          INTEGER NOT NULL,
    created_at        TEXT NOT NULL,
    updated_at        TEXT NOT NULL
);

CREATE INDEX network_subnet_network ON network_subnet (network_id);

CREATE INDEX network_subnet_pool_id ON network_subnet (subnet_pool_id);

CREATE INDEX network_subnet_project ON network_subnet (project_id);

CREATE TABLE network_subnet_pool (
    id                TEXT PRIMARY KEY,
    project_id        TEXT NOT NULL,
    name              TEXT NOT NULL,
    description       TEXT NOT NULL,
    ip_version        INTEGER NOT NULL,
    prefixes          TEXT NOT NULL,       -- JSON list of CIDRs
    default_prefixlen INTEGER NOT NULL,
    min_prefixlen     INTEGER NOT NULL,
    max_prefixlen     INTEGER NOT NULL,
    default_quota     INTEGER,
    shared            INTEGER NOT NULL,
    is_default        INTEGER NOT NULL,
    revision          INTEGER NOT NULL,
    created_at        TEXT NOT NULL,
    updated_at        TEXT NOT NULL
);

CREATE TABLE network_tag (
    resource_id TEXT NOT NULL,
    tag         TEXT NOT NULL,
    PRIMARY KEY (resource_id, tag)
);

CREATE TABLE placement_aggregate (
    provider_id    INTEGER NOT NULL REFERENCES placement_provider (id) ON DELETE CASCADE,
    aggregate_uuid TEXT NOT NULL,
    PRIMARY KEY (provider_id, aggregate_uuid)
);

CREATE INDEX placement_aggregate_uuid ON placement_aggregate (aggregate_uuid, provider_id);

CREATE TABLE placement_allocation (
    consumer_id INTEGER NOT NULL REFERENCES placement_consumer (id) ON DELETE CASCADE,
    provider_id INTEGER NOT NULL REFERENCES placement_provider (id),
    class_id    INTEGER NOT NULL REFERENCES placement_resource_class (id),
    used        INTEGER NOT NULL CHECK (used > 0),
    PRIMARY KEY (consumer_id, provider_id, class_id)
);

CREATE INDEX placement_allocation_class ON placement_allocation (class_id);

CREATE INDEX placement_allocation_provider ON placement_allocation (provider_id, class_id, used);

CREATE TABLE placement_consumer (
    id            INTEGER PRIMARY KEY,
    uuid          TEXT NOT NULL UNIQUE,
    generation    INTEGER NOT NULL,
    project_id    TEXT NOT NULL,
    user_id       TEXT NOT NULL,
    consumer_type TEXT,                     -- null: made before microversion 1.38, shown as "unknown"
    created_at    TEXT NOT NULL,
    updated_at    TEXT NOT NULL
);

CREATE INDEX placement_consumer_owner ON placement_consumer (project_id, user_id);

CREATE TABLE placement_inventory (
    provider_id      INTEGER NOT NULL REFERENCES placement_provider (id) ON DELETE CASCADE,
    class_id         INTEGER NOT NULL REFERENCES placement_resource_class (id),
    total            INTEGER NOT NULL,
    reserved         INTEGER NOT NULL,
    min_unit         INTEGER NOT NULL,
    max_unit         INTEGER NOT NULL,
    step_size        INTEGER NOT NULL,
    allocation_ratio REAL NOT NULL,
    PRIMARY KEY (provider_id, class_id)
);

CREATE INDEX placement_inventory_class ON placement_inventory (class_id, provider_id);

CREATE TABLE placement_provider (
    id         INTEGER PRIMARY KEY,
    uuid       TEXT NOT NULL UNIQUE,
    name       TEXT NOT NULL UNIQUE,
    generation INTEGER NOT NULL,
    parent_id  INTEGER REFERENCES placement_provider (id),
    root_id    INTEGER NOT NULL REFERENCES placement_provider (id),
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL                -- moves with the generation too
);

CREATE INDEX placement_provider_parent ON placement_provider (parent_id);

CREATE INDEX placement_provider_root ON placement_provider (root_id);

CREATE TABLE placement_provider_trait (
    provider_id INTEGER NOT NULL REFERENCES placement_provider (id) ON DELETE CASCADE,
    trait_id    INTEGER NOT NULL REFERENCES placement_trait (id),
    PRIMARY KEY (provider_id, trait_id)
);

CREATE INDEX placement_provider_trait_trait ON placement_provider_trait (trait_id, provider_id);

CREATE TABLE placement_resource_class (
    id         INTEGER PRIMARY KEY,         -- standard ones below 10000
    name       TEXT NOT NULL UNIQUE,
    updated_at TEXT NOT NULL
);

CREATE TABLE placement_trait (
    id         INTEGER PRIMARY KEY,         -- standard ones below 10000
    name       TEXT NOT NULL UNIQUE,
    updated_at TEXT NOT NULL
);

CREATE TABLE sqlite_sequence(name,seq);

CREATE TABLE system_claim (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    code_hash TEXT,                        -- SHA-256, hexadecimal; null until the first code is made
    wrong     INTEGER NOT NULL,            -- wrong codes since this one was made
    made_at   TEXT NOT NULL
);

CREATE TABLE system_probe (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    at TEXT NOT NULL
);

CREATE TABLE tasks_event (
    id          INTEGER PRIMARY KEY,
    generation  INTEGER NOT NULL REFERENCES tasks_log (generation) ON DELETE CASCADE,
    name        TEXT NOT NULL,
    started_at  TEXT NOT NULL,
    finished_at TEXT NOT NULL,
    result      TEXT NOT NULL,              -- Success or Error, Nova's own words
    message     TEXT
);

CREATE INDEX tasks_event_generation ON tasks_event (generation, id);

CREATE TABLE tasks_log (
    generation  INTEGER PRIMARY KEY,
    resource    TEXT NOT NULL,
    kind        TEXT NOT NULL,
    action      TEXT NOT NULL,
    request_id  TEXT NOT NULL,
    user_id     TEXT,
    project_id  TEXT,
    started_at  TEXT NOT NULL,
    updated_at  TEXT NOT NULL,
    result      TEXT,                       -- null while running, then success, error, superseded
    message     TEXT
);

CREATE INDEX tasks_log_resource ON tasks_log (resource, generation);

CREATE TABLE tasks_sequence (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    value INTEGER NOT NULL
);

CREATE TABLE tasks_task (
    resource      TEXT PRIMARY KEY,
    generation    INTEGER NOT NULL UNIQUE,  -- from tasks_sequence, never used twice
    kind          TEXT NOT NULL,
    action        TEXT NOT NULL,            -- the word shown to users, as in os-instance-actions
    state         TEXT NOT NULL,            -- JSON of the operation's enum
    attempt       INTEGER NOT NULL,
    not_before_ms INTEGER NOT NULL,
    request_id    TEXT NOT NULL,
    user_id       TEXT,
    project_id    TEXT,
    started_at    TEXT NOT NULL
);

CREATE INDEX tasks_task_due ON tasks_task (not_before_ms);

CREATE TABLE web_session (
    id         TEXT PRIMARY KEY,
    sealed     BLOB NOT NULL,
    flash      TEXT,
    used_at    TEXT NOT NULL,
    expires_at TEXT NOT NULL
);

CREATE INDEX web_session_expires ON web_session (expires_at);

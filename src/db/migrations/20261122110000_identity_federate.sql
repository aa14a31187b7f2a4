-- Identity: federation, configuration of domains, endpoint policies.

CREATE TABLE identity_provider (
    id                TEXT PRIMARY KEY,
    domain_id         TEXT NOT NULL REFERENCES identity_project (id) ON DELETE CASCADE,
    enabled           INTEGER NOT NULL,
    description       TEXT,
    authorization_ttl INTEGER                   -- minutes that group memberships outlive a login; null: the token only
);
CREATE INDEX identity_provider_domain ON identity_provider (domain_id);

-- What the provider calls itself: an issuer, an entity id.
CREATE TABLE identity_provider_remote_id (
    remote_id   TEXT PRIMARY KEY,
    provider_id TEXT NOT NULL REFERENCES identity_provider (id) ON DELETE CASCADE
);
CREATE INDEX identity_provider_remote_id_provider ON identity_provider_remote_id (provider_id);

CREATE TABLE identity_mapping (
    id             TEXT PRIMARY KEY,
    rules          TEXT NOT NULL,               -- JSON
    schema_version TEXT NOT NULL
);

CREATE TABLE identity_protocol (
    id                  TEXT NOT NULL,
    provider_id         TEXT NOT NULL REFERENCES identity_provider (id) ON DELETE CASCADE,
    mapping_id          TEXT NOT NULL REFERENCES identity_mapping (id),
    remote_id_attribute TEXT,
    PRIMARY KEY (provider_id, id)
);
CREATE INDEX identity_protocol_mapping ON identity_protocol (mapping_id);

CREATE TABLE identity_service_provider (
    id                 TEXT PRIMARY KEY,
    auth_url           TEXT NOT NULL,
    sp_url             TEXT NOT NULL,
    description        TEXT,
    enabled            INTEGER NOT NULL,
    relay_state_prefix TEXT NOT NULL
);

-- One option of a domain's own configuration.
CREATE TABLE identity_domain_option (
    domain_id TEXT NOT NULL REFERENCES identity_project (id) ON DELETE CASCADE,
    section   TEXT NOT NULL,
    name      TEXT NOT NULL,
    value     TEXT NOT NULL,                    -- JSON; encrypted where the option is a secret
    PRIMARY KEY (domain_id, section, name)
);

-- Which stored policy belongs to an endpoint, to a service, or to a service in a region.
CREATE TABLE identity_policy_association (
    policy_id   TEXT NOT NULL REFERENCES identity_policy (id) ON DELETE CASCADE,
    endpoint_id TEXT REFERENCES identity_endpoint (id) ON DELETE CASCADE,
    service_id  TEXT REFERENCES identity_service (id) ON DELETE CASCADE,
    region_id   TEXT REFERENCES identity_region (id) ON DELETE CASCADE,
    CHECK ((endpoint_id IS NULL) <> (service_id IS NULL)),
    CHECK (region_id IS NULL OR service_id IS NOT NULL)
);
CREATE UNIQUE INDEX identity_policy_association_once ON identity_policy_association
    (ifnull(endpoint_id, ''), ifnull(service_id, ''), ifnull(region_id, ''));
CREATE INDEX identity_policy_association_policy ON identity_policy_association (policy_id);
CREATE INDEX identity_policy_association_endpoint ON identity_policy_association (endpoint_id);
CREATE INDEX identity_policy_association_service ON identity_policy_association (service_id);
CREATE INDEX identity_policy_association_region ON identity_policy_association (region_id);

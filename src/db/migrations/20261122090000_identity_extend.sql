-- Identity: trusts, stored policies, endpoint filters, unified limits.

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
CREATE INDEX identity_trust_trustor ON identity_trust (trustor_user_id);
CREATE INDEX identity_trust_trustee ON identity_trust (trustee_user_id);
CREATE INDEX identity_trust_project ON identity_trust (project_id);
CREATE INDEX identity_trust_redelegated ON identity_trust (redelegated_trust_id);

CREATE TABLE identity_trust_role (
    trust_id TEXT NOT NULL REFERENCES identity_trust (id) ON DELETE CASCADE,
    role_id  TEXT NOT NULL,                     -- no reference: a deleted role voids the trust
    PRIMARY KEY (trust_id, role_id)
);

-- Policy documents that a client keeps here; nothing reads them.
CREATE TABLE identity_policy (
    id    TEXT PRIMARY KEY,
    type  TEXT NOT NULL,
    blob  TEXT NOT NULL,                        -- JSON
    extra TEXT NOT NULL DEFAULT '{}'
);

CREATE TABLE identity_endpoint_group (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    description TEXT,
    filters     TEXT NOT NULL                   -- JSON object: interface, service_id, region_id, enabled
);

-- A project with rows in either table sees only those endpoints in its catalog.
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

CREATE TABLE identity_limit (
    id                  TEXT PRIMARY KEY,
    registered_limit_id TEXT NOT NULL REFERENCES identity_registered_limit (id),
    project_id          TEXT REFERENCES identity_project (id) ON DELETE CASCADE,
    domain_id           TEXT REFERENCES identity_project (id) ON DELETE CASCADE,
    resource_limit      INTEGER NOT NULL,
    description         TEXT,
    CHECK ((project_id IS NULL) <> (domain_id IS NULL))
);
CREATE UNIQUE INDEX identity_limit_once ON identity_limit
    (registered_limit_id, ifnull(project_id, ''), ifnull(domain_id, ''));
CREATE INDEX identity_limit_project ON identity_limit (project_id);
CREATE INDEX identity_limit_domain ON identity_limit (domain_id);

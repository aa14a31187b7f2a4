-- Identity: who there is, what they may do, and where the services are.


-- Domains are the rows with is_domain = 1: they have neither a domain nor a parent.
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

CREATE TABLE identity_project_tag (
    project_id TEXT NOT NULL REFERENCES identity_project (id) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    PRIMARY KEY (project_id, name)
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
    created_at          TEXT NOT NULL,
    UNIQUE (domain_id, name)
);
CREATE INDEX identity_user_default_project ON identity_user (default_project_id);

CREATE TABLE identity_group (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    domain_id   TEXT NOT NULL REFERENCES identity_project (id) ON DELETE CASCADE,
    description TEXT NOT NULL DEFAULT '',
    extra       TEXT NOT NULL DEFAULT '{}',
    UNIQUE (domain_id, name)
);

CREATE TABLE identity_membership (
    user_id  TEXT NOT NULL REFERENCES identity_user (id) ON DELETE CASCADE,
    group_id TEXT NOT NULL REFERENCES identity_group (id) ON DELETE CASCADE,
    PRIMARY KEY (user_id, group_id)
);
CREATE INDEX identity_membership_group ON identity_membership (group_id);

CREATE TABLE identity_role (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    domain_id   TEXT REFERENCES identity_project (id) ON DELETE CASCADE,  -- null: a role of the whole cloud
    description TEXT,
    options     TEXT NOT NULL DEFAULT '{}',
    extra       TEXT NOT NULL DEFAULT '{}'
);
CREATE UNIQUE INDEX identity_role_name ON identity_role (ifnull(domain_id, ''), name);

CREATE TABLE identity_implied_role (
    prior_id   TEXT NOT NULL REFERENCES identity_role (id) ON DELETE CASCADE,
    implied_id TEXT NOT NULL REFERENCES identity_role (id) ON DELETE CASCADE,
    PRIMARY KEY (prior_id, implied_id)
);
CREATE INDEX identity_implied_role_implied ON identity_implied_role (implied_id);

-- One actor, one target. `inherited` on a domain or project acts on the projects below, not on itself.
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
CREATE UNIQUE INDEX identity_assignment_once ON identity_assignment
    (role_id, ifnull(user_id, ''), ifnull(group_id, ''), target, ifnull(target_id, ''), inherited);
CREATE INDEX identity_assignment_user ON identity_assignment (user_id);
CREATE INDEX identity_assignment_group ON identity_assignment (group_id);
CREATE INDEX identity_assignment_target ON identity_assignment (target_id);

-- A revoked token by its audit id; `chain` voids everything rescoped from it too. Kept until the token would have expired.
CREATE TABLE identity_revocation (
    audit_id   TEXT PRIMARY KEY,
    chain      INTEGER NOT NULL,
    revoked_at TEXT NOT NULL,
    expires_s  INTEGER NOT NULL    -- seconds since 1970
);
CREATE INDEX identity_revocation_expires ON identity_revocation (expires_s);

CREATE TABLE identity_region (
    id          TEXT PRIMARY KEY,
    parent_id   TEXT REFERENCES identity_region (id) ON DELETE CASCADE,
    description TEXT NOT NULL DEFAULT '',
    extra       TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX identity_region_parent ON identity_region (parent_id);

CREATE TABLE identity_service (
    id          TEXT PRIMARY KEY,
    type        TEXT NOT NULL,
    name        TEXT NOT NULL DEFAULT '',
    enabled     INTEGER NOT NULL DEFAULT 1,
    extra       TEXT NOT NULL DEFAULT '{}'
);

-- `$(base_url)s` in a url stands for the address that the client used.
CREATE TABLE identity_endpoint (
    id         TEXT PRIMARY KEY,
    service_id TEXT NOT NULL REFERENCES identity_service (id) ON DELETE CASCADE,
    region_id  TEXT REFERENCES identity_region (id),
    interface  TEXT NOT NULL,
    url        TEXT NOT NULL,
    enabled    INTEGER NOT NULL DEFAULT 1,
    extra      TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX identity_endpoint_service ON identity_endpoint (service_id);
CREATE INDEX identity_endpoint_region ON identity_endpoint (region_id);

-- `blob` is encrypted with the credential keys.
CREATE TABLE identity_credential (
    id         TEXT PRIMARY KEY,
    user_id    TEXT NOT NULL REFERENCES identity_user (id) ON DELETE CASCADE,
    project_id TEXT REFERENCES identity_project (id) ON DELETE CASCADE,
    type       TEXT NOT NULL,
    blob       TEXT NOT NULL,
    extra      TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX identity_credential_user ON identity_credential (user_id);

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

CREATE TABLE identity_access_rule (
    id      TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES identity_user (id) ON DELETE CASCADE,
    service TEXT NOT NULL,
    method  TEXT NOT NULL,
    path    TEXT NOT NULL,
    UNIQUE (user_id, service, method, path)
);

CREATE TABLE identity_application_credential_rule (
    application_credential_id TEXT NOT NULL REFERENCES identity_application_credential (id) ON DELETE CASCADE,
    access_rule_id            TEXT NOT NULL REFERENCES identity_access_rule (id),
    PRIMARY KEY (application_credential_id, access_rule_id)
);
CREATE INDEX identity_application_credential_rule_rule ON identity_application_credential_rule (access_rule_id);

-- What bootstrap has made, so that it makes nothing twice and nothing that was taken away on purpose.
CREATE TABLE identity_bootstrap (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- Identity: users whom identity providers vouch for.

ALTER TABLE identity_user ADD COLUMN shadow INTEGER NOT NULL DEFAULT 0;  -- 1: made by a login through an identity provider

-- What a user is called at a provider. With a protocol go the names that it gave.
CREATE TABLE identity_federated (
    user_id     TEXT NOT NULL REFERENCES identity_user (id) ON DELETE CASCADE,
    provider_id TEXT NOT NULL,
    protocol_id TEXT NOT NULL,
    unique_id   TEXT NOT NULL,
    PRIMARY KEY (provider_id, protocol_id, unique_id),
    FOREIGN KEY (provider_id, protocol_id) REFERENCES identity_protocol (provider_id, id) ON DELETE CASCADE
);
CREATE INDEX identity_federated_user ON identity_federated (user_id);

-- Groups of a user's last login, for as long as the provider's authorization_ttl says.
CREATE TABLE identity_expiring_membership (
    user_id     TEXT NOT NULL REFERENCES identity_user (id) ON DELETE CASCADE,
    group_id    TEXT NOT NULL REFERENCES identity_group (id) ON DELETE CASCADE,
    provider_id TEXT NOT NULL REFERENCES identity_provider (id) ON DELETE CASCADE,
    expires_at  TEXT NOT NULL,
    PRIMARY KEY (user_id, group_id, provider_id)
);
CREATE INDEX identity_expiring_membership_group ON identity_expiring_membership (group_id);
CREATE INDEX identity_expiring_membership_provider ON identity_expiring_membership (provider_id);

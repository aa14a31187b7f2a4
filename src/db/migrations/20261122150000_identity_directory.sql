-- Identity: users and groups that a domain's directory server (LDAP) has. Rows are what was last seen of them.

ALTER TABLE identity_user ADD COLUMN local_id TEXT;                     -- the id there; null: a user of this cloud's own
ALTER TABLE identity_user ADD COLUMN gone INTEGER NOT NULL DEFAULT 0;   -- no longer there: hidden, disabled, roles kept
ALTER TABLE identity_group ADD COLUMN local_id TEXT;
ALTER TABLE identity_group ADD COLUMN gone INTEGER NOT NULL DEFAULT 0;

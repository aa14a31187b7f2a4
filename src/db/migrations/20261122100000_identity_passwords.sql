-- Identity: age, origin and history of passwords, and when a user was last seen.

ALTER TABLE identity_user ADD COLUMN password_created_at TEXT;
ALTER TABLE identity_user ADD COLUMN password_self_service INTEGER NOT NULL DEFAULT 0;  -- chosen by the user, not set by an administrator
ALTER TABLE identity_user ADD COLUMN last_active_on TEXT;                               -- a date; written only when it matters

-- Passwords that were replaced, newest last; as many as the configuration asks for.
CREATE TABLE identity_password_history (
    id      INTEGER PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES identity_user (id) ON DELETE CASCADE,
    hash    TEXT NOT NULL
);
CREATE INDEX identity_password_history_user ON identity_password_history (user_id);

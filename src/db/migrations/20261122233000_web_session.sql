-- Sessions of the dashboard, made at sign-in. `id` is a hash of the cookie, `sealed` (token and who it is of) can be opened
-- with the cookie alone, so that this file gives nobody a token.
CREATE TABLE web_session (
    id         TEXT PRIMARY KEY,
    sealed     BLOB NOT NULL,
    flash      TEXT,
    used_at    TEXT NOT NULL,
    expires_at TEXT NOT NULL
);
CREATE INDEX web_session_expires ON web_session (expires_at);

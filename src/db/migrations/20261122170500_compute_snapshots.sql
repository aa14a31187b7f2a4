-- Servers that run from a rescue disk.
CREATE TABLE compute_server_rescue (
    server_id TEXT PRIMARY KEY REFERENCES compute_server (id) ON DELETE CASCADE,
    image_id  TEXT NOT NULL,
    stable    INTEGER NOT NULL           -- the server's own disks keep their places
);
-- The snapshots of servers that are shelved, or on the way there or back.
CREATE TABLE compute_server_shelf (
    server_id  TEXT PRIMARY KEY REFERENCES compute_server (id) ON DELETE CASCADE,
    image_id   TEXT NOT NULL,
    shelved_at TEXT NOT NULL
);
-- What may be connected to a console, once. The tokens themselves are nowhere.
CREATE TABLE compute_console_token (
    token_hash TEXT PRIMARY KEY,          -- SHA-256, hexadecimal
    server_id  TEXT NOT NULL REFERENCES compute_server (id) ON DELETE CASCADE,
    console    TEXT NOT NULL,             -- novnc serial
    expires_at TEXT NOT NULL
);
CREATE INDEX compute_console_token_server ON compute_console_token (server_id);
CREATE INDEX compute_console_token_expiry ON compute_console_token (expires_at);

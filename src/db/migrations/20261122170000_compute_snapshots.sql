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

-- Resizes, running and ended. No reference to the server: the rows outlive it, as upstream's do.
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
CREATE INDEX compute_migration_server ON compute_migration (server_id, id);
CREATE INDEX compute_migration_created ON compute_migration (created_at, id);
-- The administrator's password of a guest, as it has encrypted and posted it.
CREATE TABLE compute_server_password (
    server_id TEXT PRIMARY KEY REFERENCES compute_server (id) ON DELETE CASCADE,
    password  TEXT NOT NULL
);

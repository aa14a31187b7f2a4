-- Host aggregates. There is one host, so each has it or has it not.
CREATE TABLE compute_aggregate (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid       TEXT NOT NULL UNIQUE,
    name       TEXT NOT NULL UNIQUE,
    has_host   INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT
);
CREATE TABLE compute_aggregate_metadata (
    aggregate_id INTEGER NOT NULL REFERENCES compute_aggregate (id) ON DELETE CASCADE,
    key          TEXT NOT NULL,
    value        TEXT NOT NULL,
    PRIMARY KEY (aggregate_id, key)
);

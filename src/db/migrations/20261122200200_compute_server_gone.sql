-- What deleted servers were, for as long as the configuration says.
CREATE TABLE compute_server_gone (
    id            TEXT PRIMARY KEY,
    project_id    TEXT NOT NULL,
    created_at    TEXT NOT NULL,
    updated_at    TEXT NOT NULL,
    launched_at   TEXT,
    terminated_at TEXT NOT NULL,
    tags          TEXT NOT NULL,       -- JSON list
    document      TEXT NOT NULL        -- JSON: the server as it was last
);
CREATE INDEX compute_server_gone_project ON compute_server_gone (project_id, terminated_at);
CREATE INDEX compute_server_gone_terminated ON compute_server_gone (terminated_at, id);
CREATE INDEX compute_server_gone_updated ON compute_server_gone (updated_at, id);

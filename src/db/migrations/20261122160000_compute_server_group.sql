CREATE TABLE compute_server_group (
    id                  TEXT PRIMARY KEY,
    project_id          TEXT NOT NULL,
    user_id             TEXT NOT NULL,
    name                TEXT NOT NULL,
    policy              TEXT NOT NULL,
    max_server_per_host INTEGER,
    created_at          TEXT NOT NULL
);
CREATE INDEX compute_server_group_project ON compute_server_group (project_id, created_at, id);
CREATE TABLE compute_server_group_member (
    server_id TEXT PRIMARY KEY REFERENCES compute_server (id) ON DELETE CASCADE,
    group_id  TEXT NOT NULL REFERENCES compute_server_group (id) ON DELETE CASCADE
);
CREATE INDEX compute_server_group_member_group ON compute_server_group_member (group_id);

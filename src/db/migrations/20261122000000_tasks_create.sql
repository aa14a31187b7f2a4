-- Durable operations (crate `tasks`): at most one running per resource.
CREATE TABLE tasks_sequence (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    value INTEGER NOT NULL
);
INSERT INTO tasks_sequence (id, value) VALUES (1, 0);

CREATE TABLE tasks_task (
    resource      TEXT PRIMARY KEY,
    generation    INTEGER NOT NULL UNIQUE,  -- from tasks_sequence, never used twice
    kind          TEXT NOT NULL,
    action        TEXT NOT NULL,            -- the word shown to users, as in os-instance-actions
    state         TEXT NOT NULL,            -- JSON of the operation's enum
    attempt       INTEGER NOT NULL,
    not_before_ms INTEGER NOT NULL,
    request_id    TEXT NOT NULL,
    user_id       TEXT,
    project_id    TEXT,
    started_at    TEXT NOT NULL
);
CREATE INDEX tasks_task_due ON tasks_task (not_before_ms);

-- Every operation that ever started, running ones included.
CREATE TABLE tasks_log (
    generation  INTEGER PRIMARY KEY,
    resource    TEXT NOT NULL,
    kind        TEXT NOT NULL,
    action      TEXT NOT NULL,
    request_id  TEXT NOT NULL,
    user_id     TEXT,
    project_id  TEXT,
    started_at  TEXT NOT NULL,
    updated_at  TEXT NOT NULL,
    result      TEXT,                       -- null while running, then success, error, superseded
    message     TEXT
);
CREATE INDEX tasks_log_resource ON tasks_log (resource, generation);

CREATE TABLE tasks_event (
    id          INTEGER PRIMARY KEY,
    generation  INTEGER NOT NULL REFERENCES tasks_log (generation) ON DELETE CASCADE,
    name        TEXT NOT NULL,
    started_at  TEXT NOT NULL,
    finished_at TEXT NOT NULL,
    result      TEXT NOT NULL,              -- Success or Error, Nova's own words
    message     TEXT
);
CREATE INDEX tasks_event_generation ON tasks_event (generation, id);

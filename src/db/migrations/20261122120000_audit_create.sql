-- Every call that may have changed something, and every authentication. The newest are kept.
CREATE TABLE audit_event (
    id         INTEGER PRIMARY KEY,
    at         TEXT NOT NULL,
    service    TEXT NOT NULL,
    request_id TEXT NOT NULL,
    method     TEXT NOT NULL,
    path       TEXT NOT NULL,
    status     INTEGER NOT NULL,
    peer       TEXT NOT NULL,
    user_id    TEXT,
    project_id TEXT,
    domain_id  TEXT,
    system     INTEGER NOT NULL,
    audit_id   TEXT
);
CREATE INDEX audit_event_at ON audit_event (at);
CREATE INDEX audit_event_user ON audit_event (user_id);

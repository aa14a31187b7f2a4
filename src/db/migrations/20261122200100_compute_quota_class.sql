-- Limits of a quota class: `default` is what every project starts from.
CREATE TABLE compute_quota_class (
    class      TEXT NOT NULL,
    resource   TEXT NOT NULL,
    hard_limit INTEGER NOT NULL,
    PRIMARY KEY (class, resource)
);
-- A user's own limits within a project.
CREATE TABLE compute_quota_user (
    project_id TEXT NOT NULL,
    user_id    TEXT NOT NULL,
    resource   TEXT NOT NULL,
    hard_limit INTEGER NOT NULL,
    PRIMARY KEY (project_id, user_id, resource)
);

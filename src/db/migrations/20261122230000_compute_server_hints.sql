ALTER TABLE compute_server ADD COLUMN locked_reason TEXT;
ALTER TABLE compute_server ADD COLUMN scheduler_hints TEXT NOT NULL DEFAULT '{}'; -- JSON object, as sent

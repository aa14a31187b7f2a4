-- What a probe writes to see that the writer writes: one row.
CREATE TABLE system_probe (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    at TEXT NOT NULL
);

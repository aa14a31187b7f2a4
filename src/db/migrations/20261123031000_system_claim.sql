-- There is a row while nobody has claimed this cloud: whoever says the code chooses the administrator's password.
CREATE TABLE system_claim (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    code_hash TEXT,                        -- SHA-256, hexadecimal; null until the first code is made
    wrong     INTEGER NOT NULL,            -- wrong codes since this one was made
    made_at   TEXT NOT NULL
);

-- Identity: applications that OS-OAUTH1 knows.

CREATE TABLE identity_oauth1_consumer (
    id          TEXT PRIMARY KEY,
    description TEXT,
    secret      TEXT NOT NULL,                  -- encrypted: signatures (RFC 5849) are made with it in clear
    extra       TEXT NOT NULL DEFAULT '{}'
);

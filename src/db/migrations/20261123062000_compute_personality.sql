-- Files that a server is given with its config drive (microversions before 2.57).
CREATE TABLE compute_server_file (
    server_id TEXT NOT NULL REFERENCES compute_server (id) ON DELETE CASCADE,
    position  INTEGER NOT NULL,
    path      TEXT NOT NULL,
    contents  BLOB NOT NULL,
    PRIMARY KEY (server_id, position)
);

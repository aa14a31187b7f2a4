-- CPUs of the host that are a server's own (hw:cpu_policy=dedicated), one for each of its virtual CPUs.
CREATE TABLE compute_server_cpu (
    cpu       INTEGER PRIMARY KEY,
    server_id TEXT NOT NULL REFERENCES compute_server (id) ON DELETE CASCADE,
    vcpu      INTEGER NOT NULL,
    UNIQUE (server_id, vcpu)
);

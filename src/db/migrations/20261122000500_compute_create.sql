CREATE TABLE compute_flavor (
    id            TEXT PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE,
    vcpus         INTEGER NOT NULL,
    ram_mib       INTEGER NOT NULL,
    disk_gib      INTEGER NOT NULL,
    ephemeral_gib INTEGER NOT NULL,
    swap_mib      INTEGER NOT NULL,
    rxtx_factor   REAL NOT NULL,
    is_public     INTEGER NOT NULL,
    disabled      INTEGER NOT NULL,
    description   TEXT,
    created_at    TEXT NOT NULL
);
CREATE TABLE compute_flavor_extra_spec (
    flavor_id TEXT NOT NULL REFERENCES compute_flavor (id) ON DELETE CASCADE,
    key       TEXT NOT NULL,
    value     TEXT NOT NULL,
    PRIMARY KEY (flavor_id, key)
);
CREATE TABLE compute_flavor_access (
    flavor_id  TEXT NOT NULL REFERENCES compute_flavor (id) ON DELETE CASCADE,
    project_id TEXT NOT NULL,
    PRIMARY KEY (flavor_id, project_id)
);
-- The sizes that every OpenStack user knows, and one for very small guests.
INSERT INTO compute_flavor (id, name, vcpus, ram_mib, disk_gib, ephemeral_gib, swap_mib, rxtx_factor, is_public, disabled, created_at) VALUES
    ('42', 'm1.nano',   1,   128,   1, 0, 0, 1.0, 1, 0, '2026-01-01T00:00:00.000000Z'),
    ('1',  'm1.tiny',   1,   512,   1, 0, 0, 1.0, 1, 0, '2026-01-01T00:00:00.000000Z'),
    ('2',  'm1.small',  1,  2048,  20, 0, 0, 1.0, 1, 0, '2026-01-01T00:00:00.000000Z'),
    ('3',  'm1.medium', 2,  4096,  40, 0, 0, 1.0, 1, 0, '2026-01-01T00:00:00.000000Z'),
    ('4',  'm1.large',  4,  8192,  80, 0, 0, 1.0, 1, 0, '2026-01-01T00:00:00.000000Z'),
    ('5',  'm1.xlarge', 8, 16384, 160, 0, 0, 1.0, 1, 0, '2026-01-01T00:00:00.000000Z');

CREATE TABLE compute_keypair (
    id          INTEGER PRIMARY KEY,
    user_id     TEXT NOT NULL,
    name        TEXT NOT NULL,
    type        TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    public_key  TEXT NOT NULL,
    created_at  TEXT NOT NULL,
    UNIQUE (user_id, name)
);

CREATE TABLE compute_server (
    id                TEXT PRIMARY KEY,
    project_id        TEXT NOT NULL,
    user_id           TEXT NOT NULL,
    name              TEXT NOT NULL,
    hostname          TEXT NOT NULL,
    description       TEXT,
    vm_state          TEXT NOT NULL,
    task_state        TEXT,
    power_state       INTEGER NOT NULL,
    locked_by         TEXT,                -- admin or owner
    image_id          TEXT,
    image_properties  TEXT NOT NULL,       -- JSON, as the image had them when the server was made
    flavor_id         TEXT NOT NULL,
    flavor            TEXT NOT NULL,       -- JSON: the flavor as it was when the server was made
    root_gib          INTEGER NOT NULL,
    vcpus             INTEGER NOT NULL,
    ram_mib           INTEGER NOT NULL,
    key_name          TEXT,
    public_key        TEXT,
    key_type          TEXT,
    user_data         TEXT,                -- base64, as sent
    config_drive      INTEGER NOT NULL,
    metadata          TEXT NOT NULL,       -- JSON object
    access_ipv4       TEXT NOT NULL,
    access_ipv6       TEXT NOT NULL,
    disk_config       TEXT NOT NULL,
    availability_zone TEXT,
    reservation_id    TEXT NOT NULL,
    launch_index      INTEGER NOT NULL,
    run_as            INTEGER NOT NULL UNIQUE, -- user id of its VM process
    fault             TEXT,                -- JSON: code, message, details, created
    created_at        TEXT NOT NULL,
    updated_at        TEXT NOT NULL,
    launched_at       TEXT
);
CREATE INDEX compute_server_project ON compute_server (project_id, created_at, id);
CREATE INDEX compute_server_created ON compute_server (created_at, id);

CREATE TABLE compute_server_tag (
    server_id TEXT NOT NULL REFERENCES compute_server (id) ON DELETE CASCADE,
    tag       TEXT NOT NULL,
    PRIMARY KEY (server_id, tag)
);
-- The networks a server was asked to have, in order; the ports themselves belong to Network.
CREATE TABLE compute_server_nic (
    port_id   TEXT PRIMARY KEY,
    server_id TEXT NOT NULL REFERENCES compute_server (id) ON DELETE CASCADE,
    position  INTEGER NOT NULL,
    tag       TEXT
);
CREATE INDEX compute_server_nic_server ON compute_server_nic (server_id, position);

-- A project's own limits; what is not here has the default.
CREATE TABLE compute_quota (
    project_id TEXT NOT NULL,
    resource   TEXT NOT NULL,
    hard_limit INTEGER NOT NULL,
    PRIMARY KEY (project_id, resource)
);

-- os-services: what an operator said about this machine's services.
CREATE TABLE compute_service (
    id              INTEGER PRIMARY KEY,
    uuid            TEXT NOT NULL UNIQUE,
    binary          TEXT NOT NULL UNIQUE,
    zone            TEXT NOT NULL,
    disabled        INTEGER NOT NULL,
    disabled_reason TEXT,
    forced_down     INTEGER NOT NULL
);

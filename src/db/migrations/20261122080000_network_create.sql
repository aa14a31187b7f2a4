-- The Network service. Lists inside a row (pools, routes, options) are JSON: they are only ever read and written whole.
CREATE TABLE network_network (
    id                    TEXT PRIMARY KEY,
    project_id            TEXT NOT NULL,
    name                  TEXT NOT NULL,
    description           TEXT NOT NULL,
    admin_state_up        INTEGER NOT NULL,
    shared                INTEGER NOT NULL,
    external              INTEGER NOT NULL,
    is_default            INTEGER NOT NULL,
    mtu                   INTEGER NOT NULL,
    port_security_enabled INTEGER NOT NULL,
    dns_domain            TEXT NOT NULL,
    provider_type         TEXT NOT NULL,   -- local or flat
    provider_physical     TEXT UNIQUE,
    problem               TEXT,            -- why the kernel does not have it as it should be
    revision              INTEGER NOT NULL,
    created_at            TEXT NOT NULL,
    updated_at            TEXT NOT NULL
);
CREATE INDEX network_network_project ON network_network (project_id);

CREATE TABLE network_subnet_pool (
    id                TEXT PRIMARY KEY,
    project_id        TEXT NOT NULL,
    name              TEXT NOT NULL,
    description       TEXT NOT NULL,
    ip_version        INTEGER NOT NULL,
    prefixes          TEXT NOT NULL,       -- JSON list of CIDRs
    default_prefixlen INTEGER NOT NULL,
    min_prefixlen     INTEGER NOT NULL,
    max_prefixlen     INTEGER NOT NULL,
    default_quota     INTEGER,
    shared            INTEGER NOT NULL,
    is_default        INTEGER NOT NULL,
    revision          INTEGER NOT NULL,
    created_at        TEXT NOT NULL,
    updated_at        TEXT NOT NULL
);

CREATE TABLE network_subnet (
    id                TEXT PRIMARY KEY,
    network_id        TEXT NOT NULL REFERENCES network_network (id) ON DELETE CASCADE,
    project_id        TEXT NOT NULL,
    name              TEXT NOT NULL,
    description       TEXT NOT NULL,
    ip_version        INTEGER NOT NULL,
    cidr              TEXT NOT NULL,
    gateway_ip        TEXT,
    enable_dhcp       INTEGER NOT NULL,
    ipv6_ra_mode      TEXT,
    ipv6_address_mode TEXT,
    allocation_pools  TEXT NOT NULL,       -- JSON [{"start":..,"end":..}]
    dns_nameservers   TEXT NOT NULL,       -- JSON list of addresses
    host_routes       TEXT NOT NULL,       -- JSON [{"destination":..,"nexthop":..}]
    service_types     TEXT NOT NULL,       -- JSON list of device owners
    subnet_pool_id    TEXT REFERENCES network_subnet_pool (id),
    revision          INTEGER NOT NULL,
    created_at        TEXT NOT NULL,
    updated_at        TEXT NOT NULL
);
CREATE INDEX network_subnet_network ON network_subnet (network_id);
CREATE INDEX network_subnet_project ON network_subnet (project_id);
CREATE INDEX network_subnet_pool_id ON network_subnet (subnet_pool_id);

CREATE TABLE network_port (
    id                    TEXT PRIMARY KEY,
    network_id            TEXT NOT NULL REFERENCES network_network (id),
    project_id            TEXT NOT NULL,   -- empty for ports that belong to no project (gateways, floating IPs)
    name                  TEXT NOT NULL,
    description           TEXT NOT NULL,
    mac_address           TEXT NOT NULL,
    admin_state_up        INTEGER NOT NULL,
    device_id             TEXT NOT NULL,
    device_owner          TEXT NOT NULL,
    port_security_enabled INTEGER NOT NULL,
    allowed_address_pairs TEXT NOT NULL,   -- JSON
    extra_dhcp_opts       TEXT NOT NULL,   -- JSON
    dns_name              TEXT NOT NULL,
    vnic_type             TEXT NOT NULL,
    host_id               TEXT NOT NULL,   -- empty: not bound
    profile               TEXT NOT NULL,   -- JSON
    made_for              TEXT,            -- the server that Compute made this port for, and deletes it with
    plugged               INTEGER NOT NULL,-- its tap, veth or server is there
    problem               TEXT,            -- why its rules are not in force
    revision              INTEGER NOT NULL,
    created_at            TEXT NOT NULL,
    updated_at            TEXT NOT NULL,
    UNIQUE (network_id, mac_address)
);
CREATE INDEX network_port_project ON network_port (project_id);
CREATE INDEX network_port_device ON network_port (device_id);

CREATE TABLE network_fixed_ip (
    subnet_id  TEXT NOT NULL REFERENCES network_subnet (id),
    position   BLOB NOT NULL,              -- the address as 16 bytes, big-endian: sorts as addresses do
    address    TEXT NOT NULL,
    port_id    TEXT NOT NULL REFERENCES network_port (id) ON DELETE CASCADE,
    network_id TEXT NOT NULL,
    ordinal    INTEGER NOT NULL,
    PRIMARY KEY (subnet_id, position)
);
CREATE INDEX network_fixed_ip_port ON network_fixed_ip (port_id, ordinal);
CREATE INDEX network_fixed_ip_address ON network_fixed_ip (network_id, address);

CREATE TABLE network_security_group (
    id          TEXT PRIMARY KEY,
    project_id  TEXT NOT NULL,
    name        TEXT NOT NULL,
    description TEXT NOT NULL,
    stateful    INTEGER NOT NULL,
    is_default  INTEGER NOT NULL,
    revision    INTEGER NOT NULL,
    created_at  TEXT NOT NULL,
    updated_at  TEXT NOT NULL
);
CREATE INDEX network_security_group_project ON network_security_group (project_id);
CREATE UNIQUE INDEX network_security_group_default ON network_security_group (project_id) WHERE is_default = 1;

CREATE TABLE network_security_group_rule (
    id                TEXT PRIMARY KEY,
    security_group_id TEXT NOT NULL REFERENCES network_security_group (id) ON DELETE CASCADE,
    project_id        TEXT NOT NULL,
    description       TEXT NOT NULL,
    direction         TEXT NOT NULL,
    ethertype         TEXT NOT NULL,
    protocol          TEXT,
    port_range_min    INTEGER,
    port_range_max    INTEGER,
    remote_ip_prefix  TEXT,
    remote_group_id   TEXT REFERENCES network_security_group (id) ON DELETE CASCADE,
    revision          INTEGER NOT NULL,
    created_at        TEXT NOT NULL,
    updated_at        TEXT NOT NULL
);
CREATE INDEX network_security_group_rule_group ON network_security_group_rule (security_group_id);
CREATE INDEX network_security_group_rule_remote ON network_security_group_rule (remote_group_id);
CREATE INDEX network_security_group_rule_project ON network_security_group_rule (project_id);

CREATE TABLE network_port_security_group (
    port_id           TEXT NOT NULL REFERENCES network_port (id) ON DELETE CASCADE,
    security_group_id TEXT NOT NULL REFERENCES network_security_group (id),
    PRIMARY KEY (port_id, security_group_id)
);
CREATE INDEX network_port_security_group_group ON network_port_security_group (security_group_id);

CREATE TABLE network_router (
    id              TEXT PRIMARY KEY,
    project_id      TEXT NOT NULL,
    name            TEXT NOT NULL,
    description     TEXT NOT NULL,
    admin_state_up  INTEGER NOT NULL,
    gateway_port_id TEXT REFERENCES network_port (id),
    enable_snat     INTEGER NOT NULL,
    routes          TEXT NOT NULL,         -- JSON [{"destination":..,"nexthop":..}]
    problem         TEXT,
    revision        INTEGER NOT NULL,
    created_at      TEXT NOT NULL,
    updated_at      TEXT NOT NULL
);
CREATE INDEX network_router_project ON network_router (project_id);
CREATE INDEX network_router_gateway ON network_router (gateway_port_id);

CREATE TABLE network_floating_ip (
    id                  TEXT PRIMARY KEY,
    project_id          TEXT NOT NULL,
    description         TEXT NOT NULL,
    floating_network_id TEXT NOT NULL REFERENCES network_network (id),
    floating_ip_address TEXT NOT NULL,
    floating_port_id    TEXT NOT NULL REFERENCES network_port (id),
    fixed_port_id       TEXT REFERENCES network_port (id),
    fixed_ip_address    TEXT,
    router_id           TEXT REFERENCES network_router (id),
    active              INTEGER NOT NULL,
    dns_name            TEXT NOT NULL,
    dns_domain          TEXT NOT NULL,
    revision            INTEGER NOT NULL,
    created_at          TEXT NOT NULL,
    updated_at          TEXT NOT NULL
);
CREATE INDEX network_floating_ip_project ON network_floating_ip (project_id);
CREATE INDEX network_floating_ip_fixed ON network_floating_ip (fixed_port_id);
CREATE INDEX network_floating_ip_floating ON network_floating_ip (floating_port_id);
CREATE INDEX network_floating_ip_router ON network_floating_ip (router_id);
CREATE INDEX network_floating_ip_network ON network_floating_ip (floating_network_id);

CREATE TABLE network_quota (
    project_id TEXT NOT NULL,
    resource   TEXT NOT NULL,
    amount     INTEGER NOT NULL,
    PRIMARY KEY (project_id, resource)
);

CREATE TABLE network_tag (
    resource_id TEXT NOT NULL,
    tag         TEXT NOT NULL,
    PRIMARY KEY (resource_id, tag)
);

-- The network and router that a project was given because it asked for "any".
CREATE TABLE network_auto_topology (
    project_id TEXT PRIMARY KEY,
    network_id TEXT NOT NULL REFERENCES network_network (id) ON DELETE CASCADE,
    router_id  TEXT NOT NULL REFERENCES network_router (id) ON DELETE CASCADE
);

-- The first networks were made; whoever deletes them later keeps them deleted.
CREATE TABLE network_bootstrap (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    done_at TEXT NOT NULL
);

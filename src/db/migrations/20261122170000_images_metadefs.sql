-- Metadata definitions: what properties of images, servers and so on mean. Namespaces hold objects, properties, tags and
-- associations with resource types; all four are items with a name and a body.

CREATE TABLE images_metadef_resource_type (
    name       TEXT PRIMARY KEY,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);

CREATE TABLE images_metadef_namespace (
    id           TEXT PRIMARY KEY,
    namespace    TEXT NOT NULL UNIQUE,
    display_name TEXT,
    description  TEXT,
    visibility   TEXT NOT NULL,                -- public private
    protected    INTEGER NOT NULL,
    owner        TEXT,                         -- project id; none: the cloud's
    created_at   TEXT NOT NULL,
    updated_at   TEXT NOT NULL
);
CREATE INDEX images_metadef_namespace_created ON images_metadef_namespace (created_at, id);

CREATE TABLE images_metadef_item (
    id           INTEGER PRIMARY KEY,
    namespace_id TEXT NOT NULL REFERENCES images_metadef_namespace (id) ON DELETE CASCADE,
    kind         TEXT NOT NULL,                -- object property tag association
    name         TEXT NOT NULL,
    body         TEXT NOT NULL,                -- JSON object, without the name
    created_at   TEXT NOT NULL,
    updated_at   TEXT NOT NULL,
    UNIQUE (namespace_id, kind, name)
);
CREATE INDEX images_metadef_item_association ON images_metadef_item (name) WHERE kind = 'association';

-- What this cloud's services are described by. The names are everybody's; operators add to them through the API.
INSERT INTO images_metadef_resource_type (name, created_at, updated_at) VALUES
    ('OS::Glance::Image',   '2026-11-22T00:00:00.000000Z', '2026-11-22T00:00:00.000000Z'),
    ('OS::Nova::Server',    '2026-11-22T00:00:00.000000Z', '2026-11-22T00:00:00.000000Z'),
    ('OS::Nova::Flavor',    '2026-11-22T00:00:00.000000Z', '2026-11-22T00:00:00.000000Z'),
    ('OS::Nova::Aggregate', '2026-11-22T00:00:00.000000Z', '2026-11-22T00:00:00.000000Z'),
    ('OS::Cinder::Volume',  '2026-11-22T00:00:00.000000Z', '2026-11-22T00:00:00.000000Z');

INSERT INTO images_metadef_namespace (id, namespace, display_name, description, visibility, protected, created_at, updated_at) VALUES
    ('5f3d1e60-3f0b-4c1a-9d1f-0d6a1c7e0001', 'OS::Glance::CommonImageProperties', 'Common Image Properties',
     'What most images say of the system they hold.', 'public', 1,
     '2026-11-22T00:00:00.000000Z', '2026-11-22T00:00:00.000000Z'),
    ('5f3d1e60-3f0b-4c1a-9d1f-0d6a1c7e0002', 'OS::Compute::VirtCPUTopology', 'Virtual CPU Topology',
     'How the processors of a server are shown to its guest.', 'public', 1,
     '2026-11-22T00:00:00.000000Z', '2026-11-22T00:00:00.000000Z'),
    ('5f3d1e60-3f0b-4c1a-9d1f-0d6a1c7e0003', 'OS::Compute::CPUPinning', 'CPU Pinning',
     'Whether the processors of a server have cores of the host for themselves.', 'public', 1,
     '2026-11-22T00:00:00.000000Z', '2026-11-22T00:00:00.000000Z'),
    ('5f3d1e60-3f0b-4c1a-9d1f-0d6a1c7e0004', 'OS::Compute::GuestMemoryBacking', 'Guest Memory Backing',
     'Which pages of the host hold the memory of a server.', 'public', 1,
     '2026-11-22T00:00:00.000000Z', '2026-11-22T00:00:00.000000Z');

INSERT INTO images_metadef_item (namespace_id, kind, name, body, created_at, updated_at)
SELECT '5f3d1e60-3f0b-4c1a-9d1f-0d6a1c7e' || column1, column2, column3, column4,
       '2026-11-22T00:00:00.000000Z', '2026-11-22T00:00:00.000000Z'
FROM (VALUES
    ('0001', 'association', 'OS::Glance::Image', '{}'),
    ('0001', 'property', 'architecture', '{"title":"Architecture","description":"The processor that the system is built for.","type":"string","enum":["aarch64","i686","x86_64"]}'),
    ('0001', 'property', 'os_distro', '{"title":"Distribution","description":"Name of the distribution, in lower case.","type":"string"}'),
    ('0001', 'property', 'os_version', '{"title":"Version","description":"Version of the distribution, as its maker writes it.","type":"string"}'),
    ('0001', 'property', 'kernel_id', '{"title":"Kernel ID","description":"The image that holds the kernel of an AMI-style image.","type":"string","pattern":"^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"}'),
    ('0001', 'property', 'ramdisk_id', '{"title":"RAM disk ID","description":"The image that holds the RAM disk of an AMI-style image.","type":"string","pattern":"^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"}'),
    ('0001', 'property', 'instance_uuid', '{"title":"Server ID","description":"The server that the image was made from.","type":"string"}'),
    ('0002', 'association', 'OS::Glance::Image', '{"prefix":"hw_"}'),
    ('0002', 'association', 'OS::Nova::Flavor', '{"prefix":"hw:"}'),
    ('0002', 'property', 'cpu_sockets', '{"title":"Sockets","description":"How many sockets the guest sees.","type":"integer","minimum":1}'),
    ('0002', 'property', 'cpu_cores', '{"title":"Cores","description":"How many cores each socket has.","type":"integer","minimum":1}'),
    ('0002', 'property', 'cpu_threads', '{"title":"Threads","description":"How many threads each core has.","type":"integer","minimum":1}'),
    ('0003', 'association', 'OS::Glance::Image', '{"prefix":"hw_"}'),
    ('0003', 'association', 'OS::Nova::Flavor', '{"prefix":"hw:"}'),
    ('0003', 'property', 'cpu_policy', '{"title":"Processor policy","description":"dedicated: each virtual processor has a core for itself; shared: they float.","type":"string","enum":["shared","dedicated"]}'),
    ('0004', 'association', 'OS::Glance::Image', '{"prefix":"hw_"}'),
    ('0004', 'association', 'OS::Nova::Flavor', '{"prefix":"hw:"}'),
    ('0004', 'property', 'mem_page_size', '{"title":"Page size","description":"small, large, any, or a size in KiB.","type":"string"}')
);

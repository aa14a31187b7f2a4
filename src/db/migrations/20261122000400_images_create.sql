-- Images and what is said about them (crate `images`). Their bytes are files, named by the image's id.

CREATE TABLE images_image (
    id                 TEXT PRIMARY KEY,
    name               TEXT,
    owner              TEXT NOT NULL,        -- project id
    status             TEXT NOT NULL,        -- queued saving uploading importing active deactivated
    visibility         TEXT NOT NULL,        -- public private shared community
    disk_format        TEXT,
    container_format   TEXT,
    size_bytes         INTEGER,
    virtual_size_bytes INTEGER,
    checksum           TEXT,                 -- MD5
    os_hash_value      TEXT,                 -- SHA-512
    min_disk_gib       INTEGER NOT NULL,
    min_ram_mib        INTEGER NOT NULL,
    protected          INTEGER NOT NULL,
    os_hidden          INTEGER NOT NULL,
    upload_id          TEXT,                 -- of the transfer under way, or of the file that waits for its import
    staged_size_bytes  INTEGER,              -- of a staged file that is complete
    staged_checksum    TEXT,
    staged_hash_value  TEXT,
    created_at         TEXT NOT NULL,
    updated_at         TEXT NOT NULL
);
CREATE INDEX images_image_owner ON images_image (owner, created_at, id);
CREATE INDEX images_image_created ON images_image (created_at, id);
CREATE INDEX images_image_name ON images_image (name);

CREATE TABLE images_property (
    image_id TEXT NOT NULL REFERENCES images_image (id) ON DELETE CASCADE,
    name     TEXT NOT NULL,
    value    TEXT NOT NULL,
    PRIMARY KEY (image_id, name)
);

CREATE TABLE images_tag (
    image_id TEXT NOT NULL REFERENCES images_image (id) ON DELETE CASCADE,
    tag      TEXT NOT NULL,
    PRIMARY KEY (image_id, tag)
);

CREATE TABLE images_member (
    image_id   TEXT NOT NULL REFERENCES images_image (id) ON DELETE CASCADE,
    member     TEXT NOT NULL,                -- project id
    status     TEXT NOT NULL,                -- pending accepted rejected
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (image_id, member)
);
CREATE INDEX images_member_member ON images_member (member, image_id);

-- Ids of deleted images are never given out again: what still refers to one must not find another image.
CREATE TABLE images_deleted (
    id         TEXT PRIMARY KEY,
    deleted_at TEXT NOT NULL
);

-- Keys that are made while the gateway runs, as `src/store/keys.rs` tells. Times are microseconds since 1970 UTC.
CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    words TEXT NOT NULL,
    note TEXT NOT NULL,
    created BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    expires BIGINT,
    revoked BIGINT,
    deleted BIGINT,
    version BIGINT NOT NULL
);

-- A name is free again when its key is deleted.
CREATE UNIQUE INDEX keys_name ON keys (name) WHERE deleted IS NULL;
CREATE UNIQUE INDEX keys_version ON keys (version);

-- What a key can be shown as: its value, and after a rotation for a while the one before. Only the HMAC-SHA256 under the pepper.
CREATE TABLE key_hashes (
    hash TEXT PRIMARY KEY,
    key_id TEXT NOT NULL,
    shown TEXT NOT NULL,
    made BIGINT NOT NULL,
    until BIGINT
);

CREATE INDEX key_hashes_key ON key_hashes (key_id);

-- One row: counts the changes, in the order in which they are committed.
CREATE TABLE key_changes (
    one BIGINT PRIMARY KEY,
    version BIGINT NOT NULL
);

INSERT INTO key_changes (one, version) VALUES (1, 0);

-- Who did what, when; rows are only ever added. `id` is the change's number.
CREATE TABLE audit (
    id BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    act TEXT NOT NULL,
    subject TEXT NOT NULL,
    was TEXT,
    became TEXT
);

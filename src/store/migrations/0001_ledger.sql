-- A row per attempt, as `src/store/entry.rs` tells. Times are microseconds since 1970 UTC, money is 1e-9 USD, truths are 0 and 1.
-- The time stands first in the key: rows come nearly in its order, and every report asks for a period.
CREATE TABLE entries (
    at BIGINT NOT NULL,
    call TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    state BIGINT NOT NULL,
    ended BIGINT,
    key_name TEXT,
    team TEXT,
    project TEXT,
    agent TEXT,
    user_name TEXT,
    tags TEXT,
    model TEXT,
    provider TEXT NOT NULL,
    upstream_model TEXT,
    operation TEXT NOT NULL,
    stream BIGINT NOT NULL,
    hold BIGINT,
    price_version TEXT,
    status BIGINT,
    outcome TEXT,
    answered BIGINT NOT NULL,
    input_tokens BIGINT,
    cache_read_tokens BIGINT,
    cache_write_5m_tokens BIGINT,
    cache_write_1h_tokens BIGINT,
    input_audio_tokens BIGINT,
    output_tokens BIGINT,
    reasoning_tokens BIGINT,
    output_audio_tokens BIGINT,
    server_tool_calls BIGINT,
    images BIGINT,
    searches BIGINT,
    service_tier TEXT,
    cost BIGINT,
    estimated BIGINT NOT NULL,
    tariff BIGINT,
    first_token_ms BIGINT,
    duration_ms BIGINT,
    PRIMARY KEY (at, call, attempt)
);

CREATE INDEX entries_call ON entries (call);
CREATE INDEX entries_key ON entries (key_name, at) WHERE key_name IS NOT NULL;
CREATE INDEX entries_team ON entries (team, at) WHERE team IS NOT NULL;
CREATE INDEX entries_project ON entries (project, at) WHERE project IS NOT NULL;
CREATE INDEX entries_agent ON entries (agent, at) WHERE agent IS NOT NULL;
CREATE INDEX entries_user ON entries (user_name, at) WHERE user_name IS NOT NULL;

-- The rates a cost was made with, each text once.
CREATE TABLE tariffs (
    id BIGINT PRIMARY KEY,
    rates TEXT NOT NULL
);

-- What is left of rows that were pruned. `day` is its beginning in microseconds since 1970 UTC; an empty text stands for none, so that
-- the key is one.
CREATE TABLE usage_daily (
    day BIGINT NOT NULL,
    key_name TEXT NOT NULL,
    team TEXT NOT NULL,
    project TEXT NOT NULL,
    agent TEXT NOT NULL,
    user_name TEXT NOT NULL,
    tags TEXT NOT NULL,
    model TEXT NOT NULL,
    provider TEXT NOT NULL,
    calls BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    estimated BIGINT NOT NULL,
    unpriced BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    cache_read_tokens BIGINT NOT NULL,
    cache_write_5m_tokens BIGINT NOT NULL,
    cache_write_1h_tokens BIGINT NOT NULL,
    input_audio_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    output_audio_tokens BIGINT NOT NULL,
    server_tool_calls BIGINT NOT NULL,
    images BIGINT NOT NULL,
    searches BIGINT NOT NULL,
    cost BIGINT NOT NULL,
    PRIMARY KEY (day, key_name, team, project, agent, user_name, tags, model, provider)
);

-- Times are microseconds since the Unix epoch (UTC), ids are 16-byte UUIDs, JSON is text exactly as
-- it was sent. Lists are ordered by (created_at, id), so every list index ends with that pair.

CREATE TABLE agents (
    id              BLOB    NOT NULL PRIMARY KEY,
    did             TEXT    NOT NULL UNIQUE,
    name            TEXT    NOT NULL,
    agent_type      TEXT    NOT NULL,
    status          TEXT    NOT NULL,
    configuration   TEXT    NOT NULL,
    metadata        TEXT    NOT NULL,
    resource_limits TEXT    NOT NULL,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL
) STRICT;
CREATE INDEX agents_by_age ON agents (created_at, id);
CREATE INDEX agents_by_status ON agents (status, created_at, id);
CREATE INDEX agents_by_name ON agents (name, created_at, id);

CREATE TABLE sessions (
    id                  BLOB    NOT NULL PRIMARY KEY,
    agent_id            BLOB    NOT NULL REFERENCES agents (id),
    session_type        TEXT    NOT NULL,
    status              TEXT    NOT NULL,
    context             TEXT    NOT NULL,
    checkpoint          TEXT,
    runtime_backend     TEXT,
    runtime_metadata    TEXT    NOT NULL,
    created_at          INTEGER NOT NULL,
    updated_at          INTEGER NOT NULL,
    name                TEXT,
    runtime             TEXT    NOT NULL,
    workspace_kind      TEXT    NOT NULL,
    workspace_path      TEXT    NOT NULL,
    ttl_seconds         INTEGER,
    expires_at          INTEGER,
    version             INTEGER NOT NULL,
    -- The idempotency key of the request that created it. It lives and dies with the session, so
    -- keys need no expiry of their own.
    request_key         TEXT,
    request_fingerprint TEXT
) STRICT;
CREATE UNIQUE INDEX sessions_by_name ON sessions (name) WHERE name IS NOT NULL;
CREATE UNIQUE INDEX sessions_by_request ON sessions (request_key) WHERE request_key IS NOT NULL;
CREATE INDEX sessions_by_age ON sessions (created_at, id);
CREATE INDEX sessions_by_status ON sessions (status, created_at, id);
CREATE INDEX sessions_by_agent ON sessions (agent_id, created_at, id);
CREATE INDEX sessions_by_agent_status ON sessions (agent_id, status, created_at, id);

CREATE TABLE steps (
    id           BLOB    NOT NULL PRIMARY KEY,
    session_id   BLOB    NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    sequence     INTEGER NOT NULL,
    status       TEXT    NOT NULL,
    code         TEXT    NOT NULL,
    stdin        TEXT,
    timeout_ms   INTEGER,
    created_at   INTEGER NOT NULL,
    -- The rest is written once, when the step has ended.
    started_at   INTEGER,
    finished_at  INTEGER,
    result       TEXT,
    error        TEXT,
    exit         TEXT,
    stdout_bytes INTEGER NOT NULL DEFAULT 0,
    stderr_bytes INTEGER NOT NULL DEFAULT 0,
    output_start INTEGER,
    output_end   INTEGER,
    -- Last, because they can be large: the columns before them are then read without them.
    stdout_head  BLOB,
    stdout_tail  BLOB,
    stderr_head  BLOB,
    stderr_tail  BLOB,
    UNIQUE (session_id, sequence)
) STRICT, WITHOUT ROWID;
CREATE INDEX steps_unfinished ON steps (session_id, sequence) WHERE finished_at IS NULL;

CREATE TABLE workers (
    id         BLOB    NOT NULL PRIMARY KEY,
    session_id BLOB    NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    kind       TEXT    NOT NULL,
    runtime    TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    generation INTEGER NOT NULL,
    exit       TEXT,
    created_at INTEGER NOT NULL,
    ended_at   INTEGER,
    UNIQUE (session_id, kind, generation)
) STRICT;
CREATE INDEX workers_running ON workers (created_at, id) WHERE state = 'running';

-- AUTOINCREMENT: a sequence number is never given twice, not even after the newest event is gone.
-- There is no id: it is made of `created_at` and `sequence`.
CREATE TABLE events (
    sequence       INTEGER PRIMARY KEY AUTOINCREMENT,
    event_type     TEXT    NOT NULL,
    aggregate_type TEXT    NOT NULL,
    aggregate_id   BLOB    NOT NULL,
    payload        TEXT    NOT NULL,
    metadata       TEXT    NOT NULL,
    created_at     INTEGER NOT NULL,
    version        INTEGER NOT NULL
) STRICT;
-- Each index ends, as all do, with the rowid, which is the sequence. Every index is one more page
-- that every change writes, so there is none by time (the sequence is in that order) and none for
-- the aggregate type that almost all events have.
CREATE INDEX events_by_aggregate ON events (aggregate_id);
CREATE INDEX events_by_aggregate_type ON events (aggregate_type) WHERE aggregate_type <> 'session';
-- Not the two that nearly every event is: walking the log finds them as fast, and each index entry
-- is a page written with every step.
CREATE INDEX events_by_type ON events (event_type)
    WHERE event_type <> 'step.accepted' AND event_type <> 'step.completed';

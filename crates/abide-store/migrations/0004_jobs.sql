-- One-shot runs: code with a session of its own, which is removed once the code has ended. What came
-- of it stays here.

CREATE TABLE jobs (
    id          BLOB    NOT NULL PRIMARY KEY,
    -- The session and the step that it runs in; named before they are made, and gone after its end.
    session_id  BLOB    NOT NULL,
    step_id     BLOB    NOT NULL,
    agent_id    BLOB    NOT NULL,
    runtime     TEXT    NOT NULL,
    code        TEXT    NOT NULL,
    stdin       TEXT,
    timeout_ms  INTEGER,
    metadata    TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    finished_at INTEGER,
    -- How it ended, as JSON.
    "end"       TEXT,
    -- 1 once nothing of its session is left.
    cleaned     INTEGER NOT NULL DEFAULT 0,
    -- The idempotency key of the request that created it lives and dies with it.
    request_key         TEXT,
    request_fingerprint TEXT
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX jobs_by_request ON jobs (request_key) WHERE request_key IS NOT NULL;
CREATE INDEX jobs_under_way ON jobs (created_at, id) WHERE cleaned = 0;
CREATE INDEX jobs_over ON jobs (created_at, id) WHERE cleaned = 1;

-- One-shot runs of a data plane: code with a session of its own, which is removed once the code has
-- ended. What came of it stays here.

CREATE TABLE runs (
    id            TEXT    NOT NULL PRIMARY KEY,
    job_id        TEXT    NOT NULL,
    -- The session and the step that it runs in; named before they are made, and gone after its end.
    session_id    TEXT    NOT NULL,
    step_id       BLOB    NOT NULL,
    runtime       TEXT    NOT NULL,
    code          TEXT    NOT NULL,
    stdin         TEXT,
    timeout_ms    INTEGER,
    workspace_ref TEXT,
    created_at    INTEGER NOT NULL,
    status        TEXT    NOT NULL,
    finished_at   INTEGER,
    -- What came of it, as JSON.
    "end"         TEXT,
    -- 1 once nothing of its session is left.
    cleaned       INTEGER NOT NULL DEFAULT 0,
    -- The idempotency key of the request that created it lives and dies with it.
    request_key   TEXT
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX runs_by_request ON runs (request_key) WHERE request_key IS NOT NULL;
CREATE INDEX runs_under_way ON runs (created_at, id) WHERE cleaned = 0;
CREATE INDEX runs_over ON runs (created_at, id) WHERE cleaned = 1;

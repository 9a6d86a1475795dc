-- Ways from sessions to their runtimes, as the data plane keeps them: a session there is known by the
-- text that a client named it with, and need not have a record in `sessions`.

CREATE TABLE routes (
    session_id      TEXT    NOT NULL PRIMARY KEY,
    runtime_id      TEXT    NOT NULL,
    runtime         TEXT    NOT NULL,
    endpoint        TEXT    NOT NULL,
    -- Sealed by whoever keeps the route; opaque here.
    sealed_token    BLOB    NOT NULL,
    auth_mode       TEXT    NOT NULL,
    boot_id         TEXT    NOT NULL,
    worker_id       BLOB,
    status          TEXT    NOT NULL,
    workspace       TEXT    NOT NULL,
    scratch         INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    last_seen_at    INTEGER NOT NULL,
    expires_at      INTEGER,
    sliding_seconds INTEGER,
    generation      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- Those whose time will come. What has ended stays as a tombstone for a while and is not looked at.
CREATE INDEX routes_by_expiry ON routes (expires_at)
    WHERE expires_at IS NOT NULL AND status <> 'expired' AND status <> 'terminated';
CREATE INDEX routes_ended ON routes (last_seen_at)
    WHERE status = 'expired' OR status = 'terminated';

-- One row: the highest generation that any removed route had. A session's next route begins above
-- it, so that a change meant for the removed one finds nothing to change.
CREATE TABLE route_generations (removed INTEGER NOT NULL) STRICT;
INSERT INTO route_generations (removed) VALUES (0);

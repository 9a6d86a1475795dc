-- Whether `expires_at` moves on with every step, and when the session was ended because its time was up.
ALTER TABLE sessions ADD COLUMN sliding INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN expired_at INTEGER;
-- Those whose time will come.
CREATE INDEX sessions_by_expiry ON sessions (expires_at)
    WHERE expires_at IS NOT NULL AND expired_at IS NULL;

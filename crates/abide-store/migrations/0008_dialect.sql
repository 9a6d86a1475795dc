-- Terminals of the multi-terminal dialect: each has a session of its own, and goes with it.
CREATE TABLE dialect_terminals (
    session_id BLOB NOT NULL PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    -- Whose: ids are made by clients, and mean something only among those of one owner.
    agent_id   BLOB NOT NULL,
    tenant     TEXT NOT NULL,
    -- Null: nobody will come back to it. It was closed, or belonged to one connection.
    client_id  TEXT,
    name       TEXT
) STRICT;
CREATE UNIQUE INDEX dialect_terminals_by_client ON dialect_terminals (agent_id, tenant, client_id)
    WHERE client_id IS NOT NULL;

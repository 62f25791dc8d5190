CREATE TABLE sessions (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client_id TEXT NOT NULL,
    audience TEXT NOT NULL,
    -- The scope asked for at login; empty: every permission the user has.
    scope TEXT,
    -- Generations of the refresh token: accepted <= floor < outstanding <= generation.
    accepted BIGINT NOT NULL,
    floor BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    mac_key_id BIGINT NOT NULL,
    refreshed_at BIGINT NOT NULL,
    auth_time BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    idle_expires_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    ended_at BIGINT,
    end_reason TEXT,
    user_agent TEXT,
    address TEXT
);
-- No indexed column changes in a refresh, so that PostgreSQL updates the row in place (HOT).
-- postgres: ALTER TABLE sessions SET (fillfactor = 80);
CREATE INDEX sessions_by_user ON sessions (user_id, created_at);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

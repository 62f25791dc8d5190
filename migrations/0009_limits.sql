-- Tries that are under way, and, under new subjects, further limits. The release before counts failures under subjects of its own.
ALTER TABLE login_failures ADD COLUMN reserved_interval BIGINT NOT NULL DEFAULT 0;
ALTER TABLE login_failures ADD COLUMN reserved_now BIGINT NOT NULL DEFAULT 0;
ALTER TABLE login_failures ADD COLUMN reserved_before BIGINT NOT NULL DEFAULT 0;

-- Networks from which a user has logged in, by hash: they are not behind strangers who guess the user's password.
CREATE TABLE known_networks (
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    network TEXT NOT NULL,
    last_login_at BIGINT NOT NULL,
    PRIMARY KEY (user_id, network)
);
CREATE INDEX known_networks_by_age ON known_networks (last_login_at);

-- Ended sessions are deleted once their revocations are forgotten. A refresh changes none of these columns.
CREATE INDEX sessions_by_end ON sessions (ended_at) WHERE ended_at IS NOT NULL;

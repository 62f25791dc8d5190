CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    -- Normalised by the service, never by the database.
    username TEXT NOT NULL UNIQUE,
    password_hash TEXT,
    -- Counts changes of the password and of the right to log in; a login states the version it checked.
    credential_version BIGINT NOT NULL,
    -- A JSON object of extra claims.
    claims TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    disabled_at BIGINT,
    last_login_at BIGINT
);

CREATE TABLE roles (
    name TEXT NOT NULL PRIMARY KEY,
    -- Separated by spaces, as in a scope (RFC 6749 section 3.3).
    permissions TEXT NOT NULL
);

CREATE TABLE user_roles (
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role TEXT NOT NULL REFERENCES roles (name) ON DELETE CASCADE,
    PRIMARY KEY (user_id, role)
);
CREATE INDEX user_roles_by_role ON user_roles (role);

-- One row once the first administrator was created; it is never created again.
CREATE TABLE installation (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    bootstrapped_at BIGINT NOT NULL
);

-- Failed logins by hash of the presented name and by client address.
CREATE TABLE login_failures (
    subject TEXT NOT NULL PRIMARY KEY,
    failures BIGINT NOT NULL,
    last_at BIGINT NOT NULL
);
CREATE INDEX login_failures_by_age ON login_failures (last_at);

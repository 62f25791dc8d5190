-- Counts every change of the table below. A replica that sees another count reloads before it signs.
CREATE TABLE key_ring (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    changes BIGINT NOT NULL
);
INSERT INTO key_ring (id, changes) VALUES (1, 0);

CREATE TABLE keys (
    kid TEXT NOT NULL PRIMARY KEY,
    -- A signing algorithm, or 'refresh-mac' for the keys that authenticate refresh tokens.
    chain TEXT NOT NULL,
    generation BIGINT NOT NULL,
    public_jwk TEXT,
    -- Encrypted under the master key; erased when the key has expired.
    sealed_key TEXT,
    created_at BIGINT NOT NULL,
    activates_at BIGINT NOT NULL,
    -- Empty until a successor is announced.
    retires_at BIGINT,
    expires_at BIGINT,
    compromised_at BIGINT,
    UNIQUE (chain, generation),
    CHECK ((retires_at IS NULL) = (expires_at IS NULL))
);

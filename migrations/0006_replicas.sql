-- What each replica says of itself, every other second, and what operators want of it. Nothing depends on these rows: a replica
-- that cannot write its own goes on as it is.
CREATE TABLE replicas (
    -- One process: the name of its chain in the audit log.
    id TEXT NOT NULL PRIMARY KEY,
    -- The name of its machine.
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    public_addr TEXT NOT NULL,
    admin_addr TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    state TEXT NOT NULL,
    -- The change counter of the key table that it has read.
    key_changes BIGINT NOT NULL,
    -- The generation that signs, for each algorithm: 'ES256 3,EdDSA 1'.
    key_generations TEXT NOT NULL,
    -- Seconds.
    lease_left BIGINT NOT NULL,
    -- Empty until it has read the revocations for the first time.
    feed_lag_ms BIGINT,
    -- The version of the stored settings that it has read.
    settings_version BIGINT NOT NULL,
    -- Set while it goes on without that version, because it cannot use it.
    settings_refused_at BIGINT,
    -- Set while an operator wants it out of the rotation.
    drain_wanted_at BIGINT
);

-- A role that held every admin permission there was holds the new ones, too. Roles that do so only together are left alone: whoever has
-- one of them may have none of the others.
UPDATE roles SET permissions = permissions || ' replicas:read replicas:write'
 WHERE ' ' || permissions || ' ' LIKE '% audit:read %' AND ' ' || permissions || ' ' LIKE '% keys:read %'
   AND ' ' || permissions || ' ' LIKE '% keys:write %' AND ' ' || permissions || ' ' LIKE '% roles:read %'
   AND ' ' || permissions || ' ' LIKE '% roles:write %' AND ' ' || permissions || ' ' LIKE '% sessions:write %'
   AND ' ' || permissions || ' ' LIKE '% users:read %' AND ' ' || permissions || ' ' LIKE '% users:write %';

-- Settings that operators changed at run time. A setting without a row has its default.
CREATE TABLE settings (
    name TEXT NOT NULL PRIMARY KEY,
    -- As it would stand in the configuration file, after "name =".
    value TEXT NOT NULL,
    changed_at BIGINT NOT NULL,
    changed_by TEXT NOT NULL
);

-- Counts every change of the table above, under the lock of the key ring: a longer token life moves the ends of keys as well.
ALTER TABLE key_ring ADD COLUMN settings_version BIGINT NOT NULL DEFAULT 0;

-- The longest life, in seconds, that anything signed by the key may have. Empty: written by the release before.
ALTER TABLE keys ADD COLUMN life BIGINT;
-- Nobody knows any more what was configured when these began to sign. No access token lives longer than an hour.
UPDATE keys SET life = 3600 WHERE retires_at IS NULL AND chain <> 'refresh-mac';

-- A role that held every permission of the admin API still does. Roles that do so only together are left alone, as before.
UPDATE roles SET permissions = permissions || ' settings:read settings:write'
 WHERE ' ' || permissions || ' ' LIKE '% audit:read %' AND ' ' || permissions || ' ' LIKE '% keys:read %'
   AND ' ' || permissions || ' ' LIKE '% keys:write %' AND ' ' || permissions || ' ' LIKE '% roles:read %'
   AND ' ' || permissions || ' ' LIKE '% roles:write %' AND ' ' || permissions || ' ' LIKE '% sessions:write %'
   AND ' ' || permissions || ' ' LIKE '% replicas:read %' AND ' ' || permissions || ' ' LIKE '% replicas:write %'
   AND ' ' || permissions || ' ' LIKE '% users:read %' AND ' ' || permissions || ' ' LIKE '% users:write %';

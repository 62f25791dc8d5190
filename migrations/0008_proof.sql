-- How the user proved who they are (RFC 8176), separated by spaces. The releases before know passwords only.
ALTER TABLE sessions ADD COLUMN amr TEXT NOT NULL DEFAULT 'pwd';

-- No longer written or read: every key is kept for the longest access token. The release before reads empty as that.
UPDATE keys SET life = NULL WHERE chain <> 'refresh-mac';

-- The role admin is built in: it has every admin permission, whatever is stored. Its row says the same for replicas of the release before,
-- so that they let nobody grant it who does not hold all of them.
INSERT INTO roles (name, permissions)
SELECT 'admin', '' FROM installation WHERE NOT EXISTS (SELECT 1 FROM roles WHERE name = 'admin');
UPDATE roles SET permissions = CASE WHEN permissions = '' THEN '' ELSE permissions || ' ' END ||
    'audit:read keys:read keys:write replicas:read replicas:write roles:read roles:write sessions:write settings:read settings:write users:read users:write'
 WHERE name = 'admin';

-- How the user proved who they are (RFC 8176), separated by spaces. The releases before know passwords only.
ALTER TABLE sessions ADD COLUMN amr TEXT NOT NULL DEFAULT 'pwd';

-- No longer written or read: every key is kept for the longest access token. The release before reads empty as that.
UPDATE keys SET life = NULL WHERE chain <> 'refresh-mac';

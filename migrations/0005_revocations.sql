-- Sessions and keys that resource servers must refuse although their tokens are still in date: the revocation feed.
--
-- Rows have no number. Concurrent transactions commit in another order than they draw numbers in, so a reader that goes on
-- after the highest number it saw loses rows. A replica reads by time instead, from 60 s before its last read on; what it reads
-- twice changes nothing.
CREATE TABLE revocations (
    -- 'session' or 'key'. A replica passes over a kind that it does not know: a newer release wrote it.
    kind TEXT NOT NULL,
    -- The session's id or the key's name.
    subject TEXT NOT NULL,
    revoked_at BIGINT NOT NULL,
    -- From when on nobody accepts its tokens in any case. Empty is never: who has stolen a key dates tokens as they like.
    forget_at BIGINT,
    PRIMARY KEY (kind, subject)
);
CREATE INDEX revocations_by_time ON revocations (revoked_at);
CREATE INDEX revocations_by_end ON revocations (forget_at);

-- What was compromised before there was a feed.
INSERT INTO revocations (kind, subject, revoked_at)
SELECT 'key', kid, compromised_at FROM keys WHERE compromised_at IS NOT NULL AND chain <> 'refresh-mac';

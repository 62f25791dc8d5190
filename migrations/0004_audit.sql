-- Append-only. Each replica writes a chain of its own: every row's hash covers the row before it.
CREATE TABLE audit (
    chain TEXT NOT NULL,
    seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    event TEXT NOT NULL,
    actor TEXT,
    subject TEXT,
    session_id TEXT,
    address TEXT,
    detail TEXT,
    prev TEXT NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (chain, seq)
);
CREATE INDEX audit_by_time ON audit (at, chain, seq);

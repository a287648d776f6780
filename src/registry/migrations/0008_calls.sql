-- The calls that were made. Each attempt that called something has a batch; other calls, such as messages to webhooks, have
-- batches without an attempt. The hash of a batch covers the hash of the batch before it, the columns of the batch and all of
-- its calls. Entries of the ledger name batches with their hash, so old batches can be dropped, and no other one can be missing.
CREATE TABLE call_batches (
  batch      INTEGER PRIMARY KEY,         -- numbered from 1 without gaps
  at         INTEGER NOT NULL,            -- when it was recorded, in milliseconds since 1970 UTC
  connection TEXT    NOT NULL,
  namespace  TEXT    NOT NULL,            -- empty: the connection is not in the registry
  family     TEXT    NOT NULL,
  begun_at   INTEGER,                     -- when the attempt began; NULL outside of attempts
  why        TEXT,
  policy     BLOB,                        -- digest of the policy that was in force
  attempt    INTEGER,                     -- the entry attempt_finished; NULL if the attempt found nothing new
  calls      INTEGER NOT NULL,
  cut        INTEGER NOT NULL,            -- further calls, which were only counted
  hash       BLOB    NOT NULL             -- SHA-256
) STRICT;

CREATE INDEX call_batches_connection ON call_batches (connection, batch);
CREATE INDEX call_batches_at ON call_batches (at);

-- What calls have in common, once for each month in which it is used, so that it can be dropped with the calls.
CREATE TABLE call_targets (
  target    INTEGER PRIMARY KEY,
  digest    BLOB    NOT NULL UNIQUE,      -- the first half of the SHA-256 of the month and the texts
  month     INTEGER NOT NULL,             -- since 1970
  purpose   TEXT    NOT NULL,             -- source, vault, token or webhook
  method    TEXT    NOT NULL,
  host      TEXT    NOT NULL,
  path      TEXT    NOT NULL,
  statement TEXT    NOT NULL,
  rule      TEXT    NOT NULL
) STRICT;

CREATE TABLE call_rows (
  batch  INTEGER NOT NULL,
  call   INTEGER NOT NULL,                -- numbered from 1 in each batch
  target INTEGER NOT NULL,
  at     INTEGER NOT NULL,                -- when it began
  status INTEGER,
  sent   INTEGER,
  bytes  INTEGER NOT NULL,
  ms     INTEGER NOT NULL,
  error  TEXT    NOT NULL,
  PRIMARY KEY (batch, call)
) STRICT, WITHOUT ROWID;

CREATE INDEX ledger_calls_dropped ON ledger (seq) WHERE kind = 'calls_dropped';
CREATE INDEX ledger_calls_recorded ON ledger (seq) WHERE kind = 'calls_recorded';

CREATE TRIGGER call_batches_no_update BEFORE UPDATE ON call_batches
BEGIN SELECT RAISE(ABORT, 'append-only: a recorded call never changes'); END;
CREATE TRIGGER call_targets_no_update BEFORE UPDATE ON call_targets
BEGIN SELECT RAISE(ABORT, 'append-only: a recorded call never changes'); END;
CREATE TRIGGER call_rows_no_update BEFORE UPDATE ON call_rows
BEGIN SELECT RAISE(ABORT, 'append-only: a recorded call never changes'); END;

CREATE TRIGGER call_batches_next BEFORE INSERT ON call_batches
WHEN NEW.batch <= (SELECT coalesce(max(batch), 0) FROM call_batches)
BEGIN SELECT RAISE(ABORT, 'append-only: a batch of calls comes after the last one'); END;
-- Rows can be deleted only after the ledger says so.
CREATE TRIGGER call_batches_dropped BEFORE DELETE ON call_batches
WHEN OLD.batch > coalesce((SELECT json_extract(facts, '$.calls.batch') FROM ledger WHERE kind = 'calls_dropped' ORDER BY seq DESC LIMIT 1), 0)
BEGIN SELECT RAISE(ABORT, 'append-only: recorded calls are deleted only after the ledger records that they are dropped'); END;
CREATE TRIGGER call_rows_dropped BEFORE DELETE ON call_rows
WHEN OLD.batch > coalesce((SELECT json_extract(facts, '$.calls.batch') FROM ledger WHERE kind = 'calls_dropped' ORDER BY seq DESC LIMIT 1), 0)
BEGIN SELECT RAISE(ABORT, 'append-only: recorded calls are deleted only after the ledger records that they are dropped'); END;

-- For people with an SQL prompt.
CREATE VIEW calls AS
SELECT c.batch, c.call, c.at, b.connection, b.namespace, b.family, b.attempt, b.begun_at, b.why, lower(hex(b.policy)) AS policy,
       t.purpose, t.method, t.host, t.path, t.statement, t.rule, c.status, c.sent, c.bytes, c.ms, c.error
FROM call_rows c JOIN call_batches b USING (batch) JOIN call_targets t USING (target);

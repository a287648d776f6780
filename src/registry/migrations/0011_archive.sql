-- Step reports are beside the ledger, because a row of the ledger never changes and old reports move into archive files. The hash of
-- the row covers its report as before. Rows of earlier versions keep their reports in the ledger.
CREATE TABLE bodies (
  seq  INTEGER PRIMARY KEY,               -- the entry attempt_finished
  body TEXT NOT NULL                      -- the step reports
) STRICT;

CREATE INDEX ledger_steps_archived ON ledger (seq) WHERE kind = 'steps_archived';
CREATE INDEX ledger_calls_archived ON ledger (seq) WHERE kind = 'calls_archived';

CREATE TRIGGER bodies_no_update BEFORE UPDATE ON bodies
BEGIN SELECT RAISE(ABORT, 'append-only: a step report never changes'); END;
-- Also closes INSERT OR REPLACE, which would delete without firing the trigger below.
CREATE TRIGGER bodies_next BEFORE INSERT ON bodies
WHEN NEW.seq IS NOT (SELECT max(seq) FROM ledger)
  OR EXISTS (SELECT 1 FROM bodies WHERE seq = NEW.seq)
  OR EXISTS (SELECT 1 FROM ledger WHERE seq = NEW.seq AND (kind <> 'attempt_finished' OR body IS NOT NULL))
BEGIN SELECT RAISE(ABORT, 'append-only: a step report is written with the entry that it belongs to'); END;
-- Rows can be deleted only after the ledger names the archive file that holds them.
CREATE TRIGGER bodies_archived BEFORE DELETE ON bodies
WHEN OLD.seq > coalesce((SELECT json_extract(facts, '$.last') FROM ledger WHERE kind = 'steps_archived' ORDER BY seq DESC LIMIT 1), 0)
BEGIN SELECT RAISE(ABORT, 'append-only: a step report is deleted only after the ledger names the archive file that holds it'); END;

DROP TRIGGER call_batches_dropped;
CREATE TRIGGER call_batches_dropped BEFORE DELETE ON call_batches
WHEN OLD.batch > coalesce((SELECT json_extract(facts, '$.calls.batch') FROM ledger WHERE kind = 'calls_dropped' ORDER BY seq DESC LIMIT 1), 0)
  AND OLD.batch > coalesce((SELECT json_extract(facts, '$.last') FROM ledger WHERE kind = 'calls_archived' ORDER BY seq DESC LIMIT 1), 0)
BEGIN SELECT RAISE(ABORT, 'append-only: recorded calls are deleted only after the ledger records that they are dropped or archived'); END;
DROP TRIGGER call_rows_dropped;
CREATE TRIGGER call_rows_dropped BEFORE DELETE ON call_rows
WHEN OLD.batch > coalesce((SELECT json_extract(facts, '$.calls.batch') FROM ledger WHERE kind = 'calls_dropped' ORDER BY seq DESC LIMIT 1), 0)
  AND OLD.batch > coalesce((SELECT json_extract(facts, '$.last') FROM ledger WHERE kind = 'calls_archived' ORDER BY seq DESC LIMIT 1), 0)
BEGIN SELECT RAISE(ABORT, 'append-only: recorded calls are deleted only after the ledger records that they are dropped or archived'); END;

-- For people with an SQL prompt. Reports in archive files are not in these views.
DROP VIEW attempts_finished;
CREATE VIEW attempts_finished AS SELECT ledger.seq, at, namespace, connection, facts, coalesce(ledger.body, bodies.body) AS steps FROM ledger LEFT JOIN bodies ON bodies.seq = ledger.seq WHERE kind = 'attempt_finished';
DROP VIEW steps;
CREATE VIEW steps AS SELECT ledger.seq, at, namespace, connection, one.key + 1 AS number, json_extract(one.value, '$.step') AS step, json_extract(one.value, '$.status') AS status, json_extract(one.value, '$.duration_ms') AS duration_ms, coalesce(json_extract(one.value, '$.failure.class'), '') AS class, coalesce(json_extract(one.value, '$.failure.title'), '') AS title, coalesce(json_extract(one.value, '$.failure.fix'), '') AS fix FROM ledger LEFT JOIN bodies ON bodies.seq = ledger.seq, json_each(coalesce(ledger.body, bodies.body)) AS one WHERE kind = 'attempt_finished';

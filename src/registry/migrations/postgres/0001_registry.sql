-- The registry on PostgreSQL 15 and newer: the equal of the first nine migrations for SQLite, with the same tables, columns and
-- views. It is applied by the owner of the schema, in one transaction, with the schema first in search_path.
--
-- Every text has the collation "C", so that texts are compared by their bytes as in SQLite, and so that an update of the operating
-- system never changes the order of an index.

DO $$
BEGIN
  IF current_setting('server_encoding') <> 'UTF8' THEN
    RAISE EXCEPTION 'the registry needs a database with the encoding UTF8, and this one has %', current_setting('server_encoding');
  END IF;
END $$;

CREATE TABLE IF NOT EXISTS schema_migrations (
  version bigint PRIMARY KEY,
  sha256  text   NOT NULL
);

-- Functions that SQLite has and PostgreSQL does not have, so that one SQL text works on both.

-- Returns the value at a path such as `$.a.b` or `$.a[0]` as text: numbers as they are written, true and false as 1 and 0, null and
-- what is missing as NULL, objects and arrays as JSON. SQLite returns numbers, so a comparison with a number needs a CAST.
CREATE FUNCTION json_extract(document text, path text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
  found json;
BEGIN
  IF left(path, 1) <> '$' OR strpos(path, '"') > 0 THEN
    RAISE EXCEPTION 'the JSON path % is not supported; write a path such as $.a.b[0]', path;
  END IF;
  -- A text of PostgreSQL cannot contain the character U+0000, so U+FFFD takes its place.
  IF strpos(document, '\u0000') > 0 THEN
    document := regexp_replace(document, '(?<!\\)((?:\\\\)*)\\u0000', '\1\\ufffd', 'g');
  END IF;
  found := document::json #> string_to_array(substr(translate(path, '[]', '.'), 3), '.');
  RETURN CASE json_typeof(found)
    WHEN 'string' THEN found #>> '{}'
    WHEN 'boolean' THEN CASE found #>> '{}' WHEN 'true' THEN '1' ELSE '0' END
    WHEN 'null' THEN NULL
    ELSE found #>> '{}'
  END;
END $$;

-- Returns the members of an object, the items of an array numbered from 0, or one row without a key for any other value. Values
-- are as in json_extract.
CREATE FUNCTION json_each(document text) RETURNS TABLE (key text, value text)
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE ROWS 10 AS $$
#variable_conflict use_column
DECLARE
  parsed json;
  kind text;
BEGIN
  IF strpos(document, '\u0000') > 0 THEN
    document := regexp_replace(document, '(?<!\\)((?:\\\\)*)\\u0000', '\1\\ufffd', 'g');
  END IF;
  parsed := document::json;
  kind := json_typeof(parsed);
  RETURN QUERY
    SELECT member.key, CASE json_typeof(member.value)
        WHEN 'boolean' THEN CASE member.value #>> '{}' WHEN 'true' THEN '1' ELSE '0' END
        WHEN 'null' THEN NULL
        ELSE member.value #>> '{}'
      END
    FROM (
      SELECT object.key, object.value FROM pg_catalog.json_each(CASE kind WHEN 'object' THEN parsed END) AS object
      UNION ALL
      SELECT (list.place - 1)::text, list.value
      FROM json_array_elements(CASE kind WHEN 'array' THEN parsed END) WITH ORDINALITY AS list (value, place)
      UNION ALL
      SELECT NULL, parsed WHERE kind NOT IN ('object', 'array')
    ) AS member;
END $$;

-- As in SQLite, the hexadecimal text of NULL is empty.
CREATE FUNCTION hex(bytes bytea) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT coalesce(upper(encode(bytes, 'hex')), '') $$;

-- The place of a part in a text, counted from 1, or 0.
CREATE FUNCTION instr(whole text, part text) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT strpos(whole, part) $$;

-- The ledger: every fact that AAM ever accepted or found. The facts of a connection are in the chain of its id, those of the whole
-- registry are in chain 0. Each row is chained to the one before in its chain.
CREATE TABLE ledger (
  seq        bigint PRIMARY KEY,
  at         bigint NOT NULL,             -- milliseconds since 1970 UTC, never earlier than the row before in the chain
  kind       text COLLATE "C" NOT NULL,
  namespace  text COLLATE "C" NOT NULL,   -- empty: concerns the whole registry
  connection text COLLATE "C",
  facts      text COLLATE "C" NOT NULL,   -- JSON, enough for every fold
  body       text COLLATE "C",            -- document, step reports, catalog or policy
  prev       bytea NOT NULL,
  hash       bytea NOT NULL,              -- SHA-256 over prev and the columns above
  chain      bigint NOT NULL CHECK (chain BETWEEN 0 AND 63),
  place      bigint NOT NULL,             -- numbered from 1 without gaps in each chain
  UNIQUE (chain, place)
);

CREATE INDEX ledger_connection ON ledger (connection, seq) WHERE connection IS NOT NULL;
CREATE INDEX ledger_at ON ledger (at, seq);
CREATE INDEX ledger_seals ON ledger (namespace) WHERE kind = 'namespace_sealed';
CREATE INDEX ledger_calls_dropped ON ledger (seq) WHERE kind = 'calls_dropped';
CREATE INDEX ledger_calls_recorded ON ledger (seq) WHERE kind = 'calls_recorded';
CREATE INDEX ledger_drift ON ledger (seq) WHERE kind = 'catalog_registered' AND CAST(json_extract(facts, '$.version') AS BIGINT) > 1;
CREATE INDEX ledger_drift_acknowledged ON ledger (connection, seq) WHERE kind = 'drift_acknowledged';

-- The calls that were made. Each attempt that called something has a batch; other calls, such as messages to webhooks, have
-- batches without an attempt. The hash of a batch covers the hash of the batch before it, the columns of the batch and all of
-- its calls. Entries of the ledger name batches with their hash, so old batches can be dropped, and no other one can be missing.
CREATE TABLE call_batches (
  batch      bigint PRIMARY KEY,          -- numbered from 1 without gaps
  at         bigint NOT NULL,             -- when it was recorded, in milliseconds since 1970 UTC
  connection text COLLATE "C" NOT NULL,
  namespace  text COLLATE "C" NOT NULL,   -- empty: the connection is not in the registry
  family     text COLLATE "C" NOT NULL,
  begun_at   bigint,                      -- when the attempt began; NULL outside of attempts
  why        text COLLATE "C",
  policy     bytea,                       -- digest of the policy that was in force
  attempt    bigint,                      -- the entry attempt_finished; NULL if the attempt found nothing new
  calls      bigint NOT NULL,
  cut        bigint NOT NULL,             -- further calls, which were only counted
  hash       bytea NOT NULL               -- SHA-256
);

CREATE INDEX call_batches_connection ON call_batches (connection, batch);
CREATE INDEX call_batches_at ON call_batches (at);

-- What calls have in common, once for each month in which it is used, so that it can be dropped with the calls.
CREATE TABLE call_targets (
  target    bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
  digest    bytea  NOT NULL UNIQUE,       -- the first half of the SHA-256 of the month and the texts
  month     bigint NOT NULL,              -- since 1970
  purpose   text COLLATE "C" NOT NULL,    -- source, vault, token or webhook
  method    text COLLATE "C" NOT NULL,
  host      text COLLATE "C" NOT NULL,
  path      text COLLATE "C" NOT NULL,
  statement text COLLATE "C" NOT NULL,
  rule      text COLLATE "C" NOT NULL
);

CREATE TABLE call_rows (
  batch  bigint NOT NULL,
  call   bigint NOT NULL,                 -- numbered from 1 in each batch
  target bigint NOT NULL,
  at     bigint NOT NULL,                 -- when it began
  status bigint,
  sent   bigint,
  bytes  bigint NOT NULL,
  ms     bigint NOT NULL,
  error  text COLLATE "C" NOT NULL,
  PRIMARY KEY (batch, call)
);

-- Triggers. The messages are those of SQLite.

CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING MESSAGE = TG_ARGV[0], ERRCODE = 'integrity_constraint_violation';
END $$;

-- One function for all checks of a new row, because each call costs some microseconds. Scans are switched off because a plan that
-- was made while the table was empty would otherwise read the whole table for each row later.
CREATE FUNCTION check_ledger_row() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan TO off AS $$
DECLARE
  last_seq bigint;
  last_place bigint;
BEGIN
  SELECT seq, place INTO last_seq, last_place FROM ledger WHERE chain = NEW.chain ORDER BY place DESC LIMIT 1;
  IF NEW.place IS DISTINCT FROM coalesce(last_place, 0) + 1 OR NEW.seq IS NULL OR NEW.seq <= coalesce(last_seq, 0) THEN
    RAISE EXCEPTION USING MESSAGE = 'append-only: a row of the ledger comes after the last one',
      ERRCODE = 'integrity_constraint_violation';
  END IF;
  IF NEW.namespace <> '' THEN
    -- The namespace demo holds sample data. Only its seed may write to it, also before the seed was loaded.
    IF NEW.namespace = 'demo' AND NOT (
      NEW.kind = 'namespace_sealed'
      OR (NEW.kind = 'intent_accepted' AND coalesce(json_extract(NEW.facts, '$.origin'), '') LIKE 'seed:%')
    ) THEN
      RAISE EXCEPTION USING MESSAGE = 'sealed: the namespace demo accepts nothing but its seed',
        ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF EXISTS (SELECT 1 FROM ledger WHERE kind = 'namespace_sealed' AND namespace = NEW.namespace) THEN
      RAISE EXCEPTION USING MESSAGE = 'sealed: nothing writes to this namespace after its seed was loaded',
        ERRCODE = 'integrity_constraint_violation';
    END IF;
  END IF;
  RETURN NEW;
END $$;

CREATE FUNCTION check_call_batch() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan TO off AS $$
BEGIN
  IF NEW.batch <= (SELECT coalesce(max(batch), 0) FROM call_batches) THEN
    RAISE EXCEPTION USING MESSAGE = 'append-only: a batch of calls comes after the last one',
      ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NEW;
END $$;

-- Rows can be deleted only after the ledger says so. This is checked once for each statement.
CREATE FUNCTION check_calls_deleted() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan TO off AS $$
DECLARE
  dropped bigint;
BEGIN
  SELECT CAST(json_extract(facts, '$.calls.batch') AS BIGINT) INTO dropped
  FROM ledger WHERE kind = 'calls_dropped' ORDER BY seq DESC LIMIT 1;
  IF EXISTS (SELECT 1 FROM deleted WHERE batch > coalesce(dropped, 0)) THEN
    RAISE EXCEPTION USING
      MESSAGE = 'append-only: recorded calls are deleted only after the ledger records that they are dropped',
      ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NULL;
END $$;

CREATE TRIGGER ledger_no_update BEFORE UPDATE ON ledger FOR EACH STATEMENT
EXECUTE FUNCTION refuse('append-only: a row of the ledger never changes');
CREATE TRIGGER ledger_no_delete BEFORE DELETE OR TRUNCATE ON ledger FOR EACH STATEMENT
EXECUTE FUNCTION refuse('append-only: a row of the ledger is never deleted');
CREATE TRIGGER ledger_next BEFORE INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION check_ledger_row();

CREATE TRIGGER call_batches_no_update BEFORE UPDATE ON call_batches FOR EACH STATEMENT
EXECUTE FUNCTION refuse('append-only: a recorded call never changes');
CREATE TRIGGER call_targets_no_update BEFORE UPDATE ON call_targets FOR EACH STATEMENT
EXECUTE FUNCTION refuse('append-only: a recorded call never changes');
CREATE TRIGGER call_rows_no_update BEFORE UPDATE ON call_rows FOR EACH STATEMENT
EXECUTE FUNCTION refuse('append-only: a recorded call never changes');

CREATE TRIGGER call_batches_no_truncate BEFORE TRUNCATE ON call_batches FOR EACH STATEMENT
EXECUTE FUNCTION refuse('append-only: recorded calls are deleted only after the ledger records that they are dropped');
CREATE TRIGGER call_targets_no_truncate BEFORE TRUNCATE ON call_targets FOR EACH STATEMENT
EXECUTE FUNCTION refuse('append-only: recorded calls are deleted only after the ledger records that they are dropped');
CREATE TRIGGER call_rows_no_truncate BEFORE TRUNCATE ON call_rows FOR EACH STATEMENT
EXECUTE FUNCTION refuse('append-only: recorded calls are deleted only after the ledger records that they are dropped');

CREATE TRIGGER call_batches_next BEFORE INSERT ON call_batches FOR EACH ROW EXECUTE FUNCTION check_call_batch();
CREATE TRIGGER call_batches_dropped AFTER DELETE ON call_batches REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT
EXECUTE FUNCTION check_calls_deleted();
CREATE TRIGGER call_rows_dropped AFTER DELETE ON call_rows REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT
EXECUTE FUNCTION check_calls_deleted();

-- The functions of the triggers look for tables in this schema first and never in the temporary schema of a session, where anybody
-- can create a table with the name of the ledger. The triggers also fire in sessions with session_replication_role = replica.
DO $$
DECLARE
  one record;
BEGIN
  FOR one IN
    SELECT p.oid::regprocedure AS name, n.nspname AS home FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = current_schema() AND p.proname IN ('check_ledger_row', 'check_call_batch', 'check_calls_deleted')
  LOOP
    EXECUTE format('ALTER FUNCTION %s SET search_path TO %I, pg_temp', one.name, one.home);
  END LOOP;
  FOR one IN
    SELECT t.tgname AS name, c.relname AS owner, n.nspname AS home
    FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = current_schema() AND NOT t.tgisinternal
      AND c.relname IN ('ledger', 'call_batches', 'call_targets', 'call_rows')
  LOOP
    EXECUTE format('ALTER TABLE %I.%I ENABLE ALWAYS TRIGGER %I', one.home, one.owner, one.name);
  END LOOP;
END $$;

-- Working state. No fact is here alone: losing these tables costs repeated work, never history.

-- An attempt that began and did not finish. Written before the first side effect.
CREATE TABLE tickets (
  connection text COLLATE "C" PRIMARY KEY,
  under      text COLLATE "C" NOT NULL,   -- JSON
  in_ledger  bigint NOT NULL              -- the attempt_begun row is already appended
);

-- When a re-check found nothing new, and how many failures there were in a row.
CREATE TABLE checked (
  connection text COLLATE "C" PRIMARY KEY,
  at         bigint NOT NULL,
  failures   bigint NOT NULL,
  full_at    bigint,
  generation bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 80);

-- Calls granted on a UTC day.
CREATE TABLE budget (
  account text COLLATE "C" NOT NULL,
  day     bigint NOT NULL,
  used    bigint NOT NULL,
  PRIMARY KEY (account, day)
) WITH (fillfactor = 80);

-- What the last look at the intents folder saw, so that a restart does not read unchanged files again.
CREATE TABLE folder_marks (
  path     text COLLATE "C" PRIMARY KEY,
  size     bigint NOT NULL,
  mtime_ns bigint NOT NULL,
  inode    bigint NOT NULL,
  content  bytea  NOT NULL                -- first half of the SHA-256
);

-- The answers to requests with an Idempotency-Key, for a day. If a row is lost, the request is done again.
CREATE TABLE idempotency_keys (
  caller  bytea  NOT NULL,                -- digest of the token and its rights
  key     text COLLATE "C" NOT NULL,
  at      bigint NOT NULL,
  request bytea  NOT NULL,                -- digest of the request
  status  bigint NOT NULL,
  headers text COLLATE "C" NOT NULL,      -- JSON
  body    bytea  NOT NULL,                -- gzip
  rowid   bigint GENERATED ALWAYS AS IDENTITY,  -- the order of rows of the same millisecond, which every table of SQLite has
  PRIMARY KEY (caller, key)
);

CREATE INDEX idempotency_keys_at ON idempotency_keys (at);

-- The message that a webhook is sent at the moment, so that it is repeated with the same id and the same content after a restart,
-- and not earlier than the backoff allows. Losing it costs a repeated message, never an event.
CREATE TABLE webhook_messages (
  webhook text COLLATE "C" PRIMARY KEY,
  up_to   bigint NOT NULL,                -- the message holds the events after the cursor, up to this entry
  tries   bigint NOT NULL,
  next_at bigint NOT NULL,                -- milliseconds since 1970 UTC
  problem text COLLATE "C" NOT NULL       -- why the last try failed
);

-- Who may write to each chain, and until when by the clock of the database. A partition has the number of its chain. Each taking
-- of a partition raises its fencing number, so that the process that had it before cannot write any more.
CREATE TABLE leases (
  partition bigint PRIMARY KEY,
  holder    text COLLATE "C" NOT NULL,    -- empty: free
  address   text COLLATE "C" NOT NULL,
  fence     bigint NOT NULL,
  ends_at   timestamptz NOT NULL
) WITH (fillfactor = 20);

INSERT INTO leases (partition, holder, address, fence, ends_at)
SELECT number, '', '', 0, 'epoch' FROM generate_series(0, 63) AS number;

-- Written and deleted to find out whether the disk has space. Not compressed, because it would be too small then.
CREATE TABLE probe (filler bytea NOT NULL);
ALTER TABLE probe ALTER COLUMN filler SET STORAGE EXTERNAL;

-- For people with an SQL prompt; docs/sql.md describes all views.
CREATE VIEW entries AS SELECT seq, at, kind, namespace, connection, facts, lower(hex(hash)) AS hash FROM ledger;
CREATE VIEW intents AS SELECT seq, at, namespace, connection, json_extract(facts, '$.origin') AS origin, body AS document FROM ledger WHERE kind = 'intent_accepted';
CREATE VIEW withdrawals AS SELECT seq, at, namespace, connection, json_extract(facts, '$.origin') AS origin, json_extract(facts, '$.reason') AS reason FROM ledger WHERE kind = 'intent_withdrawn';
CREATE VIEW retirements AS SELECT seq, at, namespace, connection FROM ledger WHERE kind = 'connection_retired';
CREATE VIEW handoffs AS SELECT seq, at, namespace, json_extract(facts, '$.run') AS run, json_extract(facts, '$.handoff') AS handoff, facts, body AS candidates FROM ledger WHERE kind = 'handoff_received';
CREATE VIEW confirmations AS SELECT seq, at, namespace, connection, json_extract(facts, '$.cause') AS cause, json_extract(facts, '$.by') AS confirmed_by FROM ledger WHERE kind = 'departure_confirmed';
CREATE VIEW attempts_begun AS SELECT seq, at, namespace, connection, facts FROM ledger WHERE kind = 'attempt_begun';
CREATE VIEW attempts_finished AS SELECT seq, at, namespace, connection, facts, body AS steps FROM ledger WHERE kind = 'attempt_finished';
-- The CASE keeps json_each from bodies that are not JSON, whatever the planner does first.
CREATE VIEW steps AS SELECT ledger.seq, at, namespace, connection, CAST(one.key AS BIGINT) + 1 AS number, json_extract(one.value, '$.step') AS step, json_extract(one.value, '$.status') AS status, CAST(json_extract(one.value, '$.duration_ms') AS BIGINT) AS duration_ms, coalesce(json_extract(one.value, '$.failure.class'), '') AS class, coalesce(json_extract(one.value, '$.failure.title'), '') AS title, coalesce(json_extract(one.value, '$.failure.fix'), '') AS fix FROM ledger, json_each(CASE WHEN kind = 'attempt_finished' THEN ledger.body END) AS one WHERE kind = 'attempt_finished';
CREATE VIEW catalogs AS SELECT seq, at, namespace, connection, CAST(json_extract(facts, '$.version') AS BIGINT) AS version, body AS catalog FROM ledger WHERE kind = 'catalog_registered';
CREATE VIEW schema_changes AS SELECT ledger.seq, at, namespace, connection, CAST(json_extract(facts, '$.version') AS BIGINT) AS version, CAST(CASE list.key WHEN 'breaking' THEN 1 ELSE 0 END AS BIGINT) AS breaking, one.value AS change FROM ledger, json_each(CASE WHEN kind = 'catalog_registered' THEN ledger.facts END) AS list, json_each(CASE WHEN list.key IN ('breaking', 'additive') THEN list.value END) AS one WHERE kind = 'catalog_registered';
CREATE VIEW drift_acknowledgements AS SELECT seq, at, namespace, connection, CAST(json_extract(facts, '$.version') AS BIGINT) AS version, json_extract(facts, '$.by') AS acknowledged_by, json_extract(facts, '$.note') AS note FROM ledger WHERE kind = 'drift_acknowledged';
CREATE VIEW policy_versions AS SELECT seq, at, json_extract(facts, '$.policy') AS policy, body AS text FROM ledger WHERE kind = 'policy_accepted';
CREATE VIEW policy_rejections AS SELECT seq, at, json_extract(facts, '$.problems') AS problems FROM ledger WHERE kind = 'policy_rejected';
CREATE VIEW intent_problems AS SELECT seq, at, json_extract(facts, '$.file') AS file, json_extract(facts, '$.problems') AS problems FROM ledger WHERE kind = 'intent_problems';
CREATE VIEW credentials_expiring AS SELECT seq, at, namespace, connection, json_extract(facts, '$.title') AS title FROM ledger WHERE kind = 'credential_expiring';
CREATE VIEW webhook_deliveries AS SELECT seq, at, json_extract(facts, '$.webhook') AS webhook, CAST(json_extract(facts, '$.up_to') AS BIGINT) AS up_to, CAST(json_extract(facts, '$.events') AS BIGINT) AS events FROM ledger WHERE kind = 'webhook_delivered';
CREATE VIEW calls AS
SELECT c.batch, c.call, c.at, b.connection, b.namespace, b.family, b.attempt, b.begun_at, b.why, lower(hex(b.policy)) AS policy,
       t.purpose, t.method, t.host, t.path, t.statement, t.rule, c.status, c.sent, c.bytes, c.ms, c.error
FROM call_rows c JOIN call_batches b USING (batch) JOIN call_targets t USING (target);

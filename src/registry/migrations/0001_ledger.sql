-- The ledger: every fact that AAM ever accepted or found, in one order, each row chained to the one before.
CREATE TABLE ledger (
  seq        INTEGER PRIMARY KEY,
  at         INTEGER NOT NULL,            -- milliseconds since 1970 UTC, never earlier than the row before
  kind       TEXT    NOT NULL,
  namespace  TEXT    NOT NULL,            -- empty: concerns the whole registry
  connection TEXT,
  facts      TEXT    NOT NULL,            -- JSON, enough for every fold
  body       TEXT,                        -- document, step reports, catalog or policy
  prev       BLOB    NOT NULL,
  hash       BLOB    NOT NULL             -- SHA-256 over prev and all columns above
) STRICT;

CREATE INDEX ledger_connection ON ledger (connection, seq) WHERE connection IS NOT NULL;
CREATE INDEX ledger_at ON ledger (at, seq);

CREATE TRIGGER ledger_no_update BEFORE UPDATE ON ledger
BEGIN SELECT RAISE(ABORT, 'append-only: a row of the ledger never changes'); END;

CREATE TRIGGER ledger_no_delete BEFORE DELETE ON ledger
BEGIN SELECT RAISE(ABORT, 'append-only: a row of the ledger is never deleted'); END;

-- Also closes INSERT OR REPLACE, which would delete without firing the trigger above.
CREATE TRIGGER ledger_next BEFORE INSERT ON ledger
WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM ledger)
BEGIN SELECT RAISE(ABORT, 'append-only: a row of the ledger comes after the last one'); END;

CREATE TRIGGER ledger_sealed BEFORE INSERT ON ledger
WHEN NEW.namespace <> '' AND EXISTS (SELECT 1 FROM ledger WHERE kind = 'namespace_sealed' AND namespace = NEW.namespace)
BEGIN SELECT RAISE(ABORT, 'sealed: nothing writes to this namespace after its seed was loaded'); END;

CREATE INDEX ledger_seals ON ledger (namespace) WHERE kind = 'namespace_sealed';

-- For people with an SQL prompt.
CREATE VIEW intents AS SELECT seq, at, namespace, connection, json_extract(facts, '$.origin') AS origin, body AS document FROM ledger WHERE kind = 'intent_accepted';
CREATE VIEW attempts_begun AS SELECT seq, at, namespace, connection, facts FROM ledger WHERE kind = 'attempt_begun';
CREATE VIEW attempts_finished AS SELECT seq, at, namespace, connection, facts, body AS steps FROM ledger WHERE kind = 'attempt_finished';
CREATE VIEW catalogs AS SELECT seq, at, namespace, connection, json_extract(facts, '$.version') AS version, body AS catalog FROM ledger WHERE kind = 'catalog_registered';
CREATE VIEW policy_versions AS SELECT seq, at, json_extract(facts, '$.policy') AS policy, body AS text FROM ledger WHERE kind = 'policy_accepted';
CREATE VIEW retirements AS SELECT seq, at, namespace, connection FROM ledger WHERE kind = 'connection_retired';

-- Working state. No fact lives here alone: losing these tables costs repeated work, never history.

-- An attempt that began and did not finish. Written before the first side effect.
CREATE TABLE tickets (
  connection TEXT PRIMARY KEY,
  under      TEXT NOT NULL,               -- JSON
  in_ledger  INTEGER NOT NULL             -- the attempt_begun row is already appended
) STRICT, WITHOUT ROWID;

-- When a re-check found nothing new, and how many failures there were in a row.
CREATE TABLE checked (
  connection TEXT PRIMARY KEY,
  at         INTEGER NOT NULL,
  full       INTEGER NOT NULL,
  failures   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Calls granted on a UTC day.
CREATE TABLE budget (
  account TEXT    NOT NULL,
  day     INTEGER NOT NULL,
  used    INTEGER NOT NULL,
  PRIMARY KEY (account, day)
) STRICT, WITHOUT ROWID;

-- The grants of owners (consents) and the links with which they give them, which several replicas share. Tokens and the secrets of
-- running authorizations are encrypted with the key that the policy names, and the key is never in the database.

-- One row. Each change of the store locks it, so that changes come one after the other, and raises the version.
CREATE TABLE consent_store (
  one            bigint PRIMARY KEY,
  version        bigint NOT NULL,
  change         text COLLATE "C" NOT NULL,  -- random, by which a process finds out whether its change was committed
  content        text COLLATE "C" NOT NULL,  -- JSON: the format, and a text that only the right key opens; empty: nothing was stored
  complete_since bigint NOT NULL             -- a reader that knows an earlier version reads everything again
) WITH (fillfactor = 50);

INSERT INTO consent_store (one, version, change, content, complete_since) VALUES (1, 0, '', '', 0);

CREATE TABLE consent_rows (
  kind    text COLLATE "C" NOT NULL,         -- grant or link
  key     text COLLATE "C" NOT NULL,         -- the connection and the name of the consent, or the id of the link
  version bigint NOT NULL,                   -- the version of the store that changed the row last
  content text COLLATE "C",                  -- JSON; NULL: removed, and kept for a while so that other replicas see it
  PRIMARY KEY (kind, key)
) WITH (fillfactor = 70);

CREATE INDEX consent_rows_version ON consent_rows (version);

-- Who refreshes the grants of a connection. The times are of the clock of the database.
CREATE TABLE consent_locks (
  connection text COLLATE "C" PRIMARY KEY,
  holder     text COLLATE "C" NOT NULL,      -- a name that is never used again
  ends_at    timestamptz NOT NULL
) WITH (fillfactor = 50);

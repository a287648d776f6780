-- The answers to requests with an Idempotency-Key, for a day. Working state: if a row is lost, the request is done again.
CREATE TABLE idempotency_keys (
  caller  BLOB    NOT NULL,               -- digest of the token and its rights
  key     TEXT    NOT NULL,
  at      INTEGER NOT NULL,
  request BLOB    NOT NULL,               -- digest of the request
  status  INTEGER NOT NULL,
  headers TEXT    NOT NULL,               -- JSON
  body    BLOB    NOT NULL,               -- gzip
  PRIMARY KEY (caller, key)
) STRICT;

CREATE INDEX idempotency_keys_at ON idempotency_keys (at);

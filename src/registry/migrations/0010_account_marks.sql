-- Working state: the accounts that are not called for now, because the source asked for it or because AAM has used its own share of
-- its calls, and the hosts whose circuit breaker is open. A process that starts applies them before its first call. Losing a mark
-- costs a call that the source asked not to be made.
CREATE TABLE account_marks (
  subject TEXT NOT NULL,                  -- account or host
  key     TEXT NOT NULL,                  -- family|account or family|host:port
  kind    TEXT NOT NULL,                  -- asked_to_wait, share_used, breaker_open or breaker_closed
  set_at  INTEGER NOT NULL,               -- milliseconds since 1970 UTC
  ends_at INTEGER NOT NULL,               -- milliseconds since 1970 UTC
  reason  TEXT NOT NULL,
  version INTEGER NOT NULL,               -- grows with each change of the row
  PRIMARY KEY (subject, key)
) STRICT, WITHOUT ROWID;

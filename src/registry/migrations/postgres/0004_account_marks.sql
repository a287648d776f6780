-- Working state that replicas share.

-- The accounts that are not called for now, because the source asked for it or because AAM has used its own share of its calls, and
-- the hosts whose circuit breaker is open. Replicas learn them from each other, and a process that starts applies them before its
-- first call. Losing a mark costs a call that the source asked not to be made. All times are of the clock of the database.
CREATE TABLE account_marks (
  subject text COLLATE "C" NOT NULL,      -- account or host
  key     text COLLATE "C" NOT NULL,      -- family|account or family|host:port
  kind    text COLLATE "C" NOT NULL,      -- asked_to_wait, share_used, breaker_open or breaker_closed
  set_at  bigint NOT NULL,                -- milliseconds since 1970 UTC
  ends_at bigint NOT NULL,                -- milliseconds since 1970 UTC
  reason  text COLLATE "C" NOT NULL,
  version bigint NOT NULL,                -- grows with each change of the row
  PRIMARY KEY (subject, key)
) WITH (fillfactor = 80);

-- Which processes use an account, and on how many parts of its limits each of them counts. A process uses at most one of that many
-- parts while its row has not ended. A row is kept for an hour after its end, because the account then has calls left again.
CREATE TABLE account_holders (
  account text COLLATE "C" NOT NULL,      -- family|account
  holder  text COLLATE "C" NOT NULL,      -- the name of the process
  parts   bigint NOT NULL CHECK (parts > 0),
  ends_at timestamptz NOT NULL,
  PRIMARY KEY (account, holder)
) WITH (fillfactor = 50);

CREATE INDEX account_holders_holder ON account_holders (holder, account);

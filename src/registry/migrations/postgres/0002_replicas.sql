-- Several replicas write to the registry at the same time. Each transaction locks the leases of the chains that it appends to, so
-- the rows of a chain are committed in the order of their places.

-- The numbers of rows come from a sequence: unique, increasing in each chain, with gaps where a transaction took more numbers than
-- it used.
CREATE SEQUENCE ledger_seq AS bigint MINVALUE 1 CACHE 1;
SELECT setval('ledger_seq', coalesce(max(seq), 0) + 1, false) FROM ledger;

-- The replicas that run, or ran within the length of a lease.
CREATE TABLE replicas (
  name    text COLLATE "C" PRIMARY KEY,
  address text COLLATE "C" NOT NULL,      -- where it listens, for people; empty if it does not
  version text COLLATE "C" NOT NULL,
  policy  text COLLATE "C" NOT NULL,      -- digest of the policy file that it read last
  ends_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Connections that a person asked to be checked now, until the replica that has their partition begins the check.
CREATE TABLE heals (
  connection text COLLATE "C" PRIMARY KEY,
  part       bigint NOT NULL CHECK (part BETWEEN 0 AND 63)
);

-- Replicas read what others checked again with nothing new.
CREATE INDEX checked_at ON checked (at);

-- The tag of this registry in the numbers of its advisory locks. Another registry in the same database has another tag, except by a
-- rare coincidence, which only delays events.
CREATE FUNCTION registry_tag() RETURNS bigint LANGUAGE sql STABLE AS $$
  SELECT (16384 + (CAST('ledger'::regclass::oid AS bigint) % 16384)) << 48
$$;

-- Locks the leases of the given partitions until the end of the transaction, in their order, and returns their holders and the last
-- row of each chain. Chain 0 is returned in any case, because every replica must know its facts before it decides anything.
-- The statement that reads the last rows begins after the locks were granted, so it sees all rows of the chains.
CREATE FUNCTION lock_chains(wanted text) RETURNS TABLE (
  part bigint, holder text, fence bigint, is_valid bigint, place bigint, now_ms bigint
)
LANGUAGE plpgsql VOLATILE SET enable_seqscan TO off AS $$
#variable_conflict use_column
DECLARE
  parts bigint[] := string_to_array(wanted, ',')::bigint[];
BEGIN
  PERFORM 1 FROM leases WHERE leases.partition = ANY (parts) ORDER BY leases.partition FOR NO KEY UPDATE;
  -- All numbers that this transaction takes are greater than the last one that was given until now. Readers that follow all chains
  -- wait for the transactions that hold such a lock; see ledger_horizon.
  PERFORM pg_advisory_xact_lock_shared(registry_tag() | (SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM ledger_seq));
  RETURN QUERY
    SELECT leases.partition, leases.holder, leases.fence, CAST(leases.ends_at > clock_timestamp() AS integer)::bigint,
           coalesce((SELECT ledger.place FROM ledger WHERE ledger.chain = leases.partition ORDER BY ledger.place DESC LIMIT 1), 0),
           CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)
    FROM leases WHERE leases.partition = ANY (parts) OR leases.partition = 0
    ORDER BY leases.partition;
END $$;

-- The next numbers of rows, separated by commas.
CREATE FUNCTION take_numbers(wanted bigint) RETURNS text LANGUAGE sql VOLATILE AS $$
  SELECT string_agg(CAST(nextval('ledger_seq') AS text), ',') FROM generate_series(1, wanted)
$$;

-- The number up to which no row can be added any more. A transaction that may still commit a row with a smaller number holds an
-- advisory lock with a number before it. Call it before the statement that reads the rows.
CREATE FUNCTION ledger_horizon() RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  given bigint;
  open_from bigint;
  tag bigint := registry_tag();
BEGIN
  SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END INTO given FROM ledger_seq;
  SELECT min(((CAST(CAST(classid AS text) AS bigint) << 32) | CAST(CAST(objid AS text) AS bigint)) & 281474976710655) INTO open_from
  FROM pg_locks
  WHERE locktype = 'advisory' AND objsubid = 1
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND CAST(CAST(classid AS text) AS bigint) >> 16 = tag >> 48;
  RETURN least(given, coalesce(open_from, given));
END $$;

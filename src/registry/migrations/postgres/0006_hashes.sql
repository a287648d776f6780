-- The role that AAM runs as may append to the ledger. What it appends has to continue a chain with the right hash, so that whoever
-- has only the password of that role cannot add a row by hand that no replica can read past.

CREATE OR REPLACE FUNCTION check_ledger_row() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan TO off AS $$
DECLARE
  last_seq bigint;
  last_place bigint;
  last_hash bytea;
  hashed bytea;
  part text;
BEGIN
  SELECT seq, place, hash INTO last_seq, last_place, last_hash FROM ledger WHERE chain = NEW.chain ORDER BY place DESC LIMIT 1;
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
  -- The hash as AAM computes it: every text has its length before it, and a missing text differs from an empty one. The first row of
  -- a chain comes after 32 zero bytes.
  hashed := coalesce(last_hash, decode(repeat('00', 32), 'hex'));
  IF NEW.prev IS DISTINCT FROM hashed THEN
    RAISE EXCEPTION USING MESSAGE = 'append-only: a row of the ledger contains the hash of the row before it',
      ERRCODE = 'integrity_constraint_violation';
  END IF;
  hashed := hashed || int8send(NEW.seq) || int8send(NEW.at);
  FOREACH part IN ARRAY ARRAY[NEW.kind, NEW.namespace, NEW.connection, NEW.facts, NEW.body] LOOP
    hashed := hashed || CASE WHEN part IS NULL THEN decode('000000000000000000', 'hex')
      ELSE decode('01', 'hex') || int8send(octet_length(part)) || convert_to(part, 'UTF8') END;
  END LOOP;
  IF NEW.hash IS DISTINCT FROM sha256(hashed) THEN
    RAISE EXCEPTION USING MESSAGE = 'append-only: a row of the ledger has the hash of its content',
      ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NEW;
END $$;

-- Numbers only grow: the role may take them and cannot set them. This one sets them behind what a copy of a registry brought.
CREATE FUNCTION continue_numbers() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  PERFORM setval('ledger_seq', greatest((SELECT max(seq) FROM ledger), (SELECT last_value FROM ledger_seq)));
  PERFORM setval('call_batch_numbers', greatest((SELECT max(batch) FROM call_batches), (SELECT last_value FROM call_batch_numbers)));
END $$;
REVOKE ALL ON FUNCTION continue_numbers() FROM PUBLIC;

-- As in the first migration: the functions find the tables of this schema, never those of the temporary schema of a session.
DO $$
DECLARE
  one record;
BEGIN
  FOR one IN
    SELECT p.oid::regprocedure AS name, n.nspname AS home FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = current_schema() AND p.proname IN ('check_ledger_row', 'continue_numbers')
  LOOP
    EXECUTE format('ALTER FUNCTION %s SET search_path TO %I, pg_temp', one.name, one.home);
  END LOOP;
END $$;

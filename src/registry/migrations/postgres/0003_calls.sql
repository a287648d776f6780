-- Several replicas record calls at the same time. The batches are in 64 chains, by the connection that they were made for, like the
-- rows of the ledger. Chain 64 is the one chain that there was before: it has the batches that were recorded until now, or copied
-- from a registry in a file, and it is closed as soon as another chain has a batch.

ALTER TABLE call_batches ADD COLUMN chain bigint NOT NULL DEFAULT 64;
ALTER TABLE call_batches ADD COLUMN place bigint;
-- Only the owner of the tables can do this, and only here: the new columns say of each batch what its number said before.
ALTER TABLE call_batches DISABLE TRIGGER call_batches_no_update;
UPDATE call_batches SET place = batch;
ALTER TABLE call_batches ENABLE ALWAYS TRIGGER call_batches_no_update;
ALTER TABLE call_batches ALTER COLUMN chain DROP DEFAULT;
ALTER TABLE call_batches ALTER COLUMN place SET NOT NULL;
ALTER TABLE call_batches ADD CHECK (chain BETWEEN 0 AND 64);
-- Numbered from 1 without gaps in each chain. The numbers of batches are unique and increase in each chain, with gaps.
ALTER TABLE call_batches ADD UNIQUE (chain, place);

CREATE SEQUENCE call_batch_numbers AS bigint MINVALUE 1 CACHE 1;
SELECT setval('call_batch_numbers', coalesce(max(batch), 0) + 1, false) FROM call_batches;

-- Two replicas may insert the same target at the same time. A unique index would let each wait for the other one, and with two
-- targets in another order for ever. So a target may be stored once for each replica and month.
ALTER TABLE call_targets DROP CONSTRAINT call_targets_digest_key;
CREATE INDEX call_targets_digest ON call_targets (digest);

-- The last place of a chain that the ledger says is dropped, or 0. Entries that name no chains are about chain 64.
CREATE FUNCTION calls_dropped_up_to(wanted bigint) RETURNS bigint LANGUAGE plpgsql STABLE SET enable_seqscan TO off AS $$
DECLARE
  last json;
BEGIN
  SELECT facts::json INTO last FROM ledger WHERE kind = 'calls_dropped' ORDER BY seq DESC LIMIT 1;
  IF last IS NULL THEN
    RETURN 0;
  END IF;
  IF last -> 'chains' IS NULL THEN
    RETURN CASE wanted WHEN 64 THEN CAST(last #>> '{calls,batch}' AS bigint) ELSE 0 END;
  END IF;
  RETURN coalesce((
    SELECT CAST(one ->> 'place' AS bigint) FROM json_array_elements(last -> 'chains') AS one
    WHERE CAST(one ->> 'chain' AS bigint) = wanted
  ), 0);
END $$;

CREATE OR REPLACE FUNCTION check_call_batch() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan TO off AS $$
DECLARE
  last_batch bigint;
  last_place bigint;
BEGIN
  SELECT batch, place INTO last_batch, last_place FROM call_batches WHERE chain = NEW.chain ORDER BY place DESC LIMIT 1;
  -- All batches of the chain may be dropped.
  IF last_place IS NULL THEN
    last_place := calls_dropped_up_to(NEW.chain);
  END IF;
  IF NEW.place IS DISTINCT FROM last_place + 1 OR NEW.batch <= coalesce(last_batch, 0) THEN
    RAISE EXCEPTION USING MESSAGE = 'append-only: a batch of calls comes after the last one',
      ERRCODE = 'integrity_constraint_violation';
  END IF;
  IF NEW.chain = 64 AND EXISTS (SELECT 1 FROM call_batches WHERE chain < 64) THEN
    RAISE EXCEPTION USING MESSAGE = 'append-only: the chain of the batches of earlier versions is closed',
      ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NEW;
END $$;

CREATE FUNCTION refuse_early_deletion(is_early boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF is_early THEN
    RAISE EXCEPTION USING
      MESSAGE = 'append-only: recorded calls are deleted only after the ledger records that they are dropped',
      ERRCODE = 'integrity_constraint_violation';
  END IF;
END $$;

-- Rows can be deleted only after the ledger says so. This is checked once for each statement.
CREATE OR REPLACE FUNCTION check_calls_deleted() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan TO off AS $$
BEGIN
  PERFORM refuse_early_deletion(EXISTS (
    SELECT 1 FROM (SELECT chain, max(place) AS place FROM deleted GROUP BY chain) AS last
    WHERE last.place > calls_dropped_up_to(last.chain)
  ));
  RETURN NULL;
END $$;

-- The calls of a batch are deleted before the batch itself.
CREATE FUNCTION check_call_rows_deleted() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan TO off AS $$
BEGIN
  PERFORM refuse_early_deletion(EXISTS (
    SELECT 1 FROM (
      SELECT b.chain, max(b.place) AS place FROM (SELECT DISTINCT batch FROM deleted) AS gone LEFT JOIN call_batches AS b USING (batch)
      GROUP BY b.chain
    ) AS last
    WHERE last.chain IS NULL OR last.place > calls_dropped_up_to(last.chain)
  ));
  RETURN NULL;
END $$;

DROP TRIGGER call_rows_dropped ON call_rows;
CREATE TRIGGER call_rows_dropped AFTER DELETE ON call_rows REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT
EXECUTE FUNCTION check_call_rows_deleted();
ALTER TABLE call_rows ENABLE ALWAYS TRIGGER call_rows_dropped;

-- As in the first migration: the functions look for tables in this schema only.
DO $$
DECLARE
  one record;
BEGIN
  FOR one IN
    SELECT p.oid::regprocedure AS name, n.nspname AS home FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = current_schema()
      AND p.proname IN ('check_call_batch', 'check_calls_deleted', 'check_call_rows_deleted', 'calls_dropped_up_to',
        'refuse_early_deletion')
  LOOP
    EXECUTE format('ALTER FUNCTION %s SET search_path TO %I, pg_temp', one.name, one.home);
  END LOOP;
END $$;

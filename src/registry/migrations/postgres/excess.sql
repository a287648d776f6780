-- What the current role may do beyond what AAM needs, by itself or as another role that it may become. No row: nothing. AAM does
-- not run as a role that could change what it recorded.
WITH recorded AS (
  SELECT c.oid, c.relname, c.relowner, n.oid AS home, n.nspowner
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
  WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p')
    AND c.relname IN ('ledger', 'call_batches', 'call_targets', 'call_rows')
), me AS (
  SELECT oid, rolname, rolsuper, rolcreaterole FROM pg_roles WHERE pg_has_role(oid, 'MEMBER')
)
SELECT CAST(recorded.relname AS text) AS object, excess.privilege AS privilege
FROM recorded CROSS JOIN (VALUES ('UPDATE'), ('DELETE'), ('TRUNCATE'), ('REFERENCES'), ('TRIGGER')) AS excess (privilege)
WHERE (excess.privilege <> 'DELETE' OR recorded.relname = 'ledger')
  AND EXISTS (
    SELECT 1 FROM me
    WHERE CASE WHEN excess.privilege IN ('UPDATE', 'REFERENCES') THEN has_any_column_privilege(me.oid, recorded.oid, excess.privilege)
               ELSE has_table_privilege(me.oid, recorded.oid, excess.privilege) END
  )
UNION ALL
SELECT CAST(c.relname AS text), 'UPDATE'
FROM pg_class AS c
WHERE c.relnamespace IN (SELECT home FROM recorded) AND c.relkind = 'S' AND c.relname IN ('ledger_seq', 'call_batch_numbers')
  AND EXISTS (SELECT 1 FROM me WHERE has_sequence_privilege(me.oid, c.oid, 'UPDATE'))
UNION ALL
SELECT CAST(recorded.relname AS text), 'OWNER' FROM recorded WHERE pg_has_role(recorded.relowner, 'MEMBER')
UNION ALL
SELECT 'schema', 'OWNER' WHERE EXISTS (SELECT 1 FROM recorded WHERE pg_has_role(recorded.nspowner, 'MEMBER'))
UNION ALL
SELECT 'schema', 'CREATE'
WHERE EXISTS (SELECT 1 FROM recorded CROSS JOIN me WHERE has_schema_privilege(me.oid, recorded.home, 'CREATE'))
UNION ALL
SELECT 'role', 'SUPERUSER' WHERE EXISTS (SELECT 1 FROM me WHERE rolsuper)
UNION ALL
-- Before PostgreSQL 16, such a role can make itself a member of the owner.
SELECT 'role', 'CREATEROLE'
WHERE CAST(current_setting('server_version_num') AS bigint) < 160000 AND EXISTS (SELECT 1 FROM me WHERE rolcreaterole)
UNION ALL
-- Such an answer says nothing about the tables, so it must not look like a good one.
SELECT 'schema', 'TABLES NOT FOUND' WHERE (SELECT count(*) FROM recorded) <> 4
ORDER BY object, privilege

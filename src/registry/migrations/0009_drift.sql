-- Acknowledgements of schema changes are facts of the ledger. An earlier version of AAM cannot read them.
CREATE INDEX ledger_drift ON ledger (seq) WHERE kind = 'catalog_registered' AND json_extract(facts, '$.version') > 1;
CREATE INDEX ledger_drift_acknowledged ON ledger (connection, seq) WHERE kind = 'drift_acknowledged';

-- For people with an SQL prompt; docs/sql.md describes all views.
CREATE VIEW entries AS SELECT seq, at, kind, namespace, connection, facts, lower(hex(hash)) AS hash FROM ledger;
CREATE VIEW withdrawals AS SELECT seq, at, namespace, connection, json_extract(facts, '$.origin') AS origin, json_extract(facts, '$.reason') AS reason FROM ledger WHERE kind = 'intent_withdrawn';
CREATE VIEW steps AS SELECT ledger.seq, at, namespace, connection, one.key + 1 AS number, json_extract(one.value, '$.step') AS step, json_extract(one.value, '$.status') AS status, json_extract(one.value, '$.duration_ms') AS duration_ms, coalesce(json_extract(one.value, '$.failure.class'), '') AS class, coalesce(json_extract(one.value, '$.failure.title'), '') AS title, coalesce(json_extract(one.value, '$.failure.fix'), '') AS fix FROM ledger, json_each(ledger.body) AS one WHERE kind = 'attempt_finished';
CREATE VIEW schema_changes AS SELECT ledger.seq, at, namespace, connection, json_extract(facts, '$.version') AS version, list.key = 'breaking' AS breaking, one.value AS change FROM ledger, json_each(ledger.facts) AS list, json_each(list.value) AS one WHERE kind = 'catalog_registered' AND list.key IN ('breaking', 'additive');
CREATE VIEW drift_acknowledgements AS SELECT seq, at, namespace, connection, json_extract(facts, '$.version') AS version, json_extract(facts, '$.by') AS acknowledged_by, json_extract(facts, '$.note') AS note FROM ledger WHERE kind = 'drift_acknowledged';

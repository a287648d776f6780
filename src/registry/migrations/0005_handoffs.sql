-- Candidates that a discovery tool handed over are facts of the ledger. An earlier version of AAM cannot read them.
CREATE VIEW handoffs AS SELECT seq, at, namespace, json_extract(facts, '$.run') AS run, json_extract(facts, '$.handoff') AS handoff, facts, body AS candidates FROM ledger WHERE kind = 'handoff_received';

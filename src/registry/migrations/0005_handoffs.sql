-- Candidates that a discovery tool handed over, and confirmations of held changes, are facts of the ledger. An earlier
-- version of AAM cannot read them.
CREATE VIEW handoffs AS SELECT seq, at, namespace, json_extract(facts, '$.run') AS run, json_extract(facts, '$.handoff') AS handoff, facts, body AS candidates FROM ledger WHERE kind = 'handoff_received';
CREATE VIEW confirmations AS SELECT seq, at, namespace, connection, json_extract(facts, '$.cause') AS cause, json_extract(facts, '$.by') AS confirmed_by FROM ledger WHERE kind = 'departure_confirmed';

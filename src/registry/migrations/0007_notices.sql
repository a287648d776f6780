-- For people with an SQL prompt: what was announced, and what the webhooks of the policy accepted.
CREATE VIEW policy_rejections AS SELECT seq, at, json_extract(facts, '$.problems') AS problems FROM ledger WHERE kind = 'policy_rejected';
CREATE VIEW intent_problems AS SELECT seq, at, json_extract(facts, '$.file') AS file, json_extract(facts, '$.problems') AS problems FROM ledger WHERE kind = 'intent_problems';
CREATE VIEW credentials_expiring AS SELECT seq, at, namespace, connection, json_extract(facts, '$.title') AS title FROM ledger WHERE kind = 'credential_expiring';
CREATE VIEW webhook_deliveries AS SELECT seq, at, json_extract(facts, '$.webhook') AS webhook, json_extract(facts, '$.up_to') AS up_to, json_extract(facts, '$.events') AS events FROM ledger WHERE kind = 'webhook_delivered';

-- Working state: the message that a webhook is sent at the moment, so that it is repeated with the same id and the same
-- content after a restart, and not earlier than the backoff allows. Losing it costs a repeated message, never an event.
CREATE TABLE webhook_messages (
  webhook TEXT PRIMARY KEY,
  up_to   INTEGER NOT NULL,               -- the message holds the events after the cursor, up to this entry
  tries   INTEGER NOT NULL,
  next_at INTEGER NOT NULL,               -- milliseconds since 1970 UTC
  problem TEXT NOT NULL                   -- why the last try failed
) STRICT, WITHOUT ROWID;

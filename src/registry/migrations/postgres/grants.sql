-- What the role that AAM runs as may do, and nothing else. The owner of the schema runs this after every migration, with the schema
-- first in search_path. The placeholder in braces is replaced by the quoted name of the role.
DO $grants$
DECLARE
  home text := quote_ident(current_schema());
BEGIN
  EXECUTE 'REVOKE ALL ON SCHEMA ' || home || $role$ FROM {role}$role$;
  EXECUTE 'GRANT USAGE ON SCHEMA ' || home || $role$ TO {role}$role$;
END $grants$;

REVOKE ALL ON schema_migrations, ledger, call_batches, call_targets, call_rows FROM {role};
GRANT SELECT ON schema_migrations TO {role};
GRANT SELECT, INSERT ON ledger TO {role};
GRANT SELECT, INSERT, DELETE ON call_batches, call_targets, call_rows TO {role};

GRANT SELECT, INSERT, UPDATE, DELETE
ON account_holders, account_marks, consent_locks, consent_rows, consent_store, tickets, checked, budget, folder_marks, idempotency_keys,
   webhook_messages, leases, replicas, heals, probe TO {role};

GRANT SELECT
ON attempts_begun, attempts_finished, calls, catalogs, confirmations, credentials_expiring, drift_acknowledgements, entries,
   handoffs, intent_problems, intents, policy_rejections, policy_versions, retirements, schema_changes, steps,
   webhook_deliveries, withdrawals TO {role};

-- With UPDATE, it could set numbers back, and then nothing could be written any more.
REVOKE ALL ON SEQUENCE ledger_seq, call_batch_numbers FROM {role};
GRANT USAGE, SELECT ON SEQUENCE ledger_seq TO {role};
GRANT USAGE ON SEQUENCE call_batch_numbers TO {role};

GRANT EXECUTE ON FUNCTION calls_dropped_up_to(bigint), refuse_early_deletion(boolean) TO {role};
GRANT EXECUTE ON FUNCTION json_extract(text, text), json_each(text), hex(bytea), instr(text, text), registry_tag(), lock_chains(text),
  take_numbers(bigint), ledger_horizon(), continue_numbers() TO {role};

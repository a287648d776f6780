-- The namespace demo holds sample data. Only its seed may write to it, also before the seed was loaded: nothing else is
-- ever recorded there.
CREATE TRIGGER ledger_demo BEFORE INSERT ON ledger
WHEN NEW.namespace = 'demo' AND NOT (
  NEW.kind = 'namespace_sealed'
  OR (NEW.kind = 'intent_accepted' AND coalesce(json_extract(NEW.facts, '$.origin'), '') LIKE 'seed:%')
)
BEGIN SELECT RAISE(ABORT, 'sealed: the namespace demo accepts nothing but its seed'); END;

-- Writes the row of the process ?2 for the account ?1, for ?3 milliseconds. It counts on as many parts as there are rows that have
-- not ended. Returns the parts, and how many milliseconds ago the last row of the account ended: NULL if there was none.
WITH known AS MATERIALIZED (
  SELECT count(*) FILTER (WHERE ends_at > clock_timestamp() AND holder <> CAST(?2 AS TEXT)) AS living,
         CAST(extract(epoch FROM clock_timestamp() - max(ends_at)) * 1000 AS BIGINT) AS idle
  FROM account_holders WHERE account = CAST(?1 AS TEXT)
)
INSERT INTO account_holders (account, holder, parts, ends_at)
SELECT CAST(?1 AS TEXT), CAST(?2 AS TEXT), known.living + 1, clock_timestamp() + CAST(?3 AS BIGINT) * interval '1 millisecond' FROM known
ON CONFLICT (account, holder) DO UPDATE SET parts = excluded.parts, ends_at = excluded.ends_at
RETURNING parts, (SELECT idle FROM known)

-- Extends the rows of the process ?1 by ?3 milliseconds from now. ?2 is a JSON object: the parts of each account. Returns the accounts
-- whose rows had not ended.
UPDATE account_holders
SET parts = CAST(given.value AS BIGINT), ends_at = clock_timestamp() + CAST(?3 AS BIGINT) * interval '1 millisecond'
FROM json_each_text(CAST(CAST(?2 AS TEXT) AS json)) AS given
WHERE account_holders.account = given.key AND account_holders.holder = CAST(?1 AS TEXT)
  AND account_holders.ends_at > clock_timestamp()
RETURNING account_holders.account

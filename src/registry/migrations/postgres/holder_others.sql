-- Returns the rows of others that have not ended, of all accounts for which the process ?1 has a row, or only of the account ?2.
SELECT other.account, other.parts
FROM account_holders AS mine JOIN account_holders AS other ON other.account = mine.account AND other.holder <> mine.holder
WHERE mine.holder = CAST(?1 AS TEXT) AND (CAST(?2 AS TEXT) IS NULL OR mine.account = CAST(?2 AS TEXT))
  AND mine.ends_at > clock_timestamp() AND other.ends_at > clock_timestamp()

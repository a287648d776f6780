-- Returns those partitions of ?2 that the holder ?1 still holds, and keeps everybody from taking them until the transaction ends.
-- ?2 is a JSON object: the fencing number of each partition.
SELECT leases.partition
FROM json_each_text(CAST(CAST(?2 AS TEXT) AS json)) AS given JOIN leases
  ON leases.partition = CAST(given.key AS BIGINT) AND leases.fence = CAST(given.value AS BIGINT)
WHERE leases.holder = ?1 AND leases.ends_at > clock_timestamp()
ORDER BY leases.partition
FOR SHARE OF leases

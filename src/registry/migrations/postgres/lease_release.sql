-- Ends the leases of the holder ?1, so that others can take the partitions at once. ?2 is a JSON object: the fencing number of each
-- partition. Returns the partitions that were released.
UPDATE leases SET holder = '', address = '', ends_at = clock_timestamp()
FROM json_each_text(CAST(CAST(?2 AS TEXT) AS json)) AS given
WHERE leases.partition = CAST(given.key AS BIGINT) AND leases.fence = CAST(given.value AS BIGINT) AND leases.holder = ?1
RETURNING leases.partition

-- Extends the leases of the holder ?1 by ?3 milliseconds from now. ?2 is a JSON object: the fencing number of each partition.
-- Returns the partitions that are still held. A lease that ended is extended, too, if its fencing number is the same: then no other
-- process took it.
UPDATE leases SET ends_at = clock_timestamp() + CAST(?3 AS BIGINT) * interval '1 millisecond'
FROM json_each_text(CAST(CAST(?2 AS TEXT) AS json)) AS given
WHERE leases.partition = CAST(given.key AS BIGINT) AND leases.fence = CAST(given.value AS BIGINT) AND leases.holder = ?1
RETURNING leases.partition

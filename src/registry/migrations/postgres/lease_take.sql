-- Takes up to ?4 partitions that are free or whose lease ended, for the holder ?1 with the address ?2 and for ?3 milliseconds.
-- Partitions that another transaction is taking, renewing or writing to are skipped. This needs the isolation level
-- READ COMMITTED. Only the clock of the database counts.
WITH free AS MATERIALIZED (
  SELECT partition FROM leases WHERE ends_at <= clock_timestamp() ORDER BY partition LIMIT ?4 FOR UPDATE SKIP LOCKED
)
UPDATE leases
SET holder = ?1, address = ?2, fence = fence + 1,
    ends_at = clock_timestamp() + CAST(?3 AS BIGINT) * interval '1 millisecond'
FROM free WHERE leases.partition = free.partition
RETURNING leases.partition, leases.fence

-- Says that the replica ?1 runs, for ?5 milliseconds from now. ?2 is its address, ?3 its version, ?4 the digest of its policy file.
INSERT INTO replicas (name, address, version, policy, ends_at)
VALUES (?1, ?2, ?3, ?4, clock_timestamp() + CAST(?5 AS BIGINT) * interval '1 millisecond')
ON CONFLICT (name) DO UPDATE SET address = excluded.address, version = excluded.version, policy = excluded.policy,
  ends_at = excluded.ends_at

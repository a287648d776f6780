-- A failure count belongs to one generation of the document, and the last full look outlives a health check.
ALTER TABLE checked ADD COLUMN full_at INTEGER;
ALTER TABLE checked ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
UPDATE checked SET full_at = at WHERE full <> 0;
ALTER TABLE checked DROP COLUMN full;

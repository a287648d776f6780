-- What the last look at the intents folder saw, so that a restart does not read unchanged files again.
CREATE TABLE folder_marks (
  path     TEXT PRIMARY KEY,
  size     INTEGER NOT NULL,
  mtime_ns INTEGER NOT NULL,
  inode    INTEGER NOT NULL,
  content  BLOB    NOT NULL               -- first half of the SHA-256
) STRICT, WITHOUT ROWID;

//! Plays vendors on loopback from the files of `sandbox/`. `docs/sandbox.md` describes the files.

//! AAM turns `connection_intent` documents into live, read-only, proven connections.
//!
//! # The layers
//!
//! A module imports only those above it here; `tests/tidy.rs` holds this.
//!
//! - [`model`]: the words. A value is made once and carried by the rest. Pure.
//! - [`families`]: what AAM knows of each source family, one YAML file each. Pure.
//! - [`clock`]: the one seam for wall time.
//! - [`fault`]: where a debug build can be told to die, for the scenarios; nothing in a release build.
//! - [`memory`]: returns the memory that a burst of work has freed to the system.
//! - [`policy`]: the git-reviewed file: text to a policy or to every problem. Pure.
//! - [`credentials`]: from a locator to a secret, and the secret's way out of every text.
//! - [`snapshot`]: the fold over the ledger: what is desired, what was observed. Pure.
//! - [`debt_gate`]: stops a run on technical debt, declared or not. Pure.
//! - [`intake`]: files and pushed documents to intents; a watcher that only says "look again".
//! - [`funnel`]: the numbers and the executive's lines, a fold over the snapshot. Pure.
//! - [`policy_loader`]: the policy file and the manifests of its folder to one value; equal bytes are not parsed again.
//! - [`plan`]: what is due, and why, from snapshot, policy and an instant. Pure.
//! - [`report`]: values to the text and JSON that people and programs read. Pure.
//! - [`telemetry`]: logs, through the redactor.
//! - [`egress`]: the only way out: read-only, no private address, caps, breaker, call log.
//! - [`registry`]: the append-only ledger on SQLite: one writer, many readers. It keeps the day budgets
//!   that `egress` asks for through `egress::DayBudget`, so it comes after it.
//! - [`connectors`]: the engines that families are served by; all of them speak through `egress`.
//! - [`pipeline`]: the seven Safe Mode steps of one attempt.
//! - [`reconcile`]: the loop: look, plan, begin, attempt, finish, look again.
//! - [`server`]: the HTTP contract and the dashboard.
//! - [`daemon`]: the wiring of one process.
//! - [`cli`]: one file for each command.
//!
//! # What always holds
//!
//! 1. A wake carries no data: whoever is woken reads the files and rows again.
//! 2. Planning is a pure function of rows: a restart or a saved file neither shortens nor inflates a wait.
//! 3. Facts are stored, words are derived: state, funnel and report are folds; nothing is counted up.
//! 4. An attempt is begun on disk before its first side effect. No ticket, no network call.
//! 5. What was accepted is on disk before it is answered; what readers see was committed.
//! 6. No row of the ledger changes, goes away or comes between others: triggers refuse it, the hash chain shows it.
//! 7. Nothing is ever written to a source: there is no method for it.
//! 8. A secret lives in `credentials::Secret` only, and every text that leaves is scrubbed by value.
//! 9. Unreadable is not absent: a file, stream or source that cannot be read keeps what was known of it.
//!
//! # Where to begin reading
//!
//! `model/mod.rs`, `model/ledger.rs`, `snapshot.rs`, `plan.rs`, `pipeline/mod.rs`, `reconcile/run.rs`; then
//! `registry/writer.rs` for how facts get to disk, and `connectors/mod.rs` for what a source looks like.

pub mod cli;
pub mod clock;
pub mod connectors;
pub mod credentials;
pub mod daemon;
pub mod debt_gate;
pub mod egress;
pub mod families;
pub mod fault;
pub mod funnel;
pub mod intake;
pub mod memory;
pub mod model;
pub mod pipeline;
pub mod plan;
pub mod policy;
pub mod policy_loader;
pub mod reconcile;
pub mod registry;
pub mod report;
pub mod server;
pub mod snapshot;
pub mod telemetry;

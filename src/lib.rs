//! AAM turns `connection_intent` documents into live, read-only, proven connections.
//!
//! # The layers
//!
//! A module may import only modules that are listed above it; `tests/tidy.rs` checks this.
//!
//! - [`model`]: the values that all other modules share. Pure.
//! - [`families`]: what AAM knows about each source family, one YAML file per family. Pure.
//! - [`clock`]: the source of wall time, which tests replace.
//! - [`fault`]: fault injection for tests, only in debug builds.
//! - [`memory`]: returns the memory that a burst of work has freed to the system.
//! - [`meters`]: counts what the process did since its start, for the metrics.
//! - [`memory_budget`]: one limit for the bytes that all attempts hold at the same time.
//! - [`operator_file`]: reads files that an operator names, bounded and without blocking.
//! - [`policy`]: parses the policy file into a policy or into all its problems. Pure.
//! - [`credentials`]: holds secrets, and removes them from texts.
//! - [`snapshot`]: the fold over the ledger: which connections are desired and what was observed. Pure.
//! - [`debt_gate`]: stops a run on technical debt, declared or not. Pure.
//! - [`intake`]: parses files and pushed documents into intents, and watches the intents folder.
//! - [`funnel`]: the onboarding figures and the executive summary, computed from the snapshot. Pure.
//! - [`handoff`]: turns the candidates of a discovery tool into intents, with what the policy supplies. Pure.
//! - [`policy_loader`]: reads the policy file and the manifests of its folder; equal bytes are not parsed again.
//! - [`admin_token`]: the token that gives access while the policy lists none, and when it ends.
//! - [`plan`]: which attempts are due, and why, from the snapshot, the policy and an instant. Pure.
//! - [`events`]: what happened, computed from the entries of the ledger, for readers and webhooks. Pure.
//! - [`report`]: formats values as text for people and as JSON for programs. Pure.
//! - [`page`]: renders the pages for people as HTML. Pure.
//! - [`telemetry`]: logging, with secrets redacted.
//! - [`egress`]: makes all outgoing calls: read-only, no private addresses, call budgets, circuit breaker, call log.
//! - [`registry`]: the append-only ledger on SQLite or PostgreSQL, with one writer in each process and many readers. It comes after `egress`, because
//!   it implements `egress::DayBudget`.
//! - [`providers`]: turns locators into credentials: environment, files, vault, service principals, consents.
//! - [`event_log`]: reads events from the registry, from any position.
//! - [`connectors`]: the engines that connect to the families' systems; all their calls go through `egress`.
//! - [`pipeline`]: the seven Safe Mode steps of an attempt.
//! - [`family_guide`]: what a person needs to know about a family before the first intent.
//! - [`reconcile`]: the loop: read the policy and the folder, plan, run attempts, wait for a wake.
//! - [`notify`]: sends events to the webhooks of the policy.
//! - [`shared_limits`]: what replicas share of the limits, and what outlives the process of them.
//! - [`evidence`]: writes bundles of evidence for auditors, and verifies them.
//! - [`evidence_keeper`]: records calls that no attempt recorded, drops old ones, and writes the head of the ledger.
//! - [`server`]: the HTTP contract and the dashboard.
//! - [`daemon`]: assembles the parts of one process.
//! - [`cli`]: the command line, one file per command.
//!
//! # Invariants
//!
//! 1. A wake carries no data: code that is woken reads the files and rows again.
//! 2. Planning is a pure function of rows: a restart or a saved file neither shortens nor extends a wait.
//! 3. Only facts are stored. State, funnel, trend and report are computed from them; no counter is stored.
//! 4. The beginning of an attempt is on disk before its first network call.
//! 5. An accepted document is on disk before the response is sent, and readers see only committed data.
//! 6. Rows of the ledger are never changed, deleted or inserted between others: triggers prevent it, and the hash chain
//!    reveals it.
//! 7. AAM never writes to a source: no connector has a method for it.
//! 8. Secrets exist only in `credentials::Secret`, and they are removed by value from every text that leaves the process.
//! 9. Unreadable does not mean absent: what was known about a file, stream or source that cannot be read is kept.
//!
//! # Where to start reading
//!
//! `model/mod.rs`, `model/ledger.rs`, `snapshot.rs`, `plan.rs`, `pipeline/mod.rs`, `reconcile/run.rs`; then
//! `registry/writer.rs` for how facts are written to disk, and `connectors/mod.rs` for the interface of a source.

pub mod admin_token;
pub mod cli;
pub mod clock;
pub mod connectors;
pub mod credentials;
pub mod daemon;
pub mod debt_gate;
pub mod egress;
pub mod event_log;
pub mod events;
pub mod evidence;
pub mod evidence_keeper;
pub mod families;
pub mod family_guide;
pub mod fault;
pub mod funnel;
pub mod handoff;
pub mod intake;
pub mod memory;
pub mod memory_budget;
pub mod meters;
pub mod model;
pub mod notify;
pub mod operator_file;
pub mod page;
pub mod pipeline;
pub mod plan;
pub mod policy;
pub mod policy_loader;
pub mod providers;
pub mod reconcile;
pub mod registry;
pub mod report;
pub mod server;
pub mod shared_limits;
pub mod snapshot;
pub mod telemetry;

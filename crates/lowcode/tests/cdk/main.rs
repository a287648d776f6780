//! The interpreter and airbyte-cdk 7.39.1, live: the same manifest, config, catalog and server. Messages, exit codes and
//! requests must be equal.
//!
//! `AAM_TEST_CDK_PYTHON` and `AAM_TEST_CDK_RUNNER` name the interpreter and the runner, as `scripts/peers/cdk.sh` prints
//! them. Without them, nothing is compared. Waits are left out on both sides.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test ends with a panic")]
#![allow(clippy::indexing_slicing, reason = "JSON that a test made")]

mod jobs;
mod others;
mod page_size;
mod quotas;
mod run;
mod server;

use run::compare;

//! Helpers for the integration tests (`tests/it`) and the tests against real servers (`tests/peers`): the built binary in
//! its own workspace, sessions and engines as the daemon has them, and servers whose behaviour a test chooses.
#![allow(dead_code, reason = "compiled into both test targets, and each uses a part of it")]

pub mod airbyte;
pub mod aws;
pub mod bearer_service;
pub mod bundles;
pub mod consents;
pub mod daemon;
pub mod described_service;
pub mod fake_postgres;
pub mod github;
pub mod leaky_service;
pub mod lowcode_families;
pub mod manifests;
pub mod minting;
pub mod mongo;
pub mod mongo_session;
pub mod network;
pub mod oauth_vendor;
pub mod object_store;
pub mod openapi;
pub mod openmetrics;
pub mod operator_token;
pub mod receiver;
pub mod recorded_session;
pub mod rogue_mysql;
pub mod session;
pub mod shop;
pub mod simulation;
pub mod snapshot;
pub mod sql;
pub mod sse;
pub mod token_endpoint;
pub mod vendors;

//! Integration tests: the built binary with real sockets and files, and engines against servers that the tests start.
//! They run without anything installed or started before. The tests against real servers are in `tests/peers`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test ends with a panic")]

#[path = "../support/mod.rs"]
mod support;

mod api_fixes;
mod aws_metadata;
mod aws_roles;
mod call_counts;
mod cli_output;
mod consent_command;
mod consent_kills;
mod consent_properties;
mod consent_store;
mod consents;
mod credential_grants;
mod daemon_api;
mod daemon_crash_loop;
mod daemon_demo_namespace;
mod daemon_folder;
mod daemon_full_disk;
mod daemon_hostile_clients;
mod daemon_listener_identity;
mod daemon_process;
mod daemon_races;
mod daemon_secrets;
mod daemon_silent_sources;
mod daemon_texts;
mod exec_summary;
mod files_people_have;
mod fix_texts;
mod foreseen_credentials;
mod hubspot_example;
mod intake_files;
mod locator_forms;
mod lowcode_answers;
mod lowcode_command;
mod lowcode_families;
mod lowcode_families_daemon;
mod lowcode_families_hostile;
mod lowcode_hostile;
mod lowcode_remedies;
mod memory_budget;
mod mysql_rogue;
mod namespace_answers;
mod not_mappable;
mod object_faults;
mod openapi_cases;
mod openapi_faults;
mod openapi_fixes;
mod operator_files;
mod planned_calls;
mod postgres_logins;
mod principals;
mod principals_entra;
mod principals_entra_codes;
mod principals_google;
mod principals_shared;
mod retry_counts;
mod secrets_command;
mod signed_requests;
mod snowflake;
mod sql_faults;
mod vault_hostile;
mod vendor_canaries;
mod vendor_principals;

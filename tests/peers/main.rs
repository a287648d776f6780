//! Tests against peers, which are real servers and programs of others: PostgreSQL (also behind PgBouncer and Pgpool-II, and as a pair whose primary is killed),
//! MariaDB, moto, nanio, FastAPI, Litestar, Django Ninja, drf-spectacular, NestJS, ChromaDB, prism, airbyte-cdk,
//! oidc-provider, Authlib, oauthlib, azure-identity, recorded answers of Okta and Salesforce, snowduck, google-drive-mock,
//! google-api-python-client, azure-mgmt-resource, postgrest-js, zenpy, openapi-typescript, openapi-python-client, Schemathesis, the Python SDK of MCP, standardwebhooks, prometheus_client, httpx-sse, kubernetes-validate, hadolint, systemd-analyze, logrotate, bubblewrap, OpenBao, airbyte-api, six of Airbyte's connectors, and Chromium with playwright-core and axe-core.
//!
//! `make peers` starts all of them with `scripts/with_peers.sh` and runs every test; there, a missing peer is a failure.
//! Otherwise `cargo test --test peers` runs the tests whose peers are present and lists the others by name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test ends with a panic")]

#[macro_use]
mod harness;
#[path = "../support/mod.rs"]
mod support;

mod airbyte_platform;
mod airbyte_process;
mod apiclients;
mod atlassian;
mod aws;
mod aws_families;
mod azure;
mod consent;
mod daemon;
mod datadog;
mod deploy;
mod drive;
mod fastapi;
mod files;
mod frameworks;
mod gitlab;
mod google_cloud;
mod graph;
mod listeners;
mod lowcode_cdk;
mod lowcode_families;
mod mongo;
mod netsuite;
mod object_store;
mod okta;
mod okta_recordings;
mod page;
mod pagerduty;
mod principals;
mod registry_consents;
mod registry_postgres;
mod registry_postgres_evidence;
mod registry_postgres_query;
mod registry_postgres_reads;
mod registry_postgres_role;
mod replicas;
mod salesforce;
mod servicenow;
mod sign_in;
mod snowflake;
mod snowflake_description;
mod sql;
mod supabase;
mod vault;
mod vendor_assertions;
mod workday;
mod zendesk;
mod zoom;

fn main() -> std::process::ExitCode {
    harness::run(vec![
        airbyte_platform::tests(),
        airbyte_process::tests(),
        apiclients::tests(),
        aws::tests(),
        azure::tests(),
        aws_families::tests(),
        consent::tests(),
        daemon::tests(),
        daemon::changes::tests(),
        daemon::failures::tests(),
        daemon::read_only::tests(),
        daemon::removal::tests(),
        datadog::tests(),
        deploy::tests(),
        drive::tests(),
        fastapi::tests(),
        files::tests(),
        frameworks::tests(),
        atlassian::tests(),
        gitlab::tests(),
        google_cloud::tests(),
        graph::tests(),
        listeners::tests(),
        lowcode_cdk::tests(),
        lowcode_families::tests(),
        mongo::tests(),
        netsuite::tests(),
        object_store::tests(),
        okta::tests(),
        okta_recordings::tests(),
        page::tests(),
        pagerduty::tests(),
        principals::tests(),
        registry_consents::tests(),
        registry_consents::daemons::tests(),
        registry_postgres::tests(),
        registry_postgres_evidence::tests(),
        registry_postgres_query::tests(),
        registry_postgres_reads::tests(),
        registry_postgres_role::tests(),
        replicas::tests(),
        salesforce::tests(),
        servicenow::tests(),
        sign_in::tests(),
        snowflake::tests(),
        snowflake_description::tests(),
        sql::tests(),
        sql::faults::tests(),
        sql::mariadb::tests(),
        sql::record::tests(),
        sql::poolers::tests(),
        sql::relations::tests(),
        supabase::tests(),
        vault::tests(),
        vault::failures::tests(),
        vault::guide::tests(),
        vault::leases::tests(),
        vault::logins::tests(),
        vendor_assertions::tests(),
        zendesk::tests(),
        zoom::tests(),
        workday::tests(),
    ])
}

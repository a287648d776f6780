//! The whole daemon against PostgreSQL, MariaDB, two object stores and FastAPI.

mod cases;
pub mod changes;
pub mod failures;
pub mod read_only;
pub mod removal;
pub mod sources;

use crate::harness::variable;
use crate::support::daemon::{Workspace, intent};
use serde_json::json;
use sources::*;

peer_tests! {
    [Postgres, Mariadb, Moto, Nanio, Fastapi]: every_family_goes_from_pending_to_active_with_catalog_and_rows;
    [Postgres, Mariadb]: an_account_with_write_privileges_is_active_with_a_warning_that_names_them;
}

/// The sources that read the PostgreSQL of the tests as `reader`.
const POSTGRES: [&str; 2] = ["reader", "pg"];

async fn every_family_goes_from_pending_to_active_with_catalog_and_rows() {
    let mut workspace = Workspace::new();
    let (pg, maria) = (address("POSTGRES"), address("MARIADB"));
    let (moto, nanio) = (variable("MOTO", "ENDPOINT"), variable("NANIO", "ENDPOINT"));
    let sources = [
        (source("reader", "postgres", format!("postgresql://{pg}/shop"), role("POSTGRES", "reader")), "customer"),
        (source("pg", "jdbc", format!("jdbc:postgresql://{pg}/shop"), role("POSTGRES", "reader")), "customer"),
        (source("maria", "jdbc", format!("jdbc:mariadb://{maria}/shop"), role("MARIADB", "reader")), "customer"),
        (source("mysql", "jdbc", format!("jdbc:mysql://{maria}/shop"), role("MARIADB", "reader")), "customer"),
        (source("moto", "s3_compat", format!("{moto}/aam-landing"), key("MOTO", "LISTER")), "orders/"),
        (source("nanio", "s3_compat", format!("{nanio}/landing"), key("NANIO", "")), "orders/"),
        (source("aws", "s3", "arn:aws:s3:::aam-landing".to_string(), key("MOTO", "LISTER")), "orders/"),
        (source("token", "openapi", variable("FASTAPI", "URL"), variable("FASTAPI", "TOKEN")), "listBooks"),
    ];
    let csv = workspace.csv("people.csv", 30);
    let (all, streams): (Vec<Source>, Vec<&str>) = sources.into_iter().unzip();
    set_secrets(&mut workspace, &all);
    workspace.write_policy(&policy("1h", &format!("families: {{s3: {{base_url: \"{moto}\"}}}}\n")));
    let daemon = workspace.serve().await;

    // One intent is pushed, and the response comes before its first attempt. The others arrive in one file.
    let pushed = daemon.post_with("/connections/onboard", &all[0].intent(), "respond-async").await;
    assert_eq!((pushed.status, &pushed.body["status"]), (202, &json!("PENDING")), "{}", pushed.body);
    let mut rest: Vec<_> = all[1..].iter().map(Source::intent).collect();
    rest.push(intent("filesource", &csv));
    workspace.intent_file("all.json", &json!(rest));
    for (source, stream) in all.iter().zip(&streams) {
        let one = daemon.until_state(&source.id, "ACTIVE").await;
        assert_eq!(one["first_sync_rows"], 20, "{}: {one}", source.what);
        let details = details(&daemon, &one).await;
        for report in details["steps"].as_array().expect("steps") {
            // The reader of PostgreSQL may not read one table, which the list, the page and the funnel show.
            let part = report["step"] == "discover" && report["failure"]["title"].to_string().contains("payroll");
            assert_eq!(report["status"], if part { "warned" } else { "passed" }, "{}: {report}", source.what);
            assert_eq!(part, report["step"] == "discover" && POSTGRES.contains(&source.what), "{}: {report}", source.what);
        }
        let id = one["connection_id"].as_str().expect("an id");
        let catalog = daemon.get(&format!("/connections/{id}/catalog")).await.body;
        let named = catalog["catalog"]["streams"].as_array().expect("streams").iter().find(|found| found["name"] == *stream);
        let named = named.unwrap_or_else(|| panic!("{}: no {stream} in {catalog}", source.what));
        assert!(named["json_schema"]["properties"].as_object().is_some_and(|columns| columns.len() > 1), "{named}");
        let health = daemon.get(&format!("/connections/{id}/health")).await.body;
        assert_eq!((&health["healthy"], &health["last_tiny_sync"]["rows"]), (&json!(true), &json!(20)), "{health}");
    }
    daemon.until_state(&csv, "ACTIVE").await;
    let funnel = daemon.funnel().await;
    assert_eq!((&funnel["active"], &funnel["eligible"], &funnel["slo_met"]), (&json!(9), &json!(9), &json!(true)), "{funnel}");
}

async fn an_account_with_write_privileges_is_active_with_a_warning_that_names_them() {
    let mut workspace = Workspace::new();
    let all = [
        source("writer", "postgres", format!("postgresql://{}/shop", address("POSTGRES")), role("POSTGRES", "writer")),
        source("writer", "jdbc", format!("jdbc:mariadb://{}/shop", address("MARIADB")), role("MARIADB", "writer")),
    ];
    set_secrets(&mut workspace, &all);
    workspace.write_policy(&policy("1h", ""));
    let daemon = workspace.serve().await;
    let grants = [["CREATEDB", "INSERT, UPDATE, DELETE on table"], ["FILE ON *.*", "INSERT, UPDATE, DELETE ON `shop`.*"]];
    for (source, grants) in all.iter().zip(grants) {
        let response = daemon.push(&source.intent()).await;
        assert_eq!((response.status, &response.body["status"]), (201, &json!("ACTIVE")), "{}", response.body);
        let upsert = step(&response.body, "upsert");
        assert_eq!(upsert["status"], "warned", "{upsert}");
        let detail = upsert["failure"]["detail"].as_str().expect("a detail");
        assert!(grants.iter().all(|grant| detail.contains(grant)), "{detail}");
        assert!(upsert["failure"]["fix"].as_str().is_some_and(|fix| fix.contains("SELECT")), "{upsert}");
        assert_eq!(response.body["warnings"][0]["pointer"], "/steps/upsert", "{}", response.body);
    }
}

//! The two ways of the family `supabase`: the sandbox's Data API, checked by Supabase's own client @supabase/postgrest-js, and the
//! database, which here is PostgreSQL. No server of Supabase and no PostgREST was met.

use super::sql::server::{Postgres, superuser};
use crate::harness::variable;
use crate::support::lowcode_families::{EngineFixture, policy, remaining_steps, stream_names};
use aam::model::{Class, Privilege};
use serde_json::{Value, json};
use tokio::process::Command;

peer_tests! {
    [Supabase]: postgrest_js_accepts_the_sandbox, the_family_reads_the_tables_of_a_project;
    [Postgres]: a_login_reads_the_database_of_a_project, a_pooler_maps_users_that_name_their_project;
}

/// Runs postgrest-js and returns what it prints.
async fn postgrest_js(key: &str, jwt: Option<&str>) -> Value {
    let ran = Command::new(variable("SUPABASE", "NODE"))
        .arg(variable("SUPABASE", "SCRIPT"))
        .args([&variable("SUPABASE", "MODULES"), &variable("SUPABASE", "PLAIN"), key])
        .args(jwt)
        .output()
        .await
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

async fn postgrest_js_accepts_the_sandbox() {
    let read = postgrest_js("sb_secret_sandbox", None).await;
    assert_eq!(read["first"], json!({"status": 200, "data": [{"id": 1, "task": "Task 1"}, {"id": 2, "task": "Task 2"}]}));
    assert_eq!(read["last"]["data"], json!([{"id": 11}, {"id": 12}]), "the last page is shorter");
    assert_eq!(read["one"]["data"][0]["task"], "Task 3");
    assert_eq!(read["customers"]["data"].as_array().map(Vec::len), Some(1));
    assert_eq!((&read["nothing"]["status"], &read["nothing"]["code"]), (&json!(404), &json!("PGRST205")));
    let publishable = postgrest_js("sb_publishable_sandbox", None).await;
    assert_eq!(publishable["first"]["status"], 200);
    assert_eq!((&publishable["customers"]["status"], &publishable["customers"]["code"]), (&json!(401), &json!("42501")));
    let wrong = postgrest_js("sb_secret_wrong", None).await;
    assert_eq!((&wrong["first"]["status"], &wrong["first"]["message"]), (&json!(401), &json!("Invalid API key")));
    let bearer = postgrest_js("sb_publishable_sandbox", Some("sb_publishable_sandbox")).await;
    assert_eq!(bearer["first"]["code"], "PGRST301", "a key that begins with sb_ is not a JWT");
}

async fn the_family_reads_the_tables_of_a_project() {
    let fixture = EngineFixture::at("supabase", &variable("SUPABASE", "PLAIN"));
    let opened = fixture.open("supabase", "acme", Some(r#"{"api_key": "sb_secret_sandbox"}"#)).await.unwrap();
    assert!(matches!(&opened.privilege, Privilege::Over { .. }), "{:?}", opened.privilege);
    let (discovery, sample) = remaining_steps(&opened).await.unwrap();
    assert_eq!(stream_names(&discovery), ["customers", "order_lines", "todos"]);
    let todos = &discovery.catalog.streams[2].json_schema["properties"];
    assert_eq!(todos["done"]["type"], json!(["boolean", "null"]));
    assert_eq!(todos["id"], json!({"type": ["integer", "null"], "format": "bigint"}));
    assert_eq!(sample.evidence["streams"], json!({"customers": 12, "order_lines": 8}));
    let one = fixture.open("supabase", "https://acme.supabase.co/rest/v1/todos", Some("sb_publishable_sandbox")).await.unwrap();
    let (discovery, sample) = remaining_steps(&one).await.unwrap();
    assert_eq!((stream_names(&discovery), sample.rows), (vec!["rows"], 0), "no row of a table with unknown columns is read");
}

const PROJECT: &str = "abcdefghijklmnopqrst";

/// PgBouncer maps users of the form ROLE.PROJECTREF to roles of the server, as Supabase's pooler does.
async fn a_pooler_maps_users_that_name_their_project() {
    let fixture = EngineFixture::new(policy(""));
    let id = format!("postgresql://postgres.{PROJECT}@127.0.0.1:{}/postgres", Postgres.variable("POOLER_PORT"));
    let password = Postgres.variable("READER_PASSWORD");
    let opened = fixture.open("supabase", &id, Some(&format!("reader.{PROJECT}:{password}"))).await.unwrap();
    let identity = &opened.identity;
    assert_eq!((&identity["user"], &identity["project"]), (&json!("reader"), &json!(PROJECT)));
    assert_eq!(identity["behind_pooler"], true);
    let (_, sample) = remaining_steps(&opened).await.unwrap();
    assert_eq!(sample.rows, 20);
    let unknown = fixture.open("supabase", &id, Some(&format!("stranger.{PROJECT}:{password}"))).await.err().expect("a refusal");
    assert_eq!(unknown.class, Class::CredentialRejected, "{unknown:?}");
}

async fn a_login_reads_the_database_of_a_project() {
    let role = format!("aam_reader.{PROJECT}");
    let admin = superuser("shop").await;
    let password = Postgres.variable("READER_PASSWORD");
    let sql = format!(
        "DROP ROLE IF EXISTS \"{role}\"; CREATE ROLE \"{role}\" LOGIN PASSWORD '{password}' IN ROLE reader; \
         GRANT CONNECT ON DATABASE shop TO \"{role}\""
    );
    admin.batch_execute(&sql).await.unwrap();
    let fixture = EngineFixture::new(policy(""));
    let at = format!("127.0.0.1:{}/shop", Postgres.port());
    let id = format!("postgresql://postgres.{PROJECT}:[YOUR-PASSWORD]@{at}?pgbouncer=true");
    for secret in [json!({"user": role, "password": password}).to_string(), format!("{role}:{password}")] {
        let opened = fixture.open("supabase", &id, Some(&secret)).await.unwrap();
        assert_eq!((&opened.identity["user"], &opened.identity["project"]), (&json!(role), &json!(PROJECT)));
        let (discovery, sample) = remaining_steps(&opened).await.unwrap();
        assert!(!discovery.catalog.streams.is_empty());
        assert_eq!(sample.rows, 20);
    }
    let refused = fixture.open("supabase", &id, Some("aam_reader.zzzzzzzzzzzzzzzzzzzz:x")).await.err().expect("a refusal");
    assert_eq!(refused.class, Class::WrongService, "{refused:?}");
    let wrong = fixture.open("supabase", &id, Some(&format!("{role}:not-the-password"))).await.err().expect("a refusal");
    assert_eq!(wrong.class, Class::CredentialRejected, "{wrong:?}");
    let key = fixture.open("supabase", &id, Some("sb_secret_sandbox")).await.err().expect("a refusal");
    assert_eq!(key.class, Class::CredentialMissing, "{key:?}");
}

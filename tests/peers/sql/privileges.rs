//! Logins that can write. Each case proves that its login writes, follows the statements of AAM until the verdict is that the login only
//! reads, and proves that the login cannot write any more.

use super::server::{Mariadb, Postgres};
use crate::harness::variable;
use crate::support::sql::{open_at, policy};
use aam::connectors::Opened;
use aam::credentials::{Credential, Secret};
use aam::model::Privilege;
use serde_json::json;
use tokio_postgres::Client;

/// The name of the login, the statements of the administrator, a statement that the login can run, and a part of a grant of the verdict.
type Case = (&'static str, &'static str, &'static str, &'static str);

const DATABASE: &str = "CREATE SCHEMA k; CREATE TABLE k.plain (id int, name text); CREATE SEQUENCE k.sq; \
    CREATE MATERIALIZED VIEW k.mv AS SELECT 1 AS x; CREATE EXTENSION postgres_fdw; CREATE SERVER srv FOREIGN DATA WRAPPER postgres_fdw; \
    CREATE FUNCTION k.own() RETURNS int LANGUAGE sql AS 'SELECT 1'; SELECT lo_create(4711); \
    CREATE ROLE k_group; GRANT USAGE ON SCHEMA k TO k_group; GRANT INSERT ON k.plain TO k_group; \
    CREATE ROLE k_creators CREATEROLE; CREATE ROLE k_readers; GRANT USAGE ON SCHEMA k TO k_readers; \
    GRANT SELECT ON ALL TABLES IN SCHEMA k TO k_readers;";

const INSERT: &str = "INSERT INTO k.plain (id) VALUES (1)";

const CASES: [Case; 19] = [
    (
        "k_column",
        "GRANT UPDATE (name) ON k.plain TO k_column",
        "UPDATE k.plain SET name = 'x'",
        "UPDATE (name) on table \"k\".\"plain\"",
    ),
    ("k_columns", "GRANT INSERT (id) ON k.plain TO k_columns", INSERT, "INSERT (id) on table \"k\".\"plain\""),
    ("k_public", "GRANT INSERT (id) ON k.plain TO PUBLIC", INSERT, "INSERT (id) on table"),
    (
        "k_no_inherit",
        "ALTER ROLE k_no_inherit NOINHERIT; GRANT k_group TO k_no_inherit",
        "SET ROLE k_group; INSERT INTO k.plain VALUES (1)",
        "member of k_group",
    ),
    ("k_attribute", "GRANT k_creators TO k_attribute", "SET ROLE k_creators; CREATE ROLE k_made", "member of k_creators"),
    (
        "k_admin",
        "GRANT k_readers TO k_admin WITH ADMIN OPTION",
        "GRANT k_readers TO k_group",
        "member of k_readers with ADMIN OPTION",
    ),
    ("k_setval", "GRANT UPDATE ON SEQUENCE k.sq TO k_setval", "SELECT setval('k.sq', 77)", "UPDATE on sequence \"k\".\"sq\""),
    ("k_nextval", "GRANT USAGE ON SEQUENCE k.sq TO k_nextval", "SELECT nextval('k.sq')", "USAGE on sequence \"k\".\"sq\""),
    ("k_schema", "GRANT CREATE ON SCHEMA k TO k_schema", "CREATE TABLE k.made (a int)", "CREATE on schema \"k\""),
    ("k_database", "GRANT CREATE ON DATABASE k_rights TO k_database", "CREATE SCHEMA k_made", "CREATE on database \"k_rights\""),
    (
        "k_trigger",
        "GRANT TRIGGER ON k.plain TO k_trigger",
        "CREATE TRIGGER t BEFORE UPDATE ON k.plain FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "TRIGGER on table",
    ),
    ("k_truncate", "GRANT TRUNCATE ON k.plain TO k_truncate", "TRUNCATE k.plain", "TRUNCATE on table"),
    (
        "k_object",
        "GRANT SELECT, UPDATE ON LARGE OBJECT 4711 TO k_object",
        "SELECT lo_put(4711, 0, 'x')",
        "UPDATE on large object 4711",
    ),
    (
        "k_server",
        "GRANT USAGE ON FOREIGN SERVER srv TO k_server",
        "CREATE USER MAPPING FOR CURRENT_USER SERVER srv",
        "USAGE on foreign server \"srv\"",
    ),
    (
        "k_wrapper",
        "GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO k_wrapper",
        "CREATE SERVER made FOREIGN DATA WRAPPER postgres_fdw",
        "USAGE on foreign data wrapper",
    ),
    ("k_owner", "ALTER FUNCTION k.own() OWNER TO k_owner", "DROP FUNCTION k.own()", "owner of function k.own()"),
    ("k_view", "ALTER MATERIALIZED VIEW k.mv OWNER TO k_view", "REFRESH MATERIALIZED VIEW k.mv", "on table \"k\".\"mv\""),
    (
        "k_default",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA k GRANT INSERT ON TABLES TO k_default; CREATE TABLE k.later (id int)",
        "INSERT INTO k.later VALUES (1)",
        "INSERT on tables that super creates in schema k",
    ),
    ("k_all", "GRANT pg_write_all_data TO k_all", INSERT, "member of pg_write_all_data"),
];

const CASES_18: [Case; 4] = [
    (
        "k_set",
        "GRANT k_group TO k_set WITH INHERIT FALSE, SET TRUE",
        "SET ROLE k_group; INSERT INTO k.plain VALUES (1)",
        "member of k_group",
    ),
    ("k_maintain", "GRANT MAINTAIN ON k.mv TO k_maintain", "REFRESH MATERIALIZED VIEW k.mv", "MAINTAIN on table \"k\".\"mv\""),
    ("k_maintains", "GRANT pg_maintain TO k_maintains", "REFRESH MATERIALIZED VIEW k.mv", "member of pg_maintain"),
    (
        "k_system",
        "GRANT ALTER SYSTEM ON PARAMETER work_mem TO k_system",
        "ALTER SYSTEM SET work_mem = '5MB'",
        "ALTER SYSTEM on parameter work_mem",
    ),
];

async fn client(peer: &str, user: &str, password: &str, database: &str) -> Client {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(variable(peer, "PORT").parse().unwrap()).user(user).password(password).dbname(database);
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn administrator(peer: &str, database: &str) -> Client {
    client(peer, "super", &variable(peer, "SUPER_PASSWORD"), database).await
}

async fn run(client: &Client, statements: &str) {
    client.batch_execute(statements).await.unwrap_or_else(|error| panic!("{statements}: {error:?}"));
}

/// Whether the login can run the statement. What it wrote is rolled back, except for a change of the configuration.
async fn writes(peer: &str, login: &str, statement: &str) -> bool {
    let session = client(peer, login, login, "k_rights").await;
    match statement.starts_with("ALTER SYSTEM") {
        true => session.batch_execute(statement).await.is_ok(),
        false => session.batch_execute(&format!("BEGIN; {statement}; ROLLBACK")).await.is_ok(),
    }
}

async fn open_login(peer: &str, login: &str) -> Opened {
    let id = Postgres.id_at("127.0.0.1", variable(peer, "PORT").parse().unwrap(), "k_rights");
    open_at(&id, &credential(login), policy(None)).await.unwrap_or_else(|failure| panic!("{login}: {failure:?}"))
}

fn credential(login: &str) -> Credential {
    Credential::read(Secret::new(json!({"user": login, "password": login}).to_string()))
}

async fn create_database(peer: &str) -> Client {
    run(&administrator(peer, "postgres").await, "CREATE DATABASE k_rights").await;
    let client = administrator(peer, "k_rights").await;
    run(&client, DATABASE).await;
    client
}

async fn create_login(client: &Client, login: &str) {
    run(client, &format!("CREATE ROLE {login} LOGIN PASSWORD '{login}'; GRANT USAGE ON SCHEMA k TO {login}")).await;
    run(client, &format!("GRANT SELECT ON ALL TABLES IN SCHEMA k TO {login}")).await;
}

/// Follows the case from the grant to the verdict that the login only reads.
async fn follow(peer: &str, client: &Client, (login, grant, write, expected): Case) {
    create_login(client, login).await;
    assert_eq!(open_login(peer, login).await.privilege, Privilege::Ok, "{login}");
    run(client, grant).await;
    assert!(writes(peer, login, write).await, "{login} cannot run {write}");
    for round in 0.. {
        let opened = open_login(peer, login).await;
        let Privilege::Over { grants } = &opened.privilege else {
            assert!(round > 0 && opened.privilege == Privilege::Ok, "{login}: {:?}", opened.privilege);
            break;
        };
        assert!(round > 0 || grants.iter().any(|grant| grant.contains(expected)), "{login}: {grants:?}");
        assert!(round < 3 && !opened.removal.is_empty(), "{login} still has {grants:?}");
        for statement in &opened.removal {
            run(client, statement).await;
        }
    }
    assert!(!writes(peer, login, write).await, "{login} can still run {write}");
}

pub async fn every_privilege_that_writes_is_found_and_taken_away() {
    let client = create_database("POSTGRES").await;
    for case in CASES {
        follow("POSTGRES", &client, case).await;
    }
    a_definer_function_is_unknown_until_it_is_revoked(&client).await;
}

/// The function writes with the privileges of its owner, which the catalog does not show.
async fn a_definer_function_is_unknown_until_it_is_revoked(client: &Client) {
    create_login(client, "k_definer").await;
    run(client, "CREATE FUNCTION k.danger() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'INSERT INTO k.plain VALUES (1)'")
        .await;
    assert!(writes("POSTGRES", "k_definer", "SELECT k.danger()").await);
    let Privilege::Unknown { reason } = open_login("POSTGRES", "k_definer").await.privilege else { panic!("known") };
    let (_, fix) = reason.split_once("to exclude this: ").unwrap_or_else(|| panic!("{reason}"));
    run(client, fix.split_once(';').map_or(fix, |(statement, _)| statement)).await;
    assert_eq!(open_login("POSTGRES", "k_definer").await.privilege, Privilege::Ok);
    assert!(!writes("POSTGRES", "k_definer", "SELECT k.danger()").await);
}

pub async fn every_privilege_of_new_versions_is_found_and_taken_away() {
    let client = create_database("POSTGRES18").await;
    for case in CASES_18 {
        follow("POSTGRES18", &client, case).await;
    }
    // A membership that can neither be inherited nor chosen gives nothing.
    create_login(&client, "k_nothing").await;
    run(&client, "GRANT k_group TO k_nothing WITH INHERIT FALSE, SET FALSE").await;
    assert!(!writes("POSTGRES18", "k_nothing", "SET ROLE k_group").await);
    assert_eq!(open_login("POSTGRES18", "k_nothing").await.privilege, Privilege::Ok);
}

/// MariaDB does not list the privileges of a role that is not active, and the account can choose it at any time.
pub async fn a_role_that_can_be_chosen_is_not_only_reading() {
    use mysql_async::prelude::Queryable;
    let connect = async |user: &str, password: &str| {
        let opts = mysql_async::OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(Mariadb.port())
            .user(Some(user))
            .pass(Some(password))
            .prefer_socket(Some(false));
        mysql_async::Conn::new(opts).await.unwrap()
    };
    let mut administrator = connect("super", &Mariadb.variable("SUPER_PASSWORD")).await;
    for statement in [
        "CREATE OR REPLACE USER k_chooser IDENTIFIED BY 'k_chooser'",
        "CREATE OR REPLACE ROLE k_writers",
        "GRANT SELECT ON shop.* TO k_chooser",
        "GRANT INSERT ON shop.* TO k_writers",
        "GRANT k_writers TO k_chooser",
    ] {
        administrator.query_drop(statement).await.unwrap();
    }
    let privilege = async || open_at(&Mariadb.id("shop"), &credential("k_chooser"), policy(None)).await.unwrap().privilege;
    assert!(connect("k_chooser", "k_chooser").await.query_drop("SET ROLE k_writers").await.is_ok());
    let found = privilege().await;
    assert!(matches!(&found, Privilege::Unknown { reason } if reason.contains("`k_writers`, which")), "{found:?}");
    administrator.query_drop("REVOKE k_writers FROM k_chooser").await.unwrap();
    assert_eq!(privilege().await, Privilege::Ok);
    assert!(connect("k_chooser", "k_chooser").await.query_drop("SET ROLE k_writers").await.is_err());
}

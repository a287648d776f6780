//! JDBC dialects that this engine does not speak, and what would serve them.

use crate::model::{Class, Failure};

/// Dialect, its name for people, what would serve it.
const OTHERS: [(&str, &str, &str); 24] = [
    ("sqlserver", "Microsoft SQL Server", "a TDS driver, or Airbyte's source-mssql, run as a connector process"),
    ("jtds", "Microsoft SQL Server (jTDS)", "a TDS driver, or Airbyte's source-mssql, run as a connector process"),
    ("oracle", "Oracle Database", "Airbyte's source-oracle, run as a connector process"),
    ("db2", "IBM Db2", "Airbyte's source-db2, run as a connector process"),
    ("as400", "IBM Db2 for i", "Airbyte's source-db2, run as a connector process"),
    ("hive2", "Apache Hive", "a Thrift client for HiveServer2; none is built"),
    ("hive", "Apache Hive", "a Thrift client for HiveServer2; none is built"),
    ("impala", "Apache Impala", "a Thrift client for HiveServer2; none is built"),
    ("h2", "H2", "nothing: H2 is read by a Java process only; export it to SQLite or PostgreSQL"),
    ("hsqldb", "HyperSQL", "nothing: HyperSQL is read by a Java process only; export it to SQLite or PostgreSQL"),
    ("derby", "Apache Derby", "nothing: Derby is read by a Java process only; export it to SQLite or PostgreSQL"),
    ("snowflake", "Snowflake", "the family snowflake, by its SQL API"),
    ("redshift", "Amazon Redshift", "the family redshift"),
    ("bigquery", "Google BigQuery", "the family bigquery, by its REST API"),
    ("databricks", "Databricks", "Airbyte's Databricks source, by its SQL Statement API"),
    ("clickhouse", "ClickHouse", "Airbyte's source-clickhouse, run as a connector process"),
    ("trino", "Trino", "Trino's HTTP statement API; its statements are POST calls"),
    ("presto", "Presto", "Presto's HTTP statement API; its statements are POST calls"),
    ("cassandra", "Apache Cassandra", "a CQL driver; none is built"),
    ("teradata", "Teradata", "Airbyte's source-teradata, run as a connector process"),
    ("sap", "SAP HANA", "Airbyte's source-sap-hana, run as a connector process"),
    ("vertica", "Vertica", "a Vertica driver; none is built"),
    ("sybase", "SAP ASE", "a TDS 5 driver; none is built"),
    ("mongodb", "MongoDB", "the family mongo"),
];

/// Dialects that are served, for the fix.
const SERVED: &str =
    "jdbc:sqlite:PATH, jdbc:postgresql://HOST:PORT/DB, jdbc:mysql://HOST:PORT/DB and jdbc:mariadb://HOST:PORT/DB";

/// The `Unsupported` failure for a dialect name (the word after `jdbc:`).
#[must_use]
pub fn unsupported(dialect: &str) -> Failure {
    let dialect = dialect.to_ascii_lowercase();
    match OTHERS.iter().find(|(name, _, _)| *name == dialect) {
        Some((name, title, served_by)) => Failure::new(
            Class::Unsupported,
            format!("{title} (jdbc:{name}:) is not served by this build"),
            format!("it would be served by {served_by}; this engine speaks {SERVED}"),
        ),
        None if is_word(&dialect) => Failure::new(
            Class::Unsupported,
            format!("the JDBC dialect `{dialect}` is not known to this build"),
            format!("ask for a connector for `{dialect}`; this engine speaks {SERVED}"),
        ),
        None => Failure::new(Class::Misconfigured, "the resource id is no JDBC URL", format!("write one of {SERVED}")),
    }
}

/// A dialect is echoed only when it looks like one: a slip could put a secret there.
fn is_word(dialect: &str) -> bool {
    (1..=24).contains(&dialect.len()) && dialect.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

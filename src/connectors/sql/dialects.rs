//! JDBC dialects that this engine does not support, and alternatives for them.

use crate::model::{Class, Failure};

/// The dialect, its display name, and what could be used instead.
const OTHERS: [(&str, &str, &str); 24] = [
    ("sqlserver", "Microsoft SQL Server", "a TDS driver, or Airbyte's source-mssql, run as a connector process"),
    ("jtds", "Microsoft SQL Server (jTDS)", "a TDS driver, or Airbyte's source-mssql, run as a connector process"),
    ("oracle", "Oracle Database", "Airbyte's source-oracle, run as a connector process"),
    ("db2", "IBM Db2", "Airbyte's source-db2, run as a connector process"),
    ("as400", "IBM Db2 for i", "Airbyte's source-db2, run as a connector process"),
    ("hive2", "Apache Hive", "a Thrift client for HiveServer2; this build has none"),
    ("hive", "Apache Hive", "a Thrift client for HiveServer2; this build has none"),
    ("impala", "Apache Impala", "a Thrift client for HiveServer2; this build has none"),
    ("h2", "H2", "a Java process only; export the data to SQLite or PostgreSQL"),
    ("hsqldb", "HyperSQL", "a Java process only; export the data to SQLite or PostgreSQL"),
    ("derby", "Apache Derby", "a Java process only; export the data to SQLite or PostgreSQL"),
    ("snowflake", "Snowflake", "the family snowflake, by its SQL API"),
    ("redshift", "Amazon Redshift", "the family redshift"),
    ("bigquery", "Google BigQuery", "the family bigquery, by its REST API"),
    ("databricks", "Databricks", "Airbyte's Databricks source, by its SQL Statement API"),
    ("clickhouse", "ClickHouse", "Airbyte's source-clickhouse, run as a connector process"),
    ("trino", "Trino", "Trino's HTTP statement API; its statements are POST calls"),
    ("presto", "Presto", "Presto's HTTP statement API; its statements are POST calls"),
    ("cassandra", "Apache Cassandra", "a CQL driver; this build has none"),
    ("teradata", "Teradata", "Airbyte's source-teradata, run as a connector process"),
    ("sap", "SAP HANA", "Airbyte's source-sap-hana, run as a connector process"),
    ("vertica", "Vertica", "a Vertica driver; this build has none"),
    ("sybase", "SAP ASE", "a TDS 5 driver; this build has none"),
    ("mongodb", "MongoDB", "the family mongo"),
];

/// The supported dialects, for messages.
const SUPPORTED: &str =
    "jdbc:sqlite:PATH, jdbc:postgresql://HOST:PORT/DB, jdbc:mysql://HOST:PORT/DB and jdbc:mariadb://HOST:PORT/DB";

/// The `Unsupported` failure for a dialect name (the part after `jdbc:`).
#[must_use]
pub fn unsupported(dialect: &str) -> Failure {
    let dialect = dialect.to_ascii_lowercase();
    match OTHERS.iter().find(|(name, _, _)| *name == dialect) {
        Some((name, title, served_by)) => Failure::new(
            Class::Unsupported,
            format!("{title} (jdbc:{name}:) is not supported by this build"),
            format!("it could be served by {served_by}; this engine supports {SUPPORTED}"),
        ),
        None if is_dialect_name(&dialect) => Failure::new(
            Class::Unsupported,
            format!("the JDBC dialect `{dialect}` is not known to this build"),
            format!("ask for a connector for `{dialect}`; this engine supports {SUPPORTED}"),
        ),
        None => Failure::new(Class::NotMappable, "the resource id is not a JDBC URL", format!("write one of {SUPPORTED}")),
    }
}

/// The dialect for messages. It is shown only if it looks like a dialect, because a user may have put a secret in its place
/// by mistake.
fn is_dialect_name(dialect: &str) -> bool {
    (1..=24).contains(&dialect.len()) && dialect.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

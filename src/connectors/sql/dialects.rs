//! JDBC dialects that this engine does not support, and what to do about them.

use crate::model::{Class, Failure};

/// The dialect, its display name, and the family for this kind of system, if there is one.
const OTHERS: [(&str, &str, Option<&str>); 24] = [
    ("sqlserver", "Microsoft SQL Server", None),
    ("jtds", "Microsoft SQL Server (jTDS)", None),
    ("oracle", "Oracle Database", None),
    ("db2", "IBM Db2", None),
    ("as400", "IBM Db2 for i", None),
    ("hive2", "Apache Hive", None),
    ("hive", "Apache Hive", None),
    ("impala", "Apache Impala", None),
    ("h2", "H2", None),
    ("hsqldb", "HyperSQL", None),
    ("derby", "Apache Derby", None),
    ("snowflake", "Snowflake", Some("snowflake")),
    ("redshift", "Amazon Redshift", Some("redshift")),
    ("bigquery", "Google BigQuery", Some("bigquery")),
    ("databricks", "Databricks", None),
    ("clickhouse", "ClickHouse", None),
    ("trino", "Trino", None),
    ("presto", "Presto", None),
    ("cassandra", "Apache Cassandra", None),
    ("teradata", "Teradata", None),
    ("sap", "SAP HANA", None),
    ("vertica", "Vertica", None),
    ("sybase", "SAP ASE", None),
    ("mongodb", "MongoDB", Some("mongo")),
];

/// What can be done today about a system that no engine of this build can reach.
const EXPORT: &str = "to connect its data now, export the tables to CSV files or an SQLite \
    database below the policy's files.roots and name that path: source_type filesource with PATH, or jdbc with jdbc:sqlite:PATH";

/// The supported dialects, for messages.
const SUPPORTED: &str =
    "jdbc:sqlite:PATH, jdbc:postgresql://HOST:PORT/DB, jdbc:mysql://HOST:PORT/DB and jdbc:mariadb://HOST:PORT/DB";

/// The `Unsupported` failure for a dialect name (the part after `jdbc:`).
#[must_use]
pub fn unsupported(dialect: &str) -> Failure {
    let dialect = dialect.to_ascii_lowercase();
    match OTHERS.iter().find(|(name, _, _)| *name == dialect) {
        Some((name, title, family)) => Failure::new(
            Class::Unsupported,
            format!("{title} (jdbc:{name}:) is not supported by this build"),
            match family.filter(|family| has_engine(family)) {
                Some(family) => format!("write source_type: {family}; `aam families` shows its resource ids"),
                None => EXPORT.to_string(),
            },
        ),
        None if is_dialect_name(&dialect) => Failure::new(
            Class::Unsupported,
            format!("the JDBC dialect `{dialect}` is not known to this build"),
            format!("if it is a spelling mistake, write one of {SUPPORTED}; otherwise, {EXPORT}"),
        ),
        None => Failure::new(Class::NotMappable, "the resource id is not a JDBC URL", format!("write one of {SUPPORTED}")),
    }
}

/// Whether this build can connect sources of `family`.
fn has_engine(family: &str) -> bool {
    crate::families::find(family).is_some_and(|family| !family.engine.is_empty())
}

/// The dialect for messages. It is shown only if it looks like a dialect, because a user may have put a secret in its place
/// by mistake.
fn is_dialect_name(dialect: &str) -> bool {
    (1..=24).contains(&dialect.len()) && dialect.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

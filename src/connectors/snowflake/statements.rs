//! The SQL statements that AAM sends to Snowflake. Each one reads metadata only, and none of them needs a warehouse: SHOW
//! and context functions are answered by the cloud services layer (docs.snowflake.com, "SHOW objects" \[V\]).
//!
//! The list of the family file allows exactly these; a test compares both.

/// Who is logged in where, in which role and with which roles.
pub const CONTEXT: Selection = Selection {
    functions: &[
        "CURRENT_ACCOUNT",
        "CURRENT_ACCOUNT_NAME",
        "CURRENT_ORGANIZATION_NAME",
        "CURRENT_REGION",
        "CURRENT_USER",
        "CURRENT_ROLE",
        "CURRENT_WAREHOUSE",
        "CURRENT_VERSION",
        "CURRENT_AVAILABLE_ROLES",
        "CURRENT_SECONDARY_ROLES",
    ],
    named: false,
};

/// What is needed to prove the identity, for a server that does not know every function of [`CONTEXT`]. Such a server may name
/// a column by its value, and then return two columns with the same value as one, so the columns have names of their own.
pub const IDENTITY: Selection = Selection {
    functions: &["CURRENT_ACCOUNT", "CURRENT_ACCOUNT_NAME", "CURRENT_ORGANIZATION_NAME", "CURRENT_ROLE"],
    named: true,
};

pub const DATABASES: &str = "SHOW DATABASES LIMIT 100";
pub const TABLES: &str = "SHOW TABLES IN ACCOUNT LIMIT 1000";
pub const VIEWS: &str = "SHOW VIEWS IN ACCOUNT LIMIT 1000";
/// SHOW COLUMNS has no LIMIT; Snowflake refuses to list more than 10,000 rows at once \[V\].
pub const COLUMNS: &str = "SHOW COLUMNS IN ACCOUNT";

/// The rows that [`TABLES`] and [`VIEWS`] are limited to.
pub const MAX_RELATIONS: usize = 1000;
/// The rows that [`DATABASES`] is limited to.
pub const MAX_DATABASES: usize = 100;
/// The rows that [`grants`] is limited to.
pub const MAX_GRANTS: usize = 5000;
/// The most rows that SHOW returns without LIMIT \[V\].
pub const MAX_SHOWN: usize = 10_000;

/// A SELECT of context functions.
#[derive(Clone, Copy, Debug)]
pub struct Selection {
    pub functions: &'static [&'static str],
    /// Whether each column is named like its function.
    pub named: bool,
}

impl Selection {
    #[must_use]
    pub fn sql(self) -> String {
        let call = |name: &&str| if self.named { format!("{name}() AS {}", quoted(name)) } else { format!("{name}()") };
        let calls: Vec<String> = self.functions.iter().map(call).collect();
        format!("SELECT {}", calls.join(", "))
    }
}

/// The privileges that were granted to `role`.
#[must_use]
pub fn grants(role: &str) -> String {
    format!("SHOW GRANTS TO ROLE {} LIMIT {MAX_GRANTS}", quoted(role))
}

/// The columns of all tables and views of `database`.
#[must_use]
pub fn columns_of_database(database: &str) -> String {
    format!("SHOW COLUMNS IN DATABASE {}", quoted(database))
}

/// The columns of all tables and views of a schema.
#[must_use]
pub fn columns_of_schema(database: &str, schema: &str) -> String {
    format!("SHOW COLUMNS IN SCHEMA {}.{}", quoted(database), quoted(schema))
}

/// The columns of one table or view.
#[must_use]
pub fn columns_of_relation(database: &str, schema: &str, name: &str) -> String {
    format!("SHOW COLUMNS IN {}.{}.{}", quoted(database), quoted(schema), quoted(name))
}

/// Writes an identifier in double quotes. Inside them, a double quote is written twice.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

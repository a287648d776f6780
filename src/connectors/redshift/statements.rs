//! The statements that AAM sends to Redshift. All of them run on the leader node and read the catalog, and none reads a row of
//! a user's table.
//!
//! Source: Amazon Redshift Database Developer Guide \[K\]: "SVV_COLUMNS", "SVV_TABLES", "HAS_TABLE_PRIVILEGE",
//! "HAS_SCHEMA_PRIVILEGE", "HAS_DATABASE_PRIVILEGE", "PG_USER"; Redshift descends from PostgreSQL 8.0, so newer functions such
//! as `pg_is_in_recovery` do not exist.

/// The schemas that Redshift creates itself.
const SYSTEM_SCHEMAS: &str =
    "'pg_catalog','information_schema','pg_internal','pg_automv','pg_auto_copy','pg_mv','pg_s3','catalog_history'";

pub const IDENTITY: &str = "SELECT current_database()::varchar, current_user::varchar, version()::varchar";

/// What the user may do besides reading, in four result sets. The last two have one row more than `limit` if there are more.
pub fn privileges(limit: usize) -> String {
    let limit = limit + 1;
    format!(
        "SELECT usesuper, usecreatedb FROM pg_user WHERE usename = current_user; \
         SELECT current_database()::varchar WHERE has_database_privilege(current_user, current_database(), 'create'); \
         SELECT nspname::varchar FROM pg_namespace WHERE nspname NOT LIKE 'pg!_%' ESCAPE '!' AND nspname NOT IN ({SYSTEM_SCHEMAS}) \
           AND has_schema_privilege(current_user, nspname, 'create') ORDER BY nspname LIMIT {limit}; \
         SELECT schemaname::varchar, tablename::varchar FROM pg_tables WHERE schemaname NOT LIKE 'pg!_%' ESCAPE '!' \
           AND schemaname NOT IN ({SYSTEM_SCHEMAS}) \
           AND (has_table_privilege(current_user, quote_ident(schemaname) || '.' || quote_ident(tablename), 'insert') \
             OR has_table_privilege(current_user, quote_ident(schemaname) || '.' || quote_ident(tablename), 'update') \
             OR has_table_privilege(current_user, quote_ident(schemaname) || '.' || quote_ident(tablename), 'delete')) \
           ORDER BY schemaname, tablename LIMIT {limit}"
    )
}

/// The columns of all tables and views that the user may see, of one schema if `schema` names one, as a quoted literal.
pub fn columns(schema: Option<&str>, limit: usize) -> String {
    let only = schema.map_or_else(String::new, |schema| format!(" AND table_schema = {schema}"));
    format!(
        "SELECT table_schema::varchar, table_name::varchar, column_name::varchar, data_type::varchar, is_nullable::varchar \
         FROM svv_columns WHERE table_schema NOT LIKE 'pg!_%' ESCAPE '!' AND table_schema NOT IN ({SYSTEM_SCHEMAS}){only} \
         ORDER BY table_schema, table_name, ordinal_position LIMIT {limit}"
    )
}

/// The schemas with tables or views of which `svv_columns` shows none, and whether the user may use the schema. `pg_class` and
/// `pg_namespace` show every user all of them, unless metadata security is on, which also hides the schemas.
pub fn hidden(schema: Option<&str>, limit: usize) -> String {
    let only = schema.map_or_else(String::new, |schema| format!(" AND n.nspname = {schema}"));
    format!(
        "SELECT DISTINCT n.nspname::varchar, has_schema_privilege(current_user, n.nspname, 'usage') FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid \
         WHERE c.relkind IN ('r','v') AND n.nspname NOT LIKE 'pg!_%' ESCAPE '!' AND n.nspname NOT IN ({SYSTEM_SCHEMAS}){only} \
         ORDER BY 1 LIMIT {limit}"
    )
}

/// The names of tables and views.
pub fn tables(schema: Option<&str>, limit: u32) -> String {
    let only = schema.map_or_else(String::new, |schema| format!(" AND table_schema = {schema}"));
    format!(
        "SELECT table_schema::varchar, table_name::varchar, table_type::varchar FROM svv_tables \
         WHERE table_schema NOT LIKE 'pg!_%' ESCAPE '!' AND table_schema NOT IN ({SYSTEM_SCHEMAS}){only} \
         ORDER BY table_schema, table_name LIMIT {limit}"
    )
}

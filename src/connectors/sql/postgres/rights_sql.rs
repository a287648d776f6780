//! The statements that read what a role may do beyond reading. They read catalogs that every role may read.
//!
//! Source: PostgreSQL manual, "Privileges", "Role Membership", "Predefined Roles" and "System Information Functions and
//! Operators". Every role can create large objects and temporary tables of its own unless the functions and the privilege are
//! revoked from PUBLIC. These defaults do not change data that others stored, so they are not read.

use crate::connectors::sql::limits;

/// The predefined roles that write, run programs, act on other sessions, or read files of the server. The last is that of Amazon RDS.
pub(super) const POWERFUL_ROLES: &str = "'pg_write_all_data','pg_write_server_files','pg_execute_server_program',\
    'pg_read_server_files','pg_signal_backend','pg_maintain','pg_checkpoint','pg_create_subscription',\
    'pg_signal_autovacuum_worker','rds_replication'";

/// The condition on `nspname` for schemas that are not part of the server.
pub(super) const USER_SCHEMA: &str = "nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'";

/// What column 1 of the third result set says for a function that runs with the privileges of another role.
pub(super) const DEFINER_FUNCTION: &str = "SECURITY DEFINER";

/// The major version since which a membership can exclude `SET ROLE`.
pub(super) const SET_OPTION_VERSION: u32 = 16;
/// The major version since which parameters have privileges.
pub(super) const PARAMETER_VERSION: u32 = 15;
/// The major version since which tables have the privilege MAINTAIN.
pub(super) const MAINTAIN_VERSION: u32 = 17;

/// Returns the statements for four result sets: role attributes, grants that come from roles and ownership, privileges on objects
/// other than tables, and writable tables. `major` is the major version of the server. The last set contains one table more than the
/// verdict names, and the total number.
pub(super) fn statements(major: u32) -> String {
    format!(
        "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = current_user; \
         {}; {}; {}",
        roles(major),
        objects(major),
        tables(major)
    )
}

/// One column: the text of the grant.
///
/// `reached` contains the roles that SET ROLE can choose, and the role itself. `effective` contains the roles whose privileges the
/// role has without SET ROLE. An owner may change and drop its object, whatever the access control list says.
fn roles(major: u32) -> String {
    let more = limits::MAX_NAMED_GRANTS + 1;
    let reach = if major >= SET_OPTION_VERSION { "SET" } else { "MEMBER" };
    let table_privileges = if major >= MAINTAIN_VERSION { "TRIGGER, MAINTAIN" } else { "TRIGGER" };
    let default_privileges = default_privileges(major);
    format!(
        "WITH me AS (SELECT oid FROM pg_roles WHERE rolname = current_user), \
         reached AS (SELECT r.* FROM pg_roles r, me WHERE pg_has_role(me.oid, r.oid, '{reach}')), \
         effective AS (SELECT r.oid FROM pg_roles r, me WHERE pg_has_role(me.oid, r.oid, 'USAGE')) \
         (SELECT 'member of ' || quote_ident(p.rolname) FROM pg_roles p WHERE p.rolname IN ({POWERFUL_ROLES}) \
           AND EXISTS (SELECT 1 FROM reached s WHERE pg_has_role(s.oid, p.oid, 'USAGE')) ORDER BY p.rolname) \
         UNION ALL (SELECT 'member of ' || quote_ident(s.rolname) || ', which can do more than read' FROM me, reached s \
           WHERE s.oid <> me.oid AND s.rolname NOT IN ({POWERFUL_ROLES}) AND (s.rolcreaterole OR s.rolcreatedb OR s.rolreplication OR s.rolbypassrls \
             OR has_database_privilege(s.oid, current_database(), 'CREATE') AND NOT has_database_privilege(me.oid, current_database(), 'CREATE') \
             OR NOT pg_has_role(me.oid, s.oid, 'USAGE') AND ( \
               EXISTS (SELECT 1 FROM pg_namespace n WHERE {USER_SCHEMA} AND has_schema_privilege(s.oid, n.oid, 'CREATE')) \
               OR EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {USER_SCHEMA} AND CASE \
                 WHEN c.relkind IN ('r','p','v','f','m') THEN has_table_privilege(s.oid, c.oid, 'DELETE, TRUNCATE, {table_privileges}') \
                   OR has_any_column_privilege(s.oid, c.oid, 'INSERT, UPDATE, REFERENCES') \
                 WHEN c.relkind = 'S' THEN has_sequence_privilege(s.oid, c.oid, 'USAGE, UPDATE') ELSE false END) \
               OR EXISTS (SELECT 1 FROM pg_foreign_server f WHERE has_server_privilege(s.oid, f.oid, 'USAGE')) \
               OR EXISTS (SELECT 1 FROM pg_shdepend d WHERE d.refclassid = 'pg_authid'::regclass AND d.deptype = 'o' \
                 AND d.dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) AND pg_has_role(s.oid, d.refobjid, 'USAGE')))) \
           ORDER BY s.rolname LIMIT {more}) \
         UNION ALL (SELECT 'member of ' || quote_ident(r.rolname) || ' with ADMIN OPTION' FROM pg_roles r, me \
           WHERE r.oid <> me.oid AND pg_has_role(me.oid, r.oid, 'MEMBER WITH ADMIN OPTION') ORDER BY r.rolname LIMIT {more}) \
         UNION ALL (SELECT 'owner of ' || pg_describe_object(d.classid, d.objid, d.objsubid) FROM pg_shdepend d \
           WHERE d.refclassid = 'pg_authid'::regclass AND d.deptype = 'o' AND d.refobjid IN (SELECT oid FROM effective) \
           AND d.dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) \
           AND NOT EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE d.classid = 'pg_class'::regclass \
             AND c.oid = d.objid AND (n.nspname LIKE 'pg\\_%' OR c.relkind IN ('r','p','v','f','m') AND has_table_privilege(c.oid, 'UPDATE') \
               OR c.relkind = 'S' AND EXISTS (SELECT 1 FROM pg_depend o WHERE o.classid = d.classid AND o.objid = d.objid AND o.deptype IN ('a', 'i')))) \
           AND NOT (d.classid = 'pg_namespace'::regclass AND coalesce(has_schema_privilege(d.objid, 'CREATE'), false)) \
           AND NOT (d.classid = 'pg_database'::regclass AND coalesce(has_database_privilege(d.objid, 'CREATE'), false)) \
           ORDER BY 1 LIMIT {more}) \
         UNION ALL (SELECT 'UPDATE on large object ' || l.oid FROM pg_largeobject_metadata l WHERE l.lomacl IS NOT NULL AND EXISTS ( \
           SELECT 1 FROM (SELECT oid FROM effective UNION ALL SELECT 0) g, (SELECT l.lomowner AS oid UNION SELECT refobjid FROM pg_shdepend d \
             WHERE d.classid = 'pg_largeobject'::regclass AND d.objid = l.oid AND d.refclassid = 'pg_authid'::regclass) giver \
           WHERE l.lomowner NOT IN (SELECT oid FROM effective) AND l.lomacl @> makeaclitem(g.oid, giver.oid, 'UPDATE', false)) ORDER BY l.oid LIMIT {more}) \
         UNION ALL (SELECT p.privilege || ' on ' || p.objects || ' that ' || quote_ident(o.rolname) || ' creates' || coalesce(' in schema ' || quote_ident(n.nspname), '') \
           FROM pg_default_acl a JOIN pg_roles o ON o.oid = a.defaclrole LEFT JOIN pg_namespace n ON n.oid = a.defaclnamespace, \
             (VALUES {default_privileges}) p (kind, objects, privilege) \
           WHERE a.defaclobjtype = p.kind AND EXISTS (SELECT 1 FROM (SELECT oid FROM effective UNION ALL SELECT 0) g \
             WHERE g.oid <> a.defaclrole AND a.defaclacl @> makeaclitem(g.oid, a.defaclrole, p.privilege, false)) ORDER BY 1 LIMIT {more})"
    )
}

/// The default privileges that write, as rows of kind of object, name of that kind, and privilege.
fn default_privileges(major: u32) -> String {
    let mut rows: Vec<String> = ["INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"]
        .iter()
        .map(|privilege| format!("('r'::\"char\", 'tables', '{privilege}')"))
        .collect();
    if major >= MAINTAIN_VERSION {
        rows.push("('r', 'tables', 'MAINTAIN')".to_string());
    }
    rows.push("('S', 'sequences', 'USAGE'), ('S', 'sequences', 'UPDATE'), ('n', 'schemas', 'CREATE')".to_string());
    rows.join(", ")
}

/// Two columns: the privilege with the kind of object, and the quoted name of the object.
fn objects(major: u32) -> String {
    let more = limits::MAX_NAMED_GRANTS + 1;
    let quoted = |name: &str| format!("'\"' || replace({name}, '\"', '\"\"') || '\"'");
    let (datname, nspname, relname) = (quoted("datname"), quoted("n.nspname"), quoted("c.relname"));
    let (srvname, fdwname, proname) = (quoted("srvname"), quoted("fdwname"), quoted("p.proname"));
    let parameters = match major >= PARAMETER_VERSION {
        true => format!(
            " UNION ALL (SELECT 'ALTER SYSTEM on parameter', parname FROM pg_parameter_acl \
               WHERE has_parameter_privilege(parname, 'ALTER SYSTEM') ORDER BY parname LIMIT {more})"
        ),
        false => String::new(),
    };
    format!(
        "(SELECT 'CREATE on database', {datname} FROM pg_database WHERE datallowconn AND NOT datistemplate \
           AND has_database_privilege(oid, 'CREATE') ORDER BY datname <> current_database(), datname LIMIT {more}) \
         UNION ALL (SELECT 'CREATE on schema', {nspname} FROM pg_namespace n WHERE {USER_SCHEMA} \
           AND has_schema_privilege(oid, 'CREATE') ORDER BY nspname LIMIT {more}) \
         UNION ALL (SELECT concat_ws(', ', CASE WHEN has_sequence_privilege(c.oid, 'USAGE') THEN 'USAGE' END, \
             CASE WHEN has_sequence_privilege(c.oid, 'UPDATE') THEN 'UPDATE' END) || ' on sequence', {nspname} || '.' || {relname} \
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {USER_SCHEMA} AND CASE WHEN c.relkind = 'S' \
             THEN has_sequence_privilege(c.oid, 'USAGE, UPDATE') ELSE false END ORDER BY n.nspname, c.relname LIMIT {more}) \
         UNION ALL (SELECT 'USAGE on foreign server', {srvname} FROM pg_foreign_server \
           WHERE has_server_privilege(oid, 'USAGE') ORDER BY srvname LIMIT {more}) \
         UNION ALL (SELECT 'USAGE on foreign data wrapper', {fdwname} FROM pg_foreign_data_wrapper \
           WHERE has_foreign_data_wrapper_privilege(oid, 'USAGE') ORDER BY fdwname LIMIT {more}){parameters} \
         UNION ALL (SELECT '{DEFINER_FUNCTION}', {nspname} || '.' || {proname} || '(' || pg_get_function_identity_arguments(p.oid) || ')' \
           FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.prosecdef AND {USER_SCHEMA} \
           AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype) AND p.proowner <> (SELECT oid FROM pg_roles WHERE rolname = current_user) \
           AND has_schema_privilege(n.oid, 'USAGE') AND has_function_privilege(p.oid, 'EXECUTE') ORDER BY n.nspname, p.proname, p.oid LIMIT {more})"
    )
}

/// Seven columns: schema, table, the INSERT, UPDATE and REFERENCES privileges with the columns that they are restricted to, the other
/// privileges, and the total number of tables.
fn tables(major: u32) -> String {
    let more = limits::MAX_NAMED_GRANTS + 1;
    let maintain = if major >= MAINTAIN_VERSION { ", MAINTAIN" } else { "" };
    let others = ["DELETE", "TRUNCATE", "TRIGGER"].into_iter().chain((major >= MAINTAIN_VERSION).then_some("MAINTAIN"));
    let others: Vec<String> =
        others.map(|privilege| format!("CASE WHEN has_table_privilege(t.oid, '{privilege}') THEN '{privilege}' END")).collect();
    let by_column = |privilege: &str| {
        format!(
            "CASE WHEN has_table_privilege(t.oid, '{privilege}') THEN '{privilege}' ELSE '{privilege} (' || \
             (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum > 0 \
             AND NOT a.attisdropped AND has_column_privilege(t.oid, a.attnum, '{privilege}')) || ')' END"
        )
    };
    format!(
        "SELECT t.nspname, t.relname, {}, {}, {}, concat_ws(', ', {}), t.total FROM \
           (SELECT n.nspname, c.relname, c.oid, count(*) OVER () AS total FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
           WHERE c.relkind IN ('r','p','v','f','m') AND {USER_SCHEMA} AND (has_table_privilege(c.oid, 'DELETE, TRUNCATE, TRIGGER{maintain}') \
           OR has_any_column_privilege(c.oid, 'INSERT, UPDATE, REFERENCES')) ORDER BY 1, 2 LIMIT {more}) t ORDER BY 1, 2",
        by_column("INSERT"),
        by_column("UPDATE"),
        by_column("REFERENCES"),
        others.join(", ")
    )
}

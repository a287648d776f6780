//! The statement that reads where the excess privileges of a role come from: the access control lists, the owners and the
//! memberships.

use super::rights_sql::{MAINTAIN_VERSION, PARAMETER_VERSION, POWERFUL_ROLES, SET_OPTION_VERSION, USER_SCHEMA};

/// The number of grants that are read at most.
const MAX_GRANTS: usize = 1000;
/// The columns of the statement that [`sources`] returns.
pub(super) const COLUMNS: usize = 6;

/// Returns a statement for one result set: kind of object, schema, object, privileges, how they are held, role. Names are quoted by
/// the server. `major` is the major version of the server.
///
/// `writing` contains the grants that do more than read, of which `held` are those that the role can use. A privilege on columns has
/// the kind TABLE, because REVOKE on a table also revokes the privilege on its columns (PostgreSQL manual, "REVOKE").
pub(super) fn sources(major: u32) -> String {
    // Since the same version, REVOKE takes away only what the given role granted. Without it, that is the first superuser.
    let (usable, grantor) = match major >= SET_OPTION_VERSION {
        true => (
            "AND (m.inherit_option OR m.set_option OR m.admin_option)",
            "CASE WHEN m.grantor = 10 THEN '' ELSE (SELECT quote_ident(g.rolname) FROM pg_roles g WHERE g.oid = m.grantor) END",
        ),
        false => ("", "''"),
    };
    let maintain = if major >= MAINTAIN_VERSION { ", 'MAINTAIN'" } else { "" };
    let parameters = match major >= PARAMETER_VERSION {
        true => " UNION ALL SELECT 'PARAMETER', '', parname, 0, paracl, '' FROM pg_parameter_acl",
        false => "",
    };
    let objects = objects();
    format!(
        "WITH me AS (SELECT oid FROM pg_roles WHERE rolname = current_user), \
         objects (kind, schema, object, owner, acl, creator) AS ({objects}{parameters}), \
         writing AS (SELECT o.kind, o.schema, o.object, o.creator, a.privilege_type, a.grantee, o.owner FROM objects o, LATERAL aclexplode(o.acl) a \
           WHERE a.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER', 'CREATE', 'ALTER SYSTEM'{maintain}) \
           OR a.privilege_type = 'USAGE' AND (o.kind IN ('SEQUENCE', 'FOREIGN SERVER', 'FOREIGN DATA WRAPPER') OR o.object = 'SEQUENCES')), \
         owned AS (SELECT d.refobjid AS grantee, d.classid, d.objid FROM pg_shdepend d WHERE d.refclassid = 'pg_authid'::regclass AND d.deptype = 'o' \
           AND d.dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))), \
         held AS (SELECT w.*, CASE WHEN w.grantee = 0 THEN 'public' WHEN w.grantee <> me.oid THEN 'member' \
             WHEN w.owner = me.oid THEN 'owner' ELSE 'role' END AS held_by FROM me, writing w \
           WHERE NOT (w.kind = 'DEFAULT' AND w.owner = w.grantee) AND (w.grantee = 0 OR pg_has_role(me.oid, w.grantee, 'MEMBER'))) \
         SELECT kind, CASE WHEN schema = '' THEN '' ELSE quote_ident(schema) END, CASE WHEN kind IN ('LARGE OBJECT', 'DEFAULT') THEN object ELSE quote_ident(object) END, \
           string_agg(DISTINCT privilege_type, ', '), held_by, CASE WHEN creator = '' THEN '' ELSE quote_ident(creator) END FROM held \
           WHERE held_by <> 'member' AND NOT (held_by = 'owner' AND kind NOT IN ('TABLE', 'SCHEMA', 'DATABASE')) GROUP BY 1, 2, 3, 5, 6 \
         UNION ALL SELECT 'OWNED', '', '', '', 'owner', '' FROM me WHERE EXISTS (SELECT 1 FROM owned d WHERE d.grantee = me.oid \
           AND d.classid NOT IN ('pg_namespace'::regclass, 'pg_database'::regclass) AND NOT EXISTS (SELECT 1 FROM pg_class c \
             WHERE d.classid = 'pg_class'::regclass AND c.oid = d.objid AND (c.relkind IN ('r','p','v','f','m') AND has_table_privilege(c.oid, 'UPDATE') \
               OR c.relkind = 'S' AND EXISTS (SELECT 1 FROM pg_depend o WHERE o.classid = d.classid AND o.objid = c.oid AND o.deptype IN ('a', 'i'))))) \
         UNION ALL SELECT DISTINCT 'ROLE', '', '', {grantor}, 'member', quote_ident(r.rolname) \
           FROM me JOIN pg_auth_members m ON m.member = me.oid {usable} JOIN pg_roles r ON r.oid = m.roleid \
           WHERE m.admin_option \
           OR EXISTS (SELECT 1 FROM held WHERE held.held_by = 'member' AND pg_has_role(r.oid, held.grantee, 'MEMBER')) \
           OR EXISTS (SELECT 1 FROM owned WHERE pg_has_role(r.oid, owned.grantee, 'MEMBER')) \
           OR EXISTS (SELECT 1 FROM pg_roles d WHERE (d.rolname IN ({POWERFUL_ROLES}) OR d.rolsuper OR d.rolcreaterole OR d.rolcreatedb \
             OR d.rolreplication OR d.rolbypassrls) AND pg_has_role(r.oid, d.oid, 'MEMBER')) \
           OR EXISTS (SELECT 1 FROM pg_roles d WHERE d.oid <> r.oid AND pg_has_role(r.oid, d.oid, 'MEMBER WITH ADMIN OPTION')) \
         ORDER BY 1, 2, 3, 5, 6 LIMIT {MAX_GRANTS}"
    )
}

/// Returns the query for the objects with their access control lists: kind, schema, object, owner, list, and for default privileges
/// the role that creates the objects.
fn objects() -> String {
    format!(
        "SELECT 'TABLE', n.nspname, c.relname, c.relowner, coalesce(c.relacl, acldefault('r', c.relowner)), ''::name \
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r','p','v','f','m') AND {USER_SCHEMA} \
         UNION ALL SELECT 'TABLE', n.nspname, c.relname, c.relowner, a.attacl, '' FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
           JOIN pg_namespace n ON n.oid = c.relnamespace WHERE a.attacl IS NOT NULL AND NOT a.attisdropped AND {USER_SCHEMA} \
         UNION ALL SELECT 'SEQUENCE', n.nspname, c.relname, c.relowner, coalesce(c.relacl, acldefault('s', c.relowner)), '' \
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S' AND {USER_SCHEMA} \
         UNION ALL SELECT 'SCHEMA', nspname, nspname, nspowner, coalesce(nspacl, acldefault('n', nspowner)), '' FROM pg_namespace \
           WHERE {USER_SCHEMA} \
         UNION ALL SELECT 'DATABASE', '', datname, datdba, coalesce(datacl, acldefault('d', datdba)), '' FROM pg_database \
           WHERE datallowconn AND NOT datistemplate \
         UNION ALL SELECT 'FOREIGN SERVER', '', srvname, srvowner, srvacl, '' FROM pg_foreign_server WHERE srvacl IS NOT NULL \
         UNION ALL SELECT 'FOREIGN DATA WRAPPER', '', fdwname, fdwowner, fdwacl, '' FROM pg_foreign_data_wrapper WHERE fdwacl IS NOT NULL \
         UNION ALL SELECT 'LARGE OBJECT', '', oid::text, lomowner, lomacl, '' FROM pg_largeobject_metadata WHERE lomacl IS NOT NULL \
         UNION ALL SELECT 'DEFAULT', coalesce(n.nspname, ''), CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' ELSE 'SCHEMAS' END, \
           d.defaclrole, d.defaclacl, o.rolname FROM pg_default_acl d JOIN pg_roles o ON o.oid = d.defaclrole \
           LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace WHERE d.defaclobjtype IN ('r', 'S', 'n')"
    )
}

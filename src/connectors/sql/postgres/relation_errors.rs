//! Why one table or view could not be read. None of these says anything about the other tables of the database.

use crate::connectors::sql::quote;
use crate::connectors::sql::uri::DatabaseServer;
use crate::model::{Class, Failure};

/// Errors after which the same statement is worth a second try with more time.
#[must_use]
pub fn may_need_more_time(code: Option<&str>) -> bool {
    matches!(code, Some("57014" | "55P03"))
}

/// Classifies the error `code` of reading `relation`, which is the quoted name.
#[must_use]
pub fn classify(server: &DatabaseServer, user: &str, relation: &str, code: &str, message: &str) -> Failure {
    let role = quote::double(user);
    let could_not = |why: &str| format!("{server}: could not read {relation}: {why}");
    let remote = |why: &str, fix: String| Failure::new(Class::Remote, could_not(why), fix);
    match code {
        "42501" => Failure::new(
            Class::PermissionDenied,
            format!("{server}: {user} does not have the privilege to read {relation}"),
            format!("grant what the detail names, for example: GRANT SELECT ON {relation} TO {role};"),
        ),
        "25006" => remote(
            "it would write, and the transaction is read-only",
            format!("a function in it writes when it is read; if no one needs it here: REVOKE SELECT ON {relation} FROM {role};"),
        ),
        "57014" => remote(
            "the time limit stopped it",
            format!("find out what takes so long: EXPLAIN SELECT * FROM {relation} LIMIT 20; AAM waits at most 5 s"),
        ),
        "55P03" => remote(
            "another session holds a lock on it",
            format!(
                "find the session: SELECT pid FROM pg_locks WHERE granted AND relation = {}::regclass;",
                quote::literal(relation)
            ),
        ),
        "55000" if message.contains("populated") => {
            remote("the materialized view is not populated", format!("REFRESH MATERIALIZED VIEW {relation};"))
        }
        "0A000" if message.contains("recovery") => remote(
            "an unlogged table cannot be read on a standby server",
            format!("name the primary server in the resource id, or run there: ALTER TABLE {relation} SET LOGGED;"),
        ),
        "42704" if message.contains("configuration parameter") => {
            let setting = quoted_in(message).unwrap_or("SETTING");
            remote(
                &format!("a row level policy or view uses the setting {setting}, which this session does not have"),
                format!("ALTER ROLE {role} SET {setting} = '...';"),
            )
        }
        "42P01" | "42883" | "42704" | "3F000" if message.contains("does not exist") => missing_object(&remote, message),
        "22021" | "22P05" => Failure::new(
            Class::Misconfigured,
            could_not(
                "it holds bytes that are not valid text in the encoding of the database, so the server cannot convert them to UTF-8",
            ),
            "correct the values, or give AAM a view that leaves them out or encodes them: SELECT convert_to(COLUMN, 'SQL_ASCII')",
        ),
        "54000" | "53200" => too_large(server, relation, "the server does not have the memory for one of its rows"),
        "XX000" if message.contains("memory alloc") => too_large(server, relation, "a row is too large for the server to send"),
        "XX001" | "XX002" | "58030" | "58P01" => remote(
            "the server reports that its files are damaged or missing",
            format!("ask the administrator of the server; the table can be checked with: SELECT count(*) FROM {relation};"),
        ),
        "40001" if message.contains("recovery") => remote(
            "a standby server stopped the statement in favour of its replication",
            "nothing to do: AAM retries automatically; hot_standby_feedback = on prevents it".to_string(),
        ),
        "42P17" => remote("its row level policy refers to itself", "correct the policy that the detail names".to_string()),
        "P0001" => remote(
            "a function in it raises an error",
            "see the detail; the owner of the function knows what it needs".to_string(),
        ),
        code if code.starts_with("08") || code.starts_with("HV") || message.contains("user mapping") => remote(
            "it is on a foreign server that does not answer or refuses the connection",
            "check the foreign server and the user mapping: SELECT srvname, srvoptions FROM pg_foreign_server;".to_string(),
        ),
        code if code.starts_with("22") => remote(
            "an expression in the view, policy or generated column fails for a row",
            "see the detail; correct the expression or the value".to_string(),
        ),
        _ => remote(
            "the server refused it",
            "see the detail, which is the message of the server; AAM retries automatically".to_string(),
        ),
    }
}

/// A view, policy or function names something that was not found.
fn missing_object(remote: &dyn Fn(&str, String) -> Failure, message: &str) -> Failure {
    let name = quoted_in(message).or_else(|| message.split_once("function ").and_then(|(_, rest)| rest.split('(').next()));
    match name {
        // The server repeats the name as it is written, so a dot shows that the schema was named.
        Some(name) if !name.contains('.') => remote(
            &format!(
                "a view, policy or function in it uses the name {name} without its schema, and AAM reads with search_path = pg_catalog"
            ),
            "write the schema before the name in the definition, or give the function that the detail names a path of its own: \
             ALTER FUNCTION NAME(...) SET search_path = SCHEMA;"
                .to_string(),
        ),
        _ => remote(
            "a view, policy or function in it uses something that was not found",
            "correct the definition that the detail names; names without a schema are looked up in pg_catalog only".to_string(),
        ),
    }
}

/// The failure for rows that are larger than what AAM reads.
#[must_use]
pub fn too_large(server: &DatabaseServer, relation: &str, why: &str) -> Failure {
    Failure::new(
        Class::Misconfigured,
        format!("{server}: could not read {relation}: {why}"),
        "give AAM a view without the large columns, or let it read another table of the database; then run `aam heal`",
    )
}

/// The first text in double quotes, which is how the server writes names.
fn quoted_in(message: &str) -> Option<&str> {
    message.split('"').nth(1).filter(|name| !name.is_empty() && name.len() <= 130)
}

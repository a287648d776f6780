//! Determines what the role may do beyond reading. The catalog is the only source; nothing is tried out.

use super::wire::{PostgresSession, Row};
use crate::connectors::sql::{limits, quote};
use crate::model::Privilege;

/// Queries for four result sets: role attributes, memberships, CREATE privileges, and writable tables. The last contains
/// one table more than the verdict names, and the total number.
fn statements() -> String {
    let more = limits::MAX_NAMED_GRANTS + 1;
    format!(
        "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = current_user; \
         SELECT rolname FROM pg_roles WHERE rolname IN ('pg_write_all_data','pg_write_server_files','pg_execute_server_program', \
           'pg_read_server_files','pg_signal_backend') AND pg_has_role(current_user, oid, 'MEMBER') ORDER BY 1; \
         SELECT 'database', current_database()::text WHERE has_database_privilege(current_database(), 'CREATE') \
           UNION ALL (SELECT 'schema', nspname::text FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema' \
           AND has_schema_privilege(oid, 'CREATE') ORDER BY nspname LIMIT {more}); \
         SELECT n.nspname, c.relname, has_table_privilege(c.oid, 'INSERT'), has_table_privilege(c.oid, 'UPDATE'), \
           has_table_privilege(c.oid, 'DELETE'), has_table_privilege(c.oid, 'TRUNCATE'), count(*) OVER () \
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
           WHERE c.relkind IN ('r','p','v','f') AND NOT c.relispartition AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' \
           AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') ORDER BY 1, 2 LIMIT {more}"
    )
}

/// Determines the privilege of the role. Returns `Unknown` if the server does not answer.
pub async fn verdict(wire: &PostgresSession) -> Privilege {
    match wire.ask("read the privileges of the role", &statements(), &[5, 1, 2, 7]).await {
        Ok(sets) => judge(&sets),
        Err(failure) => Privilege::Unknown { reason: format!("{}: {}", failure.title, failure.detail) },
    }
}

/// Determines the privilege from the four result sets.
#[must_use]
pub fn judge(sets: &[Vec<Row>]) -> Privilege {
    let [attributes, memberships, create, tables] = sets else {
        return Privilege::Unknown { reason: format!("the server returned {} of 4 result sets", sets.len()) };
    };
    let Some(own) = attributes.first() else {
        return Privilege::Unknown { reason: "pg_roles does not show the current role".to_string() };
    };
    let mut grants: Vec<String> = Vec::new();
    let attribute_names = ["SUPERUSER", "CREATEROLE", "CREATEDB", "REPLICATION", "BYPASSRLS"];
    grants
        .extend(own.iter().zip(attribute_names).filter(|(has, _)| has.as_deref() == Some("t")).map(|(_, name)| name.to_string()));
    // A superuser has every privilege, so listing more is not useful.
    if grants.first().is_some_and(|first| first == "SUPERUSER") {
        return Privilege::Over { grants };
    }
    grants.extend(memberships.iter().filter_map(|row| text(row, 0)).map(|role| format!("member of {role}")));
    grants.extend(create.iter().filter_map(|row| Some(format!("CREATE on {} {}", text(row, 0)?, quote::double(text(row, 1)?)))));
    grants.extend(tables.iter().take(limits::MAX_NAMED_GRANTS).filter_map(table));
    if let Some(total) = tables.first().and_then(|row| text(row, 6)).and_then(|total| total.parse::<usize>().ok())
        && total > limits::MAX_NAMED_GRANTS
    {
        let more = total - limits::MAX_NAMED_GRANTS;
        grants.push(format!("and write access to {more} more {}", if more == 1 { "table" } else { "tables" }));
    }
    let is_flag = |value: &Option<String>| matches!(value.as_deref(), Some("t" | "f"));
    match grants.is_empty() {
        false => Privilege::Over { grants },
        true if own.len() < attribute_names.len() || !own.iter().all(is_flag) => {
            Privilege::Unknown { reason: "pg_roles does not say which attributes the current role has".to_string() }
        }
        // A row without a name is a grant that cannot be named.
        true if [memberships, create, tables].iter().any(|rows| !rows.is_empty()) => {
            Privilege::Unknown { reason: "the server lists privileges without the names of their objects".to_string() }
        }
        true => Privilege::Ok,
    }
}

fn table(row: &Row) -> Option<String> {
    let has: Vec<&str> = ["INSERT", "UPDATE", "DELETE", "TRUNCATE"]
        .into_iter()
        .enumerate()
        .filter(|(at, _)| text(row, at + 2) == Some("t"))
        .map(|(_, name)| name)
        .collect();
    Some(format!("{} on table {}.{}", has.join(", "), quote::double(text(row, 0)?), quote::double(text(row, 1)?)))
}

fn text(row: &Row, at: usize) -> Option<&str> {
    row.get(at).and_then(Option::as_deref)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[&str]) -> Row {
        values.iter().map(|value| Some((*value).to_string())).collect()
    }

    const PLAIN: [&str; 5] = ["f", "f", "f", "f", "f"];

    #[test]
    fn a_role_that_only_reads_is_ok() {
        assert_eq!(judge(&[vec![row(&PLAIN)], vec![], vec![], vec![]]), Privilege::Ok);
    }

    #[test]
    fn a_missing_result_set_is_not_ok() {
        assert!(matches!(judge(&[vec![], vec![], vec![], vec![]]), Privilege::Unknown { .. }));
        assert!(matches!(judge(&[vec![row(&PLAIN)], vec![]]), Privilege::Unknown { .. }));
    }

    /// What says neither yes nor no is not ok.
    #[test]
    fn an_attribute_of_another_form_is_not_ok() {
        let role = |row: Row| judge(&[vec![row], vec![], vec![], vec![]]);
        for other in [vec![None; 5], row(&["f", "f", "f", "f"]), row(&["1", "0", "0", "0", "0"]), Vec::new()] {
            assert!(matches!(role(other.clone()), Privilege::Unknown { .. }), "{other:?}");
        }
        let nameless = judge(&[vec![row(&PLAIN)], vec![vec![None]], vec![], vec![]]);
        assert!(matches!(nameless, Privilege::Unknown { .. }), "{nameless:?}");
    }

    #[test]
    fn excess_is_named_as_grants_and_bounded() {
        let table = |n: usize| row(&["sales", &format!("t{n:02}"), "t", "f", "t", "f", "30"]);
        let sets = [
            vec![row(&["f", "t", "f", "f", "f"])],
            vec![row(&["pg_write_all_data"])],
            vec![row(&["schema", "sales"])],
            (0..=limits::MAX_NAMED_GRANTS).map(table).collect(),
        ];
        let Privilege::Over { grants } = judge(&sets) else { panic!("not over") };
        assert_eq!(
            grants[..4],
            [
                "CREATEROLE",
                "member of pg_write_all_data",
                "CREATE on schema \"sales\"",
                "INSERT, DELETE on table \"sales\".\"t00\""
            ]
        );
        assert_eq!(grants.last().map(String::as_str), Some("and write access to 10 more tables"));
        assert_eq!(
            judge(&[vec![row(&["t", "t", "f", "f", "f"])], vec![], vec![], vec![]]),
            Privilege::Over { grants: vec!["SUPERUSER".into(), "CREATEROLE".into()] }
        );
    }
}

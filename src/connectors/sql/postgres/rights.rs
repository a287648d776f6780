//! Determines what the role may do beyond reading. The catalog is the only source; nothing is tried out.

use super::rights_sql::{DEFINER_FUNCTION, statements};
use super::wire::{PostgresSession, Row};
use crate::connectors::sql::{limits, quote};
use crate::model::Privilege;

/// The number of functions that a reason names.
const MAX_NAMED_FUNCTIONS: usize = 3;

/// Determines the privilege of the role. `version` is the `server_version` of the server. Returns `Unknown` if the server does not
/// answer.
pub async fn verdict(wire: &PostgresSession, version: &str) -> Privilege {
    match wire.ask("read the privileges of the role", &statements(major(version)), &[5, 1, 2, 7]).await {
        Ok(sets) => judge(&sets),
        Err(failure) => Privilege::Unknown { reason: format!("{}: {}", failure.title, failure.detail) },
    }
}

/// Determines the privilege from the four result sets.
#[must_use]
pub fn judge(sets: &[Vec<Row>]) -> Privilege {
    let [attributes, roles, objects, tables] = sets else {
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
    let (functions, objects): (Vec<&Row>, Vec<&Row>) = objects.iter().partition(|row| text(row, 0) == Some(DEFINER_FUNCTION));
    grants.extend(named(roles.iter().map(|row| text(row, 0).map(str::to_string))));
    grants.extend(named(objects.iter().map(|row| Some(format!("{} {}", text(row, 0)?, text(row, 1)?)))));
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
        true if !(roles.is_empty() && objects.is_empty() && tables.is_empty()) => {
            Privilege::Unknown { reason: "the server lists privileges without the names of their objects".to_string() }
        }
        true if !functions.is_empty() => Privilege::Unknown { reason: definer_functions(&functions) },
        true => Privilege::Ok,
    }
}

/// The major version of the server: 15 for `15.18 (Debian 15.18-0+deb12u1)`. Returns 0 if the text does not begin with a number.
pub(super) fn major(version: &str) -> u32 {
    version.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// The grants of one result set. A row without a name is left out.
fn named(rows: impl Iterator<Item = Option<String>>) -> Vec<String> {
    let mut grants: Vec<String> = rows.flatten().collect();
    let more = grants.len().saturating_sub(limits::MAX_NAMED_GRANTS);
    if more > 0 {
        grants.truncate(limits::MAX_NAMED_GRANTS);
        // The statements stop counting each kind of grant one row after the limit.
        grants.push(format!("and at least {more} more of these grants"));
    }
    grants
}

/// The reason why nothing can be said of a role that may call these functions. A SECURITY DEFINER function has the privileges of its
/// owner, and the catalog does not say what it does with them.
fn definer_functions(rows: &[&Row]) -> String {
    let names: Vec<&str> = rows.iter().take(MAX_NAMED_FUNCTIONS).filter_map(|row| text(row, 1)).collect();
    let more = rows.len().saturating_sub(names.len());
    let others = match rows.len() > limits::MAX_NAMED_GRANTS {
        // The statement does not return more rows.
        true => " and others".to_string(),
        false if more > 0 => format!(" and {more} more"),
        false => String::new(),
    };
    let example = names.first().copied().unwrap_or("NAME");
    format!(
        "the role may execute {}{others}; a SECURITY DEFINER function has the privileges of its owner, and AAM does not know whether \
         it writes; to exclude this: REVOKE EXECUTE ON ROUTINE {example} FROM PUBLIC; and the same from the role and its groups",
        names.join(", ")
    )
}

fn table(row: &Row) -> Option<String> {
    let has: Vec<&str> = (2..6).filter_map(|at| text(row, at)).filter(|privileges| !privileges.is_empty()).collect();
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
        let table = |n: usize| row(&["sales", &format!("t{n:02}"), "INSERT", "", "", "DELETE", "30"]);
        let sets = [
            vec![row(&["f", "t", "f", "f", "f"])],
            vec![row(&["member of pg_write_all_data"])],
            vec![row(&["CREATE on schema", "\"sales\""])],
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

    #[test]
    fn a_privilege_on_a_column_is_excess() {
        let mut column = row(&["sales", "t", "", "UPDATE (name, \"v w\")", "", "", "1"]);
        column[2] = None;
        assert_eq!(
            judge(&[vec![row(&PLAIN)], vec![], vec![], vec![column]]),
            Privilege::Over { grants: vec!["UPDATE (name, \"v w\") on table \"sales\".\"t\"".into()] }
        );
    }

    #[test]
    fn many_grants_of_roles_and_objects_are_bounded() {
        let rows = |text: &[&str]| vec![row(text); limits::MAX_NAMED_GRANTS + 2];
        let sets = [vec![row(&PLAIN)], rows(&["owner of type x"]), rows(&["UPDATE on sequence", "\"s\".\"q\""]), vec![]];
        let Privilege::Over { grants } = judge(&sets) else { panic!("not over") };
        assert_eq!(grants.len(), 2 * (limits::MAX_NAMED_GRANTS + 1));
        assert_eq!(grants[limits::MAX_NAMED_GRANTS], "and at least 2 more of these grants");
        assert_eq!(grants[limits::MAX_NAMED_GRANTS + 1], "UPDATE on sequence \"s\".\"q\"");
    }

    /// What such a function writes is not known, but a grant that is known counts.
    #[test]
    fn functions_with_the_privileges_of_their_owner_are_unknown() {
        let functions = || (0..5).map(|n| row(&[DEFINER_FUNCTION, &format!("\"s\".\"f{n}\"(a integer)")])).collect::<Vec<Row>>();
        let Privilege::Unknown { reason } = judge(&[vec![row(&PLAIN)], vec![], functions(), vec![]]) else { panic!("known") };
        assert!(
            reason.contains("execute \"s\".\"f0\"(a integer), \"s\".\"f1\"(a integer), ")
                && reason.contains(" and 2 more;")
                && reason.contains("REVOKE EXECUTE ON ROUTINE \"s\".\"f0\"(a integer) FROM PUBLIC;"),
            "{reason}"
        );
        let owns = vec![row(&["owner of type x"])];
        assert_eq!(
            judge(&[vec![row(&PLAIN)], owns, functions(), vec![]]),
            Privilege::Over { grants: vec!["owner of type x".into()] }
        );
    }

    #[test]
    fn the_major_version_is_the_first_number() {
        let versions = ["15.18 (Debian 15.18-0+deb12u1)", "18beta1", "9.6.24", "", "unknown"];
        assert_eq!(versions.map(major), [15, 18, 9, 0, 0]);
    }
}

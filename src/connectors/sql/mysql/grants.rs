//! Parses `SHOW GRANTS`. The result determines the privilege verdict and whether the account can see the whole database.
//!
//! A line may end in `IDENTIFIED BY PASSWORD '<hash>'`, so nothing after `TO` is kept.

use crate::connectors::sql::limits;
use crate::model::Privilege;
use crate::model::text::counted;

/// Privileges that only read. All others, including REFERENCES, can write, lock, run code or show other sessions.
const READING: [&str; 4] = ["USAGE", "SELECT", "SHOW VIEW", "SHOW DATABASES"];

/// One line of `SHOW GRANTS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Privileges on an object. The object is kept as printed: `*.*`, `` `shop`.* `` or `` `shop`.`orders` ``.
    On { privileges: Vec<String>, object: String, grant_option: bool },
    /// A role, and whether the account may grant it to others. Its privileges may be missing from the output.
    Role { role: String, admin_option: bool },
}

/// Parses one line. Returns `None` if it does not grant anything, for example `SET DEFAULT ROLE`, or does not have a form that AAM
/// knows.
#[must_use]
pub fn parse(line: &str) -> Option<Grant> {
    let rest = line.strip_prefix("GRANT ")?;
    let (head, tail) = split_outside(rest, " TO ")?;
    match split_outside(head, " ON ") {
        None => Some(Grant::Role { role: head.trim().to_string(), admin_option: tail.contains("WITH ADMIN OPTION") }),
        Some((privileges, object)) => Some(Grant::On {
            privileges: split_list(privileges),
            object: object.strip_prefix("TABLE ").unwrap_or(object).trim().to_string(),
            grant_option: tail.contains("WITH GRANT OPTION"),
        }),
    }
}

/// Splits at the first `separator` that is not inside backticks.
pub(super) fn split_outside<'a>(text: &'a str, separator: &str) -> Option<(&'a str, &'a str)> {
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        match c {
            '`' => quoted = !quoted,
            _ if !quoted => {
                if let Some(after) = text.get(at..).and_then(|rest| rest.strip_prefix(separator)) {
                    return Some((text.get(..at)?, after));
                }
            }
            _ => {}
        }
    }
    None
}

/// Splits `SELECT (`a`, `b`), INSERT` at the commas outside parentheses.
fn split_list(text: &str) -> Vec<String> {
    let mut list = vec![String::new()];
    let (mut depth, mut quoted) = (0_usize, false);
    for c in text.chars() {
        match c {
            '`' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth = depth.saturating_sub(1),
            ',' if !quoted && depth == 0 => {
                list.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = list.last_mut() {
            last.push(c);
        }
    }
    list.into_iter().map(|privilege| privilege.trim().to_string()).filter(|privilege| !privilege.is_empty()).collect()
}

/// Whether a privilege, with or without a list of columns, does more than read.
#[must_use]
pub fn is_excess(privilege: &str) -> bool {
    let name = privilege.split(" (").next().unwrap_or(privilege).trim();
    !READING.contains(&name)
}

/// The account or role after `TO`. What follows it, for example the hash of a password, is left out.
pub(super) fn grantee(line: &str) -> Option<&str> {
    let (_, tail) = split_outside(line.strip_prefix("GRANT ")?, " TO ")?;
    let mut quote = None;
    for (at, c) in tail.char_indices() {
        match quote {
            None if c == ' ' => return tail.get(..at),
            None if matches!(c, '`' | '\'' | '"') => quote = Some(c),
            Some(open) if open == c => quote = None,
            _ => {}
        }
    }
    Some(tail).filter(|tail| !tail.is_empty() && quote.is_none())
}

/// Whether a line that is not a grant says something else that takes no verdict: it limits what others grant.
fn grants_nothing(line: &str) -> bool {
    line.starts_with("SET DEFAULT ROLE ") || line.starts_with("REVOKE ")
}

/// Determines the privilege from the lines. `truncated` says that there are more of them.
#[must_use]
pub fn verdict(lines: &[String], truncated: bool, mariadb: bool) -> Privilege {
    let parsed: Vec<Grant> = lines.iter().filter_map(|line| parse(line)).collect();
    let mut excess: Vec<String> = Vec::new();
    let mut roles: Vec<&str> = Vec::new();
    for grant in &parsed {
        match grant {
            Grant::Role { role, admin_option } => {
                roles.push(role);
                if *admin_option {
                    excess.push(format!("{role} WITH ADMIN OPTION"));
                }
            }
            Grant::On { privileges, object, grant_option } => {
                // PROXY is granted on accounts and not on data.
                let mut over: Vec<&str> =
                    privileges.iter().map(String::as_str).filter(|privilege| is_excess(privilege)).collect();
                if *grant_option {
                    over.push("GRANT OPTION");
                }
                if !over.is_empty() {
                    excess.push(format!("{} ON {object}", over.join(", ")));
                }
            }
        }
    }
    let more = excess.len().saturating_sub(limits::MAX_NAMED_GRANTS);
    if more > 0 {
        excess.truncate(limits::MAX_NAMED_GRANTS);
        excess.push(format!("and {more} more {}", if more == 1 { "grant" } else { "grants" }));
    }
    if !excess.is_empty() {
        return Privilege::Over { grants: excess };
    }
    if truncated {
        return Privilege::Unknown {
            reason: format!("SHOW GRANTS returned more than {}, and AAM did not read the others", counted(lines.len(), "line")),
        };
    }
    if lines.iter().any(|line| parse(line).is_none() && !grants_nothing(line)) {
        return Privilege::Unknown { reason: "SHOW GRANTS returned a line that AAM does not know".to_string() };
    }
    if parsed.is_empty() {
        return Privilege::Unknown { reason: "SHOW GRANTS did not return any grant".to_string() };
    }
    // MariaDB lists the privileges of the active role and of PUBLIC. The account can choose each other role with SET ROLE. MySQL lists
    // only the names.
    let is_listed = |role: &str| mariadb && lines.iter().any(|line| grantee(line) == Some(role));
    roles.retain(|role| !is_listed(role));
    if !roles.is_empty() {
        return Privilege::Unknown {
            reason: format!(
                "SHOW GRANTS does not list the privileges of the roles {}, which the account can choose with SET ROLE",
                roles.join(", ")
            ),
        };
    }
    Privilege::Ok
}

/// Whether a grant allows SELECT on every table of `database`. Only then does an empty list prove that there are no tables.
#[must_use]
pub fn sees_all(lines: &[String], database: &str) -> bool {
    lines.iter().filter_map(|line| parse(line)).any(|grant| match grant {
        Grant::Role { .. } => false,
        Grant::On { privileges, object, .. } => {
            let reads = privileges.iter().any(|privilege| privilege == "SELECT" || privilege.starts_with("ALL PRIVILEGES"));
            reads && (object == "*.*" || covers(&object, database))
        }
    })
}

/// Whether `` `pattern`.* `` stands for `database`. Unescaped wildcards are compared literally. A false negative only asks
/// the user for a grant; a false positive would report tables as missing that the account merely cannot see.
fn covers(object: &str, database: &str) -> bool {
    let Some(name) = object.strip_suffix(".*") else {
        return false;
    };
    let name = name.trim_matches('`').replace("``", "`").replace("\\_", "_").replace("\\%", "%");
    name.eq_ignore_ascii_case(database)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(text: &[&str]) -> Vec<String> {
        text.iter().map(|line| (*line).to_string()).collect()
    }

    #[test]
    fn a_reader_is_ok_and_its_hash_is_not_kept() {
        let reader = lines(&[
            "GRANT USAGE ON *.* TO `reader`@`%` IDENTIFIED BY PASSWORD '*0123'",
            "GRANT SELECT, SHOW VIEW ON `shop`.* TO `reader`@`%`",
        ]);
        assert_eq!(verdict(&reader, false, true), Privilege::Ok);
        assert!(sees_all(&reader, "shop") && !sees_all(&reader, "other"));
        assert!(!format!("{:?}", parse(&reader[0])).contains("0123"));
    }

    #[test]
    fn excess_is_named_as_show_grants_prints_it() {
        let writer = lines(&[
            "GRANT FILE ON *.* TO `w`@`%`",
            "GRANT SELECT, INSERT, UPDATE (`a`, `b`) ON `shop`.`order TO s` TO `w`@`%` WITH GRANT OPTION",
        ]);
        assert_eq!(
            verdict(&writer, false, true),
            Privilege::Over {
                grants: vec!["FILE ON *.*".into(), "INSERT, UPDATE (`a`, `b`), GRANT OPTION ON `shop`.`order TO s`".into()]
            }
        );
        assert!(!sees_all(&writer, "shop"));
        assert_eq!(
            verdict(&lines(&["GRANT ALL PRIVILEGES ON `shop`.* TO `w`@`%`"]), false, true),
            Privilege::Over { grants: vec!["ALL PRIVILEGES ON `shop`.*".into()] }
        );
    }

    #[test]
    fn what_could_not_be_asked_is_unknown() {
        let roles = lines(&["GRANT USAGE ON *.* TO `r`@`%`", "GRANT `analyst`@`%` TO `r`@`%`"]);
        assert!(matches!(verdict(&roles, false, false), Privilege::Unknown { .. }));
        assert!(matches!(verdict(&roles, false, true), Privilege::Unknown { .. }));
        assert!(matches!(verdict(&[], false, true), Privilege::Unknown { .. }));
        let reader = lines(&["GRANT SELECT ON `shop`.* TO `r`@`%`"]);
        assert_eq!(verdict(&reader, false, true), Privilege::Ok);
        assert!(matches!(verdict(&reader, true, true), Privilege::Unknown { reason } if reason.contains("more than 1 line,")));
        for other in ["", "ALLOW ALL ON *.* TO `r`@`%`", "GRANT ALL PRIVILEGES ON *.*"] {
            let with_other = [reader.clone(), lines(&[other])].concat();
            assert!(matches!(verdict(&with_other, false, true), Privilege::Unknown { .. }), "{other:?}");
        }
        let known = ["SET DEFAULT ROLE `analyst` FOR `r`@`%`", "REVOKE SELECT ON `hr`.* FROM `r`@`%`"];
        assert_eq!(verdict(&[reader, lines(&known)].concat(), false, true), Privilege::Ok);
    }

    /// The lines of MariaDB 10.11 for an account with a default role and one that it can choose.
    #[test]
    fn a_role_that_can_be_chosen_is_not_ok() {
        let reader = ["GRANT `readers` TO `a`@`%`", "GRANT USAGE ON *.* TO `a`@`%`"];
        let active = ["GRANT USAGE ON *.* TO `readers`", "GRANT SELECT ON `shop`.* TO `readers`"];
        assert_eq!(verdict(&lines(&[reader, active].concat()), false, true), Privilege::Ok);
        let other = [&reader[..], &active, &["GRANT `writers` TO `a`@`%`"]].concat();
        let Privilege::Unknown { reason } = verdict(&lines(&other), false, true) else { panic!("known") };
        assert!(reason.contains("the roles `writers`, which"), "{reason}");
        let giver = [&["GRANT `readers` TO `a`@`%` WITH ADMIN OPTION"][..], &active].concat();
        assert_eq!(verdict(&lines(&giver), false, true), Privilege::Over { grants: vec!["`readers` WITH ADMIN OPTION".into()] });
    }

    proptest! {
        /// Every privilege beyond reading is reported for every object, and no line makes the parser panic.
        #[test]
        fn an_extra_privilege_is_never_missed(extra in "INSERT|UPDATE|DELETE|DROP|ALTER|EXECUTE|SUPER|CREATE USER", name in "[a-z ,()]{1,12}") {
            let line = format!("GRANT SELECT, {extra} ON `{name}`.* TO `x`@`%`");
            prop_assert_eq!(verdict(&[line], false, true), Privilege::Over { grants: vec![format!("{extra} ON `{name}`.*")] });
        }

        #[test]
        fn any_line_is_answered(line in "\\PC{0,60}") {
            let _ = parse(&line);
            let _ = parse(&format!("GRANT {line}"));
        }
    }
}

//! Writes the statements that take excess privileges away from an account, for an administrator who pastes them into the client
//! of the server. AAM never runs them.
//!
//! `SHOW GRANTS` prints grants as the statements that would create them, and `REVOKE` takes the same privileges, object and
//! account (MySQL and MariaDB manuals, "REVOKE").

use super::grants::{self, Grant};
use crate::connectors::sql::quote;

/// The number of statements at most.
const MAX_STATEMENTS: usize = 100;

/// Returns the statements for the lines of `SHOW GRANTS`. `database` is the one that AAM reads.
#[must_use]
pub fn statements(lines: &[String], database: &str) -> Vec<String> {
    let account = lines.iter().filter_map(|line| grants::grantee(line)).find(|grantee| grantee.contains('@'));
    let mut all: Vec<String> = Vec::new();
    let mut add = |statement: String| {
        if all.len() < MAX_STATEMENTS && !all.contains(&statement) {
            all.push(statement);
        }
    };
    for line in lines {
        let (Some(grant), Some(grantee)) = (grants::parse(line), grants::grantee(line)) else {
            continue;
        };
        let (privileges, object, grant_option) = match grant {
            Grant::On { privileges, object, grant_option } => (privileges, object, grant_option),
            Grant::Role { role, admin_option } => {
                if admin_option && grantee.contains('@') {
                    add(format!("REVOKE {role} FROM {grantee};"));
                }
                continue;
            }
        };
        let excess: Vec<&str> = privileges.iter().map(String::as_str).filter(|privilege| grants::is_excess(privilege)).collect();
        if excess.is_empty() && !grant_option {
            continue;
        }
        // MariaDB also lists what the active role and every account (PUBLIC) may do. Others may need the role, so the account loses it as
        // a whole.
        if !grantee.contains('@') && grantee != "PUBLIC" {
            if let Some(account) = account {
                add(format!("REVOKE {grantee} FROM {account};"));
            }
            continue;
        }
        if !excess.is_empty() {
            add(format!("REVOKE {} ON {object} FROM {grantee};", excess.join(", ")));
        }
        if grant_option {
            add(format!("REVOKE GRANT OPTION ON {object} FROM {grantee};"));
        }
        if excess.iter().any(|privilege| privilege.starts_with("ALL PRIVILEGES")) {
            add(format!("GRANT SELECT, SHOW VIEW ON {}.* TO {grantee};", quote::backtick(database)));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(lines: &[&str]) -> Vec<String> {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_string()).collect();
        statements(&lines, "shop")
    }

    #[test]
    fn every_excess_grant_is_revoked_as_it_was_given() {
        assert_eq!(
            of(&[
                "GRANT FILE ON *.* TO `w`@`%` IDENTIFIED BY PASSWORD '*0123'",
                "GRANT SELECT, INSERT, UPDATE (`a`, `b`) ON `shop`.`order TO s` TO 'w'@'10.0.0.%' WITH GRANT OPTION",
                "GRANT SELECT, SHOW VIEW ON `shop`.* TO `w`@`%`",
            ]),
            [
                "REVOKE FILE ON *.* FROM `w`@`%`;",
                "REVOKE INSERT, UPDATE (`a`, `b`) ON `shop`.`order TO s` FROM 'w'@'10.0.0.%';",
                "REVOKE GRANT OPTION ON `shop`.`order TO s` FROM 'w'@'10.0.0.%';",
            ]
        );
        assert_eq!(
            of(&["GRANT ALL PRIVILEGES ON *.* TO `w`@`%`"]),
            ["REVOKE ALL PRIVILEGES ON *.* FROM `w`@`%`;", "GRANT SELECT, SHOW VIEW ON `shop`.* TO `w`@`%`;"]
        );
    }

    #[test]
    fn a_role_that_writes_is_taken_from_the_account() {
        let lines = ["GRANT `writers` TO `w`@`%`", "GRANT USAGE ON *.* TO `w`@`%`", "GRANT INSERT ON `shop`.* TO `writers`"];
        assert_eq!(of(&lines), ["REVOKE `writers` FROM `w`@`%`;"]);
        assert_eq!(of(&["GRANT `r` TO `w`@`%` WITH ADMIN OPTION"]), ["REVOKE `r` FROM `w`@`%`;"]);
        let public = ["GRANT USAGE ON *.* TO `w`@`%`", "GRANT INSERT ON `shop`.* TO PUBLIC"];
        assert_eq!(of(&public), ["REVOKE INSERT ON `shop`.* FROM PUBLIC;"]);
        assert!(of(&["GRANT SELECT ON `shop`.* TO `w`@`%`", "SET DEFAULT ROLE `r` FOR `w`@`%`", ""]).is_empty());
    }

    proptest! {
        #[test]
        fn any_line_is_answered(line in "\\PC{0,60}") {
            let _ = of(&[&line, &format!("GRANT INSERT ON x.* TO {line}")]);
        }
    }
}

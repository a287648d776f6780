//! Writes the commands of `mongosh` that leave a user nothing but reading (MongoDB manual, `db.revokeRolesFromUser`). AAM never
//! runs them.

use super::privileges::{Named, READING_ROLES, Status};
use serde_json::json;

/// The number of users whose commands are written. A login has one.
const MAX_USERS: usize = 4;

/// Returns the commands for an administrator. Roles that AAM does not know as reading are taken away, and the user gets the role
/// `read` on `database`. Returns none if the server does not list users and roles.
#[must_use]
pub fn statements(status: &Status, database: &str) -> Vec<String> {
    let reads = |role: &&Named| READING_ROLES.contains(&role.name.as_str());
    let listed =
        |roles: &[&Named]| json!(roles.iter().map(|role| json!({"role": role.name, "db": role.database})).collect::<Vec<_>>());
    let taken: Vec<&Named> = status.roles.iter().filter(|role| !reads(role)).collect();
    if taken.is_empty() {
        return Vec::new();
    }
    let keeps_reading = status.roles.iter().filter(reads).any(|role| role.name != "read" || role.database == database);
    let read = Named { name: "read".to_string(), database: database.to_string() };
    let mut all = Vec::new();
    for user in status.users.iter().take(MAX_USERS) {
        let target = format!("db.getSiblingDB({})", json!(user.database));
        all.push(format!("{target}.revokeRolesFromUser({}, {});", json!(user.name), listed(&taken)));
        if !keeps_reading {
            all.push(format!("{target}.grantRolesToUser({}, {});", json!(user.name), listed(&[&read])));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, database: &str) -> Named {
        Named { name: name.to_string(), database: database.to_string() }
    }

    #[test]
    fn a_user_keeps_nothing_but_reading() {
        let mut status = Status::default();
        status.users.push(named("aam", "admin"));
        status.roles.push(named("readWrite", "shop"));
        assert_eq!(
            statements(&status, "shop"),
            [
                r#"db.getSiblingDB("admin").revokeRolesFromUser("aam", [{"db":"shop","role":"readWrite"}]);"#,
                r#"db.getSiblingDB("admin").grantRolesToUser("aam", [{"db":"shop","role":"read"}]);"#,
            ]
        );
        status.roles.push(named("read", "shop"));
        assert_eq!(statements(&status, "shop").len(), 1, "it reads already");
        status.roles.remove(0);
        assert!(statements(&status, "shop").is_empty());
    }
}

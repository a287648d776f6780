//! Finds out whether the user may do more than read: the privileges of all roles that it can activate.
//!
//! Sources: docs.snowflake.com, "CURRENT_AVAILABLE_ROLES" and "SHOW GRANTS" \[V\]: the first lists the roles that the user was
//! granted, with those of their hierarchy; the second lists privileges with the type of their object in `granted_on`. With
//! secondary roles (the default since 2024) all of them are active at once, so none may be left out.

use super::api::SqlApi;
use super::identity::SessionValues;
use super::spec::{Allows, SnowflakeSpec};
use super::statements::{MAX_GRANTS, grants, quoted};
use crate::credentials::redact;
use crate::model::{Class, Failure, Privilege};
use std::collections::{BTreeSet, VecDeque};

/// The maximum number of roles whose privileges are read.
const MAX_ROLES: usize = 4;
/// The maximum number of privileges that a verdict names.
const MAX_NAMED: usize = 10;
/// The maximum number of statements that take privileges away.
const MAX_STATEMENTS: usize = 50;

/// The verdict, and the privileges that read rows.
pub struct Verdict {
    pub privilege: Privilege,
    pub content: Vec<String>,
    /// The statements that take the excess away.
    pub removal: Vec<String>,
}

/// What was found so far.
#[derive(Default)]
struct Findings {
    over: BTreeSet<String>,
    content: BTreeSet<String>,
    /// Statements for an administrator; AAM never runs them.
    removal: BTreeSet<String>,
    /// Why the verdict cannot be `ok`.
    gaps: Vec<String>,
}

/// Judges the roles of the session.
///
/// # Errors
/// Returns the failures that concern the connection and not one role, for example a rate limit.
pub async fn judge(api: &SqlApi, spec: &SnowflakeSpec, values: &SessionValues) -> Result<Verdict, Failure> {
    let current = values.get("CURRENT_ROLE").filter(|role| !role.is_empty());
    let available = values.get("CURRENT_AVAILABLE_ROLES").and_then(|text| serde_json::from_str::<Vec<String>>(text).ok());
    let mut findings = Findings::default();
    if available.is_none() {
        findings.gaps.push("Snowflake did not say which roles the user has".to_string());
    }
    let mut open: VecDeque<String> = current.into_iter().cloned().chain(available.unwrap_or_default()).collect();
    for role in open.iter().filter(|role| spec.privilege.admin_roles.contains(role)) {
        findings.over.insert(format!("role {role}"));
        if let Some(user) = values.get("CURRENT_USER").filter(|user| !user.is_empty()) {
            findings.removal.insert(format!("REVOKE ROLE {} FROM USER {};", quoted(role), quoted(user)));
        }
    }
    // An administrator's role settles the question without a call.
    let mut judged: Vec<String> = Vec::new();
    while let Some(role) = open.pop_front().filter(|_| findings.over.is_empty()) {
        if judged.contains(&role) {
            continue;
        }
        if judged.len() >= MAX_ROLES {
            findings.gaps.push(format!("the user has more than {MAX_ROLES} roles, and not all of them were examined"));
            break;
        }
        open.extend(read(api, spec, &role, &mut findings).await?);
        judged.push(role);
    }
    if judged.is_empty() && findings.over.is_empty() {
        findings.gaps.push("the session has no role".to_string());
    }
    Ok(findings.verdict())
}

/// Reads the privileges of `role`. Returns the roles that it inherits.
async fn read(api: &SqlApi, spec: &SnowflakeSpec, role: &str, findings: &mut Findings) -> Result<Vec<String>, Failure> {
    let result = match api.show(&grants(role), &["privilege", "granted_on", "name"]).await {
        Ok(result) => result,
        // One role that cannot be read does not end the attempt.
        Err(failure) if matches!(failure.class, Class::PermissionDenied | Class::NotFound | Class::Remote) => {
            findings.gaps.push(format!("the privileges of the role {role} cannot be read: {}", failure.title));
            return Ok(Vec::new());
        }
        Err(failure) => return Err(failure),
    };
    let mut inherited = Vec::new();
    for row in result.rows() {
        let Some(privilege) = row.get("privilege") else {
            findings.gaps.push(format!("Snowflake did not name the privileges of the role {role}"));
            break;
        };
        let on = row.get("granted_on").unwrap_or_default().replace('_', " ").to_uppercase();
        let privilege = privilege.to_uppercase();
        match (privilege.as_str(), on.as_str()) {
            ("USAGE", "ROLE") => inherited.extend(row.get("name").map(unquoted)),
            // A database role has privileges of its own, so only those that the family file knows by name are judged.
            ("USAGE", "DATABASE ROLE" | "APPLICATION ROLE") => {
                findings.add(spec, &format!("USAGE ON {on} {}", row.get("name").unwrap_or_default()));
            }
            _ => findings.add(spec, &format!("{privilege} ON {on}")),
        }
        let can_grant = row.get("grant_option").is_some_and(|option| option.eq_ignore_ascii_case("true"));
        if can_grant {
            findings.over.insert(format!("{privilege} ON {on} WITH GRANT OPTION"));
        }
        findings
            .remove(spec, &Held { privilege: &privilege, on: &on, name: row.get("name").unwrap_or_default(), role, can_grant });
    }
    if result.truncated || result.len() >= MAX_GRANTS {
        findings.gaps.push(format!("the role {role} has too many privileges to read all of them"));
    }
    Ok(inherited)
}

/// SHOW GRANTS writes a name in double quotes if SQL needs them.
fn unquoted(name: &str) -> String {
    match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_string(),
    }
}

/// One row of SHOW GRANTS.
struct Held<'a> {
    privilege: &'a str,
    on: &'a str,
    name: &'a str,
    role: &'a str,
    can_grant: bool,
}

impl Findings {
    /// Adds the statement that takes the privilege away from the role (docs.snowflake.com, "REVOKE privileges" \[V\]: the name
    /// of the account is not written). Ownership can only be transferred.
    fn remove(&mut self, spec: &SnowflakeSpec, held: &Held<'_>) {
        let Held { privilege, on, name, role, can_grant } = held;
        let is_over = spec.privilege.judge(&format!("{privilege} ON {on}")) == Allows::MoreThanReading;
        if (!is_over && !can_grant) || self.removal.len() >= MAX_STATEMENTS {
            return;
        }
        let object = if *on == "ACCOUNT" { "ACCOUNT".to_string() } else { format!("{on} {name}") };
        let role = quoted(role);
        self.removal.insert(match *privilege {
            "OWNERSHIP" => format!("GRANT OWNERSHIP ON {object} TO ROLE SYSADMIN COPY CURRENT GRANTS;"),
            _ if is_over => format!("REVOKE {privilege} ON {object} FROM ROLE {role};"),
            _ => format!("REVOKE GRANT OPTION FOR {privilege} ON {object} FROM ROLE {role};"),
        });
    }

    fn add(&mut self, spec: &SnowflakeSpec, grant: &str) {
        let shown = redact::scrub_and_cut(grant, 60);
        match spec.privilege.judge(grant) {
            Allows::Metadata => {}
            Allows::Content => drop(self.content.insert(shown)),
            Allows::MoreThanReading => drop(self.over.insert(shown)),
            Allows::Unknown => {
                let gap = format!("AAM does not know what the privilege {shown} allows");
                if self.gaps.len() < MAX_NAMED && !self.gaps.contains(&gap) {
                    self.gaps.push(gap);
                }
            }
        }
    }

    fn verdict(self) -> Verdict {
        let named = |set: BTreeSet<String>| set.into_iter().take(MAX_NAMED).collect::<Vec<_>>();
        let privilege = match () {
            () if !self.over.is_empty() => Privilege::Over { grants: named(self.over) },
            () if !self.gaps.is_empty() => Privilege::Unknown { reason: self.gaps.join("; ") },
            () => Privilege::Ok,
        };
        let removal = match privilege {
            Privilege::Over { .. } => self.removal.into_iter().take(MAX_STATEMENTS).collect(),
            _ => Vec::new(),
        };
        Verdict { privilege, content: named(self.content), removal }
    }
}

//! Compares the scopes that were granted with those that were asked for.

use crate::families::Family;
use crate::model::{Class, Failure};

/// Scopes that give no access to data of the source. Vendors grant them without being asked, or do not name them.
const WITHOUT_ACCESS: [&str; 7] = ["openid", "profile", "email", "offline_access", "offline", "refresh_token", "identify"];

/// Splits the scopes of a response, which vendors separate by blanks or commas.
#[must_use]
pub fn split(text: &str) -> Vec<String> {
    text.split(|c: char| c.is_whitespace() || c == ',').filter(|scope| !scope.is_empty()).map(str::to_string).collect()
}

/// Returns the scopes of `asked` that `granted` does not have.
#[must_use]
pub fn missing(asked: &[String], granted: &[String]) -> Vec<String> {
    difference(asked, granted)
}

/// Returns the scopes of `granted` that were not asked for.
#[must_use]
pub fn excess(asked: &[String], granted: &[String]) -> Vec<String> {
    difference(granted, asked)
}

fn difference(of: &[String], without: &[String]) -> Vec<String> {
    let has = |scope: &String| without.iter().any(|other| normal(other) == normal(scope));
    of.iter().filter(|scope| !WITHOUT_ACCESS.contains(&scope.as_str()) && !has(scope)).cloned().collect()
}

/// Microsoft grants `https://graph.microsoft.com/User.Read` for `User.Read`, and the reverse, in any case of letters.
fn normal(scope: &str) -> String {
    let name = if scope.contains("://") { scope.rsplit('/').next().unwrap_or(scope) } else { scope };
    name.to_ascii_lowercase()
}

/// The warning for scopes that were granted in excess or that are missing. An excess is the greater risk, so it comes first.
#[must_use]
pub fn warning(consent: &str, asked: &[String], granted: &[String], family: &Family) -> Option<Failure> {
    let (excess, missing) = (excess(asked, granted), missing(asked, granted));
    if !excess.is_empty() {
        let title = format!("consent:{consent} was granted more than AAM asked for: {}", excess.join(", "));
        let fix = format!(
            "remove these scopes from the OAuth client at the vendor, then aam consent revoke CONNECTION and give consent again; least privilege: {}",
            family.least_privilege
        );
        return Some(Failure::new(Class::OverPrivileged, title, fix));
    }
    (!missing.is_empty()).then(|| missing_failure(consent, &missing))
}

/// The failure for scopes that were not granted.
#[must_use]
pub fn missing_failure(consent: &str, missing: &[String]) -> Failure {
    Failure::new(
        Class::PermissionDenied,
        format!("consent:{consent} was not granted: {}", missing.join(", ")),
        format!(
            "give consent again and leave every right selected; if the page of the vendor does not offer a right, an administrator has to allow it for the OAuth client, or the policy has to leave it out: credentials.consents.{consent}.scopes"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<String> {
        split(text)
    }

    #[test]
    fn scopes_are_compared_as_vendors_write_them() {
        assert_eq!(list("a,b  c\n"), ["a", "b", "c"]);
        let asked = list("User.Read offline_access https://graph.microsoft.com/Sites.Read.All");
        let granted = list("https://graph.microsoft.com/user.read Sites.Read.All profile openid email");
        assert!(missing(&asked, &granted).is_empty() && excess(&asked, &granted).is_empty());
        assert_eq!(missing(&list("a b"), &list("b")), ["a"]);
        assert_eq!(excess(&list("a"), &list("a write")), ["write"]);
    }

    #[test]
    fn an_excess_is_over_privilege_and_a_lack_names_the_right() {
        let family = Family::custom("acme");
        assert!(warning("c", &list("a b"), &list("a b openid"), &family).is_none());
        let more = warning("c", &list("a b"), &list("a admin"), &family).unwrap();
        assert!(more.class == Class::OverPrivileged && more.title.contains("admin"), "{more:?}");
        let less = warning("c", &list("a b"), &list("a"), &family).unwrap();
        assert!(less.class == Class::PermissionDenied && less.title.ends_with("not granted: b"), "{less:?}");
    }
}

//! Who may send which credential where, as text for `aam check` and `aam policy diff`.

use super::super::{Policy, Token, TokenScope};
use super::patterns::{HostPattern, LocatorPattern};

/// One line for the intents folder, one for each caller that may push intents, and one for each namespace that
/// `credentials.namespaces` lists.
#[must_use]
pub fn summary(policy: &Policy) -> Vec<String> {
    let mut lines = vec!["the intents folder: every locator, to every host".to_string()];
    if policy.api.tokens.is_empty() {
        lines.push("the admin token: every locator, to every host".to_string());
    }
    let writes = |token: &&Token| token.scopes.contains(&TokenScope::IntentsWrite);
    for token in policy.api.tokens.iter().filter(writes) {
        let namespaces: Vec<&str> = token.namespaces.iter().map(String::as_str).collect();
        lines.push(format!("token {} in {}: {}", token.name, namespaces.join(", "), of_token(token)));
    }
    for (namespace, locators) in &policy.credentials.namespaces {
        let list = if locators.is_empty() { "no locator".to_string() } else { joined(locators) };
        lines.push(format!("namespace {namespace}: only {list}, which no other namespace may use unless it is listed there too"));
    }
    lines
}

/// What the documents of `token` may send, and where.
#[must_use]
pub fn of_token(token: &Token) -> String {
    let grant = &token.grant;
    if grant.locators.is_empty() {
        return "no locator".to_string();
    }
    let hosts = match grant.hosts.as_slice() {
        [] => "only to hosts that the policy or the family names".to_string(),
        hosts if hosts.iter().any(HostPattern::is_any) => "to every host".to_string(),
        hosts => format!(
            "to hosts that the policy or the family names and to {}",
            hosts.iter().map(HostPattern::as_str).collect::<Vec<_>>().join(", ")
        ),
    };
    format!("{}, {hosts}", joined(&grant.locators))
}

fn joined(locators: &[LocatorPattern]) -> String {
    locators.iter().map(LocatorPattern::as_str).collect::<Vec<_>>().join(", ")
}

//! The text of `aam privileges`.

use super::privileges::{ConnectionPrivilege, PrivilegeVerdict, Privileges, ResourcePrivilege};
use crate::model::Timestamp;
use crate::model::text::{age, counted, printable};
use std::fmt::Write;

/// Formats the totals, the connections that are listed, and why verdicts are unknown. `shown` is the number of connections that
/// are printed at most.
#[must_use]
pub fn text(privileges: &Privileges, shown: usize, now: Timestamp) -> String {
    let totals = privileges.totals;
    let all = totals.over + totals.unknown + totals.not_checked + totals.ok;
    if all == 0 {
        return "no connections\n".to_string();
    }
    let mut text = format!(
        "{}: {} can do more than read, {} unknown, {} not checked yet, {} only {}\n",
        counted(all, "connection"),
        totals.over,
        totals.unknown,
        totals.not_checked,
        totals.ok,
        if totals.ok == 1 { "reads" } else { "read" },
    );
    for connection in privileges.connections.iter().take(shown) {
        text.push_str(&one(connection, now));
    }
    if privileges.connections.len() > shown {
        let _ = writeln!(text, "\n{} more; --limit shows them", counted(privileges.connections.len() - shown, "connection"));
    }
    if !privileges.unknown.is_empty() {
        text.push_str("\nunknown, and why\n");
        for unknown in &privileges.unknown {
            let _ = writeln!(
                text,
                "  {:<28} {}",
                format!("{} of {}", unknown.connections, unknown.source_type),
                printable(&unknown.reason, &[])
            );
        }
    }
    if privileges.connections.iter().any(|connection| connection.verdict == PrivilegeVerdict::Over) {
        text.push_str("\nafter a change at the source: aam heal ID checks at once\n");
    }
    text
}

fn one(connection: &ConnectionPrivilege, now: Timestamp) -> String {
    let since = connection.found_at.as_deref().and_then(|at| Timestamp::parse(at).ok());
    let found = since.map(|at| format!("  found {} ago", age(now.since(at)))).unwrap_or_default();
    let mut text = format!(
        "\n{} {} {}  {}  {}{found}\n",
        symbol(connection.verdict),
        title(connection.verdict),
        connection.connection_id,
        connection.source_type,
        connection.status,
    );
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "    {name:<11} {}", printable(value, &[]));
        }
    };
    line("owner:", &connection.owner);
    let credential = connection.credential_locator.as_deref();
    line("credential:", credential.unwrap_or("none; the rights are those of the user that runs AAM"));
    for resource in &connection.resources {
        line("resource:", &resource.resource_id);
        lines_of(resource, &mut line);
    }
    text
}

fn lines_of(resource: &ResourcePrivilege, line: &mut impl FnMut(&str, &str)) {
    line("unknown:", &resource.reason);
    for (name, values) in [("excess:", &resource.grants), ("run:", &resource.statements), ("do:", &resource.steps)] {
        for value in values {
            line(name, value);
        }
    }
}

fn symbol(verdict: PrivilegeVerdict) -> &'static str {
    match verdict {
        PrivilegeVerdict::Over => "!",
        PrivilegeVerdict::Unknown => "?",
        PrivilegeVerdict::NotChecked => ".",
        PrivilegeVerdict::Ok => "+",
    }
}

fn title(verdict: PrivilegeVerdict) -> &'static str {
    match verdict {
        PrivilegeVerdict::Over => "may write",
        PrivilegeVerdict::Unknown => "unknown",
        PrivilegeVerdict::NotChecked => "not checked",
        PrivilegeVerdict::Ok => "only reads",
    }
}

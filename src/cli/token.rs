//! `aam token new`: creates a bearer token; only its digest goes into the policy.

use super::{CommandError, CommandResult, CommonOptions, EXIT_USAGE};
use crate::admin_token;
use crate::clock;
use crate::model::{ADMIN_TOKEN, Digest, Problem, Timestamp};
use crate::policy::effective::quoted;
use crate::policy::{Policy, parse};
use crate::policy_loader;
use crate::registry::Reader;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::process::ExitCode;
use std::sync::Arc;

#[derive(clap::Subcommand)]
pub enum TokenCommand {
    /// Print a new token, and the policy entry for it
    #[command(after_help = "Examples:
  aam token new --name aod
  aam token new --name portal --scopes registry:read --namespaces autonomy,team_b --expires 90d
  aam token new --name ci --scopes intents:write --expires 2027-06-30 --locators 'env:CI_*' --keep-admin

The token goes to the caller, the entry into the policy under api.tokens. The first entry of a policy ends the
admin token (var/aam.db.admin-token), unless the policy lists it too: --keep-admin prints that entry.")]
    New(NewToken),
}

/// The flags of `aam token new`.
#[derive(clap::Args)]
pub struct NewToken {
    /// The name of the token, which origins and logs show
    #[arg(long, default_value = "aod")]
    name: String,
    /// What the token may do: intents:write, registry:read, ops:heal, ops:confirm
    #[arg(long, value_delimiter = ',', default_values = ["intents:write", "registry:read"])]
    scopes: Vec<String>,
    /// The namespaces of the token [default: the namespace of the policy]
    #[arg(long, value_delimiter = ',')]
    namespaces: Vec<String>,
    /// When the token ends: a duration such as 90d, a day (included, in UTC), or an RFC 3339 timestamp [default: never]
    #[arg(long)]
    expires: Option<String>,
    /// The credentials that the token's intents may name, for example env:SALESFORCE_*
    #[arg(long, value_delimiter = ',')]
    locators: Vec<String>,
    /// The hosts that may receive them where the resource id chooses the host
    #[arg(long, value_delimiter = ',')]
    hosts: Vec<String>,
    /// Also print the entry that keeps the admin token valid
    #[arg(long)]
    keep_admin: bool,
}

/// Exits with 0, or with 64 if an argument is not valid. The token is printed and not stored.
pub fn run(common: &CommonOptions, command: &TokenCommand) -> CommandResult {
    let TokenCommand::New(options) = command;
    // The command also works where the policy is not, for example on another machine.
    let policy = policy_loader::load(&common.policy).loaded.ok().map(|loaded| loaded.policy);
    let namespaces = match (options.namespaces.as_slice(), &policy) {
        ([], Some(policy)) => vec![policy.namespace.clone()],
        ([], None) => vec!["autonomy".to_string()],
        (named, _) => named.to_vec(),
    };
    let expires = options.expires.as_deref().map(|text| end(text, clock::from_env().now())).transpose()?;
    let token = admin_token::random_token().map_err(|error| CommandError::new(error.to_string()))?;
    let token = token.expose();
    let sha256 = Digest::from_bytes(token.as_bytes());
    let entry = entry(options, &namespaces, expires, &sha256);
    check(&entry)?;
    let admin = Admin::find(common, options, policy.as_ref(), &namespaces)?;
    let entries: Vec<&str> = [Some(entry.as_str()), admin.kept.as_deref()].into_iter().flatten().collect();
    let mut text = format!(
        "{token}\n\nGive this token to the caller now; it is not shown again. Add {} to the policy under api.tokens:\n\n",
        if entries.len() > 1 { "both entries" } else { "its entry" }
    );
    for entry in &entries {
        let _ = writeln!(text, "  - {entry}");
    }
    let taken = policy.as_ref().is_some_and(|policy| policy.api.tokens.iter().any(|token| token.name == options.name));
    if taken {
        let name = &options.name;
        let _ = writeln!(
            text,
            "\nThe policy has a token {name}: replace its entry, which ends the old token, or choose another --name."
        );
    }
    if options.locators.is_empty() && options.scopes.iter().any(|scope| scope == "intents:write") {
        text.push_str(
            "\nIf its intents name credentials, list them in the entry: locators: [\"env:NAME\"]. Where the resource id chooses the\nhost (openapi, s3_compat, jdbc, postgres), add hosts: [api.acme.example].\n",
        );
    }
    if let Some(note) = &admin.note {
        let _ = writeln!(text, "\n{note}");
    }
    let value = serde_json::json!({
        "token": token, "sha256": sha256, "name": options.name, "scopes": options.scopes, "namespaces": namespaces,
        "expires": expires.map(shown), "entries": entries, "note": admin.note,
    });
    common.print(&text, &value);
    Ok(ExitCode::SUCCESS)
}

/// Returns when a token ends.
fn end(text: &str, now: Timestamp) -> Result<Timestamp, CommandError> {
    let end = super::since::duration(text).map(|wait| now.plus(wait)).or_else(|| parse::token_end(text));
    match end {
        // Whole seconds read better.
        Some(end) if end > now => Ok(Timestamp(end.0 - end.0.rem_euclid(1000))),
        Some(_) => {
            Err(CommandError::usage(format!("--expires {text} is in the past; write a later day, or a duration such as 90d")))
        }
        None => Err(CommandError::usage(format!(
            "--expires {text} is neither a duration, nor a day, nor an RFC 3339 timestamp; write 90d, 2027-06-30 or 2027-06-30T12:00:00Z"
        ))),
    }
}

/// An end has whole seconds.
fn shown(end: Timestamp) -> String {
    end.rfc3339().replace(".000Z", "Z")
}

fn entry(options: &NewToken, namespaces: &[String], expires: Option<Timestamp>, sha256: &Digest) -> String {
    let list = |items: &[String]| items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", ");
    let mut entry = format!(
        "{{name: {}, sha256: \"{sha256}\", scopes: [{}], namespaces: [{}]",
        quoted(&options.name),
        // A scope is plain in YAML, because no blank follows its colon.
        list(&options.scopes),
        list(namespaces)
    );
    if let Some(end) = expires {
        let _ = write!(entry, ", expires: {}", quoted(&shown(end)));
    }
    for (key, items) in [("locators", &options.locators), ("hosts", &options.hosts)] {
        if !items.is_empty() {
            let _ = write!(entry, ", {key}: [{}]", list(items));
        }
    }
    entry.push('}');
    entry
}

/// Reads the entry as the policy would be read, so that every entry that is printed is valid.
fn check(entry: &str) -> Result<(), CommandError> {
    let policy = format!("version: 1\nallowlist: []\napi: {{tokens: [{entry}]}}\n");
    let problems = parse::parse(&policy, "the entry").err().unwrap_or_default();
    let line = |problem: &Problem| {
        let flag = problem.pointer.split('/').nth(4).unwrap_or("name");
        let hint = if problem.hint.is_empty() { String::new() } else { format!("; {}", problem.hint) };
        format!("--{flag}: {}{hint}", problem.message)
    };
    match problems.as_slice() {
        [] => Ok(()),
        problems => {
            let message = problems.iter().map(line).collect::<Vec<_>>().join("\n");
            Err(CommandError { code: EXIT_USAGE, message })
        }
    }
}

/// What becomes of the admin token.
struct Admin {
    /// The entry that keeps it, if that was asked for.
    kept: Option<String>,
    note: Option<String>,
}

impl Admin {
    fn find(
        common: &CommonOptions,
        options: &NewToken,
        policy: Option<&Arc<Policy>>,
        namespaces: &[String],
    ) -> Result<Admin, CommandError> {
        let path = admin_token::admin_path(common.registry.local());
        let read = admin_token::read_admin(common.registry.local());
        let Some(policy) = policy else {
            if options.keep_admin {
                return Err(CommandError::new(format!(
                    "--keep-admin needs the policy, and {} cannot be read; pass it with --policy, and aam check says what is wrong with it",
                    common.policy.display()
                )));
            }
            return Ok(Admin { kept: None, note: None });
        };
        let entry = |admin: &admin_token::AdminToken| admin_token::entry(policy, admin, known(common, policy, namespaces));
        if options.keep_admin {
            let admin = read.map_err(|error| {
                CommandError::new(format!(
                    "the admin token in {} cannot be read: {error}; aam serve writes it at its first start, and only the user of the daemon can read it; pass the registry with --registry",
                    path.display()
                ))
            })?;
            let listed = policy.api.tokens.iter().find(|token| token.sha256 == *admin.digest());
            return Ok(match listed {
                Some(token) => {
                    Admin { kept: None, note: Some(format!("The policy lists the admin token already, as {}.", token.name)) }
                }
                None => Admin { kept: Some(entry(&admin)), note: None },
            });
        }
        if options.name == ADMIN_TOKEN || !policy.api.tokens.is_empty() {
            return Ok(Admin { kept: None, note: None });
        }
        let note = match read {
            Ok(admin) => format!(
                "This is the first token of the policy, and with it the admin token in {} ends. aam heal, confirm and mcp then need\nAAM_TOKEN with a token of the policy that has the scopes ops:heal and ops:confirm. To keep the admin token, add this entry too\n(aam token new --keep-admin prints both):\n\n  - {}",
                path.display(),
                entry(&admin)
            ),
            Err(_) => "This is the first token of the policy: a daemon with this policy accepts no admin token.".to_string(),
        };
        Ok(Admin { kept: None, note: Some(note) })
    }
}

/// The namespaces in which the operator works: those of the policy's tokens, of the new token and of the registry.
fn known(common: &CommonOptions, policy: &Policy, namespaces: &[String]) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = namespaces.iter().cloned().collect();
    names.extend(policy.api.tokens.iter().flat_map(|token| token.namespaces.iter().cloned()));
    let snapshot = Reader::open(&common.registry).and_then(|reader| reader.snapshot()).ok();
    names.extend(snapshot.map(|snapshot| snapshot.open_namespaces()).unwrap_or_default());
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_ends_after_a_duration_at_the_end_of_a_day_or_at_an_instant() {
        let now = Timestamp::parse("2026-11-29T12:00:00.500Z").expect("a time");
        let shown = |text: &str| end(text, now).map(Timestamp::rfc3339).map_err(|error| error.message);
        for (text, expected) in [
            ("90d", "2027-02-27T12:00:00Z"),
            ("12h", "2026-11-30T00:00:00Z"),
            ("2w", "2026-12-13T12:00:00Z"),
            ("2027-06-30", "2027-07-01T00:00:00Z"),
            ("2027-06-30T12:00:00+02:00", "2027-06-30T10:00:00Z"),
        ] {
            let found = shown(text).unwrap_or_else(|message| panic!("{text}: {message}"));
            assert_eq!(Timestamp::parse(&found), Timestamp::parse(expected), "{text}: {found}");
        }
        for (text, reason) in [("2020-01-01", "in the past"), ("soon", "neither"), ("", "neither"), ("0d", "in the past")] {
            assert!(shown(text).unwrap_err().contains(reason), "{text}");
        }
    }
}

//! `aam check`: parses the intents and the policy, without network access, and says what the daemon would do with them.

use super::{CommandResult, CommonOptions, EXIT_CONFIG, problems};
use crate::admin_token;
use crate::clock;
use crate::daemon;
use crate::egress::{guard, tls};
use crate::families;
use crate::intake::check::Checked;
use crate::intake::wire::INTENT_FILE_NAMES;
use crate::intake::{Limits, check};
use crate::model::text::counted;
use crate::model::{Origin, Problem, State, Timestamp};
use crate::pipeline;
use crate::policy::{LoadedPolicy, Policy, Principal, Webhook, WebhookAddress, effective, grants::summary};
use crate::policy_loader;
use crate::registry::Reader;
use crate::report::holds;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct CheckOptions {
    /// Print the policy with every default filled in
    #[arg(long)]
    effective: bool,
}

/// Exits with 0 if there are no problems and with 78 otherwise.
pub fn run(common: &CommonOptions, options: &CheckOptions) -> CommandResult {
    let loaded = policy_loader::load(&common.policy).loaded;
    let policy = loaded.as_ref().map(|loaded| &loaded.policy);
    let mut intents = check::check(&common.intents, Limits::default(), clock::from_env().now());
    add_lost(common, &mut intents);
    let mut text = String::new();
    if let (true, Ok(policy)) = (options.effective, &policy) {
        text.push_str(&effective::effective(policy, &families::caps()));
    }
    let (mut policy_problems, mut warnings, credentials) = match &loaded {
        Ok(loaded) => {
            let file = common.policy.display().to_string();
            let roots = policy_loader::root_problems(&loaded.policy).into_iter();
            let roots = roots.chain(policy_loader::credential_folder_problems(&loaded.policy));
            let roots = roots.chain(ended_principals(&loaded.policy, clock::from_env().now()));
            let roots = roots.chain(refused_webhooks(&loaded.policy));
            let roots = roots.chain(refused_issuer(&loaded.policy));
            let roots = roots.map(|problem| problem.in_file(&file));
            let warnings = roots.chain(expected_states(&common.intents, &intents, loaded)).collect();
            (loaded.sources.problems.clone(), warnings, summary::summary(&loaded.policy))
        }
        Err(problems) => (problems.clone(), Vec::new(), Vec::new()),
    };
    policy_problems.extend(policy.iter().find_map(|policy| authorities_problem(policy, &common.policy)));
    warnings.splice(0..0, intents.warnings.iter().cloned());
    warnings.extend(policy.iter().flat_map(|policy| token_warnings(policy, common)));
    for problem in policy_problems.iter().chain(&intents.problems) {
        let _ = writeln!(text, "error: {problem}");
    }
    for warning in &warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    let ignored = ignored(&intents);
    text.push_str(&ignored);
    // Without a registry, nothing can leave.
    let held = loaded.as_ref().ok().and_then(|_| super::plan::held(common).ok()).unwrap_or_default();
    text.push_str(&holds::text(&held));
    if !credentials.is_empty() {
        let _ = writeln!(text, "credentials that intents may send:");
        for line in &credentials {
            let _ = writeln!(text, "  {line}");
        }
    }
    let webhooks = policy.as_ref().map(|policy| policy.notify.as_slice()).unwrap_or_default();
    if !webhooks.is_empty() {
        let _ = writeln!(text, "webhooks that are notified:");
        for webhook in webhooks {
            let _ = writeln!(text, "  {}: POST {}", webhook.name, webhook.address);
        }
    }
    let problems = policy_problems.len() + intents.problems.len();
    let _ = writeln!(
        text,
        "{}, {}, {}, policy {}: {}, {}",
        counted(intents.files, "file"),
        counted(intents.intents.len(), "intent"),
        counted(intents.connections, "connection"),
        policy.as_ref().map_or_else(|_| "not valid".to_string(), |policy| policy.digest.short()),
        counted(problems, "problem"),
        counted(warnings.len(), "warning")
    );
    let value = serde_json::json!({
        "files": intents.files, "intents": intents.intents.len(), "connections": intents.connections,
        "policy": policy.as_ref().ok(), "problems": policy_problems.iter().chain(&intents.problems).collect::<Vec<_>>(),
        "warnings": warnings, "ignored": intents.ignored.0, "credentials": credentials,
        "held": held,
    });
    common.print(&text, &value);
    Ok(if problems == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_CONFIG) })
}

/// Adds what only shows beside the files that the daemon read: a lost mount, an emptied folder, and a link that leads nowhere.
fn add_lost(common: &CommonOptions, intents: &mut Checked) {
    let Ok(reader) = Reader::open(&common.registry) else { return };
    let lost = problems::intents(common, Some(&reader)).into_iter().filter(|problem| !intents.problems.contains(problem));
    let lost: Vec<Problem> = lost.collect();
    intents.problems.extend(lost);
}

/// The service principals whose key or secret has ended, by the day that the policy names. They are still used, because the
/// secret may have been replaced and only the day may be old.
fn ended_principals(policy: &Policy, now: Timestamp) -> Vec<Problem> {
    let ended = policy.credentials.principals.iter().filter(|(_, principal)| principal.expires().is_some_and(|end| end <= now));
    let problem = |(name, principal): (&String, &Principal)| {
        let day = principal.text("expires").unwrap_or_default();
        let message = format!("the key or secret of the service principal {name} ended on {day}");
        Problem::new(format!("/credentials/principals/{name}/expires"), message)
            .hint("create a new one at the vendor, store it in place of the old one, and write the day on which it ends")
    };
    ended.map(problem).collect()
}

/// An admin token that the policy does not accept, and tokens that have ended.
fn token_warnings(policy: &Policy, common: &CommonOptions) -> Vec<Problem> {
    let (file, now) = (common.policy.display().to_string(), clock::from_env().now());
    let snapshot = Reader::open(&common.registry).and_then(|reader| reader.snapshot());
    let in_use = snapshot.map(|snapshot| snapshot.open_namespaces()).unwrap_or_default();
    let admin = admin_token::ended(policy, common.registry.local(), in_use);
    let admin = admin.map(|ended| Problem::new("/api/tokens", ended.message()).hint(ended.fix()));
    let locked_out = admin_token::without_operator(policy, common.registry.local());
    let locked_out = locked_out.map(|(message, fix)| Problem::new("/api/tokens", message).hint(fix));
    let ended = policy.api.tokens.iter().enumerate().filter_map(|(index, token)| {
        let end = token.expires.filter(|end| *end <= now)?;
        let hint = format!("remove the entry, or replace it with a new one: aam token new --name {} --expires 90d", token.name);
        Some(Problem::new(format!("/api/tokens/{index}/expires"), format!("token {} ended at {end}", token.name)).hint(hint))
    });
    admin.into_iter().chain(locked_out).chain(ended).map(|problem| problem.in_file(&file)).collect()
}

/// The webhooks that would not be called, because their address is private and the policy does not allow it.
fn refused_webhooks(policy: &Policy) -> Vec<Problem> {
    let problem = |(index, webhook): (usize, &Webhook)| {
        let WebhookAddress::Url(url) = &webhook.address else { return None };
        let failure = guard::check_url(url, &policy.network.allow_private).err()?;
        Some(Problem::new(format!("/notify/{index}/url"), failure.title).hint(failure.fix))
    };
    policy.notify.iter().enumerate().filter_map(problem).collect()
}

/// The issuer of `api.oidc`, if it would not be called for the same reason. People could not sign in there.
fn refused_issuer(policy: &Policy) -> Option<Problem> {
    let issuer = url::Url::parse(&policy.api.oidc.as_ref()?.issuer).ok()?;
    let failure = guard::check_url(&issuer, &policy.network.allow_private).err()?;
    Some(Problem::new("/api/oidc/issuer", failure.title).hint(failure.fix))
}

/// The failure that encrypted calls would have if a file with certificate authorities cannot be used.
fn authorities_problem(policy: &Policy, file: &Path) -> Option<Problem> {
    let problem = |ca_file: Option<&Path>, policy_key: &str| {
        let failure = tls::config_with(&[(ca_file?, policy_key)]).err()?;
        let message = if failure.detail.is_empty() { failure.title } else { format!("{}: {}", failure.title, failure.detail) };
        let pointer = format!("/{}", policy_key.replace('.', "/"));
        Some(Problem::new(pointer, message).hint(failure.fix).in_file(file.display().to_string()))
    };
    let vault = policy.credentials.vault.as_ref().and_then(|vault| vault.ca_file.as_deref());
    problem(policy.network.ca_file.as_deref(), "network.ca_file").or_else(|| problem(vault, "credentials.vault.ca_file"))
}

/// Files that are not read on purpose.
fn ignored(intents: &Checked) -> String {
    let (names, count) = &intents.ignored;
    if *count == 0 {
        return String::new();
    }
    let more = if *count > names.len() { format!(" and {} more", count - names.len()) } else { String::new() };
    format!("ignored {}: {}{more} ({INTENT_FILE_NAMES})\n", counted(*count, "file"), names.join(", "))
}

/// The intents that would not be connected, with the state, the reason and the fix that the daemon would record. Equal
/// reasons are one warning.
fn expected_states(root: &Path, intents: &Checked, loaded: &LoadedPolicy) -> Vec<Problem> {
    let engines = daemon::engines(clock::from_env());
    let mut groups: BTreeMap<(String, String), (String, usize)> = BTreeMap::new();
    for (path, intent) in &intents.intents {
        let origins = [Origin::folder(path)];
        let bound = pipeline::assess(&engines, &loaded.policy, &loaded.sources, intent, &origins);
        let Err(failure) = bound.and_then(|bound| bound.resources().map(drop)) else { continue };
        let message = format!("would be {}: {}", State::derive(Some(failure.class), false), failure.title);
        let group = groups.entry((message, failure.fix)).or_insert_with(|| (path.to_string(), 0));
        group.1 += 1;
    }
    let warning = |((message, fix), (path, count)): ((String, String), (String, usize))| {
        let more = if count > 1 { format!(" (and {} more)", counted(count - 1, "intent")) } else { String::new() };
        Problem::new("", message + &more).hint(fix).in_file(root.join(path).display().to_string())
    };
    groups.into_iter().map(warning).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::parse::parse;

    /// AAM calls the issuer as it calls a source, so a private address needs the permission of the policy.
    #[test]
    fn an_issuer_with_a_private_address_is_a_warning_until_the_policy_allows_it() {
        let policy = |issuer: &str, network: &str| {
            let role = "{claim: groups, value: ops, scopes: [\"registry:read\"], namespaces: [autonomy]}";
            let oidc = format!("api: {{oidc: {{issuer: \"{issuer}\", client_id: aam, roles: [{role}]}}}}");
            parse(&format!("version: 1\nallowlist: []\n{oidc}\n{network}"), "policy.yaml").expect("a policy")
        };
        let refused = refused_issuer(&policy("https://10.4.3.12", "")).expect("a warning");
        assert_eq!(refused.pointer, "/api/oidc/issuer");
        assert!(refused.hint.contains("network.allow_private"), "{refused:?}");
        assert_eq!(refused_issuer(&policy("https://10.4.3.12", "network: {allow_private: [10.4.3.12/32]}\n")), None);
        assert_eq!(refused_issuer(&policy("https://login.acme.example", "")), None);
    }
}

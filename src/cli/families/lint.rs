//! `aam families lint`: checks a family file or a custom manifest before anybody uses it.
//!
//! It finds what parsing does not refuse and what a reviewer would look for: calls without a bound, identities that nothing
//! proves, POSTs without a reason, facts without a source.

mod facts;
mod keys;
mod streams;
mod templates;

use crate::cli::{CommandError, CommandResult, CommonOptions, EXIT_CONFIG};
use crate::connectors::lowcode::spec::Spec;
use crate::families::{self, Family};
use crate::intake::yaml;
use crate::model::Problem;
use crate::model::text::counted;
use crate::policy::Policy;
use crate::policy_loader;
use ::lowcode::bounds::Bounds;
use ::lowcode::load::{self, Manifest};
use clap::Args;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Args, Debug)]
pub struct LintOptions {
    /// The family file, or the manifest of a custom source
    file: PathBuf,
}

/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Exits with 0 if there are no findings, and with 78 otherwise.
pub fn run(options: &LintOptions, common: &CommonOptions) -> CommandResult {
    let file = options.file.display().to_string();
    let unreadable = |reason: String| {
        let fix = "write the path of a family file, such as src/families/okta.yaml, or of the manifest of a custom source";
        CommandError { code: EXIT_CONFIG, message: format!("{file} cannot be read: {reason}\n  fix: {fix}") }
    };
    let mut text = String::new();
    // Also from a pipe, as a shell makes it of <(command).
    let read = File::open(&options.file).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text));
    read.map_err(|error| unreadable(error.to_string()))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(unreadable(format!("it has more bytes than the limit of {MAX_FILE_BYTES} bytes")));
    }
    // A custom source may be linted before there is a policy.
    let policy = policy_loader::load(&common.policy).loaded.ok().map(|loaded| loaded.policy);
    let name = options.file.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let findings = lint(&text, &name, policy.as_deref());
    let lines: Vec<String> = findings.iter().map(|finding| format!("{}\n", finding.clone().in_file(file.as_str()))).collect();
    let summary = match findings.len() {
        0 => format!("{file}: no findings\n"),
        count => format!("{}{}\n", lines.concat(), counted(count, "finding")),
    };
    common.print(&summary, &json!({"file": file, "findings": findings}));
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_CONFIG) })
}

/// Returns the findings in the order of their places. `name` is the name of the file without its ending, by which a policy
/// would name a custom source.
pub(super) fn lint(text: &str, name: &str, policy: Option<&Policy>) -> Vec<Problem> {
    let mut findings = match parsed(text) {
        Ok(value) if is_family(&value) => family(value, name),
        Ok(value) => manifest(text, &value, name, policy),
        Err(problem) => vec![problem],
    };
    let places = yaml::locate(text, false, findings.iter().map(|finding| finding.pointer.as_str()).collect::<Vec<_>>());
    for finding in &mut findings {
        finding.place = finding.place.or_else(|| yaml::place_of(&places, &finding.pointer));
    }
    findings.sort_by(|a, b| (a.place, &a.pointer, &a.message).cmp(&(b.place, &b.pointer, &b.message)));
    findings.dedup();
    findings
}

fn parsed(text: &str) -> Result<Value, Problem> {
    let invalid = |error: serde_yaml::Error| {
        let place = error.location().map(|at| crate::model::FilePlace { line: at.line(), column: at.column() });
        let problem = Problem::new("", format!("the file is not valid YAML: {error}")).hint("correct the YAML");
        match place {
            Some(place) => problem.at(place),
            None => problem,
        }
    };
    // A `serde_yaml` value rejects duplicate keys, which reading straight into JSON would not.
    let yaml: serde_yaml::Value = serde_yaml::from_str(text).map_err(invalid)?;
    serde_json::to_value(yaml).map_err(|error| {
        Problem::new("", format!("the file has a value that JSON does not have: {error}")).hint("use texts as keys")
    })
}

/// A family file has an engine or an address; a manifest has neither.
fn is_family(value: &Value) -> bool {
    ["engine", "address", "least_privilege", "cap"].iter().any(|key| value.get(key).is_some())
}

fn family(value: Value, name: &str) -> Vec<Problem> {
    let (value, mut findings) = keys::unknown(value);
    // A section that is reported makes the specification fail again, at a less exact place.
    let has_invalid_section = findings.iter().any(|finding| !finding.message.starts_with("unknown key"));
    let family = match families::parse(&value.to_string()) {
        Ok(family) => family,
        Err(message) => {
            let hint = "docs/families.md describes the keys of a family file";
            if findings.is_empty() {
                findings.push(Problem::new("", format!("the file does not describe a family: {message}")).hint(hint));
            }
            return findings;
        }
    };
    if &*family.id != name {
        let hint = format!("name the file {}.yaml, or write id: {name}", family.id);
        findings.push(Problem::new("/id", format!("the id {} is not the name of the file", family.id)).hint(hint));
    }
    findings.extend(facts::marks(&family));
    if let Some(source) = value.get("source") {
        match load::load(&source.to_string(), "source", &Bounds::default()) {
            Ok(manifest) => findings.extend(of_family(&family, &manifest, (source, has_invalid_section))),
            Err(problems) => findings.extend(problems.iter().map(|problem| of_manifest(problem, "/source"))),
        }
    }
    findings
}

/// The findings of a family whose manifest loads.
fn of_family(family: &Family, manifest: &Manifest, (source, has_invalid_section): (&Value, bool)) -> Vec<Problem> {
    let mut findings: Vec<Problem> = manifest.unsupported.iter().map(|problem| of_manifest(problem, "/source")).collect();
    match Spec::from_family(family) {
        Ok(Some(spec)) => {
            let data: Vec<&str> = spec.form.address.kinds.iter().flat_map(|kind| &kind.streams).map(String::as_str).collect();
            let is_described = |name: &str| spec.form.schemas.iter().any(|schema| schema.stream == name);
            let checked = streams::CheckedStreams { is_data: &|name| data.contains(&name), is_described: &is_described };
            findings.extend(streams::findings(manifest, ("/source", source), &checked));
            findings.extend(streams::large_pages(manifest, "/source", &|name| data.contains(&name)));
            findings.extend(templates::nulls(source, "/source"));
            findings.extend(facts::errors(&spec.form.errors));
            // The command reads one family, and its engine keeps specifications until the process ends.
            findings.extend(facts::posts(family, Box::leak(Box::new(spec))));
        }
        Ok(None) => {}
        Err(_) if has_invalid_section => {}
        Err(message) => {
            let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
            findings.push(match missing {
                Some(key) => Problem::new("", format!("the key {key} is missing"))
                    .hint(format!("add {key}; docs/families.md describes it")),
                None => Problem::new("/address", message).hint("docs/families.md describes the keys of the lowcode engine"),
            });
        }
    }
    findings
}

/// Converts a problem of a manifest that is the value at `prefix` of the file.
fn of_manifest(problem: &::lowcode::problem::Problem, prefix: &str) -> Problem {
    let hint = match (&problem.nearest, problem.allowed.as_slice()) {
        (Some(near), _) => format!("did you mean {near}?"),
        (None, []) => {
            "see Airbyte's reference of low-code manifests; aam lowcode explain shows what is not supported".to_string()
        }
        (None, allowed) => format!("allowed: {}", allowed.join(", ")),
    };
    let found = Problem::new(format!("{prefix}{}", problem.path), problem.message.clone()).hint(hint);
    match problem.place.filter(|_| prefix.is_empty()) {
        Some(at) => found.at(crate::model::FilePlace { line: at.line, column: at.column }),
        None => found,
    }
}

/// The findings of a custom source.
fn manifest(text: &str, written: &Value, name: &str, policy: Option<&Policy>) -> Vec<Problem> {
    let manifest = match load::load(text, name, &Bounds::default()) {
        Ok(manifest) => manifest,
        Err(problems) => return problems.iter().map(|problem| of_manifest(problem, "")).collect(),
    };
    let mut findings: Vec<Problem> = manifest.unsupported.iter().map(|problem| of_manifest(problem, "")).collect();
    let checked = streams::CheckedStreams { is_data: &|_| true, is_described: &|_| false };
    findings.extend(streams::findings(&manifest, ("", written), &checked));
    let rules = policy.map(|policy| policy.manifests.source(name)).unwrap_or_default();
    findings.extend(streams::custom_posts(&manifest, name, &rules.posts));
    if rules.identity.is_none() {
        let (stream, field) = streams::identity_of(&manifest);
        findings.push(Problem::new("/streams", "no call proves whose data the source returns").hint(format!(
            "name one in the policy, with the field that equals the resource id: manifests: {{sources: {{{name}: {{identity: \
                 {{stream: {stream}, field: /{field}}}}}}}}}"
        )));
    }
    findings
}

/// What a family needs for its calls to be planned without an intent.
pub(super) fn example_of(family: &Family) -> Option<(Arc<Family>, Policy)> {
    let policy = crate::policy::parse::parse("version: 1\nallowlist: []\n", "example").ok()?;
    Some((Arc::new(family.clone()), policy))
}

#[cfg(test)]
mod tests;

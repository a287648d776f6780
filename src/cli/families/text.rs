//! The explanation of a family as text.

use super::guide::{FormExample, FormGuide, json_credential};
use super::support;
use crate::families::{Family, Login, OAuth};
use std::fmt::Write;

/// Returns the explanation of a family. Entries of the policy are indented by four columns and can be pasted.
pub fn text(family: &Family, examples: &[String], forms: &[FormGuide]) -> String {
    let mut out = format!("{} ({}, {})\n", family.title, family.id, support(family));
    if family.engine.is_empty() {
        out += "This version does not connect the family yet: its connections are UNSUPPORTED. The credential can be prepared.\n";
    }
    let shown = if examples.is_empty() { String::new() } else { format!("; for example {}", examples.join(", ")) };
    let _ = writeln!(out, "resource_ids: {}{shown}", family.resource_ids.trim());
    let _ = writeln!(out, "least privilege: {}", family.least_privilege.trim());
    if let Some(calls) = super::call_counts(family) {
        let _ = writeln!(
            out,
            "calls: {} to onboard a connection, {} to check it, if each list fits into one page",
            calls.onboarding, calls.health
        );
    }
    if family.login.is_empty() {
        out += "credential: none; leave credential_locator out\n";
        return out;
    }
    out += "\nways to log in, and the fields of each credential:\n";
    family.login.iter().for_each(|login| out += &way(login));
    out += "\ncredential_locator, with an example of each form:\n";
    for form in forms {
        out += &form_text(form);
        if let Some(oauth) = family.oauth.as_ref().filter(|_| form.form.starts_with("consent:")) {
            out += &grant(oauth);
        }
    }
    out
}

fn way(login: &Login) -> String {
    let mut out = format!("  {}: {}\n", login.name, login.about);
    for field in &login.fields {
        let optional = if field.optional { " (optional)" } else { "" };
        let _ = writeln!(out, "    {:<18} {}{optional}", field.name, field.about);
    }
    let _ = writeln!(out, "    as JSON: {}", json_credential(login));
    if let Some(plain) = &login.plain {
        let _ = writeln!(out, "    or as text: {plain}");
    }
    out
}

fn form_text(form: &FormGuide) -> String {
    let mut out = format!("\n{}: {}\n", form.form, form.about);
    // Examples of one form often need the same entry, which is then printed once.
    let first = form.examples.first().map(|example| &example.policy);
    let same = form.examples.iter().all(|example| Some(&example.policy) == first);
    for example in &form.examples {
        let about = if example.about.is_empty() { String::new() } else { format!(", {}", example.about) };
        let _ = writeln!(out, "  {} ({}{about})", example.locator, example.login);
        for command in &example.commands {
            let _ = writeln!(out, "    {command}");
        }
        if !same {
            out += &entry(example);
        }
        let calls = if example.calls.is_empty() { "none".to_string() } else { example.calls.join(", ") };
        let _ = writeln!(out, "    calls: {calls}");
    }
    if let Some(example) = form.examples.first().filter(|_| same) {
        out += &entry(example);
    }
    out
}

/// The entry of the policy, and the keys that it may have too.
fn entry(example: &FormExample) -> String {
    let mut out = String::new();
    if !example.policy.is_empty() {
        out += "    in the policy:\n";
        for line in example.policy.lines() {
            let _ = writeln!(out, "    {line}");
        }
    }
    for key in &example.other_keys {
        let _ = writeln!(out, "    # may have {key}");
    }
    out
}

/// What the owner is asked for.
fn grant(oauth: &OAuth) -> String {
    let mut out = String::from("  the owner is asked for:\n");
    for scope in &oauth.scopes {
        let _ = writeln!(out, "    {:<18} {}", scope.name, scope.about);
    }
    if oauth.scopes.is_empty() {
        out += "    no scope: the client itself has a list\n";
    }
    if let Some(given_by) = &oauth.given_by {
        let _ = writeln!(out, "  given by: {given_by}");
    }
    if let Some(note) = &oauth.note {
        let _ = writeln!(out, "  note: {note}");
    }
    for value in &oauth.values {
        let _ = writeln!(out, "  {} is {}", value.name, value.about);
    }
    let _ = writeln!(out, "  the owner's browser opens: {}", oauth.example(&oauth.authorize_url));
    if let Some(revoke) = &oauth.revoke_url {
        let _ = writeln!(out, "  aam consent revoke calls: {}", oauth.example(revoke));
    }
    out
}

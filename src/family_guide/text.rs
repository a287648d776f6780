//! The explanation of a family as text.

use super::{FamilyGuide, FamilySummary, FormExample, FormGuide, KindGuide, LoginGuide, OAuthGuide};
use crate::families::{Family, OAuth};
use crate::policy::airbyte::{PLATFORM_ENGINE, PROCESS_ENGINE};
use crate::policy::effective;
use std::fmt::Write;

/// Returns a family as one line of a list.
#[must_use]
pub fn line(family: &FamilySummary) -> String {
    let listed = if family.on_by_default { "default" } else { "if listed" };
    let also = if family.aliases.is_empty() { String::new() } else { format!("; also {}", family.aliases.join(", ")) };
    format!("{:<18} {:<20} {listed:<10} {}{also}\n", family.id, support(family), family.title)
}

fn support(family: &FamilySummary) -> &'static str {
    match family.engine.as_str() {
        "" => "not in this version",
        PROCESS_ENGINE => "connects (connector)",
        PLATFORM_ENGINE => "connects (platform)",
        _ => "connects",
    }
}

/// Returns the explanation of a family. Entries of the policy are indented by four columns and can be pasted.
#[must_use]
pub fn text(family: &Family, guide: &FamilyGuide) -> String {
    let summary = &guide.summary;
    let mut out = format!("{} ({}, {})\n", summary.title, summary.id, support(summary));
    if !summary.connects {
        out += "This version does not connect the family yet: its connections are UNSUPPORTED. The credential can be prepared.\n";
    }
    if summary.connects {
        let about = match summary.engine.as_str() {
            PROCESS_ENGINE => ", a connector of airbyte.connectors in the policy that runs as a process of its own",
            PLATFORM_ENGINE => ", your own Airbyte (airbyte.platform in the policy)",
            _ => "",
        };
        let _ = writeln!(out, "engine: {}{about}", summary.engine);
    }
    if !summary.aliases.is_empty() {
        let _ = writeln!(out, "other names: {} (in any case, with blanks, hyphens or underscores)", summary.aliases.join(", "));
    }
    let examples = &summary.examples;
    let shown = if examples.is_empty() { String::new() } else { format!("; for example {}", examples.join(", ")) };
    let _ = writeln!(out, "resource_ids: {}{shown}", summary.resource_ids);
    let _ = writeln!(out, "least privilege: {}", summary.least_privilege);
    for step in &guide.how_to_grant {
        let _ = writeln!(out, "  - {}", step.trim());
    }
    let _ = writeln!(out, "cap: {}", effective::cap(&summary.cap));
    if let Some(risk) = &guide.risk {
        let _ = writeln!(out, "risk: {risk}");
    }
    if let Some(timeouts) = &guide.timeouts {
        let _ = writeln!(out, "timeouts: {timeouts}");
    }
    if let Some(calls) = summary.calls {
        let _ = writeln!(
            out,
            "calls: {} to onboard a connection, {} to check it, if each list fits into one page",
            calls.onboarding, calls.health
        );
    }
    out += &reads(&guide.kinds, &summary.id);
    if summary.login.is_empty() {
        out += "credential: none; leave credential_locator out\n";
    } else {
        out += "\nways to log in, and the fields of each credential:\n";
        summary.login.iter().for_each(|login| out += &way(login));
        out += "\ncredential_locator, with an example of each form:\n";
        for form in &guide.locators {
            out += &form_text(form);
            let oauth = guide.oauth.as_ref().zip(family.oauth.as_ref());
            if let Some((oauth, addresses)) = oauth.filter(|_| form.form.starts_with("consent:")) {
                out += &grant(oauth, addresses);
            }
        }
    }
    out + &facts(guide)
}

/// What is read, by kind of resource.
fn reads(kinds: &[KindGuide], family: &str) -> String {
    let mut out = String::new();
    if !kinds.is_empty() {
        out += "what is read, by kind of resource id:\n";
    }
    for kind in kinds {
        let listed =
            if kind.listed { format!(" (families.{family}.hosts of the policy lists the server)") } else { String::new() };
        let at = if kind.base_url.is_empty() { String::new() } else { format!(" at {}{listed}", kind.base_url) };
        let _ = writeln!(out, "  {:<18} {}{at}", kind.name, kind.streams.join(", "));
    }
    out
}

/// What proves the family, and where its facts come from.
fn facts(guide: &FamilyGuide) -> String {
    let mut out = String::new();
    if guide.summary.connects {
        out += "\nwhat proves it:\n";
        for proof in &guide.proof {
            let _ = writeln!(out, "  - {}", proof.trim());
        }
        if guide.proof.is_empty() {
            out += "  its tests, against servers that AAM's authors wrote\n";
        }
    }
    out += "\nsources ([V] read there, [K] known documentation, [U] uncertain, [-] follows from the format):\n";
    let sources = &guide.sources;
    let all = [("cap", Some(&sources.cap)), ("least privilege", Some(&sources.privilege)), ("login", Some(&sources.login))];
    for (what, source) in all.into_iter().chain([("OAuth", sources.oauth.as_ref())]) {
        if let Some(source) = source {
            let _ = writeln!(out, "  {what}: {source}");
        }
    }
    out
}

fn way(login: &LoginGuide) -> String {
    let mut out = format!("  {}: {}\n", login.name, login.about);
    for field in &login.fields {
        let optional = if field.optional { " (optional)" } else { "" };
        let _ = writeln!(out, "    {:<18} {}{optional}", field.name, field.about);
    }
    let _ = writeln!(out, "    as JSON: {}", login.json);
    if let Some(plain) = &login.text {
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
fn grant(oauth: &OAuthGuide, addresses: &OAuth) -> String {
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
    let _ = writeln!(out, "  the owner's browser opens: {}", addresses.example(&oauth.authorize_url));
    if let Some(revoke) = &oauth.revoke_url {
        let _ = writeln!(out, "  aam consent revoke calls: {}", addresses.example(revoke));
    }
    out
}

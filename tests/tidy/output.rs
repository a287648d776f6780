//! Texts of sources are scrubbed before they are cut, and only one place of the command line prints.

use super::{assert_none, sources};

/// Ways to cut a text. A part of a secret is not recognized, so a text that came from a source is cut by
/// `redact::scrub_and_cut` and `redact::shortened`.
const CUTS: [&str; 3] = [".chars().take(", ".char_indices().nth(", "text.truncate("];

/// The modules that handle texts of sources.
const FOREIGN: [&str; 3] = ["src/connectors/", "src/egress/", "src/pipeline/"];

/// Cuts of what is not shown or did not come from a source: a Salesforce id is compared by its first 15 characters, the name of
/// an operation is searched for verbs, and a source at the company's Airbyte is named after what the caller wrote.
const KNOWN: [(&str, &str); 3] = [
    ("src/connectors/lowcode/identity.rs", ".take(15)"),
    ("src/connectors/openapi/side_effects.rs", ".take(500)"),
    ("src/connectors/airbyte_platform/source_name.rs", ".take(MAX_RESOURCE_CHARS)"),
];

#[test]
fn texts_of_sources_are_scrubbed_before_they_are_cut() {
    let mut findings = Vec::new();
    for source in sources(&["src"]).iter().filter(|source| !source.is_test) {
        if !FOREIGN.iter().any(|folder| source.name.starts_with(folder)) {
            continue;
        }
        for (number, line) in source.code() {
            let known = KNOWN.iter().any(|(name, cut)| source.name == *name && line.contains(cut));
            if CUTS.iter().any(|cut| line.contains(cut)) && !known {
                findings.push(format!("{}:{number}: {}", source.name, line.trim()));
            }
        }
    }
    assert_none(&findings, "cut the text with redact::scrub_and_cut or redact::shortened");
}

#[test]
fn only_the_terminal_module_prints() {
    const PRINTS: [&str; 6] = ["println!(", "print!(", "io::stdout()", "io::stderr()", "eprint!(", "eprintln!("];
    let mut findings = Vec::new();
    for source in sources(&["src"]).iter().filter(|source| !source.is_test && source.name != "src/cli/terminal.rs") {
        for (number, line) in source.code() {
            let terminal = line.contains("is_terminal");
            if PRINTS.iter().any(|print| line.contains(print)) && !terminal {
                findings.push(format!("{}:{number}: {}", source.name, line.trim()));
            }
        }
    }
    assert_none(&findings, "print with cli::terminal, which removes secrets and escapes control characters");
}

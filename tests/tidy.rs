//! The shape of the sources: layers, pure modules, sizes and wording.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test ends with a panic")]

#[path = "tidy/egress.rs"]
mod egress;
#[path = "tidy/output.rs"]
mod output;
#[path = "tidy/ports.rs"]
mod ports;
#[path = "tidy/wording.rs"]
mod wording;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The layers of `src/lib.rs`. A module may import modules of earlier lines only: not of its own line, not of later ones.
const LAYERS: [&[&str]; 21] = [
    &["model"],
    &["families"],
    &[
        "clock",
        "fault",
        "memory",
        "meters",
        "memory_budget",
        "operator_file",
        "policy",
        "credentials",
        "snapshot",
        "debt_gate",
        "intake",
    ],
    &["funnel", "handoff", "policy_loader", "admin_token"],
    &["plan", "events"],
    &["report"],
    &["page"],
    &["telemetry"],
    &["egress"],
    &["registry"],
    &["providers", "event_log"],
    &["connectors"],
    &["pipeline", "family_guide"],
    &["reconcile"],
    &["notify", "shared_limits"],
    &["evidence", "evidence_keeper"],
    &["server"],
    &["daemon"],
    &["cli"],
    &["lib"],
    &["main"],
];

/// Modules that do not use a clock, a file or a socket.
const PURE: [&str; 11] =
    ["model", "families", "policy", "snapshot", "funnel", "handoff", "plan", "events", "report", "page", "debt_gate"];

/// The layers of the crate `lowcode`, with the same rule as `LAYERS`.
const LOWCODE_LAYERS: [&[&str]; 19] = [
    // Values and bounds.
    &["value", "bounds", "problem", "rates"],
    &["scalar", "literal", "config", "node", "host", "json", "json_schema", "refs"],
    &["error", "yaml", "recording", "tokens"],
    &["datetime", "component", "url", "slice", "inflate", "schema", "refused"],
    // Templates and manifests.
    &["interpolation", "parameters", "validate", "secrets"],
    &["instead", "overlay"],
    &["load"],
    // One command; requests and responses.
    &["context", "response", "explain", "schema_files"],
    &["request", "errors", "decode", "cursor", "catalog"],
    &["auth", "extraction", "protocol"],
    // Records and streams.
    &["pagination", "slicing", "requester", "redaction"],
    &["retriever"],
    &["stream_schema", "reader"],
    &["stream"],
    &["shared", "dynamic"],
    &["source"],
    // Commands.
    &["check", "config_rules", "spec", "reading"],
    &["commands"],
    &["lib"],
];

/// The engines of `src/connectors`: none of them imports another.
const ENGINES: [&str; 8] = ["airbyte", "file", "lowcode", "mongo", "object", "openapi", "snowflake", "sql"];

/// The files of the interpreter with state that changes after it was built. A stream is shared by customers only if
/// it has no such state (`shared.rs`): if you add a file here, make sure that `keeps_nothing` covers it.
const MUTABLE_STATE: [&str; 14] = [
    // Tokens: such streams are not shared, see `Authenticator::is_fixed`.
    "auth/oauth/mod.rs",
    "auth/session.rs",
    // Built with the first slice: such streams are not shared.
    "cursor/mod.rs",
    // Requested with the first read: such streams are not shared.
    "stream_schema.rs",
    // Whether the text is its own value, which is the same for every customer.
    "interpolation/interpolated.rs",
    // What one command uses up and keeps for itself.
    "context.rs",
    "tokens.rs",
    "rates.rs",
    // One response.
    "response.rs",
    // Caches of compiled patterns, by their text.
    "interpolation/regex.rs",
    "datetime/strptime.rs",
    // The shared streams themselves, and the record of whether config and host were used.
    "shared.rs",
    "config.rs",
    "recording.rs",
];

const MAX_FILE_LINES: usize = 450;

struct Source {
    /// The path relative to the repository, with `/`.
    name: String,
    text: String,
    /// Whether the file is compiled for tests only.
    is_test: bool,
}

impl Source {
    /// The top-level module of `src` that the file belongs to.
    fn module(&self) -> &str {
        let path = self.name.strip_prefix("src/").unwrap_or(&self.name);
        path.split(['/', '.']).next().unwrap_or(path)
    }

    /// The files that a `#[cfg(test)] mod name;` of this file declares. An entry that ends with `/` is a folder.
    fn test_files(&self) -> Vec<String> {
        let (folder, file) = self.name.rsplit_once('/').unwrap_or(("", &self.name));
        let stem = file.trim_end_matches(".rs");
        let inside = match stem {
            "mod" | "lib" | "main" => folder.to_string(),
            stem => format!("{folder}/{stem}"),
        };
        let lines: Vec<&str> = self.text.lines().map(str::trim).collect();
        let mut files = Vec::new();
        for (at, _) in lines.iter().enumerate().filter(|(_, line)| **line == "#[cfg(test)]") {
            let next = lines.get(at + 1).copied().unwrap_or_default();
            if let Some(path) = next.strip_prefix("#[path = \"").and_then(|path| path.strip_suffix("\"]")) {
                files.push(format!("{folder}/{path}"));
            } else if let Some(name) = next.rsplit("mod ").next().and_then(|name| name.strip_suffix(';')) {
                files.push(format!("{inside}/{name}.rs"));
                files.push(format!("{inside}/{name}/"));
            }
        }
        files
    }

    /// The lines of code with their numbers: without comments, and without the tests at the bottom of the file.
    fn code(&self) -> Vec<(usize, &str)> {
        let mut lines = Vec::new();
        let mut all = self.text.lines().enumerate().peekable();
        while let Some((number, line)) = all.next() {
            if line.trim() == "#[cfg(test)]" {
                let tests = all.peek().is_some_and(|(_, next)| next.starts_with("mod ") && next.ends_with('{'));
                if tests {
                    break;
                }
                all.next();
                continue;
            }
            let bare = line.split("//").next().unwrap_or_default();
            if !line.trim_start().starts_with("//") {
                lines.push((number + 1, if bare.contains('"') { line } else { bare }));
            }
        }
        lines
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let mut sources = Vec::new();
    for folder in folders {
        collect(&root().join(folder), &mut sources);
    }
    assert!(!sources.is_empty());
    let named: Vec<String> = sources.iter().flat_map(Source::test_files).collect();
    for source in &mut sources {
        let is_named = |named: &String| source.name == *named || (named.ends_with('/') && source.name.starts_with(named));
        source.is_test = !(source.name.starts_with("src/") || source.name.contains("/src/")) || named.iter().any(is_named);
    }
    sources
}

fn collect(folder: &Path, sources: &mut Vec<Source>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
            let text = std::fs::read_to_string(&path).unwrap();
            sources.push(Source { name, text, is_test: false });
        }
    }
}

fn assert_none(findings: &[String], rule: &str) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The top-level modules that a line names: `crate::a`, and each name of `crate::{a, b}`.
fn imports(line: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in line.match_indices("crate::") {
        let rest = &line[at + "crate::".len()..];
        let identifier = |text: &str| text.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            Some(list) => {
                let mut depth = 0;
                let mut first = true;
                for (at, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 0 => first = true,
                        c if first && c.is_ascii_lowercase() => {
                            found.insert(identifier(&list[at..]));
                            first = false;
                        }
                        _ => {}
                    }
                }
            }
            None => drop(found.insert(identifier(rest))),
        }
    }
    found.remove("");
    found
}

#[test]
fn imports_are_found() {
    let names = |line| imports(line).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(names("use crate::model::{State, Timestamp};"), "model");
    assert_eq!(names("use crate::{funnel, model::{ConnectionId, Digest}, policy};"), "funnel model policy");
    assert_eq!(names("let x = crate::plan::next(crate::snapshot::fold());"), "plan snapshot");
}

#[test]
fn imports_point_down_the_layers() {
    let mut findings = Vec::new();
    for source in sources(&["src"]).iter().filter(|source| !source.is_test) {
        let Some(own) = layer(source.module()) else {
            findings.push(format!("{}: the module is in no layer of tests/tidy.rs", source.name));
            continue;
        };
        for (number, line) in source.code() {
            for module in imports(line) {
                match layer(&module) {
                    None => findings.push(format!("{}:{number}: {module} is in no layer", source.name)),
                    Some(other) if module != source.module() && other >= own => {
                        findings.push(format!("{}:{number}: {} may not import {module}", source.name, source.module()));
                    }
                    Some(_) => {}
                }
            }
        }
    }
    assert_none(&findings, "imports point from a later layer to an earlier one");
}

#[test]
fn imports_inside_lowcode_point_down_the_layers() {
    let layer = |module: &str| LOWCODE_LAYERS.iter().position(|layer| layer.contains(&module));
    let mut findings = Vec::new();
    let sources = sources(&["crates/lowcode/src"]);
    for source in sources.iter().filter(|source| !source.is_test && !source.name.ends_with("/script.rs")) {
        let path = source.name.trim_start_matches("crates/lowcode/src/");
        let module = path.split(['/', '.']).next().unwrap_or(path);
        // The path from this file to the root of the crate: one `super` in a file of the root and in the `mod.rs` of one
        // of its folders, and one more for each level below.
        let depth = path.matches('/').count() + usize::from(!path.ends_with("/mod.rs"));
        let root = "super::".repeat(depth.max(1));
        for (number, line) in source.code() {
            let outside = line.matches("super::").count() >= depth.max(1) && line.contains(&root);
            let line = if outside { line.replacen(&root, "crate::", 1) } else { line.to_string() };
            for other in imports(&line) {
                match (layer(module), layer(&other)) {
                    (Some(own), Some(below)) if other == module || below < own => {}
                    (Some(_), Some(_)) => findings.push(format!("{}:{number}: {module} may not import {other}", source.name)),
                    (None, _) => findings.push(format!("{}: {module} is in no layer of LOWCODE_LAYERS", source.name)),
                    (_, None) => findings.push(format!("{}:{number}: {other} is in no layer of LOWCODE_LAYERS", source.name)),
                }
            }
        }
    }
    assert_none(&findings, "imports point from a later layer of lowcode to an earlier one");
}

#[test]
fn engines_do_not_import_each_other() {
    let mut findings = Vec::new();
    for source in sources(&["src/connectors"]).iter().filter(|source| !source.is_test) {
        let path = source.name.trim_start_matches("src/connectors/");
        let Some(engine) = ENGINES.iter().find(|engine| path.starts_with(&format!("{engine}/"))) else { continue };
        for (number, line) in source.code() {
            let other = |other: &&&str| {
                let paths = [format!("connectors::{other}::"), format!("super::super::{other}::")];
                *other != engine && paths.iter().any(|path| line.contains(path))
            };
            for other in ENGINES.iter().filter(other) {
                findings.push(format!("{}:{number}: {engine} may not import {other}", source.name));
            }
        }
    }
    assert_none(&findings, "an engine of src/connectors imports another");
}

#[test]
fn the_map_in_lib_names_every_layer() {
    let lib = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let modules: Vec<&str> = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let map: String = lib.lines().take_while(|line| line.starts_with("//!")).collect();
    let findings: Vec<String> =
        modules.iter().filter(|module| !map.contains(&format!("[`{module}`]"))).map(|module| (*module).to_string()).collect();
    assert_none(&findings, "modules that the map of src/lib.rs does not name");
    let mut at = 0;
    for module in LAYERS.iter().flat_map(|layer| layer.iter()).filter(|module| modules.contains(*module)) {
        let place = map.find(&format!("[`{module}`]")).unwrap_or(usize::MAX);
        assert!(place >= at, "{module} is not at its place in the map of src/lib.rs");
        at = place;
    }
}

#[test]
fn pure_modules_do_not_use_a_clock_a_file_or_a_socket() {
    let forbidden = [
        "SystemTime",
        "Instant::now",
        "Timestamp::now",
        "Zoned::now",
        "tokio::",
        "std::fs",
        "std::process",
        "std::env::",
        "TcpStream",
        "UdpSocket",
        "hyper_util",
        "rusqlite",
        "async fn",
        "println!",
        "eprintln!",
    ];
    let mut findings = Vec::new();
    for source in sources(&["src"]).iter().filter(|source| PURE.contains(&source.module()) && !source.is_test) {
        for (number, line) in source.code() {
            for name in forbidden.iter().filter(|name| line.contains(**name)) {
                findings.push(format!("{}:{number}: {name}", source.name));
            }
        }
    }
    assert_none(&findings, "pure modules use a clock, a file or a socket");
}

/// The lists of a template change while it is evaluated, but they do not outlive the evaluation.
#[test]
fn state_shared_by_customers_is_immutable() {
    const CELLS: [&str; 7] = ["Mutex<", "RwLock<", "OnceLock<", "OnceCell<", "Atomic", "RefCell<", "Cell<"];
    let passing = ["interpolation/object.rs", "interpolation/calls.rs", "interpolation/fast.rs", "json_schema.rs"];
    let changing = |source: &Source| {
        let code = source.text.split("#[cfg(test)]").next().unwrap_or_default();
        CELLS.iter().any(|cell| code.lines().any(|line| line.contains(cell) && !line.trim_start().starts_with("//")))
    };
    let all = sources(&["crates/lowcode/src"]);
    let name = |source: &Source| source.name.trim_start_matches("crates/lowcode/src/").to_string();
    let found: BTreeSet<String> = all.iter().filter(|source| !source.is_test && changing(source)).map(name).collect();
    let known = |name: &String| passing.contains(&name.as_str()) || name.starts_with("interpolation/methods/");
    let found: BTreeSet<String> = found.into_iter().filter(|name| !known(name)).collect();
    assert_eq!(found, MUTABLE_STATE.iter().map(ToString::to_string).collect());
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<String> = sources(&["src", "crates", "tests", "benches"])
        .iter()
        .filter(|source| source.text.lines().count() > MAX_FILE_LINES)
        .map(|source| format!("{}: {} lines", source.name, source.text.lines().count()))
        .collect();
    assert_none(&long, &format!("a file has at most {MAX_FILE_LINES} lines"));
}

#[test]
fn no_test_sleeps_or_is_ignored() {
    let (sleep, ignore) = (concat!("sle", "ep("), concat!("#[ign", "ore"));
    let mut findings = Vec::new();
    for source in sources(&["src", "tests"]) {
        let mut in_tests = source.is_test;
        for (number, line) in source.text.lines().enumerate() {
            in_tests |= line.trim() == "mod tests {";
            let bare = line.split("//").next().unwrap_or_default();
            if (in_tests && bare.contains(sleep)) || bare.contains(ignore) {
                findings.push(format!("{}:{}: {}", source.name, number + 1, line.trim()));
            }
        }
    }
    assert_none(&findings, "wait for a condition instead, and run every test");
}

#[test]
fn every_family_file_is_complete() {
    let folder = root().join("src/families");
    let fields =
        ["id", "title", "engine", "on_by_default", "resource_ids", "cap", "cap_source", "least_privilege", "privilege_source"];
    let mut findings = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let id = path.file_stem().unwrap().to_string_lossy().to_string();
        for field in fields {
            let value = text.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
            let empty = value.is_none_or(|value| value.trim().is_empty());
            if empty && !(field == "cap" && value.is_some()) {
                let _ = writeln!(findings, "{id}: {field}");
            }
        }
    }
    assert_eq!(findings, "", "these fields are missing or empty");
}

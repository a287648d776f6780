//! The table of results in docs/families.md.

use crate::measure::Results;
use crate::vendor::{CASES, Cases, Vendor};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

const BEGIN: &str = "<!-- conformance: begin -->\n";
const END: &str = "<!-- conformance: end -->";

/// Set to write the table instead of comparing it.
pub const UPDATE: &str = "AAM_UPDATE_DOCS";

/// What proves the families that have no file of the sandbox.
const OTHER_PROOFS: [(&str, &str); 8] = [
    ("filesource", "tests/it/files_people_have.rs: files that other programs wrote"),
    ("jdbc", "tests/peers/sql: PostgreSQL and MariaDB; tests/it: SQLite"),
    ("mongo", "tests/peers/mongo.rs: smongo (SCRAM, roles, TLS), NX-27017; tests/it: members, TLS, X.509 and hostile servers"),
    (
        "openapi",
        "tests/peers: FastAPI, Litestar, Django Ninja, drf-spectacular, NestJS, ChromaDB; tests/corpus: descriptions of 700 providers",
    ),
    ("postgres", "tests/peers/sql: PostgreSQL 17 and 18, PgBouncer, Pgpool-II; tests/it: faults of a rogue server"),
    ("s3", "tests/peers/object_store.rs: moto"),
    ("s3_compat", "tests/peers/object_store.rs: nanio, moto"),
    ("slack", "tests/peers/lowcode_families.rs: prism with Slack's description; tests/it/lowcode_families.rs: a strict mock"),
];

/// The part of `src/families/FAMILY.yaml` that the suite reads.
#[derive(Deserialize)]
pub struct FamilyFile {
    pub id: String,
    pub engine: String,
    #[serde(default)]
    pub calls: Option<Calls>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub struct Calls {
    pub onboarding: u64,
    pub health: u64,
}

impl FamilyFile {
    /// Reads all family files.
    pub fn load_all(folder: &Path) -> Vec<FamilyFile> {
        let mut files: Vec<FamilyFile> = std::fs::read_dir(folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
            .map(|path| {
                let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            })
            .collect();
        files.sort_by(|a, b| a.id.cmp(&b.id));
        files
    }

    /// What proves the family without the sandbox, if anything does.
    pub fn other_proof(&self) -> Option<&'static str> {
        match self.engine.as_str() {
            "" => Some("not connected by this version"),
            _ => OTHER_PROOFS.iter().find(|(family, _)| *family == self.id).map(|(_, proof)| *proof),
        }
    }
}

/// Returns the table for all families.
pub fn table(families: &[FamilyFile], vendors: &[(Vendor, Cases)], results: &Results) -> String {
    let mut text = format!("| family | {} |\n|---|{}\n", CASES.join(" | ").replace('_', " "), "---|".repeat(CASES.len()));
    let mut reasons: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for (vendor, cases) in vendors {
        let _ = write!(text, "| {} |", vendor.family);
        for case in CASES {
            let _ = write!(text, " {} |", cell(vendor, cases, case, results));
            for (name, reason) in &cases.skipped {
                if belongs(name, case) {
                    reasons.entry((case, reason)).or_default().push(&vendor.family);
                }
            }
        }
        text.push('\n');
    }
    text += "\nCases that do not apply, because:\n\n";
    for ((case, reason), families) in reasons {
        let _ = writeln!(text, "- {}, {}: {reason}", case.replace('_', " "), families.join(" and "));
    }
    text += "\nFamilies without a file of the sandbox:\n\n| family | proven by |\n|---|---|\n";
    for family in families.iter().filter(|family| !vendors.iter().any(|(vendor, _)| vendor.family == family.id)) {
        let _ = writeln!(text, "| {} | {} |", family.id, family.other_proof().unwrap_or("nothing"));
    }
    text
}

fn cell(vendor: &Vendor, cases: &Cases, case: &str, results: &Results) -> &'static str {
    let own: Vec<_> = cases.run.iter().filter(|run| belongs(&run.name, case)).collect();
    let passed = |name: String| results.cases.get(&name).is_some_and(Vec::is_empty);
    match own.iter().all(|run| passed(format!("{}::{}", vendor.family, run.name))) {
        _ if own.is_empty() => "-",
        true => "yes",
        false => "**no**",
    }
}

/// Whether the case `name` is `case`, or one of its list: `throttled_2`.
fn belongs(name: &str, case: &str) -> bool {
    let number = |rest: &str| rest.strip_prefix('_').is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    name.strip_prefix(case).is_some_and(|rest| rest.is_empty() || number(rest))
}

/// Compares `table` with the one in the document, or writes it there if [`UPDATE`] is set.
///
/// # Errors
/// How to write the table, if it differs.
pub fn compare(document: &Path, table: &str) -> Result<(), String> {
    let text = std::fs::read_to_string(document).map_err(|error| format!("{}: {error}", document.display()))?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?)));
    let Some((before, (present, after))) = parts else {
        return Err(format!("{} does not have the markers {BEGIN} and {END}", document.display()));
    };
    if present == table {
        return Ok(());
    }
    if std::env::var_os(UPDATE).is_some() {
        return std::fs::write(document, format!("{before}{BEGIN}{table}{END}{after}")).map_err(|error| error.to_string());
    }
    Err(format!(
        "the table in {} is not the result of this run; {UPDATE}=1 make conformance writes it:\n{table}",
        document.display()
    ))
}

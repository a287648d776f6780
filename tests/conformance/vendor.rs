//! The files of the sandbox's vendors, as far as the suite needs them.

use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The cases that each family has, in the order of the table.
pub const CASES: [&str; 21] = [
    "good",
    "many",
    "empty",
    "wrong_credential",
    "expired_credential",
    "revoked_credential",
    "wrong_kind",
    "missing_scope",
    "over_privileged",
    "other_tenant",
    "unknown_id",
    "throttled",
    "unstable",
    "hanging",
    "cut",
    "page",
    "redirected",
    "strayed",
    "blind",
    "day_budget",
    "slow",
];

/// The part of `sandbox/FAMILY.yaml` that the suite reads.
#[derive(Deserialize)]
pub struct Vendor {
    pub family: String,
    #[serde(default)]
    tokens: Vec<TokenEndpoint>,
    pub conformance: Conformance,
}

#[derive(Deserialize)]
struct TokenEndpoint {
    path: String,
}

/// The key `conformance` of a vendor.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conformance {
    pub good: Setup,
    /// The source type of the intents, for a vendor that serves another family. Default: the family.
    #[serde(default)]
    source_type: Option<String>,
    pub cases: BTreeMap<String, CaseOrList>,
    /// `credentials.principals` of the policy.
    #[serde(default)]
    pub principals: Map<String, Value>,
    /// Environment variables of the daemon, which the locators of `principals` name.
    #[serde(default)]
    pub secrets: BTreeMap<String, Value>,
    /// Further keys of the policy.
    #[serde(default)]
    pub policy: Map<String, Value>,
    /// The calls of the good case. They must be those of the family's file.
    #[serde(default)]
    pub calls: Option<Value>,
}

/// What a case may say about the intent. A case has what it does not say from the good one.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    pub id: Option<String>,
    pub ids: Option<Vec<String>>,
    pub credential: Option<Value>,
    pub locator: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub enum CaseOrList {
    Case(Box<CaseText>),
    List(Vec<CaseText>),
}

/// A case as it is written.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseText {
    id: Option<String>,
    ids: Option<Vec<String>>,
    credential: Option<Value>,
    locator: Option<String>,
    expect: Option<Expectation>,
    /// What the connection becomes afterwards, without anybody doing anything.
    then: Option<Expectation>,
    /// Why this vendor cannot show the case.
    skip: Option<String>,
}

/// What is compared. `title`, `fix` and `note` are parts of texts.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    pub state: Option<String>,
    pub class: Option<String>,
    pub title: Option<String>,
    pub fix: Option<String>,
    /// The verdict on the privilege of the credential: ok, over or unknown.
    pub privilege: Option<String>,
    /// A text in the evidence of the steps.
    pub note: Option<String>,
    pub rows: Option<u64>,
}

/// A case, complete.
pub struct Case {
    pub family: String,
    pub source_type: String,
    pub name: String,
    pub setup: Setup,
    pub expect: Expectation,
    pub then: Option<Expectation>,
}

impl Case {
    /// The name of its test: `okta::throttled_2`.
    pub fn test(&self) -> String {
        format!("{}::{}", self.family, self.name)
    }

    /// Whether the account of the case is blocked for a while. Such cases run one after the other, after all others.
    pub fn blocks_account(&self) -> bool {
        self.name.starts_with("throttled") || self.name.starts_with("day_budget")
    }
}

/// The cases of a vendor: those that run, and the reasons of those that do not apply.
pub struct Cases {
    pub run: Vec<Case>,
    pub skipped: BTreeMap<String, String>,
    /// The cases of [`CASES`] that the file does not mention.
    pub missing: Vec<&'static str>,
}

impl Vendor {
    /// Reads all files of `folder`.
    pub fn load_all(folder: &Path) -> Vec<Vendor> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
            .collect();
        files.sort();
        let read = |path: PathBuf| -> Vendor {
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        files.into_iter().map(read).collect()
    }

    /// The source type of the intents.
    pub fn source_type(&self) -> &str {
        self.conformance.source_type.as_deref().unwrap_or(&self.family)
    }

    /// Whether the vendor is a family of its own, whose file says its calls.
    pub fn is_family(&self) -> bool {
        self.conformance.source_type.is_none()
    }

    /// Whether a call to `path` gets a token. Such calls are not counted.
    pub fn is_token_call(&self, path: &str) -> bool {
        self.tokens.iter().any(|endpoint| {
            let (pattern, path): (Vec<&str>, Vec<&str>) = (endpoint.path.split('/').collect(), path.split('/').collect());
            pattern.len() == path.len() && pattern.iter().zip(path).all(|(part, found)| part.contains('{') || *part == found)
        })
    }

    /// Returns the cases of the file.
    pub fn cases(&self) -> Cases {
        let (mut run, mut skipped) = (Vec::new(), BTreeMap::new());
        for (name, written) in &self.conformance.cases {
            let list = match written {
                CaseOrList::Case(case) => std::slice::from_ref(&**case),
                CaseOrList::List(list) => list,
            };
            for (index, case) in list.iter().enumerate() {
                let name = if list.len() == 1 { name.clone() } else { format!("{name}_{}", index + 1) };
                match &case.skip {
                    Some(reason) => drop(skipped.insert(name, reason.trim().to_owned())),
                    None => run.push(self.case(name, case)),
                }
            }
        }
        // What is written as `good` is a case, even if nothing else is said about it.
        if !self.conformance.cases.contains_key("good") {
            run.push(self.case("good".to_owned(), &CaseText::default()));
        }
        let known = |case: &&'static str| *case == "good" || self.conformance.cases.contains_key(*case);
        Cases { run, skipped, missing: CASES.iter().filter(|case| !known(case)).copied().collect() }
    }

    fn case(&self, name: String, written: &CaseText) -> Case {
        let CaseText { id, ids, credential, locator, expect, then, .. } = written.clone();
        let good = self.conformance.good.clone();
        let (good_id, good_ids) = if id.is_some() || ids.is_some() { (None, None) } else { (good.id, good.ids) };
        let own = credential.is_some() || locator.is_some();
        let (good_credential, good_locator) = if own { (None, None) } else { (good.credential, good.locator) };
        let setup = Setup {
            id: id.or(good_id),
            ids: ids.or(good_ids),
            credential: credential.or(good_credential),
            locator: locator.or(good_locator),
        };
        let active = Expectation { state: Some("ACTIVE".to_owned()), ..Expectation::default() };
        let expect = expect.unwrap_or(active);
        let source_type = self.source_type().to_owned();
        Case { family: self.family.clone(), source_type, name, setup, expect, then }
    }
}

impl Expectation {
    /// Compares a connection, as the API returns it with its steps. Returns what differs.
    pub fn differences(&self, connection: &Value) -> Vec<String> {
        let steps = connection["steps"].as_array().cloned().unwrap_or_default();
        let evidence: Vec<&Value> = steps.iter().map(|step| &step["evidence"]).collect();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        // The failure, or the warnings of a connection that works nevertheless: class, title and fix of each.
        let mut problems: Vec<[String; 3]> = Vec::new();
        if connection["error"].is_object() {
            let error = &connection["error"];
            problems.push([text(&error["class"]), text(&error["title"]), text(&error["fix"])]);
        } else {
            let failures = steps.iter().map(|step| &step["failure"]).filter(|failure| failure.is_object());
            problems.extend(failures.map(|it| [text(&it["class"]), text(&it["title"]), text(&it["fix"])]));
        }
        let mut differences = Vec::new();
        let mut differ = |what: &str, expected: &str, found: String| {
            differences.push(format!("{what}: expected {expected:?}, found {found}"));
        };
        if let Some(state) = &self.state
            && connection["status"] != state.as_str()
        {
            differ("state", state, format!("{} ({problems:?})", connection["status"]));
        }
        let wanted = [("class", &self.class), ("title", &self.title), ("fix", &self.fix)];
        let fits = |problem: &[String; 3]| {
            wanted.iter().zip(problem).all(|((name, wanted), found)| match wanted {
                Some(wanted) if *name == "class" => wanted == found,
                Some(wanted) => found.to_lowercase().contains(&wanted.to_lowercase()),
                None => true,
            })
        };
        if wanted.iter().any(|(_, wanted)| wanted.is_some()) && !problems.iter().any(fits) {
            let expected: Vec<String> =
                wanted.iter().filter_map(|(name, wanted)| Some(format!("{name} {:?}", wanted.as_ref()?))).collect();
            differ("problem", &expected.join(", "), format!("{problems:?}"));
        }
        if let Some(privilege) = &self.privilege {
            let verdicts: Vec<String> = evidence.iter().flat_map(|evidence| found_under(evidence, "verdict")).collect();
            if !verdicts.contains(privilege) {
                differ("privilege", privilege, format!("{verdicts:?}"));
            }
        }
        if let Some(note) = &self.note {
            let all = serde_json::to_string(&evidence).unwrap_or_default();
            if !all.to_lowercase().contains(&note.to_lowercase()) {
                differ("note", note, all);
            }
        }
        if let Some(rows) = self.rows
            && connection["first_sync_rows"] != rows
        {
            differ("rows", &rows.to_string(), connection["first_sync_rows"].to_string());
        }
        differences
    }
}

/// The texts under the key `name`, at any depth.
fn found_under(value: &Value, name: &str) -> Vec<String> {
    match value {
        Value::Object(fields) => {
            let own = fields.get(name).and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(fields.values().flat_map(|value| found_under(value, name))).collect()
        }
        Value::Array(items) => items.iter().flat_map(|value| found_under(value, name)).collect(),
        _ => Vec::new(),
    }
}

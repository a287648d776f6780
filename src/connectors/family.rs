//! The 33 families as data.
//!
//! Facts about vendors carry a mark: `[V]` read in the named page, `[K]` known vendor documentation,
//! `[U]` uncertain until proven against a real tenant, `[-]` follows from the format itself.

use super::lowcode::spec::Spec;
use crate::policy::{Cap, Policy};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};

/// One family of `families/*.yaml`.
#[derive(Clone, Debug)]
pub struct Family {
    pub id: &'static str,
    pub title: &'static str,
    /// The engine's name: `file`, `sql`, `object`, `object_compat`, `openapi`, `lowcode`; empty when this build has none.
    pub engine: &'static str,
    /// In the allowlist that `aam` suggests for a new policy.
    pub on_by_default: bool,
    /// What a `resource_id` of this family looks like.
    pub resource_ids: &'static str,
    /// The default budget from the vendor's documented limits.
    pub cap: Cap,
    /// Where the figures of `cap` come from, with the mark.
    pub cap_source: &'static str,
    /// The least privilege to ask the vendor's administrator for, in the vendor's words.
    pub least_privilege: &'static str,
    /// Where `least_privilege` comes from, with the mark.
    pub privilege_source: &'static str,
    /// The fields of a JSON credential; empty when this build has no engine for the family.
    pub credential: Vec<CredentialField>,
    /// For the engine `lowcode`.
    pub spec: Option<&'static Spec>,
}

/// One field of the JSON object behind a locator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialField {
    pub name: &'static str,
    pub about: &'static str,
}

/// The family called `id`.
#[must_use]
pub fn find(id: &str) -> Option<&'static Family> {
    all().iter().find(|family| family.id == id)
}

/// The family called `id`: one of AAM's, or a source that `policy` declares or whose manifest lies in its folder.
#[must_use]
pub fn of(id: &str, policy: &Policy) -> Option<&'static Family> {
    find(id).or_else(|| policy.manifests.names(id).then(|| own(id)))
}

/// A source of one's own: a name and defaults. Kept for the process, once for each name; the policy bounds
/// how many there are.
fn own(id: &str) -> &'static Family {
    static OWN: Mutex<BTreeMap<String, &'static Family>> = Mutex::new(BTreeMap::new());
    let mut all = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(family) = all.get(id) {
        return family;
    }
    let id: &'static str = Box::leak(id.to_string().into_boxed_str());
    let family: &'static Family = Box::leak(Box::new(Family {
        id,
        title: id,
        engine: "lowcode",
        on_by_default: false,
        resource_ids: "the host of its API, or NAME=VALUE of its config, joined by &",
        cap: Cap { per_second: 0.333, burst: 24, per_day: 500, concurrency: 1 },
        cap_source: "[-] no documented limit is known for a manifest of one's own; as for openapi",
        least_privilege: "a credential that may only read what the manifest reads",
        privilege_source: "[-] the manifest says what is read",
        credential: Vec::new(),
        spec: None,
    }));
    all.insert(id.to_string(), family);
    family
}

/// All families, in the order of the documentation.
#[must_use]
pub fn all() -> &'static [Family] {
    &FAMILIES
}

/// The families' own budgets, for `policy::effective`.
#[must_use]
pub fn caps() -> Vec<(&'static str, &'static Cap)> {
    all().iter().map(|family| (family.id, &family.cap)).collect()
}

/// Text of the program itself: what does not parse here is left out, and a test says so.
static FAMILIES: LazyLock<Vec<Family>> = LazyLock::new(|| TEXTS.iter().filter_map(|(_, text)| read(text).ok()).collect());

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    id: String,
    title: String,
    engine: String,
    on_by_default: bool,
    resource_ids: String,
    cap: WireCap,
    cap_source: String,
    least_privilege: String,
    privilege_source: String,
    #[serde(default)]
    credential: Vec<WireField>,
    // What only families of the engine `lowcode` have; all of it or nothing.
    address: Option<Value>,
    auth: Option<Value>,
    identity: Option<Value>,
    privilege: Option<Value>,
    errors: Option<Value>,
    limits: Option<Value>,
    posts: Option<Value>,
    source: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireCap {
    per_second: f64,
    burst: u32,
    per_day: u64,
    concurrency: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireField {
    name: String,
    about: String,
}

/// Reads one family. Its texts live as long as the process; they are read once.
fn read(text: &str) -> Result<Family, String> {
    let limits = positioned_yaml::json::Limits { values: 10_000, text_bytes: 1 << 20, depth: 32 };
    let value = positioned_yaml::json::parse(text, limits).map_err(|error| error.to_string())?;
    let mut wire: Wire = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let spec = spec(&mut wire)?;
    let keep = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let WireCap { per_second, burst, per_day, concurrency } = wire.cap;
    Ok(Family {
        id: keep(wire.id),
        title: keep(wire.title),
        engine: keep(wire.engine),
        on_by_default: wire.on_by_default,
        resource_ids: keep(wire.resource_ids),
        cap: Cap { per_second, burst, per_day, concurrency },
        cap_source: keep(wire.cap_source),
        least_privilege: keep(wire.least_privilege),
        privilege_source: keep(wire.privilege_source),
        credential: wire
            .credential
            .into_iter()
            .map(|field| CredentialField { name: keep(field.name), about: keep(field.about) })
            .collect(),
        spec,
    })
}

fn spec(wire: &mut Wire) -> Result<Option<&'static Spec>, String> {
    let mut form = serde_json::Map::new();
    for (key, part) in [
        ("address", &mut wire.address),
        ("auth", &mut wire.auth),
        ("identity", &mut wire.identity),
        ("privilege", &mut wire.privilege),
        ("errors", &mut wire.errors),
        ("limits", &mut wire.limits),
        ("posts", &mut wire.posts),
        ("source", &mut wire.source),
    ] {
        if let Some(part) = part.take() {
            form.insert(key.to_string(), part);
        }
    }
    if (wire.engine == "lowcode") == form.is_empty() {
        return Err("the engine lowcode needs address to source, and no other engine has them".to_string());
    }
    if form.is_empty() {
        return Ok(None);
    }
    let form = serde_json::from_value(Value::Object(form)).map_err(|error| error.to_string())?;
    Ok(Some(Box::leak(Box::new(Spec::read(form)?))))
}

macro_rules! texts {
    ($($id:literal),* $(,)?) => { &[$(($id, include_str!(concat!("families/", $id, ".yaml")))),*] };
}

const TEXTS: &[(&str, &str)] = texts![
    "gworkspace_drive",
    "m365_sharepoint",
    "slack",
    "zoom",
    "salesforce",
    "servicenow",
    "jira",
    "confluence",
    "github",
    "gitlab",
    "aws_org",
    "azure_sub",
    "gcp_org",
    "s3",
    "snowflake",
    "bigquery",
    "redshift",
    "okta",
    "entra",
    "box",
    "dropbox",
    "zendesk",
    "datadog",
    "pagerduty",
    "workday",
    "netsuite",
    "openapi",
    "jdbc",
    "s3_compat",
    "mongo",
    "postgres",
    "supabase",
    "filesource",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::known;
    use crate::policy::parse::parse;

    fn policy_file(name: &str) -> String {
        let path = format!("{}/policy/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn every_file_parses_and_is_named_after_its_family() {
        for (id, text) in TEXTS {
            let family = read(text).unwrap_or_else(|error| panic!("{id}: {error}"));
            assert_eq!(family.id, *id);
        }
        assert_eq!(all().len(), 33);
        let folder = format!("{}/src/connectors/families", env!("CARGO_MANIFEST_DIR"));
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 33, "a file that is not embedded");
    }

    #[test]
    fn the_policy_knows_exactly_these_families() {
        let ids: Vec<&str> = all().iter().map(|family| family.id).collect();
        assert_eq!(ids, known::FAMILIES);
        assert!(find("slack").is_some() && find("Slack").is_none());
    }

    #[test]
    fn engines_serve_the_families_of_this_build() {
        let served: Vec<(&str, &str)> =
            all().iter().filter(|family| !family.engine.is_empty()).map(|family| (family.id, family.engine)).collect();
        let expected = [
            ("slack", "lowcode"),
            ("github", "lowcode"),
            ("s3", "object"),
            ("openapi", "openapi"),
            ("jdbc", "sql"),
            ("s3_compat", "object_compat"),
            ("postgres", "sql"),
            ("filesource", "file"),
        ];
        assert_eq!(served, expected);
        for family in all().iter().filter(|family| family.id != "filesource") {
            assert_eq!(family.credential.is_empty(), family.engine.is_empty(), "{}", family.id);
        }
    }

    #[test]
    fn every_fact_names_its_source() {
        for family in all() {
            for text in [family.title, family.resource_ids, family.cap_source, family.least_privilege, family.privilege_source] {
                assert!(!text.trim().is_empty(), "{}", family.id);
            }
            assert!(family.privilege_source.starts_with('['), "{} has no mark", family.id);
        }
    }

    /// An onboarding is about 12 calls and must not wait, except where the vendor's limit is lower or unknown.
    #[test]
    fn an_onboarding_fits_into_a_burst() {
        let waits: Vec<&str> = all().iter().filter(|family| family.cap.burst < 12).map(|family| family.id).collect();
        assert_eq!(waits, ["zoom", "aws_org", "redshift", "workday"]);
        for family in all() {
            let Cap { per_second, burst, per_day, concurrency } = family.cap;
            assert!(per_second > 0.0 && burst > 0 && concurrency > 0, "{}", family.id);
            assert!(per_day >= 12 * 10, "{}: ten onboardings a day", family.id);
            assert!(u64::from(burst) <= per_day, "{}", family.id);
        }
    }

    #[test]
    fn the_shipped_policy_lists_the_families_that_are_on_by_default() {
        let policy = parse(&policy_file("policy.yaml"), "policy/policy.yaml").unwrap();
        let on: Vec<&str> = all().iter().filter(|family| family.on_by_default).map(|family| family.id).collect();
        assert_eq!(on.len(), 29);
        assert_eq!(policy.allowlist, on.into_iter().map(str::to_string).collect());
        let mut bare = parse("version: 1\nallowlist: []\n", "bare").unwrap();
        (bare.allowlist, bare.digest) = (policy.allowlist.clone(), policy.digest);
        assert_eq!(policy, bare, "everything else that it shows is the default");
    }

    #[test]
    fn the_smoke_policy_lists_what_smoke_needs() {
        let policy = parse(&policy_file("smoke.yaml"), "policy/smoke.yaml").unwrap();
        assert_eq!(policy.allowlist, ["filesource", "jdbc", "openapi"].map(str::to_string).into());
        assert_eq!(policy.files.roots, ["seeds/data", "var/smoke"].map(std::path::PathBuf::from));
        assert_eq!(policy.network.allow_private, ["127.0.0.0/8".parse().unwrap()]);
        assert!(policy.api.tokens.is_empty());
    }

    #[test]
    fn caps_read_well() {
        let line =
            |family: &Family| format!("{:17} {:13} {}\n", family.id, family.engine, crate::policy::effective::cap(&family.cap));
        insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!("family_caps", all().iter().map(line).collect::<String>());
        });
    }
}

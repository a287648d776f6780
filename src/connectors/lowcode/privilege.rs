//! Turns the grants that a vendor names into a verdict. Pure.

use super::family_spec::{self, GrantSource, UnlistedGrant};
use crate::families::removal;
use crate::model::Privilege;
use serde_json::Value as Json;

/// Splits `text` into grants. Without a separator, grants are separated by whitespace.
#[must_use]
pub fn split(text: &str, separator: &str) -> Vec<String> {
    let pieces: Vec<&str> =
        if separator.is_empty() { text.split_whitespace().collect() } else { text.split(separator).collect() };
    pieces.into_iter().map(str::trim).filter(|grant| !grant.is_empty()).map(str::to_string).collect()
}

/// Returns the grants of a value: a text that is split, or a list of texts. Returns `None` if it is neither.
#[must_use]
pub fn listed(value: Option<&Json>, separator: &str) -> Option<Vec<String>> {
    match value? {
        Json::String(text) => Some(split(text, separator)),
        Json::Array(items) => Some(items.iter().filter_map(Json::as_str).map(str::to_string).collect()),
        _ => None,
    }
}

/// The grants that the records of a stream name.
#[derive(Debug, PartialEq)]
pub struct RecordedGrants {
    /// Sorted and without duplicates.
    pub grants: Vec<String>,
    /// True if a record does not name its grant, so that what it allows is not known.
    pub is_partial: bool,
}

/// Returns the grants that the records of a stream name, or `None` if the stream is empty.
#[must_use]
pub fn of_records(source: &GrantSource, records: &[Json]) -> Option<RecordedGrants> {
    if records.is_empty() {
        return None;
    }
    let counts = |record: &&Json| source.when.iter().all(|(pointer, value)| record.pointer(pointer) == Some(value));
    let of_record = |record: &Json| array(&source.grants, record).or_else(|| Some(vec![filled(&source.grants, record)?]));
    let (mut grants, mut is_partial) = (Vec::new(), false);
    for record in records.iter().filter(counts) {
        match of_record(record) {
            Some(named) => grants.extend(named),
            None => is_partial = true,
        }
    }
    grants.sort_unstable();
    grants.dedup();
    Some(RecordedGrants { grants, is_partial })
}

/// Returns the texts of a list, if `template` is the pointer to it.
fn array(template: &str, record: &Json) -> Option<Vec<String>> {
    let pointer = template.strip_prefix('{')?.strip_suffix('}')?;
    let list = record.pointer(pointer)?.as_array()?;
    Some(list.iter().filter_map(Json::as_str).map(str::to_string).collect())
}

/// Replaces each JSON pointer in braces by the text that it points to. Returns `None` if `record` does not have one of them.
pub(super) fn filled(template: &str, record: &Json) -> Option<String> {
    let (mut out, mut rest) = (String::new(), template);
    while let Some((before, after)) = rest.split_once("{/") {
        let (pointer, behind) = after.split_once('}')?;
        let value = super::identity::text(record.pointer(&format!("/{pointer}")))?;
        out.push_str(before);
        out.push_str(&value);
        rest = behind;
    }
    out.push_str(rest);
    Some(out)
}

/// Returns the grants of an object that maps the name of a permission to its level, in the form `NAME=LEVEL`.
#[must_use]
pub fn levels(permissions: Option<&Json>) -> Option<Vec<String>> {
    let object = permissions?.as_object()?;
    Some(object.iter().filter_map(|(name, level)| Some(format!("{name}={}", level.as_str()?))).collect())
}

/// Returns those of `grants` that only read, but read content.
#[must_use]
pub fn content(rules: &family_spec::Privilege, grants: &[String]) -> Vec<String> {
    let reads_content = |grant: &&String| rules.content.iter().any(|glob| fits(glob, grant));
    grants.iter().filter(reads_content).map(|grant| short(grant)).collect()
}

/// Returns the verdict for `grants`, the vendor's own texts.
#[must_use]
pub fn verdict(rules: &family_spec::Privilege, grants: &[String]) -> Privilege {
    let any = |globs: &[String], grant: &str| globs.iter().any(|glob| fits(glob, grant));
    if grants.iter().any(|grant| any(&rules.read_only, grant)) {
        return Privilege::Ok;
    }
    let is_listed =
        |grant: &str| any(&rules.ok, grant) || any(&rules.content, grant) || rules.elsewhere.keys().any(|glob| fits(glob, grant));
    let is_over = |grant: &str| any(&rules.over, grant) || rules.unlisted == UnlistedGrant::Over && !is_listed(grant);
    let over: Vec<String> = grants.iter().filter(|grant| is_over(grant)).map(|grant| short(grant)).collect();
    if !over.is_empty() {
        return Privilege::Over { grants: over };
    }
    let elsewhere = |grant: &String| rules.elsewhere.iter().find(|(glob, _)| fits(glob, grant));
    if let Some((_, reason)) = grants.iter().find_map(elsewhere) {
        return Privilege::Unknown { reason: reason.trim().to_string() };
    }
    let strange: Vec<String> =
        grants.iter().filter(|grant| !any(&rules.ok, grant) && !any(&rules.content, grant)).map(|grant| short(grant)).collect();
    match strange.is_empty() {
        // A credential without any grants cannot have excess permissions.
        true => Privilege::Ok,
        false => Privilege::Unknown { reason: format!("aam does not know what the grant {} allows", strange.join(", ")) },
    }
}

/// Returns true if `text` matches `glob`. `*` matches any text; everything else is compared literally.
#[must_use]
pub fn fits(glob: &str, text: &str) -> bool {
    removal::matched(glob, text).is_some()
}

/// Cuts a grant so that it fits on one line.
fn short(grant: &str) -> String {
    grant.chars().filter(|c| !c.is_control()).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::super::spec;
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn judge(family: &str, grants: &str) -> Privilege {
        verdict(&spec::find(family).unwrap().form.privilege, &split(grants, ","))
    }

    #[test]
    fn scopes_of_github_and_slack_are_judged() {
        let over = |grants: &[&str]| Privilege::Over { grants: grants.iter().map(|grant| (*grant).to_string()).collect() };
        assert_eq!(judge("github", "read:org, read:user"), Privilege::Ok);
        assert_eq!(judge("github", ""), Privilege::Ok);
        assert_eq!(judge("github", "repo, read:org, admin:org_hook"), over(&["repo", "admin:org_hook"]));
        assert!(matches!(judge("github", "read:org,brand_new"), Privilege::Unknown { reason } if reason.contains("brand_new")));
        assert_eq!(judge("slack", "team:read,channels:read,users:read"), Privilege::Ok);
        assert_eq!(
            judge("slack", "channels:read,channels:history,chat:write.public,files:read,admin.users:read"),
            over(&["chat:write.public"])
        );
        assert_eq!(judge("slack", "channels:history,files:read,admin.users:read,search:read.public"), Privilege::Ok);
    }

    #[test]
    fn a_role_that_takes_writing_away_decides() {
        assert_eq!(judge("servicenow", "itil,snc_read_only"), Privilege::Ok);
        assert_eq!(judge("servicenow", "itil"), Privilege::Over { grants: vec!["itil".to_string()] });
        assert_eq!(judge("salesforce", "api,Account=read"), Privilege::Ok);
        assert_eq!(judge("salesforce", "api,Account=write"), Privilege::Over { grants: vec!["Account=write".to_string()] });
    }

    /// Every scope and permission that the vendors document has a verdict, and it is the one in the table.
    #[test]
    fn every_known_scope_has_its_verdict() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/scopes");
        let tables = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let tables: Vec<_> = tables.filter(|path| path.extension().is_some_and(|extension| extension == "txt")).collect();
        assert!(tables.len() >= 8, "{tables:?}");
        for path in tables {
            let family = path.file_stem().unwrap().to_str().unwrap();
            // Another engine has its own table of verdicts.
            let Some(spec) = spec::find(family) else { continue };
            let table = std::fs::read_to_string(&path).unwrap();
            let lines: Vec<&str> = table.lines().filter(|line| !line.starts_with('#')).collect();
            assert!(lines.len() >= 4, "{family}: {} scopes", lines.len());
            let rules = &spec.form.privilege;
            for line in lines {
                let (expected, scope) = line.split_once(' ').unwrap();
                let scope = scope.trim();
                let found = match judge(family, scope) {
                    Privilege::Over { .. } => "over",
                    Privilege::Ok if content(rules, &split(scope, ",")) == [scope] => "content",
                    Privilege::Ok => "ok",
                    Privilege::Unknown { .. } => "unknown",
                };
                assert_eq!(found, expected, "{family}: {scope}");
            }
        }
    }

    #[test]
    fn unlisted_grants_can_be_too_much() {
        let rules: family_spec::Privilege =
            serde_json::from_value(json!({"absent": "", "ok": ["*/read"], "content": ["data:*/read"], "unlisted": "over"}))
                .unwrap();
        let judged = |grants: &str| verdict(&rules, &split(grants, ","));
        assert_eq!(judged("*/read, data:Microsoft.Storage/*/read"), Privilege::Ok);
        for grant in ["*", "Microsoft.Support/*", "Microsoft.Compute/virtualMachines/write", "data:*"] {
            assert_eq!(judged(&format!("*/read, {grant}")), Privilege::Over { grants: vec![grant.to_string()] }, "{grant}");
        }
    }

    #[test]
    fn records_name_grants() {
        let source: GrantSource =
            serde_json::from_value(json!({"stream": "permissions", "grants": "{/scope/type}:{/key}", "when": {"/have": true}}))
                .unwrap();
        let record = |key: &str, have: bool| json!({"key": key, "have": have, "scope": {"type": "global"}});
        assert_eq!(of_records(&source, &[]), None, "a stream without records says nothing");
        let recorded = |records: &[Json]| of_records(&source, records).map(|found| (found.grants, found.is_partial)).unwrap();
        assert_eq!(recorded(&[record("ADMINISTER", false)]), (Vec::new(), false));
        let mut some = vec![record("EDIT", true), record("ADMINISTER", false), record("EDIT", true)];
        assert_eq!(recorded(&some), (vec!["global:EDIT".to_string()], false));
        some.push(json!({"have": true, "key": "X"}));
        assert_eq!(recorded(&some), (vec!["global:EDIT".to_string()], true), "a record without a name is not a grant");
    }

    #[test]
    fn values_and_texts_are_split() {
        assert_eq!(split(" a  b\n", ""), ["a", "b"]);
        assert_eq!(split("a b, c,", ","), ["a b", "c"]);
        assert_eq!(listed(Some(&json!("a b")), ""), Some(vec!["a".to_string(), "b".to_string()]));
        assert_eq!(listed(Some(&json!(["a b", 1])), ""), Some(vec!["a b".to_string()]));
        assert_eq!((listed(Some(&json!(7)), ""), listed(None, "")), (None, None));
    }

    #[test]
    fn a_record_may_list_its_grants() {
        let source = GrantSource { stream: "token".to_string(), grants: "{/scopes}".to_string(), ..GrantSource::default() };
        let record = serde_json::json!({"scopes": ["read_api", "read_user", 7]});
        let recorded = |record: Json| of_records(&source, &[record]).map(|found| (found.grants, found.is_partial)).unwrap();
        let named = |grants: &[&str]| (grants.iter().map(|grant| (*grant).to_string()).collect::<Vec<_>>(), false);
        assert_eq!(recorded(record), named(&["read_api", "read_user"]));
        assert_eq!(recorded(json!({"scopes": "read_api"})), named(&["read_api"]));
        assert_eq!(recorded(json!({"scopes": []})), named(&[]));
        for unnamed in [json!({}), json!({"scopes": null}), json!({"scopes": {}})] {
            assert_eq!(recorded(unnamed), (Vec::new(), true));
        }
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (glob, text, fine) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "a", true),
            ("*:write", "chat:write", true),
            ("*:write", "chat:writer", false),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "acb", false),
            ("*", "", true),
            ("", "a", false),
        ] {
            assert_eq!(fits(glob, text), fine, "{glob} {text}");
        }
    }

    proptest! {
        #[test]
        fn a_grant_that_is_over_is_never_ok(grant in "[a-z:.]{1,12}", others in proptest::collection::vec("[a-z:]{1,8}", 0..4)) {
            let rules: family_spec::Privilege =
                serde_json::from_value(json!({"absent": "", "ok": ["*"], "over": [grant]})).unwrap();
            let mut all = others;
            all.push(grant.clone());
            let all = split(&all.join(" , "), ",");
            let over = matches!(verdict(&rules, &all), Privilege::Over { grants } if grants.contains(&grant));
            prop_assert!(over);
        }
    }
}

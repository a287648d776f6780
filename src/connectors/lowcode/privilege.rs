//! Turns the grants that a vendor names into a verdict. Pure.

use super::family_spec;
use crate::model::Privilege;
use ::lowcode::host::HostResponse;
use serde_json::Value as Json;

/// Returns the grants that the vendor lists in a header or in the record.
#[must_use]
pub fn grants(rules: &family_spec::Privilege, kept: Option<&HostResponse>, record: &Json) -> Option<String> {
    if !rules.header.is_empty() {
        return kept?.header(&rules.header).map(str::to_string);
    }
    match record.pointer(&rules.field)? {
        Json::String(text) => Some(text.clone()),
        Json::Array(items) => {
            let separator = if rules.separator.is_empty() { "," } else { &rules.separator };
            Some(items.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(separator))
        }
        _ => None,
    }
}

/// Returns the grants of an object that maps the name of a permission to its level, in the form `NAME=LEVEL`.
#[must_use]
pub fn levels(permissions: Option<&Json>) -> Option<String> {
    let object = permissions?.as_object()?;
    let grants = object.iter().filter_map(|(name, level)| Some(format!("{name}={}", level.as_str()?)));
    Some(grants.collect::<Vec<_>>().join(","))
}

/// Returns those of `grants` that only read, but read content.
#[must_use]
pub fn content(rules: &family_spec::Privilege, grants: Option<&str>) -> Vec<String> {
    let reads_content = |grant: &&str| rules.content.iter().any(|glob| fits(glob, grant));
    split(rules, grants.unwrap_or_default()).into_iter().filter(reads_content).map(short).collect()
}

fn split<'g>(rules: &family_spec::Privilege, grants: &'g str) -> Vec<&'g str> {
    let separator = if rules.separator.is_empty() { "," } else { rules.separator.as_str() };
    grants.split(separator).map(str::trim).filter(|grant| !grant.is_empty()).collect()
}

/// Returns the verdict for `grants`, the vendor's own text. `grants` is `None` if the vendor did not list any.
#[must_use]
pub fn verdict(rules: &family_spec::Privilege, grants: Option<&str>) -> Privilege {
    let unknown = |reason: String| Privilege::Unknown { reason };
    let Some(grants) = grants else { return unknown(rules.absent.trim().to_string()) };
    let grants = split(rules, grants);
    let any = |globs: &[String], grant: &str| globs.iter().any(|glob| fits(glob, grant));
    let over: Vec<String> = grants.iter().filter(|grant| any(&rules.over, grant)).map(|grant| short(grant)).collect();
    if !over.is_empty() {
        return Privilege::Over { grants: over };
    }
    let strange: Vec<String> =
        grants.iter().filter(|grant| !any(&rules.ok, grant) && !any(&rules.content, grant)).map(|grant| short(grant)).collect();
    match strange.is_empty() {
        // A credential without any grants cannot have excess permissions.
        true => Privilege::Ok,
        false => unknown(format!("aam does not know what the grant {} allows", strange.join(", "))),
    }
}

/// Returns true if `text` matches `glob`. `*` matches any text; everything else is compared literally.
#[must_use]
pub fn fits(glob: &str, text: &str) -> bool {
    let mut pieces = glob.split('*');
    let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        match rest.split_once(piece) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Cuts a grant so that it fits on one line.
fn short(grant: &str) -> String {
    grant.chars().filter(|c| !c.is_control()).take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::super::spec;
    use super::*;
    use proptest::prelude::*;

    fn judge(family: &str, grants: Option<&str>) -> Privilege {
        verdict(&spec::find(family).unwrap().form.privilege, grants)
    }

    #[test]
    fn scopes_of_github_and_slack_are_judged() {
        let over = |grants: &[&str]| Privilege::Over { grants: grants.iter().map(|grant| (*grant).to_string()).collect() };
        assert_eq!(judge("github", Some("read:org, read:user")), Privilege::Ok);
        assert_eq!(judge("github", Some("")), Privilege::Ok);
        assert_eq!(judge("github", Some("repo, read:org, admin:org_hook")), over(&["repo", "admin:org_hook"]));
        assert!(matches!(judge("github", None), Privilege::Unknown { reason } if reason.contains("fine-grained")));
        assert!(
            matches!(judge("github", Some("read:org,brand_new")), Privilege::Unknown { reason } if reason.contains("brand_new"))
        );
        assert_eq!(judge("slack", Some("team:read,channels:read,users:read")), Privilege::Ok);
        assert_eq!(
            judge("slack", Some("channels:read,channels:history,chat:write.public,files:read,admin.users:read")),
            over(&["chat:write.public"])
        );
        assert_eq!(judge("slack", Some("channels:history,files:read,admin.users:read,search:read.public")), Privilege::Ok);
        assert!(matches!(judge("slack", None), Privilege::Unknown { .. }));
    }

    /// Every scope and permission that the vendors document has a verdict, and it is the one in the table.
    #[test]
    fn every_known_scope_has_its_verdict() {
        for (family, at_least) in [("github", 140), ("slack", 140), ("salesforce", 34), ("servicenow", 20)] {
            let table = format!("{}/tests/data/scopes/{family}.txt", env!("CARGO_MANIFEST_DIR"));
            let table = std::fs::read_to_string(table).unwrap();
            let lines: Vec<&str> = table.lines().filter(|line| !line.starts_with('#')).collect();
            assert!(lines.len() >= at_least, "{family}: {} scopes", lines.len());
            let rules = &spec::find(family).unwrap().form.privilege;
            for line in lines {
                let (expected, scope) = line.split_once(' ').unwrap();
                let scope = scope.trim();
                let found = match judge(family, Some(scope)) {
                    Privilege::Over { .. } => "over",
                    Privilege::Ok if content(rules, Some(scope)) == [scope] => "content",
                    Privilege::Ok => "ok",
                    Privilege::Unknown { .. } => "unknown",
                };
                assert_eq!(found, expected, "{family}: {scope}");
            }
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
            let rules = family_spec::Privilege {
                header: String::new(), field: String::new(), separator: ",".to_string(), absent: String::new(),
                ok: vec!["*".to_string()], over: vec![grant.clone()], content: Vec::new(),
            };
            let mut all = others;
            all.push(grant.clone());
            let over = matches!(verdict(&rules, Some(&all.join(" , "))), Privilege::Over { grants } if grants.contains(&grant));
            prop_assert!(over);
        }
    }
}

//! How excess permissions are taken away: the statements and steps in the family files, filled in for what was found.

use crate::model::Evidence;
use serde::Deserialize;
use serde_json::Value;

/// One rule of a family file. The first rule that matches a permission applies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemovalRule {
    /// The permissions as AAM reports them; `*` stands for any text.
    pub grants: Vec<String>,
    /// What an administrator can paste: SQL of the source or a command line.
    #[serde(default)]
    pub statement: Option<String>,
    /// What an administrator does in the vendor's own pages.
    #[serde(default)]
    pub step: Option<String>,
}

/// What takes the excess of one resource away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    pub statements: Vec<String>,
    pub steps: Vec<String>,
    /// The permissions for which there is no rule.
    pub others: Vec<String>,
}

impl Removal {
    /// Applies the rules to `grants`. `identity` is what the source said about the login, from which placeholders are filled.
    #[must_use]
    pub fn new(rules: &[RemovalRule], grants: &[String], identity: &Evidence, resource_id: &str) -> Removal {
        let mut removal = Removal::default();
        let mut by_rule: Vec<Vec<(&str, Vec<&str>)>> = vec![Vec::new(); rules.len()];
        // The last entry of a cut list counts the rest.
        for grant in grants.iter().filter(|grant| !grant.starts_with("and ")) {
            let fitting = rules.iter().enumerate().find_map(|(index, rule)| {
                let captures = rule.grants.iter().find_map(|glob| matched(glob, grant))?;
                Some((index, captures))
            });
            match fitting {
                Some((index, captures)) => by_rule[index].push((grant, captures)),
                None => removal.others.push(grant.clone()),
            }
        }
        for (rule, found) in rules.iter().zip(&by_rule).filter(|(_, found)| !found.is_empty()) {
            let all: Vec<&str> = found.iter().map(|(grant, _)| *grant).collect();
            for (text, texts) in [(&rule.statement, &mut removal.statements), (&rule.step, &mut removal.steps)] {
                for (grant, captures) in text.iter().flat_map(|_| found) {
                    let values = Values { grant, all: &all, captures, identity, resource_id };
                    let filled = values.fill(text.as_deref().unwrap_or_default());
                    if !texts.contains(&filled) {
                        texts.push(filled);
                    }
                }
            }
        }
        removal
    }
}

/// What placeholders stand for.
struct Values<'a> {
    grant: &'a str,
    all: &'a [&'a str],
    captures: &'a [&'a str],
    identity: &'a Evidence,
    resource_id: &'a str,
}

impl Values<'_> {
    /// Replaces `{grant}`, `{grants}` (all permissions of the rule), `{1}` (what the first `*` matched), `{resource}` and `{name}`
    /// (a text of the identity). `{"name"}` is the same as an SQL identifier in double quotes. What is not known stays as a name
    /// in capital letters, for the reader to fill in. Other braces are text.
    fn fill(&self, text: &str) -> String {
        let (mut out, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once('{') {
            out.push_str(before);
            let name = after.split_once('}').map(|(name, _)| name).filter(|name| is_placeholder(name));
            let Some(name) = name else {
                out.push('{');
                rest = after;
                continue;
            };
            let plain = name.trim_matches('"');
            let value = self.value(plain);
            match (value, plain == name) {
                (Some(value), true) => out.push_str(&value),
                (Some(value), false) => out.push_str(&format!("\"{}\"", value.replace('"', "\"\""))),
                (None, _) => out.push_str(&plain.to_uppercase()),
            }
            rest = after.get(name.len() + 1..).unwrap_or_default();
        }
        out + rest
    }

    fn value(&self, name: &str) -> Option<String> {
        match name {
            "grant" => Some(self.grant.to_string()),
            "grants" => Some(self.all.join(", ")),
            "resource" => Some(self.resource_id.to_string()),
            _ => match name.parse::<usize>() {
                Ok(number) => Some((*self.captures.get(number.checked_sub(1)?)?).to_string()),
                Err(_) => self.identity.get(name).and_then(Value::as_str).map(str::to_string),
            },
        }
    }
}

fn is_placeholder(name: &str) -> bool {
    let plain = name.trim_matches('"');
    !plain.is_empty() && plain.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Returns what each `*` of `glob` matched in `text`, or `None` if the text does not match. Everything else is compared
/// literally. All but the last `*` match as little as possible.
#[must_use]
pub fn matched<'a>(glob: &str, text: &'a str) -> Option<Vec<&'a str>> {
    let mut pieces = glob.split('*');
    let mut rest = pieces.next().and_then(|first| text.strip_prefix(first))?;
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty().then(Vec::new) };
    let mut captures = Vec::with_capacity(pieces.len() + 1);
    for piece in pieces {
        let (before, behind) = rest.split_once(piece)?;
        captures.push(before);
        rest = behind;
    }
    captures.push(rest.strip_suffix(last)?);
    Some(captures)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rule(grants: &[&str], statement: Option<&str>, step: Option<&str>) -> RemovalRule {
        RemovalRule {
            grants: grants.iter().map(ToString::to_string).collect(),
            statement: statement.map(str::to_string),
            step: step.map(str::to_string),
        }
    }

    #[test]
    fn rules_are_filled_in_for_what_was_found() {
        let rules = [
            rule(&["CREATE on schema *"], Some(r#"REVOKE CREATE ON SCHEMA {1} FROM {"user"};"#), None),
            rule(&["role *"], None, Some("take {grants} from {login} in {resource}, keep {braces or {}")),
        ];
        let identity = json!({"user": "a\"b"}).as_object().cloned().unwrap_or_default();
        let grants = ["CREATE on schema \"s\"", "role x", "role y", "odd", "and 3 more tables"].map(str::to_string);
        let removal = Removal::new(&rules, &grants, &identity, "acme");
        assert_eq!(removal.statements, [r#"REVOKE CREATE ON SCHEMA "s" FROM "a""b";"#]);
        assert_eq!(removal.steps, ["take role x, role y from LOGIN in acme, keep {braces or {}"]);
        assert_eq!(removal.others, ["odd"]);
    }

    #[test]
    fn a_star_matches_and_returns_any_text() {
        assert_eq!(matched("a*b*c", "a-b-c"), Some(vec!["-", "-"]));
        assert_eq!(matched("a*", "a"), Some(vec![""]));
        assert_eq!(matched("abc", "abc"), Some(Vec::new()));
        assert_eq!((matched("abc", "abcd"), matched("a*c", "ab")), (None, None));
    }

    /// Every family that can report excess permissions says how they are taken away, and every rule says something.
    #[test]
    fn every_rule_has_a_statement_or_a_step() {
        for family in crate::families::all() {
            for rule in &family.removal {
                assert!(rule.statement.is_some() || rule.step.is_some(), "{}: {rule:?}", family.id);
                assert!(!rule.grants.is_empty(), "{}: a rule without grants", family.id);
            }
        }
    }
}

//! Templates that fail on a value that a vendor may send.

use crate::model::Problem;
use serde_json::Value;

/// The variables whose values come from the source.
const FROM_SOURCE: [&str; 3] = ["record", "response", "components_values"];
/// The defaults of `.get` whose methods a template calls.
const DEFAULTS: [&str; 4] = ["{}", "[]", "''", "\"\""];

/// The templates that call a method of `.get(KEY, DEFAULT)`: the default stands for a missing key, but not for null.
pub fn nulls(value: &Value, pointer: &str) -> Vec<Problem> {
    let mut found = Vec::new();
    visit(value, pointer, &mut |text, at| {
        if let Some(call) = fragile(text) {
            let problem = Problem::new(at, format!("the template fails if the source writes null: {call}"));
            found.push(problem.hint("write (record.get('a') or {}).get('b') in place of record.get('a', {}).get('b')"));
        }
    });
    found
}

/// Returns the first `.get(KEY, DEFAULT)` of a value of the source whose result is used without a check for null.
fn fragile(text: &str) -> Option<&str> {
    if !text.contains("{{") {
        return None;
    }
    for (start, _) in text.match_indices(".get(") {
        let rest = text.get(start..)?;
        let end = rest.find(')')?;
        let call = rest.get(..=end)?;
        let has_default =
            call.rsplit_once(',').is_some_and(|(_, default)| DEFAULTS.contains(&default.trim_end_matches(')').trim()));
        let is_used = rest.get(end + 1..).is_some_and(|after| after.starts_with(['.', '[']));
        let name: String = text.get(..start)?.chars().rev().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let name: String = name.chars().rev().collect();
        // The value of a call in front of this one comes from the same variable.
        if has_default && is_used && (name.is_empty() || FROM_SOURCE.contains(&name.as_str())) {
            return Some(call);
        }
    }
    None
}

fn visit(value: &Value, pointer: &str, report: &mut dyn FnMut(&str, &str)) {
    match value {
        Value::String(text) => report(text, pointer),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| visit(item, &format!("{pointer}/{index}"), report));
        }
        Value::Object(keys) => {
            for (key, child) in keys {
                visit(child, &format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1")), report);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::fragile;

    #[test]
    fn a_default_does_not_stand_for_null() {
        for (text, found) in [
            ("{{ record.get('user', {}).get('name') }}", Some(".get('user', {})")),
            ("{{ (record.get('user') or {}).get('email', '').split('@') }}", Some(".get('email', '')")),
            ("{{ response.get('rows', [])[0] }}", Some(".get('rows', [])")),
            ("{{ (record.get('user') or {}).get('name') }}", None),
            ("{{ record.get('name', '') }}", None),
            ("{{ record.get('name', '') ~ record['id'] }}", None),
            ("{{ config.get('claims', {}).get('tid', '') }}", None),
            ("record.get('user', {}).get('name')", None),
        ] {
            assert_eq!(fragile(text), found, "{text}");
        }
    }
}

//! Unknown keys and values of the wrong type in a family file, all of them instead of the first.

use crate::connectors::lowcode::family_spec::{
    Address, AuthMethod, Blind, CallCounts, DescribedSchema, Errors, Identity, Limit, Privilege, ResourceKind, Rule,
    SignedService, WrongKind,
};
use crate::families::{self, DESCRIBED_ENGINES, LOWCODE_KEYS, MANIFEST_ENGINES};
use crate::model::problem::nearest;
use crate::model::{PostRule, Problem};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The maximum number of problems that are searched for in one section.
const MAX_PROBLEMS: usize = 20;

/// Returns the value without its unknown keys, and the findings.
pub fn unknown(mut value: Value) -> (Value, Vec<Problem>) {
    let mut findings = Vec::new();
    let general = |value: &Value| {
        let mut general = value.clone();
        if let Some(keys) = general.as_object_mut() {
            keys.retain(|key, _| !LOWCODE_KEYS.contains(&key.as_str()));
            // The parser demands the keys of the engine, which are checked below.
            if keys.get("engine").and_then(Value::as_str).is_some_and(|engine| DESCRIBED_ENGINES.contains(&engine)) {
                keys.insert("engine".to_string(), "".into());
            }
        }
        families::parse(&general.to_string()).err()
    };
    strip(&mut value, "", &general, &mut findings);
    if !value.get("engine").and_then(Value::as_str).is_some_and(|engine| MANIFEST_ENGINES.contains(&engine)) {
        return (value, findings);
    }
    // The parts of a section come before the section, because they have the more exact place.
    items::<ResourceKind>(&mut value, "/address/kinds", &mut findings);
    items::<Rule>(&mut value, "/errors/rules", &mut findings);
    items::<AuthMethod>(&mut value, "/auth", &mut findings);
    items::<Identity>(&mut value, "/identity", &mut findings);
    items::<WrongKind>(&mut value, "/wrong_kinds", &mut findings);
    items::<Limit>(&mut value, "/limits", &mut findings);
    items::<PostRule>(&mut value, "/posts", &mut findings);
    items::<SignedService>(&mut value, "/signing", &mut findings);
    items::<DescribedSchema>(&mut value, "/schemas", &mut findings);
    section::<Blind>(&mut value, "/blind", &mut findings);
    section::<CallCounts>(&mut value, "/calls", &mut findings);
    section::<Address>(&mut value, "/address", &mut findings);
    section::<Privilege>(&mut value, "/privilege", &mut findings);
    section::<Errors>(&mut value, "/errors", &mut findings);
    (value, findings)
}

fn items<T: DeserializeOwned>(value: &mut Value, pointer: &str, findings: &mut Vec<Problem>) {
    let count = value.pointer(pointer).and_then(Value::as_array).map_or(0, Vec::len);
    for index in 0..count {
        section::<T>(value, &format!("{pointer}/{index}"), findings);
    }
}

fn section<T: DeserializeOwned>(value: &mut Value, pointer: &str, findings: &mut Vec<Problem>) {
    let known = findings.len();
    let error = |value: &Value| {
        let section = value.pointer(pointer)?;
        serde_json::from_value::<T>(section.clone()).err().map(|error| error.to_string())
    };
    // An item that is reported already makes its section fail again.
    let reported = findings.iter().any(|finding| finding.pointer.starts_with(&format!("{pointer}/")));
    strip(value, pointer, &error, findings);
    if reported {
        let mut at = 0;
        findings.retain(|finding| {
            at += 1;
            at <= known || finding.pointer != pointer
        });
    }
}

/// Removes unknown keys below `pointer` until `error` finds none, and reports them; and reports any other error.
fn strip(value: &mut Value, pointer: &str, error: &dyn Fn(&Value) -> Option<String>, findings: &mut Vec<Problem>) {
    for _ in 0..MAX_PROBLEMS {
        let Some(message) = error(value) else { return };
        let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'));
        let Some((name, rest)) = unknown else {
            findings.push(Problem::new(pointer, message).hint("docs/families.md describes the keys of a family file"));
            return;
        };
        let allowed: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
        let Some(at) = find(value.pointer(pointer), name, &allowed, pointer) else {
            findings.push(Problem::new(pointer, format!("unknown key {name}")).hint(hint(name, &allowed)));
            return;
        };
        findings.push(Problem::new(at.clone(), format!("unknown key {name}")).hint(hint(name, &allowed)));
        let (parent, _) = at.rsplit_once('/').unwrap_or(("", ""));
        if let Some(keys) = value.pointer_mut(parent).and_then(Value::as_object_mut) {
            keys.remove(name);
        }
    }
}

fn hint(name: &str, allowed: &[&str]) -> String {
    match nearest(name, allowed.iter().copied()) {
        Some(near) => format!("did you mean {near}?"),
        None if allowed.is_empty() => "remove it".to_string(),
        None => format!("the keys here are {}", allowed.join(", ")),
    }
}

/// Returns the pointer of the key `name`: the first mapping that has it and whose other keys are mostly `allowed`.
fn find(value: Option<&Value>, name: &str, allowed: &[&str], pointer: &str) -> Option<String> {
    match value? {
        Value::Object(keys) => {
            let fits = keys.keys().filter(|key| allowed.contains(&key.as_str())).count() * 2 + 2 >= keys.len();
            if keys.contains_key(name) && fits {
                return Some(format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1")));
            }
            keys.iter().find_map(|(key, child)| {
                let key = key.replace('~', "~0").replace('/', "~1");
                find(Some(child), name, allowed, &format!("{pointer}/{key}"))
            })
        }
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(index, child)| find(Some(child), name, allowed, &format!("{pointer}/{index}")))
        }
        _ => None,
    }
}

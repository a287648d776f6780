//! The service principals of the section `credentials`, read by the table of kinds.

use super::super::credentials::{KIND_SPECS, KeyForm, KeySpec, KindSpec, Principal, Setting, kind_spec};
use super::super::read::{Fields, Reader, Spot};
use super::super::yaml::{NodeKind, shown};
use super::credentials::{is_locator_name, locator};
use super::reach::secret_address;
use crate::policy::credentials::{EXPIRES, aws};
use std::collections::BTreeMap;

pub fn principals(r: &mut Reader, spot: &Spot<'_>) -> Option<BTreeMap<String, Principal>> {
    let mut principals = BTreeMap::new();
    for (name, spot) in r.entries(spot, "a mapping of service principals") {
        if let Some(principal) = principal(r, &spot).filter(|_| is_locator_name(r, name, &spot)) {
            principals.insert(name.to_string(), principal);
        }
    }
    Some(principals)
}

fn principal(r: &mut Reader, spot: &Spot<'_>) -> Option<Principal> {
    let names: Vec<&str> = KIND_SPECS.iter().map(|spec| spec.name).collect();
    let kind = kind_of(r, spot, &names)?;
    let spec = kind_spec(kind)?;
    let mut allowed: Vec<&str> = vec!["kind", EXPIRES.name];
    allowed.extend(spec.keys.iter().map(|key| key.name));
    let fields = r.fields(spot, &allowed)?;
    let mut settings = BTreeMap::new();
    let mut whole = true;
    for key in spec.keys.iter().chain([&EXPIRES]) {
        match fields.get(key.name).filter(|spot| !spot.node.is_null()) {
            Some(spot) => match setting(r, key, &spot) {
                Some(value) => drop(settings.insert(key.name, value)),
                None => whole = false,
            },
            None if key.required => {
                r.report_at(
                    &fields.pointer,
                    fields.place,
                    format!("the key {} is missing", key.name),
                    format!("write {}: {}", key.name, key.about),
                );
                whole = false;
            }
            None => {}
        }
    }
    whole &= alternatives(r, spec, &fields);
    let principal = whole.then_some(Principal { kind: spec.name, settings })?;
    if spec.name == "aws"
        && let Some((key, message, hint)) = aws::problem(&principal)
    {
        let spot_of_key = fields.get(key);
        r.report(spot_of_key.as_ref().unwrap_or(spot), message, hint);
        return None;
    }
    Some(principal)
}

/// Reads `kind` before the other keys, because it says which they are.
fn kind_of<'n>(r: &mut Reader, spot: &Spot<'_>, names: &[&'n str]) -> Option<&'n str> {
    let NodeKind::Map(pairs) = &spot.node.kind else {
        r.fields(spot, &["kind"]);
        return None;
    };
    let Some((_, node)) = pairs.iter().find(|(key, _)| key.text == "kind") else {
        r.report(spot, "the key kind is missing", format!("write kind: one of {}", names.join(", ")));
        return None;
    };
    let kind = Spot { node, pointer: format!("{}/kind", spot.pointer) };
    r.one_of(&kind, "kind of service principal", names)
}

/// Checks that exactly one key of each group is written.
fn alternatives(r: &mut Reader, spec: &KindSpec, fields: &Fields<'_>) -> bool {
    let mut whole = true;
    for group in spec.one_of {
        let written: Vec<&str> =
            group.iter().copied().filter(|name| fields.get(name).is_some_and(|spot| !spot.node.is_null())).collect();
        if written.len() != 1 {
            let message = match written.as_slice() {
                [] => format!("one of {} is missing", group.join(", ")),
                several => format!("{} are written, of which only one can be used", several.join(" and ")),
            };
            r.report_at(&fields.pointer, fields.place, message, format!("write exactly one of {}", group.join(", ")));
            whole = false;
        }
    }
    whole
}

fn setting(r: &mut Reader, key: &KeySpec, spot: &Spot<'_>) -> Option<Setting> {
    Some(match key.form {
        KeyForm::Text | KeyForm::File => Setting::Text(r.text(spot, key.about)?.to_string()),
        KeyForm::Choice(choices) => Setting::Text(r.one_of(spot, key.name, choices)?.to_string()),
        KeyForm::Url => {
            let metadata = matches!(key.name, "metadata_url" | "subject_token_url");
            Setting::Text(secret_address(r, spot, "an https URL", metadata)?.trim_end_matches('/').to_string())
        }
        KeyForm::Locator => Setting::Locator(locator(r, spot)?),
        KeyForm::List => Setting::List(r.unique(spot, "texts", |r, item| r.text(item, "a text").map(str::to_string))?),
        KeyForm::Flag => Setting::Flag(r.one_of(spot, key.name, &["true", "false"])? == "true"),
        KeyForm::Date => {
            let text = r.text(spot, "a day")?;
            if text.parse::<jiff::civil::Date>().is_err() || text.len() != 10 {
                r.report(spot, format!("{} is not a day", shown(text)), "write YYYY-MM-DD, for example 2027-06-30");
                return None;
            }
            Setting::Text(text.to_string())
        }
    })
}

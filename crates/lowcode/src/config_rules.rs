//! The `config_normalization_rules` of a spec, which change and validate a config before it is used.
//!
//! The order is that of the CDK. Migrations come first (a changed config is reported to the platform), then
//! transformations; both run once at startup. Validations run each time streams are built.

use super::bounds::Bounds;
use super::config::Config;
use super::error::Failed;
use super::extraction::dpath;
use super::extraction::transform::value_types;
use super::host::Host;
use super::interpolation::{InterpolatedBoolean, InterpolatedMapping, InterpolatedString, Scope};
use super::json_schema;
use super::load::Manifest;
use super::value::{Dict, Value};

/// A config after migrations and transformations.
#[derive(Clone, Debug)]
pub struct Normalised {
    /// The config that the source works with.
    pub config: Value,
    /// The config after migrations but before transformations, if the migrations changed it. It is the content of a
    /// CONTROL message and may contain secrets.
    pub migrated: Option<Value>,
}

/// Applies migrations and transformations. An empty config stays as it is.
///
/// # Errors
/// Fails if a rule fails.
pub fn normalise(manifest: &Manifest, config: &Value, host: &dyn Host, bounds: &Bounds) -> Result<Normalised, Failed> {
    let mut changed = config.clone();
    let mut migrated = None;
    if let Some(rules) = rules(manifest).filter(|_| config.truthy()) {
        let apply = |config: &mut Value, list: Option<&Value>| -> Result<(), Failed> {
            items(list).try_for_each(|rule| transform(rule, config, host, bounds))
        };
        for migration in items(rules.get("config_migrations")) {
            apply(&mut changed, migration.get("transformations"))?;
        }
        migrated = (changed != *config).then(|| changed.clone());
        apply(&mut changed, rules.get("transformations"))?;
    }
    Ok(Normalised { config: changed, migrated })
}

/// Runs the validations on a normalised config.
///
/// # Errors
/// Fails with the first validation that fails.
pub fn validate(manifest: &Manifest, config: &Value, host: &dyn Host, bounds: &Bounds) -> Result<(), Failed> {
    let Some(rules) = rules(manifest) else { return Ok(()) };
    items(rules.get("validations")).try_for_each(|rule| check(rule, config, host, bounds))
}

fn rules(manifest: &Manifest) -> Option<&Value> {
    manifest.root.get("spec")?.get("config_normalization_rules").filter(|rules| rules.truthy())
}

fn items(list: Option<&Value>) -> impl Iterator<Item = &Value> {
    list.and_then(Value::as_list).unwrap_or_default().iter()
}

fn kind(rule: &Value) -> &str {
    rule.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn scope<'a>(config: &'a Value, host: &'a dyn Host, bounds: &'a Bounds) -> Scope<'a> {
    Scope { config: Config::new(config), parameters: &Value::None, vars: Vec::new(), host, bounds }
}

fn transform(rule: &Value, config: &mut Value, host: &dyn Host, bounds: &Bounds) -> Result<(), Failed> {
    match kind(rule) {
        "ConfigRemapField" => remap(rule, config, host, bounds),
        "ConfigAddFields" => add(rule, config, host, bounds),
        "ConfigRemoveFields" => remove(rule, config, host, bounds),
        other => Err(Failed::config("UnsupportedComponent", format!("the config rule `{other}` is not supported"))),
    }
}

fn condition(rule: &Value) -> Option<InterpolatedBoolean> {
    let text = rule.get("condition").and_then(Value::as_str).filter(|text| !text.is_empty())?;
    Some(InterpolatedBoolean::new(text, &Value::None))
}

fn path_of(rule: &Value, scope: &Scope<'_>) -> Result<Vec<Value>, Failed> {
    let parts = items(rule.get("field_path")).filter_map(Value::as_str);
    Ok(parts.map(|part| InterpolatedString::new(part, &Value::None).eval(scope, &[])).collect::<Result<_, _>>()?)
}

fn remap(rule: &Value, config: &mut Value, host: &dyn Host, bounds: &Bounds) -> Result<(), Failed> {
    let scope = scope(config, host, bounds);
    let path = path_of(rule, &scope)?;
    let Some((last, parents)) = path.split_last() else {
        return Err(Failed::system("Exception", "field_path cannot be empty."));
    };
    let empty = Dict::default();
    let map = rule.get("map").and_then(Value::as_dict).unwrap_or(&empty);
    let map = InterpolatedMapping::new(map, &Value::None).eval(&scope, &[])?;
    let mut node = config;
    for part in parents {
        match part.as_str().and_then(|key| child(node, key)) {
            Some(next) if matches!(next, Value::Dict(_)) => node = next,
            _ => return Ok(()),
        }
    }
    let Some(field) = last.as_str().and_then(|key| child(node, key)) else { return Ok(()) };
    match &*field {
        Value::List(_) | Value::Dict(_) => Err(Failed::system("TypeError", format!("unhashable type: '{}'", field.type_name()))),
        Value::Str(text) => {
            if let Some(new) = map.get(&**text) {
                *field = new.clone();
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn child<'v>(node: &'v mut Value, key: &str) -> Option<&'v mut Value> {
    match node {
        Value::Dict(dict) => dict.get_mut(key),
        _ => None,
    }
}

fn add(rule: &Value, config: &mut Value, host: &dyn Host, bounds: &Bounds) -> Result<(), Failed> {
    let condition = condition(rule);
    for field in items(rule.get("fields")) {
        let path = field.get("path").and_then(Value::as_list).unwrap_or_default();
        if path.is_empty() {
            return Err(Failed::system("ValueError", "Expected a non-zero-length path for the AddFields transformation"));
        }
        let text = field.get("value").and_then(Value::as_str).unwrap_or_default();
        let parameters = field.get("$parameters").unwrap_or(&Value::None);
        let mut scope = scope(config, host, bounds);
        let value = InterpolatedString::new(text, parameters).eval(&scope, &value_types(field))?;
        let path_value = Value::List(path.to_vec());
        scope.vars = vec![("value", &value), ("path", &path_value)];
        if condition.as_ref().map_or(Ok(true), |condition| condition.eval(&scope))? {
            dpath::new(config, path, value, bounds.records.max(1_000))?;
        }
    }
    Ok(())
}

fn remove(rule: &Value, config: &mut Value, host: &dyn Host, bounds: &Bounds) -> Result<(), Failed> {
    if let Some(condition) = condition(rule)
        && !condition.eval(&scope(config, host, bounds))?
    {
        return Ok(());
    }
    for pointer in items(rule.get("field_pointers")) {
        dpath::delete(config, pointer.as_list().unwrap_or_default(), None)?;
    }
    Ok(())
}

fn check(rule: &Value, config: &Value, host: &dyn Host, bounds: &Bounds) -> Result<(), Failed> {
    if kind(rule) == "PredicateValidator" {
        // The CDK passes the config to a method that takes no argument, so this rule always fails.
        let message = "PredicateValidator.validate() takes 1 positional argument but 2 were given";
        return Err(Failed::system("TypeError", message));
    }
    let empty = Value::Dict(Dict::default());
    let path = path_of(rule, &scope(&empty, host, bounds))?;
    if path.is_empty() {
        return Err(Failed::system("ValueError", "Field path is empty"));
    }
    let strategy = rule.get("validation_strategy").unwrap_or(&Value::None);
    let found = if path.iter().any(|part| part.as_str() == Some("*")) {
        dpath::values(config, &path)?
    } else {
        dpath::get(config, &path)?.into_iter().collect()
    };
    found.into_iter().try_for_each(|value| adheres(strategy, value))
}

fn adheres(strategy: &Value, value: &Value) -> Result<(), Failed> {
    if kind(strategy) != "ValidateAdheresToSchema" {
        let message = format!("the validation strategy `{}` is not supported", kind(strategy));
        return Err(Failed::config("UnsupportedComponent", message));
    }
    let parsed;
    let value = match value {
        // `aam_text`, which only this engine has: the text is the value, and not JSON.
        Value::Str(text) if !strategy.get("aam_text").is_some_and(Value::truthy) => {
            parsed = serde_json::from_str::<Value>(text)
                .map_err(|_| Failed::system("ValueError", format!("Invalid JSON string: {text}")))?;
            &parsed
        }
        other => other,
    };
    match json_schema::best_error(strategy.get("base_schema").unwrap_or(&Value::None), value) {
        None => Ok(()),
        Some(error) => Err(Failed::system("ValueError", format!("JSON schema validation error: {error}"))),
    }
}

#[cfg(test)]
#[path = "config_rules_tests.rs"]
mod tests;

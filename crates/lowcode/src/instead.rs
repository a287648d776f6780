//! What takes the place of custom classes that change how a source is read, but not what it returns: error handlers,
//! backoff strategies and schema normalizations. The CDK's defaults are used, and each place is a warning.

use super::component::{Component, table};
use super::problem::{Problem, Severity, Step, cut, pointer};
use super::validate::validate_component;
use super::value::{Dict, Value};
use std::sync::Arc;

/// The value of `instead` for a component that is removed.
const NOTHING: &str = "nothing";

/// The component that this engine never uses.
const UNUSED: &str = "CustomStateMigration";

/// Values that are data and do not contain components.
const DATA: [&str; 2] = ["InlineSchemaLoader", "Spec"];

/// The classes that were found.
#[derive(Debug, Default)]
pub struct Replaced {
    /// Those that are never used, so that nothing differs without them.
    pub unused: Vec<Problem>,
    /// Those in whose place the source may be read in another way.
    pub differing: Vec<Problem>,
}

/// Replaces the classes in `root`.
pub fn apply(root: &mut Value) -> Replaced {
    let mut pass = Pass { path: Vec::new(), found: Replaced::default() };
    pass.node(root);
    pass.found
}

struct Pass {
    path: Vec<Step>,
    found: Replaced,
}

impl Pass {
    fn node(&mut self, node: &mut Value) {
        match node {
            Value::List(list) => {
                let before = std::mem::take(list);
                for (index, mut item) in before.into_iter().enumerate() {
                    self.path.push(Step::Index(index));
                    if self.replaced(&mut item) {
                        list.push(item);
                    }
                    self.path.pop();
                }
            }
            // A dict that several places still share has no component: those got parameters of their own.
            Value::Dict(dict) if dict.is_shared() => {}
            Value::Dict(dict) if !dict.get("type").and_then(Value::as_str).is_some_and(|kind| DATA.contains(&kind)) => {
                let mut removed: Vec<Arc<str>> = Vec::new();
                for (key, value) in dict.iter_mut() {
                    self.path.push(Step::Key(key.clone()));
                    if !self.replaced(value) {
                        removed.push(key.clone());
                    }
                    self.path.pop();
                }
                for key in removed {
                    dict.shift_remove(&key);
                }
            }
            _ => {}
        }
    }

    /// Replaces the components in `node`, and `node` itself. Returns false if it is to be removed.
    fn replaced(&mut self, node: &mut Value) -> bool {
        self.node(node);
        let Some((class, component)) = custom(node) else { return true };
        let Some(instead) = component.instead.as_deref() else { return true };
        if &*component.name == UNUSED {
            let message = format!("`{UNUSED}` with the class `{class}` is not used: a read without a state migrates nothing");
            self.found.unused.push(self.problem(class, message));
            return false;
        }
        let effect = match instead {
            NOTHING if component.name.ends_with("BackoffStrategy") => "the exponential backoff of the CDK takes its place",
            NOTHING => "values keep the types that the source gave them",
            _ => "the default error handler of the CDK takes its place",
        };
        let message = format!("differs from the CDK here: `{}` runs the class `{class}`; {effect}", component.name);
        self.found.differing.push(self.problem(class, message));
        if instead == NOTHING {
            return false;
        }
        *node = default_of(instead, node);
        true
    }

    fn problem(&self, class: String, message: String) -> Problem {
        let mut problem = Problem::new(Severity::Warning, pointer(&self.path), message);
        problem.class = Some(class);
        problem
    }
}

/// Returns the class and the component type of a custom component.
fn custom(node: &Value) -> Option<(String, &'static Component)> {
    let class = node.get("class_name")?.as_str()?;
    let component = table().component(node.get("type")?.as_str()?).filter(|component| component.custom)?;
    Some((cut(class, 160), component))
}

/// Returns a component of the type `kind` with the fields of the custom one that it also has. Most of these classes
/// extend that component. Without these fields, if they are not valid there.
fn default_of(kind: &str, custom: &Value) -> Value {
    let known = |key: &str| key == "$parameters" || table().component(kind).is_some_and(|it| it.fields.contains_key(key));
    let kept = custom.as_dict().into_iter().flatten().filter(|(key, _)| known(key));
    let of_type = || (Arc::from("type"), Value::str(kind));
    let whole = kept.map(|(key, value)| (key.clone(), value.clone())).chain([of_type()]);
    let whole = Value::Dict(whole.collect::<Dict>());
    match validate_component(kind, &whole).errors.is_empty() {
        true => whole,
        false => Value::Dict(Dict::from_iter([of_type()])),
    }
}

#[cfg(test)]
#[path = "instead_tests.rs"]
mod tests;

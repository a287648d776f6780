//! `$parameters`, and the default types of components that do not state their type.
//!
//! The rules are those of manifest_component_transformer.py, including its pitfalls: a parameter replaces a field
//! whose value is falsy, and it is passed to every nested component, whether or not that component has such a field.

#![expect(clippy::result_large_err, reason = "a problem ends the load, so its size does not matter")]

use super::bounds::Bounds;
use super::component::{Table, table};
use super::problem::{Problem, Step, pointer};
use super::value::{Dict, Value};

const PARAMETERS: &str = "$parameters";

/// Sets the types and parameters of a component and of all components nested in it.
///
/// `parent` and `field` are the position of the component, which determines its default type. `parent_wins` is the
/// `use_parent_parameters` of dynamic streams.
///
/// # Errors
/// Fails if `$parameters` is not an object, or if the manifest exceeds its bounds.
pub fn propagate(
    component: Dict,
    (parent, field): (&str, &str),
    inherited: &Dict,
    parent_wins: bool,
    bounds: &Bounds,
) -> Result<Dict, Problem> {
    let mut walk = Propagator { table: table(), parent_wins, bounds, added: 0, depth: 0, path: Vec::new() };
    walk.component(component, parent, field, inherited)
}

struct Propagator<'b> {
    table: &'static Table,
    parent_wins: bool,
    bounds: &'b Bounds,
    added: usize,
    depth: usize,
    path: Vec<Step>,
}

impl Propagator<'_> {
    fn problem(&self, message: impl Into<String>) -> Problem {
        Problem::error(pointer(&self.path), message)
    }

    fn component(&mut self, mut component: Dict, parent: &str, field: &str, inherited: &Dict) -> Result<Dict, Problem> {
        self.depth += 1;
        if self.depth > self.bounds.depth {
            return Err(self.problem(format!("nested deeper than {}", self.bounds.depth)));
        }
        if !component.contains_key("type") {
            let custom = component.contains_key("class_name");
            if let Some(name) = self.table.default_type(parent, field, custom) {
                component.insert("type".into(), Value::Str(name));
            }
        }
        let own = match component.shift_remove(PARAMETERS) {
            None => None,
            Some(Value::Dict(own)) => Some(own),
            Some(other) => return Err(self.problem("`$parameters` is not an object").found(other.repr())),
        };
        let component = match component.get("type") {
            Some(Value::List(_) | Value::Dict(_)) => component,
            Some(Value::Str(name)) if &**name == "object" => component,
            Some(_) => {
                let parameters = self.parameters(inherited, own)?;
                self.fields(component, parameters)?
            }
            None => {
                if component.values().any(nested) {
                    let parameters = self.parameters(inherited, own)?;
                    for (key, value) in &mut component {
                        if nested(value) {
                            self.path.push(Step::Key(key.clone()));
                            self.place(value, parent, field, &parameters)?;
                            self.path.pop();
                        }
                    }
                }
                component
            }
        };
        self.depth -= 1;
        Ok(component)
    }

    /// Returns the parameters of a component. Its own take precedence over the inherited ones, unless `parent_wins`.
    fn parameters(&mut self, inherited: &Dict, own: Option<Dict>) -> Result<Dict, Problem> {
        let mut all = match own {
            None => inherited.clone(),
            Some(mut own) if self.parent_wins => {
                own.extend(inherited.iter().map(|(key, value)| (key.clone(), value.clone())));
                own
            }
            Some(own) => {
                let mut all = inherited.clone();
                all.extend(own);
                all
            }
        };
        if !all.is_empty() {
            // Parameters are written twice: as fields and under `$parameters`.
            let size = all.values().map(size).fold(0_usize, usize::saturating_add).saturating_mul(2);
            self.added = self.added.saturating_add(size);
            if self.added > self.bounds.manifest_values {
                all.clear();
                let message = format!("more than {} values once parameters are passed down", self.bounds.manifest_values);
                return Err(self.problem(message));
            }
        }
        Ok(all)
    }

    fn fields(&mut self, mut component: Dict, mut parameters: Dict) -> Result<Dict, Problem> {
        for (key, value) in &parameters {
            match component.get_mut(key) {
                Some(old) if old.truthy() => {}
                Some(old) => *old = value.clone(),
                None => {
                    component.insert(key.clone(), value.clone());
                }
            }
        }
        let own_type = component.get("type").map(Value::to_str).unwrap_or_default();
        for (key, value) in &mut component {
            if !matches!(value, Value::Dict(_) | Value::List(_)) {
                continue;
            }
            // The parameter with the field's own name is not passed to the field. If that parameter is falsy, the
            // fields after it do not get it either.
            let excluded = parameters.shift_remove(key);
            self.path.push(Step::Key(key.clone()));
            match value {
                Value::List(list) => {
                    for (index, item) in list.iter_mut().enumerate() {
                        if matches!(item, Value::Dict(_)) {
                            self.path.push(Step::Index(index));
                            self.place(item, &own_type, key, &parameters)?;
                            self.path.pop();
                        }
                    }
                }
                value => self.place(value, &own_type, key, &parameters)?,
            }
            self.path.pop();
            if let Some(excluded) = excluded.filter(Value::truthy) {
                parameters.insert(key.clone(), excluded);
            }
        }
        if !parameters.is_empty() {
            component.insert(PARAMETERS.into(), Value::Dict(parameters));
        }
        Ok(component)
    }

    /// Transforms the object in place.
    fn place(&mut self, slot: &mut Value, parent: &str, field: &str, inherited: &Dict) -> Result<(), Problem> {
        if let Value::Dict(dict) = slot {
            let component = std::mem::take(dict);
            *dict = self.component(component, parent, field, inherited)?;
        }
        Ok(())
    }
}

/// Whether the value is an object with a `type`.
fn nested(value: &Value) -> bool {
    value.get("type").is_some_and(Value::truthy)
}

/// Counts the values in a value, including the value itself.
fn size(value: &Value) -> usize {
    match value {
        Value::List(list) => list.iter().map(size).fold(1, usize::saturating_add),
        Value::Dict(dict) => dict.values().map(size).fold(1, usize::saturating_add),
        _ => 1,
    }
}

#[cfg(test)]
#[path = "parameters_tests.rs"]
mod tests;

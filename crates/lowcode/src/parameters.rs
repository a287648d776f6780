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
    let mut walk = Propagator { table: table(), parent_wins, bounds, added: 0, copied: 0, depth: 0, path: Vec::new() };
    walk.component(component, parent, field, inherited)
}

struct Propagator<'b> {
    table: &'static Table,
    parent_wins: bool,
    bounds: &'b Bounds,
    /// The number of values of parameters that were added.
    added: usize,
    /// The number of values of components, which are copies of their own for each place.
    copied: usize,
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
        // A dict that does not change stays shared with the other places that refer to it.
        let own = component.contains_key(PARAMETERS).then(|| component.shift_remove(PARAMETERS)).flatten();
        let own = match own {
            None => None,
            Some(Value::Dict(own)) => Some(own),
            Some(other) => return Err(self.problem("`$parameters` is not an object").found(other.repr())),
        };
        let component = match component.get("type") {
            Some(Value::List(_) | Value::Dict(_)) => component,
            Some(Value::Str(name)) if &**name == "object" => component,
            Some(_) => {
                self.copy(&component)?;
                let parameters = self.parameters(inherited, own)?;
                self.fields(component, parameters)?
            }
            None => {
                if component.values().any(nested) {
                    self.copy(&component)?;
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

    /// Counts a component that is about to be changed, so that it no longer shares its fields.
    fn copy(&mut self, component: &Dict) -> Result<(), Problem> {
        let size = component.values().map(Value::unshared).fold(1_usize, usize::saturating_add);
        self.copied = self.copied.saturating_add(size);
        if self.copied > self.bounds.manifest_values { Err(self.too_many()) } else { Ok(()) }
    }

    fn too_many(&self) -> Problem {
        self.problem(format!("more than {} values once parameters are passed down", self.bounds.manifest_values))
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
            // Parameters are written twice: as fields and under `$parameters`. What is in them is shared.
            let size = all.values().map(Value::unshared).fold(0_usize, usize::saturating_add).saturating_mul(2);
            self.added = self.added.saturating_add(size);
            if self.added > self.bounds.manifest_values {
                all.clear();
                return Err(self.too_many());
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

#[cfg(test)]
#[path = "parameters_tests.rs"]
mod tests;

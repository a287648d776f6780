//! Validates a manifest against the table of components. It refuses exactly what the CDK's JSON schema refuses.

use super::component::{Component, Kind, Table, table};
use super::problem::{Problem, Severity, Step, cut, pointer};
use super::value::{Dict, Value};

/// The maximum number of errors that are reported. A longer list would not be read.
const PROBLEMS: usize = 200;

/// The maximum number of unsupported components that are collected. It is much larger, because each of them makes a
/// stream unreadable.
const UNSUPPORTED: usize = 20_000;

/// The problems that were found in a manifest.
#[derive(Debug, Default)]
pub struct Findings {
    /// The problems for which the CDK refuses the manifest.
    pub errors: Vec<Problem>,
    /// What the CDK accepts but this engine does not run: custom classes and unsupported components.
    pub unsupported: Vec<Problem>,
    /// Those of them that are used only if the config selects them.
    pub selectable: Vec<Problem>,
}

/// Validates a manifest whose references and parameters have been resolved.
#[must_use]
pub fn validate(root: &Value) -> Findings {
    let mut check = Check { table: table(), path: Vec::new(), found: Findings::default() };
    if let Some(component) = check.table.component("DeclarativeSource") {
        check.component(component, root);
    }
    if let Value::Dict(dict) = root
        && !dict.contains_key("streams")
        && !dict.contains_key("dynamic_streams")
    {
        let problem = check.problem("the manifest has neither `streams` nor `dynamic_streams`");
        check.found.errors.push(problem);
    }
    check.found
}

/// Validates one component.
#[must_use]
pub fn validate_component(name: &str, value: &Value) -> Findings {
    let mut check = Check { table: table(), path: Vec::new(), found: Findings::default() };
    if let Some(component) = check.table.component(name) {
        check.component(component, value);
    }
    check.found
}

struct Check {
    table: &'static Table,
    path: Vec<Step>,
    found: Findings,
}

impl Check {
    fn problem(&self, message: impl Into<String>) -> Problem {
        Problem::error(pointer(&self.path), message)
    }

    fn refuse(&mut self, kind: &Kind, value: &Value) {
        if self.found.errors.len() >= PROBLEMS {
            return;
        }
        let name = match self.path.last() {
            Some(Step::Key(key)) => format!("`{}`", cut(key, 60)),
            _ => "this".into(),
        };
        let named = value.as_str().or_else(|| value.get("type")?.as_str());
        let message = match value.get("type").and_then(Value::as_str) {
            Some(found) if self.table.component(found).is_none() => format!("no component is called `{}`", cut(found, 60)),
            Some(found) => format!("a `{}` cannot stand here", cut(found, 60)),
            None if matches!(value, Value::Dict(_)) && has_component(kind) => format!("{name} needs a `type`"),
            None => format!("{name} cannot be {}", type_words(value)),
        };
        let found = match value.get("type") {
            Some(found) => format!("type: {}", short(found)),
            None => short(value),
        };
        let mut problem = self.problem(message).found(found).allowed(kind.names(self.table), named);
        problem.class = value.get("class_name").and_then(Value::as_str).map(|class| cut(class, 160));
        self.found.errors.push(problem);
    }

    fn kind(&mut self, kind: &Kind, value: &Value) {
        let fits = match (kind, value) {
            (Kind::Any, _)
            | (Kind::String, Value::Str(_))
            | (Kind::Boolean, Value::Bool(_))
            | (Kind::Null, Value::None)
            | (Kind::Object, Value::Dict(_)) => true,
            (Kind::Word(word), Value::Str(text)) => word == text,
            (Kind::Number { integer, at_least, above }, Value::Int(_) | Value::Big(_) | Value::Float(_)) => {
                let number = value.number().unwrap_or(f64::NAN);
                let whole = !integer || !matches!(value, Value::Float(float) if float.fract() != 0.0 || !float.is_finite());
                whole && at_least.is_none_or(|bound| number >= bound) && above.is_none_or(|bound| number > bound)
            }
            (Kind::List { item, at_least, unique }, Value::List(list)) => {
                return self.list((kind, item, *at_least, *unique), value, list);
            }
            (Kind::Map(item), Value::Dict(dict)) => {
                for (key, value) in dict {
                    self.path.push(Step::Key(key.clone()));
                    self.kind(item, value);
                    self.path.pop();
                }
                true
            }
            (Kind::Component(index), value) => {
                if let Some(component) = self.table.components.get(*index) {
                    self.component(component, value);
                }
                true
            }
            (Kind::Either(kinds), value) => {
                self.either(kind, kinds, value);
                true
            }
            _ => false,
        };
        if !fits {
            self.refuse(kind, value);
        }
    }

    fn list(&mut self, (kind, item, at_least, unique): (&Kind, &Kind, usize, bool), value: &Value, list: &[Value]) {
        if list.len() < at_least {
            let problem = self.problem(format!("the list needs at least {at_least} items")).found(short(value));
            self.found.errors.push(problem);
        }
        if unique && list.iter().take(1_000).enumerate().any(|(index, item)| list.iter().take(index).any(|other| other == item)) {
            self.refuse(kind, value);
        }
        for (index, value) in list.iter().enumerate() {
            self.path.push(Step::Index(index));
            self.kind(item, value);
            self.path.pop();
        }
    }

    /// Validates the value against the first kind that fits. If none fits, reports the problems of the kind that was
    /// probably intended.
    fn either(&mut self, kind: &Kind, kinds: &[Kind], value: &Value) {
        let mut meant: Option<Findings> = None;
        for one in kinds {
            if !self.likely(one, value) {
                continue;
            }
            let before = std::mem::take(&mut self.found);
            self.kind(one, value);
            let found = std::mem::replace(&mut self.found, before);
            if found.errors.is_empty() {
                self.found.unsupported.extend(found.unsupported);
                self.found.selectable.extend(found.selectable);
                return;
            }
            // An error deeper inside is more informative than one at the top.
            if meant.as_ref().is_none_or(|meant| depth(&found) > depth(meant)) {
                meant = Some(found);
            }
        }
        match meant {
            Some(found) if depth(&found) > pointer(&self.path).len() || value.get("type").is_some() => {
                self.found.errors.extend(found.errors);
            }
            _ => self.refuse(kind, value),
        }
    }

    /// Whether the value can be of this kind at all. It cannot if its `type` is that of another component.
    fn likely(&self, kind: &Kind, value: &Value) -> bool {
        let Kind::Component(index) = kind else { return true };
        let (Some(component), Value::Dict(dict)) = (self.table.components.get(*index), value) else { return true };
        match dict.get("type") {
            Some(Value::Str(found)) => component.types.is_empty() || component.types.contains(found),
            Some(_) => component.types.is_empty(),
            None => !component.required.iter().any(|name| &**name == "type"),
        }
    }

    fn component(&mut self, component: &'static Component, value: &Value) {
        let Value::Dict(dict) = value else {
            if !component.any_value {
                let index = self.table.components.iter().position(|other| other.name == component.name);
                self.refuse(&index.map_or(Kind::Object, Kind::Component), value);
            }
            return;
        };
        if let Some(found) = dict.get("type")
            && !component.types.is_empty()
            && !component.types.iter().any(|name| found.as_str() == Some(name))
        {
            let kinds = component.types.iter().cloned().map(Kind::Word).collect();
            self.path.push(Step::Key("type".into()));
            self.refuse(&Kind::Either(kinds), found);
            self.path.pop();
            return;
        }
        for name in &component.required {
            if !dict.contains_key(name) {
                let problem = self.missing(component, dict, name);
                self.found.errors.push(problem);
            }
        }
        for (key, value) in dict {
            if let Some(kind) = component.fields.get(key) {
                self.path.push(Step::Key(key.clone()));
                self.kind(kind, value);
                self.path.pop();
            } else if component.closed && &**key != "type" {
                self.unknown_key(component, key);
            }
        }
        if component.custom || !component.supported {
            self.unsupported(component, dict);
        }
        for (field, refused) in &component.refused {
            let Some(found) = dict.get(field).filter(|found| !found.is_none()) else { continue };
            let name = found.as_str().or_else(|| found.get("type").and_then(Value::as_str));
            if refused.as_deref().is_none_or(|refused| name == Some(refused)) {
                let value = refused.as_deref().map(|refused| format!(" {refused}")).unwrap_or_default();
                self.path.push(Step::Key(field.clone()));
                self.note(format!("`{field}`{value} of `{}` is not supported", component.name), None);
                self.path.pop();
            }
        }
    }

    fn missing(&self, component: &Component, dict: &Dict, name: &str) -> Problem {
        // An unknown field with a similar name is probably a typo of the missing field.
        let slip = dict.keys().filter(|key| !component.fields.contains_key(&***key)).map(|key| &**key);
        let slip = super::problem::nearest(name, slip);
        let mut problem = self.problem(format!("`{}` needs the field `{name}`", component.name));
        if let Some(slip) = slip {
            problem = problem.found(format!("`{slip}`"));
            problem.nearest = Some(name.to_owned());
        }
        problem
    }

    fn unknown_key(&mut self, component: &Component, key: &str) {
        self.path.push(Step::Key(key.into()));
        let mut names: Vec<String> = component.fields.keys().map(ToString::to_string).collect();
        names.sort();
        let message = format!("`{}` has no field `{}`", component.name, cut(key, 60));
        let problem = self.problem(message).allowed(names, Some(key));
        self.path.pop();
        self.found.errors.push(problem);
    }

    fn unsupported(&mut self, component: &Component, dict: &Dict) {
        let class = dict.get("class_name").and_then(Value::as_str).map(|class| cut(class, 160)).filter(|_| component.custom);
        let message = match &class {
            Some(class) => format!("`{}` runs the class `{class}`, which only Python can run", component.name),
            None => format!("`{}` is not supported", component.name),
        };
        self.note(message, class);
    }

    fn note(&mut self, message: String, class: Option<String>) {
        let mut problem = self.problem(message);
        problem.severity = Severity::Unsupported;
        problem.class = class;
        let found = match self.path.as_slice() {
            // One of several authenticators, of which the config selects one (`SelectiveAuthenticator`).
            [.., Step::Key(list), Step::Key(_)] if &**list == "authenticators" => {
                problem.message.push_str("; only a config that selects it is refused");
                &mut self.found.selectable
            }
            _ => &mut self.found.unsupported,
        };
        if found.len() < UNSUPPORTED {
            found.push(problem);
        }
    }
}

/// Returns the depth of the deepest error.
fn depth(findings: &Findings) -> usize {
    findings.errors.iter().map(|problem| problem.path.len()).max().unwrap_or_default()
}

fn has_component(kind: &Kind) -> bool {
    match kind {
        Kind::Component(_) => true,
        Kind::Either(kinds) => kinds.iter().any(has_component),
        _ => false,
    }
}

fn type_words(value: &Value) -> &'static str {
    match value {
        Value::None => "null",
        Value::Bool(_) => "a boolean",
        Value::Int(_) | Value::Big(_) | Value::Float(_) => "this number",
        Value::Str(_) => "this string",
        Value::List(_) => "a list",
        Value::Dict(_) => "an object",
    }
}

/// Returns the value on one line. An object shows only its keys, because its content is not the problem here.
fn short(value: &Value) -> String {
    match value {
        Value::Dict(dict) => {
            let keys: Vec<&str> = dict.keys().take(6).map(|key| &**key).collect();
            format!("an object with {}", if keys.is_empty() { "no fields".into() } else { keys.join(", ") })
        }
        Value::List(list) => format!("a list of {}", list.len()),
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;

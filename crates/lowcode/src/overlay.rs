//! Overlays: files beside manifests that name the native component that takes the place of a custom class.
//!
//! ```yaml
//! marks: [api.example.com]      # the manifests that the file is for: those with one of these texts
//! classes:
//!   OwnExtractor:               # the name of the class, with its module or without
//!     instead: {type: DpathExtractor, field_path: [data]}
//! ```
//!
//! A component keeps the fields of the custom one that it also has. In `instead`, `{$field: NAME}` is the value of that
//! field, or of a path like `parents/0/stream`; more keys beside `$field` are merged into it. `instead: nothing` removes the
//! component. `transformations` are put before those of the stream that uses the class. `differs` says what is not the same
//! as with the class.
//!
//! Some overlays are part of this crate ([`shipped`]). They are applied before parameters are propagated, so that the
//! result is validated and built like any other manifest.

#![expect(clippy::result_large_err, reason = "a problem ends the load, so its size does not matter")]

use super::bounds::Bounds;
use super::component::table;
use super::node::text;
use super::problem::{Problem, Severity, Step, cut, pointer};
use super::value::{Dict, Value};
use super::yaml;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};

/// The overlays of this crate: their names and texts.
const SHIPPED: [(&str, &str); 33] = [
    ("amazon-seller-partner", include_str!("overlays/amazon-seller-partner.yaml")),
    ("apify-dataset", include_str!("overlays/apify-dataset.yaml")),
    ("asana", include_str!("overlays/asana.yaml")),
    ("chargebee", include_str!("overlays/chargebee.yaml")),
    ("commercetools", include_str!("overlays/commercetools.yaml")),
    ("fastbill", include_str!("overlays/fastbill.yaml")),
    ("gitlab", include_str!("overlays/gitlab.yaml")),
    ("jira", include_str!("overlays/jira.yaml")),
    ("klaviyo", include_str!("overlays/klaviyo.yaml")),
    ("lever-hiring", include_str!("overlays/lever-hiring.yaml")),
    ("looker", include_str!("overlays/looker.yaml")),
    ("mailchimp", include_str!("overlays/mailchimp.yaml")),
    ("my-hours", include_str!("overlays/my-hours.yaml")),
    ("okta", include_str!("overlays/okta.yaml")),
    ("outreach", include_str!("overlays/outreach.yaml")),
    ("paypal-transaction", include_str!("overlays/paypal-transaction.yaml")),
    ("pinterest", include_str!("overlays/pinterest.yaml")),
    ("public-apis", include_str!("overlays/public-apis.yaml")),
    ("qualaroo", include_str!("overlays/qualaroo.yaml")),
    ("railz", include_str!("overlays/railz.yaml")),
    ("recurly", include_str!("overlays/recurly.yaml")),
    ("retently", include_str!("overlays/retently.yaml")),
    ("salesloft", include_str!("overlays/salesloft.yaml")),
    ("slack", include_str!("overlays/slack.yaml")),
    ("surveymonkey", include_str!("overlays/surveymonkey.yaml")),
    ("the-guardian-api", include_str!("overlays/the-guardian-api.yaml")),
    ("trello", include_str!("overlays/trello.yaml")),
    ("typeform", include_str!("overlays/typeform.yaml")),
    ("xero", include_str!("overlays/xero.yaml")),
    ("zendesk-sunshine", include_str!("overlays/zendesk-sunshine.yaml")),
    ("zendesk-talk", include_str!("overlays/zendesk-talk.yaml")),
    ("zenloop", include_str!("overlays/zenloop.yaml")),
    ("zoom", include_str!("overlays/zoom.yaml")),
];

static ALL: LazyLock<Vec<Overlay>> = LazyLock::new(|| {
    let read = |(name, text): &(&str, &str)| Overlay::parse(text, name, &Bounds::default()).ok();
    SHIPPED.iter().filter_map(read).collect()
});

/// A module that the CDK puts before the names of the classes of a manifest.
const MODULE: &str = "source_declarative_manifest.";

/// The key of a value that comes from the custom component.
const FIELD: &str = "$field";

/// What takes the place of the classes of one source.
#[derive(Clone, Debug, PartialEq)]
pub struct Overlay {
    /// The name of the overlay, for messages.
    pub name: Arc<str>,
    marks: Vec<String>,
    rules: Vec<Rule>,
}

/// What takes the place of one class.
#[derive(Clone, Debug, PartialEq)]
struct Rule {
    class: String,
    /// The component, or `None` if the custom one is removed.
    instead: Option<Dict>,
    transformations: Vec<Value>,
    differs: Option<String>,
}

/// Returns the overlays of this crate.
#[must_use]
pub fn shipped() -> &'static [Overlay] {
    &ALL
}

impl Overlay {
    /// Reads an overlay. `name` stands for it in messages.
    ///
    /// # Errors
    /// Fails if the text is not valid YAML, or if it is not an overlay.
    pub fn parse(text: &str, name: &str, bounds: &Bounds) -> Result<Overlay, Problem> {
        let named = |mut problem: Problem| {
            problem.locate(name, text, None);
            problem
        };
        let root = yaml::parse(text, bounds, false).map_err(named)?.value;
        read(&root, name).map_err(|(path, message)| named(Problem::error(path, message)))
    }

    /// Whether the overlay is for a manifest with this text.
    #[must_use]
    pub fn fits(&self, manifest: &str) -> bool {
        self.marks.is_empty() || self.marks.iter().any(|mark| manifest.contains(mark.as_str()))
    }

    fn rule(&self, class: &str) -> Option<&Rule> {
        let short = class.strip_prefix(MODULE).unwrap_or(class);
        let last = class.rsplit('.').next().unwrap_or(class);
        self.rules.iter().find(|rule| [class, short, last].contains(&rule.class.as_str()))
    }
}

/// A part of an overlay that is not valid: its JSON pointer, and what is wrong.
type Invalid = (String, String);

fn read(root: &Value, name: &str) -> Result<Overlay, Invalid> {
    let at = |path: &str, message: &str| (path.to_owned(), message.to_owned());
    let known = ["marks", "classes"];
    if let Some(other) = root.as_dict().into_iter().flatten().map(|(key, _)| &**key).find(|key| !known.contains(key)) {
        return Err(at(&format!("/{}", cut(other, 60)), "an overlay has the keys `marks` and `classes`"));
    }
    let marks = match root.get("marks") {
        None => Vec::new(),
        Some(marks) => texts(marks).ok_or_else(|| at("/marks", "`marks` is a list of texts"))?,
    };
    let classes = root.get("classes").and_then(Value::as_dict).filter(|classes| !classes.is_empty());
    let classes = classes.ok_or_else(|| at("/classes", "an overlay needs `classes`, with the name of at least one class"))?;
    let rules = classes.iter().map(|(class, rule)| read_rule(class, rule)).collect::<Result<_, _>>()?;
    Ok(Overlay { name: name.into(), marks, rules })
}

fn read_rule(class: &str, rule: &Value) -> Result<Rule, Invalid> {
    let at = |field: &str, message: String| (format!("/classes/{}{field}", cut(class, 120)), message);
    let known = ["instead", "transformations", "differs"];
    if let Some(other) = rule.as_dict().into_iter().flatten().map(|(key, _)| &**key).find(|key| !known.contains(key)) {
        return Err(at("", format!("`{}` is not one of {}", cut(other, 60), known.join(", "))));
    }
    let differs = text(rule, "differs").map(str::to_owned);
    let instead = match rule.get("instead") {
        Some(Value::Str(word)) if &**word == "nothing" && differs.is_some() => None,
        Some(Value::Str(word)) if &**word == "nothing" => {
            return Err(at("", "say with `differs` what is not the same without the class".to_owned()));
        }
        Some(Value::Dict(instead)) => Some(instead.clone()),
        _ => return Err(at("/instead", "`instead` is a component with its `type`, or `nothing`".to_owned())),
    };
    if let Some(instead) = &instead {
        let kind = instead.get("type").and_then(Value::as_str).unwrap_or_default();
        if table().component(kind).is_none_or(|component| component.custom || !component.supported) {
            return Err(at("/instead/type", format!("`{}` is not a component that AAM runs", cut(kind, 60))));
        }
    }
    let transformations = rule.get("transformations").and_then(Value::as_list).unwrap_or_default().to_vec();
    Ok(Rule { class: class.to_owned(), instead, transformations, differs })
}

fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_list()?.iter().map(|text| text.as_str().filter(|text| !text.is_empty()).map(str::to_owned)).collect()
}

/// The classes that were replaced.
#[derive(Debug, Default)]
pub struct Replaced {
    /// Those whose component does the same.
    pub same: Vec<Problem>,
    /// Those whose component does something else, as the overlay says.
    pub differing: Vec<Problem>,
}

/// Replaces the classes of `root` that one of the overlays names; the first overlay wins.
///
/// # Errors
/// Fails if the manifest grows beyond its bounds.
pub fn apply(root: &mut Dict, overlays: &[&Overlay], bounds: &Bounds) -> Result<Replaced, Problem> {
    if overlays.is_empty() {
        return Ok(Replaced::default());
    }
    let mut seen = HashMap::new();
    dict_has_class(root, &mut seen);
    let with_class = seen.into_iter().filter(|(_, has_class)| *has_class).map(|(identity, _)| identity).collect();
    let most = bounds.manifest_values;
    let mut pass =
        Pass { overlays, path: Vec::new(), found: Replaced::default(), added: 0, most, with_class, before: Vec::new() };
    pass.dict(root);
    match pass.added > most {
        true => Err(Problem::error("", format!("more than {} values once classes are replaced", bounds.manifest_values))),
        false => Ok(pass.found),
    }
}

/// Whether the dict or anything in it is a custom component. Each dict is visited once, wherever it is shared.
fn dict_has_class(dict: &Dict, seen: &mut HashMap<usize, bool>) -> bool {
    if let Some(known) = seen.get(&dict.identity()) {
        return *known;
    }
    // All values are visited, because the answer is needed for each of them.
    let found = dict.values().fold(dict.contains_key("class_name"), |found, value| has_class(value, seen) || found);
    seen.insert(dict.identity(), found);
    found
}

fn has_class(value: &Value, seen: &mut HashMap<usize, bool>) -> bool {
    match value {
        Value::Dict(dict) => dict_has_class(dict, seen),
        Value::List(list) => {
            let mut found = false;
            for item in list {
                found |= has_class(item, seen);
            }
            found
        }
        _ => false,
    }
}

struct Pass<'o> {
    overlays: &'o [&'o Overlay],
    path: Vec<Step>,
    found: Replaced,
    /// The number of values that were added or copied, and the bound on it.
    added: usize,
    most: usize,
    /// The identities of the dicts that have a class in them.
    with_class: HashSet<usize>,
    /// The transformations for the stream that is being visited.
    before: Vec<Value>,
}

impl Pass<'_> {
    /// Visits a value. Returns false if it is to be removed.
    fn node(&mut self, node: &mut Value) -> bool {
        match node {
            Value::List(list) => {
                let items = std::mem::take(list).into_iter().enumerate();
                *list = items
                    .filter_map(|(index, mut item)| {
                        self.path.push(Step::Index(index));
                        let stays = self.node(&mut item);
                        self.path.pop();
                        stays.then_some(item)
                    })
                    .collect();
                true
            }
            Value::Dict(dict) => {
                self.dict(dict);
                let class = dict.get("class_name").and_then(Value::as_str).map(|class| cut(class, 160));
                match class {
                    Some(class) => self.replace(node, &class),
                    None => true,
                }
            }
            _ => true,
        }
    }

    fn dict(&mut self, dict: &mut Dict) {
        // Values of a schema and of a spec are data.
        let kind = dict.get("type").and_then(Value::as_str).unwrap_or_default();
        if ["object", "InlineSchemaLoader", "Spec"].contains(&kind) && !dict.contains_key("config_normalization_rules") {
            return;
        }
        // A dict that several places share is copied only if it has a class in it.
        if dict.is_shared() {
            if !self.with_class.contains(&dict.identity()) || self.added > self.most {
                return;
            }
            self.added = self.added.saturating_add(dict.len());
        }
        let is_stream = dict.contains_key("retriever");
        let outer = is_stream.then(|| std::mem::take(&mut self.before));
        let mut removed: Vec<Arc<str>> = Vec::new();
        for (key, value) in dict.iter_mut() {
            self.path.push(Step::Key(key.clone()));
            if !self.node(value) {
                removed.push(key.clone());
            }
            self.path.pop();
        }
        for key in removed {
            dict.shift_remove(&key);
        }
        if let Some(outer) = outer {
            let mut all = std::mem::replace(&mut self.before, outer);
            if !all.is_empty() {
                all.extend(dict.get("transformations").and_then(Value::as_list).unwrap_or_default().iter().cloned());
                dict.insert("transformations".into(), Value::List(all));
            }
        }
    }

    fn replace(&mut self, node: &mut Value, class: &str) -> bool {
        let found = self.overlays.iter().find_map(|overlay| Some((*overlay, overlay.rule(class)?)));
        let (Some((overlay, rule)), Some(custom)) = (found, node.as_dict()) else { return true };
        let kind = rule.instead.as_ref().and_then(|instead| instead.get("type")).and_then(Value::as_str).unwrap_or("nothing");
        let message = format!("the class `{class}`: `{kind}` takes its place (overlay {})", overlay.name);
        let mut problem = Problem::new(Severity::Warning, pointer(&self.path), message);
        problem.class = Some(class.to_owned());
        match &rule.differs {
            Some(differs) => {
                problem.message = format!("differs from the CDK here: {}; {differs}", problem.message);
                self.found.differing.push(problem);
            }
            None => self.found.same.push(problem),
        }
        // A list of alternatives such as a union of routers has one stream, and its class is often used several times.
        let new = rule.transformations.iter().filter(|it| !self.before.contains(it)).cloned().collect::<Vec<_>>();
        self.before.extend(new);
        let Some(instead) = &rule.instead else { return false };
        let made = component(kind, instead, custom);
        self.added = self.added.saturating_add(size(&made));
        *node = made;
        true
    }
}

/// Returns the component of type `kind`, with the fields of the custom one that it also has.
fn component(kind: &str, instead: &Dict, custom: &Dict) -> Value {
    let known = |key: &str| key == "$parameters" || table().component(kind).is_some_and(|it| it.fields.contains_key(key));
    let mut made: Dict = custom.iter().filter(|(key, _)| known(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
    for (key, value) in instead {
        match filled(value, custom) {
            Some(value) => drop(made.insert(key.clone(), value)),
            None => drop(made.shift_remove(key)),
        }
    }
    Value::Dict(made)
}

/// Returns the value with the fields of the custom component in it, or `None` if it is a field that the component lacks.
fn filled(value: &Value, custom: &Dict) -> Option<Value> {
    match value {
        Value::Dict(dict) => {
            let rest = dict.iter().filter(|(key, _)| &***key != FIELD);
            let own: Dict = rest.filter_map(|(key, item)| Some((key.clone(), filled(item, custom)?))).collect();
            match dict.get(FIELD).and_then(Value::as_str) {
                None => Some(Value::Dict(own)),
                Some(path) => {
                    let mut base = lookup(custom, path)?.clone();
                    merge(&mut base, own);
                    Some(base)
                }
            }
        }
        Value::List(list) => Some(Value::List(list.iter().filter_map(|item| filled(item, custom)).collect())),
        other => Some(other.clone()),
    }
}

fn lookup<'v>(custom: &'v Dict, path: &str) -> Option<&'v Value> {
    let mut parts = path.split('/');
    let first = custom.get(parts.next()?)?;
    parts.try_fold(first, |value, part| match value {
        Value::Dict(dict) => dict.get(part),
        Value::List(list) => list.get(part.parse::<usize>().ok()?),
        _ => None,
    })
}

/// Puts `over` into `base`. Objects are merged, other values are replaced.
fn merge(base: &mut Value, over: Dict) {
    let Value::Dict(base) = base else { return };
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(old @ Value::Dict(_)), Value::Dict(new)) => merge(old, new),
            (_, value) => drop(base.insert(key, value)),
        }
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Dict(dict) => dict.values().map(size).fold(1, usize::saturating_add),
        Value::List(list) => list.iter().map(size).fold(1, usize::saturating_add),
        _ => 1,
    }
}

#[cfg(test)]
#[path = "overlay_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "overlay_shared_tests.rs"]
mod shared_tests;

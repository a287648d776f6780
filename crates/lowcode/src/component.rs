//! The table of component types, read from `components.yaml`: which fields a component has and which values they accept.

use super::bounds::Bounds;
use super::value::Value;
use super::yaml;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::read(include_str!("components.yaml")));

/// Returns the table of this engine.
#[must_use]
pub fn table() -> &'static Table {
    &TABLE
}

/// The kind of value that is accepted at some position.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Any,
    String,
    Boolean,
    Null,
    Object,
    Number {
        integer: bool,
        at_least: Option<f64>,
        above: Option<f64>,
    },
    /// Exactly this text.
    Word(Arc<str>),
    List {
        item: Box<Kind>,
        at_least: usize,
        unique: bool,
    },
    /// An object whose values are all of the same kind.
    Map(Box<Kind>),
    /// A component, given as an index into [`Table::components`].
    Component(usize),
    Either(Vec<Kind>),
}

/// One component type.
#[derive(Clone, Debug, Default)]
pub struct Component {
    pub name: Arc<str>,
    /// The accepted values of `type`. Empty if the component has no such field.
    pub types: Vec<Arc<str>>,
    pub fields: HashMap<Arc<str>, Kind>,
    pub required: Vec<Arc<str>>,
    /// Whether a value that is not an object is accepted too.
    pub any_value: bool,
    /// Whether fields that are not in `fields` are forbidden.
    pub closed: bool,
    /// Whether its behaviour is code that the manifest's author wrote.
    pub custom: bool,
    /// What this engine does in place of its class: the type of a component, or `nothing`.
    pub instead: Option<Arc<str>>,
    /// Whether this engine runs it.
    pub supported: bool,
    /// Fields that this engine does not run. With a value, the field is refused only if it has that value.
    pub refused: Vec<(Arc<str>, Option<Arc<str>>)>,
}

/// All component types.
#[derive(Debug, Default)]
pub struct Table {
    pub components: Vec<Component>,
    index: HashMap<Arc<str>, usize>,
    /// Maps the type of the parent to a field and to the default type of the component in that field.
    defaults: HashMap<Arc<str>, HashMap<Arc<str>, Arc<str>>>,
    customs: HashMap<Arc<str>, HashMap<Arc<str>, Arc<str>>>,
}

impl Table {
    /// Returns the type of a component in `field` of a `parent`, for a component that does not state its type.
    #[must_use]
    pub fn default_type(&self, parent: &str, field: &str, has_class: bool) -> Option<Arc<str>> {
        let types = if has_class { &self.customs } else { &self.defaults };
        types.get(parent)?.get(field).cloned()
    }

    /// Returns the component called `name`.
    #[must_use]
    pub fn component(&self, name: &str) -> Option<&Component> {
        self.components.get(*self.index.get(name)?)
    }

    fn read(text: &str) -> Table {
        let root = yaml::parse(text, &Bounds::default(), false).map(|parsed| parsed.value).unwrap_or_default();
        let mut table =
            Table { defaults: types(root.get("default_types")), customs: types(root.get("custom_types")), ..Table::default() };
        let aliases = root.get("aliases").cloned().unwrap_or_default();
        let Some(components) = root.get("components").and_then(Value::as_dict) else { return table };
        table.index = components.keys().enumerate().map(|(index, name)| (name.clone(), index)).collect();
        let known = Names { index: &table.index, aliases: &aliases };
        table.components = components.iter().map(|(name, row)| known.component(name, row)).collect();
        table
    }
}

fn types(rows: Option<&Value>) -> HashMap<Arc<str>, HashMap<Arc<str>, Arc<str>>> {
    let mut all: HashMap<Arc<str>, HashMap<Arc<str>, Arc<str>>> = HashMap::new();
    for (place, name) in rows.and_then(Value::as_dict).into_iter().flatten() {
        if let (Some((parent, field)), Value::Str(name)) = (place.split_once('.'), name) {
            all.entry(parent.into()).or_default().insert(field.into(), name.clone());
        }
    }
    all
}

/// The possible meanings of a name in the table.
struct Names<'t> {
    index: &'t HashMap<Arc<str>, usize>,
    aliases: &'t Value,
}

impl Names<'_> {
    fn component(&self, name: &Arc<str>, row: &Value) -> Component {
        let flag = |key: &str| row.get(key).and_then(Value::as_bool);
        let types = match row.get("type").and_then(Value::as_str) {
            None => vec![name.clone()],
            Some("none") => Vec::new(),
            Some(text) => text.split(" | ").map(|word| Arc::from(word.trim_matches('\''))).collect(),
        };
        let fields = row.get("fields").and_then(Value::as_dict).into_iter().flatten();
        let list = |key: &str| row.get(key).and_then(Value::as_list).unwrap_or_default().iter();
        let (required, refused) = (list("required"), list("refused"));
        let refusal = |text: &str| match text.split_once('=') {
            Some((field, value)) => (Arc::from(field), Some(Arc::from(value))),
            None => (Arc::from(text), None),
        };
        Component {
            name: name.clone(),
            types,
            fields: fields.map(|(key, text)| (key.clone(), self.kind(text.as_str().unwrap_or_default()))).collect(),
            required: required.filter_map(Value::as_str).map(Arc::from).collect(),
            any_value: flag("any_value").unwrap_or(false),
            closed: flag("closed").unwrap_or(false),
            custom: flag("custom").unwrap_or(false),
            instead: row.get("instead").and_then(Value::as_str).map(Arc::from),
            supported: flag("support").unwrap_or(true),
            refused: refused.filter_map(Value::as_str).map(refusal).collect(),
        }
    }

    fn kind(&self, text: &str) -> Kind {
        let mut kinds: Vec<Kind> = split(text).into_iter().map(|part| self.single(part.trim())).collect();
        match kinds.pop() {
            Some(kind) if kinds.is_empty() => kind,
            Some(kind) => {
                kinds.push(kind);
                Kind::Either(kinds)
            }
            None => Kind::Any,
        }
    }

    fn single(&self, text: &str) -> Kind {
        if let Some((inner, rest)) = text.strip_prefix('[').and_then(|text| text.rsplit_once(']')) {
            let mut words = rest.split_whitespace();
            let at_least = if words.next() == Some("min") { words.next().and_then(|word| word.parse().ok()) } else { None };
            let unique = rest.contains("unique");
            return Kind::List { item: Box::new(self.kind(inner)), at_least: at_least.unwrap_or(0), unique };
        }
        if let Some(inner) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
            return Kind::Map(Box::new(self.kind(inner)));
        }
        if let Some(word) = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
            return Kind::Word(word.into());
        }
        let mut words = text.split_whitespace();
        let (name, sign, bound) =
            (words.next().unwrap_or_default(), words.next(), words.next().and_then(|word| word.parse().ok()));
        match name {
            "any" => Kind::Any,
            "string" => Kind::String,
            "boolean" => Kind::Boolean,
            "null" => Kind::Null,
            "object" => Kind::Object,
            "integer" | "number" => Kind::Number {
                integer: name == "integer",
                at_least: bound.filter(|_| sign == Some(">=")),
                above: bound.filter(|_| sign == Some(">")),
            },
            name => match (self.index.get(name), self.aliases.get(name).and_then(Value::as_str)) {
                (Some(index), _) => Kind::Component(*index),
                (None, Some(alias)) => self.kind(alias),
                (None, None) => Kind::Any,
            },
        }
    }
}

/// Splits the text at each `|` that is not inside brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0_usize, 0);
    for (at, char) in text.char_indices() {
        match char {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => {
                parts.push(text.get(from..at).unwrap_or_default());
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(from..).unwrap_or_default());
    parts
}

impl Kind {
    /// The names of what the kind accepts, to be listed in a problem.
    #[must_use]
    pub fn names(&self, table: &Table) -> Vec<String> {
        match self {
            Kind::Any => vec!["anything".into()],
            Kind::String => vec!["a string".into()],
            Kind::Boolean => vec!["true or false".into()],
            Kind::Null => vec!["null".into()],
            Kind::Object => vec!["an object".into()],
            Kind::Number { integer, at_least, above } => {
                let name = if *integer { "an integer" } else { "a number" };
                let least = at_least.map(|bound| format!(" of at least {bound}")).unwrap_or_default();
                let above = above.map(|bound| format!(" above {bound}")).unwrap_or_default();
                vec![format!("{name}{least}{above}")]
            }
            Kind::Word(word) => vec![word.to_string()],
            Kind::List { item, .. } => vec![format!("a list of ({})", item.names(table).join(", "))],
            Kind::Map(item) => vec![format!("an object of ({})", item.names(table).join(", "))],
            Kind::Component(index) => match table.components.get(*index) {
                Some(component) if !component.types.is_empty() => component.types.iter().map(|name| name.to_string()).collect(),
                Some(component) => vec![format!("an object ({})", component.name)],
                None => Vec::new(),
            },
            Kind::Either(kinds) => kinds.iter().flat_map(|kind| kind.names(table)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        let table = table();
        assert_eq!(table.components.len(), 145);
        let rows: usize = table.defaults.values().map(HashMap::len).sum();
        let customs: usize = table.customs.values().map(HashMap::len).sum();
        assert_eq!((rows, customs), (37, 9));
        assert_eq!(table.default_type("DeclarativeStream", "retriever", false).as_deref(), Some("SimpleRetriever"));
        assert_eq!(table.default_type("DeclarativeStream", "retriever", true).as_deref(), Some("CustomRetriever"));
        let list = &table.component("RateLimitedMultipleTokenAuthenticator").unwrap().fields["tokens"];
        let text = Kind::List { item: Box::new(Kind::String), at_least: 1, unique: false };
        assert_eq!(list, &Kind::Either(vec![Kind::String, text]));
    }

    /// Every name in the table must be defined, because an unknown name would silently allow any value.
    #[test]
    fn every_name_in_the_table_is_known() {
        let text = include_str!("components.yaml");
        let root = yaml::parse(text, &Bounds::default(), false).unwrap().value;
        let aliases = root.get("aliases").unwrap();
        let table = table();
        let words = ["any", "string", "boolean", "null", "object", "integer", "number", "min", "unique"];
        for (name, row) in root.get("components").unwrap().as_dict().unwrap() {
            for (field, kind) in row.get("fields").and_then(Value::as_dict).into_iter().flatten() {
                let kind = kind.as_str().unwrap_or_else(|| panic!("{name}.{field}"));
                let plain: String = kind.split('\'').step_by(2).collect();
                for word in plain.split(|char: char| "[]{}|<>= ".contains(char)).filter(|word| !word.is_empty()) {
                    let known = words.contains(&word) || table.component(word).is_some() || aliases.get(word).is_some();
                    assert!(known || word.parse::<f64>().is_ok(), "{name}.{field}: {word}");
                }
            }
        }
    }
}

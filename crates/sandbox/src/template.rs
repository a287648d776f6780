//! Templates: a JSON value whose texts are Jinja. `docs/sandbox.md` names what they can use.

use crate::yaml::{Node, Problems};
use minijinja::value::{Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Expression, State, UndefinedBehavior, Value};
use regex::Regex;
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Undefined names are empty, and texts are not escaped, because most of them are JSON.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(call_method);
    environment.add_filter("pick", pick);
    environment.add_filter("base64", |text: String| {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(text)
    });
    environment.add_filter("iso", |seconds: f64| iso(seconds, "%Y-%m-%dT%H:%M:%SZ"));
    environment.add_filter("http_date", |seconds: f64| iso(seconds, "%a, %d %b %Y %H:%M:%S GMT"));
    environment.add_filter("time", |seconds: f64, format: String| iso(seconds, &format));
    environment
});

/// A time in seconds since 1970 in the form of `strftime`, in UTC.
fn iso(seconds: f64, format: &str) -> Result<String, Error> {
    let invalid = |error: &dyn std::fmt::Display| Error::new(ErrorKind::InvalidOperation, error.to_string());
    let time = jiff::Timestamp::from_millisecond((seconds * 1000.0) as i64).map_err(|error| invalid(&error))?;
    jiff::fmt::strtime::format(format, time).map_err(|error| invalid(&error))
}

/// `items | pick('id', 'name')` and `items | pick(query['$select'])`: these keys of a mapping, or of each of a list. Without
/// names everything stays.
fn pick(value: Value, names: Rest<Value>) -> Result<Value, Error> {
    let names: Vec<String> = names
        .iter()
        .filter_map(|name| name.as_str())
        .flat_map(|name| name.split(','))
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect();
    if names.is_empty() {
        return Ok(value);
    }
    let one = |value: &Value| -> Result<Value, Error> {
        let mut picked = BTreeMap::new();
        for name in &names {
            let field = value.get_attr(name)?;
            if !field.is_undefined() {
                picked.insert(name.clone(), field);
            }
        }
        Ok(Value::from(picked))
    };
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            value.try_iter()?.map(|item| one(&item)).collect::<Result<Vec<Value>, Error>>().map(Value::from)
        }
        _ => one(&value),
    }
}

/// Python's methods of texts and mappings that people write in Jinja.
fn call_method(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let argument = |at: usize| args.get(at).and_then(|value| value.as_str()).map(str::to_owned);
    if let Some(text) = value.as_str() {
        let found = match (method, argument(0), argument(1)) {
            ("startswith", Some(prefix), _) => text.starts_with(&prefix).into(),
            ("endswith", Some(suffix), _) => text.ends_with(&suffix).into(),
            ("lower", ..) => text.to_lowercase().into(),
            ("upper", ..) => text.to_uppercase().into(),
            ("strip", None, _) => text.trim().into(),
            ("strip", Some(chars), _) => text.trim_matches(|c| chars.contains(c)).into(),
            ("replace", Some(from), Some(to)) => text.replace(&from, &to).into(),
            ("split", Some(by), _) if !by.is_empty() => text.split(&by).map(Value::from).collect(),
            ("split", None, _) => text.split_whitespace().map(Value::from).collect(),
            ("removeprefix", Some(prefix), _) => text.strip_prefix(&prefix).unwrap_or(text).into(),
            ("removesuffix", Some(suffix), _) => text.strip_suffix(&suffix).unwrap_or(text).into(),
            ("isdigit", ..) => (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).into(),
            ("join", None, _) if args.len() == 1 => {
                return state.apply_filter("join", &[args[0].clone(), value.clone()]);
            }
            _ => return Err(Error::from(ErrorKind::UnknownMethod)),
        };
        return Ok(found);
    }
    match (method, value.kind()) {
        // What is missing has no parts either, as for attributes: `json.statement.startswith('SELECT')`.
        ("get", ValueKind::Undefined) => Ok(args.get(1).cloned().unwrap_or(Value::UNDEFINED)),
        (_, ValueKind::Undefined) => Ok(Value::UNDEFINED),
        ("get", ValueKind::Map) => {
            let found = args.first().map_or(Ok(Value::UNDEFINED), |key| value.get_item(key))?;
            let default = args.get(1).cloned().unwrap_or(Value::from(()));
            Ok(if found.is_undefined() { default } else { found })
        }
        ("items" | "keys" | "values", ValueKind::Map) => {
            let items = state.apply_filter("items", std::slice::from_ref(value))?;
            let at = match method {
                "items" => return Ok(items),
                "keys" => 0,
                _ => 1,
            };
            items.try_iter()?.map(|pair| pair.get_item_by_index(at)).collect::<Result<Vec<Value>, Error>>().map(Value::from)
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

/// A JSON value whose texts and keys may be templates.
pub enum Template {
    Fixed(Json),
    /// A text that is one expression: the result keeps its type.
    Expression(Expression<'static, 'static>),
    Text(minijinja::Template<'static, 'static>),
    List(Vec<Template>),
    Map(Vec<(Template, Template)>),
    /// `{$for: "{{ list }}", $each: {...}}`: a list of one value for each `item`, with `index` from 0.
    Each {
        list: Box<Template>,
        each: Box<Template>,
    },
}

impl Template {
    /// Compiles `node`. Texts that are not valid templates become problems.
    pub fn new(node: &Node<'_>, problems: &mut Problems) -> Template {
        match node.value {
            Json::String(text) => compile(text).unwrap_or_else(|error| {
                problems.add(&node.pointer, format!("not a valid template: {error}"));
                Template::Fixed(Json::Null)
            }),
            Json::Array(_) => Template::List(node.list(problems).iter().map(|item| Template::new(item, problems)).collect()),
            Json::Object(map) if map.len() == 2 && map.contains_key("$for") && map.contains_key("$each") => {
                let mut list = Template::Fixed(Json::Null);
                let mut each = Template::Fixed(Json::Null);
                for (key, value) in node.entries(problems) {
                    *(if key == "$for" { &mut list } else { &mut each }) = Template::new(&value, problems);
                }
                Template::Each { list: Box::new(list), each: Box::new(each) }
            }
            Json::Object(_) => {
                let mut entries = Vec::new();
                for (key, value) in node.entries(problems) {
                    let key = compile(key).unwrap_or_else(|error| {
                        problems.add(&value.pointer, format!("the key is not a valid template: {error}"));
                        Template::Fixed(key.into())
                    });
                    entries.push((key, Template::new(&value, problems)));
                }
                Template::Map(entries)
            }
            fixed => Template::Fixed(fixed.clone()),
        }
    }

    /// Renders the value; `None` if it is one expression without a value.
    ///
    /// # Errors
    /// Fails if an expression does, for example because it calls a function that does not exist.
    pub fn render(&self, scope: &Scope) -> Result<Option<Json>, Error> {
        self.render_in(&scope.value())
    }

    fn render_in(&self, context: &Value) -> Result<Option<Json>, Error> {
        Ok(Some(match self {
            Template::Fixed(value) => value.clone(),
            Template::Text(template) => template.render(context.clone())?.into(),
            Template::Expression(expression) => {
                let value = expression.eval(context.clone())?;
                if value.is_undefined() {
                    return Ok(None);
                }
                json(&value)?
            }
            Template::List(list) => {
                let mut rendered = Vec::with_capacity(list.len());
                for item in list {
                    rendered.extend(item.render_in(context)?);
                }
                Json::Array(rendered)
            }
            Template::Map(entries) => {
                let mut map = Map::new();
                for (key, value) in entries {
                    if let (Some(key), Some(value)) = (key.render_in(context)?, value.render_in(context)?) {
                        map.insert(text(&key), value);
                    }
                }
                Json::Object(map)
            }
            Template::Each { list, each } => {
                let mut rendered = Vec::new();
                if let Some(Json::Array(items)) = list.render_in(context)? {
                    for (index, item) in items.into_iter().enumerate() {
                        let own = minijinja::context! { item => value(&item), index, ..context.clone() };
                        rendered.extend(each.render_in(&own)?);
                    }
                }
                Json::Array(rendered)
            }
        }))
    }

    /// Renders to text. A missing value and null are empty.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn render_text(&self, scope: &Scope) -> Result<String, Error> {
        Ok(self.render(scope)?.map(|value| text(&value)).unwrap_or_default())
    }

    /// Renders and tells whether the result is true in the sense of Jinja.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn holds(&self, scope: &Scope) -> Result<bool, Error> {
        Ok(self.render(scope)?.is_some_and(|rendered| match rendered {
            Json::String(text) => !matches!(text.trim(), "" | "false" | "False"),
            other => value(&other).is_true(),
        }))
    }
}

/// A JSON value as text: a text itself, everything else as JSON, and null as nothing.
pub fn text(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Null => String::new(),
        value => value.to_string(),
    }
}

/// A JSON value as templates see it.
pub fn value(json: &Json) -> Value {
    Value::from(minijinja::value::Serde(json))
}

pub fn json(value: &Value) -> Result<Json, Error> {
    serde_json::to_value(value).map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}

/// Texts of files are compiled once and used until the process ends.
fn compile(text: &str) -> Result<Template, Error> {
    if !text.contains("{{") && !text.contains("{%") && !text.contains("{#") {
        return Ok(Template::Fixed(text.into()));
    }
    let text = formatted(text);
    let trimmed = text.trim();
    if let Some(inside) = trimmed.strip_prefix("{{").and_then(|text| text.strip_suffix("}}")) {
        let inside = inside.trim_start_matches('-').trim_end_matches('-');
        if let Ok(expression) = ENVIRONMENT.compile_expression_owned(inside.to_owned()) {
            return Ok(Template::Expression(expression));
        }
    }
    let source: &'static str = Box::leak(text.into_boxed_str());
    Ok(Template::Text(ENVIRONMENT.template_from_str(source)?))
}

/// Jinja formats with `'%03d' % n`. This engine has only the filter `format`, so the operator is written as the filter.
fn formatted(text: &str) -> String {
    static OPERATOR: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r#"('[^'{}]*%[^'{}]*'|"[^"{}]*%[^"{}]*")\s*%\s*(\([^()]*\)|[A-Za-z_][\w.]*)"#).ok());
    match &*OPERATOR {
        Some(operator) => operator
            .replace_all(text, |found: &regex::Captures<'_>| {
                let argument = found[2].strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or(&found[2]);
                format!("({}|format({argument}))", &found[1])
            })
            .into_owned(),
        None => text.to_owned(),
    }
}

/// The names that a template can use.
#[derive(Clone, Default)]
pub struct Scope {
    names: BTreeMap<String, Value>,
}

impl Scope {
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.names.insert(name.to_owned(), value.into());
    }

    pub fn set_json(&mut self, name: &str, value: &Json) {
        self.set(name, self::value(value));
    }

    #[must_use]
    pub fn with(&self, name: &str, value: impl Into<Value>) -> Scope {
        let mut scope = self.clone();
        scope.set(name, value);
        scope
    }

    /// The text that a name stands for.
    pub fn text(&self, name: &str) -> Option<String> {
        self.names.get(name).and_then(|value| value.as_str()).map(str::to_owned)
    }

    fn value(&self) -> Value {
        Value::from_pairs(self.names.iter().map(|(name, value)| (name.clone(), value.clone())))
    }
}

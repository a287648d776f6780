//! One call of a vendor's API.

use super::answer;
use crate::pattern::Pattern;
use crate::template::Template;
use crate::yaml::{Node, Problems};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Authentication {
    Required,
    /// A caller without a credential, or with a wrong one, is anonymous.
    Optional,
    None,
}

/// One part of the answer of a route.
pub struct Route {
    /// Its place in the file.
    pub pointer: String,
    pub path: Pattern,
    pub methods: Vec<String>,
    pub host: Option<Pattern>,
    pub when: Option<Template>,
    pub authentication: Authentication,
    /// The kinds of credentials that the call accepts; empty for all.
    pub kinds: Vec<String>,
    /// The query parameters that exist. A `*` at the end of a name stands for anything.
    pub query: Vec<String>,
    /// Parameters of a form or JSON body that exist; `None` if they are not checked.
    pub body: Option<Vec<String>>,
    /// One of these scopes.
    pub needs: Vec<String>,
    /// All of these scopes.
    pub all: Vec<String>,
    /// One of these roles.
    pub roles: Vec<String>,
    pub blind_without: Vec<String>,
    pub list: Option<List>,
    pub keep: Option<Keep>,
    pub named: Option<String>,
    pub status: Option<Template>,
    pub answer: Option<Template>,
    pub headers: Vec<(String, Template)>,
}

/// What a call creates or changes.
pub struct Keep {
    /// The list of the account that the item is added to.
    pub list: String,
    /// An item with the same key is replaced.
    pub key: Template,
    pub item: Template,
}

pub enum ListSource {
    Dataset(String),
    Expression(Template),
}

pub enum Paging {
    None,
    Cursor(String),
    /// The parameter has the number of the first item, or of the page.
    Offset {
        name: String,
        first: u64,
        pages: bool,
    },
}

pub struct List {
    pub source: ListSource,
    pub size: Option<String>,
    pub default: u64,
    pub max: u64,
    pub over_max: Option<answer::Answer>,
    pub paging: Paging,
    /// Where parameters of paging are: `query`, `form` or `json`.
    pub parameters: String,
}

impl Route {
    pub fn parse(node: &Node<'_>, problems: &mut Problems) -> Option<Route> {
        let mut fields = node.fields(problems)?;
        let path = fields.required("path", problems)?;
        let path = pattern(&path, Pattern::path, problems)?;
        let host = fields.get("host").and_then(|node| pattern(&node, Pattern::host, problems));
        let mut methods = fields.texts("method", problems);
        if methods.is_empty() {
            methods.push("GET".to_owned());
        }
        let authentication = match fields.get("auth") {
            None => Authentication::Required,
            Some(node) => match node.value.as_str() {
                Some("required") => Authentication::Required,
                Some("optional") => Authentication::Optional,
                Some("none") => Authentication::None,
                _ => {
                    problems.add(&node.pointer, "auth is required, optional or none");
                    Authentication::Required
                }
            },
        };
        let route = Route {
            pointer: node.pointer.clone(),
            path,
            methods,
            host,
            when: fields.get("when").map(|node| Template::new(&node, problems)),
            authentication,
            kinds: fields.texts("kinds", problems),
            query: fields.texts("query", problems),
            body: fields.get("body").map(|node| node.texts(problems)),
            needs: fields.texts("needs", problems),
            all: fields.texts("all", problems),
            roles: fields.texts("roles", problems),
            blind_without: fields.texts("blind_without", problems),
            list: fields.get("list").and_then(|node| List::parse(&node, problems)),
            keep: fields.get("keep").and_then(|node| Keep::parse(&node, problems)),
            named: fields.text("named", problems),
            status: fields.get("status").map(|node| answer::status(&node, problems)),
            answer: fields.get("answer").map(|node| Template::new(&node, problems)),
            headers: answer::headers(fields.get("headers"), problems),
        };
        fields.finish(problems);
        if route.answer.is_some() && route.named.is_some() {
            problems.add(&node.pointer, "a route has an answer or names one, not both");
        }
        if let Some(List { paging, size, parameters, .. }) = &route.list
            && parameters == "query"
        {
            let paging = match paging {
                Paging::None => None,
                Paging::Cursor(name) | Paging::Offset { name, .. } => Some(name),
            };
            for name in paging.into_iter().chain(size).filter(|name| !route.allows(name)) {
                problems.add(&node.pointer, format!("query does not list the parameter {name} of the list"));
            }
        }
        Some(route)
    }

    pub fn allows(&self, parameter: &str) -> bool {
        self.query.iter().any(|known| match known.strip_suffix('*') {
            Some(prefix) => parameter.starts_with(prefix),
            None => known == parameter,
        })
    }
}

fn pattern(node: &Node<'_>, parse: impl Fn(&str) -> Result<Pattern, String>, problems: &mut Problems) -> Option<Pattern> {
    let text = node.text(problems)?;
    parse(&text).map_err(|error| problems.add(&node.pointer, error)).ok()
}

impl Keep {
    fn parse(node: &Node<'_>, problems: &mut Problems) -> Option<Keep> {
        let mut fields = node.fields(problems)?;
        let list = fields.required("in", problems).and_then(|node| node.text(problems));
        let key = fields.required("key", problems).map(|node| Template::new(&node, problems));
        let item = fields.required("item", problems).map(|node| Template::new(&node, problems));
        fields.finish(problems);
        Some(Keep { list: list?, key: key?, item: item? })
    }
}

impl List {
    fn parse(node: &Node<'_>, problems: &mut Problems) -> Option<List> {
        let mut fields = node.fields(problems)?;
        let source = match (fields.get("of"), fields.get("from")) {
            (Some(of), None) => of.text(problems).map(ListSource::Dataset),
            (None, Some(from)) => Some(ListSource::Expression(Template::new(&from, problems))),
            _ => {
                problems.add(&node.pointer, "a list has either of or from");
                None
            }
        };
        let cursor = fields.text("cursor", problems);
        let offset = fields.text("offset", problems);
        let pages = fields.get("pages").and_then(|node| node.flag(problems));
        let first = fields.number("first", problems);
        // Numbers that begin with 1 are those of pages, unless the file says that they are not (`startIndex` of SCIM).
        let pages = pages.unwrap_or(first == Some(1));
        let paging = match (cursor, offset) {
            (Some(name), None) => Paging::Cursor(name),
            (None, Some(name)) => Paging::Offset { name, first: first.unwrap_or(u64::from(pages)), pages },
            (None, None) => Paging::None,
            (Some(_), Some(_)) => {
                problems.add(&node.pointer, "a list has a cursor or an offset, not both");
                Paging::None
            }
        };
        let default = fields.number("default", problems);
        let max = fields.number("max", problems);
        let list = List {
            source: source?,
            size: fields.text("size", problems),
            default: default.or(max).unwrap_or(u64::MAX).max(1),
            max: max.unwrap_or(u64::MAX).max(1),
            over_max: fields.get("over_max").and_then(|node| answer::Answer::parse(&node, problems)),
            paging,
            parameters: fields.text("parameters", problems).unwrap_or_else(|| "query".to_owned()),
        };
        fields.finish(problems);
        if !["query", "form", "json"].contains(&list.parameters.as_str()) {
            problems.add(&node.pointer, "parameters is query, form or json");
        }
        Some(list)
    }
}

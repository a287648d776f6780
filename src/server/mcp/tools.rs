//! The tools. Their arguments are the parameters of their routes, with the schemas of the OpenAPI document.

use crate::policy::TokenScope;
use crate::server::openapi;
use crate::server::routes::{Access, Method, ROUTES, Route};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rmcp::model::{JsonObject, Tool as Definition, ToolAnnotations};
use serde_json::{Map, Value, json};

/// The items of a list if the caller does not say how many.
const DEFAULT_LIMIT: u64 = 50;

/// A tool and its route.
#[derive(Debug, PartialEq, Eq)]
pub struct Tool {
    pub name: &'static str,
    title: &'static str,
    description: &'static str,
    method: Method,
    path: &'static str,
}

const fn read(name: &'static str, path: &'static str, title: &'static str, description: &'static str) -> Tool {
    Tool { name, title, description, method: Method::Get, path }
}

static TOOLS: [Tool; 10] = [
    read(
        "list_connections",
        "/connections",
        "List connections",
        "List the connections of a namespace with their states, messages and fixes, without steps. Filter by state or source_type; pass next_cursor as cursor for the next page.",
    ),
    read(
        "get_connection",
        "/connections/{id}",
        "Get one connection",
        "Get one connection with the seven steps of its latest check, its error and the fix.",
    ),
    read(
        "get_funnel",
        "/metrics/funnel",
        "Get funnel and blockers",
        "Get how many connections reached each stage, the coverage and whether the service level is met, and what blocks the others, each with a fix.",
    ),
    read(
        "get_catalog",
        "/connections/{id}/catalog",
        "Get the catalog of a connection",
        "Get the streams of a connection with the JSON Schema of their records and their keys.",
    ),
    read(
        "get_drift",
        "/connections/{id}/drift",
        "Get schema changes",
        "Get what changed between a version of the catalog of a connection and the version before it; breaking changes affect consumers.",
    ),
    read(
        "get_plan",
        "/plan",
        "Get the next checks",
        "List the next checks of the connections of a namespace, why they are due, and the calls that they may make.",
    ),
    read(
        "list_privileges",
        "/privileges",
        "List excess privileges",
        "List the connections whose credential can do more than read, with the excess and what takes it away; also how many verdicts are unknown, and why.",
    ),
    read("list_families", "/families", "List families", "List the kinds of systems that can be connected."),
    read(
        "get_family",
        "/families/{name}",
        "Explain a family",
        "Get what an intent and a credential of a family need, how an administrator grants the least privilege, and examples.",
    ),
    Tool {
        name: "verify_connection",
        title: "Check a connection now",
        description: "Check one connection now and wait up to 30 s for the result. The check only reads from the source, and its result is recorded.",
        method: Method::Post,
        path: "/connections/{id}/heal",
    },
];

/// Returns all tools.
pub fn all() -> impl Iterator<Item = &'static Tool> {
    TOOLS.iter()
}

/// Returns the tool with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.name == name)
}

impl Tool {
    /// Returns the route, which is missing only by a defect.
    #[must_use]
    pub fn route(&self) -> Option<&'static Route> {
        ROUTES.iter().find(|route| route.method == self.method && route.path == self.path)
    }

    /// Returns the scope that a call needs.
    #[must_use]
    pub fn scope(&self) -> Option<TokenScope> {
        match self.route()?.access {
            Access::Scope(scope) => Some(scope),
            _ => None,
        }
    }

    /// Returns true if the tool only reads the registry.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.method == Method::Get
    }

    /// Returns the definition for `tools/list`.
    #[must_use]
    pub fn definition(&self) -> Definition {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for argument in self.arguments() {
            if argument.in_path {
                required.push(Value::from(argument.name.clone()));
            }
            properties.insert(argument.name, argument.schema);
        }
        let schema = json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
        let schema: JsonObject = schema.as_object().cloned().unwrap_or_default();
        let read = self.is_read();
        // A check calls the source; everything else is answered from the registry. No tool changes a source.
        let hints = ToolAnnotations::from_raw(Some(self.title.to_string()), Some(read), Some(false), Some(true), Some(!read));
        let mut definition = Definition::new(self.name, self.description, schema);
        definition.title = Some(self.title.to_string());
        definition.annotations = Some(hints);
        definition
    }

    fn arguments(&self) -> Vec<Argument> {
        let parameters = self.route().map(openapi::parameters).unwrap_or_default();
        parameters.iter().filter_map(Argument::from_parameter).collect()
    }

    /// Returns path and query of a call.
    ///
    /// # Errors
    /// Returns a message for an argument that is missing, unknown or of another type.
    pub fn target(&self, arguments: &JsonObject) -> Result<String, String> {
        let known = self.arguments();
        if let Some(unknown) = arguments.keys().find(|name| !known.iter().any(|argument| argument.name == **name)) {
            let names: Vec<&str> = known.iter().map(|argument| argument.name.as_str()).collect();
            let shown: String = unknown.chars().filter(|c| c.is_ascii_graphic()).take(40).collect();
            return Err(format!("{} does not have the argument {shown}; it has {}", self.name, names.join(", ")));
        }
        let (mut path, mut query) = (self.path.to_string(), url::form_urlencoded::Serializer::new(String::new()));
        for argument in &known {
            let value = match arguments.get(&argument.name) {
                None | Some(Value::Null) if argument.is_limit() => DEFAULT_LIMIT.to_string(),
                None | Some(Value::Null) if argument.in_path => return Err(format!("{} is required", argument.name)),
                None | Some(Value::Null) => continue,
                Some(Value::String(text)) => text.clone(),
                Some(Value::Number(number)) => number.to_string(),
                Some(_) => return Err(format!("{} must be a string or a number", argument.name)),
            };
            match argument.in_path {
                // A path is compared as it is sent, so characters that it never contains are encoded and not found.
                true => {
                    path = path.replace(&format!("{{{}}}", argument.parameter), &encoded(&value));
                }
                false => {
                    query.append_pair(&argument.parameter, &value);
                }
            }
        }
        let query = query.finish();
        Ok(if query.is_empty() { path } else { format!("{path}?{query}") })
    }

    /// Halves the number of items of a list. Returns false if it is not a list, or if `body` has one item only.
    pub fn halve_limit(&self, arguments: &mut JsonObject, body: &Value) -> bool {
        if !self.arguments().iter().any(Argument::is_limit) {
            return false;
        }
        let asked = arguments.get("limit").and_then(Value::as_u64).unwrap_or(DEFAULT_LIMIT);
        let items = body.as_object().into_iter().flatten().filter_map(|(_, value)| value.as_array()).map(Vec::len).max();
        let limit = asked.min(items.map_or(asked, |items| items as u64)) / 2;
        arguments.insert("limit".to_string(), limit.into());
        limit > 0
    }
}

/// Encodes a part of a path. Letters, digits and `-._~` stay (RFC 3986, section 2.3).
fn encoded(text: &str) -> String {
    const RESERVED: percent_encoding::AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(text, &RESERVED).to_string()
}

/// An argument of a tool, which is a parameter of its route.
struct Argument {
    name: String,
    parameter: String,
    in_path: bool,
    schema: Value,
}

impl Argument {
    /// Returns `None` for a header.
    fn from_parameter(parameter: &Value) -> Option<Argument> {
        let place = parameter["in"].as_str().filter(|place| *place != "header")?;
        let parameter_name = parameter["name"].as_str()?.to_string();
        let name = if parameter_name == "id" { "connection_id".to_string() } else { parameter_name.clone() };
        let mut schema = inlined(&parameter["schema"]);
        if let Some(about) = parameter["description"].as_str() {
            schema["description"] = match name.as_str() {
                "limit" => format!("the number of items; default: {DEFAULT_LIMIT}").into(),
                _ => about.into(),
            };
        }
        Some(Argument { name, parameter: parameter_name, in_path: place == "path", schema })
    }

    fn is_limit(&self) -> bool {
        self.name == "limit"
    }
}

/// Replaces a reference by what it refers to.
fn inlined(schema: &Value) -> Value {
    let referenced = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()).map(openapi::schema);
    referenced.unwrap_or_else(|| schema.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(tool: &str, arguments: Value) -> Result<String, String> {
        find(tool).expect("a tool").target(arguments.as_object().expect("an object"))
    }

    #[test]
    fn every_tool_has_a_route_with_a_scope_and_says_what_it_does() {
        for tool in all() {
            assert!(tool.scope().is_some(), "{}", tool.name);
            let definition = tool.definition();
            let hints = definition.annotations.expect("annotations");
            assert_eq!(hints.read_only_hint, Some(tool.name != "verify_connection"), "{}", tool.name);
            assert_eq!(hints.destructive_hint, Some(false));
            assert_eq!(definition.input_schema["additionalProperties"], false);
        }
    }

    #[test]
    fn arguments_become_path_and_query() {
        assert_eq!(target("list_connections", json!({"state": "ERROR"})), Ok("/connections?state=ERROR&limit=50".to_string()));
        assert_eq!(target("get_connection", json!({"connection_id": "../x?y"})), Ok("/connections/..%2Fx%3Fy".to_string()));
        assert_eq!(
            target("get_catalog", json!({"connection_id": "a", "limit": 2})),
            Ok("/connections/a/catalog?limit=2".to_string())
        );
        assert_eq!(target("get_connection", json!({})), Err("connection_id is required".to_string()));
        let unknown = target("get_funnel", json!({"namespaces": "a"})).expect_err("unknown");
        assert!(unknown.starts_with("get_funnel does not have the argument namespaces; it has namespace"), "{unknown}");
    }

    #[test]
    fn states_are_listed_in_the_schema_of_the_argument() {
        let definition = find("list_connections").expect("a tool").definition();
        let states = &definition.input_schema["properties"]["state"]["enum"];
        assert_eq!(states.as_array().map(Vec::len), Some(crate::model::State::ALL.len()));
    }

    #[test]
    fn a_list_that_is_too_long_is_halved_down_to_one_item() {
        let tool = find("list_connections").expect("a tool");
        let mut arguments = JsonObject::new();
        let body = json!({"connections": [1, 2, 3, 4, 5, 6, 7, 8]});
        assert!(tool.halve_limit(&mut arguments, &body));
        assert_eq!(arguments["limit"], 4);
        assert!(!tool.halve_limit(&mut arguments, &json!({"connections": [1]})));
        assert!(!find("get_connection").expect("a tool").halve_limit(&mut arguments, &body));
    }
}

//! Schemas in files beside the manifest (`json_file_schema_loader.py`).
//!
//! The interpreter opens no file, so the program that uses it reads them. A schema that was found takes the place of its
//! loader: the stream then has an `InlineSchemaLoader`. A loader whose file was not found keeps its empty schema.

use super::bounds::Bounds;
use super::config::Config;
use super::host::{Host, HostError, HostRequest, HostResponse};
use super::interpolation::{InterpolatedString, Scope};
use super::json;
use super::load::Manifest;
use super::node::{kind, parameters, text};
use super::problem::{Problem, Severity};
use super::value::{Dict, Value};
use futures_util::future::{BoxFuture, FutureExt, ready};
use std::collections::HashMap;
use std::time::Duration;

/// Where a schema is if its loader names no file. In the connectors of the CDK, it is below the folder of their package.
const DEFAULT_PATH: &str = "./schemas/{{ parameters['name'] }}.json";

/// Reads a file by its path below the folder of the manifest. The path has no `.`, `..` or empty parts.
pub type ReadFile<'r> = &'r mut dyn FnMut(&str) -> Option<String>;

/// Puts the schemas of the files that `read` finds into `manifest`. A file that is not a valid schema becomes a warning of
/// the manifest.
pub fn inline(manifest: &mut Manifest, bounds: &Bounds, read: ReadFile<'_>) {
    let mut files = SchemaFiles { read, bounds, known: HashMap::new(), values: 0, warnings: Vec::new() };
    let mut root = std::mem::take(&mut manifest.root);
    files.walk(&mut root, &mut String::new());
    manifest.root = root;
    let warnings = std::mem::take(&mut files.warnings);
    let placed = warnings.into_iter().map(|warning| manifest.placed(warning, bounds)).collect::<Vec<_>>();
    manifest.warnings.extend(placed);
}

struct SchemaFiles<'r> {
    read: ReadFile<'r>,
    bounds: &'r Bounds,
    /// The documents that were read, by path.
    known: HashMap<String, Option<Result<Value, String>>>,
    /// The number of values in the schemas so far.
    values: usize,
    warnings: Vec<Problem>,
}

impl SchemaFiles<'_> {
    /// Looks for loaders. The recursion is as deep as the manifest.
    fn walk(&mut self, node: &mut Value, at: &mut String) {
        let length = at.len();
        match node {
            Value::Dict(_) if kind(node) == "JsonFileSchemaLoader" => self.load(node, at),
            Value::Dict(dict) => {
                for (key, value) in dict.iter_mut().filter(|(key, _)| !matches!(&***key, "schema" | "$parameters")) {
                    at.push('/');
                    at.push_str(&key.replace('~', "~0").replace('/', "~1"));
                    self.walk(value, at);
                    at.truncate(length);
                }
            }
            Value::List(list) => {
                for (index, value) in list.iter_mut().enumerate() {
                    at.push_str(&format!("/{index}"));
                    self.walk(value, at);
                    at.truncate(length);
                }
            }
            _ => {}
        }
    }

    fn load(&mut self, loader: &mut Value, at: &str) {
        let Some(path) = self.path_of(loader) else { return };
        let document = self.document(&path);
        let Some(document) = document else { return };
        match document.and_then(|document| self.resolved(&document, &path)) {
            Ok(schema) => {
                if let Value::Dict(dict) = loader {
                    dict.insert("type".into(), Value::str("InlineSchemaLoader"));
                    dict.insert("schema".into(), schema);
                }
            }
            Err(why) => {
                let message = format!("the schema file {path} cannot be used: {why}");
                self.warnings.push(Problem::new(Severity::Warning, at.to_string(), message));
            }
        }
    }

    /// Returns the path of the file, or `None` if it needs the config or leads elsewhere.
    fn path_of(&self, loader: &Value) -> Option<String> {
        let template = text(loader, "file_path").filter(|it| !it.is_empty()).unwrap_or(DEFAULT_PATH);
        if template.contains("config") {
            return None;
        }
        let (parameters, empty) = (parameters(loader), Value::Dict(Dict::default()));
        let scope = Scope { config: Config::new(&empty), parameters, vars: Vec::new(), host: &NoHost, bounds: self.bounds };
        let path = InterpolatedString::new(template, parameters).eval_str(&scope).ok()?;
        clean(&path)
    }

    fn document(&mut self, path: &str) -> Option<Result<Value, String>> {
        if let Some(known) = self.known.get(path) {
            return known.clone();
        }
        let text = (self.read)(path);
        let document = text.map(|text| match json::parse(&text, self.bounds.depth) {
            Ok(value @ Value::Dict(_)) => Ok(value),
            Ok(_) => Err("it is not a JSON object".to_string()),
            Err(_) => Err("it is not valid JSON".to_string()),
        });
        self.known.insert(path.to_string(), document.clone());
        document
    }

    /// Resolves the references of a schema: to its own parts, and to files in the folder `shared` beside it.
    fn resolved(&mut self, document: &Value, path: &str) -> Result<Value, String> {
        self.resolve(document, (document, path), 0)
    }

    fn resolve(&mut self, node: &Value, (document, path): (&Value, &str), depth: usize) -> Result<Value, String> {
        self.values += 1;
        if depth > self.bounds.depth {
            return Err("its references lead to themselves, or are nested too deeply".to_string());
        }
        if self.values > self.bounds.manifest_values {
            return Err(format!("the schemas have more than {} values", self.bounds.manifest_values));
        }
        match node {
            Value::Dict(dict) => match dict.get("$ref") {
                Some(Value::Str(reference)) => self.follow(reference, (document, path), depth),
                _ => {
                    let mut out = Dict::with_capacity(dict.len());
                    for (key, value) in dict {
                        out.insert(key.clone(), self.resolve(value, (document, path), depth + 1)?);
                    }
                    Ok(Value::Dict(out))
                }
            },
            Value::List(list) => {
                let items = list.iter().map(|item| self.resolve(item, (document, path), depth + 1));
                items.collect::<Result<_, _>>().map(Value::List)
            }
            other => Ok(other.clone()),
        }
    }

    /// The target of a reference, without the definitions that a file has for itself.
    fn follow(&mut self, reference: &str, (document, path): (&Value, &str), depth: usize) -> Result<Value, String> {
        let (file, pointer) = reference.split_once('#').unwrap_or((reference, ""));
        let missing = || format!("the reference {reference} leads nowhere");
        let mut target = match file {
            "" => {
                let target = part(document, pointer).ok_or_else(missing)?;
                self.resolve(target, (document, path), depth + 1)?
            }
            file => {
                let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                let folder = folder.strip_suffix("shared").map_or(folder, |before| before.trim_end_matches('/'));
                let shared = clean(&format!("{folder}/shared/{file}")).ok_or_else(missing)?;
                let other = self.document(&shared).ok_or_else(missing)??;
                let target = part(&other, pointer).ok_or_else(missing)?;
                self.resolve(target, (&other, &shared), depth + 1)?
            }
        };
        match &mut target {
            Value::Dict(dict) => {
                dict.shift_remove("definitions");
                Ok(target)
            }
            _ => Err(format!("the reference {reference} does not lead to an object")),
        }
    }
}

/// Returns the path without what stands for the current folder, or `None` if it leads out of the folder.
fn clean(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let odd = |part: &&str| *part == ".." || part.contains(['\\', '\0', '{', '}']);
    (!parts.is_empty() && !parts.iter().any(odd)).then(|| parts.join("/"))
}

/// Returns the part of a document that a JSON pointer leads to.
fn part<'v>(document: &'v Value, pointer: &str) -> Option<&'v Value> {
    let steps = pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~"));
    super::node::walk(document, steps)
}

/// The host of templates that may use nothing but parameters.
struct NoHost;

impl Host for NoHost {
    fn send(&self, _request: HostRequest) -> BoxFuture<'_, Result<HostResponse, HostError>> {
        ready(Err(HostError::refused("the path of a schema needs no request"))).boxed()
    }

    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::UNIX_EPOCH
    }

    fn pause(&self, _wait: Duration) -> BoxFuture<'_, Result<(), HostError>> {
        ready(Ok(())).boxed()
    }

    fn uuid(&self) -> String {
        String::new()
    }
}

#[cfg(test)]
#[path = "schema_files_tests.rs"]
mod tests;

//! Streams that use a component that this engine does not run. `discover` lists them, but they are never read.
//!
//! Loading the manifest marks the components of these streams. The build code then recognizes them wherever they are
//! used: as a stream, as the parent of another stream, or as the template of a dynamic stream.

use super::error::Failed;
use super::node::text;
use super::problem::{Place, Problem, Severity, cut};
use super::value::Value;

/// The field that marks a component. Apart from `$ref` and `$parameters`, no field of the CDK begins with `$`.
const MARK: &str = "$refused";

/// The field that marks a generated stream whose name cannot be part of a call.
const NAME_MARK: &str = "$refused_name";

/// The error class of the failure.
const UNSUPPORTED: &str = "UnsupportedComponent";

/// A stream that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedStream {
    pub name: String,
    /// JSON pointer of the stream.
    pub path: String,
    /// What the stream would need, with names and places.
    pub problems: Vec<Problem>,
}

impl RefusedStream {
    /// Returns the same information as a warning at the first place.
    #[must_use]
    pub fn warning(&self) -> Problem {
        let reasons: Vec<&str> = self.problems.iter().take(3).map(|it| it.message.as_str()).collect();
        let message = format!("the stream `{}` cannot be read: {}", self.name, reasons.join("; "));
        let first = self.problems.first().cloned();
        let mut warning = Problem::new(Severity::Warning, self.path.clone(), message);
        if let Some(first) = first {
            (warning.file, warning.place, warning.line) = (first.file, first.place, first.line);
        }
        warning
    }
}

/// Whether the problem prevents the whole manifest from running. That is the case for a custom class, without which
/// the CDK cannot run the manifest either, and for a component outside of streams.
#[must_use]
pub fn whole_manifest(problem: &Problem) -> bool {
    problem.class.is_some() || stream_of(&problem.path).is_none()
}

/// Marks the streams of `root` that have a problem, and returns them.
pub fn mark(root: &mut Value, problems: &[Problem]) -> Vec<RefusedStream> {
    let mut all: Vec<RefusedStream> = Vec::new();
    for problem in problems.iter().filter(|it| !whole_manifest(it)) {
        let Some(path) = stream_of(&problem.path).filter(|path| !never_read(&problem.path, path)) else { continue };
        // The problems are grouped by stream.
        match all.last_mut().filter(|last| last.path == path) {
            Some(last) => last.problems.push(problem.clone()),
            None => all.push(RefusedStream { name: String::new(), path, problems: vec![problem.clone()] }),
        }
    }
    for refused in &mut all {
        if let Some(stream) = at(root, &refused.path) {
            refused.name = cut(text(stream, "name").unwrap_or_default(), 200);
            set(stream, &refused.problems);
        }
    }
    all
}

/// Returns why the stream of this component cannot be read, or `None` if it can be.
#[must_use]
pub fn reason(stream: &Value) -> Option<Failed> {
    let by_name = || text(stream, NAME_MARK).map(Failed::refused_name);
    text(stream, MARK).map(|message| Failed::config(UNSUPPORTED, message)).or_else(by_name)
}

/// Marks a generated stream that cannot be called because of the name or the id `name` of the source.
pub fn mark_name(stream: &mut Value, name: &str) {
    if let Value::Dict(dict) = stream {
        dict.insert(NAME_MARK.into(), Value::str(name));
    }
}

/// Returns `None` if the part could not be built because it uses a component that this engine does not run. In that
/// case, `refused` contains the reason.
///
/// # Errors
/// Fails with every other failure.
pub fn part<T>(built: Result<T, Failed>, refused: &mut Option<Failed>) -> Result<Option<T>, Failed> {
    match built {
        Ok(part) => Ok(Some(part)),
        Err(failed) if failed.class == UNSUPPORTED => {
            refused.get_or_insert(failed);
            Ok(None)
        }
        Err(failed) => Err(failed),
    }
}

fn set(stream: &mut Value, problems: &[Problem]) {
    let places = problems.iter().take(3).map(|problem| match problem.place {
        Some(Place { line, column }) => format!("{} ({}:{line}:{column})", problem.message, problem.file),
        None => format!("{} (at {})", problem.message, problem.path),
    });
    let message = Value::from(places.collect::<Vec<_>>().join("; "));
    if let Value::Dict(dict) = stream {
        if let Some(Value::Dict(full)) = dict.get_mut("full_refresh_stream") {
            full.insert(MARK.into(), message.clone());
        }
        dict.insert(MARK.into(), message);
    }
}

/// Returns the path of the stream, or of the stream template, that `path` leads into.
fn stream_of(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let count = match parts.as_slice() {
        ["streams", _, "streams", _, _, ..] => 4,
        ["streams", _, _, ..] => 2,
        ["dynamic_streams", _, "stream_template", _, ..] => 3,
        _ => return None,
    };
    Some(parts.iter().take(count).fold(String::new(), |path, part| format!("{path}/{part}")))
}

/// Whether the problem is in the part of a stream that is used only for reads with a state, which this engine never makes.
fn never_read(problem: &str, stream: &str) -> bool {
    problem.strip_prefix(stream).is_some_and(|rest| rest.starts_with("/incremental_stream/"))
}

fn at<'v>(root: &'v mut Value, path: &str) -> Option<&'v mut Value> {
    path.split('/').skip(1).try_fold(root, |value, part| match value {
        Value::Dict(dict) => dict.get_mut(part),
        Value::List(list) => list.get_mut(part.parse::<usize>().ok()?),
        _ => None,
    })
}

#[cfg(test)]
#[path = "refused_tests.rs"]
mod tests;

//! Streams of which this engine does not run a component: listed by `discover`, never read.
//!
//! Loading marks their components, so that building one knows it wherever it is met: as a stream, as the parent of
//! another, as the template of a dynamic stream.

use super::error::Failed;
use super::node::text;
use super::problem::{Place, Problem, Severity, cut};
use super::value::Value;

/// The mark. Nothing of the CDK begins so, apart from `$ref` and `$parameters`.
const MARK: &str = "$refused";

/// The class of the failure.
const UNSUPPORTED: &str = "UnsupportedComponent";

/// A stream that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedStream {
    pub name: String,
    /// JSON pointer of the stream.
    pub path: String,
    /// What it would need, with names and places.
    pub problems: Vec<Problem>,
}

impl RefusedStream {
    /// The same as a warning at the first place.
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

/// Whether the manifest as a whole cannot run: a class of its author's, which the CDK cannot do without either, or
/// a component outside of streams.
#[must_use]
pub fn whole_manifest(problem: &Problem) -> bool {
    problem.class.is_some() || stream_of(&problem.path).is_none()
}

/// Marks the streams of `root` that have a problem, and lists them.
pub fn mark(root: &mut Value, problems: &[Problem]) -> Vec<RefusedStream> {
    let mut all: Vec<RefusedStream> = Vec::new();
    for problem in problems.iter().filter(|it| !whole_manifest(it)) {
        let Some(path) = stream_of(&problem.path).filter(|path| !never_read(&problem.path, path)) else { continue };
        // The problems come stream by stream.
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

/// Why the stream of this component cannot be read.
#[must_use]
pub fn reason(stream: &Value) -> Option<Failed> {
    text(stream, MARK).map(|message| Failed::config(UNSUPPORTED, message))
}

/// None where building a part failed for a component that this engine does not run: `refused` has why from then on.
///
/// # Errors
/// All other failures.
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

/// The stream, or template of streams, that a path leads into.
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

/// What a stream has for reads with a state alone.
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

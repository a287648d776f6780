//! Streams that use a component or a class that this engine does not run. `discover` lists them, but they are never read.
//!
//! Loading the manifest marks the components of these streams. The build code then recognizes them wherever they are
//! used: as a stream, as the parent of another stream, or as the template of a dynamic stream. A dynamic stream whose
//! resolver cannot run generates nothing.

use super::error::Failed;
use super::node::text;
use super::problem::{Place, Problem, Severity, cut};
use super::value::Value;
use indexmap::IndexMap;

/// The field that marks a component. Apart from `$ref` and `$parameters`, no field of the CDK begins with `$`.
const MARK: &str = "$refused";

/// The part of a manifest that only limits which streams are synchronized at the same time. It is never read here.
const GROUPS: &str = "/stream_groups/";

/// The field that marks a generated stream whose name cannot be part of a call.
const NAME_MARK: &str = "$refused_name";

/// The error class of the failure.
const UNSUPPORTED: &str = "UnsupportedComponent";

/// A stream with its problems: those for which it cannot be read, or those in which it differs from the CDK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamProblems {
    /// The name of the stream. For a dynamic stream, it is the name of the component, or its number.
    pub name: String,
    /// JSON pointer of the stream.
    pub path: String,
    /// The problems, with names and places.
    pub problems: Vec<Problem>,
}

impl StreamProblems {
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

/// Whether the problem prevents the whole manifest from running. That is the case outside of streams.
#[must_use]
pub fn whole_manifest(problem: &Problem) -> bool {
    stream_of(&problem.path).is_none() && !problem.path.starts_with(GROUPS)
}

/// Groups the problems by the stream that they are in. Those that can never matter to a stream are left out.
#[must_use]
pub fn by_stream(root: &Value, problems: &[Problem]) -> Vec<StreamProblems> {
    let mut all: IndexMap<String, StreamProblems> = IndexMap::new();
    for problem in problems {
        let Some(path) = stream_of(&problem.path).filter(|path| !never_read(&problem.path, path)) else { continue };
        let of_stream = all.entry(path.clone()).or_insert_with(|| {
            let name = name_at(root, &path);
            StreamProblems { name, path, problems: Vec::new() }
        });
        of_stream.problems.push(problem.clone());
    }
    all.into_values().collect()
}

/// Returns the name of the stream in which the problem is.
#[must_use]
pub fn stream_name(root: &Value, problem: &Problem) -> Option<String> {
    stream_of(&problem.path).map(|path| name_at(root, &path))
}

/// Marks the streams of `root` that have a problem, and returns them.
pub fn mark(root: &mut Value, problems: &[Problem]) -> Vec<StreamProblems> {
    let all = by_stream(root, problems);
    for refused in &all {
        if let Some(stream) = at(root, &refused.path) {
            set(stream, &refused.problems);
        }
    }
    all
}

/// Whether every stream of `root`, including those that are generated, is refused.
#[must_use]
pub fn all_refused(root: &Value) -> bool {
    let list = |key: &str| root.get(key).and_then(Value::as_list).unwrap_or_default().iter();
    let inner = |stream: &Value| match stream.get("streams").and_then(Value::as_list) {
        Some(list) => list.iter().all(is_marked),
        None => is_marked(stream),
    };
    let template = |it: &Value| is_marked(it) || it.get("stream_template").is_some_and(is_marked);
    list("streams").all(inner) && list("dynamic_streams").all(template)
}

/// The streams that a check reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckedStreams {
    pub streams: Vec<String>,
    /// The streams that the manifest names for its check but that this engine cannot read.
    pub left_out: Vec<String>,
}

/// Returns the streams that a check of the streams `named` reads. A refused stream is left out. If all of them are refused,
/// one other static stream is read in their place: preferably one that makes a GET request and that needs no other stream.
#[must_use]
pub fn to_check(root: &Value, named: &[&str]) -> CheckedStreams {
    let all: Vec<&Value> = root.get("streams").and_then(Value::as_list).unwrap_or_default().iter().collect();
    let inner = all.iter().flat_map(|it| it.get("streams").and_then(Value::as_list).unwrap_or_default());
    let statics: Vec<&Value> = all.iter().copied().chain(inner).collect();
    let is_refused = |name: &&str| statics.iter().any(|it| is_marked(it) && text(it, "name") == Some(name));
    let (left_out, mut streams): (Vec<&str>, Vec<&str>) = named.iter().copied().partition(is_refused);
    if streams.is_empty() && !left_out.is_empty() {
        // A stream with a condition is not always there.
        let clean = || all.iter().copied().filter(|it| !is_marked(it) && it.get("streams").is_none());
        let stand_in = clean().find(|it| is_simple(it)).or_else(|| clean().next());
        streams.extend(stand_in.and_then(|it| text(it, "name")));
    }
    let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
    match streams.is_empty() {
        true => CheckedStreams { streams: owned(left_out), left_out: Vec::new() },
        false => CheckedStreams { streams: owned(streams), left_out: owned(left_out) },
    }
}

fn is_simple(stream: &Value) -> bool {
    let Some(retriever) = stream.get("retriever") else { return false };
    let method = retriever.get("requester").and_then(|it| text(it, "http_method")).unwrap_or("GET");
    method.eq_ignore_ascii_case("GET") && !retriever.get("partition_router").is_some_and(Value::truthy)
}

/// Whether loading marked this component.
#[must_use]
pub fn is_marked(component: &Value) -> bool {
    component.get(MARK).is_some()
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
/// case, `refused` contains the reason. A part of a stream that is refused already may be incomplete in any way.
///
/// # Errors
/// Fails with every other failure.
pub fn part<T>(built: Result<T, Failed>, refused: &mut Option<Failed>) -> Result<Option<T>, Failed> {
    match built {
        Ok(part) => Ok(Some(part)),
        Err(failed) if failed.class == UNSUPPORTED || refused.is_some() => {
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
        ["dynamic_streams", _, _, ..] => 2,
        _ => return None,
    };
    Some(parts.iter().take(count).fold(String::new(), |path, part| format!("{path}/{part}")))
}

/// The parts of a stream that this engine never uses: the stream for reads with a state, and what downloads the files that
/// records name.
const NEVER_READ: [&str; 3] = ["/incremental_stream/", "/file_uploader/", "/full_refresh_stream/file_uploader/"];

/// Whether the problem is in a part of the stream that is never used.
fn never_read(problem: &str, stream: &str) -> bool {
    problem.strip_prefix(stream).is_some_and(|rest| NEVER_READ.iter().any(|part| rest.starts_with(part)))
}

fn name_at(root: &Value, path: &str) -> String {
    let stream = path.split('/').skip(1).try_fold(root, |value, part| match value {
        Value::Dict(dict) => dict.get(part),
        Value::List(list) => list.get(part.parse::<usize>().ok()?),
        _ => None,
    });
    let number = || path.strip_prefix("/dynamic_streams/").map(|number| format!("dynamic_stream_{number}"));
    let name = stream.and_then(|stream| text(stream, "name")).map(|name| cut(name, 200));
    name.or_else(number).unwrap_or_default()
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

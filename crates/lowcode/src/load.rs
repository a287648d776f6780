//! Turns text into a [`Manifest`]: YAML or JSON, references, parameters and validation. Every problem has its place in the text.

#![expect(clippy::result_large_err, reason = "one problem ends the load; none is made where it would cost")]

use super::bounds::Bounds;
use super::instead;
use super::overlay::{self, Overlay, Replaced};
use super::parameters;
use super::problem::{Place, Problem};
use super::refs;
use super::refused::{self, CheckedStreams, StreamProblems};
use super::validate;
use super::value::{Dict, Value};
use super::yaml::{self, ChildPlaces, NodePlaces};
use std::sync::Arc;

/// Parts of a manifest that the engine reads only through references.
const BY_REFERENCE: [&str; 3] = ["definitions", "schemas", "metadata"];

/// A manifest that the CDK would accept.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The manifest with references and parameters resolved. `definitions`, `schemas` and `metadata` are emptied.
    pub root: Value,
    /// What this engine does not run: custom classes and unsupported components. The `spec` command works despite them.
    pub unsupported: Vec<Problem>,
    /// Irregularities of the text that do not prevent the manifest from running.
    pub warnings: Vec<Problem>,
    refused: Vec<StreamProblems>,
    differing: Vec<StreamProblems>,
    classes: Vec<ClassUse>,
    text: Arc<str>,
    file: Arc<str>,
}

impl Manifest {
    /// Checks whether this engine can run the manifest. It may still be unable to read some of the streams.
    ///
    /// # Errors
    /// Fails with the unsupported components and custom classes outside of streams, or with all of them if every stream has
    /// one. Each problem has its name and place.
    pub fn runnable(&self) -> Result<(), Vec<Problem>> {
        let whole: Vec<Problem> = self.unsupported.iter().filter(|it| refused::whole_manifest(it)).cloned().collect();
        match whole.is_empty() {
            true if !self.refused.is_empty() && refused::all_refused(&self.root) => Err(self.unsupported.clone()),
            true => Ok(()),
            false => Err(whole),
        }
    }

    /// Returns the streams that are listed but cannot be read, each with the features that it would need.
    #[must_use]
    pub fn refused_streams(&self) -> &[StreamProblems] {
        &self.refused
    }

    /// Returns the streams in which a default of the CDK takes the place of a custom class. Reading them can differ from
    /// the CDK, for example in how often a request is repeated.
    #[must_use]
    pub fn differing_streams(&self) -> &[StreamProblems] {
        &self.differing
    }

    /// Returns the uses of custom classes, and what this engine does about each.
    #[must_use]
    pub fn classes(&self) -> &[ClassUse] {
        &self.classes
    }

    /// Returns the streams that a check reads: those that the manifest names, without those that this engine cannot read.
    #[must_use]
    pub fn checked_streams(&self) -> CheckedStreams {
        let named = self.root.get("check").and_then(|check| check.get("stream_names")).and_then(Value::as_list);
        let named: Vec<&str> = named.unwrap_or_default().iter().filter_map(Value::as_str).collect();
        refused::to_check(&self.root, &named)
    }

    /// Returns the text as it was given, for a digest.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the file name as the user gave it.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Adds the place in the text to a problem whose `path` points into [`Manifest::root`].
    #[must_use]
    pub fn placed(&self, problem: Problem, bounds: &Bounds) -> Problem {
        let mut problems = vec![problem];
        locate(&mut problems, &self.text, &self.file, bounds);
        problems.pop().unwrap_or_else(|| Problem::error("", ""))
    }
}

/// The use of a custom class in a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassUse {
    pub class: String,
    /// What this engine does about the class, and the place.
    pub problem: Problem,
    /// The stream that uses it, unless it is outside of streams.
    pub stream: Option<String>,
}

/// Loads a manifest. The overlays of this crate replace the classes that they know.
///
/// # Errors
/// Fails with all problems for which the CDK refuses the manifest, in the order of the text.
pub fn load(text: &str, file: &str, bounds: &Bounds) -> Result<Manifest, Vec<Problem>> {
    load_with(text, file, &[], bounds)
}

/// Loads a manifest. Classes are replaced as `overlays` say, and after them those of this crate.
///
/// # Errors
/// Fails like [`load`].
pub fn load_with(text: &str, file: &str, overlays: &[Overlay], bounds: &Bounds) -> Result<Manifest, Vec<Problem>> {
    let (root, mut warnings) = match parse(text, bounds) {
        Ok(parsed) => parsed,
        Err(mut problem) => {
            problem.locate(file, text, None);
            return Err(vec![problem]);
        }
    };
    let resolved = resolved(&root, text, overlays, bounds);
    drop(root);
    let (mut root, mut replaced) = match resolved {
        Ok(resolved) => resolved,
        Err(problem) => return Err(placed(vec![problem], text, file, bounds)),
    };
    let found = validate::validate(&root);
    if !found.errors.is_empty() {
        return Err(placed(found.errors, text, file, bounds));
    }
    for problem in &mut warnings {
        problem.locate(file, text, None);
    }
    let (mut unsupported, mut selectable) = (found.unsupported, found.selectable);
    if !unsupported.is_empty() {
        locate(&mut unsupported, text, file, bounds);
    }
    let refused = refused::mark(&mut root, &unsupported);
    for problems in [&mut replaced.same, &mut replaced.differing, &mut selectable] {
        if !problems.is_empty() {
            locate(problems, text, file, bounds);
        }
    }
    let differing = refused::by_stream(&root, &replaced.differing);
    let mut classes = class_uses(&root, &unsupported);
    for problems in [&selectable, &replaced.differing, &replaced.same] {
        classes.extend(class_uses(&root, problems));
    }
    warnings.extend(ordered(replaced.differing));
    warnings.extend(refused.iter().map(StreamProblems::warning));
    let (text, file) = (text.into(), file.into());
    Ok(Manifest { root, unsupported: ordered(unsupported), warnings, refused, differing, classes, text, file })
}

/// Resolves references, replaces classes and propagates parameters.
fn resolved(root: &Dict, text: &str, own: &[Overlay], bounds: &Bounds) -> Result<(Value, Replaced), Problem> {
    let mut root = refs::resolve(root, &BY_REFERENCE, bounds)?;
    let has_classes = text.contains("class_name");
    let mut found = Replaced::default();
    if has_classes {
        let shipped = overlay::shipped().iter().filter(|overlay| overlay.fits(text));
        let overlays: Vec<&Overlay> = own.iter().filter(|overlay| overlay.fits(text)).chain(shipped).collect();
        found = overlay::apply(&mut root, &overlays, bounds)?;
    }
    let mut root = Value::Dict(parameters::propagate(root, ("", ""), &Dict::default(), false, bounds)?);
    if has_classes {
        let replaced = instead::apply(&mut root);
        found.same.extend(replaced.unused);
        found.differing.extend(replaced.differing);
    }
    Ok((root, found))
}

/// Returns the uses of classes that the problems name.
fn class_uses(root: &Value, problems: &[Problem]) -> Vec<ClassUse> {
    let uses = problems.iter().filter_map(|problem| {
        let class = problem.class.clone()?;
        Some(ClassUse { class, problem: problem.clone(), stream: refused::stream_name(root, problem) })
    });
    uses.collect()
}

fn parse(text: &str, bounds: &Bounds) -> Result<(Dict, Vec<Problem>), Problem> {
    let parsed = match yaml::parse(text, bounds, false) {
        Ok(parsed) => parsed,
        // Some JSON is not valid YAML, for example with tabs before a key.
        Err(problem) => match serde_json::from_str::<Value>(text) {
            Ok(value) if text.len() <= bounds.manifest_bytes => yaml::Parsed { value, ..yaml::Parsed::default() },
            _ => return Err(problem),
        },
    };
    let mut root = match parsed.value {
        Value::Dict(root) => root,
        Value::None => return Err(Problem::error("", "the manifest is empty")),
        other => return Err(Problem::error("", "the manifest is not an object").found(other.repr())),
    };
    if !root.contains_key("type") {
        root.insert("type".into(), Value::str("DeclarativeSource"));
    }
    Ok((root, parsed.warnings))
}

fn placed(mut problems: Vec<Problem>, text: &str, file: &str, bounds: &Bounds) -> Vec<Problem> {
    if !problems.is_empty() {
        locate(&mut problems, text, file, bounds);
    }
    ordered(problems)
}

/// Sorts the problems by their place in the text. A problem in a part that is referenced many times is reported once.
fn ordered(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| problem.place);
    problems.dedup_by(|next, first| next.place.is_some() && next.place == first.place && next.message == first.message);
    problems
}

/// Adds the places to the problems. The text is parsed a second time for this, so that a manifest without problems
/// does not pay for recording places.
fn locate(problems: &mut [Problem], text: &str, file: &str, bounds: &Bounds) {
    let parsed = yaml::parse(text, bounds, true).unwrap_or_default();
    for problem in problems {
        let place = problem.place.or_else(|| find(&parsed.value, &parsed.places, &problem.path));
        problem.locate(file, text, place);
    }
}

/// A node of the text: its value and its place.
#[derive(Clone, Copy)]
struct Node<'m> {
    value: &'m Value,
    places: &'m NodePlaces,
}

/// Finds the place in the text for a path of the resolved manifest. References are followed on the way. A value that
/// came from a parameter gets the place of the component that received it.
fn find(root: &Value, places: &NodePlaces, path: &str) -> Option<Place> {
    let top = Node { value: root, places };
    let mut node = top;
    let mut place = places.place;
    for part in path.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        let Some((next, at)) = step(top, node, &part, 0) else { break };
        node = next;
        place = at.or(place);
    }
    place
}

/// Goes one step down from a node of the text. If the node is a reference, goes down from its target.
fn step<'m>(top: Node<'m>, node: Node<'m>, part: &str, hops: usize) -> Option<(Node<'m>, Option<Place>)> {
    if hops > 50 {
        return None;
    }
    match (node.value, &node.places.children) {
        (Value::Dict(dict), ChildPlaces::Dict(child_places)) => {
            if let (Some(value), Some((key, places))) = (dict.get(part), child_places.get(part)) {
                // An object is shown at its key; a scalar has a place of its own.
                let place =
                    if matches!(value, Value::Dict(_) | Value::List(_)) { Some(*key) } else { places.place.or(Some(*key)) };
                return Some((Node { value, places }, place));
            }
            let (value, (_, places)) = (dict.get("$ref")?, child_places.get("$ref")?);
            step(top, Node { value, places }, part, hops + 1)
        }
        (Value::List(list), ChildPlaces::List(child_places)) => {
            let index: usize = part.parse().ok()?;
            let (value, places) = (list.get(index)?, child_places.get(index)?);
            Some((Node { value, places }, places.place))
        }
        (Value::Str(text), _) if refs::is_ref(text) => {
            let (value, path) = refs::lookup_path(top.value.as_dict()?, text)?;
            let mut places = top.places;
            for part in &path {
                places = match &places.children {
                    ChildPlaces::Dict(child_places) => &child_places.get(part.as_str())?.1,
                    ChildPlaces::List(child_places) => child_places.get(part.parse::<usize>().ok()?)?,
                    ChildPlaces::None => return None,
                };
            }
            step(top, Node { value, places }, part, hops + 1)
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;

//! Specs, catalogs and refusals of the corpus, compared with the CDK.

use super::outcome::Outcome;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use lowcode::bounds::Bounds;
use lowcode::context::{Context, Run};
use lowcode::error::Failed;
use lowcode::host::{Host, HostError, HostRequest, HostResponse};
use lowcode::load::{self, Manifest};
use lowcode::source::SourceBuilder;
use lowcode::value::Value;
use lowcode::{catalog, spec};
use serde_json::Value as Json;
use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

/// How the error of the reference begins where it lacked the code of a class. That code is not part of a manifest.
const NO_CODE: &str = "ValueError: Could not load";

/// Compares all manifests of `data`. The rows are `specs`, `catalogs`, `configs`, `refusals`, `classes` and `clean`.
pub fn run(data: &Path) -> Vec<Outcome> {
    let mut rows = Rows {
        specs: Outcome::new("specs"),
        catalogs: Outcome::new("catalogs"),
        configs: Outcome::new("configs"),
        refused: Outcome::new("refusals"),
        classes: Outcome::new("classes"),
        clean: Outcome::new("clean"),
        coverage: Coverage::default(),
    };
    let mut files: Vec<_> =
        std::fs::read_dir(data.join("catalogs")).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().to_string();
        let expected: Json = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let text = std::fs::read_to_string(data.join("manifests").join(format!("{name}.yaml"))).unwrap();
        rows.manifest(&name, &text, &expected);
    }
    println!("clean: {}", rows.coverage);
    vec![rows.specs, rows.catalogs, rows.configs, rows.refused, rows.classes, rows.clean]
}

struct Rows {
    specs: Outcome,
    catalogs: Outcome,
    configs: Outcome,
    refused: Outcome,
    /// The manifests with a class whose code the reference lacked: it must be named.
    classes: Outcome,
    /// The manifests that load and have a stream that can be read.
    clean: Outcome,
    coverage: Coverage,
}

/// How much of the corpus runs, to be printed.
#[derive(Default)]
struct Coverage {
    manifests: usize,
    loaded: usize,
    whole: usize,
    checked: usize,
    streams: usize,
    readable: usize,
}

impl std::fmt::Display for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Coverage { manifests, loaded, whole, checked, streams, readable } = self;
        write!(f, "of {manifests} manifests, {loaded} have streams that can be read, {whole} have only such streams, and ")?;
        write!(f, "{checked} check the streams that they name; of {streams} streams, {readable} can be read")
    }
}

impl Coverage {
    fn add(&mut self, manifest: &Manifest) {
        let list = |key: &str| manifest.root.get(key).and_then(Value::as_list).unwrap_or_default();
        let inner = list("streams").iter().map(|it| it.get("streams").and_then(Value::as_list).map_or(1, <[Value]>::len));
        let streams = inner.sum::<usize>() + list("dynamic_streams").len();
        let refused = manifest.refused_streams().len();
        self.streams += streams;
        if manifest.runnable().is_ok() {
            self.loaded += 1;
            self.readable += streams.saturating_sub(refused);
            self.whole += usize::from(refused == 0);
            self.checked += usize::from(manifest.checked_streams().left_out.is_empty());
        }
    }
}

impl Rows {
    fn manifest(&mut self, name: &str, text: &str, expected: &Json) {
        let bounds = Bounds::default();
        let loaded = load::load(text, name, &bounds);
        let error = expected.get("error").and_then(Json::as_str).unwrap_or_default();
        let (refused_by_cdk, no_code) = (!error.is_empty(), error.starts_with(NO_CODE));
        self.coverage.manifests += 1;
        let manifest = match loaded {
            Ok(manifest) => manifest,
            Err(problems) => {
                let reason = || format!("{name}: refused: {}", problems.first().map(ToString::to_string).unwrap_or_default());
                if refused_by_cdk && !no_code {
                    self.refused.case(true, String::new);
                } else {
                    self.catalogs.case(false, reason);
                    self.clean.case(false, reason);
                }
                if expected.get("spec").is_some() {
                    self.specs.case(false, reason);
                }
                return;
            }
        };
        self.coverage.add(&manifest);
        if let Some(spec) = expected.get("spec") {
            let ours = spec::message(&manifest).map(|value| serde_json::to_value(&value).unwrap());
            self.specs.case(ours.as_ref().ok() == Some(spec), || format!("{name}: {}", first_difference(&ours, spec)));
        }
        let config: Value = serde_json::from_value(expected.get("config").cloned().unwrap_or_default()).unwrap();
        if let Some(valid) = expected.get("config_valid").and_then(Json::as_bool)
            && expected.get("spec").is_some()
        {
            let ours = spec::validate_config(&manifest, &config);
            self.configs.case(ours.is_ok() == valid, || format!("{name}: expected {valid}, got {ours:?}"));
        }
        let ours = discover(&manifest, &config, &bounds);
        if no_code {
            let class = error.split('`').nth(1).unwrap_or_default();
            let mut classes = manifest.classes().iter();
            self.classes.case(classes.any(|it| it.class.contains(class)), || format!("{name}: {class} is not named"));
        } else if refused_by_cdk {
            self.refused.case(ours.is_err(), || format!("{name}: not refused; the reference says {error}"));
        } else if manifest.runnable().is_ok() {
            let mut catalog = expected.get("catalog").cloned().unwrap_or_default();
            let ours = ours.map(|mut ours| {
                forget_files(&manifest, &mut ours, &mut catalog);
                ours
            });
            self.catalogs.case(ours.as_ref().ok() == Some(&catalog), || format!("{name}: {}", first_difference(&ours, &catalog)));
        }
        if no_code || !refused_by_cdk {
            let problems = || manifest.unsupported.iter().map(|it| it.message.as_str()).collect::<Vec<_>>().join("; ");
            self.clean.case(manifest.runnable().is_ok(), || format!("{name}: {}", problems()));
        }
    }
}

/// The way of the command: the source is built, each schema is asked for, each stream is described.
fn discover(manifest: &Manifest, config: &Value, bounds: &Bounds) -> Result<Json, String> {
    manifest.runnable().map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    let context = Context::new(&manifest.root, config, &Silent, bounds);
    let run = Run::new(&context);
    let catalog = async {
        let source = SourceBuilder::new(context).all_streams(&run).await?;
        let mut streams = Vec::with_capacity(source.streams.len());
        for stream in &source.streams {
            let schema = stream.schema.get(&run).await?;
            let cursor = catalog::cursor_field(&stream.node, &context)?;
            let described = catalog::describe(&stream.node, Cow::Borrowed(&*schema), cursor)?;
            streams.push(serde_json::to_value(described).unwrap_or_default());
        }
        Ok::<_, Failed>(serde_json::json!({ "streams": streams }))
    };
    let catalog = catalog.now_or_never().ok_or("the silent host waits")?;
    catalog.map_err(|failed| format!("{}: {}", failed.class, failed.message))
}

/// The reference read schemas from files that stood beside some manifests and are not in the data, and ran classes that
/// make schemas. The schema of a stream without a loader or with a class is not compared; all else of the stream is.
fn forget_files(manifest: &Manifest, ours: &mut Json, theirs: &mut Json) {
    for (index, stream) in manifest.root.get("streams").and_then(Value::as_list).unwrap_or_default().iter().enumerate() {
        if stream.get("schema_loader").is_none_or(|loader| {
            loader.get("class_name").is_some() || loader.get("type").and_then(Value::as_str) == Some("JsonFileSchemaLoader")
        }) {
            for catalog in [&mut *ours, &mut *theirs] {
                if let Some(stream) = catalog.pointer_mut(&format!("/streams/{index}")).and_then(Json::as_object_mut) {
                    stream.remove("json_schema");
                }
            }
        }
    }
}

/// Where two values differ first.
fn first_difference<E: std::fmt::Debug>(ours: &Result<Json, E>, theirs: &Json) -> String {
    match ours {
        Err(error) => format!("failed: {error:?}").chars().take(400).collect(),
        Ok(ours) => difference(ours, theirs, String::new()).unwrap_or_default().chars().take(400).collect(),
    }
}

fn difference(ours: &Json, theirs: &Json, path: String) -> Option<String> {
    match (ours, theirs) {
        (Json::Object(a), Json::Object(b)) => a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))).find_map(|key| {
            difference(a.get(key).unwrap_or(&Json::Null), b.get(key).unwrap_or(&Json::Null), format!("{path}/{key}"))
        }),
        (Json::Array(a), Json::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(index, (a, b))| difference(a, b, format!("{path}/{index}")))
        }
        (a, b) => (a != b).then(|| format!("{path}: ours {a}, theirs {b}")),
    }
}

/// A host at the frozen time of the corpus that sends nothing.
struct Silent;

impl Host for Silent {
    fn send(&self, _: HostRequest) -> BoxFuture<'_, Result<HostResponse, HostError>> {
        Box::pin(async { Err(HostError::network("the sockets are blocked")) })
    }

    fn now(&self) -> jiff::Timestamp {
        "2025-06-15T12:34:56Z".parse().unwrap()
    }

    fn pause(&self, _: Duration) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async { Ok(()) })
    }

    fn uuid(&self) -> String {
        "00000000-0000-4000-8000-000000000000".into()
    }
}

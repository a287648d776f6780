//! The files of a command: manifest, config, and the bounds that its limit gives.

use super::{Files, secrets};
use ::lowcode::bounds::Bounds;
use ::lowcode::config_rules;
use ::lowcode::context::Limits;
use ::lowcode::error::Failed;
use ::lowcode::host::Host;
use ::lowcode::load::{self, Manifest};
use ::lowcode::problem;
use ::lowcode::protocol::{Control, Level, Message, Out};
use ::lowcode::value::Value;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The key of a config that holds a manifest.
const INJECTED: &str = "__injected_declarative_manifest";
/// A config or a catalog of a person is smaller.
const MOST: u64 = 64 << 20;

/// What a command works with.
pub struct Inputs {
    pub manifest: Manifest,
    pub config: Value,
    pub bounds: Bounds,
    /// The config after migrations, where they changed it.
    migrated: Option<Value>,
    config_file: Option<PathBuf>,
}

/// What is wrong with the files.
pub struct Trouble {
    pub failed: Failed,
    /// For a person, in several lines; may be empty.
    pub report: String,
}

impl Inputs {
    /// Reads the files; secrets of the config are known to the redactor from here on.
    ///
    /// # Errors
    /// A file that cannot be read or is not what it should be, and a manifest that this engine does not run.
    pub fn read(files: &Files, needs_config: bool, limit: Option<usize>, host: &dyn Host) -> Result<Inputs, Trouble> {
        let bounds = bounds(limit);
        let mut config = match &files.config {
            Some(path) => json(path, "config")?,
            None if needs_config => return Err(trouble("a config is needed: --config FILE")),
            None => Value::Dict(Default::default()),
        };
        let injected = match &mut config {
            Value::Dict(dict) => dict.shift_remove(INJECTED),
            _ => return Err(trouble("the config is not a JSON object")),
        };
        let (text, name) = match (&files.manifest, injected) {
            (Some(path), _) => (text(path, bounds.manifest_bytes as u64, "manifest")?, path.display().to_string()),
            (None, Some(manifest)) => (serde_json::to_string(&manifest).unwrap_or_default(), INJECTED.to_string()),
            (None, None) => return Err(trouble(format!("a manifest is needed: --manifest FILE, or {INJECTED} in the config"))),
        };
        let manifest = load::load(&text, &name, &bounds).map_err(|problems| refused(&problems))?;
        let spec = manifest.root.get("spec").and_then(|spec| spec.get("connection_specification"));
        secrets::learn(spec, &config);
        if needs_config {
            manifest.runnable().map_err(|problems| refused(&problems))?;
        }
        let normalised = config_rules::normalise(&manifest, &config, host, &bounds).map_err(Trouble::from)?;
        Ok(Inputs {
            manifest,
            config: normalised.config,
            migrated: normalised.migrated,
            bounds,
            config_file: files.config.clone(),
        })
    }

    /// The name of the manifest's file without its ending: the source type that it is in the policy's folder.
    pub fn source_type(&self) -> String {
        Path::new(self.manifest.file()).file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Where a read stops by itself.
    pub fn limits(&self) -> Limits {
        let bounds = &self.bounds;
        Limits { slices: Some(bounds.slices), pages: Some(bounds.pages), records: Some(bounds.records) }
    }

    /// Tells a config that migrations of the manifest changed. The CDK writes it over the user's file; here the file stays
    /// as it is, because the next run migrates it again.
    pub fn tell_migrated(&self, host: &dyn Host, out: &mut Out<'_>) {
        if let Some(config) = &self.migrated {
            out(Message::Control(Control { config: config.clone(), emitted_at: host.now().as_millisecond() }));
        }
    }

    /// Keeps a config whose refresh token was replaced: the old token is used up. The message on stdout does not hold
    /// the tokens, so the file has to.
    pub fn keep(&self, config: &Value, host: &dyn Host, out: &mut Out<'_>) {
        secrets::learn(self.manifest.root.get("spec").and_then(|spec| spec.get("connection_specification")), config);
        let Some(path) = &self.config_file else { return };
        let (level, words) = match replace(path, &serde_json::to_string_pretty(config).unwrap_or_default()) {
            Ok(()) => (Level::Info, format!("the source replaced its refresh token; {} holds the new one", path.display())),
            Err(error) => (
                Level::Error,
                format!("the source replaced its refresh token, and {} cannot be written: {error}", path.display()),
            ),
        };
        out(Message::log(level, words));
        out(Message::Control(Control { config: config.clone(), emitted_at: host.now().as_millisecond() }));
    }
}

/// Whole or not at all, and with the rights that the file has.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let mut draft = path.as_os_str().to_os_string();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let rights = std::fs::metadata(path)?.permissions();
    std::fs::OpenOptions::new().write(true).create_new(true).open(&draft)?.set_permissions(rights)?;
    std::fs::write(&draft, text).and_then(|()| std::fs::rename(&draft, path)).inspect_err(|_| {
        let _ = std::fs::remove_file(&draft);
    })
}

impl From<Failed> for Trouble {
    fn from(failed: Failed) -> Trouble {
        Trouble { failed, report: String::new() }
    }
}

/// The usual bounds, wider where more records are asked for.
fn bounds(limit: Option<usize>) -> Bounds {
    let mut bounds = Bounds::default();
    if let Some(limit) = limit {
        bounds.records = limit;
        for bound in [&mut bounds.slices, &mut bounds.parent_records, &mut bounds.pages] {
            *bound = limit.max(*bound);
        }
        bounds.calls = bounds.calls.max(limit.saturating_mul(10));
    }
    bounds
}

/// A file of at most `most` bytes of UTF-8.
///
/// # Errors
/// It cannot be read, is longer, or is no text.
pub fn text(path: &Path, most: u64, what: &str) -> Result<String, Trouble> {
    let wrong = |words: String| trouble(format!("the {what} {} {words}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let mut text = String::new();
    file.take(most + 1).read_to_string(&mut text).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    if text.len() as u64 > most {
        return Err(wrong(format!("is longer than {most} bytes")));
    }
    Ok(text)
}

/// A JSON file.
///
/// # Errors
/// It cannot be read or is no JSON.
pub fn json(path: &Path, what: &str) -> Result<Value, Trouble> {
    let text = text(path, MOST, what)?;
    // The words of the parser name line and column and quote nothing.
    serde_json::from_str(&text).map_err(|error| trouble(format!("the {what} {} is no JSON: {error}", path.display())))
}

fn trouble(words: impl Into<String>) -> Trouble {
    Trouble { failed: Failed::config("Manifest", words), report: String::new() }
}

fn refused(problems: &[problem::Problem]) -> Trouble {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Trouble { failed: Failed::config("Manifest", lines.join("\n")), report: problem::render(problems) }
}

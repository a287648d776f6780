//! Reads the input files of a command (manifest and config) and derives the bounds from its limit.

use super::{InputFiles, secrets};
use crate::operator_file::{self, schema_files::SchemaReader};
use crate::policy_loader::{MAX_OVERLAY_BYTES, overlay_path};
use ::lowcode::bounds::Bounds;
use ::lowcode::config_rules;
use ::lowcode::context::Limits;
use ::lowcode::error::Failed;
use ::lowcode::host::Host;
use ::lowcode::load::{self, Manifest};
use ::lowcode::overlay::Overlay;
use ::lowcode::problem;
use ::lowcode::protocol::{Control, Level, Message, Out};
use ::lowcode::schema_files;
use ::lowcode::value::Value;
use std::path::{Path, PathBuf};

/// The config key under which a config may contain a manifest.
const INJECTED: &str = "__injected_declarative_manifest";
/// The maximum size of a config or a catalog.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// The inputs of a command.
pub struct Inputs {
    pub manifest: Manifest,
    pub config: Value,
    pub bounds: Bounds,
    /// The config after migrations, if they changed it.
    migrated: Option<Value>,
    config_file: Option<PathBuf>,
}

/// A problem with the input files.
pub struct Trouble {
    pub failed: Failed,
    /// The problems as people read them, on several lines. May be empty.
    pub report: String,
}

impl Inputs {
    /// Reads the files and registers the secrets of the config with the redactor.
    ///
    /// # Errors
    /// Fails if a file cannot be read or is not valid, or if the engine does not support the manifest.
    pub fn read(files: &InputFiles, needs_config: bool, limit: Option<usize>, host: &dyn Host) -> Result<Inputs, Trouble> {
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
        let overlays = files.manifest.as_deref().map(overlays).transpose()?.unwrap_or_default();
        let mut manifest = load::load_with(&text, &name, &overlays, &bounds).map_err(|problems| refused(&problems))?;
        if let Some(path) = &files.manifest {
            let mut schemas = SchemaReader::beside(path);
            schema_files::inline(&mut manifest, &bounds, &mut |path| schemas.read(path));
        }
        let spec = manifest.root.get("spec").and_then(|spec| spec.get("connection_specification"));
        secrets::learn(spec, &config);
        if needs_config {
            manifest.runnable().map_err(|problems| refused(&problems))?;
        }
        // The specification does not depend on the config, so a rule of the config that cannot run does not hide it.
        let normalised = match needs_config {
            true => config_rules::normalise(&manifest, &config, host, &bounds).map_err(Trouble::from)?,
            false => config_rules::Normalised { config, migrated: None },
        };
        Ok(Inputs {
            manifest,
            config: normalised.config,
            migrated: normalised.migrated,
            bounds,
            config_file: files.config.clone(),
        })
    }

    /// Returns the file name of the manifest without its extension, which is its source type in the policy.
    pub fn source_type(&self) -> String {
        Path::new(self.manifest.file()).file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Returns the limits of a read.
    pub fn limits(&self) -> Limits {
        let bounds = &self.bounds;
        Limits { slices: Some(bounds.slices), pages: Some(bounds.pages), records: Some(bounds.records) }
    }

    /// Prints the config if migrations of the manifest changed it. Unlike Airbyte's CDK, AAM does not overwrite the user's
    /// file, because the next run migrates the config again.
    pub fn tell_migrated(&self, host: &dyn Host, out: &mut Out<'_>) {
        if let Some(config) = &self.migrated {
            out(Message::Control(Control { config: config.clone(), emitted_at: host.now().as_millisecond() }));
        }
    }

    /// Writes a config with a new refresh token back to its file. Without this the new token would be lost, because the
    /// message on stdout does not contain the tokens and the old token is no longer valid.
    pub fn keep(&self, config: &Value, host: &dyn Host, out: &mut Out<'_>) {
        secrets::learn(self.manifest.root.get("spec").and_then(|spec| spec.get("connection_specification")), config);
        let Some(path) = &self.config_file else { return };
        let (level, message) = match replace(path, &serde_json::to_string_pretty(config).unwrap_or_default()) {
            Ok(()) => (Level::Info, format!("the source replaced the refresh token; the new one is in {}", path.display())),
            Err(error) => (
                Level::Error,
                format!("the source replaced the refresh token, but {} could not be written: {error}", path.display()),
            ),
        };
        out(Message::log(level, message));
        out(Message::Control(Control { config: config.clone(), emitted_at: host.now().as_millisecond() }));
    }
}

/// Replaces a file atomically and keeps its permissions.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let mut draft = path.as_os_str().to_os_string();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let permissions = std::fs::metadata(path)?.permissions();
    std::fs::OpenOptions::new().write(true).create_new(true).open(&draft)?.set_permissions(permissions)?;
    std::fs::write(&draft, text).and_then(|()| std::fs::rename(&draft, path)).inspect_err(|_| {
        let _ = std::fs::remove_file(&draft);
    })
}

impl From<Failed> for Trouble {
    fn from(failed: Failed) -> Trouble {
        Trouble { failed, report: String::new() }
    }
}

/// Returns the default bounds, raised if `limit` asks for more records.
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

/// Reads a UTF-8 file of at most `max_bytes` bytes.
///
/// # Errors
/// Fails if the file cannot be read, is too long, or is not UTF-8.
pub fn text(path: &Path, max_bytes: u64, what: &str) -> Result<String, Trouble> {
    let wrong = |reason: String| trouble(format!("the {what} {} {reason}", path.display()));
    operator_file::read_text(path, max_bytes).map_err(|error| wrong(format!("cannot be read: {error}")))
}

/// Reads the overlay beside the manifest, if there is one.
///
/// # Errors
/// Fails if the overlay cannot be read or is not valid.
pub fn overlays(manifest: &Path) -> Result<Vec<Overlay>, Trouble> {
    let path = overlay_path(manifest);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = text(&path, MAX_OVERLAY_BYTES, "overlay")?;
    let overlay = Overlay::parse(&text, &path.display().to_string(), &Bounds::default());
    overlay.map(|overlay| vec![overlay]).map_err(|problem| refused(&[problem]))
}

/// Reads a JSON file.
///
/// # Errors
/// Fails if the file cannot be read or is not valid JSON.
pub fn json(path: &Path, what: &str) -> Result<Value, Trouble> {
    let text = text(path, MAX_JSON_BYTES, what)?;
    // The parser's message contains the line and the column but no text of the file.
    serde_json::from_str(&text).map_err(|error| trouble(format!("the {what} {} is not valid JSON: {error}", path.display())))
}

fn trouble(message: impl Into<String>) -> Trouble {
    Trouble { failed: Failed::config("Manifest", message), report: String::new() }
}

fn refused(problems: &[problem::Problem]) -> Trouble {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Trouble { failed: Failed::config("Manifest", lines.join("\n")), report: problem::render(problems) }
}

//! Reads the policy file and the folder of manifests that it names, as one value.
//!
//! Bytes are compared before anything is parsed, because the loop loads the policy at every wake and it rarely changes.
//! A manifest that cannot be read or is not valid stays in force as it was, because a file that cannot be read was not
//! necessarily removed. Reading blocks, so the loop loads the policy on a thread for blocking calls.

use crate::families::is_source_name;
use crate::families::{self, CustomSources, ManifestFile};
use crate::model::{Digest, FilePlace, Problem};
use crate::operator_file;
use crate::operator_file::schema_files::{SchemaFiles, SchemaReader};
use crate::policy::{LoadedPolicy, Policy, parse};
use lowcode::bounds::Bounds;
use lowcode::overlay::Overlay;
use lowcode::problem::Severity;
use lowcode::source::SharedManifest;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The maximum number of manifests. A folder with more is a mistake.
const MAX_MANIFESTS: usize = 200;
/// The maximum size of the policy file in bytes.
pub const MAX_POLICY_BYTES: u64 = 4 << 20;
/// The maximum size of a manifest in bytes.
pub const MAX_MANIFEST_BYTES: u64 = 8 << 20;
/// A file that was written more recently than this is read again even if its stamp is the same: a second write within
/// one tick of the file system's clock does not change the stamp.
const FRESH: Duration = Duration::from_secs(2);

/// The result of reading the policy file.
pub struct PolicyFile {
    /// Changes whenever the file or a manifest in its folder changes.
    pub digest: Digest,
    pub text: String,
    pub loaded: Result<LoadedPolicy, Vec<Problem>>,
}

/// Reads one policy file repeatedly and reuses what did not change.
pub struct PolicyLoader {
    path: PathBuf,
    /// The last valid policy and its sources. Parts of it are reused if the bytes are equal.
    last: Option<LoadedPolicy>,
    /// What was read from each file of the folder.
    files: BTreeMap<PathBuf, KnownFile>,
}

/// Length, modification time in seconds and nanoseconds, and inode.
type Stamp = (u64, i64, i64, u64);

/// The maximum size of an overlay in bytes.
pub const MAX_OVERLAY_BYTES: u64 = 1 << 20;

#[derive(Clone)]
struct KnownFile {
    /// The stamps of the manifest and of the overlay beside it.
    stamp: (Stamp, Option<Stamp>),
    digest: Digest,
    schemas: SchemaFiles,
    manifest: Result<Arc<ManifestFile>, Vec<Problem>>,
}

/// The content of the folder.
#[derive(Default)]
struct Folder {
    manifests: BTreeMap<String, Arc<ManifestFile>>,
    problems: Vec<Problem>,
    /// Sources whose manifest exists but cannot be used. Their last valid manifest is kept.
    unusable: BTreeSet<String>,
    /// Whether the folder itself cannot be read.
    unreadable: bool,
    /// The names and digests of the files, from which the digest of the folder is computed.
    contents: String,
}

/// Reads the policy file at `path` once, for commands.
#[must_use]
pub fn load(path: &Path) -> PolicyFile {
    PolicyLoader::new(path).load()
}

impl PolicyLoader {
    /// A loader that has not read anything yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> PolicyLoader {
        PolicyLoader { path: path.into(), last: None, files: BTreeMap::new() }
    }

    /// A loader that starts from the policy in force, so that files with the same bytes are not parsed again.
    #[must_use]
    pub fn resume(path: impl Into<PathBuf>, in_force: LoadedPolicy) -> PolicyLoader {
        PolicyLoader { last: Some(in_force), ..PolicyLoader::new(path) }
    }

    /// Reads the policy file and, if it is valid, the manifests. Blocks.
    pub fn load(&mut self) -> PolicyFile {
        let name = self.path.display().to_string();
        let text = match operator_file::read_text(&self.path, MAX_POLICY_BYTES) {
            Ok(text) => text,
            Err(error) => {
                let problem = Problem::new("", format!("the policy cannot be read: {error}"))
                    .in_file(name)
                    .hint("set the path of the file with --policy, or start from the policy.yaml of the project");
                let digest = Digest::from_bytes(error.to_string().as_bytes());
                return PolicyFile { digest, text: String::new(), loaded: Err(vec![problem]) };
            }
        };
        let digest = Digest::from_bytes(text.as_bytes());
        let known = self.last.as_ref().map(|last| &last.policy).filter(|policy| policy.digest == digest);
        match known.map_or_else(|| parse::parse(&text, &name).map(Arc::new), |policy| Ok(Arc::clone(policy))) {
            Err(problems) => PolicyFile { digest, text, loaded: Err(problems) },
            Ok(policy) => {
                let (loaded, contents) = self.with_manifests(policy);
                PolicyFile { digest: Digest::from_bytes(format!("{contents}{text}").as_bytes()), text, loaded: Ok(loaded) }
            }
        }
    }

    /// Returns `policy` with the manifests of its folder, and a digest of the content of the folder. Blocks.
    pub fn with_manifests(&mut self, policy: Arc<Policy>) -> (LoadedPolicy, Digest) {
        let Some(dir) = &policy.manifests.dir else {
            self.files.clear();
            let loaded = LoadedPolicy::new(policy);
            self.last = Some(loaded.clone());
            return (loaded, Digest::default());
        };
        let before = self.last.take().filter(|last| last.policy.manifests.dir == policy.manifests.dir).map(|last| last.sources);
        let mut folder = self.read_folder(dir, before.as_deref());
        let contents = Digest::from_bytes(folder.contents.as_bytes());
        for (name, manifest) in before.iter().flat_map(|before| before.manifests()) {
            if (folder.unreadable || folder.unusable.contains(name)) && !folder.manifests.contains_key(name) {
                folder.manifests.insert(name.clone(), Arc::clone(manifest));
            }
        }
        let sources = CustomSources::new(policy.manifests.sources.keys().cloned(), folder.manifests, folder.problems)
            .with_served(policy.served_sources());
        // If the sources did not change, the same allocation is returned, so that callers can compare pointers.
        let sources = before.filter(|before| **before == sources).unwrap_or_else(|| Arc::new(sources));
        let loaded = LoadedPolicy { policy, sources };
        self.last = Some(loaded.clone());
        (loaded, contents)
    }

    fn read_folder(&mut self, dir: &Path, before: Option<&CustomSources>) -> Folder {
        let mut folder = Folder::default();
        match manifest_files(dir) {
            Err(problem) => {
                folder.contents.push_str(&problem.message);
                folder.unreadable = true;
                folder.problems.push(problem);
            }
            Ok(paths) => {
                let known = std::mem::take(&mut self.files);
                for path in paths {
                    if let Some(file) = add_file(&path, known.get(&path), before, &mut folder) {
                        self.files.insert(path, file);
                    }
                }
            }
        }
        folder
    }
}

/// Returns `policy` with manifests that were read from elsewhere than the file system: the path, the name for messages and
/// the text of each. Files that could not be manifests are left out.
#[must_use]
pub fn from_texts(policy: Arc<Policy>, files: Vec<(String, String, String)>) -> LoadedPolicy {
    let (mut manifests, mut problems) = (BTreeMap::new(), Vec::new());
    let texts: BTreeMap<&Path, &str> = files.iter().map(|(path, _, text)| (Path::new(path), text.as_str())).collect();
    for (path, file, text) in &files {
        let path = Path::new(path);
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if !is_manifest(path) || families::exists(&name) || !is_source_name(&name) || manifests.len() >= MAX_MANIFESTS {
            continue;
        }
        let beside = overlay_path(path);
        let overlay = texts.get(beside.as_path()).copied();
        let parsed = parse_overlay(overlay, &beside)
            .and_then(|overlays| parse_whole(text, &overlays, file, digest_of(text, overlay), None));
        match parsed {
            Ok(manifest) => drop(manifests.insert(name, Arc::new(manifest))),
            Err(found) => problems.extend(found),
        }
    }
    let sources =
        CustomSources::new(policy.manifests.sources.keys().cloned(), manifests, problems).with_served(policy.served_sources());
    LoadedPolicy { policy, sources: Arc::new(sources) }
}

/// Returns the path of the overlay of a manifest, which stands beside it: `okta.overlay.yaml` for `okta.yaml`.
#[must_use]
pub fn overlay_path(manifest: &Path) -> PathBuf {
    manifest.with_extension(OVERLAY_EXTENSION)
}

/// How the name of an overlay ends.
const OVERLAY_EXTENSION: &str = "overlay.yaml";

/// Whether a file of the folder is a manifest, by its name.
fn is_manifest(path: &Path) -> bool {
    if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(OVERLAY_EXTENSION)) {
        return false;
    }
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    matches!(extension, "yaml" | "yml" | "json") && !hidden
}

/// The problems of `files.roots` on this machine. They do not make a policy invalid, because a folder may be mounted later,
/// but no file below such a root can be read.
#[must_use]
pub fn root_problems(policy: &Policy) -> Vec<Problem> {
    policy.files.roots.iter().filter_map(|root| folder_problem("files.roots", root)).collect()
}

/// As [`root_problems`], for the folders of `credentials.files`, and for `credentials.secrets_dir` if it exists: it is
/// created when the first secret is stored. Blocks while a mount does not answer.
#[must_use]
pub fn credential_folder_problems(policy: &Policy) -> Vec<Problem> {
    let credentials = &policy.credentials;
    let mut problems: Vec<Problem> =
        credentials.files.iter().filter_map(|folder| folder_problem("credentials.files", folder)).collect();
    let secrets_dir = &credentials.secrets_dir;
    if is_unexpanded(secrets_dir) || secrets_dir.exists() {
        problems.extend(folder_problem("credentials.secrets_dir", secrets_dir));
    }
    let real: Vec<Option<PathBuf>> = credentials.files.iter().map(|folder| folder.canonicalize().ok()).collect();
    for (at, folder) in real.iter().enumerate().filter(|(_, folder)| folder.is_some()) {
        if let (Some(first), Some(other)) = (
            real.iter().take(at).position(|earlier| earlier == folder).and_then(|at| credentials.files.get(at)),
            credentials.files.get(at),
        ) {
            let message =
                format!("{} and {} are the same folder, so each file in it has two locators", first.display(), other.display());
            problems.push(Problem::new("/credentials/files", message).hint("remove one of the two"));
        }
    }
    problems
}

fn is_unexpanded(path: &Path) -> bool {
    let text = path.to_string_lossy();
    text.starts_with('~') || text.starts_with('$')
}

/// The problem of a folder that the key `key` of the policy names.
fn folder_problem(key: &str, folder: &Path) -> Option<Problem> {
    let (message, hint) = if is_unexpanded(folder) {
        (format!("is not expanded: AAM reads ~ and $NAME in {key} as they are written"), "write the whole path")
    } else if !folder.exists() {
        (
            "does not exist".to_string(),
            "create or mount the folder, or correct the path; a relative path starts at the working directory of aam",
        )
    } else if !folder.is_dir() {
        ("is not a folder".to_string(), "write the folder that holds the files")
    } else {
        return None;
    };
    let pointer = format!("/{}", key.replace('.', "/"));
    Some(Problem::new(pointer, format!("{} {message}", folder.display())).hint(hint))
}

/// The manifests of `dir`, ordered by name.
fn manifest_files(dir: &Path) -> Result<Vec<PathBuf>, Problem> {
    let unreadable = |error: std::io::Error| {
        Problem::new("/manifests/dir", format!("the folder of manifests cannot be read: {error}"))
            .in_file(dir.display().to_string())
            .hint("create the folder, or correct manifests.dir in the policy; the last valid manifests stay in force")
    };
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if is_manifest(&path) {
            all.push(path);
        }
    }
    all.sort();
    Ok(all)
}

/// Adds one file to `folder` and returns what to remember of it.
fn add_file(path: &Path, known: Option<&KnownFile>, before: Option<&CustomSources>, folder: &mut Folder) -> Option<KnownFile> {
    let file = path.display().to_string();
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let mut refuse = |message: String, hint: &str| {
        folder.problems.push(Problem::new("", message).in_file(file.clone()).hint(hint));
        None
    };
    if families::exists(&name) {
        return refuse(format!("{name} is a built-in family"), "give the manifest another name");
    }
    if !is_source_name(&name) {
        let hint = "start with a lower-case letter, then lower-case letters, digits and _, 2 to 63 characters";
        return refuse("invalid source name".to_string(), hint);
    }
    if folder.manifests.contains_key(&name) || folder.unusable.contains(&name) {
        return refuse(format!("there are two manifests for {name}"), "remove one of the two");
    }
    if folder.manifests.len() + folder.unusable.len() >= MAX_MANIFESTS {
        return refuse(format!("there are more than {MAX_MANIFESTS} manifests"), "remove manifests that are not used");
    }
    let read = match read(path, &file, known, before.and_then(|before| before.manifest(&name))) {
        Ok(read) => read,
        Err(why) => {
            refuse(format!("the manifest cannot be read: {why}"), "correct the file; the last valid manifest stays in force");
            folder.contents.push_str(&format!("{name} {why};"));
            folder.unusable.insert(name);
            return None;
        }
    };
    folder.contents.push_str(&format!("{name} {}{};", read.digest, read.schemas.mark()));
    match &read.manifest {
        Ok(manifest) => drop(folder.manifests.insert(name, Arc::clone(manifest))),
        Err(problems) => {
            folder.problems.extend(problems.iter().cloned());
            folder.unusable.insert(name);
        }
    }
    Some(read)
}

/// Reads one manifest and the overlay beside it, unless their stamps are those of `known`, and parses them, unless their bytes
/// are those of `known` or of the manifest in force.
fn read(path: &Path, file: &str, known: Option<&KnownFile>, in_force: Option<&Arc<ManifestFile>>) -> Result<KnownFile, String> {
    let meta = std::fs::metadata(path).map_err(|error| error.to_string())?;
    let beside = overlay_path(path);
    let overlay_meta = std::fs::metadata(&beside).ok();
    let stamp = (stamp_of(&meta), overlay_meta.as_ref().map(stamp_of));
    let is_old = is_old(&meta) && overlay_meta.as_ref().is_none_or(is_old);
    let known = known.filter(|known| known.schemas.are_same(path));
    if let Some(known) = known.filter(|known| known.stamp == stamp && is_old) {
        return Ok(known.clone());
    }
    let text = operator_file::read_text(path, MAX_MANIFEST_BYTES).map_err(|error| error.to_string())?;
    let overlay = match overlay_meta {
        Some(_) => {
            let read = operator_file::read_text(&beside, MAX_OVERLAY_BYTES);
            Some(read.map_err(|error| format!("the overlay {} beside it: {error}", beside.display()))?)
        }
        None => None,
    };
    let digest = digest_of(&text, overlay.as_deref());
    if let Some(known) = known.filter(|known| known.digest == digest) {
        return Ok(KnownFile { stamp, ..known.clone() });
    }
    let is_in_force = |digest: Digest| in_force.filter(|manifest| manifest.digest == digest && manifest.file == file);
    // Which schema files a manifest needs is known only once it is parsed.
    let needs_files = text.contains("JsonFileSchemaLoader");
    let mut reader = SchemaReader::beside(path);
    let manifest = match is_in_force(digest).filter(|_| !needs_files) {
        Some(manifest) => Ok(Arc::clone(manifest)),
        None => parse_overlay(overlay.as_deref(), &beside)
            .and_then(|overlays| parse_whole(&text, &overlays, file, digest, Some(&mut reader)))
            .map(|manifest| is_in_force(manifest.digest).map_or_else(|| Arc::new(manifest), Arc::clone)),
    };
    Ok(KnownFile { stamp, digest, schemas: reader.files(), manifest })
}

/// The digest of a manifest and of its overlay, if it has one.
fn digest_of(manifest: &str, overlay: Option<&str>) -> Digest {
    match overlay {
        Some(overlay) => Digest::from_bytes([manifest, overlay].join("\0").as_bytes()),
        None => Digest::from_bytes(manifest.as_bytes()),
    }
}

fn stamp_of(meta: &std::fs::Metadata) -> Stamp {
    (meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ino())
}

/// Whether a file was written so long ago that another write would have changed its stamp.
fn is_old(meta: &std::fs::Metadata) -> bool {
    let age = meta.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    age.is_some_and(|age| age > FRESH)
}

/// Parses the overlay of a manifest, if it has one.
fn parse_overlay(text: Option<&str>, path: &Path) -> Result<Vec<Overlay>, Vec<Problem>> {
    let Some(text) = text else { return Ok(Vec::new()) };
    let file = path.display().to_string();
    match Overlay::parse(text, &file, &Bounds::default()) {
        Ok(overlay) => Ok(vec![overlay]),
        Err(problem) => Err(vec![as_problem(&problem, &file)]),
    }
}

/// Parses a manifest of a custom source that stands alone.
///
/// # Errors
/// All reasons why this version cannot run it.
pub fn parse_manifest(text: &str, file: &str, digest: Digest) -> Result<ManifestFile, Vec<Problem>> {
    parse_whole(text, &[], file, digest, None)
}

/// As [`parse_manifest`], with the overlays that replace classes, and with the schemas in files beside the manifest, which are
/// a part of its digest.
fn parse_whole(
    text: &str,
    overlays: &[Overlay],
    file: &str,
    digest: Digest,
    schemas: Option<&mut SchemaReader>,
) -> Result<ManifestFile, Vec<Problem>> {
    let bounds = Bounds::default();
    let mut manifest = lowcode::load::load_with(text, file, overlays, &bounds)
        .and_then(|manifest| manifest.runnable().map(|()| manifest))
        .map_err(|problems| problems.iter().map(|problem| as_problem(problem, file)).collect::<Vec<_>>())?;
    let mut digest = digest;
    if let Some(reader) = schemas {
        lowcode::schema_files::inline(&mut manifest, &bounds, &mut |path| reader.read(path));
        if reader.has_found() {
            digest = Digest::from_bytes(format!("{digest}{}", reader.digest()).as_bytes());
        }
    }
    Ok(ManifestFile { file: file.to_string(), digest, manifest: Arc::new(SharedManifest::new(manifest)) })
}

/// Converts a problem of the interpreter to AAM's [`Problem`].
fn as_problem(problem: &lowcode::problem::Problem, file: &str) -> Problem {
    let what = match problem.severity {
        Severity::Unsupported => format!("not supported: {}", problem.message),
        Severity::Warning | Severity::Error => problem.message.clone(),
    };
    let found = problem.found.as_ref().map(|found| format!("; found {found}")).unwrap_or_default();
    let hint = match (&problem.nearest, problem.allowed.is_empty()) {
        (Some(near), _) => format!("did you mean {near}?"),
        (None, false) => format!("allowed: {}", problem.allowed.join(", ")),
        (None, true) => String::new(),
    };
    let whole = Problem::new(problem.path.clone(), format!("{what}{found}")).in_file(file).hint(hint);
    match problem.place {
        Some(place) => whole.at(FilePlace { line: place.line, column: place.column }),
        None => whole,
    }
}

#[cfg(test)]
#[path = "policy_loader_tests.rs"]
mod tests;

//! The folder of manifests that the policy names: read into the policy, like the policy itself.
//!
//! A changed manifest is a changed wish: its digest is part of the policy's slice of its source. One that
//! cannot be read or used keeps what was in force before; unreadable is not absent.

use crate::connectors::lowcode::custom_source;
use crate::families;
use crate::model::{Digest, Problem};
use crate::policy::manifests::is_name;
use crate::policy::{Manifest, Manifests, Policy};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// A folder with more is a mistake.
const MOST: usize = 200;
/// Bytes of one manifest.
const LARGEST: u64 = 8 << 20;
/// A file that was touched so lately may be touched again within one tick of the file system.
const YOUNG: Duration = Duration::from_secs(2);

/// Length, time, and the file itself.
type Stamp = (u64, i64, i64, u64);

type Known = BTreeMap<PathBuf, (Stamp, Arc<Manifest>)>;

/// What was read of files that did not change since.
static READ: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// Reads the folder into `policy`; answers a digest of all that was read.
pub fn attach(policy: &mut Policy) -> Digest {
    let Some(dir) = policy.manifests.dir.clone() else { return Digest::default() };
    let mut seen = String::new();
    let mut found = Manifests::default();
    match files(&dir) {
        Err(problem) => {
            seen.push_str(&problem.message);
            found.blind = true;
            found.problems.push(problem);
        }
        Ok(files) => {
            for path in files {
                take(&path, &mut found, &mut seen);
            }
        }
    }
    Manifests {
        found: policy.manifests.found,
        problems: policy.manifests.problems,
        held: policy.manifests.held,
        blind: policy.manifests.blind,
        ..
    } = found;
    Digest::from_bytes(seen.as_bytes())
}

/// What cannot be used now stays as it was before.
pub fn keep(policy: &mut Policy, before: &Policy) {
    let now = &mut policy.manifests;
    if now.dir != before.manifests.dir {
        return;
    }
    for (name, manifest) in &before.manifests.found {
        if (now.blind || now.held.contains(name)) && !now.found.contains_key(name) {
            now.found.insert(name.clone(), Arc::clone(manifest));
        }
    }
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, Problem> {
    let unreadable = |error: std::io::Error| {
        Problem::new("/manifests/dir", format!("the folder of manifests cannot be read: {error}"))
            .in_file(dir.display().to_string())
            .hint("make the folder, or correct manifests.dir in the policy; what was in force before stays")
    };
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if matches!(kind, "yaml" | "yml" | "json") && !hidden {
            all.push(path);
        }
    }
    all.sort();
    Ok(all)
}

fn take(path: &Path, into: &mut Manifests, seen: &mut String) {
    let file = path.display().to_string();
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let mut refuse = |message: String, hint: &str| into.problems.push(Problem::new("", message).in_file(file.clone()).hint(hint));
    if families::find(&name).is_some() {
        return refuse(format!("{name} is a family of aam"), "give the manifest another name");
    }
    if !is_name(&name) {
        return refuse("this is no name of a source".to_string(), "a small letter, then small letters, digits and _, at most 63");
    }
    if into.found.contains_key(&name) {
        return refuse(format!("there are two manifests for {name}"), "remove one of the two");
    }
    if into.found.len() + into.held.len() >= MOST {
        return refuse(format!("there are more than {MOST} manifests"), "remove those that nobody uses");
    }
    let manifest = match read(path, &file) {
        Ok(manifest) => manifest,
        Err(words) => {
            refuse(format!("the manifest cannot be read: {words}"), "what was in force before stays");
            seen.push_str(&format!("{name} {words};"));
            into.held.insert(name);
            return;
        }
    };
    seen.push_str(&format!("{name} {};", manifest.digest));
    let problems = custom_source::problems(&manifest);
    if problems.is_empty() {
        into.found.insert(name, manifest);
    } else {
        into.held.insert(name);
        into.problems.extend(problems);
    }
}

fn read(path: &Path, file: &str) -> Result<Arc<Manifest>, String> {
    let meta = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !meta.is_file() {
        return Err("it is no file".to_string());
    }
    if meta.len() > LARGEST {
        return Err(format!("it is larger than {LARGEST} bytes"));
    }
    let stamp = (meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ino());
    let old = meta.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok()).is_some_and(|age| age > YOUNG);
    let mut all = READ.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, manifest)) = all.get(path).filter(|(known, _)| old && *known == stamp) {
        return Ok(Arc::clone(manifest));
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let manifest = Arc::new(Manifest { file: file.to_string(), digest: Digest::from_bytes(text.as_bytes()), text });
    if all.len() > 4 * MOST {
        all.clear();
    }
    all.insert(path.to_path_buf(), (stamp, Arc::clone(&manifest)));
    Ok(manifest)
}

#[cfg(test)]
#[path = "manifests_tests.rs"]
mod tests;

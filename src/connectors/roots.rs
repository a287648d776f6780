//! What a person can do about a path that is not below any root of the policy.

use crate::model::{Class, Failure};
use std::path::{Component, Path, PathBuf};

/// Why a path is refused if the policy does not list any root.
pub const NO_ROOTS: &str = "the policy does not list any directory in files.roots";
/// Why a path is refused that is not below a root.
pub const OUTSIDE: &str = "it is not below any directory in the policy's files.roots";

/// Directories of the operating system and those that hold many others. No fix suggests to open them.
const SYSTEM_DIRECTORIES: [&str; 12] =
    ["/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr"];
const COMMON_DIRECTORIES: [&str; 9] = ["/", "/home", "/media", "/mnt", "/opt", "/srv", "/tmp", "/var", "/var/lib"];

/// The failure for `id`, a path outside every root; `directory` is what would have to become a root. The failure is the same
/// whether the path exists or not, because intents may come from people who may not know.
#[must_use]
pub fn outside_roots(id: &str, directory: &Path, why: &str, roots: &[PathBuf]) -> Failure {
    let roots: Vec<String> = roots.iter().map(|root| root.display().to_string()).collect();
    let unexpanded = roots.iter().find(|root| is_unexpanded(root));
    let fix = match unexpanded {
        Some(root) => {
            format!("write the absolute path in place of {root} in policy.yaml: aam does not expand ~ and $NAME in files.roots")
        }
        None if is_too_wide(directory) => {
            let below = if roots.is_empty() {
                "a directory that files.roots in policy.yaml lists".to_owned()
            } else {
                roots.join(" or ")
            };
            format!(
                "copy the file below {below}; {} should not become a root, because intents could then read all of it",
                directory.display()
            )
        }
        None => {
            let all = roots.iter().cloned().chain([directory.display().to_string()]).map(|root| yaml_text(&root));
            format!("to allow it, add its directory in policy.yaml: files: {{roots: [{}]}}", all.collect::<Vec<_>>().join(", "))
        }
    };
    Failure::new(Class::Misconfigured, format!("{id} is not allowed to be read: {why}"), fix)
}

/// The directory of a file as it is written; `.` for a name alone.
#[must_use]
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent == Path::new("") => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// Makes `text` absolute without touching the file system: symbolic links are not resolved.
///
/// # Errors
/// A message for people if `..` follows a name, because behind a symbolic link that would be a
/// different directory, or if the process has no working directory.
pub fn absolute(text: &Path) -> Result<PathBuf, String> {
    let mut path = match text.is_absolute() {
        true => PathBuf::new(),
        false => std::env::current_dir().map_err(|error| format!("the working directory cannot be read: {error}"))?,
    };
    let mut has_name = false;
    for part in text.components() {
        match part {
            Component::ParentDir if has_name => {
                return Err("`..` after a name is not allowed, because the name may be a symbolic link".to_owned());
            }
            Component::ParentDir => {
                path.pop();
            }
            Component::CurDir => {}
            Component::Normal(name) => {
                has_name = true;
                path.push(name);
            }
            Component::RootDir | Component::Prefix(_) => path.push(part),
        }
    }
    Ok(path)
}

/// Whether the directory belongs to the operating system or holds much more than data.
fn is_too_wide(directory: &Path) -> bool {
    let Ok(path) = absolute(directory) else { return true };
    SYSTEM_DIRECTORIES.iter().any(|system| path.starts_with(system))
        || COMMON_DIRECTORIES.iter().any(|common| path == Path::new(common))
}

/// Whether a path begins with `~` or has a component such as `$HOME` or `${DATA}`, which only a shell expands.
#[must_use]
pub fn is_unexpanded(text: &str) -> bool {
    let variable = |part: &str| {
        part.strip_prefix('$').is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '{')))
    };
    text.starts_with('~') || text.split('/').any(variable)
}

/// The text as a value of a YAML list; quoted if it has characters that could mean something there.
fn yaml_text(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
    if text.chars().all(plain) && !text.starts_with('-') { text.to_owned() } else { format!("{text:?}") }
}

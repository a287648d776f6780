//! What a person can do about a path that is not below any root of the policy.

use super::format::Format;
use super::place::absolute;
use crate::model::{Class, Failure};
use crate::policy::Files;
use std::path::Path;

/// Directories of the operating system and those that hold many others. No fix suggests to open them.
const SYSTEM_DIRECTORIES: [&str; 12] =
    ["/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr"];
const COMMON_DIRECTORIES: [&str; 9] = ["/", "/home", "/media", "/mnt", "/opt", "/srv", "/tmp", "/var", "/var/lib"];

/// The failure for a path outside every root. It is the same whether the path exists or not, because intents may come from
/// people who may not know.
#[must_use]
pub fn outside_roots(id: &str, why: &str, files: &Files) -> Failure {
    let path = Path::new(id);
    let directory = match (Format::from_path(path), path.parent()) {
        (Some(_), Some(parent)) if parent == Path::new("") => Path::new("."),
        (Some(_), Some(parent)) => parent,
        _ => path,
    };
    let roots: Vec<String> = files.roots.iter().map(|root| root.display().to_string()).collect();
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

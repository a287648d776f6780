//! Reads a policy and its manifests from a commit, with the program `git`.

use super::super::{CommandError, EXIT_CONFIG};
use crate::model::text::printable;
use crate::policy::{LoadedPolicy, parse};
use crate::policy_loader::{self, MAX_MANIFEST_BYTES, MAX_POLICY_BYTES, PolicyLoader};
use std::io::ErrorKind;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

/// The maximum length of what git says in a message.
const MAX_QUOTED_CHARS: usize = 300;

/// Reads the policy `path` of the commit `revision`. An empty revision is the index, which holds what is staged. As in git,
/// a path begins at the root of the repository, and at the working directory if it begins with `./`.
///
/// # Errors
/// If git cannot be run (exit code 1), if the commit or the file does not exist, or if the policy is not valid (78).
pub fn read(revision: &str, path: &str) -> Result<LoadedPolicy, CommandError> {
    let shown = format!("{revision}:{path}");
    if revision.starts_with('-') {
        return Err(config(format!(
            "{shown} is not the name of a commit; write REF:PATH, for example origin/main:policy/policy.yaml"
        )));
    }
    let text = blob(&shown, MAX_POLICY_BYTES)?.ok_or_else(|| missing(revision, path))?;
    let policy = Arc::new(parse::parse(&text, &shown).map_err(|problems| CommandError::config(&problems))?);
    let Some(dir) = policy.manifests.dir.clone() else { return Ok(LoadedPolicy::new(policy)) };
    if dir.is_absolute() || revision.is_empty() {
        return Ok(PolicyLoader::new(path).with_manifests(policy).0);
    }
    let mut manifests = Vec::new();
    for name in tree(revision, &dir.to_string_lossy())? {
        let file = format!("{revision}:./{name}");
        let text = blob(&file, MAX_MANIFEST_BYTES)?.unwrap_or_default();
        manifests.push((name, file, text));
    }
    Ok(policy_loader::from_texts(policy, manifests))
}

/// Returns the text of a file, or `None` if it does not exist.
fn blob(name: &str, max_bytes: u64) -> Result<Option<String>, CommandError> {
    let size = git(&["cat-file", "-s", name])?;
    if !size.status.success() || !git(&["cat-file", "-e", name])?.status.success() {
        return Ok(None);
    }
    let size = String::from_utf8_lossy(&size.stdout).trim().parse().unwrap_or(u64::MAX);
    if size > max_bytes {
        return Err(config(format!("{name} has {size} bytes, the limit is {max_bytes} bytes")));
    }
    let content = git(&["cat-file", "blob", name])?;
    if !content.status.success() {
        return Err(config(format!("{name} is not a file; git says: {}", said(&content))));
    }
    String::from_utf8(content.stdout).map(Some).map_err(|_| config(format!("{name} is not UTF-8 text; save it as UTF-8")))
}

/// Returns the paths of the files of a folder, relative to the working directory, and none if the folder does not exist.
fn tree(revision: &str, dir: &str) -> Result<Vec<String>, CommandError> {
    let folder = format!("{}/", dir.trim_end_matches('/'));
    let listed = git(&["ls-tree", "-z", "--name-only", revision, "--", &folder])?;
    if !listed.status.success() {
        return Err(config(format!("the manifests in {revision}:{dir} cannot be listed; git says: {}", said(&listed))));
    }
    let names = String::from_utf8_lossy(&listed.stdout).split('\0').map(str::to_string).collect::<Vec<_>>();
    Ok(names.into_iter().filter(|name| !name.is_empty()).collect())
}

/// Says why a file of a commit could not be found.
fn missing(revision: &str, path: &str) -> CommandError {
    let inside = match git(&["rev-parse", "--git-dir"]) {
        Ok(inside) => inside,
        Err(error) => return error,
    };
    if !inside.status.success() {
        return config(format!(
            "{revision}:{path} is neither a file nor in a git repository that can be read here; git says: {}; change into the repository, or write the path of a file",
            said(&inside)
        ));
    }
    let commit = format!("{revision}^{{commit}}");
    if !revision.is_empty() && !git(&["rev-parse", "--verify", "--quiet", &commit]).is_ok_and(|known| known.status.success()) {
        let fetch = match revision.split_once('/') {
            Some(("origin", branch)) => format!("git fetch origin {branch}:refs/remotes/origin/{branch}"),
            _ => "git fetch --all --tags".to_string(),
        };
        return config(format!(
            "this repository does not have the commit {revision}; fetch it ({fetch}), and in a workflow check out the whole history (fetch-depth: 0)"
        ));
    }
    let (place, list) = match revision {
        "" => ("the index".to_string(), "git ls-files".to_string()),
        _ => (revision.to_string(), format!("git ls-tree -r --name-only --full-tree {revision}")),
    };
    config(format!(
        "{place} does not have the file {path}; a path begins at the root of the repository, or at this folder if it begins with ./; {list} lists all files"
    ))
}

fn config(message: String) -> CommandError {
    CommandError { code: EXIT_CONFIG, message }
}

fn git(arguments: &[&str]) -> Result<Output, CommandError> {
    let mut command = Command::new("git");
    // Fixed texts, and no questions on the terminal.
    command.args(arguments).env("LC_ALL", "C").env("GIT_TERMINAL_PROMPT", "0").stdin(Stdio::null());
    command.output().map_err(|error| {
        CommandError::new(match error.kind() {
            ErrorKind::NotFound => {
                "the program git was not found, and REF:PATH needs it; install git, or write the policy of the commit to a file where git is (git show REF:PATH > old.yaml) and pass the file".to_string()
            }
            _ => format!("could not run git: {error}"),
        })
    })
}

/// The first line of what git wrote to stderr.
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let line: String = text.lines().next().unwrap_or("nothing").chars().take(MAX_QUOTED_CHARS).collect();
    printable(&line, &[]).into_owned()
}

//! The one spelling of a `file:` locator. This module is pure: it does not look at the file system.
//!
//! A path is judged as it is written, so that a grant for `file:/srv/creds/team_a/*` cannot be passed by another spelling
//! of the same file. It must begin with a folder of `credentials.files`, also as written: a relative path below a relative
//! folder, an absolute path below an absolute one.

use crate::model::{Class, Failure};
use std::path::{Path, PathBuf};

/// A path below one of the folders of `credentials.files`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialFile {
    /// The innermost folder, as the policy writes it.
    pub folder: PathBuf,
    /// The path below `folder`.
    pub relative: PathBuf,
}

/// Returns the normal spelling of the path of a `file:` locator: without `.`, doubled or final slashes, and without the
/// `//` of `file:///run/secrets/x`.
///
/// # Errors
/// Returns why the path has no normal spelling, and what to write.
pub fn normal(path: &str) -> Result<String, (String, String)> {
    const HINT: &str = "write file:/FOLDER/NAME, or file:FOLDER/NAME for a folder relative to the working directory of aam";
    let refuse = |why: &str| Err((why.to_string(), HINT.to_string()));
    let path = match path.strip_prefix("//") {
        Some(rest) if rest.starts_with('/') => rest,
        Some(_) => return refuse("file: names a host, but AAM reads only files of this machine"),
        None => path,
    };
    if path.starts_with('~') {
        return refuse("AAM does not expand ~ in a path");
    }
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            // The name before `..` may be a symbolic link, and then `..` leads elsewhere.
            ".." if path.starts_with('/') || names.iter().any(|name| *name != "..") => {
                return refuse("`..` is not allowed in the path of a credential");
            }
            name => names.push(name),
        }
    }
    if names.last().is_none_or(|name| *name == "..") {
        return refuse("the path does not name a file");
    }
    Ok(format!("{}{}", if path.starts_with('/') { "/" } else { "" }, names.join("/")))
}

/// Returns the folder of `folders` that contains `path`, judging only by its text, and the path below it.
///
/// # Errors
/// Returns `CredentialMissing` if the path has no normal spelling or is not below a folder.
pub fn find(path: &str, folders: &[PathBuf]) -> Result<CredentialFile, Failure> {
    let refuse = |title: String, fix: String| Err(Failure::new(Class::CredentialMissing, title, fix));
    let path = match normal(path) {
        Ok(path) => path,
        Err((why, hint)) => return refuse(format!("file:{path} is not usable: {why}"), hint),
    };
    let below = |folder: &PathBuf| {
        let text = folder.to_string_lossy();
        let root = normal(&text).unwrap_or_else(|_| text.into_owned());
        // `Path::strip_prefix` compares whole components.
        let relative = match root.as_str() {
            "." | "./" => Path::new(&path).is_relative().then(|| Path::new(&path)),
            root => Path::new(&path).strip_prefix(root).ok(),
        };
        let relative = relative.filter(|relative| !relative.as_os_str().is_empty())?;
        Some(CredentialFile { folder: folder.clone(), relative: relative.to_path_buf() })
    };
    let found = folders.iter().filter_map(below).min_by_key(|file| file.relative.components().count());
    found.map_or_else(|| refuse(outside_title(&path, folders), outside_fix(&path, folders)), Ok)
}

fn outside_title(path: &str, folders: &[PathBuf]) -> String {
    match folders {
        [] => format!("file:{path} is not allowed to be read: the policy does not list any folder in credentials.files"),
        _ => format!("file:{path} is not allowed to be read: it is not below a folder of the policy's credentials.files"),
    }
}

fn outside_fix(path: &str, folders: &[PathBuf]) -> String {
    let listed: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    match (folders, Path::new(path).parent().filter(|parent| parent.components().count() > 1)) {
        ([], Some(parent)) => format!("in the policy, write credentials: {{files: [{}]}}", quoted(&parent.display().to_string())),
        ([], None) => "in the policy, list the folder that holds only credentials: credentials: {files: [FOLDER]}".to_string(),
        ([only], _) if Path::new(path).is_relative() => {
            format!(
                "write the path with its folder, for example file:{}/{path}; the path begins as the policy writes it",
                only.display()
            )
        }
        _ => format!(
            "move the file below {}, and begin the path as the policy writes it; or add its folder to credentials.files",
            listed.join(" or ")
        ),
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_path_becomes_one() {
        for text in ["/srv/creds/a", "//srv/creds/a", "/srv//creds/./a", "/srv/creds/a/", "///srv/creds/a"] {
            let expected = if text.starts_with("//s") { None } else { Some("/srv/creds/a".to_string()) };
            assert_eq!(normal(text).ok(), expected, "{text}");
        }
        for (text, expected) in
            [("./creds/a", "creds/a"), ("creds//a", "creds/a"), ("../creds/a", "../creds/a"), ("a%2Fb", "a%2Fb")]
        {
            assert_eq!(normal(text).ok().as_deref(), Some(expected), "{text}");
        }
        for text in ["/srv/creds/../x", "creds/../x", "/../x", "..", "/", ".", "~/x", "//host/x", "a/.."] {
            assert!(normal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_paths_below_a_folder_as_written_are_found() {
        let folders = ["/srv/creds", "/srv/creds/team_a", "var/creds/", "./here"].map(PathBuf::from);
        let found = |path: &str| {
            find(path, &folders).ok().map(|file| (file.folder.display().to_string(), file.relative.display().to_string()))
        };
        let pair = |folder: &str, relative: &str| Some((folder.to_string(), relative.to_string()));
        assert_eq!(found("/srv/creds/a.json"), pair("/srv/creds", "a.json"));
        assert_eq!(found("/srv/creds/team_a/x/y"), pair("/srv/creds/team_a", "x/y"), "the innermost folder");
        assert_eq!(found("var/creds/a"), pair("var/creds/", "a"));
        assert_eq!(found("here/a"), pair("./here", "a"));
        for path in ["/srv/creds", "/srv/creds2/a", "/srv/a", "creds/a", "/srv/creds/../a", "/etc/passwd", "a", "/var/creds/a"] {
            let failure = find(path, &folders).expect_err(path);
            assert_eq!(failure.class, Class::CredentialMissing);
            assert!(!failure.fix.is_empty());
        }
        assert!(find("/run/secrets/x", &[]).expect_err("none").fix.contains("credentials: {files: [\"/run/secrets\"]}"));
    }
}

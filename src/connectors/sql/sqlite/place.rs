//! Resolves the path of a SQLite file and checks that the policy allows it to be read.
//!
//! Nothing here opens the file. When a process closes *any* descriptor of a file, POSIX releases all locks that the
//! process has on it, and AAM may have SQLite locks on it, for example if the file is its own registry. Only `stat`,
//! `readlink` and SQLite itself access it.

use crate::connectors::roots;
use crate::model::{Class, Failure};
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

/// Resolves all symbolic links in the path of a file and checks that the file is below one of the roots.
///
/// # Errors
/// `Misconfigured` if the file is outside the roots; `NotFound`; `WrongService` if it is not a regular file.
pub fn locate(written: &str, roots: &[PathBuf]) -> Result<PathBuf, Failure> {
    let outside = || {
        let why = if roots.is_empty() { roots::NO_ROOTS } else { roots::OUTSIDE };
        roots::outside_roots(written, roots::parent(Path::new(written)), why, roots)
    };
    let real = match std::fs::canonicalize(written) {
        Ok(real) => real,
        // Do not reveal whether a file outside the roots exists.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(if lexically_below(written, roots) { absent(written) } else { outside() });
        }
        Err(error) => {
            return Err(Failure::new(
                Class::PermissionDenied,
                format!("{written} cannot be reached"),
                format!("allow the user of aam to read it: chmod o+r {written}"),
            )
            .detail(error.to_string()));
        }
    };
    let below = roots.iter().any(|root| std::fs::canonicalize(root).is_ok_and(|root| real.starts_with(root)));
    if !below {
        return Err(if lexically_below(written, roots) { leads_out(written) } else { outside() });
    }
    match std::fs::metadata(&real) {
        Ok(meta) if meta.is_file() => Ok(real),
        Ok(_) => Err(Failure::new(
            Class::WrongService,
            format!("{written} is not a file"),
            "name the database file itself in resource_ids",
        )),
        Err(_) => Err(absent(written)),
    }
}

fn absent(written: &str) -> Failure {
    Failure::new(
        Class::NotFound,
        format!("{written} was not found"),
        "correct the path in the resource id, or put the file there",
    )
}

fn leads_out(written: &str) -> Failure {
    Failure::new(
        Class::Misconfigured,
        format!("{written} is a symbolic link that leads out of the policy's files.roots, or is behind one"),
        "name the target file itself, or add its directory to files.roots in policy.yaml",
    )
}

/// Whether a path that does not exist would be below a root, without following symbolic links.
fn lexically_below(written: &str, roots: &[PathBuf]) -> bool {
    let path = normalized(Path::new(written));
    roots
        .iter()
        .any(|root| path.starts_with(normalized(root)) || std::fs::canonicalize(root).is_ok_and(|root| path.starts_with(root)))
}

/// Makes a path absolute and removes `.` and `..`, without accessing the file system.
fn normalized(path: &Path) -> PathBuf {
    let mut out = std::env::current_dir().unwrap_or_default();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_below_a_root_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
        std::fs::create_dir_all(&inside).unwrap();
        std::fs::create_dir_all(&outside).unwrap();
        std::fs::write(inside.join("a.db"), "").unwrap();
        std::fs::write(outside.join("b.db"), "").unwrap();
        std::os::unix::fs::symlink(outside.join("b.db"), inside.join("link.db")).unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("dir")).unwrap();
        let roots = vec![inside.clone()];
        let class = |name: &str| locate(&inside.join(name).display().to_string(), &roots).map_err(|failure| failure.class).err();
        assert_eq!(class("a.db"), None);
        assert_eq!(class("../in/a.db"), None);
        assert_eq!(class("none.db"), Some(Class::NotFound));
        assert_eq!(class("link.db"), Some(Class::Misconfigured));
        assert_eq!(class("dir/b.db"), Some(Class::Misconfigured));
        assert_eq!(class("../out/b.db"), Some(Class::Misconfigured));
        assert_eq!(class("../out/none.db"), Some(Class::Misconfigured));
        assert_eq!(class("."), Some(Class::WrongService));
        let failure = locate(&outside.join("b.db").display().to_string(), &roots).err().unwrap();
        assert!(failure.fix.contains("in policy.yaml: files: {roots: ["), "{failure:?}");
        for name in ["link.db", "dir/b.db"] {
            let failure = locate(&inside.join(name).display().to_string(), &roots).err().unwrap();
            assert!(failure.title.contains("symbolic link") && !failure.fix.contains("roots: ["), "{failure:?}");
        }
        assert_eq!(
            locate(&inside.join("a.db").display().to_string(), &[]).map_err(|f| f.class).err(),
            Some(Class::Misconfigured)
        );
    }
    /// What the fix prints is the whole list that the policy needs, and never opens a directory of the system.
    #[test]
    fn the_fix_keeps_the_roots_and_refuses_directories_of_the_system() {
        let roots = vec![PathBuf::from("/data/shop"), PathBuf::from("seeds")];
        for (written, expected) in [
            ("x.db", Some("files: {roots: [/data/shop, seeds, .]}")),
            ("other/x.db", Some("files: {roots: [/data/shop, seeds, other]}")),
            ("/data/other/x.db", Some("files: {roots: [/data/shop, seeds, /data/other]}")),
            ("/x.db", None),
            ("/proc/self/mem", None),
            ("/etc/x.db", None),
            ("/var/lib/x.db", None),
            ("other/../../x.db", None),
        ] {
            let failure = locate(written, &roots).unwrap_err();
            assert_eq!(failure.class, Class::Misconfigured, "{written}");
            match expected {
                Some(line) => assert!(failure.fix.ends_with(line), "{written}: {failure:?}"),
                None => assert!(failure.fix.starts_with("copy the file below /data/shop or seeds"), "{written}: {failure:?}"),
            }
        }
        let first = locate("/data/other/x.db", &[]).unwrap_err();
        assert!(first.fix.ends_with("files: {roots: [/data/other]}"), "{first:?}");
        assert!(first.title.contains("does not list any directory"), "{first:?}");
    }
}

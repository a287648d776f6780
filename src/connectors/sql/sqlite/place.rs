//! Resolves the path of a SQLite file and checks that the policy allows it to be read.
//!
//! Nothing here opens the file. When a process closes *any* descriptor of a file, POSIX releases all locks that the
//! process has on it, and AAM may have SQLite locks on it, for example if the file is its own registry. Only `stat`,
//! `readlink` and SQLite itself access it.

use crate::connectors::roots;
use crate::model::{Class, Failure};
use rustix::io::Errno;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

/// The longest path that SQLite opens: 512 bytes (`MAX_PATHNAME` in os_unix.c) without the 8 that it keeps for the name of the
/// journal (`sqlite3PagerOpen`).
const MAX_PATH_BYTES: usize = 504;
/// The longest path of this system, in bytes (`PATH_MAX`).
const PATH_MAX: usize = 4096;
const SHORTER: &str = "move the file to a shorter path below files.roots, and write that path in resource_ids";

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
            // The system walks a long path part by part, and so finds a missing part before it sees that the path is too long.
            return Err(match lexically_below(written, roots) {
                true if written.len() >= PATH_MAX => too_long(written),
                true => absent(written),
                false => outside(),
            });
        }
        Err(error) => return Err(unreachable_path(written, &error)),
    };
    let below = roots.iter().any(|root| std::fs::canonicalize(root).is_ok_and(|root| real.starts_with(root)));
    if !below {
        return Err(if lexically_below(written, roots) { leads_out(written) } else { outside() });
    }
    let length = real.as_os_str().len();
    if length > MAX_PATH_BYTES {
        let title =
            format!("{written} is too long: the path has {length} bytes, and SQLite opens paths of at most {MAX_PATH_BYTES}");
        return Err(Failure::new(Class::Misconfigured, title, SHORTER));
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

/// The failure for a path whose links the system could not resolve.
fn unreachable_path(written: &str, error: &std::io::Error) -> Failure {
    let failure = match Errno::from_io_error(error) {
        Some(Errno::NAMETOOLONG) => too_long(written),
        Some(Errno::LOOP) => {
            let title = format!("{written} is part of a loop of symbolic links");
            Failure::new(Class::Misconfigured, title, "name the target file itself in resource_ids")
        }
        Some(Errno::ACCESS | Errno::PERM) => Failure::new(
            Class::PermissionDenied,
            format!("{written} cannot be reached"),
            format!("allow the user of aam to read it: chmod o+r {written}"),
        ),
        Some(Errno::INVAL) | None => {
            Failure::new(Class::Misconfigured, format!("{written} is not a usable path"), "correct resource_ids")
        }
        Some(_) => Failure::new(
            Class::Remote,
            format!("{written} cannot be reached"),
            "check the file system: df, mount, dmesg; aam retries automatically",
        ),
    };
    failure.detail(error.to_string())
}

fn too_long(written: &str) -> Failure {
    Failure::new(Class::Misconfigured, format!("{written} is too long for a path of this system"), SHORTER)
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

    #[test]
    fn a_path_that_is_too_long_or_goes_round_in_circles_is_not_a_question_of_permissions() {
        let dir = tempfile::tempdir().unwrap();
        let roots = vec![dir.path().to_path_buf()];
        let failure = |path: &Path| locate(&path.display().to_string(), &roots).unwrap_err();
        let name = failure(&dir.path().join("x".repeat(300)));
        let path = failure(&dir.path().join("x/".repeat(3000)));
        std::os::unix::fs::symlink("loop.db", dir.path().join("loop.db")).unwrap();
        let circle = failure(&dir.path().join("loop.db"));
        for failure in [&name, &path, &circle] {
            assert_eq!(failure.class, Class::Misconfigured, "{failure:?}");
            assert!(!failure.fix.contains("chmod"), "{failure:?}");
        }
        assert!(name.title.contains("too long") && path.fix.contains("shorter path"), "{name:?} {path:?}");
    }

    /// The limit is that of the SQLite that AAM is built with.
    #[test]
    fn the_longest_path_is_the_longest_that_sqlite_opens() {
        let dir = tempfile::tempdir().unwrap();
        let home = std::fs::canonicalize(dir.path()).unwrap();
        let roots = vec![home.clone()];
        let of_length = |length: usize| {
            let mut path = home.clone();
            while length - path.as_os_str().len() > 200 {
                path.push("d".repeat(100));
            }
            std::fs::create_dir_all(&path).unwrap();
            let rest = length - path.as_os_str().len() - 1;
            path.push("f".repeat(rest));
            assert_eq!(path.as_os_str().len(), length);
            std::fs::write(&path, "").unwrap();
            path
        };
        let (longest, longer) = (of_length(MAX_PATH_BYTES), of_length(MAX_PATH_BYTES + 1));
        assert!(rusqlite::Connection::open(&longest).is_ok() && rusqlite::Connection::open(&longer).is_err());
        assert!(locate(&longest.display().to_string(), &roots).is_ok());
        let failure = locate(&longer.display().to_string(), &roots).unwrap_err();
        assert!(failure.class == Class::Misconfigured && failure.title.contains("505 bytes"), "{failure:?}");
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

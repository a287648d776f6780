//! Lists the family descriptions, so that adding a YAML file to `src/families` adds a family and nothing else has to
//! be edited. Also identifies the code of the fold.
//!
//! `src/families/mod.rs` includes the generated list. Unit tests also get the families of `tests/data/families`; they
//! prove that a file is enough.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-env=AAM_COMMIT={}", commit());
    let root = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    println!("cargo:rustc-env=AAM_FOLD_CODE={:016x}", fold_code(Path::new(&root))?);
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    for (folder, list) in [
        ("src/families", "families.rs"),
        ("src/families/airbyte", "airbyte_connectors.rs"),
        ("tests/data/families", "test_families.rs"),
    ] {
        // Cargo looks at every file below a folder that is named here.
        println!("cargo:rerun-if-changed={folder}");
        fs::write(Path::new(&out).join(list), embed(&Path::new(&root).join(folder), folder)?)?;
    }
    Ok(())
}

/// The source of the fold and of the values that it consists of. `src/snapshot` uses no other module of the crate.
const FOLD_SOURCES: [&str; 3] = ["src/model", "src/snapshot", "src/snapshot.rs"];

/// A number that changes with the source of the fold. A stored fold is only used by the code that wrote it. A change that does not
/// matter, of a comment for example, costs one fold of the whole ledger at the next start.
fn fold_code(root: &Path) -> io::Result<u64> {
    let mut files = Vec::new();
    for source in FOLD_SOURCES {
        println!("cargo:rerun-if-changed={source}");
        collect(&root.join(source), &mut files)?;
    }
    files.sort();
    let mut code = DefaultHasher::new();
    for file in files {
        file.strip_prefix(root).map_err(io::Error::other)?.hash(&mut code);
        fs::read(&file)?.hash(&mut code);
    }
    Ok(code.finish())
}

/// Adds `path`, or the files below it, to `files`, without those of tests.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            collect(&entry?.path(), files)?;
        }
    } else if !path.ends_with("tests.rs") && !path.ends_with("history.rs") {
        files.push(path.to_path_buf());
    }
    Ok(())
}

/// The commit that is built: `AAM_COMMIT`, or that of the git checkout. A debug build does not look, because it would be built anew
/// after each commit.
fn commit() -> String {
    println!("cargo:rerun-if-env-changed=AAM_COMMIT");
    if let Some(commit) = env::var("AAM_COMMIT").ok().filter(|commit| !commit.is_empty()) {
        return commit;
    }
    if env::var("PROFILE").as_deref() != Ok("release") {
        return "unknown".to_string();
    }
    println!("cargo:rerun-if-changed=.git/HEAD");
    println!("cargo:rerun-if-changed=.git/refs/heads");
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let commit = output.ok().filter(|output| output.status.success()).and_then(|output| String::from_utf8(output.stdout).ok());
    commit.map_or_else(|| "unknown".to_string(), |commit| commit.trim().to_string())
}

/// Rust source of a slice of `(file name without .yaml, text of the file)`, ordered by name.
fn embed(path: &Path, folder: &str) -> io::Result<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "yaml") {
            names.extend(file.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    let mut list = String::from("&[\n");
    for name in names {
        let path = format!("/{folder}/{name}.yaml");
        let _ = writeln!(list, "    ({name:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {path:?}))),");
    }
    list.push_str("]\n");
    Ok(list)
}

//! Lists the family descriptions, so that adding a YAML file to `src/families` adds a family and nothing else has to
//! be edited.
//!
//! `src/families/mod.rs` includes the generated list. Unit tests also get the families of `tests/data/families`; they
//! prove that a file is enough.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-env=AAM_COMMIT={}", commit());
    let root = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
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

//! The Python that connectors run with, and how pip is called.

use crate::cli::CommandError;
use crate::model::text::printable;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The versions of Python that most connectors accept, as minor versions of Python 3.
const MINOR_VERSIONS: std::ops::RangeInclusive<u32> = 10..=12;
/// The programs that are tried, the best first. Most connectors were tried with 3.11.
const PROGRAMS: [&str; 2] = ["python3.11", "python3"];
/// The Python of a virtual environment, below its folder.
pub const IN_ENVIRONMENT: &str = "bin/python";
/// The first pip that reports what it installs, as major and minor version.
const FIRST_PIP: (u32, u32) = (22, 2);
/// The lines and the characters of each that are shown of what a program wrote.
const MAX_QUOTED_LINES: usize = 15;
const MAX_QUOTED_CHARS: usize = 300;

/// Variables that would make Python or pip work outside of the virtual environment.
const REMOVED: [&str; 6] = ["PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_REPORT"];

/// A Python that can make virtual environments for connectors.
pub struct Python {
    pub program: PathBuf,
    /// The minor version of Python 3.
    pub minor: u32,
}

/// Finds the Python for virtual environments.
///
/// # Errors
/// Returns an error that names the package to install.
pub fn find(given: Option<&Path>) -> Result<Python, CommandError> {
    let programs: Vec<PathBuf> = match given {
        Some(program) => vec![program.to_path_buf()],
        None => PROGRAMS.iter().map(PathBuf::from).collect(),
    };
    let mut found = Vec::new();
    for program in programs {
        match minor(&program) {
            Some(minor) if MINOR_VERSIONS.contains(&minor) => return Ok(Python { program, minor }),
            Some(minor) => found.push(format!("{} is Python 3.{minor}", program.display())),
            None => found.push(format!("{} was not found or did not run", program.display())),
        }
    }
    Err(CommandError::new(format!(
        "connectors need Python 3.10, 3.11 or 3.12, and {}; fix: install the packages python3.11 and python3.11-venv (on Fedora python3.11), or name a Python with --python",
        found.join(", ")
    )))
}

/// Returns the minor version of a Python 3.
fn minor(program: &Path) -> Option<u32> {
    let code = "import sys; print('%d %d' % sys.version_info[:2])";
    let output = command(program, &["-I", "-c", code]).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (major, minor) = text.trim().split_once(' ')?;
    minor.parse().ok().filter(|_| major == "3")
}

fn command(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).env("PIP_DISABLE_PIP_VERSION_CHECK", "1").env("PIP_NO_INPUT", "1");
    for variable in REMOVED {
        command.env_remove(variable);
    }
    command
}

/// Makes a virtual environment in `folder`, which does not exist.
///
/// # Errors
/// Returns what Python wrote, with the package that is usually missing.
pub fn make_environment(python: &Python, folder: &Path) -> Result<(), CommandError> {
    let path = folder.display().to_string();
    let output = run(&python.program, &["-I", "-m", "venv", &path])?;
    if !output.status.success() {
        return Err(CommandError::new(format!(
            "could not make the virtual environment {path}: {}; fix: install the package python3.{}-venv, which has the module venv",
            said(&output),
            python.minor
        )));
    }
    let output = run(&folder.join(IN_ENVIRONMENT), &["-I", "-m", "pip", "--version"])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match pip_version(&text) {
        Some(version) if version >= FIRST_PIP => Ok(()),
        found => {
            let found = found.map_or("without pip".to_string(), |(major, minor)| format!("with pip {major}.{minor}"));
            Err(CommandError::new(format!(
                "{} makes virtual environments {found}, and aam needs pip {}.{} or later; fix: install Python 3.11, or name a newer Python with --python",
                python.program.display(),
                FIRST_PIP.0,
                FIRST_PIP.1
            )))
        }
    }
}

/// `pip 23.2.1 from …`.
fn pip_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_whitespace().nth(1)?.split('.');
    let major = numbers.next()?.parse().ok()?;
    Some((major, numbers.next().and_then(|minor| minor.parse().ok()).unwrap_or(0)))
}

/// Runs `pip install` in a virtual environment.
///
/// # Errors
/// Returns the end of what pip wrote.
pub fn pip_install(python: &Path, arguments: &[&str]) -> Result<(), CommandError> {
    let fixed = ["-I", "-m", "pip", "install", "--quiet", "--no-input", "--no-warn-script-location"];
    let arguments: Vec<&str> = fixed.into_iter().chain(arguments.iter().copied()).collect();
    let output = run(python, &arguments)?;
    if output.status.success() {
        return Ok(());
    }
    Err(CommandError::new(format!(
        "pip could not install it:\n{}\nfix: check the name and the version (pip index versions PACKAGE lists them), and that pip reaches its package registry (pip config list)",
        said(&output)
    )))
}

/// Returns what an installed package requires, as its metadata says it.
///
/// # Errors
/// Returns what Python wrote, or that the metadata is not valid.
pub fn requirements(python: &Path, package: &str) -> Result<Vec<String>, CommandError> {
    let code = "import importlib.metadata, sys; print('\\n'.join(importlib.metadata.requires(sys.argv[1]) or []))";
    let output = run(python, &["-I", "-c", code, package])?;
    if !output.status.success() {
        return Err(CommandError::new(format!("could not read what {package} requires: {}", said(&output))));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<String> = text.lines().map(|line| line.trim().to_string()).filter(|line| !line.is_empty()).collect();
    // They become arguments of pip, and none of them may be an option.
    match lines.iter().all(|line| line.starts_with(|c: char| c.is_ascii_alphanumeric())) {
        true => Ok(lines),
        false => Err(CommandError::new(format!("the metadata of {package} names a requirement that is not valid"))),
    }
}

fn run(program: &Path, arguments: &[&str]) -> Result<Output, CommandError> {
    command(program, arguments)
        .output()
        .map_err(|error| CommandError::new(format!("could not run {}: {error}", program.display())))
}

/// The last lines that a program wrote to stderr, or to stdout if it wrote none.
fn said(output: &Output) -> String {
    let text = match output.stderr.is_empty() {
        true => String::from_utf8_lossy(&output.stdout),
        false => String::from_utf8_lossy(&output.stderr),
    };
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines.iter().skip(lines.len().saturating_sub(MAX_QUOTED_LINES));
    let cut = last.map(|line| line.chars().take(MAX_QUOTED_CHARS).collect::<String>());
    printable(&cut.collect::<Vec<_>>().join("\n"), &['\n']).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_pip_are_compared_as_numbers() {
        assert_eq!(pip_version("pip 23.2.1 from /x (python 3.11)"), Some((23, 2)));
        assert_eq!(pip_version("pip 9.0 from /x"), Some((9, 0)));
        assert_eq!(pip_version("pip 26 from /x"), Some((26, 0)));
        assert_eq!((pip_version("No module named pip"), pip_version("")), (None, None));
        assert!(pip_version("pip 22.10 from /x") > Some(FIRST_PIP) && pip_version("pip 22.0.2 from /x") < Some(FIRST_PIP));
    }

    #[test]
    fn a_missing_python_is_reported_with_the_package_to_install() {
        let error = find(Some(Path::new("/nonexistent/python"))).err().expect("a program that does not exist");
        assert!(error.message.contains("/nonexistent/python was not found") && error.message.contains("python3.11-venv"));
    }
}

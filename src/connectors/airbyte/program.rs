//! What is started for a connector, and the files that it may read.
//!
//! A connector is a package that `aam airbyte install` installed, or a command of the policy. A script is started through
//! its interpreter, and an interpreter of Python brings its virtual environment and its libraries with it. What is beside a
//! program is not opened: it may be AAM's own data, or that of a person. The policy lists what a connector needs of it.

use super::places::Places;
use crate::model::{Class, Digest, Failure};
use crate::operator_file;
use crate::policy::airbyte::connector_name;
use crate::policy::{Airbyte, ConnectorPolicy, Run};
use std::collections::HashMap;
use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

/// What is started, without the command and the files of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pub program: PathBuf,
    /// The arguments before the connector's command.
    pub arguments: Vec<String>,
    pub readable: Vec<PathBuf>,
    pub executable: Vec<PathBuf>,
    /// Changes when the connector changes.
    pub stamp: String,
}

/// What the libraries of connectors read of the system besides its settings, which every program may read. None of it is a
/// secret.
const SYSTEM_FILES: [&str; 5] =
    ["/etc/ssl/cert.pem", "/usr/share/mime", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu"];

/// The parts of an installation of Python that its programs read, below its prefix. The rest of a prefix such as `~/.local`
/// does not belong to Python.
const INSTALLATION: [&str; 6] = ["lib", "lib64", "openssl/lib", "openssl/ssl/openssl.cnf", "ssl/openssl.cnf", "share/zoneinfo"];

/// The number of bytes of a program that are looked at for the line that names its interpreter.
const MAX_FIRST_LINE_BYTES: u64 = 512;
/// The maximum size of a lock file and of `pyvenv.cfg` in bytes, and of a program whose digest is compared.
const MAX_TEXT_BYTES: u64 = 4 << 20;
const MAX_PROGRAM_BYTES: u64 = 512 << 20;

/// Finds what is started for the connector of the source type `name`, compares its digest with the policy, and makes sure
/// that it can read none of `places`. Blocks.
///
/// # Errors
/// Returns `Misconfigured` if it is not installed, differs from the policy or could read too much, and `Unsupported` for an
/// image.
pub fn find(airbyte: &Airbyte, connector: &ConnectorPolicy, name: &str, places: &Places) -> Result<Program, Failure> {
    let mut program = match &connector.run {
        Run::Package(package) => installed(airbyte, connector, (package, name))?,
        Run::Command(command) => of_command(connector, command, name)?,
        Run::Image(image) => return Err(unsupported_image(image, name)),
    };
    add_listed(&mut program, connector, name)?;
    let mut program = resolved(program);
    places.check(program.readable.iter().chain(&program.executable), name)?;
    program.readable.extend(SYSTEM_FILES.iter().map(PathBuf::from).filter(|path| path.exists()));
    Ok(program)
}

/// Adds what the policy lists as readable.
///
/// # Errors
/// Returns `Misconfigured` if one of the paths does not exist.
fn add_listed(program: &mut Program, connector: &ConnectorPolicy, name: &str) -> Result<(), Failure> {
    for listed in &connector.readable {
        let path = std::path::absolute(listed).unwrap_or_else(|_| listed.clone());
        if !path.exists() {
            return Err(Failure::new(
                Class::Misconfigured,
                format!("{} of airbyte.connectors.{name}.readable was not found", path.display()),
                "correct the path in the policy, or remove it; a relative path begins at the working directory of aam",
            ));
        }
        program.stamp.push_str(&stamp(&path));
        program.readable.push(path);
    }
    Ok(())
}

/// The failure for an image: a container without a network cannot reach the proxy, and one with a network could go around it.
#[must_use]
pub fn unsupported_image(image: &str, name: &str) -> Failure {
    Failure::new(
        Class::Unsupported,
        format!("this version of aam does not run images, and {name} is the image {image}"),
        format!(
            "install the connector as a package: aam airbyte install {}, and write airbyte.connectors.{name}.run: airbyte-{0} into the policy; or name your own Airbyte as airbyte.platform",
            image.rsplit('/').next().unwrap_or(image)
        ),
    )
}

fn installed(airbyte: &Airbyte, connector: &ConnectorPolicy, (package, name): (&str, &str)) -> Result<Program, Failure> {
    let version = connector.version.as_str();
    let install = format!("aam airbyte install {} --version {version}", connector_name(package));
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    let environment = absolute(airbyte.environment(package, version));
    let script = absolute(airbyte.program(package, version));
    let python = environment.join("bin/python");
    if !script.is_file() || !python.is_file() {
        return Err(Failure::new(
            Class::Misconfigured,
            format!("{package} {version}, the connector of {name}, is not installed in {}", environment.display()),
            format!("run {install}"),
        ));
    }
    let lock = absolute(airbyte.lock_file(package, version));
    if let Some(expected) = &connector.sha256 {
        let found = operator_file::read(&lock, MAX_TEXT_BYTES).map(|bytes| Digest::from_bytes(&bytes).to_string());
        compare(&lock, expected, found, (name, &install))?;
    }
    let mut program = Program {
        program: python.clone(),
        arguments: vec![script.display().to_string()],
        readable: vec![environment],
        executable: vec![python.clone()],
        stamp: format!("{package} {version} {}", [script, lock].iter().map(|path| stamp(path)).collect::<String>()),
    };
    add_python(&mut program, &python);
    Ok(program)
}

fn of_command(connector: &ConnectorPolicy, command: &[String], name: &str) -> Result<Program, Failure> {
    let missing = |title: String, fix: &str| Err(Failure::new(Class::Misconfigured, title, fix));
    let key = format!("airbyte.connectors.{name}.run");
    let Some((first, further)) = command.split_first() else {
        return missing(format!("{key} is empty"), "write the program of the connector and its first arguments");
    };
    let Some(path) = lookup(first) else {
        return missing(
            format!("the program {first} of {key} was not found"),
            "install it, or write its whole path into the policy",
        );
    };
    if let Some(expected) = &connector.sha256 {
        compare(&path, expected, digest_of_program(&path), (name, "write the digest of the program that you reviewed"))?;
    }
    let mut program = Program {
        program: path.clone(),
        arguments: Vec::new(),
        readable: Vec::new(),
        executable: vec![path.clone()],
        stamp: stamp(&path),
    };
    if let Some((interpreter, arguments)) = interpreter(&path) {
        let Some(found) = lookup(&interpreter) else {
            return missing(format!("{interpreter}, which runs {}, was not found", path.display()), "install it");
        };
        if is_python(&path) {
            return missing(
                format!("{} is a script that chooses an interpreter", path.display()),
                "write the path of the interpreter itself into the policy: python3 -c 'import sys; print(sys.executable)'",
            );
        }
        program.program.clone_from(&found);
        program.arguments = arguments;
        program.arguments.push(path.display().to_string());
        program.executable.push(found);
    }
    let started = program.program.clone();
    add_python(&mut program, &started);
    program.readable.extend(environment(&path).map(Path::to_path_buf));
    program.readable.push(path);
    for argument in further {
        // The connector starts in a folder of its own, so its files are named by their whole paths.
        match Path::new(argument).exists().then(|| std::path::absolute(argument).ok()).flatten() {
            Some(path) => {
                program.stamp.push_str(&stamp(&path));
                program.arguments.push(path.display().to_string());
                // A word such as `var` may be the name of a folder by chance.
                program.readable.extend(Some(path).filter(|path| path.is_file()));
            }
            None => program.arguments.push(argument.clone()),
        }
    }
    program.stamp.push_str(&command.join("\0"));
    Ok(program)
}

/// Resolves links, because what a link names is what is read, and leaves out what does not exist.
fn resolved(mut program: Program) -> Program {
    for paths in [&mut program.readable, &mut program.executable] {
        let resolved: Vec<PathBuf> = paths.iter().filter_map(|path| path.canonicalize().ok()).collect();
        paths.extend(resolved);
        paths.retain(|path| path.exists());
        paths.sort();
        paths.dedup();
    }
    program
}

/// If `program` is Python, adds its virtual environment, its libraries, and the interpreter that starts further processes.
fn add_python(program: &mut Program, python: &Path) {
    if !is_python(python) {
        return;
    }
    if let Some(environment) = environment(python) {
        program.readable.push(environment.to_path_buf());
        let config = operator_file::read_text(&environment.join("pyvenv.cfg"), MAX_TEXT_BYTES).unwrap_or_default();
        program.readable.extend(home(&config).as_deref().and_then(installation).unwrap_or_default());
    }
    if let Ok(real) = python.canonicalize() {
        program.readable.extend(real.parent().and_then(installation).unwrap_or_default());
        program.executable.push(real);
    }
}

/// Returns the virtual environment whose `bin` has this program.
fn environment(program: &Path) -> Option<&Path> {
    let folder = program.parent().filter(|folder| folder.ends_with("bin"))?;
    folder.parent().filter(|environment| environment.join("pyvenv.cfg").is_file())
}

/// Returns the folder of the interpreter that a virtual environment was made from.
fn home(config: &str) -> Option<PathBuf> {
    let lines = config.lines().filter_map(|line| line.split_once('='));
    lines.filter(|(key, _)| key.trim() == "home").map(|(_, value)| PathBuf::from(value.trim())).next()
}

/// Returns the parts of the installation of Python whose interpreter is in `folder`, if its standard library is there.
fn installation(folder: &Path) -> Option<Vec<PathBuf>> {
    let folder = folder.canonicalize().ok()?;
    let prefix = if folder.ends_with("bin") { folder.parent()? } else { folder.as_path() };
    let has_library = ["lib", "lib64"].iter().any(|library| has_standard_library(&prefix.join(library)));
    has_library.then(|| INSTALLATION.iter().map(|part| prefix.join(part)).collect())
}

/// Whether the folder contains `python3.11/os.py` or the like. The folder of packages that a person installed has no such file.
fn has_standard_library(library: &Path) -> bool {
    let entries = std::fs::read_dir(library).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|folder| is_python(&folder) && folder.join("os.py").is_file())
}

fn is_python(program: &Path) -> bool {
    program.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("python") || name.starts_with("pypy"))
}

/// Returns the interpreter that the first line of a script names, with its arguments.
fn interpreter(script: &Path) -> Option<(String, Vec<String>)> {
    let mut start = Vec::new();
    operator_file::open(script).ok()?.take(MAX_FIRST_LINE_BYTES).read_to_end(&mut start).ok()?;
    let text = String::from_utf8_lossy(&start);
    let line = text.strip_prefix("#!")?.lines().next()?;
    let mut parts = line.split_whitespace().map(str::to_string);
    let first = parts.next()?;
    let is_env = Path::new(&first).file_name().is_some_and(|name| name == "env");
    let mut parts = parts.filter(|part| !(is_env && part == "-S"));
    let interpreter = if is_env { parts.next()? } else { first };
    Some((interpreter, parts.collect()))
}

/// Returns the whole path of a program, as a shell finds it.
fn lookup(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return std::path::absolute(name).ok().filter(|path| is_program(path));
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let candidates = std::env::split_paths(&folders).map(|folder| folder.join(name));
    candidates.filter(|path| path.is_absolute()).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// What changes when the file changes.
fn stamp(path: &Path) -> String {
    std::fs::metadata(path).map(|metadata| format!(" {:?}", stamp_of(&metadata))).unwrap_or_default()
}

type Stamp = (u64, u64, u64, i64, i64);

fn stamp_of(metadata: &Metadata) -> Stamp {
    (metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}

/// The digests of programs by their paths, with the stamps of the files: a program has many megabytes.
static DIGESTS: LazyLock<Mutex<HashMap<PathBuf, (Stamp, String)>>> = LazyLock::new(Mutex::default);
const MAX_DIGESTS: usize = 100;

fn digest_of_program(path: &Path) -> std::io::Result<String> {
    let stamp = stamp_of(&std::fs::metadata(path)?);
    let known = || DIGESTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, digest)) = known().get(path).filter(|(of, _)| *of == stamp) {
        return Ok(digest.clone());
    }
    let digest = Digest::from_bytes(&operator_file::read(path, MAX_PROGRAM_BYTES)?).to_string();
    let mut known = known();
    if known.len() >= MAX_DIGESTS {
        known.clear();
    }
    known.insert(path.to_path_buf(), (stamp, digest.clone()));
    Ok(digest)
}

fn compare(file: &Path, expected: &str, found: std::io::Result<String>, (name, fix): (&str, &str)) -> Result<(), Failure> {
    let title = match &found {
        Ok(found) if found.eq_ignore_ascii_case(expected) => return Ok(()),
        Ok(_) => format!("{} is not what the policy allows for {name}: its SHA-256 differs", file.display()),
        Err(error) => format!("{} cannot be compared with the policy: {error}", file.display()),
    };
    let detail = format!("policy: {expected}; found: {}", found.unwrap_or_default());
    Err(Failure::new(Class::Misconfigured, title, format!("{fix}; airbyte.connectors.{name}.sha256 is the reviewed digest"))
        .detail(detail))
}

#[cfg(test)]
#[path = "program_tests.rs"]
mod tests;

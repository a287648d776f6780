//! What is started for a connector, and the files that it may read.
//!
//! A connector is a package that `aam airbyte install` installed, or a command of the policy. A script is started through
//! its interpreter, and an interpreter of Python brings its virtual environment and its libraries with it.

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

/// Folders that belong to the whole system. What is beside a program there does not belong to it.
const SYSTEM_FOLDERS: [&str; 13] = [
    "/",
    "/bin",
    "/etc",
    "/home",
    "/opt",
    "/root",
    "/sbin",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/sbin",
    "/usr/local",
    "/usr/local/bin",
];

/// The number of bytes of a program that are looked at for the line that names its interpreter.
const MAX_FIRST_LINE_BYTES: u64 = 512;
/// The maximum size of a lock file and of `pyvenv.cfg` in bytes, and of a program whose digest is compared.
const MAX_TEXT_BYTES: u64 = 4 << 20;
const MAX_PROGRAM_BYTES: u64 = 512 << 20;

/// Finds what is started for the connector of the source type `name`, and compares its digest with the policy. Blocks.
///
/// # Errors
/// Returns `Misconfigured` if it is not installed or differs from the policy, and `Unsupported` for an image.
pub fn find(airbyte: &Airbyte, connector: &ConnectorPolicy, name: &str) -> Result<Program, Failure> {
    match &connector.run {
        Run::Package(package) => installed(airbyte, connector, (package, name)),
        Run::Command(command) => of_command(connector, command, name),
        Run::Image(image) => Err(unsupported_image(image, name)),
    }
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
    Ok(finished(program))
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
    let (started, given) = (program.program.clone(), path.clone());
    add_python(&mut program, &started);
    for path in [&given, &started] {
        program.readable.extend(own_folder(path));
    }
    let mut takes_script = is_python(&started) && program.arguments.is_empty();
    for argument in further {
        // The connector starts in a folder of its own, so its files are named by their whole paths.
        match Path::new(argument).exists().then(|| std::path::absolute(argument).ok()).flatten() {
            Some(path) => {
                program.stamp.push_str(&stamp(&path));
                program.arguments.push(path.display().to_string());
                // Python imports the modules beside a script.
                let beside = path.parent().filter(|folder| takes_script && path.is_file() && !is_system(folder));
                program.readable.extend(beside.map(Path::to_path_buf));
                takes_script = false;
                program.readable.push(path);
            }
            None => program.arguments.push(argument.clone()),
        }
    }
    program.stamp.push_str(&command.join("\0"));
    program.readable.push(given);
    Ok(finished(program))
}

/// Adds the files of the system, and resolves links, because what a link names is what is read.
fn finished(mut program: Program) -> Program {
    program.readable.extend(SYSTEM_FILES.iter().map(PathBuf::from));
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
    let environment = python.parent().and_then(Path::parent).filter(|folder| folder.join("pyvenv.cfg").is_file());
    if let Some(environment) = environment {
        program.readable.push(environment.to_path_buf());
        let config = operator_file::read_text(&environment.join("pyvenv.cfg"), MAX_TEXT_BYTES).unwrap_or_default();
        program.readable.extend(home(&config).as_deref().and_then(prefix));
    }
    if let Ok(real) = python.canonicalize() {
        program.readable.extend(real.parent().and_then(prefix));
        program.executable.push(real);
    }
}

/// Returns the folder of the interpreter that a virtual environment was made from.
fn home(config: &str) -> Option<PathBuf> {
    let lines = config.lines().filter_map(|line| line.split_once('='));
    lines.filter(|(key, _)| key.trim() == "home").map(|(_, value)| PathBuf::from(value.trim())).next()
}

/// Returns the folder with `bin` and `lib` of the program in `folder`, unless it is a folder of the system, whose libraries
/// may be read anyway.
fn prefix(folder: &Path) -> Option<PathBuf> {
    let folder = folder.canonicalize().ok()?;
    let prefix = if folder.ends_with("bin") { folder.parent()?.to_path_buf() } else { folder };
    (!is_system(&prefix)).then_some(prefix)
}

/// Returns the folder that belongs to a program: `/opt/source` for `/opt/source/bin/source`.
fn own_folder(program: &Path) -> Option<PathBuf> {
    let folder = program.parent()?;
    (folder.ends_with("bin") && !is_system(folder)).then(|| prefix(folder)).flatten()
}

fn is_system(folder: &Path) -> bool {
    let home = std::env::home_dir();
    SYSTEM_FOLDERS.iter().any(|system| Path::new(system) == folder) || home.is_some_and(|home| home == folder)
}

fn is_python(program: &Path) -> bool {
    program.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("python") || name.starts_with("pypy"))
}

/// Returns the interpreter that the first line of a script names, with its arguments.
fn interpreter(script: &Path) -> Option<(String, Vec<String>)> {
    let mut start = Vec::new();
    std::fs::File::open(script).ok()?.take(MAX_FIRST_LINE_BYTES).read_to_end(&mut start).ok()?;
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

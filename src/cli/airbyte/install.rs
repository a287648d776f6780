//! `aam airbyte install`.

use super::lock::{Lock, normal};
use super::staging::Staging;
use super::{InstallOptions, python};
use crate::cli::{CommandError, CommandResult, CommonOptions, terminal};
use crate::families::airbyte as known;
use crate::model::Digest;
use crate::model::text::counted;
use crate::operator_file;
use crate::policy::airbyte::connector_name;
use crate::policy::effective::quoted;
use crate::policy::{Policy, Run};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The maximum size of a lock file and of pip's report in bytes.
const MAX_LOCK_BYTES: u64 = 4 << 20;
const MAX_REPORT_BYTES: u64 = 64 << 20;

/// What is installed, and where.
struct Target {
    /// For example `airbyte-source-okta`.
    package: String,
    version: String,
    folder: PathBuf,
    lock: PathBuf,
    /// The digest of the lock file that the policy names for this version.
    expected: Option<String>,
}

pub fn run(common: &CommonOptions, options: &InstallOptions, policy: &Policy) -> CommandResult {
    let target = target(options, policy)?;
    let lock = read_lock(&target, options.renew)?;
    if let Some(text) = &lock {
        check_digest(&target, text)?;
    }
    if !common.quiet {
        let how = if lock.is_some() { " from its lock file" } else { "" };
        terminal::print_error(&format!("installing {} {}{how}\n", target.package, target.version));
    }
    let python = python::find(options.python.as_deref())?;
    let name = format!("{}-{}", connector_name(&target.package), target.version);
    let staging = Staging::new(&policy.airbyte.dir, &name).map_err(|error| cannot(&policy.airbyte.dir, "prepared", &error))?;
    python::make_environment(&python, staging.folder())?;
    let (text, draft) = match lock {
        Some(text) => (from_lock(staging.folder(), &target, options).map(|()| text)?, None),
        None => {
            let text = fresh(staging.folder(), &target, options)?;
            let draft = write(&target.lock, &text).map_err(|error| cannot(&target.lock, "written", &error))?;
            (text, Some(draft))
        }
    };
    let digest = Digest::from_bytes(text.as_bytes());
    staging.finish(digest).map_err(|error| cannot(&target.folder, "replaced", &error))?;
    if let Some(draft) = draft {
        std::fs::rename(draft, &target.lock).map_err(|error| cannot(&target.lock, "written", &error))?;
    }
    report(common, policy, &target, &text);
    Ok(ExitCode::SUCCESS)
}

fn target(options: &InstallOptions, policy: &Policy) -> Result<Target, CommandError> {
    let name = connector_name(&options.connector);
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || name.len() > 90 || !name.chars().all(fits) {
        return Err(CommandError::usage("this is not the name of a connector; write it as in source-okta"));
    }
    let package = format!("airbyte-{name}");
    let listed = policy.airbyte.connectors.values().find(|connector| connector.run == Run::Package(package.clone()));
    let shipped = known::find(name).map(|known| known.version.clone());
    let version = options.version.clone().or_else(|| listed.map(|connector| connector.version.clone())).or(shipped);
    let Some(version) = version else {
        return Err(CommandError::usage(format!(
            "the version of {name} is not known; write --version, pip index versions {package} lists the versions"
        )));
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+');
    if !version.starts_with(|c: char| c.is_ascii_digit()) || version.len() > 60 || !version.chars().all(fits) {
        return Err(CommandError::usage("this is not a version; write one version, for example --version 0.3.26"));
    }
    let expected = listed.filter(|connector| connector.version == version).and_then(|connector| connector.sha256.clone());
    let airbyte = &policy.airbyte;
    Ok(Target {
        folder: airbyte.environment(&package, &version),
        lock: airbyte.lock_file(&package, &version),
        package,
        version,
        expected,
    })
}

/// Returns the text of the lock file, unless it does not exist or is to be replaced.
fn read_lock(target: &Target, renew: bool) -> Result<Option<String>, CommandError> {
    if renew {
        return Ok(None);
    }
    match operator_file::read_text(&target.lock, MAX_LOCK_BYTES) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot(&target.lock, "read", &error)),
    }
}

fn check_digest(target: &Target, text: &str) -> Result<(), CommandError> {
    let found = Digest::from_bytes(text.as_bytes()).to_string();
    match &target.expected {
        Some(expected) if *expected != found => Err(CommandError::new(format!(
            "the lock file {} is not the one of the policy: its SHA-256 is {found}, and the policy names {expected}; fix: restore the file, or choose the packages anew with --renew and review them",
            target.lock.display()
        ))),
        _ => Ok(()),
    }
}

/// Installs exactly the packages of the lock file, and none whose digest differs.
fn from_lock(folder: &Path, target: &Target, options: &InstallOptions) -> Result<(), CommandError> {
    let lock = target.lock.display().to_string();
    let mut arguments = vec!["--require-hashes", "--no-deps", "-r", &lock];
    if options.wheels_only {
        arguments.push("--only-binary=:all:");
    }
    python::pip_install(&folder.join(python::IN_ENVIRONMENT), &arguments)?;
    has_program(folder, target)
}

/// Lets pip choose the packages. Returns the text of the lock file.
fn fresh(folder: &Path, target: &Target, options: &InstallOptions) -> Result<String, CommandError> {
    let wanted = format!("{}=={}", target.package, target.version);
    let replacements = replacements(target);
    let reports = if replacements.is_empty() {
        vec![reported(folder, options, &[wanted])?]
    } else {
        // pip does not install a package whose requirements cannot be met, so the package comes first and alone.
        let package = reported(folder, options, &["--no-deps".to_string(), wanted])?;
        let required = replaced(python::requirements(&folder.join(python::IN_ENVIRONMENT), &target.package)?, replacements);
        vec![package, reported(folder, options, &required)?]
    };
    has_program(folder, target)?;
    let lock = Lock::from_reports(&reports, &target.package, &target.version).map_err(CommandError::new)?;
    warn_if_different(target, &lock.text);
    Ok(lock.text)
}

/// Installs and returns pip's report.
fn reported(folder: &Path, options: &InstallOptions, wanted: &[String]) -> Result<Vec<u8>, CommandError> {
    let file = folder.join("install-report.json");
    let report = file.display().to_string();
    let mut arguments = vec!["--report", report.as_str()];
    arguments.extend(wanted.iter().map(String::as_str));
    if options.wheels_only {
        arguments.push("--only-binary=:all:");
    }
    python::pip_install(&folder.join(python::IN_ENVIRONMENT), &arguments)?;
    let bytes = operator_file::read(&file, MAX_REPORT_BYTES).map_err(|error| cannot(&file, "read", &error));
    // The report names the package registry, with what a private one needs to be reached.
    let _ = std::fs::remove_file(&file);
    bytes
}

/// The requirements that take the place of the package's own ones. They are those of the version that AAM was tried with.
fn replacements(target: &Target) -> &'static [String] {
    let known = known::find(connector_name(&target.package)).filter(|known| known.version == target.version);
    known.map(|known| known.requirements.as_slice()).unwrap_or_default()
}

/// Returns the replacements, and the package's own requirements for other projects.
fn replaced(own: Vec<String>, replacements: &[String]) -> Vec<String> {
    let project = |requirement: &str| {
        let is_name = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        normal(&requirement.chars().take_while(is_name).collect::<String>())
    };
    let is_replaced = |requirement: &String| replacements.iter().any(|one| project(one) == project(requirement));
    replacements.iter().cloned().chain(own.into_iter().filter(|requirement| !is_replaced(requirement))).collect()
}

/// Says that the policy names another choice of packages.
fn warn_if_different(target: &Target, text: &str) {
    let found = Digest::from_bytes(text.as_bytes()).to_string();
    if target.expected.as_ref().is_some_and(|expected| *expected != found) {
        terminal::print_error(
            "aam: pip chose other packages than those of the policy; the connector does not run until the policy names the new digest\n",
        );
    }
}

fn has_program(folder: &Path, target: &Target) -> Result<(), CommandError> {
    if folder.join("bin").join(connector_name(&target.package)).is_file() {
        return Ok(());
    }
    Err(CommandError::new(format!(
        "{} {} does not have the command {}, so it is not a connector; fix: check the name of the package",
        target.package,
        target.version,
        connector_name(&target.package)
    )))
}

/// Writes the text beside the file, and returns where. The lock file gets it together with the environment, so that an
/// installation that is interrupted does not change which packages the policy means.
fn write(path: &Path, text: &str) -> std::io::Result<PathBuf> {
    let draft = path.with_extension("lock.new");
    let mut file = std::fs::File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(draft)
}

fn cannot(path: &Path, what: &str, error: &std::io::Error) -> CommandError {
    CommandError::new(format!("{} could not be {what}: {error}", path.display()))
}

fn report(common: &CommonOptions, policy: &Policy, target: &Target, lock: &str) {
    let sha256 = Digest::from_bytes(lock.as_bytes()).to_string();
    let run = Run::Package(target.package.clone());
    let listed = policy.airbyte.connectors.iter().find(|(_, connector)| connector.run == run);
    let agrees = listed.is_some_and(|(_, listed)| {
        listed.version == target.version && listed.sha256.as_ref().is_none_or(|expected| *expected == sha256)
    });
    let packages = Lock::count(lock);
    let mut text = format!(
        "{} {} is installed in {}, with {}\n",
        target.package,
        target.version,
        target.folder.display(),
        counted(packages, "package")
    );
    let entry = entry(target, listed.map(|(name, _)| name.as_str()), &sha256);
    if agrees {
        text.push_str("the policy names this version\n");
    } else {
        text.push_str(&format!("add to the policy, and the source type to its allowlist:\n{entry}"));
    }
    let value = serde_json::json!({
        "package": target.package, "version": target.version, "folder": target.folder, "lock": target.lock,
        "packages": packages, "sha256": sha256, "in_policy": agrees, "policy": entry,
    });
    common.print(&text, &value);
}

/// The lines of the policy for the connector.
fn entry(target: &Target, listed: Option<&str>, sha256: &str) -> String {
    let name = connector_name(&target.package);
    let known = known::find(name);
    let own = known::source_type(name);
    let source_type = listed.unwrap_or(&own);
    let mut text = format!(
        "airbyte:\n  connectors:\n    {source_type}:\n      run: {}\n      version: {}\n      sha256: {}\n",
        target.package,
        quoted(&target.version),
        quoted(sha256)
    );
    if known.is_none() && listed.is_none() {
        text.push_str("      config: {}  # the keys of its specification, with {resource_id} and {credential.FIELD}\n");
        text.push_str("      hosts: []   # the hosts that it may call\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::parse::parse;

    fn policy(section: &str) -> Policy {
        let text = format!("version: 1\nallowlist: []\n{section}\n");
        parse(&text, "policy.yaml").unwrap_or_else(|problems| panic!("{text}: {problems:?}"))
    }

    fn options(connector: &str, version: Option<&str>) -> InstallOptions {
        let version = version.map(str::to_string);
        InstallOptions { connector: connector.to_string(), version, python: None, wheels_only: false, renew: false }
    }

    #[test]
    fn the_version_is_that_of_the_command_the_policy_or_the_tried_one() {
        let listed = policy("airbyte: {dir: d, connectors: {okta: {run: airbyte-source-okta, version: 0.3.9}}}");
        let version = |policy: &Policy, given| target(&options("source-okta", given), policy).map(|target| target.version).ok();
        assert_eq!(version(&listed, Some("0.4.0")).as_deref(), Some("0.4.0"));
        assert_eq!(version(&listed, None).as_deref(), Some("0.3.9"));
        assert_eq!(version(&policy(""), None), known::find("source-okta").map(|known| known.version.clone()));
        let target = target(&options("airbyte-source-okta", None), &listed).ok().expect("a target");
        assert_eq!(target.folder, Path::new("d/source-okta-0.3.9"));
    }

    #[test]
    fn a_requirement_that_cannot_be_met_is_replaced_for_the_tried_version_alone() {
        let target = |version| target(&options("source-s3", Some(version)), &policy("")).ok().expect("a target");
        let tried = known::find("source-s3").expect("a known connector");
        let known = replacements(&target(&tried.version));
        assert_eq!((known, replacements(&target("4.15.0")).len()), (tried.requirements.as_slice(), 0));
        let own = ["dill (>=0.3.4)", "smart_open[s3] (==4.16.1)", "smart-open-x"].map(str::to_string).to_vec();
        assert_eq!(replaced(own, known), ["smart-open[s3]==5.1.0", "dill (>=0.3.4)", "smart-open-x"]);
    }

    #[test]
    fn names_and_versions_cannot_leave_the_folder() {
        for (name, version) in [
            ("../x", None),
            ("source-okta/..", None),
            ("-r", None),
            ("source okta", None),
            ("source-unknown", None),
            ("source-okta", Some("../1")),
            ("source-okta", Some("1; x")),
            ("source-okta", Some(">=1")),
        ] {
            let refused = target(&options(name, version), &policy(""));
            assert!(refused.is_err_and(|error| error.code == crate::cli::EXIT_USAGE), "{name} {version:?}");
        }
    }

    #[test]
    fn the_lines_for_the_policy_are_accepted_by_it() {
        for name in ["source-okta", "source-acme-crm"] {
            let target = target(&options(name, Some("1.2")), &policy("")).ok().expect("a target");
            let entry = entry(&target, None, &"a".repeat(64));
            let read = policy(&entry);
            let (_, connector) = read.airbyte.connectors.iter().next().expect("a connector");
            assert_eq!((connector.version.as_str(), connector.sha256.as_deref()), ("1.2", Some("a".repeat(64).as_str())));
        }
    }
}

//! `aam airbyte list`.

use super::lock::Lock;
use super::staging;
use crate::cli::{CommandResult, CommonOptions, EXIT_NOT_YET};
use crate::connectors::airbyte::environment::{self, EnvironmentProblem};
use crate::model::Digest;
use crate::model::text::counted;
use crate::operator_file;
use crate::policy::airbyte::connector_name;
use crate::policy::{Airbyte, Policy, Run};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::process::ExitCode;

/// The maximum size of a lock file in bytes.
const MAX_LOCK_BYTES: u64 = 4 << 20;
/// The number of entries of the folder that are looked at.
const MAX_ENTRIES: usize = 2000;

/// One connector, installed or named by the policy.
#[derive(Debug, PartialEq, Serialize)]
struct Row {
    /// For example `source-okta`.
    connector: String,
    version: String,
    /// `package`, `command` or `image`.
    from: &'static str,
    /// The source types that it serves.
    source_types: Vec<String>,
    is_installed: bool,
    /// Whether an installation of it came to its end and was not changed since. `None` for what aam did not install.
    is_complete: Option<bool>,
    /// The number of packages that its lock file pins.
    packages: Option<usize>,
    /// The SHA-256 of the lock file.
    sha256: Option<String>,
    /// Whether it runs as the policy names it. `None` if the policy does not name it.
    agrees: Option<bool>,
    /// What is known about it, for people.
    state: String,
}

pub fn run(common: &CommonOptions, policy: &Policy) -> CommandResult {
    let rows = rows(&policy.airbyte);
    let wrong = rows.iter().filter(|row| row.agrees == Some(false) || row.is_complete == Some(false)).count();
    let mut text = String::new();
    for row in &rows {
        let source_types = if row.source_types.is_empty() { "-".to_string() } else { row.source_types.join(", ") };
        let _ = writeln!(text, "{:<28} {:<12} {:<8} {source_types:<20} {}", row.connector, row.version, row.from, row.state);
    }
    let _ = writeln!(text, "{} in {}", counted(rows.len(), "connector"), policy.airbyte.dir.display());
    common.print(&text, &rows);
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NOT_YET) })
}

/// The connectors of the policy, and then those that are only installed.
fn rows(airbyte: &Airbyte) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (source_type, connector) in &airbyte.connectors {
        let name = connector.run.connector_name().to_string();
        let is_package = matches!(connector.run, Run::Package(_));
        let same =
            |row: &&mut Row| is_package && row.from == "package" && row.connector == name && row.version == connector.version;
        let expected = connector.sha256.as_deref();
        let mut row = match &connector.run {
            Run::Package(package) => of_package(airbyte, package, &connector.version, Some(expected)),
            Run::Command(_) | Run::Image(_) => Row {
                connector: name.clone(),
                version: connector.version.clone(),
                from: connector.run.as_str(),
                source_types: Vec::new(),
                is_installed: true,
                is_complete: None,
                packages: None,
                sha256: connector.sha256.clone(),
                agrees: None,
                state: format!("runs {}; not installed by aam", connector.run.message()),
            },
        };
        // Two source types with one package may name different digests; what is wrong for one of them is shown.
        match rows.iter_mut().find(same) {
            Some(known) => {
                known.source_types.push(source_type.clone());
                if row.agrees == Some(false) {
                    (known.agrees, known.state) = (row.agrees, row.state);
                }
            }
            None => {
                row.source_types.push(source_type.clone());
                rows.push(row);
            }
        }
    }
    for (name, version) in installed(airbyte) {
        if !rows.iter().any(|row| row.from == "package" && row.connector == name && row.version == version) {
            rows.push(of_package(airbyte, &name, &version, None));
        }
    }
    rows
}

/// Describes a package. `expected` is the digest of the policy, or `None` if the policy does not name this version.
fn of_package(airbyte: &Airbyte, package: &str, version: &str, expected: Option<Option<&str>>) -> Row {
    let name = connector_name(package);
    let lock = operator_file::read_text(&airbyte.lock_file(package, version), MAX_LOCK_BYTES).ok();
    let digest = lock.as_ref().map(|text| Digest::from_bytes(text.as_bytes()));
    let sha256 = digest.map(|digest| digest.to_string());
    let has_program = airbyte.program(package, version).is_file();
    let install = format!("aam airbyte install {name} --version {version}");
    let problem = problem(airbyte, package, version, digest);
    let (agrees, state) = match (expected, has_program, &sha256) {
        (_, _, _) if problem == Some(EnvironmentProblem::Incomplete) => {
            (expected.map(|_| false), format!("incomplete: run {install} again"))
        }
        (_, true, Some(_)) if problem.is_some() => {
            let what = problem.as_ref().map(EnvironmentProblem::message).unwrap_or_default();
            (expected.map(|_| false), format!("{what}; fix: run {install} again"))
        }
        (None, true, Some(_)) => (None, "installed; the policy does not name it".to_string()),
        (None, _, _) => (None, format!("not complete; fix: {install}, or remove its folder")),
        (Some(_), false, _) => (Some(false), format!("not installed; fix: {install}")),
        (Some(_), true, None) => (Some(false), format!("installed without a lock file; fix: {install}")),
        (Some(Some(wanted)), true, Some(found)) if wanted != found => (
            Some(false),
            format!(
                "the SHA-256 of its lock file is {found}, and the policy names {wanted}; fix: restore the lock file, or review its packages and write its SHA-256 into the policy"
            ),
        ),
        (Some(None), true, Some(found)) => {
            (Some(true), format!("installed; the policy does not pin its packages, write sha256: \"{found}\""))
        }
        (Some(Some(_)), true, Some(_)) => (Some(true), "installed as the policy says".to_string()),
    };
    Row {
        connector: name.to_string(),
        version: version.to_string(),
        from: "package",
        source_types: Vec::new(),
        is_installed: has_program,
        is_complete: Some(problem.is_none()).filter(|complete| has_program || !complete),
        packages: lock.as_deref().map(Lock::count),
        sha256,
        agrees,
        state,
    }
}

/// What is wrong with the environment of a package, or with an installation that was interrupted before there was one.
fn problem(airbyte: &Airbyte, package: &str, version: &str, lock: Option<Digest>) -> Option<EnvironmentProblem> {
    let environment = airbyte.environment(package, version);
    if environment.is_dir() {
        return environment::check(&environment, lock).err();
    }
    let name = format!("{}-{version}", connector_name(package));
    let is_interrupted = staging::interrupted(&airbyte.dir).iter().any(|(_, interrupted)| *interrupted == name);
    is_interrupted.then_some(EnvironmentProblem::Incomplete)
}

/// The names and versions of the virtual environments and lock files in the folder.
fn installed(airbyte: &Airbyte) -> BTreeSet<(String, String)> {
    let Ok(entries) = std::fs::read_dir(&airbyte.dir) else { return BTreeSet::new() };
    let names = entries.filter_map(Result::ok).take(MAX_ENTRIES).map(|entry| entry.file_name().to_string_lossy().into_owned());
    let interrupted = staging::interrupted(&airbyte.dir).into_iter().map(|(_, name)| name);
    names.chain(interrupted).filter_map(|name| name_and_version(&name)).collect()
}

/// Reads the name of a virtual environment or a lock file: `source-okta-0.3.26`, `source-okta-0.3.26.lock`.
fn name_and_version(file: &str) -> Option<(String, String)> {
    let (name, version) = file.strip_suffix(".lock").unwrap_or(file).rsplit_once('-')?;
    // Hidden folders and drafts of lock files belong to an installation that runs or was interrupted.
    (!name.is_empty()
        && !name.starts_with('.')
        && !version.ends_with(".new")
        && version.starts_with(|c: char| c.is_ascii_digit()))
    .then(|| (name.to_string(), version.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::parse::parse;
    use std::path::Path;

    fn airbyte(dir: &Path, connectors: &str) -> Airbyte {
        let text = format!("version: 1\nallowlist: []\nairbyte: {{dir: \"{}\", connectors: {{{connectors}}}}}\n", dir.display());
        parse(&text, "policy.yaml").unwrap_or_else(|problems| panic!("{text}: {problems:?}")).airbyte
    }

    fn install(dir: &Path, name: &str, lock: Option<&str>) {
        let bin = dir.join(name).join("bin");
        std::fs::create_dir_all(&bin).expect("a folder");
        let program = name.rsplit_once('-').expect("a version").0;
        std::fs::write(bin.join(program), "").expect("a program");
        environment::mark_complete(&dir.join(name), Digest::from_bytes(lock.unwrap_or_default().as_bytes())).expect("marked");
        if let Some(lock) = lock {
            std::fs::write(dir.join(format!("{name}.lock")), lock).expect("a lock file");
        }
    }

    #[test]
    fn each_connector_is_compared_with_the_policy() {
        let folder = tempfile::tempdir().expect("a folder");
        let (lock, dir) = ("a==1 --hash=sha256:x\n", folder.path());
        let digest = Digest::from_bytes(lock.as_bytes());
        install(dir, "source-okta-0.3.26", Some(lock));
        install(dir, "source-github-2.7.1", Some(lock));
        install(dir, "source-faker-7.2.1", Some(lock));
        install(dir, "source-gitlab-4.3.7", None);
        let zeros = "0".repeat(64);
        let policy = airbyte(
            dir,
            &format!(
                "okta: {{run: airbyte-source-okta, version: 0.3.26, sha256: \"{digest}\"}}, \
                 okta_two: {{run: airbyte-source-okta, version: 0.3.26}}, \
                 github: {{run: airbyte-source-github, version: 2.7.1, sha256: \"{zeros}\"}}, \
                 s3: {{run: airbyte-source-s3, version: 4.16.1}}, \
                 own: {{run: [/opt/own], config: {{}}}}"
            ),
        );
        let rows = rows(&policy);
        let row = |name: &str| rows.iter().find(|row| row.connector == name).unwrap_or_else(|| panic!("{name}: {rows:#?}"));
        assert_eq!(
            (row("source-okta").agrees, row("source-okta").source_types.join(" ").as_str()),
            (Some(true), "okta okta_two")
        );
        assert_eq!((row("source-okta").packages, row("source-okta").sha256.clone()), (Some(1), Some(digest.to_string())));
        assert_eq!((row("source-github").agrees, row("source-s3").agrees), (Some(false), Some(false)));
        assert!(row("source-github").state.contains(&zeros) && row("source-s3").state.starts_with("not installed"));
        assert_eq!((row("source-faker").agrees, row("source-gitlab").agrees, row("own").agrees), (None, None, None));
        assert!(row("source-gitlab").state.starts_with("not complete") && row("own").from == "command");
        assert_eq!(rows.len(), 6);
    }

    #[test]
    fn what_is_incomplete_or_was_changed_is_said_with_the_command_to_type() {
        let folder = tempfile::tempdir().expect("a folder");
        let (lock, dir) = ("a==1 --hash=sha256:x\n", folder.path());
        for name in ["source-okta-1.0", "source-github-1.0", "source-gitlab-1.0", "source-faker-1.0"] {
            install(dir, name, Some(lock));
        }
        // An installation of an earlier version or one that was interrupted, a changed script, another lock file, and an
        // installation that left only its own folder.
        std::fs::remove_file(dir.join("source-okta-1.0/aam-installation")).expect("removed");
        std::fs::remove_file(dir.join("source-faker-1.0/aam-installation")).expect("removed");
        std::fs::write(dir.join("source-github-1.0/bin/source-github"), "changed").expect("written");
        std::fs::write(dir.join("source-gitlab-1.0.lock"), "a==2\n").expect("written");
        std::fs::create_dir_all(dir.join(".installing-source-s3-1.0-2147483600/bin")).expect("created");
        let named =
            ["okta", "github", "gitlab", "s3"].map(|name| format!("{name}: {{run: airbyte-source-{name}, version: \"1.0\"}}"));
        let policy = airbyte(dir, &named.join(", "));
        let rows = rows(&policy);
        for (name, agrees, state) in [
            ("source-okta", Some(false), "incomplete: run aam airbyte install source-okta --version 1.0 again"),
            ("source-faker", None, "incomplete: run aam airbyte install source-faker --version 1.0 again"),
            ("source-s3", Some(false), "incomplete: run aam airbyte install source-s3 --version 1.0 again"),
            (
                "source-github",
                Some(false),
                "was changed after it was installed: \"bin/source-github\"; fix: run aam airbyte install source-github --version 1.0 again",
            ),
            (
                "source-gitlab",
                Some(false),
                "was installed from another lock file than the one beside it; fix: run aam airbyte install source-gitlab --version 1.0 again",
            ),
        ] {
            let row = rows.iter().find(|row| row.connector == name).unwrap_or_else(|| panic!("{name}: {rows:#?}"));
            assert_eq!((row.agrees, row.is_complete, row.state.as_str()), (agrees, Some(false), state), "{name}");
        }
        assert_eq!(rows.len(), 5, "{rows:#?}");
    }

    #[test]
    fn only_names_with_a_version_are_installations() {
        let read = |name: &str| name_and_version(name).map(|(name, version)| format!("{name} {version}"));
        assert_eq!(read("source-google-ads-1.2.3.lock").as_deref(), Some("source-google-ads 1.2.3"));
        assert_eq!(read("source-okta-0.3.26").as_deref(), Some("source-okta 0.3.26"));
        assert_eq!((read("source-okta"), read("notes"), read("-1")), (None, None, None));
        assert_eq!((read(".installing-source-okta-0.3.26-77"), read("source-okta-0.3.26.lock.new")), (None, None));
    }
}

//! `aam init`: writes what an installation begins with, where it does not exist yet.

use super::{CommandError, CommandResult, CommonOptions, terminal};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  aam init                                     in the current folder
  aam init --intents /etc/aam/intents --policy /etc/aam/policy/policy.yaml --unit /etc/systemd/system/aam.service
  aam init --registry /srv/aam/aam.db           the unit uses this registry")]
pub struct InitOptions {
    /// Where the unit of systemd is written
    #[arg(long, default_value = "aam.service")]
    unit: PathBuf,
    /// Do not write a unit of systemd
    #[arg(long)]
    no_unit: bool,
}

/// The commented policy, which shows every default.
const POLICY: &str = include_str!("../../policy/policy.yaml");
const UNIT: &str = include_str!("../../docs/deploy/aam.service");
/// The folder that the unit may write to: its `StateDirectory`.
const STATE_FOLDER: &str = "/var/lib/aam";
/// Folders that `ProtectHome=yes` hides from a service.
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];

/// Exits with 0. Nothing that exists is changed.
pub fn run(common: &CommonOptions, options: &InitOptions) -> CommandResult {
    let mut text = String::new();
    let existed = common.intents.is_dir();
    std::fs::create_dir_all(&common.intents).map_err(|error| cannot_write(&common.intents, &error))?;
    text.push_str(&line(&common.intents, existed, "put intents here, as .json or .yaml files"));
    if let Some(folder) = common.policy.parent() {
        std::fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))?;
    }
    let existed = !write_new(&common.policy, POLICY)?;
    text.push_str(&line(&common.policy, existed, "what AAM may do; review changes like code"));
    if !options.no_unit {
        let existed = !write_new(&options.unit, &unit(common))?;
        text.push_str(&line(&options.unit, existed, "a service of systemd; its first lines say how to install it"));
    }
    text.push_str("next: aam check, aam plan, and aam serve\n");
    terminal::print(&text);
    Ok(ExitCode::SUCCESS)
}

/// The unit with the paths that are given in place of its own. Its own folder for the registry is writable anyway.
fn unit(common: &CommonOptions) -> String {
    let mut text = UNIT.to_string();
    let paths = [("intents", "AAM_INTENTS", &common.intents), ("policy", "AAM_POLICY", &common.policy)];
    let registry = common.registry.local().to_path_buf();
    for (flag, variable, path) in paths.into_iter().chain([("registry", "AAM_REGISTRY", &registry)]) {
        if !common.is_given(flag) {
            continue;
        }
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let mut setting = format!("Environment={}", quoted(&format!("{variable}={}", path.display())));
        if let (true, Some(folder)) = (flag == "registry" && !path.starts_with(STATE_FOLDER), path.parent()) {
            setting.push_str(&format!("\nReadWritePaths={}", quoted(&folder.display().to_string())));
        }
        text = with_line(&text, &format!("Environment={variable}="), &setting);
        if HOMES.iter().any(|home| path.starts_with(home)) {
            text = with_line(&text, "ProtectHome=", "ProtectHome=read-only");
        }
    }
    text
}

/// Replaces the lines of `text` that begin with `start`.
fn with_line(text: &str, start: &str, line: &str) -> String {
    text.lines().map(|known| if known.starts_with(start) { line } else { known }).map(|line| format!("{line}\n")).collect()
}

/// Quotes a value of a unit, if that is needed. A `%` begins a specifier.
fn quoted(value: &str) -> String {
    let value = value.replace('%', "%%");
    match value.contains([' ', '\t', '"', '\'', '\\']) {
        true => format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")),
        false => value,
    }
}

fn line(path: &Path, existed: bool, what: &str) -> String {
    let state = if existed { "exists, not changed" } else { what };
    format!("{}  {state}\n", path.display())
}

/// Writes a file unless one exists. Returns whether it was written.
fn write_new(path: &Path, text: &str) -> Result<bool, CommandError> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| true).map_err(|error| cannot_write(path, &error)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(cannot_write(path, &error)),
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> CommandError {
    CommandError::new(format!(
        "cannot write {}: {error}; choose another place with --intents, --policy or --unit",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_a_unit_is_quoted_where_systemd_would_split_it() {
        assert_eq!(quoted("AAM_INTENTS=/srv/aam"), "AAM_INTENTS=/srv/aam");
        assert_eq!(quoted("AAM_INTENTS=/srv/a b"), "\"AAM_INTENTS=/srv/a b\"");
        assert_eq!(quoted("/srv/100%"), "/srv/100%%");
        assert_eq!(quoted(r#"/srv/a"b\c"#), r#""/srv/a\"b\\c""#);
    }

    #[test]
    fn the_unit_has_the_lines_that_are_replaced() {
        for start in ["Environment=AAM_INTENTS=", "Environment=AAM_POLICY=", "Environment=AAM_REGISTRY=", "ProtectHome="] {
            assert_eq!(UNIT.lines().filter(|line| line.starts_with(start)).count(), 1, "{start}");
        }
        assert_eq!(with_line("a=1\nb=2\n", "a=", "a=3"), "a=3\nb=2\n");
    }
}

//! `aam policy diff OLD NEW`: shows what would change, what of it is wider, and for which connections.

mod git;

use super::{CommandError, CommandResult, CommonOptions, Format, terminal};
use crate::model::Digest;
use crate::model::text::counted;
use crate::policy::LoadedPolicy;
use crate::policy::diff::{self, CONNECTIONS, Change, ConnectionLine, Effect, Verdict};
use crate::policy_loader;
use crate::registry::Reader;
use crate::server::auth;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The exit code for changes of which none is wider.
const EXIT_NARROWER: u8 = 3;
/// The exit code for a change that lets AAM or a caller do more.
const EXIT_WIDER: u8 = 4;

#[derive(clap::Subcommand)]
pub enum PolicyCommand {
    /// Explain what would change from OLD to NEW, what of it is wider, and for which connections
    #[command(after_help = "Exit codes: 0 no changes, 3 changes of which none is wider, 4 at least one change is wider,
64 and 78 as for every command. docs/policy-changes.md lists what counts as wider, and has a workflow for pull requests.

Examples:
  aam policy diff HEAD:policy/policy.yaml                        the file against the last commit
  aam policy diff origin/main:policy/policy.yaml HEAD:policy/policy.yaml --format markdown
  aam policy diff old.yaml new.yaml --registry backup/aam.db     with the connections of a copy of the registry")]
    Diff {
        /// The policy as it is: a file, or REF:PATH of a git repository, for example origin/main:policy/policy.yaml
        old: PathBuf,
        /// The policy as it would be, also a file or REF:PATH [default: the file of --policy]
        new: Option<PathBuf>,
    },
}

/// Exits with 0 if nothing changes, with 3 or 4 if something does, and with 78 if one of the policies is not valid.
pub fn run(common: &CommonOptions, command: &PolicyCommand) -> CommandResult {
    let PolicyCommand::Diff { old, new } = command;
    let (old, new) = (read(old)?, read(new.as_ref().unwrap_or(&common.policy))?);
    let connections = connections(common);
    let admin = auth::read_admin(common.registry.local()).ok();
    let admin = admin.map(|admin| Digest::from_bytes(admin.token().expose().as_bytes()));
    let changes = diff::diff(&old, &new, connections.as_deref().ok(), admin.as_ref());
    let note = connections.err().filter(|_| !changes.is_empty()).map(|reason| {
        format!("The effects on connections are unknown, because {reason}; pass a registry or a copy of one with --registry.")
    });
    let verdict = Verdict::over(&changes);
    match common.format {
        Format::Markdown => terminal::print(&diff::markdown(&changes, note.as_deref())),
        Format::Text | Format::Json | Format::Csv | Format::Svg | Format::Html => {
            let value = serde_json::json!({
                "verdict": verdict,
                "connections": if note.is_none() { "known" } else { "unknown" },
                "changes": changes,
            });
            common.print(&text(&changes, note.as_deref()), &value);
        }
    }
    Ok(match verdict {
        Verdict::None => ExitCode::SUCCESS,
        Verdict::Narrower => ExitCode::from(EXIT_NARROWER),
        Verdict::Wider => ExitCode::from(EXIT_WIDER),
    })
}

fn text(changes: &[Change], note: Option<&str>) -> String {
    if changes.is_empty() {
        return "no changes\n".to_string();
    }
    let mut out: String = changes.iter().map(|change| format!("{}\n", change.text)).collect();
    let count = |effect: Effect| changes.iter().filter(|change| change.effect == effect).count();
    let (wider, narrower) = (count(Effect::Wider), count(Effect::Narrower));
    // What follows for connections is not a change of its own.
    let total = changes.iter().filter(|change| change.key != CONNECTIONS).count();
    out.push_str(&format!("{}: {wider} wider, {narrower} narrower\n", counted(total, "change")));
    if let Some(note) = note {
        out.push_str(&format!("{note}\n"));
    }
    out
}

/// Reads a policy from a file, or from a commit if there is no such file and the argument has the form `REF:PATH`.
fn read(argument: &Path) -> Result<LoadedPolicy, CommandError> {
    if argument.exists() {
        return policy_loader::load(argument).loaded.map_err(|problems| CommandError::config(&problems));
    }
    match argument.to_str().and_then(|text| text.split_once(':')) {
        Some((revision, path)) => git::read(revision, path),
        None => Err(CommandError {
            code: super::EXIT_CONFIG,
            message: format!(
                "{} does not exist; write the path of a policy, or REF:PATH for one in git, for example origin/main:policy/policy.yaml",
                argument.display()
            ),
        }),
    }
}

/// Returns the connections of the registry, or why it cannot be read as the end of a sentence.
fn connections(common: &CommonOptions) -> Result<Vec<ConnectionLine>, String> {
    let shown = &common.registry;
    if common.registry.postgres().is_none() && !common.registry.local().exists() {
        return Err(format!("there is no registry {shown}"));
    }
    let unreadable = |error: crate::registry::RegistryError| format!("the registry {shown} cannot be read: {error}");
    let reader = Reader::open(&common.registry).map_err(unreadable)?;
    let snapshot = reader.snapshot().map_err(unreadable)?;
    let lines = snapshot
        .connections
        .iter()
        .filter(|(_, known)| known.retired.is_none() && !snapshot.is_closed(&known.namespace))
        .filter_map(|(id, known)| reader.policy_line(id, &known))
        .collect();
    Ok(lines)
}

//! `aam completion` and `aam man`: what shells and `man` read, generated from the command line itself.

use super::{CommandError, CommandResult, help, terminal};
use clap_complete::Shell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  aam completion bash > /etc/bash_completion.d/aam
  aam completion zsh > \"${fpath[1]}/_aam\"
  aam completion fish > ~/.config/fish/completions/aam.fish")]
pub struct CompletionOptions {
    /// The shell
    shell: Shell,
}

#[derive(clap::Args)]
#[command(after_help = "Example: aam man /usr/local/share/man/man1")]
pub struct ManOptions {
    /// The folder, which is created if it does not exist
    folder: PathBuf,
}

/// Exits with 0.
pub fn run(options: &CompletionOptions) -> CommandResult {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut help::command(), "aam", &mut script);
    terminal::print(&String::from_utf8_lossy(&script));
    Ok(ExitCode::SUCCESS)
}

/// Exits with 0, or with 1 if a page cannot be written.
pub fn man(options: &ManOptions) -> CommandResult {
    let failed = |path: &Path, error: std::io::Error| CommandError::new(format!("cannot write {}: {error}", path.display()));
    std::fs::create_dir_all(&options.folder).map_err(|error| failed(&options.folder, error))?;
    let mut count = 0;
    for (name, page) in pages(help::command(), "") {
        let path = options.folder.join(format!("{name}.1"));
        std::fs::write(&path, page).map_err(|error| failed(&path, error))?;
        count += 1;
    }
    terminal::print_line(&format!(
        "{count} pages in {}; man -l {}/aam.1 shows the first",
        options.folder.display(),
        options.folder.display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// The pages of a command and of its subcommands, with their names.
fn pages(command: clap::Command, before: &str) -> Vec<(String, Vec<u8>)> {
    let name = if before.is_empty() { command.get_name().to_string() } else { format!("{before}-{}", command.get_name()) };
    let below: Vec<clap::Command> =
        command.get_subcommands().filter(|command| command.get_name() != "help" && !command.is_hide_set()).cloned().collect();
    let mut page = Vec::new();
    let mut pages = Vec::new();
    // Writing to a vector cannot fail.
    if clap_mangen::Man::new(command.display_name(name.clone())).render(&mut page).is_ok() {
        pages.push((name.clone(), page));
    }
    pages.extend(below.into_iter().flat_map(|command| self::pages(command, &name)));
    pages
}

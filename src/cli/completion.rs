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
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    if clap_mangen::Man::new(command.display_name(name.clone())).render(&mut page).is_ok() {
        pages.push((name.clone(), with_sections(&page, &help)));
    }
    pages.extend(below.into_iter().flat_map(|command| self::pages(command, &name)));
    pages
}

/// The heading under which a manual page has the text after the help.
const EXTRA: &str = ".SH EXTRA\n";

/// Puts the text after the help under the headings that readers of manual pages look for, line by line as it is printed.
fn with_sections(page: &[u8], help: &str) -> Vec<u8> {
    let page = String::from_utf8_lossy(page);
    let Some((before, extra)) = page.split_once(EXTRA) else { return page.as_bytes().to_vec() };
    let after = extra.find("\n.SH ").and_then(|at| extra.get(at + 1..)).unwrap_or_default();
    format!("{before}{after}{}", sections(help)).into_bytes()
}

/// The sections of the text after the help: its examples or its exit codes, and notes.
fn sections(help: &str) -> String {
    let mut text = String::new();
    for block in help.split("\n\n").filter(|block| !block.trim().is_empty()) {
        let (heading, lines) = match block.split_once('\n') {
            Some(("Examples:", lines)) => ("EXAMPLES", lines),
            Some(("Exit codes:", lines)) => ("EXIT STATUS", lines),
            _ if block.starts_with("Example") => ("EXAMPLES", block.trim_start_matches("Example: ")),
            _ => ("NOTES", block),
        };
        let again = text.contains(&format!(".SH {heading}\n"));
        text.push_str(&if again { ".sp\n.nf\n".to_string() } else { format!(".SH {heading}\n.nf\n") });
        text.extend(lines.lines().map(|line| format!("{}\n", escaped(line.trim_end()))));
        text.push_str(".fi\n");
    }
    text
}

/// Escapes one line for roff.
fn escaped(line: &str) -> String {
    let line = line.replace('\\', "\\e").replace('-', "\\-");
    // A control character at the beginning would be a request of roff.
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_after_the_help_gets_the_usual_headings() {
        let help = "Examples:\n  aam x --y\n.z\n\nA note.\n\nAnother.";
        let expected = ".SH EXAMPLES\n.nf\n  aam x \\-\\-y\n\\&.z\n.fi\n.SH NOTES\n.nf\nA note.\n.fi\n.sp\n.nf\nAnother.\n.fi\n";
        assert_eq!(sections(help), expected);
        let page = with_sections(b".SH NAME\nx\n.SH EXTRA\nold\n.SH VERSION\nv1\n", "Example: aam x");
        assert_eq!(String::from_utf8_lossy(&page), ".SH NAME\nx\n.SH VERSION\nv1\n.SH EXAMPLES\n.nf\naam x\n.fi\n");
        assert_eq!(with_sections(b".SH NAME\nx\n", ""), b".SH NAME\nx\n");
    }

    #[test]
    fn every_page_of_a_command_lists_its_examples_under_their_heading() {
        for (name, page) in pages(help::command(), "") {
            let text = String::from_utf8_lossy(&page).into_owned();
            assert!(!text.contains(EXTRA) && !text.contains("Examples:"), "{name}: {text}");
            assert!(name == "aam" || text.contains(".SH EXAMPLES\n.nf\n"), "{name}: {text}");
        }
    }
}

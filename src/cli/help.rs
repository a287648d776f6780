//! The command line as clap parses it. The flags that all commands accept are shown in the help of those that use them.

use super::Cli;
use clap::{Command, CommandFactory};

/// The common flags that each command uses. Commands of two words, such as `token new`, use those of their first word.
const USED: [(&str, &[&str]); 25] = [
    ("stop", &["registry", "port", "bind"]),
    ("restart", &["intents", "policy", "registry", "port", "bind"]),
    ("reload", &["registry", "port", "bind"]),
    ("serve", &["intents", "policy", "registry", "port", "bind"]),
    ("once", &["intents", "policy", "registry", "format"]),
    ("plan", &["intents", "policy", "registry", "format"]),
    ("check", &["intents", "policy", "format"]),
    ("status", &["intents", "policy", "registry", "format"]),
    ("report", &["intents", "policy", "registry", "format"]),
    ("heal", &["intents", "policy", "registry", "port", "bind", "format"]),
    ("gate", &["policy", "format"]),
    ("test", &["policy", "format"]),
    ("verify", &["registry", "format"]),
    ("token", &["policy", "format"]),
    ("secret", &["policy", "registry", "format"]),
    ("consent", &["policy", "registry", "port", "bind", "format"]),
    ("policy", &["registry", "format"]),
    ("families", &["policy", "registry", "format"]),
    ("lowcode", &["policy"]),
    ("init", &["intents", "policy"]),
    ("version", &["format"]),
    ("completion", &[]),
    ("man", &[]),
    ("confirm", &["intents", "policy", "registry", "port", "bind", "format"]),
    ("mcp", &["intents", "policy", "registry", "port", "bind"]),
];

/// The flags that are hidden where they are not used.
const COMMON: [&str; 7] = ["intents", "policy", "registry", "seeds", "port", "bind", "format"];

/// Returns the command line.
#[must_use]
pub fn command() -> Command {
    let mut command = Cli::command();
    // The common flags are copied to the subcommands when the command is built.
    command.build();
    let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_string()).collect();
    for name in names {
        if let Some((_, used)) = USED.iter().find(|(known, _)| *known == name) {
            command = command.mut_subcommand(&name, |command| hide(command, used));
        }
    }
    command
}

fn hide(mut command: Command, used: &[&str]) -> Command {
    let present: Vec<String> = command.get_arguments().map(|argument| argument.get_id().to_string()).collect();
    for name in COMMON.iter().filter(|name| !used.contains(*name) && present.iter().any(|id| id == *name)) {
        command = command.mut_arg(name, |argument| argument.hide(true));
    }
    let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_string()).collect();
    for name in names {
        command = command.mut_subcommand(&name, |command| hide(command, used));
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_says_which_flags_it_uses() {
        let command = Cli::command();
        for name in command.get_subcommands().map(clap::Command::get_name).filter(|name| *name != "help") {
            assert!(USED.iter().any(|(known, _)| *known == name), "{name} is not in the table");
        }
        for flag in USED.iter().flat_map(|(_, used)| *used) {
            assert!(COMMON.contains(flag), "{flag} is not a common flag");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}

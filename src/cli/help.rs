//! The command line as clap parses it. The flags that all commands accept are shown in the help of those that use them.

use super::{Cli, examples};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory};

/// The common flags that each command uses. Commands of two words, such as `token new`, use those of their first word.
const USED: [(&str, &[&str]); 36] = [
    ("stop", &["registry", "port", "bind"]),
    ("restart", &["intents", "policy", "registry", "port", "bind"]),
    ("reload", &["registry", "port", "bind"]),
    ("serve", &["intents", "policy", "registry", "port", "bind"]),
    ("once", &["intents", "policy", "registry", "format"]),
    ("plan", &["intents", "policy", "registry", "format"]),
    ("check", &["intents", "policy", "registry", "format"]),
    ("status", &["intents", "policy", "registry", "format"]),
    ("privileges", &["policy", "registry", "format"]),
    ("drift", &["policy", "registry", "port", "bind", "format"]),
    ("catalog", &["policy", "registry", "format"]),
    ("query", &["registry", "format"]),
    ("report", &["intents", "policy", "registry", "format"]),
    ("heal", &["intents", "policy", "registry", "port", "bind", "format"]),
    ("gate", &["policy", "format"]),
    ("test", &["policy", "format"]),
    ("verify", &["registry", "format"]),
    ("backup", &["registry", "format"]),
    ("restore", &["registry", "format"]),
    ("registry", &["registry", "format"]),
    ("health", &["port", "bind"]),
    ("calls", &["registry", "format"]),
    ("evidence", &["registry", "format"]),
    ("token", &["policy", "registry", "format"]),
    ("secret", &["intents", "policy", "registry", "format"]),
    ("consent", &["policy", "registry", "format"]),
    ("policy", &["policy", "registry", "format"]),
    ("families", &["policy", "format"]),
    ("airbyte", &["policy", "format"]),
    ("lowcode", &["policy"]),
    ("init", &["intents", "policy", "registry"]),
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
    let common: Vec<Arg> =
        command.get_arguments().filter(|argument| COMMON.contains(&argument.get_id().as_str())).cloned().collect();
    let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_string()).collect();
    for name in names {
        if let Some((_, used)) = USED.iter().find(|(known, _)| *known == name) {
            let hidden: Vec<Arg> =
                common.iter().filter(|argument| !used.contains(&argument.get_id().as_str())).cloned().collect();
            command = command.mut_subcommand(&name, |command| {
                let command = if name == "policy" { with_markdown(command, &common) } else { command };
                with_hidden(command, &hidden)
            });
        }
    }
    examples::add(command, "")
}

/// Returns the names of the common flags that are set on the command line or in the environment.
#[must_use]
pub fn given(matches: &ArgMatches) -> Vec<&'static str> {
    let is_given = |name: &&'static str| matches.value_source(name).is_some_and(|source| source != ValueSource::DefaultValue);
    COMMON.into_iter().filter(is_given).collect()
}

/// `aam policy diff` has a further format, whose value is hidden elsewhere.
fn with_markdown(command: Command, common: &[Arg]) -> Command {
    let Some(format) = common.iter().find(|argument| argument.get_id() == "format").cloned() else { return command };
    let format = format.help("Output format: text, json or markdown").hide_possible_values(true);
    command.mut_subcommand("diff", |command| command.arg(format))
}

/// Adds hidden copies of flags that clap would otherwise copy and show.
fn with_hidden(mut command: Command, flags: &[Arg]) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_string()).collect();
    for name in names {
        command = command.mut_subcommand(&name, |command| with_hidden(command, flags));
    }
    command.args(flags.iter().map(|flag| flag.clone().hide(true)))
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
        command().debug_assert();
    }

    #[test]
    fn a_flag_is_shown_where_it_is_used_and_read_everywhere() {
        let matches = command().try_get_matches_from(["aam", "verify", "--port", "7", "--bind", "::1"]).unwrap();
        let cli = <Cli as clap::FromArgMatches>::from_arg_matches(&matches).unwrap();
        assert_eq!((cli.common.port, cli.common.bind.to_string().as_str()), (7, "::1"));
        let named = given(&matches);
        assert!(named.contains(&"port") && named.contains(&"bind") && !named.contains(&"format"), "{named:?}");
        let mut command = command();
        // The common flags are copied to the subcommands when the command is built.
        command.build();
        let help = command.find_subcommand_mut("verify").unwrap().render_help().to_string();
        assert!(help.contains("--registry") && !help.contains("--port"), "{help}");
    }
}

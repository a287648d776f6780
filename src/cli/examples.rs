//! The examples at the end of the help of each command. A test parses each of them as a command line.

use clap::Command;

/// Commands as they are typed, each with its examples. A command that has more to explain keeps its examples beside its flags.
const EXAMPLES: &[(&str, &str)] = &[
    (
        "serve",
        "  aam serve                                 on 127.0.0.1:5000, in the foreground
  aam serve --port 8080 --log-file var/aam.log --log-format json
  aam serve --bind 0.0.0.0 --registry /var/lib/aam/aam.db",
    ),
    ("stop", "  aam stop\n  aam stop --port 8080 --registry /var/lib/aam/aam.db"),
    ("restart", "  aam restart                               after new environment variables or a new version"),
    ("reload", "  aam reload                                after changes on a file system that reports none"),
    (
        "registry",
        "  aam registry init --registry 'postgres://owner@db/aam?credential=env:OWNER_PASSWORD' --role aam
  aam registry migrate --to 'postgres://aam@db/aam?credential=env:AAM_DB_PASSWORD'
  aam registry replicas --registry 'postgres://aam@db/aam?credential=env:AAM_DB_PASSWORD'",
    ),
    ("registry replicas", "  aam registry replicas --registry 'postgres://aam@db/aam?credential=env:AAM_DB_PASSWORD'"),
    ("drift acknowledge", "  aam drift acknowledge 3f2a --note TICKET-4711"),
    ("catalog show", "  aam catalog show 3f2a                     the streams and fields in force"),
    ("catalog diff", "  aam catalog diff 3f2a 1 2                 what changed from version 1 to version 2"),
    ("evidence keygen", "  aam evidence keygen audit.key             writes audit.key and audit.key.pub"),
    (
        "once",
        "  aam once                                  connect what is due, then end; a bar on a terminal
  aam once -q > summary.txt                 in a scheduled job: the summary only
  aam once -v --log-file once.log           log each attempt and each call into a file
  aam once --format json",
    ),
    (
        "plan",
        "  aam plan                                  every attempt with its reason and its calls, totals at the end
  aam plan --out plan.json                  the totals here, everything as JSON in the file
  aam plan --format json",
    ),
    (
        "check",
        "  aam check                                 before a commit: every problem with its place
  aam check --policy new.yaml --effective   the policy with every default
  aam check --intents team-a/intents",
    ),
    (
        "report",
        "  aam report                                the executive summary as of now
  aam report --at 2026-11-08T18:00:00Z      as of then
  aam report --namespace team_a --format json
  aam report --format html --out report.html  one page for a mail: answer, funnel, trend, ten blockers
  aam report --format svg --out report.svg  the same as a drawing",
    ),
    (
        "heal",
        "  aam heal                                  check everything that is not ACTIVE, now
  aam heal 0b7a2f3c-5d7e-5c1a-9a52-5f1f8d0c9e11
  aam heal 0b7a2f3c                         the start of an id is enough
  aam heal --namespace team_a --port 8080",
    ),
    (
        "confirm",
        "  aam confirm                               what is held, and the digest of each change
  aam confirm 3f2a9c01d4e5                  let exactly this change happen",
    ),
    (
        "gate",
        "  aam gate                                  one line, or what stops the run
  aam gate --details                        the counts of declared debt too",
    ),
    (
        "test",
        "  aam test intents/github.yaml              each step, and the state that would result
  aam test team-a/intents                   every file of a folder
  aam test - < intent.json                  from stdin, as JSON, JSON lines or YAML",
    ),
    ("verify", "  aam verify\n  aam verify --registry backup/aam.db --format json"),
    ("token", "  aam token new --name aod"),
    ("token new", "  aam token new --name aod                  prints the token once, and the entry for the policy"),
    ("secret", "  aam secret set GITHUB_TOKEN\n  aam secret list\n  aam secret rm GITHUB_TOKEN"),
    (
        "secret set",
        "  aam secret set GITHUB_TOKEN               asks without showing the value
  aam secret set SNOWFLAKE_KEY < key.json   reads stdin, for values of several lines",
    ),
    ("secret list", "  aam secret list\n  aam secret list --format json"),
    ("secret rm", "  aam secret rm GITHUB_TOKEN"),
    ("consent", "  aam consent list\n  aam consent link 3f2a\n  aam consent revoke 3f2a"),
    ("consent list", "  aam consent list\n  aam consent list --format json"),
    ("consent link", "  aam consent link 3f2a                     the link for the owner of this connection"),
    ("consent revoke", "  aam consent revoke 3f2a"),
    ("policy", "  aam policy diff main.yaml policy/policy.yaml"),
    ("policy diff", "  aam policy diff main.yaml policy/policy.yaml"),
    (
        "families",
        "  aam families                              all families, and which of them this version connects
  aam families github                       resource ids, least privilege, ways to log in
  aam families lint acme_crm.yaml",
    ),
    ("families lint", "  aam families lint acme_crm.yaml"),
    ("version", "  aam version\n  aam version --format json"),
    ("mcp", "  aam mcp                                   as the command of an assistant; docs/mcp.md has its settings"),
    ("airbyte", "  aam airbyte install source-okta\n  aam airbyte list"),
    ("airbyte list", "  aam airbyte list                          what is installed, and whether it is what the policy says"),
    (
        "lowcode",
        "  aam lowcode spec --manifest acme.yaml
  aam lowcode check --manifest acme.yaml --config config.json
  aam lowcode read --manifest acme.yaml --config config.json --stream orders --limit 5",
    ),
    ("lowcode spec", "  aam lowcode spec --manifest acme.yaml"),
    ("lowcode check", "  aam lowcode check --manifest acme.yaml --config config.json"),
    ("lowcode discover", "  aam lowcode discover --manifest acme.yaml --config config.json"),
    ("lowcode read", "  aam lowcode read --manifest acme.yaml --config config.json --stream orders --limit 5"),
    ("lowcode explain", "  aam lowcode explain acme.yaml"),
];

/// Adds the examples to `command`, which is typed as `path`, and to its subcommands. A command that has a text of its own at the
/// end of its help keeps it.
#[must_use]
pub fn add(command: Command, path: &str) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_string()).collect();
    let mut command = match EXAMPLES.iter().find(|(known, _)| *known == path) {
        Some((_, examples)) if command.get_after_help().is_none() => command.after_help(format!("Examples:\n{examples}")),
        _ => command,
    };
    for name in names {
        let below = if path.is_empty() { name.clone() } else { format!("{path} {name}") };
        command = command.mut_subcommand(&name, |command| add(command, &below));
    }
    command
}

#[cfg(test)]
mod tests {
    use super::super::help;

    /// The arguments of a line of examples, without its remark and without what only a shell reads.
    fn arguments(line: &str) -> Vec<String> {
        let line = line.trim();
        let line = line.split_once("  ").map_or(line, |(line, _)| line);
        let shell = |word: &str| matches!(word, "<" | ">" | "|" | "&&" | ">>");
        let mut typed: Vec<String> = Vec::new();
        let mut quote = None;
        for word in line.split(' ') {
            if quote.is_none() && shell(word) {
                break;
            }
            let (first, last) = (word.chars().next(), word.chars().last());
            match quote {
                Some(_) => typed.last_mut().expect("a quoted argument has begun").push_str(&format!(" {word}")),
                None => typed.push(word.to_string()),
            }
            quote = quote.or(first.filter(|first| matches!(first, '\'' | '"'))).filter(|quote| last != Some(*quote));
        }
        typed.iter().map(|word| word.trim_matches(['\'', '"']).to_string()).collect()
    }

    fn check(command: &clap::Command, path: &str, missing: &mut Vec<String>) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        if !help.contains("Example") {
            missing.push(path.to_string());
        }
        let examples = help.split("Examples:\n").nth(1).unwrap_or_default();
        for line in examples.lines().map(arguments).take_while(|arguments| arguments.first().is_some_and(|first| first == "aam"))
        {
            let parsed = help::command().try_get_matches_from(&line);
            assert!(parsed.is_ok(), "{path}: {line:?}: {}", parsed.err().map(|error| error.to_string()).unwrap_or_default());
        }
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            check(below, &format!("{path} {}", below.get_name()), missing);
        }
    }

    #[test]
    fn every_command_has_examples_that_can_be_typed() {
        let mut missing = Vec::new();
        for command in help::command().get_subcommands().filter(|command| command.get_name() != "help") {
            check(command, command.get_name(), &mut missing);
        }
        assert!(missing.is_empty(), "write examples for {missing:?} into the table");
    }

    #[test]
    fn every_line_of_the_table_is_of_a_command() {
        for (path, _) in super::EXAMPLES {
            let mut command = help::command();
            for name in path.split(' ') {
                let below = command.find_subcommand(name).cloned();
                assert!(below.is_some(), "{path}");
                command = below.unwrap_or_default();
            }
        }
    }
}

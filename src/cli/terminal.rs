//! The only place of the command line that prints. Secrets are removed, and what would steer a terminal is escaped: names,
//! messages and paths come from sources and callers, and could otherwise rewrite what the operator sees.

use super::progress;
use crate::credentials::redact;
use crate::model::State;
use crate::model::text::{printable, printable_json};
use std::borrow::Cow;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

/// The control characters that texts of several lines contain.
const LINES: [char; 1] = ['\n'];

/// Prints `text`, which ends with a line feed, to stdout.
pub fn print(text: &str) {
    let text = redact::scrub_all(text);
    let text = printable(&text, &LINES);
    let text = if has_colour(&std::io::stdout()) { coloured(&text) } else { text };
    write_stdout(&text);
}

/// Why a text could not be written to stdout.
static OUTPUT_ERROR: OnceLock<String> = OnceLock::new();

fn write_stdout(text: &str) {
    let written = progress::above_bar(|| {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
    });
    // It is not an error if the reader has closed the pipe (`| head`).
    if let Err(error) = written
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        let _ = OUTPUT_ERROR.set(error.to_string());
    }
}

/// Why the output of the command is not complete, if it could not be written.
pub fn output_error() -> Option<&'static str> {
    OUTPUT_ERROR.get().map(String::as_str)
}

/// Whether `stream` is a terminal on which colours are wanted; see https://no-color.org.
fn has_colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Colours the states at the beginning of lines such as `+ ACTIVE`.
fn coloured(text: &str) -> Cow<'_, str> {
    let mut out = String::with_capacity(text.len() + 256);
    for line in text.split_inclusive('\n') {
        let state = line.split_once(' ').and_then(|(symbol, rest)| {
            let name = rest.split_whitespace().next().filter(|_| symbol.chars().count() == 1)?;
            Some((State::parse(name)?, symbol.len() + 1 + name.len()))
        });
        match state {
            Some((state, length)) if line.is_char_boundary(length) => {
                let (marked, rest) = line.split_at(length);
                out.push_str(&format!("\x1b[{}m{marked}\x1b[0m{rest}", colour(state)));
            }
            _ => out.push_str(line),
        }
    }
    Cow::Owned(out)
}

/// The colour of a state as the parameter of an escape sequence.
fn colour(state: State) -> u8 {
    match state {
        State::Active => 32,
        State::Healing | State::Error | State::NetworkBlocked => 31,
        State::AwaitingCredentials => 33,
        State::Pending => 36,
        State::Unsupported | State::Rejected | State::Retired => 2,
    }
}

/// Writes a file that is not text to stdout. Refuses to write it to a terminal.
///
/// # Errors
/// If stdout is a terminal, or if it cannot be written.
pub fn write_file(mut file: File) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    if stdout.is_terminal() {
        return Err(std::io::Error::other("it is a terminal; redirect it to a file"));
    }
    std::io::copy(&mut file, &mut stdout)?;
    stdout.flush()
}

/// Clears the screen, if stdout is a terminal.
pub fn clear() {
    if std::io::stdout().is_terminal() {
        let _ = std::io::stdout().lock().write_all(b"\x1b[H\x1b[2J\x1b[3J");
    }
}

/// Prints one line to stdout.
pub fn print_line(line: &str) {
    print(&format!("{line}\n"));
}

/// Prints a JSON text to stdout.
pub fn print_json(json: &str) {
    let json = redact::scrub_all(json);
    write_stdout(&printable_json(&json));
}

/// Prints a message of the Airbyte protocol to stdout. Its secrets are removed already: searching the whole line would
/// also replace keys and the words of the protocol.
pub fn print_protocol(line: &str) {
    write_stdout(&printable_json(line));
}

/// Prints `text`, which ends with a line feed, to stderr.
pub fn print_error(text: &str) {
    let text = redact::scrub_all(text);
    let text = printable(&text, &LINES);
    progress::above_bar(|| drop(std::io::stderr().lock().write_all(text.as_bytes())));
}

/// The log on stderr, whose lines are scrubbed already. They appear above a bar.
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        progress::above_bar(|| std::io::stderr().lock().write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_states_at_the_beginning_of_a_line_are_coloured() {
        let text = "+ ACTIVE  a\n! ERROR b\n    problem: ERROR\nxy ACTIVE\n";
        assert_eq!(coloured(text), "\x1b[32m+ ACTIVE\x1b[0m  a\n\x1b[31m! ERROR\x1b[0m b\n    problem: ERROR\nxy ACTIVE\n");
    }
}

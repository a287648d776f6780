//! Reads the value of a secret: from a terminal without showing it, or from stdin.

use super::super::terminal;
use crate::credentials::{MAX_SECRET_BYTES, Secret};
use crate::operator_file::size;
use crate::providers::trimmed;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{self, LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios};
use std::io::{IsTerminal, Read, Stdin};
use zeroize::Zeroizing;

/// How long to wait for more lines of a paste after the first.
const PASTE_GAP: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Reads the value for `name`.
///
/// # Errors
/// A message for people. It never contains the value.
pub fn read(name: &str) -> Result<Secret, String> {
    let stdin = std::io::stdin();
    let bytes = if stdin.is_terminal() {
        let hidden = HiddenInput::new(&stdin).map_err(|error| format!("the terminal cannot hide the value: {error}"))?;
        // The question comes after the echo is off, so that an answer is never shown.
        terminal::print_error(&format!("Value of {name} (it is not shown): "));
        let line = hidden.read_line();
        drop(hidden);
        terminal::print_error("\n");
        line?
    } else {
        let mut bytes = Zeroizing::new(Vec::new());
        let limit = MAX_SECRET_BYTES.saturating_add(1);
        stdin.lock().take(limit).read_to_end(&mut bytes).map_err(|error| format!("stdin cannot be read: {error}"))?;
        bytes
    };
    if bytes.len() as u64 > MAX_SECRET_BYTES {
        return Err(format!("the value is larger than {}; nothing was stored", size(MAX_SECRET_BYTES)));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| "the value is not valid UTF-8; nothing was stored".to_string())?;
    if text.contains('\0') {
        return Err("the value contains a NUL character; nothing was stored".to_string());
    }
    let value = trimmed(text);
    if value.trim().is_empty() {
        return Err("the value is empty; nothing was stored".to_string());
    }
    Ok(Secret::new(value.to_string()))
}

/// A terminal that does not show what is typed. Its settings come back when this is dropped.
struct HiddenInput<'a> {
    stdin: &'a Stdin,
    before: Termios,
}

impl<'a> HiddenInput<'a> {
    fn new(stdin: &'a Stdin) -> rustix::io::Result<HiddenInput<'a>> {
        let before = termios::tcgetattr(stdin)?;
        let mut hidden = before.clone();
        // A line that the terminal edits is cut at 4095 bytes, so AAM edits it. Signals come as characters, because a process
        // that is ended by one would leave the terminal without echo.
        hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN);
        hidden.special_codes[SpecialCodeIndex::VMIN] = 1;
        hidden.special_codes[SpecialCodeIndex::VTIME] = 0;
        termios::tcsetattr(stdin, OptionalActions::Flush, &hidden)?;
        Ok(HiddenInput { stdin, before })
    }

    /// Whether more characters come at once, as in a paste of several lines.
    fn has_more(&self) -> bool {
        let mut fds = [PollFd::new(self.stdin, PollFlags::IN)];
        poll(&mut fds, Some(&PASTE_GAP)).is_ok_and(|ready| ready > 0)
    }
}

impl Drop for HiddenInput<'_> {
    fn drop(&mut self) {
        // The rest of a paste must not reach the shell.
        let _ = termios::tcflush(self.stdin, QueueSelector::IFlush);
        let _ = termios::tcsetattr(self.stdin, OptionalActions::Flush, &self.before);
    }
}

impl HiddenInput<'_> {
    fn read_line(&self) -> Result<Zeroizing<Vec<u8>>, String> {
        let mut line = Zeroizing::new(Vec::with_capacity(4096));
        let mut byte = [0];
        loop {
            // Reads without a buffer, so that nothing of the value stays in one.
            match rustix::io::read(self.stdin, &mut byte) {
                Ok(0) => break,
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(format!("the terminal cannot be read: {error}")),
            }
            match byte[0] {
                b'\n' | b'\r' => break,
                CONTROL_C => return Err("cancelled; nothing was stored".to_string()),
                CONTROL_D if line.is_empty() => return Err("cancelled; nothing was stored".to_string()),
                CONTROL_D => break,
                CONTROL_U => line.clear(),
                BACKSPACE | DELETE => {
                    // A character of UTF-8 may have several bytes.
                    while line.pop().is_some_and(|byte| byte & 0xC0 == 0x80) {}
                }
                byte if (line.len() as u64) <= MAX_SECRET_BYTES => line.push(byte),
                _ => {}
            }
        }
        if self.has_more() {
            return Err(
                "the value has several lines; nothing was stored; put it into a file and run: aam secret set NAME < FILE"
                    .to_string(),
            );
        }
        Ok(line)
    }
}

const CONTROL_C: u8 = 0x03;
const CONTROL_D: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const CONTROL_U: u8 = 0x15;
const DELETE: u8 = 0x7f;

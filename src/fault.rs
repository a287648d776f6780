//! Where a debug build can be told to die, so that a scenario can end it between any two steps.
//!
//! `AAM_TEST_KILL_AT` names a file that holds `<boundary> <count>`: the process kills itself with
//! SIGKILL when that boundary is reached for the `count`-th time. With a third word, `panic`, it
//! panics there instead. A release build does not look.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

struct Fault {
    name: String,
    left: AtomicU32,
    panics: bool,
}

static FAULT: OnceLock<Option<Fault>> = OnceLock::new();

/// Says that the process is at `name` now.
pub fn boundary(name: &str) {
    if !cfg!(debug_assertions) {
        return;
    }
    let Some(fault) = FAULT.get_or_init(asked_for) else {
        return;
    };
    if fault.name == name && fault.left.fetch_sub(1, Ordering::Relaxed) == 1 {
        strike(fault, name);
    }
}

#[expect(clippy::panic, reason = "a scenario asks a debug build for this panic, to prove that the process survives it")]
fn strike(fault: &Fault, name: &str) {
    if fault.panics {
        std::panic::panic_any(format!("a panic was asked for at {name}"));
    }
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}

fn asked_for() -> Option<Fault> {
    let path = std::env::var_os("AAM_TEST_KILL_AT")?;
    read(&std::fs::read_to_string(path).ok()?)
}

fn read(text: &str) -> Option<Fault> {
    let mut words = text.split_whitespace();
    let name = words.next()?.to_string();
    let left = AtomicU32::new(words.next()?.parse().ok()?);
    Some(Fault { name, left, panics: words.next() == Some("panic") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boundary_and_a_count_are_read_and_nothing_else() {
        let fault = read("discover 3\n").map(|fault| (fault.name, fault.left.into_inner(), fault.panics));
        assert_eq!(fault, Some(("discover".to_string(), 3, false)));
        assert!(read("scan 1 panic").is_some_and(|fault| fault.panics));
        assert!(read("").is_none() && read("discover").is_none() && read("discover x").is_none());
    }
}

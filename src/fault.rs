//! Fault injection for tests: ends a debug build at a chosen point between two steps. A release build ignores it.
//!
//! `AAM_TEST_KILL_AT` names a file with the content `<boundary> <count>`: the process kills itself with SIGKILL when it
//! reaches that boundary for the `count`-th time. With `<boundary> <count> panic` it panics instead, and with
//! `<boundary> <count> hang` the thread never returns, as on a file system that does not answer.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

struct Fault {
    name: String,
    remaining: AtomicU32,
    action: Action,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Action {
    Kill,
    Panic,
    Hang,
}

static FAULT: OnceLock<Option<Fault>> = OnceLock::new();

/// Marks the boundary `name`. The process ends here if a test asked for it.
pub fn boundary(name: &str) {
    if !cfg!(debug_assertions) {
        return;
    }
    let Some(fault) = FAULT.get_or_init(load) else {
        return;
    };
    if fault.name == name && fault.remaining.fetch_sub(1, Ordering::Relaxed) == 1 {
        trigger(fault, name);
    }
}

#[expect(clippy::panic, reason = "a test requests this panic from a debug build, to prove that the process survives it")]
fn trigger(fault: &Fault, name: &str) {
    match fault.action {
        Action::Kill => {}
        Action::Panic => std::panic::panic_any(format!("a test requested a panic at {name}")),
        Action::Hang => loop {
            std::thread::park();
        },
    }
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}

fn load() -> Option<Fault> {
    let path = std::env::var_os("AAM_TEST_KILL_AT")?;
    parse(&std::fs::read_to_string(path).ok()?)
}

fn parse(text: &str) -> Option<Fault> {
    let mut parts = text.split_whitespace();
    let name = parts.next()?.to_string();
    let remaining = AtomicU32::new(parts.next()?.parse().ok()?);
    let action = match parts.next() {
        Some("panic") => Action::Panic,
        Some("hang") => Action::Hang,
        _ => Action::Kill,
    };
    Some(Fault { name, remaining, action })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_boundary_with_a_count_is_accepted() {
        let fault = parse("discover 3\n").map(|fault| (fault.name, fault.remaining.into_inner(), fault.action));
        assert_eq!(fault, Some(("discover".to_string(), 3, Action::Kill)));
        assert!(parse("scan 1 panic").is_some_and(|fault| fault.action == Action::Panic));
        assert!(parse("scan 1 hang").is_some_and(|fault| fault.action == Action::Hang));
        assert!(parse("").is_none() && parse("discover").is_none() && parse("discover x").is_none());
    }
}

//! A program in a process namespace of its own, and the two launchers beside it.
//!
//! The kernel clears the parent death signal of a process that is forked, so what a program starts would outlive a caller
//! that is killed. The first process of a process namespace cannot be outlived: when it ends, the kernel kills all others. So
//! the launcher starts a second one there and stays outside as its parent. Each of the two gets the death signal. The second
//! restricts itself, starts the program as its child, and takes the exit codes of what the program leaves behind. It is not
//! the program itself, because the first process of a namespace ignores every signal that it does not handle.

use std::env;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

use nix::sys::signal::{SigSet, raise};
use rustix::net::RecvFlags;
use rustix::process::{Pid, WaitOptions, wait};

use crate::Plan;
use crate::files::Landlock;
use crate::launcher::{command, end_with_parent, not_executed, restrict};
use crate::limits::no_core_dumps;
use crate::namespace::drop_capabilities;
use crate::seccomp::Filters;
use crate::wire::{self, Step, Task};

/// The two processes of this crate that the kernel counts with those of the program.
const LAUNCHERS: u64 = 2;
/// The exit code of a process whose signal cannot be repeated is this and the number of the signal, as shells say it.
const SIGNAL_BASE: i32 = 128;

/// The first process of the program's namespace, as its parent sees it.
pub(crate) struct First {
    child: Child,
    link: UnixStream,
}

/// Starts this program again as the first process of the namespace and hands the plan to it.
pub(crate) fn start(plan: Plan) -> Result<First, String> {
    let failed = |error: &dyn std::error::Error| format!("the first process of a process namespace did not start: {error}");
    no_core_dumps()?;
    // The request to end is for the program. A process ends with its children only when these have ended.
    SigSet::all().thread_block().map_err(|error| failed(&error))?;
    let (link, theirs) = UnixStream::pair().map_err(|error| failed(&error))?;
    let mut first = Command::new("/proc/self/exe");
    first.args(env::args_os().skip(1)).env_clear().stdin(Stdio::from(OwnedFd::from(theirs)));
    let child = first.spawn().map_err(|error| failed(&error))?;
    wire::send(&link, &Task::Begin(Box::new(plan))).map_err(|error| failed(&error))?;
    Ok(First { child, link })
}

/// Passes on what the first process says until the program has ended, and ends like the program.
pub(crate) fn until_end(control: UnixStream, first: First) -> ExitCode {
    let First { mut child, link } = first;
    let mut control = Some(control);
    let mut end = None;
    while let Ok(Some(step)) = wire::receive::<Step>(&link) {
        if let Step::Ended { code, signal } = step {
            end = Some((code, signal));
            continue;
        }
        let is_last = matches!(step, Step::Started | Step::Failed(_));
        if let Some(caller) = &control {
            // A caller that is gone ends this process by the death signal.
            let _ = wire::send(caller, &step);
        }
        if is_last {
            control = None;
            release_outputs();
        }
    }
    let status = child.wait().ok();
    let (code, signal) = end.unwrap_or_else(|| (status.and_then(|it| it.code()), status.and_then(|it| it.signal())));
    if let Some(signal) = signal {
        repeat(signal);
    }
    let code = code.unwrap_or_else(|| SIGNAL_BASE.saturating_add(signal.unwrap_or_default()));
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Ends this process by the signal that ended the program. Returns if that signal does not end this process.
fn repeat(signal: i32) {
    let Ok(signal) = nix::sys::signal::Signal::try_from(signal) else { return };
    let mut only = SigSet::empty();
    only.add(signal);
    // The runtime of Rust handles a fault of memory once and then leaves it to the kernel.
    for _ in 0..2 {
        let _ = raise(signal);
        let _ = only.thread_unblock();
    }
}

/// Gives the outputs up, so that their end means the end of the program and of what it started.
fn release_outputs() {
    let Ok(empty) = File::options().write(true).open("/dev/null") else { return };
    let _ = rustix::stdio::dup2_stdout(&empty);
    let _ = rustix::stdio::dup2_stderr(&empty);
}

/// Is the first process of the namespace: starts the program and waits until it has ended. Everything else in the namespace
/// ends with this process.
pub(crate) fn begin(link: UnixStream, plan: &Plan) -> Option<ExitCode> {
    let program = match start_program(&link, plan) {
        Ok(program) => program,
        Err(reason) => {
            let _ = wire::send(&link, &Step::Failed(reason));
            return None;
        }
    };
    release_outputs();
    let (code, signal) = match wait_for(&program) {
        Some(status) => (status.code(), status.signal()),
        None => (None, None),
    };
    let _ = wire::send(&link, &Step::Ended { code, signal });
    Some(ExitCode::SUCCESS)
}

fn start_program(link: &UnixStream, plan: &Plan) -> Result<Child, String> {
    let failed = |error: &dyn std::error::Error| format!("the first process of a process namespace failed: {error}");
    drop_capabilities()?;
    end_with_parent()?;
    // The parent may have ended before the line above. It is outside of the namespace, so its number is not seen here.
    let mut byte = [0_u8; 1];
    match rustix::net::recv(link, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Err(rustix::io::Errno::AGAIN) => {}
        _ => return Err("the launcher has ended".to_string()),
    }
    // A signal reaches the processes of the namespace and no others, so the filter does not have to look at them.
    let filters = Filters::new(true).ok();
    restrict(plan, Landlock::of_this_kernel(), filters, None, LAUNCHERS)?;
    wire::send(link, &Step::Executing).map_err(|error| failed(&error))?;
    // A program starts with the signals that its parent has blocked.
    SigSet::all().thread_unblock().map_err(|error| failed(&error))?;
    let program = command(plan).spawn().map_err(|error| not_executed(plan, &error))?;
    wire::send(link, &Step::Started).map_err(|error| failed(&error))?;
    Ok(program)
}

/// Takes the exit codes of all children until the program has ended.
fn wait_for(program: &Child) -> Option<ExitStatus> {
    let id = i32::try_from(program.id()).ok().and_then(Pid::from_raw)?;
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((ended, status))) if ended == id => return Some(ExitStatus::from_raw(status.as_raw())),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

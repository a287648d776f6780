//! What runs in the launcher: this process makes the namespaces, and either supervises the program (`supervise`) or, where
//! the kernel does not give a process namespace, restricts itself step by step and then becomes the program.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::fs::Mode;
use rustix::process::Signal;

use crate::files::Landlock;
use crate::namespace;
use crate::seccomp::Filters;
use crate::supervise;
use crate::wire::{self, GO, Report, Request, Step, Task};
use crate::{Enforcement, Plan, Support};

/// The exit code of a launcher that did not become the program. The caller learns the reason over the socket.
const NOT_STARTED: u8 = 125;

/// Reads a plan from the standard input, applies it and starts the program. Returns the exit code for `main`.
///
/// Call it at the start of `main`, before any thread exists: a process with threads cannot enter a user namespace, and
/// Landlock and seccomp apply to the calling thread alone.
#[must_use]
pub fn launch() -> ExitCode {
    close_inherited();
    let control = match control_socket() {
        Ok(control) => control,
        Err(reason) => {
            eprintln!("This command is started by the program itself and not by hand: {reason}");
            return ExitCode::from(NOT_STARTED);
        }
    };
    run(control).unwrap_or(ExitCode::from(NOT_STARTED))
}

/// Closes every file that the caller did not mean to pass on: the caller may itself have been started with open files
/// that are not marked to be closed.
fn close_inherited() {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return };
    let names: Vec<_> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    for descriptor in names.iter().filter_map(|name| name.parse::<i32>().ok()).filter(|number| *number > 2) {
        // The descriptor of the listing itself is closed already.
        let _ = nix::unistd::close(descriptor);
    }
}

/// Takes the socket to the caller from the standard input, and leaves an empty standard input to the program.
fn control_socket() -> Result<UnixStream, String> {
    let failed = |what: &str, error: &dyn std::error::Error| format!("{what}: {error}");
    let input = rustix::stdio::stdin();
    rustix::net::sockopt::socket_type(input).map_err(|error| failed("the standard input is not a socket", &error))?;
    let control: OwnedFd = rustix::io::fcntl_dupfd_cloexec(input, 3).map_err(|error| failed("fcntl", &error))?;
    let empty = File::open("/dev/null").map_err(|error| failed("/dev/null", &error))?;
    rustix::stdio::dup2_stdin(&empty).map_err(|error| failed("dup2", &error))?;
    Ok(UnixStream::from(control))
}

fn run(control: UnixStream) -> Option<ExitCode> {
    let outcome = match wire::receive::<Task>(&control) {
        Ok(Some(Task::Launch(request))) => launch_program(&control, *request),
        Ok(Some(Task::Begin(plan))) => return supervise::begin(control, &plan),
        Ok(None) => Ok(None),
        Err(error) => Err(talk(&error)),
    };
    match outcome {
        Ok(Some(child)) => Some(supervise::until_end(control, child)),
        Ok(None) => None,
        Err(reason) => {
            // If the caller is gone, then the reason has no reader.
            let _ = wire::send(&control, &Step::Failed(reason));
            None
        }
    }
}

fn talk(error: &std::io::Error) -> String {
    format!("the launcher and its caller could not talk: {error}")
}

/// Makes the namespaces and starts the program in them. Returns the process to supervise, or nothing if the caller does not
/// want the program. Where this process becomes the program, it returns only if that fails.
fn launch_program(control: &UnixStream, request: Request) -> Result<Option<supervise::First>, String> {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    rustix::thread::set_no_new_privs(true).map_err(|error| format!("the program could gain privileges: {error}"))?;
    let landlock = Landlock::of_this_kernel();
    let filters = Filters::new(landlock.signals);
    let namespace = match request.port {
        None => namespace::enter(),
        Some(_) => Err("the caller listens".to_string()),
    };
    let support = Support {
        files: files(landlock),
        network: network(namespace.as_ref().err(), landlock, filters.is_ok()),
        system_calls: filters.as_ref().map_or_else(|reason| Enforcement::Missing(reason.clone()), |_| Enforcement::Full),
        processes: processes(&namespace),
    };
    let supervises = support.processes == Enforcement::Full;
    wire::send(control, &Report { support, listener: namespace.is_ok(), supervises }).map_err(|error| talk(&error))?;
    if let Ok(namespace) = &namespace {
        wire::send_listener(control, &namespace.listener).map_err(|error| talk(&error))?;
    }
    let Some(mut plan) = request.plan else { return Ok(None) };
    if !allowed(control) {
        return Ok(None);
    }
    let port = request.port.unwrap_or(namespace::PORT);
    set_proxy(&mut plan, port);
    // This also closes the socket on which the caller accepts connections; the program must not have it.
    if namespace.is_ok_and(|namespace| namespace.shared_memory) {
        plan.writable.push(namespace::SHARED_MEMORY.into());
    }
    namespace::drop_capabilities()?;
    end_with_caller(request.caller)?;
    if supervises {
        return supervise::start(plan).map(Some);
    }
    restrict(&plan, landlock, filters.ok(), request.port, 0)?;
    wire::send(control, &Step::Executing).map_err(|error| talk(&error))?;
    let error = command(&plan).exec();
    Err(not_executed(&plan, &error))
}

/// Applies the plan to this process and to everything that it will start.
pub(crate) fn restrict(
    plan: &Plan,
    landlock: Landlock,
    filters: Option<Filters>,
    port: Option<u16>,
    launchers: u64,
) -> Result<(), String> {
    std::env::set_current_dir(&plan.directory)
        .map_err(|error| format!("the directory {} cannot be used: {error}", plan.directory.display()))?;
    landlock.restrict(plan, port)?;
    plan.limits.apply(launchers)?;
    filters.map_or(Ok(()), |filters| filters.apply())
}

/// Waits until the caller has seen the report and wants the program to start.
fn allowed(mut control: &UnixStream) -> bool {
    let mut answer = [0_u8; 1];
    std::io::Read::read_exact(&mut control, &mut answer).is_ok() && answer == [GO]
}

fn files(landlock: Landlock) -> Enforcement {
    if landlock.files {
        return Enforcement::Full;
    }
    Enforcement::Missing(
        "this kernel does not have Landlock of Linux 6.2 or later, so the program could read and write every file of its user"
            .to_string(),
    )
}

fn processes(namespace: &Result<namespace::Namespace, String>) -> Enforcement {
    let missing = match namespace {
        Ok(namespace) => namespace.processes.as_ref().err(),
        Err(reason) => Some(reason),
    };
    let outlive =
        |reason: &String| Enforcement::Partial(format!("{reason}; what the program starts outlives a caller that is killed"));
    missing.map_or(Enforcement::Full, outlive)
}

fn network(missing: Option<&String>, landlock: Landlock, filtered: bool) -> Enforcement {
    let Some(reason) = missing else { return Enforcement::Full };
    if landlock.ports && filtered {
        return Enforcement::Partial(format!(
            "{reason}; the program could connect to the port of its proxy on other hosts, and to nothing else"
        ));
    }
    Enforcement::Missing(format!("{reason}; the program could connect to every host"))
}

/// Ends this process when its caller ends, also when the caller was killed.
fn end_with_caller(caller: i32) -> Result<(), String> {
    end_with_parent()?;
    // The caller may have ended before the line above.
    let parent = rustix::process::getppid().map(|parent| parent.as_raw_nonzero().get());
    if parent == Some(caller) { Ok(()) } else { Err("the caller of the launcher has ended".to_string()) }
}

/// Makes the kernel end this process when the one that started it ends.
pub(crate) fn end_with_parent() -> Result<(), String> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| format!("the program could outlive its caller: {error}"))
}

/// Puts the address of the proxy into the variables of the plan.
fn set_proxy(plan: &mut Plan, port: u16) {
    let proxy = format!("http://127.0.0.1:{port}");
    for (_, value) in &mut plan.environment {
        *value = value.replace("{proxy}", &proxy);
    }
}

/// The program of the plan, with nothing but its own environment.
pub(crate) fn command(plan: &Plan) -> Command {
    let mut command = Command::new(&plan.program);
    command.args(&plan.arguments).env_clear().envs(plan.environment.iter().map(|(name, value)| (name, value)));
    command
}

/// Why a program could not be executed, in a sentence.
pub(crate) fn not_executed(plan: &Plan, error: &std::io::Error) -> String {
    format!("{} could not be executed: {error}{}", plan.program.display(), interpreter_hint(&plan.program, error))
}

/// The kernel says "permission denied" or "not found" of a script although its interpreter is meant.
fn interpreter_hint(program: &Path, error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind::{NotFound, PermissionDenied};
    let unclear = matches!(error.kind(), NotFound | PermissionDenied) && program.is_file();
    if unclear { "; its interpreter and its dynamic loader have to be listed as executable" } else { "" }
}

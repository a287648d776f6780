//! The caller's side: starts a launcher, talks to it, and keeps what it hands over.

use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

use rustix::process::Signal;

use crate::group::Group;
use crate::wire::{self, GO, Report, Request, Step, Task};
use crate::{Confined, Enforcement, Error, Launcher, Plan, Support, Weaker};

/// How long a launcher may take for one step. It takes milliseconds; a loaded machine may take seconds.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// Starts the program of the plan, confined.
///
/// # Errors
/// [`Error::NotEnforceable`] if the kernel cannot enforce everything and less is not allowed, [`Error::NotStarted`] if the
/// plan could not be applied, for example because a listed path does not exist, and [`Error::Filtered`] if the calling program
/// may not use the calls that this needs. The program has not run then.
pub async fn spawn(launcher: &Launcher, plan: &Plan, weaker: Weaker) -> Result<Confined, Error> {
    let (launcher, plan) = (launcher.clone(), plan.clone());
    let started = blocking(move || start(&launcher, &plan, weaker)).await?;
    Confined::new(started)
}

/// What the running kernel can enforce, as a launcher finds it in itself.
///
/// # Errors
/// If the launcher cannot be started or does not answer.
pub async fn support(launcher: &Launcher) -> Result<Support, Error> {
    let launcher = launcher.clone();
    blocking(move || Ok(Launch::begin(&launcher, None, None)?.support)).await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::System { what: "run a launcher", source: error.into() })?
}

/// A program that runs, before it is connected to the caller's runtime.
pub(crate) struct Started {
    pub group: Group,
    pub listener: TcpListener,
    pub support: Support,
    /// Whether the group has launchers of this crate beside the program.
    pub is_supervised: bool,
}

fn start(launcher: &Launcher, plan: &Plan, weaker: Weaker) -> Result<Started, Error> {
    let mut launch = Launch::begin(launcher, Some(plan), None)?;
    if !launch.support.is_full() && weaker == Weaker::Refused {
        return Err(Error::NotEnforceable(Box::new(launch.support.clone())));
    }
    if launch.support.network != Enforcement::Full {
        // The launcher may have moved halfway into a namespace, so a new one takes its place.
        let support = launch.support.clone();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(system("listen for the program"))?;
        let port = listener.local_addr().map_err(system("listen for the program"))?.port();
        launch = Launch::begin(launcher, Some(plan), Some(port))?;
        launch.support = support;
        launch.listener = Some(listener);
    }
    launch.finish()
}

/// A launcher that has reported and waits.
struct Launch {
    group: Group,
    control: UnixStream,
    support: Support,
    listener: Option<TcpListener>,
    is_supervised: bool,
}

impl Launch {
    fn begin(launcher: &Launcher, plan: Option<&Plan>, port: Option<u16>) -> Result<Self, Error> {
        let failed = system("talk to the launcher");
        let (control, theirs) = UnixStream::pair().map_err(failed)?;
        control.set_read_timeout(Some(STEP_TIMEOUT)).map_err(failed)?;
        control.set_write_timeout(Some(STEP_TIMEOUT)).map_err(failed)?;
        let mut group = Group::new(start_process(launcher, theirs)?).map_err(system("watch the launcher"))?;
        let caller = i32::try_from(std::process::id()).unwrap_or_default();
        match ask(&control, Request { caller, port, plan: plan.cloned() }) {
            Ok((report, listener)) => {
                Ok(Self { group, control, support: report.support, listener, is_supervised: report.supervises })
            }
            Err(error) => Err(cause(&mut group, error)),
        }
    }

    /// Lets the launcher start the program, and waits until it has.
    fn finish(self) -> Result<Started, Error> {
        let Self { mut group, control, support, listener, is_supervised } = self;
        let listener = listener.ok_or_else(|| Error::Launcher("it did not hand over a socket".to_string()))?;
        match go(&control, is_supervised) {
            Ok(()) => Ok(Started { group, listener, support, is_supervised }),
            Err(error) => Err(cause(&mut group, error)),
        }
    }
}

/// Sends the request, and receives what the launcher can enforce and its listening socket.
fn ask(control: &UnixStream, request: Request) -> Result<(Report, Option<TcpListener>), Error> {
    wire::send(control, &Task::Launch(Box::new(request))).map_err(|error| unexpected(&error))?;
    let report: Report = wire::receive(control).map_err(|error| unexpected(&error))?.ok_or_else(ended_early)?;
    let listener = report.listener.then(|| wire::receive_listener(control)).transpose();
    let listener = listener.map_err(|error| unexpected(&error))?;
    Ok((report, listener))
}

/// Lets the launcher start the program.
fn go(mut control: &UnixStream, is_supervised: bool) -> Result<(), Error> {
    control.write_all(&[GO]).map_err(|error| unexpected(&error))?;
    let next = || wire::receive::<Step>(control).map_err(|error| unexpected(&error));
    let out_of_order = || Err(Error::Launcher("it said steps out of order".to_string()));
    match next()?.ok_or_else(ended_early)? {
        Step::Failed(reason) => return Err(Error::NotStarted(reason)),
        Step::Executing => {}
        Step::Started | Step::Ended { .. } => return out_of_order(),
    }
    match (next()?, is_supervised) {
        (Some(Step::Failed(reason)), _) => Err(Error::NotStarted(reason)),
        (Some(Step::Started), true) | (None, false) => Ok(()),
        (None, true) => Err(ended_early()),
        (Some(_), _) => out_of_order(),
    }
}

/// Says why a launcher did not answer: a filter of system calls may have ended it. Blocks until it has ended.
fn cause(group: &mut Group, error: Error) -> Error {
    if !matches!(error, Error::Launcher(_)) {
        return error;
    }
    // A process that ends already keeps the signal that ended it.
    group.signal(Signal::KILL);
    match tokio::runtime::Handle::current().block_on(group.wait()) {
        Ok(status) if status.signal() == Some(libc::SIGSYS) => Error::Filtered,
        _ => error,
    }
}

fn system(what: &'static str) -> impl Fn(io::Error) -> Error + Copy {
    move |source| Error::System { what, source }
}

fn unexpected(error: &io::Error) -> Error {
    Error::Launcher(error.to_string())
}

fn ended_early() -> Error {
    Error::Launcher("it ended without an answer".to_string())
}

/// The launcher as a process with a group of its own, an empty environment, and the socket as its standard input.
fn start_process(launcher: &Launcher, control: UnixStream) -> Result<Child, Error> {
    let mut command = Command::new(&launcher.program);
    command.args(&launcher.arguments).env_clear().process_group(0);
    command.stdin(Stdio::from(OwnedFd::from(control))).stdout(Stdio::piped()).stderr(Stdio::piped());
    start_from_lasting_thread(command).map_err(system("start the launcher"))
}

/// A command to start, and where its process goes.
type Order = (Command, SyncSender<io::Result<Child>>);

/// Starts a process from a thread that lives as long as this process.
///
/// The kernel ends a process with a parent death signal when the *thread* that started it ends, and the threads of a
/// runtime come and go.
fn start_from_lasting_thread(command: Command) -> io::Result<Child> {
    static STARTER: OnceLock<io::Result<Sender<Order>>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (orders, received): (Sender<Order>, Receiver<Order>) = channel();
        let thread = std::thread::Builder::new().name("confinement".to_string());
        thread.spawn(move || received.iter().for_each(start_order))?;
        Ok(orders)
    });
    let ended = || io::Error::other("the thread that starts processes does not run");
    let starter = starter.as_ref().map_err(|_| ended())?;
    let (answer, process) = sync_channel(1);
    starter.send((command, answer)).map_err(|_| ended())?;
    process.recv().map_err(|_| ended())?
}

fn start_order((mut command, answer): Order) {
    // The waiting side cannot have gone: it waits without a limit. A process that it could not take would be reported to
    // nothing, so it is ended.
    if let Err(std::sync::mpsc::SendError(Ok(mut child))) = answer.send(command.spawn()) {
        let _ = child.kill();
        let _ = child.wait();
    }
}

//! A process that leads a group, and how both end.

use std::io;
use std::process::{Child, ChildStderr, ChildStdout, ExitStatus};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, waitid, waitpid};
use tokio::sync::oneshot::{Receiver, Sender, channel};

/// A process that leads a group. Dropping this kills the whole group.
///
/// The number of a process belongs to it until its parent takes its exit code. So the group is always killed before that:
/// afterwards the number may be that of other processes.
#[derive(Debug)]
pub(crate) struct Group {
    child: Child,
    id: Pid,
    /// Receives once, when the process has ended and its exit code was not taken yet.
    end: Receiver<()>,
    status: Option<ExitStatus>,
}

impl Group {
    /// Watches a process that was started as the leader of a group.
    pub(crate) fn new(mut child: Child) -> io::Result<Self> {
        let id =
            i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::other("it has no process id"))?;
        let (ended, end) = channel();
        // One thread for each program: it sleeps in the kernel until the program ends.
        let thread = std::thread::Builder::new().name("confinement-wait".to_string()).stack_size(64 << 10);
        if let Err(error) = thread.spawn(move || watch(id, ended)) {
            child.kill()?;
            child.wait()?;
            return Err(error);
        }
        Ok(Self { child, id, end, status: None })
    }

    pub(crate) fn id(&self) -> i32 {
        self.id.as_raw_nonzero().get()
    }

    /// The two outputs, the first time that they are asked for.
    pub(crate) fn take_outputs(&mut self) -> Option<(ChildStdout, ChildStderr)> {
        Some((self.child.stdout.take()?, self.child.stderr.take()?))
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.status.is_some()
    }

    /// Sends a signal to every process of the group. A group that has ended is not an error.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.status.is_none() {
            let _ = kill_process_group(self.id, signal);
        }
    }

    /// Waits until the process has ended and kills what is left of its group. May be called again and may be cancelled.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        if !self.end.is_terminated() {
            (&mut self.end).await.map_err(io::Error::other)?;
        }
        self.take_status()
    }

    /// Takes the exit code of a process that has ended.
    fn take_status(&mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::KILL);
        let status = self.child.wait()?;
        self.status = Some(status);
        Ok(status)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.status.is_some() {
            return;
        }
        self.signal(Signal::KILL);
        // Either the thread has said that the process has ended, or it finds that this is gone and takes the exit code
        // itself. Waiting here would stop a thread of the runtime.
        self.end.close();
        if self.end.is_terminated() || self.end.try_recv().is_ok() {
            let _ = self.take_status();
        }
    }
}

/// Sleeps until the process has ended, and leaves its exit code to the group if that still exists.
fn watch(id: Pid, ended: Sender<()>) {
    let wait = || waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    while matches!(wait(), Err(rustix::io::Errno::INTR)) {}
    if ended.send(()).is_err() {
        let _ = waitpid(Some(id), WaitOptions::empty());
    }
}

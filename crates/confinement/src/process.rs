//! A confined program that runs, and its end.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use tokio::net::TcpListener;
use tokio::process::{ChildStderr, ChildStdout};

use crate::group::Group;

use crate::spawn::Started;
use crate::usage::{self, Usage};
use crate::{Error, Support};

/// How often [`Process::wait_within`] adds up what a program uses.
const MEASURE_INTERVAL: Duration = Duration::from_millis(100);

/// How a program ended that was watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, or by a signal or a limit of the kernel.
    Exited(ExitStatus),
    /// It was killed because it used this.
    Exceeded(Usage),
}

/// A program that runs, with everything that the caller needs from it. The parts can be taken apart.
#[derive(Debug)]
pub struct Confined {
    /// What the program writes to its standard output. It stops when this is not read.
    pub stdout: ChildStdout,
    /// What the program writes to its standard error output. It stops when this is not read.
    pub stderr: ChildStderr,
    /// Accepts the connections of the program. Its port is in the environment variables of the plan that hold `{proxy}`.
    /// Other programs of this machine can connect to it only if [`Support::network`] is not full.
    pub listener: TcpListener,
    /// What the kernel enforces for this program.
    pub support: Support,
    /// The process and its group.
    pub process: Process,
}

impl Confined {
    pub(crate) fn new(started: Started) -> Result<Self, Error> {
        let failed = |source| Error::System { what: "connect to the program", source };
        let missing = || failed(io::Error::other("an output of the program is missing"));
        let Started { mut group, listener, support, is_supervised } = started;
        let (stdout, stderr) = group.take_outputs().ok_or_else(missing)?;
        let stdout = ChildStdout::from_std(stdout).map_err(failed)?;
        let stderr = ChildStderr::from_std(stderr).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = TcpListener::from_std(listener).map_err(failed)?;
        Ok(Self { stdout, stderr, listener, support, process: Process { group, is_supervised } })
    }
}

/// The process of a confined program and everything that it started. Dropping it kills all of them.
#[derive(Debug)]
pub struct Process {
    group: Group,
    is_supervised: bool,
}

impl Process {
    /// The id of the program's group, which is the process id of its launcher.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.group.id()
    }

    /// What the program and everything that it started use now. This reads all of `/proc`: some milliseconds on a machine
    /// with a thousand processes.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn usage(&self) -> io::Result<Usage> {
        if self.group.has_ended() { Ok(Usage::default()) } else { usage::of_group(self.id(), self.is_supervised) }
    }

    /// The bytes of memory that the program and everything that it started occupy, as in [`Usage::resident_bytes`].
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn resident_bytes(&self) -> io::Result<u64> {
        Ok(self.usage()?.resident_bytes)
    }

    /// Waits until the program has ended, and kills what it left behind. May be called again, and may be cancelled.
    ///
    /// # Errors
    /// If the system does not tell how the program ended.
    pub async fn wait(&mut self) -> Result<ExitStatus, Error> {
        self.group.wait().await.map_err(|source| Error::System { what: "wait for the program", source })
    }

    /// Waits like [`Process::wait`], and kills the whole group as soon as its sum exceeds one of the bounds. The limits of
    /// the kernel count each process alone, and for root the kernel does not count processes at all.
    ///
    /// The sum is taken ten times a second, so a program can exceed it for a moment. The time of the processor is not
    /// compared. May be cancelled and called again.
    ///
    /// # Errors
    /// If the system does not tell how the program ended, or if `/proc` cannot be read.
    pub async fn wait_within(&mut self, bounds: Usage) -> Result<End, Error> {
        let failed = |source| Error::System { what: "measure the program", source };
        let mut interval = tokio::time::interval(MEASURE_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                status = self.wait() => return Ok(End::Exited(status?)),
                _ = interval.tick() => {}
            }
            let (id, is_supervised) = (self.id(), self.is_supervised);
            let measured = tokio::task::spawn_blocking(move || usage::of_group(id, is_supervised)).await;
            let usage = measured.map_err(io::Error::other).and_then(|usage| usage).map_err(failed)?;
            if usage.exceeds(&bounds) {
                self.group.signal(Signal::KILL);
                self.wait().await?;
                return Ok(End::Exceeded(usage));
            }
        }
    }

    /// Asks the whole group to end, waits for at most `grace`, and kills what is left of it.
    ///
    /// # Errors
    /// If the system does not tell how the program ended.
    pub async fn end(&mut self, grace: Duration) -> Result<ExitStatus, Error> {
        self.group.signal(Signal::TERM);
        if let Ok(status) = tokio::time::timeout(grace, self.wait()).await {
            return status;
        }
        self.group.signal(Signal::KILL);
        self.wait().await
    }
}

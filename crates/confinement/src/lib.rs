//! Starts a program that somebody else wrote so that it can harm nothing but itself.
//!
//! The program sees the files that its [`Plan`] lists, finds a network that contains one proxy and nothing else, has an
//! environment of the listed variables, and may not call what reaches into other processes or into the kernel. It and
//! everything that it starts stay in one process group, which ends as a whole, and in a process namespace of their own, which
//! ends also when the calling program is killed.
//!
//! Nothing of this can be applied to a process from outside, and a process with threads cannot enter a user namespace.
//! So the calling program starts itself again as a [`Launcher`]: before the first thread of that second process exists,
//! its `main` calls [`launch`], which reads the plan from its standard input, applies everything to itself, hands the
//! listening socket of the proxy back, and starts the program. This also needs no `unsafe` code between fork and exec.
//!
//! ```no_run
//! # async fn example() -> Result<(), confinement::Error> {
//! let launcher = confinement::Launcher { program: "/proc/self/exe".into(), arguments: vec!["confine-launch".into()] };
//! let plan = confinement::Plan::new("/usr/bin/env", "/var/lib/example/run-1");
//! let confined = confinement::spawn(&launcher, &plan, confinement::Weaker::Refused).await?;
//! let confinement::Confined { mut process, listener, stdout, .. } = confined;
//! # drop((listener, stdout));
//! let status = process.wait().await?;
//! # Ok(()) }
//! ```

mod files;
mod group;
mod launcher;
mod limits;
mod namespace;
mod process;
mod remove;
mod seccomp;
mod spawn;
mod supervise;
mod support;
mod usage;
mod wire;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use launcher::launch;
pub use limits::Limits;
pub use process::{Confined, End, Process};
pub use remove::remove_tree;
pub use spawn::{spawn, support};
pub use support::{Enforcement, Support};
pub use usage::Usage;

/// How the calling program starts itself so that [`launch`] runs before any thread exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    /// The executable, usually the result of `std::env::current_exe`.
    pub program: PathBuf,
    /// The arguments that lead to [`launch`]. They carry no part of the plan, so no secret is visible in a process list.
    pub arguments: Vec<String>,
}

/// What to start and what it may do. Everything that is not listed is refused.
///
/// Besides what is listed, a program gets `/dev/null`, the random devices, and a `/dev/shm` of its own of at
/// most 16 MB where it gets a network of its own.
///
/// The libraries and the settings of the system have to be listed too; [`Plan::new`] does this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The executable. It may be executed without being listed in `executable`; the interpreter of a script may not.
    pub program: PathBuf,
    /// The arguments after the program's name. Other processes can read them.
    pub arguments: Vec<String>,
    /// The whole environment. `{proxy}` in a value becomes the address of the proxy, such as `http://127.0.0.1:3128`.
    pub environment: Vec<(String, String)>,
    /// The working directory, private to this run. The program may read and write everything below it. It cannot create
    /// symbolic links or sockets there, so the caller may read what it finds afterwards.
    pub directory: PathBuf,
    /// Files and directories that the program may read, with everything below them.
    pub readable: Vec<PathBuf>,
    /// Files and directories that the program may read and execute, with everything below them.
    pub executable: Vec<PathBuf>,
    /// Further files and directories that the program may read and write, with everything below them.
    pub writable: Vec<PathBuf>,
    /// What the program may use up.
    pub limits: Limits,
}

impl Plan {
    /// A plan with [`system_libraries`] executable and [`system_settings`] readable, without arguments and environment.
    pub fn new(program: impl Into<PathBuf>, directory: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: directory.into(),
            readable: system_settings(),
            executable: system_libraries(),
            writable: Vec::new(),
            limits: Limits::default(),
        }
    }
}

/// What nearly every dynamically linked program executes or maps: the loader, its cache and the shared libraries. Only
/// what exists on this system is listed.
#[must_use]
pub fn system_libraries() -> Vec<PathBuf> {
    existing(&["/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"])
}

/// Settings of the system that programs read and that are the same on many machines: time zones, languages, certificate
/// authorities, how names are looked up. Many programs fail if such a file exists and cannot be opened. Only what exists
/// on this system is listed. Users, name servers and mounts are not among them.
#[must_use]
pub fn system_settings() -> Vec<PathBuf> {
    existing(&[
        "/etc/localtime",
        "/etc/timezone",
        "/usr/share/zoneinfo",
        "/usr/share/locale",
        "/etc/mime.types",
        "/etc/os-release",
        "/etc/nsswitch.conf",
        "/etc/host.conf",
        "/etc/gai.conf",
        "/etc/hosts",
        "/etc/protocols",
        "/etc/services",
        "/etc/ssl/openssl.cnf",
        "/etc/ssl/certs",
        "/etc/ca-certificates",
        "/usr/share/ca-certificates",
        "/usr/local/share/ca-certificates",
        "/etc/pki/tls/openssl.cnf",
        "/etc/pki/tls/certs",
        "/etc/pki/ca-trust",
        "/etc/crypto-policies",
    ])
}

fn existing(paths: &[&str]) -> Vec<PathBuf> {
    paths.iter().map(PathBuf::from).filter(|path| path.exists()).collect()
}

/// Whether a program may start on a kernel that cannot enforce all of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weaker {
    /// The program does not start; [`Error::NotEnforceable`] says what is missing.
    Refused,
    /// The program starts with what the kernel can enforce. [`Confined::support`] says what that is.
    Allowed,
}

/// Why a program did not start, or how it could not be waited for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused something on the caller's side.
    #[error("could not {what}: {source}")]
    System {
        /// What was tried, as a verb with its object.
        what: &'static str,
        /// The answer of the system.
        source: std::io::Error,
    },
    /// The kernel cannot enforce the whole plan and the caller does not allow less.
    #[error("this kernel cannot confine a program fully: {}", .0.missing().join("; "))]
    NotEnforceable(Box<Support>),
    /// The launcher could not apply the plan or start the program; nothing of the program ran.
    #[error("the program was not started: {0}")]
    NotStarted(String),
    /// A filter of system calls under which this program itself runs, such as that of a service manager, ended the launcher.
    /// Nothing of the program ran.
    #[error("a filter of system calls of this service or container ended the launcher (SIGSYS)")]
    Filtered,
    /// The launcher did not follow the protocol of this crate: most likely its arguments do not lead to [`launch`].
    #[error("the launcher did not answer as expected: {0}")]
    Launcher(String),
}

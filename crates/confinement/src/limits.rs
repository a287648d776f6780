//! What a program may use up, as limits of the kernel for each of its processes.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

/// What each process of the program may use up. The kernel counts processes for the whole program; everything else it
/// counts for each process alone, so watch the sum with [`crate::Process::wait_within`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of private writable memory of one process: heap, anonymous mappings and stacks. An allocation beyond it
    /// fails, which most programs report as an error of their own.
    pub memory: u64,
    /// Seconds of processor time of one process. `SIGXCPU` ends it then, and `SIGKILL` one second later.
    pub cpu_seconds: u64,
    /// Open file descriptors of one process.
    pub open_files: u64,
    /// Processes and threads of the program. The kernel does not apply this to a program whose user is the system's root,
    /// also not inside a user namespace; [`crate::Process::wait_within`] does.
    pub processes: u64,
    /// Bytes of the largest file that may be written.
    pub file_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 512 << 20, cpu_seconds: 300, open_files: 256, processes: 64, file_bytes: 256 << 20 }
    }
}

impl Limits {
    /// Applies the limits to this process and to everything that it will start. `launchers` are the processes of this crate
    /// that the kernel counts with those of the program.
    pub(crate) fn apply(&self, launchers: u64) -> Result<(), String> {
        let hard_cpu = self.cpu_seconds.saturating_add(1);
        lower("memory", Resource::Data, self.memory, self.memory)?;
        lower("processor time", Resource::Cpu, self.cpu_seconds, hard_cpu)?;
        lower("open files", Resource::Nofile, self.open_files, self.open_files)?;
        let processes = self.processes.saturating_add(launchers);
        lower("processes", Resource::Nproc, processes, processes)?;
        lower("file size", Resource::Fsize, self.file_bytes, self.file_bytes)?;
        no_core_dumps()?;
        // Locked memory and message queues are taken from the whole machine.
        lower("locked memory", Resource::Memlock, 0, 0)?;
        lower("message queues", Resource::Msgqueue, 0, 0)
    }
}

/// A dump of the memory would write secrets to a file.
pub(crate) fn no_core_dumps() -> Result<(), String> {
    lower("core dumps", Resource::Core, 0, 0)
}

/// Sets a limit, but never above the one that this process itself has.
fn lower(name: &str, resource: Resource, soft: u64, hard: u64) -> Result<(), String> {
    let own = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limit = Rlimit { current: Some(soft.min(own)), maximum: Some(hard.min(own)) };
    setrlimit(resource, limit).map_err(|error| format!("the limit of {name} could not be set: {error}"))
}

//! What this process uses, as the kernel counts it.

use super::Simulated;

/// Resident memory in MB (10^6 bytes).
pub fn resident() -> Simulated<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("the kernel does not name the memory")?;
    let kibibytes: f64 = line.split_whitespace().next().unwrap_or_default().parse()?;
    Ok(kibibytes * 1024.0 / 1e6)
}

/// The open files, sockets and pipes. The folder that is read here counts, too.
pub fn handles() -> Simulated<usize> {
    Ok(std::fs::read_dir("/proc/self/fd")?.count())
}

/// The threads.
pub fn threads() -> Simulated<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

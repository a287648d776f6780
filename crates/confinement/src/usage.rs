//! What a process group uses, read from `/proc`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the processes of one group use at this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of memory that the processes occupy, with shared memory and with what was swapped out. Memory that they share is
    /// counted for each of them.
    pub resident_bytes: u64,
    /// Processes that run; threads are not counted.
    pub processes: u64,
    /// Threads of these processes, each of which has at least one.
    pub threads: u64,
    /// Open files, pipes and sockets of these processes. What waits in a socket or a pipe is memory of the kernel, which no
    /// process occupies.
    pub descriptors: u64,
    /// The time of the processor that the running processes have taken, with the children that they have waited for.
    pub processor_time: Duration,
}

impl Usage {
    /// Whether one of the amounts, but for the time of the processor, is larger than that of `bounds`.
    #[must_use]
    pub fn exceeds(&self, bounds: &Usage) -> bool {
        self.resident_bytes > bounds.resident_bytes
            || self.processes > bounds.processes
            || self.threads > bounds.threads
            || self.descriptors > bounds.descriptors
    }
}

/// Adds up what the processes of the group use. With `is_supervised`, the leader of the group and its child are launchers of
/// this crate, which are not counted.
pub(crate) fn of_group(group: i32, is_supervised: bool) -> io::Result<Usage> {
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
    let mut usage = Usage::default();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.parse::<i32>().ok());
        // A process may end between the listing and the reading.
        let Some((number, found)) = number.zip(read_stat(&path)) else { continue };
        if found.group != group || (is_supervised && (number == group || found.parent == group)) {
            continue;
        }
        let Some((path, found)) = alive(path, found) else { continue };
        let resident = found.pages.saturating_mul(page).saturating_add(swapped_bytes(&path));
        usage.resident_bytes = usage.resident_bytes.saturating_add(resident);
        usage.processes += 1;
        usage.threads = usage.threads.saturating_add(found.threads.max(1));
        usage.descriptors = usage.descriptors.saturating_add(descriptors(&path));
        let milliseconds = found.ticks.saturating_mul(1000) / ticks_per_second;
        usage.processor_time = usage.processor_time.saturating_add(Duration::from_millis(milliseconds));
    }
    Ok(usage)
}

fn read_stat(path: &Path) -> Option<Stat> {
    parse_stat(&String::from_utf8_lossy(&fs::read(path.join("stat")).ok()?))
}

/// Returns where the kernel describes the memory of a process that runs. Its first thread may have ended before the others;
/// the kernel then says nothing of the memory there, but it does at another thread.
fn alive(path: PathBuf, found: Stat) -> Option<(PathBuf, Stat)> {
    if !found.has_ended {
        return Some((path, found));
    }
    let threads = fs::read_dir(path.join("task")).ok()?.flatten().map(|entry| entry.path());
    threads
        .filter_map(|thread| Some((read_stat(&thread)?, thread)))
        .find(|(stat, _)| !stat.has_ended)
        .map(|(stat, path)| (path, stat))
}

/// The memory of a process that was swapped out.
fn swapped_bytes(path: &Path) -> u64 {
    let status = fs::read_to_string(path.join("status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSwap:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kilobytes.unwrap_or_default().saturating_mul(1024)
}

/// The open files of a process: the size of the folder since Linux 6.2, which is needed for full confinement anyway.
fn descriptors(path: &Path) -> u64 {
    fs::metadata(path.join("fd")).map_or(0, |metadata| metadata.len())
}

/// What the kernel says about one process or thread.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    has_ended: bool,
    parent: i32,
    group: i32,
    /// The time of the processor, in ticks of the clock.
    ticks: u64,
    threads: u64,
    /// The resident pages, those of shared memory among them.
    pages: u64,
}

/// Reads the line of a process.
fn parse_stat(stat: &str) -> Option<Stat> {
    // The name of the program stands in parentheses and may contain spaces and parentheses itself.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let has_ended = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let mut ticks = 0_u64;
    for (number, field) in fields.by_ref().skip(8).take(4).enumerate() {
        // The times of the children that were waited for are signed.
        let time = if number < 2 { field.parse().ok()? } else { field.parse::<i64>().ok()?.unsigned_abs() };
        ticks = ticks.saturating_add(time);
    }
    let threads = fields.nth(2)?.parse().ok()?;
    let pages = fields.nth(3)?.parse().ok()?;
    Some(Stat { has_ended, parent, group, ticks, threads, pages })
}

#[cfg(test)]
mod tests {
    use super::{Stat, of_group, parse_stat};

    #[test]
    fn the_name_of_a_program_cannot_pretend_to_be_fields() {
        let stat = "12 (a) R 1 1 1) S 3 77 12 0 -1 0 1 2 3 4 5 6 7 8 20 0 9 0 99 1000 42 18446744073709551615";
        let running = Stat { has_ended: false, parent: 3, group: 77, ticks: 5 + 6 + 7 + 8, threads: 9, pages: 42 };
        assert_eq!(parse_stat(stat), Some(running));
        assert!(parse_stat(&stat.replace(") S", ") Z")).is_some_and(|stat| stat.has_ended));
        assert_eq!(parse_stat("12 (a"), None);
    }

    #[test]
    fn this_process_is_found_in_its_group() {
        let usage = of_group(rustix::process::getpgrp().as_raw_nonzero().get(), false).unwrap();
        assert!(usage.processes >= 1 && usage.threads >= 2 && usage.resident_bytes > 100_000, "{usage:?}");
    }
}

//! What a process group uses, read from `/proc`.

use std::fs;
use std::io;
use std::time::Duration;

/// What the processes of one group use at this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of memory that the processes occupy. Memory that they share is counted for each of them.
    pub resident_bytes: u64,
    /// Processes that run; threads are not counted.
    pub processes: u64,
    /// The time of the processor that the running processes have taken, with the children that they have waited for.
    pub processor_time: Duration,
}

/// Adds up what the processes of the group use.
pub(crate) fn of_group(group: i32) -> io::Result<Usage> {
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
    let mut usage = Usage::default();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let is_process = path.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit));
        // A process may end between the listing and the reading.
        let Some(stat) = is_process.then(|| fs::read(path.join("stat")).ok()).flatten() else { continue };
        let Some(found) = parse_stat(&String::from_utf8_lossy(&stat)) else { continue };
        if found.group == group {
            usage.resident_bytes = usage.resident_bytes.saturating_add(found.pages.saturating_mul(page));
            usage.processes += 1;
            let milliseconds = found.ticks.saturating_mul(1000) / ticks_per_second;
            usage.processor_time = usage.processor_time.saturating_add(Duration::from_millis(milliseconds));
        }
    }
    Ok(usage)
}

/// What the kernel says about one process.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    group: i32,
    /// The time of the processor, in ticks of the clock.
    ticks: u64,
    /// The resident pages.
    pages: u64,
}

/// Reads the line of a running process. A process that has ended and waits for its parent is left out.
fn parse_stat(stat: &str) -> Option<Stat> {
    // The name of the program stands in parentheses and may contain spaces and parentheses itself.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let group = fields.nth(1)?.parse().ok()?;
    let mut ticks = 0_u64;
    for (number, field) in fields.by_ref().skip(8).take(4).enumerate() {
        // The times of the children that were waited for are signed.
        let time = if number < 2 { field.parse().ok()? } else { field.parse::<i64>().ok()?.unsigned_abs() };
        ticks = ticks.saturating_add(time);
    }
    let pages = fields.nth(6)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(Stat { group, ticks, pages })
}

#[cfg(test)]
mod tests {
    use super::{Stat, of_group, parse_stat};

    #[test]
    fn the_name_of_a_program_cannot_pretend_to_be_fields() {
        let stat = "12 (a) R 1 1 1) S 3 77 12 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 99 1000 42 18446744073709551615";
        assert_eq!(parse_stat(stat), Some(Stat { group: 77, ticks: 5 + 6 + 7 + 8, pages: 42 }));
        assert_eq!(parse_stat(&stat.replace(") S", ") Z")), None);
        assert_eq!(parse_stat("12 (a"), None);
    }

    #[test]
    fn this_process_is_found_in_its_group() {
        let usage = of_group(rustix::process::getpgrp().as_raw_nonzero().get()).unwrap();
        assert!(usage.processes >= 1 && usage.resident_bytes > 100_000, "{usage:?}");
    }
}
